"""Nothing is missing, nothing is out of order, times are original: with the server away, answers held back or refused, and the agent killed."""
import os
import re
import shutil
import sys
import tempfile
import time

from agent import Agent
from fake_server import FakeServer
from muster import wait_for


def sampled(agent):
    """The times of all samples, from the agent's own log."""
    return [int(t) for t in re.findall(r"msg=sample ts=(\d+)", agent.log())]


def check(server, agent):
    """Every sample but one that a kill -9 may have cut short is there, in order; what came twice is marked as a repeat."""
    seen = [(ts, dup) for _, ts, _, dup in server.points]
    first = []
    for ts, dup in seen:
        if ts in first:
            assert dup, f"{ts} came twice and the second is not marked"
        else:
            first.append(ts)
    assert first == sorted(first), "out of order"
    missing = set(sampled(agent)) - set(first)
    assert not missing, f"missing: {missing}"
    return len(first), len(seen)


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    os.mkdir(base + "/s")
    try:
        server = FakeServer(base + "/s")
        port = server.port
        server.desired = {"agent": {"interval_s": 5}}
        with Agent(port, server.ca, base + "/state", ["--device", "d"], token="claim-token") as a:
            a.start()
            wait_for("the interval is taken", lambda: any(r[1].get("agent", {}).get("interval_s") == 5 for r in server.reports))
            wait_for("a sample", lambda: server.points)

            # The server is away; the agent is killed twice meanwhile.
            points = server.points
            server.close()
            for seconds in (11, 6):
                time.sleep(seconds)
                a.kill()
                a.start()
            offline = len(sampled(a))
            assert offline >= 4, offline
            server = FakeServer(base + "/s", port=port)
            server.points = points
            server.hold_acks = True  # received, never answered: all come again
            wait_for("everything arrives", lambda: {p[1] for p in server.points} >= set(sampled(a)[:offline]), seconds=30)
            a.kill()
            server.hold_acks = False
            server.drop_after = 2  # the answer to the second message is lost with the connection
            a.start()
            wait_for("everything again", lambda: server.drop_after is None and {p[1] for p in server.points} >= set(sampled(a)), seconds=40)
            server.refuse = [0x97]  # quota: for the time being
            n = len(sampled(a))
            wait_for("the refused one comes again", lambda: len(sampled(a)) > n + 1 and {p[1] for p in server.points} >= set(sampled(a)), seconds=60)
            a.stop()
            distinct, total = check(server, a)
            assert total > distinct
        server.close()
        print(f"{distinct} samples, {total - distinct} repeats, none missing")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
