// The limiter of wrong tokens, and what gzip is sent to whom.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "front/http/gzip.h"
#include "front/http/limiter.h"

#define SECOND_US INT64_C(1000000)

static void holds_a_source_back(void **state)
{
    (void)state;
    struct limiter *l = limiter_new(10);
    assert_non_null(l);
    int64_t now = 1000 * SECOND_US;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.1:1"), now), 0);
        limiter_failed(l, SLICE("192.0.2.1:1"), now);
    }
    assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.1:2"), now), 6); // whatever the port
    assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.2:1"), now), 0);
    assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.1:1"), now + 5 * SECOND_US), 1);
    assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.1:1"), now + 6 * SECOND_US), 0); // one more try every 6 s
    limiter_failed(l, SLICE("192.0.2.1:1"), now + 6 * SECOND_US);
    assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.1:1"), now + 6 * SECOND_US), 6);
    assert_int_equal(limiter_wait_s(l, SLICE("192.0.2.1:1"), now + 120 * SECOND_US), 0);
    limiter_free(l);
}

static void ipv6_counts_by_network(void **state)
{
    (void)state;
    struct limiter *l = limiter_new(1);
    limiter_failed(l, SLICE("[2001:db8::1]:1"), SECOND_US);
    assert_true(limiter_wait_s(l, SLICE("[2001:db8::ffff:2]:99"), SECOND_US) > 0);
    assert_int_equal(limiter_wait_s(l, SLICE("[2001:db8:0:1::1]:1"), SECOND_US), 0);
    limiter_failed(l, SLICE("somewhere:1"), SECOND_US); // not an address: a source by its text
    assert_true(limiter_wait_s(l, SLICE("somewhere:2"), SECOND_US) > 0);
    assert_int_equal(limiter_wait_s(l, SLICE("elsewhere:1"), SECOND_US), 0);
    assert_int_equal(limiter_wait_s(l, SLICE(""), SECOND_US), 0);
    limiter_free(l);
}

// Many sources cost no memory; the ones that fail most stay known.
static void many_sources_do_not_grow_it(void **state)
{
    (void)state;
    struct limiter *l = limiter_new(1);
    for (unsigned i = 0; i < 100000; i++) {
        char addr[32];
        snprintf(addr, sizeof(addr), "10.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
        limiter_failed(l, slice_str(addr), (int64_t)i);
        assert_true(limiter_wait_s(l, slice_str(addr), (int64_t)i) > 0);
    }
    limiter_free(l);
}

static void knows_who_takes_gzip(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        bool takes;
    } cases[] = {
        {"", false},
        {"gzip", true},
        {"br, GZip ;q=0.1", true},
        {"gzip;q=0", false},
        {"gzip;q=0.000, *", false},
        {"*", true},
        {"*;q=0", false},
        {"identity", false},
        {"xgzip", false},
        {"gzipx", false},
        {",,gzip", true},
        {"*;q=0, gzip", true},
        {"gzip; q=0", false},
        {"deflate , gzip ", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (gzip_accepted(slice_str(cases[i].header)) != cases[i].takes) {
            fail_msg("%s", cases[i].header);
        }
    }
}

static void what_does_not_shrink_is_left(void **state)
{
    (void)state;
    struct buf out = buf_heap(1 << 20);
    uint8_t noise[256];
    for (unsigned i = 0; i < sizeof(noise); i++) {
        noise[i] = (uint8_t)(i * 167 + 13);
    }
    assert_false(gzip_body(slice_make(noise, sizeof(noise)), &out));
    assert_false(gzip_body(SLICE(""), &out));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_a_source_back),          cmocka_unit_test(ipv6_counts_by_network),
        cmocka_unit_test(many_sources_do_not_grow_it),  cmocka_unit_test(knows_who_takes_gzip),
        cmocka_unit_test(what_does_not_shrink_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
