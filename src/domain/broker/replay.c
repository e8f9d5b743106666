// Retained messages on their way to a new subscriber, as fast as its connection takes them.
//
//   job:  READING --page read--> OFFERED --the connection has taken all of it--> READING ... --after the last page--> (freed)
//          |   ^                    \--no room: until broker_more
//   failed v   | timer
//         RETRYING
//
// A live message must not be followed by an older retained one of its topic. So what comes for a topic whose retained message
// is still to be sent waits here (struct hold) until that one has left. When too much would have to wait, the newer message
// goes at once and the retained one of its topic is left out: the subscriber has something newer.
//
// The core makes a job and reads its pages; the rest happens on the loop of the connection. While the core reads a page it
// has `at` and `page`, the loop has the rest.
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker_priv.h"

#define PAGE_ROWS      256
#define PAGE_BYTES     (64u << 10) // a page ends with the message that reaches it
#define RETRY_MS       50
#define HELD_MAX       1000 // live messages of one connection that wait for retained ones
#define HELD_BYTES_MAX (1u << 20)

enum replay_state { REPLAY_READING, REPLAY_OFFERED, REPLAY_RETRYING };

struct replay_page {
    struct message *msg; // a reference
    size_t index;        // of its row
};
struct replay {
    struct op op;        // first
    struct replay *next; // of the same connection
    struct broker_loop *home;
    struct broker_session *session; // a reference
    struct link *link;              // a reference: the connection that has subscribed
    struct hold *hold;              // the connection's; NULL before the first page has come
    struct buf filter;
    uint32_t id; // subscription identifier
    uint8_t qos;
    enum replay_state state;
    size_t from, at; // rows of this page: from where, how far
    size_t done;     // rows before this one have left
    size_t page_len, page_at;
    struct replay_page page[PAGE_ROWS];
    uint8_t *superseded; // malloc'ed with the first: rows that are not sent any more
    size_t len;
    struct replay_row rows[]; // in the order of their hashes
};

struct held {
    struct held *next;
    uint64_t hash;
    struct message *msg; // a reference
    uint8_t qos;
    bool retain;
    unsigned ids_len;
    uint32_t ids[];
};
// What a connection with jobs waits for. Its loop's.
struct hold {
    struct hold *next, *prev; // of the loop
    struct link *link;        // a reference
    struct replay *jobs;      // that have come to the loop
    uint32_t jobs_len;
    bool busy; // messages of it are being delivered
    struct held *first, *last;
    uint32_t len;
    size_t bytes;
};

static void page_clear(struct replay *j)
{
    for (size_t i = j->page_at; i < j->page_len; i++) {
        message_unref(j->page[i].msg);
    }
    j->page_len = j->page_at = 0;
}

static void replay_free(struct replay *j)
{
    page_clear(j);
    broker_session_unref(j->session);
    link_unref(j->link);
    buf_release(&j->filter);
    free(j->superseded);
    free(j);
}

// --- what waits --------------------------------------------------------------------------------------------------

static struct hold *hold_need(struct broker_loop *bl, struct link *link)
{
    struct hold *h = link->hold;
    if (h != NULL) {
        return h;
    }
    h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return NULL;
    }
    h->link = link_ref(link);
    h->next = bl->holds;
    if (h->next != NULL) {
        h->next->prev = h;
    }
    bl->holds = h;
    link->hold = h;
    return h;
}

static void hold_free(struct broker_loop *bl, struct hold *h)
{
    if (h->prev != NULL) {
        h->prev->next = h->next;
    } else {
        bl->holds = h->next;
    }
    if (h->next != NULL) {
        h->next->prev = h->prev;
    }
    while (h->first != NULL) {
        struct held *d = h->first;
        h->first = d->next;
        message_unref(d->msg);
        free(d);
    }
    h->link->hold = NULL;
    link_unref(h->link);
    free(h);
}

// The first row of the job with this hash that has not left; j->len: none.
static size_t row_of(const struct replay *j, uint64_t hash)
{
    size_t low = j->done;
    size_t high = j->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (j->rows[mid].hash < hash) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < j->len && j->rows[low].hash == hash ? low : j->len;
}

static bool is_superseded(const struct replay *j, size_t i)
{
    return j->superseded != NULL && (j->superseded[i / 8] >> (i % 8) & 1) != 0;
}

// Are there jobs whose first page has not come? Nobody knows their topics here.
static bool jobs_unknown(const struct link *link, const struct hold *h)
{
    return atomic_load_explicit(&link->retaining, memory_order_acquire) > (h != NULL ? h->jobs_len : 0);
}

// Is a retained message of this topic still to be sent?
static bool awaited(const struct hold *h, uint64_t hash)
{
    for (const struct replay *j = h->jobs; j != NULL; j = j->next) {
        for (size_t i = row_of(j, hash); i < j->len && j->rows[i].hash == hash; i++) {
            if (!is_superseded(j, i)) {
                return true;
            }
        }
    }
    return false;
}

// False: no memory.
static bool supersede(struct hold *h, uint64_t hash)
{
    for (struct replay *j = h->jobs; j != NULL; j = j->next) {
        for (size_t i = row_of(j, hash); i < j->len && j->rows[i].hash == hash; i++) {
            if (j->superseded == NULL) {
                j->superseded = calloc(1, j->len / 8 + 1);
            }
            if (j->superseded == NULL) {
                return false;
            }
            j->superseded[i / 8] |= (uint8_t)(1U << (i % 8));
            broker_count(COUNT_DROPPED_SUPERSEDED, 1);
        }
    }
    return true;
}

static struct held *held_take(struct hold *h, struct held **at, struct held *before)
{
    struct held *d = *at;
    *at = d->next;
    h->last = h->last == d ? before : h->last;
    h->len--;
    h->bytes -= message_bytes(d->msg);
    return d;
}

// Live messages whose topic waits for nothing any more go out, in their order.
static void hold_let_go(struct broker_loop *bl, struct hold *h)
{
    if (h->first == NULL || jobs_unknown(h->link, h)) {
        return;
    }
    struct held *before = NULL;
    for (struct held **at = &h->first; *at != NULL;) {
        if (awaited(h, (*at)->hash)) {
            before = *at;
            at = &(*at)->next;
            continue;
        }
        struct held *d = held_take(h, at, before);
        const struct delivery out = {
            .msg = d->msg, .qos = d->qos, .retain = d->retain, .sub_ids = d->ids, .sub_ids_len = d->ids_len};
        bl->front.on_deliver(bl->front.arg, h->link, &out, 1);
        message_unref(d->msg);
        free(d);
    }
}

static bool held_put(struct hold *h, uint64_t hash, const struct delivery *in)
{
    struct held *d = malloc(sizeof(*d) + in->sub_ids_len * sizeof(d->ids[0]));
    if (d == NULL) {
        return false;
    }
    *d = (struct held){
        .hash = hash, .msg = message_ref(in->msg), .qos = in->qos, .retain = in->retain, .ids_len = in->sub_ids_len};
    for (unsigned i = 0; i < in->sub_ids_len; i++) {
        d->ids[i] = in->sub_ids[i];
    }
    if (h->last != NULL) {
        h->last->next = d;
    } else {
        h->first = d;
    }
    h->last = d;
    h->len++;
    h->bytes += message_bytes(in->msg);
    return true;
}

// One live message. True: it waits, or is lost and counted.
static bool hold_one(struct broker_loop *bl, struct hold *h, uint64_t hash, const struct delivery *d)
{
    bool unknown = jobs_unknown(h->link, h);
    if (!unknown && !awaited(h, hash)) {
        return false;
    }
    bool room = h->len < HELD_MAX && h->bytes + message_bytes(d->msg) <= HELD_BYTES_MAX;
    if (room && held_put(h, hash, d)) {
        return true;
    }
    if (!unknown && supersede(h, hash)) {
        hold_let_go(bl, h); // those of its topic that wait come before it
        return false;
    }
    broker_count(COUNT_DROPPED_FULL, 1);
    return true;
}

void replay_deliver(struct broker_loop *bl, struct link *to, struct slice topic, const struct delivery *d, size_t n)
{
    struct hold *h = hold_need(bl, to);
    uint64_t hash = hash_bytes(topic);
    for (size_t i = 0; i < n; i++) {
        if (h == NULL) {
            log_error("broker", "no memory to deliver a message", LOGSL("topic", topic));
            broker_count(COUNT_DROPPED_FULL, 1);
        } else if (!hold_one(bl, h, hash, &d[i])) {
            bl->front.on_deliver(bl->front.arg, to, &d[i], 1);
        }
    }
}

// --- the core: reading a page ------------------------------------------------------------------------------------

// Another connection has the session, or the subscription has ended.
static bool nobody_wants(const struct broker *b, const struct replay *j)
{
    const struct broker_session *s = j->session;
    if (s->link != j->link || s->ending > 0) {
        return true;
    }
    const struct sub *sub = index_find(&b->index, s->subs, s->tenant, buf_view(&j->filter));
    return sub == NULL || !sub->wanted;
}

static enum status replay_run(struct tx *tx, struct op *op, struct err *err)
{
    struct replay *j = (struct replay *)op;
    size_t bytes = 0;
    j->from = j->at;
    if (nobody_wants(broker_of(tx->core), j)) {
        j->at = j->len;
    }
    while (j->at < j->len && j->page_len < PAGE_ROWS && bytes < PAGE_BYTES) {
        struct message *m = NULL;
        enum status st = retained_read(tx, j->session, j->rows[j->at].row, &m, err);
        if (st != ST_OK) {
            return err_wrap(err, "cannot read retained messages");
        }
        if (m != NULL) {
            j->page[j->page_len++] = (struct replay_page){m, j->at};
            bytes += message_bytes(m);
        }
        j->at++;
    }
    return ST_OK;
}

// --- the loop: handing it to the connection ----------------------------------------------------------------------

static void replay_submit(struct replay *j)
{
    j->state = REPLAY_READING;
    core_submit(j->home->broker->core, &j->op);
}

static bool has_room(const struct broker_loop *bl, struct link *to)
{
    return bl->front.has_room == NULL || bl->front.has_room(bl->front.arg, to);
}

static void offer_one(struct replay *j)
{
    const struct replay_page p = j->page[j->page_at++];
    j->done = p.index;
    if (!is_superseded(j, p.index)) {
        const struct delivery d = {.msg = p.msg,
                                   .qos = p.msg->qos < j->qos ? p.msg->qos : j->qos,
                                   .retain = true,
                                   .sub_ids = &j->id,
                                   .sub_ids_len = j->id != 0};
        j->home->front.on_deliver(j->home->front.arg, j->link, &d, 1);
    }
    message_unref(p.msg);
    j->done = p.index + 1;
}

// Hands over what there is room for. True: the job is at its end.
static bool replay_offer(struct replay *j)
{
    while (j->page_at < j->page_len && has_room(j->home, j->link)) {
        offer_one(j);
    }
    if (j->page_at < j->page_len) {
        return false;
    }
    j->page_len = j->page_at = 0;
    j->done = j->at;
    if (j->at < j->len) {
        replay_submit(j);
        return false;
    }
    return true;
}

static void job_end(struct hold *h, struct replay *j)
{
    struct replay **at = &h->jobs;
    while (*at != j) {
        at = &(*at)->next;
    }
    *at = j->next;
    h->jobs_len--;
    atomic_fetch_sub_explicit(&j->link->retaining, 1, memory_order_relaxed);
    replay_free(j);
}

// Goes on with all jobs of a connection that wait for room.
static void hold_go_on(struct broker_loop *bl, struct hold *h)
{
    if (h->busy) {
        return; // from within on_deliver
    }
    h->busy = true;
    struct replay *next = NULL;
    for (struct replay *j = h->jobs; j != NULL; j = next) {
        next = j->next;
        if (j->state == REPLAY_OFFERED && replay_offer(j)) {
            job_end(h, j);
        }
    }
    hold_let_go(bl, h);
    h->busy = false;
    if (h->jobs_len == 0 && !jobs_unknown(h->link, h)) {
        hold_free(bl, h);
    }
}

void broker_more(struct broker_loop *bl, struct link *link)
{
    if (link->hold != NULL) {
        hold_go_on(bl, link->hold);
    }
}

static void retry_later(struct replay *j)
{
    j->state = REPLAY_RETRYING;
    timer_start(&j->home->replay_retry, RETRY_MS, 0);
}

static void retry_due(struct timer *t)
{
    struct broker_loop *bl = (struct broker_loop *)((char *)t - offsetof(struct broker_loop, replay_retry));
    for (struct hold *h = bl->holds; h != NULL; h = h->next) {
        for (struct replay *j = h->jobs; j != NULL; j = j->next) {
            if (j->state == REPLAY_RETRYING) {
                replay_submit(j);
            }
        }
    }
}

// The first page: the loop learns of the job. False: no memory, what it would send is lost.
static bool job_known(struct replay *j)
{
    struct hold *h = hold_need(j->home, j->link);
    if (h == NULL) {
        return false;
    }
    j->hold = h;
    j->next = h->jobs;
    h->jobs = j;
    h->jobs_len++;
    return true;
}

static void replay_done(struct op *op)
{
    struct replay *j = (struct replay *)op;
    if (j->hold == NULL && !job_known(j)) {
        log_error("broker", "no memory to send retained messages", LOGSL("client", session_client_id(j->session)));
        atomic_fetch_sub_explicit(&j->link->retaining, 1, memory_order_relaxed);
        replay_free(j);
        return;
    }
    if (op->status != ST_OK) {
        page_clear(j);
        j->at = op->status == ST_SHUTDOWN ? j->len : j->from;
    }
    if (op->status != ST_OK && op->status != ST_SHUTDOWN) {
        retry_later(j);
        return;
    }
    j->state = REPLAY_OFFERED;
    hold_go_on(j->home, j->hold);
}

// --- life --------------------------------------------------------------------------------------------------------

static void start_commit(struct core *c, void *arg)
{
    struct replay *j = arg;
    (void)c;
    // Before the index shows the subscription, so that the first live message finds it.
    atomic_fetch_add_explicit(&j->link->retaining, 1, memory_order_release);
    replay_submit(j);
}

static void start_undo(struct core *c, void *arg)
{
    (void)c;
    replay_free(arg);
}

static int by_hash(const void *a, const void *b)
{
    const struct replay_row *x = a;
    const struct replay_row *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

enum status replay_start(struct tx *tx, struct broker_session *s, const struct broker_sub *sub,
                         const struct replay_row *rows, size_t len, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct replay *j = calloc(1, sizeof(*j) + len * sizeof(j->rows[0]));
    struct buf filter = buf_heap(sub->filter.len);
    if (j == NULL || !buf_slice(&filter, sub->filter)) {
        buf_release(&filter);
        free(j);
        return err_set(err, ST_NOMEM, "no memory to send retained messages");
    }
    j->filter = filter;
    j->home = &b->loops[s->loop];
    j->session = broker_session_ref(s);
    j->link = link_ref(s->link);
    j->qos = sub->qos;
    j->id = sub->id;
    for (size_t i = 0; i < len; i++) {
        j->rows[j->len++] = rows[i];
    }
    qsort(j->rows, j->len, sizeof(j->rows[0]), by_hash);
    j->op = (struct op){.run = replay_run, .done = replay_done, .reply_to = j->home->loop, .name = "broker.retained"};
    if (!tx_after_commit(tx, start_commit, start_undo, j)) {
        replay_free(j);
        return err_set(err, ST_NOMEM, "no memory to send retained messages");
    }
    return ST_OK;
}

void replay_init(struct broker_loop *bl)
{
    timer_init(&bl->replay_retry, bl->loop, retry_due);
}

void replay_release(struct broker_loop *bl)
{
    while (bl->holds != NULL) {
        struct hold *h = bl->holds;
        while (h->jobs != NULL) {
            job_end(h, h->jobs);
        }
        hold_free(bl, h);
    }
}
