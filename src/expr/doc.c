#include "expr/doc.h"

#include <assert.h>

#include "base/json.h"

// Items grow from the front of the memory, unescaped texts from its back.
struct build {
    struct json j;
    struct expr_item *items;
    size_t count;
    uint8_t *back;
    struct expr_item *open[JSON_DEPTH_MAX];
};

uint16_t expr_key_hash(struct slice key)
{
    uint32_t h = 2166136261U;
    for (size_t i = 0; i < key.len; i++) {
        h = (h ^ key.p[i]) * 16777619U;
    }
    return (uint16_t)(h ^ h >> 16);
}

static struct expr_item *build_item(struct build *b, enum expr_type type)
{
    struct expr_item *it = &b->items[b->count];
    if ((size_t)(b->back - (uint8_t *)it) < sizeof(*it)) {
        return NULL;
    }
    b->count++;
    *it = (struct expr_item){.type = (uint8_t)type};
    return it;
}

static bool build_text(struct build *b, bool key)
{
    struct expr_item *it = build_item(b, EXPR_TEXT);
    struct slice s = b->j.str;
    if (it == NULL) {
        return false;
    }
    if (b->j.escaped) {
        size_t room = (size_t)(b->back - (uint8_t *)&b->items[b->count]);
        if (room < s.len) {
            return false;
        }
        struct buf out = buf_fixed(b->back - s.len, s.len); // unescaped it is never longer
        if (!json_unescape(s, &out)) {
            return false;
        }
        b->back -= s.len;
        s = buf_view(&out);
    }
    it->p = s.p;
    it->n = (uint32_t)s.len;
    it->hash = key ? expr_key_hash(s) : 0;
    return true;
}

static bool build_scalar(struct build *b, enum json_token t)
{
    static const uint8_t types[] = {
        [JT_STRING] = EXPR_TEXT, [JT_INT] = EXPR_INT,    [JT_DOUBLE] = EXPR_REAL,
        [JT_TRUE] = EXPR_BOOL,   [JT_FALSE] = EXPR_BOOL, [JT_NULL] = EXPR_NULL,
    };
    if (t == JT_STRING) {
        return build_text(b, false);
    }
    struct expr_item *it = build_item(b, (enum expr_type)types[t]);
    if (it == NULL) {
        return false;
    }
    if (t == JT_INT) {
        it->i = b->j.i;
    } else if (t == JT_DOUBLE) {
        it->d = b->j.d == 0 ? 0 : b->j.d;
    } else {
        it->b = t == JT_TRUE;
    }
    return true;
}

// The reader has come in or gone out of a container, or read something in the innermost one.
static bool build_token(struct build *b, enum json_token t)
{
    bool opens = t == JT_OBJECT || t == JT_ARRAY;
    unsigned depth = b->j.depth - (opens ? 1 : 0);
    if (t == JT_OBJECT_END || t == JT_ARRAY_END) {
        struct expr_item *it = b->open[depth];
        it->span = (uint32_t)(&b->items[b->count] - it) - 1;
        return true;
    }
    if (depth > 0 && (t == JT_KEY || b->open[depth - 1]->type == EXPR_LIST)) {
        b->open[depth - 1]->n++;
    }
    if (t == JT_KEY) {
        return build_text(b, true);
    }
    if (opens) {
        b->open[depth] = build_item(b, t == JT_OBJECT ? EXPR_OBJECT : EXPR_LIST);
        return b->open[depth] != NULL;
    }
    return build_scalar(b, t);
}

enum status expr_doc_build(struct slice json, void *mem, size_t mem_bytes, struct expr_value *ret)
{
    assert((uintptr_t)mem % _Alignof(struct expr_item) == 0);
    struct build b = {.items = mem, .back = (uint8_t *)mem + mem_bytes};
    *ret = expr_null();
    if (json.len > INT32_MAX) {
        return ST_TOO_LARGE;
    }
    json_init(&b.j, json, JSON_DEPTH_MAX);
    for (enum json_token t = json_next(&b.j); t != JT_END; t = json_next(&b.j)) {
        if (t == JT_ERROR) {
            return ST_MALFORMED;
        }
        if (!build_token(&b, t)) {
            return ST_TOO_LARGE;
        }
    }
    *ret = expr_item_value(b.items);
    return ST_OK;
}

size_t expr_doc_bytes(size_t json_bytes)
{
    // "[0,0,0]": an item for every other byte; and texts with escapes once more.
    return (json_bytes / 2 + 2) * sizeof(struct expr_item) + json_bytes;
}

struct expr_value expr_item_value(const struct expr_item *it)
{
    struct expr_value v = {.type = it->type};
    switch ((enum expr_type)it->type) {
    case EXPR_BOOL:
        v.b = it->b;
        break;
    case EXPR_INT:
        v.i = it->i;
        break;
    case EXPR_REAL:
        v.d = it->d;
        break;
    case EXPR_TEXT:
        v.p = it->p;
        v.len = it->n;
        break;
    case EXPR_LIST:
    case EXPR_OBJECT:
        v.item = it;
        break;
    default:
        break;
    }
    return v;
}

const struct expr_item *expr_item_get(const struct expr_item *object, struct slice key, uint16_t hash, uint64_t *steps)
{
    const struct expr_item *it = object + 1;
    for (uint32_t i = 0; i < object->n; i++) {
        if (it->hash == hash && slice_eq(slice_make(it->p, it->n), key)) {
            *steps += i;
            return it + 1;
        }
        it = expr_item_next(it + 1);
    }
    *steps += object->n;
    return NULL;
}

const struct expr_item *expr_item_at(const struct expr_item *list, int64_t index, uint64_t *steps)
{
    int64_t i = index < 0 ? index + list->n : index;
    if (i < 0 || i >= list->n) {
        return NULL;
    }
    const struct expr_item *it = list + 1;
    *steps += (uint64_t)i;
    for (; i > 0; i--) {
        it = expr_item_next(it);
    }
    return it;
}

// ---- Writing ---------------------------------------------------------------------------------------------------------------

static void write_scalar(const struct expr_value *v, struct jw *w)
{
    char text[256];
    struct buf scratch = buf_fixed(text, sizeof(text));
    struct expr_value t;
    switch ((enum expr_type)v->type) {
    case EXPR_BOOL:
        jw_bool(w, v->b);
        break;
    case EXPR_INT:
        jw_int(w, v->i);
        break;
    case EXPR_REAL:
        jw_double(w, v->d);
        break;
    case EXPR_POINT:
        jw_object(w);
        jw_key(w, "lat");
        jw_double(w, v->d);
        jw_key(w, "lon");
        jw_double(w, v->lon);
        jw_object_end(w);
        break;
    default:
        t = expr_to_text(v, &scratch);
        jw_slice(w, t.type == EXPR_TEXT ? expr_value_slice(&t) : slice_make(NULL, 0));
        break;
    }
}

// One level that is open: what is left in it.
struct open_item {
    uint32_t left;
    bool object;
};

static void write_ends(struct jw *w, struct open_item *open, unsigned *depth)
{
    while (*depth > 0 && open[*depth - 1].left == 0) {
        (*depth)--;
        if (open[*depth].object) {
            jw_object_end(w);
        } else {
            jw_array_end(w);
        }
    }
}

enum status expr_item_write(const struct expr_item *it, struct jw *w)
{
    struct open_item open[JSON_DEPTH_MAX] = {{0}};
    unsigned depth = 0;
    enum status s = ST_OK;
    do {
        if (depth > 0) {
            open[depth - 1].left--;
        }
        if (depth > 0 && open[depth - 1].object) {
            jw_key_slice(w, slice_make(it->p, it->n));
            it++;
        }
        bool object = it->type == EXPR_OBJECT;
        bool container = object || it->type == EXPR_LIST;
        if (container && w->depth < JSON_DEPTH_MAX) {
            (object ? jw_object : jw_array)(w);
            open[depth++] = (struct open_item){it->n, object};
            it++;
        } else {
            struct expr_value v = container ? expr_null() : expr_item_value(it);
            s = container ? ST_TOO_LARGE : s;
            write_scalar(&v, w);
            it = expr_item_next(it);
        }
        write_ends(w, open, &depth);
    } while (depth > 0);
    return s;
}

enum status expr_value_write(const struct expr_value *v, struct jw *w)
{
    if (v->type == EXPR_LIST || v->type == EXPR_OBJECT) {
        return expr_item_write(v->item, w);
    }
    if (v->type == EXPR_POINT && w->depth >= JSON_DEPTH_MAX) {
        jw_null(w);
        return ST_TOO_LARGE;
    }
    write_scalar(v, w);
    return ST_OK;
}
