#!/usr/bin/env python3
"""make bench: the server's figures, peers' and the floor's in one run, as one table.

    bench.py [--quick] [--only NAME ...] [--peer NAME=BINARY[:TEMPLATE] ...] [--no-peers] [--json FILE] [--list]

Every row is measured in turn on each server, RUNS times (default 3), in an order that changes; the medians are shown. "CPU s/M" is the
server's processor time per million messages (or deliveries), "CPU ms" per connect: the steady figures on a machine whose speed
drifts, and free of what the load generator uses. Rates share the processors with the generator; "others" is the part of the machine
that neither of them used: above a few percent rates and latencies mean little.

Peers: mosquitto from the package; --peer adds another broker's binary, with tests/bench/peers/NAME.conf or TEMPLATE (see servers.py).
"""
import argparse
import contextlib
import json
import os
import random
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from servers import HERE, Floor, Muster, Peer, muster, tool  # noqa: E402

RUNS = int(os.environ.get("RUNS", "3"))
STORM_S = 120
TICK = os.sysconf("SC_CLK_TCK")
NEEDED = ("muster", "muster-agent", "mqttload", "floor", "certs")


class Row:
    """A load, the work its processor time is divided by, the servers that take part, and what is to be reached.

    goals: (figure, "at most"|"at least"|"times", value[, server]): "times" is a ratio to a server of the same run, "best peer" to the best.
    """

    def __init__(self, name, title, load, *, kind="plain", per="message", size=0, users=0, goals=(), floor=False, topic=None):
        self.name, self.title, self.load, self.kind, self.per, self.size = name, title, load, kind, per, size
        self.users, self.goals, self.floor, self.topic = users, goals, floor, topic


def publishers(n, window, qos=1, **more):
    return {"clients": n, "window": window, "qos": qos, "payload": 100, **more}


def listening(n, qos, **more):
    return {"subscribers": n, "filter": "bench/#", "sub-qos": qos, **more}


TELEMETRY = "$muster/telemetry"
AS_FAST = (("CPU s/M", "times", 1.0, "best peer"),)
ROWS = [
    Row("ingest", "telemetry, stored: QoS 1, 1,000 publishers, window 20", publishers(1000, 20), size=2_000_000, users=1000, topic=TELEMETRY, floor=True,
        goals=(("CPU s/M", "at most", 2.5), ("rate", "at least", 300_000))),
    Row("ingest-w1", "telemetry, stored: QoS 1, 1,000 publishers, window 1", publishers(1000, 1), size=300_000, users=1000, topic=TELEMETRY, floor=True,
        goals=(("CPU s/M", "times", 1.2, "floor"),)),
    Row("ingest-tls", "telemetry, stored: QoS 1, TLS, 100 publishers, window 20", publishers(100, 20), kind="tls", size=1_000_000, users=100, topic=TELEMETRY,
        floor=True),
    Row("qos0", "broker: QoS 0, 1,000 publishers", publishers(1000, 20, 0), size=3_000_000, users=1000, floor=True, goals=AS_FAST),
    Row("qos1-100", "broker: QoS 1, 100 publishers, window 20", publishers(100, 20), size=2_000_000, users=100, floor=True, goals=AS_FAST),
    Row("qos1", "broker: QoS 1, 1,000 publishers, window 20", publishers(1000, 20), size=2_000_000, users=1000, floor=True, goals=AS_FAST),
    Row("qos1-w1", "broker: QoS 1, 1,000 publishers, window 1", publishers(1000, 1), size=300_000, users=1000, floor=True, goals=AS_FAST),
    Row("qos1-sub", "broker: QoS 1, 1,000 publishers, window 20, one subscriber (QoS 0) of all", publishers(1000, 20, **listening(1, 0)), size=1_000_000,
        users=1001, goals=AS_FAST),
    Row("qos1-tls", "broker: QoS 1, TLS, 100 publishers, window 20", publishers(100, 20), kind="tls", size=1_000_000, users=100, floor=True, goals=AS_FAST),
    Row("qos1-tls-sub", "broker: QoS 1, TLS, 100 publishers, window 20, one subscriber (QoS 0) of all", publishers(100, 20, **listening(1, 0)), kind="tls",
        size=500_000, users=101, goals=AS_FAST),
    Row("qos2", "broker: QoS 2, 100 publishers, window 20", publishers(100, 20, 2), size=500_000, users=100, floor=True),
    Row("fan-in", "fan-in: QoS 1, 100 publishers, window 20, one subscriber (QoS 1) of all", publishers(100, 20, **listening(1, 1)), per="delivery",
        size=500_000, users=101, goals=AS_FAST),
    Row("fan-out-0", "fan-out: 1 publisher to 1,000 subscribers, QoS 0", publishers(1, 20, 1, **listening(1000, 0)), per="delivery", size=3_000,
        users=1001, goals=AS_FAST),
    Row("fan-out", "fan-out: 1 publisher to 1,000 subscribers, QoS 1", publishers(1, 20, 1, **listening(1000, 1)), per="delivery", size=2_000,
        users=1001, goals=AS_FAST),
    Row("latency", "latency: 100 publishers, 10,000 messages/s, QoS 1, to one subscriber", publishers(100, 100, 1, stamp=True, rate=10_000, **listening(1, 1)),
        size=100_000, users=101, goals=(("delivery p99 ms", "times", 1.0, "best peer"),)),
    Row("connect", "connect: plain", {"clients": 16, "cycles": 0}, per="connect", size=10_000, users=16, floor=True),
    Row("connect-tls", "connect: TLS 1.3", {"clients": 16, "cycles": 0}, kind="tls", per="connect", size=3_000, users=16, floor=True),
    Row("connect-mtls", "connect: TLS 1.3, client certificate", {"clients": 16, "cycles": 0}, kind="mtls", per="connect", size=3_000, floor=True,
        goals=(("CPU ms", "times", 1.2, "floor"),)),
    Row("resume-13", "connect: TLS 1.3, client certificate, resumed", {"clients": 16, "cycles": 0, "resume": True, "tls-version": "1.3"}, kind="mtls",
        per="connect", size=3_000, floor=True, goals=(("CPU ms", "times", 1.2, "floor"),)),
    Row("resume-12", "connect: TLS 1.2, client certificate, resumed", {"clients": 16, "cycles": 0, "resume": True, "tls-version": "1.2"}, kind="mtls",
        per="connect", size=3_000, floor=True, goals=(("CPU ms", "times", 1.2, "floor"),)),
]


def busy_s():
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def memory_kb(pid):
    """(resident, proportional) of a process."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith(("Rss:", "Pss:")):
                found[line[:3]] = int(line.split()[1])
    return found["Rss"], found["Pss"]


def options(words):
    """A dict as options of mqttload."""
    out = []
    for name, value in words.items():
        if value is True:
            out.append("--" + name)
        elif value is not False:
            out += ["--" + name, str(value)]
    return out


def number(x):
    if not isinstance(x, float):
        return str(x)
    return f"{x:,.0f}".replace(",", " ") if abs(x) >= 1000 else f"{x:.3f}" if abs(x) < 1 else f"{x:.2f}"


class Bench:
    def __init__(self, args):
        self.scale, self.runs = (0.1, 1) if args.quick else (1, RUNS)
        self.results = []
        self.ends = contextlib.ExitStack()  # whatever happens, what was started is ended, the newest first
        try:
            self.begin(args)
        except BaseException:
            self.close()
            raise

    def begin(self, args):
        for name in NEEDED:
            if not os.path.exists(tool(name)):
                raise SystemExit(f"{tool(name)} is missing; `make benches` builds what a bench needs")
        self.work = tempfile.mkdtemp(prefix="muster-bench-")
        self.ends.callback(shutil.rmtree, self.work, ignore_errors=True)
        tempfile.tempdir = self.work  # servers' directories and logs too
        self.muster = Muster(self.work)
        self.ends.callback(self.muster.remove)
        self.muster.start()
        self.floor = Floor(self.work, self.muster.files)
        self.peers = [] if args.no_peers else [self.peer(p) for p in ["mosquitto=mosquitto"] + args.peer]
        for s in self.others():
            self.ends.callback(s.end)
            s.start()

    def others(self):
        return [self.floor] + self.peers

    def peer(self, text):
        name, _, rest = text.partition("=")
        binary, _, template = rest.partition(":")
        template = template or os.path.join(HERE, "peers", name + ".conf")
        binary = shutil.which(binary)
        if binary is None or not os.path.exists(template):
            raise SystemExit(f"--peer {text}: no such program, or no template {template}")
        return Peer(name, binary, os.path.abspath(template), self.work, self.muster.files)

    def close(self):
        self.ends.close()

    # ---- showing ----

    def show(self, name, title, server, figures):
        self.results.append({"row": name, "title": title, "server": server, **figures})
        print(f"  {server:22} " + "  ".join(f"{k} {number(v)}" for k, v in figures.items()), flush=True)

    def goals(self, name, title, goals, medians):
        for figure, how, value, *against in goals:
            ours, base, text = medians["muster"].get(figure), 1, f"{how} {number(value)}"
            if ours is None:
                self.show(name, title, "goal MISSED", {figure: "no figure"})
                continue
            if how == "times":
                others = [p.name for p in self.peers] if against == ["best peer"] else against
                bases = {o: medians[o][figure] for o in others if o in medians and medians[o].get(figure)}
                if not bases:
                    continue
                best = min(bases, key=bases.get)
                base, text = bases[best], f"at most {value:g} times {best}"
            reached = ours >= value * base if how == "at least" else ours <= value * base
            share = f" ({ours / base:.2f})" if how == "times" else ""
            self.show(name, title, "goal " + ("reached" if reached else "MISSED"), {f"{figure} {text}": number(float(ours)) + share})

    def ratios(self, medians, figure):
        for s in medians:
            if s != "muster" and medians[s].get(figure) and medians["muster"].get(figure):
                medians[s]["Muster/" + s] = round(medians["muster"][figure] / medians[s][figure], 2)

    # ---- loads ----

    def arguments(self, row, server):
        words = dict(row.load)
        size = max(1, int(row.size * self.scale))
        words["cycles" if "cycles" in words else "messages"] = size
        args = options(words) + server.options(row.users, row.kind)
        if row.topic and server is self.muster:
            args += ["--topic", row.topic]
        if row.kind != "plain":
            args += ["--tls", "--ca", self.muster.files["ca"]]
        if row.kind == "mtls":
            args += ["--id", "m%c", "--certs", self.muster.certs]
        return args + ["--port", str(server.ports[row.kind]), "--server-pid", str(server.pid)]

    def measure(self, row, server):
        if server is self.floor:
            server.be(row.kind, row.load.get("resume", False))
        before, start = busy_s(), time.monotonic()
        out = subprocess.run([tool("mqttload"), *self.arguments(row, server)], capture_output=True, text=True, timeout=900, check=True).stdout
        f = json.loads(out)
        wall = time.monotonic() - start
        f["others"] = max(0.0, (busy_s() - before - f["server_cpu_s"] - f["generator_cpu_s"]) / wall / os.cpu_count() * 100)
        return f

    def figures(self, row, runs):
        """Medians, named as they are shown."""
        def mid(fn):
            return float(statistics.median(fn(r) for r in runs))
        work = {"message": lambda r: r["sent"], "delivery": lambda r: r["received"], "connect": lambda r: r["connects"]}[row.per]
        out = {"rate": mid(lambda r: work(r) / r["seconds"] if r["seconds"] else 0)}
        if row.per == "connect":
            if all(r["connects"] for r in runs):
                out["CPU ms"] = mid(lambda r: r["server_cpu_s"] / r["connects"] * 1e3)
            if row.load.get("resume"):
                out["resumed %"] = mid(lambda r: r["resumed"] / max(1, r["connects"]) * 100)
        else:
            out["CPU s/M"] = mid(lambda r: r["server_cpu_s"] / max(1, work(r)) * 1e6)
            if row.load["qos"] > 0:
                out.update({"ack p50 ms": mid(lambda r: r["ack_p50_ms"]), "ack p99 ms": mid(lambda r: r["ack_p99_ms"])})
        if row.load.get("subscribers"):
            out["delivered %"] = mid(lambda r: r["received"] / max(1, r["expected"]) * 100)
        if row.load.get("stamp"):
            out.update({f"delivery {p} ms": mid(lambda r, p=p: r[f"delivery_{p}_ms"]) for p in ("p50", "p99", "p999")})
        if any(r["refused"] or r["lost"] for r in runs):
            out["refused or lost"] = mid(lambda r: r["refused"] + r["lost"])
        out["others %"] = mid(lambda r: r["others"])
        return out

    def row(self, row):
        if row.kind == "mtls":
            self.muster.need_certificates(max(16, int(10_000 * self.scale)))
        elif row.users:
            self.muster.need_devices(row.users)
        servers = [self.muster] + self.peers + ([self.floor] if row.floor else [])
        runs = {s.name: [] for s in servers}
        for turn in range(self.runs):
            for s in servers[turn % len(servers):] + servers[:turn % len(servers)]:
                runs[s.name].append(self.measure(row, s))
        print(row.title, flush=True)
        medians = {s: self.figures(row, r) for s, r in runs.items()}
        self.ratios(medians, "CPU ms" if row.per == "connect" else "CPU s/M")
        for s, figures in medians.items():
            self.show(row.name, row.title, s, figures)
        self.goals(row.name, row.title, row.goals, medians)

    # ---- connections held ----

    def generator(self, *args):
        """A load generator that runs on."""
        p = subprocess.Popen([tool("mqttload"), *args], stdout=subprocess.PIPE, text=True)
        self.ends.callback(lambda: p.poll() is None and p.kill())
        return p

    def hold(self, server, kind, clients, processes):
        """Clients that stay, in so many processes; returns the processes and how many each holds."""
        held = []
        each = clients // processes
        args = server.options(clients, kind)
        for i in range(processes):
            mine = list(args)
            if "--users" in mine:
                part = os.path.join(self.work, f"users.{i}")
                with open(self.muster.users) as f, open(part, "w") as out:
                    out.writelines(f.readlines()[i * each:(i + 1) * each])
                mine[mine.index("--users") + 1] = part
            mine += ["--tls", "--ca", self.muster.files["ca"]] if kind != "plain" else []
            mine += ["--id", "m%c", "--certs", self.muster.certs] if kind == "mtls" else ["--prefix", f"hold{i}-"]
            held.append(self.generator("--hold", "--clients", str(each), "--port", str(server.ports[kind]), "--burst", "100", *mine))
        for p in held:
            json.loads(p.stdout.readline())
        return held

    @staticmethod
    def release(held):
        for p in held:
            p.terminate()
            p.communicate()

    def idle(self, name, title, kind, clients, processes, goal):
        """Memory of a server that has just started, before and with so many connections that say nothing.

        Every client has been there once before, a few at a time: what a server keeps of each client or event anyway, up to a bound,
        is not part of the connection.
        """
        clients = int(clients * self.scale)
        self.muster.need_devices(clients)
        print(title, flush=True)
        medians = {}
        for s in [self.muster] + self.peers:
            s.stop()
            s.start()
            subprocess.run([tool("mqttload"), "--clients", str(clients), "--cycles", str(clients), "--burst", "8", "--port", str(s.ports["plain"]),
                            *s.options(clients, "plain")], check=True, capture_output=True, timeout=600)
            self.release(self.hold(s, kind, min(200, clients // 50), 1))  # few: the memory they leave is used again, and not counted
            time.sleep(1)
            before = memory_kb(s.pid)
            held = self.hold(s, kind, clients, processes)
            time.sleep(2)
            after = memory_kb(s.pid)
            medians[s.name] = {"kB each": (after[0] - before[0]) / clients, "kB each (Pss)": (after[1] - before[1]) / clients, "connections": clients}
            self.release(held)
            self.show(name, title, s.name, medians[s.name])
        self.goals(name, title, (("kB each", "at most", goal),) if goal else (), medians)

    def storm(self):
        """All devices lose the server at once; how long until it has all of them back."""
        title = "storm: 10,000 clients with certificates come back after kill -9"
        clients = int(10_000 * self.scale)
        self.muster.need_certificates(clients)
        print(title, flush=True)
        medians = {}
        for s in [self.muster] + self.peers:
            p = self.generator("--hold", "--reconnect", "--clients", str(clients), "--port", str(s.ports["mtls"]), "--burst", str(clients), "--tls", "--ca",
                               self.muster.files["ca"], "--id", "m%c", "--certs", self.muster.certs)
            json.loads(p.stdout.readline())
            s.kill()
            s.start()
            start = time.monotonic()
            back = select.select([p.stdout], [], [], STORM_S)[0]
            seconds = time.monotonic() - start
            with open(f"/proc/{s.pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            cpu = (int(fields[11]) + int(fields[12])) / TICK
            medians[s.name] = {"seconds": seconds, "CPU ms each": cpu / clients * 1e3} if back else {f"not all back after {STORM_S} s": 1}
            self.release([p])
            self.show("storm", title, s.name, medians[s.name])
        self.goals("storm", title, (("seconds", "at most", 20.0),), medians)

    # ---- the rest of the server ----

    def start_up(self):
        title = "start and size"
        print(title, flush=True)
        with muster.Server() as fresh:
            time.sleep(0.5)
            rss, _ = memory_kb(fresh.process.pid)
            first = fresh.ready_s
            fresh.stop()
            fresh.start()
            figures = {"idle MB": rss / 1024, "start on a new store s": first, "start on an existing store s": fresh.ready_s}
        for p in ("muster", "muster-agent"):
            stripped = f"{self.work}/{p}"
            subprocess.run(["strip", "-o", stripped, tool(p)], check=True)
            figures[f"{p} MB"] = os.path.getsize(stripped) / 1e6
        self.muster.need_devices(self.muster.devices + 1000)
        figures["devices imported/s"] = self.muster.import_rate
        self.show("start", title, "muster", figures)

    def range_query(self):
        """24 h of one series, a point a minute."""
        title = "query: 24 h of one series through the API (1,440 points)"
        print(title, flush=True)
        s = self.muster.server
        s.device("range", "token-of-range-device-0000")
        now_ms = int(time.time() * 1000)
        rng = random.Random(1)
        import mqtt  # noqa: PLC0415 (tests/lib, on the path by servers.py)
        c = mqtt.Client("127.0.0.1", s.ports["mqtt"], client_id="range", username="range", password="token-of-range-device-0000")
        c.connect()
        for first in range(0, 1440, 240):
            batch = [{"ts": now_ms - (1440 - m) * 60000, "values": {"t": round(20 + rng.random(), 2)}} for m in range(first, first + 240)]
            c.publish("$muster/telemetry", json.dumps(batch).encode(), qos=1)
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
        self.show("range", title, "muster", {"p50 ms": times[150], "p99 ms": times[297]})

    def steps(self):
        out = {r.name: (lambda r=r: self.row(r)) for r in ROWS}
        out["idle"] = lambda: self.idle("idle", "memory of an idle connection, plain, 10,000", "plain", 10_000, 1, 2.0)
        out["idle-tls"] = lambda: self.idle("idle-tls", "memory of an idle connection, TLS, 10,000", "tls", 10_000, 1, 12.0)
        out["idle-18000"] = lambda: self.idle("idle-18000", "memory of an idle connection, plain, 18,000 from two processes", "plain", 18_000, 2, 2.0)
        out.update({"storm": self.storm, "start": self.start_up, "range": self.range_query})
        return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--quick", action="store_true", help="a tenth of the load, one run")
    ap.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these rows; a name stands for all that begin with it")
    ap.add_argument("--peer", action="append", default=[], metavar="NAME=BINARY[:TEMPLATE]")
    ap.add_argument("--no-peers", action="store_true")
    ap.add_argument("--json", metavar="FILE", help="every figure shown, for other programs")
    ap.add_argument("--list", action="store_true", help="names of the rows")
    args = ap.parse_args()
    if args.list:
        print("\n".join(f"{r.name:14} {r.title}" for r in ROWS) + "\nidle idle-tls idle-18000 storm start range")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    b = Bench(args)
    try:
        steps = b.steps()
        unknown = [o for o in args.only if not any(n.startswith(o) for n in steps)]
        if unknown:
            raise SystemExit(f"--only {' '.join(unknown)}: no such row; --list shows them")
        for name, step in steps.items():
            if not args.only or any(name.startswith(o) for o in args.only):
                step()
    finally:
        b.close()
        if args.json:
            with open(args.json, "w") as f:
                json.dump(b.results, f, indent=1)


if __name__ == "__main__":
    main()
