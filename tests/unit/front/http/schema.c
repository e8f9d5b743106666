// The schema validator: every keyword, and that the pointer of an error leads to the value.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "front/http/schema.h"
#include "front/http/testapi_ops.c"

static enum status check(const char *text, struct err *err)
{
    json_error_t je;
    json_t *doc = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &je);
    assert_non_null(doc);
    *err = (struct err){.code = ST_OK};
    enum status st = schema_check(testapi_ops[TESTAPI_OP_THING_CREATE].request, doc, err);
    json_decref(doc);
    return st;
}

static void accepts(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{\"id\":\"a\"}",
        "{\"id\":\"a\",\"size\":0,\"weight\":0.5,\"color\":\"red\",\"name\":\"\xc3\xa4\xc3\xb6\xc3\xbc\xe2\x82\xac\"}",
        "{\"id\":\"a\",\"size\":10,\"weight\":1,\"color\":null,\"flag\":false,\"any\":{\"x\":[[],{}]}}",
        "{\"id\":\"a\",\"tags\":{},\"parts\":[{\"n\":1},{\"n\":2,\"more\":true}]}",
        "{\"id\":\"a\",\"tags\":{\"k\":\"12345678\",\"l\":\"\"},\"since\":\"2026-01-31T12:00:00Z\"}",
        "{\"id\":\"a\",\"since\":1700000000000}",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct err err;
        if (check(good[i], &err) != ST_OK) {
            fail_msg("%s: %s %s", good[i], err.where, err.text);
        }
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *says;
    } bad[] = {
        {"[]", "", "object"},
        {"null", "", "object"},
        {"{}", "/id", "missing"},
        {"{\"id\":1}", "/id", "string"},
        {"{\"id\":\"\"}", "/id", "letters"},
        {"{\"id\":\"a b\"}", "/id", "letters"},
        {"{\"id\":\"a\",\"more\":1}", "/more", "known"},
        {"{\"id\":\"a\",\"si/ze~\":1}", "/si~1ze~0", "known"},
        {"{\"id\":\"a\",\"size\":11}", "/size", "0 to 10"},
        {"{\"id\":\"a\",\"size\":-1}", "/size", "0 to 10"},
        {"{\"id\":\"a\",\"size\":1.0}", "/size", "integer"},
        {"{\"id\":\"a\",\"size\":true}", "/size", "boolean"},
        {"{\"id\":\"a\",\"weight\":0.4}", "/weight", "at least 0.5"},
        {"{\"id\":\"a\",\"color\":\"blue\"}", "/color", "red, green"},
        {"{\"id\":\"a\",\"color\":1}", "/color", "null, string"},
        {"{\"id\":\"a\",\"name\":\"\"}", "/name", "1 to 4"},
        {"{\"id\":\"a\",\"name\":\"12345\"}", "/name", "5 characters"},
        {"{\"id\":\"a\",\"since\":\"now\"}", "/since", "RFC 3339"},
        {"{\"id\":\"a\",\"tags\":{\"a\":\"\",\"b\":\"\",\"c\":\"\"}}", "/tags", "3 members"},
        {"{\"id\":\"a\",\"tags\":{\"k\":1}}", "/tags/k", "integer"},
        {"{\"id\":\"a\",\"tags\":{\"k\":\"123456789\"}}", "/tags/k", "9 characters"},
        {"{\"id\":\"a\",\"parts\":[]}", "/parts", "0 items"},
        {"{\"id\":\"a\",\"parts\":[{\"n\":1},{\"n\":1},{\"n\":1},{\"n\":1}]}", "/parts", "4 items"},
        {"{\"id\":\"a\",\"parts\":[{\"n\":1},{}]}", "/parts/1/n", "missing"},
        {"{\"id\":\"a\",\"parts\":[{\"n\":1},{\"n\":1},{\"n\":\"x\"}]}", "/parts/2/n", "string"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err;
        assert_int_equal(check(bad[i].text, &err), ST_INVALID);
        assert_int_equal(err.code, ST_INVALID);
        assert_string_equal(err.where, bad[i].where);
        if (strstr(err.text, bad[i].says) == NULL) {
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].text, err.text, bad[i].says);
        }
    }
}

static void no_schema_accepts_anything(void **state)
{
    (void)state;
    json_t *doc = json_pack("{s:[{s:n}]}", "a", "b");
    assert_int_equal(schema_check(NULL, doc, NULL), ST_OK);
    json_decref(doc);
}

// A pointer longer than err->where is cut, not written past.
static void a_long_pointer_is_cut(void **state)
{
    (void)state;
    char text[400];
    snprintf(text, sizeof(text), "{\"id\":\"a\",\"%0200d\":1}", 0);
    struct err err;
    assert_int_equal(check(text, &err), ST_INVALID);
    assert_int_equal(strlen(err.where), sizeof(err.where) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(no_schema_accepts_anything),
        cmocka_unit_test(a_long_pointer_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
