"""The accounts themselves: with a server that loses nothing they find nothing, and what a server without durable sessions loses they find.

mosquitto stands in for both: left running with clients that stay, and killed with the persistence it has by default.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import contract
import ledger
import muster


class Mosquitto:
    def __init__(self, work):
        self.work, self.port = work, muster.free_port()
        with open(f"{work}/conf", "w") as f:
            f.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {work}/\nmax_queued_messages 0\n")
            f.write("user root\n" if os.geteuid() == 0 else "")
        self.start()

    def start(self):
        self.process = subprocess.Popen(["mosquitto", "-c", f"{self.work}/conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def account(work, name, server, kills):
    with ledger.Load(f"{work}/{name}", server.port, publishers=8, subscribers=4, qos=0, version=0, rate=1000, offline_ms=300 if kills else 0) as load:
        for _ in range(kills):
            load.wait_more(400)
            server.kill()
            server.start()
        load.wait_more(600)
        load.quiet()
        load.settle()
        load.stop()
        return load.account.at_subscribers()


def promises(server, kills):
    c = contract.Contract(server.port)
    with c.running():
        for _ in range(kills):
            time.sleep(0.7)
            server.kill()
            server.start()
        time.sleep(1)
    assert all(p.acked > 50 for p in c.pieces), str(c)
    return c.verify()


def main():
    work = tempfile.mkdtemp(prefix="muster-ledger-")
    os.chmod(work, 0o755)
    server = Mosquitto(work)
    try:
        kept = account(work, "kept", server, 0)
        assert kept.problem() is None and kept.lost == 0 and kept.unknown == 0 and kept.acked >= 600, kept
        lost = account(work, "lost", server, 2)
        assert lost.problem() is not None and lost.lost > 0 and lost.gone > 0, lost
        kept_promises, broken = promises(server, 0), promises(server, 2)
        assert not kept_promises, kept_promises
        for piece in ("Messages", "Subscriptions", "Wills"):
            assert any(b.startswith(piece) for b in broken), (piece, broken)
        print(f"left running: {kept}\nkilled twice: {lost}\n{broken}")
    finally:
        server.kill()
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    if shutil.which("mosquitto") is None:
        print("skipped: no mosquitto")
        sys.exit(77)
    sys.exit(main())
