#!/usr/bin/env python3
"""make soak: the long forms of the reliability tests one after another, then half an hour of mixed load with churn and a flat memory line.

    SOAK_SECONDS=1800 KILLS=200 CRASH_POINTS=2000 CUTS=50 STORM_CLIENTS=10000 GARBAGE=20000
    tests/soak.py NAME ...      only some: kill9 crash_syscalls power_cut storm hostile load

The load: devices that send telemetry and go away again and again; publishers and persistent sessions at QoS 1 and 2 that come and go;
subscriptions, retained messages and wills that change all the time; shared groups whose members leave; tokens that are made, used and
revoked while in use; connections over TLS; queries. After a third of the time for warming up memory may not grow (pages of the store's
files that are mapped are told apart); after the end descriptors and gauges are what they were, and the accounts of all messages are in order.
"""
import json
import os
import shutil
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
LONG_FORMS = {"kill9": {"KILLS": "200"}, "crash_syscalls": {"CRASH_POINTS": "2000"}, "power_cut": {"CUTS": "50"}, "storm": {"STORM_CLIENTS": "10000"},
              "hostile": {"GARBAGE": "20000"}}
GAUGES = ("muster_mqtt_connections", "muster_http_connections")


def long_form(name):
    start = time.monotonic()
    env = {**os.environ, **{k: os.environ.get(k, v) for k, v in LONG_FORMS[name].items()}, "PYTHONPATH": os.path.join(ROOT, "tests/lib")}
    p = subprocess.run([sys.executable, os.path.join(ROOT, f"tests/system/{name}.py")], env=env, capture_output=True, text=True, errors="replace", check=False)
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


def memory_kb(s):
    """(memory of its own, pages of files it has mapped) that are resident. The store maps its files, and these grow with what is stored."""
    with open(f"/proc/{s.process.pid}/status") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    return int(fields["RssAnon"].split()[0]), int(fields["RssFile"].split()[0])


def slope(samples):
    """(mean, growth per hour) of [(seconds, kB)], in MB, by least squares."""
    n = len(samples)
    mean_t, mean_m = sum(t for t, _ in samples) / n, sum(m for _, m in samples) / n
    per_s = sum((t - mean_t) * (m - mean_m) for t, m in samples) / max(1e-9, sum((t - mean_t) ** 2 for t, _ in samples))
    return mean_m / 1024, per_s * 3600 / 1024


def judge(what, samples):
    """No growth: at most 0.5 MB an hour, or 1 % in the time that was looked at, whichever is more."""
    mean, per_hour = slope(samples)
    hours = (samples[-1][0] - samples[0][0]) / 3600
    good = per_hour <= max(0.5, mean * 0.01 / hours)
    print(f"{'passed' if good else 'FAILED'} {what}: {hours * 60:.0f} min after warm-up, {len(samples)} samples, mean {mean:.1f} MB, slope {per_hour:+.2f} MB/h "
          f"({per_hour * hours:+.2f} MB in that time)", flush=True)
    return good


def sample(s, seconds):
    out, begin = [], time.monotonic()
    while time.monotonic() < begin + seconds:
        time.sleep(min(5, seconds / 60))
        assert s.process.poll() is None, "the server is gone:\n" + s.log()[-3000:]
        out.append((time.monotonic() - begin, *memory_kb(s)))
    return out


def make_devices(s, work):
    with open(f"{work}/devices", "w") as f, open(f"{work}/users", "w") as u:
        for i in range(DEVICES):
            f.write(json.dumps({"id": f"s{i}", "access_token": token_of(i)}) + "\n")
            u.write(f"s{i} {token_of(i)}\n")
    s.cli("device", "import", f"{work}/devices")


def run_load(s, work):
    """All of it at once; (samples, mistakes)."""
    port = s.ports["mqtt"]
    promises = contract.Contract(port)
    with ledger.Load(f"{work}/telemetry", port, publishers=DEVICES, users=f"{work}/users", topic="$muster/telemetry", rate=1000, offline_ms=3000, churn=1) as devices, \
            ledger.Load(f"{work}/messages", port, publishers=20, subscribers=10, qos=0, version=0, rate=300, offline_ms=3000, churn=1) as messages:
        churns = [Churn(fn, s) for fn in (revocations, over_tls, shared, queries)]
        with promises.running(pause_s=0.02):
            samples = sample(s, SECONDS)
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


def load():
    work = tempfile.mkdtemp(prefix="muster-soak-")
    with open_broker.Server(release=True, args=["--telemetry.flush_after=20s", "--broker.match_cache=1024"]) as s:
        make_devices(s, work)
        base = {name: metric(s, name) for name in GAUGES}
        base_sockets = sockets(s)
        samples, mistakes = run_load(s, work)
        muster.wait_for("as many sockets as before the load", lambda: sockets(s) <= base_sockets + 1, 90)
        after = {name: metric(s, name) for name in GAUGES}
        mistakes += [f"{name} was {base[name]} and is {after[name]}" for name in GAUGES if after[name] > base[name]]
    warm = [x for x in samples if x[0] > SECONDS / 3]
    good = judge("memory", [(t, own) for t, own, _ in warm])
    mean, per_hour = slope([(t, files) for t, _, files in warm])
    print(f"pages of mapped files: mean {mean:.1f} MB, slope {per_hour:+.2f} MB/h (the store's; it grows as it should)")
    for m in mistakes:
        print(f"FAILED load: {m}", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return good and not mistakes


def main():
    names = sys.argv[1:] or [*LONG_FORMS, "load"]
    results = [load() if n == "load" else long_form(n) for n in names]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
