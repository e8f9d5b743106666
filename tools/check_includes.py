#!/usr/bin/env python3
"""Checks every #include under src/ against the table of who may include whom (docs/architecture.md).

Prints file:line for each include that is not allowed, and ends non-zero when there is one. The table is below: a module is a
folder; what it may include are modules, and outside headers by name or prefix. Everything may include itself and libc.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Lowest first: a domain module may include those before it.
DOMAINS = ["doc", "audit", "registry", "identity", "policy", "presence", "trace", "broker", "twin", "telemetry", "fleet", "command"]
# Every module of the domain counts messages in the ledger, which belongs to telemetry.
LEDGER = {"domain/telemetry/ledger.h", "domain/telemetry/ingest.h"}
LOWER = ["base", "expr", "proto", "net", "store", "core"]

MAY = {
    "base": [],
    "expr": ["base"],
    "proto": ["base"],
    "net": ["base", "proto"],
    "store": ["base", "net"],
    "core": ["base", "expr", "net", "store"],
    "front/mqtt": ["base", "expr", "proto", "net", "core", "domain"],
    "front/http": ["base", "expr", "proto", "net", "core", "domain"],
    "sdk": ["base", "proto", "muster"],
    "agent": ["base", "proto", "net", "sdk", "muster"],
    "cli": ["base", "expr", "proto", "net"],
    "server": ["base", "expr", "proto", "net", "store", "core", "domain", "front", "cli"],
}
for i, name in enumerate(DOMAINS):
    MAY[f"domain/{name}"] = LOWER + [f"domain/{d}" for d in DOMAINS[:i]]

# Outside headers (by how they begin) and the files or folders that may include them.
OUTSIDE = {
    "uv.h": ["net/"],
    "curl/": ["net/"],
    "openssl/": ["net/", "domain/identity/", "agent/", "sdk/transport_openssl.c"],
    "sqlite3.h": ["store/"],
    "jansson.h": ["domain/", "front/", "cli/", "agent/"],
    "yaml.h": ["core/conf.c"],
    "cbor.h": ["proto/cbor.c"],
    "http_parser.h": ["front/http/"],
    "zlib.h": ["front/http/"],
    "systemd/": ["server/"],
}

LIBC = set("""
assert.h ctype.h errno.h float.h inttypes.h limits.h locale.h math.h setjmp.h signal.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h
stdint.h stdio.h stdlib.h stdnoreturn.h string.h threads.h time.h
arpa/inet.h dirent.h fcntl.h fnmatch.h ftw.h getopt.h glob.h ifaddrs.h libgen.h link.h malloc.h net/if.h netdb.h netinet/in.h
netinet/tcp.h poll.h pthread.h pwd.h grp.h sched.h semaphore.h spawn.h strings.h syslog.h termios.h unistd.h
sys/epoll.h sys/eventfd.h sys/file.h sys/ioctl.h sys/mman.h sys/prctl.h sys/random.h sys/resource.h sys/select.h sys/signalfd.h
sys/socket.h sys/stat.h sys/statvfs.h sys/sysinfo.h sys/syscall.h sys/time.h sys/timerfd.h sys/types.h sys/uio.h sys/un.h
sys/utsname.h sys/vfs.h sys/wait.h
""".split())
SYSTEM_PREFIXES = ("linux/",)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def module_of(path):
    """The module a path under src/ belongs to, or None."""
    parts = path.split("/")
    two = "/".join(parts[:2])
    return two if two in MAY else parts[0] if parts[0] in MAY or parts[0] == "muster" else None


def within(module, allowed):
    return any(module == a or module.startswith(a + "/") for a in allowed)


def check_own(path, header):
    """Why `path` may not include the project's `header`, or None."""
    if header.startswith(".") or "/" not in header:
        return "write the path from src/, as in \"base/slice.h\""
    module, target = module_of(path), module_of(header)
    if module is None:
        return "this folder is not in the table of tools/check_includes.py"
    if target is None:
        return "its folder is not in the table of tools/check_includes.py"
    if target == module:
        return None
    if header.endswith("_priv.h"):
        return f"private headers stay in their folder ({target})"
    if module.startswith("domain/") and header in LEDGER:
        return None
    if not within(target, MAY[module]):
        return f"{module} may include: {', '.join(MAY[module]) or 'only itself'}"
    return None


def check_outside(path, header):
    for prefix, places in OUTSIDE.items():
        if header == prefix or (prefix.endswith("/") and header.startswith(prefix)):
            ok = any(path == p or (p.endswith("/") and path.startswith(p)) for p in places)
            return None if ok else f"only allowed in: {', '.join(places)}"
    if header in LIBC or header.startswith(SYSTEM_PREFIXES):
        return None
    return "an outside header the table of tools/check_includes.py does not know"


def check_file(path, text):
    """(line, header, reason) for each include that is not allowed; path is relative to src/."""
    for number, line in enumerate(text.splitlines(), 1):
        m = INCLUDE.match(line)
        if m:
            quoted = m.group(1) == '"' or m.group(2).startswith("muster/")
            reason = (check_own if quoted else check_outside)(path, m.group(2))
            if reason:
                yield number, m.group(2), reason


def main():
    bad = 0
    src = os.path.join(ROOT, "src")
    for folder, _, files in sorted(os.walk(src)):
        for name in sorted(files):
            if not name.endswith((".c", ".h")):
                continue
            full = os.path.join(folder, name)
            path = os.path.relpath(full, src)
            with open(full, encoding="utf-8") as f:
                for number, header, reason in check_file(path, f.read()):
                    print(f"src/{path}:{number}: may not include {header}: {reason}")
                    bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
