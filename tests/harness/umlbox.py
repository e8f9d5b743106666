#!/usr/bin/env python3
"""Power cuts of a real kernel: the server runs in a user-mode-linux guest on an ext4 disk of its own; its clients and the account of
what was acknowledged stay on the host. `kill -9` of the guest's process group takes its page cache with it, as a power cut does.

    tests/harness/umlbox.py [--cuts 50] [--seed 7] [--keep]        the server as it is: nothing acknowledged may be missing
    tests/harness/umlbox.py --control [--cuts 3]                   the same server with its syncs taken away: must be caught

Exit 0 when the contract holds (with --control: when its breach was seen), 77 when the machine cannot do this, 1 otherwise. The root
file system of the guest is the host's, read-only; host and guest talk over a tap device in a network namespace of their own.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import contract  # noqa: E402
import ledger  # noqa: E402
import muster  # noqa: E402
import open_broker  # noqa: E402

KERNEL = "linux.uml"
HOST, GUEST, TAP = "10.98.7.1", "10.98.7.2", "tapmuster"
DEVICES = 20

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t tmpfs none /mnt
mkdir /mnt/d
mount -t ext4 /dev/ubda /mnt/d || echo "the disk cannot be mounted"
ip link set lo up
ip addr add {guest}/24 dev vec0
ip link set vec0 up
{preload} {bin}/muster serve --data /mnt/d --mqtts off --https off --mqtt {guest}:1883 --http {guest}:8080 {args}
echo "the server ended with $?"
sync
echo o > /proc/sysrq-trigger
"""


def missing():
    """Why this machine cannot do it, or None."""
    for program in (KERNEL, "mkfs.ext4", "unshare", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    probe = subprocess.run(["unshare", "-Urn", "ip", "tuntap", "add", "dev", TAP, "mode", "tap"], capture_output=True, text=True, check=False)
    return f"no network of its own: {probe.stderr.strip()}" if probe.returncode else None


class Guest(muster.Server):
    """A server whose machine can lose its power. `data` is the directory its disk was made from."""
    host = GUEST

    def __init__(self, work, preload=None, args=()):
        super().__init__(data=f"{work}/data", start=False)
        self.work, self.disk, self.console = work, f"{work}/disk.img", f"{work}/console.log"
        with open(f"{work}/init.sh", "w") as f:
            f.write(INIT.format(guest=GUEST, bin=muster.RELEASE_BIN, preload=f"LD_PRELOAD={preload}" if preload else "", args=" ".join(args)))
        os.chmod(f"{work}/init.sh", 0o755)
        self.ports = {"mqtt": 1883, "http": 8080}

    def make_disk(self, size="256M"):
        """The data directory as it is now, on a new disk."""
        subprocess.run(["truncate", "-s", size, self.disk], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", self.data, self.disk], check=True)

    def start(self):
        command = [KERNEL, "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={self.work}/init.sh",
                   f"ubda={self.disk}", "con=null", "con0=null,fd:1", "con1=null", "ssl=null", "umid=guest", f"uml_dir={self.work}/uml/",
                   f"vec0:transport=tap,ifname={TAP},depth=128,gro=1,mac=02:00:00:00:00:02", "quiet"]
        started = time.monotonic()
        with open(self.console, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        timer = threading.Timer(60, self.cut)
        timer.start()
        line = b""
        with open(self.console, "ab") as log:
            for line in self.process.stdout:
                log.write(line)
                if line.startswith(b"muster ready "):
                    break
        timer.cancel()
        self.ready_s = time.monotonic() - started
        if not line.startswith(b"muster ready "):
            self.cut()
            raise RuntimeError("the server in the guest did not start:\n" + self.log()[-2000:])
        self.drain = threading.Thread(target=self._drain, args=(self.process.stdout,), daemon=True)
        self.drain.start()
        return self

    def _drain(self, pipe):
        with open(self.console, "ab") as log:
            for line in pipe:
                log.write(line)

    def log(self):
        with open(self.console, errors="replace") as f:
            return f.read()

    def cut(self):
        """Power off, for the kernel and everything in it; returns when no process of it is left to touch the disk."""
        muster.kill_group(self.process)

    kill = cut


def devices(count, prefix="u"):
    return {f"{prefix}{i}": f"token-of-{prefix}-device-{i:04d}-0123456789" for i in range(count)}


def prepare(work):
    """A data directory with devices, made by a server on the host; the users' file for ledger_client."""
    users = devices(DEVICES)
    os.mkdir(f"{work}/data", 0o700)
    with open_broker.Server(data=f"{work}/data", release=True) as s:
        for name, token in users.items():
            s.device(name, token)
    with open(f"{work}/users", "w") as f:
        f.write("".join(f"{n} {t}\n" for n, t in users.items()))


def start_loads(work):
    """Telemetry of devices, and messages to sessions that come and go; both run through all cuts."""
    common = {"host": GUEST, "patience_ms": 1000}
    return (ledger.Load(f"{work}/telemetry", 1883, publishers=DEVICES, users=f"{work}/users", topic="$muster/telemetry", rate=1500, **common),
            ledger.Load(f"{work}/messages", 1883, publishers=6, subscribers=4, qos=0, version=0, rate=300, offline_ms=500, churn=1, **common))


class Run:
    """One guest, its loads, and what it owes them."""

    def __init__(self, work, preload):
        self.guest = Guest(work, preload, args=[*open_broker.ARGS, "--mqtt.connects_per_source=0"])
        self.guest.make_disk()
        self.devices, self.messages = start_loads(work)
        self.promises = contract.Contract(1883, host=GUEST, timeout=2)
        self.checked = {}  # device -> numbers that were found after a cut
        self.since_ms = 0  # what was stored before that has been looked at
        self.cuts = 0

    def recent(self, acked):
        """Telemetry that was acknowledged since the cut before is there after this one; what is not."""
        read, lost = ledger.history_of(self.guest, self.since_ms), []
        self.since_ms = int(time.time() * 1000) - 10000
        for device, seqs in acked.items():
            new = seqs - self.checked.get(device, set())
            if new:
                lost += [f"telemetry {device} {seq}" for seq in sorted(new - read(device).keys())]
                self.checked[device] = seqs
        return lost

    def look(self, acked):
        problems = self.recent(acked)
        return ([f"{len(problems)} acknowledged points are gone, e.g. {problems[:3]}"] if problems else []) + self.promises.verify()

    def cycle(self, seconds):
        """Boot, look, load, cut: the broken promises. The loads run all the time."""
        acked = {c: set(v) for c, v in self.devices.account.poll().acked.items()}
        self.guest.start()
        problems = self.look(acked)
        if not problems:
            with self.promises.running():
                self.devices.wait_more(20)
                self.messages.wait_more(5)
                time.sleep(seconds)
                self.guest.cut()
            self.cuts += 1
        return problems

    def finish(self):
        """A last boot and a look at everything: verdicts."""
        self.guest.start()
        problems = self.promises.verify()
        for load in (self.devices, self.messages):
            load.quiet()
            load.settle()
            load.stop()
        return [self.devices.account.in_history(ledger.history_of(self.guest)), self.messages.account.at_subscribers()], problems

    def end(self):
        for load in (self.devices, self.messages):
            load.__exit__()
        if self.guest.process:
            self.guest.cut()


def run(work, cuts, seed, control):
    """The problems of so many cuts; none is the aim."""
    rng, begin = random.Random(seed), time.monotonic()
    prepare(work)
    box = Run(work, os.path.join(muster.BIN, "nosync.so") if control else None)
    problems, verdicts = [], []
    try:
        while box.cuts < cuts and not problems:
            problems = box.cycle(rng.uniform(0.05, 2.0))
        if not problems:
            verdicts, problems = box.finish()
            problems += [p for p in (v.problem() for v in verdicts) if p]
            problems += [f"only {v.acked} acknowledgements: the load did not run" for v in verdicts if v.acked < 20 * cuts]
    except RuntimeError as e:  # the store does not open any more
        problems = [str(e)[:500]]
    finally:
        box.end()
    print(f"{box.cuts} power cuts in {time.monotonic() - begin:.0f} s; " + "; ".join(map(str, verdicts)) + f"; promises kept: {box.promises}", flush=True)
    return problems


def inside(args):
    """In the network namespace: 0, 1."""
    for command in (["ip", "link", "set", "lo", "up"], ["ip", "tuntap", "add", "dev", TAP, "mode", "tap"],
                    ["ip", "addr", "add", f"{HOST}/24", "dev", TAP], ["ip", "link", "set", TAP, "up"]):
        subprocess.run(command, check=True)
    work = tempfile.mkdtemp(prefix="muster-uml-")
    os.chmod(work, 0o755)
    problems = run(work, args.cuts, args.seed, args.control)
    if args.control:
        good = any("lost" in p or "gone" in p or "did not start" in p for p in problems)
        print(f"control without syncs: {'caught' if good else 'NOT CAUGHT'}: {problems}"[:600])
    else:
        good = not problems
        print("nothing acknowledged was lost" if good else "\n".join(problems))
    if good and not args.keep:
        shutil.rmtree(work, ignore_errors=True)
    else:
        print(f"kept in {work}")
    return 0 if good else 1


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--cuts", type=int, default=50)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--control", action="store_true", help="take the server's syncs away; passes when that is noticed")
    ap.add_argument("--keep", action="store_true", help="keep disk, account and console")
    ap.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.inside:
        return inside(args)
    why = missing()
    if why:
        print(f"skipped: {why}")
        return 77
    return subprocess.run(["unshare", "-Urn", sys.executable, os.path.abspath(__file__), "--inside", *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
