"""A network of its own whose middle can be cut: clients behind a router, the server on this side of it.

    netns.enter(__file__)                  runs the program again in a network namespace of its own (exit 77 where there is none to be had)
    net = netns.Network(clients=3)
    with net.at_clients(): socket.create_connection((netns.SERVER, port), source_address=(net.client(0), 0))
    net.cut(net.client(0)); net.heal(net.client(0))

A cut is silent: the router forwards nothing any more, to the client or both ways, and tells nobody. Links stay up, no FIN and no RST arrive.
"""
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys

SERVER, _ROUTER, _BEYOND = "10.97.1.1", "10.97.1.2", "10.97.2.1"
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_INSIDE = "MUSTER_TEST_NETNS"


def missing():
    """Why this machine cannot do it, or None."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    tried = subprocess.run(["unshare", "-Urn", "sh", "-c", "ip link add name va type veth peer name vb && ip rule add from 10.0.0.1 blackhole"], capture_output=True,
                           text=True, check=False)
    return f"no network of its own: {tried.stderr.strip()}" if tried.returncode else None


def enter(program):
    """Returns inside the namespace; outside it runs the program there and ends with its exit code, or with 77."""
    if os.environ.get(_INSIDE):
        return
    why = missing()
    if why:
        print(f"skipped: {why}")
        sys.exit(77)
    command = ["unshare", "-Urn", sys.executable, os.path.abspath(program), *sys.argv[1:]]
    sys.exit(subprocess.run(command, env={**os.environ, _INSIDE: "1"}, check=False).returncode)


def _namespace():
    """(descriptor, holder) of a new one; it lives as long as the descriptor."""
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    return os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY), holder


@contextlib.contextmanager
def _inside(fd):
    """This thread is in that namespace: sockets it makes and programs it starts belong there."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _set(fd)
    try:
        yield
    finally:
        _set(here)
        os.close(here)


def _set(fd):
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*lines):
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True)


class Network:
    """The server's side is this namespace. `clients`: how many addresses the other side has."""

    def __init__(self, clients):
        (self.router, r), (self.beyond, c) = _namespace(), _namespace()
        _ip("link set lo up", "link add name s0 type veth peer name r0", f"link set r0 netns {r.pid}", f"addr add {SERVER}/24 dev s0", "link set s0 up",
            f"route add 10.97.2.0/24 via {_ROUTER}")
        with _inside(self.router):
            _ip(f"addr add {_ROUTER}/24 dev r0", "link set r0 up", "link add name r1 type veth peer name c0", f"link set c0 netns {c.pid}",
                f"addr add {_BEYOND}/24 dev r1", "link set r1 up")
            with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
                f.write("1")
        with _inside(self.beyond):
            _ip(*(f"addr add {self.client(i)}/24 dev c0" for i in range(clients)), "link set c0 up", f"route add default via {_BEYOND}")
        for holder in (r, c):
            holder.kill()
            holder.wait()
            holder.stdout.close()

    @staticmethod
    def client(i):
        return f"10.97.2.{i + 10}"

    def at_clients(self):
        return _inside(self.beyond)

    def cut(self, client, both=True):
        """Nothing gets to the client any more; `both`: nor from it."""
        with _inside(self.router):
            _ip(f"rule add to {client} blackhole", *([f"rule add from {client} blackhole"] if both else []))

    def heal(self, client, both=True):
        with _inside(self.router):
            _ip(f"rule del to {client} blackhole", *([f"rule del from {client} blackhole"] if both else []))
