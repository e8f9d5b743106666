"""Two power cuts of a real kernel with the server under load, and the control that must be caught; `tests/harness/umlbox.py` for more.

    CUTS=50 for more; from 10 on two guests share them, each with a network and a disk of its own.
"""
import os
import subprocess
import sys

UMLBOX = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "harness", "umlbox.py")


def main():
    cuts = int(os.environ.get("CUTS", "2"))
    boxes = 2 if cuts >= 10 else 1
    runs = [[["--cuts", str((cuts + i) // boxes), "--seed", str(7 + i)] for i in range(boxes)], [["--control", "--cuts", "2"]]]
    for run in runs:
        codes = [p.wait() for p in [subprocess.Popen([sys.executable, UMLBOX, *arguments]) for arguments in run]]
        if any(codes):
            return max(codes, key=abs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
