// Statements: their canonical text, their results on one message, and what is refused.
#include "expr/select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"
#include "expr/format.h"
#include "expr/parse.h"
#include "unit/expr/message.h"

static const char payload[] =
    "{\"temp\":31.5,\"unit\":\"C\",\"list\":[1,{\"a\":null}],\"pos\":{\"lat\":1.5,\"lon\":2},\"topic\":\"own\"}";

static struct message message;
static struct expr_frame frame;

static const struct expr_check_options *options(void)
{
    static struct expr_check_options o;
    o.schema = expr_schema_message();
    return &o;
}

struct row {
    const char *text;
    const char *gives; // NULL: does not match
};

static const struct row rows[] = {
    {"select * from 'a/#'", payload},
    {"select temp from 'a'", "{\"temp\":31.5}"},
    {"select temp, unit as u from 'a' where temp > 30", "{\"temp\":31.5,\"u\":\"C\"}"},
    {"select temp from 'a' where temp > 40", NULL},
    {"select temp from 'a' where gone > 40", NULL},
    {"select temp as a.b, unit as a.c, 1 as d from 'a'", "{\"a\":{\"b\":31.5,\"c\":\"C\"},\"d\":1}"},
    {"select *, 'new' as unit from 'a'",
     "{\"temp\":31.5,\"list\":[1,{\"a\":null}],\"pos\":{\"lat\":1.5,\"lon\":2},\"topic\":\"own\",\"unit\":\"new\"}"},
    {"select {'a': temp, 'b': [1, unit, {}], 'c': {'d': []}} as x from 'a'",
     "{\"x\":{\"a\":31.5,\"b\":[1,\"C\",{}],\"c\":{\"d\":[]}}}"},
    {"select [temp, [unit]] as x, 2 as y from 'a'", "{\"x\":[31.5,[\"C\"]],\"y\":2}"},
    {"select topic() as t, topic(2) as level, topic(9) as none, clientid() as who, timestamp() as at, qos() as q from "
     "'a'",
     "{\"t\":\"plant/7/temp\",\"level\":\"7\",\"none\":null,\"who\":\"dev-1\",\"at\":1768910400000,\"q\":1}"},
    {"select topic from 'a'", "{\"topic\":\"own\"}"},
    {"select pos.lat from 'a'", "{\"lat\":1.5}"},
    {"select list, list[1].a as a from 'a'", "{\"list\":[1,{\"a\":null}],\"a\":null}"},
    {"select now() as n, point(1, 2) as p, interval '90 s' as i, version('1.2') as v, null as z, true as b from 'a'",
     "{\"n\":\"2026-01-20T12:00:00Z\",\"p\":{\"lat\":1,\"lon\":2},\"i\":\"1 minute 30 "
     "seconds\",\"v\":\"1.2\",\"z\":null,\"b\":true}"},
    {"select case when temp > 30 then 'hot' else 'fine' end as \"how is it\" from 'a' where topic(1) = 'plant'",
     "{\"how is it\":\"hot\"}"},
};

static void results(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct expr_error err = {.text = ""};
        struct expr_select *s;
        bool matched;
        struct buf out = buf_heap(4096);
        if (expr_select_make(slice_str(rows[i].text), options(), &s, &err) != ST_OK) {
            fail_msg("%s: %s", rows[i].text, err.text);
        }
        assert_int_equal(expr_select_run(s, &message.view, &frame, &out, &matched), ST_OK);
        assert_int_equal(matched, rows[i].gives != NULL);
        buf_u8(&out, 0);
        assert_string_equal((const char *)out.p, matched ? rows[i].gives : "");
        buf_release(&out);
        expr_select_free(s);
    }
}

struct pair {
    const char *text;
    const char *canonical; // NULL: as it stands
};

static const struct pair pairs[] = {
    {"select * from 'a/#'", NULL},
    {"SELECT  * ,temp FROM 'it''s' WHERE a AND b", "select *, temp from 'it''s' where a and b"},
    {"select a as b.\"c d\".select from 'x'", NULL},
    {"select {'a': 1, 'it''s': [], 'c': {}} as x, [1, [b or c]] as y from 'x' where not a", NULL},
    {"select a.b as \"end\" from ''", NULL},
};

static void canonical_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct arena a;
        struct arena b;
        struct expr_tree t;
        struct expr_tree again;
        struct expr_error err = {.text = ""};
        struct buf out = buf_heap(4096);
        const char *want = pairs[i].canonical != NULL ? pairs[i].canonical : pairs[i].text;
        arena_init(&a, EXPR_ARENA_MAX);
        arena_init(&b, EXPR_ARENA_MAX);
        if (expr_parse_select(&a, slice_str(pairs[i].text), &t, &err) != ST_OK) {
            fail_msg("%s: %s", pairs[i].text, err.text);
        }
        assert_int_equal(expr_format(&t, &out), ST_OK);
        assert_true(slice_eq_str(buf_view(&out), want));
        assert_int_equal(expr_parse_select(&b, buf_view(&out), &again, &err), ST_OK);
        assert_true(expr_tree_equal(t.root, again.root));
        buf_release(&out);
        arena_release(&b);
        arena_release(&a);
    }
}

struct mistake {
    const char *text;
    unsigned column;
    const char *message;
};

static const struct mistake mistakes[] = {
    {"temp > 5", 1, "found temp; expected select"},
    {"select", 7, "the expression ends too early; expected a value, [, * or {"},
    {"select temp", 12, "the expression ends too early; expected a comparison, an operator, and, or, from or as"},
    {"select temp from a", 18, "found a; expected a value"},
    {"select temp from ''", 1, "the topic filter behind from is empty"},
    {"select temp + 1 from 'a'", 8, "this needs a name: write `as name` behind it"},
    {"select list[0] from 'a'", 8, "this needs a name: write `as name` behind it"},
    {"select {'a': 1} from 'a'", 8, "this needs a name: write `as name` behind it"},
    {"select temp, unit as temp from 'a'", 22, "this name is given twice"},
    {"select temp as a, unit as a.b from 'a'", 27, "this name is given twice"},
    {"select {'x': 1} as a, unit as a.b from 'a'", 31, "this name is given twice"},
    {"select {'x': 1, 'x': 2} as a from 'a'", 17, "this name is given twice"},
    {"select temp from 'a' where 5", 28, "where takes a bool; this is an int"},
    {"select temp from 'a' where lowr(unit) = 'c'", 28, "there is no function lowr"},
    {"select count(temp) as n from 'a'", 8, "count is reserved for later"},
    {"select temp from 'a' group by unit", 22, "group by is reserved for later"},
    {"select polygon((1 2, 3 4, 5 6)) as p from 'a'", 8, "select takes any value; this is a polygon"},
    {"select [polygon((1 2, 3 4, 5 6))] as p from 'a'", 9, "select takes any value; this is a polygon"},
};

static void refused(void **state)
{
    (void)state;
    unsigned bad = 0;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        struct expr_error err = {.text = "nothing"};
        struct expr_select *s;
        enum status status = expr_select_make(slice_str(mistakes[i].text), options(), &s, &err);
        if (status == ST_OK || strcmp(err.text, mistakes[i].message) != 0 || err.column != mistakes[i].column) {
            print_message("%s: column %u: %s\n", mistakes[i].text, err.column, err.text);
            bad++;
        }
        assert_null(s);
    }
    assert_int_equal(bad, 0);
}

// `n` times `middle`, with its number where # stands.
static enum status make_many(const char *first, const char *middle, unsigned n, const char *last,
                             struct expr_error *err)
{
    struct expr_select *s;
    struct buf text = buf_heap(65536);
    buf_str(&text, first);
    for (unsigned i = 0; i < n; i++) {
        const char *number = strchr(middle, '#');
        buf_slice(&text, slice_make(middle, (size_t)(number - middle)));
        buf_printf(&text, "%u%s", i, number + 1);
    }
    buf_str(&text, last);
    enum status status = expr_select_make(buf_view(&text), options(), &s, err);
    expr_select_free(s);
    buf_release(&text);
    return status;
}

static void limits(void **state)
{
    (void)state;
    struct expr_error err;
    assert_int_equal(make_many("select a", ", a as b#", EXPR_SELECT_VALUES_MAX - 1, " from 'x'", &err), ST_OK);
    assert_int_equal(make_many("select a", ", a as b#", EXPR_SELECT_VALUES_MAX, " from 'x'", &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "a statement has at most 128 values");
    assert_int_equal(make_many("select a as a", ".b#", EXPR_SELECT_DEPTH_MAX - 2, " from 'x'", &err), ST_OK);
    assert_int_equal(make_many("select a as a", ".b#", EXPR_SELECT_DEPTH_MAX - 1, " from 'x'", &err), ST_TOO_LARGE);
    assert_int_equal(make_many("select ", "{'a#': ", EXPR_SELECT_DEPTH_MAX - 1, "1}}}}}}}}}}}}}}} as x from 'x'", &err),
                     ST_OK);
    assert_int_equal(make_many("select ", "{'a#': ", EXPR_SELECT_DEPTH_MAX, "1}}}}}}}}}}}}}}}} as x from 'x'", &err),
                     ST_TOO_LARGE);
    assert_string_equal(err.text, "the result is nested more than 16 deep");
}

// A document as deep as documents get, below as many names as there may be: too deep for JSON here, and said so.
static void deep_results(void **state)
{
    (void)state;
    static char deep[256];
    struct buf json = buf_fixed(deep, sizeof(deep));
    buf_str(&json, "{\"d\":");
    for (unsigned i = 0; i < JSON_DEPTH_MAX - 1; i++) {
        buf_u8(&json, '[');
    }
    for (unsigned i = 0; i < JSON_DEPTH_MAX - 1; i++) {
        buf_u8(&json, ']');
    }
    buf_str(&json, "}");
    static struct message m;
    assert_true(message_init(&m, buf_view(&json)));
    struct expr_select *s;
    bool matched;
    struct buf out = buf_heap(4096);
    assert_int_equal(expr_select_make(SLICE("select * from 'a'"), options(), &s, NULL), ST_OK);
    assert_int_equal(expr_select_run(s, &m.view, &frame, &out, &matched), ST_OK);
    assert_true(slice_eq(buf_view(&out), buf_view(&json)));
    expr_select_free(s);
    buf_clear(&out);
    assert_int_equal(expr_select_make(SLICE("select d as a.b from 'a'"), options(), &s, NULL), ST_OK);
    assert_int_equal(expr_select_run(s, &m.view, &frame, &out, &matched), ST_TOO_LARGE);
    expr_select_free(s);
    struct buf small = buf_fixed(deep, 10);
    assert_int_equal(expr_select_make(SLICE("select 'abcdefghijk' as a from 'a'"), options(), &s, NULL), ST_OK);
    assert_int_equal(expr_select_run(s, &m.view, &frame, &small, &matched), ST_TOO_LARGE);
    expr_select_free(s);
    buf_release(&out);
}

static int setup(void **state)
{
    (void)state;
    return message_init(&message, slice_make(payload, sizeof(payload) - 1)) ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results), cmocka_unit_test(canonical_text), cmocka_unit_test(refused),
        cmocka_unit_test(limits),  cmocka_unit_test(deep_results),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
