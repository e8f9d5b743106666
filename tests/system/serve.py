"""`muster serve` as a service: configuration, reload, a second server, stopping under load, systemd, secrets and modes, metrics."""
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time

import mqtt
import muster

WORK = tempfile.mkdtemp(prefix="muster-serve-")
TOKEN = "token-of-the-serve-device-0123456789"


def serve(*args, env=None):
    return subprocess.run([os.path.join(muster.BIN, "muster"), "serve", *args], capture_output=True, text=True, timeout=30, check=False,
                          env={**os.environ, **muster.SANITIZE, **(env or {})})


def conf_file(text):
    path = os.path.join(WORK, "muster.yaml")
    with open(path, "w") as f:
        f.write(text)
    return path


def check_config():
    good = conf_file("server:\n  data: /nowhere\nmqtt:\n  packet_max: 64KiB\nlog:\n  level: warn\n")
    p = serve("--config", good, "--check-config")
    assert p.returncode == 0 and "valid" in p.stdout and not p.stderr, p
    bad = conf_file("mqtt:\n"                            # 1
                    "  packet_mx: 64KiB\n"               # 2: a letter is missing
                    "  packet_max: 9TiB\n"               # 3: too large
                    "log:\n"                             # 4
                    "  level: loud\n"                    # 5: not one of
                    "server:\n"                          # 6
                    "  io_threads: many\n"               # 7: no number
                    "  drain: 5parsecs\n"                # 8: no duration
                    "listen:\n"                          # 9
                    "  mqtts: nonsense:99999999\n"       # 10: no address
                    "weather:\n"                         # 11: no such section
                    "  is: fine\n")
    p = serve("--config", bad, "--check-config")
    assert p.returncode == 2 and not p.stdout, p
    for line, key, words in ((2, "mqtt.packet_mx", ("mqtt.packet_max",)), (3, "mqtt.packet_max", ("9TiB", "allowed", "KiB")),
                             (5, "log.level", ("loud", "debug", "error")), (7, "server.io_threads", ("many", "256")),
                             (8, "server.drain", ("5parsecs", "allowed")), (10, "listen.mqtts", ("nonsense", "HOST:PORT", "off")),
                             (12, "weather", ())):
        found = [t for t in p.stderr.splitlines() if t.startswith(f"{bad}:{line}: ")]
        assert len(found) == 1 and key in found[0] and all(w in found[0] for w in words), (line, key, p.stderr)
    p = serve("--config", conf_file("mqtt: [unclosed\n"), "--check-config")
    assert p.returncode == 2 and re.search(r"muster\.yaml:\d+: ", p.stderr), p
    p = serve("--config", os.path.join(WORK, "absent.yaml"), "--check-config")
    assert p.returncode == 2 and "absent.yaml" in p.stderr, p
    p = serve("--no-such-option", "1")
    assert p.returncode == 2 and "no-such-option" in p.stderr and "--help" in p.stderr, p
    p = serve("--io-threads", "1000", "--check-config")
    assert p.returncode == 2 and "1000" in p.stderr and "256" in p.stderr, p
    p = serve("--reference")
    keys = [line.split("`")[1] for line in p.stdout.splitlines() if line.startswith("| `")]
    assert p.returncode == 0 and not p.stderr and len(keys) > 80 and "(null)" not in p.stdout, p
    p = serve("--help")
    assert not p.stderr and all(f"--{key}=" in p.stdout for key in keys), [key for key in keys if f"--{key}=" not in p.stdout]
    assert p.returncode == 0 and all(f"--{f}" in p.stdout for f in ("data", "config", "mqtts", "https", "mqtt", "http", "io-threads", "name"))


def starts(path, args, env):
    """The level a server with this file, command line and environment logs at: how many lines below error it writes at start."""
    data = tempfile.mkdtemp(prefix="data-", dir=WORK)
    with muster.Server(data=data, args=("--config", path, *args), env=env) as s:
        return "level=info" in s.log()


def precedence():
    path = conf_file("log:\n  level: error\n")
    loud, quiet = {"MUSTER_LOG_LEVEL": "info"}, {"MUSTER_LOG_LEVEL": "error"}
    assert not starts(path, (), {}), "the file is not obeyed"
    assert starts(path, (), loud), "the environment does not win over the file"
    assert starts(path, ("--log-level", "info"), quiet), "the command line does not win over the environment"
    assert not starts(path, ("--log-level", "error"), loud), "the command line does not win over the environment"
    p = serve("--check-config", env={"MUSTER_LOG_LEVEL": "loud"})
    assert p.returncode == 2 and "MUSTER_LOG_LEVEL" in p.stderr and "loud" in p.stderr, p


def second_server():
    with muster.Server() as s:
        p = serve("--data", s.data, "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0")
        assert p.returncode == 1 and not p.stdout, p
        assert "another server" in p.stderr and s.data in p.stderr, p.stderr
        assert s.api("GET", "/api/v1/devices") == {"items": [], "next": None}, "the first one was disturbed"
        p = serve("--data", os.path.join(WORK, "taken"), "--mqtts", f"127.0.0.1:{s.ports['mqtts']}", "--https", "127.0.0.1:0")
        assert p.returncode == 1 and "--mqtts" in p.stderr and "in use" in p.stderr, p
        p = serve("--data", os.path.join(WORK, "no/such/parent"))
        assert p.returncode == 1 and "no/such/parent" in p.stderr and "No such file" in p.stderr, p


def certificate(port, ca):
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw, server_hostname="localhost") as c:
        return c.getpeercert(True)


def hup(s, words):
    before = len(s.log())
    s.process.send_signal(signal.SIGHUP)
    muster.wait_for(f"the log says {words!r}", lambda: words in s.log()[before:], 10)
    return s.log()[before:]


def reload():
    path = conf_file("log:\n  level: info\nmqtt:\n  packet_max: 64KiB\n")
    with muster.Server(args=("--config", path)) as s:
        first = {name: certificate(s.ports[name], s.ca) for name in ("mqtts", "https")}
        s.device("r1", TOKEN)
        live = mqtt.Client("127.0.0.1", s.ports["mqtts"], "r1", "r1", TOKEN, ca=s.ca).connect()
        os.unlink(os.path.join(s.data, "server.pem"))
        hup(s, "certificates reloaded")
        second = {name: certificate(s.ports[name], s.ca) for name in ("mqtts", "https")}
        assert all(first[n] != second[n] for n in first), "new connections see the old certificate"
        assert live.publish("$muster/telemetry", b'{"v":1}', qos=1) == 0, "a live connection suffered"
        # a key others may read is refused, and what was in force stays
        os.chmod(os.path.join(s.data, "server.key"), 0o644)
        hup(s, "not reloaded")
        assert certificate(s.ports["https"], s.ca) == second["https"]
        os.chmod(os.path.join(s.data, "server.key"), 0o600)
        # a broken file changes nothing
        conf_file("log:\n  level: shout\n")
        told = hup(s, "not reloaded")
        assert "muster.yaml:2: log.level" in told and "shout" in told, told
        # a good one changes what can be changed, and names what cannot
        conf_file("log:\n  level: debug\nmqtt:\n  packet_max: 32KiB\n")
        told = hup(s, "certificates reloaded")
        assert "mqtt.packet_max" in told, told
        # the level as well: the line "reloaded" is of level info, "not reloaded" of level error
        conf_file("log:\n  level: error\n")
        before = len(s.log())
        s.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        conf_file("log:\n  level: shout\n")
        hup(s, "not reloaded")
        assert "certificates reloaded" not in s.log()[before:], "the log level was not reloaded"
        assert live.publish("$muster/telemetry", b'{"v":2}', qos=1) == 0
        live.disconnect()


def reload_under_load():
    """200 reloads, half of them of broken files: no request fails for it, and the old configuration stays in force."""
    path = conf_file("log:\n  level: info\n")
    with muster.Server(args=("--config", path)) as s:
        s.device("r2", TOKEN)
        c = mqtt.Client("127.0.0.1", s.ports["mqtt"], "r2", "r2", TOKEN).connect()
        for i in range(200):
            conf_file("log:\n  level: " + ("info" if i % 2 else f"broken{i}") + "\n")
            s.process.send_signal(signal.SIGHUP)
            assert c.publish("$muster/telemetry", b'{"v":1}', qos=1) == 0
        muster.wait_for("both kinds were seen", lambda: "not reloaded" in s.log() and "certificates reloaded" in s.log())
        assert s.request("GET", "/readyz", token=None)[0] == 200
        c.disconnect()


class Publisher(threading.Thread):
    def __init__(self, s, device):
        super().__init__(daemon=True)
        self.s, self.device, self.acked, self.sent = s, device, set(), {}

    def run(self):
        c = mqtt.Client("127.0.0.1", self.s.ports["mqtt"], self.device, self.device, TOKEN + self.device)
        def on_ack(pid, reason):
            if reason == 0:
                self.acked.add(self.sent[pid])
        c.on_ack = on_ack
        n = 0
        try:
            c.connect()
            while True:
                n += 1
                self.sent[c.next_id % 65535 + 1] = n
                c.publish("$muster/telemetry", b'{"seq":%d}' % n, qos=1, wait=False)
                c.wait_window(10)
        except (mqtt.Closed, OSError) as e:
            self.end = e


def stops_under_load():
    with muster.Server() as s:
        publishers = [Publisher(s, f"s{i}") for i in range(20)]
        for p in publishers:
            s.device(p.device, TOKEN + p.device)
        for p in publishers:
            p.start()
        muster.wait_for("load", lambda: sum(len(p.acked) for p in publishers) > 2000)
        start = time.monotonic()
        code = s.stop()
        seconds = time.monotonic() - start
        assert code == 0 and seconds < 5, (code, seconds)
        for p in publishers:
            p.join(10)
            assert not p.is_alive()
            assert isinstance(p.end, mqtt.Closed) and p.end.reason in (0x8b, None), p.end
        assert any(p.end.reason == 0x8b for p in publishers), "nobody was told 'server shutting down'"
        s.start()
        for p in publishers:
            stored = {int(v) for _, v in s.points(p.device, "seq")}
            assert p.acked <= stored, f"{p.device}: lost {sorted(p.acked - stored)[:5]}"
            session = s.api("GET", f"/api/v1/devices/{p.device}/sessions?limit=1")["items"][0]
            assert session["end"] and session["reason"] == "server_shutdown", session
            assert muster.ledger_adds_up(s.ledger(p.device))
        print(f"stopped in {seconds * 1000:.0f} ms under load, {sum(len(p.acked) for p in publishers)} acknowledged, all there")


def ready_fast():
    with muster.Server(release=True) as s:
        for k in range(5):
            s.api("POST", "/api/v1/devices/import", "".join('{"id":"f%d-%d"}\n' % (k, i) for i in range(1000)).encode(),
                  headers={"Content-Type": "application/x-ndjson"})
        best = 60
        for _ in range(3):  # other tests share the machine
            assert s.stop() == 0
            s.start()
            best = min(best, s.ready_s)
        assert best < 1, f"ready after {best:.2f} s"
        line = s.ready_line
        assert re.fullmatch(r"muster ready mqtts=127\.0\.0\.1:\d+ https=127\.0\.0\.1:\d+ mqtt=127\.0\.0\.1:\d+ http=127\.0\.0\.1:\d+", line), line
        s.process.send_signal(signal.SIGTERM)
        rest = s.process.stdout.read()
        assert rest == b"", f"more than one line on stdout: {rest!r}"
        s.process.wait(10)
        print(f"ready after {best * 1000:.0f} ms")


def systemd():
    address = os.path.join(WORK, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
        n.bind(address)
        n.settimeout(10)
        with muster.Server(env={"NOTIFY_SOCKET": address}) as s:
            assert n.recv(1000) == b"READY=1"
            s.process.send_signal(signal.SIGHUP)
            assert [n.recv(1000), n.recv(1000)] == [b"RELOADING=1", b"READY=1"]
            assert s.stop() == 0
            assert n.recv(1000) == b"STOPPING=1"


def modes_and_secrets():
    data = os.path.join(WORK, "fresh")
    with muster.Server(data=data, args=("--log-level", "debug")) as s:
        claim = s.api("POST", "/api/v1/claims", {"uses": 2, "ttl": "1h"})["token"]
        operator = s.api("POST", "/api/v1/tokens", {"name": "op", "role": "viewer"})["token"]
        s.device("m1", TOKEN)
        device = s.api("POST", "/api/v1/devices/m1/tokens", {})["token"]
        secrets = [s.token, claim, operator, device, TOKEN]
        for version in (4, 5):
            mqtt.Client("127.0.0.1", s.ports["mqtt"], "m1", "m1", TOKEN, version=version).connect().disconnect()
            mqtt.Client("127.0.0.1", s.ports["mqtt"], "m1", device, version=version).connect().disconnect()
            try:  # the right secret at the wrong place is still a secret
                mqtt.Client("127.0.0.1", s.ports["mqtt"], "other", "other", TOKEN, version=version).connect()
            except mqtt.Refused:
                pass
        s.request("GET", "/api/v1/devices", token=operator)
        s.request("POST", "/api/v1/devices", {"id": "m2"}, token=operator)
        s.request("GET", "/api/v1/devices", token=claim)
        s.request("GET", f"/api/v1/devices?token={operator}", token=None)
        s.request("GET", f"/api/v1/devices/{device}")
        assert stat.S_IMODE(os.stat(data).st_mode) == 0o700
        public = {"ca.pem", "server.pem"}
        for root, dirs, files in os.walk(data):
            for name in dirs:
                assert stat.S_IMODE(os.stat(os.path.join(root, name)).st_mode) == 0o700, os.path.join(root, name)
            for name in files:
                mode = stat.S_IMODE(os.stat(os.path.join(root, name)).st_mode)
                assert mode == 0o600 or (name in public and mode == 0o644), (name, oct(mode))
        assert {"ca.pem", "ca.key", "server.pem", "server.key", "admin.token", "state.db"} <= set(os.listdir(data))
        audit = s.request("GET", "/api/v1/audit?limit=1000", raw=True)[2].decode()
        s.stop()
        places = {"log": s.log(), "audit": audit}
        for root, _, files in os.walk(data):
            for name in files:
                if name != "admin.token":
                    with open(os.path.join(root, name), "rb") as f:
                        places[name] = f.read().decode("latin-1")
        for place, text in places.items():
            assert not [t for t in secrets if t in text], f"a secret stands in {place}"
        s.start()
        for name in ("cmdline", "environ"):
            with open(f"/proc/{s.process.pid}/{name}", "rb") as f:
                text = f.read().decode(errors="replace")
            assert not [t for t in secrets if t in text], f"a secret stands in {name}"
    os.unlink(data + ".log")


METRIC = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[+-]Inf|NaN)')


def parse_metrics(text):
    """{name with labels: value}; every line is checked against the text format, version 0.0.4."""
    values, types, helped, family_done, current = {}, {}, set(), set(), None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, words = line[7:].split(" ", 1)
            assert name not in helped and words, line
            helped.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name not in types and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
            if current:
                family_done.add(current)
            current = name
        else:
            m = METRIC.fullmatch(line)
            assert m, f"not the text format: {line!r}"
            family = m.group(1)
            if family not in types:
                family = re.sub(r"_(bucket|sum|count)$", "", family)
            assert types.get(family), f"no TYPE before {line!r}"
            assert family not in family_done, f"{line!r} stands apart from its family"
            key = m.group(1) + (m.group(2) or "")
            assert key not in values, f"twice: {key}"
            if types[family] == "counter":
                assert family.endswith("_total") and float(m.group(3)) >= 0, line
            values[key] = float(m.group(3))
    assert helped == set(types), helped ^ set(types)
    for name, kind in types.items():
        if kind == "histogram":
            buckets = [v for k, v in values.items() if k.startswith(name + "_bucket")]
            assert buckets == sorted(buckets) and buckets[-1] == values[name + "_count"], name
    return values


def metrics():
    with muster.Server() as s:
        s.device("x1", TOKEN)
        before = parse_metrics(s.request("GET", "/metrics", raw=True)[2].decode())
        c = mqtt.Client("127.0.0.1", s.ports["mqtt"], "x1", "x1", TOKEN).connect()
        for i in range(50):
            assert c.publish("$muster/telemetry", b'{"v":%d}' % i, qos=1) == 0
        assert c.publish("$muster/telemetry", b"[not json", qos=1) >= 0x80
        assert c.publish("$muster/event/door", b'{"open":true}', qos=1) == 0
        assert c.publish("$muster/twin/reported", b'{"fw":"1"}', qos=1) == 0
        time.sleep(1.1)  # gauges are refreshed each second
        status, headers, text = s.request("GET", "/metrics", raw=True)
        assert status == 200 and headers["Content-Type"].startswith("text/plain"), headers
        after = parse_metrics(text.decode())
        grown = {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}
        def total(*words):
            return sum(v for k, v in grown.items() if all(w in k for w in words))
        assert total("muster_mqtt_connections") >= 1, grown
        assert total("messages", "telemetry", "stored") == 50, {k: v for k, v in grown.items() if "messages" in k}
        assert total("messages", "telemetry", "refused") == 1, {k: v for k, v in grown.items() if "messages" in k}
        assert total("messages", "event", "stored") == 1 and total("messages", "twin", "stored") == 1, grown
        assert after["muster_commit_seconds_count"] > 0 and after["muster_commit_seconds_sum"] > 0
        assert after["muster_commit_operations_total"] >= after["muster_commit_seconds_count"] > 0
        for name in ("muster_queue_length", 'muster_store_bytes{store="log"}', 'muster_store_bytes{store="chunks"}',
                     'muster_store_bytes{store="state"}', "muster_storage_full", "muster_telemetry_points_total"):
            assert name in after, name
        assert after['muster_store_bytes{store="state"}'] > 10000 and after["muster_storage_full"] == 0
        c.disconnect()


def health():
    with muster.Server() as s:
        for path, say in (("/healthz", "ok"), ("/readyz", "ready")):
            for plain in (True, False):
                status, _, reply = s.request("GET", path, token=None, plain=plain)
                assert status == 200 and reply == {"status": say}, (status, reply)


def main():
    try:
        for test in (check_config, precedence, second_server, reload, reload_under_load, stops_under_load, ready_fast, systemd,
                     modes_and_secrets, metrics, health):
            start = time.monotonic()
            test()
            print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
