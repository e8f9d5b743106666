#!/usr/bin/env bash
# `make run`: the server on ./var, this machine enrolled through the public path as device this-machine, live health.
# Ctrl-C ends both cleanly; a second run resumes. Other ports: MQTTS_PORT, HTTPS_PORT (0 takes free ones).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/build/bin
data=${MUSTER_DATA:-$PWD/var}
mkdir -p "$data"
chmod 700 "$data"
server_pid="" agent_pid=""

finish() {
    trap - INT TERM EXIT
    [ -z "$agent_pid" ] || kill -TERM "$agent_pid" 2>/dev/null || true
    [ -z "$agent_pid" ] || wait "$agent_pid" 2>/dev/null || true
    [ -z "$server_pid" ] || kill -TERM "$server_pid" 2>/dev/null || true
    [ -z "$server_pid" ] || wait "$server_pid" 2>/dev/null || true
    echo
    echo "Stopped. Everything is kept in $data; \`make run\` resumes."
}
trap finish EXIT
trap 'exit 0' INT TERM

: >"$data/ready"
# Own process groups, so that Ctrl-C reaches this script only and it ends them in order.
set -m
"$bin/muster" serve --data "$data" --mqtts ":${MQTTS_PORT:-8883}" --https ":${HTTPS_PORT:-8443}" >"$data/ready" 2>>"$data/server.log" &
server_pid=$!
set +m
for _ in $(seq 100); do
    grep -q '^muster ready' "$data/ready" && break
    kill -0 "$server_pid" 2>/dev/null || { tail -n 3 "$data/server.log" >&2; server_pid=""; exit 1; }
    sleep 0.05
done
ready=$(cat "$data/ready")
mqtts=$(sed -E 's/.*mqtts=([^ ]+).*/\1/' <<<"$ready")
https=$(sed -E 's/.*https=([^ ]+).*/\1/' <<<"$ready")
export MUSTER_URL="https://$https" MUSTER_CA="$data/ca.pem" MUSTER_TOKEN_FILE="$data/admin.token"

claim=()
if ! openssl x509 -noout -checkend 0 -in "$data/agent/cert.pem" >/dev/null 2>&1; then
    # No certificate, or one that has run out. One that was lost must not stand in the way of the new one.
    "$bin/muster" cert list --device this-machine --state active --json 2>/dev/null | grep -o '"fingerprint": *"[^"]*"' | cut -d'"' -f4 |
        while read -r lost; do "$bin/muster" cert revoke "$lost" --quiet; done || true
    "$bin/muster" claim create --uses 1 --ttl 10m --json | sed -E 's/.*"token" *: *"([^"]+)".*/\1/' >"$data/claim"
    claim=(--claim-file "$data/claim")
fi
started_ms=$(date +%s%3N)
set -m
"$bin/muster-agent" --server "mqtts://$mqtts" --ca "$data/ca.pem" "${claim[@]}" --state "$data/agent" --device this-machine 2>>"$data/agent.log" &
agent_pid=$!
set +m

cat <<MSG
$ready
This machine is device "this-machine". Logs: $data/server.log, $data/agent.log. Operator token: $data/admin.token
Next, in another terminal:

  export MUSTER_URL='$MUSTER_URL' MUSTER_CA='$MUSTER_CA' MUSTER_TOKEN_FILE='$MUSTER_TOKEN_FILE'
  build/bin/muster telemetry last this-machine
  build/bin/muster twin set this-machine '{"agent": {"interval_s": 5}}'
  build/bin/muster telemetry watch this-machine

MSG
# Live means measured now: a value of a former run does not count.
fresh=""
for _ in $(seq 200); do
    # An error at first: the device is there once the agent has enrolled it.
    ts=$("$bin/muster" telemetry last this-machine --json 2>/dev/null | sed -nE 's/.*"cpu\.util" *: *\{"ts" *: *([0-9]+).*/\1/p') || ts=""
    [ "${ts:-0}" -ge "$started_ms" ] && { fresh=1; break; }
    kill -0 "$agent_pid" 2>/dev/null || { echo "The agent ended:" >&2; tail -n 3 "$data/agent.log" >&2; agent_pid=""; exit 1; }
    sleep 0.1
done
[ -n "$fresh" ] || { echo "No health from this machine yet; the agent says:" >&2; tail -n 3 "$data/agent.log" >&2; }
rm -f "$data/claim"
if [ -t 1 ]; then
    "$bin/muster" top || true
else
    "$bin/muster" telemetry last this-machine || true
    wait "$server_pid" || true
    server_pid=""
fi
