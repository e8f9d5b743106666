"""The generator of the operation table: what it refuses, and that it names the file."""
import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TOOL = os.path.join(ROOT, "tools/gen_api.py")

GOOD = {
    "name": "thing.change", "method": "POST", "path": "/api/v1/things/{thing}", "permission": "device:write", "runs": "core",
    "since": "0.1", "summary": "Change a thing",
    "params": [
        {"name": "thing", "in": "path", "type": "string", "format": "id", "description": "thing id"},
        {"name": "limit", "in": "query", "type": "integer", "minimum": 1, "maximum": 9, "default": 5, "description": "most"},
    ],
    "request": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
    "reply": {"type": "object"}, "errors": ["not_found"], "cli": {"verb": "thing change", "args": ["thing", "a"]},
}


def generate(texts):
    with tempfile.TemporaryDirectory() as d:
        files = []
        for name, text in texts.items():
            files.append(os.path.join(d, name))
            with open(files[-1], "w", encoding="utf-8") as f:
                f.write(text if isinstance(text, str) else json.dumps(text))
        out = subprocess.run([sys.executable, TOOL, "--out", os.path.join(d, "out"), *files], capture_output=True, text=True,
                             check=False)
        return out.returncode, out.stderr


class Refusals(unittest.TestCase):
    def refused(self, says, change, file="thing.change.json"):
        d = copy.deepcopy(GOOD)
        change(d)
        code, err = generate({file: d})
        self.assertNotEqual(code, 0, says)
        self.assertIn(file + ":", err)
        self.assertIn(says, err)

    def test_good(self):
        self.assertEqual(generate({"thing.change.json": GOOD}), (0, ""))

    def test_not_json(self):
        code, err = generate({"thing.change.json": "{"})
        self.assertNotEqual(code, 0)
        self.assertIn("thing.change.json:", err)

    def test_member_twice(self):
        code, err = generate({"thing.change.json": '{"name": "a.b", "name": "a.b"}'})
        self.assertNotEqual(code, 0)
        self.assertIn("'name' is there twice", err)

    def test_permission(self):
        self.refused("permission is 'device:paint'; allowed: public, device:read", lambda d: d.update(permission="device:paint"))
        self.refused("'permission' is missing", lambda d: d.pop("permission"))

    def test_reply(self):
        self.refused("one of reply, reply_content and stream", lambda d: d.pop("reply"))
        self.refused("status 204 has no body", lambda d: d.update(status=204))

    def test_names(self):
        self.refused("unknown member 'colour'", lambda d: d.update(colour=1))
        self.refused("must be thing.paint.json", lambda d: d.update(name="thing.paint"))
        self.refused("errors is 'lost'", lambda d: d.update(errors=["lost"]))
        self.refused("method is 'FETCH'", lambda d: d.update(method="FETCH"))

    def test_path(self):
        self.refused("'thing' is not described once", lambda d: d["params"].pop(0))
        self.refused("said to be in the path", lambda d: d.update(path="/api/v1/things"))
        self.refused("is neither a lower-case word", lambda d: d.update(path="/api/V1/things/{thing}"))

    def test_params(self):
        self.refused("default lies outside", lambda d: d["params"][1].update(default=10))
        self.refused("unknown member 'max'", lambda d: d["params"][1].update(max=1))
        self.refused("minimum does not go with type boolean", lambda d: d["params"][1].update(type="boolean"))
        self.refused("is there twice", lambda d: d["params"].append(d["params"][1]))

    def test_schemas(self):
        self.refused("request/properties/a: unknown keyword 'pattern'", lambda d: d["request"]["properties"]["a"].update(pattern="x"))
        self.refused("type is 'text'", lambda d: d["request"]["properties"]["a"].update(type="text"))
        self.refused("required member 'b'", lambda d: d["request"].update(required=["b"]))
        self.refused("format is 'email'", lambda d: d["reply"].update(format="email"))

    def test_safety(self):
        self.refused("must not be: drop one", lambda d: d.update(idempotent=True, secret_reply=True))
        self.refused("only for permission", lambda d: d.update(runs="io"))
        self.refused("body_max must be at most 16384", lambda d: d.update(permission="public", body_max=20000))
        self.refused("versioned is for GET", lambda d: d.update(versioned=True))
        self.refused("if_match is for changes", lambda d: d.update(if_match=True, runs="reader"))

    def test_command_line(self):
        self.refused("argument 'b' is neither", lambda d: d["cli"].update(args=["b"]))
        self.refused("verb must be lower-case words", lambda d: d["cli"].update(verb="Thing"))

    def test_duplicates(self):
        other = copy.deepcopy(GOOD)
        other["name"], other["path"] = "thing.other", "/api/v1/things/{item}"
        other["params"][0]["name"] = "item"
        other["cli"] = {"verb": "thing other"}
        code, err = generate({"thing.change.json": GOOD, "thing.other.json": other})
        self.assertNotEqual(code, 0)
        self.assertIn("same route as", err)


if __name__ == "__main__":
    unittest.main()
