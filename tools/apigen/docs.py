"""The reference for people: docs/api.md."""
from .openapi import error_names

HEAD = """# API reference

Written by the build from `api/*.json` (`ninja api_docs`); do not edit. The same as OpenAPI 3.1: `/api/v1/openapi.json`.

Every call carries `Authorization: Bearer TOKEN` unless it says *public*. Bodies are JSON. Errors are
`application/problem+json` (RFC 9457) with `status`, `code`, `detail` and, where a value is wrong, `pointer` (into the body)
or `parameter`. Lists answer `{"items": [...], "next": ...}`; pass `next` as `cursor` for the following page.

"""


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def limits(d):
    """What a value may be, in words."""
    out = []
    if "enum" in d:
        out.append("one of " + ", ".join(f"`{c}`" for c in d["enum"]))
    if "format" in d:
        out.append(d["format"])
    if "minimum" in d or "maximum" in d:
        out.append(f"{d.get('minimum', '')}..{d.get('maximum', '')}")
    low = next((d[k] for k in ("minLength", "minItems", "minProperties") if k in d), None)
    high = next((d[k] for k in ("maxLength", "maxItems", "maxProperties") if k in d), None)
    if low is not None or high is not None:
        out.append(f"length {'' if low is None else low}..{'' if high is None else high}")
    if "default" in d:
        out.append(f"default `{d['default']}`")
    return ", ".join(out)


def kind(s):
    t = s.get("type", "any")
    return " or ".join(t) if isinstance(t, list) else t


def members(s, prefix=""):
    """Rows of (path, type, limits, required, description), depth first."""
    for name, sub in s.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, kind(sub), limits(sub), name in s.get("required", []), sub.get("description", "")
        yield from members(sub, path + ".")
        if isinstance(sub.get("items"), dict):
            yield from members(sub["items"], path + "[].")


def table(title, rows):
    if not rows:
        return ""
    out = f"{title}\n\n| name | type | limits | needed | meaning |\n|---|---|---|---|---|\n"
    for name, type_, limit, required, text in rows:
        out += f"| `{cell(name)}` | {cell(type_)} | {cell(limit)} | {'yes' if required else ''} | {cell(text)} |\n"
    return out + "\n"


def operation(op):
    d = op.d
    out = f"### {op.name}\n\n`{op.method} {op.path}`: {d['summary']}\n\n"
    if d.get("description"):
        out += d["description"] + "\n\n"
    facts = ["*public*" if op.public else f"permission `{d['permission']}`", f"since {d['since']}"]
    facts += ["takes `Idempotency-Key`"] if d.get("idempotent") else []
    facts += ["takes `If-Match`"] if d.get("if_match") else []
    facts += ["has an `ETag`, takes `If-None-Match`"] if d.get("versioned") else []
    facts += ["only for people"] if d.get("interactive") else []
    facts += [f"`muster {op.cli['verb']}`"] if op.cli else []
    out += "; ".join(facts) + ".\n\n"
    out += table("Parameters", [(p["name"], p["type"] + (" (path)" if p["in"] == "path" else ""), limits(p),
                                 p["in"] == "path" or p.get("required"), p["description"]) for p in op.params])
    if op.content:
        out += f"Request body: `{op.content}`, at most {op.body_max} bytes.\n\n"
    elif op.request is not None:
        out += table(f"Request body (JSON, at most {op.body_max} bytes)", list(members(op.request)))
    if "stream" in d:
        out += f"Reply {op.status}: `text/event-stream`.\n\n"
    elif op.reply_content:
        out += f"Reply {op.status}: `{op.reply_content}`.\n\n"
    elif op.reply is not None:
        out += table(f"Reply {op.status}", list(members(op.reply)))
    else:
        out += f"Reply {op.status}, no body.\n\n"
    return out + "Errors: " + ", ".join(f"`{e}`" for e in error_names(op)) + ".\n\n"


def document(ops):
    out, noun = HEAD, None
    for op in ops:
        if op.name.split(".")[0] != noun:
            noun = op.name.split(".")[0]
            out += f"## {noun}\n\n"
        out += operation(op)
    return out.rstrip("\n") + "\n"
