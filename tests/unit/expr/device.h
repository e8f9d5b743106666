// A device for the tests of expressions: a view made from the JSON text of a document, as docs/expressions.md shows it.
#ifndef UNIT_EXPR_DEVICE_H
#define UNIT_EXPR_DEVICE_H

#include "expr/eval.h"

#define DEVICE_MEM_BYTES 65536

struct device {
    _Alignas(8) uint8_t mem[DEVICE_MEM_BYTES];
    struct expr_value roots[EXPR_ROOTS_MAX];
    struct expr_view view;
};

static inline struct expr_value device_number(const struct expr_value *object, struct slice key)
{
    uint64_t steps = 0;
    const struct expr_item *it =
        object->type == EXPR_OBJECT ? expr_item_get(object->item, key, expr_key_hash(key), &steps) : NULL;
    return it != NULL ? expr_item_value(it) : expr_null();
}

// False when `json` is no JSON object. `json` must live as long as the device. The member "now" is the time.
static inline bool device_init(struct device *d, struct slice json)
{
    const struct expr_schema *s = expr_schema_device();
    struct expr_value all;
    if (expr_doc_build(json, d->mem, sizeof(d->mem), &all) != ST_OK || all.type != EXPR_OBJECT) {
        return false;
    }
    for (unsigned i = 0; i < s->count; i++) {
        struct expr_value v = device_number(&all, slice_str(s->roots[i].name));
        if (s->roots[i].types == EXPR_OF(EXPR_TIME)) {
            v = expr_to_time(&v);
        } else if (s->roots[i].types == EXPR_OF(EXPR_POINT) && v.type == EXPR_OBJECT) {
            struct expr_value lat = device_number(&v, SLICE("lat"));
            struct expr_value lon = device_number(&v, SLICE("lon"));
            v = lat.type == EXPR_REAL && lon.type == EXPR_REAL ? expr_point(lat.d, lon.d) : expr_null();
        }
        d->roots[i] = v;
    }
    struct expr_value now = device_number(&all, SLICE("now"));
    now = expr_to_time(&now);
    d->view = (struct expr_view){.roots = d->roots, .count = s->count, .now_us = now.i};
    return true;
}

#endif
