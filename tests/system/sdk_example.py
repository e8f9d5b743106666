"""The example of the device SDK is what a user would build: it connects with an access token, sends, and obeys; and it is short."""
import os
import shutil
import subprocess
import sys
import tempfile

from fake_server import FakeServer
from muster import BIN, ROOT, SANITIZE, wait_for


def main():
    with open(os.path.join(ROOT, "examples/device.c")) as f:
        lines = len(f.readlines())
    assert lines < 60, f"examples/device.c has {lines} lines"
    base = tempfile.mkdtemp(prefix="muster-sdk-")
    os.mkdir(base + "/s")
    try:
        with FakeServer(base + "/s") as server:
            server.access_tokens["thermometer"] = "secret"
            server.desired = {"interval_s": 1}
            p = subprocess.Popen([os.path.join(BIN, "muster-device-example"), "localhost", str(server.port), server.ca, "thermometer"],
                                 env={**os.environ, **SANITIZE, "MUSTER_ACCESS_TOKEN": "secret"})
            try:
                wait_for("temperatures", lambda: len(server.points) >= 3)
                device, ts, values, _ = server.points[0]
                assert device == "thermometer" and 20 <= values["temperature"] < 25 and ts > 1.6e12, server.points[0]
                wait_for("the report", lambda: ("thermometer", {"interval_s": 1}) in server.reports)
            finally:
                p.kill()
                p.wait()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"the example works, {lines} lines")


if __name__ == "__main__":
    sys.exit(main())
