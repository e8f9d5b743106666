#include "expr/select.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/json.h"
#include "expr/parse.h"

#define SELECT_MEM_MAX 262144 // bytes of a statement, without its programs

enum out_kind { OUT_VALUE, OUT_OBJECT, OUT_ARRAY };

// A part of the result. The root is an object; names with dots make objects in it.
struct out_node {
    enum out_kind kind;
    struct slice key; // in an object
    unsigned program; // OUT_VALUE: index
    bool literal;     // written as {...} or [...]: no name may reach into it
    struct out_node *first;
    struct out_node *last;
    struct out_node *next;
};

struct expr_select {
    struct arena arena;
    struct slice filter;
    struct out_node root;
    struct expr_program *where; // NULL: every message
    struct expr_program *values[EXPR_SELECT_VALUES_MAX];
    unsigned value_count;
    bool all;              // *
    unsigned payload_root; // what * means
};

struct builder {
    struct expr_select *s;
    struct expr_tree *tree;
    const struct expr_check_options *o;
    struct expr_error *err;
};

static enum status fail(struct builder *b, enum status code, const struct expr_node *n, const char *text)
{
    expr_error_at(b->err, code, b->tree->text, n->offset, n->length, "%s", text);
    return code;
}

static enum status compile_node(struct builder *b, struct expr_node *n, struct expr_program **ret)
{
    struct expr_tree part = *b->tree;
    part.root = n;
    return expr_compile(&part, b->o->schema, ret, b->err);
}

static struct out_node *out_find(const struct out_node *parent, struct slice key)
{
    for (struct out_node *x = parent->first; x != NULL; x = x->next) {
        if (slice_eq(x->key, key)) {
            return x;
        }
    }
    return NULL;
}

static struct out_node *out_add(struct builder *b, struct out_node *parent, struct slice key)
{
    struct out_node *n = arena_alloc(&b->s->arena, sizeof(*n));
    struct slice copy = arena_copy(&b->s->arena, key);
    if (n == NULL || copy.p == NULL) {
        return NULL;
    }
    n->key = copy;
    *(parent->last != NULL ? &parent->last->next : &parent->first) = n;
    parent->last = n;
    return n;
}

// A value that stands in `parent`: its kind, and for a plain one its program.
static enum status fill(struct builder *b, struct out_node *out, struct expr_node *value)
{
    if (out == NULL) {
        return fail(b, ST_NOMEM, value, "no memory for this statement");
    }
    if (value->kind == EXPR_N_OBJECT || value->kind == EXPR_N_ARRAY) {
        out->kind = value->kind == EXPR_N_OBJECT ? OUT_OBJECT : OUT_ARRAY;
        out->literal = true;
        return ST_OK;
    }
    if (b->s->value_count == EXPR_SELECT_VALUES_MAX) {
        return fail(b, ST_TOO_LARGE, value, "a statement has at most 128 values");
    }
    out->program = b->s->value_count;
    enum status s = compile_node(b, value, &b->s->values[b->s->value_count]);
    b->s->value_count += s == ST_OK ? 1 : 0;
    return s;
}

// {...} and [...] with all that is in them, by a walk: `open` are the parts being filled.
static enum status fill_literal(struct builder *b, struct out_node *out, struct expr_node *value, unsigned depth)
{
    struct out_node *open[EXPR_SELECT_DEPTH_MAX] = {out};
    struct slice key = {0};
    unsigned n = 0;
    struct expr_walk w;
    enum status s = ST_OK;
    expr_walk_init(&w, value);
    while (s == ST_OK && expr_walk_next(&w)) {
        bool container = w.node->kind == EXPR_N_OBJECT || w.node->kind == EXPR_N_ARRAY;
        if (w.visit == EXPR_LEAVE && container) {
            n--;
        }
        if (w.visit != EXPR_ENTER) {
            continue;
        }
        if (w.node->kind == EXPR_N_KEY) {
            key = expr_value_slice(&w.node->value);
            if (out_find(open[n - 1], key) != NULL) {
                s = fail(b, ST_INVALID, w.node, "this name is given twice");
            }
            continue;
        }
        if (container && n + depth >= EXPR_SELECT_DEPTH_MAX) {
            return fail(b, ST_TOO_LARGE, w.node, "the result is nested more than 16 deep");
        }
        struct out_node *parent = n > 0 ? open[n - 1] : NULL;
        struct out_node *at = parent != NULL ? out_add(b, parent, key) : out;
        s = parent != NULL || !container ? fill(b, at, w.node) : ST_OK;
        if (container && at != NULL) {
            open[n++] = at;
        }
        w.skip = !container;
    }
    return s;
}

// The part of the result an item goes to: as its names say, or its own last name.
static enum status place(struct builder *b, struct expr_node *item, struct out_node **ret, unsigned *ret_depth)
{
    const struct expr_node *value = item->first;
    const struct expr_node *name = value->next;
    struct out_node *at = &b->s->root;
    *ret_depth = 1;
    for (; name != NULL && name->next != NULL; name = name->next) {
        struct slice key = expr_value_slice(&name->value);
        struct out_node *inner = out_find(at, key);
        if (inner != NULL && (inner->kind != OUT_OBJECT || inner->literal)) {
            return fail(b, ST_INVALID, name, "this name is given twice");
        }
        if (++*ret_depth >= EXPR_SELECT_DEPTH_MAX) {
            return fail(b, ST_TOO_LARGE, name, "the result is nested more than 16 deep");
        }
        at = inner != NULL ? inner : out_add(b, at, key);
        if (at == NULL) {
            return fail(b, ST_NOMEM, name, "no memory for this statement");
        }
        at->kind = OUT_OBJECT;
    }
    const struct expr_node *last = name != NULL ? name : value->last != NULL ? value->last : value;
    if (out_find(at, expr_value_slice(&last->value)) != NULL) {
        return fail(b, ST_INVALID, last, "this name is given twice");
    }
    *ret = out_add(b, at, expr_value_slice(&last->value));
    return ST_OK;
}

static enum status build_item(struct builder *b, struct expr_node *item)
{
    struct out_node *out = NULL;
    unsigned depth;
    if (item->kind == EXPR_N_ALL) {
        b->s->all = true;
        return ST_OK;
    }
    enum status s = place(b, item, &out, &depth);
    if (s == ST_OK) {
        s = fill(b, out, item->first);
    }
    bool literal = s == ST_OK && out != NULL && out->kind != OUT_VALUE;
    return literal ? fill_literal(b, out, item->first, depth) : s;
}

static enum status build(struct builder *b)
{
    struct expr_node *root = b->tree->root;
    const char *fallback = b->o->schema->fallback;
    int payload = fallback != NULL ? expr_schema_find(b->o->schema, slice_str(fallback)) : -1;
    b->s->root.kind = OUT_OBJECT;
    b->s->payload_root = payload >= 0 ? (unsigned)payload : EXPR_ROOTS_MAX;
    b->s->filter = arena_copy(&b->s->arena, expr_value_slice(&root->value));
    if (b->s->filter.p == NULL) {
        return fail(b, ST_NOMEM, root, "no memory for this statement");
    }
    for (struct expr_node *n = root->first; n != NULL; n = n->next) {
        bool where = root->op == EXPR_SELECT_WHERE && n == root->last;
        enum status s = where ? compile_node(b, n, &b->s->where) : build_item(b, n);
        if (s != ST_OK) {
            return s;
        }
    }
    return ST_OK;
}

enum status expr_select_make(struct slice text, const struct expr_check_options *o, struct expr_select **ret,
                             struct expr_error *err)
{
    struct arena a;
    struct expr_tree t;
    struct expr_check_options any = *o;
    any.wanted = EXPR_OF_ANY;
    *ret = NULL;
    arena_init(&a, EXPR_ARENA_MAX);
    enum status s = expr_parse_select(&a, text, &t, err);
    if (s == ST_OK) {
        s = expr_check(&t, &any, err);
    }
    struct expr_select *select = s == ST_OK ? calloc(1, sizeof(*select)) : NULL;
    if (select != NULL) {
        struct builder b = {.s = select, .tree = &t, .o = o, .err = err};
        arena_init(&select->arena, SELECT_MEM_MAX);
        s = build(&b);
    } else if (s == ST_OK) {
        s = expr_error_at(err, ST_NOMEM, text, 0, 0, "no memory for this statement");
    }
    if (s == ST_OK) {
        *ret = select;
    } else {
        expr_select_free(select);
    }
    arena_release(&a);
    return s;
}

void expr_select_free(struct expr_select *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned i = 0; i < s->value_count; i++) {
        expr_program_free(s->values[i]);
    }
    expr_program_free(s->where);
    arena_release(&s->arena);
    free(s);
}

struct slice expr_select_filter(const struct expr_select *s)
{
    return s->filter;
}

// ---- Running ---------------------------------------------------------------------------------------------------------------

// The keys of the payload that no item goes by.
static enum status write_all(const struct expr_select *s, const struct expr_view *view, struct jw *w)
{
    enum status status = ST_OK;
    if (!s->all || s->payload_root >= view->count || view->roots[s->payload_root].type != EXPR_OBJECT) {
        return ST_OK;
    }
    const struct expr_item *object = view->roots[s->payload_root].item;
    const struct expr_item *key = object + 1;
    for (uint32_t i = 0; i < object->n && status == ST_OK; i++) {
        struct slice name = slice_make(key->p, key->n);
        if (out_find(&s->root, name) == NULL) {
            jw_key_slice(w, name);
            status = expr_item_write(key + 1, w);
        }
        key = expr_item_next(key + 1);
    }
    return status;
}

struct runner {
    const struct expr_select *s;
    const struct expr_view *view;
    struct expr_frame *f;
    struct jw w;
};

static enum status write_value(struct runner *r, const struct out_node *n)
{
    struct expr_value v;
    enum status s = expr_eval(r->s->values[n->program], r->view, r->f, &v);
    enum status written = expr_value_write(&v, &r->w);
    return s != ST_OK ? s : written;
}

static void write_open(struct jw *w, const struct out_node *n)
{
    (n->kind == OUT_OBJECT ? jw_object : jw_array)(w);
}

static void write_close(struct jw *w, const struct out_node *n)
{
    (n->kind == OUT_OBJECT ? jw_object_end : jw_array_end)(w);
}

// All parts in order: down into what is open, on to the next, and out again.
static enum status write_parts(struct runner *r)
{
    const struct out_node *open[EXPR_SELECT_DEPTH_MAX + 1] = {&r->s->root};
    unsigned depth = 1;
    const struct out_node *n = r->s->root.first;
    enum status s = ST_OK;
    while (depth > 0 && s == ST_OK) {
        if (n == NULL) { // the innermost is complete
            n = open[--depth]->next;
            write_close(&r->w, open[depth]);
            continue;
        }
        if (open[depth - 1]->kind == OUT_OBJECT) {
            jw_key_slice(&r->w, n->key);
        }
        if (n->kind == OUT_VALUE) {
            s = write_value(r, n);
            n = n->next;
        } else {
            write_open(&r->w, n);
            open[depth++] = n;
            n = n->first;
        }
    }
    return s;
}

enum status expr_select_run(const struct expr_select *s, const struct expr_view *view, struct expr_frame *f,
                            struct buf *out, bool *ret_matched)
{
    struct runner r = {.s = s, .view = view, .f = f};
    struct expr_value v = expr_bool(true);
    enum status status = s->where != NULL ? expr_eval(s->where, view, f, &v) : ST_OK;
    *ret_matched = status == ST_OK && expr_is_true(&v);
    if (!*ret_matched) {
        return status;
    }
    jw_init(&r.w, out);
    jw_object(&r.w);
    status = write_all(s, view, &r.w);
    if (status == ST_OK) {
        status = write_parts(&r);
    }
    return status == ST_OK && out->failed ? ST_TOO_LARGE : status;
}
