#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/proxy_header.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

struct row {
    const char *bytes;
    size_t len;
    enum proxy_step step;
    enum proxy_family family;
    const char *ip;
    uint16_t port;
};
#define ROW(lit, ...)                                                                                                  \
    {                                                                                                                  \
        lit, sizeof(lit) - 1, __VA_ARGS__                                                                              \
    }
#define V4 "\xcb\x00\x71\x07\xc6\x33\x64\x01\x12\x34\x01\xbb"

static const struct row rows[] = {
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n", PROXY_DONE, PROXY_IPV4, "\xcb\x00\x71\x07", 56324),
    ROW("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", PROXY_DONE, PROXY_IPV4, "\0\0\0\0", 0),
    ROW("PROXY TCP6 2001:db8::7 ::1 65535 443\r\n", PROXY_DONE, PROXY_IPV6,
        "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07", 65535),
    ROW("PROXY UNKNOWN\r\n", PROXY_DONE, PROXY_NONE, "", 0),
    ROW("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", PROXY_DONE, PROXY_NONE, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 56324\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 56324 443 \r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 56324 443 1\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4  203.0.113.7 198.51.100.1 1 443\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 01 443\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 +1 443\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 65536 443\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.7 198.51.100.1 1 99999\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 203.0.113.256 198.51.100.1 1 2\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP4 ::1 ::1 1 2\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY TCP6 203.0.113.7 ::1 1 2\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY UDP4 203.0.113.7 198.51.100.1 1 2\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY\r\n", PROXY_BAD, 0, "", 0),
    ROW("PROXY \r\n", PROXY_BAD, 0, "", 0),
    ROW("GET / HTTP/1.1\r\n", PROXY_BAD, 0, "", 0),
    ROW("\x10\x13\x00\x04MQTT", PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x11\0\x0c" V4, PROXY_DONE, PROXY_IPV4, "\xcb\x00\x71\x07", 0x1234),
    ROW(SIGNATURE "\x21\x11\0\x0f" V4 "\x01\0\0", PROXY_DONE, PROXY_IPV4, "\xcb\x00\x71\x07", 0x1234),
    ROW(SIGNATURE "\x20\x11\0\x0c" V4, PROXY_DONE, PROXY_NONE, "", 0),
    ROW(SIGNATURE "\x20\x00\0\0", PROXY_DONE, PROXY_NONE, "", 0),
    ROW(SIGNATURE "\x21\x00\0\x03xyz", PROXY_DONE, PROXY_NONE, "", 0),
    ROW(SIGNATURE "\x21\x11\0\x0b\xcb\x00\x71\x07\xc6\x33\x64\x01\x12\x34\x01", PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x11\0\x0e" V4 "\x01\0", PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x11\0\x0f" V4 "\x01\0\x01", PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x12\0\x0c" V4, PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x41\0\x0c" V4, PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x22\x11\0\x0c" V4, PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x31\x11\0\x0c" V4, PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x11\x02\xe1", PROXY_BAD, 0, "", 0),
    ROW(SIGNATURE "\x21\x11\x02\xe0", PROXY_MORE, 0, "", 0),
    ROW("", PROXY_MORE, 0, "", 0),
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct proxy_header h;
        size_t used = 0;
        const char *error = NULL;
        enum proxy_step step = proxy_header_read(slice_make(row->bytes, row->len), &h, &used, &error);
        if (step != row->step) {
            fail_msg("row %zu: %d, not %d", i, (int)step, (int)row->step);
        }
        assert_true((error != NULL) == (step == PROXY_BAD));
        if (step == PROXY_DONE) {
            assert_int_equal(used, row->len);
            assert_int_equal(h.family, row->family);
            assert_int_equal(h.port, row->port);
            assert_memory_equal(h.ip, row->ip, h.family == PROXY_IPV4 ? 4 : h.family == PROXY_IPV6 ? 16 : 0);
        }
    }
}

// A header that is complete is incomplete at every place before its end, and alone counts.
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct proxy_header h;
        size_t used = 0;
        const char *error = NULL;
        for (size_t n = 0; row->step == PROXY_DONE && n < row->len; n++) {
            assert_int_equal(proxy_header_read(slice_make(row->bytes, n), &h, &used, &error), PROXY_MORE);
        }
        uint8_t mem[1024];
        struct buf b = buf_fixed(mem, sizeof(mem));
        buf_put(&b, row->bytes, row->len);
        buf_str(&b, "PROXY what follows\r\n");
        if (row->step == PROXY_DONE) {
            assert_int_equal(proxy_header_read(buf_view(&b), &h, &used, &error), PROXY_DONE);
            assert_int_equal(used, row->len);
        }
    }
}

static void test_line_limit(void **state)
{
    (void)state;
    char line[PROXY_LINE_MAX + 2];
    for (size_t len = PROXY_LINE_MAX - 1; len <= PROXY_LINE_MAX + 1; len++) {
        struct proxy_header h;
        size_t used = 0;
        const char *error = NULL;
        memset(line, 'x', sizeof(line));
        memcpy(line, "PROXY UNKNOWN ", 14);
        memcpy(line + len - 2, "\r\n", 2);
        enum proxy_step step = proxy_header_read(slice_make(line, len), &h, &used, &error);
        assert_int_equal(step, len <= PROXY_LINE_MAX ? PROXY_DONE : PROXY_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_cut),
                                       cmocka_unit_test(test_line_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
