// Names and types: what the parser cannot know. Resolves roots and functions and refuses what could never be.
#ifndef EXPR_CHECK_H
#define EXPR_CHECK_H

#include "expr/schema.h"
#include "expr/tree.h"
#include "expr/zone.h"

struct expr_check_options {
    const struct expr_schema *schema;
    expr_types wanted;              // what the expression is to give; EXPR_OF_ANY: anything
    const struct expr_names *names; // for suggestions; may be NULL
    size_t names_count;
    // Finds a time zone by name, usually by expr_zone_read; NULL: only UTC and fixed offsets are known. The rows are copied.
    enum status (*zone)(void *zone_ctx, struct slice name, struct expr_zone_row *rows, unsigned max,
                        unsigned *ret_count);
    void *zone_ctx;
};

// Fills types, fn, scope and op of the tree's nodes. ST_INVALID: an unknown name, or types that never fit: err says where and
// what, and what may have been meant. Values of documents have no known type and pass: what does not fit at run time is NULL.
// ST_NOMEM: the tree's arena
// is full. `err` may be NULL. Any thread.
enum status expr_check(struct expr_tree *t, const struct expr_check_options *o, struct expr_error *err);

#endif
