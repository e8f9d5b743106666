"""Policies over MQTT: what is allowed, what is refused and how, and that no way round them is left open.

One exploit for each row S10 to S16 of what brokers got wrong before: wildcards through values, retained messages, subscriptions,
queued messages and wills after a right is gone, foreign client ids, sessions of somebody else. Then applications and their
tokens, passwords (plain and SCRAM-SHA-256), bans, flapping, limits of a tenant.
"""
import base64
import hashlib
import hmac
import json
import socket
import struct
import time

import mqtt
import muster

TOKEN = "token-of-{}-0123456789abcdef"
HOUR = b"\x11" + struct.pack("!I", 3600)  # session expiry
GRANTED, DENIED, QUOTA, BANNED = (0x00, 0x10), 0x87, 0x97, 0x8A


def allow(*topics, actions=("publish", "subscribe", "receive", "retain"), effect="allow"):
    return {"effect": effect, "actions": list(actions), "topics": list(topics)}


class World:
    def __init__(self, s):
        self.s = s

    def policy(self, name, *statements):
        try:
            self.s.api("POST", "/api/v1/policies", {"id": name, "document": {"statements": list(statements)}})
        except muster.Refused:
            self.s.api("PATCH", f"/api/v1/policies/{name}", {"document": {"statements": list(statements)}})

    def attach(self, name, kind, target):
        self.s.api("POST", f"/api/v1/policies/{name}/attachments", {"kind": kind, "target": target})

    def detach(self, name, kind, target):
        self.s.api("DELETE", f"/api/v1/policies/{name}/attachments/{kind}/{target}")

    def device(self, name, policy=None, **fields):
        self.s.device(name, TOKEN.format(name), **fields)
        if policy:
            self.attach(policy, "device", name)

    def client(self, name, client_id=None, **kw):
        return mqtt.Client("127.0.0.1", self.s.ports["mqtt"], client_id or name, kw.pop("username", name), kw.pop("password", TOKEN.format(name)), **kw)

    def connect(self, name, client_id=None, **kw):
        return self.client(name, client_id, **kw).connect()

    def audit(self, action):
        return [r for r in self.s.api("GET", "/api/v1/audit?limit=1000")["items"] if r["action"] == action]


def refused(client, reason):
    try:
        client.connect()
    except mqtt.Refused as e:
        assert e.reason == reason, (hex(e.reason), hex(reason))
        return
    raise AssertionError("was let in")


def silent(client, seconds=0.4):
    try:
        raise AssertionError(f"got {client.recv(seconds)}")
    except TimeoutError:
        pass


def plain_rules(w):
    w.policy("own", allow("own/${device.id}/#", actions=("publish", "subscribe")), allow("own/+/locked", actions=("publish",), effect="deny"))
    w.device("a1", "own")
    w.device("a2")
    c = w.connect("a1")
    assert c.publish("own/a1/x", b"1", qos=1) in GRANTED
    assert c.publish("own/a2/x", b"1", qos=1) == DENIED
    assert c.publish("own/a1/locked", b"1", qos=1) == DENIED
    assert c.publish("own/a1/x", b"1", qos=1, retain=True) == DENIED  # publishing is not retaining
    assert c.publish("devices/a1/telemetry", b"1", qos=1) == DENIED
    assert c.subscribe("own/a1/#", "own/+/x", "#", "own/#", "devices/a1/twin") == [1, DENIED, DENIED, DENIED, DENIED]
    assert c.publish("own/a1/y", b"2", qos=1) in GRANTED and c.recv() == ("own/a1/y", b"2")
    c.disconnect()
    c = w.connect("a2")
    assert c.publish("own/a2/x", b"1", qos=1) == DENIED and c.subscribe("own/a2/x") == [DENIED]
    c.disconnect()


def hostile_values(w):
    """S10: a tag, and a client id, that would be wildcards."""
    w.policy("site", allow("site/${device.tags.site}/#"), allow("cid/${client.id}/#"))
    for i, site in enumerate(("#", "+", "berlin/x", "a#")):
        name = f"h{i}"
        w.device(name, "site", tags={"site": site})
        c = w.connect(name, "#" if i == 0 else "a/b" if i == 1 else "+")
        assert c.subscribe("site/#", "site/+/#", "site/berlin/x/#", "cid/#", "cid/+/#", "cid/a/b/#") == [DENIED] * 6
        assert c.publish("site/berlin/x", b"1", qos=1) == DENIED and c.publish("cid/a/b", b"1", qos=1) == DENIED
        c.disconnect()


def retained_after_the_right(w):
    """S11: the publisher may no more; the publisher is gone."""
    w.policy("ret", allow("ret/#"))
    for name in ("r1", "r2", "r3"):
        w.device(name, "ret")
    for name in ("r1", "r2"):
        c = w.connect(name)
        assert c.publish(f"ret/{name}", b"still here", qos=1, retain=True) in GRANTED
        c.disconnect()
    c = w.connect("r3")
    assert c.subscribe("ret/#") == [1]
    assert sorted([c.recv(), c.recv()]) == [("ret/r1", b"still here"), ("ret/r2", b"still here")]
    w.detach("ret", "device", "r1")
    w.s.api("DELETE", "/api/v1/devices/r2")
    assert c.subscribe("ret/#") == [1]
    silent(c)
    c.disconnect()


def subscriptions_after_the_right(w):
    """S12: within a second, in the audit record, and the client goes on with what it still may."""
    w.policy("subs", allow("s/#", "t/#"))
    for name in ("s1", "s2"):
        w.device(name, "subs")
    c, p = w.connect("s1"), w.connect("s2")
    assert c.subscribe("s/#", "t/#") == [1, 1]
    assert p.publish("s/1", b"1", qos=1) in GRANTED and c.recv() == ("s/1", b"1")
    start = time.monotonic()
    w.policy("subs", allow("t/#"), allow("s/#", actions=("publish",)))
    assert p.publish("s/1", b"2", qos=1) in GRANTED
    muster.wait_for("the audit record", lambda: w.audit("session.unsubscribe"))
    assert time.monotonic() - start < 2
    assert p.publish("s/1", b"3", qos=1) in GRANTED and p.publish("t/1", b"4", qos=1) in GRANTED
    assert c.recv() == ("t/1", b"4")
    silent(c)
    w.policy("subs", allow("s/#", "t/#"), allow("t/secret", actions=("receive",), effect="deny"))
    assert p.publish("t/secret", b"5", qos=1) in GRANTED and p.publish("t/2", b"6", qos=1) in GRANTED
    assert c.recv() == ("t/2", b"6")
    for x in (c, p):
        x.disconnect()


def queued_after_the_right(w):
    """S13: what was queued while the client was away is judged again when it comes back."""
    w.policy("q", allow("q/#"))
    for name in ("q1", "q2"):
        w.device(name, "q")
    w.connect("q1", clean=False, properties=HOUR).subscribe("q/#")
    p = w.connect("q2")
    muster.wait_for("the session", lambda: w.s.api("GET", "/api/v1/sessions/q1")["subscriptions"] == 1)
    c = w.client("q1", clean=False, properties=HOUR).connect()
    c.abort()
    muster.wait_for("q1 is away", lambda: not w.s.api("GET", "/api/v1/sessions/q1")["online"])
    assert p.publish("q/open", b"1", qos=1) in GRANTED and p.publish("q/secret", b"2", qos=1) in GRANTED
    w.policy("q", allow("q/#"), allow("q/secret", effect="deny", actions=("receive",)))
    c = w.connect("q1", clean=False, properties=HOUR)
    assert c.connack[0] == 1 and c.recv() == ("q/open", b"1")
    silent(c)
    for x in (c, p):
        x.disconnect()


def wills(w):
    """S14: a will is a publish, at CONNECT and when it fires; nothing speaks for a device that was revoked."""
    w.policy("w", allow("w/#"))
    for name in ("w1", "w2", "w3"):
        w.device(name, "w")
    refused(w.client("w1", will=("other/x", b"1", 1)), DENIED)
    refused(w.client("w1", will=("$SYS/x", b"1", 1)), DENIED)
    listener = w.connect("w3")
    assert listener.subscribe("w/#") == [1]
    w.connect("w1", will=("w/1", b"gone", 1)).abort()
    assert listener.recv() == ("w/1", b"gone")
    c = w.connect("w1", will=("w/1", b"never", 1))
    w.detach("w", "device", "w1")
    c.abort()
    w.connect("w2", will=("w/2", b"never", 1))
    w.s.api("DELETE", "/api/v1/devices/w2")
    silent(listener, 1)
    listener.disconnect()


def client_ids(w):
    """S15, S16: a client id belongs to its principal, and the id of a device to that device."""
    for name in ("i1", "i2"):
        w.device(name)
    before = w.s.metric('muster_security_total{what="client_id_taken"}')
    c = w.connect("i1", "shared", clean=False, properties=HOUR)
    refused(w.client("i2", "shared"), DENIED)
    refused(w.client("i2", "i1"), DENIED)
    assert c.closed is None  # nobody was thrown out
    assert w.s.metric('muster_security_total{what="client_id_taken"}') >= before + 2
    muster.wait_for("the audit record", lambda: len(w.audit("security.client_id_taken")) >= 2)
    c.disconnect()
    refused(w.client("i2", "shared"), DENIED)  # the stored session stays i1's


def takeovers(w):
    w.device("k1")
    for _ in range(8):
        c = w.connect("k1")
    muster.wait_for("the report of takeovers", lambda: any(r["object"] == "k1" for r in w.audit("security.takeovers")))
    c.disconnect()


def applications(w):
    s = w.s
    made = s.api("POST", "/api/v1/tokens", {"name": "app", "role": "operator"})["token"]
    viewer = s.api("POST", "/api/v1/tokens", {"name": "looker", "role": "viewer"})["token"]
    w.device("m1")
    refused(w.client("any", "app-1", password=viewer), DENIED)
    c = w.connect("any", "app-1", password=made)
    assert c.subscribe("devices/+/telemetry", "devices/#", "other/x") == [1, DENIED, DENIED]
    assert c.publish("$muster/telemetry", b'{"t":1}', qos=1) not in GRANTED  # it is no device
    d = w.connect("m1")
    assert d.publish("$muster/telemetry", b'{"t":21}', qos=1) in GRANTED
    topic, payload = c.recv()
    assert topic == "devices/m1/telemetry" and json.loads(payload), (topic, payload)
    w.policy("apps", allow("app/${client.id}/#"))
    w.attach("apps", "token", "app")
    muster.wait_for("the new permit", lambda: c.publish("app/app-1/x", b"1", qos=1) in GRANTED)
    assert c.publish("app/app-2/x", b"1", qos=1) == DENIED
    assert s.api("POST", "/api/v1/policy-test", {"token": "app", "client_id": "app-1", "action": "publish", "topic": "app/app-1/x"})["policy"] == "apps"
    start = time.monotonic()
    s.api("DELETE", "/api/v1/tokens/app")
    c.wait_closed()
    assert time.monotonic() - start < 1.5
    refused(w.client("any", "app-1", password=made), 0x86)
    short = s.api("POST", "/api/v1/tokens", {"name": "short", "role": "operator", "ttl": "2s"})["token"]
    c = w.connect("any", "app-2", password=short)
    c.wait_closed(5)
    d.disconnect()


# --- passwords -----------------------------------------------------------------------------------------------------

def scram(w, name, password):
    """An AUTH exchange by hand; the CONNACK's reason."""
    sock = socket.create_connection(("127.0.0.1", w.s.ports["mqtt"]), 10)
    nonce = base64.b64encode(hashlib.sha256(str(time.time()).encode()).digest()[:12]).decode()
    bare = f"n={name},r={nonce}"

    def props(data):
        p = b"\x15" + mqtt.text("SCRAM-SHA-256") + b"\x16" + mqtt.text(data)
        return p

    def read():
        first = sock.recv(1)[0]
        length, shift = 0, 0
        while True:
            b = sock.recv(1)[0]
            length |= (b & 127) << shift
            shift += 7
            if b < 128:
                break
        body = b""
        while len(body) < length:
            body += sock.recv(length - len(body))
        return first >> 4, body

    sock.sendall(mqtt.connect_packet(name, properties=props("n,," + bare)))
    kind, body = read()
    if kind != 15:
        sock.close()
        return body[1]
    challenge = body[body.index(b"\x16") + 3:]
    challenge = challenge[:struct.unpack("!H", body[body.index(b"\x16") + 1:body.index(b"\x16") + 3])[0]].decode()
    fields = dict(part.split("=", 1) for part in challenge.split(","))
    assert fields["r"].startswith(nonce) and int(fields["i"]) >= 4096, challenge
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without = "c=biws,r=" + fields["r"]
    message = ",".join((bare, challenge, without)).encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
    p = props(without + ",p=" + proof)
    sock.sendall(mqtt.packet(0xF0, b"\x18" + mqtt.vbi(len(p)) + p))
    kind, body = read()
    sock.close()
    assert kind == 2, kind
    if body[1] == 0:
        server = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256"))
        assert b"v=" + server in body  # the server knows the password too
    return body[1]


def passwords(w):
    s = w.s
    w.device("p1")
    w.device("p2")
    made = s.api("PUT", "/api/v1/devices/p1/password")["password"]
    w.connect("p1", password=made).disconnect()
    refused(w.client("p1", password="wrong-password"), 0x86)
    refused(w.client("p2", password=made), 0x86)
    assert scram(w, "p1", made) == 0
    assert scram(w, "p1", "wrong-password") in (0x86, 0x87)
    assert scram(w, "nobody", made) in (0x86, 0x87)
    c = w.connect("p1", password=made)
    s.api("DELETE", "/api/v1/devices/p1/password")
    c.wait_closed(2)
    refused(w.client("p1", password=made), 0x86)


# --- bans, limits --------------------------------------------------------------------------------------------------

def bans(w):
    s = w.s
    w.device("b1")
    c = w.connect("b1", "b1-client")
    ban = s.api("POST", "/api/v1/bans", {"kind": "device", "value": "b1", "reason": "stolen"})
    assert ban["closed"] == 1, ban
    c.wait_closed(2)
    refused(w.client("b1"), BANNED)
    s.api("DELETE", f"/api/v1/bans/{ban['id']}")
    w.connect("b1").disconnect()
    c = w.connect("b1", "b1-client")
    ban = s.api("POST", "/api/v1/bans", {"kind": "client_id", "value": "b1-client", "ttl": "2s"})
    assert ban["closed"] == 1, ban
    c.wait_closed(2)
    refused(w.client("b1", "b1-client"), BANNED)
    w.connect("b1").disconnect()
    time.sleep(2.1)
    w.connect("b1", "b1-client").disconnect()  # it has run out
    banned_addresses(w)
    assert s.metric('muster_banned_total{kind="device"}') >= 1


def closed_at_once(port):
    """The server hangs up although nothing was said."""
    with socket.create_connection(("127.0.0.1", port), 5) as c:
        c.settimeout(3)
        try:
            return c.recv(1) == b""
        except ConnectionError:
            return True


def banned_addresses(w):
    s = w.s
    w.device("b2")
    live, said = [w.connect("b1"), w.connect("b2")], s.log().count("the address is banned")
    elsewhere = s.api("POST", "/api/v1/bans", {"kind": "address", "value": "192.0.2.0/24"})
    assert elsewhere["closed"] == 0 and live[0].publish("$muster/telemetry", b'{"t":1}', qos=1) == 0
    ban = s.api("POST", "/api/v1/bans", {"kind": "address", "value": "127.0.0.0/8"})
    assert ban["closed"] >= 2, ban
    for c in live:
        c.wait_closed(2)
    before = s.metric('muster_banned_total{kind="address"}')
    for port in (s.ports["mqtt"], s.ports["mqtts"]):
        assert all(closed_at_once(port) for _ in range(20)), "a banned address was let in"
    assert s.metric('muster_banned_total{kind="address"}') == before + 40
    assert s.log().count("the address is banned") - said <= 2, "more than one line for each port"
    assert s.metric("muster_mqtt_connections") == 0
    s.api("DELETE", f"/api/v1/bans/{ban['id']}")  # the API is reachable all the same
    s.api("DELETE", f"/api/v1/bans/{elsewhere['id']}")
    w.connect("b1").disconnect()


def limit(w, name, value):
    w.s.api("PUT", "/api/v1/quota", {"name": name, "limit": value})


def used(w, name):
    return next(i for i in w.s.api("GET", "/api/v1/quota")["limits"] if i["name"] == name)["used"]


def limits(w):
    w.policy("l", allow("l/#"))
    for name in ("l1", "l2"):
        w.device(name, "l")
    muster.wait_for("all others are gone", lambda: used(w, "connections") == 0)
    before = {n: used(w, n) for n in ("subscriptions", "queued_bytes")}  # of stored sessions
    limit(w, "connections", 1)
    c = w.connect("l1")
    refused(w.client("l2"), QUOTA)
    c.disconnect()
    muster.wait_for("the place is free", lambda: used(w, "connections") == 0)
    w.connect("l2").disconnect()
    limit(w, "connections", None)
    c, p = w.connect("l1", clean=False, properties=HOUR), w.connect("l2")
    limit(w, "subscriptions", used(w, "subscriptions") + 2)
    assert c.subscribe("l/1", "l/2", "l/3") == [1, 1, QUOTA]
    assert c.subscribe("l/1") == [1]  # the same again is no new one
    c.unsubscribe("l/2")
    assert c.subscribe("l/3") == [1]
    limit(w, "subscriptions", None)
    c.abort()
    muster.wait_for("l1 is away", lambda: not w.s.api("GET", "/api/v1/sessions/l1")["online"])
    limit(w, "queued_bytes", used(w, "queued_bytes") + 3000)
    for _ in range(10):
        assert p.publish("l/1", b"x" * 1000, qos=1) in GRANTED
    session = w.s.api("GET", "/api/v1/sessions/l1")
    assert 1 <= session["queued"] <= 3 and session["queued"] + session["dropped"] == 10, session
    limit(w, "queued_bytes", None)
    limit(w, "messages", 50)
    start = time.monotonic()
    for i in range(150):
        p.publish("l/9", b"x", qos=1, wait=False)
    p.wait_window()
    took = time.monotonic() - start  # two seconds' worth at once, the last 50 take their time; nothing is lost
    limit(w, "messages", None)
    assert 0.5 < took < 5, took
    w.s.api("DELETE", "/api/v1/sessions/l1")
    p.disconnect()
    muster.wait_for("nothing is left over", lambda: used(w, "connections") == 0 and {n: used(w, n) for n in before} == before)


def flapping():
    with muster.Server(args=["--ban.flapping_connects=5", "--mqtt.connects_limit_loopback=true"]) as s:
        w = World(s)
        w.device("f1")
        w.device("f2")
        let_in = 0
        for _ in range(12):
            try:
                w.connect("f1").disconnect()
                let_in += 1
            except mqtt.Refused as e:
                assert e.reason == BANNED, hex(e.reason)
        assert 4 <= let_in <= 5, let_in
        w.connect("f2").disconnect()  # a neighbour behind the same address
        assert s.metric('muster_banned_total{kind="flapping"}') >= 7


def anonymous():
    with muster.Server(args=["--mqtt.anonymous=guests"]) as s:
        w = World(s)
        guest = mqtt.Client("127.0.0.1", s.ports["mqtt"], "guest").connect()
        assert guest.publish("open/x", b"1", qos=1) == DENIED  # the policy does not exist yet
        w.policy("guests", allow("open/#"))
        again = mqtt.Client("127.0.0.1", s.ports["mqtt"], "guest-2").connect()
        assert again.publish("open/x", b"1", qos=1) in GRANTED and again.publish("x", b"1", qos=1) == DENIED
        refused(mqtt.Client("127.0.0.1", s.ports["mqtts"], "guest-3", ca=s.ca), 0x86)
        refused(mqtt.Client("127.0.0.1", s.ports["mqtt"], "guest-3", "nobody", "wrong"), 0x86)
        for c in (guest, again):
            c.disconnect()


def main():
    with muster.Server() as s:
        w = World(s)
        for test in (plain_rules, hostile_values, retained_after_the_right, subscriptions_after_the_right, queued_after_the_right, wills, client_ids,
                     takeovers, applications, passwords, bans, limits):
            start = time.monotonic()
            test(w)
            print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
    for test in (flapping, anonymous):
        test()
        print(f"{test.__name__}: ok", flush=True)


if __name__ == "__main__":
    main()
