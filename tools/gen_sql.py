#!/usr/bin/env python3
"""Embeds SQL: named statements of a .sql file as a `struct sql_def` table, or the numbered migrations as one list.

    gen_sql.py FILE.sql OUT.h          twin.sql -> enum { SQL_TWIN_GET, ... SQL_TWIN__COUNT } and sql_twin[]
    gen_sql.py --migrations OUT.h 0001_init.sql ...

A statement starts with a line "-- name: twin_get"; the comment lines behind it stay with it and are not embedded.
"""
import os
import re
import sys


def c_string(text):
    lines = [line.rstrip() for line in text.strip().splitlines()]
    lines = [line for line in lines if line and not line.lstrip().startswith("--")]
    out = []
    for line in lines:
        out.append('    "' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"')
    return "\n".join(out) if out else '    ""'


def statements(path):
    found, name, body = [], None, []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            m = re.match(r"--\s*name:\s*([a-z0-9_]+)\s*$", line)
            if m:
                if name:
                    found.append((name, "".join(body)))
                name, body = m.group(1), []
            elif name:
                body.append(line)
            elif line.strip() and not line.startswith("--"):
                sys.exit(f"{path}:{number}: text before the first '-- name:' line")
    if name:
        found.append((name, "".join(body)))
    names = [n for n, _ in found]
    for n in names:
        if names.count(n) > 1:
            sys.exit(f"{path}: statement {n} is there twice")
    return found


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def table(source, out):
    base = os.path.splitext(os.path.basename(source))[0]
    found = statements(source)
    upper = base.upper()
    text = f"// Generated from {os.path.basename(source)}; do not edit.\n#pragma once\n#include \"store/db.h\"\n\n"
    text += f"enum sql_{base}_id {{\n"
    text += "".join(f"    SQL_{n.upper()},\n" for n, _ in found)
    text += f"    SQL_{upper}__COUNT\n}};\n\n"
    text += f"extern const struct sql_def sql_{base}[SQL_{upper}__COUNT];\n\n"
    text += f"#ifdef SQL_{upper}_DEFINE\nconst struct sql_def sql_{base}[SQL_{upper}__COUNT] = {{\n"
    for n, body in found:
        text += f'    {{"{n}",\n{c_string(body)}}},\n'
    text += "};\n#endif\n"
    write(out, text)


def migrations(out, files):
    text = "// Generated from the numbered migrations; do not edit.\n#pragma once\n#include \"store/db.h\"\n\n"
    text += "static const struct db_migration db_migrations[] = {\n"
    expected = 1
    for path in sorted(files):
        name = os.path.basename(path)
        m = re.match(r"(\d{4})_([a-z0-9_]+)\.sql$", name)
        if not m or int(m.group(1)) != expected:
            sys.exit(f"{name}: expected {expected:04d}_name.sql")
        with open(path, encoding="utf-8") as f:
            text += f'    {{{expected}, "{m.group(2)}",\n{c_string(f.read())}}},\n'
        expected += 1
    if expected == 1:
        text += '    {0, "", ""},\n'
    text += "};\n#define DB_MIGRATIONS_LEN " + str(expected - 1) + "\n"
    write(out, text)


if __name__ == "__main__":
    if len(sys.argv) >= 3 and sys.argv[1] == "--migrations":
        migrations(sys.argv[2], sys.argv[3:])
    elif len(sys.argv) == 3:
        table(sys.argv[1], sys.argv[2])
    else:
        sys.exit(__doc__)
