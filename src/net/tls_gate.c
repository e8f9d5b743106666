#include "net/tls_gate.h"

#include <assert.h>
#include <stddef.h>

static void queue_out(struct tls_seat *s)
{
    struct tls_queue *q = s->in;
    *(s->next != NULL ? &s->next->prev : &q->last) = s->prev;
    *(s->prev != NULL ? &s->prev->next : &q->first) = s->next;
    s->next = s->prev = NULL;
    s->in = NULL;
    q->len--;
}

static void queue_in(struct tls_queue *q, struct tls_seat *s, int64_t now_ms)
{
    s->in = q;
    s->since_ms = now_ms;
    s->next = NULL;
    s->prev = q->last;
    *(q->last != NULL ? &q->last->next : &q->first) = s;
    q->last = s;
    q->len++;
}

static void publish(struct tls_gate *g)
{
    atomic_store_explicit(&g->running, g->seated.len + g->late.len, memory_order_relaxed);
    atomic_store_explicit(&g->waiting, g->resuming.len + g->fresh.len, memory_order_relaxed);
}

static bool has_room(const struct tls_gate *g)
{
    return g->seated.len < g->max && g->starts < GATE_TURN_STARTS;
}

void tls_gate_init(struct tls_gate *g, void (*start)(void *arg), void (*expire)(void *arg))
{
    *g = (struct tls_gate){.max = 1, .start = start, .expire = expire};
}

bool tls_gate_enter(struct tls_gate *g, struct tls_seat *s, unsigned max, bool resumes, int64_t now_ms)
{
    assert(s->in == NULL && max > 0);
    g->max = max;
    bool now = g->resuming.len + g->fresh.len == 0 && has_room(g);
    if (now) {
        g->starts++;
        queue_in(&g->seated, s, now_ms);
    } else {
        queue_in(resumes ? &g->resuming : &g->fresh, s, now_ms);
        atomic_fetch_add_explicit(&g->waited, 1, memory_order_relaxed);
    }
    publish(g);
    return now;
}

void tls_gate_leave(struct tls_gate *g, struct tls_seat *s)
{
    if (s->in != NULL) {
        queue_out(s);
        publish(g);
    }
}

static void make_late(struct tls_gate *g, int64_t now_ms)
{
    struct tls_seat *oldest;
    while ((oldest = g->seated.first) != NULL && now_ms - oldest->since_ms >= GATE_SLOW_MS) {
        queue_out(oldest);
        queue_in(&g->late, oldest, now_ms);
    }
    while (g->late.len > g->max * GATE_LATE_FACTOR) {
        struct tls_seat *last = g->late.first;
        atomic_fetch_add_explicit(&g->expired, 1, memory_order_relaxed);
        g->expire(last->arg);
        assert(g->late.first != last);
    }
}

bool tls_gate_turn(struct tls_gate *g, int64_t now_ms)
{
    g->starts = 0;
    if (g->resuming.len + g->fresh.len == 0) {
        return false;
    }
    make_late(g, now_ms);
    while (has_room(g)) {
        struct tls_seat *s = g->resuming.first != NULL ? g->resuming.first : g->fresh.first;
        if (s == NULL) {
            break;
        }
        queue_out(s);
        queue_in(&g->seated, s, now_ms);
        g->starts++;
        g->start(s->arg); // may leave at once
    }
    publish(g);
    return g->resuming.len + g->fresh.len > 0 && g->seated.len < g->max;
}

int64_t tls_gate_due_ms(const struct tls_gate *g, int64_t now_ms)
{
    if (g->resuming.len + g->fresh.len == 0 || g->seated.first == NULL) {
        return -1;
    }
    int64_t left_ms = g->seated.first->since_ms + GATE_SLOW_MS - now_ms;
    return left_ms > 0 ? left_ms : 0;
}

void tls_gate_stats(const struct tls_gate *g, struct tls_gate_stats *out)
{
    out->running += atomic_load_explicit(&g->running, memory_order_relaxed);
    out->waiting += atomic_load_explicit(&g->waiting, memory_order_relaxed);
    out->waited += atomic_load_explicit(&g->waited, memory_order_relaxed);
    out->expired += atomic_load_explicit(&g->expired, memory_order_relaxed);
}
