#!/usr/bin/env python3
"""Refuses functions of more than 80 lines in all C code, and files of more than 900 in src/ and
include/; prints file:line and the function.

Works on text as clang-format lays it out: a function's body begins with a brace in the first column and ends with one.
"""
import re
import sys

import c_text

FUNCTION_LINES_MAX = 80
FILE_LINES_MAX = 900


def functions(text):
    """(name, first line, lines) of every function; a body begins with { in column one, after its parameters."""
    lines = c_text.blank(text).splitlines()
    start = None
    for i, line in enumerate(lines):
        if line.startswith("{"):
            first = i - 1
            while first > 0 and lines[first - 1].strip() and not lines[first - 1].startswith(("}", "#")) and not lines[first - 1].rstrip().endswith(";"):
                first -= 1
            head = " ".join(lines[first:i])
            start = first if head.rstrip().endswith(")") else None
        elif line.startswith("}") and start is not None:
            name = re.search(r"(\w+)\s*\((?!\()", re.sub(r"__attribute__\s*\(\(.*?\)\)+", "", " ".join(lines[start:i])))
            yield (name.group(1) if name else "?"), start + 1, i - start + 1
            start = None


def main():
    bad = 0
    for path in c_text.files("src", "include", "tests", "examples"):
        text = c_text.read(path)
        for name, line, length in functions(text):
            if length > FUNCTION_LINES_MAX:
                print(f"{path}:{line}: {name} has {length} lines, at most {FUNCTION_LINES_MAX} are allowed")
                bad += 1
        length = text.count("\n")
        if length > FILE_LINES_MAX and path.startswith(("src/", "include/")):
            print(f"{path}:1: {length} lines, at most {FILE_LINES_MAX} are allowed: split the file")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
