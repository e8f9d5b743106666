"""muster trace: what a person sees of a device, of a client that is refused, of an address that cannot even do TLS; the capture file."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import mqtt
import muster

TOKEN = "token-of-the-traced-device-0123456789"
WRONG = "a-wrong-token-that-nobody-may-read-01"


def client(s, client_id="d1", user="d1", token=None, **kw):
    return mqtt.Client("127.0.0.1", s.ports["mqtt"], client_id, user, token or TOKEN + user, timeout=5, **kw)


class Trace:
    """`muster trace` as a person runs it; ended with Ctrl-C."""

    def __init__(self, s, *args):
        self.process = s.cli_start("trace", *args)
        muster.wait_for("the trace to run", lambda: any(t["state"] == "running" for t in s.api("GET", "/api/v1/traces")["items"]))
        time.sleep(0.1)  # the loops have been told

    def end(self, expected=0):
        time.sleep(0.7)
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        assert self.process.returncode == expected, (self.process.returncode, out, err)
        return out


def wait_until_all_ended(s):
    muster.wait_for("all traces to have ended", lambda: not any(t["state"] == "running" for t in s.api("GET", "/api/v1/traces")["items"]))


def a_device(s, folder):
    capture = os.path.join(folder, "d1.pcapng")
    t = Trace(s, "--device", "d1", "--for", "1m", "--output", capture)
    c = client(s).connect()
    assert c.publish("$muster/telemetry", b'{"t":21.5}', qos=1) == 0
    assert c.publish("$muster/telemetry", b"nonsense", qos=1) >= 0x80
    other = client(s, "d2", "d2").connect()
    assert other.publish("$muster/telemetry", b'{"of.the.other":1}', qos=1) == 0
    other.disconnect()
    c.disconnect()
    text = t.end()
    lines = text.splitlines()
    for mark, words in (("-->", "CONNECT version=5.0 client=\"d1\""), ("<--", "CONNACK reason=0x00"), ("-->", 'PUBLISH id='), ("<--", "PUBACK id="),
                        ("<--", "reason=0x99"), ("-->", "DISCONNECT"), (" . ", "closed")):
        assert any(f" {mark} " in line and words in line for line in lines), (mark, words, text)
    assert TOKEN not in text and "password=(hidden)" in text and "of.the.other" not in text, text
    data = open(capture, "rb").read()
    assert data.startswith(b"\x0a\x0d\x0d\x0a") and TOKEN.encode() not in data and b'{"t":21.5}' in data
    return capture


def dissected(capture):
    """What Wireshark makes of it, where it is installed."""
    if shutil.which("tshark") is None:
        print("tshark is not installed: the capture file is checked by its own unit test only")
        return
    out = subprocess.run(["tshark", "-r", capture, "-Y", "mqtt", "-T", "fields", "-e", "mqtt.msgtype", "-e", "mqtt.topic"], capture_output=True, text=True, check=True).stdout
    kinds = [line.split("\t")[0] for line in out.splitlines()]
    assert kinds[:4] == ["1", "2", "3", "4"] and kinds[-1] == "14", out
    assert "$muster/telemetry" in out, out
    bad = subprocess.run(["tshark", "-r", capture, "-Y", "_ws.malformed or tcp.analysis.lost_segment"], capture_output=True, text=True, check=True).stdout
    assert bad == "", bad


def strangers(s):
    t = Trace(s, "--client", "stranger")
    for version in (4, 5):
        try:
            client(s, "stranger", "d1", WRONG, version=version).connect()
            raise AssertionError("a wrong token was let in")
        except mqtt.Refused:
            pass
    text = t.end()
    assert "reason=0x86" in text and "reason=0x0" in text and "refused" in text and WRONG not in text, text

    t = Trace(s, "--address", "127.0.0.1", "--json")
    raw = socket.create_connection(("127.0.0.1", s.ports["mqtts"]))
    raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
    raw.recv(100)
    raw.close()
    context = ssl.create_default_context()  # does not know our CA
    try:
        context.wrap_socket(socket.create_connection(("127.0.0.1", s.ports["mqtts"])), server_hostname="localhost")
        raise AssertionError("the certificate was believed")
    except ssl.SSLError:
        pass
    raw = socket.create_connection(("127.0.0.1", s.ports["mqtt"]))
    raw.sendall(b"\x10\x20\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x01u\x00\x30" + WRONG.encode()[:7])  # a CONNECT that never ends
    raw.shutdown(socket.SHUT_WR)
    raw.recv(100)
    raw.close()
    seen = [json.loads(line) for line in t.end().splitlines()]
    notes = [r["text"] for r in seen if r["direction"] == "note"]
    assert sum("TLS" in n for n in notes) >= 2, notes
    assert WRONG[:7] not in json.dumps(seen)


def other_tenants_see_nothing(s):
    token = s.api("POST", "/api/v1/tenants", {"id": "other"})["token"]
    made = s.request("POST", "/api/v1/traces", {"client": "d1", "for": "1m"}, token=token)[2]
    time.sleep(0.2)
    client(s).connect().disconnect()
    time.sleep(0.5)
    got = s.request("GET", f"/api/v1/traces/{made['id']}/records", token=token)[2]
    assert got["items"] == [], got
    s.request("POST", f"/api/v1/traces/{made['id']}/stop", token=token)


def a_restart_goes_on(s):
    made = s.api("POST", "/api/v1/traces", {"device": "d1", "for": "5m"})
    s.stop()
    s.start()
    client(s).connect().disconnect()
    got = muster.wait_for("the trace to go on", lambda: s.api("GET", f"/api/v1/traces/{made['id']}/records")["items"] or None)
    assert any("CONNECT" in r["text"] for r in got), got
    s.api("POST", f"/api/v1/traces/{made['id']}/stop")


def nobody_waits(s):
    """A trace that is full ends; the client it looked at goes on as if nothing were."""
    made = s.api("POST", "/api/v1/traces", {"device": "d1", "for": "5m"})
    time.sleep(0.1)
    c = client(s).connect()
    for start in range(0, 12000, 500):
        c.send(b"".join(mqtt.publish_packet("$muster/telemetry", b'{"n":%d}' % i) for i in range(start, start + 500)))
        time.sleep(0.02)  # what comes faster than it is stored is lost to the trace, and counted
    assert c.publish("$muster/telemetry", b'{"last":1}', qos=1) == 0
    got = muster.wait_for("the trace to be full", lambda: (lambda t: t if t["state"] == "ended" else None)(s.api("GET", f"/api/v1/traces/{made['id']}")))
    assert got["reason"] == "full" and got["records"] == 10000, got
    c.disconnect()


def main():
    folder = tempfile.mkdtemp(prefix="muster-trace-")
    with muster.Server() as s:
        for d in ("d1", "d2"):
            s.device(d, TOKEN + d)
        dissected(a_device(s, folder))
        wait_until_all_ended(s)
        for test in (strangers, other_tenants_see_nothing, a_restart_goes_on, nobody_waits):
            test(s)
            print(f"{test.__name__}: ok", flush=True)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
