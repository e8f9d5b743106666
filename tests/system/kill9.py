"""kill -9 of the server under load from 200 publishers at QoS 1: what was acknowledged is stored, the ledger adds up, nobody is shown online.

The publishers and their ledger of acknowledgements are another process (mqttload), so the count is made outside the server.
KILLS=200 for more (default 50).
"""
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import muster

KILLS = int(os.environ.get("KILLS", "50"))
PUBLISHERS = 200


def read_acked(path):
    acked = collections.defaultdict(set)
    with open(path) as f:
        for line in f:
            if line.endswith("\n") and len(line.split()) == 2:
                device, seq = line.split()
                acked[device].add(int(seq))
    return acked


def check(server, acked):
    lost = phantom = 0
    for device, seqs in acked.items():
        stored = {int(v) for _, v in server.points(device, "seq")}
        lost += len(seqs - stored)
        ledger = server.ledger(device)
        assert muster.ledger_adds_up(ledger), (device, ledger)
        assert ledger["stored"] >= len(seqs), (device, ledger, len(seqs))
        # A point that is stored and was never acknowledged was in flight at a kill: at most a window for each.
        phantom += len(stored - seqs)
    assert lost == 0, f"{lost} acknowledged points are not in the store"
    return phantom


def main():
    rng = random.Random(int(os.environ.get("SEED", "7")))
    work = tempfile.mkdtemp(prefix="muster-kill9-")
    with muster.Server() as s:
        lines = "".join(json.dumps({"id": f"p{i}", "access_token": f"token-of-publisher-{i:04d}-0123456789"}) + "\n" for i in range(PUBLISHERS))
        with open(f"{work}/devices.ndjson", "w") as f:
            f.write(lines)
        with open(f"{work}/users", "w") as f:
            f.write("".join(f"p{i} token-of-publisher-{i:04d}-0123456789\n" for i in range(PUBLISHERS)))
        s.cli("device", "import", f"{work}/devices.ndjson")
        load = subprocess.Popen([os.path.join(muster.BIN, "mqttload"), "--port", str(s.ports["mqtt"]), "--users", f"{work}/users",
                                 "--clients", str(PUBLISHERS), "--window", "10", "--seq", "--payload", "60", "--reconnect",
                                 "--rate", "4000", "--ledger", f"{work}/acked"], stdout=subprocess.PIPE, text=True,
                                env={**os.environ, **muster.SANITIZE, "ASAN_OPTIONS": "detect_leaks=0"})
        slowest = 0
        try:
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.1, 0.8))
                s.kill()
                s.start()
                slowest = max(slowest, s.ready_s)
            time.sleep(1)
        finally:
            load.terminate()
            out, _ = load.communicate(timeout=20)
        s.kill()
        s.start()
        online = [d for d in s.api("GET", "/api/v1/presence?limit=1000")["items"] if d["online"]]
        assert not online, f"shown online after a restart without clients: {online[:3]}"
        acked = read_acked(f"{work}/acked")
        total = sum(len(v) for v in acked.values())
        assert total > KILLS * 20, f"only {total} acknowledgements: the load did not run: {out}"
        phantom = check(s, acked)
        tenant = s.api("GET", "/api/v1/ledger")
        assert muster.ledger_adds_up(tenant), tenant
        print(f"{KILLS} kills, {total} acknowledged, 0 lost, {phantom} stored without acknowledgement, slowest start {slowest:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
