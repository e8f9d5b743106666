"""The HTTP front on a real server: repeats, versions, compression, TLS, event streams, and the document that describes it all."""
import concurrent.futures
import gzip
import http.client
import json
import socket
import ssl
import sys
import time
import urllib.request

import apispec
import muster


class Stream:
    """Server-sent events, read one at a time."""

    def __init__(self, server, query="", token=None, last_id=None):
        self.sock = socket.create_connection(("127.0.0.1", server.ports["http"]), 20)
        more = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        self.sock.sendall(f"GET /api/v1/events{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token or server.token}\r\n{more}\r\n".encode())
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline().strip():
            pass

    def next(self):
        """The next event as {"id", "event", "data"}; None at the end of the stream."""
        event = {}
        for line in self.file:
            line = line.decode().rstrip("\n")
            if not line and "data" in event:
                return event
            if line and not line.startswith(":"):
                name, value = line.split(": ", 1)
                event[name] = json.loads(value) if name == "data" else value
        return None

    def close(self):
        self.file.close()
        self.sock.close()


def repeats(s):
    key = {"Idempotency-Key": "repeat-1"}
    first = s.request("POST", "/api/v1/devices", {"id": "once"}, headers=key)
    again = s.request("POST", "/api/v1/devices", {"id": "once"}, headers=key)
    assert first[0] == again[0] == 201 and first[2] == again[2], (first, again)
    assert again[1]["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in first[1]
    other = s.request("POST", "/api/v1/devices", {"id": "twice"}, headers=key)
    assert other[0] == 422 and other[2]["code"] == "idempotency_key_reused", other
    # forty at one time: one effect, one answer
    def post(_):
        return s.request("POST", "/api/v1/groups", {"id": "many"}, headers={"Idempotency-Key": "repeat-2"})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(40)))
    assert {a[0] for a in answers} == {201} and len({json.dumps(a[2]) for a in answers}) == 1, answers
    # the answer was stored with its effect: it survives kill -9
    s.kill()
    s.start()
    after = s.request("POST", "/api/v1/devices", {"id": "once"}, headers=key)
    assert after[0] == 201 and after[2] == first[2], after


def versions(s):
    path = "/api/v1/devices/once/twin"
    status, headers, _ = s.request("GET", path)
    tag = headers["ETag"]
    assert s.request("GET", path, headers={"If-None-Match": tag})[0] == 304
    status, headers, _ = s.request("PATCH", path + "/desired", {"interval": 5}, headers={"If-Match": tag})
    assert status == 200 and headers["ETag"] != tag, (status, headers)
    stale = s.request("PATCH", path + "/desired", {"interval": 6}, headers={"If-Match": tag})
    assert stale[0] == 412 and stale[2]["code"] == "version_mismatch", stale
    assert s.request("GET", path, headers={"If-None-Match": tag})[0] == 200


def compression(s):
    status, headers, raw = s.request("GET", "/api/v1/devices?limit=1000", headers={"Accept-Encoding": "gzip"}, raw=True)
    small = headers.get("Content-Encoding")
    for i in range(60):
        s.device(f"many-{i}", model="a model with a name")
    status, headers, raw = s.request("GET", "/api/v1/devices?limit=1000", headers={"Accept-Encoding": "gzip"}, raw=True)
    assert status == 200 and headers["Content-Encoding"] == "gzip" and small is None, headers
    assert json.loads(gzip.decompress(raw)) == s.api("GET", "/api/v1/devices?limit=1000")


def over_tls(s):
    context = ssl.create_default_context(cafile=s.ca)
    c = http.client.HTTPSConnection("localhost", s.ports["https"], timeout=20, context=context)
    for _ in range(3):  # one connection
        c.request("GET", "/api/v1/devices/once", headers={"Authorization": "Bearer " + s.token})
        r = c.getresponse()
        assert r.status == 200 and json.loads(r.read())["id"] == "once"
    assert c.sock.selected_alpn_protocol() in (None, "http/1.1")
    c.request("POST", "/api/v1/devices/import", (json.dumps({"id": "bulk"}) + "\n").encode() + b" " * 200000,
              {"Authorization": "Bearer " + s.token, "Content-Type": "application/x-ndjson"})
    assert c.getresponse().status == 200
    c.close()


def streams(s):
    watch = Stream(s, "?types=twin&device=once")
    assert watch.status == 200
    s.api("PATCH", "/api/v1/devices/many-1/twin/desired", {"not": "mine"})
    s.api("PATCH", "/api/v1/devices/once/twin/desired", {"a": 1})
    event = watch.next()
    assert event["event"] == "twin" and event["data"]["device"] == "once" and event["data"]["patch"] == {"a": 1}, event
    watch.close()
    for n in (2, 3, 4):  # missed, and got on return
        s.api("PATCH", "/api/v1/devices/once/twin/desired", {"a": n})
    watch = Stream(s, "?types=twin&device=once", last_id=event["id"])
    assert [watch.next()["data"]["patch"]["a"] for _ in range(3)] == [2, 3, 4]
    watch.close()
    watch = Stream(s, "?types=twin", last_id="00000000-5")  # of another process
    assert watch.next()["event"] == "gap"
    watch.close()
    bad = Stream(s, "?types=weather")
    assert bad.status == 400
    bad.close()


def a_revoked_token_hears_no_more(s):
    token = s.api("POST", "/api/v1/tokens", {"name": "listener", "role": "viewer"})["token"]
    watch = Stream(s, "?types=twin", token=token)
    assert watch.status == 200
    s.api("DELETE", "/api/v1/tokens/listener")
    start = time.monotonic()
    assert watch.next() is None and time.monotonic() - start < 4
    assert s.request("GET", "/api/v1/devices", token=token)[0] == 401
    watch.close()


def describes_itself(s):
    with urllib.request.urlopen(s.url(True) + "/api/v1/openapi.json", timeout=20) as r:
        document = json.loads(r.read())
    assert document["openapi"].startswith("3.1")
    described = {(op["operationId"], method.upper(), path) for path, item in document["paths"].items() for method, op in item.items()}
    assert described == {(op["name"], op["method"], op["path"]) for op in apispec.operations()}
    metrics = s.request("GET", "/metrics", raw=True)[2].decode()
    assert 'muster_http_requests_total{code="2xx"}' in metrics, metrics[:500]
    assert s.request("GET", "/metrics", token=None)[0] == 401
    assert s.request("GET", "/healthz", token=None)[2] == {"status": "ok"}
    assert s.request("GET", "/readyz", token=None)[2] == {"status": "ready"}


def main():
    with muster.Server() as s:
        for test in (repeats, versions, compression, over_tls, streams, a_revoked_token_hears_no_more, describes_itself):
            test(s)
            print(f"{test.__name__}: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
