#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/json.h"

static enum status check(const char *text, unsigned keys_max, struct err *err)
{
    return json_check(slice_str(text), 16, keys_max, err);
}

static void test_good(void **state)
{
    (void)state;
    assert_int_equal(check("{\"a\":1,\"b\":{\"a\":2},\"c\":[{\"a\":1},{\"a\":1}]}", 10, NULL), ST_OK);
    assert_int_equal(check("[]", 0, NULL), ST_OK);
    assert_int_equal(check("{\"a\":{\"b\":1},\"b\":1}", 3, NULL), ST_OK);
}

static void test_duplicates(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(check("{\"a\":1,\"b\":2,\"a\":3}", 10, &err), ST_INVALID);
    assert_string_equal(err.where, "byte 13");
    assert_int_equal(check("{\"a\":1,\"\\u0061\":3}", 10, &err), ST_INVALID);
    assert_int_equal(check("[{\"x\":{\"k\":1,\"k\":1}}]", 10, &err), ST_INVALID);
    assert_int_equal(check("{\"a\":{\"z\":1},\"q\":1,\"a\":3}", 10, &err), ST_INVALID);
}

static void test_limits(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(check("{\"a\":1,\"b\":2}", 1, &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "not acceptable JSON: more than 1 keys");
    assert_int_equal(check("{\"a\":1", 10, &err), ST_MALFORMED);
    assert_string_equal(err.where, "byte 6");
    assert_int_equal(check("[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", 10, &err), ST_MALFORMED);
}

static void test_ten_thousand_keys(void **state)
{
    (void)state;
    struct buf b = buf_heap(1 << 20);
    buf_str(&b, "{");
    for (unsigned i = 0; i < 10000; i++) {
        buf_printf(&b, "%s\"k%u\":%u", i > 0 ? "," : "", i, i);
    }
    buf_str(&b, "}");
    assert_int_equal(json_check(buf_view(&b), 2, 10000, NULL), ST_OK);
    assert_int_equal(json_check(buf_view(&b), 2, 9999, NULL), ST_TOO_LARGE);
    b.len--;
    buf_str(&b, ",\"k17\":0}");
    struct err err;
    assert_int_equal(json_check(buf_view(&b), 2, 10001, &err), ST_INVALID);
    assert_string_equal(err.text, "not acceptable JSON: a key stands twice in the same object");
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_ten_thousand_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
