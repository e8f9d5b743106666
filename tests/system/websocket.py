"""MQTT in WebSockets, on the HTTP and the HTTPS port: who gets one, what is spoken in it, what ends it."""
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time

import mqtt
import muster
import ws

TOKEN = "token-of-the-device-in-a-websocket-0123"
PACKET_MAX = 16384
ARGS = ("--mqtt.packet_max", str(PACKET_MAX), "--mqtt.connect_timeout", "2s", "--http.websocket_origins", "https://app.example.org")


def refused(s, **kw):
    try:
        ws.dial(s.ports["http"], **kw)
    except ws.Refused as e:
        return e
    raise AssertionError(f"{kw} was let in")


def who_gets_one(s):
    port = s.ports["http"]
    for protocol, want in (("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("soap, mqttv3.1, mqtt", "mqtt")):
        w = ws.dial(port, protocol=protocol)
        assert w.protocol == want
        w.close()
    host = f"localhost:{port}"
    for origin in (f"http://{host}", f"https://{host}", f"https://{host.upper()}", "https://app.example.org", "HTTPS://APP.example.org"):
        ws.dial(port, host=host, origin=origin).close()
    host = f"localhost:{s.ports['https']}"  # over TLS a page that came without it is none of ours
    ws.dial(s.ports["https"], tls=s.ca, host=host, origin=f"https://{host}").close()
    try:
        ws.dial(s.ports["https"], tls=s.ca, host=host, origin=f"http://{host}")
        raise AssertionError("a page that came without TLS was let in over TLS")
    except ws.Refused as e:
        assert e.status == 403, e.status
    host = f"localhost:{port}"
    for status, kw in (
            (400, {"protocol": None}), (400, {"protocol": "soap"}), (400, {"protocol": "mqttx, xmqtt"}),
            (400, {"key": ""}), (400, {"key": "c2hvcnQ="}), (400, {"key": "!" * 24}), (400, {"drop": ["Sec-WebSocket-Key"]}),
            (426, {"version": "8"}), (426, {"drop": ["Sec-WebSocket-Version"]}), (426, {"drop": ["Upgrade"]}),
            (426, {"drop": ["Connection"]}), (405, {"method": "POST"}), (404, {"path": "/mqtt/"}), (404, {"path": "/"}),
            (400, {"drop": ["Host"]}), (400, {"more": ["Origin: http://a", "Origin: http://b"]}),
            (403, {"origin": "https://evil.example.org"}), (403, {"origin": "null"}), (403, {"origin": "https://"}),
            (403, {"host": host, "origin": f"https://{host}.evil.example.org"}), (403, {"host": host, "origin": f"https://evil.org/{host}"}),
            (403, {"origin": "https://app.example.org.evil.org"}), (403, {"origin": "https://app.example.org:444"})):
        e = refused(s, **kw)
        assert e.status == status, f"{kw}: {e.status}, not {status}"
        if status == 426:
            assert "Sec-WebSocket-Version: 13" in e.head and "Upgrade: websocket" in e.head
        if status == 405:
            assert "Allow: GET" in e.head


def what_is_spoken(s):
    for kw in ({}, {"tls": s.ca}):
        for version in (4, 5):
            c = ws.Client("127.0.0.1", s.ports["https" if kw else "http"], "d", "d", TOKEN, version=version, **kw).connect()
            assert c.subscribe("$muster/twin/desired")[0] == 1
            t0 = time.time()
            for i in range(50):
                assert c.publish("$muster/telemetry", '{"n": %d%s}' % (i, " " * (i * 100)), qos=1) == 0
            assert time.time() - t0 < 5
            s.api("PATCH", "/api/v1/devices/d/twin/desired", {"interval": int(t0 * 1000) + version})
            payload = b""
            while str(int(t0 * 1000) + version).encode() not in payload:  # what was desired before may come first
                topic, payload = c.recv()
                assert topic == "$muster/twin/desired"
            c.disconnect()
    assert s.last("d") is not None
    session = s.api("GET", "/api/v1/devices/d/sessions")["items"][0]
    assert session["address"].startswith("127.0.0.1"), session


def connect_packet():
    return mqtt.connect_packet("d", "d", TOKEN)


def in_any_pieces(s):
    """Packets need not be messages: the stream counts."""
    w = ws.dial(s.ports["http"])
    data = connect_packet() + mqtt.publish_packet("$muster/event/e", b'{"a":1}', 1, 7)
    w.sock.sendall(b"".join(ws.frame(0x02 if i == 0 else 0x00, data[i:i + 1]) for i in range(len(data))) + ws.frame(0x80, b""))
    assert w.recv(1) == b"\x20"
    got = b""
    while not got.endswith(b"\x40\x02\x00\x07"):  # the PUBACK
        part = w.recv(4096)
        assert part, got
        got += part
    w.send_frame(0x89, b"are you there")
    assert w.frame() == (0x8A, b"are you there")
    w.send_frame(0x8A, b"nobody asked")
    sent = bytes(ws.frame(0x82, b"\xc0\x00"))
    for i in range(len(sent)):  # a PINGREQ, byte by byte on the wire
        w.sock.sendall(sent[i:i + 1])
        time.sleep(0.001)
    assert w.recv(16) == b"\xd0\x00"
    w.send_frame(0x88, struct.pack("!H", 1000) + b"bye")
    assert w.frame() == (0x88, struct.pack("!H", 1000)), "the close is not answered"
    assert w.sock.recv(1) == b"", "the connection stays open"
    muster.wait_for("the session to be over", lambda: s.metric("muster_mqtt_connections") == 0)


def what_ends_it(s):
    broken = (
        (1002, ws.frame(0x82, b"x", masked=False)), (1003, ws.frame(0x81, b"text")), (1002, ws.frame(0xC2, b"x")),
        (1002, ws.frame(0x83, b"")), (1002, ws.frame(0x80, b"x")), (1002, ws.frame(0x09, b"x")), (1002, ws.frame(0x89, b"x" * 126)),
        (1002, ws.frame(0x02, b"\x10") + ws.frame(0x82, b"x")), (1009, ws.frame(0x82, b"x" * (PACKET_MAX + 1))),
        (1009, ws.frame(0x02, b"\xc0\0" * (PACKET_MAX // 2)) + ws.frame(0x80, b"xx")),
        (1002, bytes([0x82, 0xFF]) + b"\x80" + b"\0" * 11), (1002, ws.frame(0x88, b"\x03")), (1007, ws.frame(0x88, b"\x03\xe8\xff")))
    for code, data in broken:
        for authenticated in (False, True):
            w = ws.dial(s.ports["http"])
            if authenticated:
                w.sendall(connect_packet())
                assert w.recv(1) == b"\x20"
            elif len(data) > PACKET_MAX + 10:
                continue  # a good deal of MQTT, which is not for strangers
            w.sock.sendall(data)
            got = w.close_code()
            assert got == code, f"{data[:8].hex()} authenticated={authenticated}: closed with {got}, not {code}"
            w.close()
    # What MQTT does not allow ends in MQTT's words and then in WebSocket's.
    w = ws.dial(s.ports["http"])
    w.sendall(mqtt.connect_packet("d", "d", "wrong", version=4))
    assert w.recv(16) == b"\x20\x02\x00\x04" and w.close_code() == 1000
    w.close()
    # No CONNECT within the time for it.
    w, start = ws.dial(s.ports["http"]), time.monotonic()
    w.recv(1)
    assert 1.5 < time.monotonic() - start < 4, "a silent WebSocket stays"
    w.close()
    muster.wait_for("all of them gone", lambda: s.metric("muster_mqtt_connections") == 0)


def memory_is_bounded(s):
    """Strangers with large messages that do not end, and pings whose answers are never read."""
    before = s.rss_kb()
    def endless(first):
        try:
            w = ws.dial(s.ports["http"])
            w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(3000):
                w.send_frame(first, b"x" * 125)
        except OSError:
            pass
    threads = [threading.Thread(target=endless, args=(first,)) for first in (0x89, 0x02) for _ in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    grown = s.rss_kb() - before
    assert grown < 40000, f"the server grew by {grown} kB"


def at_the_stop(s):
    c = ws.dial(s.ports["http"])
    c.sendall(connect_packet())
    assert c.recv(1) == b"\x20"
    assert s.stop() == 0
    assert c.close_code() in (1000, 1001), "the stop is not said"


def main():
    with muster.Server(args=ARGS) as s:
        s.device("d", TOKEN)
        who_gets_one(s)
        what_is_spoken(s)
        in_any_pieces(s)
        what_ends_it(s)
        memory_is_bounded(s)
        at_the_stop(s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
