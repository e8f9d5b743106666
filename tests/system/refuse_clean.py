"""What the server does when it cannot or will not: no descriptor is left, an allocation fails, a limit is reached.

* No descriptors: nobody new gets in, everybody else is served, the processor rests, and service returns by itself.
* The N-th allocation fails, for every N of a connect (plain and TLS), a publish and an API call: refused cleanly or served, and the
  next client is served. EVERY=1 tries each N of the TLS connect as well (default: each of the first 300, then every 7th).
* Limits: one below, at, and one above.
"""
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import time

import fault
import mqtt
import muster

TOKEN = "token-of-the-device-that-is-refused-%s"


def device(s, name):
    s.device(name, TOKEN % name)
    return name


def client(s, name, version=5, tls=False, timeout=5, **kw):
    return mqtt.Client("127.0.0.1", s.ports["mqtts" if tls else "mqtt"], name, name, TOKEN % name, version=version, ca=s.ca if tls else None,
                       timeout=timeout, **kw)


# --- descriptors -----------------------------------------------------------------------------------------------------

DESCRIPTORS = 120


def used_descriptors(s):
    return len(os.listdir(f"/proc/{s.process.pid}/fd"))


def no_descriptors():
    args = ("--telemetry.segment_size", "64KiB", "--telemetry.flush_after", "1s", "--mqtt.connect_timeout", "60s")
    with muster.Server(release=True, prefix=("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"), args=args) as s:
        device(s, "old")
        device(s, "new")
        at_rest = used_descriptors(s)
        old = client(s, "old").connect()
        web = http.client.HTTPConnection("127.0.0.1", s.ports["http"], timeout=10)
        auth = {"Authorization": "Bearer " + s.token}
        def ask(connection):
            connection.request("GET", "/api/v1/devices/old", headers=auth)  # keeps it alive, and shows who it is
            return connection.getresponse().read()
        assert ask(web)
        idle, refused = [], 0
        for _ in range(DESCRIPTORS):  # more than there are
            assert ask(web)
            idle.append(http.client.HTTPConnection("127.0.0.1", s.ports["http"], timeout=10))
            try:
                ask(idle[-1])
            except (OSError, http.client.HTTPException):
                refused += 1
        assert refused > 10, f"{refused} connections were refused"
        free = DESCRIPTORS - used_descriptors(s)
        assert 10 < free <= 31, f"{free} descriptors are left: some are kept for the stores, no more"
        assert "connections are refused" in s.log(), "the log does not say it"
        cpu, start = s.cpu_s(), time.monotonic()
        acked = 0
        while time.monotonic() < start + 3:
            pid = old.publish("$muster/telemetry", b'{"v":%d}' % acked, qos=1, wait=False)
            assert old.wait_ack(pid)[0] == 0, old.wait_ack(pid)
            acked += 1
            time.sleep(0.05)
            try:
                client(s, "new", timeout=1).connect()
                raise AssertionError("a connection was made without a descriptor")
            except (OSError, mqtt.Closed, TimeoutError):
                pass
        busy = (s.cpu_s() - cpu) / (time.monotonic() - start)
        assert busy < 0.1, f"{busy:.0%} of a processor while nothing can be accepted"
        web.request("GET", "/api/v1/devices/old/ledger", headers=auth)
        r = web.getresponse()
        ledger = json.loads(r.read())
        assert r.status == 200 and ledger["stored"] >= acked and muster.ledger_adds_up(ledger), (r.status, ledger)
        s.process.send_signal(signal.SIGHUP)  # cannot read its files: everything stays as it is
        time.sleep(0.3)
        stranger = None
        for c in idle:
            c.close()
            if stranger is None:  # who does not say who it is makes room for the next
                time.sleep(0.1)
                stranger = socket.create_connection(("127.0.0.1", s.ports["mqtt"]), 5)
        stranger.close()
        start = time.monotonic()
        def served():
            try:
                c = client(s, "new", timeout=1).connect()
                code = c.publish("$muster/telemetry", b'{"v":1}', qos=1)
                c.disconnect()
                return code == 0
            except (OSError, mqtt.Closed, TimeoutError):
                return False
        muster.wait_for("the next client is served", served, 5)
        seconds = time.monotonic() - start
        assert len(s.points("old", "v")) == acked
        c = client(s, "new", tls=True).connect()  # the certificates are still in force
        c.disconnect()
        old.disconnect()
        muster.wait_for("descriptors are back", lambda: used_descriptors(s) <= at_rest + 16, 5)
        print(f"no descriptors: {busy:.1%} of a processor, service back after {seconds * 1000:.0f} ms")


# --- allocations -----------------------------------------------------------------------------------------------------


def try_connect(s, tls, version):
    """One connect: "ok", or how it was refused. Anything that is not clean raises."""
    try:
        c = client(s, "n", version, tls).connect()
        c.disconnect()
        return "ok"
    except mqtt.Refused as e:
        assert e.reason in ((3,) if version == 4 else (0x89, 0x97)), f"refused with 0x{e.reason:02x}"
        return "refused"
    except mqtt.Closed as e:
        assert e.reason in (None, 0x89, 0x97), e
        return "closed"
    except (ssl.SSLError, ConnectionError):
        return "closed"


def try_publish(s, state):
    """One publish of each kind on a new connection, which was made before the fault was armed."""
    c, topic, payload = state
    try:
        code = c.publish(topic, payload, qos=1)
        assert code in (0, 0x97, 0x89), f"0x{code:02x}"
        return "ok" if code == 0 else "refused"
    except mqtt.Closed as e:
        assert e.reason in (None, 0x89, 0x97), e
        return "closed"
    except OSError:
        return "closed"


def try_call(s, method, path, body):
    try:
        status, _, reply = s.request(method, path, body, token=s.admin)
        assert status in (200, 201, 204, 503), (status, reply)
        assert status < 400 or reply["code"] in ("no_memory", "busy"), reply
        return "ok" if status < 300 else "refused"
    except (OSError, http.client.HTTPException):
        return "closed"


def alive(s, what, n):
    if s.process.poll() is not None:
        raise AssertionError(f"{what}: the server ended with {s.process.returncode} when allocation {n} failed\n{s.log()[-2000:]}")


def sweep(s, faults, what, attempt, prepare=None, stride=lambda n: 1, most=6000):
    """attempt() with the N-th allocation failing, N growing until it is not reached three times in a row."""
    outcomes, n, untouched = {}, 1, 0
    while untouched < 3:
        assert n < most, f"{what}: more than {most} allocations?"
        state = prepare(n) if prepare else None
        before = faults.failed
        faults.arm(n)
        try:
            outcome = attempt(state) if prepare else attempt()
        except Exception as e:
            faults.disarm()
            alive(s, what, n)
            raise AssertionError(f"{what}: allocation {n}: {type(e).__name__}: {e}") from e
        faults.disarm()
        alive(s, what, n)
        if faults.failed == before:
            assert outcome == "ok", f"{what}: {outcome} though no allocation failed"
            untouched += 1
        else:
            untouched = 0
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        n += stride(n)
    print(f"{what}: {sum(outcomes.values())} allocations failed: {outcomes}", flush=True)
    assert outcomes, f"{what}: no allocation failed: the library is not in place"
    return outcomes


def no_memory():
    faults = fault.NthMalloc()
    # One I/O thread: what a connect allocates is the same each time. Sanitizers' settings mean nothing to this build.
    with muster.Server(release=True, env=faults.env, args=("--io-threads", "1", "--http.auth_failures", "10000", "--ban.flapping_connects", "0")) as s:
        s.admin = s.token
        device(s, "n")
        device(s, "next")
        every = os.environ.get("EVERY") == "1"
        for version in (5, 4):
            sweep(s, faults, f"connect, version {version}", lambda v=version: try_connect(s, False, v))
        sweep(s, faults, "connect over TLS", lambda: try_connect(s, True, 5), stride=lambda n: 1 if every or n < 300 else 7)
        for topic, payload in (("$muster/telemetry", b'{"v":%d}'), ("$muster/event/e", b'{"n":%d}'), ("$muster/twin/reported", b'{"r":%d}')):
            acked = []
            def attempt(state):
                outcome = try_publish(s, state[:3])
                if outcome == "ok":
                    acked.append(state[3])
                state[0].abort()
                return outcome
            def prepare(n, topic=topic, payload=payload):
                return client(s, "n").connect(), topic, payload % n, n
            sweep(s, faults, topic, attempt, prepare)
            if topic == "$muster/telemetry":
                stored = {int(v) for _, v in s.points("n", "v")}
                assert set(acked) <= stored, f"lost {set(acked) - stored}"
        for what in ("events", "sessions", "commands", "tokens"):  # something to list
            s.api("POST", "/api/v1/devices/n/commands", {"name": what})
        calls = [("POST", "/api/v1/devices", lambda n: {"id": f"made-{n}-{time.monotonic_ns()}", "tags": {"a": "b"}}),
                 ("PATCH", "/api/v1/devices/n", lambda n: {"name": f"called {n}", "attributes": {"n": n}}),
                 ("PATCH", "/api/v1/devices/n/twin/desired", lambda n: {"d": n}), ("POST", "/api/v1/claims", lambda n: {"uses": 1}),
                 ("POST", "/api/v1/devices/n/commands", lambda n: {"name": "go", "payload": {"n": n}})]
        calls += [("GET", path, None) for path in (
            "/api/v1/devices?limit=10", "/api/v1/devices/n/twin", "/api/v1/devices/n/telemetry", "/api/v1/devices/n/telemetry/v?from=0",
            "/api/v1/devices/n/telemetry/v?from=0&bucket=1h&agg=avg", "/api/v1/devices/n/sessions", "/api/v1/devices/n/events",
            "/api/v1/devices/n/commands", "/api/v1/devices/n/ledger", "/api/v1/presence?limit=5", "/api/v1/audit?limit=5", "/api/v1/claims?limit=5",
            "/api/v1/tokens", "/metrics")]
        for method, path, body in calls:
            made = []
            def attempt(state, method=method, path=path):
                outcome = try_call(s, method, path, state)
                if outcome == "ok" and state and "id" in state:
                    made.append(state["id"])
                return outcome
            sweep(s, faults, f"{method} {path}", attempt, lambda n, body=body: body(n) if body else None)
            for name in made:
                status, _, reply = s.request("GET", f"/api/v1/devices/{name}")
                assert status == 200, f"{name} was answered 201 and is not there: {status} {reply}"
        c = client(s, "next", tls=True).connect()
        assert c.publish("$muster/telemetry", b'{"v":1}', qos=1) == 0
        c.disconnect()
        muster.wait_for("nobody is online", lambda: not [p for p in s.api("GET", "/api/v1/presence?limit=100")["items"] if p["online"]], 10)
        ledger = s.ledger("n")
        assert muster.ledger_adds_up(ledger) and ledger["in_flight"] == 0, ledger
        assert "made-" not in s.request("GET", "/api/v1/groups")[2]
    faults.close()


def main():
    for test in (no_descriptors, no_memory):
        start = time.monotonic()
        test()
        print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
