"""Starts, drives, kills and restarts a real server; calls its API and its command line. Used by all system tests.

    with Server() as s:
        s.device("d1", "secret-token-of-d1")
        s.api("GET", "/api/v1/devices/d1")
        s.cli("device", "list")
"""
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Absolute: tests change the directory, and a power cut boots another system over the same files.
BIN = os.path.abspath(os.environ.get("MUSTER_BIN", os.path.join(ROOT, "build/dev/bin")))
RELEASE_BIN = os.path.abspath(os.environ.get("MUSTER_RELEASE_BIN", os.path.join(ROOT, "build/bin")))
# A sanitizer's finding ends the process with 99, so that no test mistakes it for an ordinary end.
SANITIZE = {"ASAN_OPTIONS": "exitcode=99:detect_leaks=1:abort_on_error=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=99", "TSAN_OPTIONS": "exitcode=99"}


class Refused(Exception):
    """The API answered with an error: status, and the problem document."""

    def __init__(self, status, problem, headers=None):
        super().__init__(f"HTTP {status}: {problem}")
        self.status, self.problem, self.headers = status, problem, headers or {}


class Ports:
    """A hundred ports of this process alone, below the range of outgoing connections: nobody takes one while a killed server is down, and
    no other test that runs beside this one."""

    FIRST, BLOCK, BLOCKS = 12000, 100, 200

    def __init__(self):
        self.lock = self.first = None
        self.next = 0

    def claim(self):
        folder = os.path.join(tempfile.gettempdir(), f"muster-test-ports-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for block in random.sample(range(self.BLOCKS), self.BLOCKS):
            lock = open(os.path.join(folder, str(block)), "w")  # held for the life of the process
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self.lock, self.first = lock, self.FIRST + block * self.BLOCK
            return
        raise RuntimeError("no free ports: too many tests at a time")

    def take(self):
        if self.lock is None:
            self.claim()
        for _ in range(self.BLOCK):
            port = self.first + self.next
            self.next = (self.next + 1) % self.BLOCK
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
        raise RuntimeError("no free port")


_ports = Ports()


def free_port():
    return _ports.take()


def lives(group):
    """Whether a process of this group still runs. What is dead may stay in the list until its parent has looked."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                state, _, its_group = f.read().rsplit(")", 1)[1].split()[:3]
            if int(its_group) == group and (state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1):
                return True
        except OSError:
            pass  # gone meanwhile
    return False


def kill_group(process):
    """SIGKILL to it and all it has started; returns when none of them can do anything any more."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        process.poll()
        if not lives(process.pid):
            break
        time.sleep(0.002)
    process.wait()


class Server:
    """A server in a directory of its own. `kill()` is kill -9; `start()` again continues on the same data."""
    host = "127.0.0.1"

    def __init__(self, data=None, args=(), release=False, plain=True, env=None, prefix=(), start=True, timeout=30):
        self.own_dir = data is None
        self.data = data or tempfile.mkdtemp(prefix="muster-test-")
        self.bin = RELEASE_BIN if release else BIN
        self.args, self.plain, self.env, self.prefix, self.timeout = list(args), plain, dict(env or {}), list(prefix), timeout
        self.process = None
        self.log_path = os.path.join(self.data + ".log")
        self.ports = {}
        if start:
            self.start()

    def start(self):
        command = self.prefix + [os.path.join(self.bin, "muster"), "serve", "--data", self.data]
        for name in ("mqtts", "https") + (("mqtt", "http") if self.plain else ()):
            host = "127.0.0.1" if name == "https" else self.host  # the command line calls localhost
            command += [f"--{name}", f"{host}:{self.ports.get(name) or free_port()}"]  # a restart keeps its ports
        log = open(self.log_path, "ab")
        started = time.monotonic()
        self.process = subprocess.Popen(command + self.args, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                                        env={**os.environ, **SANITIZE, **self.env}, start_new_session=True)
        log.close()
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        line = self.process.stdout.readline().decode()
        timer.cancel()
        self.ready_s = time.monotonic() - started
        if not line.startswith("muster ready "):
            code = self.process.wait()
            raise RuntimeError(f"the server did not start (exit {code}): {line!r}\n{self.log()[-3000:]}")
        self.ready_line = line.strip()
        self.ports = {}
        for part in line.split()[2:]:
            name, address = part.split("=", 1)
            self.ports[name] = None if address == "off" else int(address.rsplit(":", 1)[1])
        return self

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def kill(self):
        """Power off for this process: SIGKILL to its whole group; returns when every member is gone (strace's child too)."""
        kill_group(self.process)
        self.process.stdout.close()

    def stop(self):
        """SIGTERM; the exit code, which must be 0."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError("the server did not stop within 30 s\n" + self.log()[-2000:]) from None
        self.process.stdout.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        code = 0
        if self.process is not None and self.process.poll() is None:
            code = self.stop()
        if kind is not None:
            sys.stderr.write(self.log()[-4000:])
        if self.own_dir:
            shutil.rmtree(self.data, ignore_errors=True)
            if os.path.exists(self.log_path) and kind is None and code == 0:
                os.unlink(self.log_path)
        if kind is None and code != 0:
            raise RuntimeError(f"the server ended with {code}\n" + self.log_tail())

    def log_tail(self):
        try:
            return self.log()[-4000:]
        except OSError:
            return ""

    # --- operator side ---

    @property
    def token(self):
        with open(os.path.join(self.data, "admin.token")) as f:
            return f.read().strip()

    @property
    def ca(self):
        return os.path.join(self.data, "ca.pem")

    def url(self, plain=None):
        plain = self.plain if plain is None else plain
        return f"http://{self.host}:{self.ports['http']}" if plain else f"https://localhost:{self.ports['https']}"

    def request(self, method, path, body=None, token="", headers=None, raw=False, plain=None):
        """(status, headers, parsed body). `token`: "" takes the admin's, None none."""
        h = dict(headers or {})
        if token is not None:
            h["Authorization"] = "Bearer " + (token or self.token)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        if data is not None:
            h.setdefault("Content-Type", "application/json")
        req = urllib.request.Request(self.url(plain) + path, data=data, method=method, headers=h)
        context = None if (self.plain if plain is None else plain) else ssl.create_default_context(cafile=self.ca)
        try:
            with urllib.request.urlopen(req, timeout=30, context=context) as r:
                status, reply, rh = r.status, r.read(), dict(r.headers)
        except urllib.error.HTTPError as e:
            status, reply, rh = e.code, e.read(), dict(e.headers)
        if raw or not reply:
            return status, rh, reply
        try:
            return status, rh, json.loads(reply)
        except ValueError:
            return status, rh, reply

    def api(self, method, path, body=None, **kw):
        status, headers, reply = self.request(method, path, body, **kw)
        if status >= 400:
            raise Refused(status, reply, headers)
        return reply

    def cli_env(self, token_file=None):
        return {**os.environ, **SANITIZE, "MUSTER_URL": f"https://localhost:{self.ports['https']}", "MUSTER_CA": self.ca,
                "MUSTER_TOKEN_FILE": token_file or os.path.join(self.data, "admin.token")}

    def cli_start(self, *args):
        """The command line, left running."""
        return subprocess.Popen([os.path.join(self.bin, "muster"), *map(str, args)], env=self.cli_env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def cli(self, *args, check=True, stdin=None, env=None, token_file=None):
        e = {**self.cli_env(token_file), **(env or {})}
        p = subprocess.run([os.path.join(self.bin, "muster"), *map(str, args)], env=e, input=stdin, capture_output=True, text=True,
                           timeout=120, check=False)
        if check and p.returncode != 0:
            raise RuntimeError(f"muster {' '.join(map(str, args))}: exit {p.returncode}\n{p.stdout[-2000:]}{p.stderr[-2000:]}")
        return p

    def cli_json(self, *args):
        return json.loads(self.cli(*args, "--json").stdout)

    def device(self, device_id, token=None, **fields):
        body = {"id": device_id, **fields}
        if token:
            body["access_token"] = token
        return self.api("POST", "/api/v1/devices", body)

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = self.request("GET", "/metrics", raw=True)[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(re.escape(name) + r"[ {]", line))

    def last(self, device_id):
        return self.api("GET", f"/api/v1/devices/{device_id}/telemetry")["metrics"]

    def points(self, device_id, metric, **query):
        """Every point of a metric, following the pages."""
        query.setdefault("from", "0")
        query.setdefault("limit", 10000)
        out, cursor = [], None
        while True:
            q = dict(query, **({"cursor": cursor} if cursor else {}))
            r = self.api("GET", f"/api/v1/devices/{device_id}/telemetry/{urllib.parse.quote(metric, safe='')}?{urllib.parse.urlencode(q)}")
            out += r["points"]
            cursor = r.get("next")
            if not cursor:
                return out

    def ledger(self, device_id):
        return self.api("GET", f"/api/v1/devices/{device_id}/ledger")

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(next(line for line in f if line.startswith("VmRSS")).split()[1])

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(what, fn, seconds=15, every=0.05):
    """Polls until fn() is true; returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


def ledger_adds_up(ledger):
    return ledger["received"] == ledger["stored"] + sum(ledger["refused"].values()) + ledger["in_flight"]
