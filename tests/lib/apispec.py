"""api/*.json as the tests read it: on their own, not through the generator. Checks replies, makes up requests."""
import glob
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Who may do what, written down a second time on purpose: what the server grants must be what is meant here.
LOOK = {"device:read", "claim:read", "cert:read", "twin:read", "telemetry:read", "command:read", "presence:read",
        "ledger:read", "settings:read", "token:read", "policy:read"}
CHANGE = {"device:write", "device:delete", "claim:write", "cert:revoke", "twin:write", "command:send", "settings:write",
          "policy:write", "mqtt:connect", "diag:read", "diag:write"}
SYSTEM_ONLY = {"tenant:read", "tenant:write", "metrics:read"}
ROLES = {
    "owner": LOOK | CHANGE | {"audit:read", "token:write"},
    "admin": LOOK | CHANGE | {"audit:read"},
    "operator": LOOK | {"device:write", "twin:write", "command:send", "claim:write", "mqtt:connect", "diag:read", "diag:write"},
    "installer": LOOK | {"device:write", "claim:write"},
    "viewer": LOOK,
    "auditor": LOOK | {"audit:read"},
}


def operations():
    ops = []
    for path in sorted(glob.glob(os.path.join(ROOT, "api", "*.json"))):
        with open(path, encoding="utf-8") as f:
            ops.append(json.load(f))
    return ops


TYPES = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
FORMATS = {
    "id": r"[A-Za-z0-9._:-]{1,128}",
    "token": r"[A-Za-z0-9._~-]{1,128}",
    "cursor": r"[A-Za-z0-9_-]{1,512}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "duration": r"(\d+[a-z]+)+",
    "metric": r"[^\x00-\x1f\x7f]{1,128}",
}


def check(schema, value, where=""):
    """Raises AssertionError with the place when `value` does not follow `schema`."""
    types = schema.get("type")
    if types is not None:
        types = types if isinstance(types, list) else [types]
        assert any(TYPES[t](value) for t in types), f"{where}: {value!r} is not of type {types}"
    if isinstance(value, str):
        assert "enum" not in schema or value in schema["enum"], f"{where}: {value!r} is not in {schema['enum']}"
        assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)), f"{where}: length {len(value)}"
        assert "format" not in schema or re.fullmatch(FORMATS[schema["format"]], value), f"{where}: {value!r} is no {schema['format']}"
    elif TYPES["number"](value):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{where}: {value}"
    elif isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), f"{where}: {len(value)} items"
        for i, item in enumerate(value):
            check(schema.get("items", {}), item, f"{where}/{i}")
    elif isinstance(value, dict):
        check_members(schema, value, where)


def check_members(schema, value, where):
    for name in schema.get("required", []):
        assert name in value, f"{where}/{name} is missing"
    assert schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)), f"{where}: {len(value)} members"
    extra = schema.get("additionalProperties", True)
    for name, member in value.items():
        if name in schema.get("properties", {}):
            check(schema["properties"][name], member, f"{where}/{name}")
        else:
            assert extra is not False, f"{where}/{name} is not described"
            check({} if extra is True else extra, member, f"{where}/{name}")


PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request"],
    "additionalProperties": False,
    "properties": {"type": {"type": "string"}, "title": {"type": "string", "minLength": 2}, "status": {"type": "integer"},
                   "code": {"type": "string", "minLength": 1}, "detail": {"type": "string", "minLength": 1},
                   "pointer": {"type": "string"}, "parameter": {"type": "string"}, "request": {"type": "string", "minLength": 1}},
}
