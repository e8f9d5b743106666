#include "core/handshakes.h"

// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/metrics.h"

static struct handshakes *h;
static struct buf text;

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    h = handshakes_new();
    text = buf_heap(4u << 20);
    assert_non_null(h);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    handshakes_free(h);
    buf_release(&text);
    clock_fake_off();
    return 0;
}

static struct tls_failure failure(const char *addr, const char *reason)
{
    return (struct tls_failure){.peer_addr = addr,
                                .reason = reason,
                                .alert_way = TLS_ALERT_SENT,
                                .alert = 48,
                                .sni = "hub.example",
                                .alpn = "",
                                .versions = "",
                                .ciphers = "",
                                .subject = "",
                                .issuer = "",
                                .serial = "",
                                .verify = ""};
}

static const char *list(struct handshakes_filter f)
{
    struct jw w;
    struct err err = {0};
    f.limit = f.limit > 0 ? f.limit : 1000;
    buf_clear(&text);
    jw_init(&w, &text);
    assert_int_equal(handshakes_list(h, &f, &w, &err), ST_OK);
    assert_true(buf_u8(&text, 0));
    return (const char *)text.p;
}

static unsigned count_of(const char *in, const char *what)
{
    unsigned n = 0;
    for (const char *at = in; (at = strstr(at, what)) != NULL; at++) {
        n++;
    }
    return n;
}

static void the_same_failure_counts_up(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char addr[32];
        (void)snprintf(addr, sizeof(addr), "192.0.2.1:%d", 1000 + i); // another port each time
        struct tls_failure f = failure(addr, "no shared cipher");
        handshakes_add(h, &f);
    }
    struct tls_failure other = failure("192.0.2.2:7", "no shared cipher"), words = failure("192.0.2.1:9", "not TLS");
    handshakes_add(h, &other);
    handshakes_add(h, &words);
    const char *all = list((struct handshakes_filter){.since_us = INT64_MIN});
    assert_int_equal(count_of(all, "\"reason\""), 3);
    assert_non_null(strstr(all, "\"count\":5"));
    assert_non_null(strstr(all, "\"alert\":{\"name\":\"unknown_ca\",\"code\":48,\"direction\":\"sent\"}"));
    assert_non_null(strstr(all, "\"certificate\":null"));
    assert_true(strstr(all, "not TLS") < strstr(all, "192.0.2.2")); // newest first
}

static void only_the_newest_stay(void **state)
{
    (void)state;
    for (int i = 0; i < HANDSHAKES_MAX + 500; i++) {
        char addr[32];
        (void)snprintf(addr, sizeof(addr), "10.0.%d.%d:1", i / 250, i % 250);
        struct tls_failure f = failure(addr, "not TLS");
        handshakes_add(h, &f);
    }
    assert_int_equal(count_of(list((struct handshakes_filter){.since_us = INT64_MIN}), "\"reason\""), HANDSHAKES_MAX);
    assert_null(strstr((const char *)text.p, "10.0.1.249:1"));
    assert_non_null(strstr((const char *)text.p, "10.0.2.0:1"));
}

static void pages_and_filters(void **state)
{
    (void)state;
    struct tls_failure v6 = failure("[2001:db8::1]:9", "not TLS"), v4 = failure("192.0.2.1:8", "not TLS");
    clock_fake(1000000, 0);
    handshakes_add(h, &v6);
    clock_fake(9000000, 0);
    handshakes_add(h, &v4);
    assert_int_equal(count_of(list((struct handshakes_filter){.address = SLICE("2001:db8::1")}), "\"reason\""), 1);
    assert_int_equal(count_of(list((struct handshakes_filter){.address = SLICE("192.0.2.1:8")}), "\"reason\""), 1);
    assert_int_equal(count_of(list((struct handshakes_filter){.address = SLICE("192.0.2")}), "\"reason\""), 0);
    assert_int_equal(count_of(list((struct handshakes_filter){.since_us = 5000000}), "\"reason\""), 1);
    const char *page = list((struct handshakes_filter){.limit = 1});
    assert_non_null(strstr(page, "192.0.2.1"));
    const char *next = strstr(page, "\"next\":\"");
    assert_non_null(next);
    char cursor[64] = "";
    struct slice c = slice_make(next + 8, strcspn(next + 8, "\""));
    assert_true(slice_to_cstr(c, cursor, sizeof(cursor)));
    page = list((struct handshakes_filter){.limit = 1, .cursor = slice_str(cursor)});
    assert_non_null(strstr(page, "2001:db8::1"));
    struct jw w;
    struct err err = {0};
    jw_init(&w, &text);
    assert_int_equal(handshakes_list(h, &(struct handshakes_filter){.cursor = SLICE("!"), .limit = 1}, &w, &err),
                     ST_INVALID);
}

// Long texts are cut, and every one keeps its end.
static void texts_are_bounded(void **state)
{
    (void)state;
    static char line[5000];
    memset(line, 'x', sizeof(line) - 1);
    struct tls_failure f = failure("192.0.2.1:8", line);
    f.ciphers = line;
    f.has_cert = true;
    f.subject = line;
    handshakes_add(h, &f);
    const char *all = list((struct handshakes_filter){.since_us = INT64_MIN});
    assert_true(strlen(all) < 3000);
    assert_int_equal(count_of(all, "\"fingerprint\":\"0000"), 1);
}

static void alerts_are_counted(void **state)
{
    (void)state;
    struct tls_failure sent = failure("192.0.2.1:8", "a"), none = failure("192.0.2.1:8", "b");
    none.alert_way = TLS_ALERT_NONE;
    none.alert = 0;
    handshakes_add(h, &sent);
    handshakes_add(h, &sent);
    handshakes_add(h, &none);
    metrics_write(&text);
    assert_true(buf_u8(&text, 0));
    const char *all = (const char *)text.p;
    assert_non_null(strstr(all, "{direction=\"sent\",alert=\"unknown_ca\",code=\"48\"} 2\n"));
    assert_non_null(strstr(all, "{direction=\"none\",alert=\"none\",code=\"\"} 1\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_failure_counts_up, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_newest_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_and_filters, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(alerts_are_counted, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
