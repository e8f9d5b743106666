// Documents: the examples of RFC 7396, depth, numbers that survive being written, and what is not parsed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "domain/doc/doc.h"

static json_t *parse(const char *text)
{
    json_t *v = NULL;
    struct err err = {.code = ST_OK};
    if (doc_parse(slice_str(text), DOC_DEPTH_MAX, &v, &err) != ST_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return v;
}

static void merge_patches(void **state)
{
    (void)state;
    // RFC 7396 appendix A, those with objects on both sides, and some more.
    static const struct {
        const char *target, *patch, *want;
    } cases[] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{\"a\":{\"b\":{\"c\":2,\"d\":null}}}", "{\"a\":{\"b\":{\"c\":2}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"{}", "{\"a\":[null,{\"b\":null}]}", "{\"a\":[null,{\"b\":null}]}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *target = parse(cases[i].target);
        json_t *patch = parse(cases[i].patch);
        json_t *want = parse(cases[i].want);
        assert_int_equal(doc_merge(target, patch, NULL), ST_OK);
        if (!json_equal(target, want)) {
            fail_msg("%s + %s is not %s", cases[i].target, cases[i].patch, cases[i].want);
        }
        json_decref(target);
        json_decref(patch);
        json_decref(want);
    }
}

// An array nested `levels` deep around a 1.
static void nested(char *dst, size_t size, unsigned levels)
{
    size_t n = 0;
    for (unsigned i = 0; i < levels && n + 1 < size; i++) {
        dst[n++] = '[';
    }
    dst[n++] = '1';
    for (unsigned i = 0; i < levels && n + 1 < size; i++) {
        dst[n++] = ']';
    }
    dst[n] = '\0';
}

static void depth_is_counted_and_bounded(void **state)
{
    (void)state;
    char text[256];
    for (unsigned levels = 0; levels <= DOC_DEPTH_MAX; levels++) {
        nested(text, sizeof(text), levels);
        json_t *v = parse(text);
        assert_int_equal(doc_depth(v), levels);
        struct buf out = buf_heap(1024);
        assert_true(doc_text(v, &out));
        assert_true(slice_eq_str(buf_view(&out), text));
        buf_release(&out);
        json_decref(v);
    }
    nested(text, sizeof(text), DOC_DEPTH_MAX + 1);
    json_t *v = NULL;
    assert_int_not_equal(doc_parse(slice_str(text), DOC_DEPTH_MAX, &v, NULL), ST_OK);
    assert_null(v);
    v = json_loads(text, 0, NULL); // made by other means it is still not followed down
    assert_int_equal(doc_depth(v), DOC_DEPTH_MAX + 1);
    struct buf out = buf_heap(1024);
    assert_false(doc_text(v, &out));
    buf_release(&out);
    json_t *patch = json_pack("{so}", "a", v);
    json_t *target = json_object();
    assert_int_equal(doc_merge(target, patch, NULL), ST_INVALID);
    json_decref(target);
    json_decref(patch);
}

static void texts_survive(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "[]",
        "{}",
        "21.4",
        "-0.001",
        "9007199254740993",
        "1e300",
        "\"\\u0001\\\"\\\\\"",
        "{\"a\":[1,{\"b\":[{}]},null,false],\"c\":{\"d\":{}}}",
        "\"\xc3\xa4\"",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *v = parse(texts[i]);
        struct buf out = buf_heap(1024);
        assert_true(doc_text(v, &out));
        char text[256];
        assert_true(slice_to_cstr(buf_view(&out), text, sizeof(text)));
        json_t *back = parse(text);
        assert_true(json_equal(v, back));
        json_decref(v);
        json_decref(back);
        buf_release(&out);
    }
    json_t *v = parse("{\"t\":21.4}"); // and a thermometer does not read 21.399999999999999
    struct buf out = buf_heap(1024);
    assert_true(doc_text(v, &out));
    assert_true(slice_eq_str(buf_view(&out), "{\"t\":21.4}"));
    buf_release(&out);
    json_decref(v);
}

static void what_is_not_parsed(void **state)
{
    (void)state;
    static const char *const texts[] = {"",      "{",   "{\"a\":1,\"a\":2}", "[1,]", "\"\\u0000\"", "01", "1e999",
                                        "{} {}", "\xff"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *v = NULL;
        struct err err = {.code = ST_OK};
        assert_int_not_equal(doc_parse(slice_str(texts[i]), DOC_DEPTH_MAX, &v, &err), ST_OK);
        assert_null(v);
        assert_true(err.text[0] != '\0');
    }
}

static void a_small_buffer_is_noticed(void **state)
{
    (void)state;
    json_t *v = parse("{\"abc\":\"defghijklmnop\"}");
    uint8_t mem[10];
    struct buf out = buf_fixed(mem, sizeof(mem));
    assert_false(doc_text(v, &out));
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_patches),
        cmocka_unit_test(depth_is_counted_and_bounded),
        cmocka_unit_test(texts_survive),
        cmocka_unit_test(what_is_not_parsed),
        cmocka_unit_test(a_small_buffer_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
