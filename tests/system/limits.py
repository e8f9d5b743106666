"""Every limit a client can reach, one below, at, and one above: what is allowed works, what is not is refused in so many words.

The numbers stand here a second time on purpose. Where a limit is a configuration key, the server runs with a small one.
"""
import json
import select
import socket
import struct
import sys
import threading
import time

import mqtt
import muster

TOKEN = "token-of-the-limited-device-0123456789"
ARGS = ("--mqtt.packet_max", "4KiB", "--mqtt.connect_packet_max", "2KiB", "--mqtt.connect_timeout", "2s", "--mqtt.topic_max", "200", "--mqtt.topic_levels_max", "10",
        "--mqtt.user_properties_max", "5", "--mqtt.filters_max", "4", "--mqtt.receive_max", "8", "--listen.connections_max", "40",
        "--telemetry.series_per_device", "20")


def client(s, **kw):
    return mqtt.Client("127.0.0.1", s.ports["mqtt"], "d", "d", TOKEN, timeout=5, **kw)


def edges(what, n, attempt, fine, refused):
    """attempt(n - 1) and attempt(n) give `fine`, attempt(n + 1) something in `refused`."""
    for value in (n - 1, n):
        got = attempt(value)
        assert got == fine, f"{what}: {value} gave {got}, not {fine}"
    got = attempt(n + 1)
    assert got in refused, f"{what}: {n + 1} gave {got}, not {refused}"


def publish_outcome(s, data, packet_id=7):
    """What a raw PUBLISH leads to: its PUBACK's code, or ("closed", code of the DISCONNECT)."""
    c = client(s).connect()
    try:
        c.send(data)
        return c.wait_ack(packet_id)[0]
    except mqtt.Closed as e:
        return ("closed", e.reason)
    except OSError:
        return ("closed", c.wait_closed().reason)
    finally:
        c.abort()


def mqtt_packets(s):
    def packet_of(total):
        """A PUBLISH whose whole length is `total`: JSON with blanks."""
        n = total
        while True:
            data = mqtt.publish_packet("$muster/event/e", b'{"a":1' + b" " * n + b"}", 1, 7)
            if len(data) <= total:
                return data
            n -= 1
    assert len(packet_of(4096)) == 4096
    edges("mqtt.packet_max", 4096, lambda n: publish_outcome(s, packet_of(n)), 0, [("closed", 0x95)])

    def topic(n):
        return publish_outcome(s, mqtt.publish_packet("$muster/event/" + "x" * (n - 14), b"{}", 1, 7))
    # names of events have a limit of their own (64), so a topic within topic_max is refused as a name
    assert topic(14 + 64) == 0 and topic(14 + 65) in (0x90, 0x99), (topic(14 + 64), topic(14 + 65))
    assert topic(200) == topic(14 + 65) and topic(201) in (0x90, ("closed", 0x90), ("closed", 0x95)), (topic(200), topic(201))

    def levels(n):
        c = client(s).connect()
        try:
            return c.subscribe("/".join(["a"] * n))
        except mqtt.Closed as e:
            return ("closed", e.reason)
        finally:
            c.abort()
    assert levels(9) == levels(10) == [0x87], (levels(9), levels(10))
    assert levels(11) != [0x87], levels(11)

    def user_properties(n):
        props = b"".join(b"\x26" + mqtt.text("k") + mqtt.text("v") for _ in range(n))
        return publish_outcome(s, mqtt.publish_packet("$muster/event/e", b"{}", 1, 7, properties=props))
    edges("mqtt.user_properties_max", 5, user_properties, 0, [("closed", 0x95), ("closed", 0x97), ("closed", 0x82)])

    def filters(n):
        c = client(s).connect()
        try:
            return len(c.subscribe(*["$muster/twin/desired"] * n))
        except mqtt.Closed as e:
            return ("closed", e.reason)
        finally:
            c.abort()
    assert filters(3) == 3 and filters(4) == 4 and filters(5)[0] == "closed" and filters(5)[1] in (0x95, 0x97), filters(5)

    connack = client(s).connect().connack[2]
    assert b"\x27" + struct.pack("!I", 4096) in connack and b"\x21" + struct.pack("!H", 8) in connack, connack


def telemetry(s):
    c = client(s).connect()
    code = lambda payload: c.publish("$muster/telemetry", payload if isinstance(payload, bytes) else json.dumps(payload), qos=1)
    assert code({"n" * 128: 1}) == 0 and code({"n" * 129: 1}) == 0x99, "metric names have 128 bytes"
    assert code({"s": "x" * 1024}) == 0 and code({"s": "x" * 1025}) == 0x99, "texts have 1,024 bytes"
    names = [f"m{i}" for i in range(18)]  # with the two above: 20 series
    assert code({n: 1 for n in names}) == 0
    assert code({"one.more": 1}) in (0x97, 0x99), "more series than telemetry.series_per_device"
    assert code({"m0": 2}) == 0, "known series go on"
    c.disconnect()
    refused = s.ledger("d")["refused"]
    assert muster.ledger_adds_up(s.ledger("d")) and refused, refused


def connecting(s):
    """The packet before authentication, and the time it may take."""
    def connect_of(total):
        props = b""
        base = len(mqtt.connect_packet("d", "d", TOKEN))
        pad = total - base - 40
        for _ in range(60):
            data = mqtt.connect_packet("d", "d", TOKEN, properties=b"\x26" + mqtt.text("k") + mqtt.text("v" * pad) + props)
            if len(data) == total:
                return data
            pad += total - len(data)
        raise AssertionError(total)
    def outcome(n):
        c = client(s).open()
        c.send(connect_of(n))
        try:
            first = c.sock.recv(5)
            return first[3] if first and first[0] == 0x20 else "closed"
        except ConnectionError:
            return "closed"
        finally:
            c.abort()
    edges("mqtt.connect_packet_max", 2048, outcome, 0, ["closed", 0x95])

    def silent(drip):
        raw = socket.create_connection(("127.0.0.1", s.ports["mqtt"]), 10)
        packet, start = mqtt.connect_packet("d", "d", TOKEN), time.monotonic()
        raw.settimeout(0.1)
        while time.monotonic() < start + 6:
            try:
                if drip:
                    raw.send(packet[:1])
                    packet = packet[1:] or b"x"
                if raw.recv(100) == b"":
                    return time.monotonic() - start
            except TimeoutError:
                continue
            except ConnectionError:
                return time.monotonic() - start
        return None
    for drip in (False, True):
        seconds = silent(drip)
        assert seconds and 1.8 < seconds < 3.5, f"mqtt.connect_timeout of 2 s: closed after {seconds} s"


def connections(s):
    """Below and at the limit all are let in. One more waits while the others are known, and takes the place of the oldest stranger."""
    muster.wait_for("the connections of the tests before to be gone", lambda: s.metric("muster_mqtt_connections") == 0)
    known = client(s).connect()
    raws = [socket.create_connection(("127.0.0.1", s.ports["mqtt"]), 5) for _ in range(39)]
    def ended():
        return sum(1 for r in select.select(raws, [], [], 0.5)[0])  # a server that says nothing is readable at its end only
    time.sleep(0.2)
    assert ended() == 0, "fewer than listen.connections_max are let in"
    raws.append(socket.create_connection(("127.0.0.1", s.ports["mqtt"]), 5))
    muster.wait_for("a stranger to make room", lambda: ended() > 0)
    time.sleep(0.2)
    assert ended() == 1, "more than one made room"
    assert known.publish("$muster/event/e", '{"a":1}', qos=1) == 0, "a known connection was harmed"
    for r in raws:
        r.close()
    known.disconnect()
    muster.wait_for("room again", lambda: try_connect(s))


def try_connect(s):
    try:
        client(s).connect().disconnect()
        return True
    except (mqtt.Closed, OSError):
        return False


def raw_http(s, data, timeout=20):
    """The status of the answer to these bytes, or "closed" with none."""
    raw = socket.create_connection(("127.0.0.1", s.ports["http"]), timeout)
    try:
        raw.sendall(data)
    except ConnectionError:
        pass
    try:
        line = raw.makefile("rb").readline()
    except ConnectionError:
        line = b""
    raw.close()
    return int(line.split()[1]) if line else "closed"


def http_limits(s):
    auth = f"Authorization: Bearer {s.token}\r\n"

    def head(total):
        start = f"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\n{auth}X-Pad: "
        return raw_http(s, (start + "p" * (total - len(start) - 4) + "\r\n\r\n").encode())
    edges("request head", 16384, head, 200, [431])

    def headers(n):
        return raw_http(s, (f"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\n{auth}" + "".join(f"X-{i}: v\r\n" for i in range(n - 2)) + "\r\n").encode())
    edges("headers", 64, headers, 200, [431])

    def body(n, chunked=False):
        text = b'{"id":"two words"' + b" " * (n - 18) + b"}"
        assert len(text) == n
        first = f"POST /api/v1/devices HTTP/1.1\r\nHost: x\r\n{auth}Content-Type: application/json\r\n"
        if not chunked:
            return raw_http(s, (first + f"Content-Length: {n}\r\n\r\n").encode() + text)
        parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (text[i:i + 60000] for i in range(0, n, 60000)))
        return raw_http(s, (first + "Transfer-Encoding: chunked\r\n\r\n").encode() + parts + b"0\r\n\r\n")
    edges("body", 1 << 20, body, 400, [413])  # 400: the id is wrong, so nothing is made
    edges("chunked body", 1 << 20, lambda n: body(n, True), 400, [413])
    # another operation's limit is 128 KiB; what is announced far beyond it is refused by the announcement alone
    patch = f"PATCH /api/v1/devices/d/twin/desired HTTP/1.1\r\nHost: x\r\n{auth}Content-Type: application/json\r\nContent-Length: "
    assert raw_http(s, (patch + "131073\r\n\r\n").encode() + b" " * 131073) == 413
    assert raw_http(s, (patch + "10000000\r\n\r\n").encode(), 3) == 413
    # without a token no body is waited for
    assert raw_http(s, b"POST /api/v1/devices HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n") == 401

    def depth(n):
        status, _, reply = s.request("POST", "/api/v1/devices", b'{"id":"two words","attributes":' + b'{"a":' * (n - 1) + b"1" + b"}" * (n - 1) + b"}")
        return (status, reply["code"], "deep" in reply["detail"])
    got = [depth(n) for n in (31, 32, 33)]
    assert not got[0][2] and not got[1][2] and got[2][2], f"depth of JSON: {got}"

    def keys(n):
        text = "{" + ",".join(f'"k{i}":1' for i in range(n - 3)) + "}"
        status, _, reply = s.request("POST", "/api/v1/devices", ('{"id":"two words","attributes":' + text + ',"name":"n"}').encode())
        return (status, reply["code"], "keys" in reply["detail"])
    got = [keys(n) for n in (9999, 10000, 10001)]
    assert not got[0][2] and not got[1][2] and got[2][2], f"keys of JSON: {got}"


def http_slow(s, out):
    """A head that does not come, and one that comes a byte at a time: 10 s."""
    def until_closed(drip):
        raw = socket.create_connection(("127.0.0.1", s.ports["http"]), 20)
        start, sent = time.monotonic(), b"GET /api/v1/devices HTTP/1.1\r\nX-Pad: " + b"p" * 1000
        raw.settimeout(0.25)
        got = b""
        while time.monotonic() < start + 16:
            try:
                if drip:
                    raw.send(sent[:1])
                    sent = sent[1:]
                data = raw.recv(1000)
                if data == b"":
                    break
                got += data
            except TimeoutError:
                continue
            except ConnectionError:
                break
        out.append((drip, time.monotonic() - start, got[:12]))
    threads = [threading.Thread(target=until_closed, args=(drip,), daemon=True) for drip in (False, True)]
    for t in threads:
        t.start()
    return threads


def main():
    with muster.Server(args=ARGS) as s:
        s.device("d", TOKEN)
        slow = []
        waiting = http_slow(s, slow)
        for test in (mqtt_packets, telemetry, connecting, connections, http_limits):
            start = time.monotonic()
            test(s)
            print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
        for t in waiting:
            t.join(20)
        assert len(slow) == 2, slow
        for drip, seconds, got in slow:
            assert 9 < seconds < 13 and got in (b"", b"HTTP/1.1 408"), (drip, seconds, got)
        print("slow heads: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
