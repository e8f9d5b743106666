"""The limits of MQTT at their edge: n is served, n + 1 is refused with the reason the protocol has for it."""
import struct

import mqtt
import muster

TOKEN = "token-of-lim-1-0123456789"


def connected(s, **kw):
    return mqtt.Client("127.0.0.1", s.ports["mqtt"], client_id="c", username="lim-1", password=TOKEN, **kw).connect()


def outcome(s, data, packet_id=None):
    """What becomes of a connection that sends this: the PUBACK's or SUBACK's reason, or ("closed", reason)."""
    c = connected(s)
    if packet_id:
        c.pending += 1
    c.send(data)
    try:
        if packet_id is None:
            return "closed", c.wait_closed(10).reason
        return c.wait_ack(packet_id)[0]
    except mqtt.Closed as e:
        return "closed", e.reason
    finally:
        c.abort()


def sized_publish(total):
    """A PUBLISH packet of exactly so many bytes."""
    empty = len(mqtt.publish_packet("$muster/event/e", b"", qos=1, packet_id=1))
    for guess in range(total - empty - 8, total):
        packet = mqtt.publish_packet("$muster/event/e", b" " * guess, qos=1, packet_id=1)
        if len(packet) == total:
            return packet
    raise AssertionError("no such size")


def packet_size(s):
    assert outcome(s, sized_publish(256 * 1024), 1) in (0x97, 0x99)  # too large for an event, not for MQTT
    assert outcome(s, sized_publish(256 * 1024 + 1), 1) == ("closed", 0x95)


def topics(s):
    def publish(topic):
        return outcome(s, mqtt.publish_packet(topic, b"{}", qos=1, packet_id=1), 1)

    assert publish("a" * 1024) == 0x87  # no policy allows it
    assert publish("a" * 1025) == ("closed", 0x90)
    assert publish("/".join("a" * 32)) == 0x87
    assert publish("/".join("a" * 33)) == ("closed", 0x90)


def user_properties(s):
    def publish(count, size):
        one = b"\x26" + mqtt.text("k" * (size // 2)) + mqtt.text("v" * (size - size // 2))
        return outcome(s, mqtt.publish_packet("$muster/telemetry", b'{"t":1}', qos=1, packet_id=1, properties=one * count), 1)

    assert publish(32, 2) == 0
    assert publish(33, 2) == ("closed", 0x97)
    assert publish(32, 256) == 0  # 8 KiB
    assert publish(32, 257) == ("closed", 0x97)


def aliases(s):
    def publish(alias):
        properties = b"\x23" + struct.pack("!H", alias)
        return outcome(s, mqtt.publish_packet("$muster/telemetry", b'{"t":1}', qos=1, packet_id=1, properties=properties), 1)

    assert publish(32) == 0
    assert publish(33) == ("closed", 0x94)
    assert publish(0) == ("closed", 0x94)


def filters(s):
    def subscribe(n):
        body = struct.pack("!H", 9) + b"\0" + (mqtt.text("$muster/twin/desired") + b"\1") * n
        return outcome(s, mqtt.packet(0x82, body), 9)

    assert subscribe(64) == [1] * 64
    assert subscribe(65) == ("closed", 0x97)


def connect_packet(s):
    def connect(**kw):
        kw = dict({"client_id": "c", "username": "lim-1", "password": TOKEN}, **kw)
        try:
            c = mqtt.Client("127.0.0.1", s.ports["mqtt"], **kw).connect()
            c.disconnect()
            return 0
        except mqtt.Refused as e:
            return e.reason
        except mqtt.Closed:
            return "closed"

    frame = len(mqtt.connect_packet("c", "lim-1", ""))
    fits = 8192 - frame - 1  # the remaining length takes one byte more
    assert connect(password="x" * fits) == 0x86
    assert connect(password="x" * (fits + 1)) == "closed"
    assert connect(client_id="c" * 128) == 0
    assert connect(client_id="c" * 129) == 0x85


def connect_rate():
    with muster.Server(args=["--mqtt.connects_limit_loopback=true", "--mqtt.connects_per_source=1", "--mqtt.connects_burst=3"]) as s:
        s.device("lim-1", TOKEN)
        for _ in range(3):
            connected(s).disconnect()
        try:
            connected(s)
            raise AssertionError("a fourth connect within a second was let in")
        except mqtt.Refused as e:
            assert e.reason == 0x9F, e


def main():
    with muster.Server() as s:
        s.device("lim-1", TOKEN)
        for test in (packet_size, topics, user_properties, aliases, filters, connect_packet):
            test(s)
            print("ok", test.__name__, flush=True)
        ledger = s.api("GET", "/api/v1/devices/lim-1/ledger")
        assert ledger["received"] == ledger["stored"] + sum(ledger["refused"].values()) and ledger["in_flight"] == 0, ledger
    connect_rate()
    print("ok connect_rate")


if __name__ == "__main__":
    main()
