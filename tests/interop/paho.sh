#!/bin/sh
# Runs Eclipse Paho's interoperability suite (MQTT 3.1.1 and 5.0) against a server started for it.
#
#   tests/interop/paho.sh DIR [muster|mosquitto] [--table] [CASE ...]
#
# DIR is a checkout of github.com/eclipse/paho.mqtt.testing; nothing of it is in this repository.
set -eu
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
exec python3 "$(dirname "$0")/paho.py" "$@"
