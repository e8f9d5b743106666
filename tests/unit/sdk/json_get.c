#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/slice.h"
#include "muster/muster.h"

static struct muster_text doc(const char *s)
{
    return (struct muster_text){s, strlen(s)};
}

static void finds(void **state)
{
    (void)state;
    struct muster_text d =
        doc(" { \"a\" : { \"b\" : [1, {\"x\":2}] , \"c\":-5 }, \"d\":1.5,\"e\":\"q\\u0041\",\"f\":false,\"a/b\":9 } ");
    struct muster_text raw = {NULL, 0};
    int64_t i = 0;
    double f = 0;
    bool b = true;
    char s[8];
    assert_int_equal(muster_json_raw(d, "a/b", &raw), MUSTER_OK);
    assert_true(slice_eq_str(slice_make(raw.p, raw.len), "[1, {\"x\":2}]"));
    assert_int_equal(muster_json_raw(d, "a", &raw), MUSTER_OK);
    assert_true(raw.p[0] == '{' && raw.p[raw.len - 1] == '}');
    assert_int_equal(muster_json_raw(d, "e", &raw), MUSTER_OK);
    assert_true(slice_eq_str(slice_make(raw.p, raw.len), "\"q\\u0041\""));
    assert_int_equal(muster_json_int(d, "a/c", &i), MUSTER_OK);
    assert_int_equal(i, -5);
    assert_int_equal(muster_json_double(d, "d", &f), MUSTER_OK);
    assert_true(f == 1.5);
    assert_int_equal(muster_json_double(d, "a/c", &f), MUSTER_OK);
    assert_true(f == -5);
    assert_int_equal(muster_json_bool(d, "f", &b), MUSTER_OK);
    assert_false(b);
    assert_int_equal(muster_json_str(d, "e", s, sizeof(s)), MUSTER_OK);
    assert_string_equal(s, "qA");
    assert_int_equal(muster_json_int(doc("7"), "", &i), MUSTER_OK);
    assert_int_equal(i, 7);
}

static void says_why_not(void **state)
{
    (void)state;
    struct muster_text d = doc("{\"a\":{\"b\":1},\"s\":\"abc\",\"z\":\"\\u0000\",\"n\":null}");
    int64_t i = 5;
    char s[8] = "old";
    struct muster_text raw = {NULL, 0};
    assert_int_equal(muster_json_int(d, "x", &i), MUSTER_E_NOT_FOUND);
    assert_int_equal(muster_json_int(d, "a/b/c", &i), MUSTER_E_NOT_FOUND);
    assert_int_equal(muster_json_int(d, "s", &i), MUSTER_E_TYPE);
    assert_int_equal(muster_json_int(d, "n", &i), MUSTER_E_TYPE);
    assert_int_equal(muster_json_int(doc("{\"a\" 1}"), "a", &i), MUSTER_E_INVALID);
    assert_int_equal(muster_json_int(doc(""), "", &i), MUSTER_E_INVALID);
    assert_int_equal(muster_json_raw(doc("{\"a\":[1,}"), "a", &raw), MUSTER_E_INVALID);
    assert_int_equal(i, 5);
    assert_int_equal(muster_json_str(d, "a", s, sizeof(s)), MUSTER_E_TYPE);
    assert_string_equal(s, "old");
    assert_int_equal(muster_json_str(d, "s", s, 3), MUSTER_E_TOO_LARGE);
    assert_int_equal(muster_json_str(d, "s", s, 4), MUSTER_OK);
    assert_int_equal(muster_json_str(d, "z", s, sizeof(s)), MUSTER_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds), cmocka_unit_test(says_why_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
