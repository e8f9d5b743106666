#!/usr/bin/env python3
"""Refuses calls that have no place here, in src/ and include/ (and the worst of them in tests/ too).

Prints file:line, the call and what to use instead; ends non-zero when there is one.
"""
import re
import sys

import c_text

# call: what to use instead. Nowhere allowed.
EVERYWHERE = {
    "strcpy": "slice_to_cstr or snprintf",
    "strncpy": "slice_to_cstr or snprintf",
    "stpcpy": "slice_to_cstr or snprintf",
    "strcat": "struct buf",
    "strncat": "struct buf",
    "sprintf": "snprintf or buf_printf",
    "vsprintf": "vsnprintf",
    "gets": "a reader with a limit",
    "alloca": "a bounded array or struct buf",
    "strtok": "struct reader",
    "tmpnam": "mkstemp",
    "tempnam": "mkstemp",
    "mktemp": "mkstemp",
    "longjmp": "return an error",
    "siglongjmp": "return an error",
}

# call: (what to use instead, where it is allowed and why). Under src/ and include/.
BUT_FOR = {
    "scanf": ("struct reader", {}),
    "sscanf": ("struct reader", {}),
    "fscanf": ("struct reader", {}),
    "atoi": ("struct reader, which notices what is no number", {}),
    "atol": ("struct reader, which notices what is no number", {}),
    "atof": ("json_next, which notices what is no number", {}),
    "system": ("a child process without a shell", {}),
    "popen": ("a child process without a shell", {}),
    "rand": ("rand_u64 or rand_secret", {}),
    "random": ("rand_u64 or rand_secret", {}),
    "srand": ("rand_seed", {}),
    "getrandom": ("rand_secret", {"src/base/rand.c": "is it", "src/sdk/transport_openssl.c": "the device library's own ground"}),
    "time": ("clock_wall_us", {}),
    "gettimeofday": ("clock_wall_us", {}),
    "clock_gettime": ("clock_wall_us or clock_mono_us", {"src/base/clock.c": "is it", "src/sdk/transport_openssl.c": "the device library's own ground"}),
}

# Foreign bytes are read through struct reader; these files copy bytes whose bounds are their own.
COPIES = {
    "src/base/arena.c": "copies of slices into its own memory",
    "src/base/buf.c": "is the bounded writer",
    "src/base/crc.c": "eight bytes at a time within a slice",
    "src/base/json_double.c": "digits it made itself",
    "src/base/json_priv.h": "eight bytes at a time within a slice",
    "src/base/log.c": "its own line, after the check for room",
    "src/base/map.c": "copies of keys into its own memory",
    "src/base/slice.h": "slice_to_cstr, after the check for room",
    "src/base/status.c": "its own error text",
    "src/base/utf8.c": "eight bytes at a time within a slice",
    "src/core/events.c": "copies of slices into its own memory",
    "src/core/link.c": "copies of slices into its own memory",
    "src/sdk/window.c": "copies of slices into the caller's memory",
    "src/sdk/transport_openssl.c": "its own buffers, after the check for room",
    "src/agent/queue.c": "copies of slices into its own memory",
    "src/agent/settings.c": "copies of slices into its own memory",
    "src/server/notify.c": "a socket address of the operating system",
}
BUT_FOR["memcpy"] = ("struct reader to read, struct buf to write, assignment for structs", COPIES)
BUT_FOR["memmove"] = ("buf_consume", COPIES)


def calls(text, names):
    # A member or a method of that name (x->time(...), .random = ...) is no call of the library's function.
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(sorted(names, key=len, reverse=True)) + r")\s*\(")
    for m in pattern.finditer(text):
        yield m.group(1), c_text.line_of(text, m.start())


def main():
    bad = 0
    used = set()
    for path in c_text.files("src", "include", "tests", "examples"):
        text = c_text.blank(c_text.read(path))
        for name, line in calls(text, EVERYWHERE):
            print(f"{path}:{line}: {name} is banned: use {EVERYWHERE[name]}")
            bad += 1
        if not path.startswith(("src/", "include/")):
            continue
        for name, line in calls(text, BUT_FOR):
            instead, allowed = BUT_FOR[name]
            if path in allowed:
                used.add((name, path))
            else:
                print(f"{path}:{line}: {name} is banned here: use {instead}")
                bad += 1
    for path in sorted(COPIES):
        if ("memcpy", path) not in used and ("memmove", path) not in used:
            print(f"tools/check_banned.py: {path} copies nothing any more: take it off the list")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
