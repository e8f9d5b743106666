// Nodes as the grammar's rules make them. A rule that fails gives NULL and sets p->status; nothing is built on NULL.
#include <math.h>

#include "base/json.h"
#include "expr/parse_priv.h"

struct expr_node *expr_new(struct expr_parse *p, enum expr_kind kind, unsigned op, struct expr_token t)
{
    if (p->status != ST_OK) {
        return NULL;
    }
    if (p->tree->nodes >= EXPR_NODES_MAX) {
        expr_fail(p, ST_TOO_LARGE, t, "an expression has at most %d parts", EXPR_NODES_MAX);
        return NULL;
    }
    struct expr_node *n = arena_alloc(p->tree->arena, sizeof(*n));
    if (n == NULL) {
        expr_fail(p, ST_NOMEM, t, "no memory for this expression");
        return NULL;
    }
    p->tree->nodes++;
    *n = (struct expr_node){
        .kind = (uint8_t)kind, .op = (uint8_t)op, .depth = 1, .offset = t.offset, .length = t.length};
    return n;
}

static struct expr_token place(const struct expr_node *n)
{
    return (struct expr_token){n->offset, n->length};
}

struct expr_node *expr_span(struct expr_node *n, struct expr_token first, struct expr_token last)
{
    if (n != NULL) {
        uint32_t end = n->offset + n->length;
        uint32_t last_end = last.offset + last.length;
        n->offset = first.offset < n->offset ? first.offset : n->offset;
        n->length = (last_end > end ? last_end : end) - n->offset;
    }
    return n;
}

struct expr_node *expr_append(struct expr_parse *p, struct expr_node *parent, struct expr_node *child)
{
    if (parent == NULL || child == NULL) {
        return NULL;
    }
    if (child->depth >= EXPR_DEPTH_MAX) {
        expr_fail(p, ST_TOO_LARGE, place(child), "nested more than %d deep", EXPR_DEPTH_MAX);
        return NULL;
    }
    // The value of in (...) is counted with its items.
    if (parent->children > EXPR_LIST_MAX) {
        expr_fail(p, ST_TOO_LARGE, place(child), "a list has at most %d items", EXPR_LIST_MAX);
        return NULL;
    }
    *(parent->last != NULL ? &parent->last->next : &parent->first) = child;
    parent->last = child;
    parent->children++;
    parent->depth = child->depth >= parent->depth ? (uint16_t)(child->depth + 1) : parent->depth;
    return expr_span(parent, place(child), place(child));
}

struct expr_node *expr_new1(struct expr_parse *p, enum expr_kind kind, unsigned op, struct expr_node *a)
{
    return a != NULL ? expr_append(p, expr_new(p, kind, op, place(a)), a) : NULL;
}

struct expr_node *expr_new2(struct expr_parse *p, enum expr_kind kind, unsigned op, struct expr_node *a,
                            struct expr_node *b)
{
    return expr_append(p, expr_new1(p, kind, op, a), b);
}

// `a and b and c` is one node of three: a long chain is wide, not deep.
struct expr_node *expr_logic(struct expr_parse *p, enum expr_kind kind, struct expr_node *a, struct expr_node *b)
{
    return a != NULL && a->kind == kind ? expr_append(p, a, b) : expr_new2(p, kind, 0, a, b);
}

struct expr_node *expr_in_close(struct expr_parse *p, struct expr_node *list, struct expr_node *value)
{
    if (list == NULL || value == NULL) {
        return NULL;
    }
    struct expr_node *items = list->first;
    if (value->depth >= EXPR_DEPTH_MAX || list->children > EXPR_LIST_MAX) {
        bool deep = value->depth >= EXPR_DEPTH_MAX;
        expr_fail(p, ST_TOO_LARGE, place(list), deep ? "nested too deeply" : "a list has too many items");
        return NULL;
    }
    value->next = items;
    list->first = value;
    list->children++;
    list->depth = value->depth >= list->depth ? (uint16_t)(value->depth + 1) : list->depth;
    return expr_span(list, place(value), place(value));
}

static struct slice unquote(struct expr_parse *p, struct expr_token t);

struct expr_node *expr_select_node(struct expr_parse *p, struct expr_node *n, struct expr_token filter,
                                   struct expr_node *where)
{
    struct slice s = n != NULL ? unquote(p, filter) : slice_make(NULL, 0);
    if (n == NULL || s.p == NULL) {
        return NULL;
    }
    n->value = expr_text(s);
    n->op = where != NULL ? EXPR_SELECT_WHERE : 0;
    return expr_span(where != NULL ? expr_append(p, n, where) : n, (struct expr_token){0, 0}, filter);
}

struct expr_node *expr_case_else(struct expr_parse *p, struct expr_node *n, struct expr_node *other)
{
    n = expr_append(p, n, other);
    if (n != NULL) {
        n->op |= EXPR_CASE_ELSE;
    }
    return n;
}

struct expr_node *expr_not(struct expr_node *n, bool negated)
{
    if (n != NULL) {
        n->negated = negated;
    }
    return n;
}

// A minus before a number makes a negative number, also the smallest one, which has no positive counterpart.
struct expr_node *expr_negate(struct expr_parse *p, struct expr_token minus, struct expr_node *a)
{
    if (a != NULL && a->kind == EXPR_N_LITERAL && expr_is_number(&a->value)) {
        struct slice digits = slice_head(slice_from(p->tree->text, a->offset), a->length);
        bool smallest = a->value.type == EXPR_REAL && slice_eq(digits, SLICE("9223372036854775808"));
        if (smallest) {
            a->value = expr_int(INT64_MIN);
        } else if (a->value.type == EXPR_REAL) {
            a->value = expr_real(-a->value.d);
        } else if (a->value.i != INT64_MIN) {
            a->value.i = -a->value.i;
        } else {
            a->value = expr_real(0x1p63);
        }
        return expr_span(a, minus, minus);
    }
    return expr_span(expr_new1(p, EXPR_N_NEGATE, 0, a), minus, minus);
}

struct expr_node *expr_constant(struct expr_parse *p, struct expr_token t, struct expr_value v)
{
    struct expr_node *n = expr_new(p, EXPR_N_LITERAL, 0, t);
    if (n != NULL) {
        n->value = v;
    }
    return n;
}

static struct slice token_text(const struct expr_parse *p, struct expr_token t)
{
    return slice_head(slice_from(p->tree->text, t.offset), t.length);
}

// "0x1f": at most 63 bits.
static bool read_hex(struct slice digits, int64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < digits.len; i++) {
        uint8_t c = digits.p[i];
        if (v >> 59 != 0) {
            return false;
        }
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *ret = (int64_t)v;
    return true;
}

struct expr_node *expr_number(struct expr_parse *p, struct expr_token t, bool negative)
{
    struct slice digits = token_text(p, t);
    struct expr_value v;
    if (digits.len > 2 && (digits.p[1] | 0x20) == 'x') {
        int64_t i;
        if (!read_hex(slice_from(digits, 2), &i)) {
            expr_fail(p, ST_MALFORMED, t, "this number has more than 63 bits");
            return NULL;
        }
        v = expr_int(i);
    } else {
        struct json j;
        json_init(&j, digits, 0);
        enum json_token token = json_next(&j);
        if (token != JT_INT && token != JT_DOUBLE) {
            expr_fail(p, ST_MALFORMED, t, "not a number: %s", j.error);
            return NULL;
        }
        v = token == JT_INT ? expr_int(j.i) : expr_real(j.d);
    }
    struct expr_node *n = expr_constant(p, t, v);
    return negative && n != NULL ? expr_negate(p, t, n) : n;
}

// What stands between the quotes, doubled quotes made single. p == NULL without memory.
static struct slice unquote(struct expr_parse *p, struct expr_token t)
{
    struct slice raw = slice_head(slice_from(token_text(p, t), 1), t.length - 2);
    uint8_t quote = token_text(p, t).p[0];
    if (raw.len == 0 || memchr(raw.p, quote, raw.len) == NULL) {
        return raw;
    }
    uint8_t *mem = p->status == ST_OK ? arena_alloc(p->tree->arena, raw.len) : NULL;
    if (mem == NULL) {
        expr_fail(p, ST_NOMEM, t, "no memory for this expression");
        return slice_make(NULL, 0);
    }
    size_t n = 0;
    for (size_t i = 0; i < raw.len; i++) {
        mem[n++] = raw.p[i];
        i += raw.p[i] == quote ? 1 : 0;
    }
    return slice_make(mem, n);
}

struct expr_node *expr_string(struct expr_parse *p, struct expr_token t)
{
    struct slice s = unquote(p, t);
    return s.p != NULL ? expr_constant(p, t, expr_text(s)) : NULL;
}

struct expr_node *expr_time_literal(struct expr_parse *p, struct expr_token first, struct expr_token t)
{
    int64_t us;
    if (!expr_time_parse(unquote(p, t), &us)) {
        expr_fail(p, ST_MALFORMED, t, "not a time: write it as '2026-01-31T12:00:00Z' or '2026-01-31'");
        return NULL;
    }
    return expr_span(expr_constant(p, t, expr_time(us)), first, t);
}

struct expr_node *expr_interval_literal(struct expr_parse *p, struct expr_token first, struct expr_token t)
{
    struct expr_value v = {.type = EXPR_INTERVAL};
    if (!expr_interval_parse(unquote(p, t), &v.months, &v.i)) {
        expr_fail(p, ST_MALFORMED, t, "not an interval: write it as '7 days' or '1 month 2 hours'");
        return NULL;
    }
    return expr_span(expr_constant(p, t, v), first, t);
}

struct expr_node *expr_name(struct expr_parse *p, enum expr_kind kind, struct expr_token t)
{
    uint8_t c = token_text(p, t).p[0];
    struct slice s = c == '"' || c == '\'' ? unquote(p, t) : token_text(p, t);
    struct expr_node *n = s.p != NULL ? expr_new(p, kind, 0, t) : NULL;
    if (n != NULL) {
        n->value = expr_text(s);
    }
    return n;
}

struct expr_node *expr_step_index(struct expr_parse *p, struct expr_token t, bool negative)
{
    struct expr_node *n = expr_number(p, t, negative);
    if (n == NULL) {
        return NULL;
    }
    if (n->value.type != EXPR_INT || n->value.i > INT32_MAX || n->value.i < -INT32_MAX) {
        expr_fail(p, ST_MALFORMED, t, "an index is a whole number of at most %d", INT32_MAX);
        return NULL;
    }
    n->kind = EXPR_N_INDEX;
    return n;
}

struct expr_node *expr_cast_node(struct expr_parse *p, struct expr_node *a, struct expr_token type)
{
    int as = expr_cast_find(token_text(p, type));
    if (as < 0) {
        expr_fail(p, ST_MALFORMED, type, "a cast goes to number, text, bool, time or version");
        return NULL;
    }
    return expr_new1(p, EXPR_N_CAST, (unsigned)as, a);
}

struct expr_node *expr_extract_node(struct expr_parse *p, struct expr_token field, struct expr_node *a)
{
    int f = expr_field_find(token_text(p, field));
    if (f < 0) {
        expr_fail(p, ST_MALFORMED, field,
                  "what can be extracted is year, month, day, hour, minute, second, weekday, yearday or epoch");
        return NULL;
    }
    return expr_new1(p, EXPR_N_EXTRACT, (unsigned)f, a);
}
