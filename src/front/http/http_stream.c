// Server-sent events (WHATWG HTML, section 9.2): what remains of a request when it becomes a stream.
#include <stdio.h>

#include "base/log.h"
#include "front/http/http_priv.h"

#define HEARTBEAT_MS 15000

static void stream_write(struct http_conn *hc, struct slice text)
{
    conn_write(hc->conn, text);
    hc->stream.beat_ms = loop_now_ms(conn_loop(hc->conn));
}

static void stream_end(struct http_conn *hc, const char *why)
{
    http_stream_stop(hc);
    http_conn_enter(hc, HS_CLOSING);
    conn_close(hc->conn, why);
}

// Bounded output: a reader that is too slow is told that events are missing and let go; it may come back with its last id.
static bool too_slow(struct http_conn *hc)
{
    if (conn_out_len(hc->conn) <= HTTP_STREAM_OUT_MAX) {
        return false;
    }
    stream_write(hc, SLICE("event: gap\ndata: {\"reason\":\"slow_reader\"}\n\n"));
    stream_end(hc, "event stream read too slowly");
    return true;
}

static void on_event(void *arg, const struct event *ev)
{
    struct http_conn *hc = arg;
    if (hc->state != HS_STREAM || too_slow(hc)) {
        return;
    }
    char id[EVENT_ID_MAX];
    events_id(core_events(hc->front->conf.core), ev->seq, id);
    char head[128];
    int n = snprintf(head, sizeof(head), "id: %s\nevent: %s\ndata: ", id, event_type_text(ev->type));
    stream_write(hc, slice_make(head, (size_t)n));
    stream_write(hc, slice_make(ev->json, ev->json_len));
    stream_write(hc, SLICE("\n\n"));
}

static void on_gap(void *arg)
{
    struct http_conn *hc = arg;
    if (hc->state == HS_STREAM && !too_slow(hc)) {
        stream_write(hc, SLICE("event: gap\ndata: {\"reason\":\"lost\"}\n\n"));
    }
}

// A token that was revoked ends its streams within a second or two.
static enum status check_run(struct tx *tx, struct op *op, struct err *err)
{
    return http_run_identify((struct http_req *)op, tx, err);
}

static void check_done(struct op *op)
{
    struct http_req *req = (struct http_req *)op;
    req->in_flight = false;
    if (req->hc == NULL) {
        http_req_free(req);
        return;
    }
    bool refused = op->status == ST_UNAUTHENTICATED || op->status == ST_FORBIDDEN;
    if (refused && req->hc->state == HS_STREAM) {
        log_info("http", "event stream closed: its token is valid no longer", LOGS("who", req->who.name),
                 LOGS("peer", req->peer));
        stream_end(req->hc, "token no longer valid");
    }
}

void http_stream_tick(struct http_conn *hc)
{
    struct http_req *req = hc->req;
    if (too_slow(hc)) {
        return;
    }
    if (loop_now_ms(conn_loop(hc->conn)) - hc->stream.beat_ms >= HEARTBEAT_MS) {
        stream_write(hc, SLICE(": still here\n\n"));
    }
    if (!req->in_flight) {
        req->op = (struct op){.run = check_run, .done = check_done, .reply_to = req->loop, .name = "http.stream_check"};
        req->in_flight = true;
        core_read(hc->front->conf.core, &req->op);
    }
}

static bool stream_take(struct http_front *f)
{
    if (atomic_fetch_add_explicit(&f->streams, 1, memory_order_relaxed) < f->conf.streams_max) {
        return true;
    }
    atomic_fetch_sub_explicit(&f->streams, 1, memory_order_relaxed);
    return false;
}

void http_stream_start(struct http_req *req)
{
    struct http_conn *hc = req->hc;
    struct http_front *f = hc->front;
    if (!stream_take(f)) {
        http_req_refuse(req, 503, "busy", "too many event streams are open; close one or try again later");
        http_run_refuse(req, false);
        return;
    }
    struct slice last_id = http_req_header(req, HTTP_H_LAST_EVENT_ID);
    hc->stream.sub = events_listen(core_events(f->conf.core), conn_loop(hc->conn), &req->call.stream,
                                   last_id.p != NULL ? last_id : SLICE(""), on_event, on_gap, hc);
    if (hc->stream.sub == NULL) {
        atomic_fetch_sub_explicit(&f->streams, 1, memory_order_relaxed);
        http_req_refuse(req, 503, "no_memory", "no memory for an event stream; try again later");
        http_run_refuse(req, false);
        return;
    }
    http_metric_streams(1);
    http_metric_reply(200);
    http_conn_enter(hc, HS_STREAM);
    http_conn_read_on(hc); // to see the end of the peer
    http_reply_write(hc->conn, &(struct http_reply){.status = 200,
                                                    .content_type = "text/event-stream",
                                                    .etag = -1,
                                                    .request_id = req->id,
                                                    .header = "X-Accel-Buffering: no\r\n",
                                                    .close = true,
                                                    .endless = true});
    stream_write(hc, SLICE("retry: 2000\n\n"));
}

void http_stream_stop(struct http_conn *hc)
{
    if (hc->stream.sub != NULL) {
        events_unlisten(hc->stream.sub);
        hc->stream.sub = NULL;
        atomic_fetch_sub_explicit(&hc->front->streams, 1, memory_order_relaxed);
        http_metric_streams(-1);
    }
}
