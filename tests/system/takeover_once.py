"""QoS 2 to topics of every kind while another connection of the same client takes the session over: what the old connection has
said and what the new one says again is one point, one event, one message, for stored and for connected subscribers alike.

ROUNDS (400), SEED.
"""
import collections
import os
import random
import socket
import struct
import sys
import threading
import time

import mqtt
import muster

ROUNDS = int(os.environ.get("ROUNDS", 400))
SEED = int(os.environ.get("SEED", 1))
KEPT = b"\x11" + struct.pack("!I", 3600)
TOKEN = "token-of-taker-0123456789"
TELEMETRY, EVENT, RELAY = 1, 2, 3


class Wire:
    """One connection, blocking, packet by packet."""

    def __init__(self, s):
        self.sock = socket.create_connection(("127.0.0.1", s.ports["mqtt"]), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(10)
        self.data = b""

    def connect(self):
        self.sock.sendall(mqtt.connect_packet("taker", "taker", TOKEN, clean=False, properties=KEPT))

    def more(self):
        data = self.sock.recv(4096)
        if not data:
            raise ConnectionError("closed")
        self.data += data

    def packet(self):
        while len(self.data) < 2 or len(self.data) < 2 + self.data[1]:
            assert len(self.data) < 2 or self.data[1] < 128, self.data
            self.more()
        n = 2 + self.data[1]
        p, self.data = self.data[:n], self.data[n:]
        return p

    def connack(self):
        p = self.packet()
        assert p[0] == 0x20 and p[3] == 0, p.hex()
        return p[2] == 1

    def say(self, n, dup):
        for pid, topic, payload in ((TELEMETRY, "$muster/telemetry", b'{"n":%d}' % n), (EVENT, "$muster/event/e", b"%d" % n), (RELAY, "t/r", b"%d" % n)):
            self.sock.sendall(mqtt.publish_packet(topic, payload, qos=2, packet_id=pid, dup=dup))

    def acknowledged(self, first):
        """The ids of the next three packets of this kind; none may be refused."""
        ids = set()
        while len(ids) < 3:
            p = self.packet()
            assert p[0] == first and (len(p) < 5 or p[4] in (0, 0x10)), p.hex()
            ids.add(struct.unpack("!H", p[2:4])[0])
        assert ids == {TELEMETRY, EVENT, RELAY}, ids

    def finish(self):
        self.acknowledged(0x50)
        for pid in (TELEMETRY, EVENT, RELAY):
            self.sock.sendall(mqtt.packet(0x62, struct.pack("!H", pid)))
        self.acknowledged(0x70)


def subscriber(s, name, seen, **kw):
    s.device(name, f"token-of-{name}-0123456789")
    c = mqtt.Client("127.0.0.1", s.ports["mqtt"], name, name, f"token-of-{name}-0123456789", **kw).connect()
    c.subscribe("t/#", qos=1)

    def read():
        while True:
            try:
                seen[int(c.recv(timeout=60)[1])] += 1
            except (TimeoutError, OSError):
                return

    threading.Thread(target=read, daemon=True).start()
    return c


def events(s):
    seen, cursor = collections.Counter(), ""
    while cursor is not None:
        page = s.api("GET", "/api/v1/devices/taker/events?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        seen.update(e["data"] for e in page["items"])
        cursor = page["next"]
    return seen


def rounds(s, chance):
    old = Wire(s)
    old.connect()
    assert not old.connack()
    for n in range(ROUNDS):
        new = Wire(s)
        if chance.random() < 0.5:
            old.say(n, dup=False)
            time.sleep(chance.choice((0, 0, 0.0002, 0.001, 0.005)))
            new.connect()
        else:
            new.connect()
            time.sleep(chance.choice((0, 0, 0.0001, 0.0003, 0.0006)))
            try:
                old.say(n, dup=False)
            except OSError:
                pass  # it has been thrown out already
        assert new.connack(), "the session is gone"
        new.say(n, dup=True)
        new.finish()
        old.sock.close()
        old = new
    old.sock.close()


def main():
    print(f"SEED={SEED}", flush=True)
    with muster.Server(args=("--ban.flapping_connects", "0", "--ban.takeovers", "0")) as s:
        s.api("POST", "/api/v1/policies", {"id": "all", "document": {"statements": [
            {"effect": "allow", "actions": ["publish", "subscribe", "receive"], "topics": ["t/#"]}]}})
        s.api("POST", "/api/v1/policies/all/attachments", {"kind": "tenant", "target": "default"})
        s.device("taker", TOKEN)
        stored, live = collections.Counter(), collections.Counter()
        subscriber(s, "stored", stored, clean=False, properties=KEPT)
        subscriber(s, "live", live)
        rounds(s, random.Random(SEED))
        want = collections.Counter(range(ROUNDS))
        muster.wait_for("all messages", lambda: len(stored) == ROUNDS and len(live) == ROUNDS)
        time.sleep(0.3)
        points = collections.Counter(int(p["v"] if isinstance(p, dict) else p[1]) for p in s.points("taker", "n"))
        for name, seen in (("points", points), ("events", events(s)), ("stored", stored), ("live", live)):
            assert seen == want, f"{name}: lost {want - seen}, more than once {seen - want}"
        ledger = s.ledger("taker")
        assert muster.ledger_adds_up(ledger) and ledger["stored"] == 2 * ROUNDS and ledger["in_flight"] == 0, ledger
        print(f"{ROUNDS} takeovers, {sum(ledger['refused'].values())} messages came too late on their first connection; once each")


if __name__ == "__main__":
    sys.exit(main())
