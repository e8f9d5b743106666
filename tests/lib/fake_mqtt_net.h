// A loop and connections without sockets: time, posts, timers and bytes move when the test says so. A part of fake_mqtt.h, which includes it.
#ifndef TESTS_LIB_FAKE_MQTT_NET_H
#define TESTS_LIB_FAKE_MQTT_NET_H

// --- loop --------------------------------------------------------------------------------------------------------

void loop_post(struct loop *l, struct post *p)
{
    p->next = NULL;
    if (l->last != NULL) {
        l->last->next = p;
    } else {
        l->first = p;
    }
    l->last = p;
}
int64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}
static bool fake_on_core; // which thread the caller is to be
bool loop_is_current(const struct loop *l)
{
    (void)l;
    return !fake_on_core;
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
void timer_start(struct timer *t, uint32_t delay_ms, uint32_t repeat_ms)
{
    timer_stop(t);
    t->due_ms = t->loop->now_ms + delay_ms;
    t->repeat_ms = repeat_ms;
    t->armed = true;
    t->next = t->loop->timers;
    t->loop->timers = t;
}
// Moves the clock; due timers fire.
static inline void fake_sleep(struct fake *f, int64_t ms)
{
    f->loop.now_ms += ms;
    struct timer *due;
    do {
        for (due = f->loop.timers; due != NULL && due->due_ms > f->loop.now_ms; due = due->next) {
        }
        if (due != NULL) {
            timer_stop(due);
            due->fn(due);
        }
    } while (due != NULL);
}

// --- connections -------------------------------------------------------------------------------------------------

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
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (l->conns[i] != NULL && l->conns[i]->id == id) {
            return l->conns[i];
        }
    }
    return NULL;
}
const char *conn_peer_addr(const struct conn *c)
{
    return c->peer;
}
bool conn_peer_is_loopback(const struct conn *c)
{
    return c->loopback;
}
const struct tls_peer *conn_tls(const struct conn *c)
{
    return c->tls;
}
void conn_authenticated(struct conn *c)
{
    c->authenticated = true;
}
struct buf *conn_out(struct conn *c)
{
    static struct buf sink; // takes nothing
    sink = buf_fixed(NULL, 0);
    return c->closing ? &sink : &c->out;
}
void conn_flush_later(struct conn *c)
{
    (void)c;
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
    c->resume = c->paused;
    c->paused = false;
}
void conn_abort(struct conn *c, enum close_cause cause, const char *text)
{
    (void)cause;
    (void)text;
    c->closing = c->aborted = true;
}
void conn_close(struct conn *c, const char *text)
{
    if (!c->closing) {
        c->closing = true;
        snprintf(c->close_text, sizeof(c->close_text), "%s", text);
    }
}
const char *close_cause_text(enum close_cause c)
{
    return c == CLOSE_EOF ? "peer_closed" : "connection_reset";
}

static inline void fake_offer(struct fake *f, struct conn *c)
{
    if (c->paused || c->closing || c->in.len == 0) {
        return;
    }
    size_t n = f->service.proto->on_data(c, buf_view(&c->in));
    buf_consume(&c->in, n);
}
static inline void fake_input(struct fake *f, struct conn *c, struct slice bytes)
{
    buf_slice(&c->in, bytes);
    fake_offer(f, c);
}
static inline struct conn *fake_open(struct fake *f)
{
    struct conn *c = calloc(1, sizeof(*c));
    c->loop = &f->loop;
    c->id = ++f->last_id;
    c->in = buf_heap(1 << 20);
    c->out = buf_heap(8 << 20);
    c->peer = "192.0.2.1:1234";
    if (f->service.proto->on_open(c, f->service.front) != ST_OK) {
        free(c);
        return NULL;
    }
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (f->loop.conns[i] == NULL) {
            f->loop.conns[i] = c;
            break;
        }
    }
    return c;
}
// The end of a connection: on_close, then it is gone.
static inline void fake_gone(struct fake *f, struct conn *c, enum close_cause cause)
{
    const struct close_reason why = {c->closing ? CLOSE_LOCAL : cause, c->close_text};
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (f->loop.conns[i] == c) {
            f->loop.conns[i] = NULL;
        }
    }
    f->service.proto->on_close(c, &why);
    buf_release(&c->in);
    buf_release(&c->out);
    free(c);
}
static inline void fake_turn(struct fake *f)
{
    struct post *p = f->loop.first;
    f->loop.first = f->loop.last = NULL;
    while (p != NULL) {
        struct post *next = p->next;
        p->fn(p);
        p = next;
    }
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        struct conn *c = f->loop.conns[i];
        if (c != NULL && c->resume) {
            c->resume = false;
            fake_offer(f, c);
        }
    }
}

#endif
