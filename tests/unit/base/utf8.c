#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"

static void test_good(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "a",
        "seven-b",
        "eight-by",
        "gr\xc3\xbc\xc3\x9f dich",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "12345678\xe2\x82\xac"
        "12345678",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(utf8_valid(slice_str(good[i])));
        assert_true(utf8_mqtt_valid(slice_str(good[i])));
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",                 // continuation alone
        "\xc3",                 // cut short
        "\xc0\x80",             // overlong
        "\xc1\xbf",             // overlong
        "\xe0\x9f\xbf",         // overlong
        "\xf0\x8f\xbf\xbf",     // overlong
        "\xed\xa0\x80",         // surrogate
        "\xed\xbf\xbf",         // surrogate
        "\xf4\x90\x80\x80",     // above U+10FFFF
        "\xf5\x80\x80\x80",     // above U+10FFFF
        "\xff",                 // never
        "\xe2\x82",             // cut short
        "\xe2\x28\xa1",         // broken continuation
        "\xf0\x90\x80\x28",     // broken continuation
        "12345678\xc3(234567",  // behind a whole word
        "1234567\xe2\x82\x28 ", // across words
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(utf8_valid(slice_str(bad[i])));
    }
}

static void test_nul(void **state)
{
    (void)state;
    assert_true(utf8_valid(slice_make("a\0b", 3)));
    assert_false(utf8_mqtt_valid(slice_make("a\0b", 3)));
}

static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x110000; cp += cp < 0x11000 ? 1 : 97) {
        uint8_t b[4];
        size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
        for (size_t i = n; i-- > 1;) {
            b[i] = (uint8_t)(0x80 | (cp >> (6 * (n - 1 - i)) & 0x3f));
        }
        b[0] = (uint8_t)(lead[n] | cp >> (6 * (n - 1)));
        struct slice s = slice_make(b, n);
        bool valid = cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
        assert_int_equal(utf8_sequence(s), valid ? n : 0);
        assert_int_equal(utf8_sequence(slice_head(s, n - 1)), 0);
        if (valid) {
            assert_int_equal(utf8_code_point(s, n), cp);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
