"""Starts, kills and restarts a real muster-agent. Used by the agent's system tests."""
import os
import signal
import subprocess

import muster


class Agent:
    def __init__(self, port, ca, state, args=(), token=None, release=False, env=None, host="localhost"):
        self.command = [os.path.join(muster.RELEASE_BIN if release else muster.BIN, "muster-agent"), "--server", f"mqtts://{host}:{port}", "--ca", ca,
                        "--state", state, "--no-keys", "--log-level", "debug", *args]
        self.state, self.token, self.env = state, token, dict(env or {})
        self.log_path = state.rstrip("/") + ".log"
        self.process = None

    def start(self):
        env = {**os.environ, **muster.SANITIZE, **self.env}
        if self.token:
            env["MUSTER_CLAIM"] = self.token
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, expect=0):
        self.process.send_signal(signal.SIGTERM)
        return self.wait(expect)

    def wait(self, expect=0, seconds=20):
        code = self.process.wait(seconds)
        if expect is not None and code != expect:
            raise AssertionError(f"muster-agent ended with {code}, not {expect}\n{self.log()[-4000:]}")
        return code

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def status_kb(self, field):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(next(line for line in f if line.startswith(field + ":")).split()[1])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if kind is not None and os.path.exists(self.log_path):
            print(self.log()[-6000:])
