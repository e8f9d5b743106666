"""18,000 devices connected at one time, under the descriptor limit of 20,000 that many systems have: all are served, memory is as it
should be, and when they have gone so has their memory's growth. The clients are two processes."""
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time

import mqtt
import muster

CONNECTIONS = 18000
DESCRIPTORS = 20000
BYTES_MAX = 2600  # of the server, per idle plain connection
TOKEN = "token-of-one-of-many-%05d"


def hold(port, first, n):
    """Child: opens n connections, says "held", on each line read from stdin pings all of them and says how many answered."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(n + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    socks = []

    def exactly(sock, want, what):
        sock.settimeout(60)
        got = b""
        while len(got) < len(want):
            part = sock.recv(len(want) - len(got))
            assert part, f"{what}: closed"
            got += part
        assert got == want, f"{what}: {got!r}"

    for at in range(first, first + n, 100):
        batch = []
        for i in range(at, min(at + 100, first + n)):
            s = socket.create_connection(("127.0.0.1", port), 60)
            s.sendall(mqtt.connect_packet(f"m{i}", f"m{i}", TOKEN % i, version=4, keepalive=600))
            batch.append(s)
        for i, s in enumerate(batch):
            exactly(s, b"\x20\x02\0\0", f"CONNACK of {at + i}")
        socks += batch
    print("held", flush=True)
    for _ in sys.stdin:
        for s in socks:
            s.sendall(b"\xc0\0")
        for s in socks:
            exactly(s, b"\xd0\0", "PINGRESP")
        print(len(socks), flush=True)


def pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def main():
    if len(sys.argv) > 1:
        hold(*map(int, sys.argv[1:]))
        return 0
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < DESCRIPTORS:
        print(f"skipped: this system allows fewer than {DESCRIPTORS} descriptors")
        return 77
    with muster.Server(release=True, prefix=("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"), args=("--log.level", "warn")) as s:
        path = s.data + ".devices"
        with open(path, "w") as f:
            f.writelines(json.dumps({"id": f"m{i}", "access_token": TOKEN % i}) + "\n" for i in range(CONNECTIONS))
        s.cli("device", "import", path)
        os.unlink(path)
        s.device("other", "token-of-the-other-device")
        before = pss_kb(s.process.pid)
        start = time.monotonic()
        half = CONNECTIONS // 2
        children = [subprocess.Popen([sys.executable, __file__, str(s.ports["mqtt"]), str(k * half), str(half)], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True) for k in range(2)]
        try:
            for c in children:
                assert c.stdout.readline() == "held\n", "a client process failed"
            took = time.monotonic() - start
            assert s.metric("muster_mqtt_connections") == CONNECTIONS
            each = (pss_kb(s.process.pid) - before) * 1024 / CONNECTIONS
            one = mqtt.Client("127.0.0.1", s.ports["mqtt"], "other", "other", "token-of-the-other-device").connect()
            waits = []
            for c in children:
                c.stdin.write("\n")
                c.stdin.flush()
            while not all(select.select([c.stdout], [], [], 0)[0] for c in children):  # while 18,000 answers are on their way
                t = time.monotonic()
                assert one.publish("$muster/telemetry", '{"t":1}', qos=1) == 0
                waits.append(time.monotonic() - t)
                time.sleep(0.01)
            answered = sum(int(c.stdout.readline()) for c in children)
            assert answered == CONNECTIONS, f"{answered} answered"
            one.disconnect()
            waits.sort()
            print(f"{CONNECTIONS} connections in {took:.1f} s, {each:.0f} bytes each; an acknowledgement beside 18,000 answers takes "
                  f"{waits[len(waits) // 2] * 1000:.1f} ms (median), {waits[-1] * 1000:.0f} ms (longest)")
            assert each < BYTES_MAX, f"{each:.0f} bytes per connection; allowed: {BYTES_MAX}"
            assert waits[len(waits) // 2] < 0.5, "another device waits"
        finally:
            for c in children:
                c.kill()
                c.wait()
        muster.wait_for("all of them gone", lambda: s.metric("muster_mqtt_connections") == 0, 60)
        assert "ERROR" not in s.log()
    return 0


if __name__ == "__main__":
    sys.exit(main())
