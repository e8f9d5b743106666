#!/usr/bin/env python3
"""make soak: the long forms of the reliability tests one after another, then half an hour of mixed load with churn and a flat memory line.

    SOAK_SECONDS=1800 KILLS=200 CRASH_POINTS=2000 CUTS=50 STORM_CLIENTS=10000 GARBAGE=20000 SAMPLES=100000
    tests/soak.py NAME ...      only some: kill9 crash_syscalls power_cut storm hostile timing load

The load: devices that send telemetry and go away again and again; publishers and persistent sessions at QoS 1 and 2 that come and go;
subscriptions, retained messages and wills that change all the time; shared groups whose members leave; tokens that are made, used and
revoked while in use; connections over TLS; queries. The caches that have a bound are small, so that they are full in half the time; SQLite's
page caches are told apart by its own figures. In the second half the heap in use may not grow by 32 bytes for each connection that was made
in it nor by half a byte for each message, whichever is less, and a run too short to tell that from the noise does not pass; nor may the
memory of the process grow by 2 %. After the end descriptors and gauges are what they were, and the accounts of all messages are in order.

    SOAK_LEAK=connection or message tests/soak.py load     the control: 64 bytes a connection, or a byte a message, are lost (tests/lib/heapuse.c);
                                                           passes when that is found
"""
import collections
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
os.environ.setdefault("MUSTER_BIN", os.path.join(ROOT, "build/bin"))
os.environ.setdefault("MUSTER_RELEASE_BIN", os.path.join(ROOT, "build/bin"))
import contract  # noqa: E402
import ledger  # noqa: E402
import mqtt  # noqa: E402
import muster  # noqa: E402
import open_broker  # noqa: E402
from session import Gone, Session  # noqa: E402
from watch import metric, sockets  # noqa: E402

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
DEVICES = 100
FILL = 10000  # further devices: each is an event, so that the ring of events is full from the beginning
LONG_FORMS = {"kill9": {"KILLS": "200"}, "crash_syscalls": {"CRASH_POINTS": "2000"}, "power_cut": {"CUTS": "50"}, "storm": {"STORM_CLIENTS": "10000"},
              "hostile": {"GARBAGE": "20000"}, "timing": {"SAMPLES": "100000"}}
PROGRAMS = {"timing": "test_domain_identity_timing"}
GAUGES = ("muster_mqtt_connections", "muster_http_connections")


def long_form(name):
    start = time.monotonic()
    env = {**os.environ, **{k: os.environ.get(k, v) for k, v in LONG_FORMS[name].items()}, "PYTHONPATH": os.path.join(ROOT, "tests/lib")}
    command = [os.path.join(muster.RELEASE_BIN, PROGRAMS[name])] if name in PROGRAMS else [sys.executable, os.path.join(ROOT, f"tests/system/{name}.py")]
    p = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    print(f"{'passed' if p.returncode == 0 else 'FAILED'} {name} ({time.monotonic() - start:.0f} s): {(p.stdout if p.returncode == 0 else p.stdout + p.stderr).strip()[-3000:]}",
          flush=True)
    return p.returncode == 0


# --- churn: each runs in a thread until it is told to stop; one round at a time, mistakes end the test ------------------------


def token_of(i):
    return f"token-of-soak-device-{i:04d}-0123456789"


def revocations(s, stop):
    """A token is made, used, and revoked while its connection is open, which ends it."""
    s.device("revoked", token_of(9999))
    rounds = 0
    while not stop.is_set():
        made = s.api("POST", "/api/v1/devices/revoked/tokens", {"label": "soak"})
        c = mqtt.Client("127.0.0.1", s.ports["mqtt"], "revoked", "revoked", made["token"]).connect()
        assert c.publish("$muster/telemetry", b'{"v":1}', qos=1) == 0
        s.api("DELETE", f"/api/v1/devices/revoked/tokens/{made['id']}")
        c.wait_closed(5)
        c.abort()
        rounds += 1
        time.sleep(0.3)
    return rounds


def over_tls(s, stop):
    """Devices that connect over TLS, say something, and go, with and without a word."""
    for i in range(10):
        s.device(f"tls{i}", token_of(2000 + i))
    rounds = 0
    while not stop.is_set():
        c = mqtt.Client("127.0.0.1", s.ports["mqtts"], f"tls{rounds % 10}", f"tls{rounds % 10}", token_of(2000 + rounds % 10), ca=s.ca).connect()
        c.subscribe("$muster/twin/desired")
        assert c.publish("$muster/telemetry", b'{"tls":1}', qos=1) == 0
        if rounds % 2:
            c.disconnect()
        else:
            c.abort()
        rounds += 1
        time.sleep(0.1)
    return rounds


def shared(s, stop):
    """Members of a group that come and go while messages for the group arrive."""
    port, rounds, got = s.ports["mqtt"], 0, 0
    publisher = Session(port, "shared-pub", expiry_s=0)
    publisher.open(clean=True)
    members = [Session(port, f"shared-{i}", version=5, expiry_s=60 if i % 2 else 0) for i in range(4)]
    while not stop.is_set():
        m = members[rounds % 4]
        try:
            if m.sock is None:
                m.open(clean=rounds % 8 < 4)
                assert m.subscribe("$share/soak/shared/#", 1 + rounds % 2) < 0x80
            else:
                got += len(m.take(0.05))
                m.drop()
            for i in range(10):
                publisher.publish(f"shared/{i}", b"x" * 100, 1)
        except Gone:
            if publisher.sock is None:
                publisher.open(clean=True)
        rounds += 1
    for m in members + [publisher]:
        m.drop()
    assert rounds < 50 or got > 0, "no member ever got a message"
    return rounds


def queries(s, stop):
    rounds = 0
    while not stop.is_set():
        s.api("GET", f"/api/v1/devices/s{rounds % DEVICES}/telemetry/seq?from=0&limit=1000")
        s.api("GET", "/api/v1/devices?limit=100")
        s.api("GET", "/api/v1/presence?limit=1000")
        s.api("PATCH", f"/api/v1/devices/s{rounds % DEVICES}/twin/desired", {"n": rounds})
        rounds += 1
        time.sleep(0.2)
    return rounds


class Churn:
    """A thread that runs one of the above and keeps its mistake."""

    def __init__(self, fn, s):
        self.name, self.stop, self.rounds, self.mistake = fn.__name__, threading.Event(), 0, None

        def run():
            try:
                self.rounds = fn(s, self.stop)
            except Exception as e:  # noqa: BLE001: told at the end
                self.mistake = f"{fn.__name__}: {type(e).__name__}: {e}"
        self.thread = threading.Thread(target=run)
        self.thread.start()

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.mistake


# --- the line ------------------------------------------------------------------------------------------------------------


Sample = collections.namedtuple("Sample", "t rss heap caches files connections messages")  # seconds, bytes, counts


class Heap:
    """What heapuse.so tells of a server it is preloaded into."""

    LEAKS = {"": {}, "connection": {"HEAPUSE_LEAK_CONNECTION": "64"}, "message": {"HEAPUSE_LEAK_KB": "10"}}  # a message is some 100 bytes

    def __init__(self, work, leak):
        self.path = f"{work}/heapuse"
        with open(self.path, "wb") as f:
            f.write(b"\0" * 32)
        self.env = {"LD_PRELOAD": os.path.join(muster.RELEASE_BIN, "heapuse.so"), "HEAPUSE": self.path, **self.LEAKS[leak]}

    def read(self):
        """(bytes in use, blocks, bytes of SQLite's page caches, bytes leaked on purpose)"""
        with open(self.path, "rb") as f:
            return struct.unpack("<4q", f.read(32))


def take_sample(s, heap, t):
    with open(f"/proc/{s.process.pid}/status") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    in_use, _, caches, _ = heap.read()
    messages = sum(metric(s, name) or 0 for name in ("muster_mqtt_publishes_received_total", "muster_mqtt_publishes_sent_total"))
    return Sample(t, int(fields["RssAnon"].split()[0]) * 1024, in_use - caches, caches, int(fields["RssFile"].split()[0]) * 1024,
                  metric(s, "muster_mqtt_connects_total"), messages)


def growth(samples, field):
    """(growth over the time of the samples, what that may be wrong by) in bytes, by least squares."""
    points = [(x.t, getattr(x, field)) for x in samples]
    n, seconds = len(points), points[-1][0] - points[0][0]
    mean_t, mean_m = sum(t for t, _ in points) / n, sum(m for _, m in points) / n
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    per_s = sum((t - mean_t) * (m - mean_m) for t, m in points) / spread
    rest = sum((m - mean_m - per_s * (t - mean_t)) ** 2 for t, m in points) / max(1, n - 2)
    return per_s * seconds, 2 * (rest / spread) ** 0.5 * seconds


def judge(samples):
    """The mistakes of memory in these samples, from the second half of a run."""
    first, last, bad = samples[0], samples[-1], []
    connections, messages = last.connections - first.connections, last.messages - first.messages
    grown, unsure = growth(samples, "heap")
    allowed = min(32 * connections, messages / 2)
    rss_grown, _ = growth(samples, "rss")
    cache_grown, _ = growth(samples, "caches")
    rss_allowed = 0.02 * first.rss + max(0, cache_grown)
    print(f"memory, the last {(last.t - first.t) / 60:.0f} min, {len(samples)} samples, {connections:.0f} connections, {messages:.0f} messages: heap in use "
          f"{first.heap / 1e6:.1f} MB {grown / 1e3:+.0f} kB (within {unsure / 1e3:.0f}), allowed {allowed / 1e3:.0f}; SQLite's page caches {first.caches / 1e6:.1f} MB "
          f"{cache_grown / 1e3:+.0f} kB; process {first.rss / 1e6:.1f} MB {rss_grown / 1e3:+.0f} kB, allowed {rss_allowed / 1e3:.0f}; mapped files "
          f"{(last.files - first.files) / 1e6:+.1f} MB", flush=True)
    if grown > allowed:
        bad.append(f"the heap grows by {grown / max(1, connections):.0f} bytes a connection, {grown / max(1, messages):.2f} a message")
    elif unsure > allowed:
        bad.append(f"too short to tell growth of {allowed / 1e3:.0f} kB from noise of {unsure / 1e3:.0f} kB")
    if rss_grown > rss_allowed:
        bad.append(f"the process grows by {rss_grown / 1e3:.0f} kB")
    return bad


def sample(s, heap, seconds):
    out, begin = [], time.monotonic()
    while time.monotonic() < begin + seconds:
        time.sleep(min(2, seconds / 60))
        assert s.process.poll() is None, "the server is gone:\n" + s.log()[-3000:]
        out.append(take_sample(s, heap, time.monotonic() - begin))
    return out


def make_devices(s, work):
    with open(f"{work}/devices", "w") as f, open(f"{work}/users", "w") as u:
        for i in range(DEVICES):
            f.write(json.dumps({"id": f"s{i}", "access_token": token_of(i)}) + "\n")
            u.write(f"s{i} {token_of(i)}\n")
        for i in range(FILL):
            f.write(json.dumps({"id": f"filler-{i:05d}"}) + "\n")
    s.cli("device", "import", f"{work}/devices")


def run_load(s, work, heap):
    """All of it at once; (samples, mistakes)."""
    port = s.ports["mqtt"]
    promises = contract.Contract(port)
    with ledger.Load(f"{work}/telemetry", port, publishers=DEVICES, users=f"{work}/users", topic="$muster/telemetry", rate=1000, offline_ms=3000, churn=1) as devices, \
            ledger.Load(f"{work}/messages", port, publishers=20, subscribers=10, qos=0, version=0, rate=300, offline_ms=3000, churn=1) as messages:
        churns = [Churn(fn, s) for fn in (revocations, over_tls, shared, queries)]
        with promises.running(pause_s=0.02):
            samples = sample(s, heap, SECONDS)
        mistakes = [m for m in (c.end() for c in churns) if m]
        for load in (devices, messages):
            load.quiet()
            load.settle(still_s=5)  # longer than the longest absence
            load.stop()
        mistakes += promises.verify()
        promises.drop()
        delivered, stored = messages.account.at_subscribers(), devices.account.in_history(ledger.history_of(s))
    print(f"messages: {delivered}\ntelemetry: {stored}\npromises: {promises}\nrounds: " + ", ".join(f"{c.name} {c.rounds}" for c in churns), flush=True)
    return samples, mistakes + [p for p in (delivered.problem(), stored.problem()) if p]


# What has a bound is small enough to be full in half the time.
SMALL = ["--telemetry.flush_after=20s", "--broker.match_cache=1024", "--tls.sessions_max=64"]


def load():
    work, leak = tempfile.mkdtemp(prefix="muster-soak-"), os.environ.get("SOAK_LEAK", "")
    heap = Heap(work, leak)
    with open_broker.Server(release=True, args=SMALL, env=heap.env) as s:
        make_devices(s, work)
        base = {name: metric(s, name) for name in GAUGES}
        base_sockets = sockets(s)
        samples, mistakes = run_load(s, work, heap)
        muster.wait_for("as many sockets as before the load", lambda: sockets(s) <= base_sockets + 1, 90)
        after = {name: metric(s, name) for name in GAUGES}
        mistakes += [f"{name} was {base[name]} and is {after[name]}" for name in GAUGES if after[name] > base[name]]
    grows = judge([x for x in samples if x.t > SECONDS / 2])
    if leak:
        found = any(text.startswith("the heap grows") for text in grows)
        print(f"control, {heap.read()[3]} bytes lost on purpose: {'found' if found else 'NOT FOUND'}: {grows}", flush=True)
        mistakes += [] if found else ["the leak was not found"]
    else:
        mistakes += grows
    for m in mistakes:
        print(f"FAILED load: {m}", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return not mistakes


def main():
    names = sys.argv[1:] or [*LONG_FORMS, "load"]
    results = [load() if n == "load" else long_form(n) for n in names]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
