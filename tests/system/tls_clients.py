"""mosquitto_pub with a certificate from the CSR endpoint and with tokens stores telemetry; strangers are refused with the right code.

Also: a revoked certificate ends the live session within a second, and the CLI does what the README says.
"""
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time

import mqtt
import muster

WORK = tempfile.mkdtemp(prefix="muster-tls-")


def run(*args, check=True):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=60, check=False)
    if check and p.returncode != 0:
        raise AssertionError(f"{args}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def path(name):
    return os.path.join(WORK, name)


def make_csr(name, *newkey):
    run("openssl", "req", "-new", "-nodes", *(newkey or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")), "-keyout", path(name + ".key"),
        "-subj", f"/CN={name}", "-out", path(name + ".csr"))
    with open(path(name + ".csr")) as f:
        return f.read()


def enrol(server, name, *newkey):
    claim = server.cli_json("claim", "create", "--uses", "1", "--ttl", "1h")["token"]
    reply = server.api("POST", "/api/v1/enroll", {"csr": make_csr(name, *newkey)}, token=claim, plain=False)
    assert reply["device"] == name, reply
    with open(path(name + ".pem"), "w") as f:
        f.write(reply["certificate"])
    return path(name + ".pem"), path(name + ".key")


def pub(server, value, *args, check=True):
    return run("mosquitto_pub", "-h", "localhost", "-p", server.ports["mqtts"], "--cafile", server.ca, "-q", "1", "-t", "$muster/telemetry",
               "-m", json.dumps({"v": value}), *args, check=check)


def test_kinds_of_keys(s):
    kinds = {"ec256": (), "ec384": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"), "ed": ("-newkey", "ed25519"),
             "rsa": ("-newkey", "rsa:2048")}
    for i, (name, newkey) in enumerate(kinds.items()):
        cert, key = enrol(s, name, *newkey)
        pub(s, i, "--cert", cert, "--key", key, "-i", name)
        assert s.last(name)["v"]["value"] == i
    weak = make_csr("weak", "-newkey", "rsa:1024")
    claim = s.cli_json("claim", "create", "--uses", "1", "--ttl", "1h")["token"]
    try:
        s.api("POST", "/api/v1/enroll", {"csr": weak}, token=claim, plain=False)
        raise AssertionError("an RSA key of 1,024 bits was accepted")
    except muster.Refused as e:
        assert e.status == 400, e


def test_tokens(s):
    s.device("tok", "token-of-tok-0123456789")
    pub(s, 1, "-u", "tok", "-P", "token-of-tok-0123456789", "-i", "anything")
    pub(s, 2, "-u", "token-of-tok-0123456789", "-i", "tok")  # token as user name, no password
    assert s.last("tok")["v"]["value"] == 2
    for version, code in ((4, 4), (5, 0x86)):
        try:
            mqtt.Client("127.0.0.1", s.ports["mqtts"], "tok", "tok", "wrong", version=version, ca=s.ca).connect()
            raise AssertionError("a wrong token was accepted")
        except mqtt.Refused as e:
            assert e.reason == code, e


def self_signed(name):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path(name + ".key"), "-subj",
        f"/CN={name}", "-days", "30", "-out", path(name + ".pem"))
    return path(name + ".pem"), path(name + ".key")


def expired(s, name):
    """A certificate of our own authority that has ended: made with its key, as only this test can."""
    make_csr(name)
    os.makedirs(path("ca"), exist_ok=True)
    open(path("ca/index"), "w").close()
    with open(path("ca/conf"), "w") as f:
        f.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={path('ca/index')}\nnew_certs_dir={path('ca')}\nrand_serial=yes\ndefault_md=sha256\n"
                "policy=p\n[p]\ncommonName=supplied\n")
    run("openssl", "ca", "-batch", "-config", path("ca/conf"), "-cert", s.ca, "-keyfile", os.path.join(s.data, "ca.key"), "-in", path(name + ".csr"),
        "-startdate", "20240101000000Z", "-enddate", "20240201000000Z", "-out", path(name + ".pem"))
    return path(name + ".pem"), path(name + ".key")


def tls_alert(s, cert, key):
    """The alert a TLS 1.2 client sees (with 1.3 it comes with the first read)."""
    c = mqtt.Client("127.0.0.1", s.ports["mqtts"], "x", ca=s.ca, cert=cert, key=key)
    try:
        c.open()
        c.send(mqtt.connect_packet("x"))
        c.sock.recv(10)
    except (ssl.SSLError, ConnectionError) as e:
        return str(e).lower()
    raise AssertionError("the certificate was accepted")


def test_strangers(s):
    assert "unknown ca" in tls_alert(s, *self_signed("stranger")).replace("_", " ")
    assert "expired" in tls_alert(s, *expired(s, "late"))
    cert, key = self_signed("ec256")  # the name of a device that exists, from another authority
    assert pub(s, 9, "--cert", cert, "--key", key, "-i", "ec256", check=False).returncode != 0
    assert s.last("ec256")["v"]["value"] == 0


def test_revocation(s):
    cert, key = enrol(s, "gone")
    live = mqtt.Client("127.0.0.1", s.ports["mqtts"], "gone", ca=s.ca, cert=cert, key=key).connect()
    assert live.publish("$muster/telemetry", b'{"v":1}', qos=1) == 0
    fingerprint = s.cli_json("cert", "list", "--device", "gone")["items"][0]["fingerprint"]
    start = time.monotonic()
    s.cli("cert", "revoke", fingerprint)
    closed = live.wait_closed(2)
    seconds = time.monotonic() - start
    assert seconds < 1.5, f"the live session ended after {seconds:.2f} s"
    assert closed.reason in (0x87, 0x98), closed
    for version, code in ((4, 5), (5, 0x87)):
        try:
            mqtt.Client("127.0.0.1", s.ports["mqtts"], "gone", ca=s.ca, cert=cert, key=key, version=version).connect()
            raise AssertionError("a revoked certificate was accepted")
        except mqtt.Refused as e:
            assert e.reason == code, e
    print(f"revocation ended the live session in {seconds * 1000:.0f} ms, the command included")


def main():
    with muster.Server() as s:
        for test in (test_kinds_of_keys, test_tokens, test_strangers, test_revocation):
            test(s)
            print(test.__name__, "ok", flush=True)


if __name__ == "__main__":
    sys.exit(main())
