// The table of operations as the build writes it from api/*.json (tools/gen_api.py): all static, nothing parsed at start.
#ifndef FRONT_HTTP_TABLE_H
#define FRONT_HTTP_TABLE_H

#include "front/http/api.h"
#include "front/http/schema.h"

enum api_method { API_GET, API_POST, API_PUT, API_PATCH, API_DELETE, API_METHOD__COUNT };

enum api_type { API_STRING, API_INTEGER, API_BOOLEAN, API_TIME, API_DURATION };

struct api_param_def {
    const char *name;
    bool in_path;
    bool required;             // path parameters always are
    uint8_t segment;           // path parameters: index of the segment that holds it
    uint8_t type;              // enum api_type
    uint8_t format;            // enum format
    uint16_t min_len, max_len; // bytes, API_STRING
    int64_t minimum, maximum;  // API_INTEGER
    const char *dflt;          // as in a URL; NULL: none
    const char *const *choices;
    uint16_t choices_len;
};

struct api_op {
    const char *name; // "device.get"
    const char *path; // template, for logs and texts
    uint8_t method;
    uint8_t perm; // enum perm
    uint8_t runs; // enum api_runs
    uint8_t params_len;
    bool idempotent, if_match, stream;
    bool body_required;
    uint16_t status;           // on success
    uint32_t body_max;         // bytes; 0: takes no body
    const char *content;       // body that is not JSON; NULL: JSON
    const char *reply_content; // reply that is not JSON; NULL: JSON
    const struct schema *request;
    const struct api_param_def *params;
};

// Routes as a tree of path segments: literal children sorted by name, then at most one parameter child.
struct api_route {
    const char *segment; // NULL: a parameter
    const struct api_route *children;
    uint8_t literals_len;
    bool has_param;                 // children[literals_len]
    int16_t ops[API_METHOD__COUNT]; // index into api_table.ops, -1: none
};

struct api_table {
    const struct api_op *ops;
    const api_fn *fns; // same order
    size_t len;
    const struct api_route *root;
};

#define API_SEGMENTS_MAX 12 // longest route, checked by the generator

#endif
