"""The client's side of an MQTT session that outlives its connections: QoS 0 to 2 both ways, retained messages, wills. One thread, blocking.

    s = Session(port, "client-1", username="d1", password="...")
    present = s.open(clean=False)               # CONNACK's session present; raises Refused(reason) or Gone
    s.subscribe("a/#", 2)                       # SUBACK's code
    s.publish("a/b", b"x", qos=2)               # until PUBACK or PUBCOMP: its reason code
    for m in s.take(seconds=1): m.topic, m.payload, m.qos, m.retain, m.dup
    s.close(); s.drop()                         # with DISCONNECT; without
"""
import collections
import select
import socket
import struct
import time

import mqtt

Message = collections.namedtuple("Message", "topic payload qos retain dup")
NEVER = 0xFFFFFFFF


class Gone(Exception):
    """The connection has ended; `reason` is that of the server's DISCONNECT, or None."""

    def __init__(self, reason=None):
        super().__init__(f"the connection has ended (reason {reason})")
        self.reason = reason


class Session:
    def __init__(self, port, client_id, version=5, host="127.0.0.1", username=None, password=None, expiry_s=NEVER, keepalive=60, timeout=5):
        self.port, self.client_id, self.version, self.host = port, client_id, version, host
        self.username, self.password, self.expiry_s, self.keepalive, self.timeout = username, password, expiry_s, keepalive, timeout
        self.sock, self.inbox, self.inbound, self.next_id = None, collections.deque(), set(), 0
        self.acks, self.ended, self.connack, self.data = {}, None, None, b""

    # --- connection ---

    def connect_packet(self, clean, will):
        """will: (topic, payload, qos, retain, delay_s) or None."""
        flags = 2 if clean else 0
        payload = mqtt.text(self.client_id)
        if will:
            topic, body, qos, retain, delay_s = will
            flags |= 4 | qos << 3 | (0x20 if retain else 0)
            if self.version == 5:
                payload += b"\x05\x18" + struct.pack("!I", delay_s) if delay_s else b"\0"
            payload += mqtt.text(topic) + mqtt.text(body)
        for value, bit in ((self.username, 0x80), (self.password, 0x40)):
            if value is not None:
                flags |= bit
                payload += mqtt.text(value)
        head = mqtt.text("MQTT") + bytes([self.version, flags]) + struct.pack("!H", self.keepalive)
        if self.version == 5:
            head += b"\x05\x11" + struct.pack("!I", self.expiry_s) if self.expiry_s else b"\0"
        return mqtt.packet(0x10, head + payload)

    def connect_socket(self):
        return socket.create_connection((self.host, self.port() if callable(self.port) else self.port), self.timeout)

    def open(self, clean=False, will=None):
        self.drop()
        self.acks, self.ended, self.connack, self.data = {}, None, None, b""
        try:
            self.sock = self.connect_socket()
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            raise Gone from None
        self._send(self.connect_packet(clean, will))
        self._until(lambda: self.connack)
        present, reason = self.connack
        if reason:
            raise mqtt.Refused(reason)
        if not present:
            self.inbound.clear()
        return present

    def drop(self):
        """Without a word, as a device that dies."""
        if self.sock:
            self.sock.close()
            self.sock = None

    def close(self, expiry_s=None):
        """DISCONNECT; with `expiry_s` the session's life is changed (MQTT 5)."""
        body = b"" if expiry_s is None else b"\0\x05\x11" + struct.pack("!I", expiry_s)
        try:
            self._send(mqtt.packet(0xE0, body))
            self.sock.shutdown(socket.SHUT_WR)
            end = time.monotonic() + self.timeout
            while time.monotonic() < end:
                self._pump(0.1)
        except (Gone, OSError):
            pass
        self.drop()

    def _send(self, data):
        try:
            self.sock.sendall(data)
        except (OSError, AttributeError):
            raise self.ended or Gone() from None

    def _until(self, done):
        end = time.monotonic() + self.timeout
        while not done():
            if time.monotonic() > end:
                self.drop()
                raise Gone
            self._pump(0.1)

    def _pump(self, seconds):
        """Takes what comes within `seconds`; raises Gone when the connection has ended."""
        if self.sock is None:
            raise self.ended or Gone()
        if not select.select([self.sock], [], [], seconds)[0]:
            return
        try:
            part = self.sock.recv(65536)
        except OSError:
            part = b""
        if not part:
            self.drop()
            self.ended = self.ended or Gone()
            raise self.ended
        self.data += part
        while self._one_packet():
            pass

    def _one_packet(self):
        length, at = 0, 1
        while True:
            if at >= len(self.data):
                return False
            length |= (self.data[at] & 127) << 7 * (at - 1)
            at += 1
            if self.data[at - 1] < 128:
                break
        if len(self.data) < at + length:
            return False
        first, body = self.data[0], self.data[at:at + length]
        self.data = self.data[at + length:]
        self._packet(first, body)
        return True

    def _packet(self, first, body):
        kind = first >> 4
        if kind == 2:
            self.connack = (body[0] & 1, body[1])
        elif kind == 3:
            self._message(first, body)
        elif kind == 14:
            self.ended = Gone(body[0] if body else 0)
        elif kind == 6:
            self.inbound.discard(body[:2])
            self._send(b"\x70\x02" + body[:2])
        elif kind in (4, 5, 7, 9, 11):
            pid = struct.unpack("!H", body[:2])[0]
            if kind in (9, 11):
                self.acks[pid] = (kind, body[-1] if kind == 9 or self.version == 5 else 0)
            else:
                self.acks[pid] = (kind, body[2] if len(body) > 2 else 0)

    def _message(self, first, body):
        n = struct.unpack("!H", body[:2])[0]
        topic, at, qos = body[2:2 + n].decode(), 2 + n, first >> 1 & 3
        pid = body[at:at + 2] if qos else b""
        at += len(pid)
        if self.version == 5:
            at = mqtt.Client._props_end(None, body, at)[0]
        if qos < 2 or pid not in self.inbound:
            self.inbox.append(Message(topic, body[at:], qos, first & 1, first >> 3 & 1))
        if qos == 2:
            self.inbound.add(pid)
        if qos:
            self._send((b"\x40\x02" if qos == 1 else b"\x50\x02") + pid)

    # --- what a client does ---

    def _id(self):
        self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def _ask(self, pid, packet, kind):
        """Sends, and waits for the acknowledgement of this kind; its code."""
        self.acks.pop(pid, None)
        self._send(packet)
        self._until(lambda: pid in self.acks and (self.acks[pid][0] == kind or self.acks[pid][1] >= 0x80))
        return self.acks.pop(pid)[1]

    def publish(self, topic, payload, qos=1, retain=False):
        pid = self._id() if qos else 0
        data = mqtt.publish_packet(topic, payload, qos, pid, self.version, retain=retain)
        if not qos:
            self._send(data)
            return 0
        code = self._ask(pid, data, 4 if qos == 1 else 5)
        if qos == 1 or code >= 0x80:
            return code
        return self._ask(pid, b"\x62\x02" + struct.pack("!H", pid), 7)

    def subscribe(self, topic_filter, qos=1, options=0):
        """options: the further bits of MQTT 5 (no local 4, retain as published 8, retain handling 16 and 32)."""
        pid = self._id()
        body = struct.pack("!H", pid) + (b"\0" if self.version == 5 else b"") + mqtt.text(topic_filter) + bytes([qos | options])
        return self._ask(pid, mqtt.packet(0x82, body), 9)

    def unsubscribe(self, topic_filter):
        pid = self._id()
        body = struct.pack("!H", pid) + (b"\0" if self.version == 5 else b"") + mqtt.text(topic_filter)
        return self._ask(pid, mqtt.packet(0xA2, body), 11)

    def take(self, seconds=0.5, count=None):
        """The messages that come until nothing has come for `seconds`, or until there are `count`. When the connection ends meanwhile they
        wait for the next call."""
        out, end = [], time.monotonic() + seconds
        try:
            while count is None or len(out) < count:
                if self.inbox:
                    out.append(self.inbox.popleft())
                    end = time.monotonic() + seconds
                elif time.monotonic() > end:
                    break
                else:
                    self._pump(min(0.05, seconds))
        except Gone:
            self.inbox.extendleft(reversed(out))
            raise
        return out

    def take_until(self, enough, seconds=3):
        """The messages that come until enough(messages) or for so long, and whatever follows at once."""
        out, end = [], time.monotonic() + seconds
        try:
            while not enough(out) and time.monotonic() < end:
                out += self.take(0.02)
            return out + self.take(0.05)
        except Gone:
            self.inbox.extendleft(reversed(out))
            raise

    def ping(self):
        """Whether the connection still works; what came meanwhile waits for take()."""
        try:
            self._send(b"\xc0\0")
            self._pump(1)
            return True
        except Gone:
            return False
