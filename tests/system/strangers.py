"""Many strangers who do nothing much: what each may cost before it has shown who it is, and that more of them than there are descriptors keep
nobody out. A device that is connected does not notice. What strangers say and how slowly is in hostile.py."""
import resource
import socket
import ssl
import sys
import time

import mqtt
import muster
import ws
from watch import Probe, percentile

TOKEN = "token-of-the-device-among-strangers-01"
DOORS = ("mqtt", "mqtts", "http", "https")


def dial(s, door, timeout=15):
    return socket.create_connection(("127.0.0.1", s.ports[door]), timeout)


def known(s):
    """A device that publishes all the time."""
    return Probe(s, "d", TOKEN, door="mqtts")


def is_there(probe):
    muster.wait_for("the known device", lambda: len(probe.latencies_ms) > 5)


def unnoticed(probe, what):
    waits = probe.take()
    print(f"{what}: {len(waits)} acknowledgements of the known device, {percentile(waits, .5):.1f} ms (median), {percentile(waits, .99):.0f} ms (99 %)",
          flush=True)
    assert probe.away == 0, f"{what}: the known device was cut off"
    assert percentile(waits, .5) < 250, f"{what}: the known device waits"


def pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def client_hello(s):
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=s.ca).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def memory_of_strangers():
    """What one may cost before it has shown who it is; a new server for each, so that nothing is found in old memory."""
    n = 3000
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(n + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    for name, door, first, limit in (("silent", "mqtt", lambda s: b"", 8192), ("half a CONNECT", "mqtt", lambda s: b"\x10\xc8\x01\0\4MQTT", 8192),
                                     ("half a TLS hello", "mqtts", lambda s: client_hello(s)[:150], 8192),
                                     ("a TLS hello and no more", "mqtts", client_hello, 49152),
                                     ("half a head", "http", lambda s: b"GET / HTTP/1.1\r\nHost: x\r\n", 8192)):
        with muster.Server(release=True, args=("--mqtt.connect_timeout", "60s", "--log.level", "warn")) as s:
            s.device("d", TOKEN)
            with known(s) as probe:
                is_there(probe)
                before = pss_kb(s.process.pid)
                socks = [dial(s, door) for _ in range(n)]
                data = first(s)
                for k in socks:
                    k.sendall(data)
                time.sleep(1 if limit == 8192 else 6)  # handshakes take their time
                each = (pss_kb(s.process.pid) - before) * 1024 / n
                unnoticed(probe, f"{n} strangers, {name}, {each:.0f} bytes each")
            assert each <= limit, f"{name} on {door}: {each:.0f} bytes each; allowed: {limit}"
            for k in socks:
                k.close()


def let_in(make, i):
    """Whether device number i comes in and is heard."""
    try:
        c = make(f"d{i}", TOKEN + str(i)).connect()
        assert c.publish("$muster/telemetry", '{"t":1}', qos=1) == 0
        c.disconnect()
        return True
    except (OSError, mqtt.Closed, TimeoutError):
        return False


def every_door(s):
    """A device at each door, which lets it in before ten seconds are over."""
    for i, make in enumerate((lambda n, t: mqtt.Client("127.0.0.1", s.ports["mqtt"], n, n, t),
                              lambda n, t: mqtt.Client("127.0.0.1", s.ports["mqtts"], n, n, t, ca=s.ca),
                              lambda n, t: ws.Client("127.0.0.1", s.ports["http"], n, n, t),
                              lambda n, t: ws.Client("127.0.0.1", s.ports["https"], n, n, t, tls=s.ca))):
        muster.wait_for(f"door {i} to let a device in", lambda i=i, make=make: let_in(make, i), 10)


def doors_stay_open():
    """More strangers than descriptors: who is known stays, and who can show it gets in at every door."""
    with muster.Server(release=True, prefix=("prlimit", "--nofile=250:250"), args=("--mqtt.connect_timeout", "60s", "--log.level", "warn")) as s:
        s.device("d", TOKEN)
        for i in range(4):
            s.device(f"d{i}", TOKEN + str(i))
        with known(s) as probe:
            is_there(probe)
            strangers = []
            for i in range(500):
                try:
                    k = dial(s, DOORS[i % 4])
                    if i % 3 == 0:
                        k.sendall(b"\x16\x03\x01\x01" if i % 2 else b"\x10")
                    strangers.append(k)
                except OSError:
                    pass
            start = time.monotonic()
            every_door(s)
            print(f"four devices at four doors among {len(strangers)} strangers: {time.monotonic() - start:.1f} s")
            cpu, at = s.cpu_s(), time.monotonic()
            time.sleep(2)
            busy = (s.cpu_s() - cpu) / (time.monotonic() - at)
            assert busy < 0.3, f"{busy:.0%} of a processor while strangers wait"
            for k in strangers:
                k.close()
            unnoticed(probe, "more strangers than descriptors")


def main():
    memory_of_strangers()
    doors_stay_open()
    return 0


if __name__ == "__main__":
    sys.exit(main())
