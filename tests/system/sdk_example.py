"""The example of the device SDK is what a user would build: it connects with an access token, sends, and obeys; and it is short."""
import os
import subprocess
import sys

from muster import BIN, ROOT, SANITIZE, Server, wait_for


def main():
    with open(os.path.join(ROOT, "examples/device.c")) as f:
        lines = len(f.readlines())
    assert lines < 60, f"examples/device.c has {lines} lines"
    with Server() as server:
        server.device("thermometer", "secret-token")
        server.api("PATCH", "/api/v1/devices/thermometer/twin/desired", {"interval_s": 1}, headers={"Content-Type": "application/merge-patch+json"})
        command = [os.path.join(BIN, "muster-device-example"), "localhost", str(server.ports["mqtts"]), server.ca, "thermometer"]
        p = subprocess.Popen(command, env={**os.environ, **SANITIZE, "MUSTER_ACCESS_TOKEN": "secret-token"})
        try:
            wait_for("temperatures", lambda: len(server.points("thermometer", "temperature")) >= 3)
            wait_for("the report", lambda: server.api("GET", "/api/v1/devices/thermometer/twin")["reported"] == {"interval_s": 1})
        finally:
            p.kill()
            p.wait()
        points = server.points("thermometer", "temperature")
        assert all(20 <= value < 25 and ts % 1000 == 0 for ts, value in points), points
    print(f"the example works, {lines} lines")


if __name__ == "__main__":
    sys.exit(main())
