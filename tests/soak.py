#!/usr/bin/env python3
"""make soak: the long forms of the tests, one after another, and half an hour of load with a flat memory line.

    SOAK_MINUTES=30 KILLS=200 CRASH_POINTS=2000
"""
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
os.environ.setdefault("MUSTER_BIN", os.path.join(ROOT, "build/bin"))
os.environ.setdefault("MUSTER_RELEASE_BIN", os.path.join(ROOT, "build/bin"))
import muster  # noqa: E402


def long_form(name, **env):
    start = time.monotonic()
    p = subprocess.run([sys.executable, os.path.join(ROOT, "tests/system", name)],
                       env={**os.environ, **{k: os.environ.get(k, v) for k, v in env.items()}, "PYTHONPATH": os.path.join(ROOT, "tests/lib")},
                       capture_output=True, text=True, check=False)
    print(f"{'passed' if p.returncode == 0 else 'FAILED'} {name} ({time.monotonic() - start:.0f} s): {(p.stdout + p.stderr).strip()[-500:]}", flush=True)
    return p.returncode == 0


def memory_line():
    """Churn: 200 publishers that come and go, one message in flight each; memory after warm-up must not grow."""
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    work = tempfile.mkdtemp(prefix="muster-soak-")
    with muster.Server(args=["--telemetry.flush_after=30s"]) as s:
        with open(f"{work}/d", "w") as f, open(f"{work}/u", "w") as u:
            for i in range(200):
                f.write(f'{{"id":"s{i}","access_token":"token-of-soak-device-{i:04d}"}}\n')
                u.write(f"s{i} token-of-soak-device-{i:04d}\n")
        s.cli("device", "import", f"{work}/d")
        samples, end = [], time.monotonic() + minutes * 60
        while time.monotonic() < end:
            subprocess.run([os.path.join(muster.BIN, "mqttload"), "--port", str(s.ports["mqtt"]), "--users", f"{work}/u", "--clients", "200",
                            "--window", "5", "--rate", "5000", "--seconds", "20"], check=True, capture_output=True)
            samples.append((time.monotonic(), s.rss_kb()))
        warm = [x for x in samples if x[0] > samples[0][0] + minutes * 60 / 3]
        n = len(warm)
        mean_t, mean_m = sum(t for t, _ in warm) / n, sum(m for _, m in warm) / n
        slope = sum((t - mean_t) * (m - mean_m) for t, m in warm) / max(1e-9, sum((t - mean_t) ** 2 for t, _ in warm)) * 3600 / 1024
        ok = slope <= max(0.5, mean_m / 1024 * 0.02)
        print(f"{'passed' if ok else 'FAILED'} memory line: {minutes:g} min, {n} samples, {mean_m / 1024:.1f} MB, slope {slope:+.2f} MB/h", flush=True)
        return ok


def main():
    results = [long_form("kill9.py", KILLS="200"), long_form("crash_syscalls.py", CRASH_POINTS="2000"), memory_line()]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
