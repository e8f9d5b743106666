"""Applications: clients of the broker that are no devices. They come in with an API token and may do what its policies allow."""


def create(server, name, topics, actions=("publish", "subscribe", "receive", "retain")):
    """(user name, password) of a new application that may do this with these topics."""
    raise NotImplementedError
