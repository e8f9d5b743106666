// Every condition has two texts: one that is true exactly when the condition is true, and one that is true exactly when it is
// false. Neither is ever negated in SQL (only changed into the other), so it does not matter whether SQL finds what is neither
// false or unknown; and the plain forms, which indexes serve, are right at every depth.
//
//   true(a and b) = true(a) AND true(b)      false(a and b) = false(a) OR false(b)      true(not a) = false(a)
#include "expr/sql.h"

#include <stdlib.h>

#include "expr/fn.h"
#include "expr/format.h"
#include "expr/parse.h"

#define RUNS_MAX 4 // of % or *: SQLite takes back all of them, one within the other

struct sql {
    struct expr_tree *tree;
    const struct expr_schema *schema;
    const struct expr_sql_root *roots;
    enum expr_dialect dialect;
    unsigned first_param;
    struct expr_sql_where *w;
    struct expr_error *err;
    enum status status;
};

// What stands on one side: a place in the database, or a value without the document.
struct side {
    const struct expr_sql_root *root; // NULL: a parameter
    struct expr_node *node;
    const struct expr_node *step; // JSON: the first below the root
};

static const char *const operators[] = {"=", "<>", "<", "<=", ">", ">="};

static enum expr_cmp opposite(enum expr_cmp op)
{
    static const uint8_t not_op[] = {EXPR_NE, EXPR_EQ, EXPR_GE, EXPR_GT, EXPR_LE, EXPR_LT};
    return (enum expr_cmp)not_op[op];
}

// The same with its sides changed.
static enum expr_cmp mirrored(enum expr_cmp op)
{
    static const uint8_t mirror[] = {EXPR_EQ, EXPR_NE, EXPR_GT, EXPR_GE, EXPR_LT, EXPR_LE};
    return (enum expr_cmp)mirror[op];
}

// ---- Paths and parameters ----------------------------------------------------------------------------------------------------

// '$."key"'. SQLite compares keys as they are written in the JSON, and knows no quote within one.
static bool put_key(struct buf *out, struct slice key)
{
    if (key.len == 0) {
        return false;
    }
    buf_str(out, ".\"");
    for (size_t i = 0; i < key.len; i++) {
        if (key.p[i] < 0x20 || key.p[i] == '"' || key.p[i] == '\\' || key.p[i] == 0x7f) {
            return false;
        }
        buf_u8(out, key.p[i]);
        if (key.p[i] == '\'') {
            buf_u8(out, '\'');
        }
    }
    return buf_u8(out, '"');
}

bool expr_sql_extract(const char *column, const struct slice *keys, size_t n, struct buf *out)
{
    buf_printf(out, "json_extract(%s, '$", column);
    for (size_t i = 0; i < n; i++) {
        if (!put_key(out, keys[i])) {
            return false;
        }
    }
    return buf_str(out, "')");
}

// fn(column, 'path')
static bool put_json(struct sql *s, const char *fn, const struct side *a)
{
    struct buf *out = &s->w->sql;
    buf_printf(out, "%s(%s, '$", fn, a->root->sql);
    for (const struct expr_node *step = a->step; step != NULL; step = step->next) {
        bool ok = true;
        if (step->kind == EXPR_N_KEY) {
            ok = put_key(out, expr_value_slice(&step->value));
        } else if (step->value.i < 0) {
            buf_printf(out, "[#%lld]", (long long)step->value.i);
        } else {
            buf_printf(out, "[%lld]", (long long)step->value.i);
        }
        if (!ok) {
            return false;
        }
    }
    return buf_str(out, "')");
}

// (column -> 'key' -> 'key'). There are no indexes in it: PostgreSQL takes a scalar for a list of one.
static bool put_jsonb(struct sql *s, const struct side *a)
{
    struct buf *out = &s->w->sql;
    buf_printf(out, "(%s", a->root->sql);
    for (const struct expr_node *step = a->step; step != NULL; step = step->next) {
        struct slice key = expr_value_slice(&step->value);
        buf_str(out, " -> '");
        for (size_t i = 0; i < key.len; i++) {
            buf_printf(out, key.p[i] == '\'' ? "''" : "%c", key.p[i]);
        }
        buf_u8(out, '\'');
    }
    return buf_u8(out, ')');
}

// What is compared. PostgreSQL orders texts by a collation; "C" is by bytes.
static bool put_value(struct sql *s, const struct side *a, expr_types types)
{
    struct buf *out = &s->w->sql;
    bool json = a->root->kind == EXPR_COLUMN_JSON;
    bool text = types == EXPR_OF(EXPR_TEXT);
    if (s->dialect == EXPR_SQLITE) {
        return json ? put_json(s, "json_extract", a) : buf_str(out, a->root->sql);
    }
    if (!json) {
        return buf_printf(out, "%s%s", a->root->sql, text ? " COLLATE \"C\"" : "");
    }
    buf_str(out, text ? "(" : "");
    return put_jsonb(s, a) && buf_str(out, text ? " #>> '{}') COLLATE \"C\"" : "");
}

// A condition that holds always or never.
static bool put_constant(struct sql *s, bool holds)
{
    const char *text = s->dialect == EXPR_SQLITE ? (holds ? "1" : "0") : (holds ? "true" : "false");
    return buf_str(&s->w->sql, text);
}

static bool no_memory(struct sql *s, const struct expr_node *n)
{
    s->status = ST_NOMEM;
    expr_error_at(s->err, ST_NOMEM, s->tree->text, n->offset, n->length, "no memory for this expression");
    return false;
}

// A literal outlives the tree.
static bool keep_literal(struct sql *s, const struct expr_node *n, struct expr_value *ret)
{
    *ret = n->value;
    if (ret->type == EXPR_TEXT || ret->type == EXPR_VERSION) {
        ret->p = arena_copy(&s->w->arena, expr_value_slice(&n->value)).p;
        return ret->p != NULL || no_memory(s, n);
    }
    return true;
}

// How the parameter is written beside a place of this kind: PostgreSQL is told its type.
static bool put_place(struct sql *s, enum expr_column kind, expr_types types, unsigned number)
{
    bool text = types == EXPR_OF(EXPR_TEXT);
    if (s->dialect == EXPR_SQLITE) {
        return buf_printf(&s->w->sql, "?%u", number);
    }
    if (kind == EXPR_COLUMN_JSON && !text) {
        return buf_printf(&s->w->sql, "to_jsonb($%u::numeric)", number);
    }
    return buf_printf(&s->w->sql, "$%u::%s", number, text ? "text" : kind == EXPR_COLUMN_TIME ? "bigint" : "numeric");
}

// A parameter for what the node is without the document.
static bool put_param(struct sql *s, const struct side *a, struct expr_node *n)
{
    struct expr_tree part = *s->tree;
    struct expr_sql_where *w = s->w;
    struct expr_sql_value *params = realloc(w->params, (w->param_count + 1) * sizeof(*params));
    if (params == NULL) {
        return no_memory(s, n);
    }
    w->params = params;
    struct expr_sql_value *param = &params[w->param_count];
    *param = (struct expr_sql_value){.program = NULL};
    part.root = n;
    if (n->kind == EXPR_N_LITERAL && !keep_literal(s, n, &param->literal)) {
        return false;
    }
    if (n->kind != EXPR_N_LITERAL) {
        s->status = expr_compile(&part, s->schema, &param->program, s->err);
    }
    return s->status == ST_OK && put_place(s, a->root->kind, n->types, s->first_param + w->param_count++);
}

// Does the node read nothing of a document?
static bool is_free(struct expr_node *n)
{
    struct expr_walk w;
    expr_walk_init(&w, n);
    while (expr_walk_next(&w)) {
        bool message = w.node->kind == EXPR_N_CALL && (expr_fn_at(w.node->fn)->flags & EXPR_FN_MESSAGE) != 0;
        if (w.node->kind == EXPR_N_PATH || message) {
            return false;
        }
    }
    return true;
}

static bool has_index(const struct expr_node *step)
{
    for (; step != NULL; step = step->next) {
        if (step->kind == EXPR_N_INDEX) {
            return true;
        }
    }
    return false;
}

// What a side is; false when SQL cannot name it.
static bool find_side(const struct sql *s, struct expr_node *n, struct side *ret)
{
    *ret = (struct side){.node = n};
    if (n->kind != EXPR_N_PATH) {
        return is_free(n);
    }
    if (n->op != EXPR_BASE_ROOT) {
        return false;
    }
    ret->root = &s->roots[n->fn];
    ret->step = n->first;
    bool json =
        s->schema->roots[n->fn].shape == EXPR_SHAPE_DOCUMENT && ret->root->kind == EXPR_COLUMN_JSON && n->first != NULL;
    bool plain = ret->root->kind != EXPR_COLUMN_NONE && ret->root->kind != EXPR_COLUMN_JSON && n->first == NULL;
    return plain || (json && (s->dialect == EXPR_SQLITE || !has_index(n->first)));
}

// ---- Predicates: false when one is not to be had as SQL ------------------------------------------------------------------------

// Values SQL can compare with something in JSON: texts or numbers.
static bool fits_json(expr_types types)
{
    return types == EXPR_OF(EXPR_TEXT) || (types != 0 && (types & ~EXPR_OF_NUMBER) == 0);
}

static bool fits_column(enum expr_column kind, expr_types types)
{
    switch (kind) {
    case EXPR_COLUMN_TEXT:
        return types == EXPR_OF(EXPR_TEXT);
    case EXPR_COLUMN_INT:
        return types != 0 && (types & ~EXPR_OF_NUMBER) == 0;
    case EXPR_COLUMN_TIME:
        return types == EXPR_OF(EXPR_TIME);
    case EXPR_COLUMN_JSON:
        return fits_json(types);
    default:
        return false;
    }
}

// What is compared must be of the value's kind of JSON.
static bool put_guard(struct sql *s, const struct side *a, expr_types types)
{
    struct buf *out = &s->w->sql;
    bool text = types == EXPR_OF(EXPR_TEXT);
    if (a->root->kind != EXPR_COLUMN_JSON) {
        return true;
    }
    if (s->dialect == EXPR_SQLITE) {
        return buf_str(out, " AND ") && put_json(s, "json_type", a) &&
               buf_str(out, text ? " = 'text'" : " IN ('integer', 'real')");
    }
    return buf_str(out, " AND jsonb_typeof") && put_jsonb(s, a) && buf_str(out, text ? " = 'string'" : " = 'number'");
}

// place op value; a text beside a time is read as one.
static bool put_comparison(struct sql *s, const struct side *a, enum expr_cmp op, struct expr_node *value)
{
    struct expr_node time = *value;
    if (a->root->kind == EXPR_COLUMN_TIME && value->kind == EXPR_N_LITERAL && value->value.type == EXPR_TEXT) {
        time.value = expr_to_time(&value->value);
        time.types = EXPR_OF(EXPR_TIME);
        value = &time;
    }
    if (!fits_column(a->root->kind, value->types)) {
        return false;
    }
    buf_u8(&s->w->sql, '(');
    if (!put_value(s, a, value->types) || !buf_printf(&s->w->sql, " %s ", operators[op]) || !put_param(s, a, value) ||
        !put_guard(s, a, value->types)) {
        return false;
    }
    return buf_u8(&s->w->sql, ')');
}

static bool put_bool(struct sql *s, struct expr_node *n, bool want);

static bool put_compare(struct sql *s, struct expr_node *n, bool want)
{
    struct side a;
    struct side b;
    enum expr_cmp op = (enum expr_cmp)n->op;
    const struct expr_node *last = n->last;
    if (op <= EXPR_NE && last->kind == EXPR_N_LITERAL && last->value.type == EXPR_BOOL) { // online = true
        return n->first->kind == EXPR_N_PATH && put_bool(s, n->first, want == ((op == EXPR_EQ) == last->value.b));
    }
    if (!find_side(s, n->first, &a) || !find_side(s, n->last, &b) || (a.root == NULL) == (b.root == NULL)) {
        return false;
    }
    op = a.root == NULL ? mirrored(op) : op;
    op = want ? op : opposite(op);
    return a.root == NULL ? put_comparison(s, &b, op, a.node) : put_comparison(s, &a, op, b.node);
}

static bool put_between(struct sql *s, struct expr_node *n, bool want)
{
    struct side a;
    bool inside = want != (n->negated != 0);
    struct expr_node *low = n->first->next;
    if (!find_side(s, n->first, &a) || a.root == NULL || !is_free(low) || !is_free(n->last)) {
        return false;
    }
    buf_u8(&s->w->sql, '(');
    if (!put_comparison(s, &a, inside ? EXPR_GE : EXPR_LT, low) || !buf_str(&s->w->sql, inside ? " AND " : " OR ")) {
        return false;
    }
    return put_comparison(s, &a, inside ? EXPR_LE : EXPR_GT, n->last) && buf_u8(&s->w->sql, ')');
}

// The types of the items, which are literals. `ret_null`: NULL is one of them.
static bool item_types(const struct expr_node *n, expr_types *ret, bool *ret_null)
{
    *ret = 0;
    *ret_null = false;
    for (const struct expr_node *item = n->first->next; item != NULL; item = item->next) {
        if (item->kind != EXPR_N_LITERAL) {
            return false;
        }
        *ret |= item->types;
        *ret_null = *ret_null || item->value.type == EXPR_NULL;
    }
    return true;
}

static bool put_in(struct sql *s, struct expr_node *n, bool want)
{
    struct side a;
    expr_types types;
    bool null;
    bool in = want != (n->negated != 0);
    struct buf *out = &s->w->sql;
    if (!find_side(s, n->first, &a) || a.root == NULL || !item_types(n, &types, &null) ||
        !fits_column(a.root->kind, types)) {
        return false;
    }
    if (null && !in) {
        return put_constant(s, false); // what is in none of them may still be the missing one
    }
    buf_u8(out, '(');
    if (!put_value(s, &a, types)) {
        return false;
    }
    buf_str(out, in ? " IN (" : " NOT IN (");
    const char *comma = "";
    for (struct expr_node *item = n->first->next; item != NULL; item = item->next) {
        if (item->value.type == EXPR_NULL) {
            continue;
        }
        buf_str(out, comma);
        if (!put_param(s, &a, item)) {
            return false;
        }
        comma = ", ";
    }
    buf_u8(out, ')');
    return put_guard(s, &a, types) && buf_u8(out, ')');
}

// How a pattern is written for the database: SQLite has GLOB for what minds capitals, and LIKE for what does not; PostgreSQL has
// LIKE for the first, and for the second LIKE between small letters.
struct pattern {
    bool glob;  // * ? and [c] for a plain c; else % _ and \c
    bool small; // with small letters
};

static void put_plain(const struct pattern *to, uint8_t c, struct buf *out)
{
    bool special = to->glob ? c == '*' || c == '?' || c == '[' : c == '%' || c == '_' || c == '\\';
    c = to->small && c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
    if (special && to->glob) {
        buf_printf(out, "[%c]", c);
    } else {
        buf_str(out, special ? "\\" : "");
        buf_u8(out, c);
    }
}

// The pattern of like, ilike or glob in the other way. False when it is none that the database surely matches alike and in
// bounded time.
static bool convert_pattern(enum expr_like kind, struct slice pattern, uint8_t escape, const struct pattern *to,
                            struct buf *out)
{
    unsigned runs = 0;
    bool glob = kind == EXPR_GLOB;
    for (size_t i = 0; i < pattern.len; i++) {
        uint8_t c = pattern.p[i];
        bool plain = !glob && escape != 0 && c == escape && i + 1 < pattern.len;
        c = plain ? pattern.p[++i] : c;
        bool meant = !plain && (glob || escape == 0 || c != escape);
        if (glob && c == '[') {
            return false;
        }
        if (meant && c == (glob ? '*' : '%')) {
            buf_u8(out, to->glob ? '*' : '%');
            runs++;
        } else if (meant && c == (glob ? '?' : '_')) {
            buf_u8(out, to->glob ? '?' : '_');
        } else {
            put_plain(to, c, out);
        }
    }
    return runs <= RUNS_MAX && !out->failed;
}

static bool put_pattern(struct sql *s, const struct side *a, struct expr_node *n)
{
    struct expr_node *pattern = n->first->next;
    uint8_t escape = n->children > 2 ? n->last->value.p[0] : 0;
    bool sqlite = s->dialect == EXPR_SQLITE;
    const struct pattern to = {.glob = sqlite && n->op != EXPR_ILIKE, .small = !sqlite && n->op == EXPR_ILIKE};
    if (pattern->kind != EXPR_N_LITERAL || pattern->value.type != EXPR_TEXT) {
        return false;
    }
    struct buf converted = buf_heap(4 * (size_t)EXPR_TEXT_MAX);
    struct expr_node literal = *pattern;
    bool ok = convert_pattern((enum expr_like)n->op, expr_value_slice(&pattern->value), escape, &to, &converted);
    literal.value = expr_text(converted.len > 0 ? buf_view(&converted) : SLICE(""));
    ok = converted.starved ? no_memory(s, pattern) : ok && put_param(s, a, &literal); // which keeps a copy
    buf_release(&converted);
    return ok && buf_str(&s->w->sql, to.glob ? "" : " ESCAPE '\\'");
}

static bool put_like(struct sql *s, struct expr_node *n, bool want)
{
    struct side a;
    struct buf *out = &s->w->sql;
    bool like = want != (n->negated != 0);
    bool sqlite = s->dialect == EXPR_SQLITE;
    bool small = !sqlite && n->op == EXPR_ILIKE;
    if (!find_side(s, n->first, &a) || a.root == NULL || !fits_column(a.root->kind, EXPR_OF(EXPR_TEXT))) {
        return false;
    }
    buf_str(out, small ? "(lower(" : "(");
    if (!put_value(s, &a, EXPR_OF(EXPR_TEXT))) {
        return false;
    }
    buf_str(out, small ? ")" : "");
    buf_printf(out, " %s%s ", like ? "" : "NOT ", sqlite && n->op != EXPR_ILIKE ? "GLOB" : "LIKE");
    return put_pattern(s, &a, n) && put_guard(s, &a, EXPR_OF(EXPR_TEXT)) && buf_u8(out, ')');
}

static bool put_is_null(struct sql *s, struct expr_node *n, bool want)
{
    struct side a;
    bool null = want != (n->negated != 0);
    if (!find_side(s, n->first, &a) || a.root == NULL) {
        return false;
    }
    if (a.root->kind != EXPR_COLUMN_JSON) {
        return buf_printf(&s->w->sql, "(%s IS %sNULL)", a.root->sql, null ? "" : "NOT ");
    }
    if (s->dialect == EXPR_POSTGRES) {
        buf_str(&s->w->sql, "(coalesce(jsonb_typeof");
        return put_jsonb(s, &a) && buf_printf(&s->w->sql, ", 'null') %s 'null')", null ? "=" : "<>");
    }
    // json_extract is NULL for both; an index serves it.
    buf_u8(&s->w->sql, '(');
    return put_json(s, "json_extract", &a) && buf_printf(&s->w->sql, " IS %sNULL)", null ? "" : "NOT ");
}

// A path that is a condition itself.
static bool put_bool(struct sql *s, struct expr_node *n, bool want)
{
    struct side a;
    if (!find_side(s, n, &a) || a.root == NULL) {
        return false;
    }
    if (a.root->kind == EXPR_COLUMN_BOOL) {
        buf_printf(&s->w->sql, "(%s = ", a.root->sql);
        return put_constant(s, want) && buf_u8(&s->w->sql, ')');
    }
    if (a.root->kind != EXPR_COLUMN_JSON) {
        return false;
    }
    buf_u8(&s->w->sql, '(');
    if (s->dialect == EXPR_POSTGRES) {
        return put_jsonb(s, &a) && buf_printf(&s->w->sql, " = '%s'::jsonb)", want ? "true" : "false");
    }
    return put_json(s, "json_type", &a) && buf_printf(&s->w->sql, " = '%s')", want ? "true" : "false");
}

static bool put_leaf(struct sql *s, struct expr_node *n, bool want)
{
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_COMPARE:
        return put_compare(s, n, want);
    case EXPR_N_BETWEEN:
        return put_between(s, n, want);
    case EXPR_N_IN:
        return put_in(s, n, want);
    case EXPR_N_LIKE:
        return put_like(s, n, want);
    case EXPR_N_IS:
        return n->op == EXPR_IS_NULL && put_is_null(s, n, want);
    case EXPR_N_PATH:
        return put_bool(s, n, want);
    case EXPR_N_LITERAL:
        return put_constant(s, n->value.type == EXPR_BOOL && n->value.b == want);
    default:
        return false;
    }
}

// ---- Conditions --------------------------------------------------------------------------------------------------------------

// One condition, all of it; false when a part of it is not to be had.
static bool put_condition(struct sql *s, struct expr_node *n)
{
    bool want[EXPR_DEPTH_MAX + 1] = {true}; // by depth: is the text for true or for false wanted?
    struct expr_walk w;
    expr_walk_init(&w, n);
    while (expr_walk_next(&w)) {
        bool logic = w.node->kind == EXPR_N_AND || w.node->kind == EXPR_N_OR;
        bool truth = want[w.depth - 1];
        if (w.visit == EXPR_ENTER && (logic || w.node->kind == EXPR_N_NOT)) {
            want[w.depth] = truth == logic;
            buf_str(&s->w->sql, "(");
        } else if (w.visit == EXPR_ENTER) {
            w.skip = true;
            if (!put_leaf(s, w.node, truth)) {
                return false;
            }
        } else if (w.visit == EXPR_LEAVE) {
            buf_str(&s->w->sql, ")");
        } else if (logic && w.index + 1U < w.node->children) {
            buf_str(&s->w->sql, (w.node->kind == EXPR_N_AND) == truth ? " AND " : " OR ");
        }
    }
    return true;
}

// Everything from here on is taken back.
static void take_back(struct sql *s, size_t len, unsigned params)
{
    s->w->sql.len = len;
    while (s->w->param_count > params) {
        expr_program_free(s->w->params[--s->w->param_count].program);
    }
}

// The conditions that are left over, in an `and` of their own.
static bool keep_residual(struct sql *s, struct expr_node *n, struct expr_node *residual)
{
    struct expr_node *copy = arena_alloc(s->tree->arena, sizeof(*copy));
    if (copy == NULL) {
        s->status =
            expr_error_at(s->err, ST_NOMEM, s->tree->text, n->offset, n->length, "no memory for this expression");
        return false;
    }
    *copy = *n;
    copy->next = NULL;
    *(residual->last != NULL ? &residual->last->next : &residual->first) = copy;
    residual->last = copy;
    residual->children++;
    return true;
}

static void translate_one(struct sql *s, struct expr_node *n, struct expr_node *residual)
{
    size_t len = s->w->sql.len;
    unsigned params = s->w->param_count;
    buf_str(&s->w->sql, len > 0 ? " AND " : "");
    bool ok = put_condition(s, n);
    if (s->status == ST_OK && !ok) {
        take_back(s, len, params);
        keep_residual(s, n, residual);
    }
}

static enum status finish_residual(struct sql *s, struct expr_node *residual)
{
    struct expr_tree part = *s->tree;
    if (residual->children == 0) {
        return ST_OK;
    }
    part.root = residual->children == 1 ? residual->first : residual;
    enum status status = expr_compile(&part, s->schema, &s->w->residual, s->err);
    if (status == ST_OK && expr_format(&part, &s->w->residual_text) != ST_OK) {
        bool starved = s->w->residual_text.starved;
        status = starved ? ST_NOMEM : ST_TOO_LARGE;
        expr_error_at(s->err, status, s->tree->text, 0, 0,
                      starved ? "no memory for this expression" : "too long as text");
    }
    return status;
}

enum status expr_sql_translate(struct expr_tree *t, const struct expr_schema *schema, const struct expr_sql_root *roots,
                               enum expr_dialect dialect, unsigned first_param, struct expr_sql_where *ret,
                               struct expr_error *err)
{
    struct expr_node residual = {.kind = EXPR_N_AND, .types = EXPR_OF(EXPR_BOOL)};
    struct sql s = {.tree = t,
                    .schema = schema,
                    .roots = roots,
                    .dialect = dialect,
                    .first_param = first_param,
                    .w = ret,
                    .err = err};
    *ret = (struct expr_sql_where){.sql = buf_heap(EXPR_SQL_BYTES_MAX), .residual_text = buf_heap(EXPR_SQL_BYTES_MAX)};
    arena_init(&ret->arena, EXPR_SQL_BYTES_MAX);
    bool and = t->root->kind == EXPR_N_AND;
    for (struct expr_node *n = and? t->root->first : t->root; n != NULL && s.status == ST_OK; n = and? n->next : NULL) {
        translate_one(&s, n, &residual);
    }
    if (s.status == ST_OK && ret->sql.failed) {
        s.status = expr_error_at(err, ret->sql.starved ? ST_NOMEM : ST_TOO_LARGE, t->text, 0, 0, "too long as SQL");
    }
    return s.status == ST_OK ? finish_residual(&s, &residual) : s.status;
}

void expr_sql_release(struct expr_sql_where *w)
{
    for (unsigned i = 0; i < w->param_count; i++) {
        expr_program_free(w->params[i].program);
    }
    free(w->params);
    w->params = NULL;
    w->param_count = 0;
    expr_program_free(w->residual);
    w->residual = NULL;
    arena_release(&w->arena);
    buf_release(&w->sql);
    buf_release(&w->residual_text);
}

struct expr_value expr_sql_param(const struct expr_sql_where *w, unsigned index, int64_t now_us, struct expr_frame *f)
{
    struct expr_view nothing = {.now_us = now_us};
    struct expr_value v = w->params[index].literal;
    if (w->params[index].program != NULL) {
        expr_eval(w->params[index].program, &nothing, f, &v);
    }
    return v;
}
