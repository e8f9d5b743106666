"""Eclipse Paho's C library, its blocking API (MQTT 3.1.1) and its asynchronous one (5.0), over TLS: every quality of service, a session
that waits while its client is away and the server is killed, and messages said while there was no connection."""
import os
import shutil
import subprocess
import sys
import tempfile

import application
import muster

ROOT = muster.ROOT
HEADER = "/usr/include/MQTTAsync.h"


class Failed(Exception):
    pass


class Paho:
    """The program tests/interop/paho_client.c, obeying."""

    def __init__(self, program, kind, uri, client_id, user, password, ca, directory):
        os.makedirs(directory, exist_ok=True)
        self.process = subprocess.Popen([program, kind, uri, client_id, user, password, ca, directory], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.answer() == ["open"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line or line.startswith("error"):
            raise Failed(line.strip() or "the client has died")
        return line.split()

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        """Without DISCONNECT."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def build(directory):
    program = os.path.join(directory, "paho_client")
    subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", program, os.path.join(ROOT, "tests/interop/paho_client.c"),
                    "-lpaho-mqtt3cs", "-lpaho-mqtt3as", "-lpthread"], check=True)
    return program


def messages(client, count):
    """That many messages, as {text: qos}, and then none."""
    out = []
    for _ in range(count):
        got = client("receive", 15000)
        assert got[0] == "message", got
        out.append((got[4], int(got[2])))
    assert client("receive", 300) == ["nothing"]
    return sorted(out)


def talk(make, other, topic, restart):
    """One API from one end to the other; `other` publishes while the client is away."""
    client = make()
    assert client("connect", 0) == ["connected", "0"]
    assert client("subscribe", topic + "/#", 2) == ["subscribed", "2"]
    for qos in (0, 1, 2):
        assert client("publish", f"{topic}/own", qos, f"own{qos}") == ["published"]
    assert messages(client, 3) == [("own0", 0), ("own1", 1), ("own2", 2)]
    client.end()

    assert other("connect", 1) == ["connected", "0"]
    for qos in (1, 2):
        for i in range(10):
            assert other("publish", f"{topic}/away", qos, f"away{qos}{i}") == ["published"]
    other("disconnect")
    restart()
    client = make()
    assert client("connect", 0) == ["connected", "1"]
    assert messages(client, 20) == sorted([(f"away{q}{i}", q) for q in (1, 2) for i in range(10)])
    return client


def said_while_down(client, topic, server):
    """The asynchronous API keeps what is said without a connection, and reconnects by itself."""
    server.kill()
    for i in range(10):
        assert client("send", f"{topic}/down", 2, f"down{i}") == ["sent"]
    server.start()
    assert messages(client, 10) == sorted((f"down{i}", 2) for i in range(10))


def main():
    if not os.path.exists(HEADER) or not shutil.which("cc"):
        print("skipped: libpaho-mqtt-dev is not installed")
        return 77
    with tempfile.TemporaryDirectory(prefix="paho-") as directory, muster.Server() as s:
        program = build(directory)
        user, password = application.create(s, "paho", ["plant/#"])
        uri = f"ssl://localhost:{s.ports['mqtts']}"
        clients = []

        def make(kind, name):
            clients.append(Paho(program, kind, uri, name, user, password, s.ca, os.path.join(directory, name)))
            return clients[-1]

        def restart():
            s.kill()
            s.start()

        try:
            talk(lambda: make("sync", "paho-sync"), make("async", "other-1"), "plant/sync", restart)("disconnect")
            print("MQTTClient, 3.1.1: ok", flush=True)
            client = talk(lambda: make("async", "paho-async"), make("sync", "other-2"), "plant/async", restart)
            said_while_down(client, "plant/async", s)
            client("disconnect")
            print("MQTTAsync, 5.0: ok", flush=True)
        finally:
            for c in clients:
                c.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
