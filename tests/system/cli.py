"""The command line as a person types it: every verb, with and without --json, exit codes, advice, import, watching, completion."""
import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time

import mqtt
import muster

TOKEN = "token-of-the-cli-device-0123456789"
WORK = tempfile.mkdtemp(prefix="muster-cli-")


def ok(s, *args, **kw):
    p = s.cli(*args, **kw)
    assert p.stderr == "" or "More: --cursor" in p.stderr, (args, p.stderr)
    return p.stdout


def bad(s, code, *args, words=(), **kw):
    """Fails with this exit code, nothing on standard output, and says all these words."""
    p = s.cli(*args, check=False, **kw)
    assert p.returncode == code, (args, p.returncode, p.stdout, p.stderr)
    assert p.stdout == "" and p.stderr.startswith("muster"), (args, p.stdout, p.stderr)
    for w in words:
        assert w in p.stderr, (args, w, p.stderr)
    return p.stderr


def same(s, path, *args):
    """--json prints the API's reply unchanged; without it a person reads something else."""
    status, _, raw = s.request("GET", path, raw=True)
    assert status == 200, (path, raw)
    assert ok(s, *args, "--json") == raw.decode() + "\n", args
    text = ok(s, *args)
    assert text and not text.startswith("{"), (args, text)
    return text


def rows(text):
    """A table as dictionaries: cells are apart by two or more spaces."""
    lines = text.splitlines()
    starts = [m.start() for m in re.finditer(r"(?:^|(?<=  ))\S", lines[0])]
    names = [lines[0][a:b].strip() for a, b in zip(starts, starts[1:] + [None])]
    return [dict(zip(names, (line[a:b].strip() for a, b in zip(starts, starts[1:] + [None])))) for line in lines[1:]]


def record(text):
    return {line.split()[0]: line[25:] for line in text.splitlines()}


def enrol(s, claim, device):
    key, csr = os.path.join(WORK, device + ".key"), os.path.join(WORK, device + ".csr")
    subprocess.run(["openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", key, "-subj", f"/CN={device}",
                    "-out", csr], check=True, capture_output=True)
    with open(csr) as f:
        s.api("POST", "/api/v1/enroll", {"csr": f.read()}, token=claim, plain=False)


def devices(s):
    made = record(ok(s, "device", "add", "c1", "--model", "TH-20", "--tags", "site=berlin", "--tags", "hall=3", "--attributes", '{"floor":3}',
                     "--keys", "serial=S-1", "--access-token", TOKEN))
    assert made["id"] == "c1" and made["tags.site"] == "berlin" and made["tags.hall"] == "3" and made["attributes.floor"] == "3", made
    assert TOKEN not in str(made)
    assert json.loads(ok(s, "device", "add", "c2", "--json"))["id"] == "c2"
    ok(s, "device", "add", "c3", "--tags", "site=rome")
    text = same(s, "/api/v1/devices", "device", "list")
    assert [r["id"] for r in rows(text)] == ["c1", "c2", "c3"] and rows(text)[0]["model"] == "TH-20", text
    assert [r["id"] for r in rows(ok(s, "device", "list", "--tag", "site=rome"))] == ["c3"]
    assert [r["id"] for r in rows(ok(s, "device", "list", "--limit", "2"))] == ["c1", "c2"]
    p = s.cli("device", "list", "--limit", "2")
    cursor = re.search(r"--cursor (\S+)", p.stderr).group(1)
    assert [r["id"] for r in rows(ok(s, "device", "list", "--limit", "2", "--cursor", cursor))] == ["c3"]
    assert ok(s, "device", "list", "--limit", "1", "--all").count("TH-20") == 1
    assert record(same(s, "/api/v1/devices/c1", "device", "show", "c1"))["keys.serial"] == "S-1"
    assert record(ok(s, "device", "set", "c1", "--name", "Boiler", "--tags", "hall=", "--if-match", "1"))["name"] == "Boiler"
    assert "hall" not in s.api("GET", "/api/v1/devices/c1")["tags"]
    bad(s, 1, "device", "set", "c1", "--name", "Late", "--if-match", "1", words=("version", "412"))
    bad(s, 2, "device", "set", "c1", "--name", "Late", "--if-match", "soon", words=("--if-match", "soon", "whole number"))
    assert record(ok(s, "device", "state", "c1", "suspended"))["state"] == "suspended"
    ok(s, "device", "state", "c1", "active")
    token = record(ok(s, "device", "token", "create", "c2", "--label", "lab"))["token"]
    listed = rows(same(s, "/api/v1/devices/c2/tokens", "device", "token", "list", "c2"))
    assert listed[0]["label"] == "lab" and token not in str(listed)
    assert ok(s, "device", "token", "revoke", "c2", listed[0]["id"]) == "done\n"
    assert ok(s, "device", "delete", "c2") == "done\n"
    bad(s, 1, "device", "show", "c2", words=("c2", "404"))
    ok(s, "group", "create", "g1", "--description", "the first")
    assert record(ok(s, "group", "add", "g1", "c1,c3"))["added"] == "2"
    assert rows(same(s, "/api/v1/groups", "group", "list"))[0]["members"] == "2"
    assert [r["id"] for r in rows(ok(s, "device", "list", "--group", "g1"))] == ["c1", "c3"]
    same(s, "/api/v1/groups/g1", "group", "show", "g1")
    assert ok(s, "group", "remove", "g1", "c3") == ok(s, "group", "delete", "g1") == "done\n"


def claims_and_certificates(s):
    claim = json.loads(ok(s, "claim", "create", "--uses", "3", "--ttl", "1h", "--json"))
    assert claim["uses_max"] == 3 and claim["token"], claim
    enrol(s, claim["token"], "e1")
    listed = rows(same(s, "/api/v1/claims", "claim", "list"))
    assert listed[0]["id"] == claim["id"] and listed[0]["uses"] == "1" and claim["token"] not in str(listed)
    assert ok(s, "claim", "revoke", claim["id"]) == "done\n"
    text = same(s, "/api/v1/certs", "cert", "list")
    fingerprint = rows(text)[0]["fingerprint"]
    assert rows(text)[0]["device"] == "e1" and re.fullmatch("[0-9a-f]{64}", fingerprint), text
    assert "BEGIN CERTIFICATE" in same(s, f"/api/v1/certs/{fingerprint}", "cert", "show", fingerprint)
    assert ok(s, "cert", "revoke", fingerprint, "--reason", "lost") == "done\n"
    assert rows(ok(s, "cert", "list", "--device", "e1"))[0]["state"] == "revoked"
    bad(s, 1, "cert", "revoke", "0" * 64, words=("404",))
    assert ok(s, "ca") == open(s.ca).read()


def twin_and_commands(s):
    assert record(ok(s, "twin", "set", "c1", "interval=5", "name=x", "flag=true"))["desired.interval"] == "5"
    assert s.api("GET", "/api/v1/devices/c1/twin")["desired"] == {"interval": 5, "name": "x", "flag": True}
    ok(s, "twin", "set", "c1", '{"a":{"b":1},"flag":null}')
    ok(s, "twin", "set", "c1", "-", stdin='{"stdin":1}')
    path = os.path.join(WORK, "desired.json")
    with open(path, "w") as f:
        f.write('{"file":[1,2]}')
    ok(s, "twin", "set", "c1", "@" + path)
    want = {"interval": 5, "name": "x", "a": {"b": 1}, "stdin": 1, "file": [1, 2]}
    assert json.loads(ok(s, "twin", "get", "c1", "--json"))["desired"] == want
    assert record(same(s, "/api/v1/devices/c1/twin", "twin", "get", "c1"))["desired.a.b"] == "1"
    bad(s, 1, "twin", "set", "c1", "a=1", "--if-match", "1", words=("412",))
    ok(s, "twin", "replace", "c1", '{"only":1}')
    assert json.loads(ok(s, "twin", "get", "c1", "--json"))["desired"] == {"only": 1}
    bad(s, 2, "twin", "set", "c1", '{"a":', words=("not JSON", "line 1"))
    sent = json.loads(ok(s, "command", "send", "c1", "reboot", "--payload", '{"delay":3}', "--ttl", "1h", "--json"))
    assert sent["payload"] == {"delay": 3} and sent["state"] == "pending", sent
    assert rows(same(s, "/api/v1/devices/c1/commands", "command", "list", "c1"))[0]["name"] == "reboot"
    same(s, f"/api/v1/devices/c1/commands/{sent['id']}", "command", "show", "c1", sent["id"])


def telemetry(s):
    c = mqtt.Client("127.0.0.1", s.ports["mqtt"], "c1", "c1", TOKEN).connect()
    start = 1700000000000
    batch = json.dumps([{"ts": start + i * 1000, "values": {"cpu.util": i, "x": i / 4}} for i in range(400)]).encode()
    assert c.publish("$muster/telemetry", batch, qos=1) == 0
    assert c.publish("$muster/telemetry", b'{"state":"ok","on":true,"cpu.util":401.5}', qos=1) == 0
    assert c.publish("$muster/event/door", b'{"open":true}', qos=1) == 0
    assert c.publish("$muster/telemetry", b"[", qos=1) >= 0x80
    last = json.loads(ok(s, "telemetry", "last", "c1", "--json"))["metrics"]
    assert last["cpu.util"]["value"] == 401.5 and last["state"]["value"] == "ok" and last["on"]["value"] is True, last
    assert {r["metric"]: r["value"] for r in rows(ok(s, "telemetry", "last", "c1"))} == {"cpu.util": "401.5", "x": "99.75", "state": "ok", "on": "true"}
    assert "cpu.util" in same(s, "/api/v1/devices/c1/metrics", "telemetry", "metrics", "c1")
    span = ("--metric", "cpu.util", "--from", "2023-11-14T22:00:00Z", "--to", str(start + 400000))
    assert json.loads(ok(s, "telemetry", "range", "c1", *span, "--count", "--json")) == {"count": 400}
    assert "400" in ok(s, "telemetry", "range", "c1", *span, "--count")
    all_points = json.loads(ok(s, "telemetry", "range", "c1", *span, "--limit", "1000", "--json"))
    assert all_points["points"] == [[start + i * 1000, i] for i in range(400)] and all_points["next"] is None
    pages, cursor = [], []
    while True:
        page = json.loads(ok(s, "telemetry", "range", "c1", *span, "--limit", "90", *cursor, "--json"))
        pages += page["points"]
        if page["next"] is None:
            break
        cursor = ["--cursor", page["next"]]
    assert pages == all_points["points"], "pages are not the whole"
    means = json.loads(ok(s, "telemetry", "range", "c1", *span, "--bucket", "5m", "--agg", "avg", "--json"))["points"]
    want = {}
    for ts, v in all_points["points"]:
        want.setdefault(ts // 300000 * 300000, []).append(v)
    assert means == [[t, sum(v) / len(v)] for t, v in sorted(want.items())], means
    assert len(rows(ok(s, "telemetry", "range", "c1", *span, "--bucket", "5m", "--agg", "max"))) == len(want)
    lines = ok(s, "telemetry", "export", "c1", "--metric", "cpu.util").splitlines()
    assert [json.loads(line) for line in lines[:400]] == all_points["points"] and len(lines) == 401
    assert len(ok(s, "telemetry", "export", "c1", "--metric", "cpu.util", "--from", "-1h").splitlines()) == 1
    bad(s, 2, "telemetry", "export", "c1", words=("--metric",))
    bad(s, 1, "telemetry", "range", "c1", "--metric", "cpu.util", "--from", "yesterday", words=("from", "RFC 3339"))
    assert rows(same(s, "/api/v1/devices/c1/events", "event", "list", "c1"))[0]["name"] == "door"
    ledger = json.loads(ok(s, "ledger", "c1", "--json"))
    assert {"received", "stored", "refused", "in_flight"} <= set(ledger) and muster.ledger_adds_up(ledger), ledger
    assert ledger["received"] == 4 and sum(ledger["refused"].values()) == 1, ledger
    assert record(ok(s, "ledger", "c1"))["stored"] == "3"
    assert muster.ledger_adds_up(json.loads(ok(s, "tenant", "ledger", "--json")))
    assert rows(same(s, "/api/v1/presence", "presence"))[0]["online"] == "true"
    assert record(ok(s, "presence", "show", "c1"))["connection.protocol"] == "mqtt5"
    assert rows(same(s, "/api/v1/devices/c1/sessions", "presence", "sessions", "c1"))[0]["end"] == "-"
    c.disconnect()


def operators(s):
    made = json.loads(ok(s, "token", "create", "bob", "--role", "viewer", "--json"))
    path = os.path.join(WORK, "bob.token")
    with open(path, "w") as f:
        f.write(made["token"] + "\n")
    os.chmod(path, 0o600)
    ok(s, "device", "list", token_file=path)
    bad(s, 1, "device", "add", "forbidden", token_file=path, words=("403",))
    ok(s, "device", "list", "--token-file", path, token_file="/nonexistent")
    assert [r["name"] for r in rows(same(s, "/api/v1/tokens", "token", "list"))] == ["admin", "bob"]
    assert ok(s, "token", "revoke", "bob") == "done\n"
    bad(s, 1, "device", "list", token_file=path, words=("401", "MUSTER_TOKEN_FILE"))
    assert record(ok(s, "retention", "set", "30d"))["default"] == "30d"
    assert record(same(s, "/api/v1/retention", "retention", "get"))["default"] == "30d"
    text = ok(s, "audit")
    assert rows(text)[0]["action"] == "retention.set" and {"token.create", "device.create", "twin.desired", "cert.revoke"} <= {r["action"] for r in rows(text)}
    assert json.loads(ok(s, "audit", "--action", "retention.set", "--json"))["items"][0]["actor"] == "admin"


def where_the_server_is(s):
    url = f"https://localhost:{s.ports['https']}"
    ok(s, "device", "list", "--url", url, "--ca", s.ca, env={"MUSTER_URL": "https://localhost:1", "MUSTER_CA": "/nonexistent"})
    ok(s, "device", "list", env={"MUSTER_URL": url + "/"})
    bad(s, 3, "device", "list", env={"MUSTER_URL": "https://localhost:1"}, words=("localhost:1",))
    bad(s, 3, "device", "list", env={"MUSTER_CA": ""}, words=("certificate",))
    bad(s, 2, "device", "list", env={"MUSTER_CA": "/nonexistent"}, words=("/nonexistent",))
    bad(s, 2, "device", "list", token_file="/nonexistent", words=("/nonexistent",))
    bad(s, 2, "device", "list", "--url", words=("--url", "missing"))


def advice(s):
    bad(s, 2, "devce", "list", words=("device list",))
    bad(s, 2, "device", "lst", words=("device list",))
    bad(s, 2, "device", words=("device add", "device import", "device token create"))
    bad(s, 2, "frobnicate", words=("muster help",))
    bad(s, 2, "device", "add", words=("id is missing", "device add --help"))
    bad(s, 2, "device", "add", "x", "--modle", "y", words=("--modle", "did you mean --model?"))
    bad(s, 2, "device", "add", "x", "--model", words=("--model", "missing"))
    bad(s, 2, "device", "list", "extra", words=("extra",))
    bad(s, 2, "device", "list", "--state", "flying", words=("flying", "registered", "retired"))
    bad(s, 1, "device", "list", "--limit", "many", words=("limit", "integer"))
    bad(s, 1, "device", "list", "--limit", "0", words=("limit", "1", "1000"))
    bad(s, 1, "device", "add", "two words", words=("/id", "letters"))
    bad(s, 2, "claim", "create", "--uses", "many", words=("--uses", "many", "integer"))
    bad(s, 1, "claim", "create", "--ttl", "1 parsec", words=("/ttl",))
    bad(s, 2, "completion", words=("bash",))
    bad(s, 2, "top", "--twice", words=("--once",))
    bad(s, 2, "telemetry", "watch", "a", "b", words=("b",))
    p = s.cli(check=False)
    assert p.returncode == 2 and "device add" in p.stdout
    help_text = ok(s, "help")
    for verb in re.findall(r"^  (\S+(?: \S+)*?)  +\S", help_text.split("The server is found")[0], re.M):
        if verb != "serve":
            text = ok(s, *verb.split(), "--help")
            assert text.startswith(f"Usage: muster {verb}"), (verb, text)
    assert re.fullmatch(r"muster \d+\.\d+\.\d+\n", ok(s, "--version"))


def completes(s):
    script = os.path.join(WORK, "completion.bash")
    with open(script, "w") as f:
        f.write(ok(s, "completion", "bash"))
    subprocess.run(["bash", "-n", script], check=True)
    assert "bashcompinit" in ok(s, "completion", "zsh")
    def after(line):
        words = line.split(" ")
        quoted = " ".join(f"'{w}'" for w in words)
        out = subprocess.run(["bash", "-c", f'source "{script}"; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _muster; echo "${{COMPREPLY[*]}}"'],
                             check=True, capture_output=True, text=True)
        assert out.stderr == "", out.stderr
        return out.stdout.split()
    assert after("muster dev") == ["device"] and set(after("muster te")) == {"telemetry", "tenant"}
    assert {"add", "list", "token", "import"} <= set(after("muster device ")) and "create" not in after("muster device ")
    assert after("muster device im") == ["import"] and set(after("muster device token ")) == {"create", "list", "revoke"}
    assert {"--uses", "--ttl"} <= set(after("muster claim create --")) and after("muster device list --lim") == ["--limit"]
    assert after("muster device token create c1 --la") == ["--label"] and after("muster serve x") == []


def narrow(s):
    for width in (80, 60, 40):
        for args in (("audit",), ("device", "list"), ("presence",), ("claim", "list"), ("cert", "list"), ("command", "list", "c1"),
                     ("telemetry", "last", "c1"), ("event", "list", "c1"), ("token", "list"), ("presence", "sessions", "c1"), ("top", "--once")):
            text = ok(s, *args, env={"COLUMNS": str(width)})
            longest = max(len(line) for line in text.splitlines())
            assert longest <= width or (args[0] == "top" and width < 60), (width, args, longest, text)
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", ok(s, "audit", env={"COLUMNS": "80"}), re.M), "a time was cut"
    # what a device says does not steer the terminal
    s.api("PATCH", "/api/v1/devices/c3", {"attributes": {"k\x1b[1m\n": "v\x1b]0;x\x07", "csi": "\u009b2J"}})
    for args in (("device", "list"), ("device", "show", "c3")):
        text = ok(s, *args)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text), repr(text)


def imports(s):
    path, errors = os.path.join(WORK, "fleet.ndjson"), os.path.join(WORK, "fleet.errors")
    wrong = {77: '{"id": "bad id"}', 1000: "{broken", 1001: '{"id": 5}', 5000: '{"id": "i1"}', 12345: '{"id": "x", "colour": "red"}',
             20000: '{"id": "%s"}' % ("y" * 70000)}
    with open(path, "w") as f:
        for n in range(1, 20001):
            f.write(wrong.get(n) or '{"id": "i%d", "model": "TH-20", "tags": {"site": "s%d"}, "access_token": "token-of-imported-%d"}' % (n, n % 7, n))
            f.write("\n")
    env = {**os.environ, "MUSTER_URL": f"https://localhost:{s.ports['https']}", "MUSTER_CA": s.ca, "MUSTER_TOKEN_FILE": os.path.join(s.data, "admin.token")}
    p = subprocess.Popen([os.path.join(muster.RELEASE_BIN, "muster"), "device", "import", path, "--errors", errors], env=env, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    out, err = p.stdout.read(), p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    assert p.returncode == 1 and f"{20000 - len(wrong)} devices imported, {len(wrong)} lines refused" in out and err == "", (p.returncode, out, err)
    assert usage.ru_maxrss < 40 << 10, f"the import took {usage.ru_maxrss} KiB"
    told = {}
    for line in open(errors):
        e = json.loads(line)
        told[e["line"]] = e["error"]
    assert set(told) == set(wrong) and all(told.values()), told
    assert "1 to 128 characters" in told[77] and "colour" in told[12345] and "already" in told[5000] and "64 KiB" in told[20000], told
    assert json.loads(ok(s, "device", "list", "--limit", "1", "--tag", "site=s3", "--json"))["items"][0]["model"] == "TH-20"
    mqtt.Client("127.0.0.1", s.ports["mqtt"], "i19999", "i19999", "token-of-imported-19999").connect().disconnect()
    change = '{"id":"i1","model":"TH-30"}\n{"id":"i2","model":"TH-30"}\n{"id":"fresh"}\n'
    out = s.cli("device", "import", "-", "--errors", errors, stdin=change, check=False)
    assert out.returncode == 1 and out.stdout.startswith("1 devices imported, 2 lines refused"), out
    assert ok(s, "device", "import", "-", "--upsert", stdin=change) == "3 devices imported, 0 lines refused\n"
    assert s.api("GET", "/api/v1/devices/i2")["model"] == "TH-30"
    assert json.loads(ok(s, "device", "import", "-", "--upsert", "--json", stdin=change)) == {"imported": 3, "refused": 0}
    bad(s, 2, "device", "import", words=("FILE",))
    bad(s, 2, "device", "import", "/nonexistent", words=("/nonexistent",))
    print(f"import of 20,000 lines: {usage.ru_maxrss} KiB resident")


class Watcher:
    """A command that runs until it is stopped, read line by line."""

    def __init__(self, s, *args):
        env = {**os.environ, **muster.SANITIZE, "MUSTER_URL": f"https://localhost:{s.ports['https']}", "MUSTER_CA": s.ca,
               "MUSTER_TOKEN_FILE": os.path.join(s.data, "admin.token")}
        self.process = subprocess.Popen([os.path.join(s.bin, "muster"), *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.text = b""

    def line(self, poke, seconds=10):
        """The next line; poke() is done again until one comes, since the stream may not be open yet."""
        end = time.monotonic() + seconds
        while b"\n" not in self.text:
            assert time.monotonic() < end and self.process.poll() is None, (self.process.args, self.process.poll())
            poke()
            if select.select([self.process.stdout], [], [], 0.3)[0]:
                self.text += os.read(self.process.stdout.fileno(), 65536)
        line, self.text = self.text.split(b"\n", 1)
        return line.decode()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        for f in (self.process.stdout, self.process.stderr):
            f.close()


def watches(s):
    c = mqtt.Client("127.0.0.1", s.ports["mqtt"], "c1", "c1", TOKEN).connect()
    n = iter(range(1000))
    send = lambda: c.publish("$muster/telemetry", b'{"w":%d,"s":"a"}' % next(n), qos=1)
    desire = lambda: s.api("PATCH", "/api/v1/devices/c1/twin/desired", {"n": next(n)})
    cases = ((("telemetry", "watch", "c1"), send, r'\d\d:\d\d:\d\d\.\d+ +c1 +w=\d+ s="a"'),
             (("telemetry", "watch", "--json"), send, r'\{"type":"telemetry","data":\{.*"device":"c1".*\}\}'),
             (("twin", "watch", "c1"), desire, r'\d\d:\d\d:\d\d\.\d+ +c1 +desired +v\d+ \{"n":\d+\}'),
             (("twin", "watch"), desire, r'.*c1 +desired.*'),
             (("events", "--types", "twin,presence", "--device", "c1"), desire, r'\{"type":"twin","data":\{.*\}\}'))
    watchers = [(Watcher(s, *args), poke, want) for args, poke, want in cases]
    try:
        for w, poke, want in watchers:
            line = w.line(poke)
            assert re.fullmatch(want, line), (w.process.args, line)
            if line.startswith("{"):
                json.loads(line)
    finally:
        for w, _, _ in watchers:
            w.stop()
    c.disconnect()


def tops(s):
    c = mqtt.Client("127.0.0.1", s.ports["mqtt"], "c1", "c1", TOKEN).connect()
    c.publish("$muster/telemetry", b'{"cpu.util":12.34,"mem.used":2000000000}', qos=1)
    text = ok(s, "top", "--once")
    line = next(line for line in text.splitlines() if line.startswith("c1 "))
    assert "online" in line and "12.3" in line and "2000" in line and "\x1b" not in text, text
    # live, on a terminal: drawn, and q ends it
    leader, follower = pty.openpty()
    env = {**os.environ, **muster.SANITIZE, "MUSTER_URL": f"https://localhost:{s.ports['https']}", "MUSTER_CA": s.ca,
           "MUSTER_TOKEN_FILE": os.path.join(s.data, "admin.token"), "TERM": "xterm"}
    p = subprocess.Popen([os.path.join(s.bin, "muster"), "top"], env=env, stdin=follower, stdout=follower, stderr=subprocess.PIPE, close_fds=True)
    os.close(follower)
    seen = b""
    end = time.monotonic() + 10
    while b"12.3" not in seen and time.monotonic() < end:
        if select.select([leader], [], [], 0.5)[0]:
            seen += os.read(leader, 65536)
    assert b"c1" in seen and b"12.3" in seen, seen
    os.write(leader, b"q")
    try:
        while p.poll() is None and time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                seen += os.read(leader, 65536)
    except OSError:  # the terminal is gone with its last user
        pass
    assert p.wait(5) == 0 and b"\x1b[?1049l" in seen, (p.returncode, p.stderr.read())
    p.stderr.close()
    os.close(leader)
    c.disconnect()


def main():
    with muster.Server() as s:
        for test in (devices, claims_and_certificates, twin_and_commands, telemetry, operators, where_the_server_is, advice, completes, narrow, watches,
                     tops):
            start = time.monotonic()
            test(s)
            print(f"{test.__name__}: ok ({time.monotonic() - start:.1f} s)", flush=True)
    with muster.Server(release=True) as s:
        start = time.monotonic()
        imports(s)
        print(f"imports: ok ({time.monotonic() - start:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
