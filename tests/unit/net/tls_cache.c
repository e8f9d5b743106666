#include "net/tls_cache.h"

// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>

#include "base/clock.h"

enum { LIFE_S = 100 };

static int64_t now_us;
static void set_clock(int64_t s)
{
    now_us = s * 1000000;
    clock_fake(now_us, now_us);
}

static struct tls_session session(unsigned id, unsigned cert)
{
    struct tls_session s = {.version = 0x0304, .suite = 0x1301, .secret_len = 32, .made_us = now_us};
    (void)snprintf((char *)s.id, sizeof(s.id), "id-%u", id);
    s.secret[0] = (uint8_t)id;
    if (cert != 0) {
        s.client.has_cert = true;
        (void)snprintf((char *)s.client.cert_sha256, 32, "cert-%u", cert);
        (void)snprintf(s.client.name, sizeof(s.client.name), "device-%u", cert);
    }
    return s;
}

static bool there(struct tls_cache *c, unsigned id)
{
    struct tls_session want = session(id, 0), got = {0};
    struct slice name = slice_make(want.id, sizeof(want.id));
    bool known = tls_cache_knows(c, name), found = tls_cache_get(c, name, &got);
    assert_int_equal(known, found);
    assert_true(!found || (got.secret[0] == (uint8_t)id && slice_eq(slice_make(got.id, 32), name)));
    return found;
}

static int setup(void **state)
{
    set_clock(1000);
    *state = tls_cache_new(64, LIFE_S * 1000000LL);
    assert_non_null(*state);
    return 0;
}

static int teardown(void **state)
{
    tls_cache_unref(*state);
    clock_fake_off();
    return 0;
}

static void what_was_put_comes_back(void **state)
{
    struct tls_session s = session(7, 3), got = {0};
    assert_true(tls_cache_put(*state, &s));
    assert_true(tls_cache_get(*state, slice_make(s.id, sizeof(s.id)), &got));
    assert_string_equal(got.client.name, "device-3");
    assert_memory_equal(got.client.cert_sha256, s.client.cert_sha256, 32);
    assert_int_equal(got.suite, 0x1301);
    assert_false(tls_cache_get(*state, SLICE("short"), &got));
    assert_false(there(*state, 8));
    struct tls_cache_stats st;
    tls_cache_stats(*state, &st);
    assert_int_equal(st.entries, 1);
    assert_int_equal(st.hits, 1);
    assert_int_equal(st.misses, 2);
    assert_in_range(st.bytes, 200, 400);
}

static void entries_end_with_their_time(void **state)
{
    struct tls_session s = session(1, 1);
    tls_cache_put(*state, &s);
    set_clock(1000 + LIFE_S - 1);
    assert_true(there(*state, 1));
    set_clock(1000 + LIFE_S);
    assert_false(there(*state, 1));
    s = session(2, 1);
    tls_cache_put(*state, &s);
    set_clock(10); // the clock was set back: better no session than one for ever
    assert_false(there(*state, 2));
    struct tls_cache_stats st;
    tls_cache_stats(*state, &st);
    assert_int_equal(st.entries, 0);
    assert_int_equal(st.bytes, 0);
}

// Each handshake gives a ticket; a client's oldest unused one ends.
static void a_client_has_few(void **state)
{
    for (unsigned i = 1; i <= 4; i++) {
        struct tls_session s = session(i, 5);
        tls_cache_put(*state, &s);
    }
    assert_true(there(*state, 1)); // used: 2 is the oldest now
    struct tls_session s = session(5, 5), other = session(6, 6);
    tls_cache_put(*state, &s);
    tls_cache_put(*state, &other);
    assert_false(there(*state, 2));
    assert_true(there(*state, 1) && there(*state, 3) && there(*state, 4) && there(*state, 5) && there(*state, 6));
}

// 64 places: 48 for clients with a credential, 16 for strangers, and neither takes the other's.
static void strangers_push_out_strangers(void **state)
{
    struct tls_session known = session(1, 1);
    tls_cache_put(*state, &known);
    for (unsigned i = 100; i < 1100; i++) {
        struct tls_session s = session(i, 0);
        assert_true(tls_cache_put(*state, &s));
    }
    struct tls_cache_stats st;
    tls_cache_stats(*state, &st);
    assert_int_equal(st.entries, 17);
    assert_int_equal(st.evicted, 984);
    assert_true(there(*state, 1));
    assert_true(there(*state, 1099));
    assert_false(there(*state, 100));
    for (unsigned i = 2000; i < 2100; i++) {
        struct tls_session s = session(i, i);
        tls_cache_put(*state, &s);
    }
    tls_cache_stats(*state, &st);
    assert_int_equal(st.entries, 64);
    assert_true(there(*state, 1099));
    assert_false(there(*state, 1));
}

static void forgetting_ends_all_of_one(void **state)
{
    for (unsigned i = 1; i <= 3; i++) {
        struct tls_session s = session(i, 9), t = session(10 + i, 10);
        tls_cache_put(*state, &s);
        tls_cache_put(*state, &t);
    }
    struct tls_session psk = session(30, 0);
    psk.client.has_psk = true;
    (void)snprintf(psk.client.name, sizeof(psk.client.name), "meter-1");
    tls_cache_put(*state, &psk);
    struct tls_session s = session(0, 9);
    assert_int_equal(tls_cache_forget_cert(*state, s.client.cert_sha256), 3);
    assert_int_equal(tls_cache_forget_cert(*state, s.client.cert_sha256), 0);
    assert_false(there(*state, 1) || there(*state, 2) || there(*state, 3));
    assert_true(there(*state, 11) && there(*state, 12) && there(*state, 13));
    assert_int_equal(tls_cache_forget_psk(*state, SLICE("meter-2")), 0);
    assert_int_equal(tls_cache_forget_psk(*state, SLICE("meter-1")), 1);
    assert_false(there(*state, 30));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_put_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_end_with_their_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_has_few, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_push_out_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(forgetting_ends_all_of_one, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
