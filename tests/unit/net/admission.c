#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/admission.h"

static struct addr host(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return addr_ipv4((const uint8_t[]){a, b, c, d}, 1000);
}

static struct admission_stats stats(const struct admission *a)
{
    struct admission_stats s;
    admission_stats(a, &s);
    return s;
}

static void test_rate(void **state)
{
    (void)state;
    struct admission *a = admission_new(&(struct admission_conf){.accept_rate = 100, .accept_burst = 5});
    int64_t now_us = 1000000;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(admission_wait_us(a, now_us), 0);
        admission_accepted(a, now_us);
    }
    assert_int_equal(admission_wait_us(a, now_us), 10000);
    assert_int_equal(admission_wait_us(a, now_us + 4000), 6000);
    assert_int_equal(admission_wait_us(a, now_us + 10000), 0);
    admission_accepted(a, now_us + 10000);
    assert_true(admission_wait_us(a, now_us + 10000) > 0);
    assert_int_equal(stats(a).pauses, 3);
    admission_free(a);
}

static void test_connections_of_a_source(void **state)
{
    (void)state;
    struct admission *a = admission_new(&(struct admission_conf){.conns_per_source = 3});
    struct addr one = host(192, 0, 2, 1), two = host(192, 0, 2, 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(admission_enter(a, &one), ADMITTED);
    }
    assert_int_equal(admission_enter(a, &one), REFUSED_SOURCE);
    assert_int_equal(admission_enter(a, &two), ADMITTED);
    admission_known(a, &one);
    admission_leave(a, &one);
    assert_int_equal(admission_enter(a, &one), ADMITTED);
    assert_int_equal(admission_enter(a, &one), REFUSED_SOURCE);
    assert_int_equal(stats(a).refused_source, 2);
    assert_int_equal(stats(a).strangers, 4);
    admission_free(a);
}

static void test_strangers_of_a_network(void **state)
{
    (void)state;
    struct admission *a = admission_new(&(struct admission_conf){.strangers_per_net = 2});
    struct addr n1 = host(192, 0, 2, 1), n2 = host(192, 0, 2, 2), n3 = host(192, 0, 2, 3), other = host(192, 0, 3, 1);
    assert_int_equal(admission_enter(a, &n1), ADMITTED);
    assert_int_equal(admission_enter(a, &n2), ADMITTED);
    assert_int_equal(admission_enter(a, &n3), REFUSED_NET);
    assert_int_equal(admission_enter(a, &other), ADMITTED);
    admission_known(a, &n1); // has shown who it is: there is room for another stranger
    assert_int_equal(admission_enter(a, &n3), ADMITTED);
    assert_int_equal(admission_enter(a, &n3), REFUSED_NET);
    admission_stranger(a, &n1); // changed its protocol and must show itself again
    admission_known(a, &n2);
    assert_int_equal(admission_enter(a, &n3), REFUSED_NET);
    assert_int_equal(stats(a).refused_net, 3);
    assert_int_equal(stats(a).strangers, 3);
    admission_free(a);
}

static void test_mark_of_strangers(void **state)
{
    (void)state;
    struct admission *a = admission_new(&(struct admission_conf){.strangers_max = 2});
    struct addr peer = host(192, 0, 2, 1);
    for (int i = 0; i < 3; i++) {
        assert_false(admission_crowded(a));
        assert_int_equal(admission_enter(a, &peer), ADMITTED);
    }
    assert_true(admission_crowded(a));
    admission_known(a, &peer);
    assert_false(admission_crowded(a));
    admission_free(a);
}

static void test_loopback_is_not_limited_unless_asked_for(void **state)
{
    (void)state;
    for (int limited = 0; limited < 2; limited++) {
        struct admission *a = admission_new(
            &(struct admission_conf){.conns_per_source = 1, .strangers_per_net = 1, .limit_loopback = limited == 1});
        struct addr peer = host(127, 0, 0, 1);
        assert_int_equal(admission_enter(a, &peer), ADMITTED);
        assert_int_equal(admission_enter(a, &peer), limited == 1 ? REFUSED_SOURCE : ADMITTED);
        admission_free(a);
    }
}

// 65,536 addresses with one connection each: none of them looks as if it had four.
static void test_many_sources_share_counters(void **state)
{
    (void)state;
    struct admission *a = admission_new(&(struct admission_conf){.conns_per_source = 60});
    unsigned refused = 0;
    for (unsigned i = 0; i < 65536; i++) {
        struct addr peer = host(10, 0, (uint8_t)(i >> 8), (uint8_t)i);
        refused += admission_enter(a, &peer) != ADMITTED;
    }
    assert_int_equal(refused, 0);
    for (unsigned i = 0; i < 65536; i++) {
        struct addr peer = host(10, 0, (uint8_t)(i >> 8), (uint8_t)i);
        admission_known(a, &peer);
        admission_leave(a, &peer);
    }
    struct addr peer = host(10, 0, 0, 1); // and all counters are back where they were
    for (int i = 0; i < 60; i++) {
        assert_int_equal(admission_enter(a, &peer), ADMITTED);
    }
    assert_int_equal(admission_enter(a, &peer), REFUSED_SOURCE);
    admission_free(a);
}

static void test_proxies(void **state)
{
    (void)state;
    struct addr_net nets[2];
    assert_int_equal(addr_net_parse("10.0.0.0/8", &nets[0], NULL), ST_OK);
    assert_int_equal(addr_net_parse("192.0.2.7", &nets[1], NULL), ST_OK);
    struct admission *a = admission_new(&(struct admission_conf){.proxy_from = nets, .proxy_from_len = 2});
    nets[0] = (struct addr_net){.bits = 128}; // it has its own copy
    struct addr in = host(10, 9, 9, 9), single = host(192, 0, 2, 7), out = host(192, 0, 2, 8);
    assert_true(admission_is_proxy(a, &in));
    assert_true(admission_is_proxy(a, &single));
    assert_false(admission_is_proxy(a, &out));
    admission_free(a);
}

static void test_nobody_asks(void **state)
{
    (void)state;
    struct addr peer = host(192, 0, 2, 1);
    assert_int_equal(admission_wait_us(NULL, 0), 0);
    assert_int_equal(admission_enter(NULL, &peer), ADMITTED);
    assert_false(admission_is_proxy(NULL, &peer));
    assert_false(admission_crowded(NULL));
    admission_accepted(NULL, 0);
    admission_known(NULL, &peer);
    admission_leave(NULL, &peer);
    admission_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_connections_of_a_source),
        cmocka_unit_test(test_strangers_of_a_network),
        cmocka_unit_test(test_mark_of_strangers),
        cmocka_unit_test(test_loopback_is_not_limited_unless_asked_for),
        cmocka_unit_test(test_many_sources_share_counters),
        cmocka_unit_test(test_proxies),
        cmocka_unit_test(test_nobody_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
