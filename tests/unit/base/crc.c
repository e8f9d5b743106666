#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/crc.h"

// RFC 3720 appendix B.4.
static void test_known_values(void **state)
{
    (void)state;
    uint8_t b[32];
    memset(b, 0, sizeof(b));
    assert_int_equal(crc32c(0, slice_make(b, 32)), 0x8a9136aa);
    memset(b, 0xff, sizeof(b));
    assert_int_equal(crc32c(0, slice_make(b, 32)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        b[i] = i;
    }
    assert_int_equal(crc32c(0, slice_make(b, 32)), 0x46dd794e);
    assert_int_equal(crc32c(0, SLICE("123456789")), 0xe3069283);
    assert_int_equal(crc32c(0, SLICE("")), 0);
}

static void test_both_ways_agree_and_chain(void **state)
{
    (void)state;
    uint8_t b[200];
    for (size_t i = 0; i < sizeof(b); i++) {
        b[i] = (uint8_t)(i * 37 + 11);
    }
    for (size_t len = 0; len <= sizeof(b); len++) {
        struct slice s = slice_make(b, len);
        uint32_t whole = crc32c(0, s);
        assert_int_equal(whole, crc32c_portable(0, s));
        size_t cut = len / 3;
        assert_int_equal(whole, crc32c(crc32c(0, slice_head(s, cut)), slice_from(s, cut)));
        assert_int_equal(whole, crc32c_portable(crc32c_portable(0, slice_head(s, cut)), slice_from(s, cut)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_both_ways_agree_and_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
