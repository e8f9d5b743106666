// Connections for unit tests of the domain: links whose messages are kept, over testcore.h. Include after testcore.h.
//
//   struct testlive l;
//   testlive_open(&l);                        // a core with presence, telemetry and commands started, and a loop
//   struct device_ref d = testlive_device(&l, "d1");
//   struct link *link = testlive_connect(&l, &d);
//   struct down *down = testlive_down(&l, link);   // the next message to it; fails after 5 seconds. free() it.
//   testlive_close(&l);
#ifndef TESTS_LIB_TESTLIVE_H
#define TESTS_LIB_TESTLIVE_H

#include <pthread.h>
#include <time.h>

#include "core/link.h"
#include "domain/command/command.h"
#include "domain/presence/presence.h"
#include "domain/telemetry/ingest.h"
#include "lib/testcore.h"
#include "net/loop.h"

#define TESTLIVE_DOWNS 256

struct testlive_arrived {
    struct link *link;
    struct down *down;
};

struct testlive {
    struct testcore core;
    struct loop *loop;
    struct link *links[16]; // references of the test
    size_t links_len;
};

// Link callbacks carry no argument, so what arrived is kept once per program.
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct testlive_arrived items[TESTLIVE_DOWNS];
    size_t len;
} testlive_inbox = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {{NULL, NULL}}, 0};

static inline void testlive_deliver(struct link *link, struct down *down)
{
    pthread_mutex_lock(&testlive_inbox.lock);
    assert_true(testlive_inbox.len < TESTLIVE_DOWNS);
    testlive_inbox.items[testlive_inbox.len++] = (struct testlive_arrived){link, down};
    pthread_cond_broadcast(&testlive_inbox.wake);
    pthread_mutex_unlock(&testlive_inbox.lock);
}

static inline struct down *testlive_take(const struct link *link)
{
    for (size_t i = 0; i < testlive_inbox.len; i++) {
        if (testlive_inbox.items[i].link == link) {
            struct down *d = testlive_inbox.items[i].down;
            testlive_inbox.len--;
            for (size_t k = i; k < testlive_inbox.len; k++) {
                testlive_inbox.items[k] = testlive_inbox.items[k + 1];
            }
            return d;
        }
    }
    return NULL;
}

static inline struct down *testlive_down(struct testlive *l, const struct link *link)
{
    (void)l;
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 5;
    pthread_mutex_lock(&testlive_inbox.lock);
    struct down *d = testlive_take(link);
    int rc = 0;
    while (d == NULL && rc == 0) {
        rc = pthread_cond_timedwait(&testlive_inbox.wake, &testlive_inbox.lock, &end);
        d = testlive_take(link);
    }
    pthread_mutex_unlock(&testlive_inbox.lock);
    if (d == NULL) {
        fail_msg("nothing came down the link");
    }
    return d;
}

// Everything sent so far has arrived when a message posted now has.
struct testlive_fence {
    struct post post;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool passed;
};

static inline void testlive_fence_passed(struct post *p)
{
    struct testlive_fence *f = (struct testlive_fence *)p;
    pthread_mutex_lock(&f->lock);
    f->passed = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static inline void testlive_fence_wait(struct testlive_fence *f)
{
    pthread_mutex_lock(&f->lock);
    while (!f->passed) {
        pthread_cond_wait(&f->wake, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
}

static inline void testlive_settle(struct testlive *l)
{
    struct testlive_fence f = {
        {NULL, testlive_fence_passed}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    loop_post(l->loop, &f.post);
    testlive_fence_wait(&f);
}

static inline bool testlive_quiet(struct testlive *l, const struct link *link)
{
    testlive_settle(l);
    pthread_mutex_lock(&testlive_inbox.lock);
    struct down *d = testlive_take(link);
    pthread_mutex_unlock(&testlive_inbox.lock);
    free(d);
    return d == NULL;
}

static inline void testlive_start(struct testlive *l)
{
    struct err err = {.code = ST_OK};
    enum status (*const starts[])(struct tx *, void *, struct err *) = {registry_start, presence_start, telemetry_start,
                                                                        command_start};
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        if (core_boot(l->core.core, starts[i], NULL, &err) != ST_OK) {
            fail_msg("%s", err.text);
        }
    }
}

static inline void testlive_open(struct testlive *l)
{
    struct err err = {.code = ST_OK};
    *l = (struct testlive){.links_len = 0};
    testcore_open(&l->core);
    l->loop = loop_new("test", &err);
    assert_non_null(l->loop);
    testlive_start(l);
}

// The loop runs on its own thread from here on; hooks must be registered before.
static inline void testlive_run_loop(struct testlive *l)
{
    assert_int_equal(loop_start(l->loop, NULL), ST_OK);
}

static inline void testlive_stop_core(struct testlive *l)
{
    telemetry_stop(l->core.core);
    presence_stop(l->core.core);
    testcore_stop(&l->core);
}

// When the loop has ended already.
static inline void testlive_close_stopped(struct testlive *l)
{
    for (size_t i = 0; i < l->links_len; i++) {
        link_unref(l->links[i]);
    }
    telemetry_stop(l->core.core);
    presence_stop(l->core.core);
    testcore_close(&l->core);
    loop_free(l->loop);
    for (; testlive_inbox.len > 0; testlive_inbox.len--) {
        free(testlive_inbox.items[testlive_inbox.len - 1].down);
    }
}

static inline void testlive_close(struct testlive *l)
{
    loop_stop(l->loop);
    loop_join(l->loop);
    testlive_close_stopped(l);
}

// Events of one tenant, as text, kept in order.
struct testlive_ear {
    struct testlive_fence fence; // first
    struct testlive *l;
    struct events_filter filter;
    struct events_sub *sub;
    unsigned n;
    char json[32][512];
};

static inline void testlive_hear(void *arg, const struct event *ev)
{
    struct testlive_ear *e = arg;
    assert_true(e->n < sizeof(e->json) / sizeof(e->json[0]));
    snprintf(e->json[e->n++], sizeof(e->json[0]), "%.*s", (int)ev->json_len, ev->json);
}

static inline void testlive_gap(void *arg)
{
    (void)arg;
}

static inline void testlive_listen_now(struct post *p)
{
    struct testlive_ear *e = (struct testlive_ear *)p;
    e->sub =
        events_listen(core_events(e->l->core.core), e->l->loop, &e->filter, SLICE(""), testlive_hear, testlive_gap, e);
    testlive_fence_passed(p);
}

static inline void testlive_unlisten_now(struct post *p)
{
    struct testlive_ear *e = (struct testlive_ear *)p;
    events_unlisten(e->sub);
    testlive_fence_passed(p);
}

// `types`: a bit per event_type. The loop must be running. Ends with testlive_unlisten.
static inline void testlive_listen(struct testlive *l, struct testlive_ear *e, uint32_t types)
{
    *e = (struct testlive_ear){
        .fence = {{NULL, testlive_listen_now}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false},
        .l = l,
        .filter = {.tenant = 1, .types = types}};
    loop_post(l->loop, &e->fence.post);
    testlive_fence_wait(&e->fence);
    assert_non_null(e->sub);
}

static inline void testlive_unlisten(struct testlive_ear *e)
{
    e->fence.passed = false;
    e->fence.post.fn = testlive_unlisten_now;
    loop_post(e->l->loop, &e->fence.post);
    testlive_fence_wait(&e->fence);
}

struct testlive_create {
    const char *id;
    struct device_ref d;
};

static inline enum status testlive_create(struct tx *tx, void *arg, struct err *err)
{
    struct testlive_create *c = arg;
    json_t *desc = json_pack("{s:s}", "id", c->id);
    enum status st = device_create(tx, desc, &c->d, err);
    json_decref(desc);
    return st;
}

static inline struct device_ref testlive_device(struct testlive *l, const char *id)
{
    struct testlive_create c = {.id = id};
    assert_int_equal(testcore_run(&l->core, testlive_create, &c), ST_OK);
    return c.d;
}

static inline struct link *testlive_link(struct testlive *l, const struct device_ref *d)
{
    assert_true(l->links_len < sizeof(l->links) / sizeof(l->links[0]));
    struct link *link = link_new(l->loop, l->links_len + 1, testlive_deliver);
    assert_non_null(link);
    link->who = (struct principal){.kind = WHO_DEVICE, .tenant = d->tenant, .row = d->row};
    snprintf(link->who.name, sizeof(link->who.name), "%s", d->id);
    snprintf(link->who.addr, sizeof(link->who.addr), "192.0.2.9:5000");
    l->links[l->links_len++] = link;
    return link;
}

struct testlive_session {
    struct link *link;
    const struct device_ref *d;
    const char *reason;
};

static inline enum status testlive_do_connect(struct tx *tx, void *arg, struct err *err)
{
    const struct testlive_session *s = arg;
    const struct presence_info info = {.address = SLICE("192.0.2.9:5000"),
                                       .protocol = SLICE("mqtt5"),
                                       .client_id = SLICE("client"),
                                       .tls = SLICE("TLSv1.3"),
                                       .keep_alive_s = 60};
    return presence_connected(tx, s->link, s->d, &info, err);
}

static inline enum status testlive_do_disconnect(struct tx *tx, void *arg, struct err *err)
{
    const struct testlive_session *s = arg;
    return presence_disconnected(tx, s->link, slice_str(s->reason), SLICE("detail"), err);
}

static inline struct link *testlive_connect(struct testlive *l, const struct device_ref *d)
{
    struct testlive_session s = {.link = testlive_link(l, d), .d = d};
    assert_int_equal(testcore_run(&l->core, testlive_do_connect, &s), ST_OK);
    return s.link;
}

static inline void testlive_disconnect(struct testlive *l, struct link *link, const char *reason)
{
    struct testlive_session s = {.link = link, .reason = reason};
    assert_int_equal(testcore_run(&l->core, testlive_do_disconnect, &s), ST_OK);
}

#endif
