"""A server whose plain port lets in clients without credentials, who may do everything on the broker's topics: for tests of what the broker
does, where who may do it is not the question.

    with open_broker.Server() as s: Session(s.ports["mqtt"], "anyone").open()
"""
import muster

POLICY = "everything"
ALLOW_ALL = {"statements": [{"effect": "allow", "actions": ["publish", "subscribe", "receive", "retain"], "topics": ["#"]}]}
ARGS = ["--mqtt.anonymous", POLICY, "--ban.flapping_connects", "0"]


def allow_all(server):
    """Makes the policy, unless it is there already; it is in the store from then on."""
    try:
        server.api("POST", "/api/v1/policies", {"id": POLICY, "document": ALLOW_ALL})
    except muster.Refused as e:
        if e.status != 409:
            raise


class Server(muster.Server):
    def __init__(self, args=(), **kw):
        super().__init__(args=[*ARGS, *args], **kw)
        if self.process is not None:
            allow_all(self)
