"""make bench: one row in small, and that nothing is left behind after it, nor after a program that fails in the middle, nor after SIGTERM."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import muster

BENCH = os.path.join(muster.ROOT, "tests/bench/bench.py")
ROW = ("--quick", "--no-peers", "--only", "connect-tls")


def programs_of(folder):
    """Processes whose program lies in this folder."""
    out = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe").startswith(folder + "/"):
                out.append(int(pid))
        except OSError:
            pass
    return out


class Place:
    """A folder of programs and one for temporary files, each of one run only: what is left in them was left by it."""

    def __init__(self, work, name):
        self.bin, self.tmp = os.path.join(work, name, "bin"), os.path.join(work, name, "tmp")
        os.makedirs(self.bin)
        os.mkdir(self.tmp)
        for program in ("muster", "muster-agent", "mqttload", "floor", "certs"):
            shutil.copy(os.path.join(muster.BIN, program), self.bin)
        self.env = {**os.environ, **muster.SANITIZE, "MUSTER_BIN": self.bin, "TMPDIR": self.tmp}

    def replace(self, program, text):
        os.unlink(os.path.join(self.bin, program))
        with open(os.path.join(self.bin, program), "w") as f:
            f.write(text)
        os.chmod(f.name, 0o755)

    def start(self):
        return subprocess.Popen([sys.executable, BENCH, *ROW, "--json", os.path.join(self.tmp, "figures.json")], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def left(self):
        return programs_of(self.bin), [n for n in os.listdir(self.tmp) if n != "figures.json"]


def one_row(work):
    place = Place(work, "good")
    p = place.start()
    out = p.communicate(timeout=120)[0]
    assert p.returncode == 0 and place.left() == ([], []), (p.returncode, place.left(), out)
    with open(os.path.join(place.tmp, "figures.json")) as f:
        figures = {r["server"]: r for r in json.load(f)}
    assert figures["muster"]["CPU ms"] > 0 and figures["floor"]["CPU ms"] > 0, figures


def a_failure(work, program, text):
    place = Place(work, f"failing-{program}")
    place.replace(program, text)
    p = place.start()
    out = p.communicate(timeout=120)[0]
    assert p.returncode != 0 and place.left() == ([], []), (p.returncode, place.left(), out)


def a_program_is_missing(work):
    place = Place(work, "missing")
    os.unlink(os.path.join(place.bin, "floor"))
    p = place.start()
    out = p.communicate(timeout=120)[0]
    assert p.returncode == 1 and "make benches" in out and place.left() == ([], []), (p.returncode, place.left(), out)


def ended_by_signal(work):
    place = Place(work, "signal")
    place.replace("mqttload", "#!/bin/sh\nexec sleep 5\n")
    p = place.start()
    muster.wait_for("the floor to run", lambda: len(programs_of(place.bin)) == 2, 30)
    time.sleep(1)
    p.send_signal(signal.SIGTERM)
    out = p.communicate(timeout=30)[0]
    assert p.returncode == 143 and place.left() == ([], []), (p.returncode, place.left(), out)


def main():
    work = tempfile.mkdtemp(prefix="muster-bench-test-")
    try:
        one_row(work)
        a_failure(work, "mqttload", "#!/bin/sh\nexit 3\n")
        a_failure(work, "floor", "#!/bin/sh\nexit 3\n")
        a_program_is_missing(work)
        ended_by_signal(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
