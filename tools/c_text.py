"""Reading C sources in the checks: which files there are, and their text without comments and literals."""
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def files(*roots, ends=(".c", ".h")):
    """Paths from the repository's root of all sources under `roots`, known to git or new."""
    out = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "--", *roots], capture_output=True, text=True, check=True)
    return [f for f in sorted(set(out.stdout.splitlines())) if f.endswith(ends) and os.path.exists(os.path.join(ROOT, f))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def blank(text, comments=True, literals=True):
    """The text with comments and literals replaced by blanks; lines stay where they are."""

    def replace(m):
        token = m.group(0)
        if token[0] == "/" and not comments or token[0] in "\"'" and not literals:
            return token
        return re.sub(r"[^\n]", " ", token)

    return TOKEN.sub(replace, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1
