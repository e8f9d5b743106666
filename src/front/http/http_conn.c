// One connection: the parser, its states and their time limits.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "front/http/http_priv.h"

#define TO(s) (1U << (s))

// The state table: time limit (0: none, or the front's configuration) and the states that may follow.
static const struct {
    const char *name;
    uint32_t timeout_ms;
    uint32_t repeat_ms;
    unsigned next;
} states[] = {
    [HS_IDLE] = {"idle", 0, 0, TO(HS_HEAD) | TO(HS_LINGER) | TO(HS_CLOSING)},
    [HS_HEAD] = {"head", 10000, 0, TO(HS_GATE) | TO(HS_BODY) | TO(HS_LINGER) | TO(HS_CLOSING)},
    [HS_GATE] = {"gate", 0, 0, TO(HS_BODY) | TO(HS_LINGER) | TO(HS_CLOSING)},
    [HS_BODY] = {"body", 1000, 1000, TO(HS_RUN) | TO(HS_LINGER) | TO(HS_CLOSING)},
    [HS_RUN] = {"run", 0, 0,
                TO(HS_IDLE) | TO(HS_STREAM) | TO(HS_DRAIN) | TO(HS_UPGRADED) | TO(HS_LINGER) | TO(HS_CLOSING)},
    [HS_STREAM] = {"stream", 1000, 1000, TO(HS_CLOSING)},
    [HS_DRAIN] = {"drain", 10000, 10000, TO(HS_CLOSING)},
    [HS_LINGER] = {"linger", 2000, 0, TO(HS_CLOSING)},
    [HS_UPGRADED] = {"upgraded", 0, 0, 0},
    [HS_CLOSING] = {"closing", 0, 0, 0},
};
_Static_assert(sizeof(states) / sizeof(states[0]) == HS__COUNT, "every state has a row");

void http_conn_enter(struct http_conn *hc, enum http_state next)
{
    assert((states[hc->state].next & TO(next)) != 0);
    hc->state = next;
    hc->out_seen = 0;
    uint32_t ms = states[next].timeout_ms;
    uint32_t repeat_ms = states[next].repeat_ms;
    if (next == HS_IDLE) { // strangers are awaited less patiently
        ms = hc->trusted ? hc->front->conf.idle_ms : states[HS_HEAD].timeout_ms;
        repeat_ms = ms;
    }
    if (ms > 0) {
        timer_start(&hc->timer, ms, repeat_ms);
    } else {
        timer_stop(&hc->timer);
    }
}

static void conn_end(struct http_conn *hc, const char *why)
{
    if (hc->state != HS_CLOSING) {
        http_conn_enter(hc, HS_CLOSING);
        conn_close(hc->conn, why);
    }
}

// --- time limits -------------------------------------------------------------------------------------------------

static void body_tick(struct http_conn *hc)
{
    int64_t ms = loop_now_ms(conn_loop(hc->conn)) - hc->body_ms;
    if (ms >= HTTP_BODY_GRACE_MS && (int64_t)hc->req->body_bytes * 1000 / ms < HTTP_BODY_RATE) {
        http_req_refuse(hc->req, 408, "timeout", "the body came too slowly; allowed: 1 KiB/s or faster");
        http_run_refuse(hc->req, true);
    }
}

// Nothing came, but a long reply may still be on its way: as long as the peer takes of it, there is no hurry.
static void output_tick(struct http_conn *hc)
{
    size_t waiting = conn_out_len(hc->conn);
    if (waiting == 0 || (hc->out_seen != 0 && waiting >= hc->out_seen)) {
        conn_end(hc, waiting == 0 ? "idle" : "the reply is not being read");
    }
    hc->out_seen = waiting;
}

static void on_timer(struct timer *t)
{
    struct http_conn *hc = (struct http_conn *)((char *)t - offsetof(struct http_conn, timer));
    switch (hc->state) {
    case HS_HEAD:
        http_req_refuse(hc->req, 408, "timeout", "the request head did not come within 10 s");
        http_run_refuse(hc->req, true);
        break;
    case HS_BODY:
        body_tick(hc);
        break;
    case HS_STREAM:
        http_stream_tick(hc);
        break;
    case HS_IDLE:
    case HS_DRAIN:
        output_tick(hc);
        break;
    default:
        conn_end(hc, "done");
        break;
    }
}

// --- parser callbacks --------------------------------------------------------------------------------------------

static int on_message_begin(http_parser *p)
{
    struct http_conn *hc = p->data;
    hc->req = http_req_new(hc);
    if (hc->req == NULL) {
        return 1;
    }
    http_conn_enter(hc, HS_HEAD);
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t len)
{
    struct http_conn *hc = p->data;
    return http_req_url(hc->req, slice_make(at, len)) ? 0 : 1;
}

static int on_header_field(http_parser *p, const char *at, size_t len)
{
    struct http_conn *hc = p->data;
    if (hc->state != HS_HEAD) {
        return 0; // trailers say nothing to us
    }
    return http_req_field(hc->req, slice_make(at, len)) ? 0 : 1;
}

static int on_header_value(http_parser *p, const char *at, size_t len)
{
    struct http_conn *hc = p->data;
    if (hc->state != HS_HEAD) {
        return 0;
    }
    return http_req_value(hc->req, slice_make(at, len)) ? 0 : 1;
}

static void body_begins(struct http_conn *hc)
{
    if (hc->req->continue_wanted) {
        conn_write(hc->conn, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    hc->body_ms = loop_now_ms(conn_loop(hc->conn));
    http_conn_enter(hc, HS_BODY);
}

// A stranger's token is looked at before a large body is taken in, and before a body is asked for that will be refused.
static bool needs_gate(const struct http_conn *hc, const http_parser *p)
{
    const struct http_req *req = hc->req;
    if (!req->has_body || req->early || req->api->perm == PERM_PUBLIC) {
        return false;
    }
    bool large = (p->flags & F_CHUNKED) != 0 || p->content_length > HTTP_GATE_BYTES;
    return (large && !hc->trusted) || (req->refusal.status != 0 && req->continue_wanted);
}

static int on_headers_complete(http_parser *p)
{
    struct http_conn *hc = p->data;
    struct http_req *req = hc->req;
    p->upgrade = 0; // an offer to switch protocols may be ignored (RFC 9110 section 7.8)
    http_req_head_done(req, p);
    bool unread = req->has_body &&
                  (req->continue_wanted || ((p->flags & F_CHUNKED) == 0 && p->content_length > HTTP_DISCARD_MAX));
    if (req->refusal.status != 0 && unread && (req->early || req->api->perm == PERM_PUBLIC)) {
        http_run_refuse(req, true);
        return -1; // 1 and 2 mean other things to the parser here
    }
    if (needs_gate(hc, p)) {
        http_conn_enter(hc, HS_GATE);
        http_parser_pause(p, 1);
    } else {
        body_begins(hc);
    }
    return 0;
}

static int on_body(http_parser *p, const char *at, size_t len)
{
    struct http_conn *hc = p->data;
    if (!http_req_body(hc->req, slice_make(at, len))) {
        http_run_refuse(hc->req, true);
        return 1;
    }
    return 0;
}

static int on_message_complete(http_parser *p)
{
    struct http_conn *hc = p->data;
    http_conn_enter(hc, HS_RUN);
    http_parser_pause(p, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

// --- input -------------------------------------------------------------------------------------------------------

// The parser stopped at something it cannot read, or at a limit.
static void refuse_input(struct http_conn *hc, enum http_errno e)
{
    if (hc->req == NULL) {
        hc->req = http_req_new(hc);
        if (hc->req == NULL) {
            conn_end(hc, "no memory");
            return;
        }
    }
    char text[160];
    if (e == HPE_HEADER_OVERFLOW || hc->req->headers > HTTP_HEADERS_MAX) {
        snprintf(text, sizeof(text), "the request head is too large; allowed: %u bytes, %d headers", HTTP_HEAD_MAX,
                 HTTP_HEADERS_MAX);
        http_req_refuse(hc->req, 431, "too_large", text);
    } else if (e >= HPE_CB_message_begin && e <= HPE_CB_chunk_complete) {
        http_req_refuse(hc->req, 503, "no_memory", "no memory for the request; try again later");
    } else {
        snprintf(text, sizeof(text), "this is not HTTP/1.1: %s", http_errno_description(e));
        http_req_refuse(hc->req, 400, "malformed", text);
    }
    http_run_refuse(hc->req, true);
}

// One pass of the parser; how much it took.
static size_t parse(struct http_conn *hc, struct slice in)
{
    size_t n = http_parser_execute(&hc->parser, &settings, (const char *)in.p, in.len);
    enum http_errno e = HTTP_PARSER_ERRNO(&hc->parser);
    if (e != HPE_OK && e != HPE_PAUSED && hc->state != HS_LINGER && hc->state != HS_CLOSING) {
        refuse_input(hc, e);
    } else if (hc->state == HS_GATE && !hc->req->in_flight) {
        http_run_gate(hc->req);
    } else if (hc->state == HS_RUN && hc->req->upgrade != NULL) {
        http_conn_enter(hc, HS_UPGRADED);
    } else if (hc->state == HS_RUN && !hc->req->in_flight) {
        http_run_start(hc->req);
    }
    return n;
}

static void release(struct http_conn *hc)
{
    timer_stop(&hc->timer);
    http_stream_stop(hc);
    if (hc->req != NULL && hc->req->in_flight) {
        hc->req->hc = NULL; // freed when it comes back
    } else {
        http_req_free(hc->req);
    }
    free(hc);
    http_metric_conns(-1);
}

// The connection is another front's from here on.
static void hand_over(struct http_conn *hc)
{
    const struct http_websocket *ws = &hc->front->conf.websocket;
    struct conn *c = hc->conn;
    uint8_t mem[512];
    struct buf answer = buf_fixed(mem, sizeof(mem));
    http_upgrade_answer(hc->req, &answer);
    release(hc);
    ws->take(ws->arg, c, buf_view(&answer));
}

static size_t on_data(struct conn *c, struct slice in)
{
    struct http_conn *hc = conn_user(c);
    size_t used = 0;
    while (used < in.len && !hc->paused && hc->state != HS_UPGRADED) {
        switch (hc->state) {
        case HS_IDLE:
        case HS_HEAD:
        case HS_BODY:
            used += parse(hc, slice_from(in, used));
            break;
        case HS_STREAM:
            conn_end(hc, "the peer sent data on an event stream");
            return in.len;
        case HS_DRAIN:
        case HS_LINGER:
        case HS_CLOSING:
            return in.len;
        default:
            return used;
        }
    }
    if (hc->state == HS_UPGRADED) {
        hand_over(hc);
    }
    return used;
}

// --- output ------------------------------------------------------------------------------------------------------

void http_conn_pause(struct http_conn *hc)
{
    if (!hc->paused) {
        hc->paused = true;
        conn_pause(hc->conn);
    }
}

void http_conn_read_on(struct http_conn *hc)
{
    if (hc->paused) {
        hc->paused = false;
        conn_resume(hc->conn);
    }
}

void http_conn_resume(struct http_conn *hc)
{
    http_parser_pause(&hc->parser, 0);
    body_begins(hc);
    http_conn_read_on(hc);
}

// A peer that asks faster than it reads waits: at most one long reply is kept for it.
static void next_request(struct http_conn *hc)
{
    if (conn_out_len(hc->conn) > CONN_OUT_HIGH) {
        http_conn_pause(hc);
    } else {
        http_conn_read_on(hc);
    }
}

void http_conn_answer(struct http_conn *hc, const struct http_reply *reply, bool body_left)
{
    struct http_req *req = hc->req;
    bool keep = req->keep_alive && !reply->close && !body_left;
    struct http_reply r = *reply;
    r.close = !keep;
    r.head_only = req->head_only;
    r.request_id = req->id;
    bool written = http_reply_write(hc->conn, &r);
    http_metric_reply(r.status);
    log_debug("http", "answered", LOGS("op", req->api != NULL ? req->api->name : ""), LOGI("status", r.status),
              LOGS("request", req->id), LOGS("peer", req->peer), LOGS("who", req->who.name));
    hc->req = NULL;
    http_req_free(req);
    if (!written) {
        http_conn_enter(hc, HS_CLOSING);
        conn_abort(hc->conn, CLOSE_OVERFLOW, "the reply did not fit");
    } else if (keep) {
        http_parser_pause(&hc->parser, 0);
        http_conn_enter(hc, HS_IDLE);
        next_request(hc);
    } else if (body_left) {
        http_conn_enter(hc, HS_LINGER);
        http_conn_read_on(hc);
    } else if (conn_out_len(hc->conn) > CONN_OUT_HIGH) { // closing now would give the peer a few seconds only
        http_conn_enter(hc, HS_DRAIN);
    } else {
        conn_end(hc, "answered");
    }
}

static void on_drain(struct conn *c)
{
    struct http_conn *hc = conn_user(c);
    if (hc->state == HS_DRAIN) {
        conn_end(hc, "answered");
    } else if (hc->state == HS_IDLE) {
        http_conn_read_on(hc);
    }
}

// --- open and close ----------------------------------------------------------------------------------------------

static enum status on_open(struct conn *c, void *front)
{
    struct http_conn *hc = calloc(1, sizeof(*hc));
    if (hc == NULL) {
        return ST_NOMEM;
    }
    hc->conn = c;
    hc->front = front;
    http_parser_init(&hc->parser, HTTP_REQUEST);
    hc->parser.data = hc;
    timer_init(&hc->timer, conn_loop(c), on_timer);
    timer_start(&hc->timer, states[HS_HEAD].timeout_ms, 0);
    conn_set_user(c, hc);
    // The states have time limits of their own, for strangers too; a first query may take longer than net would wait.
    conn_own_times(c);
    http_metric_conns(1);
    return ST_OK;
}

static void on_close(struct conn *c, const struct close_reason *why)
{
    (void)why;
    release(conn_user(c));
}

const struct conn_proto http_proto = {
    .name = "http",
    .on_open = on_open,
    .on_data = on_data,
    .on_drain = on_drain,
    .on_close = on_close,
};
