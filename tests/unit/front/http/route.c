// Routes, parameters and formats, on the table of tests/unit/front/http/api.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "front/http/params.h"
#include "front/http/testapi_ops.c"

static const struct api_table table = {testapi_ops, NULL, TESTAPI_OP__COUNT, &testapi_root};

static int find(enum api_method m, const char *path, struct api_match *ret)
{
    api_route_find(&table, m, slice_str(path), ret);
    return ret->op;
}

static void finds_operations(void **state)
{
    (void)state;
    struct api_match m;
    assert_int_equal(find(API_GET, "/ping", &m), TESTAPI_OP_THING_PING);
    assert_int_equal(find(API_GET, "/api/v1/things", &m), TESTAPI_OP_THING_LIST);
    assert_int_equal(find(API_POST, "/api/v1/things", &m), TESTAPI_OP_THING_CREATE);
    assert_int_equal(find(API_DELETE, "/api/v1/things/a", &m), TESTAPI_OP_THING_DELETE);
    assert_int_equal(find(API_GET, "/api/v1/things/a/parts/b", &m), TESTAPI_OP_THING_PART);
    assert_true(slice_eq(m.segments[3], SLICE("a")));
    assert_true(slice_eq(m.segments[5], SLICE("b")));
}

// "import" is a literal for POST and the id of a thing for GET.
static void a_literal_does_not_hide_a_parameter(void **state)
{
    (void)state;
    struct api_match m;
    assert_int_equal(find(API_POST, "/api/v1/things/import", &m), TESTAPI_OP_THING_IMPORT);
    assert_int_equal(find(API_GET, "/api/v1/things/import", &m), TESTAPI_OP_THING_GET);
    assert_int_equal(find(API_GET, "/api/v1/things/import/parts/x", &m), TESTAPI_OP_THING_PART);
    assert_int_equal(find(API_PUT, "/api/v1/things/import", &m), -1);
    assert_int_equal(m.methods, 1U << API_POST | 1U << API_GET | 1U << API_PATCH | 1U << API_DELETE);
    char allow[64];
    api_route_allow(m.methods, allow);
    assert_string_equal(allow, "GET, HEAD, POST, PATCH, DELETE");
}

static void knows_nothing_else(void **state)
{
    (void)state;
    static const char *const paths[] = {"",
                                        "/",
                                        "ping",
                                        "/ping/",
                                        "//ping",
                                        "/pin",
                                        "/pingg",
                                        "/api/v1/things/",
                                        "/api",
                                        "/api/v1",
                                        "/API/v1/things",
                                        "/api/v1/things/a/parts",
                                        "/api/v1/things//parts/b",
                                        "/api/v1/things/a/parts/",
                                        "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct api_match m;
        assert_int_equal(find(API_GET, paths[i], &m), -1);
        assert_int_equal(m.methods, 0);
    }
    struct api_match m;
    assert_int_equal(find(API_METHOD__COUNT, "/ping", &m), -1); // a method no operation has
    assert_int_equal(m.methods, 1U << API_GET);
}

// --- parameters --------------------------------------------------------------------------------------------------

struct read {
    struct arena arena;
    struct slice params[API_PARAMS_MAX];
    struct err err;
};

static enum status params(struct read *r, enum api_method method, const char *path, const char *query)
{
    struct api_match m;
    assert_true(find(method, path, &m) >= 0);
    arena_init(&r->arena, 1 << 16);
    r->err = (struct err){.code = ST_OK};
    return params_read(&testapi_ops[m.op], &m, slice_str(query), &r->arena, r->params, &r->err);
}

static void decodes_path_parameters(void **state)
{
    (void)state;
    struct read r;
    assert_int_equal(params(&r, API_GET, "/api/v1/things/a%3Ab/parts/x%2Fy%20+%C3%A4", ""), ST_OK);
    assert_true(slice_eq(r.params[0], SLICE("a:b")));
    assert_true(slice_eq(r.params[1], SLICE("x/y +\xc3\xa4"))); // a plus is a plus in a path
    arena_release(&r.arena);
    static const char *const bad[] = {"%", "%2", "%zz", "%00", "%ff", "%2e%2E%2F", "a b", "a%20b", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char path[64];
        snprintf(path, sizeof(path), "/api/v1/things/%s", bad[i]);
        assert_int_equal(params(&r, API_GET, path, ""), ST_INVALID);
        assert_string_equal(r.err.where, "thing");
        arena_release(&r.arena);
    }
}

static void decodes_queries(void **state)
{
    (void)state;
    struct read r;
    assert_int_equal(params(&r, API_GET, "/api/v1/things", "limit=5&&text=a+b%2b&all&from=1700000000000.5&every=1h30m"),
                     ST_OK);
    assert_true(slice_eq(r.params[0], SLICE("5")));
    assert_null(r.params[1].p);
    assert_non_null(r.params[2].p);
    assert_int_equal(r.params[2].len, 0);
    assert_true(slice_eq(r.params[6], SLICE("a b+")));
    arena_release(&r.arena);
}

static void refuses_wrong_queries(void **state)
{
    (void)state;
    static const struct {
        const char *query, *where;
    } bad[] = {
        {"limit=0", "limit"},
        {"limit=1001", "limit"},
        {"limit=", "limit"},
        {"limit=1x", "limit"},
        {"limit=+1", "limit"},
        {"limit=9999999999999999999", "limit"},
        {"limit=1&limit=1", "limit"},
        {"offset=-", "offset"},
        {"all=yes", "all"},
        {"from=yesterday", "from"},
        {"every=5", "every"},
        {"color=blue", "color"},
        {"text=a", "text"},
        {"text=123456789", "text"},
        {"text=ab%00", "text"},
        {"cursor=a/b", "cursor"},
        {"thing=a", "thing"},
        {"Limit=1", "Limit"},
        {"%6", ""},
        {"=1", ""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct read r;
        assert_int_equal(params(&r, API_GET, "/api/v1/things", bad[i].query), ST_INVALID);
        assert_string_equal(r.err.where, bad[i].where);
        assert_true(r.err.text[0] != '\0');
        arena_release(&r.arena);
    }
}

static void misses_required_ones(void **state)
{
    (void)state;
    struct read r;
    assert_int_equal(params(&r, API_GET, "/api/v1/large", ""), ST_INVALID);
    assert_string_equal(r.err.where, "n");
    arena_release(&r.arena);
    assert_int_equal(params(&r, API_GET, "/api/v1/large", "n=-999999999999999999"), ST_INVALID);
    arena_release(&r.arena);
}

static void checks_formats(void **state)
{
    (void)state;
    static const struct {
        enum format format;
        const char *text;
        bool good;
    } cases[] = {
        {FORMAT_NONE, "", true},
        {FORMAT_ID, "a.b:c_d-E9", true},
        {FORMAT_ID, "", false},
        {FORMAT_ID, "a/b", false},
        {FORMAT_ID, "a#", false},
        {FORMAT_TOKEN, "a~b", true},
        {FORMAT_TOKEN, "a:b", false},
        {FORMAT_CURSOR, "abc_-9", true},
        {FORMAT_CURSOR, "a.b", false},
        {FORMAT_METRIC, "cpu util", true},
        {FORMAT_METRIC, "a\nb", false},
        {FORMAT_METRIC, "\x7f", false},
        {FORMAT_METRIC, "", false},
        {FORMAT_TIME, "2026-01-31T12:00:00Z", true},
        {FORMAT_TIME, "1700000000000", true},
        {FORMAT_TIME, "now", false},
        {FORMAT_DURATION, "5m", true},
        {FORMAT_DURATION, "5", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(format_check(cases[i].format, slice_str(cases[i].text)), cases[i].good);
        assert_true(format_allowed(cases[i].format)[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_operations),     cmocka_unit_test(a_literal_does_not_hide_a_parameter),
        cmocka_unit_test(knows_nothing_else),   cmocka_unit_test(decodes_path_parameters),
        cmocka_unit_test(decodes_queries),      cmocka_unit_test(refuses_wrong_queries),
        cmocka_unit_test(misses_required_ones), cmocka_unit_test(checks_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
