// ts.c: the work it does by itself, and readers beside the owner.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/store/ts_fixture.h"

static void steps_flush_when_the_log_is_large(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    f->conf.segment_bytes = 200000;
    fixture_open(f);
    for (int64_t i = 0; i < 400; i++) {
        for (uint64_t d = 1; d <= 20; d++) {
            assert_int_equal(put(f, d, "t", T0 + i * MINUTE, whole(i)), ST_OK);
        }
        commit(f);
        (void)ts_step(f->ts, T0);
    }
    while (ts_step(f->ts, T0)) {
    }
    assert_true(stats(f).flushes > 3);
    assert_true(stats(f).log_bytes < 400000);
    for (uint64_t d = 1; d <= 20; d++) {
        assert_int_equal(points(f, d, "t"), 400);
    }
}

static void steps_flush_after_a_while(void **state)
{
    struct fixture *f = *state;
    clock_fake(T0, 1000000);
    assert_int_equal(put(f, 1, "t", T0, whole(1)), ST_OK);
    commit(f);
    assert_false(ts_step(f->ts, T0));
    clock_fake(T0, 1000000 + INT64_C(3700) * 1000000);
    assert_true(ts_step(f->ts, T0));
    while (ts_step(f->ts, T0)) {
    }
    assert_int_equal(stats(f).flushes, 1);
    assert_int_equal(stats(f).head_bytes, 0);
    clock_fake_off();
    assert_int_equal(points(f, 1, "t"), 1);
}

// Readers on their own threads while the owner commits, flushes and drops: every answer is a whole prefix of what was
// committed. (The thread sanitizer's test as well.)

struct shelf { // snapshots on their way from the owner to a reader
    pthread_mutex_t lock;
    struct ts_snapshot *snap;
    int64_t committed; // rounds when it was taken
    bool end;
    const char *dir;
    uint64_t reads;
};

struct prefix {
    int64_t next;
    bool wrong;
};

static bool prefix_take(void *arg, int64_t t, struct ts_value v)
{
    struct prefix *p = arg;
    p->wrong = p->wrong || t != T0 + p->next * 30 * MINUTE || v.i != p->next;
    p->next++;
    return !p->wrong;
}

static void *read_on(void *arg)
{
    struct shelf *s = arg;
    struct ts_reader *r = NULL;
    assert_int_equal(ts_reader_open(s->dir, &r, NULL), ST_OK);
    for (bool end = false; !end;) {
        pthread_mutex_lock(&s->lock);
        struct ts_snapshot *snap = s->snap;
        int64_t committed = s->committed;
        s->snap = NULL;
        end = s->end;
        pthread_mutex_unlock(&s->lock);
        if (snap == NULL) {
            usleep(100);
            continue;
        }
        struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
        struct prefix p = {0};
        struct err err = {0};
        enum status st = ts_read(r, snap, &q, prefix_take, &p, &err);
        ts_snapshot_free(snap);
        if (st != ST_OK || p.wrong || p.next < committed) {
            fail_msg("%s: %lld rounds of %lld %s", status_text(st), (long long)p.next, (long long)committed, err.text);
        }
        s->reads++;
    }
    ts_reader_close(r);
    return NULL;
}

static void readers_beside_the_owner(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    f->conf.segment_bytes = 100000;
    fixture_open(f);
    struct shelf s = {.dir = f->dir};
    pthread_t thread;
    assert_int_equal(pthread_mutex_init(&s.lock, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_on, &s), 0);
    for (int64_t i = 0; i < 600; i++) {
        for (uint64_t d = 1; d <= 10; d++) {
            assert_int_equal(put(f, d, "t", T0 + i * 30 * MINUTE, whole(i)), ST_OK);
        }
        commit(f);
        (void)ts_step(f->ts, T0);
        struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
        struct ts_snapshot *snap = NULL;
        assert_int_equal(ts_snapshot_take(f->ts, &q, &snap), ST_OK);
        pthread_mutex_lock(&s.lock);
        struct ts_snapshot *unread = s.snap;
        s.snap = snap;
        s.committed = i + 1;
        pthread_mutex_unlock(&s.lock);
        ts_snapshot_free(unread);
    }
    pthread_mutex_lock(&s.lock);
    s.end = true;
    pthread_mutex_unlock(&s.lock);
    pthread_join(thread, NULL);
    ts_snapshot_free(s.snap);
    pthread_mutex_destroy(&s.lock);
    assert_true(s.reads > 0);
    assert_true(stats(f).flushes > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(steps_flush_when_the_log_is_large),
        TEST(steps_flush_after_a_while),
        TEST(readers_beside_the_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
