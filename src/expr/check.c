#include "expr/check.h"

#include <stdarg.h>
#include <stdio.h>

#include "expr/fn.h"
#include "expr/suggest.h"

#define BOOL     EXPR_OF(EXPR_BOOL)
#define INT      EXPR_OF(EXPR_INT)
#define REAL     EXPR_OF(EXPR_REAL)
#define NUM      EXPR_OF_NUMBER
#define TEXT     EXPR_OF(EXPR_TEXT)
#define TIME     EXPR_OF(EXPR_TIME)
#define INTERVAL EXPR_OF(EXPR_INTERVAL)
#define VERS     EXPR_OF(EXPR_VERSION)
#define POINT    EXPR_OF(EXPR_POINT)
#define LIST     EXPR_OF(EXPR_LIST)
#define OBJ      EXPR_OF(EXPR_OBJECT)

struct check {
    const struct expr_tree *tree;
    const struct expr_check_options *o;
    struct expr_error *err;
    unsigned scope;
    enum status status;
};

__attribute__((format(printf, 3, 4))) static bool fail(struct check *c, const struct expr_node *n, const char *fmt, ...)
{
    char text[sizeof(c->err->text)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->status = expr_error_at(c->err, ST_INVALID, c->tree->text, n->offset, n->length, "%s", text);
    return false;
}

static void suggest(struct check *c, const char *text)
{
    if (c->err != NULL) {
        snprintf(c->err->suggestion, sizeof(c->err->suggestion), "%s", text);
    }
}

// May it be one of these types? What is always NULL may stand anywhere.
static bool may_be(const struct expr_node *n, expr_types types)
{
    return n->types == EXPR_OF_NOTHING || (n->types & types) != 0;
}

static bool want(struct check *c, const struct expr_node *n, expr_types types, const char *who)
{
    char wanted[80];
    char found[80];
    if (may_be(n, types)) {
        return true;
    }
    expr_types_text(types, wanted, sizeof(wanted));
    expr_types_text(n->types, found, sizeof(found));
    return fail(c, n, "%s takes %s; this is %s", who, wanted, found);
}

// ---- Names -----------------------------------------------------------------------------------------------------------------

static bool unknown_name(struct check *c, const struct expr_node *n)
{
    struct slice name = expr_value_slice(&n->value);
    const struct expr_schema *s = c->o->schema;
    struct expr_suggest near;
    expr_suggest_init(&near, name);
    for (unsigned i = 0; i < s->count; i++) {
        expr_suggest_offer(&near, "", s->roots[i].name);
    }
    // The name of a key written without its root is as near as can be.
    for (size_t i = 0; i < c->o->names_count; i++) {
        const struct expr_names *below = &c->o->names[i];
        char prefix[40];
        snprintf(prefix, sizeof(prefix), "%s.", below->root);
        for (size_t k = 0; k < below->count; k++) {
            expr_suggest_offer(&near, prefix, below->names[k]);
        }
    }
    fail(c, n, "there is no " SLICE_FMT " in a %s", SLICE_ARG(slice_head(name, 64)), s->name);
    suggest(c, near.text);
    return false;
}

// What stands below a root, from its `steps` steps.
static bool root_types(struct check *c, struct expr_node *n, const struct expr_node *step, unsigned steps)
{
    const struct expr_root *root = &c->o->schema->roots[n->fn];
    if (root->shape == EXPR_SHAPE_DOCUMENT) {
        n->types = steps == 0 ? OBJ : EXPR_OF_ANY;
        return true;
    }
    if (root->shape == EXPR_SHAPE_SAMPLES) {
        bool time = steps == 2 && step->next->kind == EXPR_N_KEY &&
                    slice_eq(expr_value_slice(&step->next->value), SLICE("time"));
        n->types = steps == 0 ? OBJ : time ? TIME : EXPR_OF_ANY;
        return true;
    }
    n->types = steps == 0 ? root->types : EXPR_OF_ANY;
    if (steps > 0 && (root->types & (LIST | OBJ)) == 0) {
        char is[80];
        expr_types_text(root->types, is, sizeof(is));
        return fail(c, step, "%s is %s: nothing stands below it", root->name, is);
    }
    return true;
}

static bool element_path(struct check *c, struct expr_node *n)
{
    struct slice name = expr_value_slice(&n->value);
    if (slice_eq(name, SLICE("doc")) && n->first != NULL && n->first->kind == EXPR_N_KEY) {
        int root = expr_schema_find(c->o->schema, expr_value_slice(&n->first->value));
        if (root < 0) {
            return unknown_name(c, n->first);
        }
        n->op = EXPR_BASE_DOC;
        n->fn = (uint16_t)root;
        return root_types(c, n, n->first->next, n->children - 1U);
    }
    n->op = slice_eq(name, SLICE("it")) ? EXPR_BASE_IT : EXPR_BASE_FIELD;
    n->scope = (uint8_t)c->scope;
    n->types = EXPR_OF_ANY;
    return true;
}

static bool check_path(struct check *c, struct expr_node *n)
{
    const struct expr_schema *s = c->o->schema;
    struct slice name = expr_value_slice(&n->value);
    if (c->scope > 0) {
        return element_path(c, n);
    }
    int root = expr_schema_find(s, name);
    if (root < 0 && s->fallback != NULL) {
        n->op = EXPR_BASE_FALLBACK;
        n->fn = (uint16_t)expr_schema_find(s, slice_str(s->fallback));
        n->types = EXPR_OF_ANY;
        return true;
    }
    if (root < 0) {
        return unknown_name(c, n);
    }
    n->op = EXPR_BASE_ROOT;
    n->fn = (uint16_t)root;
    return root_types(c, n, n->first, n->children);
}

// ---- Operators -------------------------------------------------------------------------------------------------------------

static bool check_literal(struct check *c, struct expr_node *n)
{
    (void)c;
    n->types = n->value.type == EXPR_NULL ? EXPR_OF_NOTHING : EXPR_OF(n->value.type);
    return true;
}

static bool check_logic(struct check *c, struct expr_node *n)
{
    static const char *const names[] = {[EXPR_N_OR] = "or", [EXPR_N_AND] = "and", [EXPR_N_NOT] = "not"};
    n->types = BOOL;
    for (const struct expr_node *child = n->first; child != NULL; child = child->next) {
        if (!want(c, child, BOOL, names[n->kind])) {
            return false;
        }
    }
    return true;
}

struct arith_rule {
    uint8_t op;
    expr_types a;
    expr_types b;
    expr_types result;
};

static const struct arith_rule arith_rules[] = {
    {EXPR_ADD, INT, INT, INT},        {EXPR_ADD, REAL, NUM, REAL},      {EXPR_ADD, INT, REAL, REAL},
    {EXPR_ADD, TIME, INTERVAL, TIME}, {EXPR_ADD, INTERVAL, TIME, TIME}, {EXPR_ADD, INTERVAL, INTERVAL, INTERVAL},
    {EXPR_SUB, INT, INT, INT},        {EXPR_SUB, REAL, NUM, REAL},      {EXPR_SUB, INT, REAL, REAL},
    {EXPR_SUB, TIME, INTERVAL, TIME}, {EXPR_SUB, TIME, TIME, INTERVAL}, {EXPR_SUB, INTERVAL, INTERVAL, INTERVAL},
    {EXPR_MUL, INT, INT, INT},        {EXPR_MUL, REAL, NUM, REAL},      {EXPR_MUL, INT, REAL, REAL},
    {EXPR_DIV, NUM, NUM, REAL},       {EXPR_MOD, INT, INT, INT},        {EXPR_CONCAT, TEXT, TEXT, TEXT},
};

static bool check_arith(struct check *c, struct expr_node *n)
{
    const struct expr_node *a = n->first;
    const struct expr_node *b = a->next;
    char left[80];
    char right[80];
    if (a->types == 0 || b->types == 0) {
        return true; // always NULL
    }
    for (size_t i = 0; i < sizeof(arith_rules) / sizeof(arith_rules[0]); i++) {
        const struct arith_rule *r = &arith_rules[i];
        if (r->op == n->op && (a->types & r->a) != 0 && (b->types & r->b) != 0) {
            n->types |= r->result;
        }
    }
    if (n->types != 0) {
        return true;
    }
    expr_types_text(a->types, left, sizeof(left));
    expr_types_text(b->types, right, sizeof(right));
    fail(c, n, "%s does not go with %s and %s", expr_arith_text((enum expr_arith)n->op), left, right);
    bool join = n->op == EXPR_ADD && a->types == TEXT && b->types == TEXT;
    suggest(c, join ? "||" : "");
    return false;
}

static bool check_negate(struct check *c, struct expr_node *n)
{
    n->types = n->first->types & (NUM | INTERVAL);
    return want(c, n->first, NUM | INTERVAL, "-");
}

static bool is_text_literal(const struct expr_node *n)
{
    return n->kind == EXPR_N_LITERAL && n->value.type == EXPR_TEXT;
}

// A text beside what is surely a time or a version: as a literal it must be one; any other text wants time() or version().
static bool check_read(struct check *c, const struct expr_node *text, const struct expr_node *other)
{
    bool time = other->types == TIME;
    if (text->types != TEXT || (!time && other->types != VERS)) {
        return true;
    }
    if (!is_text_literal(text)) {
        fail(c, text, "a text beside a %s: say what it is", time ? "time" : "version");
        suggest(c, time ? "time(...)" : "version(...)");
        return false;
    }
    struct expr_value v = time ? expr_to_time(&text->value) : expr_to_version(&text->value);
    return v.type != EXPR_NULL || fail(c, text,
                                       time ? "not a time: write it as '2026-01-31T12:00:00Z' or '2026-01-31'"
                                            : "not a version: write it as '1.10.0' or '2.0-rc.1'");
}

static bool comparable(struct check *c, const struct expr_node *a, const struct expr_node *b)
{
    char left[80];
    char right[80];
    if (expr_comparable(a->types, b->types)) {
        return check_read(c, a, b) && check_read(c, b, a);
    }
    expr_types_text(a->types, left, sizeof(left));
    expr_types_text(b->types, right, sizeof(right));
    fail(c, b, "%s does not compare with %s", left, right);
    if (a->types != 0 && (a->types & ~NUM) == 0 && is_text_literal(b) && expr_to_number(&b->value).type != EXPR_NULL) {
        char number[sizeof(c->err->suggestion)];
        snprintf(number, sizeof(number), SLICE_FMT, SLICE_ARG(slice_head(expr_value_slice(&b->value), 60)));
        suggest(c, number);
    }
    return false;
}

static bool check_compare(struct check *c, struct expr_node *n)
{
    const struct expr_node *a = n->first;
    n->types = BOOL;
    bool order = n->kind == EXPR_N_BETWEEN || (n->kind == EXPR_N_COMPARE && n->op > EXPR_NE);
    for (const struct expr_node *b = a->next; b != NULL; b = b->next) {
        if (!comparable(c, a, b)) {
            return false;
        }
        if (order && a->types == POINT) {
            return fail(c, n, "points are equal or not, none is greater; distance() compares them");
        }
    }
    return true;
}

static bool check_is(struct check *c, struct expr_node *n)
{
    n->types = BOOL;
    return n->op == EXPR_IS_NULL || want(c, n->first, BOOL, "is true, is false and is unknown");
}

static bool check_in_list(struct check *c, struct expr_node *n)
{
    n->types = BOOL;
    return want(c, n->first->next, LIST, "in without parentheses");
}

static bool check_like(struct check *c, struct expr_node *n)
{
    const char *name = expr_like_text((enum expr_like)n->op);
    const struct expr_node *escape = n->first->next->next;
    n->types = BOOL;
    if (!want(c, n->first, TEXT, name) || !want(c, n->first->next, TEXT, name)) {
        return false;
    }
    if (escape == NULL) {
        return true;
    }
    if (n->op == EXPR_GLOB) {
        return fail(c, escape, "glob has no escape: [*] is a plain *");
    }
    bool ok = is_text_literal(escape) && escape->value.len == 1 && escape->value.p[0] < 0x80;
    return ok || fail(c, escape, "escape takes one ASCII character, as in escape '!'");
}

// The types two ways lead to must be of one family, or not known.
static bool unite(struct check *c, struct expr_node *n, const struct expr_node *more)
{
    bool fits = n->types == 0 || more->types == 0 || (n->types & more->types) != 0 ||
                ((n->types & NUM) != 0 && (more->types & NUM) != 0);
    if (!fits) {
        char before[80];
        char now[80];
        expr_types_text(n->types, before, sizeof(before));
        expr_types_text(more->types, now, sizeof(now));
        return fail(c, more, "this gives %s, what stands before gives %s", now, before);
    }
    n->types |= more->types;
    return true;
}

static bool check_case(struct check *c, struct expr_node *n)
{
    const struct expr_node *operand = (n->op & EXPR_CASE_OPERAND) != 0 ? n->first : NULL;
    const struct expr_node *when = operand != NULL ? operand->next : n->first;
    while (when != NULL && when->next != NULL) {
        const struct expr_node *then = when->next;
        bool ok = operand != NULL ? comparable(c, operand, when) : want(c, when, BOOL, "when");
        if (!ok || !unite(c, n, then)) {
            return false;
        }
        when = then->next;
    }
    return when == NULL || unite(c, n, when);
}

static bool check_cast(struct check *c, struct expr_node *n)
{
    static const struct {
        expr_types from;
        expr_types to;
    } casts[EXPR_AS_COUNT] = {
        [EXPR_AS_NUMBER] = {NUM | BOOL | TEXT, NUM},
        [EXPR_AS_TEXT] = {BOOL | NUM | TEXT | TIME | INTERVAL | VERS, TEXT},
        [EXPR_AS_BOOL] = {BOOL | TEXT, BOOL},
        [EXPR_AS_TIME] = {TIME | TEXT, TIME},
        [EXPR_AS_VERSION] = {VERS | TEXT, VERS},
    };
    char who[32];
    snprintf(who, sizeof(who), "cast as %s", expr_cast_text((enum expr_cast)n->op));
    n->types = casts[n->op].to;
    return want(c, n->first, casts[n->op].from, who);
}

// The rows of the zone behind at, kept in the tree's arena.
static bool check_zone(struct check *c, struct expr_node *n, const struct expr_node *zone)
{
    struct slice name = expr_value_slice(&zone->value);
    struct expr_zone_row rows[EXPR_ZONE_ROWS_MAX];
    unsigned count = 1;
    rows[0].from_us = INT64_MIN;
    bool known = expr_zone_fixed(name, &rows[0].offset_us);
    if (!known && c->o->zone != NULL) {
        known = c->o->zone(c->o->zone_ctx, name, rows, EXPR_ZONE_ROWS_MAX, &count) == ST_OK && count > 0;
    }
    if (!known) {
        return fail(c, zone, "there is no time zone " SLICE_FMT, SLICE_ARG(slice_head(name, 64)));
    }
    struct expr_zone_row *copy = arena_array(c->tree->arena, count, sizeof(*copy));
    if (copy == NULL) {
        expr_error_at(c->err, ST_NOMEM, c->tree->text, n->offset, n->length, "no memory for this expression");
        c->status = ST_NOMEM;
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        copy[i] = rows[i];
    }
    n->value = (struct expr_value){.type = EXPR_ZONE, .len = count, .zone = copy};
    return true;
}

static bool check_extract(struct check *c, struct expr_node *n)
{
    n->types = n->op == EXPR_SECOND || n->op == EXPR_EPOCH ? NUM : INT;
    return want(c, n->first, TIME, "extract") && (n->children == 1 || check_zone(c, n, n->last));
}

static bool check_quant(struct check *c, struct expr_node *n)
{
    n->types = BOOL;
    return want(c, n->first, LIST, expr_quant_text((enum expr_quant)n->op)) &&
           (n->first->next == NULL || want(c, n->first->next, BOOL, "where"));
}

static bool check_polygon(struct check *c, struct expr_node *n)
{
    n->types = EXPR_OF(EXPR_POLYGON);
    unsigned index = 0;
    for (const struct expr_node *x = n->first; x != NULL; x = x->next, index++) {
        double limit = index % 2 == 0 ? 90 : 180;
        double d = x->value.type == EXPR_INT ? (double)x->value.i : x->value.d;
        if (d < -limit || d > limit) {
            return fail(c, x, "a %s is between -%g and %g", index % 2 == 0 ? "latitude" : "longitude", limit, limit);
        }
    }
    return n->children >= 6 || fail(c, n, "a polygon has at least three corners");
}

// ---- Calls -----------------------------------------------------------------------------------------------------------------

static bool unknown_function(struct check *c, const struct expr_node *n)
{
    static const char *const later[] = {"count", "sum", "avg", "min", "max", "percentile"};
    struct slice name = expr_value_slice(&n->value);
    struct expr_suggest near;
    expr_suggest_init(&near, name);
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        if (slice_eq_str(name, later[i])) {
            return fail(c, n, "%s is reserved for later", later[i]);
        }
    }
    for (unsigned i = 0; i < expr_fn_count(); i++) {
        expr_suggest_offer(&near, "", expr_fn_at(i)->name);
    }
    fail(c, n, "there is no function " SLICE_FMT, SLICE_ARG(slice_head(name, 64)));
    suggest(c, near.text);
    return false;
}

static bool check_argument(struct check *c, const struct expr_fn *fn, unsigned index, const struct expr_node *arg)
{
    expr_types wanted = expr_fn_arg(fn, index);
    if (!want(c, arg, wanted, fn->name)) {
        suggest(c, arg->types == TEXT && wanted == TIME ? "time(...)" : "");
        return false;
    }
    bool literal = arg->kind == EXPR_N_LITERAL && arg->value.type != EXPR_NULL && fn->literal != NULL;
    return !literal || fn->literal(index, &arg->value) || fail(c, arg, "%s takes %s", fn->name, fn->rule);
}

// topic() and the like speak of a message, which a device is not.
static bool check_message(struct check *c, const struct expr_node *n, const struct expr_fn *fn)
{
    char root[32];
    snprintf(root, sizeof(root), "$%s", fn->name);
    return (fn->flags & EXPR_FN_MESSAGE) == 0 || expr_schema_find(c->o->schema, slice_str(root)) >= 0 ||
           fail(c, n, "%s() is known of messages only; this speaks of a %s", fn->name, c->o->schema->name);
}

static bool check_call(struct check *c, struct expr_node *n)
{
    int found = expr_fn_find(expr_value_slice(&n->value));
    if (found < 0) {
        return unknown_function(c, n);
    }
    const struct expr_fn *fn = expr_fn_at((unsigned)found);
    n->fn = (uint16_t)found;
    n->value = expr_text(slice_str(fn->name));
    if (n->children < fn->min || n->children > fn->max) {
        return fail(c, n, "%s(%s) has %u argument%s here", fn->name, fn->signature, n->children,
                    n->children == 1 ? "" : "s");
    }
    if (!check_message(c, n, fn)) {
        return false;
    }
    unsigned index = 0;
    bool united = (fn->flags & EXPR_FN_UNITE) != 0;
    for (const struct expr_node *arg = n->first; arg != NULL; arg = arg->next, index++) {
        if (!check_argument(c, fn, index, arg) || (united && !unite(c, n, arg))) {
            return false;
        }
    }
    if (!united) {
        n->types = fn->result;
    }
    return true;
}

static bool check_step(struct check *c, struct expr_node *n)
{
    (void)c;
    n->types = EXPR_OF_NOTHING;
    return true;
}

// ---- Statements ------------------------------------------------------------------------------------------------------------

static bool check_select(struct check *c, struct expr_node *n)
{
    n->types = OBJ;
    if (n->value.len == 0) {
        return fail(c, n, "the topic filter behind from is empty");
    }
    return n->op != EXPR_SELECT_WHERE || want(c, n->last, BOOL, "where");
}

// What has no name of its own wants one.
static bool check_item(struct check *c, struct expr_node *n)
{
    const struct expr_node *value = n->first;
    n->types = EXPR_OF_NOTHING;
    if (n->children == 1 &&
        (value->kind != EXPR_N_PATH || (value->last != NULL && value->last->kind == EXPR_N_INDEX))) {
        return fail(c, value, "this needs a name: write `as name` behind it");
    }
    return want(c, value, EXPR_OF_ANY, "select");
}

static bool check_object(struct check *c, struct expr_node *n)
{
    n->types = n->kind == EXPR_N_OBJECT ? OBJ : LIST;
    for (const struct expr_node *x = n->first; x != NULL; x = x->next) {
        if (!want(c, x, EXPR_OF_ANY, "select")) {
            return false;
        }
    }
    return true;
}

typedef bool check_rule(struct check *c, struct expr_node *n);
static check_rule *const rules[EXPR_N_COUNT] = {
    [EXPR_N_LITERAL] = check_literal, [EXPR_N_PATH] = check_path,        [EXPR_N_KEY] = check_step,
    [EXPR_N_INDEX] = check_step,      [EXPR_N_OR] = check_logic,         [EXPR_N_AND] = check_logic,
    [EXPR_N_NOT] = check_logic,       [EXPR_N_NEGATE] = check_negate,    [EXPR_N_ARITH] = check_arith,
    [EXPR_N_COMPARE] = check_compare, [EXPR_N_DISTINCT] = check_compare, [EXPR_N_IS] = check_is,
    [EXPR_N_BETWEEN] = check_compare, [EXPR_N_IN] = check_compare,       [EXPR_N_IN_LIST] = check_in_list,
    [EXPR_N_LIKE] = check_like,       [EXPR_N_CASE] = check_case,        [EXPR_N_CAST] = check_cast,
    [EXPR_N_EXTRACT] = check_extract, [EXPR_N_QUANT] = check_quant,      [EXPR_N_CALL] = check_call,
    [EXPR_N_POLYGON] = check_polygon, [EXPR_N_SELECT] = check_select,    [EXPR_N_ALL] = check_step,
    [EXPR_N_ITEM] = check_item,       [EXPR_N_OBJECT] = check_object,    [EXPR_N_ARRAY] = check_object,
};

// The condition of a quantifier speaks of the element.
static bool change_scope(struct check *c, const struct expr_walk *w)
{
    bool list_done = w->visit == EXPR_AFTER && w->node->kind == EXPR_N_QUANT && w->index == 0 && w->node->children > 1;
    bool condition_done = w->visit == EXPR_AFTER && w->node->kind == EXPR_N_QUANT && w->index == 1;
    if (list_done && c->scope == EXPR_SCOPE_MAX) {
        return fail(c, w->node, "exists, any and all nest at most %d deep", EXPR_SCOPE_MAX);
    }
    c->scope += list_done ? 1 : 0;
    c->scope -= condition_done ? 1 : 0;
    return true;
}

enum status expr_check(struct expr_tree *t, const struct expr_check_options *o, struct expr_error *err)
{
    struct check c = {.tree = t, .o = o, .err = err};
    struct expr_walk w;
    expr_walk_init(&w, t->root);
    while (c.status == ST_OK && expr_walk_next(&w)) {
        if (w.visit == EXPR_LEAVE) {
            w.node->types = EXPR_OF_NOTHING;
            rules[w.node->kind](&c, w.node);
        } else {
            change_scope(&c, &w);
        }
    }
    if (c.status == ST_OK) {
        want(&c, t->root, o->wanted, "this place");
    }
    return c.status;
}
