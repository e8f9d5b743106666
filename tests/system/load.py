"""The load generator tells the truth: what it says was sent, acknowledged and delivered is what a server saw; it counts what fails."""
import json
import os
import shutil
import subprocess
import tempfile

import muster

ENV = {**os.environ, **muster.SANITIZE}


def load(port, *args, code=0):
    p = subprocess.run([os.path.join(muster.BIN, "mqttload"), "--port", str(port), *map(str, args)], env=ENV, capture_output=True, text=True,
                       timeout=60, check=False)
    assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
    return json.loads(p.stdout) if code == 0 else p.stderr


def against_floor(port, pid):
    for qos in (0, 1, 2):
        for version in ((), ("--mqtt5",)):
            f = load(port, "--clients", 7, "--window", 3, "--qos", qos, "--messages", 1000, "--server-pid", pid, *version)
            assert f["sent"] == 1000 and f["acked"] == (1000 if qos else 0) and f["lost"] == f["refused"] == 0, f
            assert f["server_cpu_s"] > 0 and f["seconds"] > 0, f
            assert (0 < f["ack_p50_ms"] <= f["ack_p99_ms"] <= f["ack_max_ms"] * 1.04) == (qos > 0), f
    f = load(port, "--clients", 3, "--rate", 500, "--messages", 500)
    assert 0.9 < f["seconds"] < 1.5, f
    f = load(port, "--clients", 4, "--cycles", 50)
    assert f["connects"] == 50 and f["connect_p50_ms"] > 0, f
    with tempfile.NamedTemporaryFile() as ledger:
        load(port, "--clients", 5, "--messages", 200, "--seq", "--ledger", ledger.name)
        with open(ledger.name) as lines:
            seen = sorted(tuple(line.split()) for line in lines)
        assert len(seen) == len(set(seen)) == 200 and seen[0] == ("load-0", "0"), seen[:3]


def against_server():
    """The server's own ledger agrees; strangers are counted as refused."""
    with muster.Server() as s, tempfile.TemporaryDirectory() as work:
        with open(f"{work}/users", "w") as users:
            for i in range(3):
                s.device(f"l{i}", f"token-of-load-device-{i}-0123")
                users.write(f"l{i} token-of-load-device-{i}-0123\n")
        port = s.ports["mqtt"]
        f = load(port, "--users", f"{work}/users", "--clients", 3, "--messages", 300, "--server-pid", s.process.pid)
        g = load(s.ports["mqtts"], "--users", f"{work}/users", "--clients", 3, "--messages", 90, "--tls", "--ca", s.ca)
        assert f["acked"] == 300 and g["acked"] == 90, (f, g)
        ledger = s.api("GET", "/api/v1/ledger")
        assert ledger["received"] == ledger["stored"] == 390, ledger
        f = load(s.ports["mqtts"], "--users", f"{work}/users", "--clients", 3, "--cycles", 20, "--tls", "--ca", s.ca, "--resume")
        assert f["connects"] == f["resumed"] == 20, f
        f = load(port, "--clients", 2, "--messages", 10)
        assert f["refused"] == 2 and f["sent"] == 0, f


def deliveries():
    """Copies for subscribers, and those that never come, against a broker with a small queue."""
    port = muster.free_port()
    with tempfile.TemporaryDirectory() as work:
        with open(f"{work}/conf", "w") as f:
            f.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n")
        broker = subprocess.Popen(["mosquitto", "-c", f"{work}/conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            muster.wait_for("mosquitto listens", lambda: subprocess.run(["mosquitto_pub", "-p", str(port), "-t", "x", "-m", "y"], check=False,
                                                                        capture_output=True).returncode == 0)
            for qos in (0, 1, 2):
                f = load(port, "--clients", 4, "--topic", "t/%c", "--subscribers", 3, "--filter", "t/#", "--sub-qos", qos, "--qos", qos, "--messages", 200,
                         "--stamp")
                assert f["received"] == f["expected"] == 600 and 0 < f["delivery_p50_ms"] <= f["delivery_p99_ms"], f
            f = load(port, "--clients", 3, "--topic", "t/%3c", "--subscribers", 3, "--filter", "t/%3c", "--copies", 1, "--messages", 90)
            assert f["received"] == f["expected"] == 90, f
            f = load(port, "--clients", 1, "--topic", "t/0", "--subscribers", 1, "--filter", "u/#", "--messages", 10, "--drain", "0.3")
            assert (f["received"], f["expected"]) == (0, 10) and f["seconds"] < 0.3, f
            held = subprocess.Popen([os.path.join(muster.BIN, "mqttload"), "--port", str(port), "--clients", "20", "--hold"], env=ENV, stdout=subprocess.PIPE,
                                    text=True)
            assert json.loads(held.stdout.readline())["up"] == 20
        finally:
            broker.kill()
            broker.wait()
        f = json.loads(held.communicate(timeout=10)[0])
        assert f["lost"] == 20 and f["open"] == 0, f


def mistakes():
    for args, word in ((["--qos", "3"], "--qos"), (["--window", "0"], "--window"), (["--clients", "x"], "--clients x"), (["--subscribers", "1"], "--filter"),
                       (["--users", "/nowhere"], "/nowhere"), (["stray"], "stray"), (["--tls", "--ca", "/nowhere"], "/nowhere")):
        error = load(1, *args, code=2)
        assert word in error, (args, error)


def main():
    floor = subprocess.Popen([os.path.join(muster.BIN, "floor")], env=ENV, stdout=subprocess.PIPE, text=True)
    try:
        port = int(floor.stdout.readline().split("mqtt=")[1].split()[0])
        against_floor(port, floor.pid)
    finally:
        floor.kill()
        floor.wait()
    against_server()
    if shutil.which("mosquitto"):
        deliveries()
    mistakes()


if __name__ == "__main__":
    main()
