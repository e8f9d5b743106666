"""The optimised programs carry every hardening flag: PIE, full RELRO, no executable stack, canaries, FORTIFY, CET, no RPATH; and their sizes hold."""
import os
import subprocess
import sys

import muster


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], capture_output=True, text=True, check=True).stdout


def check(path, max_mb):
    header, segments, dynamic = readelf("-h", path), readelf("-l", path), readelf("-d", path)
    symbols, notes = readelf("--dyn-syms", path), readelf("-n", path)
    stack = next(line for line in segments.splitlines() if "GNU_STACK" in line)
    findings = {
        "position independent": "DYN" in header and "PIE" in dynamic,
        "RELRO": "GNU_RELRO" in segments,
        "immediate binding": "BIND_NOW" in dynamic or "NOW" in dynamic,
        "no executable stack": " RWE " not in stack,
        "stack canary": "__stack_chk_fail" in symbols,
        "FORTIFY": "_chk@" in symbols.replace("__stack_chk_fail", ""),
        "CET": "IBT" in notes and "SHSTK" in notes,
        "no RPATH": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
        f"under {max_mb} MB": os.path.getsize(path) < max_mb * 1_000_000,
    }
    missing = [name for name, ok in findings.items() if not ok]
    assert not missing, f"{os.path.basename(path)}: missing {', '.join(missing)}"


def main():
    check(os.path.join(muster.RELEASE_BIN, "muster"), 10)
    check(os.path.join(muster.RELEASE_BIN, "muster-agent"), 10)
    print("flags and sizes hold")


if __name__ == "__main__":
    sys.exit(main())
