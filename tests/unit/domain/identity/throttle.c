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
        throttle_failed(l, throttle_key(slice_str(addr), anyone), now_us);
    }
}

static bool blocked(const struct throttle *l, const char *addr, int64_t now_us)
{
    return throttle_blocked(l, throttle_key(slice_str(addr), anyone), now_us, NULL);
}

static void blocks_at_the_limit(void **state)
{
    (void)state;
    struct throttle *l = make(10);
    fail_times(l, "192.0.2.1:1", 9, SECOND_US);
    assert_false(blocked(l, "192.0.2.1:1", SECOND_US));
    fail_times(l, "192.0.2.1:2", 1, SECOND_US); // another port is the same address
    int64_t wait_us = 0;
    assert_true(throttle_blocked(l, throttle_key(SLICE("192.0.2.1"), anyone), SECOND_US, &wait_us));
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
        assert_true(throttle_blocked(l, throttle_key(SLICE("198.51.100.7:9"), anyone), now_us, &wait_us));
        assert_int_equal(wait_us, MINUTE_US << (level < 6 ? level : 6));
        // What fails while it is blocked makes it no longer: a stubborn device gets out again.
        fail_times(l, "198.51.100.7:9", 50, now_us + wait_us - 1);
        now_us += wait_us;
        assert_false(blocked(l, "198.51.100.7:9", now_us));
    }
    now_us += 61 * MINUTE_US;
    int64_t wait_us = 0;
    fail_times(l, "198.51.100.7:9", 5, now_us);
    assert_true(throttle_blocked(l, throttle_key(SLICE("198.51.100.7:9"), anyone), now_us, &wait_us));
    assert_int_equal(wait_us, MINUTE_US);
    throttle_free(l);
}

static void what_one_address_is(void **state)
{
    (void)state;
    static const struct {
        const char *failed, *asked;
        bool same;
    } cases[] = {
        {"[2001:db8:1:2::1]:80", "[2001:db8:1:2:ffff::9]:81", true}, // one /64
        {"[2001:db8:1:2::1]:80", "[2001:db8:1:3::1]:80", false},
        {"2001:db8:1:2::1", "[2001:db8:1:2::7]:1", true},
        {"[::ffff:192.0.2.9]:5", "192.0.2.9:6", true},
        {"192.0.2.9", "192.0.2.9:6", true},
        {"", "192.0.2.9:6", false},
        {"[::1", "127.0.0.1:1", false},
        {"unix", "unix", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct throttle *l = make(1);
        fail_times(l, cases[i].failed, 1, SECOND_US);
        assert_true(blocked(l, cases[i].failed, SECOND_US));
        assert_int_equal(blocked(l, cases[i].asked, SECOND_US), cases[i].same);
        throttle_free(l);
    }
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

static void names_are_counted_apart(void **state)
{
    (void)state;
    uint64_t keys[] = {throttle_key(SLICE("192.0.2.1:1"), anyone), throttle_key(SLICE("192.0.2.1:1"), SLICE("")),
                       throttle_key(SLICE("192.0.2.1:1"), SLICE("a")), throttle_key(SLICE("192.0.2.1:1"), SLICE("b")),
                       throttle_key(SLICE("192.0.2.2:1"), SLICE("a"))};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        assert_true(keys[i] != 0);
        for (size_t j = 0; j < i; j++) {
            assert_true(keys[i] != keys[j]);
        }
    }
    assert_true(throttle_key(SLICE("192.0.2.1:7"), SLICE("a")) == keys[2]); // whatever the port
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
        cmocka_unit_test(blocks_at_the_limit),          cmocka_unit_test(a_slow_trickle_passes),
        cmocka_unit_test(blocks_grow_and_are_forgiven), cmocka_unit_test(what_one_address_is),
        cmocka_unit_test(a_flood_of_addresses_fits),    cmocka_unit_test(zero_never_blocks),
        cmocka_unit_test(names_are_counted_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
