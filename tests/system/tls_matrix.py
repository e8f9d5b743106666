"""Every kind of client certificate on every TLS port is accepted or refused alike, with TLS 1.2 and 1.3, and the server says why.

Also: what no client can negotiate (old versions, CBC, RSA key exchange, renegotiation, compression), a thousand failed handshakes of
several kinds that leave nothing behind, certificates and lists that change on disk, a name with its own certificate and CA, and keys in place of
certificates.
"""
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import mqtt
import muster
import pki

WORK = tempfile.mkdtemp(prefix="muster-tls-matrix-")
OLD = {"start": "20240101000000Z", "end": "20240201000000Z"}
LATER = {"start": "20980101000000Z", "end": "20990101000000Z"}


# --- clients -----------------------------------------------------------------------------------------------------

def context(version, cert=None, key=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    c.minimum_version = c.maximum_version = version
    c.set_ciphers("ALL:@SECLEVEL=0")
    c.set_alpn_protocols(["mqtt"])  # spoken on every TLS port; who speaks HTTP there is not asked for a certificate
    if cert:
        c.load_cert_chain(cert, key)
    return c


def attempt(port, ctx, sni=None):
    """"in", or what the client saw of the refusal."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            with ctx.wrap_socket(raw, server_hostname=sni) as s:
                s.sendall(mqtt.connect_packet("matrix"))
                return "in" if s.recv(100) else "closed"
    except ssl.SSLError as e:
        return str(e).lower().replace("_", " ")
    except OSError as e:
        return f"{type(e).__name__}: {e}".lower()


# --- the matrix --------------------------------------------------------------------------------------------------

def make_cases(own, other):
    """name -> (chain file, key file, what the alert says; None: accepted)."""
    sub = other.authority("sub")
    not_ca = other.issue("not-ca")
    broken = pki.Authority(WORK, "broken", *not_ca)
    twin = pki.Authority(WORK, "twin", subject="root")  # the same name as `other`, another key
    deep, names = other, []
    for i in range(4):
        deep = deep.authority(f"deep{i}")
        names.insert(0, deep.cert)
    short = other.authority("no-path", ext=pki.CA.replace("CA:TRUE", "CA:TRUE,pathlen:0"))
    below = short.authority("below-no-path")
    alone = pki.Authority(WORK, "alone")
    big = "nsComment=" + "x" * 5000 + "\n"

    def leaf(ca, name, *more, want=None, **kw):
        cert, key = ca.issue(name, **kw)
        return pki.chain(WORK, f"{ca.name}-{name}", cert, *more), key, want

    return {
        "own CA": leaf(own, "own"),
        "other CA": leaf(other, "plain"),
        "intermediate": leaf(sub, "below-sub", sub.cert),
        "RSA 2048": leaf(other, "rsa", key=("rsa:2048",)),
        "four certificates": leaf(pki.Authority(WORK, "deep2", cert=names[1], key=names[1][:-3] + "key"), "deep-ok", *names[1:]),
        "five certificates": leaf(deep, "deep-bad", *names, want="unknown ca"),
        "expired": leaf(other, "old", want="certificate expired", **OLD),
        "not yet valid": leaf(other, "later", want="bad certificate", **LATER),
        "expired intermediate": leaf((oldsub := other.authority("oldsub", **OLD)), "below-old", oldsub.cert, want="certificate expired"),
        "wrong CA": leaf(alone, "stranger", want="unknown ca"),
        "same CA name, other key": leaf(twin, "plain", want="stranger"),
        "self-signed": (alone.cert, alone.key, "unknown ca"),
        "intermediate missing": leaf(sub, "no-sub", want="unknown ca"),
        "for servers": leaf(other, "server", ext=pki.SERVER.format("x"), want="unsupported certificate"),
        "issuer is no CA": leaf(broken, "below-leaf", not_ca[0], want="invalid ca"),
        "path length": leaf(below, "too-deep", below.cert, short.cert, want="unknown ca"),
        "weak key": leaf(other, "weak", key=("rsa:1024",), want="weak"),
        "revoked": leaf(other, "revoked", want="certificate revoked"),
        "revoked intermediate": leaf((badsub := other.authority("badsub")), "below-bad", badsub.cert, want="certificate revoked"),
        "chain of 20 KiB": leaf((bigsub := other.authority("bigsub", ext=pki.CA + big)), "big", bigsub.cert,
                                *[other.authority(f"big{i}", ext=pki.CA + big).cert for i in range(3)], want="refused"),
    }


ALERTS = {"invalid ca": ("unknown ca", "bad certificate"), "weak": ("bad certificate", "handshake failure", "insufficient"),
          "unknown ca": ("unknown ca", "handshake failure"), "stranger": ("unknown ca", "decrypt error"), "refused": ("alert", "reset", "broken pipe")}


def test_matrix(s, cases):
    refused, wrong = 0, []
    for name, (cert, key, want) in cases.items():
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            seen = {port: attempt(s.ports[port], context(version, cert, key)) for port in ("mqtts", "https")}
            refused += 2 if want else 0
            for port, got in seen.items():
                if not any(a in got for a in ALERTS.get(want, (want,))) if want else got != "in":
                    wrong.append((name, version, port, got, want))
    assert not wrong, wrong
    items = s.cli_json("tls-failures", "--limit", "1000")["items"]
    assert sum(i["count"] for i in items) >= refused, (refused, items)
    by_subject = {i["certificate"]["subject"]: i for i in items if i["certificate"]}
    for subject, problem in (("CN=old", "certificate has expired"), ("CN=later", "certificate is not yet valid"),
                             ("CN=revoked", "certificate revoked"), ("CN=no-sub", "unable to get local issuer certificate"),
                             ("CN=server", "unsuitable certificate purpose"), ("CN=weak", "EE certificate key too weak")):
        assert by_subject[subject]["certificate"]["problem"] == problem, by_subject[subject]
        assert by_subject[subject]["alert"]["direction"] == "sent"
        assert len(by_subject[subject]["certificate"]["fingerprint"]) == 64
    print(f"{len(cases)} kinds of certificates on 2 ports with 2 versions: as expected, {refused} refusals on record")


# --- what cannot be negotiated -----------------------------------------------------------------------------------

def probe(port, *args, text="Q\n"):
    p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *args], input=text, capture_output=True, text=True, timeout=20,
                       check=False)
    return p.stdout + p.stderr


def test_weak_parameters(s):
    for port in (s.ports["mqtts"], s.ports["https"]):
        for args in (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_2", "-cipher", "AES128-GCM-SHA256"),
                     ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"), ("-tls1_2", "-cipher", "AES128-SHA"), ("-tls1_2", "-cipher", "kDHE"),
                     ("-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256", "-psk", "00"), ("-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0")):
            out = probe(port, *args)
            assert "Cipher is (NONE)" in out, (args, out[-600:])
        out = probe(port, "-tls1_2", text="R\n")  # s_client asks for a renegotiation
        assert "RENEGOTIATING" in out and "no renegotiation" in out.lower(), out[-1500:]
        out = probe(port, "-tls1_2", "-comp", "-legacy_renegotiation")
        assert "Compression: NONE" in out, out[-1500:]
        for version, suite in (("-tls1_2", "ECDHE-ECDSA-AES"), ("-tls1_3", "TLS_AES")):
            assert f"Cipher is {suite}" in probe(port, version)
    print("no old version, CBC, RSA or anonymous key exchange, renegotiation or compression")


# --- failures leave nothing behind -------------------------------------------------------------------------------

def garbage(port, data, wait=False):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as c:
        c.sendall(data)
        if wait:
            try:
                c.recv(1000)
            except OSError:
                pass


def hello():
    """A real ClientHello."""
    ctx, i, o = context(ssl.TLSVersion.TLSv1_3), ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ctx.wrap_bio(i, o).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return o.read()


def test_a_thousand_failures(s, cases):
    first = hello()
    kinds = [
        lambda p: attempt(p, context(ssl.TLSVersion.TLSv1_3, *cases["wrong CA"][:2])),
        lambda p: attempt(p, context(ssl.TLSVersion.TLSv1_2, *cases["expired"][:2])),
        lambda p: attempt(p, context(ssl.TLSVersion.TLSv1_2, *cases["revoked"][:2])),
        lambda p: garbage(p, first),                       # leaves in the midst
        lambda p: garbage(p, first[:50]),                  # leaves before the end of its hello
        lambda p: garbage(p, b"GET / HTTP/1.0\r\n\r\n", True),
        lambda p: garbage(p, first + b"\x17\x03\x03\x00\x20" + bytes(32), True),
        lambda p: garbage(p, first + b"\x15\x03\x03\x00\x02\x02\x28"),  # an alert of its own
        lambda p: garbage(p, b"\x16\x03\x01\x40\x00" + bytes(5000)),
        lambda p: garbage(p, os.urandom(300), True),
    ]
    ports = [s.ports["mqtts"], s.ports["https"]]

    def some(n):
        for i in range(125):
            kinds[(i + n) % len(kinds)](ports[i % 2])

    before = s.metric("muster_tls_handshakes_failed_total")
    threads = [threading.Thread(target=some, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    deadline = time.monotonic() + 15
    while s.metric("muster_tls_handshakes") > 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert s.metric("muster_tls_handshakes") == 0
    failed = s.metric("muster_tls_handshakes_failed_total") - before
    assert failed >= 850, failed  # a hello that is cut off may be told or not, by who is faster
    start = time.monotonic()
    assert attempt(ports[0], context(ssl.TLSVersion.TLSv1_3, *cases["own CA"][:2])) == "in"
    took = time.monotonic() - start
    assert took < 2, took
    page = s.cli_json("tls-failures", "--limit", "1000")["items"]
    assert len(page) <= 1000
    print(f"1000 handshakes of {len(kinds)} bad kinds: {failed:.0f} failures counted, none left, a good client in {took * 1000:.0f} ms")


# --- files that change -------------------------------------------------------------------------------------------

def test_reload_under_load(s, other, cases):
    """Open connections live on while certificates are renewed and lists change; a list that now revokes counts at once."""
    s.device("load", "token-of-load-0123456789")
    live = [mqtt.Client("127.0.0.1", s.ports["mqtts"], f"load-{i}", "token-of-load-0123456789", ca=s.ca).connect() for i in range(1)]
    stop, errors, rounds = threading.Event(), [], [0]

    def talk():
        try:
            while not stop.is_set():
                for c in live:
                    assert c.publish("$muster/telemetry", b'{"v":1}', qos=1) == 0
                rounds[0] += 1
        except Exception as e:  # noqa: told to the main thread
            errors.append(e)

    t = threading.Thread(target=talk)
    t.start()
    for _ in range(20):
        s.process.send_signal(1)  # SIGHUP
        time.sleep(0.05)
    cert, key = cases["other CA"][:2]
    ctx = context(ssl.TLSVersion.TLSv1_3, cert, key)
    assert attempt(s.ports["mqtts"], ctx) == "in"
    other.crl(other.path("plain.pem"))  # the file the server watches
    deadline = time.monotonic() + 10
    while attempt(s.ports["mqtts"], ctx) == "in" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "revoked" in attempt(s.ports["mqtts"], ctx)
    before = rounds[0]
    time.sleep(0.3)
    stop.set()
    t.join()
    assert not errors, errors
    assert rounds[0] > before and "certificates reloaded: their files have changed" in s.log()
    with open(other.path("crl.pem"), "w") as f:
        f.write("half a file")
    deadline = time.monotonic() + 10
    while "changed files are not loaded" not in s.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "changed files are not loaded" in s.log()
    assert "revoked" in attempt(s.ports["mqtts"], ctx)  # the old rules stay in force
    other.crl()
    for c in live:
        c.disconnect()
    print(f"20 reloads and a new list beside {rounds[0]} acknowledged publishes")


# --- names and keys ----------------------------------------------------------------------------------------------

def test_names(s):
    ctx = context(ssl.TLSVersion.TLSv1_3)

    def greeted(sni):
        with socket.create_connection(("127.0.0.1", s.ports["mqtts"]), timeout=10) as raw, ctx.wrap_socket(raw, server_hostname=sni) as c:
            return c.getpeercert(True)

    assert greeted("mqtt.acme.example") != greeted("localhost")
    s.device("tenant-one", "token-of-tenant-one-01234")  # of the first tenant
    for sni, code in (("localhost", 0), ("mqtt.acme.example", 4)):
        with socket.create_connection(("127.0.0.1", s.ports["mqtts"]), timeout=10) as raw, ctx.wrap_socket(raw, server_hostname=sni) as c:
            c.sendall(mqtt.connect_packet("tenant-one", "tenant-one", "token-of-tenant-one-01234", version=4))
            assert c.recv(4)[3] == code, sni
    print("a name has its certificate, and lets in its tenant only")


def psk_pub(s, identity, key, *more, check=True):
    p = subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(s.ports["mqtts"]), "--psk-identity", identity, "--psk", key, "-q", "1", "-i",
                        "any", "-t", "$muster/telemetry", "-m", '{"v":7}', *more], capture_output=True, text=True, timeout=30, check=False)
    assert not check or p.returncode == 0, p.stderr
    return p.returncode


def test_pre_shared_keys(s):
    s.device("meter")
    made = s.cli_json("device", "psk", "create", "meter")
    assert made["identity"].startswith("meter.") and len(made["key"]) == 64
    psk_pub(s, made["identity"], made["key"])
    assert s.last("meter")["v"]["value"] == 7
    for identity, key in ((made["identity"], "00" * 32), ("nobody", made["key"])):
        assert psk_pub(s, identity, key, check=False) != 0
    own = s.cli_json("device", "psk", "create", "meter", "--identity", "my/meter", "--key", "ab" * 16)
    psk_pub(s, "my/meter", "ab" * 16)
    s.device("meter2")
    for body in ({"identity": "my/meter"}, {"identity": "a b"}, {"key": "zz" * 16}, {"key": "ab" * 15}):
        status = s.request("POST", "/api/v1/devices/meter2/psks", body)[0]
        assert status == 400, (body, status)
    listed = s.cli_json("device", "psk", "list", "meter")["items"]
    assert [i["identity"] for i in listed] == [made["identity"], "my/meter"] and "key" not in listed[0]
    with open(os.path.join(s.data, "state.db"), "rb") as f:
        assert bytes.fromhex(made["key"]) not in f.read()
    s.stop()
    s.start()
    psk_pub(s, made["identity"], made["key"])  # they outlive a restart
    s.cli("device", "psk", "revoke", "meter", own["id"])
    assert psk_pub(s, "my/meter", "ab" * 16, check=False) != 0
    psk_pub(s, made["identity"], made["key"])
    s.cli("device", "delete", "meter")
    assert psk_pub(s, made["identity"], made["key"], check=False) != 0
    assert made["key"] not in s.log()
    print("pre-shared keys come in, only with the right key, until they are revoked")


def main():
    other = pki.Authority(WORK, "root")
    acme = pki.Authority(WORK, "acme")
    site = acme.issue("mqtt.acme.example", ext=pki.SERVER.format("mqtt.acme.example"))
    other.crl()
    more = ["--tls.client_ca_file", other.cert, "--tls.crl_file", other.path("crl.pem"), "--tls.watch", "200ms", "--identity.auth_failures", "0",
            "--tls.sni", f"mqtt.acme.example cert={site[0]} key={site[1]} ca={acme.cert} tenant=acme"]
    with muster.Server(args=more) as s:
        cases = make_cases(pki.Authority(WORK, "own", cert=s.ca, key=os.path.join(s.data, "ca.key")), other)
        other.crl(other.path("revoked.pem"), other.path("badsub.pem"))
        time.sleep(1)
        s.cli("tenant", "create", "acme")
        for test, args in ((test_matrix, (cases,)), (test_weak_parameters, ()), (test_a_thousand_failures, (cases,)), (test_names, ()),
                           (test_reload_under_load, (other, cases))):
            test(s, *args)
    with muster.Server(args=["--tls.psk", "true"]) as s:
        test_pre_shared_keys(s)


if __name__ == "__main__":
    sys.exit(main())
