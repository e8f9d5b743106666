// CBOR (RFC 8949) to JSON text, so that everything behind the wire knows only JSON.
//
// One item is the whole input. Map keys are text; duplicate keys are left to json_check, as for JSON. What JSON cannot hold
// is refused or has one fixed form (RFC 8949 section 6.1):
//
//   unsigned, negative       number, all 64 bits of it
//   half, single, double     number, shortest text that reads back as the same double; NaN and Infinity refused
//   false, true, null        the same; undefined becomes null; other simple values refused
//   text string              string; every chunk of an indefinite one must be valid UTF-8 by itself
//   byte string              base64url text without padding (RFC 4648 section 5); chunks are joined first
//   tag 0 (RFC 3339 text)    its content, unchanged
//   tag 1 (epoch seconds)    RFC 3339 text with microseconds: a bare number means milliseconds
//                            everywhere else; years 0 to 9999
//   tag 55799 (this is CBOR) its content; every other tag refused
#ifndef PROTO_CBOR_H
#define PROTO_CBOR_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

struct cbor_limits {
    unsigned depth_max; // arrays and maps inside each other; more than JSON_DEPTH_MAX means that
    unsigned items_max; // items in all: values, keys, tags, chunks and breaks
};
// depth 32, 20,000 items.
struct cbor_limits cbor_limits_default(void);

// Appends the JSON text of `item` to `out`, whose maximum bounds the output. Errors: ST_MALFORMED (not CBOR, cut short, more
// than one item), ST_INVALID (CBOR without a JSON form), ST_TOO_LARGE (a limit, or no room in `out`), ST_NOMEM; err->where is
// "byte N". On an error `out` is as long as before. Any thread.
enum status cbor_to_json(struct slice item, const struct cbor_limits *limits, struct buf *out, struct err *err);

// Tells CBOR from JSON by the first byte, where the sender does not say: true for the arrays, maps, tags and floats of
// CBOR, none of which a JSON text can begin with. Bare CBOR numbers and strings are taken for JSON.
bool cbor_likely(struct slice payload);

#endif
