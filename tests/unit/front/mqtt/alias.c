#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "front/mqtt/alias.h"

static void test_from_the_client(void **state)
{
    (void)state;
    struct alias *t = NULL;
    assert_null(alias_get(t, 1).p);
    assert_true(alias_set(&t, 3, 3, SLICE("a/b")));
    assert_null(alias_get(t, 1).p);
    assert_true(slice_eq_str(alias_get(t, 3), "a/b"));
    assert_true(alias_set(&t, 3, 3, SLICE("longer/topic"))); // set anew
    assert_true(slice_eq_str(alias_get(t, 3), "longer/topic"));
    alias_free(t, 3);
    alias_free(NULL, 3);
}

// As the front uses it: how the topic is sent. 0: in full; n: with a new alias n; -n: by alias n alone.
static int use(struct alias_out *a, const char *topic)
{
    uint16_t alias = alias_out_find(a, slice_str(topic));
    return alias != 0 ? -(int)alias : alias_out_set(a, slice_str(topic));
}

static void test_to_the_client(void **state)
{
    (void)state;
    struct alias_out *a = alias_out_new(2);
    assert_int_equal(use(a, "first/topic"), 1); // one is free
    assert_int_equal(use(a, "first/topic"), -1);
    assert_int_equal(use(a, "abc"), 0);
    assert_int_equal(use(a, "abc"), 0); // shorter than an alias
    assert_int_equal(use(a, "second/topic"), 2);
    assert_int_equal(use(a, "first/topic"), -1);
    assert_int_equal(use(a, "third/topic"), 0); // all are taken: once is not worth another one's
    assert_int_equal(use(a, "second/topic"), -2);
    assert_int_equal(use(a, "first/topic"), -1);
    assert_int_equal(use(a, "third/topic"), 2); // the second was not used for longer
    assert_int_equal(use(a, "first/topic"), -1);
    assert_int_equal(use(a, "third/topic"), -2);
    assert_true(use(a, "second/topic") >= 0);
    alias_out_free(a);
    alias_out_free(NULL);
}

// Whatever comes, the other side, which keeps a table of its own, always knows the topic.
static void test_other_side(void **state)
{
    (void)state;
    struct alias_out *a = alias_out_new(8);
    char table[9][32] = {""};
    unsigned by_alias = 0;
    for (unsigned i = 0; i < 20000; i++) {
        char topic[32];
        snprintf(topic, sizeof(topic), "topic/%u", i * 7919 % (i % 3 == 0 ? 50 : 6));
        int how = use(a, topic);
        if (how > 0) {
            snprintf(table[how], sizeof(table[how]), "%s", topic);
        } else if (how < 0) {
            assert_string_equal(table[-how], topic);
            by_alias++;
        }
    }
    assert_true(by_alias > 8000);
    alias_out_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_the_client),
        cmocka_unit_test(test_to_the_client),
        cmocka_unit_test(test_other_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
