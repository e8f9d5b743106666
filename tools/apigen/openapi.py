"""The OpenAPI 3.1 document."""
import json

from .ctext import c_string

COMMON = ["invalid", "unsupported", "too_large", "limit", "internal", "busy", "no_memory", "shutting_down"]
# Our formats in words that others understand: "time" and "duration" mean something else in the registry of formats.
FORMATS = {
    "time": {"format": "date-time"},
    "duration": {"pattern": "^([0-9]+[a-z]+)+$"},
    "id": {"pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    "token": {"pattern": "^[A-Za-z0-9._~-]{1,128}$"},
    "cursor": {"pattern": "^[A-Za-z0-9_-]{1,512}$"},
    "metric": {"minLength": 1, "maxLength": 128},
}


def schema(s):
    if not isinstance(s, dict):
        return s
    out = {k: v for k, v in s.items() if k != "format"}
    out.update(FORMATS.get(s.get("format"), {}))
    if "properties" in s:
        out["properties"] = {k: schema(v) for k, v in s["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in s:
            out[key] = schema(s[key])
    return out


def param(p):
    s = {k: p[k] for k in ("minimum", "maximum", "minLength", "maxLength", "enum", "default") if k in p}
    s["type"] = p["type"] if p["type"] in ("string", "integer", "boolean") else "string"
    s.update(FORMATS.get(p.get("format"), {}))
    if p["type"] == "duration":
        s.update(FORMATS["duration"])
    if p["type"] == "time":
        s["examples"] = ["2026-01-31T12:00:00Z", "1769860800000"]  # both forms are taken
    return {"name": p["name"], "in": p["in"], "required": p["in"] == "path" or p.get("required", False),
            "description": p["description"], "schema": s}


def header_param(name, description):
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def reply(op):
    text = {"description": op.d["summary"]}
    if op.reply is not None:
        text["content"] = {"application/json": {"schema": schema(op.reply)}}
    elif op.reply_content is not None:
        text["content"] = {op.reply_content: {"schema": {"type": "string"}}}
    elif "stream" in op.d:
        text["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    return text


def error_names(op):
    found = list(op.d.get("errors", [])) + COMMON
    found += ["forbidden", "unauthenticated"] if not op.public else []
    found += ["version_mismatch"] if op.d.get("if_match") else []
    found += ["storage_full"] if op.method != "GET" else []
    found += ["malformed"] if op.request is not None else []
    return sorted(set(found))


def responses(op, statuses):
    out = {str(op.status): reply(op)}
    if op.d.get("versioned"):
        out[str(op.status)]["headers"] = {"ETag": {"description": "The version, for If-Match and If-None-Match.", "schema": {"type": "string"}}}
        out["304"] = {"description": "Still the version of If-None-Match."}
    by_status = {}
    for name in error_names(op):
        by_status.setdefault(statuses[name], []).append(name)
    if op.d.get("idempotent"):
        by_status.setdefault(422, []).append("idempotency_key_reused")
    for status in sorted(by_status):
        out[str(status)] = {"description": ", ".join(by_status[status]), "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    return out


def operation(op, statuses):
    d = op.d
    out = {"operationId": op.name, "tags": [op.name.split(".")[0]], "summary": d["summary"]}
    if d.get("description"):
        out["description"] = d["description"]
    out["x-permission"], out["x-since"] = d["permission"], d["since"]
    if d.get("interactive"):
        out["x-interactive"] = True
    out["security"] = [] if op.public else [{"bearer": []}]
    params = [param(p) for p in op.params]
    if d.get("idempotent"):
        params.append(header_param("Idempotency-Key", "Repeats of one request carry the same key and get the same answer (24 h)."))
    if d.get("if_match"):
        params.append(header_param("If-Match", "ETag of the version this change is made to; another version is refused."))
    if d.get("versioned"):
        params.append(header_param("If-None-Match", "ETag of the version that is known; 304 when it is the present one."))
    if "stream" in d:
        params.append(header_param("Last-Event-ID", "Id of the last event seen; what is still kept after it comes first."))
    if params:
        out["parameters"] = params
    if op.has_body:
        body = {"schema": schema(op.request)} if op.request is not None else {"schema": {"type": "string"}}
        out["requestBody"] = {"required": d.get("request_required", True),
                              "content": {op.content or "application/json": body}}
    out["responses"] = responses(op, statuses)
    return out


PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; `pointer` (JSON pointer into the body) or `parameter` says where.",
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "code": {"type": "string"}, "detail": {"type": "string"}, "pointer": {"type": "string"},
        "parameter": {"type": "string"}, "request": {"type": "string", "description": "id of the request, as in the log"},
    },
    "required": ["type", "title", "status", "code", "detail", "request"],
}


def document(ops, statuses, version):
    paths = {}
    for op in ops:
        paths.setdefault(op.path, {})[op.method.lower()] = operation(op, statuses)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Muster", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "Operator API of the Muster device cloud."},
        "servers": [{"url": "/"}],
        "paths": {k: paths[k] for k in sorted(paths)},
        "components": {"schemas": {"Problem": PROBLEM},
                       "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def source(text):
    """The document as a C array of text, cut into lines for the sake of readers and tools."""
    lines = [text[i:i + 100] for i in range(0, len(text), 100)]
    out = "// Generated from the operation descriptions; do not edit.\n#include \"front/http/openapi.h\"\n\n"
    out += "const char api_openapi[] =\n" + "\n".join("    " + c_string(line) for line in lines) + ";\n"
    return out + "const size_t api_openapi_len = sizeof(api_openapi) - 1;\n"


def dump(doc):
    return json.dumps(doc, ensure_ascii=True, separators=(",", ":"))

