// Names and types: what is refused, with what words, and what is known of a result.
#include "expr/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "expr/format.h"
#include "expr/parse.h"

static const char *const tag_names[] = {"site", "room"};
static const struct expr_names names[] = {{"tags", tag_names, 2}};

static enum status check(const char *text, expr_types wanted, expr_types *ret_types, struct expr_error *err)
{
    struct arena a;
    struct expr_tree t;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = wanted, .names = names, .names_count = 1};
    arena_init(&a, EXPR_ARENA_MAX);
    enum status s = expr_parse(&a, slice_str(text), &t, err);
    assert_int_equal(s, ST_OK);
    s = expr_check(&t, &o, err);
    *ret_types = s == ST_OK ? t.root->types : 0;
    arena_release(&a);
    return s;
}

struct mistake {
    const char *text;
    unsigned column;
    const char *message;
    const char *suggestion;
};

static const struct mistake mistakes[] = {
    {"site = 'x'", 1, "there is no site in a device", "tags.site"},
    {"online and modle = 'x'", 12, "there is no modle in a device", "model"},
    {"reportet.x = 1", 1, "there is no reportet in a device", "reported"},
    {"xyz", 1, "there is no xyz in a device", ""},
    {"model = 5", 9, "a text does not compare with an int", ""},
    {"version = '5'", 11, "an int does not compare with a text", "5"},
    {"version in (1, 'x')", 16, "an int does not compare with a text", ""},
    {"model between 1 and 2", 15, "a text does not compare with an int", ""},
    {"groups = 1", 10, "a list does not compare with an int", ""},
    {"groups = groups", 10, "a list does not compare with a list", ""},
    {"location < point(1, 2)", 1, "points are equal or not, none is greater; distance() compares them", ""},
    {"created > 'yesterday'", 11, "not a time: write it as '2026-01-31T12:00:00Z' or '2026-01-31'", ""},
    {"version('1') = 'x y'", 16, "not a version: write it as '1.10.0' or '2.0-rc.1'", ""},
    {"id = created", 1, "a text beside a time: say what it is", "time(...)"},
    {"model + 'x'", 1, "+ does not go with a text and a text", "||"},
    {"model || 5", 1, "|| does not go with a text and an int", ""},
    {"created + created", 1, "+ does not go with a time and a time", ""},
    {"1.5 % 2", 1, "% does not go with a real and an int", ""},
    {"-model", 2, "- takes a number or an interval; this is a text", ""},
    {"model and online", 1, "and takes a bool; this is a text", ""},
    {"online or 5", 11, "or takes a bool; this is an int", ""},
    {"not 'x'", 5, "not takes a bool; this is a text", ""},
    {"model is true", 1, "is true, is false and is unknown takes a bool; this is a text", ""},
    {"version like 'x'", 1, "like takes a text; this is an int", ""},
    {"model like 'x' escape 'ab'", 23, "escape takes one ASCII character, as in escape '!'", ""},
    {"model glob 'x' escape '!'", 23, "glob has no escape: [*] is a plain *", ""},
    {"'x' in model", 8, "in without parentheses takes a list; this is a text", ""},
    {"case when model then 1 end", 11, "when takes a bool; this is a text", ""},
    {"case when online then 1 else 'x' end", 30, "this gives a text, what stands before gives an int", ""},
    {"case model when 5 then 1 end", 17, "a text does not compare with an int", ""},
    {"cast(created as number)", 6, "cast as number takes a bool or a number or a text; this is a time", ""},
    {"extract(hour from created at 'Europe/Nowhere')", 30, "there is no time zone Europe/Nowhere", ""},
    {"extract(hour from model)", 19, "extract takes a time; this is a text", ""},
    {"exists(model[*])", 8, "exists takes a list; this is a text", ""},
    {"exists(groups[*] where 'x')", 24, "where takes a bool; this is a text", ""},
    {"exists(groups[*] where doc.modle = it)", 28, "there is no modle in a device", "model"},
    {"model.x = 1", 7, "model is a text: nothing stands below it", ""},
    {"lowr(model)", 1, "there is no function lowr", "lower"},
    {"count(model)", 1, "count is reserved for later", ""},
    {"lower()", 1, "lower(text) has 0 arguments here", ""},
    {"lower(model, 1)", 1, "lower(text) has 2 arguments here", ""},
    {"lower(5)", 7, "lower takes a text; this is an int", ""},
    {"epoch_ms(model)", 10, "epoch_ms takes a time; this is a text", "time(...)"},
    {"version('abc')", 9, "version takes a version as in '1.10.0-rc.1'", ""},
    {"time('abc')", 6, "time takes a time as in '2026-01-31T12:00:00Z'", ""},
    {"number('abc')", 8, "number takes a number as in JSON", ""},
    {"date_trunc('week', created)", 12, "date_trunc takes year, month, day, hour, minute or second", ""},
    {"coalesce(model, 5)", 17, "this gives an int, what stands before gives a text", ""},
    {"inside(location, polygon((1 2, 3 4)))", 18, "a polygon has at least three corners", ""},
    {"inside(location, polygon((1 2, 3 4, 91 6)))", 37, "a latitude is between -90 and 90", ""},
    {"inside(location, polygon((1 2, 3 4, 9 181)))", 39, "a longitude is between -180 and 180", ""},
    {"inside(location, model)", 18, "inside takes a polygon; this is a text", ""},
    {"5", 1, "this place takes a bool; this is an int", ""},
};

static void refused(void **state)
{
    (void)state;
    unsigned bad = 0;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *m = &mistakes[i];
        struct expr_error err = {.text = "nothing"};
        expr_types types;
        enum status s = check(m->text, EXPR_OF(EXPR_BOOL), &types, &err);
        if (s != ST_INVALID || strcmp(err.text, m->message) != 0 || strcmp(err.suggestion, m->suggestion) != 0 ||
            err.column != m->column) {
            print_message("%s: column %u: %s (%s)\n", m->text, err.column, err.text, err.suggestion);
            bad++;
        }
        assert_int_equal(check(m->text, EXPR_OF(EXPR_BOOL), &types, NULL), ST_INVALID);
    }
    assert_int_equal(bad, 0);
}

struct known {
    const char *text;
    expr_types types;
};

static const struct known known[] = {
    {"1", EXPR_OF(EXPR_INT)},
    {"null", EXPR_OF_NOTHING},
    {"null + 1", EXPR_OF_NOTHING},
    {"1 + 1.5", EXPR_OF(EXPR_REAL)},
    {"1 / 2", EXPR_OF(EXPR_REAL)},
    {"reported.x", EXPR_OF_ANY},
    {"reported.x + 1", EXPR_OF_NUMBER},
    {"reported.x + interval '1 day'", EXPR_OF(EXPR_TIME) | EXPR_OF(EXPR_INTERVAL)},
    {"reported.x and true", EXPR_OF(EXPR_BOOL)},
    {"now() - created", EXPR_OF(EXPR_INTERVAL)},
    {"telemetry.t.time", EXPR_OF(EXPR_TIME)},
    {"telemetry.t", EXPR_OF_ANY},
    {"groups", EXPR_OF(EXPR_LIST)},
    {"groups[0]", EXPR_OF_ANY},
    {"tags", EXPR_OF(EXPR_OBJECT)},
    {"model || 'x'", EXPR_OF(EXPR_TEXT)},
    {"coalesce(version, 1.5)", EXPR_OF_NUMBER},
    {"coalesce(null, model)", EXPR_OF(EXPR_TEXT)},
    {"case when online then 1 else null end", EXPR_OF(EXPR_INT)},
    {"cast(reported.x as version)", EXPR_OF(EXPR_VERSION)},
    {"model = 'x' or reported.y", EXPR_OF(EXPR_BOOL)},
    {"created in ('2026-01-01', null)", EXPR_OF(EXPR_BOOL)},
};

static void types_of_results(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct expr_error err;
        expr_types types;
        assert_int_equal(check(known[i].text, EXPR_OF_ANY, &types, &err), ST_OK);
        assert_int_equal(types, known[i].types);
    }
}

static void quantifiers_nest_four_deep(void **state)
{
    (void)state;
    struct expr_error err;
    expr_types types;
    const char *four = "any(groups[*] where any(it[*] where any(it[*] where any(it[*] where it = 1))))";
    const char *five =
        "any(groups[*] where any(it[*] where any(it[*] where any(it[*] where any(it[*] where it = 1)))))";
    assert_int_equal(check(four, EXPR_OF(EXPR_BOOL), &types, &err), ST_OK);
    assert_int_equal(check(five, EXPR_OF(EXPR_BOOL), &types, &err), ST_INVALID);
    assert_string_equal(err.text, "exists, any and all nest at most 4 deep");
    // Beside each other as many as one likes.
    assert_int_equal(
        check("any(groups[*]) and any(groups[*] where it = 1) and any(groups[*])", EXPR_OF(EXPR_BOOL), &types, &err),
        ST_OK);
}

// A schema where other names are keys of one root.
static void fallback(void **state)
{
    (void)state;
    static const struct expr_root roots[] = {
        {"topic", EXPR_SHAPE_VALUE, EXPR_OF(EXPR_TEXT), "where it was sent"},
        {"payload", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "what was sent"},
    };
    static const struct expr_schema message = {"message", roots, 2, "payload"};
    struct arena a;
    struct expr_tree t;
    struct expr_error err;
    struct expr_check_options o = {.schema = &message, .wanted = EXPR_OF(EXPR_BOOL)};
    arena_init(&a, EXPR_ARENA_MAX);
    assert_int_equal(expr_parse(&a, SLICE("temp > 5 and topic = 'x'"), &t, &err), ST_OK);
    assert_int_equal(expr_check(&t, &o, &err), ST_OK);
    assert_int_equal(t.root->first->first->op, EXPR_BASE_FALLBACK);
    assert_int_equal(t.root->first->first->fn, 1);
    assert_int_equal(t.root->last->first->op, EXPR_BASE_ROOT);
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(types_of_results),
        cmocka_unit_test(quantifiers_nest_four_deep),
        cmocka_unit_test(fallback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
