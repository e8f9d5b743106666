#include "expr/tree.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

enum status expr_error_at(struct expr_error *err, enum status code, struct slice text, size_t offset, size_t length,
                          const char *fmt, ...)
{
    if (err == NULL) {
        return code;
    }
    *err = (struct expr_error){.offset = (uint32_t)offset, .length = (uint32_t)length, .line = 1, .column = 1};
    for (size_t i = 0; i < offset && i < text.len; i++) {
        bool newline = text.p[i] == '\n';
        err->line += newline ? 1 : 0;
        err->column = newline ? 1 : err->column + ((text.p[i] & 0xc0) != 0x80 ? 1 : 0);
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return code;
}

// ---- Walking ---------------------------------------------------------------------------------------------------------------

void expr_walk_init(struct expr_walk *w, struct expr_node *root)
{
    *w = (struct expr_walk){.depth = 1, .node = NULL};
    w->level[0].node = root;
    w->level[0].child = NULL;
}

static void walk_enter(struct expr_walk *w)
{
    w->node = w->level[w->depth - 1].node;
    w->level[w->depth - 1].child = w->node->first;
    w->level[w->depth - 1].index = 0;
    w->visit = EXPR_ENTER;
    w->skip = false;
}

// The innermost node is done: back to the one around it.
static bool walk_out(struct expr_walk *w)
{
    struct expr_node *done = w->level[--w->depth].node;
    if (w->depth == 0) {
        return false;
    }
    w->node = w->level[w->depth - 1].node;
    w->child = done;
    w->index = w->level[w->depth - 1].index - 1;
    w->visit = EXPR_AFTER;
    return true;
}

bool expr_walk_next(struct expr_walk *w)
{
    if (w->depth == 0) {
        return false;
    }
    if (w->node == NULL) {
        walk_enter(w);
        return true;
    }
    if (w->visit == EXPR_LEAVE || (w->visit == EXPR_ENTER && w->skip)) {
        return walk_out(w);
    }
    struct expr_node *child = w->level[w->depth - 1].child;
    if (child == NULL) {
        w->visit = EXPR_LEAVE;
        return true;
    }
    w->level[w->depth - 1].child = child->next;
    w->level[w->depth - 1].index++;
    assert(w->depth < EXPR_DEPTH_MAX);
    w->level[w->depth++].node = child;
    walk_enter(w);
    return true;
}

void expr_walk_finish(struct expr_walk *w)
{
    w->level[w->depth - 1].child = NULL;
}

const struct expr_node *expr_walk_parent(const struct expr_walk *w, unsigned *ret_index)
{
    if (w->depth < 2) {
        return NULL;
    }
    *ret_index = w->level[w->depth - 2].index - 1;
    return w->level[w->depth - 2].node;
}

static bool same_literal(const struct expr_value *a, const struct expr_value *b)
{
    int c;
    if (a->type != b->type) {
        return false;
    }
    if (a->type == EXPR_VERSION || a->type == EXPR_TEXT) {
        return slice_eq(expr_value_slice(a), expr_value_slice(b));
    }
    if (a->type == EXPR_INTERVAL) {
        return a->i == b->i && a->months == b->months;
    }
    return a->type == EXPR_NULL || (expr_compare(a, b, &c) && c == 0);
}

bool expr_tree_equal(struct expr_node *a, struct expr_node *b)
{
    struct expr_walk x;
    struct expr_walk y;
    expr_walk_init(&x, a);
    expr_walk_init(&y, b);
    for (;;) {
        bool more = expr_walk_next(&x);
        if (expr_walk_next(&y) != more || (more && x.visit != y.visit)) {
            return false;
        }
        if (!more) {
            return true;
        }
        const struct expr_node *m = x.node;
        const struct expr_node *n = y.node;
        if (x.visit == EXPR_ENTER && (m->kind != n->kind || m->op != n->op || m->negated != n->negated ||
                                      m->children != n->children || !same_literal(&m->value, &n->value))) {
            return false;
        }
    }
}

// ---- Names -----------------------------------------------------------------------------------------------------------------

static const char *const cast_names[EXPR_AS_COUNT] = {"number", "text", "bool", "time", "version"};
static const char *const field_names[EXPR_FIELD_COUNT] = {
    "year", "month", "day", "hour", "minute", "second", "weekday", "yearday", "epoch",
};

const char *expr_arith_text(enum expr_arith op)
{
    static const char *const names[] = {"+", "-", "*", "/", "%", "||"};
    return names[op];
}

const char *expr_cmp_text(enum expr_cmp op)
{
    static const char *const names[] = {"=", "<>", "<", "<=", ">", ">="};
    return names[op];
}

const char *expr_cast_text(enum expr_cast op)
{
    return cast_names[op];
}

const char *expr_field_text(enum expr_field op)
{
    return field_names[op];
}

const char *expr_quant_text(enum expr_quant op)
{
    static const char *const names[] = {"exists", "any", "all"};
    return names[op];
}

const char *expr_like_text(enum expr_like op)
{
    static const char *const names[] = {"like", "ilike", "glob"};
    return names[op];
}

static int find_name(const char *const *names, int count, struct slice name)
{
    for (int i = 0; i < count; i++) {
        if (strlen(names[i]) == name.len && strncasecmp(names[i], (const char *)name.p, name.len) == 0) {
            return i;
        }
    }
    return -1;
}

int expr_cast_find(struct slice name)
{
    return find_name(cast_names, EXPR_AS_COUNT, name);
}

int expr_field_find(struct slice name)
{
    return find_name(field_names, EXPR_FIELD_COUNT, name);
}
