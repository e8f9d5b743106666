// Events: order, filters, resume, gaps, the slow listener, ending from inside a callback.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/events.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct seen {
    pthread_mutex_t lock;
    int events, gaps;
    uint64_t last_seq;
    bool in_order;
    struct events_sub *sub;
    bool end_inside;
};

struct fixture {
    struct loop *loop;
    struct events *events;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;
    f->loop = loop_new("test", &err);
    f->events = events_new(100, 1 << 20);
    assert_non_null(f->loop);
    assert_non_null(f->events);
    assert_int_equal(loop_start(f->loop, &err), ST_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loop_stop(f->loop);
    loop_join(f->loop);
    loop_free(f->loop);
    events_free(f->events);
    free(f);
    return 0;
}

static void deliver(void *arg, const struct event *ev)
{
    struct seen *s = arg;
    pthread_mutex_lock(&s->lock);
    s->in_order = s->in_order && ev->seq > s->last_seq;
    s->last_seq = ev->seq;
    s->events++;
    pthread_mutex_unlock(&s->lock);
    if (s->end_inside) {
        events_unlisten(s->sub);
    }
}

static void gap(void *arg)
{
    struct seen *s = arg;
    pthread_mutex_lock(&s->lock);
    s->gaps++;
    pthread_mutex_unlock(&s->lock);
}

struct call {
    struct post post;
    struct fixture *f;
    struct events_filter filter;
    struct seen *seen;
    char last_id[EVENT_ID_MAX];
    bool end;
    _Atomic bool done;
};

static void call_run(struct post *p)
{
    struct call *c = (struct call *)p;
    if (c->end) {
        events_unlisten(c->seen->sub);
    } else if (c->seen != NULL) {
        c->seen->sub =
            events_listen(c->f->events, c->f->loop, &c->filter, slice_str(c->last_id), deliver, gap, c->seen);
    }
    c->done = true;
}

static void call_on_loop(struct call *c)
{
    c->post.fn = call_run;
    c->done = false;
    loop_post(c->f->loop, &c->post);
    while (!c->done) {
        usleep(200);
    }
}

static struct seen *listen(struct fixture *f, uint32_t tenant, uint32_t types, const char *device, const char *last_id)
{
    struct seen *s = calloc(1, sizeof(*s));
    pthread_mutex_init(&s->lock, NULL);
    s->in_order = true;
    struct call c = {.f = f, .filter = {.tenant = tenant, .types = types}, .seen = s};
    snprintf(c.filter.device_id, sizeof(c.filter.device_id), "%s", device);
    snprintf(c.last_id, sizeof(c.last_id), "%s", last_id);
    call_on_loop(&c);
    assert_non_null(s->sub);
    return s;
}

static void end(struct fixture *f, struct seen *s)
{
    struct call c = {.f = f, .seen = s, .end = true};
    call_on_loop(&c);
}

// Returns when the loop has done what was posted before.
static void pass(struct fixture *f)
{
    struct call c = {.f = f};
    call_on_loop(&c);
}

static void publish(struct fixture *f, enum event_type type, uint32_t tenant, const char *device)
{
    struct event *ev = event_new(type, tenant, 1, device, 0, SLICE("{}"));
    assert_non_null(ev);
    events_publish(f->events, ev);
}

static void wait_events(struct seen *s, int n)
{
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&s->lock);
        int have = s->events;
        pthread_mutex_unlock(&s->lock);
        if (have >= n) {
            return;
        }
        usleep(1000);
    }
    fail_msg("only %d of %d events came", s->events, n);
}

static void test_filters(void **state)
{
    struct fixture *f = *state;
    struct seen *all = listen(f, 1, 1U << EV_TWIN | 1U << EV_PRESENCE, "", "");
    struct seen *one = listen(f, 1, 1U << EV_TWIN, "d1", "");
    struct seen *other = listen(f, 2, UINT32_MAX, "", "");
    publish(f, EV_TWIN, 1, "d1");
    publish(f, EV_TWIN, 1, "d2");
    publish(f, EV_PRESENCE, 1, "d1");
    publish(f, EV_COMMAND, 1, "d1");
    wait_events(all, 3);
    wait_events(one, 1);
    assert_true(events_wanted(f->events, EV_TWIN, 1));
    assert_false(events_wanted(f->events, EV_CERT, 1));
    end(f, all);
    end(f, one);
    end(f, other);
    assert_int_equal(all->events, 3);
    assert_int_equal(one->events, 1);
    assert_int_equal(other->events, 0);
    assert_true(all->in_order);
    free(all);
    free(one);
    free(other);
}

static void test_resume(void **state)
{
    struct fixture *f = *state;
    char id[EVENT_ID_MAX];
    for (int i = 0; i < 5; i++) {
        publish(f, EV_TWIN, 1, "d1");
    }
    events_id(f->events, 2, id);
    struct seen *s = listen(f, 1, 1U << EV_TWIN, "", id);
    wait_events(s, 3);
    end(f, s);
    assert_int_equal(s->events, 3);
    assert_int_equal(s->gaps, 0);
    assert_int_equal(s->last_seq, 5);
    free(s);
    // From another process, and from before the ring: both are gaps.
    struct seen *foreign = listen(f, 1, 1U << EV_TWIN, "", "00000000-1");
    for (int i = 0; i < 200; i++) {
        publish(f, EV_TWIN, 2, "d1");
    }
    struct seen *old = listen(f, 1, 1U << EV_TWIN, "", id);
    publish(f, EV_TWIN, 1, "d1");
    wait_events(old, 1);
    wait_events(foreign, 1);
    end(f, foreign);
    end(f, old);
    assert_int_equal(foreign->gaps, 1);
    assert_int_equal(old->gaps, 1);
    free(foreign);
    free(old);
}

static void block(struct post *p)
{
    (void)p;
    usleep(300000);
}

static void test_slow_listener(void **state)
{
    struct fixture *f = *state;
    struct seen *s = listen(f, 1, 1U << EV_TWIN, "", "");
    struct post busy = {.fn = block};
    loop_post(f->loop, &busy);
    usleep(20000);
    for (int i = 0; i < 1500; i++) {
        publish(f, EV_TWIN, 1, "d1");
    }
    wait_events(s, 1000);
    end(f, s);
    assert_int_equal(s->events, 1000);
    assert_int_equal(s->gaps, 1);
    free(s);
}

static void test_end_inside_callback(void **state)
{
    struct fixture *f = *state;
    struct seen *s = listen(f, 1, 1U << EV_TWIN, "", "");
    s->end_inside = true;
    for (int i = 0; i < 10; i++) {
        publish(f, EV_TWIN, 1, "d1");
    }
    wait_events(s, 1);
    pass(f);
    assert_int_equal(s->events, 1);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resume, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_listener, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_inside_callback, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
