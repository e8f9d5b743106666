"""Renewal at two thirds of a certificate's life: new key, confirmed by using it; a refusal or a bad new certificate keeps the old one."""
import os
import shutil
import subprocess
import sys
import tempfile

from agent import Agent
from fake_server import FakeServer
from muster import wait_for


def serial(path):
    out = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-serial"], capture_output=True, text=True, check=True).stdout
    return out.strip().split("=")[1].lower()


def read(path):
    with open(path) as f:
        return f.read()


def main():
    base = tempfile.mkdtemp(prefix="muster-agent-")
    os.mkdir(base + "/s")
    state = base + "/state"
    try:
        with FakeServer(base + "/s", cert_seconds=18) as server, Agent(server.port, server.ca, state, ["--device", "d"], token="claim-token") as a:
            a.start()
            wait_for("enrolled", lambda: os.path.exists(state + "/cert.pem"))
            first_key, first = read(state + "/key.pem"), serial(state + "/cert.pem")
            wait_for("renewed", lambda: serial(state + "/cert.pem") != first and not os.path.exists(state + "/next-cert.pem"), seconds=20)
            assert server.requests[-1][0] == "$muster/provision/renew", server.requests[-1]
            assert read(state + "/key.pem") != first_key, "the key is the old one"
            assert not os.path.exists(state + "/next-key.pem")
            wait_for("the new certificate is used", lambda: server.connects[-1][2] == serial(state + "/cert.pem"))

            # A kill in the middle of the next renewal: the request is made again after the start, on the same pair of keys.
            server.cert_seconds = 3600
            second = serial(state + "/cert.pem")
            wait_for("renewal begins", lambda: os.path.exists(state + "/next-key.pem"), seconds=20, every=0.001)
            a.kill()
            a.start()
            wait_for("renewed after the kill", lambda: serial(state + "/cert.pem") != second and not os.path.exists(state + "/next-key.pem"), seconds=20)
            a.stop()

        # The server refuses; the agent stays on its certificate and goes on working.
        with FakeServer(base + "/s", cert_seconds=60) as server, Agent(server.port, server.ca, base + "/two", ["--device", "e"], token="claim-token") as a:
            a.start()
            wait_for("enrolled", lambda: ("e", 0) in [c[:2] for c in server.connects])
            server.refuse_enrol = ("limit", "not now")
            wait_for("refusal is logged", lambda: "the server refused the renewal" in a.log(), seconds=50)
            assert not os.path.exists(base + "/two/next-key.pem")
            server.refuse_enrol = None
            old = serial(base + "/two/cert.pem")
            # The next one is signed, but nobody will accept it.
            sign = server.sign

            def sign_and_revoke(csr, device):
                pem = sign(csr, device)
                path = base + "/revoked.pem"
                with open(path, "w") as f:
                    f.write(pem)
                server.revoked.add(serial(path))
                return pem

            server.sign = sign_and_revoke
            server.cert_seconds = 3600
            wait_for("back on the old one", lambda: "going back to the old one" in a.log(), seconds=60)
            wait_for("online with it", lambda: server.connects[-1][1:] == (0, old), seconds=10)
            a.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print("renewal holds")


if __name__ == "__main__":
    sys.exit(main())
