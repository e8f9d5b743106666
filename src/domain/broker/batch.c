// What a loop has for the core, gathered over a turn as one operation: messages that must be stored, acknowledgements.
//
//   batch:  FREE --first item--> GATHERING --turn ends and the core has room, or full--> SUBMITTED --done--> FREE
#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker_priv.h"

#define BATCH_ITEMS   4096
#define BATCH_BYTES   (1u << 20)
#define BATCHES_AHEAD 2 // as in ingest: beyond it a batch gathers on
#define FREE_MAX      4
#define FREE_CAP_MAX  8192 // a batch that grew beyond this is not kept
#define RETRY_MS      50
// Over these messages are refused as busy. A front stops reading long before (broker_pending).
#define PENDING_ITEMS (1u << 18)
#define PENDING_BYTES ((size_t)128 << 20)

struct item {
    struct message *msg;            // a reference
    struct broker_session *session; // a reference
    uint64_t share;
};
struct settle {
    struct broker_session *session; // a reference
    struct link *link;              // a reference
    uint64_t value;
    enum broker_settle what;
    bool there; // the core found it
};
struct batch {
    struct op op; // first
    struct broker_loop *owner;
    struct batch *next;
    struct item *items;
    struct broker_ack *acks; // parallel to items
    uint32_t items_len, items_cap, acks_cap;
    struct settle *settles;
    uint32_t settles_len, settles_cap;
    size_t bytes;
};

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

static void batch_free(struct batch *b)
{
    free(b->items);
    free(b->acks);
    free(b->settles);
    free(b);
}

static void batch_clear(struct batch *b)
{
    for (uint32_t i = 0; i < b->items_len; i++) {
        message_unref(b->items[i].msg);
        broker_session_unref(b->items[i].session);
    }
    for (uint32_t i = 0; i < b->settles_len; i++) {
        broker_session_unref(b->settles[i].session);
        link_unref(b->settles[i].link);
    }
    b->items_len = 0;
    b->settles_len = 0;
    b->bytes = 0;
}

static void batch_recycle(struct batch *b)
{
    struct broker_loop *bl = b->owner;
    batch_clear(b);
    if (bl->free_len >= FREE_MAX || b->items_cap > FREE_CAP_MAX || b->settles_cap > FREE_CAP_MAX) {
        batch_free(b);
        return;
    }
    b->next = bl->free_list;
    bl->free_list = b;
    bl->free_len++;
}

static struct batch *gather(struct broker_loop *bl)
{
    if (bl->gathering == NULL && bl->free_list != NULL) {
        bl->gathering = bl->free_list;
        bl->free_list = bl->gathering->next;
        bl->free_len--;
    } else if (bl->gathering == NULL) {
        bl->gathering = calloc(1, sizeof(*bl->gathering));
    }
    if (bl->gathering != NULL) {
        bl->gathering->owner = bl;
    }
    return bl->gathering;
}

// --- core thread -------------------------------------------------------------------------------------------------

// A message that a member of a group could not keep.
static enum status given_back(struct tx *tx, struct work *w, const struct item *it, struct err *err)
{
    struct group *g = map_get_u64(&w->b->index.groups, it->share);
    return g != NULL ? work_publish_group(tx, w, it->msg, g, NULL, err) : ST_OK;
}

static enum status store_item(struct tx *tx, struct work *w, const struct item *it, struct broker_ack *ack,
                              struct err *err)
{
    if (it->share != 0) {
        return given_back(tx, w, it, err);
    }
    const struct broker_session *s = it->session;
    bool once = it->msg->qos == 2 && s->row != 0, new = true;
    enum status st = once ? broker_inbound_put(tx, s, ack->conn, ack->packet_id, false, &new, err) : ST_OK;
    if (st != ST_OK || !new) {
        ack->status = new ? ack->status : ST_CONFLICT; // nobody is there to be told
        return st;
    }
    if (it->msg->retain) {
        const struct retained_by by = {s->owner_kind, s->owner, session_client_id(s)};
        st = retained_set(tx, it->msg, &by, err);
        if (st == ST_LIMIT) { // this one is refused, and nobody's queue has it
            ack->status = st;
            return once ? broker_inbound_drop(tx, s, ack->packet_id, err) : ST_OK;
        }
    }
    return st == ST_OK && it->msg->qos > 0 ? work_publish(tx, w, it->msg, once, err) : st;
}

// What comes from a connection that has lost the session since does not count: it belongs to another one's numbers.
static enum status store_settle(struct tx *tx, struct settle *se, struct err *err)
{
    const struct broker_session *s = se->session;
    se->there = false;
    if (s->link != se->link || s->ending > 0) {
        return ST_OK;
    }
    if (se->what == SETTLE_INBOUND) {
        return broker_inbound_drop(tx, s, (uint16_t)se->value, err);
    }
    if (s->queue == NULL || !queue_is_out(s->queue, se->value)) {
        return ST_OK;
    }
    return se->what == SETTLE_DONE ? queue_delete(tx, s, se->value, &se->there, err)
                                   : queue_received(tx, s, se->value, err);
}

// How many settles from i on are one run: of one connection, number after number, each message alone in its row. 0: none.
static uint32_t run_at(const struct batch *b, uint32_t i)
{
    const struct settle *first = &b->settles[i];
    const struct broker_session *s = first->session;
    bool fits = first->what == SETTLE_DONE && s->link == first->link && s->ending == 0 && s->queue != NULL;
    uint32_t n = 0;
    for (; fits && i + n < b->settles_len; n++) {
        const struct settle *se = &b->settles[i + n];
        if (se->what != SETTLE_DONE || se->session != s || se->link != first->link || se->value != first->value + n ||
            !queue_is_alone(s->queue, se->value)) {
            break;
        }
    }
    return n;
}

// Clients acknowledge in order, mostly: a run is one statement.
static enum status store_settles(struct tx *tx, struct batch *b, struct err *err)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < b->settles_len && st == ST_OK;) {
        struct settle *se = &b->settles[i];
        uint32_t n = run_at(b, i);
        if (n < 2) {
            st = store_settle(tx, se, err);
            i++;
            continue;
        }
        st = queue_delete_run(tx, se->session, se->value, se->value + n - 1, err);
        for (uint32_t end = i + n; i < end; i++) {
            b->settles[i].there = true; // with the connection: queue_settled counts each once
        }
    }
    return st;
}

static void batch_committed(struct core *c, void *arg)
{
    struct batch *b = arg;
    struct broker *broker = broker_of(c);
    for (uint32_t i = 0; i < b->settles_len; i++) {
        const struct settle *se = &b->settles[i];
        if (se->what == SETTLE_DONE && se->there && se->session->link == se->link) {
            queue_settled(broker, se->session, se->value);
        }
    }
}

static enum status batch_run(struct tx *tx, struct op *op, struct err *err)
{
    struct batch *b = (struct batch *)op;
    struct work *w = b->items_len > 0 ? work_new(tx, err) : NULL;
    if (b->items_len > 0 && w == NULL) {
        return ST_NOMEM;
    }
    if (!tx_after_commit(tx, batch_committed, NULL, b)) {
        return err_set(err, ST_NOMEM, "no memory for messages");
    }
    if (store_settles(tx, b, err) != ST_OK) {
        return err_wrap(err, "cannot store an acknowledgement");
    }
    for (uint32_t i = 0; i < b->items_len && w != NULL; i++) {
        enum status st = store_item(tx, w, &b->items[i], &b->acks[i], err);
        if (st != ST_OK) {
            return err_wrap(err, "cannot store a message");
        }
    }
    return ST_OK;
}

// --- loop thread: the outcome ------------------------------------------------------------------------------------

static bool put_settle(struct broker_loop *bl, const struct settle *se)
{
    struct batch *b = gather(bl);
    if (b == NULL || !ROOM(b, settles, settles_cap, settles_len)) {
        return false;
    }
    b->settles[b->settles_len++] = (struct settle){
        .session = broker_session_ref(se->session), .link = link_ref(se->link), .value = se->value, .what = se->what};
    return true;
}

// Acknowledgements cannot be refused: they come again after a while.
static void settle_again(struct broker_loop *bl, const struct batch *b)
{
    bool alone = bl->gathering == NULL;
    for (uint32_t i = 0; i < b->settles_len; i++) {
        if (!put_settle(bl, &b->settles[i])) {
            log_error("broker", "no memory for acknowledgements: messages will be sent again");
            break;
        }
    }
    if (alone && bl->gathering != NULL && !bl->hold) {
        bl->hold = true;
        timer_start(&bl->retry, RETRY_MS, 0);
    }
}

static void tell_settled(struct broker_loop *bl, const struct batch *b)
{
    for (uint32_t i = 0; i < b->settles_len; i++) {
        const struct settle *se = &b->settles[i];
        if (se->what != SETTLE_DONE) {
            bl->front.on_settled(bl->front.arg, se->link, se->value, se->what);
        }
    }
}

// Acknowledgements of QoS 0 are nobody's business: they are left out.
static size_t acks_of(struct batch *b)
{
    size_t n = 0;
    for (uint32_t i = 0; i < b->items_len; i++) {
        struct broker_ack a = b->acks[i];
        a.status = b->op.status != ST_OK ? b->op.status : a.status;
        if (a.packet_id != 0) {
            b->acks[n++] = a;
        }
    }
    return n;
}

static void batch_done(struct op *op)
{
    struct batch *b = (struct batch *)op;
    struct broker_loop *bl = b->owner;
    bl->submitted--;
    bl->pending -= b->items_len;
    bl->pending_bytes -= b->bytes;
    if (op->status == ST_OK) {
        tell_settled(bl, b);
    } else if (op->status != ST_SHUTDOWN) {
        settle_again(bl, b);
    }
    size_t n = acks_of(b);
    if (n > 0) {
        bl->front.on_acked(bl->front.arg, b->acks, n);
    }
    batch_recycle(b);
}

// --- loop thread: gathering --------------------------------------------------------------------------------------

static void submit(struct broker_loop *bl)
{
    struct batch *b = bl->gathering;
    bl->gathering = NULL;
    bl->submitted++;
    bl->pending += b->items_len;
    bl->pending_bytes += b->bytes;
    b->op = (struct op){.run = batch_run, .done = batch_done, .reply_to = bl->loop, .name = "broker.batch"};
    core_submit(bl->broker->core, &b->op);
}

void batch_turn_end(struct broker_loop *bl)
{
    if (bl->gathering != NULL && !bl->hold && bl->submitted < BATCHES_AHEAD) {
        submit(bl); // otherwise the turn in which a batch comes back does it
    }
}

void broker_flush(struct broker_loop *bl)
{
    if (bl->gathering != NULL && !bl->hold) {
        submit(bl);
    }
}

bool batch_put(struct broker_loop *bl, const struct broker_item *in)
{
    bl->hold = false;
    if (bl->gathering != NULL && (bl->gathering->items_len >= BATCH_ITEMS || bl->gathering->bytes >= BATCH_BYTES)) {
        submit(bl);
    }
    struct batch *b = gather(bl);
    if (b == NULL || !ROOM(b, items, items_cap, items_len) || !ROOM(b, acks, acks_cap, items_len)) {
        return false;
    }
    b->acks[b->items_len] =
        (struct broker_ack){.conn = in->conn, .packet_id = in->packet_id, .status = ST_OK, .matched = in->matched};
    b->items[b->items_len++] = (struct item){.msg = message_ref(in->msg),
                                             .session = in->session != NULL ? broker_session_ref(in->session) : NULL,
                                             .share = in->share};
    b->bytes += message_bytes(in->msg);
    return true;
}

bool batch_has_room(const struct broker_loop *bl)
{
    return bl->pending < PENDING_ITEMS && bl->pending_bytes < PENDING_BYTES;
}

void broker_settle(struct broker_loop *bl, struct broker_session *s, struct link *link, enum broker_settle what,
                   uint64_t seq_or_packet_id)
{
    const struct settle se = {.session = s, .link = link, .value = seq_or_packet_id, .what = what};
    bl->hold = false;
    if (bl->gathering != NULL && bl->gathering->settles_len >= BATCH_ITEMS) {
        submit(bl);
    }
    if (!put_settle(bl, &se)) {
        log_error("broker", "no memory for an acknowledgement: the message will be sent again");
    }
}

size_t broker_pending(const struct broker_loop *bl)
{
    // Bytes on their way to other loops count as messages of 1 KiB.
    size_t waiting = (size_t)atomic_load_explicit(&bl->waiting, memory_order_relaxed) >> 10;
    return bl->pending + waiting + (bl->gathering != NULL ? bl->gathering->items_len : 0);
}

static void retry_due(struct timer *t)
{
    struct broker_loop *bl = (struct broker_loop *)((char *)t - offsetof(struct broker_loop, retry));
    bl->hold = false; // the end of this turn submits
}

void batch_init(struct broker_loop *bl)
{
    timer_init(&bl->retry, bl->loop, retry_due);
}

void batch_release(struct broker_loop *bl)
{
    assert(bl->submitted == 0);
    if (bl->gathering != NULL) {
        batch_clear(bl->gathering);
        batch_free(bl->gathering);
        bl->gathering = NULL;
    }
    while (bl->free_list != NULL) {
        struct batch *next = bl->free_list->next;
        batch_free(bl->free_list);
        bl->free_list = next;
    }
}
