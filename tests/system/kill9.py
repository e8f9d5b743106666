"""kill -9 of the server under load: what was acknowledged is there, the ledger adds up, nobody is shown online.

200 publishers send telemetry at QoS 1; others send messages at QoS 1 and 2 to sessions that come and go; subscriptions, retained messages and
wills change all the time. The accounts are kept outside the server (ledger_client, contract.py).
KILLS=200 for more (default 30); SEED for other moments.
"""
import json
import os
import random
import sys
import tempfile
import time

import contract
import ledger
import muster
import open_broker

KILLS = int(os.environ.get("KILLS", "30"))
PUBLISHERS = 200


def check(server, account):
    verdict = account.in_history(ledger.history_of(server))
    assert verdict.problem() is None, verdict.problem()
    for device, seqs in account.acked.items():
        sums = server.ledger(device)
        assert muster.ledger_adds_up(sums), (device, sums)
        assert sums["stored"] >= len(seqs), (device, sums, len(seqs))
    tenant = server.api("GET", "/api/v1/ledger")
    assert muster.ledger_adds_up(tenant), tenant
    return verdict


def kill_again_and_again(server, loads, promises, rng):
    """All at work all the time; the promises are looked at after every tenth kill. The slowest start."""
    slowest = 0
    for i in range(KILLS):
        with promises.running():
            for load in loads:
                load.wait_more(10)
            time.sleep(rng.uniform(0, 0.5))
            server.kill()
            server.start()
            slowest = max(slowest, server.ready_s)
        broken = promises.verify() if i % 10 == 9 or i == KILLS - 1 else []
        assert not broken, f"kill {i + 1}: {broken}"
    return slowest


def devices(server, work):
    with open(f"{work}/devices.ndjson", "w") as f, open(f"{work}/users", "w") as users:
        for i in range(PUBLISHERS):
            token = f"token-of-publisher-{i:04d}-0123456789"
            f.write(json.dumps({"id": f"p{i}", "access_token": token}) + "\n")
            users.write(f"p{i} {token}\n")
    server.cli("device", "import", f"{work}/devices.ndjson")


def main():
    rng = random.Random(int(os.environ.get("SEED", "7")))
    work = tempfile.mkdtemp(prefix="muster-kill9-")
    with open_broker.Server() as s:
        devices(s, work)
        port = s.ports["mqtt"]
        promises = contract.Contract(port, timeout=10)
        with ledger.Load(f"{work}/telemetry", port, publishers=PUBLISHERS, users=f"{work}/users", topic="$muster/telemetry", rate=3000) as telemetry, \
                ledger.Load(f"{work}/messages", port, publishers=10, subscribers=6, qos=0, version=0, rate=300, offline_ms=400, churn=1) as messages:
            slowest = kill_again_and_again(s, (telemetry, messages), promises, rng)
            for load in (telemetry, messages):
                load.quiet()
                load.settle()
                load.stop()
            promises.drop()
            s.kill()
            s.start()
            online = [d for d in s.api("GET", "/api/v1/presence?limit=1000")["items"] if d["online"]]
            assert not online, f"shown online after a restart without clients: {online[:3]}"
            stored, delivered = check(s, telemetry.account), messages.account.at_subscribers()
            assert delivered.problem() is None, delivered.problem()
        assert all(p.acked > KILLS for p in promises.pieces) and min(stored.acked, delivered.acked) > KILLS * 10, (str(promises), stored, delivered)
        print(f"{KILLS} kills, slowest start {slowest:.2f} s\ntelemetry: {stored}\nmessages: {delivered}\npromises kept: {promises}")


if __name__ == "__main__":
    sys.exit(main())
