"""Strangers at every door, with and without TLS: rubbish, slow bytes, silence, and peers that never read.

What must hold: the server lives, every such connection ends in the time that is allowed, descriptors and memory return to what they were,
and another device's messages are acknowledged as before (its latency is printed).

    GARBAGE=20000 for more connections with rubbish (default 600); SEED for other rubbish
"""
import os
import random
import selectors
import socket
import ssl
import sys
import threading
import time

import mqtt
import muster
from watch import Peak, Probe, percentile, quiet_again, sockets

SEED = int(os.environ.get("SEED", "5"))
GARBAGE = int(os.environ.get("GARBAGE", "600"))
TOKEN = "token-of-the-bystander-0123456789"
CONNECT = mqtt.connect_packet("victim", "victim", TOKEN + "-too")
CONNECT_311 = mqtt.connect_packet("victim", "victim", TOKEN + "-too", version=4)
UPGRADE = (b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
REQUEST = b"POST /api/v1/devices HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
HELLO = None  # a TLS ClientHello as OpenSSL makes it


def client_hello():
    """The first bytes of a TLS connection."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def unverified(alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def frame(payload, first=b"\x82"):
    """A WebSocket frame with a mask that changes nothing."""
    return first + (bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")) + b"\0\0\0\0" + payload


# --- rubbish -----------------------------------------------------------------------------------------------------------

def rubbish(rng):
    """Bytes that begin like something, or like nothing."""
    start = rng.choice([b"", b"", CONNECT, CONNECT_311, UPGRADE, REQUEST, HELLO, CONNECT + CONNECT, UPGRADE + b"\x82\xfe",
                        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n", b"\x10\xff\xff\xff\x7f", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
    data = bytearray(start + rng.randbytes(rng.choice([0, 1, 3, 50, 1000, 9000])))
    for _ in range(rng.choice([0, 0, 1, 1, 4, 40])):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3 and data:
        del data[rng.randrange(len(data)):]
    return bytes(data)


def throw(port, tls, data, how):
    """Connects, says it, and ends in one of several ways: the server may be in the middle of it."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), 5)
        try:
            if tls:
                sock = unverified(rng_alpn(how)).wrap_socket(sock, server_hostname="localhost")
            sock.settimeout(0.05)
            sock.sendall(data)
            if how == 0:
                sock.shutdown(socket.SHUT_WR)
            if how != 1:
                sock.recv(4096)
        finally:
            sock.close()
    except OSError:
        pass


def rng_alpn(how):
    return [None, ["mqtt"], ["http/1.1"], ["nonsense"]][how % 4]


# What is said at every door, in the clear and in TLS with each protocol; who says it then waits.
SAID = [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 2000, b"\xff" * 2000, b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x03\x01", CONNECT[:-1] + b"!", frame(b"x" * 200),
        UPGRADE + b"\xfe" * 3000, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"SSH-2.0-x\r\n", b"\x10\xff\xff\xff\x7f", b"\x10\x80\x80\x80\x80\x80", b"\x30\x05hello"]


def said(s, rng):
    """Rubbish from peers that wait for what comes of it: the server ends every one."""
    things = SAID + [rng.randbytes(n) for n in (1, 7, 100, 5000, 70000)] + [HELLO[:11] + rng.randbytes(len(HELLO) - 11)]
    waiting = []
    for door in ("mqtt", "mqtts", "http", "https"):
        for alpn in (None, ["mqtt"], ["http/1.1"]) if door.endswith("s") else (None,):
            for thing in things:
                sock = socket.create_connection(("127.0.0.1", s.ports[door]), 15)
                try:
                    if alpn:
                        sock = unverified(alpn).wrap_socket(sock, server_hostname="localhost")
                    sock.sendall(thing)
                    waiting.append((f"{thing[:20]!r} on {door} ({alpn})", sock))
                except OSError:
                    sock.close()  # ended while it was still being sent
    for what, sock in waiting:
        sock.settimeout(14)
        try:
            while sock.recv(65536):
                pass
        except TimeoutError as e:
            raise AssertionError(f"{what}: not ended") from e
        except OSError:
            pass
        sock.close()
    return len(waiting)


def thrown(s, rng):
    """Rubbish from peers that go away by themselves."""
    doors = [(s.ports[name], tls) for name in ("mqtt", "mqtts", "http", "https") for tls in ((False, True) if name.endswith("s") else (False,))]
    jobs = [(*doors[i % len(doors)], rubbish(rng), rng.randrange(4)) for i in range(GARBAGE)]
    lock = threading.Lock()

    def worker():
        while True:
            with lock:
                if not jobs:
                    return
                job = jobs.pop()
            throw(*job)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def garbage(s):
    rng = random.Random(SEED)
    thrown(s, rng)
    return f"{GARBAGE} connections that went away, {said(s, rng)} that waited, at every door"


# --- slowness ------------------------------------------------------------------------------------------------------------

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 999
SOON, LATER = (1, 5), (9, 14)  # what mqtt.connect_timeout of 2 s, and what the 10 s of a head and of the HTTPS door come to
# Where (a list: TLS with these protocols asked for), what is said at once, what a byte at a time, and when it must have ended. Those with
# the most time are opened first.
SLOW = [("HTTP body", "http", None, REQUEST, b" " * 20, (9, 30)), ("HTTP head", "http", None, b"", HEAD, LATER),
        ("HTTP head at the MQTT door", "mqtts", ["http/1.1"], b"", HEAD, LATER), ("nothing to HTTP", "http", None, b"", b"", LATER),
        ("WebSocket head", "http", None, b"", UPGRADE[:-2] + b"X-Slow: " + b"z" * 999, LATER), ("TLS hello to HTTPS", "https", None, b"", None, LATER),
        ("CONNECT at the HTTPS door", "https", ["mqtt"], b"", CONNECT * 20, LATER),
        ("CONNECT of x-amzn-mqtt-ca at the HTTPS door", "https", ["x-amzn-mqtt-ca"], b"", CONNECT * 20, LATER),
        ("CONNECT in small frames", "https", ["http/1.1"], UPGRADE, b"".join(frame(CONNECT[i:i + 1]) for i in range(len(CONNECT))), SOON),
        ("CONNECT in a WebSocket", "http", None, UPGRADE, frame(CONNECT * 20), SOON), ("nothing in a WebSocket", "http", None, UPGRADE, b"", SOON),
        ("pings in a WebSocket", "http", None, UPGRADE, frame(b"", b"\x89") * 200, SOON), ("TLS hello", "mqtts", None, b"", None, SOON),
        ("CONNECT in TLS", "mqtts", [], b"", CONNECT * 20, SOON), ("nothing in TLS", "mqtts", ["mqtt"], b"", b"", SOON),
        ("nothing to TLS", "mqtts", None, b"", b"", SOON), ("CONNECT", "mqtt", None, b"", CONNECT * 20, SOON), ("nothing", "mqtt", None, b"", b"", SOON)]
EACH = 20


class Slow:
    def __init__(self, s, name, port, alpn, at_once, data, within):
        self.name, self.within, self.at = name, within, 0
        self.data = HELLO if data is None else data
        self.sock = socket.create_connection(("127.0.0.1", s.ports[port]), 10)
        if alpn is not None:
            self.sock = unverified(alpn).wrap_socket(self.sock, server_hostname="localhost")
        self.sock.sendall(at_once)
        self.begin = time.monotonic()
        self.sock.setblocking(False)

    def step(self):
        """One byte more; True when the server has ended it."""
        try:
            if self.at < len(self.data):
                self.sock.send(self.data[self.at:self.at + 1])
                self.at += 1
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        except OSError:
            return True
        try:
            while self.sock.recv(4096):  # an answer to what was said at once
                pass
            return True
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True


def slow(s):
    open_ones = [Slow(s, *row) for row in SLOW for _ in range(EACH)]
    took = {}
    while open_ones:
        time.sleep(0.25)
        for one in list(open_ones):
            spent = time.monotonic() - one.begin
            if one.step():
                took[one.name] = max(took.get(one.name, 0), spent)
                open_ones.remove(one)
                one.sock.close()
                assert spent > one.within[0], f"{one.name}: ended after {spent:.1f} s already, allowed {one.within[0]}"
            assert spent < one.within[1] + 3, f"{one.name}: still open after {spent:.0f} s; it sent {one.at} of {len(one.data)} bytes"
    for name, *_, (_, most) in SLOW:
        assert took[name] <= most, f"{name}: ended after {took[name]:.1f} s, allowed {most}"
    return f"{EACH} of each kind ended after " + ", ".join(f"{n} {t:.1f} s" for n, t in took.items())


# --- peers that never read -----------------------------------------------------------------------------------------------

def deaf(s):
    """A device that publishes and never reads its acknowledgements is not read either: it cannot make the server keep them."""
    sockets = []
    for i in range(10):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(("127.0.0.1", s.ports["mqtt"]))
        sock.sendall(mqtt.connect_packet(f"deaf{i}", f"deaf{i}", TOKEN + str(i), version=4))
        assert sock.recv(4)[:2] == b"\x20\x02"
        sock.setblocking(False)
        sockets.append(sock)
    one = mqtt.publish_packet("$muster/telemetry", b'{"v":1}', 1, 1, version=4)
    selector = selectors.DefaultSelector()
    for sock in sockets:
        selector.register(sock, selectors.EVENT_WRITE)
    pushed, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            try:
                pushed += key.fileobj.send(one * 200)
            except OSError:
                selector.unregister(key.fileobj)
    for sock in sockets:
        sock.close()
    return f"10 devices pushed {pushed / 1e6:.1f} MB and read nothing"


def main():
    global HELLO
    HELLO = client_hello()
    # Memory is measured: the sanitizer keeps little of what was freed.
    env = {"ASAN_OPTIONS": muster.SANITIZE["ASAN_OPTIONS"] + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}
    with muster.Server(args=("--mqtt.connect_timeout", "2s"), env=env) as s:
        s.device("bystander", TOKEN)
        s.device("victim", TOKEN + "-too")
        for i in range(10):
            s.device(f"deaf{i}", TOKEN + str(i))
        with Probe(s, "bystander", TOKEN) as probe:
            time.sleep(1)
            muster.wait_for("the bystander", lambda: len(probe.latencies_ms) > 20)
            before = probe.take()
            # One round warms up what is made once.
            throw(s.ports["mqtts"], True, b"\x10", 0)
            throw(s.ports["https"], True, UPGRADE, 2)
            open_sockets, rss = sockets(s), s.rss_kb()
            print(f"at rest: bystander p50 {percentile(before, .5):.1f} ms, p99 {percentile(before, .99):.0f} ms; {rss / 1024:.0f} MB", flush=True)
            for attack in (garbage, slow, deaf):
                with Peak(s) as peak:
                    what = attack(s)
                latencies = probe.take()
                quiet_again(s, open_sockets + 1)
                print(f"{attack.__name__}: {what}; bystander p50 {percentile(latencies, .5):.1f} ms, p99 {percentile(latencies, .99):.0f} ms, worst "
                      f"{percentile(latencies, 1):.0f} ms; memory peak {peak.kb / 1024:.0f} MB", flush=True)
                assert s.process.poll() is None, "the server is gone"
                assert latencies and percentile(latencies, 1) < 5000, "the bystander had to wait"
                assert peak.kb < rss * 1.5 + 65536, f"memory went from {rss} to {peak.kb} KiB"
            assert probe.away == 0, f"the bystander was cut off {probe.away} times"
        assert s.ledger("bystander")["stored"] == probe.acked, (s.ledger("bystander"), probe.acked)


if __name__ == "__main__":
    sys.exit(main())
