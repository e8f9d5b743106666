#include "domain/telemetry/ingest.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/when.h"
#include "domain/presence/presence.h"
#include "domain/telemetry/payload.h"
#include "domain/telemetry/value.h"
#include "proto/cbor.h"

#define FREE_MAX       4          // batches kept for reuse
#define FREE_BYTES_MAX (4u << 20) // a batch that grew beyond this is not kept
#define CBOR_TEXT_MAX  (1u << 20) // JSON text of one CBOR payload
#define EVENT_TEXT_MAX (256u << 10)
#define RETRY_MS       50 // refusals the core had no room for are submitted again

struct taken {
    uint32_t first_group, groups;
    bool dup;
    bool once; // its packet id is kept in the run's session
};
// Messages of one connection that stand together.
struct run {
    struct link *link;              // one reference
    struct broker_session *session; // one reference, when one of the messages needs it
    uint32_t first, len;
};
struct made_event {
    struct event *ev; // one reference
};
struct refusal {
    struct link *link; // one reference
    enum status why;
    uint64_t n; // all of them in link->in_flight
};

struct batch {
    struct op op; // first
    struct ingest *owner;
    struct batch *next;
    int64_t now_us; // when the batch began: near enough to tell a time that lies a day ahead
    struct payload data;
    struct taken *messages;
    struct ingest_ack *acks; // parallel to messages
    struct run *runs;
    struct refusal *refusals;
    struct made_event *events; // by the core, for listeners
    uint32_t messages_len, messages_cap, acks_cap;
    uint32_t runs_len, runs_cap;
    uint32_t refusals_len, refusals_cap;
    uint32_t events_len, events_cap;
    bool ran; // the core took it: every message is accounted for, or will be by its hooks
};

struct ingest {
    struct turn_hook hook; // first
    struct core *core;
    struct loop *loop;
    ingest_acked_fn acked;
    void *arg;
    struct batch *gathering; // NULL: nothing came in this turn
    struct batch *free_list;
    unsigned free_len;
    unsigned submitted;   // batches
    size_t pending;       // messages in them
    size_t pending_bytes; // text in them
    bool hold;            // only refusals of a busy core: wait for the timer
    struct timer retry;
    struct buf cbor; // JSON text of a CBOR payload
};

// Room for one more item: false when there is no memory.
static bool room(void **items, uint32_t *cap, uint32_t len, size_t size)
{
    if (len < *cap) {
        return true;
    }
    uint32_t more_cap = *cap > 0 ? *cap * 2 : 16;
    void *more = reallocarray(*items, more_cap, size);
    if (more == NULL) {
        return false;
    }
    *items = more;
    *cap = more_cap;
    return true;
}
#define ROOM(b, items, cap, len) room((void **)&(b)->items, &(b)->cap, (b)->len, sizeof(*(b)->items))

// --- batches -----------------------------------------------------------------------------------------------------

static void batch_free(struct batch *b)
{
    payload_release(&b->data);
    free(b->messages);
    free(b->acks);
    free(b->runs);
    free(b->refusals);
    free(b->events);
    free(b);
}

static size_t batch_memory(const struct batch *b)
{
    return payload_memory(&b->data) + b->messages_cap * (sizeof(*b->messages) + sizeof(*b->acks));
}

static void batch_recycle(struct batch *b)
{
    struct ingest *in = b->owner;
    for (uint32_t i = 0; i < b->runs_len; i++) {
        link_unref(b->runs[i].link);
        broker_session_unref(b->runs[i].session);
    }
    for (uint32_t i = 0; i < b->refusals_len; i++) {
        link_unref(b->refusals[i].link);
    }
    if (in->free_len >= FREE_MAX || batch_memory(b) > FREE_BYTES_MAX) {
        batch_free(b);
        return;
    }
    payload_clear(&b->data);
    b->messages_len = 0;
    b->runs_len = 0;
    b->refusals_len = 0;
    b->events_len = 0;
    b->ran = false;
    b->next = in->free_list;
    in->free_list = b;
    in->free_len++;
}

// The batch of this turn. NULL: no memory.
static struct batch *gather(struct ingest *in)
{
    if (in->gathering == NULL) {
        if (in->free_list != NULL) {
            in->gathering = in->free_list;
            in->free_list = in->gathering->next;
            in->free_len--;
        } else {
            in->gathering = calloc(1, sizeof(*in->gathering));
        }
        if (in->gathering != NULL) {
            in->gathering->owner = in;
            in->gathering->now_us = clock_wall_us();
        }
    }
    return in->gathering;
}

static bool batch_full(const struct batch *b)
{
    return b->messages_len >= INGEST_BATCH_MESSAGES || b->data.bytes >= INGEST_BATCH_BYTES;
}

// --- I/O thread: the fate comes back -----------------------------------------------------------------------------

// `n` messages, all in link->in_flight, are refused; consecutive ones of one link and reason are one entry.
static void refuse_n(struct ingest *in, struct link *link, enum status why, uint64_t n)
{
    struct batch *b = gather(in);
    if (b != NULL && b->refusals_len > 0) {
        struct refusal *last = &b->refusals[b->refusals_len - 1];
        if (last->link == link && last->why == why) {
            last->n += n;
            return;
        }
    }
    if (b == NULL || !ROOM(b, refusals, refusals_cap, refusals_len)) {
        ledger_lost(link, n);
        return;
    }
    b->refusals[b->refusals_len++] = (struct refusal){.link = link_ref(link), .why = why, .n = n};
}

// The core never saw the batch (queue full, no memory): nothing is counted yet. What it held goes into the next one, as
// refused. When the server stops, nobody counts any more: nothing of it was acknowledged.
static void count_again(struct ingest *in, const struct batch *b)
{
    if (b->op.status == ST_SHUTDOWN) {
        return;
    }
    bool alone = in->gathering == NULL;
    for (uint32_t i = 0; i < b->runs_len; i++) {
        refuse_n(in, b->runs[i].link, b->op.status, b->runs[i].len);
    }
    for (uint32_t i = 0; i < b->refusals_len; i++) {
        refuse_n(in, b->refusals[i].link, b->refusals[i].why, b->refusals[i].n);
    }
    if (alone && !in->hold) {
        in->hold = true;
        timer_start(&in->retry, RETRY_MS, 0);
    }
}

static void batch_done(struct op *op)
{
    struct batch *b = (struct batch *)op;
    struct ingest *in = b->owner;
    in->submitted--;
    in->pending -= b->messages_len;
    in->pending_bytes -= b->data.bytes;
    if (op->status != ST_OK) {
        for (uint32_t i = 0; i < b->messages_len; i++) {
            b->acks[i].status = op->status;
        }
        if (!b->ran) {
            count_again(in, b);
        }
    }
    if (b->messages_len > 0) {
        in->acked(in->arg, b->acks, b->messages_len);
    }
    batch_recycle(b);
}

// --- core thread: the commit has decided -------------------------------------------------------------------------

static void leave_in_flight(struct link *link, uint64_t n)
{
    atomic_fetch_sub_explicit(&link->in_flight, (uint32_t)n, memory_order_relaxed);
}

static void batch_committed(struct core *c, void *arg)
{
    struct batch *b = arg;
    for (uint32_t i = 0; i < b->runs_len; i++) {
        leave_in_flight(b->runs[i].link, b->runs[i].len);
    }
    for (uint32_t i = 0; i < b->refusals_len; i++) {
        leave_in_flight(b->refusals[i].link, b->refusals[i].n);
    }
    for (uint32_t i = 0; i < b->events_len; i++) {
        events_publish(core_events(c), b->events[i].ev);
    }
    b->events_len = 0;
}

// The state store is committed first: it has kept the ids of points that are not there.
static void forget_ids(struct core *c, const struct batch *b, const struct run *r)
{
    for (uint32_t i = r->first; i < r->first + r->len; i++) {
        if (b->messages[i].once && b->acks[i].status == ST_OK) {
            broker_inbound_lost(c, r->session, b->acks[i].packet_id);
        }
    }
}

static void batch_undone(struct core *c, void *arg)
{
    struct batch *b = arg;
    for (uint32_t i = 0; i < b->events_len; i++) {
        event_unref(b->events[i].ev);
    }
    b->events_len = 0;
    for (uint32_t i = 0; i < b->runs_len; i++) {
        ledger_late(c, b->runs[i].link, b->op.status, b->runs[i].len);
        forget_ids(c, b, &b->runs[i]);
    }
    for (uint32_t i = 0; i < b->refusals_len; i++) {
        ledger_late(c, b->refusals[i].link, b->refusals[i].why, b->refusals[i].n);
    }
    batch_committed(c, b);
}

// --- core thread: the operation ----------------------------------------------------------------------------------

static struct event *make_event(const struct batch *b, const struct link *link, const struct payload_group *g,
                                int64_t ts_us)
{
    struct buf text = buf_heap(EVENT_TEXT_MAX);
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_key(&w, "device");
    jw_str(&w, link->who.name);
    jw_key(&w, "ts");
    jw_time_ms(&w, ts_us);
    jw_key(&w, "values");
    jw_object(&w);
    for (uint32_t i = 0; i < g->len; i++) {
        const struct payload_point *p = &b->data.points[g->first + i];
        jw_key_slice(&w, p->metric);
        value_write(&w, &p->value);
    }
    jw_object_end(&w);
    jw_object_end(&w);
    struct event *ev =
        text.failed ? NULL
                    : event_new(EV_TELEMETRY, link->who.tenant, link->who.row, link->who.name, ts_us, buf_view(&text));
    buf_release(&text);
    return ev;
}

// For listeners only; one that cannot be made for lack of memory is left out of the stream, the data is stored all the same.
static void add_event(struct batch *b, const struct link *link, const struct payload_group *g, int64_t ts_us)
{
    struct event *ev = ROOM(b, events, events_cap, events_len) ? make_event(b, link, g, ts_us) : NULL;
    if (ev != NULL) {
        b->events[b->events_len++].ev = ev;
    }
}

// What is known about a message while its points are staged.
struct staging {
    struct tx *tx;
    struct batch *b;
    struct link *link;
    struct ts_device *series;
    bool events; // somebody listens
};

static enum status stage_group(const struct staging *s, struct payload_group *g, bool dup, uint32_t *ret_there)
{
    if (g->ts_us == PAYLOAD_NO_TIME) {
        g->ts_us = ts_assign_time(s->series, s->tx->now_us);
    }
    for (uint32_t i = 0; i < g->len; i++) {
        const struct payload_point *p = &s->b->data.points[g->first + i];
        bool there = false;
        enum status st = ts_put(s->tx->ts, s->series, g->ts_us, p->metric, p->hash, p->value, dup, dup ? &there : NULL);
        if (st != ST_OK) {
            return st;
        }
        *ret_there += there;
    }
    return ST_OK;
}

// *ret_duplicate: all of its points were there before.
static enum status stage_points(const struct staging *s, const struct taken *m, bool *ret_duplicate)
{
    uint32_t there = 0;
    uint32_t points = 0;
    for (uint32_t i = 0; i < m->groups; i++) {
        struct payload_group *g = &s->b->data.groups[m->first_group + i];
        enum status st = stage_group(s, g, m->dup, &there);
        if (st != ST_OK) {
            return st;
        }
        points += g->len;
    }
    *ret_duplicate = there == points;
    return ST_OK;
}

// One message is whole or not there; either way it is counted.
static enum status stage_message(const struct staging *s, const struct taken *m)
{
    struct ts_mark mark = ts_mark(s->tx->ts);
    bool duplicate = false;
    enum status st = stage_points(s, m, &duplicate);
    if (st == ST_OK) {
        st = ledger_stage(s->tx, s->series, ST_OK, duplicate, 1);
    }
    if (st != ST_OK) {
        ts_undo(s->tx->ts, mark);
        if (ledger_stage(s->tx, s->series, st, false, 1) != ST_OK) {
            ledger_late(s->tx->core, s->link, st, 1);
        }
        return st;
    }
    for (uint32_t i = 0; s->events && i < m->groups; i++) {
        const struct payload_group *g = &s->b->data.groups[m->first_group + i];
        add_event(s->b, s->link, g, g->ts_us);
    }
    return ST_OK;
}

// Where a connection's points go; NULL: its device was deleted. Only the current connection's pointer is kept true by
// presence; one that was taken over looks the device up.
static struct ts_device *series_of(struct tx *tx, const struct link *link)
{
    if (presence_link(tx->core, link->who.row) == link) {
        return link->ts;
    }
    struct device_ref d;
    return device_find_row(tx, link->who.row, &d, NULL) == ST_OK ? ts_device(tx->ts, d.tenant, d.row) : NULL;
}

static enum status stage(const struct staging *s, const struct taken *m)
{
    return s->series != NULL ? stage_message(s, m) : ST_FORBIDDEN;
}

// A message with QoS 2, whose packet id is kept. One that comes when another connection has the session is counted as refused:
// it comes again there.
static enum status stage_once(const struct staging *s, const struct run *r, uint32_t at, struct err *err)
{
    struct ingest_ack *ack = &s->b->acks[at];
    bool new = true;
    enum status st = broker_inbound_put(s->tx, r->session, r->link->conn, ack->packet_id, true, &new, err);
    if (st != ST_OK) {
        return st;
    }
    ack->status = new ? stage(s, &s->b->messages[at]) : ST_CONFLICT;
    if (new) {
        return ack->status != ST_OK ? broker_inbound_drop(s->tx, r->session, ack->packet_id, err) : ST_OK;
    }
    if (s->series != NULL && ledger_stage(s->tx, s->series, ST_CONFLICT, false, 1) != ST_OK) {
        ledger_late(s->tx->core, s->link, ST_CONFLICT, 1);
    }
    return ST_OK;
}

static enum status stage_run(struct tx *tx, struct batch *b, const struct run *r, struct err *err)
{
    struct staging s = {.tx = tx,
                        .b = b,
                        .link = r->link,
                        .series = series_of(tx, r->link),
                        .events = events_wanted(core_events(tx->core), EV_TELEMETRY, r->link->who.tenant)};
    for (uint32_t i = r->first; i < r->first + r->len; i++) {
        enum status st = b->messages[i].once ? stage_once(&s, r, i, err) : ST_OK;
        if (st != ST_OK) {
            return st; // for all of the batch: the message is staged, and must not be without its id
        }
        if (!b->messages[i].once) {
            b->acks[i].status = stage(&s, &b->messages[i]);
        }
    }
    presence_seen(tx->core, r->link->who.row, tx->now_us);
    return ST_OK;
}

static enum status batch_run(struct tx *tx, struct op *op, struct err *err)
{
    struct batch *b = (struct batch *)op;
    if (!tx_after_commit(tx, batch_committed, batch_undone, b)) {
        return err_set(err, ST_NOMEM, "no memory for a batch of telemetry");
    }
    b->ran = true;
    for (uint32_t i = 0; i < b->runs_len; i++) {
        enum status st = stage_run(tx, b, &b->runs[i], err);
        if (st != ST_OK) {
            return st;
        }
    }
    for (uint32_t i = 0; i < b->refusals_len; i++) {
        const struct refusal *r = &b->refusals[i];
        struct ts_device *series = series_of(tx, r->link);
        if (series != NULL && ledger_stage(tx, series, r->why, false, r->n) != ST_OK) {
            ledger_late(tx->core, r->link, r->why, r->n);
        }
    }
    return ST_OK;
}

// --- I/O thread: gathering ---------------------------------------------------------------------------------------

static void submit(struct ingest *in)
{
    struct batch *b = in->gathering;
    in->gathering = NULL;
    in->submitted++;
    in->pending += b->messages_len;
    in->pending_bytes += b->data.bytes;
    b->op = (struct op){.run = batch_run, .done = batch_done, .reply_to = in->loop, .name = "telemetry.ingest"};
    core_submit(in->core, &b->op);
}

static void turn_end(struct turn_hook *h)
{
    struct ingest *in = (struct ingest *)h;
    if (in->gathering != NULL && !in->hold && in->submitted < INGEST_BATCHES_AHEAD) {
        submit(in); // otherwise the turn in which a batch comes back does it
    }
}

static void retry_due(struct timer *t)
{
    struct ingest *in = (struct ingest *)((char *)t - offsetof(struct ingest, retry));
    in->hold = false; // the end of this turn submits
}

struct ingest *ingest_new(struct core *core, struct loop *loop, ingest_acked_fn acked, void *arg)
{
    struct ingest *in = calloc(1, sizeof(*in));
    if (in == NULL) {
        return NULL;
    }
    in->core = core;
    in->loop = loop;
    in->acked = acked;
    in->arg = arg;
    in->cbor = buf_heap(CBOR_TEXT_MAX);
    in->hook.fn = turn_end;
    timer_init(&in->retry, loop, retry_due);
    loop_on_turn_end(loop, &in->hook);
    return in;
}

void ingest_free(struct ingest *in)
{
    if (in == NULL) {
        return;
    }
    assert(in->submitted == 0);
    timer_stop(&in->retry);
    if (in->gathering != NULL) {
        batch_recycle(in->gathering);
    }
    while (in->free_list != NULL) {
        struct batch *next = in->free_list->next;
        batch_free(in->free_list);
        in->free_list = next;
    }
    buf_release(&in->cbor);
    free(in);
}

// The payload as JSON text that lives as long as the batch.
static enum status take_text(struct ingest *in, struct batch *b, struct slice payload, struct slice content_type,
                             struct slice *ret, struct err *err)
{
    bool cbor = slice_eq(content_type, SLICE("application/cbor")) ||
                (!slice_eq(content_type, SLICE("application/json")) && cbor_likely(payload));
    if (cbor) {
        struct cbor_limits limits = cbor_limits_default();
        buf_clear(&in->cbor);
        enum status st = cbor_to_json(payload, &limits, &in->cbor, err);
        if (st != ST_OK) {
            return st;
        }
        payload = buf_view(&in->cbor);
    }
    *ret = payload_copy(&b->data, payload);
    return ret->p != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for the message");
}

static bool message_room(struct batch *b)
{
    return ROOM(b, messages, messages_cap, messages_len) && ROOM(b, acks, acks_cap, messages_len) &&
           ROOM(b, runs, runs_cap, runs_len);
}

static void add_message(struct batch *b, struct link *from, struct broker_session *once, const struct taken *m,
                        uint16_t packet_id)
{
    if (b->runs_len == 0 || b->runs[b->runs_len - 1].link != from) {
        b->runs[b->runs_len++] = (struct run){.link = link_ref(from), .first = b->messages_len};
    }
    struct run *r = &b->runs[b->runs_len - 1];
    r->len++;
    if (once != NULL && r->session == NULL) {
        r->session = broker_session_ref(once);
    }
    b->acks[b->messages_len] = (struct ingest_ack){.conn = from->conn, .packet_id = packet_id, .status = ST_OK};
    b->messages[b->messages_len++] = *m;
    ledger_received(from);
}

static enum status put(struct ingest *in, struct link *from, struct broker_session *once, uint16_t packet_id, bool dup,
                       struct slice payload, struct slice content_type, struct err *err)
{
    if (in->pending >= INGEST_PENDING_MESSAGES || in->pending_bytes >= INGEST_PENDING_BYTES) {
        return err_set(err, ST_BUSY, "the store is behind; try again shortly");
    }
    struct batch *b = gather(in);
    if (b == NULL || !message_room(b)) {
        return err_set(err, ST_NOMEM, "no memory for the message");
    }
    struct slice text = {NULL, 0};
    enum status st = take_text(in, b, payload, content_type, &text, err);
    struct taken m = {.first_group = b->data.groups_len, .dup = dup, .once = once != NULL};
    if (st == ST_OK) {
        st = payload_decode(&b->data, text, b->now_us, err);
    }
    if (st == ST_OK) {
        m.groups = b->data.groups_len - m.first_group;
        add_message(b, from, once, &m, packet_id);
    }
    return st;
}

enum status ingest_put(struct ingest *in, struct link *from, struct broker_session *once, uint16_t packet_id, bool dup,
                       struct slice payload, struct slice content_type, struct err *err)
{
    if (from->who.kind != WHO_DEVICE) {
        return err_set(err, ST_FORBIDDEN, "only a device sends telemetry");
    }
    in->hold = false;
    if (in->gathering != NULL && batch_full(in->gathering)) {
        submit(in);
    }
    enum status st = put(in, from, once, packet_id, dup, payload, content_type, err);
    if (st != ST_OK) {
        ingest_refused(in, from, st);
    }
    return st;
}

void ingest_refused(struct ingest *in, struct link *from, enum status why)
{
    if (from->who.kind == WHO_DEVICE) {
        ledger_received(from);
        ingest_failed(in, from, why);
    }
}

void ingest_failed(struct ingest *in, struct link *from, enum status why)
{
    assert(why != ST_OK && from->who.kind == WHO_DEVICE);
    in->hold = false;
    refuse_n(in, from, why, 1);
}

void ingest_flush(struct ingest *in)
{
    if (in->gathering != NULL && !in->hold) {
        submit(in);
    }
}

size_t ingest_pending(const struct ingest *in)
{
    return in->pending + (in->gathering != NULL ? in->gathering->messages_len : 0);
}

bool ingest_behind(const struct ingest *in)
{
    return in->pending_bytes >= INGEST_PENDING_BYTES / 2;
}
