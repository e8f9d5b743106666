"""The telemetry store dies, meets I/O errors or a full disk at the N-th storage system call: what it acknowledged is there once.

A driver program writes rounds and prints each one that is durable; strace injects one fault at one call of one kind. Then
the store is opened without faults: every acknowledged round is there, whole and once, counters agree, nothing is damaged,
and writing goes on. Stores of all ages are hit: each point continues the store of the point before. A failed sync must end
the process. The migration of the state store is killed at each of its calls.

    TS_CRASH_POINTS=5000 for more points (default 100); SEED for another choice of them.
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import muster

POINTS = int(os.environ.get("TS_CRASH_POINTS", "100"))
BUDGET_S = float(os.environ.get("TS_CRASH_SECONDS", "200"))
DRIVER = os.path.join(muster.BIN, "ts_driver")
ROUNDS = 30
KILL = ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "openat", "write", "rename", "fallocate", "mkdir", "close"]
EIO = ["fdatasync", "fsync", "pwrite64"]
FULL = ["pwrite64"]
ENV = {**os.environ, **muster.SANITIZE}
ENV["ASAN_OPTIONS"] = ENV["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0")  # the leak check cannot run under strace
FATAL = 70


def base_dir():
    # In memory: the calls are the same, only faster. What a real power cut leaves is another test's matter.
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def driver(*args, fault=None):
    command = [DRIVER, *map(str, args)]
    if fault:
        call, what = fault
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}"] + command
    return subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=60, check=False)


def count_calls(*args):
    """How often a run makes each call."""
    with tempfile.NamedTemporaryFile("r") as log:
        command = ["strace", "-f", "-qq", "-o", log.name, "-e", "trace=" + ",".join(KILL), DRIVER, *map(str, args)]
        out = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=120, check=False)
        assert out.returncode == 0, out.stdout[-300:] + out.stderr[-2000:]
        counts = {}
        for line in log:
            m = re.match(r"\d+ +(\w+)\(", line)
            if m:
                counts[m.group(1)] = counts.get(m.group(1), 0) + 1
    return counts


def acked_in(text):
    return max((int(n) for n in re.findall(r"^ack (\d+)$", text, re.M)), default=0)


def check(data, acked):
    out = driver("check", data, acked)
    m = re.search(r"^rounds (\d+)$", out.stdout, re.M)
    assert out.returncode == 0 and m, f"acknowledged {acked}: {out.stdout[-500:]}{out.stderr[-2000:]}"
    return int(m.group(1))


def verdict(out, call, what):
    """What the run may end with, given the fault; everything else fails the test."""
    if what.startswith("signal"):
        # The driver was killed, or the call was never reached and it ended well. strace ends with the same signal.
        assert out.returncode in (0, -9, 137), (out.returncode, out.stdout[-300:], out.stderr[-1000:])
    elif "EIO" in what:
        # A failed write or sync of the writer ends the process; elsewhere it is an error that is said.
        assert out.returncode in (0, 1, FATAL), (out.returncode, out.stdout[-300:], out.stderr[-1000:])
        if call in ("fdatasync", "fsync"):
            assert out.returncode in (0, FATAL), (out.returncode, out.stdout[-300:])
    else:
        # One refused round, or an open that says the disk is full; nothing worse.
        assert out.returncode == 0 or (out.returncode == 1 and "full" in out.stdout), (out.returncode, out.stdout[-300:], out.stderr[-1000:])
    return "ended well" if out.returncode == 0 else "refused" if out.returncode == 1 else "died"


def faults(counts, rng):
    points = []
    for call, n in counts.items():
        points += [(call, f"signal=SIGKILL:when={i}") for i in range(1, n + 1) if call in KILL]
        points += [(call, f"error=EIO:when={i}") for i in range(1, n + 1) if call in EIO]
        points += [(call, f"error=ENOSPC:when={i}") for i in range(1, n + 1) if call in FULL]
        points += [(call, f"error=ENOSPC:when={i}..{i + 40}") for i in range(1, n + 1, 7) if call in FULL]
    rng.shuffle(points)
    return points


def crash_points():
    rng = random.Random(int(os.environ.get("SEED", "5")))
    work = tempfile.mkdtemp(prefix="muster-ts-crash-", dir=base_dir())
    counts = count_calls("write", os.path.join(work, "dry"), ROUNDS)
    points = faults(counts, rng)
    outcomes = {}
    data, acked, start, done = os.path.join(work, "store"), 0, time.monotonic(), 0
    for call, what in points[:POINTS]:
        if time.monotonic() - start > BUDGET_S:
            break
        if acked > 400 or rng.random() < 0.15:  # another young store
            shutil.rmtree(data, ignore_errors=True)
            acked = 0
        out = driver("write", data, ROUNDS, fault=(call, what))
        kind = what.split(":")[0] + " " + verdict(out, call, what)
        outcomes[kind] = outcomes.get(kind, 0) + 1
        try:
            acked = check(data, max(acked, acked_in(out.stdout)))
        except AssertionError:
            print(f"{call} {what}: {work} is kept\n{out.stdout[-300:]}{out.stderr[-1000:]}")
            raise
        done += 1
    shutil.rmtree(work)
    assert done >= min(POINTS, 20), f"only {done} points in {BUDGET_S} s"
    print(f"{done} of {len(points)} points: {outcomes}")


def migration_points():
    """Kills the migration of a new state store at each of its calls; the next start must finish it."""
    work = tempfile.mkdtemp(prefix="muster-migrate-", dir=base_dir())
    counts = count_calls("migrate", os.path.join(work, "dry.db"))
    died = total = 0
    points = [(call, i) for call, n in counts.items() if call in ("pwrite64", "fdatasync", "ftruncate", "unlink") for i in range(1, n + 1)]
    step = max(1, len(points) // POINTS)
    for call, i in points[::step]:
        path = os.path.join(work, f"{call}-{i}.db")
        out = driver("migrate", path, fault=(call, f"signal=SIGKILL:when={i}"))
        died += out.returncode != 0
        total += 1
        again = driver("migrate", path)
        assert again.returncode == 0, f"killed at {call} {i}: {again.stdout}{again.stderr[-1000:]}"
    shutil.rmtree(work)
    assert died > 0
    print(f"migration killed at {total} points ({died} before its end), finished by the next start each time")


def full_disk():
    """A small file system, filled up while rounds are written: refused, readable, and well again when there is space."""
    work = tempfile.mkdtemp(prefix="muster-ts-full-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", work], capture_output=True, check=False).returncode != 0:
        os.rmdir(work)
        print("full disk: not tested, no right to mount a small file system")
        return
    try:
        data, ballast = os.path.join(work, "store"), os.path.join(work, "ballast")
        out = driver("write", data, 20)
        acked = check(data, acked_in(out.stdout))
        fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(fd, bytes(4096)) > 0:
                pass
        except OSError:
            os.close(fd)
        out = driver("write", data, 200)
        assert "full " in out.stdout and out.returncode == 1, out.stdout[-300:]
        acked = check(data, max(acked, acked_in(out.stdout)))
        os.unlink(ballast)
        out = driver("write", data, 20)
        assert out.returncode == 0 and acked_in(out.stdout) == acked + 20, out.stdout[-300:]
        check(data, acked + 20)
        print(f"full disk: refused after {acked} rounds, all of them readable, 20 more when there was space")
    finally:
        subprocess.run(["umount", work], check=False)
        os.rmdir(work)


def main():
    if shutil.which("strace") is None:
        print("skipped: strace is not installed")
        return 77
    crash_points()
    migration_points()
    full_disk()
    return 0


if __name__ == "__main__":
    sys.exit(main())
