"""No memory at the N-th allocation of the telemetry store: an error that is said, no crash, and nothing acknowledged lost.

The driver of ts_crash.py without sanitizers, because it brings its own allocator. Single allocations fail, and runs of them;
each point continues the store of the point before, which is then looked through with all memory.

    TS_NOMEM_POINTS=5000 for more points (default 250); SEED for another choice of them.
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import muster

POINTS = int(os.environ.get("TS_NOMEM_POINTS", "250"))
DRIVER = os.path.join(muster.RELEASE_BIN, "ts_driver")
ROUNDS = 12


def driver(*args, **env):
    return subprocess.run([DRIVER, *map(str, args)], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env})


def main():
    if not os.path.exists(DRIVER):
        print(f"skipped: {DRIVER} is not built")
        return 77
    rng = random.Random(int(os.environ.get("SEED", "3")))
    work = tempfile.mkdtemp(prefix="muster-ts-nomem-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    data = os.path.join(work, "store")
    out = driver("write", os.path.join(work, "dry"), ROUNDS, TS_NOMEM_AT="0")
    total = int(re.search(r"^allocations (\d+)$", out.stdout, re.M).group(1))
    acked, ended = 0, {}
    for i in range(POINTS):
        if i % 10 == 0:
            shutil.rmtree(data, ignore_errors=True)
            acked = 0
        at, count = rng.randrange(1, total if i % 3 else total // 6), rng.choice([1, 1, 3, 50])
        out = driver("write", data, ROUNDS, TS_NOMEM_AT=str(at), TS_NOMEM_COUNT=str(count))
        where = f"allocations {at} to {at + count - 1}"
        assert out.returncode in (0, 1), f"{where}: exit {out.returncode}: {out.stdout[-300:]}{out.stderr[-1000:]}"
        ended[out.returncode] = ended.get(out.returncode, 0) + 1
        acked = max([acked] + [int(n) for n in re.findall(r"^ack (\d+)$", out.stdout, re.M)])
        seen = driver("check", data, acked)
        m = re.search(r"^rounds (\d+)$", seen.stdout, re.M)
        assert seen.returncode == 0 and m, f"{where}: {acked} acknowledged: {seen.stdout[-500:]}{seen.stderr[-1000:]}"
        acked = int(m.group(1))
    shutil.rmtree(work)
    assert ended.get(0) and ended.get(1), ended
    print(f"{POINTS} points of {total} allocations: {ended.get(0, 0)} runs went on, {ended.get(1, 0)} ended with an error; nothing was lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
