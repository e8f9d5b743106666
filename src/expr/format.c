#include "expr/format.h"

#include "base/json.h"
#include "expr/grammar.h"
#include "expr/parse_priv.h"

// How tightly a node binds; a child that binds less than its place asks for is put in parentheses. The floors of grammar.y.
enum tightness { T_COND = 1, T_AND, T_NOT, T_PRED, T_SUM, T_CONCAT, T_PRODUCT, T_UNARY, T_PRIMARY };

static int arith_tightness(unsigned op)
{
    return op <= EXPR_SUB ? T_SUM : op == EXPR_CONCAT ? T_CONCAT : T_PRODUCT;
}

static int tightness(const struct expr_node *n)
{
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_OR:
        return T_COND;
    case EXPR_N_AND:
        return T_AND;
    case EXPR_N_NOT:
        return T_NOT;
    case EXPR_N_COMPARE:
    case EXPR_N_DISTINCT:
    case EXPR_N_IS:
    case EXPR_N_BETWEEN:
    case EXPR_N_IN:
    case EXPR_N_IN_LIST:
    case EXPR_N_LIKE:
        return T_PRED;
    case EXPR_N_ARITH:
        return arith_tightness(n->op);
    case EXPR_N_NEGATE:
        return T_UNARY;
    default:
        return T_PRIMARY;
    }
}

// What the child at `index` must have to stand there without parentheses.
static int wanted(const struct expr_node *parent, unsigned index)
{
    switch ((enum expr_kind)parent->kind) {
    case EXPR_N_OR:
        return T_AND;
    case EXPR_N_AND:
    case EXPR_N_NOT:
        return T_NOT;
    case EXPR_N_COMPARE:
    case EXPR_N_DISTINCT:
    case EXPR_N_IS:
    case EXPR_N_BETWEEN:
    case EXPR_N_IN_LIST:
    case EXPR_N_LIKE:
    case EXPR_N_EXTRACT:
        return T_SUM;
    case EXPR_N_IN:
        return index == 0 ? T_SUM : T_COND;
    case EXPR_N_ARITH:
        return arith_tightness(parent->op) + (index > 0 ? 1 : 0);
    case EXPR_N_NEGATE:
        return T_PRIMARY; // also of another minus: two would begin a comment
    default:
        return T_COND;
    }
}

static void put_quoted(struct buf *out, struct slice s, char quote)
{
    buf_u8(out, (uint8_t)quote);
    for (size_t i = 0; i < s.len; i++) {
        buf_u8(out, s.p[i]);
        if (s.p[i] == (uint8_t)quote) {
            buf_u8(out, s.p[i]);
        }
    }
    buf_u8(out, (uint8_t)quote);
}

// Is `name` one word that the scanner takes for a name? Behind a dot every word is.
static bool is_plain(struct slice name, bool after_dot)
{
    char text[64];
    struct expr_token t;
    if (name.len == 0 || !slice_to_cstr(name, text, sizeof(text))) {
        return false;
    }
    const uint8_t *first = (const uint8_t *)text;
    struct expr_scanner s = {.start = first, .p = first, .end = first + name.len, .after_dot = after_dot};
    return expr_scan(&s, &t) == EXPR_TK_ID && t.length == name.len;
}

static void put_name(struct buf *out, struct slice name, bool after_dot)
{
    if (is_plain(name, after_dot)) {
        buf_slice(out, name);
    } else {
        put_quoted(out, name, '"');
    }
}

static void put_real(struct buf *out, double d)
{
    struct jw w;
    size_t first = out->len;
    jw_init(&w, out);
    jw_double(&w, d);
    bool whole = true;
    for (size_t i = first; i < out->len; i++) {
        whole = whole && out->p[i] != '.' && out->p[i] != 'e';
    }
    if (whole) {
        buf_str(out, ".0");
    }
}

static void put_literal(struct buf *out, const struct expr_value *v)
{
    switch ((enum expr_type)v->type) {
    case EXPR_BOOL:
        buf_str(out, v->b ? "true" : "false");
        break;
    case EXPR_INT:
        buf_printf(out, "%lld", (long long)v->i);
        break;
    case EXPR_REAL:
        put_real(out, v->d);
        break;
    case EXPR_TEXT:
        put_quoted(out, expr_value_slice(v), '\'');
        break;
    case EXPR_TIME:
        buf_str(out, "time '");
        expr_time_write(v->i, out);
        buf_u8(out, '\'');
        break;
    case EXPR_INTERVAL:
        buf_str(out, "interval '");
        expr_interval_write(v->months, v->i, out);
        buf_u8(out, '\'');
        break;
    default:
        buf_str(out, "null");
        break;
    }
}

static void put_before(struct buf *out, const struct expr_node *n)
{
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_LITERAL:
        put_literal(out, &n->value);
        break;
    case EXPR_N_PATH:
        put_name(out, expr_value_slice(&n->value), false);
        break;
    case EXPR_N_INDEX:
        buf_printf(out, "[%lld]", (long long)n->value.i);
        break;
    case EXPR_N_NOT:
        buf_str(out, "not ");
        break;
    case EXPR_N_NEGATE:
        buf_u8(out, '-');
        break;
    case EXPR_N_CASE:
        buf_str(out, (n->op & EXPR_CASE_OPERAND) != 0 ? "case " : "case when ");
        break;
    case EXPR_N_CAST:
        buf_str(out, "cast(");
        break;
    case EXPR_N_EXTRACT:
        buf_printf(out, "extract(%s from ", expr_field_text((enum expr_field)n->op));
        break;
    case EXPR_N_QUANT:
        buf_printf(out, "%s(", expr_quant_text((enum expr_quant)n->op));
        break;
    case EXPR_N_CALL:
        buf_slice(out, expr_value_slice(&n->value));
        buf_u8(out, '(');
        break;
    case EXPR_N_POLYGON:
        buf_str(out, "polygon((");
        break;
    case EXPR_N_SELECT:
        buf_str(out, "select ");
        break;
    case EXPR_N_ALL:
        buf_u8(out, '*');
        break;
    case EXPR_N_OBJECT:
        buf_u8(out, '{');
        break;
    case EXPR_N_ARRAY:
        buf_u8(out, '[');
        break;
    default:
        break;
    }
}

// " when ", " then ", " else " behind the child at `index`, which is not the last.
static const char *case_word(const struct expr_node *n, unsigned index)
{
    bool operand = (n->op & EXPR_CASE_OPERAND) != 0;
    bool other = (n->op & EXPR_CASE_ELSE) != 0;
    if (other && index + 2U == n->children) {
        return " else ";
    }
    return (index % 2 == 0) == operand ? " when " : " then ";
}

static void put_between(struct buf *out, const struct expr_node *n, unsigned index)
{
    const char *no = n->negated ? "not " : "";
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_OR:
        buf_str(out, " or ");
        break;
    case EXPR_N_AND:
        buf_str(out, " and ");
        break;
    case EXPR_N_ARITH:
        buf_printf(out, " %s ", expr_arith_text((enum expr_arith)n->op));
        break;
    case EXPR_N_COMPARE:
        buf_printf(out, " %s ", expr_cmp_text((enum expr_cmp)n->op));
        break;
    case EXPR_N_DISTINCT:
        buf_printf(out, " is %sdistinct from ", no);
        break;
    case EXPR_N_BETWEEN:
        buf_printf(out, index == 0 ? " %sbetween " : "%s and ", index == 0 ? no : "");
        break;
    case EXPR_N_IN:
        buf_printf(out, index == 0 ? " %sin (" : "%s, ", index == 0 ? no : "");
        break;
    case EXPR_N_IN_LIST:
        buf_printf(out, " %sin ", no);
        break;
    case EXPR_N_LIKE:
        buf_printf(out, index == 0 ? " %s%s " : "%s escape ", index == 0 ? no : "",
                   expr_like_text((enum expr_like)n->op));
        break;
    case EXPR_N_CASE:
        buf_str(out, case_word(n, index));
        break;
    case EXPR_N_CALL:
    case EXPR_N_ARRAY:
        buf_str(out, ", ");
        break;
    case EXPR_N_OBJECT:
        buf_str(out, index % 2 == 0 ? ": " : ", ");
        break;
    case EXPR_N_EXTRACT:
        buf_str(out, " at ");
        break;
    case EXPR_N_ITEM:
        buf_str(out, index == 0 ? " as " : "");
        break;
    case EXPR_N_POLYGON:
        buf_str(out, index % 2 == 0 ? " " : ", ");
        break;
    default:
        break;
    }
}

static void put_after(struct buf *out, const struct expr_node *n)
{
    static const char *const is_names[] = {"null", "true", "false", "unknown"};
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_IS:
        buf_printf(out, " is %s%s", n->negated ? "not " : "", is_names[n->op]);
        break;
    case EXPR_N_IN:
    case EXPR_N_EXTRACT:
    case EXPR_N_CALL:
    case EXPR_N_QUANT:
        buf_u8(out, ')');
        break;
    case EXPR_N_POLYGON:
        buf_str(out, "))");
        break;
    case EXPR_N_OBJECT:
        buf_u8(out, '}');
        break;
    case EXPR_N_ARRAY:
        buf_u8(out, ']');
        break;
    case EXPR_N_CASE:
        buf_str(out, " end");
        break;
    case EXPR_N_CAST:
        buf_printf(out, " as %s)", expr_cast_text((enum expr_cast)n->op));
        break;
    default:
        break;
    }
}

// Behind an item of a statement: the next one, or where it comes from.
static void put_after_item(struct buf *out, const struct expr_node *n, unsigned index)
{
    bool where = (n->op & EXPR_SELECT_WHERE) != 0;
    unsigned items = n->children - (where ? 1U : 0U);
    if (index + 1 < items) {
        buf_str(out, ", ");
    } else if (index + 1 == items) {
        buf_str(out, " from ");
        put_quoted(out, expr_value_slice(&n->value), '\'');
        buf_str(out, where ? " where " : "");
    }
}

// A key: of a path, a name of an item, or of an object.
static void put_key(struct buf *out, const struct expr_walk *w)
{
    unsigned index;
    const struct expr_node *parent = expr_walk_parent(w, &index);
    struct slice key = expr_value_slice(&w->node->value);
    if (parent->kind == EXPR_N_OBJECT) {
        put_quoted(out, key, '\'');
        return;
    }
    bool first = parent->kind == EXPR_N_ITEM && index == 1;
    buf_str(out, first ? "" : ".");
    put_name(out, key, !first);
}

static bool in_parentheses(const struct expr_walk *w)
{
    unsigned index;
    const struct expr_node *parent = expr_walk_parent(w, &index);
    return parent != NULL && tightness(w->node) < wanted(parent, index);
}

enum status expr_format(const struct expr_tree *t, struct buf *out)
{
    struct expr_walk w;
    expr_walk_init(&w, t->root);
    while (expr_walk_next(&w)) {
        if (w.visit == EXPR_ENTER) {
            buf_str(out, in_parentheses(&w) ? "(" : "");
            if (w.node->kind == EXPR_N_KEY) {
                put_key(out, &w);
            } else {
                put_before(out, w.node);
            }
        } else if (w.visit == EXPR_LEAVE) {
            put_after(out, w.node);
            buf_str(out, in_parentheses(&w) ? ")" : "");
        } else if (w.node->kind == EXPR_N_QUANT) {
            buf_str(out, w.index > 0 ? "" : w.node->children > 1 ? "[*] where " : "[*]");
        } else if (w.node->kind == EXPR_N_SELECT) {
            put_after_item(out, w.node, w.index);
        } else if (w.index + 1U < w.node->children) {
            put_between(out, w.node, w.index);
        }
    }
    return out->failed ? ST_TOO_LARGE : ST_OK;
}
