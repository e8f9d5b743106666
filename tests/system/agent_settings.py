"""Desired settings are obeyed, reported back, and still in force after a restart without the server; commands are answered."""
import os
import shutil
import sys
import tempfile

from agent import Agent
from fake_server import FakeServer
from muster import wait_for


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    os.mkdir(base + "/s")
    try:
        with FakeServer(base + "/s") as server, Agent(server.port, server.ca, base + "/state", ["--device", "d"], token="claim-token") as a:
            a.start()
            first = wait_for("facts", lambda: server.reports and server.reports[0][1])
            assert first["agent"]["version"] and first["agent"]["interval_s"] == 10 and first["agent"]["errors"] is None, first
            for fact in ("os", "kernel", "arch", "boot_id", "hostname"):
                assert first[fact], first
            assert first["cpu"]["cores"] == os.cpu_count()
            server.push({"agent": {"interval_s": 5, "metrics": ["load.*", "uptime"], "log_level": "warn"}})
            wait_for("settings are reported", lambda: server.reports[-1][1]["agent"]["metrics"] == ["load.*", "uptime"])
            n = len(server.points)
            wait_for("a sample with the new set", lambda: len(server.points) > n and set(server.points[-1][2]) == {"load.1", "load.5", "load.15", "uptime"})
            server.push({"agent": {"interval_s": 1, "metrics": ["load.*", "uptime"], "log_level": "debug"}})
            report = wait_for("the error is reported", lambda: server.reports[-1][1]["agent"]["errors"] and server.reports[-1][1])
            assert report["agent"]["interval_s"] == 5 and report["agent"]["errors"] == [
                {"setting": "interval_s", "error": "must be a whole number of seconds from 5 to 86400"}], report
            assert report["agent"]["log_level"] == "debug"

            server.command("d", "ping", {})
            wait_for("ping is answered", lambda: ("$muster/command/1/reply", {"agent": first["agent"]["version"]}) in server.replies)
            server.command("d", "explode", {}, "2")
            wait_for("unknown commands are refused", lambda: any(t.endswith("/2/reply") and r["error"]["code"] == "unsupported" for t, r in server.replies))
            n = len(server.points)
            server.command("d", "sample", {}, "3")
            wait_for("a sample on demand", lambda: len(server.points) > n, seconds=3)
            a.stop()

            # The server says nothing about settings now: those of before hold.
            server.desired, server.answer_twin = {}, False
            a.start()
            n = len(server.points)
            wait_for("a sample after the restart", lambda: len(server.points) > n)
            assert set(server.points[-1][2]) == {"load.1", "load.5", "load.15", "uptime"}, server.points[-1]
            # They were taken back while the agent was away: it asks, and is back at the defaults.
            server.answer_twin = True
            server.drop_all()
            wait_for("defaults are reported", lambda: server.reports[-1][1]["agent"]["metrics"] == ["*"])
            # A connection later there is nothing new to report.
            n = len(server.reports)
            server.drop_all()
            c = len(server.connects)
            wait_for("connected again", lambda: len(server.connects) > c)
            server.command("d", "sample", {}, "4")
            wait_for("the answer", lambda: any(t.endswith("/4/reply") for t, _ in server.replies) or server.command("d", "sample", {}, "4"), every=0.5)
            assert len(server.reports) == n, server.reports[n:]
            a.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print("settings and commands hold")


if __name__ == "__main__":
    sys.exit(main())
