// From the socket to the front: PROXY header, TLS, WebSocket frames, and what the front leaves for later.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/reader.h"
#include "net/conn_priv.h"
#include "proto/proxy_header.h"

#define READ_BYTES_TLS 16384 // of a TLS connection that is not authenticated yet
#define LINGER_BYTES   262144

// Whether the front gets bytes now; what comes meanwhile is kept.
static bool hears(const struct conn *c)
{
    return c->state == CONN_OPEN && !c->paused && !c->upgrading;
}

// Nothing is read any more.
static void stop_reading(struct conn *c)
{
    c->eof = true;
    conn_listen(c);
}

// The peer has ended its side. `text` is for the close reason.
static void peer_ended(struct conn *c, const char *text)
{
    stop_reading(c);
    if (c->state == CONN_HANDSHAKE) {
        if (c->spoke) {
            conn_tls_failed(c, "closed by the client during the handshake");
        }
        conn_abort(c, CLOSE_EOF, text);
    } else if (c->state == CONN_OPEN) {
        const struct conn_proto *proto = c->service->proto;
        if (c->opened && proto->on_eof != NULL && proto->on_eof(c) && c->state == CONN_OPEN) {
            timer_start(&c->timer, CONN_ANSWER_MS, 0);
        } else if (c->state == CONN_OPEN) {
            conn_start_closing(c, CLOSE_EOF, text);
        }
    } else {
        conn_abort(c, c->state == CONN_PROXY ? CLOSE_EOF : c->cause, text);
    }
}

// ---- to the front ----

static void too_much_kept(struct conn *c)
{
    char text[96];
    snprintf(text, sizeof(text), "a message is longer than the %zu bytes allowed %s authentication", conn_in_limit(c),
             c->authenticated ? "after" : "before");
    conn_abort(c, CLOSE_OVERFLOW, text);
}

// Keeps what the front left of `in`. Joined: `in` is c->in followed by new bytes; else it is c->in itself.
static void keep_rest(struct conn *c, struct slice in, size_t used, bool joined)
{
    bool ok = true;
    if (c->state != CONN_OPEN) {
        buf_release(&c->in);
        return;
    }
    if (!joined || used < c->in.len) {
        size_t old = c->in.len;
        buf_consume(&c->in, used);
        ok = !joined || buf_slice(&c->in, slice_from(in, old));
    } else {
        buf_clear(&c->in);
        ok = buf_slice(&c->in, slice_from(in, used));
    }
    if (!ok) {
        conn_abort(c, CLOSE_OVERFLOW, "no memory for the input");
    } else if (c->in.len == 0) {
        buf_release(&c->in);
    } else if (hears(c) && c->in.len >= conn_in_limit(c)) {
        too_much_kept(c);
    }
}

static void offer(struct conn *c, struct slice in, bool joined)
{
    size_t used = c->service->proto->on_data(c, in);
    assert(used <= in.len);
    keep_rest(c, in, used, joined);
}

// New bytes stand in the loop's buffer `io`, behind the kept ones when `joined`.
static void offer_new(struct conn *c, const struct buf *io, bool joined)
{
    if (joined) {
        offer(c, buf_view(io), true);
    } else if (buf_slice(&c->in, buf_view(io))) {
        offer(c, buf_view(&c->in), false);
    } else {
        conn_abort(c, CLOSE_OVERFLOW, "no memory for the input");
    }
}

// Makes `io` ready for new bytes of this connection. True: the kept ones stand in front.
static bool join_kept(const struct conn *c, struct buf *io)
{
    buf_clear(io);
    return c->in.len <= JOIN_BYTES && buf_slice(io, buf_view(&c->in));
}

// How many bytes the front may still keep, at most `max`.
static size_t room(const struct conn *c, size_t max)
{
    size_t limit = conn_in_limit(c), left = c->in.len < limit ? limit - c->in.len : 0;
    return left < max ? left : max;
}

// ---- WebSocket ----

static void on_frame_event(struct conn *c, enum ws_event e)
{
    struct conn_ws *ws = c->ws;
    switch (e) {
    case WS_PINGED:
        if (ws_pong(&ws->framed.buf, &ws->in)) {
            conn_flush_later(c);
        } else {
            conn_abort(c, CLOSE_OVERFLOW, "pings are sent faster than their answers are read");
        }
        break;
    case WS_CLOSED:
        peer_ended(c, "");
        break;
    case WS_BROKEN:
        conn_start_closing(c, CLOSE_FRAMING, ws->in.error);
        break;
    default:
        break;
    }
}

// Takes frames apart as far as the front lets it; returns what was left.
static struct slice unframe(struct conn *c, struct slice bytes)
{
    struct reader r = reader_make(bytes);
    struct buf *io = &c->loop->conns.payload;
    enum ws_event e = WS_PINGED;
    while (e != WS_ALL && hears(c)) {
        bool joined = join_kept(c, io);
        size_t before = io->len;
        e = ws_read(&c->ws->in, &r, io);
        if (io->len > before) {
            offer_new(c, io, joined);
        }
        if (c->state == CONN_OPEN && (e == WS_PINGED || hears(c))) {
            on_frame_event(c, e);
        } else if (c->state == CONN_OPEN) {
            c->ws->end = e; // when the front has had what came before
        }
    }
    return rd_rest(&r);
}

static void keep(struct conn *c, struct buf *kept, struct slice rest)
{
    if (rest.len > 0 && c->state < CONN_CLOSING && !buf_slice(kept, rest)) {
        conn_abort(c, CLOSE_OVERFLOW, "no memory for the input");
    }
}

static void read_frames(struct conn *c, struct slice bytes)
{
    keep(c, &c->ws->kept, unframe(c, bytes));
}

// ---- TLS ----

// One step of the handshake; false: no further step now.
static bool pump_handshake(struct conn *c)
{
    enum tls_step step = tls_conn_handshake(c->tls->session);
    if (step == TLS_OK) {
        c->tls->ready = true;
        conn_opened(c);
        return true;
    }
    if (step != TLS_MORE) {
        conn_tls_failed(c, NULL);
        conn_start_closing(c, CLOSE_TLS, tls_conn_failure(c->tls->session));
    }
    return false;
}

// One stretch of plaintext; false: no further one now.
static bool pump_read(struct conn *c)
{
    struct buf *io = &c->loop->conns.plain;
    bool joined = c->ws == NULL && join_kept(c, io);
    if (c->ws != NULL) {
        buf_clear(io);
    }
    size_t before = io->len;
    enum tls_step step = tls_conn_read(c->tls->session, io, room(c, RECORD_BYTES));
    if (io->len > before && c->ws != NULL) {
        read_frames(c, buf_view(io));
    } else if (io->len > before) {
        offer_new(c, io, joined);
    }
    if (!hears(c)) {
        return false; // an end or a failure shows again when the front resumes
    }
    if (step == TLS_END) {
        peer_ended(c, "");
    } else if (step == TLS_FAILED) {
        conn_start_closing(c, CLOSE_TLS, tls_conn_failure(c->tls->session));
    }
    return step == TLS_OK;
}

// Takes ciphertext as far as the front lets it; returns what was left of it.
static struct slice pump(struct conn *c, struct slice cipher)
{
    tls_conn_feed(c->tls->session, cipher);
    bool more = true;
    while (more) {
        more = c->state == CONN_HANDSHAKE ? pump_handshake(c) : hears(c) && pump_read(c);
    }
    if (outq_len(&c->tls->wire) > 0) {
        conn_flush_later(c);
    }
    return tls_conn_unread(c->tls->session);
}

// Pumps what was kept, as far as it goes.
void conn_pump_kept(struct conn *c)
{
    struct buf *kept = &c->tls->kept;
    struct slice rest = pump(c, buf_view(kept));
    buf_consume(kept, kept->len - rest.len);
    if (kept->len == 0) {
        buf_release(kept);
    }
}

static void read_tls(struct conn *c, struct slice cipher)
{
    struct conn_tls *tls = c->tls;
    if (tls->session != NULL) {
        keep(c, &tls->kept, pump(c, cipher));
        return;
    }
    conn_tls_hello(c, cipher);
}

// ---- PROXY header ----

static void take_peer(struct conn *c, const struct proxy_header *h)
{
    if (h->family == PROXY_IPV4) {
        c->peer = addr_ipv4(h->ip, h->port);
    } else if (h->family == PROXY_IPV6) {
        c->peer = (struct addr){.port = h->port};
        for (size_t i = 0; i < sizeof(c->peer.ip); i++) {
            c->peer.ip[i] = h->ip[i];
        }
    }
}

// What stood behind the header belongs to the connection proper.
static void read_behind_header(struct conn *c, size_t used)
{
    if (listener_bans(c->listener, &c->peer)) {
        conn_abort(c, CLOSE_LOCAL, "the address is banned");
        return;
    }
    buf_consume(&c->in, used);
    c->spoke = c->in.len > 0;
    if (c->tls == NULL) {
        conn_peer_known(c);
        if (hears(c) && c->in.len > 0) {
            offer(c, buf_view(&c->in), false);
        }
        return;
    }
    struct buf first = c->in;
    c->in = buf_heap(c->service->in_max);
    conn_peer_known(c);
    if (c->state == CONN_HANDSHAKE && first.len > 0) {
        read_tls(c, buf_view(&first));
    }
    buf_release(&first);
}

static void read_proxy(struct conn *c, struct slice bytes)
{
    struct proxy_header h;
    size_t used = 0;
    const char *error = "no memory";
    enum proxy_step step = PROXY_BAD;
    if (buf_slice(&c->in, bytes)) {
        step = proxy_header_read(buf_view(&c->in), &h, &used, &error);
    }
    if (step == PROXY_BAD) {
        listener_say(c->listener, SAY_PROXY, conn_peer_addr(c), error);
        admission_proxy_refused(listener_conf(c->listener)->admission);
        conn_abort(c, CLOSE_FRAMING, error);
    } else if (step == PROXY_DONE) {
        take_peer(c, &h);
        read_behind_header(c, used);
    }
}

// ---- the socket ----

// Most bytes to be read now.
static size_t read_size(const struct conn *c)
{
    if (c->state == CONN_PROXY) {
        return PROXY_HEADER_MAX - c->in.len;
    }
    if (c->state == CONN_OPEN && c->tls == NULL) {
        return room(c, READ_BYTES);
    }
    return c->tls != NULL && !c->authenticated ? READ_BYTES_TLS : READ_BYTES;
}

// `io` holds `n` new bytes, behind the kept ones when `joined`.
static void read_bytes(struct conn *c, const struct buf *io, size_t n, bool joined)
{
    c->spoke = true;
    if (c->state == CONN_LINGER) {
        c->lingered_bytes += (uint32_t)n;
        if (c->lingered_bytes > LINGER_BYTES) {
            conn_abort(c, c->cause, "");
        }
    } else if (c->state == CONN_PROXY) {
        read_proxy(c, buf_view(io));
    } else if (c->tls != NULL) {
        read_tls(c, buf_view(io));
    } else if (c->ws != NULL) {
        read_frames(c, buf_view(io));
    } else {
        offer_new(c, io, joined);
    }
}

// One read: when it does not take all, the poll says so again, and the others have had their turn.
void conn_readable(struct conn *c)
{
    struct buf *io = &c->loop->conns.raw;
    bool direct = c->state == CONN_OPEN && c->tls == NULL && c->ws == NULL;
    bool joined = direct && join_kept(c, io);
    if (!direct) {
        buf_clear(io);
    }
    size_t want = read_size(c);
    ssize_t n = recv(c->watch.fd, buf_reserve(io, want), want, 0);
    if (n > 0) {
        buf_commit(io, (size_t)n);
        read_bytes(c, io, (size_t)n, joined);
    } else if (n == 0) {
        peer_ended(c, c->tls != NULL ? "without TLS close_notify" : "");
    } else if (errno != EAGAIN && errno != EINTR) {
        int failure = errno;
        if (c->state == CONN_HANDSHAKE && c->spoke) {
            conn_tls_failed(c, "connection reset during the handshake");
        }
        conn_abort(c, CLOSE_RESET, strerror(failure));
    }
}

// ---- pauses ----

void conn_pause(struct conn *c)
{
    if (c->state == CONN_OPEN) {
        c->paused = true;
    }
}

void conn_resume(struct conn *c)
{
    if (c->state != CONN_OPEN || !c->paused) {
        return;
    }
    c->paused = false;
    if (!c->in_resume) {
        c->in_resume = true;
        c->next_resume = c->loop->conns.resume;
        c->loop->conns.resume = c;
    }
}

// What the old front left unread is the beginning of the frames.
static void finish_upgrade(struct conn *c)
{
    struct buf first = c->in;
    c->in = buf_heap(c->service->in_max);
    c->upgrading = false;
    c->opened = true;
    if (c->service->proto->on_open(c, c->service->front) != ST_OK) {
        c->told = true; // no further callback
        conn_abort(c, CLOSE_LOCAL, "refused");
    } else if (first.len > 0) {
        read_frames(c, buf_view(&first));
    }
    buf_release(&first);
}

// Frames that were kept, as far as it goes.
static void unframe_kept(struct conn *c)
{
    struct buf kept = c->ws->kept;
    c->ws->kept = buf_heap(kept.max);
    read_frames(c, buf_view(&kept));
    buf_release(&kept);
}

void conn_resume_one(struct conn *c)
{
    if (c->upgrading) {
        finish_upgrade(c);
    }
    if (hears(c) && c->in.len > 0) {
        offer(c, buf_view(&c->in), false);
    }
    if (hears(c) && c->ws != NULL && c->ws->kept.len > 0) {
        unframe_kept(c);
    }
    if (hears(c) && c->ws != NULL && c->ws->end != WS_ALL) {
        on_frame_event(c, c->ws->end);
    }
    if (hears(c) && c->tls != NULL) {
        conn_pump_kept(c);
    }
    if (hears(c) && c->unheard) {
        c->unheard = false;
        conn_listen(c);
    }
}

bool conns_resume(struct loop *l)
{
    struct conn *c = l->conns.resume;
    bool any = c != NULL;
    conns_tls_turn(l);
    l->conns.resume = NULL;
    while (c != NULL) {
        struct conn *next = c->next_resume;
        c->in_resume = false;
        if (c->state == CONN_OPEN && !c->paused) {
            conn_resume_one(c);
        }
        c = next;
    }
    return any;
}
