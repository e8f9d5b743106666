// ts_flush.c: crashes at every step. What was committed is there exactly once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/store/ts_fixture.h"

#define CRASH_DEVICES 40
#define CRASH_ROUNDS  30

static void assert_all_once(struct fixture *c, int64_t rounds)
{
    for (uint64_t d = 1; d <= CRASH_DEVICES; d++) {
        assert_int_equal(points(c, d, "t"), (size_t)rounds);
        for (int64_t i = 0; i < rounds; i++) {
            assert_true(got.t[i] == T0 + i * 200 * MINUTE + (int64_t)d && got.v[i].i == i * 1000 + (int64_t)d);
        }
        uint64_t n[TS_COUNTERS];
        ts_counters(c->ts, d, n);
        assert_int_equal(n[1], (uint64_t)rounds);
        int64_t t = 0;
        struct ts_value v;
        assert_true(last_seen(c, d, "t", &t, &v));
        assert_true(v.i == (rounds - 1) * 1000 + (int64_t)d);
    }
    uint64_t n[TS_COUNTERS];
    ts_tenant_counters(c->ts, TENANT, n);
    assert_int_equal(n[1], (uint64_t)rounds * CRASH_DEVICES);
}

static void write_round(struct fixture *f, int64_t i)
{
    for (uint64_t d = 1; d <= CRASH_DEVICES; d++) {
        assert_int_equal(put(f, d, "t", T0 + i * 200 * MINUTE + (int64_t)d, whole(i * 1000 + (int64_t)d)), ST_OK);
        assert_int_equal(ts_count(f->ts, ts_device(f->ts, TENANT, d), 1, 1), ST_OK);
    }
    commit(f);
}

// A crash after every single step of flushes that run while more data comes, over several days of partitions.
static void crash_at_every_step_of_a_flush(void **state)
{
    struct fixture *f = *state;
    int64_t round = 0;
    unsigned crashes = 0;
    while (round < CRASH_ROUNDS) {
        write_round(f, round++);
        write_round(f, round++);
        assert_int_equal(ts_flush_begin(f->ts), ST_OK);
        while (f->ts->flush.state != TS_FLUSH_IDLE) {
            struct fixture *c = crash(f);
            assert_all_once(c, round);
            write_round(c, round); // and it goes on
            flush(c);
            assert_all_once(c, round + 1);
            crash_end(c);
            crashes++;
            assert_int_equal(ts_flush_step(f->ts, NULL), ST_OK);
            if (crashes % 7 == 3 && round < CRASH_ROUNDS) {
                write_round(f, round++); // between two steps
            }
        }
        assert_all_once(f, round);
    }
    assert_true(crashes > 30);
    assert_int_equal(stats(f).corrupt, 0);
}

static void crash_twice_in_a_flush(void **state)
{
    struct fixture *f = *state;
    write_round(f, 0);
    write_round(f, 1);
    struct fixture *c = crash(f);
    for (unsigned steps = 1; steps < 6; steps++) {
        assert_int_equal(ts_flush_begin(c->ts), ST_OK);
        for (unsigned i = 0; i < steps && c->ts->flush.state != TS_FLUSH_IDLE; i++) {
            assert_int_equal(ts_flush_step(c->ts, NULL), ST_OK);
        }
        struct fixture *next = crash(c);
        crash_end(c);
        c = next;
        assert_all_once(c, 2);
    }
    crash_end(c);
}

static void reopened_log_goes_on(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 5; i++) {
        write_round(f, i);
        reopen(f);
        assert_int_equal(f->ts->log.len, 1); // no segment per start
    }
    assert_all_once(f, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(crash_at_every_step_of_a_flush),
        TEST(crash_twice_in_a_flush),
        TEST(reopened_log_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
