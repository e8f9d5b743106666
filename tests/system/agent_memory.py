"""The optimised agent stays under 6 MB of resident memory while it works; its threads and descriptors are few."""
import os
import shutil
import sys
import tempfile
import time

from agent import Agent
from fake_server import FakeServer
from muster import wait_for


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    os.mkdir(base + "/s")
    try:
        with FakeServer(base + "/s") as server, Agent(server.port, server.ca, base + "/state", ["--device", "d"], token="claim-token", release=True) as a:
            server.desired = {"agent": {"interval_s": 5}}
            a.start()
            wait_for("a sample", lambda: server.points, seconds=20)
            worst = 0
            for _ in range(24):
                worst = max(worst, a.status_kb("VmRSS"))
                time.sleep(0.5)
            threads = a.status_kb("Threads")
            fds = len(os.listdir(f"/proc/{a.process.pid}/fd"))
            peak = a.status_kb("VmHWM")
            assert worst * 1024 < 6_000_000, f"{worst} kB resident"
            assert peak * 1024 < 7_500_000, f"{peak} kB at the peak (enrolment and handshake)"
            assert threads == 1 and fds < 16, (threads, fds)
            server.close()  # offline: one failed attempt after the other
            for _ in range(12):
                time.sleep(0.5)
                worst = max(worst, a.status_kb("VmRSS"))
            assert worst * 1024 < 6_000_000, f"{worst} kB resident while offline"
            a.stop()
        print(f"resident {worst} kB, peak {peak} kB, {threads} thread, {fds} descriptors")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
