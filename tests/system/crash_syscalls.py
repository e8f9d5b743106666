"""Death, I/O error and full disk at the N-th storage system call of a mixed run: the acknowledgement contract holds every time.

Each point starts a server under strace, which injects the fault at the N-th call of one kind of one thread, drives telemetry, events,
twin reports, API writes, messages at QoS 1 and 2 to persistent sessions, subscriptions, retained messages and wills against it until it
dies or all are done, kills it, starts it again without faults and looks: everything that was acknowledged is there, the ledger adds up,
every change has its audit record, nobody is online.

    CRASH_POINTS=2000 for more points (default 60); SEED for another choice of them. From 200 points on CRASH_JOBS (3) share them, each with
    stores of its own: a point mostly waits.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import contract
import fault
import mqtt
import muster
import open_broker

POINTS = int(os.environ.get("CRASH_POINTS", "60"))
JOBS = int(os.environ.get("CRASH_JOBS", "3" if POINTS >= 200 else "1"))
SEED = int(os.environ.get("SEED", "11"))
KINDS = [(fault.KILL, fault.STORAGE), (fault.KILL, "pwrite64,fdatasync"), ("error=EIO", "fdatasync,fsync"), ("error=EIO", "pwrite64"),
         ("error=ENOSPC", "pwrite64")]
TOKEN = "token-of-the-crash-device-0123456789"


class Load:
    """What was acknowledged, as seen from outside."""

    def __init__(self, seed=1):
        self.port = None
        self.promises = contract.Contract(lambda: self.port, seed=seed, timeout=3)
        self.seqs, self.events, self.devices, self.patches = set(), set(), set(), {}
        self.reported, self.policy = None, False
        self.next = self.calls = 0

    def telemetry(self, server, stop):
        try:
            c = mqtt.Client("127.0.0.1", server.ports["mqtt"], client_id="c1", username="c1", password=TOKEN, timeout=3)
            c.connect()
            for i in range(30):
                if stop.is_set():
                    break
                self.next += 1
                seq = self.next
                if c.publish("$muster/telemetry", json.dumps({"seq": seq}), qos=1) == 0:
                    self.seqs.add(seq)
                if i % 5 == 0 and c.publish(f"$muster/event/e{seq}", b'{"n":1}', qos=1) == 0:
                    self.events.add(f"e{seq}")
                if i % 5 == 2 and c.publish("$muster/twin/reported", json.dumps({"seq": seq}), qos=1) == 0:
                    self.reported = seq
            c.disconnect()
        except (mqtt.Closed, mqtt.Refused, OSError, TimeoutError):
            pass

    def operator(self, server, stop):
        try:
            for i in range(10):
                if stop.is_set():
                    break
                self.calls += 1
                name, n = f"x{self.calls}", self.calls
                server.api("POST", "/api/v1/devices", {"id": name})
                self.devices.add(name)
                server.api("PATCH", "/api/v1/devices/c1/twin/desired", {"n": n})
                self.patches["n"] = n
        except (muster.Refused, OSError, ValueError):
            pass

    def clients(self, server, stop):
        for _ in range(10):
            if stop.is_set() or not self.promises.work(1):
                break


def run_load(server, load):
    stop = threading.Event()
    load.port = server.ports["mqtt"]
    threads = [threading.Thread(target=f, args=(server, stop)) for f in (load.telemetry, load.operator, load.clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(15)
    stop.set()


def verify(data, load):
    with muster.Server(data=data, release=True, args=open_broker.ARGS) as s:
        stored = {int(v) for _, v in s.points("c1", "seq")} if load.seqs else set()
        assert load.seqs <= stored, f"lost telemetry {sorted(load.seqs - stored)[:5]}"
        if load.events:
            names = {e["name"] for e in s.api("GET", "/api/v1/devices/c1/events?limit=1000")["items"]}
            assert load.events <= names, f"lost events {load.events - names}"
        if load.reported is not None:
            twin = s.api("GET", "/api/v1/devices/c1/twin")
            assert twin["reported"].get("seq", 0) >= load.reported, (twin["reported"], load.reported)
        if load.patches:
            twin = s.api("GET", "/api/v1/devices/c1/twin")
            assert twin["desired"]["n"] >= load.patches["n"], (twin["desired"], load.patches)
        have = {d["id"] for d in s.api("GET", "/api/v1/devices?limit=1000")["items"]}
        assert load.devices <= have, f"lost devices {load.devices - have}"
        created = {a["object"] for a in s.api("GET", "/api/v1/audit?limit=1000&action=device.create")["items"]}
        assert have <= created, f"devices without audit record {have - created}"
        if "c1" in have:
            assert muster.ledger_adds_up(s.ledger("c1")), s.ledger("c1")
            assert not s.api("GET", "/api/v1/devices/c1/presence")["online"], "shown online after the crash"
        load.port = s.ports["mqtt"]
        broken = load.promises.verify()
        assert not broken, broken


def point(data, what, calls, n, load):
    try:
        server = muster.Server(data=data, release=True, prefix=fault.at_syscall(calls, what, n), args=open_broker.ARGS, timeout=20)
    except RuntimeError:
        return "died while starting"
    try:
        if "c1" not in load.devices:
            server.device("c1", TOKEN)
            load.devices.add("c1")
        if not load.policy:
            open_broker.allow_all(server)
            load.policy = True
        run_load(server, load)
    except (muster.Refused, OSError, ValueError):
        pass
    died = server.process.poll() is not None
    if not died:
        server.kill()
    return "died under load" if died else "lived on"


def share():
    """Several of this program, each with its part of the points; the exit code."""
    parts = [(POINTS + i) // JOBS for i in range(JOBS)]
    jobs = [subprocess.Popen([sys.executable, os.path.abspath(__file__)], env={**os.environ, "CRASH_JOBS": "1", "CRASH_POINTS": str(n), "SEED": str(SEED * 100 + i)})
            for i, n in enumerate(parts)]
    return max(abs(job.wait()) for job in jobs)


def main():
    rng = random.Random(SEED)
    outcomes = {}
    data, load = tempfile.mkdtemp(prefix="muster-crash-"), Load()
    fresh_until = POINTS // 3
    for i in range(POINTS):
        what, calls = KINDS[i % len(KINDS)]
        # A third of the points hit the first start of a new store, the others one that has grown (for 150 points).
        if i <= fresh_until or i % 150 == 0:
            shutil.rmtree(data)
            os.mkdir(data, 0o700)
            load = Load(i)
        n = rng.randrange(1, 160 if i <= fresh_until else 120)
        outcome = point(data, what, calls, n, load)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        try:
            verify(data, load)
        except Exception:
            print(f"point {i}: {what} at call {n} of {calls}: {outcome}; kept in {data}", flush=True)
            raise
    shutil.rmtree(data, ignore_errors=True)
    os.unlink(data + ".log")
    print(f"{POINTS} points: {outcomes}; nothing acknowledged was lost")


if __name__ == "__main__":
    start, code = time.monotonic(), 0
    if JOBS > 1:
        code = share()
    else:
        main()
    print(f"{time.monotonic() - start:.0f} s")
    sys.exit(code)
