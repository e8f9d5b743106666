// Operator operations: what a handler gets and gives. The table of operations is generated from api/*.json: routes,
// permissions, parameters, schemas; a route without a permission does not build. Domain code knows nothing of HTTP.
#ifndef FRONT_HTTP_API_H
#define FRONT_HTTP_API_H

#include <jansson.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/status.h"
#include "core/core.h"

#define API_PARAMS_MAX 16

enum api_runs { API_READER, API_CORE }; // on a snapshot by a reader thread, or on the core thread in a transaction

struct api_op;
struct api_call {
    const struct api_op *op;
    struct tx *tx;
    struct arena *arena; // lives until the reply is sent
    struct slice
        params[API_PARAMS_MAX]; // validated, percent-decoded, in the order of the description; p == NULL: absent
    json_t *body;               // validated against the request schema; NULL: none. Borrowed.
    struct slice body_raw;      // the bytes, for application/x-ndjson bodies
    int64_t if_match;           // version from If-Match, -1: none
    struct slice peer_addr;
    // the answer
    struct jw *out;     // reply body; write exactly one value (nothing for 204)
    int64_t etag;       // version for the ETag header, -1: none
    int status;         // HTTP status when ST_OK; preset from the description
    char location[200]; // Location header, "" none
    // Work in two steps (a telemetry range needs the core's heads and then a reader): the handler on the core thread sets
    // `then` and `state`; it runs on a reader thread with the same call, then the reply goes out. state_free is always called.
    enum status (*then)(struct api_call *call, struct err *err);
    void *state;
    void (*state_free)(void *state);
};
typedef enum status (*api_fn)(struct api_call *call, struct err *err);

struct slice api_param(const struct api_call *call, const char *name); // p == NULL: absent; unknown name asserts
int64_t api_param_int(const struct api_call *call, const char *name, int64_t dflt); // validated against the description
bool api_param_bool(const struct api_call *call, const char *name, bool dflt);
int64_t api_param_time(const struct api_call *call, const char *name, int64_t dflt); // microseconds

#endif
