#include "domain/doc/doc.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

// One open container on the way down. For objects `iter` is the next member, for arrays `index` the next item.
struct level {
    json_t *v;
    void *iter;
    size_t index;
};

static struct level level_of(const json_t *v)
{
    json_t *open = (json_t *)(uintptr_t)v; // jansson's iterators take no const, and change nothing
    return (struct level){open, json_is_object(v) ? json_object_iter(open) : NULL, 0};
}

// The next child and, in objects, its key; NULL at the end.
static json_t *level_next(struct level *l, const char **ret_key, size_t *ret_key_len)
{
    *ret_key = NULL;
    *ret_key_len = 0;
    if (json_is_array(l->v)) {
        return json_array_get(l->v, l->index++);
    }
    if (l->iter == NULL) {
        return NULL;
    }
    json_t *child = json_object_iter_value(l->iter);
    *ret_key = json_object_iter_key(l->iter);
    *ret_key_len = strlen(*ret_key);
    l->iter = json_object_iter_next(l->v, l->iter);
    return child;
}

static bool is_container(const json_t *v)
{
    return json_is_object(v) || json_is_array(v);
}

// jansson 2.14 does not look whether its text buffer could grow: without memory it loses a byte of a string and goes on. So
// allocations on behalf of a load are watched, and a load in which one failed has failed. Per thread, as a load is.
static _Thread_local bool starved;
static pthread_once_t watching = PTHREAD_ONCE_INIT;

static void *watched_malloc(size_t n)
{
    void *p = malloc(n);
    starved |= p == NULL;
    return p;
}

static void watch_allocations(void)
{
    json_set_alloc_funcs(watched_malloc, free); // jansson has no realloc
}

// The syntax is known to be right, so jansson refuses only what is out of its range. Anything else it reports is a token it
// had no memory for: it calls that a syntax error.
static enum status load_failed(const json_error_t *why, struct err *err)
{
    switch (json_error_code(why)) {
    case json_error_numeric_overflow:
    case json_error_null_character:
    case json_error_null_byte_in_key:
    case json_error_invalid_utf8:
    case json_error_duplicate_key:
        return err_set(err, ST_MALFORMED, "not valid JSON: %s", why->text);
    default:
        return err_set(err, ST_NOMEM, "no memory for a JSON document");
    }
}

enum status doc_load(struct slice checked, json_t **ret, struct err *err)
{
    json_error_t why;
    (void)pthread_once(&watching, watch_allocations);
    starved = false;
    json_t *v = json_loadb((const char *)checked.p, checked.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (v == NULL) {
        return load_failed(&why, err);
    }
    if (starved) {
        json_decref(v);
        return err_set(err, ST_NOMEM, "no memory for a JSON document");
    }
    *ret = v;
    return ST_OK;
}

enum status doc_parse(struct slice text, unsigned depth_max, json_t **ret, struct err *err)
{
    enum status st = json_check(text, depth_max, DOC_KEYS_MAX, err);
    if (st != ST_OK) {
        return st;
    }
    return doc_load(text, ret, err);
}

static void write_scalar(const json_t *v, struct jw *out)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        jw_slice(out, doc_slice(v));
        break;
    case JSON_INTEGER:
        jw_int(out, json_integer_value(v));
        break;
    case JSON_REAL:
        jw_double(out, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        jw_bool(out, json_is_true(v));
        break;
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        jw_null(out);
        break;
    }
}

static void write_open(const json_t *v, struct jw *out)
{
    if (json_is_object(v)) {
        jw_object(out);
    } else {
        jw_array(out);
    }
}

static void write_close(const json_t *v, struct jw *out)
{
    if (json_is_object(v)) {
        jw_object_end(out);
    } else {
        jw_array_end(out);
    }
}

bool doc_write(const json_t *v, struct jw *out)
{
    if (v == NULL) {
        jw_null(out);
        return true;
    }
    if (!is_container(v)) {
        write_scalar(v, out);
        return true;
    }
    struct level stack[DOC_DEPTH_MAX];
    unsigned depth = 1;
    stack[0] = level_of(v);
    write_open(v, out);
    while (depth > 0) {
        const char *key = NULL;
        size_t key_len = 0;
        const json_t *child = level_next(&stack[depth - 1], &key, &key_len);
        if (child == NULL) {
            write_close(stack[--depth].v, out);
            continue;
        }
        if (key != NULL) {
            jw_key_slice(out, slice_make(key, key_len));
        }
        if (!is_container(child)) {
            write_scalar(child, out);
            continue;
        }
        if (depth == DOC_DEPTH_MAX) {
            return false;
        }
        write_open(child, out);
        stack[depth++] = level_of(child);
    }
    return true;
}

bool doc_text(const json_t *v, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    return doc_write(v, &w) && !out->failed;
}

unsigned doc_depth(const json_t *v)
{
    if (v == NULL || !is_container(v)) {
        return 0;
    }
    struct level stack[DOC_DEPTH_MAX];
    unsigned depth = 1;
    unsigned deepest = 1;
    stack[0] = level_of(v);
    while (depth > 0) {
        const char *key = NULL;
        size_t key_len = 0;
        const json_t *child = level_next(&stack[depth - 1], &key, &key_len);
        if (child == NULL) {
            depth--;
        } else if (is_container(child)) {
            if (depth == DOC_DEPTH_MAX) {
                return DOC_DEPTH_MAX + 1;
            }
            stack[depth++] = level_of(child);
            deepest = depth > deepest ? depth : deepest;
        }
    }
    return deepest;
}

// A member of the patch meets its place in the target. *ret_into: the object to go on with below, or NULL.
static bool merge_member(json_t *target, const char *key, json_t *value, json_t **ret_into)
{
    *ret_into = NULL;
    if (json_is_null(value)) {
        (void)json_object_del(target, key);
        return true;
    }
    if (!json_is_object(value)) {
        return json_object_set_new(target, key, json_deep_copy(value)) == 0;
    }
    json_t *into = json_object_get(target, key);
    if (!json_is_object(into)) {
        into = json_object(); // nulls inside the patch must not arrive: merge into an empty object
        if (json_object_set_new(target, key, into) != 0) {
            return false;
        }
    }
    *ret_into = into;
    return true;
}

enum status doc_merge(json_t *target, const json_t *patch, struct err *err)
{
    assert(json_is_object(target) && json_is_object(patch));
    if (doc_depth(patch) > DOC_DEPTH_MAX) {
        return err_set(err, ST_INVALID, "nested deeper than %d levels", DOC_DEPTH_MAX);
    }
    struct level stack[DOC_DEPTH_MAX];
    json_t *into[DOC_DEPTH_MAX];
    unsigned depth = 1;
    stack[0] = level_of(patch);
    into[0] = target;
    while (depth > 0) {
        const char *key = NULL;
        size_t key_len = 0;
        json_t *value = level_next(&stack[depth - 1], &key, &key_len);
        if (value == NULL) {
            depth--;
            continue;
        }
        json_t *below = NULL;
        if (!merge_member(into[depth - 1], key, value, &below)) {
            return err_set(err, ST_NOMEM, "no memory");
        }
        if (below != NULL) {
            stack[depth] = level_of(value);
            into[depth++] = below;
        }
    }
    return ST_OK;
}

struct slice doc_slice(const json_t *v)
{
    return json_is_string(v) ? slice_make(json_string_value(v), json_string_length(v)) : (struct slice){NULL, 0};
}

struct slice doc_str(const json_t *object, const char *key)
{
    return doc_slice(json_object_get(object, key));
}
