"""Renewal against the real server: with certificates of 60 seconds a device stays connected for longer than one of them lives."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from agent import Agent
from muster import Server, wait_for


def serial(path):
    out = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-serial"], capture_output=True, text=True, check=True).stdout
    return out.strip().split("=")[1].lower()


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    state = base + "/box"
    try:
        with Server(args=["--identity.cert_validity=60s"]) as server:
            token = server.cli_json("claim", "create", "--uses", "1", "--ttl", "10m")["token"]
            with Agent(server.ports["mqtts"], server.ca, state, ["--device", "box"], token=token) as agent:
                agent.start()
                wait_for("enrolled", lambda: os.path.exists(state + "/cert.pem"))
                start, first = time.monotonic(), serial(state + "/cert.pem")
                wait_for("renewed", lambda: serial(state + "/cert.pem") != first and not os.path.exists(state + "/next-cert.pem"), seconds=58, every=0.2)
                assert time.monotonic() - start > 35, "renewed too early"
                states = {c["serial"].lower().lstrip("0"): c["state"] for c in server.api("GET", "/api/v1/certs?device=box")["items"]}
                assert states[serial(state + "/cert.pem").lstrip("0")] == "active" and states[first.lstrip("0")] == "superseded", states
                while time.monotonic() - start < 65:  # the first one has expired
                    time.sleep(0.5)
                n = server.ledger("box")["stored"]
                wait_for("telemetry goes on", lambda: server.ledger("box")["stored"] > n)
                assert server.api("GET", "/api/v1/devices/box/presence")["online"]
                agent.stop()
        print("renewed in time, the old certificate is superseded")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
