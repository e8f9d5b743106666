"""Half-open connections: 500 clients in a network of their own whose packets are dropped from one moment on, without FIN or RST.

Most are devices that wait for messages; some have filled the window towards them, some are in the middle of a TLS handshake, some go on
publishing at QoS 2 while only what the server says is lost, and some come back over another way before the server has noticed.

What must hold: nobody is taken for gone before the keep-alive is over, everybody is at 1.5 times of it (presence, will, socket); the
server's memory stays within what the limits allow and comes back; a bystander is served as before. After the network is back each session
is there, what was published meanwhile arrives, and what was in flight at QoS 2 arrives once. Skipped where there is no network namespace.
"""
import socket
import ssl
import struct
import sys
import time

import mqtt
import muster
import netns
import open_broker
from hostile import client_hello
from session import Session
from watch import Peak, Probe, percentile, quiet_again, sockets

KEEP_ALIVE_S = 4
DUE_S = 1.5 * KEEP_ALIVE_S
SLACK_S = 1.0  # of the looking: the server's timers, and the pages of the list of presence
QUIET, MOVERS, FULL, FULL_MOVERS, TALKERS, SHAKING = 330, 20, 50, 5, 50, 50
OUTPUT_MAX = 512 * 1024
FLOOD, FLOODS = b"f" * 32768, 64
CUT_OFF, ONE_WAY, OTHER_WAY = (netns.Network.client(i) for i in range(3))  # addresses
TOKEN = "token-of-{}-0123456789-0123456789"


class Device(Session):
    """A session whose socket is beyond the router. `via`: its address there."""

    def __init__(self, net, s, name, via, small=False, **kw):
        super().__init__(s.ports["mqtt"], name, host=netns.SERVER, username=name, password=TOKEN.format(name), keepalive=KEEP_ALIVE_S, **kw)
        self.net, self.via, self.small = net, via, small

    def connect_socket(self):
        with self.net.at_clients():
            sock = socket.socket()
        if self.small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20)
        sock.bind((self.via, 0))
        sock.connect((self.host, self.port))
        return sock

    def say(self, data):
        """Without waiting for anything."""
        self.sock.sendall(data)


def publish_once(pid, name, dup=False):
    return mqtt.publish_packet(f"h/once/{name}", name.encode(), 2, pid, 5, dup=dup)


class World:
    def __init__(self, s, net):
        self.s, self.net = s, net
        s.api("POST", "/api/v1/policies", {"id": "half", "document": {"statements": [
            {"effect": "allow", "actions": ["publish", "subscribe", "receive"], "topics": ["h/#"]}]}})
        self.quiet = self.make("quiet", QUIET + MOVERS, CUT_OFF)
        self.movers = self.quiet[QUIET:]
        self.full = self.make("full", FULL, CUT_OFF, small=True, expiry_s=0)
        self.moved = self.movers + self.full[:FULL_MOVERS]
        self.talkers = self.make("talker", TALKERS, ONE_WAY)
        self.watcher = Session(s.ports["mqtt"], "watcher", host=netns.SERVER, timeout=20)
        self.shaking, self.seen = [], {}  # topic -> [seconds after the cut]

    def make(self, kind, count, via, **kw):
        names = [f"{kind}{i}" for i in range(count)]
        for name in names:
            self.s.device(name, TOKEN.format(name))
            self.s.api("POST", "/api/v1/policies/half/attachments", {"kind": "device", "target": name})
        return [Device(self.net, self.s, name, via, timeout=20, **kw) for name in names]

    def devices(self):
        return self.quiet + self.full + self.talkers

    def connect(self):
        self.watcher.open(clean=True)
        for topic_filter, qos in (("h/will/#", 1), ("h/once/#", 2)):
            assert self.watcher.subscribe(topic_filter, qos) == qos
        for d in self.devices():
            d.open(clean=True, will=(f"h/will/{d.client_id}", b"gone", 1, False, 0))
            assert d.subscribe("h/flood" if d in self.full else f"h/to/{d.client_id}", 0 if d in self.full else 1) < 3

    def fill(self):
        """More to those that do not read than windows and kernels take."""
        for _ in range(FLOODS):
            self.watcher.publish("h/flood", FLOOD, 0)
            self.watcher.ping()

    def shake(self):
        """TLS handshakes that stop: after a whole ClientHello, and in the middle of it."""
        hello = client_hello()
        for i in range(SHAKING):
            with self.net.at_clients():
                sock = socket.create_connection((netns.SERVER, self.s.ports["mqtts"]), 20, source_address=(CUT_OFF, 0))
            sock.sendall(hello if i % 2 else hello[:len(hello) // 2])
            self.shaking.append(sock)

    def speak(self):
        """Everybody's last word."""
        for d in self.devices():
            d.say(b"\xc0\0")
        for d in self.quiet + self.talkers:
            d.take(0.0)

    def cut(self):
        self.net.cut(CUT_OFF)
        self.net.cut(ONE_WAY, both=False)
        self.cut_at = time.monotonic()
        for d in self.talkers:
            d.say(publish_once(7, d.client_id))
        for d in self.quiet:
            self.watcher.publish(f"h/to/{d.client_id}", d.client_id.encode(), 1)

    def since(self):
        return time.monotonic() - self.cut_at

    def look(self):
        for m in self.watcher.take(0.02):
            self.seen.setdefault(m.topic, []).append((self.since(), m.payload))

    def gone(self):
        """The devices that are not online."""
        names, cursor = set(), ""
        while cursor is not None:
            page = self.s.api("GET", f"/api/v1/presence?online=false&limit=1000{cursor and '&cursor=' + cursor}")
            names |= {p["device"] for p in page["items"]}
            cursor = page.get("next")
        return names

    def move(self):
        """They come back over another way, at once; what they have not acknowledged comes again."""
        for d in self.moved:
            dead, d.sock, d.via, begin = d.sock, None, OTHER_WAY, time.monotonic()
            there = d.open(clean=d in self.full)
            assert time.monotonic() - begin < 2, f"{d.client_id} waited {time.monotonic() - begin:.1f} s for its own dead connection"
            dead.close()
            got = {m.payload for m in d.take(2, count=1)} if d in self.movers else set()
            assert d in self.full or (there and got == {d.client_id.encode()}), (d.client_id, there, got)

    def keep_moved(self):
        for d in self.moved:
            d.ping()


def watch_them_go(w):
    """When each was first seen offline."""
    moved, offline = {d.client_id for d in w.moved}, {}
    everybody = {d.client_id for d in w.devices()} - moved
    next_ping = 0
    while set(offline) < everybody and w.since() < DUE_S + 5:
        w.look()
        for name in w.gone():
            offline.setdefault(name, w.since())
        if w.since() > next_ping:
            w.keep_moved()
            next_ping = w.since() + 1
    muster.wait_for("all wills", lambda: w.look() or len([t for t in w.seen if t.startswith("h/will/")]) == len(w.devices()), 5)
    assert not moved & set(offline), f"{moved & set(offline)} came back and are shown offline"
    assert set(offline) == everybody, f"{len(everybody - set(offline))} are still online {w.since():.1f} s after the cut, e.g. {sorted(everybody - set(offline))[:5]}"
    return offline


def judge_times(w, offline):
    wills = {d.client_id: w.seen[f"h/will/{d.client_id}"][0][0] for d in w.devices() if d not in w.moved}
    for what, times in (("shown offline", offline), ("will", wills)):
        early, late = min(times.items(), key=lambda p: p[1]), max(times.items(), key=lambda p: p[1])
        print(f"{what}: after {early[1]:.1f} to {late[1]:.1f} s of silence, keep-alive {KEEP_ALIVE_S} s", flush=True)
        assert early[1] >= KEEP_ALIVE_S, f"{what}: {early[0]} after {early[1]:.1f} s"
        assert late[1] <= DUE_S + SLACK_S, f"{what}: {late[0]} only after {late[1]:.1f} s"
    again = [t for t, times in w.seen.items() if len(times) != 1]
    assert not again, f"more than once: {again[:5]}"


def come_back(w):
    """The network is whole again: the sessions, what they missed, and what was in flight."""
    for d in w.quiet[:QUIET]:
        d.sock.close()
        d.sock = None
        assert d.open(clean=False), f"the session of {d.client_id} is gone"
        got = [m.payload for m in d.take(5, count=1)]
        assert got == [d.client_id.encode()], (d.client_id, got)
    for d in w.talkers:
        d.sock.close()
        d.sock = None
        assert d.open(clean=False), f"the session of {d.client_id} is gone"
        assert d._ask(7, publish_once(7, d.client_id, dup=True), 5) < 0x80 and d._ask(7, b"\x62\x02" + struct.pack("!H", 7), 7) < 0x80
    w.look()
    once = {d.client_id: [p for _, p in w.seen.get(f"h/once/{d.client_id}", [])] for d in w.talkers}
    wrong = {name: got for name, got in once.items() if got != [name.encode()]}
    again = [d.client_id for d in w.quiet if d.take(0.001)]
    assert not again, f"a message came twice to {again[:5]}"
    assert not wrong, f"QoS 2, not exactly once: {list(wrong.items())[:3]}"


def run(s, net):
    w = World(s, net)
    s.device("bystander", TOKEN.format("bystander"))
    with Probe(s, "bystander", TOKEN.format("bystander")) as probe:
        muster.wait_for("the bystander", lambda: len(probe.latencies_ms) > 50)
        warm_up_tls(s)
        w.watcher.open(clean=True)
        before, base_sockets, rss = probe.take(), sockets(s), s.rss_kb()
        with Peak(s) as peak:
            w.connect()
            w.fill()
            w.shake()
            w.speak()
            w.cut()
            probe.take()
            w.move()
            offline = watch_them_go(w)
            judge_times(w, offline)
            quiet_again(s, base_sockets + len(w.moved) + 1, 12)
        after = probe.take()
        held = FULL * OUTPUT_MAX // 1024 + (len(w.devices()) + SHAKING) * 48
        print(f"all sockets closed {w.since():.1f} s after the cut; memory {rss / 1024:.0f} MB, peak {peak.kb / 1024:.0f} MB of {(rss + held) / 1024:.0f} MB allowed; "
              f"bystander p50 {percentile(before, .5):.1f} ms and p99 {percentile(before, .99):.0f} ms before, {percentile(after, .5):.1f} and {percentile(after, .99):.0f} "
              f"meanwhile, worst {percentile(after, 1):.0f} ms", flush=True)
        assert peak.kb <= rss + held, f"memory went from {rss} to {peak.kb} kB"
        assert percentile(after, .99) < 1000 and probe.away == 0, "the bystander was not served"
        net.heal(CUT_OFF)
        net.heal(ONE_WAY, both=False)
        come_back(w)
    print(f"{QUIET + MOVERS} sessions with their messages, {TALKERS} messages in flight at QoS 2 arrived once")


def warm_up_tls(s):
    """One TLS connection, for what is made once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((netns.SERVER, s.ports["mqtts"]), 20) as sock:
            context.wrap_socket(sock).close()
    except OSError:
        pass


def main():
    netns.enter(__file__)
    net = netns.Network(clients=3)
    muster.Server.host = netns.SERVER
    # Memory is measured: the sanitizer keeps little of what was freed.
    env = {"ASAN_OPTIONS": muster.SANITIZE["ASAN_OPTIONS"] + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}
    with open_broker.Server(env=env, args=("--mqtt.connect_timeout", "5s", "--mqtt.output_max", str(OUTPUT_MAX), "--mqtt.connects_per_source", "0")) as s:
        run(s, net)


if __name__ == "__main__":
    sys.exit(main())
