// A request's way through the core and back: who asks, may they, the handler, the answer. The one place where
// permissions of operations are checked.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/identity/identity.h"
#include "front/http/gzip.h"
#include "front/http/http_priv.h"

// --- who asks ----------------------------------------------------------------------------------------------------

enum status http_run_identify(struct http_req *req, struct tx *tx, struct err *err)
{
    enum perm perm = (enum perm)req->api->perm;
    if (perm == PERM_PUBLIC) {
        req->who = (struct principal){.kind = WHO_NOBODY};
    } else {
        enum status st = identity_bearer(tx, req->token, &req->who, err);
        if (st != ST_OK) {
            req->auth_failed = st == ST_UNAUTHENTICATED;
            return st;
        }
    }
    snprintf(req->who.addr, sizeof(req->who.addr), "%s", req->peer);
    tx->who = &req->who;
    if (!principal_may(&req->who, perm)) {
        return err_set(err, ST_FORBIDDEN, "%s needs the permission %s", req->api->name, perm_text(perm));
    }
    return ST_OK;
}

// Tells identity of a wrong token: its limits count all fronts together. On the core thread.
struct failure_op {
    struct op op;
    char peer[64];
};

static enum status failure_run(struct tx *tx, struct op *op, struct err *err)
{
    (void)err;
    const struct failure_op *f = (const struct failure_op *)op;
    identity_auth_failed(tx->core, slice_str(f->peer));
    return ST_OK;
}

static void failure_done(struct op *op)
{
    free((struct failure_op *)op);
}

static uint64_t source_of(const struct http_req *req)
{
    return rate_source(slice_str(req->peer), (struct slice){NULL, 0});
}

static void note_failure(struct http_req *req)
{
    http_metric_auth_failed();
    rate_add(req->front->wrong_tokens, source_of(req), clock_mono_us());
    struct failure_op *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return; // our own limiter has counted it
    }
    f->op = (struct op){.run = failure_run, .done = failure_done, .reply_to = req->loop, .name = "http.auth_failed"};
    snprintf(f->peer, sizeof(f->peer), "%s", req->peer);
    core_submit(req->front->conf.core, &f->op);
}

// --- answers -----------------------------------------------------------------------------------------------------

void http_run_refuse(struct http_req *req, bool body_left)
{
    struct http_refusal *f = &req->refusal;
    if (f->status == 401) { // nothing about why: it would help guessing
        snprintf(f->detail, sizeof(f->detail), "a valid token is needed: Authorization: Bearer TOKEN");
        snprintf(f->header, sizeof(f->header), "WWW-Authenticate: Bearer realm=\"muster\"%s\r\n",
                 req->token.p != NULL ? ", error=\"invalid_token\"" : "");
    }
    if (f->status == 503 || f->status == 507) {
        snprintf(f->header, sizeof(f->header), "Retry-After: 2\r\n");
    }
    if (f->status == 500) { // the story is for the log; strangers get its number
        log_error("http", "request failed", LOGS("op", req->api != NULL ? req->api->name : ""),
                  LOGS("error", f->detail), LOGS("request", req->id));
        snprintf(f->detail, sizeof(f->detail), "internal error; the log has it under request %s", req->id);
    }
    if (f->status == 507) { // what names files and statements is in the log already, once
        snprintf(f->detail, sizeof(f->detail), "the storage is full and nothing was changed; try again later");
    }
    buf_clear(&req->out);
    problem_write(&(struct problem){f->status, f->code, f->detail, f->where, req->id}, &req->out);
    http_conn_answer(req->hc,
                     &(struct http_reply){.status = f->status,
                                          .content_type = "application/problem+json",
                                          .body = buf_view(&req->out),
                                          .etag = -1,
                                          .header = f->header[0] != '\0' ? f->header : NULL},
                     body_left);
}

// If-None-Match (RFC 9110 section 13.1.2): does one of the listed tags name this version?
static bool etag_listed(struct slice list, int64_t version)
{
    char tag[32];
    struct slice want = slice_make(tag, (size_t)snprintf(tag, sizeof(tag), "\"%lld\"", (long long)version));
    if (slice_eq(list, SLICE("*"))) {
        return true;
    }
    for (size_t i = 0; i + want.len <= list.len; i++) {
        if (slice_starts(slice_from(list, i), want)) {
            return true;
        }
    }
    return false;
}

static void answer_ok(struct http_req *req)
{
    const struct api_call *call = &req->call;
    struct http_reply r = {.status = call->status, .etag = call->etag, .location = call->location};
    if (req->replayed) {
        r.header = "Idempotency-Replayed: true\r\n";
    }
    struct slice known = http_req_header(req, HTTP_H_IF_NONE_MATCH);
    if (req->api->method == API_GET && call->etag >= 0 && known.p != NULL && etag_listed(known, call->etag)) {
        r.status = 304;
        http_conn_answer(req->hc, &r, false);
        return;
    }
    if (r.status != 204) {
        bool small_enough = req->api->runs == API_READER || req->out.len <= HTTP_GZIP_IO_MAX;
        r.compressible = req->out.len > GZIP_MIN && small_enough;
        r.content_type = req->api->reply_content != NULL ? req->api->reply_content : "application/json";
        if (r.compressible && req->takes_gzip && req->zip.len == 0 && !gzip_body(buf_view(&req->out), &req->zip)) {
            buf_clear(&req->zip);
        }
        r.gzip = req->zip.len > 0;
        r.body = buf_view(r.gzip ? &req->zip : &req->out);
    }
    http_conn_answer(req->hc, &r, false);
}

// --- the handler -------------------------------------------------------------------------------------------------

static enum status check_out(struct http_req *req, struct err *err)
{
    if (req->out.starved) {
        return err_set(err, ST_NOMEM, "no memory for the reply; try again later");
    }
    if (req->out.failed) {
        return err_set(err, ST_TOO_LARGE, "the reply would be over %u bytes; ask for less with limit", HTTP_REPLY_MAX);
    }
    return ST_OK;
}

static enum status handle(struct http_req *req, struct err *err)
{
    jw_init(&req->jw, &req->out);
    req->call.op = req->api;
    req->call.core = req->front->conf.core;
    req->call.arena = &req->arena;
    req->call.peer_addr = slice_str(req->peer);
    req->call.bearer = req->api->perm == PERM_PUBLIC ? req->token : (struct slice){NULL, 0};
    req->call.out = &req->jw;
    req->call.etag = -1;
    req->call.status = req->api->status;
    enum status st = req->front->conf.table->fns[req->index](&req->call, err);
    return st != ST_OK ? st : check_out(req, err);
}

static struct http_req *req_of(struct op *op)
{
    return (struct http_req *)op; // op is its first member
}

static void compress(struct http_req *req)
{
    if (req->takes_gzip && req->out.len > GZIP_MIN && !gzip_body(buf_view(&req->out), &req->zip)) {
        buf_clear(&req->zip);
    }
}

// On a reader or the core thread.
static enum status run(struct tx *tx, struct op *op, struct err *err)
{
    struct http_req *req = req_of(op);
    enum status st = http_run_identify(req, tx, err);
    if (st != ST_OK || req->refusal.status != 0) {
        return st; // a refusal of ours is told only to those who may ask
    }
    bool found = false;
    bool keyed = http_req_header(req, HTTP_H_IDEMPOTENCY_KEY).p != NULL && req->api->idempotent;
    if (keyed) {
        st = http_idem_find(req, tx, &found, err);
    }
    if (st == ST_OK && !found) {
        req->call.tx = tx;
        st = handle(req, err);
        req->call.tx = NULL;
    }
    if (st == ST_OK && keyed && !found) {
        st = http_idem_keep(req, tx, err);
    }
    if (st == ST_OK && tx->ro && req->call.then == NULL) {
        compress(req);
    }
    return st;
}

// The second step, on a reader thread; the caller is known from the first.
static enum status run_then(struct tx *tx, struct op *op, struct err *err)
{
    struct http_req *req = req_of(op);
    enum status (*then)(struct api_call *, struct err *) = req->call.then;
    req->call.then = NULL;
    tx->who = &req->who;
    req->call.tx = tx;
    enum status st = then(&req->call, err);
    req->call.tx = NULL;
    if (st == ST_OK) {
        st = check_out(req, err);
    }
    if (st == ST_OK) {
        compress(req);
    }
    return st;
}

// --- there and back ----------------------------------------------------------------------------------------------

static void submit(struct http_req *req, enum status (*fn)(struct tx *, struct op *, struct err *), bool core,
                   void (*done)(struct op *))
{
    req->op = (struct op){.run = fn, .done = done, .reply_to = req->loop, .name = req->api->name};
    req->in_flight = true;
    if (core) {
        core_submit(req->front->conf.core, &req->op);
    } else {
        core_read(req->front->conf.core, &req->op);
    }
}

// What every operation that comes back has in common. False: nothing more to do.
static bool came_back(struct http_req *req)
{
    req->in_flight = false;
    if (req->auth_failed) {
        req->auth_failed = false;
        note_failure(req);
    }
    if (req->hc == NULL) {
        http_req_free(req);
        return false;
    }
    if (req->op.status != ST_OK) {
        if (req->refusal.status != 422) { // a reused key has no status of its own
            req->op.err.code = req->op.status;
            http_req_refuse_err(req, &req->op.err);
        }
    } else if (req->api->perm != PERM_PUBLIC) {
        req->hc->trusted = true;
        conn_authenticated(req->hc->conn);
    }
    return true;
}

static void done(struct op *op)
{
    struct http_req *req = req_of(op);
    if (!came_back(req)) {
        return;
    }
    if (req->refusal.status != 0) {
        http_run_refuse(req, false);
    } else if (req->call.then != NULL) {
        submit(req, run_then, false, done);
    } else if (req->api->stream) {
        http_stream_start(req);
    } else {
        answer_ok(req);
    }
}

static enum status run_gate(struct tx *tx, struct op *op, struct err *err)
{
    return http_run_identify(req_of(op), tx, err);
}

static void gate_done(struct op *op)
{
    struct http_req *req = req_of(op);
    if (!came_back(req)) {
        return;
    }
    if (req->refusal.status != 0 && (req->op.status != ST_OK || req->continue_wanted)) {
        http_run_refuse(req, true);
    } else {
        http_conn_resume(req->hc);
    }
}

// 401 and 429 without a look into the store: no token at all, or a source that guessed too often. True: refused.
static bool stranger(struct http_req *req)
{
    if (req->api->perm == PERM_PUBLIC) {
        return false;
    }
    if (req->token.p == NULL) {
        http_req_refuse(req, 401, "unauthenticated", "");
        return true;
    }
    int64_t wait_us = rate_wait_us(req->front->wrong_tokens, source_of(req), clock_mono_us());
    if (wait_us > 0) {
        http_req_refuse(req, 429, "limit", "too many wrong tokens from this address; wait and try again");
        snprintf(req->refusal.header, sizeof(req->refusal.header), "Retry-After: %u\r\n",
                 (unsigned)((wait_us + 999999) / 1000000));
        return true;
    }
    return false;
}

void http_run_gate(struct http_req *req)
{
    if (stranger(req)) {
        http_run_refuse(req, true);
        return;
    }
    http_conn_pause(req->hc);
    submit(req, run_gate, false, gate_done);
}

void http_run_start(struct http_req *req)
{
    if (req->early || req->api == NULL || stranger(req)) {
        http_run_refuse(req, false);
        return;
    }
    http_req_body_done(req);
    bool refused = req->refusal.status != 0;
    if (refused && req->api->perm == PERM_PUBLIC) {
        http_run_refuse(req, false);
        return;
    }
    if (req->api->runs == API_IO) {
        struct err err = {.code = ST_OK};
        if (handle(req, &err) != ST_OK) {
            http_req_refuse_err(req, &err);
            http_run_refuse(req, false);
        } else {
            answer_ok(req);
        }
        return;
    }
    http_conn_pause(req->hc);
    submit(req, run, req->api->runs == API_CORE && !refused, done);
}
