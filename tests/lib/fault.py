"""Makes one thing fail inside a server under test, exactly once, at a chosen place.

    muster.Server(prefix=fault.at_syscall("fdatasync", "error=EIO", 12))     its 12th fdatasync of a thread fails
    muster.Server(prefix=fault.at_syscall(fault.STORAGE, fault.KILL, 40))    it is killed at the 40th storage call of a thread
    nth = fault.NthMalloc(); muster.Server(release=True, env=nth.env); nth.arm(7)     its 7th allocation from now fails
"""
import mmap
import os
import struct
import tempfile

import muster

STORAGE = "pwrite64,fdatasync,fsync,ftruncate,unlink,unlinkat,rename,renameat,write,openat"
KILL = "signal=SIGKILL"


def at_syscall(calls, what, n):
    """The command in front of the server's. Calls are counted by thread, as strace does."""
    return ["strace", "-f", "-qq", "-e", f"trace={calls}", "-e", f"inject={calls}:{what}:when={n}", "-o", "/dev/null"]


class NthMalloc:
    """The counters shared with nthmalloc.so in the server (tests/lib/nthmalloc.c)."""

    def __init__(self):
        handle, self.path = tempfile.mkstemp(prefix="muster-nth-")
        os.write(handle, b"\0" * 16)
        self.map = mmap.mmap(handle, 16)
        os.close(handle)
        library = os.path.join(muster.BIN, "nthmalloc.so")
        assert os.path.exists(library), f"{library} is not built"
        # What is used after free shows itself.
        self.env = {"LD_PRELOAD": library, "NTHMALLOC": self.path, "MALLOC_PERTURB_": "165"}

    def arm(self, n):
        self.map[:8] = struct.pack("<q", n)

    def disarm(self):
        self.map[:8] = struct.pack("<q", 0)

    @property
    def failed(self):
        return struct.unpack("<q", self.map[8:16])[0]

    def close(self):
        os.unlink(self.path)
