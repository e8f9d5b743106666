"""A full disk: nothing is acknowledged that was not stored, the server says so, reads go on, and service returns with the space.

The data directory is a small tmpfs. Publishers of MQTT 5 and 3.1.1 and writers of the API run all the time; a ballast file takes the
space away and gives it back, three times, the last time all of it down to the last page. In between and at the end everything that
was acknowledged is counted, once more after kill -9.
"""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import mqtt
import muster

MOUNT_BYTES = 48 << 20
DEVICES = 6  # even ones speak MQTT 5, odd ones 3.1.1
TOKEN = "token-of-the-full-disk-device-%d"
PAGE = 4096


class Publisher(threading.Thread):
    """Publishes numbered points one after another and keeps what was acknowledged, and every other outcome."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.number, self.device = server, number, f"full-{number}"
        self.version = 5 if number % 2 == 0 else 4
        self.acked, self.codes = set(), {}
        self.sent = 0
        self.last_ack = 0.0
        self.stop = threading.Event()

    def count(self, what):
        self.codes[what] = self.codes.get(what, 0) + 1

    def run(self):
        while not self.stop.is_set():
            try:
                c = mqtt.Client("127.0.0.1", self.server.ports["mqtt"], self.device, self.device, TOKEN % self.number, version=self.version,
                                timeout=5)
                self.talk(c.connect())
                c.disconnect()
            except mqtt.Refused as e:
                self.count(f"connect 0x{e.reason:02x}")
                if self.server.data.encode() in c.connack[2]:
                    self.count("told a path")
                self.stop.wait(0.2)
            except mqtt.Closed:
                self.count("closed")
                self.stop.wait(0.05)
            except (OSError, TimeoutError) as e:
                self.count(type(e).__name__)
                self.stop.wait(0.2)

    def talk(self, c):
        while not self.stop.is_set():
            self.sent += 1
            # Most points are small; some are large, so that space ends in the middle of a write as well.
            pads = {f"pad{i}": "x" * 900 for i in range(3 if self.sent % 7 == 0 else 0)}
            code = c.publish("$muster/telemetry", json.dumps({"seq": self.sent, **pads}), qos=1)
            self.count(f"puback 0x{code:02x}")
            if code == 0:
                self.acked.add(self.sent)
                self.last_ack = time.monotonic()
            else:
                time.sleep(0.01)


class Writer(threading.Thread):
    """Creates devices over the API."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.acked, self.codes, self.next = server, set(), {}, 0
        self.stop = threading.Event()

    def run(self):
        while not self.stop.is_set():
            self.next += 1
            try:
                status, _, _ = self.server.request("POST", "/api/v1/devices", {"id": f"w{self.next}", "attributes": {"pad": "y" * 500}})
            except OSError:
                status = 0
            self.codes[status] = self.codes.get(status, 0) + 1
            if status == 201:
                self.acked.add(f"w{self.next}")
            time.sleep(0.01)


def ballast(directory, leave):
    """Takes all space of the file system but `leave` bytes."""
    fd = os.open(os.path.join(directory, "ballast"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        while True:
            v = os.statvfs(directory)
            free = v.f_bavail * v.f_frsize - leave
            if free < PAGE:
                return
            os.write(fd, b"b" * min(free // PAGE * PAGE, 1 << 20))
    except OSError:
        return
    finally:
        os.close(fd)


def fill(s, publishers, leave):
    """Takes the space until the server has noticed; whoever frees some (a checkpoint, a flush) finds it gone again."""
    def noticed():
        ballast(s.data, leave)
        return s.request("GET", "/readyz", token=None)[0] == 503
    muster.wait_for("/readyz says 503 on a full disk", noticed, 10, 0.02)
    before = [dict(p.codes) for p in publishers]
    def all_refused():
        ballast(s.data, leave)
        return all(p.codes != b and any(not k.startswith("puback 0x00") and p.codes[k] > b.get(k, 0) for k in p.codes)
                   for p, b in zip(publishers, before))
    muster.wait_for("every publisher was refused", all_refused, 10, 0.02)


def reads_go_on(s, publishers):
    assert s.api("GET", "/api/v1/devices?limit=10")["items"]
    assert s.api("GET", "/api/v1/audit?limit=10")["items"]
    assert s.api("GET", "/api/v1/presence?limit=10")["items"]
    for p in publishers:
        last, top = s.last(p.device)["seq"]["value"], max(p.acked)
        assert last >= top or p.version == 4, (p.device, last, top)
        assert s.points(p.device, "seq", limit=100)
        ledger = s.ledger(p.device)
        assert muster.ledger_adds_up(ledger), (p.device, ledger)
    def refused():
        # A write may still find place (the log of the state store is used again); each one makes less of it.
        ballast(s.data, 0)
        pad = os.urandom(15000).hex()
        status, _, problem = s.request("PATCH", "/api/v1/devices/full-0/twin/desired", {"pad": pad})
        assert status in (200, 507), (status, problem)
        return problem if status == 507 else None
    problem = muster.wait_for("the API refuses a change", refused, 10, 0)
    assert problem["code"] == "storage_full" and "full" in problem["detail"] and s.data not in problem["detail"], problem
    assert s.request("GET", "/healthz", token=None)[0] == 200


def recovers(s, publishers):
    os.unlink(os.path.join(s.data, "ballast"))
    start = time.monotonic()
    muster.wait_for("/readyz says 200 with space", lambda: s.request("GET", "/readyz", token=None)[0] == 200, 4, 0.02)
    muster.wait_for("every publisher is acknowledged again", lambda: all(p.last_ack > start for p in publishers), 4, 0.02)
    s.api("PATCH", "/api/v1/devices/full-0/twin/desired", {"at": start})
    seconds = time.monotonic() - start
    assert seconds < 2, f"normal service came back after {seconds:.2f} s"
    return seconds


def everything_is_there(s, publishers, writer):
    have = set()
    cursor = ""
    while cursor is not None:
        page = s.api("GET", "/api/v1/devices?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        have |= {d["id"] for d in page["items"]}
        cursor = page["next"]
    assert writer.acked <= have, f"lost devices {sorted(writer.acked - have)[:5]}"
    for p in publishers:
        stored = {int(v) for _, v in s.points(p.device, "seq")}
        assert p.acked <= stored, f"{p.device}: lost {sorted(p.acked - stored)[:5]}"
        assert len(stored) <= p.sent
        ledger = s.ledger(p.device)
        assert muster.ledger_adds_up(ledger) and ledger["stored"] >= len(p.acked), (p.device, ledger, len(p.acked))
    assert muster.ledger_adds_up(s.api("GET", "/api/v1/ledger"))


def run(directory):
    with muster.Server(data=directory) as s:
        publishers = [Publisher(s, i) for i in range(DEVICES)]
        for p in publishers:
            s.device(p.device, TOKEN % p.number)
        writer = Writer(s)
        for t in [*publishers, writer]:
            t.start()
        times = []
        for leave in (200 * PAGE, 20 * PAGE, 0):
            muster.wait_for("publishers run", lambda: all(len(p.acked) > 20 for p in publishers))
            fill(s, publishers, leave)
            reads_go_on(s, publishers)
            times.append(recovers(s, publishers))
        for t in [*publishers, writer]:
            t.stop.set()
        for t in [*publishers, writer]:
            t.join(20)
        for p in publishers:
            assert "told a path" not in p.codes, p.codes
            if p.version == 5:
                assert p.codes.get("puback 0x97", 0) > 0, (p.device, p.codes)
                assert not [k for k in p.codes if k.startswith("puback") and k not in ("puback 0x00", "puback 0x97")], p.codes
                refused = s.ledger(p.device)["refused"]
                assert sum(refused.values()) >= p.codes["puback 0x97"], (refused, p.codes)
            else:
                assert {k for k in p.codes if k.startswith("puback")} == {"puback 0x00"} and p.codes.get("closed", 0) > 0, p.codes
        assert writer.codes.get(507, 0) > 0 and set(writer.codes) <= {201, 507}, writer.codes
        log = s.log()
        assert log.count("storage full") >= 3 and log.count("space again") >= 3, "the log does not say it"
        everything_is_there(s, publishers, writer)
        s.kill()
        s.start()
        everything_is_there(s, publishers, writer)
        print(f"acknowledged {sum(len(p.acked) for p in publishers)} points and {len(writer.acked)} devices, all there; "
              f"service back after {', '.join(f'{t * 1000:.0f}' for t in times)} ms")
        print(publishers[0].codes, publishers[1].codes, writer.codes)


def main():
    directory = tempfile.mkdtemp(prefix="muster-full-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES},mode=0700", "tmpfs", directory], capture_output=True, text=True,
                             check=False)
    if mounted.returncode != 0:
        print(f"skipped: no small file system for the test: {mounted.stderr.strip()}")
        os.rmdir(directory)
        return 77
    try:
        run(directory)
    finally:
        subprocess.run(["umount", "-l", directory], check=False)
        os.rmdir(directory)
    os.unlink(directory + ".log")
    return 0


if __name__ == "__main__":
    sys.exit(main())
