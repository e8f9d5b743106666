#include "net/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/reader.h"
#include "net/conn_priv.h"

#define READ_BYTES           65536 // most bytes of one read; the loop's one buffer for all connections
#define READ_BYTES_TLS       16384 // of a TLS connection that is not authenticated yet
#define TLS_HANDSHAKE_RECORD 22
#define RECORD_BYTES         16384 // most plaintext offered, and encrypted, at once
#define JOIN_BYTES           4096  // kept input up to this is put in front of the next read; more is appended to
#define WIRE_BYTES           65536 // ciphertext made ahead of the kernel's taking it
#define WIRE_BYTES_MAX       163840
#define LINGER_BYTES         262144

// ---- states ----

static void conn_set_state(struct conn *c, enum conn_state to)
{
    static const bool legal[CONN__COUNT][CONN__COUNT] = {
        [CONN_HANDSHAKE] = {[CONN_OPEN] = true, [CONN_CLOSING] = true, [CONN_DEAD] = true},
        [CONN_OPEN] = {[CONN_CLOSING] = true, [CONN_DEAD] = true},
        [CONN_CLOSING] = {[CONN_LINGER] = true, [CONN_DEAD] = true},
        [CONN_LINGER] = {[CONN_DEAD] = true},
        [CONN_DEAD] = {[CONN_GONE] = true},
    };
    assert(legal[c->state][to]);
    c->state = to;
}

const char *close_cause_text(enum close_cause c)
{
    static const char *const text[] = {
        [CLOSE_LOCAL] = "closed_by_server", [CLOSE_EOF] = "peer_closed", [CLOSE_RESET] = "connection_reset",
        [CLOSE_TIMEOUT] = "timeout",        [CLOSE_TLS] = "tls_failure", [CLOSE_OVERFLOW] = "overflow",
        [CLOSE_FRAMING] = "framing",        [CLOSE_CROWDED] = "crowded", [CLOSE_SHUTDOWN] = "server_stopped"};
    return (size_t)c < sizeof(text) / sizeof(text[0]) ? text[c] : "unknown";
}

// Without memory the words are missing, the cause is not. `text` may be the words that are there already.
static void set_why(struct conn *c, enum close_cause cause, const char *text)
{
    c->cause = cause;
    if (text != c->why) {
        free(c->why);
        c->why = text != NULL && text[0] != '\0' ? strdup(text) : NULL;
    }
}

static size_t in_limit(const struct conn *c)
{
    return c->authenticated ? c->service->in_max : c->service->in_max_before_auth;
}

static void stop_reading(struct conn *c)
{
    if (c->reading) {
        uv_read_stop((uv_stream_t *)&c->tcp);
        c->reading = false;
    }
}

void conn_abort(struct conn *c, enum close_cause cause, const char *text)
{
    if (c->state == CONN_DEAD || c->state == CONN_GONE) {
        return;
    }
    if (c->state != CONN_LINGER) {
        set_why(c, cause, text);
    }
    conn_set_state(c, CONN_DEAD);
    stop_reading(c);
    timer_stop(&c->timer);
    c->next_dead = c->loop->conns.dead;
    c->loop->conns.dead = c;
    loop_touch(c->loop);
}

// Input is done with; output drains until the timer ends it.
static void start_closing(struct conn *c, enum close_cause cause, const char *text)
{
    set_why(c, cause, text);
    conn_set_state(c, CONN_CLOSING);
    stop_reading(c);
    timer_start(&c->timer, CONN_DRAIN_MS, 0);
    conn_flush_later(c);
}

void conn_close(struct conn *c, const char *text)
{
    if (c->state == CONN_OPEN) {
        start_closing(c, CLOSE_LOCAL, text);
    }
}

static void tell_closed(struct conn *c)
{
    if (c->opened && !c->told) {
        c->told = true;
        loop_touch(c->loop);
        if (c->service->proto->on_close != NULL) {
            c->service->proto->on_close(c, &(struct close_reason){c->cause, c->why != NULL ? c->why : ""});
        }
    }
}

static void tell_tls_failure(struct conn *c, const char *text)
{
    listener_tls_failed(c->listener);
    if (c->service->proto->on_tls_failure != NULL) {
        c->service->proto->on_tls_failure(c->service->front, c->loop, c->peer, text);
    }
}

static void on_timeout(struct timer *t)
{
    struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, timer));
    char text[96] = "";
    switch (c->state) {
    case CONN_HANDSHAKE:
        snprintf(text, sizeof(text), "no TLS handshake within %u ms", c->service->open_timeout_ms);
        tell_tls_failure(c, text);
        conn_abort(c, CLOSE_TIMEOUT, text);
        break;
    case CONN_OPEN:
        if (c->eof) {
            start_closing(c, CLOSE_EOF, "the answer took too long");
        } else {
            snprintf(text, sizeof(text), "not authenticated within %u ms", c->service->open_timeout_ms);
            conn_abort(c, CLOSE_TIMEOUT, text);
        }
        break;
    case CONN_CLOSING:
        snprintf(text, sizeof(text), "output was not taken within %d ms", CONN_DRAIN_MS);
        conn_abort(c, CLOSE_TIMEOUT, text);
        break;
    default:
        conn_abort(c, c->cause, ""); // LINGER: it has been told already
        break;
    }
}

// ---- input ----

// The peer has ended its side. `text` is for the close reason.
static void peer_ended(struct conn *c, const char *text)
{
    stop_reading(c);
    c->eof = true;
    if (c->state == CONN_HANDSHAKE) {
        if (c->in_total_bytes > 0) {
            tell_tls_failure(c, "closed by the client during the handshake");
        }
        conn_abort(c, CLOSE_EOF, text);
    } else if (c->state == CONN_OPEN) {
        const struct conn_proto *proto = c->service->proto;
        if (proto->on_eof != NULL && proto->on_eof(c) && c->state == CONN_OPEN) {
            timer_start(&c->timer, CONN_ANSWER_MS, 0);
        } else if (c->state == CONN_OPEN) {
            start_closing(c, CLOSE_EOF, text);
        }
    } else {
        conn_abort(c, c->cause, "");
    }
}

static void too_much_kept(struct conn *c)
{
    char text[96];
    snprintf(text, sizeof(text), "a message is longer than the %zu bytes allowed %s authentication", in_limit(c),
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
    } else if (!c->paused && c->in.len >= in_limit(c)) {
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

// The handshake may have chosen another protocol than the listener's first.
static void choose_service(struct conn *c)
{
    struct slice name = c->tls != NULL ? tls_conn_peer(c->tls->session)->alpn : (struct slice){NULL, 0};
    const struct conn_service *chosen = listener_service(c->listener, name);
    if (chosen != c->service) {
        c->service = chosen;
        c->in.max = chosen->in_max;
        c->out.max = chosen->out_max;
        timer_start(&c->timer, chosen->open_timeout_ms, 0);
    }
}

static void conn_opened(struct conn *c)
{
    choose_service(c);
    conn_set_state(c, CONN_OPEN);
    c->opened = true;
    if (c->service->proto->on_open(c, c->service->front) != ST_OK) {
        c->told = true; // no further callback
        conn_abort(c, CLOSE_LOCAL, "refused");
    }
}

// One step of the handshake; false: no further step now.
static bool pump_handshake(struct conn *c)
{
    enum tls_step step = tls_conn_handshake(c->tls->session);
    if (step == TLS_OK) {
        conn_opened(c);
        return true;
    }
    if (step != TLS_MORE) {
        tell_tls_failure(c, tls_conn_failure(c->tls->session));
        start_closing(c, CLOSE_TLS, tls_conn_failure(c->tls->session));
    }
    return false;
}

// One stretch of plaintext; false: no further one now.
static bool pump_read(struct conn *c)
{
    struct buf *io = &c->loop->conns.plain;
    size_t room = in_limit(c) - c->in.len;
    bool joined = join_kept(c, io);
    size_t before = io->len;
    enum tls_step step = tls_conn_read(c->tls->session, io, room < RECORD_BYTES ? room : RECORD_BYTES);
    if (io->len > before) {
        offer_new(c, io, joined);
    }
    if (c->state != CONN_OPEN || c->paused) {
        return false; // an end or a failure shows again when the front resumes
    }
    if (step == TLS_END) {
        peer_ended(c, "");
    } else if (step == TLS_FAILED) {
        start_closing(c, CLOSE_TLS, tls_conn_failure(c->tls->session));
    }
    return step == TLS_OK;
}

// Takes ciphertext as far as the front lets it; returns what was left of it.
static struct slice pump(struct conn *c, struct slice cipher)
{
    tls_conn_feed(c->tls->session, cipher);
    bool more = true;
    while (more && !c->paused) {
        more = (c->state == CONN_HANDSHAKE && pump_handshake(c)) || (c->state == CONN_OPEN && pump_read(c));
    }
    if (c->tls->wire.len > 0) {
        conn_flush_later(c);
    }
    return tls_conn_unread(c->tls->session);
}

// Pumps what was kept, as far as it goes.
static void pump_kept(struct conn *c)
{
    struct buf *kept = &c->tls->kept;
    struct slice rest = pump(c, buf_view(kept));
    buf_consume(kept, kept->len - rest.len);
    if (kept->len == 0) {
        buf_release(kept);
    }
}

// Whether the first record is complete (RFC 8446 section 5.1), or no handshake at all: OpenSSL can say what it is instead.
static bool is_whole_hello(struct slice cipher)
{
    struct reader r = reader_make(cipher);
    uint8_t type = rd_u8(&r);
    (void)rd_u16(&r); // version
    (void)rd_bytes(&r, rd_u16(&r));
    return cipher.len > 0 && (type != TLS_HANDSHAKE_RECORD || !r.failed || cipher.len > RECORD_BYTES);
}

static void read_tls(struct conn *c, struct slice cipher)
{
    struct conn_tls *tls = c->tls;
    if (tls->session != NULL) {
        struct slice rest = pump(c, cipher);
        if (rest.len > 0 && c->state == CONN_OPEN && !buf_slice(&tls->kept, rest)) {
            conn_abort(c, CLOSE_OVERFLOW, "no memory for the input");
        }
        return;
    }
    bool ok = buf_slice(&tls->kept, cipher);
    if (ok && !is_whole_hello(buf_view(&tls->kept))) {
        return;
    }
    struct tls_ctx *ctx = listener_tls(c->listener);
    tls->session = ok ? tls_conn_new(ctx, &tls->wire) : NULL;
    tls_unref(ctx);
    if (tls->session == NULL) {
        listener_conn_refused(c->listener);
        conn_abort(c, CLOSE_OVERFLOW, "no memory for a TLS session");
        return;
    }
    pump_kept(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    (void)suggested;
    struct conn *c = handle->data;
    struct buf *io = &c->loop->conns.raw;
    size_t want = READ_BYTES;
    buf_clear(io);
    if (c->state == CONN_OPEN && c->tls == NULL) {
        size_t room = in_limit(c) - c->in.len;
        want = room < READ_BYTES ? room : READ_BYTES;
        (void)join_kept(c, io);
    } else if (c->tls != NULL && !c->authenticated) {
        want = READ_BYTES_TLS;
    }
    *ret_buf = uv_buf_init((char *)buf_reserve(io, want), (unsigned)want);
}

static void read_bytes(struct conn *c, size_t n)
{
    struct buf *io = &c->loop->conns.raw;
    buf_commit(io, n);
    c->in_total_bytes += n;
    if (c->state == CONN_LINGER) {
        c->lingered_bytes += (uint32_t)n;
        if (c->lingered_bytes > LINGER_BYTES) {
            conn_abort(c, c->cause, "");
        }
    } else if (c->tls != NULL) {
        read_tls(c, buf_view(io));
    } else {
        offer_new(c, io, io->len > n || c->in.len == 0);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    (void)b;
    struct conn *c = stream->data;
    if (n == 0) {
        return;
    }
    loop_touch(c->loop);
    if (n > 0) {
        read_bytes(c, (size_t)n);
    } else if (n == UV_EOF) {
        peer_ended(c, c->tls != NULL ? "without TLS close_notify" : "");
    } else {
        if (c->state == CONN_HANDSHAKE && c->in_total_bytes > 0) {
            tell_tls_failure(c, "connection reset during the handshake");
        }
        conn_abort(c, CLOSE_RESET, uv_strerror((int)n));
    }
}

static void start_reading(struct conn *c)
{
    if (!c->reading) {
        int rc = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
        if (rc != 0) {
            conn_abort(c, CLOSE_RESET, uv_strerror(rc));
            return;
        }
        c->reading = true;
    }
}

void conn_pause(struct conn *c)
{
    if (c->state == CONN_OPEN && !c->paused) {
        c->paused = true;
        stop_reading(c);
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

static void resume_one(struct conn *c)
{
    if (c->in.len > 0) {
        offer(c, buf_view(&c->in), false);
    }
    if (c->tls != NULL && c->state == CONN_OPEN && !c->paused) {
        pump_kept(c);
    }
    if (c->state == CONN_OPEN && !c->paused && !c->eof) {
        start_reading(c);
    }
}

bool conns_resume(struct loop *l)
{
    struct conn *c = l->conns.resume;
    bool any = c != NULL;
    l->conns.resume = NULL;
    while (c != NULL) {
        struct conn *next = c->next_resume;
        c->in_resume = false;
        if (c->state == CONN_OPEN && !c->paused) {
            resume_one(c);
        }
        c = next;
    }
    return any;
}

// ---- output ----

struct buf *conn_out(struct conn *c)
{
    return c->state == CONN_OPEN ? &c->out : &c->loop->conns.sink;
}

void conn_flush_later(struct conn *c)
{
    if (!c->in_flush && c->state != CONN_GONE) {
        c->in_flush = true;
        c->next_flush = c->loop->conns.flush;
        c->loop->conns.flush = c;
    }
}

size_t conn_out_len(const struct conn *c)
{
    size_t n = c->out.len + (c->tls != NULL ? c->tls->wire.len : 0);
    return c->writing != NULL ? n + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) : n;
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
    if (!buf_slice(&c->out, s)) {
        out_overflow(c);
        return false;
    }
    conn_flush_later(c);
    return true;
}

// Keeps `wire` filled ahead of the kernel; ends the TLS stream when all is written and the connection closes.
static void encrypt(struct conn *c)
{
    if (!c->opened) {
        return; // only what the handshake itself wrote
    }
    if (tls_conn_failure(c->tls->session)[0] != '\0') {
        buf_release(&c->out); // nothing but the alert can be sent any more
        return;
    }
    size_t done = 0;
    while (done < c->out.len && c->tls->wire.len < WIRE_BYTES) {
        struct slice part = slice_head(slice_from(buf_view(&c->out), done), RECORD_BYTES);
        if (!tls_conn_write(c->tls->session, part)) {
            conn_abort(c, CLOSE_TLS, tls_conn_failure(c->tls->session));
            return;
        }
        done += part.len;
    }
    buf_consume(&c->out, done);
    if (c->out.len == 0) {
        buf_release(&c->out);
        if (c->state == CONN_CLOSING) {
            tls_conn_close(c->tls->session);
        }
    }
}

static void on_written(uv_write_t *req, int rc)
{
    struct conn_write *w = (struct conn_write *)((char *)req - offsetof(struct conn_write, req));
    struct conn *c = req->handle->data;
    buf_release(&w->data);
    free(w);
    c->writing = NULL;
    c->out.max = c->service->out_max;
    if (c->state == CONN_GONE) {
        return;
    }
    loop_touch(c->loop);
    if (rc != 0) {
        conn_abort(c, CLOSE_RESET, uv_strerror(rc));
    } else {
        conn_flush_later(c);
    }
}

// Hands what the kernel did not take to libuv; the connection may gather new output meanwhile.
static void write_rest(struct conn *c, struct buf *from, size_t taken)
{
    struct conn_write *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        conn_abort(c, CLOSE_OVERFLOW, "no memory for the output");
        return;
    }
    w->data = *from;
    *from = buf_heap(from->max);
    struct slice rest = slice_from(buf_view(&w->data), taken);
    uv_buf_t b = uv_buf_init((char *)rest.p, (unsigned)rest.len);
    int rc = uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, on_written);
    if (rc != 0) {
        buf_release(&w->data);
        free(w);
        conn_abort(c, CLOSE_RESET, uv_strerror(rc));
        return;
    }
    c->writing = w;
    if (from == &c->out) {
        c->out.max -= rest.len; // both together stay within out_max
    }
}

// One write of what waits. True: all of it was taken and there may be more to encrypt.
static bool write_once(struct conn *c)
{
    struct buf *from = c->tls != NULL ? &c->tls->wire : &c->out;
    if (from->len == 0) {
        return false;
    }
    uv_buf_t b = uv_buf_init((char *)from->p, (unsigned)from->len);
    int n = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
    if (n < 0 && n != UV_EAGAIN) {
        conn_abort(c, CLOSE_RESET, uv_strerror(n));
        return false;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    if (taken < from->len) {
        write_rest(c, from, taken);
        return false;
    }
    buf_release(from);
    return true;
}

// All output has left. The peer learns that we end; then it may end too, see conn.h.
static void output_done(struct conn *c)
{
    tell_closed(c);
    if (c->state != CONN_CLOSING) {
        return;
    }
    uv_os_fd_t fd;
    if (c->eof || uv_fileno((uv_handle_t *)&c->tcp, &fd) != 0 || shutdown(fd, SHUT_WR) != 0) {
        conn_abort(c, c->cause, c->why);
        return;
    }
    conn_set_state(c, CONN_LINGER);
    timer_start(&c->timer, CONN_LINGER_MS, 0);
    start_reading(c);
}

static void drained(struct conn *c)
{
    if (c->over_high && conn_out_len(c) < CONN_OUT_LOW) {
        c->over_high = false;
        if (c->state == CONN_OPEN && c->service->proto->on_drain != NULL) {
            loop_touch(c->loop);
            c->service->proto->on_drain(c);
        }
    }
}

static void flush_one(struct conn *c)
{
    if (c->out.failed) {
        out_overflow(c);
        return;
    }
    c->over_high = c->over_high || conn_out_len(c) > CONN_OUT_HIGH;
    bool more = c->writing == NULL;
    while (more && c->state < CONN_LINGER) {
        if (c->tls != NULL) {
            encrypt(c);
        }
        more = c->state < CONN_LINGER && write_once(c);
    }
    if (c->state == CONN_CLOSING && conn_out_len(c) == 0) {
        output_done(c);
    }
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
            flush_one(c);
        }
        c = next;
    }
}

// ---- birth and death ----

static void free_conn(struct conn *c)
{
    listener_conn_gone(c->listener);
    if (c->tls != NULL) {
        tls_conn_free(c->tls->session);
        buf_release(&c->tls->wire);
        buf_release(&c->tls->kept);
        free(c->tls);
    }
    buf_release(&c->in);
    buf_release(&c->out);
    free(c->why);
    free(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    map_del_u64(&c->loop->conns.by_id, c->id);
    free_conn(c);
}

void conns_reap(struct loop *l)
{
    struct conn *c = l->conns.dead;
    l->conns.dead = NULL;
    while (c != NULL) {
        struct conn *next = c->next_dead;
        if (c->in_flush || c->in_resume) { // still on a list of the next turn: it dies after that
            c->next_dead = l->conns.dead;
            l->conns.dead = c;
        } else {
            tell_closed(c);
            conn_set_state(c, CONN_GONE);
            uv_close((uv_handle_t *)&c->tcp, on_closed);
        }
        c = next;
    }
}

bool conns_left(const struct loop *l)
{
    return l->conns.flush != NULL || l->conns.resume != NULL || l->conns.dead != NULL;
}

// The reads of all connections of a loop land in these two buffers. False: no memory.
static bool conns_ready(struct loop *l)
{
    struct conns *cs = &l->conns;
    if (!cs->ready) {
        cs->raw = buf_heap(JOIN_BYTES + READ_BYTES);
        cs->plain = buf_heap(JOIN_BYTES + RECORD_BYTES);
        cs->ready = buf_reserve(&cs->raw, cs->raw.max) != NULL && buf_reserve(&cs->plain, cs->plain.max) != NULL;
        if (!cs->ready) {
            buf_release(&cs->raw);
            buf_release(&cs->plain);
        }
    }
    return cs->ready;
}

static void name_peer(struct conn *c, const struct sockaddr_storage *peer)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (peer->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)peer;
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
        c->peer_is_loopback = ntohl(in4->sin_addr.s_addr) >> 24 == 127;
        snprintf(c->peer, sizeof(c->peer), "%s:%u", host, ntohs(in4->sin_port));
        return;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)peer;
    unsigned port = ntohs(in6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
        c->peer_is_loopback = in6->sin6_addr.s6_addr[12] == 127;
        snprintf(c->peer, sizeof(c->peer), "%s:%u", host, port);
    } else {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        c->peer_is_loopback = IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
        snprintf(c->peer, sizeof(c->peer), "[%s]:%u", host, port);
    }
}

// False: no memory.
static bool add_tls(struct conn *c)
{
    if (!listener_is_tls(c->listener)) {
        return true;
    }
    c->tls = calloc(1, sizeof(*c->tls));
    if (c->tls != NULL) {
        c->tls->wire = buf_heap(WIRE_BYTES_MAX);
        c->tls->kept = buf_heap(READ_BYTES);
    }
    return c->tls != NULL;
}

// Everything that can fail before libuv knows of the connection. NULL: no memory.
static struct conn *new_conn(struct loop *l, struct listener *ln)
{
    // Ids are the one thing all loops share: a counter, so that people can read them in a log.
    static _Atomic uint64_t last_id;
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        listener_conn_gone(ln);
        return NULL;
    }
    c->loop = l;
    c->listener = ln;
    c->service = &listener_conf(ln)->service;
    c->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    c->in = buf_heap(c->service->in_max);
    c->out = buf_heap(c->service->out_max);
    timer_init(&c->timer, l, on_timeout);
    if (!conns_ready(l) || !add_tls(c) || !map_set_u64(&l->conns.by_id, c->id, c)) {
        free_conn(c);
        return NULL;
    }
    return c;
}

void conn_accept(struct loop *l, struct listener *ln, int fd, const struct sockaddr_storage *peer)
{
    struct conn *c = new_conn(l, ln);
    if (c == NULL) {
        listener_conn_refused(ln);
        close(fd);
        return;
    }
    loop_touch(l);
    name_peer(c, peer);
    uv_tcp_init(&l->uv, &c->tcp);
    c->tcp.data = c;
    int rc = uv_tcp_open(&c->tcp, fd);
    if (rc != 0) {
        close(fd);
        listener_conn_refused(ln);
        conn_abort(c, CLOSE_RESET, uv_strerror(rc));
        return;
    }
    timer_start(&c->timer, c->service->open_timeout_ms, 0);
    if (c->tls == NULL) {
        conn_opened(c);
    }
    if (c->state < CONN_CLOSING && !c->paused) {
        start_reading(c);
    }
}

void conns_init(struct loop *l)
{
    map_init(&l->conns.by_id);
    l->conns.sink = buf_fixed(NULL, 0);
}

void conns_shutdown(struct loop *l)
{
    size_t pos = 0;
    for (struct conn *c; (c = map_next(&l->conns.by_id, &pos, NULL, NULL)) != NULL;) {
        if (c->state == CONN_OPEN) {
            start_closing(c, CLOSE_SHUTDOWN, "");
            flush_one(c); // what the kernel takes at once; nothing waits for slow readers here
        }
        if (c->state < CONN_DEAD) {
            conn_abort(c, c->state == CONN_CLOSING ? c->cause : CLOSE_SHUTDOWN, "");
        }
    }
}

void conns_release(struct loop *l)
{
    assert(l->conns.by_id.len == 0);
    map_release(&l->conns.by_id);
    buf_release(&l->conns.raw);
    buf_release(&l->conns.plain);
}

// ---- what a front may ask and say ----

void conn_set_user(struct conn *c, void *user)
{
    c->user = user;
}

void *conn_user(const struct conn *c)
{
    return c->user;
}

struct loop *conn_loop(const struct conn *c)
{
    return c->loop;
}

uint64_t conn_id(const struct conn *c)
{
    return c->id;
}

struct conn *conn_find(struct loop *l, uint64_t id)
{
    struct conn *c = map_get_u64(&l->conns.by_id, id);
    return c != NULL && c->opened && c->state < CONN_LINGER ? c : NULL;
}

const char *conn_peer_addr(const struct conn *c)
{
    return c->peer;
}

bool conn_peer_is_loopback(const struct conn *c)
{
    return c->peer_is_loopback;
}

const struct tls_peer *conn_tls(const struct conn *c)
{
    return c->tls != NULL ? tls_conn_peer(c->tls->session) : NULL;
}

void conn_authenticated(struct conn *c)
{
    c->authenticated = true;
    if (c->state == CONN_OPEN && !c->eof) {
        timer_stop(&c->timer);
    }
}
