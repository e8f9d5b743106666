"""The servers of a benchmark: Muster, peers started from configuration templates, and the floor.

Each has a name, a pid, ports by kind (plain, tls, mtls) and the options with which mqttload comes in.
A template (peers/NAME.conf) begins with "# start: COMMAND"; in it and in the command @binary@ @config@ @work@ @plain@ @tls@ @mtls@
@ca@ @cert@ @key@ are filled in.
"""
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../lib"))
os.environ.setdefault("MUSTER_BIN", os.path.join(HERE, "../../build/bin"))
import muster  # noqa: E402

KINDS = ("plain", "tls", "mtls")
TOPIC = ["--topic", "bench/%c"]


def tool(name):
    return os.path.join(muster.BIN, name)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Peer:
    """Another broker, by its binary and a template."""

    def __init__(self, name, binary, template, work, files):
        self.name, self.binary, self.template = name, binary, template
        self.work = os.path.join(work, "peer-" + name)
        os.mkdir(self.work)
        self.files = files
        self.ports, self.process = {}, None

    def start(self):
        self.ports = {k: self.ports.get(k) or muster.free_port() for k in KINDS}
        words = {"binary": self.binary, "config": os.path.join(self.work, "config"), "work": self.work, **self.files,
                 **{k: str(p) for k, p in self.ports.items()}}

        def fill(text):
            for word, value in words.items():
                text = text.replace(f"@{word}@", value)
            return text
        with open(self.template) as f:
            text = f.read()
        first = text.splitlines()[0]
        if not first.startswith("# start: "):
            raise SystemExit(f"{self.template}: the first line has to be '# start: COMMAND'")
        with open(words["config"], "w") as f:
            f.write(fill(text))
        with open(os.path.join(self.work, "log"), "ab") as log:
            self.process = subprocess.Popen(fill(first[len("# start: "):]).split(), stdout=log, stderr=log, cwd=self.work)
        muster.wait_for(f"{self.name} listens (see {self.work}/log)", lambda: listens(self.ports["plain"]), 10)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """In whatever state it is."""
        if self.process and self.process.poll() is None:
            self.stop()

    @property
    def pid(self):
        return self.process.pid

    def options(self, _clients, _kind):
        return TOPIC


class Floor(Peer):
    """What any server must pay: reads, parses, acknowledges. One thread; its TLS is OpenSSL's own."""

    def __init__(self, work, files):
        super().__init__("floor", tool("floor"), None, work, files)
        self.tls = []

    def start(self):
        command = [self.binary, "--cert", self.files["cert"], "--key", self.files["key"], *self.tls]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        words = dict(w.split("=") for w in self.process.stdout.readline().split()[2:])
        self.ports = {"plain": int(words["mqtt"]), "tls": int(words["mqtts"]), "mtls": int(words["mqtts"])}

    def be(self, kind, resume):
        """With client certificates or without; without a session ticket where none is used: OpenSSL's least."""
        tls = (["--ca", self.files["ca"]] if kind == "mtls" else []) + ["--tickets", "1" if resume else "0"]
        if tls != self.tls:
            self.tls = tls
            self.stop()
            self.start()


class Muster:
    """The server, with as many devices, certificates and permissions as a row asks for."""
    name = "muster"

    def __init__(self, work):
        self.work = work
        # 16 clients that do nothing but come and go are no flapping devices here; bounds of one client as high as the peers'.
        self.server = muster.Server(args=["--ban.flapping_connects=0", "--mqtt.send_max=8192", "--mqtt.queue_max=1000000"], start=False)
        self.allowed = False
        self.devices = self.certificates = 0
        self.import_rate = 0
        self.users = os.path.join(work, "users")
        self.certs = os.path.join(work, "certs")
        os.mkdir(self.certs)
        self.files = {"ca": self.server.ca, "cert": os.path.join(self.server.data, "server.pem"),
                      "key": os.path.join(self.server.data, "server.key")}

    def start(self):
        self.server.start()
        if not self.allowed:
            self.allow_topics()
            self.allowed = True

    def stop(self):
        self.server.stop()

    def kill(self):
        self.server.kill()

    def remove(self):
        """The process, in whatever state it is, and its files."""
        if self.server.process is not None and self.server.process.poll() is None:
            self.server.kill()
        shutil.rmtree(self.server.data, ignore_errors=True)
        if os.path.exists(self.server.log_path):
            os.unlink(self.server.log_path)

    @property
    def pid(self):
        return self.server.process.pid

    @property
    def ports(self):
        p = self.server.ports
        return {"plain": p["mqtt"], "tls": p["mqtts"], "mtls": p["mqtts"]}

    def allow_topics(self):
        """What a peer lets anybody do, a policy allows every device here: the rows of the broker pay for that check."""
        document = {"statements": [{"effect": "allow", "actions": ["publish", "subscribe"], "topics": ["bench/#"]}]}
        self.server.api("POST", "/api/v1/policies", {"id": "bench", "document": document})
        self.server.api("POST", "/api/v1/policies/bench/attachments", {"kind": "tenant"})

    def need_devices(self, n):
        if n <= self.devices:
            return
        lines = os.path.join(self.work, "devices.ndjson")
        with open(lines, "w") as f, open(self.users, "a") as u:
            for i in range(self.devices, n):
                f.write(json.dumps({"id": f"b{i}", "access_token": f"token-of-bench-device-{i:05d}"}) + "\n")
                u.write(f"b{i} token-of-bench-device-{i:05d}\n")
        start = time.monotonic()
        self.server.cli("device", "import", lines)
        self.import_rate = (n - self.devices) / (time.monotonic() - start)
        self.devices = n

    def need_certificates(self, n):
        """Devices m0, m1, ... by the public path: claim, signing request, enrolment."""
        if n <= self.certificates:
            return
        subprocess.run([tool("certs"), self.certs, "m", str(n)], check=True)
        claim = self.server.cli_json("claim", "create", "--uses", str(n), "--ttl", "1h")["token"]
        api = http.client.HTTPConnection("127.0.0.1", self.server.ports["http"])
        for i in range(n):
            with open(f"{self.certs}/m{i}.csr") as f:
                body = json.dumps({"csr": f.read()})
            api.request("POST", "/api/v1/enroll", body, {"Authorization": "Bearer " + claim, "Content-Type": "application/json"})
            reply = json.loads(api.getresponse().read())
            with open(f"{self.certs}/m{i}.pem", "w") as f:
                f.write(reply["certificate"])
        api.close()
        self.certificates = n

    def options(self, clients, kind):
        if kind == "mtls":
            return TOPIC
        self.need_devices(clients)
        return TOPIC + ["--users", self.users]
