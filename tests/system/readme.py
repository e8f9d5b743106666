"""The five-minute tour of README.md, as written: its shell blocks run one after another beside what `make run` starts.

Only the ports are other ones. Every command must succeed, and the output must show what the text promises.
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import muster

PROMISES = [  # a marker in the output of block n
    (1, r"this-machine"), (1, r"cpu\.util"), (1, r"desired\.agent\.interval_s +5"), (1, r"admin +twin\.desired +device +this-machine"),
    (2, r"1 devices imported, 0 lines refused"), (2, r"21\.4"), (2, r"stored\s+1\b"),
    (3, r"pump-1"),
    (4, r"greenhouse/door open"), (4, r"greenhouse/door +\S"),
]


def tour():
    with open(os.path.join(muster.ROOT, "README.md"), encoding="utf-8") as f:
        text = f.read()
    section = re.search(r"^## Five minutes\n(.*?)^## ", text, re.S | re.M).group(1)
    blocks = re.findall(r"^```\n(.*?)^```", section, re.S | re.M)
    assert len(blocks) == 4, f"{len(blocks)} shell blocks; this test knows what four of them promise"
    return blocks


class Run:
    """tools/run.sh, which `make run` calls once everything is built."""

    def __init__(self, directory):
        self.data = os.path.join(directory, "var")
        env = {**os.environ, "MUSTER_DATA": self.data, "MQTTS_PORT": "0", "HTTPS_PORT": "0"}
        self.log = open(os.path.join(directory, "run.log"), "w+b")
        # Ctrl-C must mean something to it, also when the tests run in the background of a shell, which ignores it for them.
        self.process = subprocess.Popen([os.path.join(muster.ROOT, "tools/run.sh")], env=env, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, start_new_session=True,
                                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def text(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def ports(self):
        def shows_this_machine():
            if self.process.poll() is not None:
                raise AssertionError("run.sh has ended\n" + self.text())
            return re.search(r"cpu\.util +[0-9.]+", self.text())
        muster.wait_for("live health of this machine", shows_this_machine, 60)
        return dict(re.findall(r"\b(mqtts|https)=\S+:(\d+)", self.text()))

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        assert code == 0 and "Stopped." in self.text(), f"exit {code}\n{self.text()}"


def run_blocks(directory, ports):
    script = "set -euo pipefail\n"
    for number, block in enumerate(tour(), 1):
        script += f"echo '@@ {number}'\n" + block.replace("localhost:8443", f"localhost:{ports['https']}").replace("-p 8883", f"-p {ports['mqtts']}")
    os.symlink(os.path.join(muster.ROOT, "build"), os.path.join(directory, "build"))
    p = subprocess.run(["bash", "-c", script], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=120, check=False)
    assert p.returncode == 0, f"exit {p.returncode}\n{p.stdout}"
    return dict((int(n), text) for n, text in re.findall(r"^@@ (\d)\n(.*?)(?=^@@ |\Z)", p.stdout, re.S | re.M))


def obeyed(data, ports):
    env = {**os.environ, "MUSTER_URL": f"https://localhost:{ports['https']}", "MUSTER_CA": f"{data}/ca.pem",
           "MUSTER_TOKEN_FILE": f"{data}/admin.token"}
    p = subprocess.run([os.path.join(muster.RELEASE_BIN, "muster"), "twin", "get", "this-machine", "--json"], env=env, capture_output=True,
                       text=True, timeout=30, check=True)
    return json.loads(p.stdout)["reported"].get("agent", {}).get("interval_s") == 5


def main():
    with tempfile.TemporaryDirectory(prefix="muster-readme-") as directory:
        start = time.monotonic()
        run = Run(directory)
        try:
            ports = run.ports()
            print(f"live health after {time.monotonic() - start:.1f} s", flush=True)
            output = run_blocks(directory, ports)
            for number, promise in PROMISES:
                assert re.search(promise, output[number]), f"block {number}: no {promise!r} in\n{output[number]}"
            muster.wait_for("the agent obeys and reports it back", lambda: obeyed(run.data, ports), 15)
        finally:
            if run.process.poll() is None:
                run.stop()
        print(f"{len(output)} blocks, {len(PROMISES)} promises kept", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
