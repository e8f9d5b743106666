#!/usr/bin/env python3
"""Runs every test: unit tests and corpora (ctest), then the system tests, and ends with "N passed, N failed".

    tests/run.py                  everything
    tests/run.py PATTERN ...      only tests whose name contains one of the patterns

What has threads runs a second time under ThreadSanitizer (build/tsan).

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
JOBS = 2         # unit tests at a time
SYSTEM_JOBS = 3  # system tests: they mostly wait; more would make those of time limits fail
# A finding ends a test with 99, whatever it would have ended with.
SANITIZE = {"TSAN_OPTIONS": "exitcode=99"}


# These begin first, so that no long one is left alone at the end.
LONG = ["agent_renew.py", "agent_server_renew.py", "ts_crash.py", "crash_syscalls.py", "power_cut.py", "hostile.py", "strangers.py", "agent_server.py", "agent_offline.py"]
# What runs under ThreadSanitizer as well: whatever has threads, and the server under load.
TSAN_UNITS = "^test_(net|core|domain|front)_"
TSAN_SYSTEM = {"kill9.py": {"KILLS": "3"}, "tls_clients.py": {}, "wire.py": {}}


def run_ctest(build, title, patterns, only=None):
    """(passed, failed) of the programs in build/NAME: those that match `only` and one of the patterns."""
    start = time.monotonic()
    listed = subprocess.run(["ctest", "--test-dir", os.path.join(ROOT, build), "-N"], capture_output=True, text=True, check=False).stdout
    names = re.findall(r"^ +Test +#\d+: (\S+)$", listed, re.M)
    wanted = [n for n in names if (only is None or re.search(only, n)) and (not patterns or any(p in n for p in patterns))]
    if not wanted:
        return (0, 0) if patterns else (0, 1)
    command = ["ctest", "--test-dir", os.path.join(ROOT, build), "-j", str(JOBS), "--output-on-failure", "--timeout", "180",
               "-R", "^(" + "|".join(map(re.escape, wanted)) + ")$"]
    out = subprocess.run(command, env={**os.environ, **SANITIZE}, capture_output=True, text=True, check=False)
    m = re.search(r"(\d+) tests failed out of (\d+)", out.stdout)
    failed, total = (int(m.group(1)), int(m.group(2))) if m else (1, 1)
    if failed or total != len(wanted):
        failed = max(failed, 1)
        print(out.stdout[-20000:], out.stderr[-2000:])
    print(f"{title}: {total - failed} passed, {failed} failed  ({time.monotonic() - start:.0f} s)", flush=True)
    return total - failed, failed


def run_system(test):
    """One program of tests/system against build/NAME/bin, with further environment."""
    name, build, extra = test
    env = {**os.environ, **extra}
    env["MUSTER_BIN"] = os.path.join(ROOT, build, "bin")
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
    title = name if build == "build/dev" else f"{name} under ThreadSanitizer"
    return title, code, text, time.monotonic() - start


def main():
    patterns = sys.argv[1:]
    start = time.monotonic()
    results = [run_ctest("build/dev", "unit tests and corpora", patterns),
               run_ctest("build/tsan", "unit tests under ThreadSanitizer", patterns, TSAN_UNITS)]
    passed, failed, skipped = sum(r[0] for r in results), sum(r[1] for r in results), 0
    names = sorted(n for n in os.listdir(os.path.join(ROOT, "tests/system")) if n.endswith(".py") and not n.startswith("_"))
    tests = [(n, "build/dev", {}) for n in names] + [(n, "build/tsan", env) for n, env in TSAN_SYSTEM.items()]
    if patterns:
        tests = [t for t in tests if any(p in t[0] for p in patterns)]
    system_start = time.monotonic()
    tests.sort(key=lambda t: LONG.index(t[0]) if t[0] in LONG else len(LONG))
    with concurrent.futures.ThreadPoolExecutor(SYSTEM_JOBS) as pool:
        for name, code, text, seconds in pool.map(run_system, tests):
            verdict = "passed" if code == 0 else "skipped" if code == 77 else "FAILED"
            print(f"{verdict:8} {name}  ({seconds:.1f} s)", flush=True)
            passed += code == 0
            skipped += code == 77
            failed += code not in (0, 77)
            if code != 0:
                print(text[-6000:], flush=True)
    print(f"system tests: {time.monotonic() - system_start:.0f} s")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
