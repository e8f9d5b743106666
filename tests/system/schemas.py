"""A day with the API: every operation succeeds and fails in every way its description names, and every answer is as described.

Checked for each call: the status, the reply against its schema in api/*.json, refusals as problem documents with a documented code
and, where a value is wrong, its place. At the end: no operation and no named error was left out. Then the OpenAPI document,
versions (ETag, If-Match, If-None-Match), repeats (Idempotency-Key) and compression.
"""
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import apispec
import mqtt
import muster

TOKEN = "token-of-the-schema-device-0123456789"
ALLOW_ALL = {"statements": [{"effect": "allow", "actions": ["publish", "subscribe", "receive", "retain"], "topics": ["t/#"]}]}
OPS = {op["name"]: op for op in apispec.operations()}
# By hand on purpose: what the server says must be what is meant here.
CODES = {"invalid": 400, "malformed": 400, "unauthenticated": 401, "forbidden": 403, "not_found": 404, "exists": 409, "conflict": 409,
         "version_mismatch": 412, "too_large": 413, "unsupported": 415, "idempotency_key_reused": 422, "limit": 429}
ELSEWHERE = {"shutting_down"}  # serve.py and matrix.py see what no client can bring about


def documented():
    """{operation: codes} as docs/api.md tells people."""
    with open(os.path.join(apispec.ROOT, "docs/api.md")) as f:
        text = f.read()
    found = {}
    for part in text.split("\n### ")[1:]:
        errors = re.search(r"^Errors: (.*)\.$", part, re.M)
        found[part.split("\n", 1)[0]] = set(re.findall(r"`(\w+)`", errors.group(1)))
    return found


class Api:
    def __init__(self, s):
        self.s, self.docs = s, documented()
        self.done = {name: set() for name in OPS}  # codes seen; "" for a success
        self.admin = s.token

    def call(self, op_name, params=None, body=None, want="", token="", headers=None, **query):
        """Calls an operation. `want`: "" for success or the code of the expected refusal. Returns the checked reply."""
        name, op = op_name, OPS[op_name]
        path = re.sub(r"\{(\w+)\}", lambda m: urllib.parse.quote(str((params or {})[m.group(1)]), safe=""), op["path"])
        if query:
            path += "?" + urllib.parse.urlencode({k.rstrip("_"): v for k, v in query.items()})
        h = dict(headers or {})
        if "content" in op:
            h.setdefault("Content-Type", op["content"])
        if op["permission"] == "public" and token == "":
            token = None
        status, rh, raw = self.s.request(op["method"], path, body, token=token, headers=h, raw=True)
        where = f"{name} {path} wants {want or 'success'}"
        if want:
            self.refused(name, want, status, rh, raw, where)
            self.done[name].add(want)
            return json.loads(raw)
        assert status == op.get("status", 200), (where, status, raw[:500])
        self.done[name].add("")
        self.last_headers = rh
        assert rh.get("X-Request-Id") and rh.get("X-Content-Type-Options") == "nosniff" and "Content-Security-Policy" in rh, (where, rh)
        if "reply" in op:
            assert rh["Content-Type"] == "application/json", (where, rh)
            reply = json.loads(raw)
            apispec.check(op["reply"], reply, where)
            if op.get("versioned"):
                assert re.fullmatch(r'"\d+"', rh["ETag"]), (where, rh)
            return reply
        if "reply_content" in op:
            assert rh["Content-Type"].startswith(op["reply_content"]), (where, rh)
            return raw if "octet-stream" in op["reply_content"] else raw.decode()
        assert raw == b"" and status == 204, (where, status, raw)
        return None

    def refused(self, name, want, status, rh, raw, where):
        problem = json.loads(raw)
        apispec.check(apispec.PROBLEM, problem, where)
        assert problem["code"] == want and status == problem["status"] == CODES[want], (where, status, problem)
        assert rh["Content-Type"] == "application/problem+json", (where, rh)
        assert want in self.docs[name] or want == "idempotency_key_reused" and OPS[name].get("idempotent"), f"{where}: not documented: {self.docs[name]}"
        assert (status == 401) == ("WWW-Authenticate" in rh), (where, rh)
        assert not re.search(r"/tmp/|\.db|sqlite|\.c:\d", problem["detail"]), (where, problem)

    def wrong(self, name, params, body, pointer, **kw):
        """A body with one wrong value: the problem says where."""
        p = self.call(name, params, body, want=kw.pop("want", "invalid"), **kw)
        assert p.get("pointer") == pointer, (name, str(body)[:200], pointer, p)

    def unfit(self, name, params, parameter, **query):
        p = self.call(name, params, want="invalid", **query)
        assert p.get("parameter") == parameter, (name, query, p)


def csr(name):
    out = subprocess.run(["openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "/dev/null", "-subj",
                          f"/CN={name}"], capture_output=True, check=True)
    return out.stdout.decode()


def devices(a):
    made = a.call("device.create", body={"id": "d1", "name": "Boiler", "model": "TH-20", "tags": {"site": "berlin"}, "attributes": {"floor": {"n": 3}},
                                         "keys": {"serial": "S-1"}, "access_token": TOKEN})
    assert made["version"] == 1 and made["tags"] == {"site": "berlin"} and "access_token" not in made
    a.call("device.create", body={"id": "d2", "name": None, "tags": None})
    a.call("device.create", body={"id": "d1"}, want="exists")
    a.wrong("device.create", None, {"id": "d3", "keys": {"serial": "S-1"}}, "/keys/serial", want="exists")
    for body, pointer in (({"id": "two words"}, "/id"), ({"id": ""}, "/id"), ({"id": "x" * 129}, "/id"), ({}, "/id"), ({"id": 5}, "/id"), ([], None),
                          ({"id": "x", "colour": 1}, "/colour"), ({"id": "x", "tags": {"a": 5}}, "/tags/a"), ({"id": "x", "model": ""}, "/model"),
                          ({"id": "x", "tags": {"a/b~c": "v"}}, "/tags"), ({"id": "x", "keys": {"mac": ""}}, "/keys/mac"),
                          ({"id": "x", "attributes": []}, "/attributes"), ({"id": "x", "access_token": "abc"}, "/access_token"),
                          ({"id": "x", "attributes": {"a": "x" * 17000}}, "/attributes")):
        a.wrong("device.create", None, body, pointer)
    a.call("device.create", body=b'{"id": "x"', want="malformed")
    twice = a.call("device.create", body=b'{"id": "x", "id": "y"}', want="invalid")
    assert "byte 12" in twice["detail"] and "parameter" not in twice, twice
    a.call("device.create", body=b"", want="invalid")
    a.call("device.create", body=b'{"id": "\xff"}', want="malformed")
    a.call("device.create", body=b"id=x", headers={"Content-Type": "application/x-www-form-urlencoded"}, want="unsupported")
    a.call("device.list")
    assert [d["id"] for d in a.call("device.list", tag="site=berlin")["items"]] == ["d1"]
    assert [d["id"] for d in a.call("device.list", key="serial=S-1", state="registered")["items"]] == ["d1"]
    first = a.call("device.list", limit=1)
    assert a.call("device.list", limit=1, cursor=first["next"])["items"][0]["id"] == "d2"
    a.call("device.list", group="nobody", want="not_found")
    for parameter, value in (("limit", "0"), ("limit", "1001"), ("limit", "x"), ("state", "flying"), ("cursor", "zzz"), ("tag", "novalue"), ("model", ""),
                             ("colour", "red")):
        a.unfit("device.list", None, parameter, **{parameter: value})
    got = a.call("device.get", {"device": "d1"})
    assert a.last_headers["ETag"] == '"1"' and got["attributes"] == {"floor": {"n": 3}}
    a.call("device.get", {"device": "nobody"}, want="not_found")
    a.call("device.get", {"device": "no body"}, want="invalid")
    d1 = {"device": "d1"}
    assert a.call("device.update", d1, {"name": "Heater", "tags": {"site": None, "hall": "3"}})["tags"] == {"hall": "3"}
    a.call("device.update", d1, {"name": "late"}, headers={"If-Match": '"1"'}, want="version_mismatch")
    a.call("device.update", d1, {"keys": {"mac": "m"}})
    a.call("device.update", {"device": "d2"}, {"keys": {"mac": "m"}}, want="exists")
    a.call("device.update", {"device": "nobody"}, {"name": "x"}, want="not_found")
    a.wrong("device.update", d1, {"name": 5}, "/name")
    a.wrong("device.update", d1, {"tags": {"x": ["y"]}}, "/tags/x")
    a.call("device.update", d1, {"name": "x"}, headers={"If-Match": "soon"}, want="version_mismatch")
    assert a.call("device_state.set", d1, {"state": "suspended"})["state"] == "suspended"
    a.call("device_state.set", d1, {"state": "active"}, headers={"If-Match": '"99"'}, want="version_mismatch")
    a.call("device_state.set", d1, {"state": "active"})
    a.wrong("device_state.set", d1, {"state": "flying"}, "/state")
    a.call("device_state.set", {"device": "nobody"}, {"state": "active"}, want="not_found")
    a.call("device.create", body={"id": "old"})
    a.call("device_state.set", {"device": "old"}, {"state": "retired"})
    a.call("device_state.set", {"device": "old"}, {"state": "active"}, want="conflict")
    a.call("device.delete", {"device": "old"}, headers={"If-Match": '"77"'}, want="version_mismatch")
    a.call("device.delete", {"device": "old"})
    a.call("device.delete", {"device": "old"}, want="not_found")
    lines = '{"id":"i1"}\n{"id":"d2"}\n{"id":7}\n\n{"id":"i2","model":"m"}'
    results = a.call("device.import", body=lines.encode())
    assert [r["status"] for r in results["results"] if r["status"] != "failed"] == ["created", "created"] and results["failed"] == 2, results
    assert a.call("device.import", body=b'{"id":"i1","model":"n"}\n{"id":"i2","model":"m"}\n', mode="upsert")["updated"] == 1
    a.unfit("device.import", None, "mode", mode="sideways")
    a.call("device.import", body=b'{"id":"i9"}', headers={"Content-Type": "application/json"}, want="unsupported")
    a.call("device.import", body=b'{"id":"i9"}\n' * 1001, want="too_large")


def tokens_of_devices(a):
    token = a.call("device_token.create", {"device": "d2"}, {"label": "lab"})
    assert len(token["token"]) > 20
    a.call("device_token.create", {"device": "nobody"}, {}, want="not_found")
    a.wrong("device_token.create", {"device": "d2"}, {"label": 5}, "/label")
    listed = a.call("device_token.list", {"device": "d2"})["items"]
    assert listed[0]["id"] == token["id"] and token["token"] not in json.dumps(listed)
    a.call("device_token.list", {"device": "nobody"}, want="not_found")
    a.call("device_token.revoke", {"device": "d2", "token": token["id"]})
    a.call("device_token.revoke", {"device": "d2", "token": token["id"]}, want="not_found")


def keys_of_devices(a):
    key = a.call("device_psk.create", {"device": "d2"}, {"label": "lab", "identity": "lab/d2", "key": "ab" * 16})
    assert key["identity"] == "lab/d2" and key["key"] == "ab" * 16
    assert len(a.call("device_psk.create", {"device": "d2"})["key"]) == 64
    a.call("device_psk.create", {"device": "nobody"}, {}, want="not_found")
    for body, where in (({"identity": "lab/d2"}, "/identity"), ({"identity": "a b"}, "/identity"), ({"key": "zz" * 16}, "/key"),
                        ({"key": "ab" * 15}, "/key"), ({"label": 5}, "/label")):
        a.wrong("device_psk.create", {"device": "d2"}, body, where)
    for _ in range(2):
        a.call("device_psk.create", {"device": "d2"})
    a.call("device_psk.create", {"device": "d2"}, want="limit")
    listed = a.call("device_psk.list", {"device": "d2"})["items"]
    assert len(listed) == 4 and listed[0]["id"] == key["id"] and key["key"] not in json.dumps(listed)
    a.call("device_psk.list", {"device": "nobody"}, want="not_found")
    a.call("device_psk.revoke", {"device": "d2", "psk": key["id"]})
    a.call("device_psk.revoke", {"device": "d2", "psk": key["id"]}, want="not_found")


def failed_handshakes(a):
    with socket.create_connection(("127.0.0.1", a.s.ports["mqtts"])) as c:
        c.sendall(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")
        c.recv(100)
    page = a.call("tls_failure.list", address="127.0.0.1", since="0")
    assert page["items"][0]["alert"]["name"] == "unexpected_message", page
    assert a.call("tls_failure.list", address="192.0.2.1")["items"] == []
    assert a.call("tls_failure.list", since="2100-01-01T00:00:00Z")["items"] == []
    a.unfit("tls_failure.list", None, "limit", limit="0")
    a.unfit("tls_failure.list", None, "since", since="x")


def groups(a):
    a.call("group.create", body={"id": "g1", "description": "first"})
    a.call("group.create", body={"id": "g1"}, want="exists")
    a.wrong("group.create", None, {"id": "g 1"}, "/id")
    assert a.call("group_member.add", {"group": "g1"}, {"devices": ["d1", "d2"]})["added"] == 2
    a.call("group_member.add", {"group": "g1"}, {"devices": ["nobody"]}, want="not_found")
    a.call("group_member.add", {"group": "none"}, {"devices": ["d1"]}, want="not_found")
    a.wrong("group_member.add", {"group": "g1"}, {"devices": []}, "/devices")
    a.wrong("group_member.add", {"group": "g1"}, {"devices": ["d1", "d 2"]}, "/devices/1")
    assert a.call("group.get", {"group": "g1"})["members"] == 2
    a.call("group.get", {"group": "none"}, want="not_found")
    assert a.call("group.list")["items"][0]["id"] == "g1"
    assert a.call("device.get", {"device": "d1"})["groups"] == ["g1"]
    a.call("group_member.remove", {"group": "g1", "device": "d2"})
    a.call("group_member.remove", {"group": "g1", "device": "nobody"}, want="not_found")
    a.call("group.delete", {"group": "g1"})
    a.call("group.delete", {"group": "g1"}, want="not_found")


def enrolment(a):
    claim = a.call("claim.create", body={"uses": 2, "ttl": "1h", "device_prefix": "e", "model": "m", "tags": {"batch": "7"}})
    for body, pointer in (({"uses": 0}, "/uses"), ({"uses": 1.5}, "/uses"), ({"ttl": "soon"}, "/ttl"), ({"ttl": "400d"}, "/ttl"),
                          ({"device_prefix": "a b"}, "/device_prefix")):
        a.wrong("claim.create", None, body, pointer)
    a.call("claim.create")
    enrolled = a.call("enroll.create", body={"csr": csr("e1")}, token=claim["token"])
    assert enrolled["device"] == "e1" and "BEGIN CERTIFICATE" in enrolled["certificate"] and enrolled["ca"] == a.call("ca.get")
    assert a.call("device.get", {"device": "e1"})["tags"] == {"batch": "7"}
    a.call("enroll.create", body={"csr": csr("d1")}, token=claim["token"], want="forbidden")
    a.call("enroll.create", body={"csr": "no csr"}, token=claim["token"], want="malformed")
    a.call("enroll.create", body={"csr": csr("e2"), "device": "e 2"}, token=claim["token"], want="invalid")
    free = a.call("claim.create", body={"uses": 1})
    a.call("enroll.create", body={"csr": csr("d1")}, token=free["token"], want="exists")
    a.call("enroll.create", body={"csr": csr("e3")}, token="muster_c_" + "A" * 43, want="unauthenticated")
    a.call("enroll.create", body={"csr": csr("e3")}, want="unauthenticated")
    listed = a.call("claim.list")["items"]
    assert {c["id"] for c in listed} >= {claim["id"], free["id"]} and claim["token"] not in json.dumps(listed)
    a.unfit("claim.list", None, "limit", limit="-1")
    a.call("claim.revoke", {"claim": claim["id"]})
    a.call("claim.revoke", {"claim": "none"}, want="not_found")
    a.call("enroll.create", body={"csr": csr("e4")}, token=claim["token"], want="forbidden")
    cert = a.call("cert.list", device="e1")["items"][0]
    a.call("cert.list", device="nobody", want="not_found")
    a.unfit("cert.list", None, "state", state="flying")
    one = {"fingerprint": cert["fingerprint"]}
    assert a.call("cert.get", one)["pem"] == enrolled["certificate"]
    a.call("cert.get", {"fingerprint": "0" * 64}, want="not_found")
    a.unfit("cert.get", {"fingerprint": "ff"}, "fingerprint")
    a.call("cert.revoke", one, {"reason": "lost"})
    a.call("cert.revoke", one)
    a.wrong("cert.revoke", one, {"reason": 5}, "/reason")
    a.call("cert.revoke", {"fingerprint": "0" * 64}, want="not_found")
    assert a.call("cert.get", one)["state"] == "revoked"


def traces(a):
    trace = a.call("trace.create", body={"device": "d1", "for": "1m"})
    assert trace["state"] == "running" and trace["device"] == "d1" and trace["client"] is None, trace
    one = {"trace": trace["id"]}
    a.call("trace.create", body={"device": "nobody"}, want="not_found")
    for body in ({}, {"device": "d1", "client": "c"}):
        a.call("trace.create", body=body, want="invalid")
    for body, pointer in (({"client": ""}, "/client"), ({"address": "x"}, "/address"),
                          ({"client": "c", "for": "2 weeks"}, "/for"), ({"client": "c", "for": "25h"}, "/for")):
        a.wrong("trace.create", None, body, pointer)
    c = mqtt.Client("127.0.0.1", a.s.ports["mqtt"], "d1", "d1", TOKEN).connect()
    assert c.publish("$muster/telemetry", b'{"traced":1}', qos=1) == 0
    c.disconnect()
    seen = muster.wait_for("the end of the conversation", lambda: (
        lambda r: r if any("DISCONNECT" in i["text"] for i in r["items"]) else None)(a.call("trace.records", one)))
    kinds = [(i["direction"], i["text"].split()[0]) for i in seen["items"] if i["direction"] != "note"]
    assert kinds == [("in", "CONNECT"), ("out", "CONNACK"), ("in", "PUBLISH"), ("out", "PUBACK"), ("in", "DISCONNECT")], kinds
    assert TOKEN not in json.dumps(seen) and "password=(hidden)" in seen["items"][0]["text"] + seen["items"][1]["text"], seen
    page = a.call("trace.records", one, limit=1)
    assert page["more"] and a.call("trace.records", one, after=page["last"])["items"][0]["seq"] == page["last"] + 1
    a.unfit("trace.records", one, "after", after="-1")
    a.unfit("trace.list", None, "limit", limit="0")
    a.call("trace.delete", one, want="conflict")
    assert a.call("trace.stop", one)["reason"] == "stopped" and a.call("trace.stop", one)["state"] == "ended"
    assert a.call("trace.get", one)["records"] >= 5 and a.call("trace.list")["items"][0]["id"] == trace["id"]
    assert 'topic="$muster/telemetry"' in a.call("trace.text", one)
    a.call("trace.pcapng", one)
    a.call("trace.delete", one)
    for name in ("trace.get", "trace.stop", "trace.delete", "trace.records", "trace.text", "trace.pcapng"):
        a.call(name, {"trace": "1"}, want="not_found")


def device_side(a):
    c = mqtt.Client("127.0.0.1", a.s.ports["mqtt"], "d1", "d1", TOKEN).connect()
    d1, nobody = {"device": "d1"}, {"device": "nobody"}
    start = 1700000000000
    points = [{"ts": start + i * 1000, "values": {"temperature": i / 2, "n": i}} for i in range(50)]
    assert c.publish("$muster/telemetry", json.dumps(points), qos=1) == 0
    assert c.publish("$muster/telemetry", b'{"ok":true,"s":"text","temperature":99}', qos=1) == 0
    assert c.publish("$muster/telemetry", b"nonsense", qos=1) >= 0x80
    assert c.publish("$muster/event/door", b'{"open":true}', qos=1) == 0
    assert c.publish("$muster/twin/reported", b'{"fw":"1","interval":5}', qos=1) == 0
    assert c.publish("$muster/twin/reported", b"[]", qos=1) >= 0x80
    last = a.call("telemetry.last", d1)["metrics"]
    assert last["temperature"]["value"] == 99 and last["ok"]["value"] is True and last["s"]["value"] == "text", last
    assert {m["name"]: m["type"] for m in a.call("telemetry.metrics", d1)["items"]}["ok"] == "boolean"
    metric = {"device": "d1", "metric": "temperature"}
    page = a.call("telemetry.range", metric, from_=start, to=start + 60000, limit=30)
    assert page["points"][0] == [start, 0] and len(page["points"]) == 30 and page["next"]
    assert len(a.call("telemetry.range", metric, from_=start, to=start + 60000, limit=30, cursor=page["next"])["points"]) == 20
    assert a.call("telemetry.range", metric, from_="2023-11-14T00:00:00Z", to=start + 60000, count="true") == {"count": 50}
    for agg in ("min", "max", "avg", "sum", "count", "first", "last"):
        assert a.call("telemetry.range", metric, from_=start, to=start + 60000, bucket="10s", agg=agg)["points"], agg
    assert a.call("telemetry.range", metric, order="desc", limit=1)["points"][0][1] == 99
    a.unfit("telemetry.last", d1, "prefix", prefix="")
    for parameter, value in (("from_", "yesterday"), ("to", "x"), ("bucket", "0s"), ("bucket", "1parsec"), ("agg", "median"), ("limit", "10001"), ("count", "maybe"),
                             ("order", "up"), ("cursor", "x")):
        a.unfit("telemetry.range", metric, parameter.rstrip("_"), **{parameter: value})
    for name in ("telemetry.last", "telemetry.metrics", "event.list", "twin.get", "presence.get", "presence.sessions", "ledger.get", "command.list"):
        a.call(name, nobody, want="not_found")
    a.call("telemetry.range", {"device": "nobody", "metric": "m"}, want="not_found")
    assert a.call("telemetry.range", {"device": "d1", "metric": "never"}) == {"points": [], "next": None}
    assert a.call("event.list", d1, name="door")["items"][0]["data"] == {"open": True}
    a.unfit("event.list", d1, "limit", limit="0")
    ledger = a.call("ledger.get", d1)
    assert ledger["received"] == 6 and ledger["stored"] == 4 and muster.ledger_adds_up(ledger), ledger
    assert muster.ledger_adds_up(a.call("ledger.tenant"))
    online = a.call("presence.get", d1)
    assert online["online"] and online["connection"]["protocol"] == "mqtt5"
    assert [p["device"] for p in a.call("presence.list", online="true")["items"]] == ["d1"]
    a.unfit("presence.list", None, "seen_before", seen_before="never")
    assert a.call("presence.sessions", d1)["items"][0]["end"] is None
    a.unfit("presence.sessions", d1, "cursor", cursor="zz")
    commands(a, c, d1, nobody)
    twins(a, c, d1, nobody)
    c.disconnect()
    muster.wait_for("offline", lambda: not a.call("presence.get", d1)["online"])
    assert a.call("presence.sessions", d1)["items"][0]["reason"] == "client_disconnect"


def commands(a, c, d1, nobody):
    sent = a.call("command.send", d1, {"name": "reboot", "payload": {"delay": 3}, "ttl": "1h"})
    a.call("command.send", nobody, {"name": "reboot"}, want="not_found")
    for body, pointer in (({}, "/name"), ({"name": "a/b"}, "/name"), ({"name": "x", "ttl": "8d"}, "/ttl"), ({"name": "x", "ttl": 5}, "/ttl")):
        a.wrong("command.send", d1, body, pointer)
    a.wrong("command.send", d1, {"name": "x", "payload": "y" * 66000}, "/payload", want="too_large")
    deep = []
    for _ in range(40):
        deep = [deep]
    refused = a.s.request("POST", "/api/v1/devices/d1/commands", {"name": "x", "payload": deep})
    assert refused[0] in (400, 413) and "parameter" not in refused[2] and "deep" in refused[2]["detail"], refused
    a.call("device_state.set", {"device": "d2"}, {"state": "retired"})
    a.call("command.send", {"device": "d2"}, {"name": "reboot"}, want="conflict")
    c.subscribe("$muster/command/+/+")
    topic, payload = c.recv()
    assert json.loads(payload) == {"delay": 3}
    c.publish(f"$muster/command/{topic.rsplit('/', 1)[1]}/reply", b'{"done":true}', qos=1)
    one = a.call("command.get", {"device": "d1", "command": sent["id"]})
    assert one["state"] == "replied" and one["reply"] == {"done": True} and not one["late"], one
    a.call("command.get", {"device": "d1", "command": "12345"}, want="not_found")
    assert a.call("command.list", d1, state="replied")["items"][0]["id"] == sent["id"]
    a.unfit("command.list", d1, "state", state="flying")


def twins(a, c, d1, nobody):
    twin = a.call("twin.update", d1, {"interval": 9, "nested": {"a": [1, {"b": None}]}})
    assert twin["delta"]["interval"] == 9 and twin["reported"] == {"fw": "1", "interval": 5}, twin
    a.call("twin.update", d1, {"interval": 5}, headers={"If-Match": '"77"'}, want="version_mismatch")
    a.call("twin.update", nobody, {"x": 1}, want="not_found")
    a.call("twin.update", d1, {"pad": "x" * 66000}, want="too_large")
    a.call("twin.update", d1, [1], want="invalid")
    a.call("twin.update", d1, b"{", want="malformed")
    a.call("twin.update", d1, b"{}", headers={"Content-Type": "text/plain"}, want="unsupported")
    deep = {}
    for _ in range(17):
        deep = {"d": deep}
    a.call("twin.update", d1, deep, want=a.s.request("PATCH", "/api/v1/devices/d1/twin/desired", deep)[2]["code"])
    assert a.call("twin.replace", d1, {"only": 1})["desired"] == {"only": 1}
    a.call("twin.replace", d1, {"only": 2}, headers={"If-Match": '"77"'}, want="version_mismatch")
    a.call("twin.replace", nobody, {"x": 1}, want="not_found")
    a.call("twin.replace", d1, 5, want="invalid")
    assert a.call("twin.get", d1)["desired"] == {"only": 1}


def operators(a):
    made = a.call("token.create", body={"name": "bob", "role": "viewer", "ttl": "1h"})
    a.call("token.create", body={"name": "bob", "role": "viewer"}, want="exists")
    for body, pointer in (({"name": "x"}, "/role"), ({"name": "x", "role": "king"}, "/role"), ({"name": "x", "role": "viewer", "ttl": "x"}, "/ttl")):
        a.wrong("token.create", None, body, pointer)
    assert {t["name"] for t in a.call("token.list")["items"]} == {"admin", "bob"}
    a.viewer = made["token"]
    a.call("tenant.create", body={"id": "acme"})
    a.call("tenant.create", body={"id": "acme"}, want="exists")
    a.wrong("tenant.create", None, {"id": "a b"}, "/id")
    assert "acme" in {t["id"] for t in a.call("tenant.list")["items"]}
    assert a.call("retention.set", body={"keep": "30d"})["default"] == "30d"
    assert a.call("retention.set", body={"keep": "forever", "metric": "temperature"})["metrics"] == {"temperature": "forever"}
    a.wrong("retention.set", None, {"keep": "1s"}, "/keep")
    assert a.call("retention.get")["metrics"] == {"temperature": "forever"}
    actions = {r["action"] for r in a.call("audit.list", limit=1000)["items"]}
    assert {"device.create", "device.delete", "twin.desired", "cert.revoke", "token.create", "retention.set", "claim.create"} <= actions, actions
    for name in ("audit.list", "group.list", "tenant.list", "token.list"):
        a.unfit(name, None, "limit", limit="0")
    a.unfit("audit.list", None, "from", from_="x")
    a.unfit("events.stream", None, "types", types="weather")
    page = a.call("audit.list", limit=5, object="d1")
    assert a.call("audit.list", limit=5, object="d1", cursor=page["next"])["items"][0]["seq"] < page["items"][-1]["seq"]


ALLOW = {"statements": [{"effect": "allow", "actions": ["publish"], "topics": ["plant/${device.tags.site}/#"]}]}


def policies(a):
    made = a.call("policy.create", body={"id": "p1", "description": "first", "document": ALLOW})
    assert made["version"] == 1 and made["document"] == ALLOW and made["attachments"] == 0, made
    a.call("policy.create", body={"id": "p1", "document": ALLOW}, want="exists")
    topics = "/document/statements/0/topics/0"
    for body, pointer in (({"id": "p 2", "document": ALLOW}, "/id"), ({"id": "p2"}, "/document"), ({"id": "p2", "document": {}}, "/document/statements"),
                          ({"id": "p2", "document": {"statements": [dict(ALLOW["statements"][0], topics=["a/#/b"])]}}, topics),
                          ({"id": "p2", "document": {"statements": [dict(ALLOW["statements"][0], topics=["${device.colour}"])]}}, topics),
                          ({"id": "p2", "document": {"statements": [dict(ALLOW["statements"][0], effect="maybe")]}}, "/document/statements/0/effect")):
        a.wrong("policy.create", None, body, pointer)
    assert a.call("policy.get", {"policy": "p1"})["description"] == "first" and a.last_headers["ETag"] == '"1"'
    a.call("policy.get", {"policy": "none"}, want="not_found")
    assert a.call("policy_attachment.add", {"policy": "p1"}, {"kind": "device", "target": "d2"})["changed"]
    assert not a.call("policy_attachment.add", {"policy": "p1"}, {"kind": "device", "target": "d2"})["changed"]
    a.call("policy_attachment.add", {"policy": "none"}, {"kind": "tenant"}, want="not_found")
    a.call("policy_attachment.add", {"policy": "p1"}, {"kind": "group", "target": "nobody"}, want="not_found")
    a.wrong("policy_attachment.add", {"policy": "p1"}, {"kind": "planet", "target": "x"}, "/kind")
    a.wrong("policy_attachment.add", {"policy": "p1"}, {"kind": "device"}, "/target")
    a.call("policy_attachment.add", {"policy": "p1"}, {"kind": "tenant"})
    a.call("policy_attachment.add", {"policy": "p1"}, {"kind": "token", "target": "bob"})
    listed = a.call("policy_attachment.list", {"policy": "p1"})["items"]
    assert [(i["kind"], i["target"]) for i in listed] == [("device", "d2"), ("token", "bob"), ("tenant", "default")], listed
    first = a.call("policy_attachment.list", {"policy": "p1"}, limit=1)
    assert a.call("policy_attachment.list", {"policy": "p1"}, limit=2, cursor=first["next"])["items"] == listed[1:]
    a.call("policy_attachment.list", {"policy": "none"}, want="not_found")
    a.unfit("policy_attachment.list", {"policy": "p1"}, "limit", limit="0")
    assert a.call("policy_attachment.of", kind="device", target="d2")["items"] == listed[:1]
    a.call("policy_attachment.of", kind="device", target="nobody", want="not_found")
    a.unfit("policy_attachment.of", None, "kind", kind="planet")
    policy_answers(a)
    a.call("policy.delete", {"policy": "p1"}, want="conflict")
    for kind, target in (("device", "d2"), ("token", "bob"), ("tenant", "default")):
        a.call("policy_attachment.remove", {"policy": "p1", "kind": kind, "target": target})
    a.call("policy_attachment.remove", {"policy": "p1", "kind": "device", "target": "d2"}, want="not_found")
    a.call("policy_attachment.add", {"policy": "p1"}, {"kind": "tenant"})
    a.call("policy_attachment.remove_tenant", {"policy": "p1", "kind": "tenant"})
    a.call("policy_attachment.remove_tenant", {"policy": "p1", "kind": "tenant"}, want="not_found")
    a.wrong("policy_attachment.remove_tenant", {"policy": "p1", "kind": "device"}, None, "/target")
    a.call("policy.delete", {"policy": "p1"})
    a.call("policy.delete", {"policy": "p1"}, want="not_found")


def policy_answers(a):
    a.call("device.update", {"device": "d2"}, {"tags": {"site": "berlin"}})
    question = {"device": "d2", "action": "publish", "topic": "plant/berlin/x"}
    assert a.call("policy.test", body=question) == {"allowed": True, "reason": "an allow statement matches", "policy": "p1", "statement": 0, "topic": 0}
    assert not a.call("policy.test", body=dict(question, topic="plant/hamburg/x"))["allowed"]
    assert a.call("policy.test", body={"token": "bob", "action": "subscribe", "topic": "devices/+/twin"})["allowed"]
    a.call("policy.test", body=dict(question, device="nobody"), want="not_found")
    a.wrong("policy.test", None, {"action": "publish", "topic": "x"}, "/device")
    a.wrong("policy.test", None, dict(question, action="eat"), "/action")
    changed = a.call("policy.update", {"policy": "p1"}, {"document": {"statements": []}}, headers={"If-Match": '"1"'})
    assert changed["version"] == 2 and changed["description"] == "first"
    assert not a.call("policy.test", body=question)["allowed"]
    a.call("policy.update", {"policy": "p1"}, {"description": "x"}, headers={"If-Match": '"1"'}, want="version_mismatch")
    a.call("policy.update", {"policy": "none"}, {"description": "x"}, want="not_found")
    a.wrong("policy.update", {"policy": "p1"}, {"document": []}, "/document")
    assert [i["id"] for i in a.call("policy.list")["items"]] == ["p1"]
    a.unfit("policy.list", None, "limit", limit="0")


def passwords_quotas_bans(a):
    made = a.call("device_password.set", {"device": "d2"}, {"password": "a-long-password"})
    assert made["username"] == "d2" and made["password"] is None
    assert len(a.call("device_password.set", {"device": "d2"})["password"]) == 24
    a.call("device_password.set", {"device": "nobody"}, {}, want="not_found")
    a.wrong("device_password.set", {"device": "d2"}, {"password": "short"}, "/password")
    assert "password" not in a.call("device_password.list", {"device": "d2"})["items"][0]
    a.call("device_password.list", {"device": "nobody"}, want="not_found")
    a.call("device_password.revoke", {"device": "d2"})
    a.call("device_password.revoke", {"device": "d2"}, want="not_found")
    limits = {i["name"]: i for i in a.call("quota.get", tenant="acme")["limits"]}
    assert limits["subscriptions"]["default"] and limits["messages"]["limit"] == 0
    a.call("quota.get", tenant="nobody", want="not_found")
    a.unfit("quota.get", None, "tenant", tenant="a b")
    limits = {i["name"]: i for i in a.call("quota.set", body={"tenant": "acme", "name": "messages", "limit": 100})["limits"]}
    assert not limits["messages"]["default"]
    a.call("quota.set", body={"tenant": "nobody", "name": "messages", "limit": 1}, want="not_found")
    a.wrong("quota.set", None, {"name": "messages", "limit": -1}, "/limit")
    a.wrong("quota.set", None, {"name": "planets", "limit": 1}, "/name")
    ban = a.call("ban.create", body={"kind": "address", "value": "198.51.100.0/24", "reason": "scans", "ttl": "1h"})
    assert ban["value"] == "198.51.100.0/24" and ban["expires"], ban
    a.call("ban.create", body={"kind": "device", "value": "d2"})
    a.call("ban.create", body={"kind": "device", "value": "nobody"}, want="not_found")
    for body, pointer in (({"kind": "planet", "value": "x"}, "/kind"), ({"kind": "address", "value": "x"}, "/value"),
                          ({"kind": "client_id", "value": "x", "ttl": "1ms"}, "/ttl")):
        a.wrong("ban.create", None, body, pointer)
    assert [i["kind"] for i in a.call("ban.list")["items"]] == ["address", "device"]
    a.unfit("ban.list", None, "limit", limit="0")
    for item in a.call("ban.list")["items"]:
        a.call("ban.delete", {"ban": item["id"]})
    a.call("ban.delete", {"ban": ban["id"]}, want="not_found")


def broker(a):
    a.call("policy.create", body={"id": "broker", "document": ALLOW_ALL})
    a.call("policy_attachment.add", {"policy": "broker"}, {"kind": "tenant"})
    hour = b"\x11\0\0\x0e\x10"
    clients = [mqtt.Client("127.0.0.1", a.s.ports["mqtt"], f"d1/{i}", "d1", TOKEN, properties=hour) for i in range(3)]
    for c in clients:
        c.connect()
        codes = c.subscribe("t/#", "$share/g/t/+")
        assert codes == [1, 1], codes
        c.disconnect()
    pub = mqtt.Client("127.0.0.1", a.s.ports["mqtt"], "d1", "d1", TOKEN).connect()
    for i, payload in enumerate((b"text", b"\xff\0")):
        pub.send(mqtt.publish_packet(f"t/{i}", payload, 1, i + 1, retain=True))
        assert pub.wait_ack(i + 1)[0] == 0
    pub.disconnect()
    page = a.call("session.list", limit=2)
    assert [i["client_id"] for i in page["items"]] == ["d1/0", "d1/1"], page
    assert [i["client_id"] for i in a.call("session.list", limit=2, cursor=page["next"])["items"]] == ["d1/2"]
    a.unfit("session.list", None, "cursor", cursor="zz")
    one = a.call("session.get", {"client_id": "d1/0"})
    assert one["principal"] == "d1" and not one["online"] and one["expiry_s"] == 3600 and one["expires"] and one["queued"] >= 2, one
    assert [f["filter"] for f in one["filters"]] == ["$share/g/t/+", "t/#"], one
    a.call("session.get", {"client_id": "nobody"}, want="not_found")
    a.call("session.delete", {"client_id": "d1/0"})
    a.call("session.delete", {"client_id": "d1/0"}, want="not_found")
    page = a.call("retained.list", limit=1)
    assert page["items"][0]["topic"] == "t/0" and page["items"][0]["bytes"] == 4, page
    assert [i["topic"] for i in a.call("retained.list", cursor=page["next"])["items"]] == ["t/1"]
    a.unfit("retained.list", None, "cursor", cursor="zz")
    assert a.call("retained.get", {"topic": "t/0"})["payload"] == "text"
    assert a.call("retained.get", {"topic": "t/1"})["payload_base64"] == "/wA="
    a.call("retained.get", {"topic": "t/2"}, want="not_found")
    a.call("retained.delete", {"topic": "t/0"})
    a.call("retained.delete", {"topic": "t/0"}, want="not_found")


def everyone(a):
    """What every operation does with no token, a wrong one, and one that may not."""
    params = {"device": "d1", "group": "g1", "claim": "c", "command": "1", "token": "t", "psk": "p", "fingerprint": "0" * 64, "name": "nobody", "metric": "temperature",
              "policy": "p", "kind": "device", "target": "t", "ban": "b", "trace": "1", "client_id": "c", "topic": "t"}
    for name, op in OPS.items():
        if op["permission"] == "public":
            continue
        body = b"{}" if op["method"] in ("POST", "PUT", "PATCH") else None
        a.call(name, params, body, token=None, want="unauthenticated")
        if op["permission"] not in apispec.ROLES["viewer"]:
            a.call(name, params, body, token=a.viewer, want="forbidden")
    a.call("token.revoke", {"name": "bob"})
    a.call("token.revoke", {"name": "bob"}, want="not_found")
    a.call("token.revoke", {"name": "admin"}, want="conflict")
    a.call("device.list", token=a.viewer, want="unauthenticated")
    for name in ("system.health", "system.ready", "system.openapi", "system.metrics"):
        a.call(name)
    a.done["events.stream"].add("")  # stream.py
    a.call("events.stream", device="nobody", want="not_found")
    for method, path, code in (("GET", "/api/v1/nothing", "not_found"), ("DELETE", "/api/v1/devices", "method_not_allowed"), ("GET", "/", "not_found"),
                               ("GET", "/api/v1/devices/d1/../d1", "not_found"), ("POST", "/healthz", "method_not_allowed")):
        status, headers, problem = a.s.request(method, path, b"{}" if method == "POST" else None)
        assert problem["code"] == code and status == problem["status"] in (404, 405), (method, path, problem)
        assert (status == 405) == ("Allow" in headers), headers


def too_often(s):
    """429: too many wrong tokens, too many wrong claims. On a server of its own: they count for the whole address."""
    a = Api(s)
    codes = [s.request("GET", "/api/v1/devices", token="wrong-%d" % i)[0] for i in range(15)]
    assert codes[0] == 401 and codes[-1] == 429, codes
    a.call("device.list", token="wrong-again", want="limit")
    codes = [s.request("POST", "/api/v1/enroll", {"csr": "x"}, token="muster_c_" + "%043d" % i)[0] for i in range(15)]
    assert codes[-1] == 429, codes


def nothing_left_out(a):
    missing = []
    for name, op in OPS.items():
        wanted = {""} | set(op.get("errors", [])) - ELSEWHERE
        if "request" in op or "params" in op:
            wanted |= {"invalid"} if any(p["in"] == "query" for p in op.get("params", [])) or op.get("request", {}).get("properties") else set()
        missing += [f"{name}: {code or 'success'}" for code in sorted(wanted - a.done[name])]
    allowed = {"device.create: limit", "enroll.create: limit"}  # a million devices; too_often() has the other
    assert not set(missing) - allowed, "never seen:\n" + "\n".join(sorted(set(missing) - allowed))
    print(f"{len(OPS)} operations, {sum(len(c) for c in a.done.values())} kinds of answers")


REFERENCE_KEYS = {"type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "enum", "minLength", "maxLength", "minimum", "maximum",
                  "format", "pattern", "description", "default", "examples", "minProperties", "maxProperties", "$ref"}


def check_schema(schema, where, document):
    """JSON Schema 2020-12 as far as the document uses it."""
    if isinstance(schema, bool):
        return
    assert set(schema) <= REFERENCE_KEYS, (where, set(schema) - REFERENCE_KEYS)
    if "$ref" in schema:
        target = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return
    types = schema.get("type", [])
    assert set(types if isinstance(types, list) else [types]) <= set(apispec.TYPES), where
    assert schema.get("format") in (None, "date-time"), (where, schema["format"])
    re.compile(schema.get("pattern", ""))
    assert set(schema.get("required", [])) <= set(schema.get("properties", {})), where
    for name, child in schema.get("properties", {}).items():
        check_schema(child, f"{where}/{name}", document)
    for key in ("items", "additionalProperties"):
        if key in schema:
            check_schema(schema[key], f"{where}/{key}", document)


def openapi(a):
    d = json.loads(json.dumps(a.call("system.openapi"))) if "reply" in OPS["system.openapi"] else json.loads(a.call("system.openapi"))
    assert re.fullmatch(r"3\.1\.\d+", d["openapi"]) and d["info"]["title"] and d["info"]["version"] and set(d) <= {"openapi", "info", "servers", "paths", "components"}
    seen = {}
    for path, item in d["paths"].items():
        assert path.startswith("/") and set(item) <= {"get", "post", "put", "patch", "delete"}, path
        for method, op in item.items():
            where = f"{method} {path}"
            assert op["operationId"] not in seen, where
            seen[op["operationId"]] = (method.upper(), path)
            assert op["summary"] and op["responses"], where
            in_path = [p["name"] for p in op.get("parameters", []) if p["in"] == "path"]
            assert sorted(in_path) == sorted(re.findall(r"\{(\w+)\}", path)), where
            names = [(p["in"], p["name"]) for p in op.get("parameters", [])]
            assert len(names) == len(set(names)), where
            for p in op.get("parameters", []):
                assert p["in"] in ("path", "query", "header") and (p["in"] != "path" or p["required"] is True), where
                check_schema(p["schema"], f"{where} {p['name']}", d)
            for scheme in op["security"]:
                assert set(scheme) <= set(d["components"]["securitySchemes"]), where
            bodies = [op["requestBody"]] if "requestBody" in op else []
            for status, r in op["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d", status) and r["description"], (where, status)
                bodies.append(r)
            for b in bodies:
                for media, content in b.get("content", {}).items():
                    assert "/" in media
                    check_schema(content["schema"], f"{where} {media}", d)
            spec = OPS[op["operationId"]]
            codes = {str(spec.get("status", 200))} | {str(CODES[c]) for c in a.done[op["operationId"]] if c}
            assert codes <= set(op["responses"]), (where, codes - set(op["responses"]))
            assert (op["security"] == []) == (spec["permission"] == "public"), where
            assert spec["method"] == "GET" or "507" in op["responses"], where
    assert seen == {n: (op["method"], op["path"]) for n, op in OPS.items()}, "an operation is not in the document"


def versions(a):
    d1 = {"device": "d1"}
    for name, path in (("device.get", "/api/v1/devices/d1"), ("twin.get", "/api/v1/devices/d1/twin")):
        a.call(name, d1)
        tag = a.last_headers["ETag"]
        for known, status in ((tag, 304), (f'W/{tag}', 304), (f'"x", {tag}', 304), ("*", 304), ('"999"', 200), ("", 200)):
            got, headers, raw = a.s.request("GET", path, headers={"If-None-Match": known}, raw=True)
            assert got == status and headers["ETag"] == tag and bool(raw) == (status == 200), (path, known, got)
    version = a.call("device.get", d1)["version"]
    for match in (f'"{version}"', "*"):
        before = a.call("device.get", d1)["version"]
        tag = f'"{before}"' if match != "*" else "*"
        a.call("device.update", d1, {"name": f"v{before}"}, headers={"If-Match": tag})
        assert a.last_headers["ETag"] == f'"{before + 1}"'
    # of eight writers that saw the same version one wins, each time
    for _ in range(5):
        tag = {"If-Match": '"%d"' % a.call("twin.get", d1)["desired_version"]}
        codes = []
        threads = [threading.Thread(target=lambda i=i: codes.append(a.s.request("PATCH", "/api/v1/devices/d1/twin/desired", {"w": time.monotonic_ns() + i},
                                                                               headers=tag)[0])) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(codes) == [200] + [412] * 7, codes


def repeats(a):
    for name, op in OPS.items():
        key = {"Idempotency-Key": f"key-of-{name}"}
        if not op.get("idempotent"):
            continue
        bodies = {"device.create": ({"id": "idem"}, {"id": "idem2"}), "group.create": ({"id": "idem"}, {"id": "idem2"}),
                  "policy.create": ({"id": "idem", "document": ALLOW}, {"id": "idem2", "document": ALLOW}),
                  "command.send": ({"name": "once"}, {"name": "twice"})}[name]
        first = a.call(name, {"device": "d1"}, bodies[0], headers=key)
        assert a.call(name, {"device": "d1"}, bodies[0], headers=key) == first and a.last_headers["Idempotency-Replayed"] == "true", name
        a.call(name, {"device": "d1"}, bodies[1], headers=key, want="idempotency_key_reused")
        a.call(name, {"device": "d1"}, bodies[1], headers={"Idempotency-Key": "k" * 129}, want="invalid")
    a.call("claim.create", body={"uses": 1}, headers={"Idempotency-Key": "secret"}, want="invalid")
    assert len(a.call("command.list", {"device": "d1"}, limit=1000)["items"]) == 2


def compression(a):
    for path in ("/api/v1/devices?limit=1000", "/api/v1/audit?limit=1000", "/metrics"):
        plain = a.s.request("GET", path, raw=True)
        packed = a.s.request("GET", path, headers={"Accept-Encoding": "br, gzip;q=0.5"}, raw=True)
        assert "Content-Encoding" not in plain[1] and packed[1]["Content-Encoding"] == "gzip", (path, packed[1])
        assert "Accept-Encoding" in packed[1]["Vary"] and len(packed[2]) < len(plain[2]) / 2, path
        if path != "/metrics":
            assert gzip.decompress(packed[2]) == plain[2], path
        refused = a.s.request("GET", path, headers={"Accept-Encoding": "gzip;q=0"}, raw=True)
        assert "Content-Encoding" not in refused[1], path


def main():
    with muster.Server() as s:
        a = Api(s)
        for test in (devices, tokens_of_devices, keys_of_devices, failed_handshakes, groups, enrolment, device_side, traces, operators, policies, passwords_quotas_bans,
                     broker, everyone):
            start = time.monotonic()
            test(a)
            print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
        nothing_left_out(a)
        for test in (openapi, versions, repeats, compression):
            test(a)
            print(f"{test.__name__}: ok", flush=True)
    with muster.Server() as s:
        too_often(s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
