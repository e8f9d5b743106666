// What an operation has to tell others: messages into queues and to connections, held back until it is durable.
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker_priv.h"

void parcel_release(struct parcel *p)
{
    broker_session_unref(p->session);
    link_unref(p->link);
    message_unref(p->msg);
    free(p->ids);
    *p = (struct parcel){0};
}

static void work_free(struct work *w)
{
    for (size_t i = 0; i < w->parcels_len; i++) {
        parcel_release(&w->parcels[i]);
    }
    for (size_t i = 0; i < w->fans_len; i++) {
        message_unref(w->fans[i].msg);
        match_unref(w->fans[i].match);
    }
    free(w->parcels);
    free(w->fans);
    free(w);
}

static void work_deliver(struct work *w)
{
    struct broker *b = w->b;
    for (size_t i = 0; i < w->parcels_len; i++) {
        queue_stored(b, &w->parcels[i]);
    }
    parcels_flush(b);
    for (size_t i = 0; i < w->fans_len; i++) {
        const struct fan_job *f = &w->fans[i];
        bool ok = f->only == FAN_ALL ? fan_put_all(&b->out, f->msg, f->match)
                                     : fan_put(&b->out, f->match->targets[f->only].loop, f->msg, f->match, f->only);
        if (!ok) {
            log_error("broker", "no memory to deliver a message");
        }
    }
    fan_flush(&b->out);
    work_free(w);
}

static void later_arrived(struct post *p)
{
    work_deliver((struct work *)p);
}

// The answer to the client leaves before the next turn of the core's loop, so what waits for that comes after it.
static void work_commit(struct core *c, void *arg)
{
    struct work *w = arg;
    if (!w->later) {
        work_deliver(w);
        return;
    }
    for (size_t i = 0; i < w->parcels_len; i++) { // what is stored next must not overtake what is stored here
        struct queue *q = w->parcels[i].session->queue;
        if (w->parcels[i].seq != 0 && q != NULL) {
            q->behind = true;
            feed_list(w->b, w->parcels[i].session);
        }
    }
    w->post.fn = later_arrived;
    loop_post(core_loop(c), &w->post);
}

static void work_undo(struct core *c, void *arg)
{
    (void)c;
    struct work *w = arg;
    for (size_t i = 0; i < w->parcels_len; i++) { // it was counted when it was stored
        struct queue *q = w->parcels[i].session->queue;
        if (w->parcels[i].seq != 0 && q != NULL) {
            queue_less(w->b, w->parcels[i].session, w->parcels[i].bytes);
        }
    }
    work_free(w);
}

struct work *work_new(struct tx *tx, struct err *err)
{
    struct work *w = calloc(1, sizeof(*w));
    if (w != NULL) {
        w->b = broker_of(tx->core);
    }
    if (w == NULL || !tx_after_commit(tx, work_commit, work_undo, w)) {
        free(w);
        err_set(err, ST_NOMEM, "no memory for messages");
        return NULL;
    }
    return w;
}

bool work_parcel(struct work *w, struct parcel *p)
{
    if (w->parcels_len == w->parcels_cap) {
        size_t cap = w->parcels_cap > 0 ? w->parcels_cap * 2 : 16;
        struct parcel *more = reallocarray(w->parcels, cap, sizeof(*more));
        if (more == NULL) {
            parcel_release(p);
            return false;
        }
        w->parcels = more;
        w->parcels_cap = cap;
    }
    w->parcels[w->parcels_len++] = *p;
    return true;
}

static bool work_fan(struct work *w, struct message *m, struct match *match, uint32_t only)
{
    if (w->fans_len == w->fans_cap) {
        size_t cap = w->fans_cap > 0 ? w->fans_cap * 2 : 16;
        struct fan_job *more = reallocarray(w->fans, cap, sizeof(*more));
        if (more == NULL) {
            return false;
        }
        w->fans = more;
        w->fans_cap = cap;
    }
    w->fans[w->fans_len++] = (struct fan_job){message_ref(m), match_ref(match), only};
    return true;
}

// --- into the queues ---------------------------------------------------------------------------------------------

static uint8_t qos_of(const struct message *m, const struct match_target *t)
{
    return m->qos < t->qos ? m->qos : t->qos;
}

static bool queued(const struct message *m, const struct match_target *t)
{
    return t->durable && qos_of(m, t) > 0 && !(t->no_local && m->from == t->serial);
}

static struct queue_put put_of(const struct match *match, const struct match_target *t, const struct message *m,
                               struct group *g)
{
    return (struct queue_put){.qos = qos_of(m, t),
                              .retain = m->retain && t->retain_as_published,
                              .ids = match->ids + t->first_id,
                              .ids_len = t->ids_len,
                              .group = g};
}

// A message for several queues is stored once. Queues that are full are left out here and counted by queue_store.
static enum status store_all(struct tx *tx, struct work *w, struct message *m, const struct match *match,
                             struct err *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < match->targets_len; i++) {
        struct queue *q = NULL;
        if (!queued(m, &match->targets[i])) {
            continue;
        }
        enum status st = queue_need(tx, match->targets[i].session, &q, err);
        if (st != ST_OK) {
            return st;
        }
        n += !queue_full(w->b, q, message_bytes(m));
    }
    int64_t row = 0;
    enum status st = n > 1 ? queue_message_add(tx, w->b, m, n, &row, err) : ST_OK;
    for (uint32_t i = 0; i < match->targets_len && st == ST_OK; i++) {
        const struct match_target *t = &match->targets[i];
        if (queued(m, t)) {
            struct queue_put how = put_of(match, t, m, NULL);
            st = queue_store(tx, w, t->session, m, row, &how, err);
        }
    }
    return st;
}

// --- shared subscriptions ----------------------------------------------------------------------------------------

// How good a member is for the next message: connected with room, connected, offline but stored; 0: not at all.
static int fitness(const struct broker *b, const struct message *m, const struct match_target *t)
{
    const struct queue *q = t->session->queue;
    if (!t->session->listed) {
        return 0;
    }
    if (!t->durable || qos_of(m, t) == 0) {
        return t->link != NULL && !atomic_load_explicit(&t->link->full, memory_order_relaxed) ? 3 : 0;
    }
    if (q != NULL && queue_full(b, q, message_bytes(m))) {
        return 0;
    }
    if (t->link == NULL) {
        return 1;
    }
    return q != NULL && (q->behind || q->out_len >= q->window) ? 2 : 3;
}

// The next member in turn among the fittest; UINT32_MAX: nobody.
static uint32_t choose(const struct broker *b, const struct message *m, const struct match *match,
                       struct match_group *g, const struct broker_session *not_to)
{
    uint32_t best = UINT32_MAX;
    int best_fit = 0;
    for (uint32_t i = 0; i < g->len; i++) {
        uint32_t at = g->first + (g->turn + i) % g->len;
        const struct match_target *t = &match->targets[at];
        int fit = t->session != not_to ? fitness(b, m, t) : 0;
        if (fit > best_fit) {
            best = at;
            best_fit = fit;
        }
    }
    if (best != UINT32_MAX) {
        g->turn = best - g->first + 1;
    }
    return best;
}

static enum status to_group(struct tx *tx, struct work *w, struct message *m, struct match *match,
                            struct match_group *mg, const struct broker_session *not_to, struct err *err)
{
    uint32_t at = choose(w->b, m, match, mg, not_to);
    if (at == UINT32_MAX) {
        broker_count(COUNT_DROPPED_FULL, 1);
        return ST_OK;
    }
    const struct match_target *t = &match->targets[at];
    if (!queued(m, t)) {
        return work_fan(w, m, match, at) ? ST_OK : err_set(err, ST_NOMEM, "no memory for a message");
    }
    struct queue_put how = put_of(match, t, m, map_get_u64(&w->b->index.groups, mg->id));
    return queue_store(tx, w, t->session, m, 0, &how, err);
}

enum status work_publish_group(struct tx *tx, struct work *w, struct message *msg, struct group *g,
                               const struct broker_session *not_to, struct err *err)
{
    struct match *match = match_get(&w->b->cache, msg->tenant, message_topic(msg));
    if (match == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a message");
    }
    for (uint32_t i = 0; i < match->groups_len; i++) {
        if (match->groups[i].id == g->id) {
            return to_group(tx, w, msg, match, &match->groups[i], not_to, err);
        }
    }
    return ST_OK;
}

// --- both --------------------------------------------------------------------------------------------------------

enum status work_publish(struct tx *tx, struct work *w, struct message *msg, bool live, struct err *err)
{
    struct match *match = match_get(&w->b->cache, msg->tenant, message_topic(msg));
    if (match == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a message");
    }
    enum status st = match->durable && msg->qos > 0 ? store_all(tx, w, msg, match, err) : ST_OK;
    if (st == ST_OK && live && match->targets_len > 0 && !work_fan(w, msg, match, FAN_ALL)) {
        st = err_set(err, ST_NOMEM, "no memory for a message");
    }
    for (uint32_t i = 0; i < match->groups_len && st == ST_OK; i++) {
        if (live || (match->groups[i].durable && msg->qos > 0)) {
            st = to_group(tx, w, msg, match, &match->groups[i], NULL, err);
        }
    }
    return st;
}
