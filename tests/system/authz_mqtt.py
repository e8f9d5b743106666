"""Who may do what on the broker's topics, as an attacker would try it (the numbers are those of docs/reliability.md).

S10 wildcards: random policies against an oracle that knows nothing of the server; ids that look like wildcards.
S11 retained messages, S12 subscriptions, S13 queued messages, S14 wills after the permission is gone; S15 another one's client id;
S16 another one's session, and a TLS ticket after revocation.

    SEED for other policies; DEVICES=40 for more of them (default 10)
"""
import itertools
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import mqtt
import muster
import open_broker
from session import Gone, Session

SEED = int(os.environ.get("SEED", "3"))
DEVICES = int(os.environ.get("DEVICES", "10"))
WITHIN_S = 1.0  # a change of rights holds after this
LETTERS = "abc"
TOPICS = ["/".join(t) for n in (1, 2, 3) for t in itertools.product(LETTERS, repeat=n)]


def token(name):
    return f"token-of-{name}-0123456789-0123456789"


def session(s, name, client_id=None, **kw):
    return Session(s.ports["mqtt"], client_id or name, username=name, password=token(name), **kw)


def anyone(s, name):
    """A client that may do everything."""
    c = Session(s.ports["mqtt"], name, expiry_s=0)
    c.open(clean=True)
    return c


def policy(s, name, *statements):
    """statements: (effect, actions, topics)."""
    document = {"statements": [{"effect": e, "actions": a.split(), "topics": t.split()} for e, a, t in statements]}
    s.api("POST", "/api/v1/policies", {"id": name, "document": document})


def attach(s, name, device):
    s.api("POST", f"/api/v1/policies/{name}/attachments", {"kind": "device", "target": device})


def detach(s, name, device):
    s.api("DELETE", f"/api/v1/policies/{name}/attachments/device/{device}")


def device_with(s, name, *statements):
    s.device(name, token(name))
    policy(s, f"of-{name}", *statements)
    attach(s, f"of-{name}", name)


# --- S10 ---------------------------------------------------------------------------------------------------------------


def matches(pattern, topic):
    """4.7 of the specification, by recursion on the levels: the oracle."""
    p, t = pattern.split("/"), topic.split("/")

    def rest(i, j):
        if i == len(p):
            return j == len(t)
        if p[i] == "#":
            return True
        if j == len(t):
            return False
        return p[i] in ("+", t[j]) and rest(i + 1, j + 1)
    return rest(0, 0)


class Oracle:
    def __init__(self, statements, device):
        self.rules = [(e, a.split(), [x.replace("${device.id}", device) for x in t.split()]) for e, a, t in statements]

    def says(self, effect, action, topic):
        return any(e == effect and action in a and any(matches(x, topic) for x in t) for e, a, t in self.rules)

    def may(self, action, topic):
        return self.says("allow", action, topic) and not self.says("deny", action, topic)

    def may_get(self, topic):
        return self.may("subscribe", topic) and not self.says("deny", "receive", topic)


def random_filter(rng):
    levels = [rng.choice(LETTERS + "abc+") for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        levels[-1] = "#"
    return "/".join(levels)


def random_statements(rng):
    out = []
    for _ in range(rng.randint(1, 4)):
        actions = rng.sample(["publish", "subscribe", "receive", "retain"], rng.randint(1, 3))
        topics = [rng.choice([random_filter(rng), random_filter(rng), "${device.id}/#"]) for _ in range(rng.randint(1, 2))]
        out.append((rng.choice(["allow", "allow", "deny"]), " ".join(actions), " ".join(topics)))
    return out


def random_policies(s):
    rng = random.Random(SEED)
    watcher = anyone(s, "watcher")
    watcher.subscribe("#", 1)
    counts = {"granted": 0, "refused": 0, "delivered": 0, "published": 0, "forbidden": 0}
    for i in range(DEVICES):
        name = f"{rng.choice(LETTERS)}{i}" if i >= len(LETTERS) else LETTERS[i]
        statements = random_statements(rng)
        device_with(s, name, *statements)
        oracle = Oracle(statements, name)
        c = session(s, name)
        c.open(clean=True)
        granted = []
        for f in {random_filter(rng) for _ in range(6)} | {"#", "+", f"{name}/#"}:
            ok = c.subscribe(f, 1) < 0x80
            counts["granted" if ok else "refused"] += 1
            outside = [t for t in TOPICS if matches(f, t) and not oracle.says("allow", "subscribe", t)]
            assert not (ok and outside), f"{statements}: {f} was granted to {name} and reaches {outside[:3]}"
            granted += [f] if ok else []
        sent = {t for t in TOPICS if watcher.publish(t, b"x", 1) < 0x80}
        expected = {t for t in sent if any(matches(f, t) for f in granted) and oracle.may_get(t)}
        got = {m.topic for m in c.take_until(lambda out, e=expected: e <= {m.topic for m in out}, 2)}
        assert got == expected, f"{statements}: {name} got {sorted(got - expected)[:3]}, lacks {sorted(expected - got)[:3]} with {granted}"
        counts["delivered"] += len(got)
        watcher.take(0.05)
        publishes(c, watcher, oracle, statements, counts)
        c.close(expiry_s=0)
    watcher.close()
    assert all(counts.values()), counts
    return f"{DEVICES} random policies, {len(TOPICS)} topics: {counts}"


def publishes(c, watcher, oracle, statements, counts):
    allowed = {t for t in TOPICS if oracle.may("publish", t)}
    for t in TOPICS:
        code = c.publish(t, b"y", 1)
        assert (code < 0x80) == (t in allowed), f"{statements}: PUBLISH to {t} gave 0x{code:02x}"
    seen = {m.topic for m in watcher.take_until(lambda out: allowed <= {m.topic for m in out}, 2)}
    assert seen == allowed, f"{statements}: published {sorted(seen ^ allowed)[:3]}"
    counts["published"] += len(allowed)
    counts["forbidden"] += len(TOPICS) - len(allowed)


def ids_like_wildcards(s):
    for bad in ("#", "+", "a/b", "a+", "x#", "\u0000", "a\nb"):
        try:
            s.device(bad, token("bad"))
            raise AssertionError(f"a device with the id {bad!r} was made")
        except muster.Refused as e:
            assert e.status == 400, e
    device_with(s, "variable", ("allow", "subscribe publish", "c/${client.id}/#"))
    for bad in ("#", "+", "a/b", "c/#"):
        c = session(s, "variable", client_id=bad, expiry_s=0)
        try:
            c.open(clean=True)
        except (mqtt.Refused, Gone):
            continue
        for f in ("c/#", "c/+/#", "c/x/#", "c/a/#", "c/+/b/#"):
            assert c.subscribe(f, 1) >= 0x80, f"client id {bad!r}: {f} was granted"
        assert c.publish("c/x/y", b"1", 1) >= 0x80, f"client id {bad!r}: may publish to c/x/y"
        c.drop()
    return "device ids refused; as client ids they open nothing"


# --- S11 to S14: what outlives a permission -----------------------------------------------------------------------------


def retained_of(s, topic):
    c = anyone(s, "reader")
    c.subscribe(topic, 1)
    got = [m for m in c.take(0.3) if m.retain]
    c.close()
    return got


def retained_messages(s):
    device_with(s, "keeper", ("allow", "publish retain", "kept/#"))
    c = session(s, "keeper")
    c.open(clean=True)
    assert c.publish("kept/1", b"1", 1, retain=True) < 0x80
    assert len(retained_of(s, "kept/#")) == 1
    detach(s, "of-keeper", "keeper")
    time.sleep(WITHIN_S)
    assert not retained_of(s, "kept/#"), "S11: a retained message is delivered after its publisher's permission is gone"
    assert c.publish("kept/2", b"2", 1, retain=True) >= 0x80
    attach(s, "of-keeper", "keeper")
    time.sleep(WITHIN_S)
    assert c.publish("kept/3", b"3", 1, retain=True) < 0x80
    c.drop()
    s.api("DELETE", "/api/v1/devices/keeper")
    assert not retained_of(s, "kept/#"), "S11: retained messages of a deleted device are there"
    device_with(s, "writer", ("allow", "publish", "kept/#"))
    c = session(s, "writer")
    c.open(clean=True)
    code = c.publish("kept/4", b"4", 1, retain=True)
    assert code >= 0x80 and not retained_of(s, "kept/#"), f"retained without the right to retain (0x{code:02x})"
    c.drop()
    return "S11"


def subscriptions(s):
    device_with(s, "listener", ("allow", "subscribe", "news/#"))
    p = anyone(s, "speaker")
    c = session(s, "listener")
    c.open(clean=True)
    assert c.subscribe("news/#", 1) < 0x80
    p.publish("news/1", b"1", 1)
    assert [m.topic for m in c.take(0.3)] == ["news/1"]
    detach(s, "of-listener", "listener")
    time.sleep(WITHIN_S)
    p.publish("news/2", b"2", 1)
    assert not c.take(0.3), "S12: a live subscription outlives its permission"
    c.drop()
    c.open()
    p.publish("news/3", b"3", 1)
    assert not c.take(0.3), "S12: a stored subscription outlives its permission"
    assert c.subscribe("news/#", 1) >= 0x80
    attach(s, "of-listener", "listener")
    time.sleep(WITHIN_S)
    p.publish("news/4", b"4", 1)
    assert not c.take(0.3), "S12: a subscription that was taken away is back by itself"
    # S13: what was queued while it was allowed.
    assert c.subscribe("news/#", 1) < 0x80
    c.drop()
    for i in range(5):
        assert p.publish(f"news/{i}", b"q", 1) < 0x80
    detach(s, "of-listener", "listener")
    time.sleep(WITHIN_S)
    c.open()
    got = c.take(0.5)
    assert not got, f"S13: {len(got)} queued messages are delivered after the permission is gone"
    c.drop()
    p.close()
    return "S12, S13"


def wills(s):
    watcher = anyone(s, "mourner")
    watcher.subscribe("will/#", 1)
    watcher.subscribe("other/#", 1)
    device_with(s, "mortal", ("allow", "publish", "will/#"))
    c = session(s, "mortal", expiry_s=0)
    for topic in ("other/1", "$CONTROL/x", "$SYS/x", "devices/mortal/telemetry"):
        try:
            c.open(clean=True, will=(topic, b"dead", 1, False, 0))
            raise AssertionError(f"S14: a will to {topic} was accepted")
        except (mqtt.Refused, Gone):
            pass
    c.open(clean=True, will=("will/1", b"dead", 1, False, 0))
    c.drop()
    assert [m.topic for m in watcher.take_until(len, 2)] == ["will/1"]
    c.open(clean=True, will=("will/2", b"dead", 1, False, 0))
    detach(s, "of-mortal", "mortal")
    time.sleep(WITHIN_S)
    c.drop()
    assert not watcher.take(0.7), "S14: a will is published after the permission is gone"
    attach(s, "of-mortal", "mortal")
    time.sleep(WITHIN_S)
    made = s.api("POST", "/api/v1/devices/mortal/tokens", {"label": "second"})
    d = Session(s.ports["mqtt"], "mortal", username="mortal", password=made["token"], expiry_s=0)
    d.open(clean=True, will=("will/3", b"dead", 1, False, 0))
    s.api("PUT", "/api/v1/devices/mortal/state", {"state": "suspended"})
    muster.wait_for("the suspended device to be cut off", lambda: not d.ping(), 3)
    assert not watcher.take(0.7), "S14: the will of a suspended device is published"
    d.drop()
    watcher.close()
    return "S14"


# --- S15, S16: another one's name ---------------------------------------------------------------------------------------


def client_ids(s):
    for name in ("victim", "thief"):
        device_with(s, name, ("allow", "publish subscribe", "own/${device.id}/#"))
    v = session(s, "victim")
    v.open(clean=True)
    assert v.subscribe("own/victim/#", 1) < 0x80
    for version in (4, 5):
        t = session(s, "thief", client_id="victim", version=version)
        try:
            t.open(clean=False)
            raise AssertionError("S15: a device connected with another device's client id")
        except (mqtt.Refused, Gone):
            pass
    app = Session(s.ports["mqtt"], "victim")
    try:
        app.open(clean=True)
        raise AssertionError("S15: an application connected with a device's client id")
    except (mqtt.Refused, Gone):
        pass
    assert v.ping(), "S15: the device was cut off by another one that used its client id"
    # S16: a free client id that another principal's session has.
    v.drop()
    v = session(s, "victim", client_id="shared-name")
    v.open(clean=True)
    assert v.subscribe("own/victim/#", 1) < 0x80
    v.drop()
    t = session(s, "thief", client_id="shared-name")
    try:
        assert not t.open(clean=False), "S16: a session was resumed by another principal"
        t.drop()
    except (mqtt.Refused, Gone):
        pass
    p = anyone(s, "own-pub")
    p.publish("own/victim/1", b"1", 1)
    assert v.open(clean=False), "S16: the session of its owner is gone after another one tried"
    assert [m.topic for m in v.take_until(len, 2)] == ["own/victim/1"]
    v.drop()
    p.close()
    return "S15, S16"


def certificate(s, work, name):
    subprocess.run(["openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", f"{work}/{name}.key", "-subj",
                    f"/CN={name}", "-out", f"{work}/{name}.csr"], check=True, capture_output=True)
    claim = s.api("POST", "/api/v1/claims", {"uses": 1})["token"]
    with open(f"{work}/{name}.csr") as f:
        reply = s.api("POST", "/api/v1/enroll", {"csr": f.read()}, token=claim)
    with open(f"{work}/{name}.pem", "w") as f:
        f.write(reply["certificate"])
    return f"{work}/{name}.pem", f"{work}/{name}.key"


def over_tls(s, context, name, ticket=None):
    """CONNECT over TLS: (return code or None, whether the ticket was taken, a new ticket)."""
    raw = socket_to(s)
    with context.wrap_socket(raw, server_hostname="localhost", session=ticket) as tls:
        tls.settimeout(5)
        tls.sendall(mqtt.connect_packet(name, version=4))
        reply = tls.recv(4)
        if len(reply) < 4:
            return None, tls.session_reused, None
        tls.sendall(mqtt.packet(0xC0, b""))
        tls.recv(2)
        return reply[3], tls.session_reused, tls.session


def socket_to(s):
    return socket.create_connection(("127.0.0.1", s.ports["mqtts"]), 10)


def tickets(s):
    work = tempfile.mkdtemp(prefix="muster-authz-")
    taken = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        name = f"ticket{int(version)}"
        cert, key = certificate(s, work, name)
        context = ssl.create_default_context(cafile=s.ca)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(cert, key)
        code, _, ticket = over_tls(s, context, name)
        assert code == 0, code
        code, reused, ticket2 = over_tls(s, context, name, ticket)
        assert code == 0, code
        taken[version.name] = reused
        for c in s.api("GET", f"/api/v1/certs?device={name}")["items"]:
            s.api("POST", f"/api/v1/certs/{c['fingerprint']}/revoke")
        for t in (ticket, ticket2):
            try:
                code, _, _ = over_tls(s, context, name, t)
            except (ssl.SSLError, OSError):
                code = None
            assert code != 0, f"S16: {version.name}: a revoked certificate came in with its ticket"
    return f"S16 tickets (resumed before revocation: {taken})"


def main():
    with open_broker.Server(args=("--identity.auth_failures", "0")) as s:
        for test in (random_policies, ids_like_wildcards, retained_messages, subscriptions, wills, client_ids, tickets):
            print(f"ok {test.__name__}: {test(s)}", flush=True)
        denied = s.request("GET", "/metrics", raw=True)[2].decode()
        assert any("den" in line or "forbid" in line or "refus" in line for line in denied.splitlines() if line.startswith("muster_mqtt")), "refusals are not counted"


if __name__ == "__main__":
    sys.exit(main())
