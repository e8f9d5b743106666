"""Two power cuts of a real kernel with the server under load, and the control that must be caught; `tests/harness/umlbox.py` for more."""
import os
import subprocess
import sys

UMLBOX = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "harness", "umlbox.py")


def main():
    for arguments in (["--cuts", os.environ.get("CUTS", "2")], ["--control", "--cuts", "2"]):
        code = subprocess.run([sys.executable, UMLBOX, *arguments], check=False).returncode
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
