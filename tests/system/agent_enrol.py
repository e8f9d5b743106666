"""First start to certificate: crashes on the way, wrong tokens, refusals; the claim token stays out of sight."""
import os
import random
import shutil
import stat
import sys
import tempfile
import time

from agent import Agent
from fake_server import FakeServer
from muster import wait_for


def no_claim(server, base):
    a = Agent(server.port, server.ca, base + "/noclaim").start()
    a.wait(expect=2)
    assert "this device is not enrolled yet" in a.log(), a.log()
    a = Agent(server.port, server.ca, base + "/noclaim", ["--claim-file", "/nonexistent"]).start()
    a.wait(expect=2)
    assert "cannot open /nonexistent" in a.log()


def enrols(server, base):
    with Agent(server.port, server.ca, base + "/plain", ["--device", "plain", "--model", "M 1"], token="claim-token") as a:
        a.start()
        with open(f"/proc/{a.process.pid}/environ", "rb") as f, open(f"/proc/{a.process.pid}/cmdline", "rb") as g:
            wait_for("enrolled", lambda: ("plain", 0) in [c[:2] for c in server.connects])
            f.seek(0)
            assert b"claim-token" not in f.read() + g.read(), "the claim token can be seen from outside"
        wait_for("first sample", lambda: any(p[0] == "plain" for p in server.points))
        topic, request = server.requests[-1]
        assert topic == "$muster/provision/request" and request["device"] == "plain" and request["model"] == "M 1", request
        assert stat.S_IMODE(os.stat(base + "/plain/key.pem").st_mode) == 0o600
        assert stat.S_IMODE(os.stat(base + "/plain").st_mode) == 0o700
        other = Agent(server.port, server.ca, base + "/plain").start()
        other.log_path = a.log_path
        other.wait(expect=1)
        assert "another muster-agent uses" in a.log()
        a.stop()
        assert "claim-token" not in a.log()
    with Agent(server.port, server.ca, base + "/plain", ["--once"]) as a:  # no claim needed any more
        before = len(server.points)
        a.start()
        a.wait()
        assert len(server.points) > before


def claim_from_file(server, base):
    path = base + "/claim"
    with open(path, "w") as f:
        f.write("  \nwrong")
    a = Agent(server.port, server.ca, base + "/file", ["--claim-file", path, "--once"]).start()
    a.wait(expect=2)  # an empty first word is no token
    with open(path, "w") as f:
        f.write("claim-token\n")
    with Agent(server.port, server.ca, base + "/file", ["--claim-file", path, "--once"]) as a:
        a.start()
        a.wait()
    assert server.connects[-1][0] == "made-up-1"  # no --device: the server's choice


def refused(server, base):
    server.refuse_enrol = ("limit", "the claim has no uses left")
    with Agent(server.port, server.ca, base + "/refused", ["--device", "refused"], token="claim-token") as a:
        a.start()
        wait_for("the refusal is logged", lambda: "the claim has no uses left" in a.log())
        assert a.process.poll() is None
        server.refuse_enrol = None
        wait_for("enrolled after the refusal", lambda: ("refused", 0) in [c[:2] for c in server.connects], seconds=30)
        a.stop()
    with Agent(server.port, server.ca, base + "/wrong", ["--device", "wrong"], token="not-the-token") as a:
        a.start()
        wait_for("two attempts", lambda: a.log().count("cannot connect") >= 2, seconds=30)
        assert "wrong user name, password or certificate" in a.log() and not os.path.exists(base + "/wrong/cert.pem")
        a.stop()


def wrong_server(base):
    """A server of another CA, and one with another name, get nothing: no claim token, no bytes of MQTT."""
    os.mkdir(base + "/evil")
    with FakeServer(base + "/evil") as evil:
        for ca, host in ((base + "/s/ca.pem", "localhost"), (evil.ca, "127.0.0.2")):
            with Agent(evil.port, ca, base + "/victim", token="claim-token", host=host) as a:
                a.start()
                wait_for("refusal", lambda: "cannot connect" in a.log())
                a.kill()
        evil_port = evil.port
        assert not evil.connects, (evil_port, evil.connects)


def crashes(server, base):
    """kill -9 at random moments of the first second, until a run is left alone: always ends enrolled, with one key."""
    rng = random.Random(7)
    for device in range(3):
        state = f"{base}/crash{device}"
        for _ in range(8):
            a = Agent(server.port, server.ca, state, ["--device", f"crash{device}"], token="claim-token").start()
            time.sleep(rng.uniform(0.01, 0.5))
            a.kill()
        with Agent(server.port, server.ca, state, ["--device", f"crash{device}", "--once"], token="claim-token") as a:
            a.start()
            a.wait()
        keys = {r["csr"] for _, r in server.requests if r.get("device") == f"crash{device}"}
        assert keys, "nobody asked for a certificate"
        left = [n for n in os.listdir(state) if n.startswith("next-") or n.endswith(".tmp")]
        assert not left, left


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    os.mkdir(base + "/s")
    try:
        with FakeServer(base + "/s") as server:
            no_claim(server, base)
            enrols(server, base)
            claim_from_file(server, base)
            refused(server, base)
            wrong_server(base)
            crashes(server, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print("enrolment holds")


if __name__ == "__main__":
    sys.exit(main())
