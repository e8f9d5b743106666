// Sessions and connections for which messages are dropped: told once when that begins and once when it is over.
//
//   fine --a message is dropped--> FULL --half empty again, and SLOW_MIN_US have passed; or its end--> fine
//
// So a client that is always at its limit makes two events and two log lines in that time, however much it loses.
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/broker/broker_priv.h"

#define SLOW_MIN_US    10000000
#define QUEUE_JSON_MAX 2048 // a client id of 256 bytes, escaped

static const char *const wheres[] = {[SLOW_SESSION] = "session", [SLOW_CONNECTION] = "connection"};

static struct event *make_event(const struct broker_session *s, const struct principal *who, enum slow_where where,
                                uint64_t dropped, int64_t now_us)
{
    uint8_t mem[QUEUE_JSON_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    bool device = who != NULL && who->kind == WHO_DEVICE;
    jw_init(&w, &text);
    jw_object(&w);
    jw_key(&w, "client_id");
    jw_slice(&w, session_client_id(s));
    jw_key(&w, "where");
    jw_str(&w, wheres[where]);
    jw_key(&w, "state");
    jw_str(&w, dropped == 0 ? "full" : "over");
    jw_key(&w, "dropped");
    jw_int(&w, (int64_t)dropped);
    jw_object_end(&w);
    return text.failed ? NULL
                       : event_new(EV_QUEUE, s->tenant, device ? who->row : 0, device ? who->name : "", now_us,
                                   buf_view(&text));
}

static void write_log(const struct broker_session *s, enum slow_where where, uint64_t dropped)
{
    if (dropped == 0) {
        log_warn("broker", "a queue is full: messages are dropped", LOGS("where", wheres[where]),
                 LOGSL("client", session_client_id(s)), LOGU("tenant", s->tenant));
    } else {
        log_info("broker", "a queue has room again", LOGS("where", wheres[where]),
                 LOGSL("client", session_client_id(s)), LOGU("tenant", s->tenant), LOGU("dropped", dropped));
    }
}

static bool is_over(const struct slow *sl, bool ended, int64_t now_us)
{
    return sl->dropped > 0 && (ended || now_us - sl->since_us >= SLOW_MIN_US);
}

// --- stored queues: core thread ----------------------------------------------------------------------------------

// Hooks run after the commit, so what they tell is durable.
static void publish(struct broker *b, const struct broker_session *s, uint64_t dropped)
{
    const struct principal *who = s->link != NULL ? &s->link->who : NULL;
    struct event *ev = make_event(s, who, SLOW_SESSION, dropped, clock_wall_us());
    write_log(s, SLOW_SESSION, dropped);
    if (ev != NULL) {
        events_publish(core_events(b->core), ev);
    }
}

static void full_commit(struct core *c, void *arg)
{
    struct broker_session *s = arg;
    publish(broker_of(c), s, 0);
    broker_session_unref(s);
}

static void full_undo(struct core *c, void *arg)
{
    (void)c;
    broker_session_unref(arg);
}

void slow_queue_full(struct tx *tx, struct broker_session *s)
{
    struct slow *sl = &s->queue->slow;
    if (sl->dropped++ > 0) {
        return;
    }
    sl->since_us = clock_mono_us();
    if (!tx_after_commit(tx, full_commit, full_undo, broker_session_ref(s))) {
        broker_session_unref(s);
    }
}

void slow_queue_room(struct broker *b, struct broker_session *s, bool ended)
{
    struct queue *q = s->queue;
    bool room = q->len <= b->settings.queue_max / 2 && q->bytes <= b->settings.queue_bytes_max / 2;
    if (is_over(&q->slow, ended, clock_mono_us()) && (room || ended)) {
        publish(b, s, q->slow.dropped);
        q->slow = (struct slow){0};
    }
}

// --- connections: their loop -------------------------------------------------------------------------------------

struct slow_op {
    struct op op;                   // first
    struct broker_session *session; // a reference
    struct link *link;              // a reference
    uint64_t dropped;
};

static enum status slow_run(struct tx *tx, struct op *op, struct err *err)
{
    const struct slow_op *so = (const struct slow_op *)op;
    struct event *ev = make_event(so->session, &so->link->who, SLOW_CONNECTION, so->dropped, tx->now_us);
    return ev != NULL && tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory for an event");
}

static void slow_done(struct op *op)
{
    struct slow_op *so = (struct slow_op *)op;
    if (op->status != ST_OK && op->status != ST_SHUTDOWN) {
        log_warn("broker", "nobody was told of a slow client", LOGS("error", op->err.text));
    }
    broker_session_unref(so->session);
    link_unref(so->link);
    free(so);
}

static void report(struct broker_loop *bl, struct broker_session *s, struct link *link, uint64_t dropped)
{
    write_log(s, SLOW_CONNECTION, dropped);
    struct slow_op *so = calloc(1, sizeof(*so));
    if (so == NULL) {
        log_warn("broker", "no memory to tell of a slow client", LOGSL("client", session_client_id(s)));
        return;
    }
    so->session = broker_session_ref(s);
    so->link = link_ref(link);
    so->dropped = dropped;
    so->op = (struct op){.run = slow_run, .done = slow_done, .reply_to = bl->loop, .name = "broker.slow"};
    core_submit(bl->broker->core, &so->op);
}

void broker_slow_dropped(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl)
{
    if (s != NULL && sl->dropped++ == 0) {
        sl->since_us = clock_mono_us();
        report(bl, s, link, 0);
    }
}

void broker_slow_room(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl, bool ended)
{
    if (sl->dropped > 0 && s != NULL && is_over(sl, ended, clock_mono_us())) {
        report(bl, s, link, sl->dropped);
        *sl = (struct slow){0};
    }
}
