#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/mqtt.h"

static void test_valid(void **state)
{
    (void)state;
    static const struct {
        const char *t;
        bool topic, filter;
    } rows[] = {
        {"a", true, true},
        {"/", true, true},
        {"a//b", true, true},
        {"$muster/telemetry", true, true},
        {"", false, false},
        {"#", false, true},
        {"+", false, true},
        {"a/#", false, true},
        {"a/+/b", false, true},
        {"+/+", false, true},
        {"a/#/b", false, false},
        {"a#", false, false},
        {"a/b#", false, false},
        {"#a", false, false},
        {"a+/b", false, false},
        {"+a", false, false},
        {"++", false, false},
        {"##", false, false},
        {"$share/g/a", true, true},
        {"$share/g/#", false, true},
        {"$share/g/", true, false},
        {"$share/g", true, false},
        {"$share//a", true, false},
        {"$share/+/a", false, false},
        {"$share/g#/a", false, false},
        {"$shared/x", true, true},
        {"$share/g//", true, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice t = slice_str(rows[i].t);
        if (mqtt_topic_valid(t, &mqtt_limits_default) != rows[i].topic ||
            mqtt_filter_valid(t, &mqtt_limits_default) != rows[i].filter) {
            fail_msg("%s", rows[i].t);
        }
    }
    assert_false(mqtt_topic_valid(SLICE("a\0b"), &mqtt_limits_default));
    assert_false(mqtt_filter_valid(SLICE("\xff"), &mqtt_limits_default));
}

static void test_limits(void **state)
{
    (void)state;
    struct mqtt_limits l = mqtt_limits_default;
    l.topic_max = 5;
    l.levels_max = 3;
    assert_true(mqtt_topic_valid(SLICE("a/b/c"), &l));
    assert_false(mqtt_topic_valid(SLICE("a/b/cd"), &l));
    assert_false(mqtt_topic_valid(SLICE("a/b//"), &l));
}

static void test_matches(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *topic;
        bool match;
    } rows[] = {
        {"a", "a", true},         {"a", "b", false},          {"a/b", "a/b", true},       {"a/b", "a", false},
        {"a", "a/b", false},      {"+", "a", true},           {"+", "a/b", false},        {"+/+", "a/b", true},
        {"+/+", "/b", true},      {"/+", "/b", true},         {"+", "/b", false},         {"#", "a/b/c", true},
        {"a/#", "a", true},       {"a/#", "a/b", true},       {"a/#", "ab", false},       {"a/+/c", "a/b/c", true},
        {"a/+/c", "a//c", true},  {"a/+", "a/", true},        {"a/+", "a", false},        {"#", "$SYS/x", false},
        {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"$SYS/+", "$SYS/x", true}, {"a/b/#", "a", false},
        {"a/", "a", false},       {"a", "a/", false},         {"a//b", "a//b", true},     {"", "a", false},
        {"a", "", false},         {"+/#", "a", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (mqtt_topic_matches(slice_str(rows[i].filter), slice_str(rows[i].topic)) != rows[i].match) {
            fail_msg("%s %s", rows[i].filter, rows[i].topic);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
