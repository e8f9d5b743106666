// Operator operations: what a handler gets and gives. The table of operations is generated from api/*.json: routes,
// permissions, parameters, schemas; a route without a permission does not build. Domain code knows nothing of HTTP.
//
// A handler is `enum status op_<noun>_<verb>(struct api_call *call, struct err *err)`, named after the description's "name".
// It runs after the caller was identified (call->tx->who) and its permission checked, in the caller's own transaction; on
// an error the transaction is rolled back and what was written to `out` is dropped.
#ifndef FRONT_HTTP_API_H
#define FRONT_HTTP_API_H

#include <jansson.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/status.h"
#include "core/core.h"

#define API_PARAMS_MAX 16

enum api_runs {
    API_READER, // on a snapshot by a reader thread
    API_CORE,   // on the core thread in a transaction
    API_IO,     // at once on the connection's thread, without a tx (public operations only)
};

struct api_op;
struct api_call {
    const struct api_op *op;
    struct core *core;
    struct tx *tx;       // NULL for API_IO
    struct arena *arena; // lives until the reply is sent
    struct slice
        params[API_PARAMS_MAX]; // validated, percent-decoded, in the order of the description; p == NULL: absent
    json_t *body;               // validated against the request schema; NULL: none. Borrowed.
    struct slice body_raw;      // the bytes, for application/x-ndjson bodies
    struct slice bearer;        // public operations only: the bearer token they check themselves; p == NULL: absent
    int64_t if_match;           // version from If-Match, -1: none
    struct slice peer_addr;
    // the answer
    struct jw *out; // reply body; write exactly one value (nothing for 204); with "reply_content": append to out->out
    int64_t etag;   // version for the ETag header, -1: none
    int status;     // HTTP status when ST_OK; preset from the description
    char location[200];          // Location header, "" none
    struct events_filter stream; // "stream" operations: what to send, decided by the handler
    // Work in two steps (a telemetry range needs the core's heads and then a reader): the handler on the core thread sets
    // `then` and `state`; it runs on a reader thread with the same call, then the reply goes out. state_free is always called.
    enum status (*then)(struct api_call *call, struct err *err);
    void *state;
    void (*state_free)(void *state);
};
typedef enum status (*api_fn)(struct api_call *call, struct err *err);

// Parameters by the name in the description; an unknown name is a programmer's mistake and asserts. Absent ones get the
// description's "default", and without one `dflt`.
struct slice api_param(const struct api_call *call, const char *name);              // p == NULL: absent and no default
int64_t api_param_int(const struct api_call *call, const char *name, int64_t dflt); // validated against the description
bool api_param_bool(const struct api_call *call, const char *name, bool dflt);
int64_t api_param_time(const struct api_call *call, const char *name, int64_t dflt);     // wall clock, microseconds
int64_t api_param_duration(const struct api_call *call, const char *name, int64_t dflt); // microseconds

#endif
