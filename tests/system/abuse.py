"""Strangers at every door: garbage, half of everything, byte by byte, too many at once. Each is ended in its time, memory is bounded, and
a device that is connected does not notice."""
import os
import random
import resource
import socket
import ssl
import sys
import threading
import time

import mqtt
import muster
import ws

TOKEN = "token-of-the-device-among-strangers-01"
CONNECT_S = 2
ARGS = ("--mqtt.connect_timeout", f"{CONNECT_S}s", "--log.level", "warn")
DOORS = ("mqtt", "mqtts", "http", "https")


def secured(s, raw, alpn):
    context = ssl.create_default_context(cafile=s.ca)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context.wrap_socket(raw, server_hostname="localhost")


def dial(s, door, timeout=15):
    return socket.create_connection(("127.0.0.1", s.ports[door]), timeout)


class Known:
    """A device that publishes all the time; how long its acknowledgements take."""

    def __init__(self, s):
        self.client = mqtt.Client("127.0.0.1", s.ports["mqtts"], "d", "d", TOKEN, ca=s.ca).connect()
        self.waits, self.stop, self.failed = [], False, None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stop:
                t = time.monotonic()
                assert self.client.publish("$muster/telemetry", '{"t":1}', qos=1) == 0
                self.waits.append(time.monotonic() - t)
                time.sleep(0.02)
        except Exception as e:  # pylint: disable=broad-except  # told by end()
            self.failed = e

    def end(self, what):
        self.stop = True
        self.thread.join()
        assert self.failed is None, f"{what}: the known device failed: {self.failed!r}"
        waits = sorted(self.waits)
        print(f"{what}: {len(waits)} acknowledgements of the known device, {waits[len(waits) // 2] * 1000:.1f} ms (median), "
              f"{waits[int(len(waits) * 0.99)] * 1000:.0f} ms (99 %)")
        assert waits[len(waits) // 2] < 0.25, f"{what}: the known device waits"
        self.client.disconnect()


def ended(sock, within):
    """Reads to the end; how long that took."""
    start = time.monotonic()
    sock.settimeout(within)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return None
    except OSError:
        pass
    return time.monotonic() - start


# --- garbage ---------------------------------------------------------------------------------------------------------

def garbage(s):
    rng = random.Random(7)
    hello = bytes.fromhex("16030100c8010000c40303") + rng.randbytes(194)
    things = [rng.randbytes(n) for n in (1, 7, 100, 5000, 70000)] + [
        b"GET / HTTP/1.0\r\n\r\n", b"\0" * 2000, b"\xff" * 2000, hello, b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x03\x01",
        mqtt.connect_packet("d", "d", "wrong"), ws.frame(0x82, b"x" * 200), ws.request()[0] + rng.randbytes(3000),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"SSH-2.0-x\r\n", b"\x10\xff\xff\xff\x7f", b"\x10\x80\x80\x80\x80\x80", b"\x30\x05hello"]
    known = Known(s)
    open_ones = []
    for door in DOORS:
        for layer in (None, "mqtt", "http/1.1") if door.endswith("s") else (None,):
            for thing in things:
                sock = dial(s, door)
                try:
                    if layer:
                        sock = secured(s, sock, layer)
                    sock.sendall(thing)
                    open_ones.append((door, layer, thing, sock))
                except OSError:
                    pass  # ended while it was still being sent
    for door, layer, thing, sock in open_ones:
        took = ended(sock, 14)
        assert took is not None, f"{thing[:20]!r} on {door} ({layer}): not ended"
        sock.close()
    known.end(f"garbage, {len(open_ones)} connections")


# --- slowly ----------------------------------------------------------------------------------------------------------

def drip(send, data, stop):
    """One byte now and then, until the server has enough."""
    try:
        for i in range(len(data)):
            if stop.wait(0.2):
                return
            send(data[i:i + 1])
    except OSError:
        pass


def slowly(s):
    """Who does not come to the point is ended, however busy he seems."""
    connect = mqtt.connect_packet("d" * 200, "d", TOKEN)
    head = ws.request(more=["X: " + "x" * 500])[0]
    hello = bytes.fromhex("16030100c8010000c40303") + b"\0" * 194

    def raw(door, data):
        sock = dial(s, door)
        return sock, sock.sendall, data

    def tls(door, alpn, data):
        sock = secured(s, dial(s, door), alpn)
        return sock, sock.sendall, data

    def framed(tls_ca, data):
        w = ws.dial(s.ports["https" if tls_ca else "http"], tls=tls_ca)
        return w.sock, w.sock.sendall, data

    cases = [("silent on mqtt", CONNECT_S, raw("mqtt", b"")), ("CONNECT in bytes", CONNECT_S, raw("mqtt", connect)),
             ("silent on mqtts", CONNECT_S, raw("mqtts", b"")), ("hello in bytes on mqtts", CONNECT_S, raw("mqtts", hello)),
             ("hello in bytes on https", 10, raw("https", hello)), ("silent after the handshake", CONNECT_S, tls("mqtts", "mqtt", b"")),
             ("CONNECT in bytes, x-amzn-mqtt-ca on https", 10, tls("https", "x-amzn-mqtt-ca", connect)),
             ("head in bytes on http", 10, raw("http", head)), ("head in bytes, http/1.1 on mqtts", 10, tls("mqtts", "http/1.1", head)),
             ("silent in a WebSocket", CONNECT_S, framed(None, b"")), ("frame header in bytes", CONNECT_S, framed(None, ws.frame(0x82, b"x" * 200))),
             ("CONNECT in small frames", CONNECT_S, framed(s.ca, b"".join(ws.frame(0x82, connect[i:i + 1]) for i in range(len(connect))))),
             ("pings for ever", CONNECT_S, framed(None, ws.frame(0x89, b"") * 200))]
    known = Known(s)
    stop = threading.Event()
    results = {}

    def play(name, sock, send, data):
        dripping = threading.Thread(target=drip, args=(send, data, stop))
        start = time.monotonic()
        dripping.start()
        while time.monotonic() < start + 20:
            sock.settimeout(0.5)
            try:
                if not sock.recv(4096):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            start = None
        results[name] = time.monotonic() - start if start else None
        sock.close()
        dripping.join()

    threads = [threading.Thread(target=play, args=(name, *how)) for name, _, how in cases]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    stop.set()
    for name, limit, _ in cases:
        assert results[name] is not None, f"{name}: never ended"
        assert limit - 1 < results[name] < limit + 3, f"{name}: ended after {results[name]:.1f} s; allowed: {limit} s"
    known.end("slow strangers")


# --- many ------------------------------------------------------------------------------------------------------------

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
            known = Known(s)
            time.sleep(0.5)
            before = pss_kb(s.process.pid)
            socks = [dial(s, door) for _ in range(n)]
            data = first(s)
            for k in socks:
                k.sendall(data)
            time.sleep(1 if limit == 8192 else 6)  # handshakes take their time
            each = (pss_kb(s.process.pid) - before) * 1024 / n
            known.end(f"{n} strangers, {name}, {each:.0f} bytes each")
            assert each <= limit, f"{name} on {door}: {each:.0f} bytes each; allowed: {limit}"
            for k in socks:
                k.close()


def doors_stay_open():
    """More strangers than descriptors: who is known stays, and who can show it gets in at every door."""
    with muster.Server(release=True, prefix=("prlimit", "--nofile=250:250"), args=("--mqtt.connect_timeout", "60s", "--log.level", "warn")) as s:
        s.device("d", TOKEN)
        for i in range(4):
            s.device(f"d{i}", TOKEN + str(i))
        known = Known(s)
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
        for i, make in enumerate((lambda n, t: mqtt.Client("127.0.0.1", s.ports["mqtt"], n, n, t),
                                  lambda n, t: mqtt.Client("127.0.0.1", s.ports["mqtts"], n, n, t, ca=s.ca),
                                  lambda n, t: ws.Client("127.0.0.1", s.ports["http"], n, n, t),
                                  lambda n, t: ws.Client("127.0.0.1", s.ports["https"], n, n, t, tls=s.ca))):
            def let_in(i=i, make=make):
                try:
                    c = make(f"d{i}", TOKEN + str(i)).connect()
                    assert c.publish("$muster/telemetry", '{"t":1}', qos=1) == 0
                    c.disconnect()
                    return True
                except (OSError, mqtt.Closed, TimeoutError):
                    return False
            muster.wait_for(f"door {i} to let a device in", let_in, 10)
        print(f"four devices at four doors among {len(strangers)} strangers: {time.monotonic() - start:.1f} s")
        cpu, at = s.cpu_s(), time.monotonic()
        time.sleep(2)
        busy = (s.cpu_s() - cpu) / (time.monotonic() - at)
        assert busy < 0.3, f"{busy:.0%} of a processor while strangers wait"
        for k in strangers:
            k.close()
        known.end("more strangers than descriptors")


def main():
    with muster.Server(args=ARGS) as s:
        s.device("d", TOKEN)
        fds = len(os.listdir(f"/proc/{s.process.pid}/fd"))
        garbage(s)
        slowly(s)
        muster.wait_for("all descriptors are back", lambda: len(os.listdir(f"/proc/{s.process.pid}/fd")) <= fds + 2)
    memory_of_strangers()
    doors_stay_open()
    return 0


if __name__ == "__main__":
    sys.exit(main())
