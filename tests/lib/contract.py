"""What the broker owes its clients after it has acknowledged, kept outside the server: one small piece of account for each promise.

    c = Contract(port)                       # port: a number, or a function that gives that of today
    with c.running(): ...                    # each piece at work in a thread; the server may die and come back meanwhile
    c.work(steps)                            # or: a few steps of each piece, one after the other
    problems = c.verify()                    # [] when every promise is kept; the server must be running

Pieces: Messages (QoS 1 and 2 to sessions that come and go), Subscriptions (an acknowledged SUBSCRIBE or UNSUBSCRIBE of a persistent session
stays so), Retained (the newest acknowledged value, and an acknowledged deletion), Wills (of whoever was let in and went without a word).
"""
import contextlib
import random
import threading
import time
import weakref

import mqtt
from session import Gone, Session

BROKEN = (Gone, mqtt.Refused, OSError)


class Piece:
    def __init__(self, session, seed):
        """session(name, **kw): a Session of that client id."""
        self.session, self.rng, self.steps, self.acked = session, random.Random(seed), 0, 0

    def begin(self):
        """What must be there before the first step; called again until it went through."""

    def step(self):
        raise NotImplementedError

    def verify(self):
        """A list of broken promises."""
        raise NotImplementedError

    def reopen(self, s, **kw):
        """Connects unless it is; true when it is connected now."""
        if s.sock is None:
            s.open(**kw)


class Messages(Piece):
    """A publisher for each QoS; one listener that stays, one that is away for most of the time."""

    def begin(self):
        self.publishers = {q: self.session(f"k-pub{q}", version=4 + q % 2) for q in (1, 2)}
        self.listeners = [self.session("k-stays", version=5), self.session("k-away", version=4)]
        self.sent, self.done, self.got = {1: 0, 2: 0}, {1: set(), 2: set()}, [{1: [], 2: []}, {1: [], 2: []}]
        for s in self.listeners:
            s.open(clean=False)
            if s.subscribe("k/msg/#", 2) >= 0x80:
                raise AssertionError("the subscription was refused")
        self.listeners[1].drop()

    def collect(self, i, messages):
        for m in messages:
            self.got[i][int(m.topic.rsplit("/", 1)[1])].append(int(m.payload))

    def listen(self, i):
        self.reopen(self.listeners[i])
        self.collect(i, self.listeners[i].take(0.01))

    def step(self):
        qos = 1 + self.steps % 2
        p = self.publishers[qos]
        self.reopen(p)
        seq, self.sent[qos] = self.sent[qos], self.sent[qos] + 1
        if p.publish(f"k/msg/{qos}", str(seq).encode(), qos) < 0x80:
            self.done[qos].add(seq)
            self.acked += 1
        if self.rng.random() < 0.2:
            self.listen(0)
        if self.rng.random() < 0.02:
            self.listen(1)
            self.listeners[1].drop()

    def verify(self):
        bad = []
        for i, s in enumerate(self.listeners):
            s.drop()
            if not s.open():
                bad.append(f"the session {s.client_id} is gone")
            self.collect(i, s.take_until(lambda out, i=i: self.missing(i, out) == 0))
            for qos in (1, 2):
                bad += self.judge(s.client_id, qos, self.got[i][qos])
        return bad

    def missing(self, i, messages):
        """How many acknowledged messages a listener lacks, with these."""
        have = {(m.topic.rsplit("/", 1)[1], int(m.payload)) for m in messages}
        return sum(1 for qos in (1, 2) for seq in self.done[qos] - set(self.got[i][qos]) if (str(qos), seq) not in have)

    def judge(self, who, qos, got):
        bad, firsts = [], list(dict.fromkeys(got))
        lost = self.done[qos] - set(got)
        if lost:
            bad.append(f"{who}: {len(lost)} messages at QoS {qos} lost, e.g. {sorted(lost)[:5]}")
        if firsts != sorted(firsts):
            bad.append(f"{who}: messages at QoS {qos} out of order")
        if qos == 2 and len(firsts) != len(got):
            bad.append(f"{who}: {len(got) - len(firsts)} messages at QoS 2 came twice")
        if any(seq >= self.sent[qos] for seq in got):
            bad.append(f"{who}: messages that nobody sent")
        return bad


class Subscriptions(Piece):
    """One session that subscribes to ever new filters and leaves old ones, 300 at a time at most."""
    MOST, REMEMBERED = 300, 500

    def begin(self):
        self.subscriber = self.session("k-subs", version=5)
        self.state = {}  # filter -> "on", "off" (acknowledged) or "?" (asked for, not answered)
        self.reopen(self.subscriber)

    def step(self):
        self.reopen(self.subscriber)
        on = [f for f, state in self.state.items() if state == "on"]
        leave = len(on) >= self.MOST or (len(on) > 3 and self.rng.random() < 0.3)
        name = self.rng.choice(on) if leave else f"k/sub/{self.steps}"
        self.state[name] = "?"
        code = self.subscriber.unsubscribe(name) if leave else self.subscriber.subscribe(name, 1)
        if code >= 0x80:
            del self.state[name]
            return
        self.state[name] = "off" if leave else "on"
        self.acked += 1
        off = [f for f, state in self.state.items() if state == "off"]
        for f in off[:-self.REMEMBERED]:
            del self.state[f]

    def verify(self):
        self.subscriber.drop()
        present = self.subscriber.open()
        if not present and "on" in self.state.values():
            return ["the session with acknowledged subscriptions is gone"]
        self.subscriber.take(0.05)
        p = self.session("k-subs-pub", version=5)
        p.open(clean=True)
        for name in self.state:
            p.publish(name, b"?", 1)
        p.close()
        on = {f for f, state in self.state.items() if state == "on"}
        got = {m.topic for m in self.subscriber.take_until(lambda out: on <= {m.topic for m in out})}
        missing = on - got
        extra = {f for f, state in self.state.items() if state == "off"} & got
        return ([f"{len(missing)} acknowledged subscriptions lost, e.g. {sorted(missing)[:5]}"] if missing else []) + \
               ([f"{len(extra)} subscriptions back after an acknowledged UNSUBSCRIBE, e.g. {sorted(extra)[:5]}"] if extra else [])


class Retained(Piece):
    """Ten topics that are written again and again, and deleted now and then."""

    def begin(self):
        self.publisher = self.session("k-ret", version=5)
        self.allowed = {}  # topic -> values it may have now; None: nothing

    def step(self):
        self.reopen(self.publisher)
        topic = f"k/ret/{self.rng.randrange(10)}"
        value = None if self.rng.random() < 0.15 else str(self.steps).encode()
        self.allowed.setdefault(topic, {None}).add(value)
        if self.publisher.publish(topic, value or b"", 1 + self.steps % 2, retain=True) < 0x80:
            self.allowed[topic] = {value}
            self.acked += 1

    def verify(self):
        reader = self.session("k-ret-reader", version=5, expiry_s=0)
        reader.open(clean=True)
        reader.subscribe("k/ret/#", 1)
        there = {t for t, values in self.allowed.items() if None not in values}
        have = {m.topic: m.payload for m in reader.take_until(lambda out: there <= {m.topic for m in out})}
        reader.close()
        return [f"retained {t}: {have.get(t)} instead of {sorted(map(str, v))}" for t, v in self.allowed.items() if have.get(t) not in v]


class Wills(Piece):
    """Clients with a will that die, or say goodbye."""

    def begin(self):
        self.watcher = self.session("k-watch", version=5)
        self.open, self.due, self.never, self.got = [], set(), set(), []
        self.watcher.open(clean=False)
        if self.watcher.subscribe("k/will/#", 1) >= 0x80:
            raise AssertionError("the subscription was refused")

    def step(self):
        name = f"k/will/{self.steps}"
        s = self.session(f"k-mortal{self.steps % 8}", version=4 + self.steps % 2, expiry_s=0)
        s.open(clean=True, will=(name, b"dead", 1, False, 0))
        self.acked += 1
        if self.rng.random() < 0.3:
            s.close()  # without an answer, so that nobody knows whether it arrived before a crash
            self.never.add(name)
        else:
            self.due.add(name)
            s.drop()
        if self.rng.random() < 0.2:
            self.reopen(self.watcher)
            self.got += [m.topic for m in self.watcher.take(0.01)]

    def verify(self):
        self.watcher.drop()
        bad = [] if self.watcher.open() else ["the session of the wills' watcher is gone"]
        self.got += [m.topic for m in self.watcher.take_until(lambda out: self.due <= set(self.got) | {m.topic for m in out})]
        missing = self.due - set(self.got)
        strange = set(self.got) - self.due - self.never - {f"k/will/{n}" for n in range(self.steps + 1)}
        if missing:
            bad.append(f"{len(missing)} of {len(self.due)} wills were not published, e.g. {sorted(missing)[:5]}")
        if strange:
            bad.append(f"wills of nobody: {sorted(strange)[:5]}")
        return bad


PIECES = (Messages, Subscriptions, Retained, Wills)


class Contract:
    def __init__(self, port, username=None, password=None, seed=1, pieces=PIECES, host="127.0.0.1", timeout=5):
        def session(name, **kw):
            s = Session(port, name, username=username, password=password, host=host, timeout=timeout, **kw)
            self.sessions.add(s)
            return s
        self.sessions = weakref.WeakSet()
        self.pieces = [p(session, seed * 100 + i) for i, p in enumerate(pieces)]
        self.begun, self.stop = set(), threading.Event()

    def _step(self, piece):
        """One step; false when the connection broke in it."""
        try:
            if piece not in self.begun:
                piece.begin()
                self.begun.add(piece)
            piece.steps += 1
            piece.step()
            return True
        except BROKEN:
            return False

    def work(self, steps, pieces=None):
        """`steps` of each piece by turns, until a connection breaks; false then."""
        return all(self._step(p) for _ in range(steps) for p in pieces or self.pieces)

    def _run(self, piece, pause_s):
        while not self.stop.is_set():
            if self._step(piece):
                time.sleep(pause_s)
            else:
                time.sleep(0.05)

    @contextlib.contextmanager
    def running(self, pause_s=0.005):
        self.stop.clear()
        threads = [threading.Thread(target=self._run, args=(p, pause_s)) for p in self.pieces]
        for t in threads:
            t.start()
        try:
            yield self
        finally:
            self.stop.set()
            for t in threads:
                t.join()

    def drop(self):
        """Ends every connection, without a word."""
        for s in self.sessions:
            s.drop()

    def verify(self):
        """The broken promises. A piece that never came to begin has none."""
        return [f"{type(p).__name__}: {text}" for p in self.pieces if p in self.begun for text in p.verify()]

    def __str__(self):
        return ", ".join(f"{type(p).__name__} {p.acked}" for p in self.pieces)
