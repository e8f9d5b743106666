"""The account of what was sent, acknowledged and found again, kept outside the server under test.

    book = Ledger(path)             # what ledger_client has written so far
    verdict = book.at_subscribers() # what the subscribers of that client got
    verdict = book.in_history(read) # read(client) -> {sequence number: check value} from any other reader

A verdict counts: sent, acked, unknown (sent, never acknowledged: may be there or not), lost (acknowledged, not found), dup (found
more than once), dup2 (more than once although sent and delivered at QoS 2), unmarked (sent
at QoS 2, and a copy of it came without the DUP flag), phantom (found, never sent), damaged (found with other
content than was sent), inversions (a message found before one that was sent earlier), gone (sessions that were not there again).
`problem()` is None or a sentence. The meaning of the lines is told in tests/harness/ledger_client.c.
"""
import collections
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import time

import muster


def check_value(client, seq):
    """What the message `seq` of `client` carries beside its number."""
    return int.from_bytes(hashlib.sha256(f"{client} {seq}".encode()).digest()[:6], "big")


@dataclasses.dataclass
class Verdict:
    reader: str = ""
    sent: int = 0
    acked: int = 0
    unknown: int = 0
    refused: int = 0
    lost: int = 0
    dup: int = 0
    dup2: int = 0
    unmarked: int = 0
    phantom: int = 0
    damaged: int = 0
    inversions: int = 0
    gone: int = 0
    examples: list = dataclasses.field(default_factory=list)

    def note(self, what, client, seq):
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 10:
            self.examples.append(f"{what}: {client} {seq}")

    def problem(self):
        bad = {k: getattr(self, k) for k in ("lost", "dup2", "unmarked", "phantom", "damaged", "inversions", "gone") if getattr(self, k)}
        return f"{self.reader}: {bad}, e.g. {self.examples}" if bad else None

    def __str__(self):
        return (f"{self.reader}: {self.sent} sent, {self.acked} acknowledged, {self.unknown} unknown, {self.lost} lost, {self.dup} dup "
                f"({self.dup2} at QoS 2, {self.unmarked} unmarked), {self.phantom} phantom, {self.damaged} damaged, {self.inversions} inversions, {self.gone} sessions gone")


class Ledger:
    """Reads an account; `poll()` reads on from where it stopped. Half a line at the end waits for its other half."""

    def __init__(self, path):
        self.path, self.offset = path, 0
        self.acked = collections.defaultdict(dict)                      # client -> {seq: qos}
        self.refused = collections.defaultdict(set)                     # client -> {seq}
        self.next = {}                                                  # client -> first sequence number that was not sent
        self.received = collections.defaultdict(lambda: collections.defaultdict(list))  # subscriber -> client -> [(seq, qos, dup)]
        self.damaged = collections.Counter()                            # subscriber -> messages that are nobody's
        self.subscribed, self.gone = set(), collections.Counter()
        self.poll()

    def poll(self):
        with open(self.path, "rb") as f:
            f.seek(self.offset)
            data = f.read()
        data = data[:data.rfind(b"\n") + 1]
        self.offset += len(data)
        for line in data.decode().splitlines():
            kind, *rest = line.split()
            getattr(self, "_" + kind)(*rest)
        return self

    def _a(self, client, seq, qos):
        self.acked[client][int(seq)] = int(qos)

    def _n(self, client, seq, _reason):
        self.refused[client].add(int(seq))

    def _r(self, subscriber, client, seq, qos, dup):
        self.received[subscriber][client].append((int(seq), int(qos), int(dup)))

    def _x(self, subscriber, _client):
        self.damaged[subscriber] += 1

    def _u(self, subscriber):
        self.subscribed.add(subscriber)

    def _g(self, client):
        self.gone[client] += 1

    def _m(self, client, seq):
        self.next[client] = int(seq)

    def acked_total(self):
        return sum(len(v) for v in self.acked.values())

    def _counts(self, reader):
        v = Verdict(reader, acked=self.acked_total(), refused=sum(len(s) for s in self.refused.values()))
        v.sent = sum(self.next.values()) if self.next else v.acked + v.refused
        v.unknown = max(0, v.sent - v.acked - v.refused)
        return v

    def _sent(self, client, seq):
        return seq >= 0 and (client not in self.next or seq < self.next[client])

    def in_history(self, read, clients=None):
        """Against a reader that knows no order and no copies: read(client) -> {seq: check}."""
        v = self._counts("history")
        for client in clients or list(self.acked):
            found = read(client)
            for seq in self.acked[client].keys() - found.keys():
                v.note("lost", client, seq)
            for seq, check in found.items():
                if not self._sent(client, seq):
                    v.note("phantom", client, seq)
                elif check != check_value(client, seq):
                    v.note("damaged", client, seq)
        return v

    def at_subscribers(self):
        """What each subscriber got, against what was acknowledged; `lost` counts a message once for each that lacks it."""
        v = self._counts(f"{len(self.subscribed)} subscribers")
        v.damaged, v.gone = sum(self.damaged.values()), sum(self.gone.values())
        for subscriber in self.subscribed:
            for client in set(self.acked) | set(self.received[subscriber]):
                self._one_stream(v, client, self.received[subscriber][client])
        return v

    def _one_stream(self, v, client, messages):
        seen, newest = set(), -1
        for seq, qos, dup in messages:
            if not self._sent(client, seq):
                v.note("phantom", client, seq)
            if seq in seen:
                v.dup += 1
                if qos == 2:
                    v.note("dup2", client, seq)
                elif not dup and self.acked[client].get(seq) == 2:
                    v.note("unmarked", client, seq)
            elif seq < newest:
                v.note("inversions", client, seq)
            seen.add(seq)
            newest = max(newest, seq)
        for seq in self.acked[client].keys() - seen:
            v.note("lost", client, seq)


def history_of(server, since_ms=0):
    """Reader over the REST history of telemetry that ledger_client sent, from a time (epoch, ms) on."""
    def read(client):
        seqs = dict((t, int(v)) for t, v in server.points(client, "seq", **{"from": since_ms}))
        checks = dict((t, int(v)) for t, v in server.points(client, "check", **{"from": since_ms}))
        return {seq: checks.get(t, -1) for t, seq in seqs.items()}
    return read


class Load:
    """ledger_client in a process of its own; its account is in `path`."""

    def __init__(self, path, port, host="127.0.0.1", publishers=0, subscribers=0, **options):
        self.path = path
        command = [os.path.join(muster.BIN, "ledger_client"), "--ledger", path, "--host", host, "--port", str(port), "--publishers", str(publishers),
                   "--subscribers", str(subscribers)]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        muster.wait_for("the account", lambda: os.path.exists(path) or self.process.poll() is not None)
        self.account = Ledger(path)

    def acked(self):
        return self.account.poll().acked_total()

    def wait_more(self, count, seconds=30):
        """Until `count` more messages are acknowledged."""
        target = self.acked() + count
        muster.wait_for(f"{count} more acknowledgements", lambda: self.acked() >= target or self.process.poll() is not None, seconds)

    def quiet(self):
        """No further messages; subscribers stay and listen."""
        self.process.send_signal(signal.SIGUSR1)

    def settle(self, seconds=30, still_s=1.0):
        """Until nothing new has been written for a while."""
        end, size, since = time.monotonic() + seconds, -1, time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < still_s:
            now = os.path.getsize(self.path)
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.05)

    def stop(self):
        """Ends it; its figures, and the whole account."""
        if self.process.poll() is None:
            self.process.terminate()
        out, _ = self.process.communicate(timeout=20)
        self.account.poll()
        return json.loads(out) if out.strip() else {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
