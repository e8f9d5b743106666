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
// The devices' document: what it holds is listed in docs/expressions.md. Its roots by number, in the order of the schema.
enum expr_device_root {
    EXPR_DEVICE_ID,
    EXPR_DEVICE_NAME,
    EXPR_DEVICE_MODEL,
    EXPR_DEVICE_STATE,
    EXPR_DEVICE_VERSION,
    EXPR_DEVICE_CREATED,
    EXPR_DEVICE_UPDATED,
    EXPR_DEVICE_ONLINE,
    EXPR_DEVICE_CONNECTED_AT,
    EXPR_DEVICE_DISCONNECTED_AT,
    EXPR_DEVICE_LAST_SEEN,
    EXPR_DEVICE_TAGS,
    EXPR_DEVICE_ATTRIBUTES,
    EXPR_DEVICE_KEYS,
    EXPR_DEVICE_DESIRED,
    EXPR_DEVICE_REPORTED,
    EXPR_DEVICE_TELEMETRY,
    EXPR_DEVICE_GROUPS,
    EXPR_DEVICE_CREDENTIALS,
    EXPR_DEVICE_LOCATION,
    EXPR_DEVICE__COUNT
};
#define EXPR_DEVICE_BIT(name) (UINT64_C(1) << EXPR_DEVICE_##name) // of a set of roots
#define EXPR_DEVICE_ALL       ((UINT64_C(1) << EXPR_DEVICE__COUNT) - 1)
const struct expr_schema *expr_schema_device(void);
// A message, for statements: names are keys of its payload; what else is known of it the functions topic(), clientid(),
// timestamp() and qos() tell, which stand for the roots $topic, $clientid, $timestamp and $qos.
const struct expr_schema *expr_schema_message(void);

#endif
