#!/usr/bin/env python3
"""Writes what follows from the operation descriptions in api/*.json (format: api/README.md).

    gen_api.py [--src DIR] [--prefix api] --out DIR FILE...   C table, handlers, OpenAPI, command-line verbs, reference
    gen_api.py [--src DIR] --write-docs docs/api.md FILE...   the reference alone; - prints it
    gen_api.py [--src DIR] --check-docs docs/api.md FILE...   fails when the file differs from what would be written
"""
import argparse
import os
import sys

sys.dont_write_bytecode = True
from apigen import cli, docs, load, openapi, table  # noqa: E402

VERSION = "0.1"


def write(path, text):
    """Leaves an unchanged file alone, so that nothing is built again for it."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            if f.read() == text:
                return
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def outputs(ops, names, prefix):
    t = table.Table(ops, names, prefix)
    yield f"front/http/{prefix}_ops.h", t.header()
    yield f"front/http/{prefix}_ops.c", t.source()
    if prefix != "api":
        return
    text = openapi.dump(openapi.document(ops, names.statuses, VERSION))
    yield "front/http/api_handlers.c", t.handlers()
    yield "front/http/api_openapi.c", openapi.source(text)
    yield "openapi.json", text + "\n"
    yield "cli/api_verbs.c", cli.Verbs(ops).source()
    yield "api.md", docs.document(ops)


def check_docs(path, text):
    have = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            have = f.read()
    if have == text:
        return
    line = next((i for i, (a, b) in enumerate(zip(have.splitlines(), text.splitlines()), 1) if a != b), 1)
    sys.exit(f"{path}:{line}: differs from api/*.json; write it anew with: ninja api_docs")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--src", default=os.path.join(here, "..", "src"))
    p.add_argument("--prefix", default="api")
    p.add_argument("--stamp", help="touched at the end")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--out")
    what.add_argument("--write-docs")
    what.add_argument("--check-docs")
    p.add_argument("files", nargs="+")
    a = p.parse_args()
    ops, names = load.load(a.files, a.src)
    if a.check_docs:
        check_docs(a.check_docs, docs.document(ops))
    elif a.write_docs == "-":
        sys.stdout.write(docs.document(ops))
    elif a.write_docs:
        write(a.write_docs, docs.document(ops))
    else:
        for name, text in outputs(ops, names, a.prefix):
            write(os.path.join(a.out, name), text)
    if a.stamp:
        with open(a.stamp, "w", encoding="utf-8"):
            pass


if __name__ == "__main__":
    main()
