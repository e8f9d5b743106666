"""Plays wire conversations (tests/wire/*.txt) against a real server, byte by byte.

A conversation is a list of lines:

    # a comment
    device ID TOKEN              a device with this access token exists
    api METHOD PATH [JSON]       an operator's call, which must succeed
    open NAME                    a connection (plain) called NAME
    NAME> PACKET                 the client says this
    NAME>> HEX                   the client says these bytes, whatever they are
    NAME< PACKET                 the server says exactly this next
    NAME closed                  the server has ended the connection, without another byte
    NAME silent SECONDS          the server says nothing for so long
    close NAME                   the client ends without DISCONNECT

A PACKET is the first byte and the body; the remaining length is put in between: hex bytes, 'text' with its two-byte length,
(text) as it is. Expected packets also take ?? for any byte and * for any rest.
"""
import socket


class Mismatch(Exception):
    pass


def vbi(n):
    out = b""
    while True:
        out += bytes([(n & 127) | (128 if n > 127 else 0)])
        n >>= 7
        if n == 0:
            return out


def parse(text):
    """The bytes of a packet without its length: a list of byte values, None for any byte; and whether the end is open."""
    out, at = [], 0
    while at < len(text):
        c = text[at]
        if c in "'(":
            end = text.index("'" if c == "'" else ")", at + 1)
            raw = text[at + 1:end].encode()
            if c == "'":
                out += list(len(raw).to_bytes(2, "big"))
            out += list(raw)
            at = end + 1
        elif c == " ":
            at += 1
        elif c == "*":
            if text[at + 1:].strip():
                raise ValueError(f"* is not the last token of {text!r}")
            return out, True
        elif text[at:at + 2] == "??":
            out.append(None)
            at += 2
        else:
            out.append(int(text[at:at + 2], 16))
            at += 2
    return out, False


class Connection:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def say(self, text):
        body, _ = parse(text)
        self.sock.sendall(bytes(body[:1]) + vbi(len(body) - 1) + bytes(body[1:]))

    def _packet(self):
        """The next whole packet: first byte and body."""
        while True:
            n, shift, at = 0, 0, 1
            while at < len(self.data):
                n |= (self.data[at] & 127) << shift
                shift += 7
                at += 1
                if self.data[at - 1] < 128:
                    if len(self.data) >= at + n:
                        packet = self.data[:1] + self.data[at:at + n]
                        self.data = self.data[at + n:]
                        return packet
                    break
            part = self.sock.recv(65536)
            if not part:
                raise Mismatch(f"the server has closed; left over: {self.data.hex(' ')}")
            self.data += part

    def expect(self, text):
        want, open_end = parse(text)
        self.sock.settimeout(10)
        got = self._packet()
        same = len(got) >= len(want) if open_end else len(got) == len(want)
        if not same or any(w is not None and w != g for w, g in zip(want, got)):
            raise Mismatch(f"the server said {got.hex(' ')} ({got[1:]!r})")

    def expect_closed(self):
        self.sock.settimeout(10)
        try:
            more = self.data + self.sock.recv(65536)
        except ConnectionError:
            more = self.data
        if more:
            raise Mismatch(f"the server said {more.hex(' ')} instead of closing")

    def expect_silence(self, seconds):
        self.sock.settimeout(seconds)
        try:
            more = self.data + self.sock.recv(65536)
        except TimeoutError:
            more = self.data
            if not more:
                return
        raise Mismatch(f"the server said {more.hex(' ') or 'goodbye'} instead of nothing")


class Player:
    def __init__(self, server):
        self.server = server
        self.open = {}

    def line(self, line):
        words = line.split()
        if words[0] == "device":
            self.server.device(words[1], words[2])
        elif words[0] == "api":
            import json
            body = line.split(None, 3)[3] if len(words) > 3 else None
            self.server.api(words[1], words[2], json.loads(body) if body else None)
        elif words[0] == "open":
            self.open[words[1]] = Connection(self.server.ports["mqtt"])
        elif words[0] == "close":
            self.open.pop(words[1]).sock.close()
        elif words[0].endswith(">>"):
            self.open[words[0][:-2]].sock.sendall(bytes.fromhex("".join(words[1:])))
        elif words[0].endswith(">"):
            self.open[words[0][:-1]].say(line.split(None, 1)[1])
        elif words[0].endswith("<"):
            self.open[words[0][:-1]].expect(line.split(None, 1)[1])
        elif words[1] == "closed":
            self.open[words[0]].expect_closed()
        elif words[1] == "silent":
            self.open[words[0]].expect_silence(float(words[2]))
        else:
            raise ValueError(f"unknown line: {line}")

    def play(self, path):
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                line = line.strip()
                if not line or line.startswith("#"):
                    continue
                try:
                    self.line(line)
                except (Mismatch, OSError, ValueError, KeyError, TimeoutError) as e:
                    raise Mismatch(f"{path}:{number}: {line}\n    {type(e).__name__}: {e}") from None
        for c in self.open.values():
            c.sock.close()
