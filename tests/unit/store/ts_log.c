// ts_log.c: batches of points. What is undone, abandoned or refused leaves nothing; duplicates are found.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/store/ts_fixture.h"

static void undo_forgets_one_message(void **state)
{
    struct fixture *f = *state;
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    assert_int_equal(put(f, 1, "kept", T0, num(1)), ST_OK);
    assert_int_equal(ts_count(f->ts, d, 0, 1), ST_OK);
    struct ts_mark m = ts_mark(f->ts);
    assert_int_equal(put(f, 1, "kept", T0 + 1, num(2)), ST_OK);
    assert_int_equal(put(f, 1, "gone", T0, text("never stored")), ST_OK);
    assert_int_equal(put(f, 2, "gone", T0, num(1)), ST_OK);
    assert_int_equal(ts_count(f->ts, d, 0, 10), ST_OK);
    ts_undo(f->ts, m);
    assert_int_equal(put(f, 1, "kept", T0 + 3, num(3)), ST_OK);
    commit(f);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(points(f, 1, "kept"), 2);
        assert_true(got.v[1].f == 3);
        assert_int_equal(points(f, 1, "gone"), 0);
        assert_int_equal(points(f, 2, "gone"), 0);
        uint64_t c[TS_COUNTERS];
        ts_counters(f->ts, 1, c);
        assert_int_equal(c[0], 1);
        reopen(f);
    }
    assert_int_equal(stats(f).series, 1);
}

static void abandon_forgets_the_batch(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 1, "t", T0, num(1)), ST_OK);
    ts_abandon(f->ts);
    assert_false(ts_staged(f->ts));
    commit(f);
    assert_int_equal(points(f, 1, "t"), 0);
    assert_int_equal(stats(f).commits, 0);
}

static void limits_hold_and_leave_nothing(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    f->conf.series_per_device = 3;
    f->conf.metrics_per_tenant = 5;
    fixture_open(f);
    struct ts_mark m = ts_mark(f->ts);
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(put(f, 1, names[i], T0, num(1)), ST_OK);
    }
    assert_int_equal(put(f, 1, "d", T0, num(1)), ST_LIMIT);
    assert_int_equal(put(f, 1, "a", T0, num(1)), ST_OK);
    ts_undo(f->ts, m); // the names are free again
    for (int round = 0; round < 3; round++) {
        assert_int_equal(put(f, 1, "e", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 1, "f", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 1, "g", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 1, "h", T0, num(1)), ST_LIMIT);
        assert_int_equal(put(f, 2, "h", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 2, "i", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 2, "j", T0, num(1)), ST_LIMIT); // a sixth name of the tenant
        assert_int_equal(put(f, 2, "e", T0, num(1)), ST_OK);
        commit(f);
        if (round == 1) {
            flush(f);
        }
        reopen(f);
    }
    struct ts_device *other = ts_device(f->ts, 2, 10);
    struct slice name = SLICE("theirs");
    assert_int_equal(ts_put(f->ts, other, T0, name, hash_bytes(name), num(1), false, NULL), ST_OK);
}

static void bad_points_are_refused(void **state)
{
    struct fixture *f = *state;
    char name[TS_METRIC_MAX + 2];
    memset(name, 'x', sizeof(name));
    name[TS_METRIC_MAX + 1] = '\0';
    assert_int_equal(put(f, 1, name, T0, num(1)), ST_INVALID);
    name[TS_METRIC_MAX] = '\0';
    assert_int_equal(put(f, 1, name, T0, num(1)), ST_OK);
    assert_int_equal(put(f, 1, "", T0, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "a\nb", T0, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "\xff", T0, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "t", -1, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "t", TS_TIME_MAX, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "t", T0, num(1.0 / 0.0)), ST_INVALID);
    static char big[TS_STRING_MAX + 1];
    assert_int_equal(put(f, 1, "t", T0, (struct ts_value){.type = TS_STRING, .s = slice_make(big, sizeof(big))}),
                     ST_INVALID);
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    assert_int_equal(ts_count(f->ts, d, TS_COUNTERS, 1), ST_INVALID);
}

static bool duplicate(struct fixture *f, int64_t t, struct ts_value v)
{
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    bool dup = false;
    assert_int_equal(ts_put(f->ts, d, t, SLICE("t"), hash_bytes(SLICE("t")), v, true, &dup), ST_OK);
    return dup;
}

static void duplicates_are_found_everywhere(void **state)
{
    struct fixture *f = *state;
    assert_false(duplicate(f, T0, num(1)));
    assert_true(duplicate(f, T0, num(1))); // in the same batch
    assert_false(duplicate(f, T0, num(2)));
    assert_false(duplicate(f, T0, num(1))); // no longer the newest value of this time
    commit(f);
    for (int round = 0; round < 4; round++) {
        assert_true(duplicate(f, T0, num(1)));
        assert_true(duplicate(f, T0, whole(1)));
        assert_false(ts_staged(f->ts));
        if (round % 2 == 0) {
            flush(f);
        } else {
            reopen(f);
        }
    }
    assert_false(duplicate(f, T0, num(3)));
    assert_false(duplicate(f, T0 + 1, num(1)));
    commit(f);
    assert_int_equal(points(f, 1, "t"), 2);
}

static void counters_add_up(void **state)
{
    struct fixture *f = *state;
    uint64_t c[TS_COUNTERS];
    for (uint64_t round = 1; round <= 6; round++) {
        for (uint64_t device = 1; device <= 3; device++) {
            struct ts_device *d = ts_device(f->ts, TENANT, device);
            assert_int_equal(ts_count(f->ts, d, 0, device), ST_OK);
            assert_int_equal(ts_count(f->ts, d, 23, 1), ST_OK);
            assert_int_equal(ts_count(f->ts, d, 0, 1), ST_OK);
        }
        commit(f);
        if (round == 2 || round == 5) {
            flush(f);
        }
        if (round == 3 || round == 5) {
            reopen(f);
        }
        ts_counters(f->ts, 2, c);
        assert_int_equal(c[0], 3 * round);
        assert_int_equal(c[23], round);
        assert_int_equal(c[1], 0);
        ts_tenant_counters(f->ts, TENANT, c);
        assert_int_equal(c[0], (2 + 3 + 4) * round);
        ts_tenant_counters(f->ts, 77, c);
        assert_int_equal(c[0], 0);
        ts_counters(f->ts, 77, c);
        assert_int_equal(c[0], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(undo_forgets_one_message), TEST(abandon_forgets_the_batch),       TEST(limits_hold_and_leave_nothing),
        TEST(bad_points_are_refused),   TEST(duplicates_are_found_everywhere), TEST(counters_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
