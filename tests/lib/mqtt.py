"""A small MQTT 3.1.1 and 5 client for tests: standard library only, one reader thread, windowed QoS 1, everything visible.

    c = mqtt.Client("127.0.0.1", port, client_id="d1", username="d1", password="...")
    c.connect()                                     # raises Refused(reason)
    c.publish("$muster/telemetry", b'{"t":1}', qos=1)   # waits for the PUBACK, returns its reason code
    c.subscribe("$muster/twin/desired", 1)
    topic, payload = c.recv(timeout=2)
    c.disconnect()
"""
import queue
import select
import socket
import ssl
import struct
import threading
import time


class Refused(Exception):
    """CONNACK with a reason other than 0."""

    def __init__(self, reason, text=""):
        super().__init__(f"connection refused: 0x{reason:02x} {text}")
        self.reason = reason


class Closed(Exception):
    """The connection ended; `reason` is the DISCONNECT's (MQTT 5) or None."""

    def __init__(self, reason=None):
        super().__init__(f"connection closed (reason {reason})")
        self.reason = reason


def vbi(n):
    out = b""
    while True:
        out += bytes([(n & 127) | (128 if n > 127 else 0)])
        n >>= 7
        if n == 0:
            return out


def text(s):
    b = s.encode() if isinstance(s, str) else s
    return struct.pack("!H", len(b)) + b


def packet(first, body):
    return bytes([first]) + vbi(len(body)) + body


def connect_packet(client_id, username=None, password=None, version=5, keepalive=60, clean=True, properties=b"", will=None):
    flags = (2 if clean else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([version])
    payload = text(client_id)
    if will:
        flags |= 4 | will[2] << 3
        payload += (b"\0" if version == 5 else b"") + text(will[0]) + text(will[1])
    body += bytes([flags]) + struct.pack("!H", keepalive)
    if version == 5:
        body += vbi(len(properties)) + properties
    if username is not None:
        payload += text(username)
    if password is not None:
        payload += text(password)
    return packet(0x10, body + payload)


def publish_packet(topic, payload, qos=0, packet_id=0, version=5, dup=False, retain=False, properties=b""):
    body = text(topic) + (struct.pack("!H", packet_id) if qos else b"")
    if version == 5:
        body += vbi(len(properties)) + properties
    return packet(0x30 | qos << 1 | (8 if dup else 0) | (1 if retain else 0), body + payload)


def content_type(value):
    return b"\x03" + text(value)


class Client:
    def __init__(self, host, port, client_id="", username=None, password=None, version=5, ca=None, cert=None, key=None, keepalive=60,
                 server_name="localhost", properties=b"", timeout=20, auto_ack=True, clean=True, will=None):
        self.host, self.port, self.client_id, self.username, self.password = host, port, client_id, username, password
        self.version, self.ca, self.cert, self.key, self.keepalive = version, ca, cert, key, keepalive
        self.server_name, self.properties, self.timeout, self.auto_ack = server_name, properties, timeout, auto_ack
        self.clean, self.will = clean, will  # will: (topic, payload, qos)
        self.messages = queue.Queue()
        self.acks = {}          # packet id -> (reason, reason string), for those waited for
        self.on_ack = None      # called with (packet_id, reason) on the reader thread
        self.pending = 0
        self.closed = None      # Closed, once the connection has ended
        self.connack = None
        self.cond = threading.Condition()
        self.next_id = 0
        self.sock = self.reader = None

    def open(self):
        """TCP and TLS only."""
        raw = socket.create_connection((self.host, self.port), self.timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.ca:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
            raw = context.wrap_socket(raw, server_hostname=self.server_name)
        self.sock = raw
        self.send_lock, self.tls_lock = threading.Lock(), threading.Lock()
        return self

    def connect(self):
        self.open()
        self.closed, self.connack, self.acks, self.pending = None, None, {}, 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.send(connect_packet(self.client_id, self.username, self.password, self.version, self.keepalive, self.clean, self.properties,
                                 self.will))
        with self.cond:
            if not self.cond.wait_for(lambda: self.connack or self.closed, self.timeout):
                raise TimeoutError("no CONNACK")
            if self.connack is None:
                raise self.closed
            if self.connack[1] != 0:
                raise Refused(self.connack[1])
        return self

    def send(self, data):
        with self.send_lock:
            if not self.ca:
                self.sock.sendall(data)
                return
            view = memoryview(data)
            while view:  # a TLS session is not for two threads at one time: none of them waits inside it
                try:
                    with self.tls_lock:
                        view = view[self.sock.send(view):]
                except ssl.SSLWantWriteError:
                    select.select([], [self.sock], [], 1)
                except ssl.SSLWantReadError:
                    select.select([self.sock], [], [], 1)

    def _recv(self, n):
        while self.ca:
            try:
                with self.tls_lock:
                    return self.sock.recv(n)
            except ssl.SSLWantReadError:
                select.select([self.sock], [], [], 1)
            except ssl.SSLWantWriteError:
                select.select([], [self.sock], [], 1)
        return self.sock.recv(n)

    def _id(self):
        self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def publish(self, topic, payload, qos=0, wait=True, dup=False, properties=b"", packet_id=None, retain=False):
        """With QoS 1 and wait: the PUBACK's reason code. Without wait: the packet id."""
        if isinstance(payload, str):
            payload = payload.encode()
        with self.cond:
            if self.closed:
                raise self.closed
            pid = (packet_id or self._id()) if qos else 0
            if qos:
                self.pending += 1
                self.acks.pop(pid, None)
        try:
            self.send(publish_packet(topic, payload, qos, pid, self.version, dup, retain, properties))
        except OSError:
            raise self.closed or Closed() from None
        if not qos or not wait:
            return pid
        return self.wait_ack(pid)[0]

    def wait_ack(self, pid):
        with self.cond:
            if not self.cond.wait_for(lambda: pid in self.acks or self.closed, self.timeout):
                raise TimeoutError(f"no PUBACK for {pid}")
            if pid not in self.acks:
                raise self.closed
            return self.acks[pid]

    def wait_window(self, most=0):
        """Until at most `most` publishes are unacknowledged."""
        with self.cond:
            if not self.cond.wait_for(lambda: self.pending <= most or self.closed, self.timeout):
                raise TimeoutError(f"{self.pending} publishes are not acknowledged")
            if self.closed and self.pending > most:
                raise self.closed

    def subscribe(self, *filters, qos=1):
        """The SUBACK's codes."""
        pid = self._id()
        body = struct.pack("!H", pid) + (b"\0" if self.version == 5 else b"") + b"".join(text(f) + bytes([qos]) for f in filters)
        self.send(packet(0x82, body))
        return self.wait_ack(pid)[0]

    def unsubscribe(self, *filters):
        pid = self._id()
        self.send(packet(0xA2, struct.pack("!H", pid) + (b"\0" if self.version == 5 else b"") + b"".join(text(f) for f in filters)))
        return self.wait_ack(pid)[0]

    def recv(self, timeout=5):
        """(topic, payload) of the next message."""
        try:
            return self.messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("no message") from None

    def wait_closed(self, timeout=10):
        with self.cond:
            if not self.cond.wait_for(lambda: self.closed, timeout):
                raise TimeoutError("still connected")
            return self.closed

    def disconnect(self):
        try:
            self.send(packet(0xE0, b""))
            if not self.ca:
                self.sock.shutdown(socket.SHUT_WR)
            self.wait_closed(5)
        except (OSError, TimeoutError):
            pass
        self.abort()

    def abort(self):
        """Without DISCONNECT, as a device that dies."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)  # close alone does nothing while the reader thread waits in recv
        except OSError:
            pass
        # Closed while the thread is in it, the next connection would get the number of its descriptor, and the thread its bytes.
        if self.reader is not None and self.reader is not threading.current_thread():
            self.reader.join(self.timeout)
        try:
            self.sock.close()
        except OSError:
            pass

    # --- reader thread ---

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self._recv(n - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def _read(self):
        sock, reason = self.sock, None
        self.sock.settimeout(0 if self.ca else None)
        try:
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
                if first >> 4 == 14:
                    reason = body[0] if body else 0
                self._packet(first, body)
        except (OSError, ConnectionError, ValueError, IndexError):
            pass
        with self.cond:
            if sock is self.sock:
                self.closed = Closed(reason)
                self.cond.notify_all()

    def _props_end(self, body, at):
        n, shift = 0, 0
        while True:
            b = body[at]
            at += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return at + n, body[at:at + n]

    def _packet(self, first, body):
        kind = first >> 4
        with self.cond:
            if kind == 2:
                self.connack = (body[0] & 1, body[1], body[2:])
            elif kind in (4, 9, 11):
                pid = struct.unpack("!H", body[:2])[0]
                if kind == 4:
                    reason = body[2] if len(body) > 2 else 0
                    self.acks[pid] = (reason, self._reason_string(body[3:]) if len(body) > 3 else "")
                    self.pending -= 1
                    if self.on_ack:
                        self.on_ack(pid, reason)
                else:
                    at = self._props_end(body, 2)[0] if self.version == 5 else 2
                    self.acks[pid] = (list(body[at:]), "")
            elif kind == 3:
                self._message(first, body)
            self.cond.notify_all()

    def _reason_string(self, props):
        _, raw = self._props_end(props, 0)
        return raw[3:].decode(errors="replace") if raw[:1] == b"\x1f" else ""

    def _message(self, first, body):
        n = struct.unpack("!H", body[:2])[0]
        topic, at, qos = body[2:2 + n].decode(), 2 + n, first >> 1 & 3
        pid = None
        if qos:
            pid = body[at:at + 2]
            at += 2
        if self.version == 5:
            at, _ = self._props_end(body, at)
        self.messages.put((topic, body[at:]))
        if qos == 1 and self.auto_ack:
            self.send(packet(0x40, pid))


def wait_until(fn, seconds=10):
    end = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
