// One HTTP connection without sockets, in one thread and with everything in sight, over the core of fake_http.h: for fuzzing
// and for tests that let allocations fail. Include in exactly one file of a program.
//
//   wire_open(max); buf_slice(&wire.in, ...); wire_offer(); wire_drain(); ... wire_close();
#ifndef TESTS_LIB_FAKE_WIRE_H
#define TESTS_LIB_FAKE_WIRE_H

#include <assert.h>
#include <fcntl.h>

#include "base/log.h"
#include "fake_http.h"
#include "front/http/http_priv.h"
#include "net/conn.h"

// --- one connection and its loop, without sockets ----------------------------------------------------------------

struct conn {
    void *user;
    struct buf in;
    struct buf out;
    bool paused, closed, spoke, taken;
    struct post *posts, **posts_end;
    struct timer *timer;
    struct events_sub *sub;
    int64_t now_ms;
};
static struct conn wire; // the one connection there is

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
    return (struct loop *)c;
}
uint64_t conn_id(const struct conn *c)
{
    (void)c;
    return 1;
}
const char *conn_peer_addr(const struct conn *c)
{
    (void)c;
    return "192.0.2.1:1234";
}
void conn_authenticated(struct conn *c)
{
    (void)c;
}
void conn_own_times(struct conn *c)
{
    (void)c;
}
bool conn_write(struct conn *c, struct slice s)
{
    return !c->closed && buf_slice(&c->out, s);
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
    c->paused = false;
}
const struct tls_peer *conn_tls(const struct conn *c)
{
    (void)c;
    return NULL; // a plain connection
}
void conn_close(struct conn *c, const char *text)
{
    (void)text;
    c->closed = true;
}
void conn_abort(struct conn *c, enum close_cause cause, const char *text)
{
    (void)cause;
    (void)text;
    c->closed = true;
}

void loop_post(struct loop *l, struct post *p)
{
    struct conn *c = (struct conn *)l;
    p->next = NULL;
    *c->posts_end = p;
    c->posts_end = &p->next;
}
int64_t loop_now_ms(const struct loop *l)
{
    return ((const struct conn *)l)->now_ms;
}
void timer_init(struct timer *t, struct loop *l, void (*fn)(struct timer *t))
{
    *t = (struct timer){.fn = fn, .loop = l};
}
void timer_start(struct timer *t, uint32_t delay_ms, uint32_t repeat_ms)
{
    t->due_ms = wire.now_ms + delay_ms;
    t->repeat_ms = repeat_ms;
    wire.timer = t;
}
void timer_stop(struct timer *t)
{
    (void)t;
    wire.timer = NULL;
}

// --- an event source that has one event for each listener --------------------------------------------------------

struct events_sub {
    void (*deliver)(void *arg, const struct event *ev);
    void (*gap)(void *arg);
    void *arg;
};
struct events_sub *events_listen(struct events *e, struct loop *loop, const struct events_filter *f,
                                 struct slice last_id, void (*deliver)(void *arg, const struct event *ev),
                                 void (*gap)(void *arg), void *arg)
{
    (void)e;
    (void)loop;
    (void)f;
    (void)last_id;
    wire.sub = calloc(1, sizeof(*wire.sub));
    if (wire.sub != NULL) {
        *wire.sub = (struct events_sub){deliver, gap, arg};
    }
    return wire.sub;
}
void events_unlisten(struct events_sub *s)
{
    wire.sub = NULL;
    free(s);
}
void events_id(const struct events *e, uint64_t seq, char dst[EVENT_ID_MAX])
{
    (void)e;
    snprintf(dst, EVENT_ID_MAX, "00000000-%llu", (unsigned long long)seq);
}
const char *event_type_text(enum event_type t)
{
    (void)t;
    return "twin";
}

// --- a store without rows ----------------------------------------------------------------------------------------

struct stmt {
    int unused;
};
struct stmt *db_stmt(struct db *db, const struct sql_def *def)
{
    static struct stmt none;
    (void)db;
    (void)def;
    return &none;
}
void stmt_bind_i64(struct stmt *s, int i, int64_t v)
{
    (void)s;
    (void)i;
    (void)v;
}
void stmt_bind_text(struct stmt *s, int i, struct slice v)
{
    (void)s;
    (void)i;
    (void)v;
}
void stmt_bind_str(struct stmt *s, int i, const char *v)
{
    (void)s;
    (void)i;
    (void)v;
}
void stmt_bind_blob(struct stmt *s, int i, struct slice v)
{
    (void)s;
    (void)i;
    (void)v;
}
enum status stmt_step(struct stmt *s, bool *ret_row, struct err *err)
{
    (void)s;
    (void)err;
    *ret_row = false;
    return ST_OK;
}
enum status stmt_run(struct stmt *s, struct err *err)
{
    (void)s;
    (void)err;
    return ST_OK;
}
void stmt_reset(struct stmt *s)
{
    (void)s;
}
int64_t col_i64(struct stmt *s, int i)
{
    (void)s;
    return i;
}
struct slice col_text(struct stmt *s, int i)
{
    (void)s;
    (void)i;
    return SLICE("");
}
struct slice col_blob(struct stmt *s, int i)
{
    (void)s;
    (void)i;
    return SLICE("");
}

// --- turns of the loop -------------------------------------------------------------------------------------------

static inline void wire_run_posts(void)
{
    while (wire.posts != NULL) {
        struct post *p = wire.posts;
        wire.posts = p->next;
        if (wire.posts == NULL) {
            wire.posts_end = &wire.posts;
        }
        p->fn(p);
    }
}

static inline void wire_offer(void)
{
    while (!wire.paused && !wire.closed && wire.in.len > 0) {
        size_t used = http_proto.on_data(&wire, buf_view(&wire.in));
        assert(used <= wire.in.len);
        buf_consume(&wire.in, used);
        if (used == 0) {
            break;
        }
        wire_run_posts();
    }
    wire_run_posts();
}

static inline void wire_fire_timer(void)
{
    struct timer *t = wire.timer;
    if (t == NULL || wire.closed) {
        return;
    }
    wire.now_ms = t->due_ms;
    if (t->repeat_ms > 0) {
        t->due_ms += t->repeat_ms;
    } else {
        wire.timer = NULL;
    }
    t->fn(t);
    wire_run_posts();
}

static inline void wire_deliver_event(void)
{
    static struct event *ev;
    if (ev == NULL) {
        ev = calloc(1, sizeof(*ev) + 2);
        assert(ev != NULL);
        ev->json_len = 2;
        memset(ev->json, '{', 1);
        memset(ev->json + 1, '}', 1);
    }
    if (wire.sub != NULL && !wire.closed) {
        wire.sub->deliver(wire.sub->arg, ev);
    }
    if (wire.sub != NULL && !wire.closed) {
        wire.sub->gap(wire.sub->arg);
    }
}

// The peer takes everything. Whatever came in, the first that goes out is the head of a reply.
static inline void wire_drain(void)
{
    assert(!wire.out.failed);
    if (wire.out.len > 0 && !wire.spoke) {
        assert(slice_starts(buf_view(&wire.out), SLICE("HTTP/1.1 ")));
        wire.spoke = true;
    }
    buf_clear(&wire.out);
    if (!wire.closed) {
        http_proto.on_drain(&wire);
    }
}

// The connection becomes a WebSocket: its new owner only keeps the answer.
static inline void wire_take(void *arg, struct conn *c, struct slice answer)
{
    assert(arg == NULL && !c->closed && slice_starts(answer, SLICE("HTTP/1.1 101 ")));
    c->taken = c->closed = true;
    c->timer = NULL;
    buf_slice(&c->out, answer);
}

static struct core wire_core;
// The front of all connections.
static inline struct http_front *wire_front(void)
{
    static struct http_front *f;
    if (f == NULL) {
        struct http_front_conf conf = {.core = &wire_core,
                                       .table = &fake_table,
                                       .idle_ms = 60000,
                                       .streams_max = 1,
                                       .auth_failures_max = 1000000000,
                                       .websocket = {.path = "/mqtt", .take = wire_take}};
        log_setup(LOG_ERROR, LOG_LOGFMT, open("/dev/null", O_WRONLY | O_CLOEXEC)); // refusals are many here
        enum status st = http_front_new(&conf, &f, NULL);
        assert(st == ST_OK);
        (void)st;
    }
    return f;
}

// False when the front refused the connection.
static inline bool wire_open(size_t in_max)
{
    wire = (struct conn){.in = buf_heap(in_max), .out = buf_heap(64u << 20)};
    wire.posts_end = &wire.posts;
    clock_fake(1700000000000000, 1000000);
    return http_proto.on_open(&wire, wire_front()) == ST_OK;
}

static inline void wire_close(bool opened)
{
    if (opened && !wire.taken) {
        http_proto.on_close(&wire, &(struct close_reason){CLOSE_EOF, ""});
    }
    wire_run_posts();
    assert(wire_core.states == 0); // every state of a two-step call was freed
    buf_release(&wire.in);
    buf_release(&wire.out);
}

#endif
