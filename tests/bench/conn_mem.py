#!/usr/bin/env python3
"""What an idle MQTT connection costs the server in memory, and which parts of it hold how much.

    conn_mem.py [--connections N] [--tls]

One run without and one with tests/lib/heapsites.c preloaded: the first says what the process grew by (Pss), the second which source
files hold the heap. The clients are one per device, in two processes, so that neither runs out of descriptors.
"""
import argparse
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import muster  # noqa: E402  # pylint: disable=wrong-import-position

BUILD = os.path.join(muster.ROOT, "build/bin")


def pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def sites(server, path):
    """Bytes by place in the program."""
    if os.path.exists(path):
        os.unlink(path)
    server.process.send_signal(signal.SIGUSR2)
    muster.wait_for("the list of places", lambda: os.path.exists(path) and os.path.getsize(path) > 0)
    time.sleep(1)
    with open(path) as f:
        return {int(a, 16): int(b) for a, b, _ in (line.split() for line in f)}


def by_file(held):
    """{place: bytes} -> {(file, function): bytes}; what libraries ask for themselves is one entry."""
    addresses = [a for a in held if a]
    out = subprocess.run(["addr2line", "-f", "-e", os.path.join(BUILD, "muster")] + [hex(a - 1) for a in addresses], capture_output=True, text=True,
                         check=True).stdout.split("\n")
    parts = collections.Counter({("libraries", ""): held.get(0, 0)})
    for i, a in enumerate(addresses):
        name = out[2 * i + 1].split(":")[0]
        name = name.split("/src/")[1] if "/src/" in name else os.path.basename(name)
        parts[(name, out[2 * i])] += held[a]
    return parts


class Clients:
    """n idle connections in two processes."""

    def __init__(self, server, work, n, tls):
        self.processes = []
        for i in range(2):
            users = f"{work}/users{i}"
            args = [os.path.join(BUILD, "mqttload"), "--port", str(server.ports["mqtts" if tls else "mqtt"]), "--users", users, "--clients",
                    str(n // 2), "--hold"] + (["--tls", "--ca", server.ca] if tls else [])
            self.processes.append(subprocess.Popen(args, stdout=subprocess.PIPE))
        muster.wait_for("the connections", lambda: server.metric("muster_mqtt_connections") >= n // 2 * 2, 120, 0.5)
        time.sleep(2)

    def stop(self):
        for p in self.processes:
            p.terminate()
            p.communicate()


def measure(n, tls, preload):
    work = tempfile.mkdtemp(prefix="muster-mem-")
    env = {"LD_PRELOAD": os.path.join(BUILD, "heapsites.so"), "HEAPSITES": f"{work}/sites"} if preload else {}
    try:
        with muster.Server(release=True, env=env, args=("--log.level", "warn")) as s:
            with open(f"{work}/devices", "w") as f:
                for i in range(n):
                    f.write(json.dumps({"id": f"m{i}", "access_token": f"token-of-idle-device-{i:06d}"}) + "\n")
            for k in range(2):
                with open(f"{work}/users{k}", "w") as f:
                    for i in range(k * (n // 2), (k + 1) * (n // 2)):
                        f.write(f"m{i} token-of-idle-device-{i:06d}\n")
            s.cli("device", "import", f"{work}/devices")
            clients = Clients(s, work, min(n, 200), tls)  # what is made once is made now
            clients.stop()
            muster.wait_for("them gone", lambda: s.metric("muster_mqtt_connections") == 0)
            time.sleep(2)
            before = sites(s, f"{work}/sites") if preload else pss_kb(s.process.pid)
            clients = Clients(s, work, n, tls)
            after = sites(s, f"{work}/sites") if preload else pss_kb(s.process.pid)
            clients.stop()
            if not preload:
                return (after - before) * 1024 / n
            old, new = by_file(before), by_file(after)
            return {part: (new[part] - old[part]) / n for part in new}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("--connections", type=int, default=10000)
    ap.add_argument("--tls", action="store_true")
    args = ap.parse_args()
    print(f"process (Pss): {measure(args.connections, args.tls, False):.0f} bytes per idle connection, of {args.connections}")
    parts = measure(args.connections, args.tls, True)
    print(f"heap: {sum(parts.values()):.0f} bytes, of which")
    for (name, function), n in sorted(parts.items(), key=lambda p: -p[1]):
        if n >= 4:
            print(f"  {n:7.0f}  {name}  {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
