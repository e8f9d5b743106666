// A JSON document as the evaluator reads it: a flat tape of 16-byte items in memory the caller gives.
//
// An item of an object or a list is followed by what is inside it; `span` items further on the next one begins. In an object
// keys and values take turns. Texts point into the JSON text, which must live as long, or (those with escapes) into the memory.
#ifndef EXPR_DOC_H
#define EXPR_DOC_H

#include "base/status.h"
#include "expr/value.h"

struct expr_item {
    uint8_t type; // enum expr_type; a key is a TEXT
    uint8_t unused;
    uint16_t hash; // of a key
    uint32_t n;    // TEXT: bytes; LIST: items; OBJECT: pairs
    union {
        bool b;
        int64_t i;
        double d;
        const uint8_t *p;
        uint32_t span; // LIST, OBJECT: items inside, at all depths
    };
};
_Static_assert(sizeof(struct expr_item) == 16, "a cache line holds four items");

// Lays `json` out in `mem` (aligned to 8 bytes) and gives its value. ST_MALFORMED: not JSON (RFC 8259, at most 32 deep);
// ST_TOO_LARGE: it needs more than `mem_bytes`. Of equal keys in one object the first counts. Any thread.
enum status expr_doc_build(struct slice json, void *mem, size_t mem_bytes, struct expr_value *ret);
// What expr_doc_build needs for a text of this length at most.
size_t expr_doc_bytes(size_t json_bytes);

// The item as a value, a view into the tape.
struct expr_value expr_item_value(const struct expr_item *it);
static inline const struct expr_item *expr_item_next(const struct expr_item *it)
{
    return it + 1 + (it->type == EXPR_LIST || it->type == EXPR_OBJECT ? it->span : 0);
}
struct jw; // base/json.h

// Writes the value as JSON: times, intervals and versions as texts, a point as {"lat", "lon"}. ST_TOO_LARGE: nested deeper than
// the writer goes; it has then written something else there.
enum status expr_value_write(const struct expr_value *v, struct jw *w);
// The same for a value and what is inside it.
enum status expr_item_write(const struct expr_item *it, struct jw *w);
// The hash items keep of their keys. Not secret: keys that collide cost a comparison each, which counts as work.
uint16_t expr_key_hash(struct slice key);
// The value of a key, NULL when there is none. `hash` is that of the key. *steps grows by the number of items passed.
const struct expr_item *expr_item_get(const struct expr_item *object, struct slice key, uint16_t hash, uint64_t *steps);
// The item at `index`, from the end when negative; NULL when there is none. *steps as above.
const struct expr_item *expr_item_at(const struct expr_item *list, int64_t index, uint64_t *steps);

#endif
