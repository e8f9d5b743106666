// What an expression may speak of: the names at the top of a document, with their types and a line of documentation. The
// caller has one such table for each kind of document (a device, a message); the same compiler serves them all.
#ifndef EXPR_SCHEMA_H
#define EXPR_SCHEMA_H

#include "expr/value.h"

#define EXPR_ROOTS_MAX 64

enum expr_shape {
    EXPR_SHAPE_VALUE,    // a value of the types given; nothing below it
    EXPR_SHAPE_DOCUMENT, // anything below it, with any types
    EXPR_SHAPE_SAMPLES,  // name.KEY is the last value of a series, name.KEY.time when it was
};

struct expr_root {
    const char *name;
    enum expr_shape shape;
    expr_types types; // EXPR_SHAPE_VALUE
    const char *doc;  // one line
};

struct expr_schema {
    const char *name; // "device"
    const struct expr_root *roots;
    unsigned count;
    // A name that is no root is looked for in this one, which is a DOCUMENT; NULL: it is an error.
    const char *fallback;
};

// Names known to exist below a root, for suggestions and completion only: {"tags", {"site", "room"}, 2}.
struct expr_names {
    const char *root;
    const char *const *names;
    size_t count;
};

// Index of the root; -1 when there is none.
int expr_schema_find(const struct expr_schema *s, struct slice name);
// Appends the names as a Markdown table.
bool expr_schema_reference(const struct expr_schema *s, struct buf *out);
// The devices' document: what it holds is listed in docs/expressions.md.
const struct expr_schema *expr_schema_device(void);
// A message, for statements: names are keys of its payload; what else is known of it the functions topic(), clientid(),
// timestamp() and qos() tell, which stand for the roots $topic, $clientid, $timestamp and $qos.
const struct expr_schema *expr_schema_message(void);

#endif
