"""MQTT 3.1.1 and 5.0 packets as text and as bytes, for conversations in tests/wire. Both directions, both roles, no sockets.

A packet is its name and fields, as in a conversation's line:

    PUBLISH topic=a/b qos=1 pid=7 payload=hello up=key:value expiry=60

`encode` makes bytes of it, also of what the specification forbids (flags=, level=, name=, cflags= override what would be right).
`decode` is strict: what it returns is well-formed as far as the packet alone tells (MQTT 5.0 chapters 2 and 3).

Codes (code, codes, flags, level, cflags) are hexadecimal, as the specifications write them; other numbers are decimal.
"""
import struct

NAMES = {1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP", 8: "SUBSCRIBE", 9: "SUBACK",
         10: "UNSUBSCRIBE", 11: "UNSUBACK", 12: "PINGREQ", 13: "PINGRESP", 14: "DISCONNECT", 15: "AUTH"}
TYPES = {name: number for number, name in NAMES.items()}

# Properties (5.0 section 2.2.2.2): name here -> identifier, type, packets it may stand in (W: a will's).
PROPERTIES = {
    "format": (0x01, "byte", "PUBLISH W"), "expiry": (0x02, "four", "PUBLISH W"), "ctype": (0x03, "text", "PUBLISH W"),
    "response": (0x08, "text", "PUBLISH W"), "corr": (0x09, "bin", "PUBLISH W"), "subid": (0x0B, "vbi", "PUBLISH SUBSCRIBE"),
    "sexpiry": (0x11, "four", "CONNECT CONNACK DISCONNECT"), "acid": (0x12, "text", "CONNACK"), "ska": (0x13, "two", "CONNACK"),
    "method": (0x15, "text", "CONNECT CONNACK AUTH"), "data": (0x16, "bin", "CONNECT CONNACK AUTH"), "problem": (0x17, "byte", "CONNECT"),
    "delay": (0x18, "four", "W"), "askinfo": (0x19, "byte", "CONNECT"), "info": (0x1A, "text", "CONNACK"),
    "ref": (0x1C, "text", "CONNACK DISCONNECT"),
    "reason": (0x1F, "text", "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"),
    "rmax": (0x21, "two", "CONNECT CONNACK"), "tamax": (0x22, "two", "CONNECT CONNACK"), "alias": (0x23, "two", "PUBLISH"),
    "maxqos": (0x24, "byte", "CONNACK"), "ravail": (0x25, "byte", "CONNACK"),
    "up": (0x26, "pair", "CONNECT CONNACK PUBLISH W PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"),
    "maxpkt": (0x27, "four", "CONNECT CONNACK"), "wavail": (0x28, "byte", "CONNACK"), "siavail": (0x29, "byte", "CONNACK"),
    "shavail": (0x2A, "byte", "CONNACK"),
}
BY_ID = {p[0]: (name, p[1], p[2].split()) for name, p in PROPERTIES.items()}
REPEATED = {"up", "subid"}

# Reason codes by packet (5.0 section 2.4); CONNACK of 3.1.1 has its own (3.2.2.3).
CODES = {
    "CONNACK": {0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    "PUBACK": {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}, "PUBREC": {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    "PUBREL": {0, 0x92}, "PUBCOMP": {0, 0x92}, "SUBACK": {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    "UNSUBACK": {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    "DISCONNECT": {0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3)}, "AUTH": {0, 0x18, 0x19},
}


class Malformed(Exception):
    """The bytes are not a packet that a server may send."""


def vbi(n):
    out = b""
    while True:
        out += bytes([(n & 127) | (128 if n > 127 else 0)])
        n >>= 7
        if n == 0:
            return out


def blob(value):
    """Text, or bytes written as hex:00ff, or N zero bytes written as zeros:N."""
    if isinstance(value, bytes):
        return value
    if value.startswith("hex:"):
        return bytes.fromhex(value[4:])
    if value.startswith("zeros:"):
        return bytes(int(value[6:]))
    return value.encode()


def string(value):
    raw = blob(value)
    return struct.pack("!H", len(raw)) + raw


def _property(name, value):
    number, kind, _ = PROPERTIES[name]
    if kind == "pair":
        key, text = value.split(":", 1)
        body = string(key) + string(text)
    elif kind in ("text", "bin"):
        body = string(value)
    elif kind == "vbi":
        body = vbi(int(value))
    else:
        body = int(value).to_bytes({"byte": 1, "two": 2, "four": 4}[kind], "big")
    return bytes([number]) + body


def _properties(fields, prefix=""):
    out = b""
    for name, value in fields:
        if name.startswith(prefix) and name[len(prefix):] in PROPERTIES:
            out += _property(name[len(prefix):], value)
    return vbi(len(out)) + out


def subscription_options(text):
    """'1', '2+nl+rap+rh1' or 'x2c' (the byte itself)."""
    if text.startswith("x"):
        return int(text[1:], 16)
    parts = text.split("+")
    bits = {"nl": 4, "rap": 8, "rh1": 16, "rh2": 32, "rh3": 48}
    return int(parts[0]) | sum(bits[p] for p in parts[1:])


def _connect(f, fields, version):
    will = "will.topic" in f
    flags = (2 if f.get("clean", "1") == "1" else 0) | (4 if will else 0) | int(f.get("will.qos", 0)) << 3 | int(f.get("will.retain", 0)) << 5
    flags |= (0x80 if "username" in f else 0) | (0x40 if "password" in f else 0)
    if "cflags" in f:
        flags = int(f["cflags"], 16)
    out = string(f.get("name", "MQTT")) + bytes([int(f["level"], 16) if "level" in f else version, flags])
    out += struct.pack("!H", int(f.get("keepalive", 60)))
    if version == 5:
        out += _properties(fields)
    out += string(f.get("id", ""))
    if will:
        out += (_properties(fields, "will.") if version == 5 else b"") + string(f["will.topic"]) + string(f.get("will.payload", ""))
    for name in ("username", "password"):
        if name in f:
            out += string(f[name])
    return 0, out


def _publish(f, fields, version):
    qos = int(f.get("qos", 0))
    out = string(f.get("topic", "")) + (struct.pack("!H", int(f.get("pid", 0))) if qos or "pid" in f else b"")
    out += (_properties(fields) if version == 5 else b"") + blob(f.get("payload", ""))
    return int(f.get("dup", 0)) << 3 | qos << 1 | int(f.get("retain", 0)), out


def _acknowledge(f, fields, version):
    out = struct.pack("!H", int(f["pid"]))
    properties = _properties(fields)
    if version == 5 and ("code" in f or properties != b"\0"):
        out += bytes([int(f.get("code", "0"), 16)])
        out += properties if properties != b"\0" else b""
    return 0, out


def _filters(f, fields, version, with_options):
    out = struct.pack("!H", int(f["pid"])) + (_properties(fields) if version == 5 else b"")
    for name, value in fields:
        if name == "f":
            topic, options = value.rsplit(":", 1) if with_options else (value, None)
            out += string(topic) + (bytes([subscription_options(options)]) if with_options else b"")
    return 2, out


def _end(f, fields, version):
    properties = _properties(fields)
    if version != 5 or (properties == b"\0" and "code" not in f):
        return 0, b""
    return 0, bytes([int(f.get("code", "0"), 16)]) + (properties if properties != b"\0" else b"")


ENCODERS = {
    "CONNECT": _connect, "PUBLISH": _publish, "PUBACK": _acknowledge, "PUBREC": _acknowledge, "PUBREL": _acknowledge, "PUBCOMP": _acknowledge,
    "SUBSCRIBE": lambda f, fields, v: _filters(f, fields, v, True), "UNSUBSCRIBE": lambda f, fields, v: _filters(f, fields, v, False),
    "PINGREQ": lambda f, fields, v: (0, b""), "PINGRESP": lambda f, fields, v: (0, b""), "DISCONNECT": _end, "AUTH": _end,
}


def encode(name, fields, version):
    """`fields` is a list of (name, text), as properties and filters may stand more than once."""
    f = dict(fields)
    flags, body = ENCODERS[name](f, fields, version)
    if name == "PUBREL":
        flags = 2
    if "flags" in f:
        flags = int(f["flags"], 16)
    return bytes([TYPES[name] << 4 | flags]) + vbi(len(body)) + body


class Reader:
    """Takes a packet's body apart; anything missing is Malformed."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Malformed(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def vbi(self):
        value = 0
        for i in range(4):
            b = self.number(1)
            value |= (b & 127) << 7 * i
            if b < 128:
                if i and b == 0:
                    raise Malformed("a variable byte integer is longer than needed")
                return value
        raise Malformed("a variable byte integer of five bytes")

    def binary(self):
        return self.take(self.number(2))

    def text(self):
        raw = self.binary()
        try:
            value = raw.decode()
        except UnicodeDecodeError as e:
            raise Malformed(f"not UTF-8: {raw!r}") from e
        if "\0" in value:
            raise Malformed(f"a string with U+0000: {raw!r}")
        return value

    def rest(self):
        return self.take(len(self.data) - self.at)

    def done(self):
        if self.at != len(self.data):
            raise Malformed(f"{len(self.data) - self.at} bytes more than the packet has")

    def properties(self, packet):
        """{name: value}, a list for those that may stand more than once."""
        out, end = {}, self.vbi() + self.at
        if end > len(self.data):
            raise Malformed("the properties are longer than the packet")
        while self.at < end:
            number = self.vbi()
            if number not in BY_ID:
                raise Malformed(f"unknown property {number:02x}")
            name, kind, packets = BY_ID[number]
            if packet not in packets:
                raise Malformed(f"{packet} with property {name}")
            value = {"byte": lambda: self.number(1), "two": lambda: self.number(2), "four": lambda: self.number(4), "vbi": self.vbi,
                     "text": self.text, "bin": self.binary, "pair": lambda: f"{self.text()}:{self.text()}"}[kind]()
            if name in REPEATED:
                out.setdefault(name, []).append(value)
            elif name in out:
                raise Malformed(f"property {name} twice")
            else:
                out[name] = value
        if self.at != end:
            raise Malformed("a property reaches over the end of the properties")
        return out


def _code(r, name, version, out):
    out["code"] = r.number(1)
    allowed = CODES[name] if version == 5 else {0, 1, 2, 3, 4, 5}
    if out["code"] not in allowed:
        raise Malformed(f"{name} with code {out['code']:02x}")


def _d_connack(r, version, flags):
    out = {"present": r.number(1)}
    if out["present"] > 1:
        raise Malformed("reserved bits in CONNACK")
    _code(r, "CONNACK", version if len(r.data) > 2 else 4, out)  # a server that does not speak 5 answers in the older form
    if version == 5 and r.at < len(r.data):
        out.update(r.properties("CONNACK"))
    return out


def _d_publish(r, version, flags):
    out = {"dup": flags >> 3, "qos": flags >> 1 & 3, "retain": flags & 1, "topic": r.text()}
    if out["qos"] == 3 or (out["dup"] and not out["qos"]):
        raise Malformed(f"PUBLISH with flags {flags:x}")
    if out["qos"]:
        out["pid"] = r.number(2)
        if not out["pid"]:
            raise Malformed("PUBLISH with packet identifier 0")
    if version == 5:
        out.update(r.properties("PUBLISH"))
    if "+" in out["topic"] or "#" in out["topic"]:
        raise Malformed("PUBLISH to a filter")
    out["payload"] = r.rest()
    return out


def _d_acknowledge(name):
    def run(r, version, flags):
        out = {"pid": r.number(2), "code": 0}
        if version == 5 and r.at < len(r.data):
            _code(r, name, version, out)
            if r.at < len(r.data):
                out.update(r.properties(name))
        return out
    return run


def _d_answer(name):
    def run(r, version, flags):
        out = {"pid": r.number(2)}
        if version == 5:
            out.update(r.properties(name))
        out["codes"] = list(r.rest()) if version == 5 or name == "SUBACK" else []
        allowed = CODES[name] if version == 5 else {0, 1, 2, 0x80}
        if any(c not in allowed for c in out["codes"]):
            raise Malformed(f"{name} with codes {out['codes']}")
        return out
    return run


def _d_end(name):
    def run(r, version, flags):
        out = {"code": 0}
        if version != 5:
            raise Malformed(f"{name} from a 3.1.1 server")
        if r.at < len(r.data):
            _code(r, name, version, out)
            if r.at < len(r.data):
                out.update(r.properties(name))
        return out
    return run


DECODERS = {"CONNACK": _d_connack, "PUBLISH": _d_publish, "PUBACK": _d_acknowledge("PUBACK"), "PUBREC": _d_acknowledge("PUBREC"),
            "PUBREL": _d_acknowledge("PUBREL"), "PUBCOMP": _d_acknowledge("PUBCOMP"), "SUBACK": _d_answer("SUBACK"),
            "UNSUBACK": _d_answer("UNSUBACK"), "PINGRESP": lambda r, version, flags: {}, "DISCONNECT": _d_end("DISCONNECT"),
            "AUTH": _d_end("AUTH")}


def decode(first, body, version):
    """(name, fields) of a packet that a server has sent."""
    name, flags = NAMES.get(first >> 4), first & 15
    if name not in DECODERS:
        raise Malformed(f"first byte {first:02x}")
    if name != "PUBLISH" and flags != (2 if name == "PUBREL" else 0):
        raise Malformed(f"{name} with flags {flags:x}")
    r = Reader(body)
    out = DECODERS[name](r, version, flags)
    r.done()
    return name, out


class Stream:
    """Bytes in, packets out."""

    def __init__(self):
        self.data = b""

    def next(self):
        """(first byte, body) of the next whole packet, or None."""
        n = 0
        for i in range(1, min(5, len(self.data))):
            n |= (self.data[i] & 127) << 7 * (i - 1)
            if self.data[i] < 128:
                if i > 1 and self.data[i] == 0:
                    raise Malformed("a remaining length is longer than needed")
                if len(self.data) < i + 1 + n:
                    return None
                packet = self.data[0], self.data[i + 1:i + 1 + n]
                self.data = self.data[i + 1 + n:]
                return packet
        if len(self.data) >= 5:
            raise Malformed("a remaining length of five bytes")
        return None
