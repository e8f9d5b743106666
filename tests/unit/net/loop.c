#include "net/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static struct loop *new_loop(void)
{
    struct err err = {0};
    struct loop *l = loop_new("test-loop", &err);
    assert_non_null(l);
    return l;
}

static void stop_by_timer(struct timer *t)
{
    loop_stop(t->loop);
}

// ---- timers ----

struct fired {
    struct timer timer;
    struct trace *trace;
    int id;
};
struct trace {
    int ids[64];
    size_t len;
};

static void note(struct timer *t)
{
    struct fired *f = (struct fired *)t;
    assert_true(f->trace->len < 64);
    f->trace->ids[f->trace->len++] = f->id;
}

static void timers_fire_in_order(void **state)
{
    (void)state;
    static const uint32_t delays_ms[] = {30, 10, 20, 10, 0, 25, 5, 10};
    static const int want[] = {4, 6, 1, 3, 7, 2, 5, 0};
    struct loop *l = new_loop();
    struct trace trace = {.len = 0};
    struct fired f[8];
    struct timer end;
    for (int i = 0; i < 8; i++) {
        f[i] = (struct fired){.trace = &trace, .id = i};
        timer_init(&f[i].timer, l, note);
        timer_start(&f[i].timer, delays_ms[i], 0);
    }
    timer_init(&end, l, stop_by_timer);
    timer_start(&end, 45, 0);
    loop_run(l);
    assert_int_equal(trace.len, 8);
    assert_memory_equal(trace.ids, want, sizeof(want));
    loop_free(l);
}

static void timer_restart_moves_both_ways(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct trace trace = {.len = 0};
    struct fired later = {.trace = &trace, .id = 1}, sooner = {.trace = &trace, .id = 2};
    struct fired stopped = {.trace = &trace, .id = 3};
    struct timer end;
    timer_init(&later.timer, l, note);
    timer_init(&sooner.timer, l, note);
    timer_init(&stopped.timer, l, note);
    timer_init(&end, l, stop_by_timer);
    timer_start(&later.timer, 5, 0);
    timer_start(&later.timer, 40, 0);
    timer_start(&sooner.timer, 1000, 0);
    timer_start(&sooner.timer, 20, 0);
    timer_start(&stopped.timer, 1, 0);
    timer_stop(&stopped.timer);
    timer_stop(&stopped.timer);
    timer_start(&end, 60, 0);
    loop_run(l);
    assert_int_equal(trace.len, 2);
    assert_int_equal(trace.ids[0], 2);
    assert_int_equal(trace.ids[1], 1);
    assert_false(later.timer.armed);
    loop_free(l);
}

static void timer_repeats_until_stopped(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct trace trace = {.len = 0};
    struct fired tick = {.trace = &trace, .id = 1};
    struct timer end;
    timer_init(&tick.timer, l, note);
    timer_init(&end, l, stop_by_timer);
    timer_start(&tick.timer, 10, 10);
    timer_start(&end, 55, 0);
    loop_run(l);
    assert_in_range(trace.len, 1, 5); // a loaded machine may miss ticks, but none comes twice
    loop_free(l);
}

struct zero {
    struct timer timer;
    unsigned runs;
};
static void again_at_once(struct timer *t)
{
    struct zero *z = (struct zero *)t;
    if (++z->runs == 1000) {
        loop_stop(t->loop);
        return;
    }
    timer_start(t, 0, 0);
}

static void timer_with_no_delay_leaves_room_for_others(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct zero z = {.runs = 0};
    timer_init(&z.timer, l, again_at_once);
    timer_start(&z.timer, 0, 0);
    loop_run(l); // ends only if the stop, which comes through the poll, is seen
    assert_int_equal(z.runs, 1000);
    loop_free(l);
}

struct many {
    struct timer timer;
    int64_t *last_due_ms;
    unsigned *runs;
};
static void in_due_order(struct timer *t)
{
    struct many *m = (struct many *)t;
    assert_true(t->due_ms >= *m->last_due_ms);
    *m->last_due_ms = t->due_ms;
    ++*m->runs;
}

// 20,000 timers, each moved and a third of them stopped: the heap keeps its order.
static void timers_many(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct loop *l = new_loop();
    struct many *m = calloc(N, sizeof(*m));
    assert_non_null(m);
    int64_t last_due_ms = 0;
    unsigned runs = 0, expected = 0;
    uint32_t seed = 12345;
    for (int i = 0; i < N; i++) {
        m[i] = (struct many){.last_due_ms = &last_due_ms, .runs = &runs};
        timer_init(&m[i].timer, l, in_due_order);
        timer_start(&m[i].timer, 60 + i % 7, 0);
    }
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525 + 1013904223;
        timer_start(&m[i].timer, 10 + seed % 100, 0);
        if (i % 3 == 0) {
            timer_stop(&m[i].timer);
        } else {
            expected++;
        }
    }
    struct timer end;
    timer_init(&end, l, stop_by_timer);
    timer_start(&end, 150, 0);
    loop_run(l);
    assert_int_equal(runs, expected);
    free(m);
    loop_free(l);
}

// ---- posts ----

struct msg {
    struct post post;
    struct inbox *inbox;
    unsigned from;
    unsigned n;
};
struct inbox {
    struct loop *loop;
    unsigned next[4];
    unsigned total;
    unsigned want;
};

static void on_msg(struct post *p)
{
    struct msg *m = (struct msg *)p;
    struct inbox *in = m->inbox;
    assert_true(loop_is_current(in->loop));
    assert_int_equal(m->n, in->next[m->from]); // one sender's messages keep their order
    in->next[m->from]++;
    if (++in->total == in->want) {
        loop_stop(in->loop);
    }
    free(m);
}

struct sender {
    struct inbox *inbox;
    unsigned from;
    unsigned count;
    bool chained;
};

static struct msg *new_msg(struct inbox *in, unsigned from, unsigned n)
{
    struct msg *m = malloc(sizeof(*m));
    if (m == NULL) {
        abort();
    }
    *m = (struct msg){.post = {.fn = on_msg}, .inbox = in, .from = from, .n = n};
    return m;
}

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < s->count; i += 4) {
        struct msg *m[4];
        for (unsigned k = 0; k < 4; k++) {
            m[k] = new_msg(s->inbox, s->from, i + k);
        }
        if (s->chained) {
            m[0]->post.next = &m[1]->post;
            m[1]->post.next = &m[2]->post;
            m[2]->post.next = &m[3]->post;
            loop_post_chain(s->inbox->loop, &m[0]->post, &m[3]->post);
        } else {
            for (unsigned k = 0; k < 4; k++) {
                loop_post(s->inbox->loop, &m[k]->post);
            }
        }
    }
    return NULL;
}

static void posts_from_threads_arrive_once_and_in_order(void **state)
{
    (void)state;
    enum { PER_THREAD = 20000 };
    struct inbox in = {.loop = new_loop(), .want = 4 * PER_THREAD};
    struct sender s[4];
    pthread_t th[4];
    assert_int_equal(loop_start(in.loop, NULL), ST_OK);
    for (unsigned i = 0; i < 4; i++) {
        s[i] = (struct sender){&in, i, PER_THREAD, i % 2 == 1};
        assert_int_equal(pthread_create(&th[i], NULL, send_all, &s[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(th[i], NULL);
    }
    loop_join(in.loop);
    assert_int_equal(in.total, 4 * PER_THREAD);
    loop_free(in.loop);
}

struct echo_post {
    struct post post;
    struct loop *loop;
    int left;
};
static void post_again(struct post *p)
{
    struct echo_post *e = (struct echo_post *)p;
    if (--e->left > 0) {
        loop_post(e->loop, p);
    } else {
        loop_stop(e->loop);
    }
}

static void post_may_be_reused_inside_fn(void **state)
{
    (void)state;
    struct echo_post e = {.post = {.fn = post_again}, .loop = new_loop(), .left = 100};
    loop_post(e.loop, &e.post);
    loop_run(e.loop);
    assert_int_equal(e.left, 0);
    loop_free(e.loop);
}

static void count_post(struct post *p)
{
    ((struct echo_post *)p)->left--;
}

static void posts_before_stop_still_run(void **state)
{
    (void)state;
    struct echo_post e = {.post = {.fn = count_post}, .loop = new_loop(), .left = 1};
    loop_stop(e.loop);
    loop_post(e.loop, &e.post);
    loop_run(e.loop);
    assert_int_equal(e.left, 0);
    loop_free(e.loop);

    struct echo_post never = {.post = {.fn = count_post}, .loop = new_loop(), .left = 1};
    loop_post(never.loop, &never.post);
    loop_free(never.loop); // a loop that never ran
    assert_int_equal(never.left, 0);
}

// ---- turns, threads, signals ----

struct hook {
    struct turn_hook hook;
    struct trace *trace;
    int id;
};
static void note_turn(struct turn_hook *h)
{
    struct hook *k = (struct hook *)h;
    if (k->trace->len < 64) {
        k->trace->ids[k->trace->len++] = k->id;
    }
}

static void hooks_run_once_per_busy_turn(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct trace trace = {.len = 0};
    struct hook a = {{.fn = note_turn}, &trace, 1}, b = {{.fn = note_turn}, &trace, 2};
    struct fired f = {.trace = &trace, .id = 9}, g = {.trace = &trace, .id = 9};
    struct timer end;
    loop_on_turn_end(l, &a.hook);
    loop_on_turn_end(l, &b.hook);
    timer_init(&f.timer, l, note);
    timer_init(&g.timer, l, note);
    timer_init(&end, l, stop_by_timer);
    timer_start(&f.timer, 5, 0);
    timer_start(&g.timer, 5, 0);
    timer_start(&end, 20, 0);
    loop_run(l);
    // Two timers in one turn, its end once, in order; then the turn of the stop.
    static const int want[] = {9, 9, 1, 2, 1, 2};
    assert_true(trace.len >= 6);
    assert_memory_equal(trace.ids, want, sizeof(want));
    loop_free(l);
}

static void *is_current_elsewhere(void *arg)
{
    return loop_is_current(arg) ? arg : NULL;
}
static void check_current(struct timer *t)
{
    assert_true(loop_is_current(t->loop));
    char name[16] = "";
    assert_int_equal(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
    assert_string_equal(name, "test-loop");
    pthread_t other;
    void *result = t;
    assert_int_equal(pthread_create(&other, NULL, is_current_elsewhere, t->loop), 0);
    pthread_join(other, &result);
    assert_null(result);
    loop_stop(t->loop);
}
static void arm_current(struct post *p)
{
    struct {
        struct post post;
        struct timer timer;
    } *both = (void *)p;
    timer_start(&both->timer, 1, 0);
}

static void loop_knows_its_thread(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    struct {
        struct post post;
        struct timer timer;
    } both = {.post = {.fn = arm_current}};
    timer_init(&both.timer, l, check_current);
    assert_false(loop_is_current(l));
    loop_post(l, &both.post);
    assert_int_equal(loop_start(l, NULL), ST_OK);
    loop_join(l);
    assert_false(loop_is_current(l));
    loop_free(l);
}

static void on_usr1(void *arg, int signum)
{
    assert_int_equal(signum, SIGUSR1);
    loop_stop(arg);
}

static void signals_reach_the_loop(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    assert_int_equal(loop_on_signal(l, SIGUSR1, on_usr1, l, NULL), ST_OK);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    loop_run(l);
    struct err err = {0};
    loop_free(l);
    l = new_loop();
    assert_int_equal(loop_on_signal(l, SIGKILL, on_usr1, l, &err), ST_INVALID);
    assert_true(strlen(err.text) > 0);
    loop_free(l);
    loop_free(NULL);
}

static void clock_goes_on(void **state)
{
    (void)state;
    struct loop *l = new_loop();
    int64_t before_ms = loop_now_ms(l);
    struct timer end;
    timer_init(&end, l, stop_by_timer);
    timer_start(&end, 20, 0);
    int64_t start_us = clock_mono_us();
    loop_run(l);
    assert_true(loop_now_ms(l) - before_ms >= 20);
    assert_true(clock_mono_us() - start_us >= 19000);
    loop_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(timer_restart_moves_both_ways),
        cmocka_unit_test(timer_repeats_until_stopped),
        cmocka_unit_test(timer_with_no_delay_leaves_room_for_others),
        cmocka_unit_test(timers_many),
        cmocka_unit_test(posts_from_threads_arrive_once_and_in_order),
        cmocka_unit_test(post_may_be_reused_inside_fn),
        cmocka_unit_test(posts_before_stop_still_run),
        cmocka_unit_test(hooks_run_once_per_busy_turn),
        cmocka_unit_test(loop_knows_its_thread),
        cmocka_unit_test(signals_reach_the_loop),
        cmocka_unit_test(clock_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
