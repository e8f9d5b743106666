#include "domain/twin/section.h"

#include <assert.h>
#include <math.h>

#include "base/buf.h"

static json_t *open_const(const json_t *v)
{
    return (json_t *)(uintptr_t)v; // jansson's iterators take no const, and change nothing
}

// --- reserved keys -----------------------------------------------------------------------------------------------

// An open container on the way down, and where the way stands in it.
struct step {
    json_t *v;
    void *iter;      // objects: the next member
    size_t index;    // arrays: the next item
    const char *key; // objects: the member last entered
};

static struct step step_into(const json_t *v)
{
    return (struct step){open_const(v), json_is_object(v) ? json_object_iter(open_const(v)) : NULL, 0, NULL};
}

static const json_t *step_next(struct step *s)
{
    if (json_is_array(s->v)) {
        return json_array_get(s->v, s->index++);
    }
    if (s->iter == NULL) {
        return NULL;
    }
    const json_t *v = json_object_iter_value(s->iter);
    s->key = json_object_iter_key(s->iter);
    s->iter = json_object_iter_next(s->v, s->iter);
    return v;
}

static void pointer_key(struct buf *out, const char *key)
{
    for (const char *c = key; *c != '\0'; c++) {
        switch (*c) {
        case '~':
            buf_str(out, "~0");
            break;
        case '/':
            buf_str(out, "~1");
            break;
        default:
            buf_u8(out, (uint8_t)*c);
            break;
        }
    }
}

static enum status refuse_key(const struct step *stack, unsigned depth, struct err *err)
{
    char where[96];
    struct buf b = buf_fixed(where, sizeof(where) - 1);
    for (unsigned i = 0; i < depth; i++) {
        buf_u8(&b, '/');
        if (stack[i].key != NULL) {
            pointer_key(&b, stack[i].key);
        } else {
            buf_printf(&b, "%zu", stack[i].index - 1);
        }
    }
    where[b.len] = '\0';
    return err_at(err, ST_INVALID, where, "names that begin with '$' are reserved");
}

enum status section_check(const json_t *patch, struct err *err)
{
    struct step stack[TWIN_DEPTH_MAX];
    unsigned depth = 1;
    stack[0] = step_into(patch);
    while (depth > 0) {
        struct step *top = &stack[depth - 1];
        const json_t *v = step_next(top);
        if (v == NULL) {
            depth--;
            continue;
        }
        if (top->key != NULL && top->key[0] == '$') {
            return refuse_key(stack, depth, err);
        }
        if (json_is_object(v) || json_is_array(v)) {
            if (depth == TWIN_DEPTH_MAX) {
                return err_set(err, ST_INVALID, "nested deeper than %d levels", TWIN_DEPTH_MAX);
            }
            stack[depth++] = step_into(v);
        }
    }
    return ST_OK;
}

// --- merge -------------------------------------------------------------------------------------------------------

struct merge {
    json_t *doc;
    json_t *meta;
    json_t *patch;
    void *iter;
};

// The object under `key`, made when there is none (or something else).
static json_t *object_under(json_t *parent, const char *key)
{
    json_t *v = json_object_get(parent, key);
    if (json_is_object(v)) {
        return v;
    }
    v = json_object();
    return json_object_set_new(parent, key, v) == 0 ? v : NULL;
}

static bool merge_value(const struct merge *m, const char *key, json_t *value, int64_t now_ms)
{
    if (json_is_null(value)) {
        (void)json_object_del(m->doc, key);
        (void)json_object_del(m->meta, key);
        return true;
    }
    // Values are shared with the patch: nobody changes a scalar or an array in place.
    return json_object_set(m->doc, key, value) == 0 && json_object_set_new(m->meta, key, json_integer(now_ms)) == 0;
}

enum status section_merge(json_t *doc, json_t *meta, const json_t *patch, int64_t now_ms, struct err *err)
{
    struct merge stack[TWIN_DEPTH_MAX];
    unsigned depth = 1;
    stack[0] = (struct merge){doc, meta, open_const(patch), json_object_iter(open_const(patch))};
    while (depth > 0) {
        struct merge *m = &stack[depth - 1];
        if (m->iter == NULL) {
            depth--;
            continue;
        }
        const char *key = json_object_iter_key(m->iter);
        json_t *value = json_object_iter_value(m->iter);
        m->iter = json_object_iter_next(m->patch, m->iter);
        if (!json_is_object(value)) {
            if (!merge_value(m, key, value, now_ms)) {
                return err_set(err, ST_NOMEM, "no memory for the twin");
            }
            continue;
        }
        if (depth == TWIN_DEPTH_MAX) {
            return err_set(err, ST_INVALID, "nested deeper than %d levels", TWIN_DEPTH_MAX);
        }
        struct merge below = {object_under(m->doc, key), object_under(m->meta, key), value, json_object_iter(value)};
        if (below.doc == NULL || below.meta == NULL) {
            return err_set(err, ST_NOMEM, "no memory for the twin");
        }
        stack[depth++] = below;
    }
    return ST_OK;
}

// --- equality ----------------------------------------------------------------------------------------------------

struct pair {
    const json_t *a;
    const json_t *b;
    struct step at; // where the way stands in a
};

static bool is_container(const json_t *v)
{
    return json_is_object(v) || json_is_array(v);
}

static size_t container_size(const json_t *v)
{
    return json_is_object(v) ? json_object_size(v) : json_array_size(v);
}

// Containers: same kind and size. Scalars: same value.
static bool shallow_equal(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) {
        return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
                                                        : json_number_value(a) == json_number_value(b);
    }
    if (a == NULL || b == NULL || json_typeof(a) != json_typeof(b)) {
        return false;
    }
    if (is_container(a)) {
        return container_size(a) == container_size(b);
    }
    return json_equal(a, b) != 0; // strings, booleans, null
}

bool section_equal(const json_t *a, const json_t *b)
{
    if (!shallow_equal(a, b) || !is_container(a)) {
        return shallow_equal(a, b);
    }
    struct pair stack[TWIN_DEPTH_MAX];
    unsigned depth = 1;
    stack[0] = (struct pair){a, b, step_into(a)};
    while (depth > 0) {
        struct pair *p = &stack[depth - 1];
        const json_t *in_a = step_next(&p->at);
        if (in_a == NULL) {
            depth--;
            continue;
        }
        const json_t *in_b =
            p->at.key != NULL ? json_object_get(p->b, p->at.key) : json_array_get(p->b, p->at.index - 1);
        if (!shallow_equal(in_a, in_b)) {
            return false;
        }
        if (is_container(in_a)) {
            if (depth == TWIN_DEPTH_MAX) {
                return false;
            }
            stack[depth++] = (struct pair){in_a, in_b, step_into(in_a)};
        }
    }
    return true;
}

// --- difference --------------------------------------------------------------------------------------------------

struct diff {
    const json_t *from;
    json_t *to;
    json_t *out;
    void *iter;      // in `to`
    const char *key; // of this level in the level above; NULL at the top
};

static bool diff_open(struct diff *d, const json_t *from, const json_t *to, json_t *out, const char *key, bool removals)
{
    *d = (struct diff){from, open_const(to), out, json_object_iter(open_const(to)), key};
    if (out == NULL) {
        return false;
    }
    if (!removals) {
        return true;
    }
    for (void *i = json_object_iter(open_const(from)); i != NULL; i = json_object_iter_next(open_const(from), i)) {
        const char *gone = json_object_iter_key(i);
        if (json_object_get(to, gone) == NULL && json_object_set_new(out, gone, json_null()) != 0) {
            return false;
        }
    }
    return true;
}

// One member of `to`. *ret_below: both sides are objects and must be looked into.
static bool diff_member(struct diff *d, const char *key, json_t *to, bool *ret_below)
{
    const json_t *from = json_object_get(d->from, key);
    *ret_below = json_is_object(to) && json_is_object(from);
    if (*ret_below || section_equal(from, to)) {
        return true;
    }
    return json_object_set(d->out, key, to) == 0;
}

static json_t *new_under(json_t *parent, const char *key)
{
    json_t *v = json_object();
    return json_object_set_new(parent, key, v) == 0 ? v : NULL;
}

static bool diff_run(struct diff *stack, bool removals)
{
    unsigned depth = 1;
    while (depth > 0) {
        struct diff *d = &stack[depth - 1];
        if (d->iter == NULL) {
            depth--;
            if (depth > 0 && json_object_size(d->out) == 0) {
                (void)json_object_del(stack[depth - 1].out, d->key); // nothing differs in there
            }
            continue;
        }
        const char *key = json_object_iter_key(d->iter);
        json_t *to = json_object_iter_value(d->iter);
        d->iter = json_object_iter_next(d->to, d->iter);
        bool below = false;
        if (!diff_member(d, key, to, &below)) {
            return false;
        }
        if (below) {
            assert(depth < TWIN_DEPTH_MAX);
            if (!diff_open(&stack[depth], json_object_get(d->from, key), to, new_under(d->out, key), key, removals)) {
                return false;
            }
            depth++;
        }
    }
    return true;
}

json_t *section_diff(const json_t *from, const json_t *to, bool removals)
{
    struct diff stack[TWIN_DEPTH_MAX];
    json_t *out = json_object();
    if (!diff_open(&stack[0], from, to, out, NULL, removals) || !diff_run(stack, removals)) {
        json_decref(out);
        return NULL;
    }
    return out;
}
