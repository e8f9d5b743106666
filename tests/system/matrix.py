"""Every operation of api/*.json, by every role, in its own tenant and in another one, without a token and with a wrong one.

Expected: 401 without a known token, 403 when the role has not the permission (tests/lib/apispec.py says which has), else the
described status in the own tenant; for another tenant's objects 404, the same answer as for an id that never was. Every
reply must match its schema, every refusal must be a problem document, and no reply may show another tenant's names.
"""
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import urllib.parse

import apispec
import mqtt
import muster

MARK = "only-a"  # in every name that tenant a has and b must not see
counter = itertools.count(1)


def csr():
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
                         capture_output=True, check=True).stdout
    return subprocess.run(["openssl", "req", "-new", "-key", "/dev/stdin", "-subj", "/CN=x"], input=key, capture_output=True,
                          check=True).stdout.decode()


class Api:
    """Plain HTTP from a source address of our choice, so that wrong tokens do not use up one address's tries."""

    def __init__(self, port):
        self.port = port
        self.sources = itertools.count(2)

    def fresh_source(self):
        n = next(self.sources)
        return f"127.0.{n >> 8}.{n & 255}"

    def call(self, method, path, token, body=None, content="application/json", source="127.0.0.1"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(source, 0))
        headers = {} if token is None else {"Authorization": "Bearer " + token}
        if body is not None:
            headers["Content-Type"] = content
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        c.request(method, path, body, headers)
        r = c.getresponse()
        stream = r.getheader("Content-Type", "") == "text/event-stream"
        text = b"" if stream else r.read()
        c.close()
        return r.status, r.getheader("Content-Type", ""), text

    def made(self, method, path, token, body=None):
        status, _, text = self.call(method, path, token, body)
        assert 200 <= status < 300, (method, path, status, text)
        return json.loads(text) if text else None


class Fixtures:
    """Objects of tenant a, made anew for each call that needs one, since many calls use theirs up."""

    def __init__(self, api, owner):
        self.api, self.owner = api, owner
        self.csr = csr()
        self.mqtt_port, self.may_publish = None, False

    def name(self, kind):
        return f"{MARK}-{kind}{next(counter)}"

    def device(self):
        return self.api.made("POST", "/api/v1/devices", self.owner, {"id": self.name("d")})["id"]

    def group(self, member=None):
        group = self.api.made("POST", "/api/v1/groups", self.owner, {"id": self.name("g")})["id"]
        if member:
            self.api.made("POST", f"/api/v1/groups/{group}/members", self.owner, {"devices": [member]})
        return group

    def claim_token(self):
        return self.api.made("POST", "/api/v1/claims", self.owner, {"uses": 1, "ttl": "1h"})["token"]

    def enrolled(self):
        r = self.api.made("POST", "/api/v1/enroll", self.claim_token(), {"csr": self.csr, "device": self.name("e")})
        return r["device"]

    # one value for each path parameter of an operation
    def params(self, op):
        names = re.findall(r"\{(\w+)\}", op["path"])
        device = self.device() if "device" in names else None
        if op["name"] == "device_password.revoke":
            self.api.made("PUT", f"/api/v1/devices/{device}/password", self.owner, {})
        values = {}
        for n in names:
            values[n] = device if n == "device" else getattr(self, "param_" + n)(op, device)
        return values

    def connected(self):
        """A device of the tenant on MQTT, with a session that outlives its connection."""
        if not self.may_publish:
            self.may_publish = True
            allow = {"statements": [{"effect": "allow", "actions": ["publish", "retain"], "topics": ["x/#"]}]}
            policy = self.api.made("POST", "/api/v1/policies", self.owner, {"id": self.name("all"), "document": allow})["id"]
            self.api.made("POST", f"/api/v1/policies/{policy}/attachments", self.owner, {"kind": "tenant"})
        device, token = self.name("d"), self.name("token-of-a-device")
        self.api.made("POST", "/api/v1/devices", self.owner, {"id": device, "access_token": token})
        return mqtt.Client("127.0.0.1", self.mqtt_port, device, device, token, properties=b"\x11\0\0\x0e\x10").connect()

    def param_client_id(self, op, device):
        c = self.connected()
        c.disconnect()
        return c.client_id

    def param_topic(self, op, device):
        c = self.connected()
        c.send(mqtt.publish_packet(f"x/{c.client_id}", MARK.encode(), 1, 1, retain=True))
        assert c.wait_ack(1)[0] < 0x80
        c.disconnect()
        return f"x/{c.client_id}"

    def param_group(self, op, device):
        return self.group(device)

    def param_claim(self, op, device):
        return self.api.made("POST", "/api/v1/claims", self.owner, {})["id"]

    def param_command(self, op, device):
        return self.api.made("POST", f"/api/v1/devices/{device}/commands", self.owner, {"name": "blink"})["id"]

    def param_token(self, op, device):
        return self.api.made("POST", f"/api/v1/devices/{device}/tokens", self.owner, {"label": "spare"})["id"]

    def param_psk(self, op, device):
        return self.api.made("POST", f"/api/v1/devices/{device}/psks", self.owner, {"label": "spare"})["id"]

    def param_name(self, op, device):
        return self.api.made("POST", "/api/v1/tokens", self.owner, {"name": self.name("t"), "role": "viewer"})["name"]

    def param_policy(self, op, device):
        policy = self.api.made("POST", "/api/v1/policies", self.owner, {"id": self.name("p"), "document": {"statements": []}})["id"]
        if op["name"] == "policy_attachment.remove":
            self.attached = self.device()
            self.api.made("POST", f"/api/v1/policies/{policy}/attachments", self.owner, {"kind": "device", "target": self.attached})
        if op["name"] == "policy_attachment.remove_tenant":  # a target has at most 8: those of calls that were refused go first
            for old in self.api.made("GET", "/api/v1/policy-attachments?kind=tenant&target=a", self.owner)["items"]:
                self.api.made("DELETE", f"/api/v1/policies/{old['policy']}/attachments/tenant", self.owner)
            self.api.made("POST", f"/api/v1/policies/{policy}/attachments", self.owner, {"kind": "tenant"})
        return policy

    def param_kind(self, op, device):
        return "tenant" if op["name"] == "policy_attachment.remove_tenant" else "device"

    def param_target(self, op, device):
        return self.attached

    def param_ban(self, op, device):
        return self.api.made("POST", "/api/v1/bans", self.owner, {"kind": "client_id", "value": self.name("c")})["id"]

    def param_fingerprint(self, op, device):
        device = self.enrolled()
        return self.api.made("GET", f"/api/v1/certs?device={device}", self.owner)["items"][0]["fingerprint"]

    def end_traces(self):
        """A tenant has few running ones at a time."""
        for trace in self.api.made("GET", "/api/v1/traces", self.owner)["items"]:
            if trace["state"] == "running":
                self.api.made("POST", f"/api/v1/traces/{trace['id']}/stop", self.owner)

    def param_trace(self, op, device):
        self.end_traces()
        trace = self.api.made("POST", "/api/v1/traces", self.owner, {"client": self.name("c"), "for": "2s"})["id"]
        if op["name"] != "trace.stop":
            self.api.made("POST", f"/api/v1/traces/{trace}/stop", self.owner)
        return trace

    def param_metric(self, op, device):
        return "temperature"

    # bodies: of what is required, the smallest that means something
    def body(self, op, mark):
        def name(kind):
            return f"{mark}-{kind}{next(counter)}"
        fixed = {
            "device.import": lambda: (json.dumps({"id": name("d")}) + "\n").encode(),
            "enroll.create": lambda: {"csr": self.csr, "device": name("e")},
            "token.create": lambda: {"name": name("t"), "role": "viewer"},
            "device_state.set": lambda: {"state": "suspended"},
            "group_member.add": lambda: {"devices": [self.device()]},
            "trace.create": lambda: {"client": name("c"), "for": "2s"},
            "retention.set": lambda: {"keep": "90d"},
            "twin.update": lambda: {"interval": next(counter)},
            "twin.replace": lambda: {"interval": next(counter)},
            "device.update": lambda: {"model": "m" + str(next(counter))},
            "policy.create": lambda: {"id": name("p"), "document": {"statements": []}},
            "policy.test": lambda: {"token": "owner-a" if mark == MARK else "owner-b", "action": "publish", "topic": "t"},
            "policy_attachment.add": lambda: {"kind": "tenant"},
            "quota.set": lambda: {"name": "messages", "limit": 5},
            "ban.create": lambda: {"kind": "client_id", "value": name("c")},
        }
        if op["name"] in fixed:
            return fixed[op["name"]]()
        request = op.get("request")
        if request is None:
            return None
        return {n: name(n) for n in request.get("required", [])}


def path_of(op, values):
    path = op["path"]
    for name, value in values.items():
        path = path.replace("{" + name + "}", urllib.parse.quote(value, safe=""))
    query = {p["name"]: p.get("enum", ["x"])[-1] for p in op.get("params", []) if p["in"] == "query" and p.get("required")}
    return path + ("?" + urllib.parse.urlencode(query) if query else "")


class Matrix:
    def __init__(self, server):
        self.api = Api(server.ports["http"])
        self.passed, self.problems = 0, []
        system = server.token
        self.tokens = {}
        owners = {t: self.api.made("POST", "/api/v1/tenants", system, {"id": t})["token"] for t in ("a", "b")}
        for tenant, owner in owners.items():
            for role in apispec.ROLES:
                made = self.api.made("POST", "/api/v1/tokens", owner, {"name": f"{role}-{tenant}", "role": role})
                self.tokens[tenant, role] = made["token"]
        self.fixtures = Fixtures(self.api, owners["a"])
        self.fixtures.mqtt_port = server.ports["mqtt"]
        self.system = system

    def expect(self, what, op, answer, status, foreign=False):
        got, kind, text = answer
        try:
            assert got == status, f"expected {status}, got {got} {text[:300]!r}"
            if status >= 400:
                assert kind == "application/problem+json", kind
                problem = json.loads(text)
                apispec.check(apispec.PROBLEM, problem)
                assert problem["status"] == status
            else:
                self.check_reply(op, kind, text)
            assert not foreign or MARK.encode() not in text, f"shows a name of the other tenant: {text[:300]!r}"
        except (AssertionError, ValueError) as e:
            self.problems.append(f"{op['name']}: {what}: {e}")
            return
        self.passed += 1

    @staticmethod
    def check_reply(op, kind, text):
        if "stream" in op:
            assert kind == "text/event-stream", kind
        elif "reply_content" in op:
            assert kind == op["reply_content"] and text, kind
        elif op.get("status", 200) == 204:
            assert text == b"", text
        else:
            assert kind == "application/json", kind
            apispec.check(op["reply"], json.loads(text))

    def call(self, op, token, values=None, source="127.0.0.1", mark=MARK):
        values = self.fixtures.params(op) if values is None else values
        body = self.fixtures.body(op, mark)
        return self.api.call(op["method"], path_of(op, values), token, body, op.get("content", "application/json"), source)

    def strangers(self, op):
        values = {n: "x" * 64 for n in re.findall(r"\{(\w+)\}", op["path"])}
        self.expect("no token", op, self.call(op, None, values), 401)
        self.expect("wrong token", op, self.call(op, "wrong" * 9, values, self.api.fresh_source()), 401)
        broken = self.api.call(op["method"], path_of(op, values) + "?unknown=1", "wrong" * 9, source=self.api.fresh_source())
        self.expect("wrong token, wrong request", op, broken, 401)

    def role(self, op, role):
        may = op["permission"] in apispec.ROLES[role]
        own = self.call(op, self.tokens["a", role])
        self.expect(f"{role}, own tenant", op, own, op.get("status", 200) if may else 403)
        values = self.fixtures.params(op)
        foreign = self.call(op, self.tokens["b", role], values, mark="of-b")
        if not may:
            self.expect(f"{role}, other tenant", op, foreign, 403, foreign=True)
        elif values:
            self.expect(f"{role}, other tenant", op, foreign, 404)
            never = self.call(op, self.tokens["b", role], {n: self.unknown(v) for n, v in values.items()})
            self.same_refusal(op, role, foreign, never, values)
        else:
            self.expect(f"{role}, other tenant", op, foreign, op.get("status", 200), foreign=True)

    @staticmethod
    def unknown(value):
        return "".join("0" if c.isdigit() else c for c in value) if not re.fullmatch(r"[0-9a-f]{64}", value) else "0" * 64

    # A foreign id must look like one that never was: the same status and words, but for the id itself.
    def same_refusal(self, op, role, foreign, never, values):
        def words(answer, names):
            problem = json.loads(answer[2])
            problem.pop("request", None)
            text = json.dumps(problem)
            for n in names:
                text = text.replace(n, "ID")
            return answer[0], text
        a = words(foreign, values.values())
        b = words(never, [self.unknown(v) for v in values.values()])
        if a == b:
            self.passed += 1
        else:
            self.problems.append(f"{op['name']}: {role}: a foreign id shows: {a} and for an unknown one {b}")

    # Objects of tenant a named by tenant b elsewhere than in the path.
    def references(self):
        ops = {op["name"]: op for op in apispec.operations()}
        owner_b = self.tokens["b", "owner"]
        device, group = self.fixtures.device(), self.fixtures.group()
        own = self.api.made("POST", "/api/v1/groups", owner_b, {"id": "of-b"})["id"]
        policy = self.api.made("POST", "/api/v1/policies", owner_b, {"id": "of-b", "document": {"statements": []}})["id"]
        for name, path, body in (
                ("group_member.add", f"/api/v1/groups/{own}/members", {"devices": [device]}),
                ("group_member.remove", f"/api/v1/groups/{own}/members/{device}", None),
                ("device.list", f"/api/v1/devices?group={group}", None),
                ("cert.list", f"/api/v1/certs?device={device}", None),
                ("events.stream", f"/api/v1/events?device={device}", None),
                ("policy.test", "/api/v1/policy-test", {"device": device, "action": "publish", "topic": "t"}),
                ("policy_attachment.add", f"/api/v1/policies/{policy}/attachments", {"kind": "device", "target": device}),
                ("policy_attachment.add", f"/api/v1/policies/{policy}/attachments", {"kind": "group", "target": group}),
                ("policy_attachment.add", f"/api/v1/policies/{policy}/attachments", {"kind": "token", "target": "owner-a"}),
                ("policy_attachment.add", f"/api/v1/policies/{policy}/attachments", {"kind": "tenant", "target": "a"}),
                ("policy_attachment.of", f"/api/v1/policy-attachments?kind=device&target={device}", None),
                ("quota.get", "/api/v1/quota?tenant=a", None),
                ("ban.create", "/api/v1/bans", {"kind": "device", "value": device})):
            answer = self.api.call(ops[name]["method"], path, owner_b, body)
            self.expect(f"names an object of another tenant: {path}", ops[name], answer, 404)

    def public(self, op):
        token = self.fixtures.claim_token() if op["name"] == "enroll.create" else None
        self.expect("public", op, self.call(op, token), op.get("status", 200))

    # What tells of all tenants: only the token of the first start
    def system_only(self, op):
        self.expect("system owner", op, self.call(op, self.system), op.get("status", 200))

    def run(self):
        ops = apispec.operations()
        for op in ops:
            if op["permission"] == "public":
                self.public(op)
                continue
            self.strangers(op)
            for role in apispec.ROLES:
                self.role(op, role)
            if op["permission"] in apispec.SYSTEM_ONLY:
                self.system_only(op)
        return len(ops)

    # The limit of wrong tokens holds, and holds back only the one who guesses.
    def guessing(self):
        op = next(o for o in apispec.operations() if o["name"] == "device.list")
        source = self.api.fresh_source()
        seen = [self.call(op, "guess" * 9, source=source)[0] for _ in range(30)]
        self.expect("guessing", op, self.call(op, "guess" * 9, source=source), 429)
        if seen[0] != 401 or set(seen) != {401, 429}:
            self.problems.append(f"guessing: {seen}")
        self.expect("not guessing", op, self.call(op, self.tokens["a", "viewer"], source=self.api.fresh_source()), 200)


def main():
    with muster.Server() as server:
        m = Matrix(server)
        count = m.run()
        m.references()
        m.guessing()
        for p in m.problems:
            print(p)
        print(f"{count} operations, {len(apispec.ROLES)} roles")
        print(f"{m.passed} passed, {len(m.problems)} failed", flush=True)
    return 1 if m.problems else 0


if __name__ == "__main__":
    sys.exit(main())
