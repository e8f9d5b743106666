// Our JSON reader against jansson: both accept or both refuse, and what they accept has the same values.
//
// Differences that are meant, and kept out here:
//   - nesting: ours stops at 32, so inputs with more brackets than that only run through
//   - whole numbers beyond 64 bits: a double for us, an error for jansson
//   - "-0": a whole number for both
//   - a NUL byte: never JSON for us, the end of the text for jansson
//   - duplicate keys: the reader passes them on; json_check refuses them, and so does jansson when asked
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/json.h"

static bool had_big_integer;

static void compare_string(const struct json *j, const json_t *want)
{
    struct buf text = buf_heap(j->str.len + 1);
    assert(!j->escaped || json_unescape(j->str, &text));
    struct slice got = j->escaped ? buf_view(&text) : j->str;
    assert(json_is_string(want));
    assert(slice_eq(got, slice_make(json_string_value(want), json_string_length(want))));
    buf_release(&text);
}

// The number of pairs or items read so far at each level, and jansson's value there.
struct level {
    json_t *at;
    size_t n;
};

// Walks both at once. `t` has just been read; depth is the reader's.
static void compare_value(struct json *j, enum json_token t, json_t *want)
{
    switch (t) {
    case JT_STRING:
        compare_string(j, want);
        break;
    case JT_INT:
        assert(json_is_integer(want) && json_integer_value(want) == j->i && (double)j->i == j->d);
        break;
    case JT_DOUBLE:
        assert(json_is_real(want) && json_real_value(want) == j->d);
        break;
    case JT_TRUE:
        assert(json_is_true(want));
        break;
    case JT_FALSE:
        assert(json_is_false(want));
        break;
    default:
        assert(t == JT_NULL && json_is_null(want));
        break;
    }
}

static json_t *child_by_key(const struct json *j, const json_t *object)
{
    struct buf key = buf_heap(j->str.len + 1);
    assert(json_is_object(object));
    assert(j->escaped ? json_unescape(j->str, &key) : buf_slice(&key, j->str));
    json_t *child = json_object_getn(object, key.p != NULL ? (const char *)key.p : "", key.len);
    buf_release(&key);
    return child;
}

static void compare(struct slice text, json_t *root)
{
    struct json j;
    struct level levels[JSON_DEPTH_MAX + 1] = {{0}};
    json_t *want = root;
    json_init(&j, text, JSON_DEPTH_MAX);
    for (enum json_token t = json_next(&j); t != JT_END; t = json_next(&j)) {
        assert(t != JT_ERROR);
        struct level *l = &levels[j.depth];
        if (t == JT_KEY) {
            want = child_by_key(&j, l->at);
            assert(want != NULL);
            l->n++;
            continue;
        }
        if (t == JT_OBJECT_END || t == JT_ARRAY_END) {
            const struct level *closed = &levels[j.depth + 1];
            assert(closed->n == (t == JT_ARRAY_END ? json_array_size(closed->at) : json_object_size(closed->at)));
            continue;
        }
        bool opens = t == JT_OBJECT || t == JT_ARRAY;
        struct level *outer = opens ? l - 1 : l;
        if (outer > levels && json_is_array(outer->at)) {
            want = json_array_get(outer->at, outer->n++);
        }
        if (opens) {
            assert(t == JT_OBJECT ? json_is_object(want) : json_is_array(want));
            *l = (struct level){want, 0};
        } else {
            compare_value(&j, t, want);
        }
    }
}

// Does the reader accept it all? Notes numbers jansson has no type for.
static bool ours(struct slice text)
{
    struct json j;
    json_init(&j, text, JSON_DEPTH_MAX);
    had_big_integer = false;
    for (;;) {
        const uint8_t *before = j.p;
        enum json_token t = json_next(&j);
        if (t == JT_DOUBLE) {
            bool whole = true;
            for (const uint8_t *p = before; p < j.p; p++) {
                whole = whole && *p != '.' && *p != 'e' && *p != 'E';
            }
            had_big_integer = had_big_integer || whole;
        }
        if (t == JT_ERROR || t == JT_END) {
            return t == JT_END;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_make(data, size);
    size_t brackets = 0;
    for (size_t i = 0; i < size; i++) {
        brackets += data[i] == '[' || data[i] == '{' ? 1 : 0;
    }
    bool good = ours(text);
    enum status checked = json_check(text, JSON_DEPTH_MAX, 10000, NULL);
    assert(good || checked == ST_MALFORMED || checked == ST_INVALID);
    bool nul = size > 0 && memchr(data, 0, size) != NULL;
    assert(!nul || !good);
    if (nul || brackets > JSON_DEPTH_MAX || had_big_integer) {
        return 0;
    }
    json_t *all = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_t *unique =
        json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    assert(good == (all != NULL));
    assert((checked == ST_OK) == (unique != NULL));
    if (unique != NULL) {
        compare(text, unique);
    }
    json_decref(all);
    json_decref(unique);
    return 0;
}
