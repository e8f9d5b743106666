// The beginning of a TLS connection: its ClientHello, its turn to shake hands, and what is told when that fails.
#include "net/conn_priv.h"

static void pass_failure(void *arg, const struct tls_failure *f)
{
    const struct conn *c = arg;
    struct tls_ctx *ctx = listener_tls(c->listener);
    if (ctx->failed != NULL) {
        ctx->failed(ctx->failed_arg, f);
    }
    tls_unref(ctx);
    if (c->service->proto->on_tls_failure != NULL) {
        c->service->proto->on_tls_failure(c->service->front, c->loop, f);
    }
}

void conn_tls_failed(struct conn *c, const char *text)
{
    listener_tls_failed(c->listener);
    tls_conn_report(c->tls->session, conn_peer_addr(c), text, pass_failure, c);
}

// What the client says first; MORE: not all of it is there. Anything but a ClientHello is OpenSSL's to name.
static enum tls_hello_result read_hello(struct slice cipher, struct tls_hello *ret)
{
    struct buf join = buf_heap(TLS_HELLO_BYTES_MAX);
    enum tls_hello_result result = tls_hello_read(cipher, &join, ret);
    buf_release(&join);
    return result;
}

// What was kept is a whole ClientHello, or nothing that TLS can use.
static void start_tls(struct conn *c, const struct tls_hello *hello, struct tls_ctx *ctx)
{
    c->tls->session = tls_conn_new(ctx, hello, &c->tls->wire.buf);
    if (c->tls->session == NULL) {
        listener_conn_refused(c->listener);
        conn_abort(c, CLOSE_OVERFLOW, "no memory for a TLS session");
        return;
    }
    conn_pump_kept(c);
}

// It had to wait, unread; now it is its turn.
static void on_seat(void *arg)
{
    struct conn *c = arg;
    struct tls_hello hello;
    struct tls_ctx *ctx = listener_tls(c->listener);
    loop_touch(c->loop);
    (void)read_hello(buf_view(&c->tls->kept), &hello);
    start_tls(c, &hello, ctx);
    tls_unref(ctx);
    if (c->state <= CONN_OPEN && !c->eof) {
        conn_listen(c);
    }
}

static void on_seat_expired(void *arg)
{
    struct conn *c = arg;
    conn_tls_failed(c, "the handshake was too slow while others waited");
    conn_abort(c, CLOSE_TIMEOUT, "the handshake was too slow while others waited");
}

static void begin_tls(struct conn *c, const struct tls_hello *hello)
{
    struct tls_gate *gate = &c->loop->conns.gate;
    const struct listen_conf *conf = listener_conf(c->listener);
    struct tls_ctx *ctx = listener_tls(c->listener);
    unsigned max = conf->handshakes_max > 0 ? conf->handshakes_max : CONN_HANDSHAKES;
    c->tls->seat.arg = c;
    if (tls_gate_enter(gate, &c->tls->seat, max, tls_resumes(ctx, hello), loop_now_ms(c->loop))) {
        start_tls(c, hello, ctx);
    } else {
        listener_say(c->listener, SAY_HANDSHAKES, "", "as many as may run at once do: tls.handshakes_max");
        conn_listen(c); // to nothing: it waits unread
    }
    tls_unref(ctx);
}

void conn_tls_hello(struct conn *c, struct slice cipher)
{
    struct tls_hello hello;
    if (!buf_slice(&c->tls->kept, cipher)) {
        listener_conn_refused(c->listener);
        conn_abort(c, CLOSE_OVERFLOW, "no memory for a TLS session");
    } else if (read_hello(buf_view(&c->tls->kept), &hello) != TLS_HELLO_MORE) {
        begin_tls(c, &hello);
    }
}

// Lets waiting handshakes in; a timer comes back for seats that do not move.
void conns_tls_turn(struct loop *l)
{
    struct tls_gate *gate = &l->conns.gate;
    int64_t now_ms = loop_now_ms(l);
    l->conns.gate_more = tls_gate_turn(gate, now_ms);
    int64_t due_ms = tls_gate_due_ms(gate, now_ms);
    if (due_ms >= 0 && !l->conns.gate_due.armed) {
        timer_start(&l->conns.gate_due, (uint32_t)due_ms + 1, 0);
    }
}

static void on_gate_due(struct timer *t)
{
    loop_touch(t->loop); // the turn's end does it
}

void loop_handshakes(const struct loop *l, struct tls_gate_stats *out)
{
    tls_gate_stats(&l->conns.gate, out);
}

void conns_tls_init(struct loop *l)
{
    tls_gate_init(&l->conns.gate, on_seat, on_seat_expired);
    timer_init(&l->conns.gate_due, l, on_gate_due);
}
