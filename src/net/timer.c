// Timers of a loop: a pairing heap threaded through the timers themselves, so that starting one needs no memory and cannot
// fail. Insert is O(1), removal O(log n) amortised. `child` is the first child, `next` the sibling to the right, `prev` the
// sibling to the left or, for a first child, the parent.
#include <assert.h>
#include <limits.h>

#include "net/loop_priv.h"

static bool before(const struct timer *a, const struct timer *b)
{
    return a->key_ms != b->key_ms ? a->key_ms < b->key_ms : a->seq < b->seq;
}

// Joins two heaps (roots without siblings); either may be NULL.
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    if (before(b, a)) {
        struct timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL) {
        a->child->prev = b;
    }
    a->child = b;
    return a;
}

// Joins a list of siblings into one heap: pairs from left to right, then the pairs from right to left.
static struct timer *meld_siblings(struct timer *first)
{
    struct timer *pairs = NULL;
    while (first != NULL) {
        struct timer *a = first;
        struct timer *b = a->next;
        first = b != NULL ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b != NULL) {
            b->next = b->prev = NULL;
        }
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct timer *root = NULL;
    while (pairs != NULL) {
        struct timer *rest = pairs->next;
        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

static void heap_insert(struct timer *t)
{
    t->child = t->next = t->prev = NULL;
    t->key_ms = t->due_ms;
    t->loop->timers = meld(t->loop->timers, t);
}

static void heap_remove(struct timer *t)
{
    struct loop *l = t->loop;
    struct timer *below = meld_siblings(t->child);
    if (t == l->timers) {
        l->timers = below;
    } else {
        if (t->prev->child == t) {
            t->prev->child = t->next;
        } else {
            t->prev->next = t->next;
        }
        if (t->next != NULL) {
            t->next->prev = t->prev;
        }
        l->timers = meld(l->timers, below);
    }
    t->child = t->next = t->prev = NULL;
}

void timer_init(struct timer *t, struct loop *l, void (*fn)(struct timer *t))
{
    *t = (struct timer){.fn = fn, .loop = l};
}

void timer_start(struct timer *t, uint32_t delay_ms, uint32_t repeat_ms)
{
    assert(t->fn != NULL);
    int64_t due_ms = loop_now_ms(t->loop) + delay_ms;
    t->repeat_ms = repeat_ms;
    t->due_ms = due_ms;
    if (t->armed && due_ms >= t->key_ms) {
        return; // it stays where it is and moves when its old time comes
    }
    if (t->armed) {
        heap_remove(t);
    }
    t->armed = true;
    t->seq = ++t->loop->timer_seq;
    heap_insert(t);
}

void timer_stop(struct timer *t)
{
    if (t->armed) {
        heap_remove(t);
        t->armed = false;
    }
}

int timers_wait_ms(const struct loop *l)
{
    if (l->timers == NULL) {
        return -1;
    }
    int64_t ms = l->timers->key_ms - l->now_ms;
    return ms <= 0 ? 0 : ms < INT_MAX ? (int)ms : INT_MAX;
}

// A timer that was pushed into the future goes to its new place; any other fires.
static void run_top(struct timer *t, int64_t now_ms)
{
    heap_remove(t);
    if (t->due_ms > t->key_ms) {
        heap_insert(t);
        return;
    }
    t->armed = t->repeat_ms > 0;
    if (t->armed) {
        t->due_ms += t->repeat_ms;
        if (t->due_ms <= now_ms) {
            t->due_ms = now_ms + t->repeat_ms; // the loop was held up: no burst of missed ticks
        }
        t->seq = ++t->loop->timer_seq;
        heap_insert(t);
    }
    t->fn(t);
}

void timers_run(struct loop *l)
{
    uint64_t seq = l->timer_seq; // timers started by these wait for the next turn, or a delay of 0 would never end
    for (struct timer *t = l->timers; t != NULL && t->key_ms <= l->now_ms && t->seq <= seq; t = l->timers) {
        loop_touch(l);
        run_top(t, l->now_ms);
    }
}

void timers_forget(struct loop *l)
{
    while (l->timers != NULL) {
        timer_stop(l->timers);
    }
}
