#!/usr/bin/env python3
"""make bench: the server's figures and a peer's in the same run, as one table.

Every row is the median of RUNS (default 3). "CPU s/M" is the server's processor time per million messages (or per thousand
connections): the steady figure on a machine whose speed drifts. MOSQUITTO=path measures another broker binary's rows.
    bench.py [--quick] [--only NAME ...] [--markdown]
"""
import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
os.environ.setdefault("MUSTER_BIN", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/bin"))
import muster  # noqa: E402

LOAD = os.path.join(muster.BIN, "mqttload")
RUNS = int(os.environ.get("RUNS", "3"))
ROWS = []


def row(name, server, **figures):
    ROWS.append((name, server, figures))
    print(f"{name:34} {server:10} " + "  ".join(f"{k} {v}" for k, v in figures.items()), flush=True)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Mosquitto:
    """The peer: Debian's package by default, memory only."""

    def __init__(self, work, ca=None, cert=None, key=None):
        self.port, self.tls_port = free_port(), free_port()
        conf = f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        if cert:
            conf += f"listener {self.tls_port} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate false\n"
        path = os.path.join(work, "mosquitto.conf")
        with open(path, "w") as f:
            f.write(conf + "user root\n")
        self.process = subprocess.Popen([os.environ.get("MOSQUITTO", "mosquitto"), "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        muster.wait_for("mosquitto listens", lambda: self.up(), 5)

    def up(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait()


def load(*args):
    out = subprocess.run([LOAD, *map(str, args)], capture_output=True, text=True, timeout=600, check=True).stdout
    return json.loads(out)


def measure(pid, *args):
    before = cpu_s(pid)
    figures = load(*args)
    figures["cpu_s"] = cpu_s(pid) - before
    return figures


def median(values):
    return statistics.median(values)


class Bench:
    def __init__(self, quick):
        self.work = tempfile.mkdtemp(prefix="muster-bench-")
        self.scale = 0.1 if quick else 1
        self.runs = 1 if quick else RUNS
        self.server = muster.Server(release=False)
        self.devices = 5000
        with open(f"{self.work}/devices.ndjson", "w") as f, open(f"{self.work}/users", "w") as u:
            for i in range(self.devices):
                f.write(json.dumps({"id": f"b{i}", "access_token": f"token-of-bench-device-{i:05d}"}) + "\n")
                u.write(f"b{i} token-of-bench-device-{i:05d}\n")
        start = time.monotonic()
        self.server.cli("device", "import", f"{self.work}/devices.ndjson")
        self.import_rate = self.devices / (time.monotonic() - start)
        self.users = ["--users", f"{self.work}/users"]
        files = [os.path.join(self.server.data, n) for n in ("ca.pem", "server.pem", "server.key")]
        self.mosquitto = Mosquitto(self.work, *files)

    def close(self):
        self.mosquitto.stop()
        self.server.stop()
        shutil.rmtree(self.server.data, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def pair(self, name, muster_args, peer_args, summarize):
        """Both servers in turn, so that drift of the machine's speed hits both."""
        ours, theirs = [], []
        for _ in range(self.runs):
            ours.append(measure(self.server.process.pid, "--port", self.server.ports["mqtts" if "--tls" in muster_args else "mqtt"], *muster_args))
            theirs.append(measure(self.mosquitto.process.pid, "--port",
                                  self.mosquitto.tls_port if "--tls" in peer_args else self.mosquitto.port, *peer_args))
        a, b = summarize(ours), summarize(theirs)
        row(name, "muster", **a)
        row(name, "mosquitto", **b)
        key = next(k for k in a if k.startswith("CPU"))
        row(name, "ratio", **{key: f"{float(a[key]) / float(b[key]):.2f}" if float(b[key]) > 0 else "-"})

    def ingest(self, name, clients, window, messages, tls=False):
        n = int(messages * self.scale)
        common = ["--clients", clients, "--window", window, "--messages", n, "--payload", 100]
        ours = self.users + common + (["--tls", "--ca", self.server.ca] if tls else [])
        peer = common + ["--topic", "bench/%i"] + (["--tls", "--ca", self.server.ca] if tls else [])

        def summarize(runs):
            assert all(r["acked"] == r["sent"] == n for r in runs), runs
            return {"msg/s": f"{median([r['rate'] for r in runs]):,.0f}".replace(",", " "),
                    "CPU s/M": f"{median([r['cpu_s'] / n * 1e6 for r in runs]):.2f}",
                    "ack p50 ms": median([r["ack_p50_ms"] for r in runs]), "ack p99 ms": median([r["ack_p99_ms"] for r in runs])}
        self.pair(name, ours, peer, summarize)

    def enrol(self, device):
        """A device certificate by the public path: claim, CSR, enrolment."""
        key, csr, cert = (f"{self.work}/{device}.{e}" for e in ("key", "csr", "pem"))
        subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-subj",
                        f"/CN={device}", "-out", csr], check=True, capture_output=True)
        claim = self.server.cli_json("claim", "create", "--uses", "1", "--ttl", "1h")["token"]
        with open(csr) as f:
            reply = self.server.api("POST", "/api/v1/enroll", {"csr": f.read(), "device": device}, token=claim)
        with open(cert, "w") as f:
            f.write(reply["certificate"])
        return ["--cert", cert, "--key", key]

    def connects(self):
        def summarize(n):
            def inner(runs):
                return {"connects/s": f"{median([r['connects'] / r['seconds'] for r in runs]):.0f}",
                        "CPU ms each": f"{median([r['cpu_s'] / n * 1e3 for r in runs]):.3f}"}
            return inner
        n = max(200, int(5000 * self.scale))
        one = f"{self.work}/one"
        self.pair("connect plain, one after another", self.users + ["--clients", 8, "--cycles", n], ["--clients", 8, "--cycles", n], summarize(n))
        n = max(100, int(2000 * self.scale))
        tls = ["--tls", "--ca", self.server.ca]
        mtls = tls + self.enrol("bench-mtls")
        with open(one, "w") as f:
            f.write("bench-mtls -\n")
        self.pair("connect mTLS, full handshake", mtls + ["--clients", 1, "--cycles", n, "--prefix", "bench-mtls"],
                  mtls + ["--clients", 1, "--cycles", n], summarize(n))

    def memory(self):
        with muster.Server() as fresh:
            time.sleep(0.5)
            idle = rss_kb(fresh.process.pid)
            row("memory idle", "muster", MB=f"{idle / 1024:.1f}")
            row("start on a new store", "muster", seconds=f"{fresh.ready_s:.3f}")
            fresh.stop()
            fresh.start()
            row("start on an existing store", "muster", seconds=f"{fresh.ready_s:.3f}")
        for name, tls in (("memory per idle connection", False), ("memory per idle TLS connection", True)):
            n = max(200, int(4000 * self.scale))
            for label, pid, args in (("muster", self.server.process.pid, self.users + ["--port", self.server.ports["mqtts" if tls else "mqtt"]]),
                                     ("mosquitto", self.mosquitto.process.pid, ["--port", self.mosquitto.tls_port if tls else self.mosquitto.port])):
                before = rss_kb(pid)
                p = subprocess.Popen([LOAD, "--clients", str(n), "--idle", "--seconds", "600", *map(str, args)] +
                                     (["--tls", "--ca", self.server.ca] if tls else []), stdout=subprocess.PIPE)
                time.sleep(4 if not tls else 4 + n / 500)
                kb = (rss_kb(pid) - before) / n
                p.terminate()
                opened = json.loads(p.communicate()[0])["open"]
                row(name, label, kB=f"{kb:.2f}", connections=opened)
                time.sleep(1)

    def range_query(self):
        """24 h of one series, a point a minute, in the middle of others' points."""
        s = self.server
        s.device("range", "token-of-range-device-0000")
        now_ms = int(time.time() * 1000)
        rng = random.Random(1)
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
        import mqtt  # noqa: PLC0415
        c = mqtt.Client("127.0.0.1", s.ports["mqtt"], client_id="range", username="range", password="token-of-range-device-0000")
        c.connect()
        batch = []
        for minute in range(1440):
            batch.append({"ts": now_ms - (1440 - minute) * 60000, "values": {"t": round(20 + rng.random(), 2)}})
            if len(batch) == 240:
                c.publish("$muster/telemetry", json.dumps(batch).encode(), qos=1)
                batch = []
        c.disconnect()
        url = s.url() + f"/api/v1/devices/range/telemetry/t?from={now_ms - 86400000}&to={now_ms}&limit=10000"
        times = []
        for _ in range(300):
            start = time.perf_counter()
            req = urllib.request.Request(url, headers={"Authorization": "Bearer " + s.token})
            with urllib.request.urlopen(req) as r:
                body = r.read()
            times.append((time.perf_counter() - start) * 1000)
        assert len(json.loads(body)["points"]) >= 1439, len(json.loads(body)["points"])
        times.sort()
        row("range query, 24 h raw (1 440 points)", "muster", **{"p50 ms": f"{times[150]:.2f}", "p99 ms": f"{times[297]:.2f}"})

    def sizes(self):
        for p in ("muster", "muster-agent"):
            path = os.path.join(muster.BIN, p)
            stripped = f"{self.work}/{p}"
            subprocess.run(["strip", "-o", stripped, path], check=True)
            row(f"size of {p}", "muster", MB=f"{os.path.getsize(stripped) / 1e6:.2f}")
        row("import of devices", "muster", **{"devices/s": f"{self.import_rate:.0f}"})


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("--only", nargs="*", default=[])
    args = ap.parse_args()
    b = Bench(args.quick)
    steps = {
        "ingest-100": lambda: b.ingest("ingest QoS 1, 100 publishers, w20", 100, 20, 1_000_000),
        "ingest-1000": lambda: b.ingest("ingest QoS 1, 1,000 publishers, w20", 1000, 20, 1_000_000),
        "ingest-w1": lambda: b.ingest("ingest QoS 1, 1,000 publishers, w1", 1000, 1, 300_000),
        "ingest-tls": lambda: b.ingest("ingest QoS 1, TLS, 100 publishers", 100, 20, 500_000, tls=True),
        "connects": b.connects, "memory": b.memory, "range": b.range_query, "sizes": b.sizes,
    }
    try:
        for name, step in steps.items():
            if not args.only or name in args.only:
                step()
    finally:
        b.close()


if __name__ == "__main__":
    main()
