"""The agent and the real server: enrolment, health, settings, commands, renewal, revocation; and both killed while apart."""
import os
import re
import shutil
import sys
import tempfile
import time

from agent import Agent
from muster import Server, ledger_adds_up, wait_for

MERGE = {"Content-Type": "application/merge-patch+json"}


def sampled(agent):
    return [int(t) for t in re.findall(r"msg=sample ts=(\d+)", agent.log())]


def twin(server):
    return server.api("GET", "/api/v1/devices/box/twin")


def desire(server, settings):
    server.api("PATCH", "/api/v1/devices/box/twin/desired", {"agent": settings}, headers=MERGE)


def health_and_settings(server, agent):
    wait_for("health", lambda: {"cpu.util", "mem.used", "mem.total", "load.1", "disk.used", "net.rx_bytes", "net.rtt_ms", "uptime"}
             <= set(server.last("box")), seconds=10)
    last = {k: v["value"] for k, v in server.last("box").items()}
    with open("/proc/meminfo") as f:
        total = int(f.readline().split()[1]) * 1024
    assert last["mem.total"] == total and 0 <= last["cpu.util"] <= 100 and 0 < last["mem.used"] < total, last
    with open("/proc/sys/kernel/random/boot_id") as f:
        assert twin(server)["reported"]["boot_id"] == f.read().strip()
    desire(server, {"interval_s": 5, "log_level": "debug", "metrics": ["load.1", "uptime"]})
    wait_for("settings are reported", lambda: twin(server)["delta"] == {})
    desire(server, {"interval_s": 3})
    errors = wait_for("the error is reported", lambda: twin(server)["reported"]["agent"].get("errors"))
    assert errors[0]["setting"] == "interval_s" and twin(server)["reported"]["agent"]["interval_s"] == 5
    desire(server, {"interval_s": 5})
    wait_for("the error is gone", lambda: not twin(server)["reported"]["agent"].get("errors"))
    command = server.api("POST", "/api/v1/devices/box/commands", {"name": "ping", "payload": {}})
    wait_for("the reply", lambda: server.api("GET", f"/api/v1/devices/box/commands/{command['id']}")["reply"])
    assert agent.process.poll() is None


def apart(server, agent):
    """The server is killed; the agent is killed twice meanwhile. Every sample is in the store once, at its original time."""
    server.kill()
    for seconds in (11, 7):
        time.sleep(seconds)
        agent.kill()
        agent.start()
    time.sleep(6)
    server.start()
    wait_for("everything arrives", lambda: set(sampled(agent)) <= {int(p[0]) for p in server.points("box", "uptime")}, seconds=60)
    agent.stop()
    times = [p[0] for p in server.points("box", "uptime", order="asc")]
    assert times == sorted(set(times)), "a point came twice, or out of order"
    assert set(map(int, times)) == set(sampled(agent)), (times, sampled(agent))
    ledger = server.ledger("box")
    assert ledger_adds_up(ledger) and not ledger["refused"], ledger
    return len(times)


def revoked(server, agent):
    agent.start()
    wait_for("online", lambda: server.api("GET", "/api/v1/devices/box/presence")["online"])
    certs = server.api("GET", "/api/v1/certs?device=box")["items"]
    active = [c for c in certs if c["state"] == "active"]
    assert active, certs
    for c in active:
        server.api("POST", f"/api/v1/certs/{c['fingerprint']}/revoke", {})
    wait_for("the agent is told", lambda: re.search(r"cannot connect.* reason=13[45] ", agent.log()), seconds=10)
    assert not server.api("GET", "/api/v1/devices/box/presence")["online"]
    agent.stop()


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    try:
        with Server() as server:
            token = server.cli_json("claim", "create", "--uses", "1", "--ttl", "10m")["token"]
            with Agent(server.ports["mqtts"], server.ca, base + "/box", ["--device", "box"], token=token) as agent:
                agent.start()
                wait_for("the device is there", lambda: server.request("GET", "/api/v1/devices/box")[0] == 200)
                health_and_settings(server, agent)
                n = apart(server, agent)
                revoked(server, agent)
            print(f"{n} samples, each stored once; settings, commands and revocation hold")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
