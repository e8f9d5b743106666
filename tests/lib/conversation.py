"""Conversations of tests/wire/conformance: parsed, and played against a server of any make.

A file holds cases. A case says which numbered statements of the specifications it shows, by version, and then what is said:

    case A clean start discards the session
    4: 3.1.2-6 3.2.2-2            statements of MQTT 3.1.1; the case runs with 3.1.1
    5: 3.1.2-4 3.2.2-2            statements of MQTT 5.0; the case runs with 5.0 too
    needs scram                   what the server must be able to do, otherwise the case is left out (ws, scram)
    differs mosquitto: why        this broker is known to fail here
    A connect lasting             CONNECT, then CONNACK with success
    A subscribe f=$T/x:1          SUBSCRIBE and a SUBACK that grants
    A leave                       DISCONNECT, then the server closes
    A> CONNECT clean=1            a packet (tests/lib/mqtt_packet.py says the fields)
    A< CONNACK present=0          exactly this packet comes next; fields that are not named may be anything, except that
                                  code, present, dup, retain and qos are 0 unless they are named
    A<& PUBLISH ... (twice)       neighbouring lines with & may come in any order
    A< closed 81,82               the server closes; a last packet, if any, is a refusal with one of these codes
    A< none                       nothing comes (for 0.3 s, or the seconds given)
    A publish topic=$T/x qos=2    PUBLISH and all of its handshake
    A takes topic=$T/x qos=2      the message comes, and is acknowledged
    A> raw 32 '$T/x' 0000 (hi)    a first byte and a body, the length is put in; 'text' has a length, (text) has none
    A> bytes 30 ff ff ff ff 01    bytes as they are
    A open ws                     a WebSocket connection; text FRAME and fragments are said with A> ws...
    A drop                        the client ends without DISCONNECT
    wait 1.5 / mark / since 1 3   time passes / is taken / must be so many seconds since it was taken
    restart                       the server ends (kill -9) and comes back

Lines may start with [4] or [5]: only in this version. $T is a topic and $I a client identifier of this case alone; @name takes a
field's value where it is expected first, and stands for it afterwards. Values with spaces are 'quoted'.
"""
import base64
import hashlib
import hmac
import os
import re
import shlex
import socket
import struct
import threading
import time

import mqtt_packet
from mqtt_packet import Malformed

PATIENCE = 10.0
SILENCE = 0.3
DEFAULTS = {"CONNACK": {"present": 0, "code": 0}, "PUBLISH": {"dup": 0, "qos": 0, "retain": 0}, "PUBACK": {"code": 0}, "PUBREC": {"code": 0},
            "PUBREL": {"code": 0}, "PUBCOMP": {"code": 0}, "DISCONNECT": {"code": 0}, "AUTH": {"code": 0}}


class Mismatch(Exception):
    """The server has said something else."""


class Case:
    def __init__(self, path, line, title):
        self.path, self.line, self.title = path, line, title
        self.covers, self.needs, self.differs, self.steps = {}, set(), {}, []

    def restarts(self):
        return any(words[0] == "restart" for _, _, words in self.steps)

    def __str__(self):
        return f"{os.path.basename(self.path)}:{self.line} {self.title}"


def load(path):
    cases = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if text.startswith("case "):
                cases.append(Case(path, number, text[5:]))
                continue
            if not cases:
                raise ValueError(f"{path}:{number}: before the first case: {text}")
            _line(cases[-1], number, text)
    for case in cases:
        if not case.covers or not case.steps:
            raise ValueError(f"{path}:{case.line}: a case without statements or without steps")
    return cases


def _line(case, number, text):
    head = re.match(r"([45]):(.*)", text)
    if head:
        case.covers.setdefault(int(head.group(1)), []).extend(head.group(2).split())
    elif text.startswith("needs "):
        case.needs.update(text.split()[1:])
    elif text.startswith("differs "):
        who, why = text[8:].split(":", 1)
        case.differs[who.strip()] = why.strip()
    else:
        only = re.match(r"\[([45])\]\s*(.*)", text)
        version, text = (int(only.group(1)), only.group(2)) if only else (None, text)
        # In raw packets quotes have a meaning of their own.
        words = text.split(None, 2) if re.match(r"\w+> (raw|bytes|wsraw)\b", text) else shlex.split(text)
        case.steps.append((number, version, words))


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

    def __init__(self, user, password):
        self.password, self.nonce = password, base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={user},r={self.nonce}"
        self.server_first, self.signature = "", b""

    def first(self):
        return b"n,," + self.bare.encode()

    def final(self, server_first):
        self.server_first = server_first.decode()
        parts = dict(p.split("=", 1) for p in self.server_first.split(","))
        if not parts["r"].startswith(self.nonce) or parts["r"] == self.nonce:
            raise Mismatch("the server has not added to the nonce")
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bare = f"c=biws,r={parts['r']}"
        message = f"{self.bare},{self.server_first},{bare}".encode()
        proof = bytes(a ^ b for a, b in zip(client_key, hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")))
        self.signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final):
        if server_final != b"v=" + base64.b64encode(self.signature):
            raise Mismatch("the server has not shown that it knows the password")


class Tcp:
    """Bytes over TCP."""

    def __init__(self, server):
        self.sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.sock.sendall(data)

    def receive(self, timeout):
        """Bytes, b"" when the peer has closed; TimeoutError."""
        self.sock.settimeout(max(timeout, 0.001))
        try:
            return self.sock.recv(65536)
        except ConnectionError:
            return b""

    def close(self):
        self.sock.close()


class WebSocket(Tcp):
    """Bytes as binary frames (RFC 6455)."""

    def __init__(self, server, protocols="mqtt", path="/mqtt"):
        self.sock = socket.create_connection(("127.0.0.1", server.ws_port), PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        offer = f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols else ""
        self.sock.sendall((f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           f"Sec-WebSocket-Key: {key}\r\n{offer}\r\n").encode())
        self.sock.settimeout(PATIENCE)
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            part = self.sock.recv(4096)
            if not part:
                break
            self.data += part
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.headers = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}

    def frame(self, first, data):
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack("!H", len(data))
        self.sock.sendall(bytes([first]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def send(self, data):
        self.frame(0x82, data)

    def receive(self, timeout):
        end = time.monotonic() + timeout
        while True:
            frame = self._frame()
            if frame and frame[0] == 9:
                self.frame(0x8A, frame[1])
            elif frame:
                if frame[0] == 8:
                    return b""
                if frame[0] not in (2, 0):
                    raise Mismatch(f"a frame with opcode {frame[0]}")
                return frame[1]
            part = Tcp.receive(self, end - time.monotonic())
            if not part:
                return b""
            self.data += part

    def _frame(self):
        d = self.data
        if len(d) < 2:
            return None
        n, at = d[1] & 127, 2
        if n > 125:
            width = 2 if n == 126 else 8
            if len(d) < 2 + width:
                return None
            n, at = int.from_bytes(d[2:2 + width], "big"), 2 + width
        if len(d) < at + n:
            return None
        self.data = d[at + n:]
        return d[0] & 15, d[at:at + n]


class Connection:
    def __init__(self, server, version, transport):
        self.server, self.version, self.transport = server, version, transport
        self.stream, self.connected, self.ended = mqtt_packet.Stream(), False, False
        self.next_pid, self.last_data, self.scram, self.receive_max = 1000, b"", None, 65535
        self.early = []       # packets that came while another was waited for
        self.largest = None   # bytes, of each packet
        self.ignored = set()  # names of packets that do not count

    def pid(self):
        self.next_pid += 1
        return str(self.next_pid)

    def packet(self, timeout):
        """(name, fields) of the next packet; None when the server has closed; TimeoutError."""
        if self.early:
            return self.early.pop(0)
        end = time.monotonic() + timeout
        while True:
            got = self.stream.next()
            if got:
                size = 1 + len(mqtt_packet.vbi(len(got[1]))) + len(got[1])
                if self.largest and size > self.largest:
                    raise Mismatch(f"a packet of {size} bytes: {got[0]:02x} {got[1].hex(' ')}")
                packet = mqtt_packet.decode(got[0], got[1], self.version)
                if packet[0] in self.ignored:
                    continue
                return packet
            if self.ended:
                return None
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            part = self.transport.receive(left)
            if not part:
                self.ended = True
                if self.stream.data:
                    raise Mismatch(f"closed within a packet: {self.stream.data.hex(' ')}")
            self.stream.data += part


class Play:
    """One case in one version."""

    def __init__(self, case, version, server, number, on_restart):
        self.case, self.version, self.server, self.on_restart = case, version, server, on_restart
        self.names = {"T": f"wire/{number}v{version}", "I": f"w{number}v{version}"}
        self.open, self.values, self.marked, self.unordered, self.login = {}, {}, time.monotonic(), None, None

    def run(self):
        try:
            for number, version, words in self.case.steps:
                if version not in (None, self.version):
                    continue
                try:
                    self.step(words)
                except (Mismatch, Malformed, OSError, ValueError, KeyError, struct.error) as e:
                    kind = "" if isinstance(e, Mismatch) else f"{type(e).__name__}: "
                    raise Mismatch(f"{os.path.basename(self.case.path)}:{number} [{self.version}] {' '.join(words)}\n    {kind}{e}") from None
        finally:
            for c in self.open.values():
                c.transport.close()

    # --- values ---

    def text(self, value):
        value = re.sub(r"\$([TI])", lambda m: self.names[m.group(1)], value)
        return re.sub(r"@(\w+)", lambda m: self._value(m.group(1)), value)

    def _value(self, name):
        v = self.values[name]
        return "hex:" + v.hex() if isinstance(v, bytes) else str(v)

    def fields(self, words, c):
        out = []
        for word in words:
            if word == "lasting":
                out += [("clean", "0")] + ([("sexpiry", "300")] if c.version == 5 else [])
                continue
            name, _, value = word.partition("=")
            value = self.text(value)
            if value == "scram:first":
                self.login = self.login or self.server.credentials(self.names["I"])
                c.scram = Scram(*self.login)
                value = c.scram.first()
            elif value in ("scram:final", "scram:wrong"):
                proof = c.scram.final(c.last_data)
                value = proof if value == "scram:final" else proof[:-8] + b"AAAAAAA="
            out.append((name, value))
        return out

    # --- steps ---

    def step(self, words):
        simple = {"wait": lambda: time.sleep(float(words[1])), "mark": self._mark, "since": lambda: self._since(float(words[1]), float(words[2])),
                  "restart": self._restart}
        if words[0] in simple:
            simple[words[0]]()
            return
        m = re.fullmatch(r"([A-Z]\w*)(>|<&|<)?", words[0])
        if not m:
            raise ValueError(f"no step: {words[0]}")
        name, sign = m.group(1), m.group(2)
        if self.unordered and sign != "<&":
            self._settle()
        if sign == ">":
            self.say(name, words[1], words[2:])
        elif sign == "<&":
            self._later(name, words[1:])
        elif sign == "<":
            self.hear(self.open[name], words[1], words[2:])
        else:
            getattr(self, "do_" + words[1].replace("-", "_"))(name, words[2:])

    def _mark(self):
        self.marked = time.monotonic()

    def _since(self, least, most):
        seconds = time.monotonic() - self.marked
        if not least <= seconds <= most:
            raise Mismatch(f"{seconds:.2f} s instead of {least} to {most}")

    def _restart(self):
        for c in self.open.values():
            c.transport.close()
        self.open.clear()
        self.on_restart()

    def connection(self, name):
        c = self.open.get(name)
        if c is None or c.ended:
            c = self.open[name] = Connection(self.server, self.version, Tcp(self.server))
        return c

    def say(self, name, what, rest):
        c = self.connection(name)
        if what in ("raw", "bytes", "wsraw"):
            body = raw(self.text(rest[0] if rest else ""))
            c.transport.send(body[:1] + mqtt_packet.vbi(len(body) - 1) + body[1:] if what == "raw" else body)
            return
        if what == "text":  # a WebSocket text frame
            c.transport.frame(0x81, self.encode(c, name, rest[0], rest[1:]))
        elif what == "pieces":  # a frame for each byte, and then one fragmented message
            self._pieces(c, self.encode(c, name, rest[0], rest[1:]))
        elif what == "together":  # several packets in one frame
            c.transport.send(b"".join(self.encode(c, name, *self._split(p)) for p in " ".join(rest).split(" / ")))
        else:
            c.transport.send(self.encode(c, name, what, rest))

    @staticmethod
    def _split(text):
        words = text.split()
        return words[0], words[1:]

    @staticmethod
    def _pieces(c, data):
        for b in data[:4]:
            c.transport.send(bytes([b]))
        c.transport.frame(0x02, data[4:7])
        c.transport.frame(0x80, data[7:])

    def encode(self, c, name, what, rest):
        if what not in mqtt_packet.ENCODERS:
            raise ValueError(f"no packet: {what}")
        fields = self.fields(rest, c)
        names = {k for k, _ in fields}
        if what == "CONNECT":
            if "v" in names:
                c.version = int(dict(fields)["v"])
                fields = self.fields(rest, c)
            if "id" not in names:
                fields.append(("id", self.names["I"] + name))
        return mqtt_packet.encode(what, fields, c.version)

    def hear(self, c, what, rest):
        if what == "none":
            self._silence(c, float(rest[0]) if rest else SILENCE)
        elif what == "closed":
            self._closed(c, {int(x, 16) for x in rest[0].split(",")} if rest else None)
        else:
            self.match(c, self._next(c), what, rest)

    @staticmethod
    def _next(c):
        try:
            got = c.packet(PATIENCE)
        except TimeoutError:
            raise Mismatch(f"nothing for {PATIENCE:.0f} s") from None
        if got is None:
            raise Mismatch("the server has closed")
        return got

    @staticmethod
    def _silence(c, seconds):
        try:
            got = c.packet(seconds)
        except TimeoutError:
            return
        raise Mismatch(f"{got[0]} {got[1]} instead of nothing" if got else "closed instead of nothing")

    @staticmethod
    def _closed(c, codes):
        last = None
        try:
            while True:
                got = c.packet(PATIENCE)
                if got is None:
                    break
                if last:
                    raise Mismatch(f"{got[0]} {got[1]} after {last}")
                last = got
                if got[0] not in ("DISCONNECT", "CONNACK") or got[1]["code"] == 0 or (got[0] == "CONNACK") == c.connected:
                    raise Mismatch(f"{got[0]} {got[1]} instead of the end")
        except TimeoutError:
            raise Mismatch("still open") from None
        if last is None and codes and c.server.tells_why and c.version == 5 and c.connected:
            raise Mismatch("closed without telling why")
        if last and codes and last[1]["code"] not in codes:
            raise Mismatch(f"{last[0]} with code {last[1]['code']:02x}")
        if last and last[0] == "CONNACK" and last[1]["present"]:
            raise Mismatch("a refusal with session present")
        c.transport.close()

    # --- what comes in any order ---

    def _later(self, name, words):
        if self.unordered and self.unordered[0] != name:
            self._settle()
        if not self.unordered:
            self.unordered = (name, [])
        self.unordered[1].append(words)

    def _settle(self):
        name, wanted = self.unordered
        self.unordered = None
        c = self.open[name]
        while wanted:
            got, errors = self._next(c), []
            for words in wanted:
                before = dict(self.values)
                try:
                    self.match(c, got, words[0], words[1:])
                    wanted.remove(words)
                    break
                except Mismatch as e:
                    self.values = before
                    errors.append(str(e))
            else:
                raise Mismatch("in any order: " + "; ".join(errors))

    # --- matching ---

    def match(self, c, got, what, rest):
        name, have = got
        if name != what:
            raise Mismatch(f"{name} {have}")
        if "data" in have:
            c.last_data = have["data"]
        if name == "CONNACK" and have["code"] == 0:
            c.connected, c.receive_max = True, have.get("rmax", 65535)
        want = dict(DEFAULTS.get(what, {}))
        for word in rest:
            field, _, value = word.partition("=")
            want.setdefault(field, []) if field in mqtt_packet.REPEATED else None
            if field in mqtt_packet.REPEATED and value != "-":
                want[field] = want[field] + [value]
            else:
                want[field] = value
        for field, value in want.items():
            if not self._same(c, field, value, have.get(field)):
                raise Mismatch(f"{field} is {have.get(field)!r}: {name} {have}")

    def _same(self, c, field, value, have):
        if value == "*":
            return have is not None
        if value == "-":
            return have is None
        if have is None:
            return False
        if isinstance(value, list):  # the order of identifiers does not count, that of user properties does
            return have == [self.text(v) for v in value] if field == "up" else sorted(map(str, have)) == sorted(value)
        if isinstance(value, int):
            return have == value
        if value.startswith("@") and value[1:] not in self.values:
            self.values[value[1:]] = have
            return True
        if value == "scram:verify":
            c.scram.verify(have)
            return True
        return self._equal(field, self.text(value), have)

    @staticmethod
    def _equal(field, value, have):
        if field == "code":
            return have in {int(x, 16) for x in value.split(",")}
        if field == "codes":
            return have == ([int(x, 16) for x in value.split(",")] if value else [])
        if isinstance(have, int):
            low, _, high = value.partition("..")
            return int(low) <= have <= int(high or low)
        return have == (mqtt_packet.blob(value) if isinstance(have, bytes) else value)

    # --- steps of several packets ---

    def do_open(self, name, rest):
        if rest and rest[0] == "ws":
            options = dict(w.partition("=")[::2] for w in rest[1:])
            ws = WebSocket(self.server, options.get("protocols", "mqtt"))
            self.open[name] = Connection(self.server, self.version, ws)
            if str(ws.status) != options.get("status", "101"):
                raise Mismatch(f"HTTP status {ws.status}")
            if ws.status == 101 and ws.headers.get("sec-websocket-protocol") != "mqtt":
                raise Mismatch(f"the server has chosen {ws.headers.get('sec-websocket-protocol')}")
        else:
            self.open[name] = Connection(self.server, self.version, Tcp(self.server))

    def do_drop(self, name, rest):
        self.open.pop(name).transport.close()

    def do_connect(self, name, rest):
        present = next((w for w in rest if w.startswith("present=")), "present=0")
        self.say(name, "CONNECT", [w for w in rest if w != present])
        self.hear(self.open[name], "CONNACK", [present])

    def do_leave(self, name, rest):
        self.say(name, "DISCONNECT", rest)
        self.hear(self.open[name], "closed", [])
        del self.open[name]

    def wait_for(self, c, what, rest):
        """This packet, while messages may come in between: they are kept."""
        kept = []
        while True:
            got = self._next(c)
            if got[0] in ("PUBLISH", "PUBREL") and got[0] != what:
                kept.append(got)
                continue
            self.match(c, got, what, rest)
            c.early = kept + c.early
            return

    def do_subscribe(self, name, rest):
        c = self.open[name]
        pid = c.pid()
        self.say(name, "SUBSCRIBE", [f"pid={pid}"] + rest)
        granted = [w.rpartition(":")[2][0] for w in rest if w.startswith("f=")]
        self.wait_for(c, "SUBACK", [f"pid={pid}", f"codes={','.join(granted)}"])

    def do_publish(self, name, rest):
        c = self.open[name]
        qos = dict(w.partition("=")[::2] for w in rest).get("qos", "0")
        pid = c.pid()
        self.say(name, "PUBLISH", rest + ([f"pid={pid}"] if qos != "0" else []))
        if qos == "1":
            self.wait_for(c, "PUBACK", [f"pid={pid}", "code=0,10"])
        elif qos == "2":
            self.wait_for(c, "PUBREC", [f"pid={pid}", "code=0,10"])
            self.say(name, "PUBREL", [f"pid={pid}"])
            self.wait_for(c, "PUBCOMP", [f"pid={pid}"])

    def do_takes(self, name, rest):
        c = self.open[name]
        got = self._next(c)
        self.match(c, got, "PUBLISH", rest)
        if got[1]["qos"] == 1:
            self.say(name, "PUBACK", [f"pid={got[1]['pid']}"])
        elif got[1]["qos"] == 2:
            self.say(name, "PUBREC", [f"pid={got[1]['pid']}"])
            self._release(c, got[1]["pid"])
            self.say(name, "PUBCOMP", [f"pid={got[1]['pid']}"])

    def _release(self, c, pid):
        """The PUBREL of this message; messages may come before it."""
        kept = []
        while True:
            got = self._next(c)
            if got[0] == "PUBREL" and got[1]["pid"] == pid:
                c.early = kept + c.early
                return
            if got[0] != "PUBLISH":
                raise Mismatch(f"{got[0]} {got[1]} instead of PUBREL {pid}")
            kept.append(got)

    def do_many(self, name, rest):
        """topic= qos= count=: that many messages with the payloads 1, 2, 3, ..."""
        options = dict(w.partition("=")[::2] for w in rest)
        for i in range(int(options["count"])):
            self.do_publish(name, [f"topic={options['topic']}", f"qos={options['qos']}", f"payload={i + 1}"])

    def do_in_order(self, name, rest):
        """topic= qos= count=: those messages come, and in their order."""
        options, c = dict(w.partition("=")[::2] for w in rest), self.open[name]
        count, seen, open_ = int(options["count"]), 0, set()
        while seen < count or open_:
            what, have = self._next(c)
            if what == "PUBREL" and have["pid"] in open_:
                open_.remove(have["pid"])
                self.say(name, "PUBCOMP", [f"pid={have['pid']}"])
                continue
            seen += 1
            self.match(c, (what, have), "PUBLISH", [f"topic={options['topic']}", f"qos={options['qos']}", f"payload={seen}"])
            if have["qos"] == 1:
                self.say(name, "PUBACK", [f"pid={have['pid']}"])
            elif have["qos"] == 2:
                open_.add(have["pid"])
                self.say(name, "PUBREC", [f"pid={have['pid']}"])

    def do_shares_with(self, name, rest):
        """OTHER topic= count=: each message of do_many comes to one of the two, and both get some."""
        options = dict(w.partition("=")[::2] for w in rest[1:])
        topic, seen = self.text(options["topic"]), {name: [], rest[0]: []}
        for who, payloads in seen.items():
            while True:
                try:
                    what, have = self.open[who].packet(SILENCE)
                except TimeoutError:
                    break
                if what != "PUBLISH" or have["topic"] != topic:
                    raise Mismatch(f"{what} {have}")
                payloads.append(int(have["payload"]))
        both = sorted(sum(seen.values(), []))
        if both != list(range(1, int(options["count"]) + 1)) or not all(seen.values()):
            raise Mismatch(f"shared as {seen}")

    def do_differ(self, name, rest):
        values = [self.values[n] for n in rest]
        if len(set(values)) != len(values):
            raise Mismatch(f"the same: {values}")

    def do_alias(self, name, rest):
        """MAX TOPIC: a message of this topic, told by name or by an alias up to MAX that was set before."""
        c = self.open[name]
        what, have = self._next(c)
        aliases = self.values.setdefault("aliases " + name, {})
        alias = have.get("alias")
        if what != "PUBLISH" or (alias is not None and not 0 < alias <= int(rest[0])):
            raise Mismatch(f"{what} {have}")
        if have["topic"] and alias:
            aliases[alias] = have["topic"]
        if (have["topic"] or aliases.get(alias)) != self.text(rest[1]):
            raise Mismatch(f"{have} with {aliases}")

    def do_small(self, name, rest):
        """From here on no packet is larger than so many bytes."""
        self.open[name].largest = int(rest[0])

    def do_refused(self, name, rest):
        """PID CODE: the SUBSCRIBE is refused by a SUBACK (80 in 3.1.1), or by the end of the connection."""
        c = self.open[name]
        code = "80" if c.version == 4 else rest[1]
        got = self._next_or_end(c)
        if got and got[0] == "SUBACK":
            self.match(c, got, "SUBACK", [f"pid={rest[0]}", f"codes={code}"])
        elif got:
            c.early.insert(0, got)
            self._closed(c, {0x81, 0x82, int(rest[1], 16)})

    @staticmethod
    def _next_or_end(c):
        try:
            return c.packet(PATIENCE)
        except TimeoutError:
            raise Mismatch("neither an answer nor the end") from None

    def do_acknowledged_or_closed(self, name, rest):
        """PID: what a 3.1.1 server may do with a forbidden PUBLISH of QoS 1."""
        got = self._next_or_end(self.open[name])
        if got:
            self.match(self.open[name], got, "PUBACK", [f"pid={rest[0]}"])

    def do_flood(self, name, rest):
        """topic= qos=: one message more than the server's receive maximum, at once."""
        c = self.open[name]
        fields = self.fields(rest, c)
        data = b"".join(mqtt_packet.encode("PUBLISH", fields + [("pid", str(i + 1))], c.version) for i in range(c.receive_max + 1))
        c.ignored.add("PUBREC")
        c.transport.send(data)

    def do_nothing_below(self, name, rest):
        """PREFIX: for a while no message with such a topic comes; others may."""
        end = time.monotonic() + 2 * SILENCE
        while time.monotonic() < end:
            try:
                got = self.open[name].packet(end - time.monotonic())
            except TimeoutError:
                return
            if got is None:
                raise Mismatch("the server has closed")
            if got[0] == "PUBLISH" and got[1]["topic"].startswith(self.text(rest[0])):
                raise Mismatch(f"{got[1]}")


def raw(text):
    """Hex bytes, 'text' with its length, (text) without."""
    out, at = b"", 0
    while at < len(text):
        c = text[at]
        if c in "'(":
            end = text.index("'" if c == "'" else ")", at + 1)
            data = text[at + 1:end].encode()
            out += (struct.pack("!H", len(data)) if c == "'" else b"") + data
            at = end + 1
        elif c == " ":
            at += 1
        else:
            out += bytes.fromhex(text[at:at + 2])
            at += 2
    return out


class Restarts:
    """The server restarts once all cases that want it have come so far, or have ended."""

    def __init__(self, parties, action):
        self.cond, self.parties, self.waiting, self.round, self.action = threading.Condition(), parties, 0, 0, action

    def arrive(self):
        with self.cond:
            self.waiting += 1
            mine = self.round
            self._check()
            while self.round == mine:
                self.cond.wait()

    def leave(self):
        with self.cond:
            self.parties -= 1
            self._check()

    def _check(self):
        if self.waiting and self.waiting >= self.parties:
            self.action()
            self.waiting, self.round = 0, self.round + 1
            self.cond.notify_all()
