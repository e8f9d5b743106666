#!/usr/bin/env python3
"""Are the documents in step with the code?

- every function declared in a header of src/ or include/ has a comment: above it, behind it, or above the group of lines
  (without a blank line between) it stands in;
- docs/configuration.md and docs/api.md are what the configuration tables and api/*.json say, and the tables of
  docs/expressions.md what the expression language has (--write makes them so);
- every link to a file in README.md, CONTRIBUTING.md and docs/ leads somewhere;
- every module of src/ has its page in docs/design/.

Prints file:line for each problem; ends non-zero when there is one.
"""
import itertools
import os
import re
import subprocess
import sys

import c_text

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PROTOTYPE = re.compile(r"^(?!typedef|static|return|#|//|\s)[\w\s*]*?\b(\w+)\s*\([^;{]*\)[^;{]*;", re.M)
MUSTER = [os.environ.get("MUSTER_BIN", ""), "build/dev/bin/muster", "build/bin/muster"]


def undocumented(text):
    """(line, name) of each prototype without a comment."""
    code = c_text.blank(text)
    lines = text.splitlines()
    for m in PROTOTYPE.finditer(code):
        first = c_text.line_of(code, m.start()) - 1
        last = c_text.line_of(code, m.end()) - 1
        group = first
        while group > 0 and lines[group - 1].strip():
            group -= 1
        if not any("//" in line or "/*" in line or "*/" in line for line in lines[group : last + 1]):
            yield first + 1, m.group(1)


def check_headers():
    for path in c_text.files("src", "include", ends=(".h",)):
        if not path.endswith("_priv.h"):
            for line, name in undocumented(c_text.read(path)):
                yield f"{path}:{line}: {name} has no comment"


def printed(path, command):
    """What `command` prints, or None and the problem."""
    p = subprocess.run(command, cwd=c_text.ROOT, capture_output=True, text=True, check=False)
    if p.returncode != 0:
        return None, f"{path}:1: cannot be compared: `{' '.join(command)}` failed: {p.stderr.strip()}"
    return p.stdout, None


def reference(path):
    binary = next((b for b in MUSTER if b and os.access(os.path.join(c_text.ROOT, b), os.X_OK)), None)
    if binary is None:
        return None, f"{path}:1: cannot be compared: build muster first (make build)"
    return printed(path, [os.path.join(c_text.ROOT, binary), "serve", "--reference"])


def api(path):
    files = c_text.files("api", ends=(".json",))
    return printed(path, [sys.executable, "tools/gen_api.py", "--src", "src", "--write-docs", "-", *files])


EXPR = ["build/dev/bin/expr_reference", "build/bin/expr_reference"]
SECTION = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->\n)", re.S)


def expressions(path):
    """The page with its sections `names` and `functions` as expr_reference prints them; the rest is written by hand."""
    binary = next((b for b in EXPR if os.access(os.path.join(c_text.ROOT, b), os.X_OK)), None)
    if binary is None:
        return None, f"{path}:1: cannot be compared: build expr_reference first (make check)"
    sections = {}
    for name in ("names", "functions"):
        sections[name], problem = printed(path, [os.path.join(c_text.ROOT, binary), name])
        if problem:
            return None, problem
    return SECTION.sub(lambda m: m.group(1) + sections[m.group(2)] + "\n" + m.group(3), c_text.read(path)), None


# Pages that are printed by a program; `make docs` writes them.
PRINTED = {"docs/configuration.md": reference, "docs/api.md": api, "docs/expressions.md": expressions}


def check_printed():
    for path, source in PRINTED.items():
        want, problem = source(path)
        if problem:
            yield problem
            continue
        got = c_text.read(path) if os.path.exists(os.path.join(c_text.ROOT, path)) else ""
        if got != want:
            pairs = itertools.zip_longest(got.splitlines(), want.splitlines())
            line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
            yield f"{path}:{line}: not what the tables say; `make docs` renews it"


def write_printed():
    for path, source in PRINTED.items():
        text, problem = source(path)
        if problem:
            sys.exit(problem)
        with open(os.path.join(c_text.ROOT, path), "w", encoding="utf-8") as f:
            f.write(text)


def check_links():
    for path in c_text.files("README.md", "CONTRIBUTING.md", "docs", "api", ends=(".md",)):
        for m in LINK.finditer(c_text.read(path)):
            target = m.group(1).split("#")[0]
            if not target or re.match(r"[a-z]+:", target):
                continue
            full = os.path.normpath(os.path.join(c_text.ROOT, os.path.dirname(path), target))
            if not os.path.exists(full):
                yield f"{path}:{c_text.line_of(c_text.read(path), m.start())}: {target} does not exist"


# Modules that are described on the page of another one.
PAGE_OF = {"doc": "twin", "proto": "base"}


def check_modules():
    for folder in ("src", "src/domain", "src/front"):
        for module in sorted(os.listdir(os.path.join(c_text.ROOT, folder))):
            page = f"docs/design/{PAGE_OF.get(module, module)}.md"
            if module not in ("domain", "front") and not os.path.exists(os.path.join(c_text.ROOT, page)):
                yield f"{folder}/{module}:1: the module has no page {page}"


def main():
    if sys.argv[1:] == ["--write"]:
        write_printed()
        return 0
    bad = 0
    for problem in [*check_headers(), *check_printed(), *check_links(), *check_modules()]:
        print(problem)
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
