// JSON documents (jansson values): parsing foreign text within limits, writing, merge patches. Without recursion.
#ifndef DOMAIN_DOC_H
#define DOMAIN_DOC_H

#include <jansson.h>

#include "base/json.h"
#include "base/slice.h"
#include "base/status.h"

#define DOC_DEPTH_MAX JSON_DEPTH_MAX
#define DOC_KEYS_MAX  10000

// A reference that is dropped at the end of scope.
static inline void doc_cleanup_(json_t **v)
{
    json_decref(*v);
}
#define DOC __attribute__((cleanup(doc_cleanup_))) json_t

// Parses one document: syntax, depth, number of keys and duplicate keys are checked before anything is allocated.
// *ret is the caller's. ST_MALFORMED, ST_TOO_LARGE or ST_INVALID with a text; ST_NOMEM.
enum status doc_parse(struct slice text, unsigned depth_max, json_t **ret, struct err *err);
// The same for text that has passed json_check or was written by us: only its syntax is known to be right. ST_MALFORMED for
// what is out of range (numbers, \u0000), ST_NOMEM.
enum status doc_load(struct slice checked, json_t **ret, struct err *err);
// Writes v; doubles in their shortest form. v == NULL writes null. False: nested deeper than DOC_DEPTH_MAX (out is spoilt).
bool doc_write(const json_t *v, struct jw *out);
// The text of v appended to out; false when it does not fit or is nested too deep.
bool doc_text(const json_t *v, struct buf *out);
// Levels of nesting: 0 for a scalar, 1 for a flat object, ...; DOC_DEPTH_MAX + 1 for anything deeper than DOC_DEPTH_MAX.
unsigned doc_depth(const json_t *v);
// Applies a JSON merge patch (RFC 7396) to the object `target`: null deletes, objects merge, all else replaces. Values are
// copied. ST_INVALID when the patch is deeper than DOC_DEPTH_MAX; ST_NOMEM (target is then half changed: drop it).
enum status doc_merge(json_t *target, const json_t *patch, struct err *err);

// A string member of an object as a slice; p == NULL when absent, null or of another type.
struct slice doc_str(const json_t *object, const char *key);
// The bytes of a string value (p == NULL for anything else).
struct slice doc_slice(const json_t *v);

#endif
