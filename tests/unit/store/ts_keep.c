// ts_keep.c: retention and erasure.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/store/ts_fixture.h"

static void keep_round(struct fixture *f, int64_t now)
{
    f->ts->keep.next_us = 1; // now, and not in a minute
    f->ts->keep.day = -1;
    while (f->ts->keep.next_us == 1 && ts_step(f->ts, now)) {
    }
}

static void old_partitions_are_dropped(void **state)
{
    struct fixture *f = *state;
    for (int64_t day = 0; day < 10; day++) {
        assert_int_equal(put(f, 1, "t", T0 + day * TS_DAY_US, whole(day)), ST_OK);
        assert_int_equal(put(f, 1, "keep", T0 + day * TS_DAY_US, whole(day)), ST_OK);
        assert_int_equal(put(f, 2, "t", T0 + day * TS_DAY_US, whole(day)), ST_OK);
    }
    commit(f);
    flush(f);
    int64_t now = T0 + 9 * TS_DAY_US;
    keep_round(f, now);
    assert_int_equal(points(f, 1, "t"), 10); // for ever, by default

    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE(""), 3 * TS_DAY_US), ST_OK);
    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE("keep"), 6 * TS_DAY_US), ST_OK);
    assert_true(ts_keep_for(f->ts, TENANT, SLICE("keep")) == 6 * TS_DAY_US);
    assert_true(ts_keep_for(f->ts, TENANT, SLICE("t")) == 3 * TS_DAY_US);
    keep_round(f, now);
    assert_int_equal(f->ts->days_len, 10); // another tenant may keep for ever
    assert_int_equal(points(f, 1, "t"), 4);
    assert_true(got.v[0].i == 6);
    assert_int_equal(points(f, 2, "t"), 4);
    assert_int_equal(points(f, 1, "keep"), 7);

    f->ts->conf.retention_us = 5 * TS_DAY_US;
    keep_round(f, now);
    assert_int_equal(f->ts->days_len, 7); // dropped as whole files
    assert_int_equal(points(f, 1, "keep"), 7);

    // A shorter retention later purges again; without the policy, the default.
    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE("keep"), TS_DAY_US), ST_OK);
    keep_round(f, now);
    assert_int_equal(points(f, 1, "keep"), 2);
    assert_int_equal(points(f, 1, "t"), 4);
    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE("keep"), -1), ST_OK);
    assert_true(ts_keep_for(f->ts, TENANT, SLICE("keep")) == 3 * TS_DAY_US);
    reopen(f);
    assert_int_equal(points(f, 1, "keep"), 2);
}

static void erased_device_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 50; i++) {
        for (uint64_t d = 1; d <= 3; d++) {
            assert_int_equal(put(f, d, "t", T0 + i * 100 * MINUTE, whole(i)), ST_OK);
            assert_int_equal(put(f, d, "secret", T0 + i * 100 * MINUTE, text("erase me")), ST_OK);
            assert_int_equal(ts_count(f->ts, ts_device(f->ts, TENANT, d), 0, 1), ST_OK);
        }
        commit(f);
        if (i == 30) {
            flush(f);
        }
    }
    struct ts_device *gone = ts_device(f->ts, TENANT, 2);
    assert_int_equal(put(f, 1, "t", T0 - 1, whole(0)), ST_OK);
    assert_int_equal(ts_device_erase(f->ts, 2, NULL), ST_BUSY); // not within a batch
    commit(f);
    // In the middle of a flush.
    assert_int_equal(ts_flush_begin(f->ts), ST_OK);
    assert_int_equal(ts_flush_step(f->ts, NULL), ST_OK);
    assert_int_equal(ts_device_erase(f->ts, 2, NULL), ST_OK);
    assert_int_equal(points(f, 2, "t"), 0);
    assert_int_equal(ts_put(f->ts, gone, T0, SLICE("t"), hash_bytes(SLICE("t")), num(1), false, NULL), ST_NOT_FOUND);

    struct fixture *c = crash(f); // with the deletion of the rows still to do
    assert_int_equal(points(c, 2, "t"), 0);
    flush(c);
    assert_int_equal(points(c, 2, "t"), 0);
    assert_int_equal(points(c, 1, "t"), 51);
    crash_end(c);

    flush(f);
    reopen(f);
    uint64_t n[TS_COUNTERS];
    ts_counters(f->ts, 2, n);
    assert_int_equal(n[0], 0);
    ts_counters(f->ts, 3, n);
    assert_int_equal(n[0], 50);
    assert_int_equal(points(f, 2, "t"), 0);
    assert_int_equal(points(f, 2, "secret"), 0);
    assert_int_equal(points(f, 1, "t"), 51);
    assert_int_equal(points(f, 3, "secret"), 50);
    for (size_t i = 0; i < f->ts->days_len; i++) {
        struct ts_part *p = NULL;
        uint64_t row = 0;
        assert_int_equal(ts_part_open(f->ts, f->ts->days[i].day, false, &p, NULL), ST_OK);
        for (;;) {
            assert_int_equal(ts_part_scan(p, row + 1, &row, NULL), ST_OK);
            if (row == 0) {
                break;
            }
            struct ts_series *s = ts_table_get(&f->ts->table, ts_row_series(row));
            assert_true(s == NULL || s->dev->device != 2);
            if (s == NULL) {
                assert_int_equal(ts_catalog_series(f->ts, ts_row_series(row), &s), ST_OK);
                assert_int_not_equal(s->dev->device, 2);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(old_partitions_are_dropped),
        TEST(erased_device_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
