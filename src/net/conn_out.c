// From the front to the socket: WebSocket frames, TLS, one write per turn.
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_priv.h"

#define FRAME_BYTES 16384 // payload of one frame: a browser shows a message only when it is whole

void outq_take(struct outq *q, size_t n, size_t max)
{
    q->taken += n;
    if (q->taken >= q->buf.len) {
        bool failed = q->buf.failed;
        buf_release(&q->buf);
        q->buf.failed = failed;
        q->taken = 0;
    } else if (q->taken >= q->buf.len / 2) {
        buf_consume(&q->buf, q->taken);
        q->taken = 0;
    }
    q->buf.max = max + q->taken; // what is taken but still lies there is not counted
}

struct buf *conn_out(struct conn *c)
{
    return c->state == CONN_OPEN ? &c->out.buf : &c->loop->conns.sink;
}

void conn_flush_later(struct conn *c)
{
    if (!c->in_flush && c->state != CONN_DEAD) {
        c->in_flush = true;
        c->next_flush = c->loop->conns.flush;
        c->loop->conns.flush = c;
    }
}

size_t conn_out_len(const struct conn *c)
{
    return outq_len(&c->out) + (c->ws != NULL ? outq_len(&c->ws->framed) : 0) +
           (c->tls != NULL ? outq_len(&c->tls->wire) : 0);
}

static void out_overflow(struct conn *c)
{
    char text[96];
    snprintf(text, sizeof(text), "more than %u bytes wait for a slow reader", c->service->out_max);
    conn_abort(c, CLOSE_OVERFLOW, text);
}

bool conn_write(struct conn *c, struct slice s)
{
    if (c->state != CONN_OPEN) {
        return false;
    }
    if (!buf_slice(&c->out.buf, s)) {
        out_overflow(c);
        return false;
    }
    conn_flush_later(c);
    return true;
}

// ---- WebSocket ----

static uint16_t close_code(const struct conn *c)
{
    switch (c->cause) {
    case CLOSE_EOF:
    case CLOSE_FRAMING:
        return c->ws->in.code != 0 ? c->ws->in.code : WS_NORMAL; // theirs goes back
    case CLOSE_SHUTDOWN:
        return WS_GOING_AWAY;
    default:
        return WS_NORMAL;
    }
}

// Keeps `framed` filled ahead of what follows; the last frame of a connection that closes says so.
static void frame(struct conn *c)
{
    struct conn_ws *ws = c->ws;
    while (outq_len(&c->out) > 0 && outq_len(&ws->framed) < WIRE_BYTES) {
        struct slice part = slice_head(outq_view(&c->out), FRAME_BYTES);
        if (!ws_header(&ws->framed.buf, WS_BINARY, part.len) || !buf_slice(&ws->framed.buf, part)) {
            conn_abort(c, CLOSE_OVERFLOW, "no memory for the output");
            return;
        }
        outq_take(&c->out, part.len, c->service->out_max);
    }
    if (c->state == CONN_CLOSING && outq_len(&c->out) == 0 && !ws->close_sent) {
        ws->close_sent = true;
        ws_close(&ws->framed.buf, close_code(c), c->cause == CLOSE_FRAMING && c->why != NULL ? c->why : "");
    }
}

// ---- TLS ----

// Keeps `wire` filled ahead of the kernel; ends the TLS stream when all is written and the connection closes.
static void encrypt(struct conn *c, struct outq *from, size_t from_max)
{
    if (!c->tls->ready) {
        return; // only what the handshake itself wrote
    }
    if (tls_conn_failure(c->tls->session)[0] != '\0') {
        outq_take(from, outq_len(from), from_max); // nothing but the alert can be sent any more
        return;
    }
    while (outq_len(from) > 0 && outq_len(&c->tls->wire) < WIRE_BYTES) {
        struct slice part = slice_head(outq_view(from), RECORD_BYTES);
        if (!tls_conn_write(c->tls->session, part)) {
            conn_abort(c, CLOSE_TLS, tls_conn_failure(c->tls->session));
            return;
        }
        outq_take(from, part.len, from_max);
    }
    if (c->state == CONN_CLOSING && outq_len(from) == 0) {
        tls_conn_close(c->tls->session);
    }
}

// ---- the socket ----

// One write of what waits. True: all of it was taken and there may be more to frame or encrypt.
static bool write_once(struct conn *c, struct outq *from, size_t max)
{
    struct slice s = outq_view(from);
    if (s.len == 0) {
        return false;
    }
    ssize_t n = send(c->watch.fd, s.p, s.len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        conn_abort(c, CLOSE_RESET, strerror(errno));
        return false;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    outq_take(from, taken, max);
    c->blocked = taken < s.len;
    return !c->blocked;
}

// Everything between the front's output and the socket, once. True: there may be more.
static bool flush_step(struct conn *c)
{
    struct outq *last = &c->out;
    size_t max = c->service->out_max;
    if (c->ws != NULL) {
        frame(c);
        last = &c->ws->framed;
        max = WIRE_BYTES_MAX;
    }
    if (c->tls != NULL && c->state < CONN_LINGER) {
        encrypt(c, last, max);
        last = &c->tls->wire;
        max = WIRE_BYTES_MAX;
    }
    return c->state < CONN_LINGER && write_once(c, last, max);
}

// All output has left. The peer learns that we end; then it may end too, see conn.h.
static void output_done(struct conn *c)
{
    conn_tell_closed(c);
    if (c->state != CONN_CLOSING) {
        return;
    }
    if (c->eof || shutdown(c->watch.fd, SHUT_WR) != 0) {
        conn_abort(c, c->cause, c->why);
        return;
    }
    conn_set_state(c, CONN_LINGER);
    c->unheard = c->paused = false;
    timer_start(&c->timer, CONN_LINGER_MS, 0);
    conn_listen(c);
}

static void drained(struct conn *c)
{
    if (c->over_high && conn_out_len(c) < CONN_OUT_LOW) {
        c->over_high = false;
        if (c->state == CONN_OPEN && c->opened && c->service->proto->on_drain != NULL) {
            loop_touch(c->loop);
            c->service->proto->on_drain(c);
        }
    }
}

void conn_tap(struct conn *c, bool on)
{
    c->tapped = on && c->service->proto->on_output != NULL;
    c->tap_seen_bytes = (uint32_t)outq_len(&c->out);
}

static void show_output(struct conn *c)
{
    struct slice fresh = slice_from(outq_view(&c->out), c->tap_seen_bytes);
    if (fresh.len > 0 && c->opened && !c->told) {
        c->service->proto->on_output(c, fresh);
    }
}

void conn_flush_one(struct conn *c)
{
    if (c->out.buf.failed) {
        out_overflow(c);
        return;
    }
    if (c->tapped) {
        show_output(c);
    }
    c->over_high = c->over_high || conn_out_len(c) > CONN_OUT_HIGH;
    while (!c->blocked && c->state < CONN_LINGER && flush_step(c)) {
    }
    c->tap_seen_bytes = (uint32_t)outq_len(&c->out);
    if (c->state == CONN_CLOSING && conn_out_len(c) == 0) {
        output_done(c);
    }
    conn_listen(c);
    drained(c);
}

void conns_flush(struct loop *l)
{
    struct conn *c = l->conns.flush;
    l->conns.flush = NULL;
    while (c != NULL) {
        struct conn *next = c->next_flush;
        c->in_flush = false;
        if (c->state < CONN_LINGER) {
            conn_flush_one(c);
        }
        c = next;
    }
}
