#!/usr/bin/env python3
"""Every static check, each with its own line; non-zero when one of them finds something.

    tools/check.py            all
    tools/check.py NAME ...   some: format includes banned length docs cppcheck tidy
"""
import concurrent.futures
import glob
import hashlib
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.chdir(ROOT)
JOBS = os.cpu_count() or 2


def sources(*ends):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [f for f in out if f.endswith(ends) and os.path.exists(f)]


def run(command):
    p = subprocess.run(command, capture_output=True, text=True, check=False)
    return p.returncode == 0, p.stdout + p.stderr


def check_format():
    return run(["clang-format", "--dry-run", "-Werror"] + sources(".c", ".h"))


def check_cppcheck():
    # Its own notes on files that have not changed since the last run.
    os.makedirs("build/cppcheck", exist_ok=True)
    return run(["cppcheck", "--quiet", "--std=c11", "--inline-suppr", "--error-exitcode=1", f"-j{JOBS}", "--cppcheck-build-dir=build/cppcheck",
                "-Isrc", "-Iinclude", "-Ibuild/dev/generated", "--enable=warning,performance,portability",
                "--suppressions-list=tools/cppcheck.txt", "-D__GNUC__", "src"])


# clang 14 wants this before it takes the flag gcc has taken since version 12.
TIDY = ["clang-tidy", "--quiet", "-p", "build/dev",
        "--extra-arg=-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang"]
INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.M)


def with_headers(path, seen):
    """The file and every header of the project it includes, into `seen`: path -> content."""
    todo = [path]
    while todo:
        path = todo.pop()
        with open(path, "rb") as f:
            seen[path] = f.read()
        for name in INCLUDE.findall(seen[path]):
            for folder in ("src", "include", "build/dev/generated"):
                header = os.path.join(folder, name.decode())
                if header not in seen and os.path.exists(header):
                    todo.append(header)
    return seen


def tidy_key(path, common):
    h = hashlib.sha256(common)
    for name, content in sorted(with_headers(path, {}).items()):
        h.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return h.hexdigest()


def tidy_file(path, common):
    """Looks at one file, unless it was clean before with the same headers and rules."""
    stamp = os.path.join("build/tidy", tidy_key(path, common))
    if os.path.exists(stamp):
        return True, ""
    ok, text = run(TIDY + [path])
    if ok:
        with open(stamp, "w", encoding="utf-8") as f:
            f.write(path + "\n")
    return ok, text


def check_tidy():
    os.makedirs("build/tidy", exist_ok=True)
    with open(".clang-tidy", "rb") as rules, open("cmake/flags.cmake", "rb") as flags:
        common = rules.read() + flags.read() + subprocess.run(["clang-tidy", "--version"], capture_output=True, check=True).stdout
    files = sorted((f for f in sources(".c") if f.startswith("src/")), key=os.path.getsize, reverse=True)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        results = list(pool.map(lambda f: tidy_file(f, common), files))
    lines = {}  # in order, once each: a finding in a header comes back with every file
    for _, text in results:
        for line in text.splitlines():
            if not re.search(r"warnings? (and \d+ errors? )?generated|^Suppressed|^Use -header-filter", line):
                lines[line] = True
    return all(ok for ok, _ in results), "\n".join(lines)


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
            os.makedirs("build/check", exist_ok=True)
            with open(f"build/check/{name}.log", "w", encoding="utf-8") as f:
                f.write(text + "\n")
            findings = [line for line in text.splitlines() if " note: " not in line]
            print("\n".join(findings[:200]) + f"\n(all of it: build/check/{name}.log)", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
