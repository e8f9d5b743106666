"""mosquitto_pub, mosquitto_sub and mosquitto_rr over TLS: versions, qualities of service, retained messages, wills, properties, sessions,
shared subscriptions, requests, much and large."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

import application
import muster

SECONDS = 20


class Tools:
    def __init__(self, server, user, password):
        self.server = server
        self.options = ["-h", "localhost", "-p", str(server.ports["mqtts"]), "--cafile", server.ca, "-u", user, "-P", password]

    def pub(self, *args, stdin=None):
        out = subprocess.run(["mosquitto_pub", *self.options, *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False)
        assert out.returncode == 0, (args, out.stdout, out.stderr)

    def sub(self, *args):
        """A running mosquitto_sub that has its SUBACK."""
        return Sub(["mosquitto_sub", *self.options, "-d", "-W", str(SECONDS), *map(str, args)])


class Sub:
    def __init__(self, command):
        self.log = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen(["stdbuf", "-oL", *command], stdout=self.log, stderr=subprocess.STDOUT)
        muster.wait_for("SUBACK", lambda: b"Subscribed (mid" in self.text() or self.process.poll() is not None)

    def text(self):
        with open(self.log.name, "rb") as f:  # not self.log: its position is the process's, too
            return f.read()

    def messages(self):
        """What was printed for messages (the lines that begin with =), once it has ended by itself."""
        self.process.wait(SECONDS + 5)
        return [x[1:] for x in self.text().decode(errors="replace").splitlines() if x.startswith("=")]

    def kill(self):
        self.process.kill()
        self.process.wait()


def test_qualities(t):
    for version in ("mqttv311", "mqttv5"):
        for qos in (0, 1, 2):
            sub = t.sub("-V", version, "-t", f"plant/{version}/+", "-q", qos, "-C", 2, "-F", "=%t %q %r %p")
            t.pub("-V", version, "-t", f"plant/{version}/a", "-q", qos, "-m", "one")
            t.pub("-V", version, "-t", f"plant/{version}/b", "-q", 2, "-m", "two")
            assert sub.messages() == [f"plant/{version}/a {qos} 0 one", f"plant/{version}/b {qos} 0 two"], sub.text()


def test_retained(t):
    for version in ("mqttv311", "mqttv5"):
        topic = f"plant/kept/{version}"
        t.pub("-V", version, "-t", topic, "-q", 1, "-r", "-m", "first")
        t.pub("-V", version, "-t", topic, "-q", 2, "-r", "-m", "last")
        assert t.sub("-V", version, "-t", topic, "-q", 2, "-C", 1, "-F", "=%q %r %p").messages() == ["2 1 last"]
        t.pub("-V", version, "-t", topic, "-q", 1, "-r", "-n")
        sub = t.sub("-V", version, "-t", topic, "-q", 2, "-C", 1, "-F", "=%q %r %p")
        t.pub("-V", version, "-t", topic, "-q", 1, "-m", "passing")
        assert sub.messages() == ["1 0 passing"]


def test_wills(t):
    for version in ("mqttv311", "mqttv5"):
        watcher = t.sub("-V", version, "-t", f"plant/will/{version}", "-q", 1, "-C", 1, "-F", "=%q %p")
        mortal = t.sub("-V", version, "-t", "plant/unused", "--will-topic", f"plant/will/{version}", "--will-payload", "gone", "--will-qos", 1)
        mortal.kill()
        assert watcher.messages() == ["1 gone"]


def test_properties(t):
    sub = t.sub("-V", 5, "-t", "plant/props", "-q", 1, "-C", 1, "-F", "=%C %R %D %E %P %p")
    t.pub("-V", 5, "-t", "plant/props", "-q", 1, "-m", "x", "-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "plant/answers",
          "-D", "publish", "correlation-data", "c1", "-D", "publish", "message-expiry-interval", "60", "-D", "publish", "user-property", "k", "2",
          "-D", "publish", "user-property", "a", "1")
    got = sub.messages()
    assert got in (["text/plain plant/answers c1 60 k:2 a:1 x"], ["text/plain plant/answers c1 59 k:2 a:1 x"]), got


def test_sessions(t):
    for version, lasting in (("mqttv311", ()), ("mqttv5", ("-x", "300"))):
        common = ("-V", version, "-i", f"away-{version}", "-c", *lasting, "-t", f"plant/away/{version}", "-q", 2)
        first = t.sub(*common, "-E")
        assert first.process.wait(SECONDS) == 0, first.text()
        for i in range(5):
            t.pub("-V", version, "-t", f"plant/away/{version}", "-q", 1 + i % 2, "-m", f"m{i}")
        t.server.kill()
        t.server.start()
        got = t.sub(*common, "-C", 5, "-F", "=%q %p").messages()
        assert sorted(got) == ["1 m0", "1 m2", "1 m4", "2 m1", "2 m3"], got  # it prints QoS 2 once it is released


def test_shared(t):
    subs = [t.sub("-V", 5, "-t", "$share/workers/plant/jobs", "-q", 1, "-C", 10, "-F", "=%p") for _ in range(2)]
    t.pub("-V", 5, "-t", "plant/jobs", "-q", 1, "-l", stdin=b"".join(b"%d\n" % i for i in range(20)))
    got = [s.messages() for s in subs]
    assert sorted(int(x) for g in got for x in g) == list(range(20)) and all(len(g) == 10 for g in got), got


def test_request(t):
    responder = t.sub("-V", 5, "-t", "plant/questions", "-q", 1, "-C", 1, "-F", "=%R %D %p")
    asker = subprocess.Popen(["mosquitto_rr", *t.options, "-V", "5", "-t", "plant/questions", "-e", "plant/answers/me", "-q", "1", "-m", "how many",
                              "-D", "publish", "correlation-data", "q1", "-W", str(SECONDS)], stdout=subprocess.PIPE)
    topic, correlation, question = responder.messages()[0].split(" ", 2)
    assert question == "how many"
    t.pub("-V", 5, "-t", topic, "-q", 1, "-m", "three", "-D", "publish", "correlation-data", correlation)
    assert asker.communicate(timeout=SECONDS)[0].strip() == b"three"


def test_much_and_large(t):
    count = 1000
    for qos in (1, 2):
        sub = t.sub("-V", 5, "-t", f"plant/much/{qos}", "-q", qos, "-C", count, "-F", "=%p")
        t.pub("-V", 5, "-t", f"plant/much/{qos}", "-q", qos, "-l", stdin=b"".join(b"%d\n" % i for i in range(count)))
        got = [int(x) for x in sub.messages()]
        assert (got if qos == 1 else sorted(got)) == list(range(count)), got
    payload = os.urandom(250000)
    with tempfile.NamedTemporaryFile() as f:
        f.write(payload)
        f.flush()
        sub = t.sub("-t", "plant/large", "-q", 2, "-C", 1, "-F", "=%l %x")
        t.pub("-t", "plant/large", "-q", 2, "-f", f.name)
    size, data = sub.messages()[0].split()
    assert int(size) == len(payload) and hashlib.sha256(bytes.fromhex(data)).digest() == hashlib.sha256(payload).digest()


def test_refusals(t):
    out = subprocess.run(["mosquitto_sub", *t.options, "-V", "5", "-t", "elsewhere/#", "-C", "1", "-W", "5"], capture_output=True, text=True, check=False)
    assert "denied" in out.stdout + out.stderr, out
    out = subprocess.run(["mosquitto_pub", *t.options[:-1], "wrong", "-t", "plant/x", "-m", "x"], capture_output=True, text=True, check=False)
    assert out.returncode != 0 and "bad user name or password" in out.stderr, out


def main():
    if not shutil.which("mosquitto_sub") or not shutil.which("mosquitto_rr"):
        print("skipped: mosquitto-clients is not installed")
        return 77
    with muster.Server() as s:
        tools = Tools(s, *application.create(s, "tools", ["plant/#"]))
        for test in (test_qualities, test_retained, test_wills, test_properties, test_sessions, test_shared, test_request, test_much_and_large,
                     test_refusals):
            start = time.monotonic()
            test(tools)
            print(f"{test.__name__} ok ({time.monotonic() - start:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
