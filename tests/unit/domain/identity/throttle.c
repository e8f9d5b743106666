// Failures per address: when it blocks, how long, what counts as one address, and that strangers cannot fill it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "domain/identity/throttle.h"

#define SECOND_US 1000000LL
#define MINUTE_US (60 * SECOND_US)

static const struct slice anyone = {NULL, 0};

static struct throttle *make(uint32_t max)
{
    struct throttle *l = throttle_new(max);
    assert_non_null(l);
    return l;
}

static void fail_times(struct throttle *l, const char *addr, int n, int64_t now_us)
{
    for (int i = 0; i < n; i++) {
        throttle_failed(l, rate_source(slice_str(addr), anyone), now_us);
    }
}

static bool blocked(const struct throttle *l, const char *addr, int64_t now_us)
{
    return throttle_blocked(l, rate_source(slice_str(addr), anyone), now_us, NULL);
}

static void blocks_at_the_limit(void **state)
{
    (void)state;
    struct throttle *l = make(10);
    fail_times(l, "192.0.2.1:1", 9, SECOND_US);
    assert_false(blocked(l, "192.0.2.1:1", SECOND_US));
    fail_times(l, "192.0.2.1:2", 1, SECOND_US); // another port is the same address
    int64_t wait_us = 0;
    assert_true(throttle_blocked(l, rate_source(SLICE("192.0.2.1"), anyone), SECOND_US, &wait_us));
    assert_int_equal(wait_us, MINUTE_US);
    assert_false(blocked(l, "192.0.2.2:1", SECOND_US));
    assert_true(blocked(l, "192.0.2.1:3", MINUTE_US));
    assert_false(blocked(l, "192.0.2.1:3", MINUTE_US + SECOND_US));
    throttle_free(l);
}

static void a_slow_trickle_passes(void **state)
{
    (void)state;
    struct throttle *l = make(10);
    for (int i = 0; i < 100; i++) {
        fail_times(l, "192.0.2.1:1", 1, i * 7 * SECOND_US);
        assert_false(blocked(l, "192.0.2.1:1", i * 7 * SECOND_US));
    }
    throttle_free(l);
}

static void blocks_grow_and_are_forgiven(void **state)
{
    (void)state;
    struct throttle *l = make(5);
    int64_t now_us = SECOND_US;
    for (int level = 0; level < 9; level++) {
        int64_t wait_us = 0;
        fail_times(l, "198.51.100.7:9", 5, now_us);
        assert_true(throttle_blocked(l, rate_source(SLICE("198.51.100.7:9"), anyone), now_us, &wait_us));
        assert_int_equal(wait_us, MINUTE_US << (level < 6 ? level : 6));
        // What fails while it is blocked makes it no longer: a stubborn device gets out again.
        fail_times(l, "198.51.100.7:9", 50, now_us + wait_us - 1);
        now_us += wait_us;
        assert_false(blocked(l, "198.51.100.7:9", now_us));
    }
    now_us += 61 * MINUTE_US;
    int64_t wait_us = 0;
    fail_times(l, "198.51.100.7:9", 5, now_us);
    assert_true(throttle_blocked(l, rate_source(SLICE("198.51.100.7:9"), anyone), now_us, &wait_us));
    assert_int_equal(wait_us, MINUTE_US);
    throttle_free(l);
}

static void a_flood_of_addresses_fits(void **state)
{
    (void)state;
    struct throttle *l = make(10);
    for (unsigned i = 0; i < 200000; i++) {
        char addr[32];
        snprintf(addr, sizeof(addr), "10.%u.%u.%u:1", i >> 16 & 255, i >> 8 & 255, i & 255);
        fail_times(l, addr, 1, SECOND_US + i);
    }
    // Whoever fails now is still counted.
    fail_times(l, "203.0.113.5:1", 10, 2 * SECOND_US);
    assert_true(blocked(l, "203.0.113.5:1", 2 * SECOND_US));
    throttle_free(l);
}

static void zero_never_blocks(void **state)
{
    (void)state;
    struct throttle *l = make(0);
    fail_times(l, "192.0.2.1:1", 1000, SECOND_US);
    assert_false(blocked(l, "192.0.2.1:1", SECOND_US));
    throttle_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_at_the_limit),
        cmocka_unit_test(a_slow_trickle_passes),
        cmocka_unit_test(blocks_grow_and_are_forgiven),
        cmocka_unit_test(a_flood_of_addresses_fits),
        cmocka_unit_test(zero_never_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
