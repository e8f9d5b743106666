#!/usr/bin/env python3
"""Runs every test: unit tests and corpora (ctest), then the system tests, and ends with "N passed, N failed".

    tests/run.py                  everything
    tests/run.py PATTERN ...      only tests whose name contains one of the patterns

A system test is a program tests/system/NAME.py: exit 0 passed, 77 skipped (prints why), anything else failed. It finds the
programs to test in MUSTER_BIN (with sanitizers) and MUSTER_RELEASE_BIN (optimised), and is ended after 300 seconds.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIMEOUT_S = 300


def run_ctest(patterns):
    command = ["ctest", "--test-dir", os.path.join(ROOT, "build/dev"), "-j", "2", "--output-on-failure", "--timeout", "180"]
    if patterns:
        command += ["-R", "|".join(patterns), "--no-tests=ignore"]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    m = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", out.stdout)
    if not m:
        if patterns and out.returncode == 0:
            return 0, 0
        print(out.stdout[-4000:], out.stderr[-2000:])
        return 0, 1
    failed, total = int(m.group(2)), int(m.group(3))
    if failed:
        print(out.stdout[-20000:])
    print(f"unit tests and corpora: {total - failed} passed, {failed} failed of {total}", flush=True)
    return total - failed, failed


def run_system(name):
    env = dict(os.environ)
    env["MUSTER_BIN"] = os.path.join(ROOT, "build/dev/bin")
    env["MUSTER_RELEASE_BIN"] = os.path.join(ROOT, "build/bin")
    env["PYTHONPATH"] = os.path.join(ROOT, "tests/lib")
    start = time.monotonic()
    try:
        out = subprocess.run([sys.executable, os.path.join(ROOT, "tests/system", name)], env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False,
                             errors="replace")
        code, text = out.returncode, out.stdout
    except subprocess.TimeoutExpired as e:
        code = 124
        text = (e.stdout or b"").decode(errors="replace") if isinstance(e.stdout, bytes) else (e.stdout or "")
        text += f"\nended after {TIMEOUT_S} s"
    return name, code, text, time.monotonic() - start


def main():
    patterns = sys.argv[1:]
    start = time.monotonic()
    passed, failed = run_ctest(patterns)
    skipped = 0
    names = sorted(n for n in os.listdir(os.path.join(ROOT, "tests/system")) if n.endswith(".py") and not n.startswith("_"))
    if patterns:
        names = [n for n in names if any(p in n for p in patterns)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, code, text, seconds in pool.map(run_system, names):
            verdict = "passed" if code == 0 else "skipped" if code == 77 else "FAILED"
            print(f"{verdict:8} {name}  ({seconds:.1f} s)", flush=True)
            passed += code == 0
            skipped += code == 77
            failed += code not in (0, 77)
            if code != 0:
                print(text[-6000:], flush=True)
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
