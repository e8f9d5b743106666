#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/settings.h"

static struct settings defaults;

static struct settings apply(struct settings s, const char *desired)
{
    settings_apply(&s, &defaults, (struct muster_text){desired, strlen(desired)});
    return s;
}

static const char *error_of(const struct settings *s, const char *key)
{
    for (size_t i = 0; i < s->errors_len; i++) {
        if (strcmp(s->errors[i].key, key) == 0) {
            return s->errors[i].text;
        }
    }
    return NULL;
}

static void good_values_apply(void **state)
{
    (void)state;
    struct settings s = apply(defaults, "{\"other\":1,\"agent\":{\"interval_s\":5,\"metrics\":[\"cpu.*\",\"mem.used\"],"
                                        "\"log_level\":\"warn\"}}");
    assert_int_equal(s.errors_len, 0);
    assert_int_equal(s.interval_s, 5);
    assert_int_equal(s.metrics_len, 2);
    assert_int_equal(s.log_level, LOG_WARN);
    assert_true(settings_wants(&s, "cpu.util") && settings_wants(&s, "mem.used"));
    assert_false(settings_wants(&s, "mem.total") || settings_wants(&s, "cpu"));
    s = apply(s, "{\"agent\":{\"interval_s\":86400}}"); // the others go back to their defaults
    assert_int_equal(s.interval_s, 86400);
    assert_true(settings_wants(&s, "anything"));
    assert_int_equal(s.log_level, LOG_INFO);
    s = apply(s, "{\"agent\":null}");
    assert_int_equal(s.interval_s, 10);
    s = apply(s, "{\"agent\":{\"interval_s\":null,\"metrics\":[]}}");
    assert_int_equal(s.interval_s, 10);
    assert_false(settings_wants(&s, "cpu.util"));
}

static void wrong_values_are_told_and_not_applied(void **state)
{
    (void)state;
    static const char *const intervals[] = {"4", "86401", "-1", "5.5", "\"10\"", "true", "{}", "1e3"};
    struct settings before = apply(defaults, "{\"agent\":{\"interval_s\":30,\"metrics\":[\"cpu.*\"]}}");
    for (size_t i = 0; i < sizeof(intervals) / sizeof(intervals[0]); i++) {
        char json[128];
        snprintf(json, sizeof(json), "{\"agent\":{\"interval_s\":%s,\"log_level\":\"debug\"}}", intervals[i]);
        struct settings s = apply(before, json);
        assert_int_equal(s.interval_s, 30);
        assert_int_equal(s.log_level, LOG_DEBUG); // the good one beside it
        assert_string_equal(error_of(&s, "interval_s"), "must be a whole number of seconds from 5 to 86400");
    }
    static const char *const metrics[] = {
        "\"cpu\"",
        "[1]",
        "[\"\"]",
        "[\"CPU\"]",
        "[\"a b\"]",
        "[[\"a\"]]",
        "[\"\\u0061\"]",
        "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]",
        "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
        "\"a\",\"a\",\"a\"]"};
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        char json[256];
        snprintf(json, sizeof(json), "{\"agent\":{\"metrics\":%s}}", metrics[i]);
        struct settings s = apply(before, json);
        assert_non_null(error_of(&s, "metrics"));
        assert_true(settings_wants(&s, "cpu.util") && !settings_wants(&s, "mem.used"));
    }
    struct settings s = apply(before, "{\"agent\":{\"log_level\":\"loud\",\"speed\":1}}");
    assert_non_null(error_of(&s, "log_level"));
    assert_non_null(error_of(&s, "speed"));
    s = apply(before, "{\"agent\":5}");
    assert_string_equal(error_of(&s, "agent"), "must be an object");
    assert_int_equal(s.interval_s, 30);
}

static void report_says_what_is_in_force(void **state)
{
    (void)state;
    char mem[1024];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct settings s = apply(defaults, "{\"agent\":{\"interval_s\":1,\"metrics\":[\"a\",\"b.*\"]}}");
    struct jw w;
    jw_init(&w, &out);
    jw_object(&w);
    settings_write(&s, &w);
    jw_object_end(&w);
    assert_true(
        slice_eq_str(buf_view(&out),
                     "{\"interval_s\":10,\"metrics\":[\"a\",\"b.*\"],\"log_level\":\"info\",\"errors\":[{\"setting\":"
                     "\"interval_s\",\"error\":\"must be a whole number of seconds from 5 to 86400\"}]}"));
    buf_clear(&out);
    jw_init(&w, &out);
    jw_object(&w);
    settings_write(&defaults, &w);
    jw_object_end(&w);
    assert_true(
        slice_eq_str(buf_view(&out), "{\"interval_s\":10,\"metrics\":[\"*\"],\"log_level\":\"info\",\"errors\":null}"));
}

static void patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {{"*", "", true},
                 {"*", "cpu.util", true},
                 {"cpu.*", "cpu.", true},
                 {"cpu.*", "cpu", false},
                 {"*.used", "mem.used", true},
                 {"*.used", "mem.used2", false},
                 {"*a*b*", "xaxxbx", true},
                 {"*a*b*", "xbxa", false},
                 {"a", "a", true},
                 {"a", "ab", false},
                 {"**", "x", true},
                 {"*aab", "aaaab", true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct settings s = {.metrics_len = 1};
        snprintf(s.metrics[0], sizeof(s.metrics[0]), "%s", cases[i].pattern);
        assert_int_equal(settings_wants(&s, cases[i].text), cases[i].matches);
    }
}

int main(void)
{
    settings_init(&defaults, LOG_INFO);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_values_apply),
        cmocka_unit_test(wrong_values_are_told_and_not_applied),
        cmocka_unit_test(report_says_what_is_in_force),
        cmocka_unit_test(patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
