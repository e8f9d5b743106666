// What the MQTT front stands on, for its tests: connections, a loop, a core and domain modules that do what the test says.
// Nothing happens by itself: fake_core_run runs operations, fake_ingest_commit ends telemetry batches, fake_turn runs what
// was posted and offers kept input. Include in exactly one file of a program.
#ifndef TESTS_LIB_FAKE_MQTT_H
#define TESTS_LIB_FAKE_MQTT_H

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker.h"
#include "domain/command/command.h"
#include "domain/identity/device_password.h"
#include "domain/identity/identity.h"
#include "domain/policy/ban.h"
#include "domain/policy/policy.h"
#include "domain/presence/presence.h"
#include "domain/telemetry/ingest.h"
#include "domain/trace/trace.h"
#include "domain/twin/twin.h"
#include "front/mqtt/front.h"
#include "net/conn.h"

#define FAKE_CONNS   16
#define FAKE_PENDING 8192

struct loop {
    struct post *first, *last;
    struct timer *timers;
    int64_t now_ms;
    struct conn *conns[FAKE_CONNS];
};
struct conn {
    struct loop *loop;
    uint64_t id;
    void *user;
    struct buf in, out;
    bool paused, resume, closing, aborted, authenticated, loopback;
    char close_text[256];
    const char *peer;
    struct tls_peer *tls;
};
struct core {
    struct op *first, *last;
    enum status refuse; // core_submit completes with it
    enum status commit; // outcome of every operation that ran well
    bool core_thread;   // inside fake_core_run
    unsigned ran, auth_failures, connected, disconnected, activated;
    unsigned events, reports, replies, twin_pushes, command_pushes, enrolled, renewed, stored;
    enum status twin_status, push_status;
    uint64_t reply_id;
    char reason[64], detail[192]; // of the last disconnect
    char payload[512];            // of the last event, report, reply
    char client_id[200], protocol[16];
    unsigned applications;
    struct link *link;    // of the last connect; one reference
    struct link *counted; // by the operation that runs, for its undoing
};
struct ingest {
    ingest_acked_fn acked;
    void *arg;
    struct ingest_ack acks[FAKE_PENDING];
    struct link *links[FAKE_PENDING];
    size_t len;
    bool behind;
    unsigned put, once, refused[ST__COUNT], failed[ST__COUNT];
};
struct fake {
    struct core core;
    struct loop loop;
    struct mqtt_front *front;
    struct conn_service service;
    uint64_t last_id;
};

static struct ingest *fake_ingest; // of the one front of a test: what ingest_new made last

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

// --- core --------------------------------------------------------------------------------------------------------

static inline void fake_op_posted(struct post *p)
{
    struct op *op = (struct op *)p;
    op->done(op);
}
static inline void fake_op_end(struct op *op)
{
    if (op->reply_to == NULL) {
        op->done(op);
    } else {
        op->post.fn = fake_op_posted;
        loop_post(op->reply_to, &op->post);
    }
}
void core_submit(struct core *c, struct op *op)
{
    op->status = ST_OK;
    op->err.code = ST_OK;
    op->err.text[0] = '\0';
    op->err.where[0] = '\0';
    op->core = c;
    if (c->refuse != ST_OK) {
        op->status = err_set(&op->err, c->refuse, "refused by the test");
        fake_op_end(op);
        return;
    }
    op->post.next = NULL;
    if (c->last != NULL) {
        c->last->post.next = &op->post;
    } else {
        c->first = op;
    }
    c->last = op;
}
static inline void fake_core_run(struct fake *f)
{
    struct op *op = f->core.first;
    f->core.first = f->core.last = NULL;
    fake_on_core = true;
    while (op != NULL) {
        struct op *next = (struct op *)op->post.next;
        struct principal sys = {.kind = WHO_SYSTEM};
        struct tx tx = {
            .core = &f->core, .who = op->who != NULL ? op->who : &sys, .now_us = 1700000000000000, .op = op};
        f->core.counted = NULL;
        op->status = op->run(&tx, op, &op->err);
        if (op->status == ST_OK && f->core.commit != ST_OK) {
            if (f->core.counted != NULL) {
                atomic_fetch_add(&f->core.counted->in_flight, 1);
            }
            op->status = err_set(&op->err, f->core.commit, "commit failed by the test");
        }
        f->core.ran++;
        fake_op_end(op);
        op = next;
    }
    fake_on_core = false;
}

// --- telemetry ---------------------------------------------------------------------------------------------------

struct ingest *ingest_new(struct core *core, struct loop *loop, ingest_acked_fn acked, void *arg)
{
    (void)core;
    (void)loop;
    fake_ingest = calloc(1, sizeof(*fake_ingest));
    fake_ingest->acked = acked;
    fake_ingest->arg = arg;
    return fake_ingest;
}
void ingest_free(struct ingest *in)
{
    for (size_t i = 0; in != NULL && i < in->len; i++) {
        link_unref(in->links[i]);
    }
    free(in);
}
// A payload that begins with '{' or a CBOR map is fine, everything else is not.
enum status ingest_put(struct ingest *in, struct link *from, struct broker_session *once, uint16_t packet_id, bool dup,
                       struct slice payload, struct slice content_type, struct err *err)
{
    in->once += once != NULL;
    (void)dup;
    (void)content_type;
    in->put++;
    if (payload.len == 0 || (payload.p[0] != '{' && payload.p[0] >> 5 != 5) || in->len == FAKE_PENDING) {
        in->refused[ST_INVALID]++;
        return err_at(err, ST_INVALID, "/x", "not telemetry");
    }
    in->acks[in->len] = (struct ingest_ack){from->conn, packet_id, ST_OK};
    in->links[in->len++] = link_ref(from);
    return ST_OK;
}
void ingest_refused(struct ingest *in, struct link *from, enum status why)
{
    (void)from;
    in->refused[why]++;
}
void ingest_failed(struct ingest *in, struct link *from, enum status why)
{
    in->failed[why]++;
    atomic_fetch_sub(&from->in_flight, 1);
}
void ingest_flush(struct ingest *in)
{
    (void)in;
}
size_t ingest_pending(const struct ingest *in)
{
    return in->len;
}
bool ingest_behind(const struct ingest *in)
{
    return in->behind;
}
static inline void fake_ingest_commit(enum status s)
{
    size_t n = fake_ingest->len;
    fake_ingest->len = 0;
    for (size_t i = 0; i < n; i++) {
        fake_ingest->acks[i].status = s;
        link_unref(fake_ingest->links[i]);
    }
    if (n > 0) {
        fake_ingest->acked(fake_ingest->arg, fake_ingest->acks, n);
    }
}
enum status ledger_stored(struct tx *tx, struct link *from, struct err *err)
{
    (void)err;
    tx->core->stored++;
    tx->core->counted = from;
    atomic_fetch_sub(&from->in_flight, 1);
    return ST_OK;
}

// --- broker: the topic says what happens ---------------------------------------------------------------------------

#define FAKE_SESSIONS 8
#define FAKE_LATER    64
struct permit {
    int refs;
};
struct broker_session {
    int refs;
    bool durable, used;
    char client_id[64];
    uint32_t marks, expiry_s;
    uint64_t serial;
    uint16_t inbound[16];
    size_t inbound_len;
    struct link *link; // borrowed, for the tests
};
struct fake_settled {
    enum broker_settle what;
    uint64_t id;
    struct link *link; // one reference
};
struct fake_broker {
    struct broker_front front;
    struct broker_session *kept[FAKE_SESSIONS]; // durable ones; one reference each
    struct broker_session *last;                // borrowed: of the last open
    struct broker_open opened;                  // of the last open; slices are gone
    char will_topic[64], will_payload[64];
    uint32_t will_delay_s;
    uint64_t serials;
    unsigned opens, closes, wills;
    uint32_t close_expiry_s;
    struct broker_ack later[FAKE_LATER];
    size_t later_len;
    struct fake_settled settled[FAKE_LATER];
    size_t settled_len;
    char topic[64], payload[64], props[64]; // of the last publish
    uint8_t qos;
    bool retain;
    unsigned published, given_back, flushes;
    bool taken_over; // another connection has the session of whoever publishes
    char filter[64]; // of the last subscribe
    struct broker_sub sub;
    enum status sub_status, open_status;
    size_t pending;
    unsigned mores, slow_dropped;
    struct permit *permit; // of the last open, borrowed
    int permits;           // references
};
static struct fake_broker fake_broker;

struct broker_loop *broker_loop(struct broker *b, const struct loop *l)
{
    (void)b;
    (void)l;
    return NULL;
}
void broker_loop_serve(struct broker_loop *bl, const struct broker_front *front)
{
    (void)bl;
    fake_broker.front = *front;
}
void broker_slow_dropped(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl)
{
    (void)bl;
    (void)link;
    (void)s;
    sl->dropped++;
    fake_broker.slow_dropped++;
}
void broker_slow_room(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl, bool ended)
{
    (void)bl;
    (void)s;
    (void)link;
    (void)ended;
    *sl = (struct slow){0};
}
void broker_more(struct broker_loop *bl, struct link *link)
{
    (void)bl;
    (void)link;
    fake_broker.mores++;
}
struct permit *permit_ref(struct permit *p)
{
    fake_broker.permits += p != NULL;
    return p;
}
void permit_unref(struct permit *p)
{
    static struct permit *const none = NULL;
    fake_broker.permits -= p != none;
}
bool permit_publish(const struct permit *p, struct slice topic)
{
    return p != NULL && !slice_starts(topic, SLICE("forbidden"));
}
bool permit_retain(const struct permit *p, struct slice topic)
{
    return permit_publish(p, topic) && !slice_starts(topic, SLICE("unretained"));
}
enum status policy_permit(struct tx *tx, const struct principal *who, struct slice client_id,
                          struct permit **ret_permit, struct err *err)
{
    static struct permit all;
    (void)tx;
    (void)who;
    (void)client_id;
    (void)err;
    *ret_permit = permit_ref(&all);
    return ST_OK;
}
struct broker_session *broker_session_ref(struct broker_session *s)
{
    s->refs++;
    return s;
}
void broker_session_unref(struct broker_session *s)
{
    if (s != NULL && --s->refs == 0) {
        free(s);
    }
}
uint64_t broker_session_serial(const struct broker_session *s)
{
    return s->serial;
}
bool broker_session_durable(const struct broker_session *s)
{
    return s->durable;
}
uint32_t broker_session_marks(const struct broker_session *s)
{
    return s->marks;
}
enum status broker_session_mark(struct tx *tx, struct broker_session *s, uint32_t marks, struct err *err)
{
    (void)tx;
    (void)err;
    s->marks = marks;
    return ST_OK;
}
static inline struct broker_session **fake_kept(struct slice client_id)
{
    struct broker_session **free_slot = NULL;
    for (unsigned i = 0; i < FAKE_SESSIONS; i++) {
        struct broker_session **k = &fake_broker.kept[i];
        if (*k != NULL && slice_eq_str(client_id, (*k)->client_id)) {
            return k;
        }
        free_slot = *k == NULL ? k : free_slot;
    }
    return free_slot;
}
static inline void fake_will(const struct broker_will *w)
{
    fake_broker.will_topic[0] = '\0';
    fake_broker.will_delay_s = w->delay_s;
    if (w->msg != NULL) {
        slice_to_cstr(message_topic(w->msg), fake_broker.will_topic, sizeof(fake_broker.will_topic));
        slice_to_cstr(message_payload(w->msg), fake_broker.will_payload, sizeof(fake_broker.will_payload));
        message_unref(w->msg);
    }
}
enum status broker_open(struct tx *tx, struct link *link, const struct broker_open *in,
                        struct broker_session **ret_session, bool *ret_present, uint32_t *ret_expiry_s,
                        uint16_t **ret_inbound, size_t *ret_inbound_len, struct err *err)
{
    fake_broker.opens++;
    fake_broker.opened = *in;
    fake_will(&in->will);
    if (fake_broker.open_status != ST_OK) {
        return err_set(err, fake_broker.open_status, "refused by the broker");
    }
    link_unref(tx->core->link);
    tx->core->link = link_ref(link);
    struct broker_session **kept = fake_kept(in->client_id);
    if (kept != NULL && *kept != NULL && in->clean_start) {
        broker_session_unref(*kept);
        *kept = NULL;
    }
    *ret_expiry_s = in->expiry_s > 3600 ? 3600 : in->expiry_s; // more is not granted
    *ret_present = kept != NULL && *kept != NULL;
    struct broker_session *s = *ret_present ? broker_session_ref(*kept) : calloc(1, sizeof(*s));
    if (!*ret_present) {
        s->refs = 1;
        s->serial = ++fake_broker.serials;
        slice_to_cstr(in->client_id, s->client_id, sizeof(s->client_id));
        if (in->expiry_s > 0 && kept != NULL) {
            *kept = broker_session_ref(s);
        }
    }
    s->durable = in->expiry_s > 0;
    s->link = link;
    *ret_inbound_len = s->inbound_len;
    *ret_inbound = s->inbound_len > 0 ? calloc(s->inbound_len, sizeof(**ret_inbound)) : NULL;
    for (size_t i = 0; i < s->inbound_len; i++) {
        (*ret_inbound)[i] = s->inbound[i];
    }
    fake_broker.last = s;
    *ret_session = s;
    return ST_OK;
}
enum status broker_close(struct tx *tx, struct broker_session *s, struct link *link, bool will, uint32_t expiry_s,
                         struct err *err)
{
    (void)tx;
    (void)s;
    (void)link;
    (void)err;
    fake_broker.closes++;
    fake_broker.wills += will;
    fake_broker.close_expiry_s = expiry_s;
    return ST_OK;
}
// "no/..." is not allowed, "quota" is too much, "broken" cannot be stored; everything else is granted.
enum status broker_subscribe(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, uint8_t *ret_reason,
                             struct err *err)
{
    (void)tx;
    (void)s;
    fake_broker.sub = *sub;
    slice_to_cstr(sub->filter, fake_broker.filter, sizeof(fake_broker.filter));
    *ret_reason = slice_starts(sub->filter, SLICE("no/")) ? MQTT_RC_NOT_AUTHORIZED
                  : slice_eq_str(sub->filter, "quota")    ? MQTT_RC_QUOTA
                                                          : sub->qos;
    return slice_eq_str(sub->filter, "broken") ? err_set(err, ST_FULL, "no space") : ST_OK;
}
enum status broker_unsubscribe(struct tx *tx, struct broker_session *s, struct slice filter, bool *ret_was,
                               struct err *err)
{
    (void)tx;
    (void)s;
    *ret_was = !slice_starts(filter, SLICE("no/"));
    return slice_eq_str(filter, "broken") ? err_set(err, ST_FULL, "no space") : ST_OK;
}
// "forbidden/...": refused; "nobody": no subscriber; "later/...": durable; else: connected subscribers only.
enum broker_went broker_publish(struct broker_loop *bl, const struct broker_in *in, bool *ret_matched,
                                enum status *ret_status, struct err *err)
{
    (void)bl;
    if (slice_starts(in->topic, SLICE("forbidden"))) {
        *ret_status = err_set(err, ST_FORBIDDEN, "not allowed");
        return BROKER_REFUSED;
    }
    fake_broker.published++;
    fake_broker.qos = in->publish->qos;
    fake_broker.retain = in->publish->retain;
    slice_to_cstr(in->topic, fake_broker.topic, sizeof(fake_broker.topic));
    slice_to_cstr(in->publish->payload, fake_broker.payload, sizeof(fake_broker.payload));
    *ret_matched = !slice_starts(in->topic, SLICE("nobody"));
    if (slice_starts(in->topic, SLICE("later")) && fake_broker.later_len < FAKE_LATER) {
        fake_broker.later[fake_broker.later_len++] =
            (struct broker_ack){in->link->conn, in->publish->packet_id, ST_OK, *ret_matched};
        return BROKER_LATER;
    }
    return BROKER_DONE;
}
size_t broker_pending(const struct broker_loop *bl)
{
    (void)bl;
    return fake_broker.pending;
}
void broker_settle(struct broker_loop *bl, struct broker_session *s, struct link *link, enum broker_settle what,
                   uint64_t seq_or_packet_id)
{
    (void)bl;
    (void)s;
    if (fake_broker.settled_len < FAKE_LATER) {
        fake_broker.settled[fake_broker.settled_len++] = (struct fake_settled){what, seq_or_packet_id, link_ref(link)};
    }
}
void broker_flush(struct broker_loop *bl)
{
    (void)bl;
    fake_broker.flushes++;
}
void broker_give_back(struct broker_loop *bl, struct message *msg, uint64_t share)
{
    (void)bl;
    (void)share;
    fake_broker.given_back++;
    message_unref(msg);
}
enum status broker_inbound_put(struct tx *tx, const struct broker_session *s, uint64_t conn, uint16_t packet_id,
                               bool staged, bool *ret_new, struct err *err)
{
    (void)tx;
    (void)conn;
    (void)err;
    (void)staged;
    *ret_new = !fake_broker.taken_over;
    struct broker_session *mine = fake_broker.last;
    if (*ret_new && mine == s && mine->inbound_len < 16) {
        mine->inbound[mine->inbound_len++] = packet_id;
    }
    return ST_OK;
}
// What was published to "later/..." is durable, or not; what was settled is durable.
static inline void fake_broker_commit(enum status s)
{
    struct fake_broker *b = &fake_broker;
    size_t n = b->later_len;
    b->later_len = 0;
    for (size_t i = 0; i < n; i++) {
        b->later[i].status = s;
    }
    if (n > 0) {
        b->front.on_acked(b->front.arg, b->later, n);
    }
    n = b->settled_len;
    b->settled_len = 0;
    for (size_t i = 0; i < n; i++) {
        struct fake_settled f = b->settled[i];
        if (f.what != SETTLE_DONE) {
            b->front.on_settled(b->front.arg, f.link, f.id, (int)f.what);
        }
        link_unref(f.link);
    }
}
static inline void fake_broker_reset(void)
{
    fake_broker_commit(ST_OK);
    for (unsigned i = 0; i < FAKE_SESSIONS; i++) {
        broker_session_unref(fake_broker.kept[i]);
    }
    fake_broker = (struct fake_broker){.front = fake_broker.front, .permits = fake_broker.permits};
}
// --- traces: nobody looks -----------------------------------------------------------------------------------------

struct trace_loop *trace_loop(struct trace_hub *h, const struct loop *l)
{
    (void)h;
    (void)l;
    return NULL;
}
void trace_on_change(struct trace_loop *tl, void (*fn)(void *arg), void *arg)
{
    (void)tl;
    (void)fn;
    (void)arg;
}
uint32_t trace_match(const struct trace_loop *tl, const struct trace_who *who)
{
    (void)tl;
    (void)who;
    return 0;
}
bool trace_running(const struct trace_loop *tl)
{
    (void)tl;
    return false;
}
void trace_record(struct trace_loop *tl, uint32_t traces, const struct trace_piece *p)
{
    (void)tl;
    (void)traces;
    (void)p;
}
void conn_tap(struct conn *c, bool on)
{
    (void)c;
    (void)on;
}
struct slice permit_client_id(const struct permit *p)
{
    (void)p;
    return (struct slice){NULL, 0};
}

// --- bans and quotas ----------------------------------------------------------------------------------------------

static struct quotas *fake_quotas;
void *core_slot(const struct core *c, enum core_slot s)
{
    (void)c;
    return s == CORE_SLOT_QUOTA ? fake_quotas : NULL;
}
void core_set_slot(struct core *c, enum core_slot s, void *p)
{
    (void)c;
    (void)s;
    (void)p;
}
bool ban_address(const struct core *c, struct slice addr)
{
    (void)c;
    return slice_starts(addr, SLICE("203.0.113.66:"));
}
enum status ban_flapping(struct tx *tx, struct slice client_id, struct slice addr, struct err *err)
{
    (void)tx;
    (void)addr;
    return slice_eq_str(client_id, "flapping") ? err_set(err, ST_FORBIDDEN, "flapping") : ST_OK;
}
enum status ban_check(struct tx *tx, const struct principal *who, struct slice client_id, struct err *err)
{
    (void)tx;
    (void)who;
    return slice_eq_str(client_id, "banned") ? err_set(err, ST_FORBIDDEN, "banned") : ST_OK;
}
// The password of every name is "pencil".
enum status identity_login(struct tx *tx, const struct credential *cred, struct device_login *ret, struct err *err)
{
    if (slice_eq_str(cred->username, "often")) {
        return err_set(err, ST_LIMIT, "too many failures");
    }
    (void)tx;
    ret->state = LOGIN_ASKED;
    return scram_verifier_make(SLICE("pencil"), SCRAM_ITERATIONS_MIN, &ret->verifier, err);
}
void device_password_check(struct device_login *login, struct slice password)
{
    login->state = slice_eq_str(password, "right") ? LOGIN_PROVED : LOGIN_WRONG;
}

// --- identity and presence: the user name says what happens ------------------------------------------------------

enum status identity_authenticate(struct tx *tx, const struct credential *cred, struct principal *ret,
                                  struct device_ref *ret_device, struct err *err)
{
    static const struct {
        const char *user;
        enum status status;
    } bad[] = {{"stranger", ST_UNAUTHENTICATED}, {"revoked", ST_FORBIDDEN}, {"often", ST_LIMIT}, {"broken", ST_IO}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (slice_eq_str(cred->username, bad[i].user)) {
            return err_set(err, bad[i].status, "secret detail");
        }
    }
    if (slice_eq_str(cred->username, "pass") && cred->login->state != LOGIN_PROVED) { // a password is to be checked
        cred->login->state = cred->login->state == LOGIN_NONE ? LOGIN_ASKED : cred->login->state;
        return err_set(err, ST_UNAUTHENTICATED, "wrong password");
    }
    if (slice_eq_str(cred->username, "app")) {
        *ret = (struct principal){.kind = WHO_OPERATOR, .tenant = 1, .row = 9, .name = "app"};
        tx->core->applications++;
        return ST_OK;
    }
    if (cred->login != NULL && cred->login->state == LOGIN_WRONG) {
        return err_set(err, ST_UNAUTHENTICATED, "wrong password");
    }
    bool claim = slice_eq_str(cred->username, "$claim");
    *ret = (struct principal){
        .kind = claim ? WHO_CLAIM : WHO_DEVICE, .tenant = 1, .row = slice_eq_str(cred->username, "other") ? 8 : 7};
    snprintf(ret->name, sizeof(ret->name), "%s", claim ? "claim-1" : "d1");
    *ret_device = (struct device_ref){.row = 7, .tenant = 1, .state = DEVICE_ACTIVE, .id = "d1"};
    slice_to_cstr(cred->client_id, tx->core->client_id, sizeof(tx->core->client_id));
    return ST_OK;
}
void identity_auth_failed(struct core *c, struct slice peer_addr)
{
    (void)peer_addr;
    c->auth_failures++;
}
enum status presence_connected(struct tx *tx, struct link *link, const struct device_ref *d,
                               const struct presence_info *info, struct err *err)
{
    (void)d;
    (void)err;
    tx->core->connected++;
    slice_to_cstr(info->protocol, tx->core->protocol, sizeof(tx->core->protocol));
    link_unref(tx->core->link);
    tx->core->link = link_ref(link);
    return ST_OK;
}
enum status presence_disconnected(struct tx *tx, struct link *link, struct slice reason, struct slice detail,
                                  struct err *err)
{
    (void)link;
    (void)err;
    tx->core->disconnected++;
    slice_to_cstr(reason, tx->core->reason, sizeof(tx->core->reason));
    slice_to_cstr(detail, tx->core->detail, sizeof(tx->core->detail));
    return ST_OK;
}
static enum device_state fake_device_state = DEVICE_ACTIVE;
enum status device_find_row(struct tx *tx, uint64_t row, struct device_ref *ret, struct err *err)
{
    (void)tx;
    (void)err;
    *ret = (struct device_ref){.row = row, .tenant = 1, .state = fake_device_state, .id = "d1"};
    return ST_OK;
}
const char *device_state_text(enum device_state s)
{
    return s == DEVICE_SUSPENDED ? "suspended" : "active";
}
enum status identity_enroll(struct tx *tx, struct slice csr_pem, struct slice device, const json_t *desc,
                            struct jw *out, struct err *err)
{
    if (!slice_eq_str(csr_pem, "CSR")) {
        return err_at(err, ST_INVALID, "/csr", "no CSR");
    }
    tx->core->enrolled++;
    snprintf(tx->core->payload, sizeof(tx->core->payload), SLICE_FMT " %zu", SLICE_ARG(device), json_object_size(desc));
    jw_object(out);
    jw_key(out, "device");
    jw_slice(out, device);
    jw_object_end(out);
    return ST_OK;
}
enum status identity_renew(struct tx *tx, struct slice csr_pem, struct jw *out, struct err *err)
{
    (void)csr_pem;
    (void)err;
    tx->core->renewed++;
    jw_object(out);
    jw_object_end(out);
    return ST_OK;
}

// --- twin, commands, events --------------------------------------------------------------------------------------

static inline void fake_keep(struct core *c, struct slice payload)
{
    slice_to_cstr(payload, c->payload, sizeof(c->payload));
}
enum status twin_report(struct tx *tx, const struct device_ref *d, struct slice patch, struct err *err)
{
    (void)d;
    tx->core->reports++;
    fake_keep(tx->core, patch);
    return tx->core->twin_status == ST_OK ? ST_OK : err_set(err, tx->core->twin_status, "refused by the twin");
}
enum status twin_write_for_device(struct tx *tx, const struct device_ref *d, bool with_reported, struct jw *out,
                                  struct err *err)
{
    (void)tx;
    (void)d;
    (void)err;
    jw_object(out);
    jw_key(out, "reported");
    jw_bool(out, with_reported);
    jw_object_end(out);
    return ST_OK;
}
enum status twin_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err)
{
    (void)d;
    (void)link;
    tx->core->twin_pushes++;
    return tx->core->push_status == ST_OK ? ST_OK : err_set(err, tx->core->push_status, "no");
}
enum status command_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err)
{
    (void)d;
    (void)link;
    (void)err;
    tx->core->command_pushes++;
    return ST_OK;
}
enum status command_reply(struct tx *tx, const struct device_ref *d, uint64_t id, struct slice payload, struct err *err)
{
    (void)d;
    (void)err;
    tx->core->replies++;
    tx->core->reply_id = id;
    fake_keep(tx->core, payload);
    return ST_OK;
}
enum status device_event(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ts_us, struct err *err)
{
    (void)d;
    (void)ts_us;
    if (slice_eq_str(name, "bad")) {
        return err_set(err, ST_INVALID, "bad event");
    }
    tx->core->events++;
    fake_keep(tx->core, payload);
    return ST_OK;
}

// --- the whole ---------------------------------------------------------------------------------------------------

// Overrides: "key=value", NULL-terminated; may be NULL.
static inline struct fake *fake_new(const char *const *overrides)
{
    const struct conf_module mods[] = {{"MQTT", mqtt_conf, MQTT_CONF_LEN}, quota_conf_module};
    struct quota_conf quotas;
    static const char *const none[] = {NULL};
    struct fake *f = calloc(1, sizeof(*f));
    struct buf problems = buf_heap(4096);
    struct conf *conf = NULL;
    struct loop *loops[1] = {&f->loop};
    struct err err;
    log_set_level(LOG_ERROR); // what the front says of bad clients is expected here
    f->loop.now_ms = 1000;
    if (conf_load(mods, 2, NULL, overrides != NULL ? overrides : none, &conf, &problems) != ST_OK) {
        fprintf(stderr, SLICE_FMT, SLICE_ARG(buf_view(&problems)));
        abort();
    }
    quota_conf_read(conf, &quotas);
    if (quotas_new(&quotas, 1, &fake_quotas, &err) != ST_OK) {
        abort();
    }
    if (mqtt_front_new(&(struct mqtt_parts){.core = &f->core}, loops, 1, conf, &f->front, &err) != ST_OK) {
        abort();
    }
    f->service = mqtt_front_service(f->front);
    conf_free(conf);
    buf_release(&problems);
    fake_device_state = DEVICE_ACTIVE;
    return f;
}
static inline bool fake_busy(const struct fake *f)
{
    return f->core.first != NULL || f->loop.first != NULL || fake_ingest->len > 0 || fake_broker.later_len > 0 ||
           fake_broker.settled_len > 0;
}
// Runs everything until nothing is left to do.
static inline void fake_settle(struct fake *f)
{
    for (unsigned i = 0; i < 64 && (i < 2 || fake_busy(f)); i++) {
        fake_core_run(f);
        fake_ingest_commit(ST_OK);
        fake_broker_commit(ST_OK);
        fake_turn(f);
    }
}
// Ends all connections and forgets what the core has seen; the front stays.
static inline void fake_reset(struct fake *f)
{
    f->core.refuse = ST_OK;
    f->core.commit = ST_OK;
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (f->loop.conns[i] != NULL) {
            fake_gone(f, f->loop.conns[i], CLOSE_EOF);
        }
    }
    fake_settle(f);
    fake_broker_reset();
    if (mqtt_front_connections(f->front) != 0 || fake_broker.permits != 0) {
        abort();
    }
    link_unref(f->core.link);
    f->core = (struct core){.refuse = ST_OK};
}
static inline void fake_free(struct fake *f)
{
    fake_reset(f);
    mqtt_front_free(f->front);
    quotas_free(fake_quotas);
    free(f);
}

#endif
