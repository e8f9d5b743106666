"""Loads and checks operation descriptions. Every problem is reported with its file; none stops the search for more."""
import json
import os
import re

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
RUNS = ["reader", "core", "io"]
PARAM_TYPES = ["string", "integer", "boolean", "time", "duration"]
PARAM_FORMATS = ["id", "token", "cursor", "metric"]
SCHEMA_FORMATS = PARAM_FORMATS + ["time", "duration"]
SCHEMA_TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
SCHEMA_KEYS = {
    "type", "properties", "required", "additionalProperties", "minProperties", "maxProperties", "items", "minItems",
    "maxItems", "enum", "minLength", "maxLength", "minimum", "maximum", "format", "description", "default", "examples",
}
OP_KEYS = {
    "name", "method", "path", "permission", "runs", "since", "summary", "description", "params", "request",
    "request_required", "content", "body_max", "reply", "reply_content", "status", "errors", "cli", "idempotent",
    "if_match", "versioned", "stream", "interactive", "secret_reply",
}
OP_REQUIRED = ["name", "method", "path", "permission", "runs", "since", "summary"]
PARAM_KEYS = {"name", "in", "type", "format", "description", "required", "default", "minLength", "maxLength", "enum",
              "minimum", "maximum"}
CLI_KEYS = {"verb", "args", "optional", "columns"}
PARAMS_MAX = 16
SEGMENTS_MAX = 12
SCHEMA_DEPTH_MAX = 16
BODY_DEFAULT, BODY_MAX = 1 << 20, 4 << 20
BODY_PUBLIC_MAX = 16 << 10  # strangers' bodies are read before anybody knows who they are
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


class Names:
    """Permissions and status names, read from the headers that define them."""

    def __init__(self, src):
        self.perms = dict(self._map(os.path.join(src, "core/principal.h"), "PERM_MAP", r'X\((\w+), "([a-z:]+)"\)', swap=True))
        text = self._body(os.path.join(src, "base/status.h"), "STATUS_MAP")
        self.statuses = {m[1]: int(m[2]) for m in re.finditer(r'X\(\w+, "(\w+)", 0x\w+, (\d+)\)', text)}

    @staticmethod
    def _body(path, macro):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        m = re.search(rf"#define {macro}\(X\)((?:[^\n]*\\\n)*[^\n]*\n)", text)
        if not m:
            raise SystemExit(f"{path}: no {macro}")
        return m[1]

    def _map(self, path, macro, pattern, swap):
        for m in re.finditer(pattern, self._body(path, macro)):
            yield (m[2], m[1]) if swap else (m[1], m[2])


def no_duplicates(pairs):
    keys = [k for k, _ in pairs]
    for k in keys:
        if keys.count(k) > 1:
            raise ValueError(f"member {k!r} is there twice")
    return dict(pairs)


class Op:
    """One description, with what follows from it."""

    def __init__(self, path, d):
        self.file, self.d = path, d
        self.name = d.get("name", "")
        self.ident = self.name.replace(".", "_")
        self.method = d.get("method", "")
        self.path = d.get("path", "")
        self.segments = self.path.strip("/").split("/") if self.path else []
        self.params = d.get("params", [])
        self.request = d.get("request")
        self.content = d.get("content")
        self.reply = d.get("reply")
        self.reply_content = d.get("reply_content")
        self.status = d.get("status", 200)
        self.cli = d.get("cli")
        self.public = d.get("permission") == "public"

    @property
    def has_body(self):
        return self.request is not None or self.content is not None

    @property
    def free_body(self):
        """The request is an object of any members: the command line takes it whole."""
        return self.request is not None and not self.request.get("properties")

    @property
    def body_max(self):
        if not self.has_body:
            return 0
        return self.d.get("body_max", BODY_PUBLIC_MAX if self.public else BODY_DEFAULT)

    @property
    def route(self):
        return tuple("{}" if is_param(s) else s for s in self.segments)

    @property
    def is_list(self):
        return isinstance(self.reply, dict) and {"items", "next"} <= set(self.reply.get("properties", {}))


def is_param(segment):
    return segment.startswith("{")


def types_of(schema):
    t = schema.get("type", [])
    return t if isinstance(t, list) else [t]


class Checker:
    def __init__(self, names):
        self.names, self.problems = names, []

    def bad(self, op, text):
        self.problems.append(f"{op.file}: {text}")

    def one_of(self, op, what, value, allowed):
        if value not in allowed:
            self.bad(op, f"{what} is {value!r}; allowed: {', '.join(map(str, allowed))}")
            return False
        return True

    def op(self, op):
        d = op.d
        for key in sorted(set(d) - OP_KEYS):
            self.bad(op, f"unknown member {key!r}")
        for key in OP_REQUIRED:
            if not isinstance(d.get(key), str) or not d[key]:
                self.bad(op, f"member {key!r} is missing or not a text")
                return
        if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", op.name):
            self.bad(op, f"name {op.name!r} is not noun.verb in lower case")
        if os.path.basename(op.file) != op.name + ".json":
            self.bad(op, f"the file of operation {op.name} must be {op.name}.json")
        self.one_of(op, "method", op.method, METHODS)
        self.one_of(op, "runs", d["runs"], RUNS)
        self.one_of(op, "permission", d["permission"], ["public", *self.names.perms])
        for e in d.get("errors", []):
            self.one_of(op, "errors", e, list(self.names.statuses))
        self.flags(op)
        self.path(op)
        self.params(op)
        self.body(op)
        self.answer(op)
        self.verb(op)

    def flags(self, op):
        d = op.d
        for key in ("idempotent", "if_match", "versioned", "interactive", "secret_reply", "request_required"):
            if key in d and not isinstance(d[key], bool):
                self.bad(op, f"{key} is not true or false")
        if d["runs"] == "io" and not op.public:
            self.bad(op, 'runs "io" has no store to check a permission with: only for permission "public"')
        if d.get("idempotent") and (op.method != "POST" or d["runs"] != "core" or op.public):
            self.bad(op, "idempotent is for POST operations with a permission that run on the core")
        if d.get("idempotent") and d.get("secret_reply"):
            self.bad(op, "idempotent replies are stored, a reply with a secret must not be: drop one of the two")
        if d.get("versioned") and op.method != "GET":
            self.bad(op, "versioned is for GET operations: their reply has an ETag")
        if d.get("if_match") and (op.method == "GET" or d["runs"] != "core"):
            self.bad(op, "if_match is for changes that run on the core")
        if "stream" in d:
            self.one_of(op, "stream", d["stream"], ["events"])
            if op.method != "GET" or d["runs"] != "reader" or op.public:
                self.bad(op, "a stream is a GET with a permission that runs on a reader")

    def path(self, op):
        if not op.path.startswith("/") or op.path.endswith("/"):
            self.bad(op, f"path {op.path!r} must start with / and not end with it")
        if len(op.segments) > SEGMENTS_MAX:
            self.bad(op, f"path has more than {SEGMENTS_MAX} segments")
        for s in op.segments:
            if not re.fullmatch(r"\{[a-z][a-z0-9_]*\}|[a-z0-9][a-z0-9_.-]*", s):
                self.bad(op, f"path segment {s!r} is neither a lower-case word nor a {{parameter}}")
        in_path = [s[1:-1] for s in op.segments if is_param(s)]
        declared = [p.get("name") for p in op.params if p.get("in") == "path"]
        for n in in_path:
            if declared.count(n) != 1:
                self.bad(op, f"path parameter {n!r} is not described once in params")
        for n in declared:
            if in_path.count(n) != 1:
                self.bad(op, f"parameter {n!r} is said to be in the path and is not there once")

    def params(self, op):
        if len(op.params) > PARAMS_MAX:
            self.bad(op, f"more than {PARAMS_MAX} params")
        names = [p.get("name") for p in op.params]
        for p in op.params:
            what = f"parameter {p.get('name')!r}"
            if names.count(p.get("name")) > 1:
                self.bad(op, f"{what} is there twice")
            self.param(op, p, what)

    def param(self, op, p, what):
        for key in sorted(set(p) - PARAM_KEYS):
            self.bad(op, f"{what}: unknown member {key!r}")
        if not re.fullmatch(r"[a-z][a-z0-9_.]*", p.get("name") or ""):
            self.bad(op, f"{what}: the name must be a lower-case word")
        self.one_of(op, f"{what}: in", p.get("in"), ["path", "query"])
        kind = p.get("type")
        if not self.one_of(op, f"{what}: type", kind, PARAM_TYPES):
            return
        if not p.get("description"):
            self.bad(op, f"{what}: description is missing")
        if "format" in p:
            self.one_of(op, f"{what}: format", p["format"], PARAM_FORMATS)
        only = {"string": {"format", "minLength", "maxLength", "enum"}, "integer": {"minimum", "maximum"}}
        for key in {"format", "minLength", "maxLength", "enum", "minimum", "maximum"} & set(p):
            if key not in only.get(kind, set()):
                self.bad(op, f"{what}: {key} does not go with type {kind}")
        for key in ("minLength", "maxLength"):
            if key in p and not (isinstance(p[key], int) and 0 <= p[key] <= 65535):
                self.bad(op, f"{what}: {key} must be 0 to 65535")
        if p.get("in") == "path" and ("default" in p or p.get("required") is False):
            self.bad(op, f"{what}: is in the path and so always there")
        self.param_default(op, p, what)

    def param_default(self, op, p, what):
        if "default" not in p:
            return
        v, kind = p["default"], p["type"]
        good = {"string": str, "time": str, "duration": str, "integer": int, "boolean": bool}[kind]
        if not isinstance(v, good) or (kind == "integer" and isinstance(v, bool)):
            self.bad(op, f"{what}: the default is not of type {kind}")
        elif kind == "integer" and not p.get("minimum", INT_MIN) <= v <= p.get("maximum", INT_MAX):
            self.bad(op, f"{what}: the default lies outside minimum and maximum")
        elif "enum" in p and v not in p["enum"]:
            self.bad(op, f"{what}: the default is not in enum")
        if p.get("required"):
            self.bad(op, f"{what}: required and default exclude each other")

    def body(self, op):
        if op.has_body and op.method in ("GET", "DELETE"):
            self.bad(op, f"a {op.method} takes no request body")
        if op.content is not None and op.request is not None:
            self.bad(op, "content is for bodies that are not JSON: request must then be absent")
        if op.content is not None:
            self.one_of(op, "content", op.content, ["application/x-ndjson"])
        most = BODY_PUBLIC_MAX if op.public else BODY_MAX
        if not (isinstance(op.body_max, int) and 0 <= op.body_max <= most):
            self.bad(op, f"body_max must be at most {most}")
        if op.request is not None:
            if types_of(op.request) != ["object"] and op.request.get("type") is not None:
                self.bad(op, "request must be an object, or of any type")
            self.schema(op, op.request, "request", 0)

    def answer(self, op):
        if not isinstance(op.status, int) or not 200 <= op.status <= 299:
            self.bad(op, "status must be 200 to 299")
        given = [k for k in ("reply", "reply_content", "stream") if k in op.d]
        if op.status == 204:
            if given:
                self.bad(op, f"status 204 has no body, but {given[0]} is there")
        elif len(given) != 1:
            self.bad(op, "one of reply, reply_content and stream must be there (or status 204)")
        if op.reply is not None:
            self.schema(op, op.reply, "reply", 0)

    def schema(self, op, s, where, depth):
        if not isinstance(s, dict):
            self.bad(op, f"{where}: a schema is an object")
            return
        if depth > SCHEMA_DEPTH_MAX:
            self.bad(op, f"{where}: deeper than {SCHEMA_DEPTH_MAX}")
            return
        for key in sorted(set(s) - SCHEMA_KEYS):
            self.bad(op, f"{where}: unknown keyword {key!r}")
        for t in types_of(s):
            self.one_of(op, f"{where}: type", t, SCHEMA_TYPES)
        if "format" in s:
            self.one_of(op, f"{where}: format", s["format"], SCHEMA_FORMATS)
        for c in s.get("enum", []):
            if not isinstance(c, str) and not (c is None and "null" in types_of(s)):
                self.bad(op, f"{where}: enum takes texts (and null where the type allows it)")
        for n in s.get("required", []):
            if n not in s.get("properties", {}):
                self.bad(op, f"{where}: required member {n!r} is not in properties")
        for n, sub in s.get("properties", {}).items():
            self.schema(op, sub, f"{where}/properties/{n}", depth + 1)
        for key in ("additionalProperties", "items"):
            if key in s and not isinstance(s[key], bool):
                self.schema(op, s[key], f"{where}/{key}", depth + 1)

    def verb(self, op):
        if op.cli is None:
            return
        for key in sorted(set(op.cli) - CLI_KEYS):
            self.bad(op, f"cli: unknown member {key!r}")
        if not re.fullmatch(r"[a-z][a-z-]*( [a-z][a-z-]*)*", op.cli.get("verb", "")):
            self.bad(op, "cli: verb must be lower-case words")
        known = {p.get("name") for p in op.params} | set((op.request or {}).get("properties", {}))
        if op.free_body:
            known.add("body")
        for a in op.cli.get("args", []):
            if a not in known:
                self.bad(op, f"cli: argument {a!r} is neither a parameter nor a member of the request")
        left_out = op.cli.get("optional")
        if left_out is not None and not op.path.endswith("/{" + left_out + "}"):
            self.bad(op, f"cli: optional: {left_out!r} is not the last part of the path")
        both = [p.get("name") for p in op.params if p.get("name") in (op.request or {}).get("properties", {})]
        for n in both:
            self.bad(op, f"cli: {n!r} is both a parameter and a member of the request")

    def all(self, ops):
        for key, what in ((lambda o: o.name, "name"), (lambda o: (o.method, o.route), "route"),
                          (lambda o: (o.cli or {}).get("verb"), "cli verb")):
            seen = {}
            for op in ops:
                k = key(op)
                if k is not None and k in seen:
                    self.bad(op, f"same {what} as {seen[k].file}")
                seen.setdefault(k, op)


def load(files, src):
    """The operations sorted by name; ends the process with all problems when there are any."""
    checker, ops = Checker(Names(src)), []
    for path in sorted(files):
        try:
            with open(path, encoding="utf-8") as f:
                d = json.load(f, object_pairs_hook=no_duplicates)
            if not isinstance(d, dict):
                raise ValueError("not an object")
        except (OSError, ValueError) as e:
            checker.problems.append(f"{path}: {e}")
            continue
        op = Op(path, d)
        checker.op(op)
        ops.append(op)
    checker.all(ops)
    if checker.problems:
        raise SystemExit("\n".join(checker.problems))
    return sorted(ops, key=lambda o: o.name), checker.names
