"""A WebSocket client (RFC 6455) for tests, on any connected socket: the handshake, raw frames, and a stream of bytes in messages.

    w = ws.WebSocket(sock, host="localhost:8443")   # raises Refused(status, headers)
    w.sendall(data)                                 # one masked binary message
    w.recv(n)                                       # bytes of messages; pings are answered; b"" after the close
    c = ws.Client("127.0.0.1", port, "d1", "d1", "secret")   # MQTT in it; an mqtt.Client in all else
"""
import base64
import hashlib
import os
import socket
import ssl
import struct

import mqtt

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    def __init__(self, status, head):
        super().__init__(f"HTTP {status}")
        self.status, self.head = status, head


def mask(data, key):
    n = len(data)
    return (int.from_bytes(data, "big") ^ int.from_bytes((key * (n // 4 + 1))[:n], "big")).to_bytes(n, "big") if n else b""


def frame(first, payload, masked=True):
    n = len(payload)
    flag = 0x80 if masked else 0
    head = bytes([first, flag | n]) if n < 126 else bytes([first, flag | 126]) + struct.pack("!H", n) if n < 65536 else \
        bytes([first, flag | 127]) + struct.pack("!Q", n)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask(payload, key)


def request(host="localhost", path="/mqtt", protocol="mqtt", origin=None, version="13", key=None, method="GET", drop=(), more=()):
    """The bytes of a handshake and its key. `drop`: headers to leave out; `more`: further lines."""
    key = base64.b64encode(os.urandom(16)).decode() if key is None else key
    headers = [("Host", host), ("Upgrade", "websocket"), ("Connection", "keep-alive, Upgrade"), ("Sec-WebSocket-Key", key),
               ("Sec-WebSocket-Version", version)]
    if protocol:
        headers.append(("Sec-WebSocket-Protocol", protocol))
    if origin:
        headers.append(("Origin", origin))
    lines = [f"{method} {path} HTTP/1.1"] + [f"{n}: {v}" for n, v in headers if n not in drop] + list(more)
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), key


class WebSocket:
    def __init__(self, sock, **kw):
        self.sock, self.data, self.stream, self.closed = sock, b"", b"", None
        data, key = request(**kw)
        sock.sendall(data)
        head = self._head()
        self.status = int(head.split(None, 2)[1])
        if self.status != 101:
            raise Refused(self.status, head)
        self.headers = {n.lower(): v.strip() for n, v in (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)}
        want = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert self.headers["sec-websocket-accept"] == want, "Sec-WebSocket-Accept is wrong"
        self.protocol = self.headers.get("sec-websocket-protocol")

    def _more(self):
        part = self.sock.recv(65536)
        self.data += part
        return bool(part)

    def _head(self):
        while b"\r\n\r\n" not in self.data:
            if not self._more():
                raise ConnectionError("ended before the answer")
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        return head.decode()

    def _exactly(self, n):
        while len(self.data) < n:
            if not self._more():
                return None
        out, self.data = self.data[:n], self.data[n:]
        return out

    def frame(self):
        """(first byte, payload) of the next frame; None at the end of the connection."""
        head = self._exactly(2)
        if head is None:
            return None
        n = head[1]
        assert n < 128, "the server masks"
        if n == 126:
            n = struct.unpack("!H", self._exactly(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self._exactly(8))[0]
        return head[0], self._exactly(n)

    def send_frame(self, first, payload, masked=True):
        self.sock.sendall(frame(first, payload, masked))

    def sendall(self, data):
        self.send_frame(0x82, data)

    def recv(self, n):
        while not self.stream:
            f = self.frame()
            if f is None or f[0] == 0x88:
                self.closed = f[1] if f else self.closed
                return b""
            assert f[0] in (0x82, 0x8A, 0x89), f"a frame of kind {f[0]:#x}"
            if f[0] == 0x89:
                self.send_frame(0x8A, f[1])
            if f[0] == 0x82:
                self.stream += f[1]
        out, self.stream = self.stream[:n], self.stream[n:]
        return out

    def close_code(self):
        """Reads to the end: the code of the server's close; None when there was none."""
        while self.closed is None and self.recv(65536):
            pass
        return struct.unpack("!H", self.closed[:2])[0] if self.closed else None

    def shutdown(self, how):
        self.sock.shutdown(how)

    def close(self):
        self.sock.close()

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)


class Client(mqtt.Client):
    """tls: a CA file for wss."""

    def __init__(self, *args, tls=None, alpn=("http/1.1",), handshake=None, **kw):
        super().__init__(*args, **kw)
        self.tls, self.alpn, self.handshake = tls, alpn, handshake or {}

    def open(self):
        super().open()
        raw = self.sock
        if self.tls:
            context = ssl.create_default_context(cafile=self.tls)
            context.set_alpn_protocols(list(self.alpn))
            raw = context.wrap_socket(raw, server_hostname=self.server_name)
        self.sock = WebSocket(raw, **self.handshake)
        return self


def dial(port, tls=None, alpn=("http/1.1",), timeout=10, **kw):
    raw = socket.create_connection(("127.0.0.1", port), timeout)
    if tls:
        context = ssl.create_default_context(cafile=tls)
        context.set_alpn_protocols(list(alpn))
        raw = context.wrap_socket(raw, server_hostname="localhost")
    return WebSocket(raw, **kw)
