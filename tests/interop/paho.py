"""Runs Paho's client_test.py (3.1.1) and client_test5.py (5.0) as they are, each in a process of its own, and prints every case's result.

The suite wants a server with a plain port and clients without credentials, a maximum keep-alive of 60 s, and one filter,
test/nosubscribe, that nobody may subscribe to. It has its topics and ports as options of its main program, so it is run as that. The
exit status is 0 when every case passes or stands in docs/conformance.md with its reason.
"""
import argparse
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "wire"))
SUITES = {"client_test.py": "MQTT 3.1.1", "client_test5.py": "MQTT 5.0"}
CASE_TIMEOUT_S = 60


class Recorder(unittest.TextTestResult):
    """Writes a line of JSON for each case to the file named in PAHO_RESULTS."""

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()

    def write(self, test, verdict, error=None):
        line = str(error[1]).strip().split("\n")[0] if error else ""
        with open(os.environ["PAHO_RESULTS"], "a", encoding="utf-8") as f:
            f.write(json.dumps({"case": test.id().split(".")[-1], "verdict": verdict, "seconds": round(time.monotonic() - self.started, 1),
                                "error": f"{type(error[1]).__name__}: {line}" if error else ""}) + "\n")

    def addSuccess(self, test):
        super().addSuccess(test)
        self.write(test, "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.write(test, "failed", err)

    def addError(self, test, err):
        super().addError(test, err)
        if isinstance(test, unittest.TestCase):
            self.write(test, "failed", err)


def child(script, port, cases):
    """Inside the suite's own process: its main program, with our recorder in the place of the printing one."""
    os.chdir(os.path.dirname(script))
    sys.path.insert(0, os.path.dirname(script))
    original = unittest.main
    argv = [os.path.basename(script)] + [f"Test.{c}" for c in cases]
    runner = unittest.TextTestRunner(resultclass=Recorder, verbosity=2)
    unittest.main = lambda *a, **kw: original(argv=argv, testRunner=runner, exit=False)
    sys.argv = [script, "-p", str(port)]
    runpy.run_path(script, run_name="__main__")


def run_until_stuck(script, port, cases, log):
    """Results of these cases up to the end, or up to one that does not end."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as results:
        env = {**os.environ, "PAHO_RESULTS": results.name}
        process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--child", script, str(port), *cases], env=env, stdout=log,
                                   stderr=subprocess.STDOUT)
        size, since = 0, time.monotonic()
        while process.poll() is None and time.monotonic() - since < CASE_TIMEOUT_S:
            time.sleep(0.1)
            now = os.path.getsize(results.name)
            size, since = (now, time.monotonic()) if now != size else (size, since)
        if process.poll() is None:
            process.kill()
            process.wait()
        return [json.loads(line) for line in results]


def run_suite(script, port, cases, log):
    """{case: result}; a case that does not end is one that failed, and the others go on without it."""
    out, left = {}, list(cases)
    while left:
        out.update({r["case"]: r for r in run_until_stuck(script, port, left, log)})
        stuck = next((c for c in left if c not in out), None)
        if stuck:
            out[stuck] = {"verdict": "failed", "seconds": CASE_TIMEOUT_S, "error": f"does not end within {CASE_TIMEOUT_S} s"}
        left = [c for c in left if c not in out]
    return out


def known_cases(script):
    with open(script, encoding="utf-8") as f:
        return [line.split("def ")[1].split("(")[0] for line in f if line.startswith("    def test")]


def listed():
    """The cases that docs/conformance.md says muster fails, with the reasons: {(version, case)}."""
    with open(os.path.join(HERE, "..", "..", "docs", "conformance.md"), encoding="utf-8") as f:
        return {tuple(m) for m in re.findall(r"^\| (MQTT [\d.]+) \| (\w+) \| failed \|", f.read(), re.M)}


def start(name):
    import run
    if name == "mosquitto":
        return run.Mosquitto(["max_keepalive 60"], ["topic readwrite #", "topic deny test/nosubscribe"])
    return run.Muster({"MUSTER_MQTT_KEEP_ALIVE_MAX": "60s"}, ["test/nosubscribe"])


def main():
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser(prog="paho.sh", description="Paho's interoperability suite against a server started for it.")
    parser.add_argument("dir", help="a checkout of github.com/eclipse/paho.mqtt.testing")
    parser.add_argument("server", nargs="?", choices=("muster", "mosquitto"), default="muster")
    parser.add_argument("case", nargs="*", help="only these cases")
    parser.add_argument("--table", action="store_true", help="as a table in Markdown, for docs/conformance.md")
    parser.add_argument("--log", default=os.devnull, help="the suite's own output goes here")
    args = parser.parse_args()
    failed = passed = known = 0
    expected = listed() if args.server == "muster" else set()
    server = start(args.server)
    try:
        with open(args.log, "w", encoding="utf-8") as log:
            for name, title in SUITES.items():
                script = os.path.abspath(os.path.join(args.dir, "interoperability", name))
                if not os.path.exists(script):
                    parser.error(f"{script} does not exist: DIR is not a checkout of paho.mqtt.testing")
                cases = [c for c in known_cases(script) if not args.case or c in args.case]
                if not cases:
                    continue
                results = run_suite(script, server.port, cases, log)
                for case in cases:
                    r = results[case]
                    if r["verdict"] == "passed":
                        passed += 1
                    elif (title, case) in expected:
                        known += 1
                    else:
                        failed += 1
                    line = f"| {title} | {case} | {r['verdict']} | {r['error']} |" if args.table else \
                        f"{r['verdict']:7} {title} {case} ({r['seconds']} s)  {r['error']}"
                    print(line, flush=True)
    finally:
        server.close()
    print(f"{passed} passed, {failed} failed, {known} listed in docs/conformance.md")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
