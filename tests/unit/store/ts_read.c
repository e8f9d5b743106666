// ts_read.c: what is committed is read back, in ranges, buckets and last values, wherever it lies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rand.h"
#include "unit/store/ts_fixture.h"

static void committed_points_are_readable(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 7, "t", T0, num(21.5)), ST_OK);
    assert_int_equal(put(f, 7, "t", T0 + 1000, num(21.6)), ST_OK);
    assert_int_equal(put(f, 7, "mode", T0, text("auto")), ST_OK);
    assert_int_equal(put(f, 7, "on", T0, (struct ts_value){.type = TS_BOOL, .b = true}), ST_OK);
    assert_true(ts_staged(f->ts));
    assert_int_equal(points(f, 7, "t"), 0); // not before the commit
    commit(f);
    assert_false(ts_staged(f->ts));
    for (int round = 0; round < 3; round++) { // from memory, after a restart, from chunk rows
        assert_int_equal(points(f, 7, "t"), 2);
        assert_true(got.t[0] == T0 && got.v[0].f == 21.5);
        assert_true(got.t[1] == T0 + 1000 && got.v[1].f == 21.6);
        assert_int_equal(points(f, 7, "mode"), 1);
        assert_string_equal(got.text, "auto");
        assert_int_equal(points(f, 7, "on"), 1);
        assert_true(got.v[0].type == TS_BOOL && got.v[0].b);
        assert_int_equal(points(f, 7, "unknown"), 0);
        assert_int_equal(points(f, 8, "t"), 0);
        if (round == 0) {
            reopen(f);
        } else {
            flush(f);
        }
    }
    assert_int_equal(stats(f).head_bytes, 0);
    reopen(f);
    assert_int_equal(points(f, 7, "t"), 2);
}

static void other_tenants_see_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 7, "t", T0, num(1)), ST_OK);
    commit(f);
    struct ts_query q = query(7, "t", 0, TS_TIME_MAX);
    q.tenant = 2;
    assert_int_equal(ask(f, &q), ST_NOT_FOUND);
    assert_int_equal(ts_last(f->ts, 2, 7, NULL, NULL), 0);
    flush(f);
    reopen(f);
    assert_int_equal(ask(f, &q), ST_NOT_FOUND);
}

static void ranges_limits_and_order(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 3000; i++) { // two days and a bit more
        assert_int_equal(put(f, 1, "t", T0 + i * MINUTE, whole(i)), ST_OK);
        if (i % 100 == 99) {
            commit(f);
        }
        if (i == 1000 || i == 2500) {
            commit(f);
            flush(f);
        }
    }
    commit(f);
    assert_int_equal(points(f, 1, "t"), 3000);
    struct ts_query q = query(1, "t", T0 + 10 * MINUTE, T0 + 20 * MINUTE);
    assert_int_equal(ask(f, &q), ST_OK);
    assert_int_equal(got.n, 10);
    assert_true(got.v[0].i == 10 && got.v[9].i == 19);
    q.to_us = TS_TIME_MAX;
    q.limit = 5;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_int_equal(got.n, 5);
    q.from_us = 0;
    q.descending = true;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_true(got.n == 5 && got.v[0].i == 2999 && got.v[4].i == 2995);
    q.limit = 0;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_int_equal(got.n, 3000);
    for (size_t i = 0; i < got.n; i++) {
        assert_true(got.v[i].i == 2999 - (int64_t)i);
    }
}

static void aggregates(void **state)
{
    struct fixture *f = *state;
    int64_t start = T0 - T0 % (5 * MINUTE);
    for (int64_t i = 0; i < 20; i++) {
        assert_int_equal(put(f, 1, "t", start + i * MINUTE, whole(i * i)), ST_OK);
        assert_int_equal(put(f, 1, "x", start + i * MINUTE, i == 3 ? text("broken") : num((double)i / 4)), ST_OK);
    }
    commit(f);
    static const struct {
        enum ts_agg agg;
        double want[4]; // of squares, in buckets of five
    } cases[] = {
        {TS_MIN, {0, 25, 100, 225}},    {TS_MAX, {16, 81, 196, 361}}, {TS_AVG, {6, 51, 146, 291}},
        {TS_SUM, {30, 255, 730, 1455}}, {TS_COUNT, {5, 5, 5, 5}},     {TS_FIRST, {0, 25, 100, 225}},
        {TS_LAST, {16, 81, 196, 361}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int down = 0; down < 2; down++) {
            struct ts_query q = query(1, "t", start, start + 20 * MINUTE);
            q.agg = cases[i].agg;
            q.bucket_us = 5 * MINUTE;
            q.descending = down == 1;
            assert_int_equal(ask(f, &q), ST_OK);
            assert_int_equal(got.n, 4);
            for (size_t k = 0; k < 4; k++) {
                size_t at = down == 1 ? 3 - k : k;
                double v = got.v[at].type == TS_INT ? (double)got.v[at].i : got.v[at].f;
                assert_true(v == cases[i].want[k]);
                assert_true(got.t[at] == start + (int64_t)k * 5 * MINUTE);
            }
        }
    }
    struct ts_query q = query(1, "x", start, start + 5 * MINUTE);
    q.agg = TS_AVG;
    q.bucket_us = 5 * MINUTE;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_true(got.n == 1 && got.v[0].f == (0 + 0.25 + 0.5 + 1) / 4); // the text is left out
    q.bucket_us = 0;
    assert_int_equal(ask(f, &q), ST_INVALID);
}

static void late_points_find_their_place(void **state)
{
    struct fixture *f = *state;
    static int64_t order[2000];
    for (int64_t i = 0; i < 2000; i++) {
        order[i] = i;
    }
    rand_seed(5);
    for (size_t i = 1999; i > 0; i--) {
        size_t k = rand_u64() % (i + 1);
        int64_t x = order[i];
        order[i] = order[k];
        order[k] = x;
    }
    for (size_t i = 0; i < 2000; i++) {
        assert_int_equal(put(f, 1, "t", T0 + order[i] * MINUTE * 3, whole(order[i])), ST_OK);
        if (i % 50 == 49) {
            commit(f);
        }
        if (i == 700 || i == 1500) {
            commit(f);
            flush(f);
        }
    }
    commit(f);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(points(f, 1, "t"), 2000);
        for (int64_t i = 0; i < 2000; i++) {
            assert_true(got.t[i] == T0 + i * MINUTE * 3 && got.v[i].i == i);
        }
        struct ts_query q = query(1, "t", T0, T0 + 1000 * MINUTE * 3);
        q.descending = true;
        assert_int_equal(ask(f, &q), ST_OK);
        assert_true(got.n == 1000 && got.v[0].i == 999);
        if (round == 0) {
            reopen(f);
        } else {
            flush(f);
        }
    }
}

// Equal times: what was stored last is what counts, once, wherever the two are.
static void later_stored_wins(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 6; i++) {
        assert_int_equal(put(f, 1, "t", T0, whole(i)), ST_OK);
        assert_int_equal(put(f, 1, "t", T0 + MINUTE, whole(100 + i)), ST_OK);
        commit(f);
        assert_int_equal(points(f, 1, "t"), 2);
        assert_true(got.v[0].i == i && got.v[1].i == 100 + i);
        if (i == 1 || i == 4) {
            flush(f);
        }
        if (i == 3) {
            reopen(f);
        }
        assert_int_equal(points(f, 1, "t"), 2);
        assert_true(got.v[0].i == i && got.v[1].i == 100 + i);
    }
}

static void snapshot_before_a_flush_reads_after_it(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 100; i++) {
        assert_int_equal(put(f, 1, "t", T0 + i * MINUTE, whole(i)), ST_OK);
    }
    commit(f);
    struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
    struct ts_snapshot *s = NULL;
    assert_int_equal(ts_snapshot_take(f->ts, &q, &s), ST_OK);
    assert_int_equal(put(f, 1, "t", T0, whole(4711)), ST_OK); // stored after the snapshot
    commit(f);
    flush(f);
    got.n = 0;
    assert_int_equal(ts_read(f->reader, s, &q, take, &got, NULL), ST_OK);
    ts_snapshot_free(s);
    // The first day's partition did not exist when the snapshot was taken; its own points are there exactly once.
    assert_int_equal(got.n, 100);
}

static void last_values(void **state)
{
    struct fixture *f = *state;
    int64_t t = 0;
    struct ts_value v;
    assert_int_equal(put(f, 3, "a", T0 + 5, num(5)), ST_OK);
    assert_int_equal(put(f, 3, "a", T0 + 1, num(1)), ST_OK); // late: not the last
    assert_int_equal(put(f, 3, "s", T0, text("idle")), ST_OK);
    assert_false(last_seen(f, 3, "a", &t, &v));
    commit(f);
    for (int round = 0; round < 4; round++) {
        assert_true(last_seen(f, 3, "a", &t, &v));
        assert_true(t == T0 + 5 && v.f == 5);
        assert_true(last_seen(f, 3, "s", &t, &v));
        assert_string_equal(last_text, "idle");
        assert_false(last_seen(f, 3, "b", &t, &v));
        assert_int_equal(ts_last(f->ts, TENANT, 99, last_take, NULL), 0);
        if (round == 1) {
            flush(f);
        } else {
            reopen(f);
        }
    }
}

static void assigned_times_are_unique(void **state)
{
    struct fixture *f = *state;
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    assert_true(ts_assign_time(d, T0) == T0);
    assert_true(ts_assign_time(d, T0) == T0 + 1);
    assert_true(ts_assign_time(d, T0 - 50) == T0 + 2); // the clock went back
    assert_true(ts_assign_time(d, T0 + 100) == T0 + 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(committed_points_are_readable),
        TEST(other_tenants_see_nothing),
        TEST(ranges_limits_and_order),
        TEST(aggregates),
        TEST(late_points_find_their_place),
        TEST(later_stored_wins),
        TEST(snapshot_before_a_flush_reads_after_it),
        TEST(last_values),
        TEST(assigned_times_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
