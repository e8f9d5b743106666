// What an editor is told: completion and hover.
#include "expr/complete.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"

static const char *const tag_names[] = {"site", "room"};
static const struct expr_names names[] = {{"tags", tag_names, 2}};
static const struct expr_check_options options = {.wanted = EXPR_OF(EXPR_BOOL), .names = names, .names_count = 1};

static char answer[65536];

static const char *ask(enum status (*what)(struct slice, size_t, const struct expr_check_options *, struct buf *),
                       const char *text, size_t offset)
{
    struct expr_check_options o = options;
    struct buf out = buf_fixed(answer, sizeof(answer) - 1);
    o.schema = expr_schema_device();
    assert_int_equal(what(slice_str(text), offset, &o, &out), ST_OK);
    answer[out.len] = '\0';
    assert_int_equal(json_check(buf_view(&out), 4, 2000, NULL), ST_OK);
    return answer;
}

struct row {
    const char *text;
    const char *offers; // in this order, each in quotes as "text":"..."; a leading ! means: not offered
};

static const struct row rows[] = {
    {"", "model|reported|lower(|exists(|interval '|case|not|!and|!like|!end"},
    {"mo", "model|mod(|!id|!lower("},
    {"MOD", "model|mod("},
    {"model ", "and|or|not|in|like|between|is|!model|!then|!escape"},
    {"model l", "like|!ilike|!lower("},
    {"model like 'x' ", "and|or|escape|!like"},
    {"model is ", "not|null|true|unknown|distinct|!model"},
    {"model is distinct ", "from|!and"},
    {"tags.", "site|room|!model|!and"},
    {"tags.s", "site|!room"},
    {"tags.site.", "!site|!time"},
    {"telemetry.temp.", "time|value"},
    {"telemetry.", "!time"},
    {"case when online ", "then|and|!when|!end"},
    {"case when online then 1 ", "when|else|end|!then"},
    {"cast(model ", "as|and"},
    {"exists(groups[*] ", "where|!and"},
    {"exists(groups[*] where ", "model|not"},
    {"model = 'x' and (", "model|not"},
    {"model = = ", "!model|!and"},
    {"model in (", "model"},
    {"model in ('a', ", "model|lower("},
};

static void completion(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *got = ask(expr_complete, rows[i].text, strlen(rows[i].text));
        for (const char *p = rows[i].offers; *p != '\0';) {
            size_t n = strcspn(p, "|");
            bool no = *p == '!';
            char item[96];
            snprintf(item, sizeof(item), "\"text\":\"%.*s\"", (int)(n - (no ? 1 : 0)), p + (no ? 1 : 0));
            if ((strstr(got, item) != NULL) == no) {
                fail_msg("%s: %s in %s", rows[i].text, item, got);
            }
            p += n + (p[n] == '|' ? 1 : 0);
        }
    }
}

static void completion_replaces_the_word(void **state)
{
    (void)state;
    assert_string_equal(ask(expr_complete, "online and mode = 'x'", 15),
                        "{\"from\":11,\"to\":15,\"items\":[{\"text\":\"model\",\"kind\":\"name\",\"detail\":\"a "
                        "text\",\"doc\":\"its model\"}]}");
    assert_string_equal(
        ask(expr_complete, "tags.si", 99),
        "{\"from\":5,\"to\":7,\"items\":[{\"text\":\"site\",\"kind\":\"key\",\"detail\":\"tags\",\"doc\":\"\"}]}");
    assert_string_equal(ask(expr_complete, "'mod", 4), "{\"from\":1,\"to\":4,\"items\":[]}");
}

struct hover_row {
    const char *text;
    size_t offset;
    const char *json;
};

static const struct hover_row hovers[] = {
    {"model = 'x'", 2, "{\"from\":0,\"to\":5,\"title\":\"model: a text\",\"doc\":\"its model\"}"},
    {"model = 'x'", 5, "null"},
    {"model = 'x'", 9, "null"},
    {"model = 'x'", 99, "null"},
    {"tags.site", 6,
     "{\"from\":0,\"to\":4,\"title\":\"tags: anything, by key\",\"doc\":\"labels given by operators\"}"},
    {"lower(model)", 1,
     "{\"from\":0,\"to\":5,\"title\":\"lower(text): a text\",\"doc\":\"with small letters; ASCII only\"}"},
    {"a AND b", 3, "{\"from\":2,\"to\":5,\"title\":\"and\",\"doc\":\"both are true\"}"},
    {"exists(groups[*])", 0,
     "{\"from\":0,\"to\":6,\"title\":\"exists\",\"doc\":\"exists(list[*] where condition): is the condition true for "
     "an item?\"}"},
    {"tags.and = 1", 6,
     "{\"from\":0,\"to\":4,\"title\":\"tags: anything, by key\",\"doc\":\"labels given by operators\"}"},
    {"nothing", 1, "null"},
    {"nofunction(1)", 1, "null"},
    {"a = 'x", 5, "null"},
    {"", 0, "null"},
};

static void hovering(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(hovers) / sizeof(hovers[0]); i++) {
        assert_string_equal(ask(expr_hover, hovers[i].text, hovers[i].offset), hovers[i].json);
    }
}

static void limits(void **state)
{
    (void)state;
    static char text[EXPR_TEXT_MAX + 1];
    struct expr_check_options o = options;
    struct buf out = buf_fixed(answer, sizeof(answer));
    o.schema = expr_schema_device();
    memset(text, ' ', sizeof(text));
    assert_int_equal(expr_complete(slice_make(text, EXPR_TEXT_MAX), EXPR_TEXT_MAX, &o, &out), ST_OK);
    assert_int_equal(expr_complete(slice_make(text, EXPR_TEXT_MAX + 1), 0, &o, &out), ST_TOO_LARGE);
    assert_int_equal(expr_hover(slice_make(text, EXPR_TEXT_MAX + 1), 0, &o, &out), ST_TOO_LARGE);
    struct buf small = buf_fixed(answer, 100);
    assert_int_equal(expr_complete(SLICE(""), 0, &o, &small), ST_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completion),
        cmocka_unit_test(completion_replaces_the_word),
        cmocka_unit_test(hovering),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
