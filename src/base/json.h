// JSON on the hot path: a pull reader without allocation and a writer into a buf (RFC 8259).
//
// Documents (twins, API bodies) use jansson; this reader is for payloads and this writer for every reply. Fuzzing
// cross-checks the two.
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#define JSON_DEPTH_MAX 32

enum json_token {
    JT_ERROR,  // json.error says what, json.off where
    JT_END,    // the one value is complete and only white space follows
    JT_OBJECT, // {
    JT_OBJECT_END,
    JT_ARRAY, // [
    JT_ARRAY_END,
    JT_KEY,    // json.str, json.escaped; never holds U+0000; the value's token follows
    JT_STRING, // json.str, json.escaped
    JT_INT,    // json.i (and json.d): an integer literal that fits int64
    JT_DOUBLE, // json.d: every other number; not finite is an error
    JT_TRUE,
    JT_FALSE,
    JT_NULL,
};

struct json {
    const uint8_t *start;
    const uint8_t *p;
    const uint8_t *end;
    unsigned depth;
    unsigned depth_max; // at most JSON_DEPTH_MAX
    uint32_t in_object; // one bit per level
    uint8_t state;      // private to json.c
    bool escaped;       // str still has backslash escapes: json_unescape
    struct slice str;   // raw bytes between the quotes: valid UTF-8, no control bytes
    int64_t i;
    double d;
    const char *error; // static text
    size_t off;        // byte offset of the error
};

// Begins to read `text`, which is borrowed as long as the reader is used. Values nest at most depth_max deep (0: no object, no
// array).
void json_init(struct json *j, struct slice text, unsigned depth_max);
// The next token; JT_END and JT_ERROR stay. Linear in the text, no allocation, no recursion.
enum json_token json_next(struct json *j);
// Called right after JT_OBJECT/JT_ARRAY (or with any value token just returned): passes over the rest of that value.
// False on a syntax error.
bool json_skip(struct json *j, enum json_token just_read);
// Appends the unescaped bytes of `raw` (from j->str); surrogate pairs combined, lone surrogates refused. False when malformed.
bool json_unescape(struct slice raw, struct buf *out);
// One pass over a whole document: syntax, depth, number of keys, duplicate keys within an object are refused.
enum status json_check(struct slice text, unsigned depth_max, unsigned keys_max, struct err *err);

// Writer. Commas and colons are placed by itself; misuse (value without key in an object) is a programmer's mistake and asserts.
struct jw {
    struct buf *out;
    unsigned depth;
    uint32_t in_object;
    uint32_t has_items;
    bool after_key;
};
void jw_init(struct jw *w, struct buf *out);
void jw_object(struct jw *w);
void jw_object_end(struct jw *w);
void jw_array(struct jw *w);
void jw_array_end(struct jw *w);
void jw_key(struct jw *w, const char *key);
void jw_key_slice(struct jw *w, struct slice key);
void jw_str(struct jw *w, const char *s);    // NULL writes null
void jw_slice(struct jw *w, struct slice s); // p == NULL writes null; invalid UTF-8 becomes U+FFFD
void jw_int(struct jw *w, int64_t v);
void jw_uint(struct jw *w, uint64_t v);
void jw_double(struct jw *w, double v); // shortest text that reads back the same; not finite writes null
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);
void jw_raw(struct jw *w, struct slice json_text); // already valid JSON, copied unchanged

#endif
