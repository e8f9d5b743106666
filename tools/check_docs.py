#!/usr/bin/env python3
"""Are the documents in step with the code?

- every function declared in a header of src/ or include/ has a comment: above it, behind it, or above the group of lines
  (without a blank line between) it stands in;
- docs/configuration.md is what `muster serve --reference` prints;
- every link to a file in README.md, CONTRIBUTING.md and docs/ leads somewhere.

Prints file:line for each problem; ends non-zero when there is one.
"""
import os
import re
import subprocess
import sys

import c_text

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PROTOTYPE = re.compile(r"^(?!typedef|static|return|#|//|\s)[\w\s*]*?\b(\w+)\s*\([^;{]*\)[^;{]*;", re.M)
MUSTER = [os.environ.get("MUSTER_BIN", ""), "build/bin/muster", "build/dev/bin/muster"]


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


def check_configuration():
    binary = next((b for b in MUSTER if b and os.access(os.path.join(c_text.ROOT, b), os.X_OK)), None)
    path = "docs/configuration.md"
    if binary is None:
        yield f"{path}:1: cannot be compared: build muster first (make build)"
        return
    want = subprocess.run([os.path.join(c_text.ROOT, binary), "serve", "--reference"], capture_output=True, text=True, check=False)
    if want.returncode != 0:
        yield f"{path}:1: `{binary} serve --reference` failed: {want.stderr.strip()}"
        return
    got = c_text.read(path) if os.path.exists(os.path.join(c_text.ROOT, path)) else ""
    for number, (a, b) in enumerate(zip(got.splitlines() + [""], want.stdout.splitlines() + [""]), 1):
        if a != b:
            yield f"{path}:{number}: differs from the key tables; renew it with `{binary} serve --reference > {path}`"
            return
    if got != want.stdout:
        yield f"{path}:1: differs from the key tables in length; renew it with `{binary} serve --reference > {path}`"


def check_links():
    for path in c_text.files("README.md", "CONTRIBUTING.md", "docs", "api", ends=(".md",)):
        for m in LINK.finditer(c_text.read(path)):
            target = m.group(1).split("#")[0]
            if not target or re.match(r"[a-z]+:", target):
                continue
            full = os.path.normpath(os.path.join(c_text.ROOT, os.path.dirname(path), target))
            if not os.path.exists(full):
                yield f"{path}:{c_text.line_of(c_text.read(path), m.start())}: {target} does not exist"


def main():
    bad = 0
    for problem in [*check_headers(), *check_configuration(), *check_links()]:
        print(problem)
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
