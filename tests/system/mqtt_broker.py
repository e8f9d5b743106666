"""The broker from outside, with mosquitto's own clients: delivery, durable sessions over kill -9, retained messages, wills,
shared subscriptions, what operators see of it.
"""
import os
import shutil
import subprocess
import time

import muster

TOKEN = "token-of-{}-0123456789abcdef"
POLICY = {"statements": [{"effect": "allow", "actions": ["publish", "subscribe", "receive", "retain"], "topics": ["t/#"]}]}


def command(tool, s, device, *args):
    return [tool, "-h", "127.0.0.1", "-p", str(s.ports["mqtt"]), "-u", device, "-P", TOKEN.format(device), *args]


def pub(s, device, topic, payload, *args):
    subprocess.run(command("mosquitto_pub", s, device, "-i", device, "-t", topic, "-m", payload, *args), check=True, timeout=30)


def sub(s, device, count, *args, wait=5):
    """Starts a subscriber that ends after `count` messages or `wait` seconds."""
    return subprocess.Popen(command("mosquitto_sub", s, device, "-C", str(count), "-W", str(wait), "-F", "%t %q %r %p", *args),
                            stdout=subprocess.PIPE, text=True)


def got(process):
    out, _ = process.communicate(timeout=30)
    return out.split("\n")[:-1]


def subscribed(s, client_id):
    """The session is there and has its subscription."""
    def ask():
        try:
            return s.api("GET", f"/api/v1/sessions/{client_id}")["subscriptions"] > 0
        except muster.Refused:
            return False
    muster.wait_for(f"the subscription of {client_id}", ask)


def subscriptions(s, n):
    muster.wait_for(f"{n} subscriptions", lambda: s.metric("muster_mqtt_subscriptions") == n)


def delivery(s):
    for version in ("mqttv311", "mqttv5"):
        subscriptions(s, 0)
        p = sub(s, "d2", 3, "-i", "d2", "-t", "t/#", "-q", "2", "-V", version)
        subscriptions(s, 1)
        for qos in ("0", "1", "2"):
            pub(s, "d1", "t/x", f"m{qos}", "-q", qos, "-V", version)
        assert got(p) == ["t/x 0 0 m0", "t/x 1 0 m1", "t/x 2 0 m2"]


def durable(s):
    flags = ["-i", "d3", "-c", "-x", "3600", "-V", "mqttv5", "-t", "t/keep/#", "-q", "2"]
    p = sub(s, "d3", 1, *flags, wait=60)
    subscribed(s, "d3")
    pub(s, "d1", "t/keep/a", "first", "-q", "1")
    assert got(p) == ["t/keep/a 1 0 first"]
    for i in range(20):
        pub(s, "d1", "t/keep/a", f"{i}", "-q", "2" if i % 2 else "1")
    s.kill()
    s.start()
    one = s.api("GET", "/api/v1/sessions/d3")
    assert one["queued"] == 20 and not one["online"] and one["principal"] == "d3", one
    assert one["filters"][0]["filter"] == "t/keep/#" and one["filters"][0]["qos"] == 2, one
    lines = got(sub(s, "d3", 20, *flags, wait=20))
    for qos in (1, 2):  # the client shows a QoS 2 message when it is released: each way keeps its own order
        assert [x for x in lines if f" {qos} 0 " in x] == [f"t/keep/a {qos} 0 {i}" for i in range(qos - 1, 20, 2)], lines
    muster.wait_for("an empty queue", lambda: s.api("GET", "/api/v1/sessions/d3")["queued"] == 0)
    assert [i["client_id"] for i in s.api("GET", "/api/v1/sessions")["items"]] == ["d3"]
    s.cli("session", "delete", "d3")
    assert s.api("GET", "/api/v1/sessions")["items"] == []


def retained(s):
    pub(s, "d1", "t/r/1", "one", "-q", "1", "-r")
    pub(s, "d1", "t/r/2", "two", "-r")
    pub(s, "d1", "t/r/3", "gone", "-q", "1", "-r")
    pub(s, "d1", "t/r/3", "", "-q", "1", "-r")
    muster.wait_for("both", lambda: len(s.api("GET", "/api/v1/retained")["items"]) == 2)
    s.kill()
    s.start()
    assert sorted(got(sub(s, "d2", 2, "-i", "d2", "-t", "t/r/+", "-q", "1"))) == ["t/r/1 1 1 one", "t/r/2 0 1 two"]
    one = s.cli_json("retained", "show", "t/r/1")
    assert one["payload"] == "one" and one["principal"] == "d1" and one["qos"] == 1, one
    s.cli("retained", "delete", "t/r/1")
    s.cli("device", "delete", "d1")  # what it has retained goes with it
    assert s.api("GET", "/api/v1/retained")["items"] == []
    s.device("d1", TOKEN.format("d1"))


def will(s):
    subscriptions(s, 0)
    p = sub(s, "d2", 1, "-i", "d2", "-t", "t/will", "-q", "1", wait=20)
    subscriptions(s, 1)
    dying = subprocess.Popen(command("mosquitto_sub", s, "d4", "-i", "d4", "-t", "t/none", "--will-topic", "t/will", "--will-payload",
                                     "dead", "--will-qos", "1"))
    subscriptions(s, 2)
    dying.kill()
    dying.wait()
    assert got(p) == ["t/will 1 0 dead"]


def shared(s):
    members = []
    subscriptions(s, 0)
    for i, device in enumerate(("d2", "d3")):
        members.append(sub(s, device, 10, "-i", device, "-t", "$share/g/t/s", "-q", "1", "-V", "mqttv5", wait=20))
        subscriptions(s, i + 1)
    for i in range(20):
        pub(s, "d1", "t/s", f"{i}", "-q", "1")
    lines = [got(m) for m in members]
    assert [len(v) for v in lines] == [10, 10], lines
    assert sorted(int(v.split()[3]) for m in lines for v in m) == list(range(20))


def refused(s):
    r = subprocess.run(command("mosquitto_pub", s, "d1", "-i", "d1", "-t", "u/x", "-m", "x", "-q", "1", "-V", "mqttv5"), timeout=30,
                       capture_output=True, text=True)
    assert "ot authorized" in r.stderr + r.stdout, r
    r = subprocess.run(command("mosquitto_sub", s, "d1", "-i", "d2", "-t", "t/x", "-V", "mqttv5"), timeout=30, capture_output=True, text=True)
    assert r.returncode != 0, r  # d2 is another device
    muster.wait_for("the refusal in the record", lambda: any(
        i["action"] == "security.client_id_taken" and i["object"] == "d2" for i in s.api("GET", "/api/v1/audit")["items"]))


def main():
    if shutil.which("mosquitto_sub") is None:
        raise SystemExit("mosquitto-clients is needed")
    with muster.Server() as s:
        for i in range(1, 5):
            s.device(f"d{i}", TOKEN.format(f"d{i}"))
        s.api("POST", "/api/v1/policies", {"id": "all", "document": POLICY})
        s.api("POST", "/api/v1/policies/all/attachments", {"kind": "tenant", "target": "default"})
        for part in (delivery, durable, retained, will, shared, refused):
            start = time.monotonic()
            part(s)
            print(f"{part.__name__}: {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
