#!/usr/bin/env python3
"""Every numbered statement of MQTT 3.1.1 and 5.0 that binds a server, shown on a running server.

    tests/wire/run.py                          all cases against muster
    tests/wire/run.py 'session' -v             those with this in their name, file or statements, each one named
    tests/wire/run.py --server mosquitto       against the oracle of the test data
    tests/wire/run.py --summary                the table of docs/conformance.md, which must be up to date

The cases are in tests/wire/conformance/*.wire (tests/lib/conversation.py says how they are written), the statements in
statements_311.txt and statements_5.txt: number | server, client or none | what it asks for | why it is not tested. The run fails
when a statement that binds the server has no case, when a case names an unknown statement, or when a case fails.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import conversation  # noqa: E402
import muster  # noqa: E402
from conversation import Mismatch  # noqa: E402

FILES = {4: "statements_311.txt", 5: "statements_5.txt"}
TITLES = {4: "MQTT 3.1.1", 5: "MQTT 5.0"}
JOBS = 24  # cases at one time: they wait most of the time


def statements(version):
    """{number: (who, paraphrase, reason)}."""
    out = {}
    with open(os.path.join(HERE, "conformance", FILES[version]), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if not line.strip() or line.startswith("#"):
                continue
            parts = [p.strip() for p in line.split("|")]
            if len(parts) not in (3, 4) or parts[1] not in ("server", "client", "none") or (parts[1] == "none") != (len(parts) == 4):
                raise ValueError(f"{FILES[version]}:{number}: {line.strip()}")
            if parts[0] in out:
                raise ValueError(f"{FILES[version]}:{number}: {parts[0]} twice")
            out[parts[0]] = tuple(parts[1:]) + ("",) * (4 - len(parts))
    return out


def coverage(cases, known):
    """What is wrong with the statements: a list of sentences."""
    wrong = []
    for version, table in known.items():
        named = {s for c in cases for s in c.covers.get(version, [])}
        wrong += [f"{TITLES[version]} has no statement {s}" for s in sorted(named - set(table))]
        wrong += [f"{TITLES[version]} [MQTT-{s}] has no case" for s in table if table[s][0] == "server" and s not in named]
        wrong += [f"{TITLES[version]} [MQTT-{s}] is listed as not tested, but has a case" for s in table
                  if table[s][0] == "none" and s in named]
    return wrong


class Muster:
    """Our server, with a policy for clients that show no credential."""

    name, tells_why, abilities = "muster", True, {"ws", "scram"}

    def __init__(self, env=None, no_subscribe=("denied/#",), no_publish=("nopublish/#",)):
        policy = {"id": "wire", "document": {"statements": [
            {"effect": "allow", "actions": ["publish", "subscribe", "receive", "retain"], "topics": ["#"]},
            {"effect": "deny", "actions": ["subscribe"], "topics": list(no_subscribe)},
            {"effect": "deny", "actions": ["publish"], "topics": list(no_publish)}]}}
        self.server = muster.Server(env={"MUSTER_MQTT_ANONYMOUS": policy["id"], **(env or {})})
        try:
            self.server.api("POST", "/api/v1/policies", policy)
        except BaseException:
            self.close()
            raise

    def credentials(self, case):
        """(user name, password) of a device for this case alone: a device has one connection."""
        self.server.device(f"device-{case}")
        return f"device-{case}", self.server.api("PUT", f"/api/v1/devices/device-{case}/password", {})["password"]

    @property
    def port(self):
        return self.server.ports["mqtt"]

    @property
    def ws_port(self):
        return self.server.ports["http"]

    def start(self):
        self.server.start()

    def restart(self):
        self.server.kill()
        self.server.start()

    def alive(self):
        return self.server.process.poll() is None

    def log(self):
        return self.server.log()

    def findings(self):
        """What the sanitizers have said, also in servers that were killed since."""
        return [line for line in self.log().splitlines() if re.search(r"(Address|Leak|Thread)Sanitizer:|runtime error:", line)]

    def close(self):
        self.server.__exit__(None, None, None)


class Mosquitto:
    """Debian's mosquitto: what the test data was written against."""

    name, tells_why, abilities = "mosquitto", False, {"ws"}

    def __init__(self, conf=("max_keepalive 600",), acl=("topic readwrite #", "topic deny denied/#", "topic deny nopublish/#")):
        self.dir = tempfile.mkdtemp(prefix="wire-mosquitto-")
        self.port, self.ws_port = muster.free_port(), muster.free_port()
        with open(os.path.join(self.dir, "acl"), "w", encoding="utf-8") as f:
            f.write("".join(line + "\n" for line in acl))
        with open(os.path.join(self.dir, "conf"), "w", encoding="utf-8") as f:
            f.write(f"listener {self.port} 127.0.0.1\nlistener {self.ws_port} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"
                    f"persistence true\npersistence_location {self.dir}/\nuser root\nlog_dest file {self.dir}/log\n"
                    f"acl_file {self.dir}/acl\n" + "".join(line + "\n" for line in conf))
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", os.path.join(self.dir, "conf")],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                conversation.Tcp(self).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def alive(self):
        return self.process.poll() is None

    def restart(self):
        self.process.terminate()  # it keeps its sessions only when it ends in peace
        self.process.wait(10)
        self.start()

    @staticmethod
    def findings():
        return []

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.dir)


SERVERS = {"muster": Muster, "mosquitto": Mosquitto}


def play(job, server, restarts, watch):
    """(case, version, None or what went wrong, seconds)."""
    number, case, version = job
    start, wrong = time.monotonic(), None
    try:
        conversation.Play(case, version, server, number, restarts.arrive if restarts else None).run()
    except Mismatch as e:
        wrong = str(e)
        watch.look(f"{case} [{version}]")
    finally:
        if restarts:
            restarts.leave()
    return case, version, wrong, time.monotonic() - start


class Watch:
    """Brings a server back that has died during a case, so that the others can be played; each death is a finding."""

    def __init__(self, server):
        self.server, self.lock, self.deaths = server, threading.Lock(), []

    def look(self, during):
        with self.lock:
            if not self.server.alive() and len(self.deaths) < 20:
                self.deaths.append(during)
                print(f"the server has died about the time of {during}\n{self.server.log()[-6000:]}", flush=True)
                self.server.start()


def run(cases, server, on_result):
    """Plays every case in each of its versions: first those that leave the server alone, then those that restart it. The number of times
    the server has died."""
    watch = Watch(server)
    jobs = [(i, c, v) for i, c in enumerate(cases) for v in sorted(c.covers) if c.needs <= server.abilities]
    quiet, loud = [j for j in jobs if not j[1].restarts()], [j for j in jobs if j[1].restarts()]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for result in pool.map(lambda j: play(j, server, None, watch), quiet):
            on_result(*result)
    if loud:
        restarts = conversation.Restarts(len(loud), server.restart)
        with concurrent.futures.ThreadPoolExecutor(len(loud)) as pool:
            for result in pool.map(lambda j: play(j, server, restarts, watch), loud):
                on_result(*result)
    return len(watch.deaths)


def chapter(number):
    """3.1.2-4 belongs to 3.1; 4.3.3-1 to 4.3; 6.0.0-1 to 6."""
    parts = number.split("-")[0].split(".")
    return parts[0] if parts[0] in "1267" else ".".join(parts[:2])


def summary(cases, known):
    """A table in Markdown: statements by chapter, and how many of them are shown by how many cases."""
    lines = ["| version | section | statements | shown | client only | not testable | cases |", "|---|---|---|---|---|---|---|"]
    for version, table in known.items():
        named = {s: sum(s in c.covers.get(version, []) for c in cases) for s in table}
        rows = sorted({chapter(s) for s in table}, key=lambda c: [int(x) for x in c.split(".")])
        for row in rows + ["all"]:
            of = [s for s in table if row in ("all", chapter(s))]
            shown = [s for s in of if named[s]]
            count = sum(any(s in c.covers.get(version, []) for s in of) for c in cases)
            client = sum(table[s][0] == "client" and not named[s] for s in of)
            none = sum(table[s][0] == "none" for s in of)
            lines.append(f"| {TITLES[version]} | {row} | {len(of)} | {len(shown)} | {client} | {none} | {count} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Conformance of an MQTT server, statement by statement.")
    parser.add_argument("pattern", nargs="*", help="only cases with one of these in file, title or statements")
    parser.add_argument("--server", choices=SERVERS, default="muster")
    parser.add_argument("--summary", action="store_true", help="print the table by chapter and end")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every case")
    args = parser.parse_args(argv)
    cases = [c for path in sorted(glob.glob(os.path.join(HERE, "conformance", "*.wire"))) for c in conversation.load(path)]
    known = {v: statements(v) for v in FILES}
    wrong = coverage(cases, known)
    if args.summary:
        print(summary(cases, known))
        return 1 if wrong else 0
    with open(os.path.join(muster.ROOT, "docs/conformance.md"), encoding="utf-8") as f:
        if summary(cases, known) not in f.read():
            wrong.append("docs/conformance.md has not the table that --summary prints")
    if args.pattern:
        cases = [c for c in cases if any(re.search(p, f"{c} {' '.join(s for x in c.covers.values() for s in x)}") for p in args.pattern)]
        wrong = []
    start, count = time.monotonic(), {"ok": 0, "failed": 0, "differs": 0}

    def on_result(case, version, error, seconds):
        verdict = "ok" if not error else "differs" if server.name in case.differs else "failed"
        if not error and server.name == "muster" and server.name in case.differs:
            verdict, error = "failed", f"{case}: is said to differ, but does not"
        count[verdict] += 1
        if verdict == "failed" or args.verbose:
            print(f"{verdict:7} [{version}] {case}  ({seconds:.1f} s)" + (f"\n    {error}" if error else ""), flush=True)

    server = SERVERS[args.server]()
    try:
        deaths = run(cases, server, on_result)
        wrong += server.findings()
    finally:
        server.close()
    for line in wrong:
        print("FAIL", line)
    print(f"{count['ok']} passed, {count['failed']} failed, {count['differs']} known to differ; {len(wrong)} other findings; "
          f"{deaths} deaths of the server; "
          f"{time.monotonic() - start:.1f} s")
    return 1 if count["failed"] or wrong or deaths or not count["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
