"""Applications: clients of the broker that are no devices. They come in with an API token and may do what its policies allow."""


def create(server, name, topics, actions=("publish", "subscribe", "receive", "retain")):
    """(user name, password) of a new application that may do this with these topics."""
    token = server.api("POST", "/api/v1/tokens", {"name": name, "role": "operator"})["token"]
    server.api("POST", "/api/v1/policies", {"id": name, "document": {"statements": [
        {"effect": "allow", "actions": list(actions), "topics": list(topics)}]}})
    server.api("POST", f"/api/v1/policies/{name}/attachments", {"kind": "token", "target": name})
    return name, token
