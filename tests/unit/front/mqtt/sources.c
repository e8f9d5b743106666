#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "front/mqtt/sources.h"

static void test_rate_and_burst(void **state)
{
    (void)state;
    struct sources *s = sources_new(10, 3);
    assert_non_null(s);
    int64_t now = 5000000;
    for (int i = 0; i < 3; i++) {
        assert_true(sources_allow(s, "192.0.2.1:1000", now));
    }
    assert_false(sources_allow(s, "192.0.2.1:1001", now));
    assert_true(sources_allow(s, "192.0.2.2:1000", now));
    assert_false(sources_allow(s, "192.0.2.1:1001", now + 99999));
    assert_true(sources_allow(s, "192.0.2.1:1001", now + 100000));
    assert_false(sources_allow(s, "192.0.2.1:1001", now + 100000));
    assert_false(sources_allow(s, "192.0.2.1:1001", now)); // a clock that stands or goes back gives nothing
    now += 3600LL * 1000000;
    for (int i = 0; i < 3; i++) { // a long rest fills the bucket, no more
        assert_true(sources_allow(s, "192.0.2.1:1000", now));
    }
    assert_false(sources_allow(s, "192.0.2.1:1000", now));
    sources_free(s);
}

static void test_ipv6_counts_by_64_bits(void **state)
{
    (void)state;
    struct sources *s = sources_new(1, 1);
    assert_true(sources_allow(s, "[2001:db8::1]:1000", 1));
    assert_false(sources_allow(s, "[2001:db8::ffff:2]:1000", 1));
    assert_true(sources_allow(s, "[2001:db8:0:1::1]:1000", 1));
    sources_free(s);
}

static void test_off(void **state)
{
    (void)state;
    struct sources *s = sources_new(0, 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(sources_allow(s, "192.0.2.1:1", 1));
    }
    sources_free(s);
    sources_free(NULL);
}

// More addresses than the table holds: memory stays as it is, and the limit still works for one that keeps coming.
static void test_many_addresses(void **state)
{
    (void)state;
    struct sources *s = sources_new(1, 5);
    unsigned allowed = 0;
    for (unsigned i = 0; i < 100000; i++) {
        char addr[32];
        snprintf(addr, sizeof(addr), "10.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
        assert_true(sources_allow(s, addr, 1));
        if (i % 1000 == 0) {
            allowed += sources_allow(s, "192.0.2.1:1", 1);
        }
    }
    assert_in_range(allowed, 5, 30);
    sources_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_and_burst),
        cmocka_unit_test(test_ipv6_counts_by_64_bits),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_many_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
