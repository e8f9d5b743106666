// What the HTTP front stands on, for its tests: a core that runs operations at once, and four known tokens. The handlers are
// those of tests/unit/front/http/api/*.json. Include in exactly one file of a program.
#ifndef TESTS_LIB_FAKE_HTTP_H
#define TESTS_LIB_FAKE_HTTP_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "domain/identity/identity.h"
#include "front/http/http_front.h"

// The table as the build makes it, and in the same translation unit, so that it needs no library of its own.
#include "front/http/testapi_ops.c"

struct core {
    struct db *db; // NULL: none
    struct events *events;
    atomic_int refuse;    // enum status: core_submit and core_read complete with it
    atomic_bool revoked;  // "owner" is unknown
    atomic_uint failures; // identity_auth_failed
    atomic_uint ran;      // operations
    atomic_uint created;  // calls of thing.create's handler
    atomic_uint states;   // live objects of thing.steps
    atomic_bool hold;     // operations wait in `held` until core_let_go
    _Atomic(struct op *) held;
};

static inline void fake_done(struct post *p)
{
    struct op *op = (struct op *)p; // post is its first member
    op->done(op);
}

static inline void fake_run(struct core *c, struct op *op, bool ro)
{
    struct principal nobody = {.kind = WHO_SYSTEM};
    struct tx tx = {.core = c,
                    .db = c->db,
                    .who = op->who != NULL ? op->who : &nobody,
                    .now_us = clock_wall_us(),
                    .ro = ro,
                    .op = op};
    op->err = (struct err){.code = ST_OK};
    op->status = (enum status)atomic_load(&c->refuse);
    if (op->status == ST_OK) {
        atomic_fetch_add(&c->ran, 1);
        op->status = op->run(&tx, op, &op->err);
    }
    op->post.fn = fake_done;
    if (atomic_load(&c->hold)) {
        atomic_store(&c->held, op);
    } else {
        loop_post(op->reply_to, &op->post);
    }
}

void core_submit(struct core *c, struct op *op)
{
    fake_run(c, op, false);
}
void core_read(struct core *c, struct op *op)
{
    fake_run(c, op, true);
}
void core_every(struct core *c, uint32_t ms, enum status (*fn)(struct tx *tx, struct err *err))
{
    (void)c;
    (void)ms;
    (void)fn;
}
struct events *core_events(struct core *c)
{
    return c->events;
}
void identity_auth_failed(struct core *c, struct slice peer_addr)
{
    (void)peer_addr;
    atomic_fetch_add(&c->failures, 1);
}

// Tokens: "owner" and "viewer" of tenant 1, "other" (an owner) of tenant 2.
enum status identity_bearer(struct tx *tx, struct slice token, struct principal *ret, struct err *err)
{
    static const struct {
        const char *token;
        uint32_t tenant;
        enum role role;
    } known[] = {{"owner", 1, ROLE_OWNER}, {"viewer", 1, ROLE_VIEWER}, {"other", 2, ROLE_OWNER}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_eq_str(token, known[i].token) && !(i == 0 && atomic_load(&tx->core->revoked))) {
            *ret =
                (struct principal){.kind = WHO_OPERATOR, .tenant = known[i].tenant, .perms = role_perms(known[i].role)};
            snprintf(ret->name, sizeof(ret->name), "%s", known[i].token);
            return ST_OK;
        }
    }
    return err_set(err, ST_UNAUTHENTICATED, "no such token");
}

// --- handlers ----------------------------------------------------------------------------------------------------

static enum status thing_create(struct api_call *call, struct err *err)
{
    (void)err;
    unsigned n = atomic_fetch_add(&call->tx->core->created, 1) + 1;
    const char *id = json_string_value(json_object_get(call->body, "id"));
    if (strcmp(id, "taken") == 0) {
        return err_at(err, ST_EXISTS, "/id", "there is a thing of this id");
    }
    snprintf(call->location, sizeof(call->location), "/api/v1/things/%s", id);
    call->etag = 1;
    jw_object(call->out);
    jw_key(call->out, "id");
    jw_str(call->out, id);
    jw_key(call->out, "calls");
    jw_uint(call->out, n);
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_delete(struct api_call *call, struct err *err)
{
    (void)call;
    (void)err;
    return ST_OK;
}

static enum status thing_fail(struct api_call *call, struct err *err)
{
    char name[32];
    enum status st = ST_INTERNAL;
    slice_to_cstr(api_param(call, "code"), name, sizeof(name));
    jw_object(call->out); // half an answer, to be dropped
    return status_parse(name, &st) ? err_set(err, st, "as asked: %s", name) : ST_INTERNAL;
}

static enum status thing_get(struct api_call *call, struct err *err)
{
    struct slice id = api_param(call, "thing");
    if (slice_eq(id, SLICE("none")) || call->tx->who->tenant != 1) {
        return err_set(err, ST_NOT_FOUND, "there is no thing " SLICE_FMT, SLICE_ARG(id));
    }
    call->etag = 7;
    jw_object(call->out);
    jw_key(call->out, "thing");
    jw_slice(call->out, id);
    jw_key(call->out, "who");
    jw_str(call->out, call->tx->who->name);
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_import(struct api_call *call, struct err *err)
{
    (void)err;
    unsigned lines = 0;
    for (size_t i = 0; i < call->body_raw.len; i++) {
        lines += call->body_raw.p[i] == '\n';
    }
    jw_object(call->out);
    jw_key(call->out, "lines");
    jw_uint(call->out, lines);
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_join(struct api_call *call, struct err *err)
{
    (void)err;
    jw_object(call->out);
    jw_key(call->out, "token_bytes");
    jw_uint(call->out, call->bearer.len);
    jw_key(call->out, "body");
    jw_bool(call->out, call->body != NULL);
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_large(struct api_call *call, struct err *err)
{
    (void)err;
    jw_array(call->out);
    for (int64_t i = api_param_int(call, "n", 0); i > 0; i--) {
        jw_str(call->out, "something to read");
    }
    jw_array_end(call->out);
    return ST_OK;
}

static enum status thing_list(struct api_call *call, struct err *err)
{
    (void)err;
    jw_object(call->out);
    jw_key(call->out, "limit");
    jw_int(call->out, api_param_int(call, "limit", -1));
    jw_key(call->out, "offset");
    jw_int(call->out, api_param_int(call, "offset", -1));
    jw_key(call->out, "all");
    jw_bool(call->out, api_param_bool(call, "all", false));
    jw_key(call->out, "from");
    jw_int(call->out, api_param_time(call, "from", -1));
    jw_key(call->out, "every");
    jw_int(call->out, api_param_duration(call, "every", -1));
    jw_key(call->out, "color");
    jw_slice(call->out, api_param(call, "color"));
    jw_key(call->out, "text");
    jw_slice(call->out, api_param(call, "text"));
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_part(struct api_call *call, struct err *err)
{
    (void)err;
    jw_object(call->out);
    jw_key(call->out, "thing");
    jw_slice(call->out, api_param(call, "thing"));
    jw_key(call->out, "part");
    jw_slice(call->out, api_param(call, "part"));
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_ping(struct api_call *call, struct err *err)
{
    (void)err;
    jw_object(call->out);
    jw_object_end(call->out);
    return ST_OK;
}

static void steps_free(void *state)
{
    struct core *c = *(struct core **)state;
    atomic_fetch_sub(&c->states, 1);
    free(state);
}

static enum status steps_then(struct api_call *call, struct err *err)
{
    (void)err;
    jw_object(call->out);
    jw_key(call->out, "second");
    jw_bool(call->out, call->tx->ro && call->state != NULL);
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_steps(struct api_call *call, struct err *err)
{
    struct core **state = malloc(sizeof(struct core *));
    if (state == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    *state = call->tx->core;
    atomic_fetch_add(&call->tx->core->states, 1);
    call->state = state;
    call->state_free = steps_free;
    call->then = steps_then;
    return ST_OK;
}

static enum status thing_text(struct api_call *call, struct err *err)
{
    (void)err;
    buf_str(call->out->out, "plain words\n");
    return ST_OK;
}

static enum status thing_update(struct api_call *call, struct err *err)
{
    if (call->if_match >= 0 && call->if_match != 7) {
        return err_set(err, ST_VERSION, "this is version 7");
    }
    jw_object(call->out);
    jw_key(call->out, "if_match");
    jw_int(call->out, call->if_match);
    jw_object_end(call->out);
    return ST_OK;
}

static enum status thing_watch(struct api_call *call, struct err *err)
{
    (void)err;
    call->stream = (struct events_filter){.tenant = call->tx->who->tenant, .types = 1U << EV_TWIN};
    return ST_OK;
}

static const api_fn fake_fns[] = {
    [TESTAPI_OP_THING_CREATE] = thing_create, [TESTAPI_OP_THING_DELETE] = thing_delete,
    [TESTAPI_OP_THING_FAIL] = thing_fail,     [TESTAPI_OP_THING_GET] = thing_get,
    [TESTAPI_OP_THING_IMPORT] = thing_import, [TESTAPI_OP_THING_JOIN] = thing_join,
    [TESTAPI_OP_THING_LARGE] = thing_large,   [TESTAPI_OP_THING_LIST] = thing_list,
    [TESTAPI_OP_THING_PART] = thing_part,     [TESTAPI_OP_THING_PING] = thing_ping,
    [TESTAPI_OP_THING_STEPS] = thing_steps,   [TESTAPI_OP_THING_TEXT] = thing_text,
    [TESTAPI_OP_THING_UPDATE] = thing_update, [TESTAPI_OP_THING_WATCH] = thing_watch,
};
static const struct api_table fake_table = {testapi_ops, fake_fns, TESTAPI_OP__COUNT, &testapi_root};

#endif
