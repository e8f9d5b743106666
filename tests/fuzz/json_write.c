// What the reader accepts and the writer writes again reads as the same: token by token, value by value.
#include <assert.h>

#include "base/json.h"

static struct slice text_of(const struct json *j, struct buf *scratch)
{
    buf_clear(scratch);
    if (!j->escaped) {
        return j->str;
    }
    assert(json_unescape(j->str, scratch));
    return buf_view(scratch);
}

static void write_token(struct jw *w, enum json_token t, const struct json *j, struct buf *scratch)
{
    switch (t) {
    case JT_OBJECT:
        jw_object(w);
        break;
    case JT_OBJECT_END:
        jw_object_end(w);
        break;
    case JT_ARRAY:
        jw_array(w);
        break;
    case JT_ARRAY_END:
        jw_array_end(w);
        break;
    case JT_KEY:
        jw_key_slice(w, text_of(j, scratch));
        break;
    case JT_STRING: {
        struct slice s = text_of(j, scratch);
        jw_slice(w, s.p != NULL ? s : SLICE(""));
        break;
    }
    case JT_INT:
        jw_int(w, j->i);
        break;
    case JT_DOUBLE:
        jw_double(w, j->d);
        break;
    case JT_TRUE:
    case JT_FALSE:
        jw_bool(w, t == JT_TRUE);
        break;
    default:
        assert(t == JT_NULL);
        jw_null(w);
        break;
    }
}

// Doubles without a fraction come back as whole numbers; all else is the same token.
static void assert_same(enum json_token t, const struct json *j, enum json_token u, const struct json *k,
                        struct buf *scratch)
{
    if (t == JT_INT || t == JT_DOUBLE) {
        assert(u == JT_INT || u == JT_DOUBLE);
        assert(memcmp(&j->d, &k->d, sizeof(j->d)) == 0);
        assert(t != JT_INT || (u == JT_INT && j->i == k->i));
        return;
    }
    assert(t == u);
    if (t == JT_STRING || t == JT_KEY) {
        struct buf other = buf_heap(k->str.len + 1);
        assert(slice_eq(text_of(j, scratch), text_of(k, &other)));
        buf_release(&other);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_make(data, size);
    if (json_check(text, JSON_DEPTH_MAX, 10000, NULL) != ST_OK) {
        return 0;
    }
    struct buf out = buf_heap(size * 26 + 64);
    struct buf scratch = buf_heap(size + 64);
    struct json j;
    struct json k;
    struct jw w;
    jw_init(&w, &out);
    json_init(&j, text, JSON_DEPTH_MAX);
    for (enum json_token t = json_next(&j); t != JT_END; t = json_next(&j)) {
        write_token(&w, t, &j, &scratch);
    }
    assert(!out.failed && w.depth == 0);
    json_init(&j, text, JSON_DEPTH_MAX);
    json_init(&k, buf_view(&out), JSON_DEPTH_MAX);
    enum json_token t;
    do {
        t = json_next(&j);
        assert_same(t, &j, json_next(&k), &k, &scratch);
    } while (t != JT_END);
    buf_release(&out);
    buf_release(&scratch);
    return 0;
}
