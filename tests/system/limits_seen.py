"""Every limit on what clients may do or hold is a configuration key, counts in a metric and has a line in the log, and full queues are
told of by events: once when they begin to drop, once with the number when that is over.
"""
import concurrent.futures
import json
import socket
import ssl
import struct
import sys
import threading
import time

import mqtt
import muster
import open_broker

EXPIRY = b"\x11" + struct.pack("!I", 3600)
CLEAN = b""


def client(s, name, properties=CLEAN, **kw):
    return mqtt.Client("127.0.0.1", s.ports["mqtt"], name, timeout=5, properties=properties, **kw).connect()


def attempt(fn, *args, **kw):
    """Whatever a limit does to it."""
    try:
        return fn(*args, **kw)
    except (mqtt.Refused, mqtt.Closed, OSError, TimeoutError) as e:
        return e


def attempt_metric(s, name):
    """None: the limit holds for whoever asks, too."""
    try:
        return s.metric(name)
    except OSError:
        return None


def connects(n, properties=CLEAN):
    def go(s):
        return [attempt(client, s, f"c{i}", properties) for i in range(n)]
    return go


def one_after_another(s):
    for _ in range(8):
        c = attempt(client, s, "flapper")
        if isinstance(c, mqtt.Client):
            c.disconnect()


def sockets(n):
    def go(s):
        return [socket.create_connection(("127.0.0.1", s.ports["mqtt"]), 2) for _ in range(n)]
    return go


def briefly(n):
    """So that who asks for the metrics has room again."""
    def go(s):
        for c in sockets(n)(s):
            c.close()
    return go


def handshakes(s):
    """TLS clients that say hello and then nothing, and one that wants in."""
    out = []
    for _ in range(12):
        raw = socket.create_connection(("127.0.0.1", s.ports["mqtts"]), 2)
        context = ssl.create_default_context(cafile=s.ca)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        attempt(lambda t=tls: t.do_handshake())
        raw.sendall(outgoing.read())
        out.append(raw)
    return out


def subscribes(*filters):
    def go(s):
        c = client(s, "sub")
        assert 0x97 in c.subscribe(*filters)
        return c
    return go


def publishes(n, qos=0, retain=False, topic="t/{}", size=1):
    def go(s):
        c = client(s, "pub")
        for i in range(n):
            c.publish(topic.format(i), b"x" * size, qos=qos, retain=retain)
        return c
    return go


def away(n, size=1):
    """Messages for a session that is not there."""
    def go(s):
        client(s, "away", EXPIRY).subscribe("t/#")
        other = client(s, "stays", EXPIRY, clean=False)
        sub = client(s, "away", EXPIRY, clean=False)
        sub.disconnect()
        publishes(n, qos=1, size=size)(s)
        return other
    return go


def no_acks(n, size=1):
    """Messages for a client that acknowledges none."""
    def go(s):
        c = client(s, "slow", auto_ack=False)
        c.subscribe("t/#")
        publishes(n, qos=1, size=size)(s)
        return c
    return go


def reads_nothing(n, size):
    """QoS 0 for a client that does not read."""
    def go(s):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", s.ports["mqtt"]))
        sock.sendall(mqtt.connect_packet("deaf", None, None))
        sock.sendall(mqtt.packet(0x82, b"\x00\x01\x00" + mqtt.text("t/#") + b"\x00"))
        time.sleep(0.3)
        publishes(n, size=size)(s)
        return sock
    return go


QUOTA = 'muster_quota_exceeded_total{limit="%s"}'
MET = 'muster_limits_met_total{limit="%s"}'
# key, value, what a client does, metric, what the line in the log says, further arguments
TABLE = [
    ("quota.tenant_connections", "2", connects(4), QUOTA % "tenant_connections", "limit=connections", ()),
    ("quota.tenant_subscriptions", "2", subscribes("a", "b", "c"), QUOTA % "tenant_subscriptions", "limit=subscriptions", ()),
    ("quota.tenant_queued_bytes", "1KiB", away(20, 200), QUOTA % "tenant_queued_bytes", "limit=queued_bytes", ()),
    ("quota.tenant_messages", "5", publishes(30), QUOTA % "tenant_messages", "limit=messages", ()),
    ("quota.tenant_bytes", "1KiB", publishes(30, size=500), QUOTA % "tenant_bytes", "limit=bytes", ()),
    ("mqtt.publishes_per_client", "20", publishes(40), QUOTA % "client_messages", "limit=mqtt.publishes_per_client", ("--mqtt.publishes_burst", "5")),
    ("quota.client_bytes", "2KiB", publishes(40, size=500), MET % "quota.client_bytes", "limit=quota.client_bytes", ("--quota.client_bytes_burst", "1KiB")),
    ("broker.subscriptions_max", "2", subscribes("a", "b", "c"), MET % "broker.subscriptions_max", "limit=broker.subscriptions_max", ()),
    ("broker.sessions_max", "1", connects(3, EXPIRY), MET % "broker.sessions_max", "limit=broker.sessions_max", ()),
    ("broker.retained_max", "2", publishes(4, qos=1, retain=True), MET % "broker.retained_max", "limit=broker.retained_max", ()),
    ("broker.queue_max", "5", away(20), 'muster_mqtt_queue_dropped_total{reason="full"}', "where=session", ()),
    ("broker.queue_bytes_max", "64KiB", away(20, 10000), 'muster_mqtt_queue_dropped_total{reason="full"}', "where=session", ()),
    ("mqtt.queue_max", "5", no_acks(30), 'muster_mqtt_publishes_dropped_total{reason="queue_full"}', "where=connection", ("--mqtt.send_max", "2")),
    ("mqtt.queue_bytes_max", "64KiB", no_acks(20, 10000), 'muster_mqtt_publishes_dropped_total{reason="queue_full"}', "where=connection",
     ("--mqtt.send_max", "2")),
    ("mqtt.send_max", "2", no_acks(5), MET % "mqtt.send_max", "limit=mqtt.send_max", ()),
    ("mqtt.output_max", "512KiB", reads_nothing(200, 100000), 'muster_mqtt_publishes_dropped_total{reason="slow_consumer"}', "where=connection", ()),
    ("listen.connections_max", "3", sockets(6), "muster_listener_pauses_total", "accepting pauses", ()),
    ("listen.connections_per_source", "3", briefly(6), "muster_refused_source_total", "connection refused", ("--listen.limit_loopback", "true")),
    ("listen.accept_rate", "5", sockets(30), "muster_accept_rate_pauses_total", "accepting waits", ("--listen.accept_burst", "5")),
    ("tls.handshakes_max", "1", handshakes, "muster_tls_handshakes_waited_total", "TLS handshakes wait", ("--io-threads", "1")),
    ("mqtt.connects_per_source", "2", one_after_another, 'muster_mqtt_connects_total{outcome="refused"}', "connect refused",
     ("--mqtt.connects_burst", "2", "--mqtt.connects_limit_loopback", "true")),
    ("ban.flapping_connects", "3", one_after_another, 'muster_banned_total{kind="flapping"}', "flapping", ("--mqtt.connects_limit_loopback", "true")),
]


def seen(row):
    key, value, exceed, metric, line, more = row
    with open_broker.Server(args=(f"--{key}", value, *more)) as s:
        before = s.metric(metric)
        assert line not in s.log(), f"{key}: the log has {line!r} already"
        kept = exceed(s)
        try:
            muster.wait_for(f"{key}: {metric} counts", lambda: (attempt_metric(s, metric) or 0) > before)
            muster.wait_for(f"{key}: the log says {line!r}", lambda: line in s.log())
        finally:
            for c in kept if isinstance(kept, list) else [kept]:
                if isinstance(c, mqtt.Client):
                    c.abort()
                elif isinstance(c, socket.socket):
                    c.close()
    return key


def judged(row):
    """What is wrong with it; None: nothing."""
    try:
        print(f"{seen(row)}: counted and logged", flush=True)
    except (AssertionError, OSError, RuntimeError) as e:
        return f"{row[0]}: {e}"
    return None


class Events:
    """What /api/v1/events says of queues."""

    def __init__(self, s):
        self.sock = socket.create_connection(("127.0.0.1", s.ports["http"]), 20)
        self.sock.sendall(f"GET /api/v1/events?types=queue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {s.token}\r\n\r\n".encode())
        self.file, self.seen = self.sock.makefile("rb"), []
        while self.file.readline().strip():
            pass
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for line in self.file:
                if line.startswith(b"data: "):
                    self.seen.append(json.loads(line[6:]))
        except OSError:
            pass


def told_once():
    """A stored queue: full, then over with the number once the client has come back. A connection: full, over at its end."""
    with open_broker.Server(args=("--broker.queue_max", "10", "--mqtt.queue_max", "5", "--mqtt.send_max", "2")) as s:
        events = Events(s)
        c = client(s, "away", EXPIRY)
        c.subscribe("t/#")
        c.disconnect()
        publishes(40, qos=1, topic="t/x")(s).disconnect()
        muster.wait_for("the queue's event", lambda: events.seen)
        assert events.seen == [{"client_id": "away", "where": "session", "state": "full", "dropped": 0}], events.seen
        assert (s.metric("muster_mqtt_queue_messages"), s.metric("muster_mqtt_queue_bytes")) == (10, 40)
        s.kill()
        s.start()  # what is queued counts from the start on
        assert (s.metric("muster_mqtt_queue_messages"), s.metric("muster_mqtt_queue_bytes")) == (10, 40)
        events = Events(s)
        publishes(7, qos=1, topic="t/x")(s).disconnect()
        muster.wait_for("the queue's event", lambda: events.seen)
        s.api("DELETE", "/api/v1/sessions/away")
        muster.wait_for("its end", lambda: len(events.seen) == 2)
        assert events.seen[1] == {"client_id": "away", "where": "session", "state": "over", "dropped": 7}, events.seen
        muster.wait_for("an empty gauge", lambda: s.metric("muster_mqtt_queue_messages") == s.metric("muster_mqtt_queue_bytes") == 0)
        slow = client(s, "slow", auto_ack=False)
        slow.subscribe("t/#")
        publishes(20, qos=1, topic="t/x")(s).disconnect()
        muster.wait_for("the client's event", lambda: len(events.seen) == 3)
        slow.abort()
        muster.wait_for("its end", lambda: len(events.seen) == 4)
        assert events.seen[2:] == [{"client_id": "slow", "where": "connection", "state": "full", "dropped": 0},
                                   {"client_id": "slow", "where": "connection", "state": "over", "dropped": 13}], events.seen
        events.sock.close()


def main():
    rows = [r for r in TABLE if len(sys.argv) < 2 or sys.argv[1] in r[0]]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:  # they mostly wait
        wrong = [w for w in pool.map(judged, rows) if w is not None]
    if len(sys.argv) < 2 or sys.argv[1] == "events":
        told_once()
        print("full queues are told of once", flush=True)
    assert not wrong, wrong


if __name__ == "__main__":
    sys.exit(main())
