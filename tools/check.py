#!/usr/bin/env python3
"""Every static check, each with its own line; non-zero when one of them finds something.

    tools/check.py            all
    tools/check.py NAME ...   some: format includes banned length docs cppcheck tidy
"""
import concurrent.futures
import glob
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.chdir(ROOT)


def sources(*ends):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.split()
    return [f for f in out if f.endswith(ends) and os.path.exists(f)]


def run(command):
    p = subprocess.run(command, capture_output=True, text=True, check=False)
    return p.returncode == 0, p.stdout + p.stderr


def check_format():
    return run(["clang-format", "--dry-run", "-Werror"] + sources(".c", ".h"))


def check_cppcheck():
    return run(["cppcheck", "--quiet", "--std=c11", "--inline-suppr", "--error-exitcode=1", "-j2", "-Isrc", "-Iinclude", "-Ibuild/dev/generated",
                "--enable=warning,performance,portability", "--suppressions-list=tools/cppcheck.txt", "-D__GNUC__", "src"])


# clang 14 wants this before it takes the flag gcc has taken since version 12.
TIDY_ARG = "--extra-arg=-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang"


def check_tidy():
    files = [f for f in sources(".c") if f.startswith("src/")]
    chunks = [files[i::2] for i in range(2)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda c: run(["clang-tidy", "--quiet", "-p", "build/dev", TIDY_ARG] + c) if c else (True, ""), chunks))
    text = "\n".join(line for _, t in results for line in t.splitlines() if "warnings generated" not in line and "Suppressed" not in line)
    return all(ok for ok, _ in results), text


def python_tool(name):
    return lambda: run([sys.executable, f"tools/check_{name}.py"])


CHECKS = {"format": check_format, "cppcheck": check_cppcheck, "tidy": check_tidy}
for tool in sorted(glob.glob("tools/check_*.py")):
    CHECKS[os.path.basename(tool)[6:-3]] = python_tool(os.path.basename(tool)[6:-3])


def main():
    names = sys.argv[1:] or list(CHECKS)
    bad = 0
    for name in names:
        start = time.monotonic()
        ok, text = CHECKS[name]()
        print(f"{'ok    ' if ok else 'FAILED'} {name}  ({time.monotonic() - start:.1f} s)", flush=True)
        if not ok:
            bad += 1
            print(text[-12000:], flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
