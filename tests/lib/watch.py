"""Looks at a server from outside while something else is done to it.

    with Probe(server, "id", "token") as p: ...; percentile(p.take(), .99)    another device's latency, ms
    with Peak(server) as m: ...; m.kb                                         the most memory it had
"""
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
