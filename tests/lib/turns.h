// Loops that turn when they are told, and connections made of memory: a whole server in one thread, without sockets, on a
// clock that stands until it is moved. It takes the place of net/loop.h, net/conn.h and the listeners. Include in exactly
// one file of a program, which then builds the server as src/server does.
//
//   turns_begin();  server_new(...);
//   struct peer *p = turns_connect("mqtt", loop);      // by the protocol's name; NULL: refused
//   turns_input(p, bytes);  turns_run();               // everything that follows from it, on all loops
//   p->out, p->ended;  turns_eof(p); turns_reset(p);  turns_forget(p);
//   turns_sleep(ms), turns_jump(ms);                   // timers fire in order; those that are due fire once
#ifndef TESTS_LIB_TURNS_H
#define TESTS_LIB_TURNS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "net/conn.h"
#include "net/loop.h"
#include "proto/ws.h"

#define TURNS_LISTENERS 8
#define TURNS_ROUNDS    10000 // of one turns_run: more is an endless loop
#define TURNS_EPOCH_US  INT64_C(1800000000000000)

struct loop {
    struct loop *next;
    char name[16];
    struct post *first, *last;
    struct turn_hook *hooks, *hooks_last;
    struct timer *timers;
    struct conn *conns;
};
// The other side of a connection: the test's, until turns_forget.
struct peer {
    struct conn *conn; // NULL once it has ended
    struct buf out;    // what the server said; of a WebSocket the payload
    size_t upgraded;   // how much of it was before the upgrade
    bool ended, deaf;  // deaf: takes nothing, the server's output grows
    char why[160];     // the reason of its end
};
struct conn {
    struct conn *next;
    struct loop *loop;
    struct conn_service service;
    struct peer *peer;
    uint64_t id;
    void *user;
    struct buf in, out;
    struct ws *ws;
    bool paused, offer, opening, closing, aborted, eof, high, tap;
    enum close_cause cause;
    char text[160];
};
struct listener {
    struct listen_conf conf;
};

static struct {
    int64_t mono_us;
    struct loop *loops, *current;
    struct listener *listeners[TURNS_LISTENERS];
    uint64_t last_id;
} turns;

static inline void turns_set_clock(int64_t mono_us)
{
    turns.mono_us = mono_us;
    clock_fake(TURNS_EPOCH_US + mono_us, mono_us);
}
static inline void turns_begin(void)
{
    turns_set_clock(INT64_C(1000000000));
}
static inline void turns_require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "turns: %s\n", what);
        abort();
    }
}

// --- loop.h ----------------------------------------------------------------------------------------------------------

struct loop *loop_new(const char *name, struct err *err)
{
    (void)err;
    struct loop *l = calloc(1, sizeof(*l));
    turns_require(l != NULL, "no memory");
    snprintf(l->name, sizeof(l->name), "%s", name);
    l->next = turns.loops;
    turns.loops = l;
    return l;
}
enum status loop_start(struct loop *l, struct err *err)
{
    (void)l;
    (void)err;
    return ST_OK;
}
void loop_run(struct loop *l)
{
    (void)l;
}
void loop_stop(struct loop *l)
{
    (void)l;
}
void loop_join(struct loop *l)
{
    (void)l;
}
void loop_free(struct loop *l)
{
    for (struct loop **p = &turns.loops; *p != NULL; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            break;
        }
    }
    free(l);
}
bool loop_is_current(const struct loop *l)
{
    return turns.current == l;
}
int64_t loop_now_ms(const struct loop *l)
{
    (void)l;
    return turns.mono_us / 1000;
}
void loop_post_chain(struct loop *l, struct post *first, struct post *last)
{
    last->next = NULL;
    if (l->last != NULL) {
        l->last->next = first;
    } else {
        l->first = first;
    }
    l->last = last;
}
void loop_post(struct loop *l, struct post *p)
{
    loop_post_chain(l, p, p);
}
void loop_on_turn_end(struct loop *l, struct turn_hook *h)
{
    h->next = NULL;
    if (l->hooks_last != NULL) {
        l->hooks_last->next = h;
    } else {
        l->hooks = h;
    }
    l->hooks_last = h;
}
enum status loop_on_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg, struct err *err)
{
    (void)l;
    (void)signum;
    (void)fn;
    (void)arg;
    (void)err;
    return ST_OK;
}
void timer_init(struct timer *t, struct loop *l, void (*fn)(struct timer *t))
{
    *t = (struct timer){.fn = fn, .loop = l};
}
void timer_stop(struct timer *t)
{
    for (struct timer **p = &t->loop->timers; t->armed && *p != NULL; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            t->armed = false;
            return;
        }
    }
}
// In order of time; of equal times the one that was started first fires first.
void timer_start(struct timer *t, uint32_t delay_ms, uint32_t repeat_ms)
{
    timer_stop(t);
    t->due_ms = turns.mono_us / 1000 + delay_ms;
    t->repeat_ms = repeat_ms;
    t->armed = true;
    struct timer **p = &t->loop->timers;
    while (*p != NULL && (*p)->due_ms <= t->due_ms) {
        p = &(*p)->next;
    }
    t->next = *p;
    *p = t;
}

// --- conn.h: what a front calls --------------------------------------------------------------------------------------

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
    for (struct conn *c = l->conns; c != NULL; c = c->next) {
        if (c->id == id) {
            return c;
        }
    }
    return NULL;
}
const char *conn_peer_addr(const struct conn *c)
{
    (void)c;
    return "192.0.2.1:1234";
}
bool conn_peer_is_loopback(const struct conn *c)
{
    (void)c;
    return true;
}
const struct tls_peer *conn_tls(const struct conn *c)
{
    (void)c;
    return NULL;
}
void conn_authenticated(struct conn *c)
{
    (void)c;
}
void conn_own_times(struct conn *c)
{
    (void)c;
}
struct buf *conn_out(struct conn *c)
{
    static struct buf sink; // takes nothing
    sink = buf_fixed(NULL, 0);
    return c->closing ? &sink : &c->out;
}
void conn_tap(struct conn *c, bool on)
{
    c->tap = on;
}
void conn_flush_later(struct conn *c)
{
    (void)c;
}
bool conn_write(struct conn *c, struct slice s)
{
    return !c->closing && buf_slice(&c->out, s);
}
size_t conn_out_len(const struct conn *c)
{
    return c->out.len;
}
void conn_pause(struct conn *c)
{
    c->paused = true;
}
void conn_resume(struct conn *c)
{
    c->offer = c->offer || c->paused;
    c->paused = false;
}
void conn_close(struct conn *c, const char *text)
{
    if (!c->closing) {
        c->closing = true;
        c->cause = CLOSE_LOCAL;
        snprintf(c->text, sizeof(c->text), "%s", text);
    }
}
void conn_abort(struct conn *c, enum close_cause cause, const char *text)
{
    if (!c->aborted) {
        c->closing = c->aborted = true;
        c->cause = cause;
        snprintf(c->text, sizeof(c->text), "%s", text != NULL ? text : "");
        buf_clear(&c->out);
    }
}
const char *close_cause_text(enum close_cause c)
{
    static const char *const texts[] = {
        [CLOSE_LOCAL] = "closed",    [CLOSE_EOF] = "peer_closed", [CLOSE_RESET] = "connection_reset",
        [CLOSE_TIMEOUT] = "timeout", [CLOSE_TLS] = "tls",         [CLOSE_OVERFLOW] = "overflow",
        [CLOSE_FRAMING] = "framing", [CLOSE_CROWDED] = "crowded", [CLOSE_SHUTDOWN] = "shutdown",
    };
    return texts[c];
}
static inline void turns_flush(struct conn *c);
void conn_upgrade(struct conn *c, const struct conn_service *to, struct slice answer)
{
    (void)conn_write(c, answer);
    turns_flush(c);
    c->ws = malloc(sizeof(*c->ws));
    turns_require(c->ws != NULL, "no memory");
    ws_init(c->ws, to->in_max);
    c->service = *to;
    c->user = NULL;
    c->opening = true;
    c->peer->upgraded = c->peer->out.len;
}

// --- listeners -------------------------------------------------------------------------------------------------------

enum status listener_open(const struct listen_conf *conf, struct listener **ret, struct err *err)
{
    (void)err;
    for (unsigned i = 0; i < TURNS_LISTENERS; i++) {
        if (turns.listeners[i] == NULL) {
            struct listener *ln = calloc(1, sizeof(*ln));
            turns_require(ln != NULL, "no memory");
            ln->conf = *conf;
            *ret = turns.listeners[i] = ln;
            return ST_OK;
        }
    }
    abort();
}
void loop_handshakes(const struct loop *l, struct tls_gate_stats *out)
{
    (void)l;
    *out = (struct tls_gate_stats){0};
}
uint16_t listener_port(const struct listener *ln)
{
    (void)ln;
    return 1;
}
void listener_set_tls(struct listener *ln, struct tls_ctx *tls)
{
    (void)ln;
    (void)tls;
}
void listener_stop(struct listener *ln)
{
    (void)ln;
}
void listener_free(struct listener *ln)
{
    for (unsigned i = 0; i < TURNS_LISTENERS; i++) {
        turns.listeners[i] = turns.listeners[i] == ln ? NULL : turns.listeners[i];
    }
    free(ln);
}
uint64_t listener_accept_failures(const struct listener *ln)
{
    (void)ln;
    return 0;
}
void listener_stats(const struct listener *ln, struct listener_stats *out)
{
    (void)ln;
    *out = (struct listener_stats){0};
}

// --- turning ---------------------------------------------------------------------------------------------------------

static inline void turns_flush(struct conn *c)
{
    if (c->peer->deaf) {
        c->high = c->high || c->out.len > CONN_OUT_HIGH;
        if (c->out.len > c->service.out_max) {
            conn_abort(c, CLOSE_OVERFLOW, "output");
        }
        return;
    }
    if (c->tap && c->out.len > 0 && c->user != NULL && c->service.proto->on_output != NULL) {
        c->service.proto->on_output(c, buf_view(&c->out));
    }
    (void)buf_slice(&c->peer->out, buf_view(&c->out));
    turns_require(!c->peer->out.failed, "the peer's memory is used up");
    buf_clear(&c->out);
}
static inline bool turns_offer(struct conn *c)
{
    if (c->paused || c->closing || c->opening || c->in.len == 0) {
        return false;
    }
    size_t n = c->service.proto->on_data(c, buf_view(&c->in));
    if (c->in.len > 0 && n == 0 && c->in.len >= c->service.in_max && !c->paused && !c->closing) {
        conn_abort(c, CLOSE_OVERFLOW, "input");
    }
    buf_consume(&c->in, n < c->in.len ? n : c->in.len);
    return n > 0;
}
static inline void turns_reap(struct loop *l, struct conn *c)
{
    struct close_reason why = {.cause = c->cause, .text = c->text};
    for (struct conn **p = &l->conns; *p != NULL; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    turns_flush(c);
    if (c->user != NULL) {
        c->service.proto->on_close(c, &why);
    }
    snprintf(c->peer->why, sizeof(c->peer->why), "%s: %.100s", close_cause_text(c->cause), c->text);
    c->peer->conn = NULL;
    c->peer->ended = true;
    buf_release(&c->in);
    buf_release(&c->out);
    free(c->ws);
    free(c);
}
// What one connection has to do in a turn: open, offer what was kept, drain, end. True: something happened.
static inline bool turns_conn(struct loop *l, struct conn *c)
{
    bool busy = false;
    if (c->opening && !c->closing) {
        c->opening = false;
        busy = c->offer = true;
        if (c->service.proto->on_open(c, c->service.front) != ST_OK) {
            conn_abort(c, CLOSE_LOCAL, "not opened");
            c->user = NULL;
        }
    }
    if (c->offer) {
        c->offer = false;
        busy = turns_offer(c) || busy;
    }
    size_t had = c->out.len;
    turns_flush(c);
    if (c->high && c->out.len < CONN_OUT_LOW && !c->closing && c->service.proto->on_drain != NULL) {
        c->high = false;
        c->service.proto->on_drain(c);
        busy = true;
    }
    if (c->eof && !c->closing && !c->paused) {
        c->eof = false;
        bool owes = c->service.proto->on_eof != NULL && c->service.proto->on_eof(c);
        if (!owes) {
            conn_close(c, "");
            c->cause = CLOSE_EOF;
        }
        busy = true;
    }
    if (c->closing) {
        turns_reap(l, c);
        return true;
    }
    return busy || had != c->out.len;
}
static inline bool turns_loop(struct loop *l)
{
    turns.current = l;
    bool busy = l->first != NULL;
    while (l->first != NULL) {
        struct post *p = l->first;
        l->first = p->next;
        l->last = l->first == NULL ? NULL : l->last;
        p->fn(p);
    }
    while (l->timers != NULL && l->timers->due_ms <= turns.mono_us / 1000) {
        struct timer *t = l->timers;
        timer_stop(t);
        if (t->repeat_ms > 0) {
            timer_start(t, t->repeat_ms, t->repeat_ms);
        }
        t->fn(t);
        busy = true;
    }
    for (struct conn *c = l->conns, *next; c != NULL; c = next) {
        next = c->next;
        busy = turns_conn(l, c) || busy;
    }
    for (struct turn_hook *h = l->hooks; h != NULL; h = h->next) {
        h->fn(h);
    }
    turns.current = NULL;
    return busy || l->first != NULL;
}
// Until nothing is left to do at this moment.
static inline void turns_run(void)
{
    bool busy = true;
    for (unsigned i = 0; busy; i++) {
        turns_require(i < TURNS_ROUNDS, "the server does not come to rest");
        busy = false;
        for (struct loop *l = turns.loops; l != NULL; l = l->next) {
            busy = turns_loop(l) || busy;
        }
    }
}
// Moves the clock from timer to timer.
static inline void turns_sleep(int64_t ms)
{
    int64_t end = turns.mono_us + ms * 1000;
    turns_run();
    for (;;) {
        int64_t due = end;
        for (struct loop *l = turns.loops; l != NULL; l = l->next) {
            if (l->timers != NULL && l->timers->due_ms * 1000 < due) {
                due = l->timers->due_ms * 1000;
            }
        }
        turns_set_clock(due > turns.mono_us ? due : turns.mono_us);
        turns_run();
        if (due >= end) {
            return;
        }
    }
}

// Moves the clock at once, as a machine finds it that was asleep: what was due in between fires once, late.
static inline void turns_jump(int64_t ms)
{
    turns_run();
    turns_set_clock(turns.mono_us + ms * 1000);
    turns_run();
}

// --- peers -----------------------------------------------------------------------------------------------------------

static inline struct listener *turns_listener(const char *proto)
{
    for (unsigned i = 0; i < TURNS_LISTENERS; i++) {
        struct listener *ln = turns.listeners[i];
        if (ln != NULL && ln->conf.tls == NULL && strcmp(ln->conf.service.proto->name, proto) == 0) {
            return ln;
        }
    }
    abort();
}
// A plain connection to the listener that speaks `proto`, on one of its loops.
static inline struct peer *turns_connect(const char *proto, unsigned loop)
{
    const struct listen_conf *conf = &turns_listener(proto)->conf;
    struct peer *p = calloc(1, sizeof(*p));
    struct conn *c = calloc(1, sizeof(*c));
    turns_require(p != NULL && c != NULL, "no memory");
    c->loop = conf->loops[loop % conf->loops_len];
    c->service = conf->service;
    c->id = ++turns.last_id;
    c->in = buf_heap(1 << 20);
    c->out = buf_heap((size_t)conf->service.out_max + (1 << 20));
    c->peer = p;
    c->opening = true;
    p->conn = c;
    p->out = buf_heap((size_t)64 << 20);
    c->next = c->loop->conns;
    c->loop->conns = c;
    turns_run();
    return p;
}
// Bytes from the peer, as one read; no effect once it has ended.
static inline void turns_input(struct peer *p, struct slice bytes)
{
    struct conn *c = p->conn;
    if (c == NULL || c->closing) {
        return;
    }
    turns.current = c->loop;
    if (c->ws == NULL) {
        (void)buf_slice(&c->in, bytes);
    } else {
        struct reader r = reader_make(bytes);
        enum ws_event ev = ws_read(c->ws, &r, &c->in);
        while (ev == WS_PINGED) {
            ev = ws_read(c->ws, &r, &c->in);
        }
        if (ev != WS_ALL) {
            c->offer = true;
            conn_abort(c, CLOSE_FRAMING, c->ws->error != NULL ? c->ws->error : "closed");
        }
    }
    turns_require(!c->in.failed, "more input than a connection keeps");
    (void)turns_offer(c);
    turns.current = NULL;
}
static inline void turns_eof(struct peer *p)
{
    if (p->conn != NULL) {
        p->conn->eof = true;
    }
}
static inline void turns_reset(struct peer *p)
{
    if (p->conn != NULL) {
        turns.current = p->conn->loop;
        conn_abort(p->conn, CLOSE_RESET, "");
        turns.current = NULL;
    }
}
static inline void turns_forget(struct peer *p)
{
    turns_require(p->ended, "a peer is forgotten after its end");
    buf_release(&p->out);
    free(p);
}

#endif
