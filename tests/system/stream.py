"""Server-sent events: every field as documented, order, filters, resuming without loss, gaps that are said, slow readers let go."""
import json
import random
import socket
import ssl
import sys
import threading
import time

import apispec
import mqtt
import muster

TOKEN = "token-of-the-streaming-device-0123456789"
STREAM_QUEUE = 500  # below the 1,000 events that wait for one listener


class Stream:
    """One connection to /api/v1/events. next() gives {"id", "event", "data"} or None at the end."""

    def __init__(self, s, query="", last_id=None, tls=False, receive_bytes=None, token=None):
        raw = socket.socket()
        if receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.settimeout(20)
        raw.connect(("127.0.0.1", s.ports["https" if tls else "http"]))
        self.sock = ssl.create_default_context(cafile=s.ca).wrap_socket(raw, server_hostname="localhost") if tls else raw
        more = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        self.sock.sendall(f"GET /api/v1/events{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token or s.token}\r\n{more}\r\n".encode())
        self.last_id, self.comments, self.file = last_id, 0, None
        if not receive_bytes:
            self.open()

    def open(self):
        """Reads the head: from here on events of this stream are delivered."""
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        for line in iter(lambda: self.file.readline().strip().decode(), ""):
            name, value = line.split(": ", 1)
            self.headers[name.lower()] = value
        return self

    def next(self):
        event = {}
        for line in self.file:
            line = line.decode()
            assert line.endswith("\n") and "\r" not in line, repr(line)
            line = line[:-1]
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, value = line.split(": ", 1)
                assert name in ("id", "event", "data", "retry") and name not in event, line
                event[name] = json.loads(value) if name == "data" else value
            elif "data" in event:
                self.last_id = event.get("id", self.last_id)
                return event
            else:
                assert set(event) <= {"retry"}, event
                event = {}
        return None

    def close(self):
        if self.file:
            self.file.close()
        self.sock.close()


def device(s, name):
    s.device(name, TOKEN + name)
    return mqtt.Client("127.0.0.1", s.ports["mqtt"], name, name, TOKEN + name)


ID = {"type": "string", "format": "id"}
MS = {"type": "number", "minimum": 1.6e12}


def data(**properties):
    return {"type": "object", "properties": {"device": ID, **properties}, "required": ["device", *properties], "additionalProperties": False}


FIELDS = {
    "telemetry": data(ts=MS, values={"type": "object", "minProperties": 1}),
    "event": data(ts=MS, name={"type": "string"}, data={}),
    "twin": data(version={"type": "integer", "minimum": 1}, section={"type": "string", "enum": ["desired", "reported"]}, patch={"type": "object"}),
    "presence": data(online={"type": "boolean"}, ts=MS, reason={"type": ["string", "null"]}, address={"type": "string"}),
    "device": data(action={"type": "string", "enum": ["created", "updated", "deleted"]}, version={"type": "integer"}),
    "command": data(id={"type": "string"}, name={"type": "string"}, state={"type": "string", "enum": ["pending", "sent", "replied", "expired"]}),
}


def fields(s):
    w = Stream(s)
    assert w.status == 200 and w.headers["content-type"] == "text/event-stream" and w.headers["cache-control"] == "no-store", w.headers
    c = device(s, "f1").connect()
    c.subscribe("$muster/command/+/+", "$muster/twin/desired")
    c.publish("$muster/telemetry", b'{"t":21.5,"ok":true,"s":"line\\nbreak"}', qos=1)
    c.publish("$muster/telemetry", b'{"ts":1700000000000,"values":{"t":1}}', qos=1)
    c.publish("$muster/event/door", b'{"open":true}', qos=1)
    c.publish("$muster/twin/reported", b'{"fw":"1"}', qos=1)
    s.api("PATCH", "/api/v1/devices/f1/twin/desired", {"interval": 5})
    sent = s.api("POST", "/api/v1/devices/f1/commands", {"name": "reboot"})
    for _ in range(2):
        topic, payload = c.recv()
        if "command" in topic:
            c.publish(f"$muster/command/{topic.rsplit('/', 1)[1]}/reply", b'{"done":true}', qos=1)
    s.api("PATCH", "/api/v1/devices/f1", {"name": "changed"})
    c.disconnect()
    muster.wait_for("offline", lambda: not s.api("GET", "/api/v1/devices/f1/presence")["online"])
    s.api("DELETE", "/api/v1/devices/f1")
    seen = []
    while not seen or (seen[-1]["event"], seen[-1]["data"].get("action")) != ("device", "deleted"):
        seen.append(w.next())
    w.close()
    for e in seen:
        apispec.check(FIELDS[e["event"]], e["data"], e["event"])
        assert e["data"]["device"] == "f1"
    kinds = {k: [e["data"] for e in seen if e["event"] == k] for k in FIELDS}
    numbers = [int(e["id"].rsplit("-", 1)[1]) for e in seen]
    assert numbers == sorted(set(numbers)), numbers
    assert kinds["telemetry"][0]["values"] == {"t": 21.5, "ok": True, "s": "line\nbreak"}, kinds["telemetry"]
    assert kinds["telemetry"][1]["ts"] == 1700000000000
    assert kinds["event"][0]["name"] == "door" and kinds["event"][0]["data"] == {"open": True}
    assert [(t["section"], t["patch"]) for t in kinds["twin"]] == [("reported", {"fw": "1"}), ("desired", {"interval": 5})], kinds["twin"]
    assert [p["online"] for p in kinds["presence"]] == [True, False] and kinds["presence"][1]["reason"] == "client_disconnect", kinds["presence"]
    assert kinds["presence"][0]["address"].startswith("127.0.0.1:")
    assert [c["state"] for c in kinds["command"]] == ["pending", "sent", "replied"] and {c["id"] for c in kinds["command"]} == {sent["id"]}, kinds["command"]
    actions = [d["action"] for d in kinds["device"]]
    assert actions[0] == "created" and actions[-1] == "deleted" and "updated" in actions, actions


def filters(s):
    a, b = device(s, "fa").connect(), device(s, "fb").connect()
    streams = {q: Stream(s, q) for q in ("?types=twin", "?device=fb", "?types=telemetry,twin&device=fa", "")}
    for i in range(3):
        for name, c in (("fa", a), ("fb", b)):
            c.publish("$muster/telemetry", b'{"i":%d}' % i, qos=1)
            s.api("PATCH", f"/api/v1/devices/{name}/twin/desired", {"i": i})
    t, d = ("telemetry", "twin")
    want = {"?types=twin": [(d, "fa"), (d, "fb")] * 3, "?device=fb": [(t, "fb"), (d, "fb")] * 3, "?types=telemetry,twin&device=fa": [(t, "fa"), (d, "fa")] * 3,
            "": [(t, "fa"), (d, "fa"), (t, "fb"), (d, "fb")] * 3}
    for q, w in streams.items():
        got = [(e["event"], e["data"]["device"]) for e in (w.next() for _ in want[q])]
        assert got == want[q], (q, got)
        w.close()
    for query, status in (("?types=weather", 400), ("?types=twin,weather", 400), ("?device=nobody", 404), ("?device=two%20words", 400)):
        w = Stream(s, query)
        assert w.status == status, (query, w.status)
        w.close()
    over_tls = Stream(s, "?types=twin", tls=True)
    s.api("PATCH", "/api/v1/devices/fa/twin/desired", {"i": 9})
    assert over_tls.next()["data"]["patch"] == {"i": 9}
    over_tls.close()
    a.disconnect()
    b.disconnect()


def publish(c, first, last, payload=b'{"seq":%d}'):
    for i in range(first, last):
        c.publish("$muster/telemetry", payload % i, qos=1, wait=False)
        if i % 20 == 0:
            c.wait_window(20)
    c.wait_window(0)


def resumes(s):
    """A reader that loses its connection again and again misses nothing and sees nothing twice."""
    c = device(s, "r1").connect()
    rng, total = random.Random(3), 3000
    w = Stream(s, "?types=telemetry&device=r1")
    load = threading.Thread(target=publish, args=(c, 0, total), daemon=True)
    load.start()
    got, cuts = [], 0
    while len(got) < total:
        for _ in range(rng.randrange(1, 400)):
            e = w.next()
            assert e["event"] == "telemetry", (e, len(got))
            got.append(e["data"]["values"]["seq"])
            if len(got) == total:
                break
        else:
            last = w.last_id
            w.close()
            time.sleep(rng.random() * 0.1)
            w, cuts = Stream(s, "?types=telemetry&device=r1", last_id=last), cuts + 1
    load.join(10)
    w.close()
    assert got == list(range(total)), "events are lost, twice or out of order"
    c.disconnect()
    print(f"{total} events over {cuts + 1} connections")


def too_late(s):
    """More has happened than is kept: a gap is said, then everything that is kept, in order."""
    c = device(s, "l1").connect()
    w = Stream(s, "?types=telemetry&device=l1")
    publish(c, 0, 1)
    w.next()
    last = w.last_id
    w.close()
    publish(c, 1, 11001)
    w = Stream(s, "?types=telemetry&device=l1", last_id=last)
    e = w.next()
    assert e["event"] == "gap" and e["data"]["reason"] == "lost" and "id" not in e, e
    publish(c, 11001, 11002)
    got = [w.next()["data"]["values"]["seq"]]
    while got[-1] != 11001:
        e = w.next()
        assert e["event"] == "telemetry", e
        got.append(e["data"]["values"]["seq"])
    assert got == list(range(got[0], 11002)), (got[:3], len(got))
    w.close()
    c.disconnect()


def restarted(s):
    c = device(s, "s1").connect()
    w = Stream(s, "?types=telemetry")
    publish(c, 0, 3)
    for _ in range(3):
        w.next()
    last = w.last_id
    s.kill()
    assert w.next() is None
    w.close()
    s.start()
    c.connect()
    w = Stream(s, "?types=telemetry", last_id=last)
    publish(c, 3, 4)
    first, second = w.next(), w.next()
    assert first["event"] == "gap" and second["data"]["values"]["seq"] == 3, (first, second)
    assert second["id"].rsplit("-", 1)[0] != last.rsplit("-", 1)[0], "ids of two processes can be mistaken for each other"
    w.close()
    for nonsense in ("x", "1-2-3", "zzzzzzzz-99999999999999999999", "-", "%s-999999" % second["id"].rsplit("-", 1)[0]):
        w = Stream(s, "?types=telemetry", last_id=nonsense)
        assert w.status == 200 and w.next()["event"] == "gap", nonsense
        w.close()
    c.disconnect()


def slow(s):
    """Who does not read is told so and let go; the others lose nothing; who comes back in time goes on where he stopped."""
    c = device(s, "q1").connect()
    lazy = Stream(s, "?types=telemetry&device=q1", receive_bytes=4096)
    eager = Stream(s, "?types=telemetry&device=q1")
    time.sleep(0.3)
    before = s.rss_kb()
    got = []
    def read():
        while len(got) < 6000:
            got.append(eager.next())
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    publish(c, 0, 6000, b'{"seq":%d,"a":"' + b"x" * 900 + b'"}')
    reader.join(20)
    assert [e["data"]["values"]["seq"] for e in got] == list(range(6000)), "another reader lost events"
    grown = s.rss_kb() - before
    lazy.open()
    events = list(iter(lazy.next, None))
    assert events[-1]["event"] == "gap" and events[-1]["data"]["reason"] == "slow_reader", events[-1]
    seqs = [e["data"]["values"]["seq"] for e in events[:-1]]
    assert 100 < len(seqs) < 6000 and seqs == list(range(len(seqs))), (len(seqs), seqs[:3])
    back = Stream(s, "?types=telemetry&device=q1", last_id=lazy.last_id)
    for want in range(len(seqs), len(seqs) + STREAM_QUEUE):
        e = back.next()
        assert e["event"] == "telemetry" and e["data"]["values"]["seq"] == want, (e["event"], want)
    for w in (lazy, eager, back):
        w.close()
    c.disconnect()
    print(f"a reader that does not read was let go after {len(seqs)} events; the server grew by {grown} KiB")


def main():
    with muster.Server(release=True) as s:
        quiet, since = Stream(s, "?types=cert"), time.monotonic()
        for test in (fields, filters, resumes, too_late, slow):
            start = time.monotonic()
            test(s)
            print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
        quiet.sock.settimeout(20)
        line = ""
        while not line.startswith(":"):
            line = quiet.file.readline().decode()
            assert line, "the stream ended"
        assert time.monotonic() - since < 25, "a quiet stream said nothing for more than 25 s"
        quiet.close()
    with muster.Server() as s:
        for test in (fields, filters, restarted):
            test(s)
            print(f"{test.__name__} with sanitizers: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
