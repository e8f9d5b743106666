// The way of a message to connections that need no storing: gathered for each loop over a turn, handed out at its end.
#include <stdlib.h>

#include "domain/broker/broker_priv.h"

#define JOBS_KEPT 4096 // a list that grew beyond this is not kept for the next turn

static void fan_clear(struct fan *f)
{
    for (size_t i = 0; i < f->len; i++) {
        message_unref(f->jobs[i].msg);
        match_unref(f->jobs[i].match);
    }
    f->len = 0;
    f->bytes = 0;
}

void fan_free(struct fan *f)
{
    if (f != NULL) {
        fan_clear(f);
        free(f->jobs);
        free(f);
    }
}

// What this subscriber gets of a run of messages. Durable ones with QoS > 0 come from the queue instead.
static size_t fill(const struct match *m, const struct match_target *t, const struct fan_job *jobs, size_t n,
                   struct delivery *d)
{
    uint64_t share = 0;
    for (uint32_t i = 0; t >= m->targets + m->targets_len && i < m->groups_len && share == 0; i++) {
        const struct match_target *first = m->targets + m->groups[i].first;
        share = t >= first && t < first + m->groups[i].len ? m->groups[i].id : 0;
    }
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        struct message *msg = jobs[i].msg;
        uint8_t qos = msg->qos < t->qos ? msg->qos : t->qos;
        if ((qos > 0 && t->durable) || (t->no_local && msg->from == t->serial)) {
            continue;
        }
        d[len++] = (struct delivery){.msg = msg,
                                     .qos = qos,
                                     .retain = msg->retain && t->retain_as_published,
                                     .share = share,
                                     .sub_ids = m->ids + t->first_id,
                                     .sub_ids_len = t->ids_len};
    }
    return len;
}

static void hand_out(struct broker_loop *bl, const struct match *m, uint32_t first, uint32_t end,
                     const struct fan_job *jobs, size_t n)
{
    for (uint32_t i = first; i < end; i++) {
        const struct match_target *t = &m->targets[i];
        size_t len = fill(m, t, jobs, n, bl->run);
        if (len == 0) {
            continue;
        }
        if (atomic_load_explicit(&t->link->retaining, memory_order_acquire) > 0 && bl->run[0].share == 0) {
            replay_deliver(bl, t->link, slice_make(m->topic, m->topic_len), bl->run, len);
        } else {
            bl->front.on_deliver(bl->front.arg, t->link, bl->run, len);
        }
    }
}

// Messages of one topic that stand together go to each connection at once.
static void run_jobs(struct broker_loop *bl, const struct fan *f)
{
    for (size_t i = 0; i < f->len;) {
        const struct match *m = f->jobs[i].match;
        uint32_t only = f->jobs[i].only;
        size_t n = 1;
        while (n < FAN_RUN_MAX && i + n < f->len && f->jobs[i + n].match == m && f->jobs[i + n].only == only) {
            n++;
        }
        if (only != FAN_ALL) {
            hand_out(bl, m, only, only + 1, &f->jobs[i], n);
        } else {
            hand_out(bl, m, m->starts[bl->at], m->starts[bl->at + 1], &f->jobs[i], n);
        }
        i += n;
    }
}

static void fan_arrived(struct post *p)
{
    struct fan *f = (struct fan *)p;
    run_jobs(f->to, f);
    atomic_fetch_sub_explicit(f->waiting, f->bytes, memory_order_relaxed);
    fan_free(f);
}

bool fan_put(struct broker_loop *from, unsigned to, struct message *m, struct match *match, uint32_t only)
{
    struct fan *f = from->fans[to];
    if (f == NULL) {
        f = calloc(1, sizeof(*f));
        if (f == NULL) {
            return false;
        }
        f->to = &from->broker->loops[to];
        f->waiting = &from->waiting;
        from->fans[to] = f;
    }
    if (f->len == f->cap) {
        size_t cap = f->cap > 0 ? f->cap * 2 : 32;
        struct fan_job *jobs = reallocarray(f->jobs, cap, sizeof(*jobs));
        if (jobs == NULL) {
            return false;
        }
        f->jobs = jobs;
        f->cap = cap;
    }
    f->jobs[f->len++] = (struct fan_job){message_ref(m), match_ref(match), only};
    f->bytes += message_bytes(m);
    return true;
}

bool fan_put_all(struct broker_loop *from, struct message *m, struct match *match)
{
    for (unsigned i = 0; i < from->broker->loops_len; i++) {
        if (match->starts[i] < match->starts[i + 1] && !fan_put(from, i, m, match, FAN_ALL)) {
            return false;
        }
    }
    return true;
}

void fan_flush(struct broker_loop *bl)
{
    for (unsigned i = 0; i < bl->broker->loops_len; i++) {
        struct fan *f = bl->fans[i];
        if (f == NULL || f->len == 0) {
            continue;
        }
        bl->fans[i] = NULL;
        if (i == bl->at) {
            run_jobs(bl, f);
            fan_clear(f);
            if (bl->fans[i] == NULL && f->cap <= JOBS_KEPT) {
                bl->fans[i] = f;
            } else {
                fan_free(f);
            }
            continue;
        }
        atomic_fetch_add_explicit(&bl->waiting, f->bytes, memory_order_relaxed);
        f->post.fn = fan_arrived;
        loop_post(f->to->loop, &f->post);
    }
}
