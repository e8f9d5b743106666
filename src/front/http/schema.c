#include "front/http/schema.h"

#include <math.h>
#include <stdio.h>

#include "base/buf.h"

// One container on the way from the root to the value being looked at.
struct frame {
    const struct schema *schema;
    const json_t *value;
    void *iter;   // next member of an object
    size_t index; // next element of an array
    const char *key;
};
struct walk {
    struct frame frames[SCHEMA_DEPTH_MAX + 1];
    unsigned depth; // frames in use
};

// --- where it is wrong -------------------------------------------------------------------------------------------

static void put_escaped(struct buf *b, const char *key)
{
    for (const char *p = key; *p != '\0'; p++) {
        switch (*p) {
        case '~':
            buf_str(b, "~0");
            break;
        case '/':
            buf_str(b, "~1");
            break;
        default:
            buf_u8(b, (uint8_t)*p);
            break;
        }
    }
}

// The pointer to the child last taken from each frame, plus `leaf` when not NULL. Cut at the size of err->where.
static void pointer_write(const struct walk *w, const char *leaf, char *dst, size_t dst_size)
{
    struct buf b = buf_fixed(dst, dst_size - 1);
    for (unsigned i = 0; i < w->depth; i++) {
        const struct frame *f = &w->frames[i];
        buf_u8(&b, '/');
        if (json_is_array(f->value)) {
            buf_printf(&b, "%zu", f->index - 1);
        } else {
            put_escaped(&b, f->key != NULL ? f->key : "");
        }
    }
    if (leaf != NULL) {
        buf_u8(&b, '/');
        put_escaped(&b, leaf);
    }
    dst[b.len] = '\0';
}

static enum status wrong(const struct walk *w, const char *leaf, struct err *err, const char *text)
{
    char where[sizeof(((struct err *)NULL)->where)];
    pointer_write(w, leaf, where, sizeof(where));
    return err_at(err, ST_INVALID, where, "%s", text);
}

// --- one value ---------------------------------------------------------------------------------------------------

static const char *const type_names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};

static unsigned type_bits(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return SCHEMA_OBJECT;
    case JSON_ARRAY:
        return SCHEMA_ARRAY;
    case JSON_STRING:
        return SCHEMA_STRING;
    case JSON_INTEGER:
        return SCHEMA_INTEGER | SCHEMA_NUMBER;
    case JSON_REAL:
        return SCHEMA_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE:
        return SCHEMA_BOOLEAN;
    case JSON_NULL:
        return SCHEMA_NULL;
    }
    return 0;
}

static enum status check_type(const struct schema *s, const json_t *v, const struct walk *w, struct err *err)
{
    unsigned have = type_bits(v);
    if (s->types == 0 || (s->types & have) != 0) {
        return ST_OK;
    }
    char text[200];
    struct buf b = buf_fixed(text, sizeof(text) - 1);
    const char *is = have == (SCHEMA_INTEGER | SCHEMA_NUMBER) ? "integer" : "";
    for (unsigned i = 0; is[0] == '\0' && i < sizeof(type_names) / sizeof(type_names[0]); i++) {
        is = (have & 1U << i) != 0 ? type_names[i] : "";
    }
    buf_printf(&b, "is of type %s; allowed: ", is);
    bool first = true;
    for (unsigned i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++) {
        if ((s->types & 1U << i) != 0) {
            buf_printf(&b, "%s%s", first ? "" : ", ", type_names[i]);
            first = false;
        }
    }
    text[b.len] = '\0';
    return wrong(w, NULL, err, text);
}

static enum status check_len(const struct schema *s, size_t len, const char *what, const struct walk *w,
                             struct err *err)
{
    if (len >= s->min_len && len <= s->max_len) {
        return ST_OK;
    }
    char text[160];
    if (s->max_len == SCHEMA_LEN_ANY) {
        snprintf(text, sizeof(text), "has %zu %s; allowed: at least %u", len, what, s->min_len);
    } else {
        snprintf(text, sizeof(text), "has %zu %s; allowed: %u to %u", len, what, s->min_len, s->max_len);
    }
    return wrong(w, NULL, err, text);
}

static size_t characters(struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += (s.p[i] & 0xc0) != 0x80; // not a continuation byte
    }
    return n;
}

static enum status check_choice(const struct schema *s, struct slice v, const struct walk *w, struct err *err)
{
    char text[300];
    struct buf b = buf_fixed(text, sizeof(text) - 1);
    buf_str(&b, "is not one of the allowed: ");
    for (unsigned i = 0; i < s->choices_len; i++) {
        if (slice_eq_str(v, s->choices[i])) {
            return ST_OK;
        }
        buf_printf(&b, "%s%s", i > 0 ? ", " : "", s->choices[i]);
    }
    text[b.len] = '\0';
    return wrong(w, NULL, err, text);
}

static enum status check_string(const struct schema *s, const json_t *v, const struct walk *w, struct err *err)
{
    struct slice text = slice_make(json_string_value(v), json_string_length(v));
    enum status st = check_len(s, characters(text), "characters", w, err);
    if (st == ST_OK && s->choices_len > 0) {
        st = check_choice(s, text, w, err);
    }
    if (st == ST_OK && !format_check(s->format, text)) {
        char allowed[200];
        snprintf(allowed, sizeof(allowed), "allowed: %s", format_allowed(s->format));
        st = wrong(w, NULL, err, allowed);
    }
    return st;
}

static enum status check_number(const struct schema *s, const json_t *v, const struct walk *w, struct err *err)
{
    double d = json_number_value(v);
    if (d >= s->minimum && d <= s->maximum) {
        return ST_OK;
    }
    char text[160];
    if (isinf(s->maximum)) {
        snprintf(text, sizeof(text), "is %.17g; allowed: at least %.17g", d, s->minimum);
    } else if (isinf(s->minimum)) {
        snprintf(text, sizeof(text), "is %.17g; allowed: at most %.17g", d, s->maximum);
    } else {
        snprintf(text, sizeof(text), "is %.17g; allowed: %.17g to %.17g", d, s->minimum, s->maximum);
    }
    return wrong(w, NULL, err, text);
}

static const struct schema_prop *prop_find(const struct schema *s, const char *name)
{
    size_t lo = 0;
    size_t hi = s->props_len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(name, s->props[mid].name);
        if (c == 0) {
            return &s->props[mid];
        }
        if (c < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return NULL;
}

static enum status check_object(const struct schema *s, const json_t *v, const struct walk *w, struct err *err)
{
    for (size_t i = 0; i < s->props_len; i++) {
        if (s->props[i].required && json_object_get(v, s->props[i].name) == NULL) {
            return wrong(w, s->props[i].name, err, "is missing");
        }
    }
    return check_len(s, json_object_size(v), "members", w, err);
}

static enum status check_value(const struct schema *s, const json_t *v, const struct walk *w, struct err *err)
{
    enum status st = check_type(s, v, w, err);
    if (st != ST_OK) {
        return st;
    }
    switch (json_typeof(v)) {
    case JSON_STRING:
        return check_string(s, v, w, err);
    case JSON_INTEGER:
    case JSON_REAL:
        return check_number(s, v, w, err);
    case JSON_OBJECT:
        return check_object(s, v, w, err);
    case JSON_ARRAY:
        return check_len(s, json_array_size(v), "items", w, err);
    default:
        return ST_OK;
    }
}

// --- the walk ----------------------------------------------------------------------------------------------------

// Checks the value and, when it is a container, makes it the innermost frame.
static enum status enter(struct walk *w, const struct schema *s, const json_t *v, struct err *err)
{
    if (s == NULL) {
        return ST_OK; // anything goes, and so does everything in it
    }
    enum status st = check_value(s, v, w, err);
    if (st != ST_OK || (!json_is_object(v) && !json_is_array(v))) {
        return st;
    }
    if (w->depth == sizeof(w->frames) / sizeof(w->frames[0])) {
        return wrong(w, NULL, err, "is nested too deep");
    }
    struct frame *f = &w->frames[w->depth++];
    *f = (struct frame){.schema = s, .value = v};
    if (json_is_object(v)) {
        f->iter = json_object_iter((json_t *)v); // the iterator does not change the object
    }
    return ST_OK;
}

static enum status step_object(struct walk *w, struct frame *f, struct err *err)
{
    if (f->iter == NULL) {
        w->depth--;
        return ST_OK;
    }
    f->key = json_object_iter_key(f->iter);
    const json_t *child = json_object_iter_value(f->iter);
    f->iter = json_object_iter_next((json_t *)f->value, f->iter);
    const struct schema_prop *p = prop_find(f->schema, f->key);
    if (p == NULL && f->schema->closed) {
        return wrong(w, NULL, err, "is not a member that is known here");
    }
    return enter(w, p != NULL ? p->schema : f->schema->additional, child, err);
}

static enum status step_array(struct walk *w, struct frame *f, struct err *err)
{
    if (f->schema->items == NULL || f->index == json_array_size(f->value)) {
        w->depth--;
        return ST_OK;
    }
    const json_t *child = json_array_get(f->value, f->index);
    f->index++;
    return enter(w, f->schema->items, child, err);
}

enum status schema_check(const struct schema *s, const json_t *doc, struct err *err)
{
    struct walk w;
    w.depth = 0;
    enum status st = enter(&w, s, doc, err);
    while (st == ST_OK && w.depth > 0) {
        struct frame *f = &w.frames[w.depth - 1];
        st = json_is_object(f->value) ? step_object(&w, f, err) : step_array(&w, f, err);
    }
    return st;
}
