"""Looks at a server from outside while something else is done to it.

    with Probe(server, "id", "token") as p: ...; percentile(p.take(), .99)    another device's latency, ms
    with Delivery(server, "from", "to", token_of, "a/b") as d: ...; d.take()  from its publishing to another's getting it, ms
    with Peak(server) as m: ...; m.kb                                         the most memory it had
"""
import itertools
import os
import threading
import time

import mqtt
import muster


class Probe:
    """Another device: one message at a time, and how long each acknowledgement took. It comes back when it is cut off."""

    def __init__(self, server, name, token, every_s=0.02, topic="$muster/telemetry", door="mqtt"):
        self.server, self.name, self.token, self.every_s, self.topic, self.door = server, name, token, every_s, topic, door
        self.stop, self.latencies_ms, self.away, self.acked = threading.Event(), [], 0, 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        client = None
        while not self.stop.is_set():
            try:
                if client is None:
                    client = mqtt.Client(self.server.host, self.server.ports[self.door], self.name, self.name, self.token, timeout=30,
                                         ca=self.server.ca if self.door.endswith("s") else None)
                    client.connect()
                begin = time.monotonic()
                if client.publish(self.topic, b'{"v":1}', qos=1) == 0:
                    self.acked += 1
                self.latencies_ms.append((time.monotonic() - begin) * 1000)
                time.sleep(self.every_s)
            except (mqtt.Closed, mqtt.Refused, OSError, TimeoutError):
                self.away += 1
                client = None
                time.sleep(0.05)
        if client is not None:
            client.disconnect()

    def take(self):
        """The latencies since the last call, sorted."""
        out, self.latencies_ms = sorted(self.latencies_ms), []
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


class Delivery:
    """A device that publishes to another one, both over TLS and connected all the time: how long each message was on its way."""

    def __init__(self, server, publisher, subscriber, token, topic, every_s=0.01):
        self.stop, self.latencies_ms, self.mistake, self.every_s, self.topic = threading.Event(), [], None, every_s, topic
        self.ends = [mqtt.Client(server.host, server.ports["mqtts"], name, name, token(name), ca=server.ca, timeout=30).connect() for name in (publisher, subscriber)]
        if self.ends[1].subscribe(topic) != [1]:
            raise AssertionError("the subscription was refused")
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        publisher, subscriber = self.ends
        try:
            for n in itertools.count():
                if self.stop.is_set():
                    return
                begin = time.monotonic()
                publisher.publish(self.topic, str(n), qos=1, wait=False)
                topic, payload = subscriber.recv(30)
                self.latencies_ms.append((time.monotonic() - begin) * 1000)
                if (topic, payload) != (self.topic, str(n).encode()):
                    raise AssertionError(f"{payload} came instead of {n}")
                time.sleep(self.every_s)
        except (mqtt.Closed, OSError, TimeoutError, AssertionError) as e:
            self.mistake = f"{type(e).__name__}: {e}"

    def take(self):
        """The latencies since the last call, sorted."""
        out, self.latencies_ms = sorted(self.latencies_ms), []
        assert self.mistake is None, self.mistake
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        for c in self.ends:
            c.disconnect()


class Peak:
    """The largest resident memory while it runs."""

    def __init__(self, server, every_s=0.1):
        self.server, self.every_s, self.stop, self.kb = server, every_s, threading.Event(), 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stop.wait(self.every_s):
            try:
                self.kb = max(self.kb, self.server.rss_kb())
            except (OSError, StopIteration):
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def percentile(values, q):
    """Of sorted values; NaN of none."""
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def sockets(server):
    """How many sockets it has open; files come and go with the store's segments."""
    count, folder = 0, f"/proc/{server.process.pid}/fd"
    for fd in os.listdir(folder):
        try:
            count += os.readlink(f"{folder}/{fd}").startswith("socket:")
        except OSError:
            pass
    return count


def metric(server, name):
    """The sum of a metric over its labels."""
    _, _, text = server.request("GET", "/metrics", raw=True)
    values = [float(line.rsplit(" ", 1)[1]) for line in text.decode().splitlines() if line.split("{")[0].split(" ")[0] == name]
    return sum(values) if values else None


def quiet_again(server, most, seconds=30):
    """Waits until no more sockets are open than `most`."""
    muster.wait_for(f"at most {most} sockets", lambda: sockets(server) <= most, seconds)
