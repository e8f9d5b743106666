"""The other side for device tests: a small MQTT 5 server whose every answer can be held back, refused or cut off.

It signs certificate requests with a CA of its own (the openssl program) and keeps what devices send. Standard library only.

    with FakeServer(directory) as s:
        s.token = "claim"                  # what $claim must give as password
        s.desired = {"agent": {...}}       # sent when a device subscribes, and by push()
        s.points                           # [(device, ts, values, dup)], in the order of arrival
"""
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

from mqtt import packet, publish_packet, text, vbi


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], input=stdin, capture_output=True, check=True).stdout


class Dropped(Exception):
    pass


class FakeServer:
    def __init__(self, directory, port=0, cert_seconds=None):
        self.dir = directory
        self.cert_seconds = cert_seconds  # life of the certificates it gives; None: 30 days
        self.token = "claim-token"
        self.access_tokens = {}        # device id -> access token
        self.desired, self.desired_version = {}, 0
        self.points, self.reports, self.replies, self.requests, self.connects = [], [], [], [], []
        self.revoked = set()           # serial numbers (hex) that are refused
        self.hold_acks = False         # PUBACKs for telemetry wait
        self.refuse = []               # reason codes for the next telemetry messages, first come first served
        self.drop_after = None         # cut the connection instead of acknowledging the n-th telemetry message from now
        self.refuse_enrol = None       # ("code", "detail")
        self.answer_twin = True        # to $muster/twin/get
        self.silent = False            # accept, but never answer CONNECT
        self.lock = threading.RLock()
        self.conns = set()
        self._make_ca()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _make_ca(self):
        if os.path.exists(self.path("ca.pem")):
            return
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *key, "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"), "-subj", "/CN=test CA", "-days", "30")
        openssl("req", *key, "-keyout", self.path("server.key"), "-out", self.path("server.csr"), "-subj", "/CN=localhost")
        with open(self.path("server.ext"), "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", self.path("server.csr"), "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-set_serial", "1",
                "-days", "30", "-extfile", self.path("server.ext"), "-out", self.path("server.pem"))

    def path(self, name):
        return os.path.join(self.dir, name)

    @property
    def ca(self):
        return self.path("ca.pem")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.open = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop_all()

    def drop_all(self):
        with self.lock:
            for c in list(self.conns):
                c.cut()

    def push(self, desired):
        with self.lock:
            self.desired = desired
            self.desired_version += 1
            for c in list(self.conns):
                c.send_desired()

    def command(self, device, name, payload, command_id="1"):
        with self.lock:
            for c in list(self.conns):
                if c.device == device:
                    c.publish(f"$muster/command/{name}/{command_id}", json.dumps(payload))

    def sign(self, csr_pem, device):
        serial = os.urandom(8).hex()
        with open(self.path(f"{serial}.csr"), "w") as f:
            f.write(csr_pem)
        out = self.path(f"{serial}.pem")
        life = ["-days", "30"]
        if self.cert_seconds is not None:
            # x509 -req knows days only; `openssl ca` knows seconds.
            conf = self.path("ca.conf")
            with open(conf, "w") as f:
                f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nnew_certs_dir=%s\nrand_serial=yes\npolicy=p\ndefault_md=sha256\nunique_subject=no\n"
                        "certificate=%s\nprivate_key=%s\n[p]\ncommonName=optional\n" % (self.path("index"), self.dir, self.ca, self.path("ca.key")))
            open(self.path("index"), "a").close()
            now = time.time()
            stamp = lambda t: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t))
            openssl("ca", "-batch", "-notext", "-config", conf, "-in", self.path(f"{serial}.csr"), "-out", out, "-subj", f"/CN={device}",
                    "-startdate", stamp(now), "-enddate", stamp(now + self.cert_seconds))
        else:
            openssl("x509", "-req", "-in", self.path(f"{serial}.csr"), "-CA", self.ca, "-CAkey", self.path("ca.key"), "-set_serial", "0x" + serial, *life,
                    "-subj", f"/CN={device}",
                    "-out", out)
        with open(out) as f:
            return f.read()

    def _accept(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.pem"), self.path("server.key"))
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        while self.open:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(context, raw), daemon=True).start()

    def _serve(self, context, raw):
        try:
            raw.settimeout(30)
            conn = Conn(self, context.wrap_socket(raw, server_side=True))
        except (OSError, ssl.SSLError):
            raw.close()
            return
        with self.lock:
            self.conns.add(conn)
        try:
            conn.run()
        except (OSError, ConnectionError, Dropped, ValueError):
            pass
        finally:
            with self.lock:
                self.conns.discard(conn)
            conn.cut()


class Conn:
    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.device, self.claim, self.subscribed, self.next_id = None, False, set(), 0
        self.send_lock = threading.Lock()

    def cut(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def send(self, data):
        with self.send_lock:
            self.sock.sendall(data)

    def publish(self, topic, payload):
        self.next_id += 1
        try:
            self.send(publish_packet(topic, payload.encode(), 1, self.next_id))
        except OSError:
            pass

    def send_desired(self):
        if "$muster/twin/desired" in self.subscribed:
            s = self.server
            self.publish("$muster/twin/desired", json.dumps({"version": s.desired_version, "desired": s.desired, "delta": s.desired}))

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def run(self):
        while True:
            first = self._exactly(1)[0]
            length, shift = 0, 0
            while True:
                b = self._exactly(1)[0]
                length |= (b & 127) << shift
                shift += 7
                if b < 128:
                    break
            body = self._exactly(length)
            with self.server.lock:
                handler = {1: self.on_connect, 3: self.on_publish, 8: self.on_subscribe, 12: self.on_ping, 14: self.on_disconnect}
                handler.get(first >> 4, lambda *_: None)(first, body)

    def on_disconnect(self, *_):
        raise Dropped

    def on_ping(self, *_):
        self.send(packet(0xD0, b""))

    def on_connect(self, _, body):
        s = self.server
        if s.silent:
            return
        flags = body[7]
        at = 10 + 1 + body[10]  # properties are short here
        fields = []
        for _ in range(1 + (flags >> 7 & 1) + (flags >> 6 & 1)):
            n = struct.unpack("!H", body[at:at + 2])[0]
            fields.append(body[at + 2:at + 2 + n].decode())
            at += 2 + n
        cert = self.sock.getpeercert()
        reason = 0x86
        if cert and cert["serialNumber"].lower() not in s.revoked:
            self.device = next(v for rdn in cert["subject"] for k, v in rdn if k == "commonName")
            reason = 0
        elif len(fields) == 3 and fields[1] == "$claim" and fields[2] == s.token:
            self.claim, reason = True, 0
        elif len(fields) == 3 and s.access_tokens.get(fields[1]) == fields[2]:
            self.device, reason = fields[1], 0
        s.connects.append((self.device or "$claim", reason, cert["serialNumber"].lower() if cert else None))
        self.send(packet(0x20, bytes([0, reason]) + vbi(0)))
        if reason:
            raise Dropped

    def on_subscribe(self, _, body):
        at = 2 + 1 + body[2]
        n = 0
        while at < len(body):
            size = struct.unpack("!H", body[at:at + 2])[0]
            self.subscribed.add(body[at + 2:at + 2 + size].decode())
            at += 3 + size
            n += 1
        self.send(packet(0x90, body[:2] + b"\0" + b"\1" * n))
        if self.server.desired:
            self.send_desired()

    def on_publish(self, first, body):
        size = struct.unpack("!H", body[:2])[0]
        topic = body[2:2 + size].decode()
        pid = body[2 + size:4 + size]
        payload = body[5 + size + body[4 + size]:]
        reason = 0
        if topic == "$muster/telemetry":
            reason = self.on_telemetry(json.loads(payload), bool(first & 8))
        elif topic == "$muster/twin/reported":
            self.server.reports.append((self.device, json.loads(payload)))
        elif topic.startswith("$muster/command/"):
            self.server.replies.append((topic, json.loads(payload)))
        elif topic == "$muster/twin/get" and self.server.answer_twin:
            s = self.server
            self.publish("$muster/twin/get/reply",
                         json.dumps({"version": s.desired_version, "desired": s.desired, "delta": {}, "reported": {}}))
        if reason is not None:
            self.send(packet(0x40, pid + (bytes([reason]) if reason else b"")))
        if topic.startswith("$muster/provision/"):
            self.on_provision(topic, json.loads(payload))

    def on_telemetry(self, doc, dup):
        s = self.server
        if s.drop_after is not None:
            s.drop_after -= 1
            if s.drop_after <= 0:
                s.drop_after = None
                s.points.append((self.device, doc["ts"], doc["values"], dup))  # stored, but the answer is lost
                raise Dropped
        if s.refuse:
            return s.refuse.pop(0)
        s.points.append((self.device, doc["ts"], doc["values"], dup))
        return None if s.hold_acks else 0

    def on_provision(self, topic, doc):
        s = self.server
        s.requests.append((topic, doc))
        if s.refuse_enrol:
            answer = {"error": {"code": s.refuse_enrol[0], "detail": s.refuse_enrol[1]}}
        else:
            device = self.device or doc.get("device") or "made-up-1"
            with open(s.ca) as f:
                answer = {"device": device, "certificate": s.sign(doc["csr"], device), "ca": f.read(), "not_after": ""}
        self.publish("$muster/provision/response", json.dumps(answer))
