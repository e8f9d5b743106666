// Buckets of sources: how often, how long to wait, what one source is, and that strangers cannot make the table grow.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rate.h"

#define SECOND_US INT64_C(1000000)

static const struct slice anyone = {NULL, 0};

static uint64_t at(const char *addr)
{
    return rate_source(slice_str(addr), anyone);
}

static void burst_then_rate(void **state)
{
    (void)state;
    struct rate *r = rate_new(100000, 3);
    assert_non_null(r);
    int64_t now = 5 * SECOND_US;
    for (int i = 0; i < 3; i++) {
        assert_true(rate_take(r, at("192.0.2.1:1000"), now));
    }
    assert_false(rate_take(r, at("192.0.2.1:1001"), now));
    assert_true(rate_take(r, at("192.0.2.2:1000"), now));
    assert_false(rate_take(r, at("192.0.2.1:1001"), now + 99999));
    assert_true(rate_take(r, at("192.0.2.1:1001"), now + 100000));
    assert_false(rate_take(r, at("192.0.2.1:1001"), now + 100000));
    assert_false(rate_take(r, at("192.0.2.1:1001"), now)); // a clock that stands or goes back gives nothing
    now += 3600 * SECOND_US;
    for (int i = 0; i < 3; i++) { // a long rest empties the bucket, no more
        assert_true(rate_take(r, at("192.0.2.1:1000"), now));
    }
    assert_false(rate_take(r, at("192.0.2.1:1000"), now));
    rate_free(r);
}

// Ten failures a minute: the eleventh try has to wait for one to be forgiven.
static void waiting(void **state)
{
    (void)state;
    struct rate *r = rate_new(6 * SECOND_US, 10);
    uint64_t one = at("192.0.2.1:1");
    int64_t now = 1000 * SECOND_US;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(rate_wait_us(r, one, now), 0);
        rate_add(r, one, now);
    }
    assert_int_equal(rate_wait_us(r, one, now), 6 * SECOND_US);
    assert_int_equal(rate_wait_us(r, at("192.0.2.2:1"), now), 0);
    assert_int_equal(rate_wait_us(r, one, now + 6 * SECOND_US - 1), 1);
    assert_int_equal(rate_wait_us(r, one, now + 6 * SECOND_US), 0);
    rate_add(r, one, now + 6 * SECOND_US);
    assert_int_equal(rate_wait_us(r, one, now + 6 * SECOND_US), 6 * SECOND_US);
    rate_add(r, one, now + 6 * SECOND_US); // counted although it had to wait
    assert_int_equal(rate_wait_us(r, one, now + 6 * SECOND_US), 12 * SECOND_US);
    assert_int_equal(rate_wait_us(r, one, now + 120 * SECOND_US), 0);
    rate_free(r);
}

static void no_limit(void **state)
{
    (void)state;
    struct rate *r = rate_new(0, 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(rate_take(r, at("192.0.2.1:1"), 1000 - i));
    }
    assert_int_equal(rate_wait_us(r, at("192.0.2.1:1"), 1), 0);
    rate_free(r);
    rate_free(NULL);
}

static void what_one_source_is(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"192.0.2.1:1", "192.0.2.1:2", true},
        {"192.0.2.9", "192.0.2.9:6", true},
        {"192.0.2.1:1", "192.0.2.2:1", false},
        {"[2001:db8:1:2::1]:80", "[2001:db8:1:2:ffff::9]:81", true}, // one /64
        {"[2001:db8:1:2::1]:80", "[2001:db8:1:3::1]:80", false},
        {"2001:db8:1:2::1", "[2001:db8:1:2::7]:1", true},
        {"[::ffff:192.0.2.9]:5", "192.0.2.9:6", true},
        {"", "192.0.2.9:6", false},
        {"[::1", "127.0.0.1:1", false},
        {"somewhere:1", "somewhere:2", true}, // not an address: a source by its text
        {"somewhere:1", "elsewhere:1", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(at(cases[i].a) == at(cases[i].b), cases[i].same);
    }
}

static void names_are_counted_apart(void **state)
{
    (void)state;
    uint64_t keys[] = {at("192.0.2.1:1"), rate_source(SLICE("192.0.2.1:1"), SLICE("")),
                       rate_source(SLICE("192.0.2.1:1"), SLICE("a")), rate_source(SLICE("192.0.2.1:1"), SLICE("b")),
                       rate_source(SLICE("192.0.2.2:1"), SLICE("a"))};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        assert_true(keys[i] != 0);
        for (size_t j = 0; j < i; j++) {
            assert_true(keys[i] != keys[j]);
        }
    }
    assert_true(rate_source(SLICE("192.0.2.1:7"), SLICE("a")) == keys[2]); // whatever the port
}

// More sources than the table holds: memory stays as it is, and the limit still works for one that keeps coming.
static void many_sources(void **state)
{
    (void)state;
    struct rate *r = rate_new(SECOND_US, 5);
    unsigned allowed = 0;
    for (unsigned i = 0; i < 100000; i++) {
        char addr[32];
        snprintf(addr, sizeof(addr), "10.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
        assert_true(rate_take(r, at(addr), 1));
        if (i % 1000 == 0) {
            allowed += rate_take(r, at("192.0.2.1:1"), 1);
        }
    }
    assert_in_range(allowed, 5, 30);
    rate_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(burst_then_rate),    cmocka_unit_test(waiting),      cmocka_unit_test(no_limit),
        cmocka_unit_test(what_one_source_is), cmocka_unit_test(many_sources), cmocka_unit_test(names_are_counted_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
