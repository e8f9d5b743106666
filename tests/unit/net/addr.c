#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "net/addr.h"

static struct addr make(const char *text, uint16_t port)
{
    struct addr a = {.port = port};
    uint8_t v4[4];
    if (inet_pton(AF_INET, text, v4) == 1) {
        return addr_ipv4(v4, port);
    }
    assert_int_equal(inet_pton(AF_INET6, text, a.ip), 1);
    return a;
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *ip, *text;
        bool loopback;
    } rows[] = {{"192.0.2.1", "192.0.2.1:1234", false},
                {"127.0.0.1", "127.0.0.1:1234", true},
                {"127.255.0.9", "127.255.0.9:1234", true},
                {"::1", "[::1]:1234", true},
                {"::2", "[::2]:1234", false},
                {"2001:db8::5", "[2001:db8::5]:1234", false},
                {"::ffff:10.1.2.3", "10.1.2.3:1234", false},
                {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1234", false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[ADDR_TEXT_MAX];
        struct addr a = make(rows[i].ip, 1234);
        assert_string_equal(addr_text(&a, text), rows[i].text);
        assert_int_equal(addr_is_loopback(&a), rows[i].loopback);
    }
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *net, *in, *out;
    } rows[] = {{"10.0.0.0/8", "10.255.1.1", "11.0.0.0"},      {"192.0.2.128/25", "192.0.2.200", "192.0.2.127"},
                {"192.0.2.7", "192.0.2.7", "192.0.2.6"},       {"192.0.2.7/32", "192.0.2.7", "192.0.2.8"},
                {"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},   {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
                {"2001:db8::1", "2001:db8::1", "2001:db8::2"}, {"::/0", "2001:db8::1", NULL}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr_net n;
        assert_int_equal(addr_net_parse(rows[i].net, &n, NULL), ST_OK);
        struct addr in = make(rows[i].in, 1);
        assert_true(addr_net_has(&n, &in));
        if (rows[i].out != NULL) {
            struct addr out = make(rows[i].out, 1);
            assert_false(addr_net_has(&n, &out));
        }
    }
    static const char *const bad[] = {
        "",           "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x",  "10.0.0.0/8 ", "10.0.0/8",
        "10.1.0.0/8", "::1/129",     "::1/64",    "example.org", "10.0.0.0/-1", "/8"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct addr_net n = {.bits = 77};
        struct err err = {.code = ST_OK};
        assert_int_equal(addr_net_parse(bad[i], &n, &err), ST_INVALID);
        assert_int_equal(n.bits, 77);
        assert_string_equal(err.where, bad[i]);
    }
}

static void test_network_of_an_address(void **state)
{
    (void)state;
    struct addr a = make("192.0.2.77", 1), b = make("192.0.2.1", 2), c = make("192.0.3.77", 1);
    struct addr_net na = addr_net_of(&a, 24, 56);
    assert_true(addr_net_has(&na, &b));
    assert_false(addr_net_has(&na, &c));
    struct addr d = make("2001:db8:0:12ff::1", 1), e = make("2001:db8:0:1200::9", 1), f = make("2001:db8:0:1300::1", 1);
    struct addr_net nd = addr_net_of(&d, 24, 56);
    assert_true(addr_net_has(&nd, &e));
    assert_false(addr_net_has(&nd, &f));
}

static void test_text_and_back(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; // NULL: no address
    } rows[] = {{"192.0.2.1:1234", "192.0.2.1:1234"},
                {"192.0.2.1", "192.0.2.1:0"},
                {"[2001:db8::1]:65535", "[2001:db8::1]:65535"},
                {"[2001:db8::1]", "[2001:db8::1]:0"},
                {"2001:db8::1", "[2001:db8::1]:0"},
                {"[::ffff:192.0.2.1]:7", "192.0.2.1:7"},
                {"", NULL},
                {"[", NULL},
                {"[::1", NULL},
                {"[::1]x", NULL},
                {"192.0.2.1:", NULL},
                {"192.0.2.1:x", NULL},
                {"192.0.2.1:65536", NULL},
                {"192.0.2:1", NULL},
                {"host:1", NULL}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr a;
        char text[ADDR_TEXT_MAX];
        assert_int_equal(addr_parse(slice_make(rows[i].text, strlen(rows[i].text)), &a), rows[i].want != NULL);
        if (rows[i].want != NULL) {
            assert_string_equal(addr_text(&a, text), rows[i].want);
        }
    }
}

static void test_text_of_networks(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"192.0.2.1/32", "192.0.2.1"},      {"192.0.2.0/24", "192.0.2.0/24"},
                                          {"0.0.0.0/0", "0.0.0.0/0"},         {"2001:DB8::/32", "2001:db8::/32"},
                                          {"2001:db8::1/128", "2001:db8::1"}, {"::/0", "::/0"},
                                          {"::ffff:192.0.2.1", "192.0.2.1"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr_net n;
        char text[ADDR_TEXT_MAX];
        assert_int_equal(addr_net_parse(rows[i][0], &n, NULL), ST_OK);
        assert_string_equal(addr_net_text(&n, text), rows[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_networks),
                                       cmocka_unit_test(test_network_of_an_address),
                                       cmocka_unit_test(test_text_and_back), cmocka_unit_test(test_text_of_networks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
