// JSON Schema 2020-12, the part of it that api/README.md names, as static data written by the build, and the validator.
//
// Schemas are closed trees without references, so the depth of a schema bounds the work; the document's own depth was
// bounded before (json_check).
#ifndef FRONT_HTTP_SCHEMA_H
#define FRONT_HTTP_SCHEMA_H

#include <jansson.h>

#include "base/status.h"
#include "front/http/format.h"

enum schema_type {
    SCHEMA_NULL = 1,
    SCHEMA_BOOLEAN = 2,
    SCHEMA_INTEGER = 4,
    SCHEMA_NUMBER = 8, // integers too
    SCHEMA_STRING = 16,
    SCHEMA_ARRAY = 32,
    SCHEMA_OBJECT = 64,
};

#define SCHEMA_DEPTH_MAX 32 // deepest document that is validated; json_check refuses more

struct schema;
struct schema_prop {
    const char *name;
    const struct schema *schema; // NULL: anything
    bool required;
};
struct schema {
    uint8_t types;      // bits of enum schema_type; 0: any
    uint8_t format;     // enum format; strings (and numbers, for FORMAT_TIME)
    bool closed;        // members that are not in props are refused
    uint16_t props_len; // sorted by name
    uint16_t choices_len;
    const struct schema_prop *props;
    const struct schema *additional; // of members that are not in props; NULL: anything
    const struct schema *items;      // of array elements; NULL: anything
    const char *const *choices;      // allowed strings
    uint32_t min_len, max_len;       // characters of a string, items of an array, or members of an object
    double minimum, maximum;
};
#define SCHEMA_LEN_ANY UINT32_MAX

// ST_OK, or ST_INVALID with err->where the JSON pointer (RFC 6901) of the value that is wrong and a text that says what is
// allowed. `s` NULL accepts anything. Any thread.
enum status schema_check(const struct schema *s, const json_t *doc, struct err *err);

#endif
