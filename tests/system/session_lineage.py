"""A stored session belongs to the credentials that follow each other (S16): a renewed certificate and a credential that replaces
another one go on with it; another credential of the same device is refused and reported while the first is valid, and begins
anew when that has ended.
"""
import json
import struct
import subprocess
import sys
import tempfile

import mqtt
import muster

KEPT = b"\x11" + struct.pack("!I", 3600)  # session expiry
DENIED = 0x87
WORK = tempfile.mkdtemp(prefix="muster-lineage-")


class World:
    def __init__(self, s):
        self.s = s
        s.api("POST", "/api/v1/policies", {"id": "all", "document": {"statements": [
            {"effect": "allow", "actions": ["publish", "subscribe", "receive"], "topics": ["t/#"]}]}})
        s.api("POST", "/api/v1/policies/all/attachments", {"kind": "tenant", "target": "default"})

    def audit(self, action, client_id):
        return [r for r in self.s.api("GET", "/api/v1/audit?limit=1000")["items"] if r["action"] == action and r["object"] == client_id]

    def by_token(self, device, token, clean=False):
        return mqtt.Client("127.0.0.1", self.s.ports["mqtt"], device, device, token, clean=clean, properties=KEPT)

    def by_cert(self, device, cert):
        return mqtt.Client("127.0.0.1", self.s.ports["mqtts"], device, ca=self.s.ca, cert=cert + ".pem", key=cert + ".key", clean=False, properties=KEPT)

    def token(self, device, **body):
        return self.s.api("POST", f"/api/v1/devices/{device}/tokens", body)

    def revoke_token(self, device, made):
        self.s.api("DELETE", f"/api/v1/devices/{device}/tokens/{made['id']}")


def present(client):
    client.connect()
    return client.connack[0] == 1


def begin(client):
    """A session with a subscription, left behind."""
    assert not present(client)
    client.subscribe("t/#")
    client.abort()


def refused(client):
    try:
        client.connect()
        raise AssertionError("the session of another credential was given away")
    except mqtt.Refused as e:
        assert e.reason == DENIED, e
        assert b"replaces" in client.connack[2], "the refusal does not say what to do"
    finally:
        client.abort()


def tokens(w):
    s = w.s
    s.device("tok")
    first = w.token("tok")
    begin(w.by_token("tok", first["token"]))
    other = w.token("tok", label="another one")
    before = s.metric("muster_mqtt_session_refused_total")
    refused(w.by_token("tok", other["token"]))
    refused(w.by_token("tok", other["token"], clean=True))  # nor may it wipe it out
    assert s.metric("muster_mqtt_session_refused_total") == before + 2
    muster.wait_for("the report", lambda: w.audit("security.other_credential", "tok"))
    live = w.by_token("tok", first["token"])
    assert present(live), "the owner's session was lost"
    refused(w.by_token("tok", other["token"]))  # a live connection is not thrown out either
    assert live.publish("t/live", b"1", qos=1) == 0
    live.abort()
    # The way of rotation: the new one replaces the old one, and the old one is revoked when the device has changed over.
    heir = w.token("tok", replaces=first["id"])
    c = w.by_token("tok", heir["token"])
    assert present(c), "a token that replaces another one does not resume its session"
    c.abort()
    w.revoke_token("tok", first)
    c = w.by_token("tok", heir["token"])
    assert present(c)
    c.abort()
    refused(w.by_token("tok", other["token"]))
    # All of the lineage have ended: the other one begins anew.
    w.revoke_token("tok", heir)
    restarted = s.metric("muster_mqtt_session_restarted_total")
    c = w.by_token("tok", other["token"])
    assert not present(c), "a session was resumed by a credential that is none of its own"
    c.abort()
    assert s.metric("muster_mqtt_session_restarted_total") == restarted + 1
    status, _, problem = s.request("POST", "/api/v1/devices/tok/tokens", {"replaces": first["id"]})
    assert status == 400 and "replaces" in json.dumps(problem), (status, problem)


def key_and_request(name):
    subprocess.run(["openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", f"{WORK}/{name}.key",
                    "-subj", f"/CN={name}", "-out", f"{WORK}/{name}.csr"], check=True, capture_output=True)
    with open(f"{WORK}/{name}.csr") as f:
        return f.read()


def store(name, reply):
    with open(f"{WORK}/{name}.pem", "w") as f:
        f.write(reply["certificate"])
    return f"{WORK}/{name}"


def enrol(w, device, name):
    claim = w.s.api("POST", "/api/v1/claims", {"uses": 1})["token"]
    return store(name, w.s.api("POST", "/api/v1/enroll", {"csr": key_and_request(name), "device": device}, token=claim))


def renew(client, name):
    client.subscribe("$muster/provision/response")
    client.publish("$muster/provision/renew", json.dumps({"csr": key_and_request(name)}).encode(), qos=1)
    _, payload = client.recv()
    return store(name, json.loads(payload))


def revoke_certs(w, device):
    for c in w.s.api("GET", f"/api/v1/certs?device={device}")["items"]:
        w.s.api("POST", f"/api/v1/certs/{c['fingerprint']}/revoke")


def certificates(w):
    s = w.s
    first = enrol(w, "crt", "crt-1")
    begin(w.by_cert("crt", first))
    c = w.by_cert("crt", first)
    assert present(c)
    second = renew(c, "crt-2")
    c.abort()
    c = w.by_cert("crt", second)
    assert present(c), "a renewed certificate does not resume the session"
    c.abort()
    token = w.token("crt")
    refused(w.by_token("crt", token["token"]))
    w.revoke_token("crt", token)
    # The fleet replaces certificates: the old one is revoked, the device enrols again and is not locked out.
    revoke_certs(w, "crt")
    c = w.by_cert("crt", enrol(w, "crt", "crt-3"))
    assert not present(c), "a session was resumed by a certificate of another enrolment"
    c.abort()
    assert present(w.by_cert("crt", f"{WORK}/crt-3"))


def keys(w):
    """From a token to a certificate and a key without losing the session."""
    s = w.s
    s.device("mix")
    token = w.token("mix")
    begin(w.by_token("mix", token["token"]))
    c = w.by_token("mix", token["token"])
    assert present(c)
    cert = renew(c, "mix-1")  # asked for by the device itself: it follows the token
    c.abort()
    c = w.by_cert("mix", cert)
    assert present(c), "a certificate that the device asked for does not resume its session"
    c.abort()
    fingerprint = s.api("GET", "/api/v1/certs?device=mix")["items"][0]["fingerprint"]
    back = w.token("mix", replaces=fingerprint)
    c = w.by_token("mix", back["token"])
    assert present(c), "a token that replaces a certificate does not resume its session"
    c.abort()
    s.kill()
    s.start()
    c = w.by_token("mix", back["token"])
    assert present(c), "the lineage was lost with a restart"
    c.abort()
    refused(w.by_token("mix", w.token("mix")["token"]))


def main():
    with muster.Server(args=("--identity.auth_failures", "0")) as s:
        w = World(s)
        for test in (tokens, certificates, keys):
            test(w)
            print("ok", test.__name__, flush=True)


if __name__ == "__main__":
    sys.exit(main())
