"""The plain verbs of the command line (src/cli/api_verbs.h)."""
from .ctext import c_bool, c_string
from .load import types_of


def schema_type(s):
    types = [t for t in types_of(s) if t != "null"]
    if len(types) != 1:
        return "ANY"
    if types == ["string"] and s.get("format") in ("time", "duration"):
        return s["format"].upper()
    return types[0].upper()


def holds_strings(s):
    inner = s.get("additionalProperties") if "object" in types_of(s) else s.get("items")
    return isinstance(inner, dict) and "string" in types_of(inner)


def default_text(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else None if isinstance(value, (dict, list)) else str(value)


class Verbs:
    def __init__(self, ops):
        self.ops = sorted((o for o in ops if o.cli), key=lambda o: o.cli["verb"])
        self.out = []

    def strings(self, name, values):
        if values is None:
            return "NULL"
        items = ", ".join([c_string(v) for v in values] + ["NULL"])
        self.out.append(f"static const char *const {name}[] = {{{items}}};")
        return name

    def flag(self, op, name, where, kind, d, required, strings):
        choices = [c for c in d["enum"] if c is not None] if "enum" in d else None
        array = self.strings(f"{op.ident}_{name.replace('.', '_')}_choices", choices)
        return (f"{{{c_string(name)}, CLI_{where}, CLI_{kind}, {c_bool(required)}, {c_bool(strings)}, {array}, "
                f"{c_string(default_text(d.get('default')))}, {c_string(d.get('description', ''))}}}")

    def flags(self, op):
        rows = []
        for p in op.params:
            required = (p["in"] == "path" or p.get("required", False)) and p["name"] != op.cli.get("optional")
            rows.append(self.flag(op, p["name"], p["in"].upper(), p["type"].upper(), p, required, False))
        request = op.request or {}
        for name, s in request.get("properties", {}).items():
            rows.append(self.flag(op, name, "BODY", schema_type(s), s, name in request.get("required", []), holds_strings(s)))
        if op.free_body and "body" in op.cli.get("args", []):
            rows.append(self.flag(op, "body", "WHOLE", "OBJECT", request, True, False))
        if not rows:
            return "NULL", 0
        self.out.append(f"static const struct cli_flag {op.ident}_flags[] = {{\n    " + ",\n    ".join(rows) + "};")
        return f"{op.ident}_flags", len(rows)

    def verb(self, op):
        d = op.d
        flags, n = self.flags(op)
        fields = [f".{k} = {c_string(v)}" for k, v in (
            ("words", op.cli["verb"]), ("op", op.name), ("method", op.method), ("path", op.path),
            ("summary", d["summary"]), ("description", d.get("description", "")), ("since", d["since"]),
            ("permission", d["permission"]), ("content", op.content), ("reply_content", op.reply_content))]
        fields.append(f".args = {self.strings(op.ident + '_args', op.cli.get('args', []))}")
        fields.append(f".columns = {self.strings(op.ident + '_columns', op.cli.get('columns'))}")
        fields.append(f".flags = {flags}, .flags_len = {n}")
        fields.append(f".has_body = {c_bool(op.request is not None)}, .list = {c_bool(op.is_list)}")
        for k in ("idempotent", "if_match", "stream", "interactive", "secret_reply"):
            fields.append(f".{k} = {c_bool(d.get(k))}")
        return "    {" + ", ".join(fields) + "},"

    def source(self):
        rows = [self.verb(o) for o in self.ops]
        text = "// Generated from the operation descriptions; do not edit.\n#include \"cli/api_verbs.h\"\n\n"
        text += "\n".join(self.out) + "\n\nconst struct cli_verb cli_verbs[] = {\n" + "\n".join(rows) + "\n};\n"
        return text + f"const size_t cli_verbs_len = {len(rows)};\n"
