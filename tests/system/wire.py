"""Every numbered statement of MQTT 3.1.1 and 5.0 that binds a server, on the running server (tests/wire/run.py)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "wire"))
import run  # noqa: E402

if __name__ == "__main__":
    sys.exit(run.main([]))
