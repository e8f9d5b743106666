"""A device's life over MQTT against a real server: claim, certificate, renewal, commands, the ledger, and why sessions end."""
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

import mqtt
import muster

WORK = tempfile.mkdtemp(prefix="muster-mqtt-")


def client(s, device, **kw):
    kw.setdefault("client_id", device)
    return mqtt.Client("127.0.0.1", s.ports["mqtt"], username=device, password=f"token-of-{device}-0123456789", **kw)


def add(s, device):
    s.device(device, f"token-of-{device}-0123456789")


def csr(name):
    key, out = os.path.join(WORK, name + ".key"), os.path.join(WORK, name + ".csr")
    subprocess.run(["openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", key,
                    "-subj", "/CN=ignored", "-out", out], check=True, capture_output=True)
    with open(out) as f:
        return f.read()


def save(name, pem):
    with open(os.path.join(WORK, name), "w") as f:
        f.write(pem)
    return os.path.join(WORK, name)


def last_session(s, device):
    """(reason, detail) of the last ended session."""
    mqtt.wait_until(lambda: s.api("GET", f"/api/v1/devices/{device}/sessions")["items"][0]["end"])
    item = s.api("GET", f"/api/v1/devices/{device}/sessions")["items"][0]
    return item["reason"], item["detail"]


def enrols_and_renews(s):
    claim = s.cli_json("claim", "create", "--uses", "1", "--ttl", "1h")["token"]
    c = mqtt.Client("localhost", s.ports["mqtts"], client_id="new", username="$claim", password=claim, ca=s.ca).connect()
    assert c.subscribe("$muster/provision/response", "$muster/twin/desired") == [1, 0x87]
    request = {"csr": csr("first"), "device": "enrolled-1", "model": "TH-20", "keys": {"serial": "S-1"}, "tags": {"site": "berlin"}}
    assert c.publish("$muster/provision/request", json.dumps(dict(request, csr="nonsense")), qos=1) == 0x99
    error = json.loads(c.recv()[1])["error"]
    assert error["code"] == "malformed" and error["detail"], error
    assert c.publish("$muster/provision/request", json.dumps(request), qos=1) == 0
    topic, payload = c.recv()
    answer = json.loads(payload)
    assert topic == "$muster/provision/response" and answer["device"] == "enrolled-1" and "BEGIN CERTIFICATE" in answer["ca"], answer
    assert c.publish("$muster/telemetry", '{"t":1}', qos=1) == 0x87  # a claim is no device
    c.disconnect()
    # The claim is used up. It may ask again with the same key (its answer may have been lost), but not enrol another one.
    again = mqtt.Client("localhost", s.ports["mqtts"], client_id="new", username="$claim", password=claim, ca=s.ca).connect()
    again.subscribe("$muster/provision/response")
    assert again.publish("$muster/provision/request", json.dumps(request), qos=1) == 0
    assert json.loads(again.recv()[1])["certificate"] == answer["certificate"]
    other = dict(request, csr=csr("other"), device="enrolled-2", keys={})
    assert again.publish("$muster/provision/request", json.dumps(other), qos=1) >= 0x80
    assert "error" in json.loads(again.recv()[1])
    again.disconnect()

    device = s.api("GET", "/api/v1/devices/enrolled-1")
    assert device["model"] == "TH-20" and device["tags"] == {"site": "berlin"} and device["keys"] == {"serial": "S-1"}, device
    cert = save("first.pem", answer["certificate"])
    d = mqtt.Client("localhost", s.ports["mqtts"], client_id="d", ca=s.ca, cert=cert, key=os.path.join(WORK, "first.key")).connect()
    assert d.publish("$muster/telemetry", '{"t":21.5}', qos=1) == 0
    assert s.last("enrolled-1")["t"]["value"] == 21.5
    assert s.api("GET", "/api/v1/devices/enrolled-1/presence")["connection"]["tls"].startswith("TLSv1.3 ")

    d.subscribe("$muster/provision/response")
    assert d.publish("$muster/provision/renew", json.dumps({"csr": csr("second")}), qos=1) == 0
    renewed = json.loads(d.recv()[1])
    d.disconnect()
    cert = save("second.pem", renewed["certificate"])
    d = mqtt.Client("localhost", s.ports["mqtts"], client_id="d", ca=s.ca, cert=cert, key=os.path.join(WORK, "second.key")).connect()
    assert d.publish("$muster/telemetry", '{"t":22}', qos=1) == 0
    d.disconnect()


def commands(s):
    add(s, "cmd-1")
    sent = s.api("POST", "/api/v1/devices/cmd-1/commands", {"name": "reboot", "payload": {"delay": 5}})
    c = client(s, "cmd-1", auto_ack=False).connect()
    c.subscribe("$muster/command/+/+")
    topic, payload = c.recv()
    assert topic == f"$muster/command/reboot/{sent['id']}" and json.loads(payload) == {"delay": 5}, (topic, payload)
    c.abort()  # never acknowledged: it comes again
    c = client(s, "cmd-1").connect()
    c.subscribe("$muster/command/+/+")
    assert c.recv()[0] == topic
    assert c.publish(f"$muster/command/{sent['id']}/reply", '{"ok":true}', qos=1) == 0
    state = s.api("GET", f"/api/v1/devices/cmd-1/commands/{sent['id']}")
    assert state["state"] == "replied" and state["reply"] == {"ok": True}, state
    assert c.publish(f"$muster/command/{sent['id']}/reply", '{"ok":true}', qos=1) == 0  # the same again is no change
    assert c.publish(f"$muster/command/{sent['id']}/reply", '{"ok":false}', qos=1) == 0x80
    assert c.publish("$muster/command/12345/reply", "{}", qos=1) == 0x90
    live = s.api("POST", "/api/v1/devices/cmd-1/commands", {"name": "blink"})
    assert c.recv() == (f"$muster/command/blink/{live['id']}", b"{}")
    c.disconnect()


def forms_and_ledger(s):
    """Each kind in JSON and CBOR; afterwards the ledger has every message once, the refused ones with their reasons."""
    add(s, "led-1")
    c = client(s, "led-1").connect()
    cbor = mqtt.content_type("application/cbor")
    stored = [("$muster/telemetry", b'{"t":1}', b""), ("$muster/telemetry", b"\xa1\x61t\x02", cbor),
              ("$muster/event/door", b'{"open":true}', b""), ("$muster/event/door", b"\xa1\x64open\xf4", cbor),
              ("$muster/event/start", b"", b""), ("$muster/twin/reported", b'{"fw":"1.0"}', b""),
              ("$muster/twin/reported", b"\xa1\x62hw\x03", cbor)]
    refused = [("$muster/telemetry", b'{"t":', "malformed", 0x99), ("$muster/telemetry", b"[]", "invalid", None),
               ("$muster/twin/reported", b"[1]", "invalid", 0x99), ("$muster/event/a b", b"{}", "invalid", 0x99),
               ("$muster/unknown", b"{}", "not_found", 0x90), ("$muster/telemetry/led-2", b"{}", "not_found", 0x90),
               ("$muster/provision/request", b"{}", "forbidden", 0x87)]
    for topic, payload, properties in stored:
        assert c.publish(topic, payload, qos=1, properties=properties) == 0, topic
    # To others, not to the server: no policy allows it, and it is none of the ledger's.
    assert c.publish("devices/led-2/telemetry", b"{}", qos=1) == 0x87
    want = {}
    for topic, payload, reason, code in refused:
        got = c.publish(topic, payload, qos=1)
        assert got == code if code else got >= 0x80, (topic, payload, got)
        want[reason] = want.get(reason, 0) + 1
    assert c.wait_ack(c.next_id)[1], "a refusal says why"
    ledger = s.api("GET", "/api/v1/devices/led-1/ledger")
    mqtt.wait_until(lambda: sum(s.api("GET", "/api/v1/devices/led-1/ledger")["refused"].values()) == len(refused))
    ledger = s.api("GET", "/api/v1/devices/led-1/ledger")
    assert ledger["stored"] == len(stored) and ledger["in_flight"] == 0, ledger
    assert ledger["received"] == ledger["stored"] + sum(ledger["refused"].values()), ledger
    assert ledger["refused"] == want, (ledger, want)
    assert s.api("GET", "/api/v1/devices/led-1/twin")["reported"] == {"fw": "1.0", "hw": 3}
    events = s.api("GET", "/api/v1/devices/led-1/events")["items"]
    assert sorted(json.dumps(e["data"]) for e in events) == ["null", '{"open": false}', '{"open": true}'], events
    c.disconnect()


def ends(s):
    """Presence says why a session ended, in the words of what happened."""
    add(s, "end-1")

    def connected(**kw):
        return client(s, "end-1", **kw).connect()

    connected().disconnect()
    assert last_session(s, "end-1")[0] == "client_disconnect"
    connected().abort()
    assert last_session(s, "end-1")[0] in ("peer_closed", "connection_reset")
    c = connected(keepalive=1)
    assert c.wait_closed(10).reason == 0x8D
    assert last_session(s, "end-1")[0] == "keep_alive"
    c = connected()
    c.send(b"\xd0\x00")
    assert c.wait_closed().reason == 0x82
    assert last_session(s, "end-1")[0] == "protocol_error"
    c = connected(version=4)
    c.publish("$muster/telemetry", '{"t":', qos=1, wait=False)
    c.wait_closed()
    assert last_session(s, "end-1")[0] == "refused"

    first = connected()
    second = connected()
    assert first.wait_closed().reason == 0x8E
    assert s.api("GET", "/api/v1/devices/end-1/presence")["online"] is True
    s.api("PUT", "/api/v1/devices/end-1/state", {"state": "suspended"})
    assert second.wait_closed(1).reason == 0x98
    assert last_session(s, "end-1")[0] == "suspended"
    try:
        connected()
        raise AssertionError("a suspended device was let in")
    except mqtt.Refused as e:
        assert e.reason == 0x87, e
    s.api("PUT", "/api/v1/devices/end-1/state", {"state": "active"})
    c = connected()
    s.api("DELETE", "/api/v1/devices/end-1")
    assert c.wait_closed(1).reason == 0x98
    try:
        connected()
        raise AssertionError("a deleted device was let in")
    except mqtt.Refused as e:
        assert e.reason == 0x86, e


def half_open(s):
    """Silence, slow bytes, and a peer that never reads."""
    add(s, "half-1")
    started = time.monotonic()
    idle = socket.create_connection(("127.0.0.1", s.ports["mqtt"]))
    slow = socket.create_connection(("127.0.0.1", s.ports["mqtt"]))
    slow.sendall(b"\x10\x20\x00\x04MQ")
    for sock in (idle, slow):
        sock.settimeout(10)
        assert sock.recv(10) == b"", "not closed"
    assert 0.9 < time.monotonic() - started < 5
    deaf = client(s, "half-1").connect()
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deaf.abort()
    assert last_session(s, "half-1")[0] in ("connection_reset", "peer_closed")


def goodbye(s):
    add(s, "bye-1")
    c = client(s, "bye-1").connect()
    assert s.stop() == 0
    assert c.wait_closed().reason == 0x8B
    s.start()
    assert last_session(s, "bye-1")[0] == "server_shutdown"


def main():
    with muster.Server(args=["--mqtt.connect_timeout=1s"]) as s:
        for test in (enrols_and_renews, commands, forms_and_ledger, ends, half_open, goodbye):
            test(s)
            print("ok", test.__name__, flush=True)


if __name__ == "__main__":
    main()
