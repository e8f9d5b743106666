#include "domain/twin/section.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &why);
    if (v == NULL) {
        fail_msg("%s: %s", text, why.text);
    }
    return v;
}

// The examples of RFC 7396 appendix A whose target and patch are objects.
static void merge_examples_of_the_rfc(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
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
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *doc = parse(rows[i][0]);
        json_t *meta = json_object();
        json_t *patch = parse(rows[i][1]);
        json_t *want = parse(rows[i][2]);
        assert_int_equal(section_merge(doc, meta, patch, 1, NULL), ST_OK);
        if (!json_equal(doc, want)) {
            fail_msg("row %zu: %s", i, json_dumps(doc, 0));
        }
        json_decref(doc);
        json_decref(meta);
        json_decref(patch);
        json_decref(want);
    }
}

static void every_leaf_has_the_time_of_its_last_write(void **state)
{
    (void)state;
    json_t *doc = json_object();
    json_t *meta = json_object();
    static const struct {
        const char *patch;
        int64_t ms;
    } steps[] = {
        {"{\"a\":1,\"b\":{\"c\":2,\"d\":[1,{\"x\":1}]}}", 10},
        {"{\"b\":{\"c\":2}}", 20},
        {"{\"a\":{\"n\":true}}", 30},
        {"{\"b\":{\"d\":null}}", 40},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        json_t *patch = parse(steps[i].patch);
        assert_int_equal(section_merge(doc, meta, patch, steps[i].ms, NULL), ST_OK);
        json_decref(patch);
    }
    json_t *want_doc = parse("{\"a\":{\"n\":true},\"b\":{\"c\":2}}");
    json_t *want_meta = parse("{\"a\":{\"n\":30},\"b\":{\"c\":20}}");
    assert_true(json_equal(doc, want_doc));
    assert_true(json_equal(meta, want_meta));
    json_decref(doc);
    json_decref(meta);
    json_decref(want_doc);
    json_decref(want_meta);
}

static void delta_is_what_the_device_must_still_do(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        // reported, desired, delta
        {"{}", "{}", "{}"},
        {"{\"x\":1}", "{}", "{}"},
        {"{}", "{\"a\":1}", "{\"a\":1}"},
        {"{\"a\":1}", "{\"a\":1}", "{}"},
        {"{\"a\":1.0}", "{\"a\":1}", "{}"},
        {"{\"a\":[1,2.0]}", "{\"a\":[1.0,2]}", "{}"},
        {"{\"a\":[1,2]}", "{\"a\":[2,1]}", "{\"a\":[2,1]}"},
        {"{\"a\":true}", "{\"a\":1}", "{\"a\":1}"},
        {"{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":1,\"c\":3}}", "{\"a\":{\"c\":3}}"},
        {"{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":1}}", "{}"},
        {"{\"a\":1}", "{\"a\":{\"b\":{\"c\":1}}}", "{\"a\":{\"b\":{\"c\":1}}}"},
        {"{}", "{\"a\":{}}", "{\"a\":{}}"},
        {"{\"a\":{\"z\":1}}", "{\"a\":{}}", "{}"},
        {"{\"a\":[{\"x\":1}]}", "{\"a\":[{\"x\":1,\"y\":2}]}", "{\"a\":[{\"x\":1,\"y\":2}]}"},
        {"{\"a\":9007199254740993}", "{\"a\":9007199254740992}", "{\"a\":9007199254740992}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *reported = parse(rows[i][0]);
        json_t *desired = parse(rows[i][1]);
        json_t *want = parse(rows[i][2]);
        json_t *delta = section_diff(reported, desired, false);
        assert_non_null(delta);
        if (!json_equal(delta, want)) {
            fail_msg("row %zu: %s", i, json_dumps(delta, 0));
        }
        json_decref(reported);
        json_decref(desired);
        json_decref(want);
        json_decref(delta);
    }
}

static void reserved_names(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{\"$a\":1}", "/$a"},
        {"{\"a\":{\"b~/\":{\"$\":null}}}", "/a/b~0~1/$"},
        {"{\"a\":[0,{\"$x\":1}]}", "/a/1/$x"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = {.code = ST_OK};
        json_t *patch = parse(rows[i][0]);
        assert_int_equal(section_check(patch, &err), ST_INVALID);
        assert_string_equal(err.where, rows[i][1]);
        json_decref(patch);
    }
    json_t *fine = parse("{\"a$\":{\"b\":[[],{}]}}");
    assert_int_equal(section_check(fine, NULL), ST_OK);
    json_decref(fine);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    for (int depth = TWIN_DEPTH_MAX; depth <= TWIN_DEPTH_MAX + 1; depth++) {
        json_t *v = json_integer(1);
        for (int i = 0; i < depth; i++) {
            json_t *o = json_object();
            json_object_set_new(o, "k", v);
            v = o;
        }
        json_t *doc = json_object();
        json_t *meta = json_object();
        enum status want = depth <= TWIN_DEPTH_MAX ? ST_OK : ST_INVALID;
        assert_int_equal(section_check(v, NULL), want);
        assert_int_equal(section_merge(doc, meta, v, 1, NULL), want);
        json_decref(v);
        json_decref(doc);
        json_decref(meta);
    }
}

// --- random documents against a naive model ------------------------------------------------------------------------

static json_t *random_value(unsigned depth, bool nulls)
{
    unsigned kind = (unsigned)(rand_u64() % (depth > 0 ? 8 : 5));
    switch (kind) {
    case 0:
        return nulls ? json_null() : json_true();
    case 1:
        return json_integer((json_int_t)(rand_u64() % 3));
    case 2:
        return json_real((double)(rand_u64() % 3));
    case 3:
        return json_string(rand_u64() % 2 ? "x" : "y");
    case 4: {
        json_t *a = json_array();
        for (uint64_t i = rand_u64() % 3; i > 0; i--) {
            json_array_append_new(a, json_integer((json_int_t)(rand_u64() % 2)));
        }
        return a;
    }
    default: {
        json_t *o = json_object();
        for (uint64_t i = rand_u64() % 4; i > 0; i--) {
            char key[2] = {(char)('a' + rand_u64() % 4), '\0'};
            json_object_set_new(o, key, random_value(depth - 1, nulls));
        }
        return o;
    }
    }
}

static json_t *random_object(bool nulls)
{
    json_t *v = random_value(4, nulls);
    while (!json_is_object(v)) {
        json_decref(v);
        v = random_value(4, nulls);
    }
    return v;
}

// RFC 7396 section 2, as it stands there.
static json_t *model_merge(json_t *target, json_t *patch)
{
    if (!json_is_object(patch)) {
        return json_deep_copy(patch);
    }
    json_t *out = json_is_object(target) ? json_deep_copy(target) : json_object();
    const char *key;
    json_t *value;
    json_object_foreach(patch, key, value)
    {
        if (json_is_null(value)) {
            json_object_del(out, key);
        } else {
            json_object_set_new(out, key, model_merge(json_object_get(out, key), value));
        }
    }
    return out;
}

// Meta has the document's shape with a number at every leaf.
static bool same_shape(json_t *doc, json_t *meta)
{
    if (!json_is_object(doc)) {
        return json_is_integer(meta);
    }
    if (!json_is_object(meta) || json_object_size(doc) != json_object_size(meta)) {
        return false;
    }
    const char *key;
    json_t *value;
    json_object_foreach(doc, key, value)
    {
        if (!same_shape(value, json_object_get(meta, key))) {
            return false;
        }
    }
    return true;
}

static void random_patches_agree_with_the_model(void **state)
{
    (void)state;
    rand_seed(7396);
    for (int round = 0; round < 300; round++) {
        json_t *doc = json_object();
        json_t *meta = json_object();
        json_t *model = json_object();
        for (int i = 0; i < 20; i++) {
            json_t *patch = random_object(true);
            json_t *next = model_merge(model, patch);
            json_decref(model);
            model = next;
            assert_int_equal(section_merge(doc, meta, patch, i + 1, NULL), ST_OK);
            assert_true(json_equal(doc, model));
            assert_true(same_shape(doc, meta));
            json_decref(patch);
        }
        json_decref(doc);
        json_decref(meta);
        json_decref(model);
    }
}

static void merging_the_difference_gives_the_other_document(void **state)
{
    (void)state;
    rand_seed(16);
    for (int round = 0; round < 3000; round++) {
        json_t *from = random_object(false);
        json_t *to = random_object(false);
        json_t *diff = section_diff(from, to, true);
        json_t *meta = json_object();
        json_t *doc = json_deep_copy(from);
        assert_non_null(diff);
        assert_int_equal(section_merge(doc, meta, diff, 1, NULL), ST_OK);
        assert_true(section_equal(doc, to));
        assert_true(section_equal(to, doc));
        // Once the device reports the delta, nothing is left to do.
        json_t *delta = section_diff(from, to, false);
        json_t *reported = json_deep_copy(from);
        assert_int_equal(section_merge(reported, meta, delta, 1, NULL), ST_OK);
        json_t *left = section_diff(reported, to, false);
        assert_int_equal(json_object_size(left), 0);
        json_decref(from);
        json_decref(to);
        json_decref(diff);
        json_decref(meta);
        json_decref(doc);
        json_decref(delta);
        json_decref(reported);
        json_decref(left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_examples_of_the_rfc),
        cmocka_unit_test(every_leaf_has_the_time_of_its_last_write),
        cmocka_unit_test(delta_is_what_the_device_must_still_do),
        cmocka_unit_test(reserved_names),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(random_patches_agree_with_the_model),
        cmocka_unit_test(merging_the_difference_gives_the_other_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
