"""The operation table as C: operations, parameters, schemas and the route tree (src/front/http/table.h)."""
from .ctext import c_bool, c_int64, c_string
from .load import INT_MAX, INT_MIN, METHODS, is_param, types_of

STRING_MAX = {"cursor": 512}  # of parameters without maxLength
STRING_MAX_OTHER = 256


class Table:
    def __init__(self, ops, names, prefix):
        self.ops, self.names, self.prefix = ops, names, prefix
        self.out, self.count = [], 0

    def fresh(self, kind):
        self.count += 1
        return f"{kind}_{self.count}"

    def choices(self, values):
        if not values:
            return "NULL", 0
        name = self.fresh("choices")
        self.out.append(f"static const char *const {name}[] = {{{', '.join(c_string(v) for v in values)}}};")
        return name, len(values)

    def schema(self, s):
        """Writes the nodes below first; returns the expression that points at this one."""
        if s is True or s is None or s == {}:
            return "NULL"
        fields = []
        types = types_of(s)
        if types:
            fields.append(".types = " + " | ".join(f"SCHEMA_{t.upper()}" for t in types))
        if "format" in s:
            fields.append(f".format = FORMAT_{s['format'].upper()}")
        fields += self.members(s)
        if "items" in s:
            fields.append(f".items = {self.schema(s['items'])}")
        choices, n = self.choices([c for c in s.get("enum", []) if c is not None])
        if n:
            fields.append(f".choices = {choices}, .choices_len = {n}")
        low = [s[k] for k in ("minLength", "minItems", "minProperties") if k in s]
        high = [s[k] for k in ("maxLength", "maxItems", "maxProperties") if k in s]
        fields.append(f".min_len = {max(low, default=0)}, .max_len = {str(min(high)) + 'U' if high else 'SCHEMA_LEN_ANY'}")
        fields.append(f".minimum = {s.get('minimum', '-INFINITY')}, .maximum = {s.get('maximum', 'INFINITY')}")
        name = self.fresh("schema")
        self.out.append(f"static const struct schema {name} = {{{', '.join(fields)}}};")
        return "&" + name

    def members(self, s):
        fields = []
        extra = s.get("additionalProperties", True)
        if extra is False:
            fields.append(".closed = true")
        elif extra is not True:
            fields.append(f".additional = {self.schema(extra)}")
        props = s.get("properties", {})
        if props:
            rows = [f"{{{c_string(n)}, {self.schema(props[n])}, {c_bool(n in s.get('required', []))}}}"
                    for n in sorted(props, key=lambda k: k.encode())]
            name = self.fresh("props")
            self.out.append(f"static const struct schema_prop {name}[] = {{\n    " + ",\n    ".join(rows) + "};")
            fields.append(f".props = {name}, .props_len = {len(rows)}")
        return fields

    def params(self, op):
        if not op.params:
            return "NULL"
        rows = []
        for p in op.params:
            in_path = p["in"] == "path"
            choices, n = self.choices(p.get("enum"))
            default = p.get("default")
            if isinstance(default, bool):
                default = str(default).lower()
            row = [
                c_string(p["name"]), c_bool(in_path), c_bool(in_path or p.get("required")),
                str(op.segments.index("{" + p["name"] + "}")) if in_path else "0",
                f"API_{p['type'].upper()}", f"FORMAT_{p.get('format', 'none').upper()}",
                str(p.get("minLength", 0)), str(p.get("maxLength", STRING_MAX.get(p.get("format"), STRING_MAX_OTHER))),
                c_int64(p.get("minimum", INT_MIN)), c_int64(p.get("maximum", INT_MAX)),
                c_string(None if default is None else str(default)), choices, str(n),
            ]
            rows.append("{" + ", ".join(row) + "}")
        name = f"{op.ident}_params"
        self.out.append(f"static const struct api_param_def {name}[] = {{\n    " + ",\n    ".join(rows) + "};")
        return name

    def op(self, op):
        d = op.d
        perm = "PUBLIC" if op.public else self.names.perms[d["permission"]]
        request = self.schema(op.request) if op.request is not None else "NULL"
        fields = [
            f".name = {c_string(op.name)}", f".path = {c_string(op.path)}", f".method = API_{op.method}",
            f".perm = PERM_{perm}", f".runs = API_{d['runs'].upper()}", f".params_len = {len(op.params)}",
            f".idempotent = {c_bool(d.get('idempotent'))}", f".if_match = {c_bool(d.get('if_match'))}",
            f".stream = {c_bool('stream' in d)}",
            f".body_required = {c_bool(op.has_body and d.get('request_required', True))}",
            f".status = {op.status}", f".body_max = {op.body_max}", f".content = {c_string(op.content)}",
            f".reply_content = {c_string(op.reply_content)}", f".request = {request}", f".params = {self.params(op)}",
        ]
        return f"    {{{', '.join(fields)}}},"

    def route(self, node):
        """Children first; returns the initialiser of this node (its segment excepted)."""
        literals = sorted((k for k in node["children"] if k != "{}"), key=lambda k: k.encode())
        order = literals + (["{}"] if "{}" in node["children"] else [])
        rows = [f"{{{'NULL' if k == '{}' else c_string(k)}, {self.route(node['children'][k])}}}" for k in order]
        name = "NULL"
        if rows:
            name = self.fresh("routes")
            self.out.append(f"static const struct api_route {name}[] = {{\n    " + ",\n    ".join(rows) + "};")
        ops = ", ".join(str(node["ops"].get(m, -1)) for m in METHODS)
        return f"{name}, {len(literals)}, {c_bool('{}' in node['children'])}, {{{ops}}}"

    def tree(self):
        root = {"children": {}, "ops": {}}
        for i, op in enumerate(self.ops):
            node = root
            for s in op.segments:
                node = node["children"].setdefault("{}" if is_param(s) else s, {"children": {}, "ops": {}})
            node["ops"][op.method] = i
        return root

    def header(self):
        guard, up = f"FRONT_HTTP_{self.prefix.upper()}_OPS_H", self.prefix.upper()
        text = f"// Generated from the operation descriptions; do not edit.\n#ifndef {guard}\n#define {guard}\n\n"
        text += '#include "front/http/table.h"\n\n'
        text += f"enum {self.prefix}_op_id {{\n" + "".join(f"    {up}_OP_{o.ident.upper()},\n" for o in self.ops)
        text += f"    {up}_OP__COUNT\n}};\n\n"
        text += f"extern const struct api_op {self.prefix}_ops[{up}_OP__COUNT];\n"
        text += f"extern const struct api_route {self.prefix}_root;\n"
        text += f"extern const struct api_table {self.prefix}_table; // with the handlers op_noun_verb\n"
        return text + "\n#endif\n"

    def source(self):
        rows = [self.op(o) for o in self.ops]
        route = self.route(self.tree())
        text = f"// Generated from the operation descriptions; do not edit.\n#include \"front/http/{self.prefix}_ops.h\"\n\n"
        text += "#include <math.h>\n\n" + "\n".join(self.out)
        text += f"\nconst struct api_op {self.prefix}_ops[] = {{\n" + "\n".join(rows) + "\n};\n"
        return text + f"const struct api_route {self.prefix}_root = {{NULL, {route}}};\n"

    def handlers(self):
        """In a file of its own, so that tests may take the table with handlers of their own."""
        up = self.prefix.upper()
        text = f"// Generated from the operation descriptions; do not edit.\n#include \"front/http/{self.prefix}_ops.h\"\n\n"
        text += "".join(f"enum status op_{o.ident}(struct api_call *call, struct err *err);\n" for o in self.ops)
        text += f"\nstatic const api_fn fns[] = {{\n" + "".join(f"    op_{o.ident},\n" for o in self.ops) + "};\n"
        text += f"const struct api_table {self.prefix}_table = {{{self.prefix}_ops, fns, {up}_OP__COUNT, &{self.prefix}_root}};\n"
        return text
