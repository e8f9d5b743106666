"""MQTT.js in a headless Chromium, over secure WebSocket, with the server's own authority in the browser's store: connect, subscribe,
publish in every quality of service, reconnect to a session after the server was killed; and what a browser must not be let do."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import application
import muster

SOURCE = os.path.join(muster.ROOT, "tests/interop/browser")
BUILT = os.path.join(muster.ROOT, "build/interop-browser")


def modules():
    """The folder node_modules of the locked packages; None when they cannot be had."""
    out = os.path.join(BUILT, "node_modules")
    lock = os.path.join(BUILT, "package-lock.json")
    with open(os.path.join(SOURCE, "package-lock.json"), "rb") as f:
        wanted = f.read()
    if os.path.exists(os.path.join(out, "mqtt")) and os.path.exists(lock):
        with open(lock, "rb") as f:
            if f.read() == wanted:
                return out
    os.makedirs(BUILT, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(SOURCE, name), BUILT)
    got = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=BUILT, capture_output=True, text=True, check=False)
    if got.returncode != 0:
        shutil.rmtree(BUILT)
        print(got.stderr[-500:])
        return None
    return out


class Browser:
    def __init__(self, node_modules, origin, ca):
        """With `ca` (None: none) as the one authority that this browser knows beside the public ones."""
        self.home = tempfile.mkdtemp(prefix="muster-home-")
        store = os.path.join(self.home, ".pki/nssdb")
        os.makedirs(store)
        subprocess.run(["certutil", "-d", f"sql:{store}", "-N", "--empty-password"], check=True)
        if ca:
            subprocess.run(["certutil", "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "muster", "-i", ca], check=True)
        self.log = open(os.path.join(self.home, "log"), "w+b")
        self.process = subprocess.Popen(["node", os.path.join(SOURCE, "client.mjs"), node_modules, shutil.which("chromium"), origin],
                                        env={**os.environ, "HOME": self.home}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True)
        assert self.answer() == {"ok": "ready"}

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise AssertionError("the browser has ended: " + self.log.read().decode(errors="replace")[-2000:])
        return json.loads(line)

    def ask(self, *command):
        """{"ok": value} or {"error": text}."""
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def __call__(self, *command):
        got = self.ask(*command)
        assert "ok" in got, (command, got)
        return got["ok"]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)


def test_qualities(b, url, login):
    for version in (4, 5):
        topic = f"plant/browser/{version}"
        assert b("connect", f"a{version}", url, {**login, "protocolVersion": version, "clientId": f"browser-a{version}"}) is False
        assert b("subscribe", f"a{version}", topic + "/+", {"qos": 2}) == [2]
        for qos in (0, 1, 2):
            b("publish", f"a{version}", f"{topic}/{qos}", f"text {qos}", {"qos": qos})
        got = {m["topic"]: (m["text"], m["qos"]) for m in b("messages", f"a{version}", 3)}
        assert got == {f"{topic}/{q}": (f"text {q}", q) for q in (0, 1, 2)}, got
        b("end", f"a{version}")


def test_properties_and_size(b, url, login):
    b("connect", "p", url, {**login, "protocolVersion": 5, "clientId": "browser-p"})
    b("subscribe", "p", "plant/p", {"qos": 1})
    large = "x" * 200000
    b("publish", "p", "plant/p", large, {"qos": 1, "properties": {"userProperties": {"k": ["2", "1"]}}})
    got = b("messages", "p", 1)
    assert len(got) == 1 and got[0]["text"] == large and got[0]["user"] == {"k": ["2", "1"]}, got[0]["user"]
    b("end", "p")


def test_reconnect(b, url, login, server):
    """Its session outlives kill -9 of the server; what it says meanwhile is said once."""
    options = {**login, "protocolVersion": 5, "clientId": "browser-r", "clean": False, "reconnectPeriod": 500,
               "properties": {"sessionExpiryInterval": 600}}
    assert b("connect", "r", url, options) is False
    b("subscribe", "r", "plant/r", {"qos": 2})
    server.kill()
    for i in range(5):
        b("queue", "r", "plant/r", f"m{i}", {"qos": 2})
    server.start()
    assert sorted(m["text"] for m in b("messages", "r", 5)) == [f"m{i}" for i in range(5)]
    assert b("connects", "r") == 2
    b("end", "r")


def test_refusals(b, url, login):
    got = b.ask("connect", "w", url, {**login, "password": "wrong", "protocolVersion": 5, "clientId": "browser-w"})
    assert any(words in got["error"].lower() for words in ("not authorized", "bad user")), got
    assert b("socket", url, ["mqtt"]) == "mqtt"
    assert b("socket", url, ["chat"]) == "refused"


def test_strangers(node_modules, url, login, server):
    """A page of another origin is refused; a browser that does not know the authority does not connect."""
    other = Browser(node_modules, "https://elsewhere.invalid", server.ca)
    try:
        assert other("socket", url, ["mqtt"]) == "refused"
    finally:
        other.close()
    untrusting = Browser(node_modules, f"https://localhost:{server.ports['https']}", None)
    try:
        assert "error" in untrusting.ask("connect", "u", url, {**login, "clientId": "browser-u"})
    finally:
        untrusting.close()


def main():
    for program, package in (("chromium", "chromium"), ("node", "nodejs"), ("npm", "npm"), ("certutil", "libnss3-tools")):
        if not shutil.which(program):
            print(f"skipped: {package} is not installed")
            return 77
    node_modules = modules()
    if not node_modules:
        print("skipped: npm cannot get the packages")
        return 77
    with muster.Server() as s:
        user, password = application.create(s, "browser", ["plant/#"])
        login, url, origin = {"username": user, "password": password}, f"wss://localhost:{s.ports['https']}/mqtt", f"https://localhost:{s.ports['https']}"
        b = Browser(node_modules, origin, s.ca)
        try:
            test_qualities(b, url, login)
            test_properties_and_size(b, url, login)
            test_refusals(b, url, login)
            test_reconnect(b, url, login, s)
        finally:
            b.close()
        test_strangers(node_modules, url, login, s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
