"""What MQTT 5 lets a client ask for and a server must bound (S49 of docs/reliability.md): aliases, receive maximum, packet ids that are never
completed, session expiry, subscription identifiers, shared names, subscriptions, queues of absent clients.
"""
import struct
import sys

import mqtt
import open_broker
from session import NEVER, Gone, Session

ARGS = ("--mqtt.receive_max", "10", "--mqtt.topic_alias_max", "5", "--broker.session_expiry_max", "1h", "--broker.subscriptions_max", "50",
        "--broker.queue_max", "100")


def opened(s, name, version=5, **kw):
    c = Session(s.ports["mqtt"], name, version=version, expiry_s=0, **kw)
    c.open(clean=True)
    return c


def ends_with(c, reason, data):
    """The server ends the connection because of `data`, with this reason where the version has reasons."""
    try:
        c._send(data)
        c._until(lambda: False)
    except Gone as e:
        assert e.reason == reason, f"ended with {e.reason}, not 0x{reason:02x}"
        return
    raise AssertionError("still connected")


def alias(n, topic="a"):
    return mqtt.publish_packet(topic, b"x", 0, 0, 5, properties=b"\x23" + struct.pack("!H", n))


def aliases(s):
    ends_with(opened(s, "alias-0"), 0x94, alias(0))
    ends_with(opened(s, "alias-6"), 0x94, alias(6))
    ends_with(opened(s, "alias-unset"), 0x82, alias(3, topic=""))
    c = opened(s, "alias-5")
    c._send(alias(5) + alias(5, topic=""))
    assert c.ping()
    c.drop()


def never_released(s):
    """QoS 2 messages whose PUBREL never comes: as many as the receive maximum, then the connection ends."""
    c = opened(s, "unreleased")
    for pid in range(1, 11):
        c._send(mqtt.publish_packet("a", b"x", 2, pid, 5))
    assert c.ping()
    ends_with(c, 0x93, mqtt.publish_packet("a", b"x", 2, 11, 5))
    c = opened(s, "unreleased-4", version=4)
    try:
        for pid in range(1, 65536):
            c._send(mqtt.publish_packet("a", b"x", 2, pid, 4))
            if pid % 500 == 0:
                c._pump(0.01)
        raise AssertionError("65,535 messages that were never released are kept for one client")
    except Gone:
        pass


def expiry(s):
    c = Session(s.ports["mqtt"], "for-ever", expiry_s=NEVER)
    seen = []
    packet = c._packet
    c._packet = lambda first, body: (seen.append(body) if first == 0x20 else None, packet(first, body))
    c.open(clean=True)
    assert b"\x11" + struct.pack("!I", 3600) in seen[0], f"no session expiry of an hour in {seen[0].hex()}"
    c.close(expiry_s=0)


def subscribe(filters, properties=b"", pid=1):
    body = struct.pack("!H", pid) + mqtt.vbi(len(properties)) + properties + b"".join(mqtt.text(f) + b"\1" for f in filters)
    return mqtt.packet(0x82, body)


def subscriptions(s):
    ends_with(opened(s, "sub-id-0"), 0x82, subscribe(["a"], b"\x0b\x00"))
    for name in ("$share//a", "$share/a+b/a", "$share/a#/a", "$share/a"):
        c = opened(s, "share")
        try:
            code = c.subscribe(name, 1)
            assert code >= 0x80, f"{name}: 0x{code:02x}"
        except Gone as e:
            assert e.reason in (0x8F, 0x82, 0x81), f"{name}: {e.reason}"
        c.drop()
    c = opened(s, "many")
    codes = [c.subscribe(f"many/{i}", 1) for i in range(52)]
    assert all(code < 0x80 for code in codes[:50]) and all(code == 0x97 for code in codes[50:]), codes
    assert c.unsubscribe("many/0") < 0x80 and c.subscribe("many/50", 1) < 0x80, "a place that was given up is not free"
    c.drop()


def absent(s):
    """A client that never comes back costs what its queue may hold."""
    c = Session(s.ports["mqtt"], "absent", expiry_s=600)
    c.open(clean=True)
    assert c.subscribe("absent/#", 1) < 0x80
    c.drop()
    p = opened(s, "talker")
    for i in range(150):
        assert p.publish("absent/x", b"%d" % i, 1) < 0x80
    c.open()
    got = [int(m.payload) for m in c.take_until(lambda out: len(out) >= 100)]
    assert got == list(range(100)), f"{len(got)} messages, the first {got[:3]}"
    assert s.api("GET", "/api/v1/sessions/absent")["dropped"] == 50
    c.close(expiry_s=0)
    p.drop()


def main():
    with open_broker.Server(args=ARGS) as s:
        bystander = opened(s, "bystander")
        for test in (aliases, never_released, expiry, subscriptions, absent):
            test(s)
            assert bystander.ping(), f"{test.__name__}: another client was cut off"
            print("ok", test.__name__, flush=True)
        bystander.close()


if __name__ == "__main__":
    sys.exit(main())
