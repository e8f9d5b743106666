// An event loop with its thread, a queue other threads post to, timers, and a hook at the end of each turn.
//
// The shape of all code above: act inside a turn by noting what to do, act once at the turn's end, flush once. Only this
// folder includes uv.h.
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct loop;

struct loop *loop_new(const char *name, struct err *err); // name: thread name, at most 15 bytes, copied; NULL: see err
enum status loop_start(struct loop *l, struct err *err);  // starts the thread
// Runs the loop on the calling thread instead of loop_start, until loop_stop. SIGPIPE stays blocked on a thread that ran one.
void loop_run(struct loop *l);
// Any thread. The loop closes its listeners and connections (CLOSE_SHUTDOWN), runs what was posted until then, and ends.
// What is posted later is never run.
void loop_stop(struct loop *l);
void loop_join(struct loop *l); // waits for the thread of loop_start; no effect when there is none
void loop_free(struct loop *l); // after loop_join or loop_run; NULL is allowed; also for a loop that never ran
bool loop_is_current(const struct loop *l);
int64_t loop_now_ms(const struct loop *l); // monotonic, cached at the start of the turn; loop thread only

// Work handed to a loop from any thread. Intrusive: embed it; it may be reused or freed once fn has been entered.
struct post {
    struct post *next;
    void (*fn)(struct post *p);
};
void loop_post(struct loop *l, struct post *p); // any thread; wakes the loop at most once a burst
void loop_post_chain(struct loop *l, struct post *first, struct post *last); // linked through next; order is kept

// Called at the end of every turn in which something ran, in order of registration, on the loop's thread.
struct turn_hook {
    struct turn_hook *next;
    void (*fn)(struct turn_hook *h);
};
// Before the loop runs or on its thread. The hook must live as long as the loop.
void loop_on_turn_end(struct loop *l, struct turn_hook *h);

// One-shot or repeating timer; lives in the caller's memory. All calls on the loop's thread. Starting allocates nothing and
// cannot fail; pushing an armed timer further into the future (keep-alive) costs a few stores.
struct timer {
    void (*fn)(struct timer *t); // may restart, stop or free the timer
    struct loop *loop;
    int64_t due_ms;     // on the loop's clock
    uint32_t repeat_ms; // 0: once
    bool armed;
    // The rest is private to timer.c: place in the loop's heap.
    int64_t key_ms; // at most due_ms: where the heap holds it
    uint64_t seq;   // equal keys fire in order of their start
    struct timer *child, *next, *prev;
};
void timer_init(struct timer *t, struct loop *l, void (*fn)(struct timer *t));
void timer_start(struct timer *t, uint32_t delay_ms, uint32_t repeat_ms); // restarts when armed; repeat 0: once
void timer_stop(struct timer *t); // no effect when not armed; the memory may go after it

// SIGTERM/SIGINT/SIGHUP on this loop, at most LOOP_SIGNALS_MAX. Before the loop runs or on its thread.
#define LOOP_SIGNALS_MAX 8
enum status loop_on_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg, struct err *err);

#endif
