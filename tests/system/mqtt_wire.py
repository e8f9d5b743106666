"""Every conversation of tests/wire against one server, each with devices of its own."""
import glob
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from muster import Server  # noqa: E402
from wire import Mismatch, Player  # noqa: E402


def main():
    files = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "..", "wire", "*.txt")))
    assert files, "no conversations"
    bad = []
    with Server() as server:
        for path in files:
            try:
                Player(server).play(path)
                print("ok  ", os.path.basename(path))
            except Mismatch as e:
                print("FAIL", e)
                bad.append(path)
    assert not bad, f"{len(bad)} of {len(files)} conversations went wrong"


if __name__ == "__main__":
    main()
