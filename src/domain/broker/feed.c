// Reading queues on: sessions whose store has more than their connection, a page each, as one operation.
#include <stdlib.h>

#include "base/log.h"
#include "base/reader.h"
#include "domain/broker/broker_priv.h"
#include "domain/broker/sql/broker_queue.sql.h"

#define SESSIONS_MAX 64  // of one operation
#define PAGE_MAX     200 // messages of one session and operation
#define PAGE_BYTES   (1u << 19)

// --- parcels to the loops ----------------------------------------------------------------------------------------

struct parcels {
    struct post post;
    struct broker_loop *to;
    size_t len, cap;
    struct parcel *items;
};

static void parcels_free(struct parcels *ps)
{
    if (ps == NULL) {
        return;
    }
    for (size_t i = 0; i < ps->len; i++) {
        parcel_release(&ps->items[i]);
    }
    free(ps->items);
    free(ps);
}

static struct delivery delivery_of(const struct parcel *p)
{
    return (struct delivery){.msg = p->msg,
                             .seq = p->seq,
                             .qos = p->qos,
                             .retain = p->retain,
                             .state = p->state,
                             .sub_ids = p->ids,
                             .sub_ids_len = p->ids_len};
}

// On the loop: what stands together for one connection goes to it at once.
static void parcels_arrived(struct post *post)
{
    struct parcels *ps = (struct parcels *)post;
    struct broker_loop *bl = ps->to;
    for (size_t i = 0; i < ps->len;) {
        struct link *link = ps->items[i].link;
        size_t n = 0;
        while (n < FAN_RUN_MAX && i < ps->len && ps->items[i].link == link) {
            bl->run[n++] = delivery_of(&ps->items[i++]);
        }
        bl->front.on_deliver(bl->front.arg, link, bl->run, n);
    }
    parcels_free(ps);
}

static bool grow(struct parcels *ps)
{
    if (ps->len < ps->cap) {
        return true;
    }
    size_t cap = ps->cap > 0 ? ps->cap * 2 : 16;
    struct parcel *more = reallocarray(ps->items, cap, sizeof(*more));
    if (more == NULL) {
        return false;
    }
    ps->items = more;
    ps->cap = cap;
    return true;
}

bool parcels_room(struct broker *b, unsigned loop)
{
    if (b->parcels[loop] == NULL) {
        b->parcels[loop] = calloc(1, sizeof(*b->parcels[loop]));
    }
    return b->parcels[loop] != NULL && grow(b->parcels[loop]);
}

void parcels_put(struct broker *b, unsigned loop, struct parcel *p)
{
    struct parcels *ps = b->parcels[loop];
    ps->items[ps->len++] = *p;
    *p = (struct parcel){0};
}

void parcels_flush(struct broker *b)
{
    for (unsigned i = 0; i < b->loops_len; i++) {
        struct parcels *ps = b->parcels[i];
        if (ps != NULL && ps->len > 0) {
            b->parcels[i] = NULL;
            ps->to = &b->loops[i];
            ps->post.fn = parcels_arrived;
            loop_post(ps->to->loop, &ps->post);
        }
    }
}

// --- the operation -----------------------------------------------------------------------------------------------

// What was read for one session.
struct feed_page {
    struct broker_session *session; // a reference
    struct link *link;              // a reference: the connection it was read for
    struct parcel *parcels;
    uint32_t parcels_len;
    uint64_t last; // the highest number looked at
    uint32_t dropped;
    uint64_t dropped_bytes;
    bool more;
};
struct feed {
    struct op op; // first
    struct broker *broker;
    bool busy; // with the core
    struct feed_page pages[SESSIONS_MAX];
    unsigned pages_len;
};

static void page_release(struct feed_page *p)
{
    for (uint32_t i = 0; i < p->parcels_len; i++) {
        parcel_release(&p->parcels[i]);
    }
    free(p->parcels);
    broker_session_unref(p->session);
    link_unref(p->link);
    *p = (struct feed_page){0};
}

static bool read_ids(struct slice blob, struct parcel *p)
{
    if (blob.len == 0) {
        return true;
    }
    p->ids = reallocarray(NULL, blob.len / 4, sizeof(*p->ids));
    if (p->ids == NULL) {
        return false;
    }
    struct reader r = reader_make(blob);
    while (reader_left(&r) >= 4) {
        p->ids[p->ids_len++] = rd_u32(&r);
    }
    return true;
}

// A row of broker_queue_page as a parcel; *ret_drop: it is not to be sent any more.
static enum status read_row(struct tx *tx, const struct broker_session *s, struct stmt *stmt, struct parcel *p,
                            bool *ret_drop, struct err *err)
{
    p->seq = (uint64_t)col_i64(stmt, 0);
    p->qos = (uint8_t)col_i64(stmt, 2);
    p->retain = col_i64(stmt, 3) != 0;
    p->bytes = (uint32_t)col_i64(stmt, 4);
    p->shared = col_i64(stmt, 10) != 0;
    bool before = p->seq <= s->queue->sent;
    if (col_i64(stmt, 1) != 0) {
        p->state = DELIVERY_RELEASED;
        return ST_OK;
    }
    p->state = before ? DELIVERY_AGAIN : DELIVERY_NEW;
    struct message_parts parts = {.tenant = s->tenant,
                                  .expires_us = col_i64(stmt, 5),
                                  .qos = p->qos,
                                  .topic = col_text(stmt, 7),
                                  .props = col_blob(stmt, 8),
                                  .payload = col_blob(stmt, 9)};
    bool expired = parts.expires_us != 0 && parts.expires_us <= tx->now_us && !before;
    bool denied = !permit_receive(s->permit, parts.topic); // S13: the permit of now counts
    *ret_drop = expired || denied;
    if (*ret_drop) {
        broker_count(expired ? COUNT_DROPPED_EXPIRED : COUNT_DROPPED_DENIED, 1);
        return ST_OK;
    }
    p->msg = message_stored(&parts);
    return p->msg != NULL && read_ids(col_blob(stmt, 6), p) ? ST_OK : err_set(err, ST_NOMEM, "no memory for a message");
}

static enum status read_rows(struct tx *tx, struct feed_page *page, uint32_t max, uint64_t drops[PAGE_MAX],
                             struct err *err)
{
    struct broker_session *s = page->session;
    STMT(stmt, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_PAGE]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, (int64_t)s->queue->pushed);
    stmt_bind_i64(stmt, 3, (int64_t)max + 1);
    uint64_t bytes = 0;
    for (uint32_t n = 0;; n++) {
        enum status st = stmt_step(stmt, &page->more, err);
        if (st != ST_OK || !page->more || n == max || bytes >= PAGE_BYTES) {
            return st;
        }
        struct parcel p = {.session = broker_session_ref(s)};
        bool drop = false;
        st = read_row(tx, s, stmt, &p, &drop, err);
        page->last = p.seq;
        bytes += p.bytes;
        if (st != ST_OK || drop) {
            drops[page->dropped] = p.seq;
            page->dropped += drop;
            page->dropped_bytes += drop ? p.bytes : 0;
            parcel_release(&p);
        } else {
            page->parcels[page->parcels_len++] = p;
        }
        if (st != ST_OK) {
            return st;
        }
    }
}

static enum status read_page(struct tx *tx, struct feed_page *page, struct err *err)
{
    const struct broker_session *s = page->session;
    const struct queue *q = s->queue;
    uint64_t drops[PAGE_MAX] = {0};
    page->more = true;
    page->last = q->pushed;
    if (q->out_len >= q->window) {
        return ST_OK;
    }
    uint32_t room = q->window - q->out_len;
    uint32_t max = room > PAGE_MAX ? PAGE_MAX : room;
    page->parcels = calloc(max, sizeof(*page->parcels));
    if (page->parcels == NULL) {
        return err_set(err, ST_NOMEM, "no memory to read a queue");
    }
    enum status st = read_rows(tx, page, max, drops, err);
    for (uint32_t i = 0; i < page->dropped && st == ST_OK; i++) {
        bool there = false;
        st = queue_delete(tx, s, drops[i], &there, err);
    }
    return st;
}

static void page_done(struct broker *b, struct feed_page *page)
{
    struct broker_session *s = page->session;
    struct queue *q = s->queue;
    if (!s->listed || page->link == NULL || s->link != page->link || q == NULL) {
        return; // whoever connects next begins anew
    }
    for (uint32_t i = 0; i < page->dropped; i++) {
        queue_less(b, s, (uint32_t)(page->dropped_bytes / page->dropped));
    }
    uint32_t i = 0;
    while (i < page->parcels_len && queue_push(b, s, &page->parcels[i])) {
        i++;
    }
    bool all = i == page->parcels_len;
    q->pushed = all && page->last > q->pushed ? page->last : q->pushed;
    q->behind = page->more || !all;
    if (q->behind && q->out_len <= q->window / 2) {
        feed_list(b, s);
    }
}

static void feed_commit(struct core *c, void *arg)
{
    struct feed *f = arg;
    struct broker *b = broker_of(c);
    for (unsigned i = 0; i < f->pages_len; i++) {
        page_done(b, &f->pages[i]);
        page_release(&f->pages[i]);
    }
    f->pages_len = 0;
    parcels_flush(b);
}

// Read again by the next tick.
static void feed_undo(struct core *c, void *arg)
{
    struct feed *f = arg;
    struct broker *b = broker_of(c);
    for (unsigned i = 0; i < f->pages_len; i++) {
        feed_list(b, f->pages[i].session);
        page_release(&f->pages[i]);
    }
    f->pages_len = 0;
}

// The next of the list; its reference is the caller's. NULL: none.
static struct broker_session *feed_next(struct broker *b)
{
    struct broker_session *s = b->feed;
    if (s != NULL) {
        b->feed = s->queue->feed_next;
        b->feed_last = b->feed != NULL ? b->feed_last : NULL;
        s->queue->feed_next = NULL;
        s->queue->feeding = false;
    }
    return s;
}

static enum status feed_run(struct tx *tx, struct op *op, struct err *err)
{
    struct feed *f = (struct feed *)op;
    if (!tx_after_commit(tx, feed_commit, feed_undo, f)) {
        return err_set(err, ST_NOMEM, "no memory to read queues");
    }
    while (f->pages_len < SESSIONS_MAX) {
        struct broker_session *s = feed_next(f->broker);
        if (s == NULL) {
            break;
        }
        struct feed_page *page = &f->pages[f->pages_len++];
        *page = (struct feed_page){.session = s};
        if (s->link == NULL || !s->listed || !s->queue->behind) {
            page->more = s->queue->behind;
            continue;
        }
        page->link = link_ref(s->link);
        enum status st = read_page(tx, page, err);
        if (st != ST_OK) {
            return err_wrap(err, "cannot read a queue");
        }
    }
    return ST_OK;
}

static void feed_done(struct op *op)
{
    struct feed *f = (struct feed *)op;
    f->busy = false;
    if (op->status == ST_OK) {
        feed_kick(f->broker);
    } else if (op->status != ST_SHUTDOWN && op->status != ST_BUSY) {
        log_warn("broker", "queues were not read on", LOGS("error", op->err.text));
    }
}

void feed_kick(struct broker *b)
{
    struct feed *f = b->feeding;
    if (b->feed == NULL || f->busy) {
        return;
    }
    f->busy = true;
    f->op = (struct op){.run = feed_run, .done = feed_done, .reply_to = core_loop(b->core), .name = "broker.feed"};
    core_submit(b->core, &f->op);
}

void feed_list(struct broker *b, struct broker_session *s)
{
    if (s->queue != NULL && !s->queue->feeding) {
        s->queue->feeding = true;
        s->queue->feed_next = NULL;
        if (b->feed_last != NULL) {
            b->feed_last->queue->feed_next = s;
        } else {
            b->feed = s;
        }
        b->feed_last = broker_session_ref(s);
        feed_kick(b);
    }
}

bool feed_init(struct broker *b)
{
    b->feeding = calloc(1, sizeof(*b->feeding));
    b->parcels = calloc(b->loops_len, sizeof(struct parcels *));
    if (b->feeding == NULL || b->parcels == NULL) {
        return false;
    }
    b->feeding->broker = b;
    return true;
}

void feed_release(struct broker *b)
{
    for (struct broker_session *s = feed_next(b); s != NULL; s = feed_next(b)) {
        broker_session_unref(s);
    }
    for (unsigned i = 0; b->parcels != NULL && i < b->loops_len; i++) {
        parcels_free(b->parcels[i]);
    }
    free(b->parcels);
    free(b->feeding);
    b->parcels = NULL;
    b->feeding = NULL;
}
