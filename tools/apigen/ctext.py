"""Small helpers to write C."""


def c_string(text):
    """One C string literal. Question marks are escaped against trigraphs, bytes above ASCII as octal."""
    if text is None:
        return "NULL"
    out = []
    for b in text.encode("utf-8"):
        c = chr(b)
        if c in '"\\?':
            out.append("\\" + c)
        elif c == "\n":
            out.append("\\n")
        elif 32 <= b < 127:
            out.append(c)
        else:
            out.append(f"\\{b:03o}")
    return '"' + "".join(out) + '"'


def c_bool(value):
    return "true" if value else "false"


def c_int64(value):
    return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"
