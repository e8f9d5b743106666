#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slice.h"

static void test_compare(void **state)
{
    (void)state;
    assert_true(slice_eq(SLICE("ab"), SLICE("ab")));
    assert_false(slice_eq(SLICE("ab"), SLICE("abc")));
    assert_false(slice_eq(SLICE("ab"), SLICE("ac")));
    assert_true(slice_eq(slice_make(NULL, 0), SLICE("")));
    assert_true(slice_eq_str(SLICE("ab"), "ab"));
    assert_true(slice_starts(SLICE("abc"), SLICE("ab")));
    assert_true(slice_starts(SLICE("abc"), slice_make(NULL, 0)));
    assert_false(slice_starts(SLICE("a"), SLICE("ab")));
    assert_null(slice_str(NULL).p);
}

static void test_cut(void **state)
{
    (void)state;
    assert_true(slice_eq_str(slice_from(SLICE("abc"), 1), "bc"));
    assert_int_equal(slice_from(SLICE("abc"), 3).len, 0);
    assert_int_equal(slice_from(SLICE("abc"), 99).len, 0);
    assert_true(slice_eq_str(slice_head(SLICE("abc"), 2), "ab"));
    assert_true(slice_eq_str(slice_head(SLICE("abc"), 9), "abc"));
}

static void test_to_cstr(void **state)
{
    (void)state;
    char dst[4];
    assert_true(slice_to_cstr(SLICE("abc"), dst, sizeof(dst)));
    assert_string_equal(dst, "abc");
    assert_false(slice_to_cstr(SLICE("abcd"), dst, sizeof(dst)));
    assert_string_equal(dst, "");
    assert_false(slice_to_cstr(slice_make("a\0b", 3), dst, sizeof(dst)));
    assert_true(slice_to_cstr(slice_make(NULL, 0), dst, sizeof(dst)));
    assert_string_equal(dst, "");
    assert_false(slice_to_cstr(SLICE(""), dst, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_to_cstr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
