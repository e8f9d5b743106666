#!/usr/bin/env python3
"""Runs every fuzz target of build/fuzz for a while, starting from its corpus in the tree; a finding fails and is kept.

    tests/fuzz.py [--seconds 600] [--keep] [TARGET ...]      two targets at a time
"""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(target, seconds, keep):
    name = os.path.basename(target)[5:]
    corpus = os.path.join(ROOT, "tests/fuzz/corpus", name)
    work = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    found = os.path.join(ROOT, "build/fuzz/findings", name)
    os.makedirs(found, exist_ok=True)
    p = subprocess.run([target, work, corpus, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536",
                        f"-artifact_prefix={found}/", "-print_final_stats=1"], capture_output=True, text=True, errors="replace", check=False)
    runs = re.search(r"stat::number_of_executed_units: (\d+)", p.stderr)
    coverage = re.findall(r"cov: (\d+)", p.stderr)
    if keep:
        subprocess.run([target, "-merge=1", corpus, work], capture_output=True, check=False)
    return name, p.returncode, int(runs.group(1)) if runs else 0, coverage[-1] if coverage else "?", p.stderr[-3000:], found


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seconds", type=int, default=600)
    ap.add_argument("--keep", action="store_true", help="merge what raised coverage into the corpus of the tree")
    ap.add_argument("targets", nargs="*")
    args = ap.parse_args()
    targets = sorted(glob.glob(os.path.join(ROOT, "build/fuzz/bin/fuzz_*")))
    if args.targets:
        targets = [t for t in targets if os.path.basename(t)[5:] in args.targets]
    if not targets:
        sys.exit("no targets; `make fuzz` builds them")
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, code, runs, coverage, text, found in pool.map(lambda t: run(t, args.seconds, args.keep), targets):
            print(f"{'clean ' if code == 0 else 'FOUND '} {name:24} {runs:12,} runs, coverage {coverage}", flush=True)
            if code != 0:
                bad += 1
                print(text, f"kept in {found}", sep="\n", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
