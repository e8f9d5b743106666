"""kill -9 of the server under load: what was acknowledged is there, the ledger adds up, nobody is shown online.

200 publishers send telemetry at QoS 1; the account of their acknowledgements is kept by another process (ledger_client).
KILLS=200 for more (default 50); SEED for other moments.
"""
import json
import os
import random
import sys
import tempfile
import time

import ledger
import muster

KILLS = int(os.environ.get("KILLS", "50"))
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


def kill_again_and_again(server, load, rng):
    slowest = 0
    for _ in range(KILLS):
        load.wait_more(20)
        time.sleep(rng.uniform(0, 0.7))
        server.kill()
        server.start()
        slowest = max(slowest, server.ready_s)
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
    with muster.Server() as s:
        devices(s, work)
        with ledger.Load(f"{work}/telemetry", s.ports["mqtt"], publishers=PUBLISHERS, users=f"{work}/users", topic="$muster/telemetry", rate=4000) as load:
            slowest = kill_again_and_again(s, load, rng)
            time.sleep(0.5)
            load.stop()
            s.kill()
            s.start()
            online = [d for d in s.api("GET", "/api/v1/presence?limit=1000")["items"] if d["online"]]
            assert not online, f"shown online after a restart without clients: {online[:3]}"
            verdict = check(s, load.account)
        print(f"{KILLS} kills, slowest start {slowest:.2f} s; {verdict}")


if __name__ == "__main__":
    sys.exit(main())
