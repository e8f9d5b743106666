#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static void test_every_status_has_its_words_and_codes(void **state)
{
    (void)state;
    for (int i = 0; i < ST__COUNT; i++) {
        enum status back;
        assert_true(status_parse(status_text((enum status)i), &back));
        assert_int_equal(back, i); // and no text stands twice
        assert_in_range(status_http((enum status)i), 200, 599);
        assert_true(i == ST_OK ? status_mqtt((enum status)i) == 0 : status_mqtt((enum status)i) >= 0x80);
    }
    enum status s = ST_BUSY;
    assert_false(status_parse("nonsense", &s));
    assert_int_equal(s, ST_BUSY);
    assert_string_equal(status_text((enum status)999), "internal");
}

static void test_err(void **state)
{
    (void)state;
    struct err e = {.where = "old"};
    assert_int_equal(err_set(&e, ST_INVALID, "%d apples", 3), ST_INVALID);
    assert_int_equal(e.code, ST_INVALID);
    assert_string_equal(e.text, "3 apples");
    assert_string_equal(e.where, "");
    assert_int_equal(err_at(&e, ST_LIMIT, "/tags/site", "too long: %s", e.text), ST_LIMIT);
    assert_string_equal(e.text, "too long: 3 apples");
    assert_string_equal(e.where, "/tags/site");
    assert_int_equal(err_wrap(&e, "line %d", 7), ST_LIMIT);
    assert_string_equal(e.text, "line 7: too long: 3 apples");
    assert_string_equal(e.where, "/tags/site");
}

static void test_err_null(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ST_FULL, "x"), ST_FULL);
    assert_int_equal(err_at(NULL, ST_FULL, "w", "x"), ST_FULL);
    assert_int_equal(err_wrap(NULL, "x"), ST_INTERNAL);
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    char text[1000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct err e;
    err_at(&e, ST_IO, text, "%s", text);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    assert_int_equal(strlen(e.where), sizeof(e.where) - 1);
    err_wrap(&e, "opening");
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    assert_memory_equal(e.text, "opening: aaa", 12);
    assert_string_equal(e.text + sizeof(e.text) - 5, "a...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_its_words_and_codes),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_err_null),
        cmocka_unit_test(test_long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
