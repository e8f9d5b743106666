#include "expr/eval.h"

#include <assert.h>

#include "expr/fn.h"
#include "expr/program_priv.h"

#define STOP          UINT32_MAX
#define PLACES_A_STEP 16 // places of a text that a pattern is compared at count as one step

struct run {
    const struct expr_program *p;
    const struct expr_view *view;
    struct expr_frame *f;
    struct expr_value *top; // the topmost value; below the stack when it is empty
    unsigned loops;         // open ones
    enum status status;
};

// An instruction at `pc` has been done; what comes next.
typedef uint32_t run_op(struct run *r, const struct expr_ins *i, uint32_t pc);

// ---- Paths -----------------------------------------------------------------------------------------------------------------

static struct expr_value step_down(struct run *r, struct expr_value v, const struct expr_step *s)
{
    const struct expr_item *it = NULL;
    if (s->is_key && v.type == EXPR_OBJECT) {
        it = expr_item_get(v.item, s->key, s->hash, &r->f->steps);
    } else if (!s->is_key && v.type == EXPR_LIST) {
        it = expr_item_at(v.item, s->index, &r->f->steps);
    }
    return it != NULL ? expr_item_value(it) : expr_null();
}

static struct expr_value as_time(struct expr_value v)
{
    return v.type == EXPR_INT ? expr_time(v.i) : expr_to_time(&v);
}

static struct expr_value find_slot(struct run *r, const struct expr_slot *s)
{
    struct expr_value v = expr_null();
    if (s->scope > 0) {
        v = expr_item_value(r->f->loop[s->scope - 1].item);
    } else if (s->root < r->view->count) {
        v = r->view->roots[s->root];
    }
    for (unsigned i = 0; i < s->steps; i++) {
        v = step_down(r, v, &r->p->steps[s->first + i]);
    }
    return s->as_time ? as_time(v) : v;
}

// Values of the document are looked up once; those of elements change.
static inline const struct expr_value *slot_value(struct run *r, unsigned index)
{
    struct expr_value *v = &r->f->slot[index];
    uint64_t bit = UINT64_C(1) << (index % 64);
    if ((r->f->bound[index / 64] & bit) == 0) {
        *v = find_slot(r, &r->p->slots[index]);
        r->f->bound[index / 64] |= r->p->slots[index].scope == 0 ? bit : 0;
    }
    return v;
}

static uint32_t op_slot(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    *++r->top = *slot_value(r, i->a);
    return pc + 1;
}

static uint32_t op_const(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    *++r->top = r->p->consts[i->b];
    return pc + 1;
}

static uint32_t op_now(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    *++r->top = expr_time(r->view->now_us);
    return pc + 1;
}

static uint32_t op_dup(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    r->top[1] = r->top[0];
    r->top++;
    return pc + 1;
}

static uint32_t op_nip(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    r->top--;
    r->top[0] = r->top[1];
    return pc + 1;
}

static uint32_t op_end(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)r;
    (void)i;
    (void)pc;
    return STOP;
}

// ---- Logic: Kleene; what is no bool is unknown ----------------------------------------------------------------------------------

static bool is_false(const struct expr_value *v)
{
    return v->type == EXPR_BOOL && !v->b;
}

static struct expr_value answer(bool known, bool b)
{
    return known ? expr_bool(b) : expr_null();
}

static uint32_t op_and(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    const struct expr_value *b = r->top--;
    bool no = is_false(r->top) || is_false(b);
    *r->top = answer(no || (expr_is_true(r->top) && expr_is_true(b)), !no);
    return pc + 1;
}

static uint32_t op_or(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    const struct expr_value *b = r->top--;
    bool yes = expr_is_true(r->top) || expr_is_true(b);
    *r->top = answer(yes || (is_false(r->top) && is_false(b)), yes);
    return pc + 1;
}

static uint32_t op_not(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    *r->top = answer(r->top->type == EXPR_BOOL, is_false(r->top));
    return pc + 1;
}

static uint32_t op_jump(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)r;
    (void)pc;
    return i->b;
}

static uint32_t op_jump_not_true(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    const struct expr_value *v = r->top--;
    return expr_is_true(v) ? pc + 1 : i->b;
}

static uint32_t op_jump_false(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    return is_false(r->top) ? i->b : pc + 1;
}

static uint32_t op_jump_true(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    return expr_is_true(r->top) ? i->b : pc + 1;
}

static uint32_t op_jump_not_null(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    if (r->top->type != EXPR_NULL) {
        return i->b;
    }
    r->top--;
    return pc + 1;
}

// ---- Comparison ------------------------------------------------------------------------------------------------------------

static bool holds(enum expr_cmp cmp, int order)
{
    switch (cmp) {
    case EXPR_EQ:
        return order == 0;
    case EXPR_NE:
        return order != 0;
    case EXPR_LT:
        return order < 0;
    case EXPR_LE:
        return order <= 0;
    case EXPR_GT:
        return order > 0;
    case EXPR_GE:
        return order >= 0;
    }
    return false;
}

static struct expr_value compare(enum expr_cmp cmp, const struct expr_value *a, const struct expr_value *b)
{
    int order;
    bool known = expr_compare(a, b, &order);
    known = known && (cmp <= EXPR_NE || a->type != EXPR_POINT); // points have no order
    return answer(known, known && holds(cmp, order));
}

static uint32_t op_compare(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    r->top--;
    *r->top = compare((enum expr_cmp)i->a, &r->top[0], &r->top[1]);
    return pc + 1;
}

static uint32_t op_compare_slot(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    *++r->top = compare((enum expr_cmp)i->x, slot_value(r, i->a), &r->p->consts[i->b]);
    return pc + 1;
}

static uint32_t op_distinct(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    r->top--;
    *r->top = expr_bool(expr_same(&r->top[0], &r->top[1]) == (i->x != 0));
    return pc + 1;
}

static uint32_t op_is(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    const struct expr_value *v = r->top;
    bool yes = i->a == EXPR_IS_NULL      ? v->type == EXPR_NULL
               : i->a == EXPR_IS_UNKNOWN ? v->type != EXPR_BOOL
               : i->a == EXPR_IS_TRUE    ? expr_is_true(v)
                                         : is_false(v);
    *r->top = expr_bool(yes == (i->x == 0));
    return pc + 1;
}

static struct expr_value negated_if(struct expr_value v, bool negated)
{
    return v.type == EXPR_BOOL ? expr_bool(v.b != negated) : v;
}

static uint32_t op_between(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    r->top -= 2;
    struct expr_value low = compare(EXPR_GE, &r->top[0], &r->top[1]);
    struct expr_value high = compare(EXPR_LE, &r->top[0], &r->top[2]);
    bool no = is_false(&low) || is_false(&high);
    struct expr_value v = answer(no || (low.type == EXPR_BOOL && high.type == EXPR_BOOL), !no);
    *r->top = negated_if(v, i->x != 0);
    return pc + 1;
}

static uint32_t op_like(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    const struct expr_value *pattern = r->top--;
    if (pattern->type != EXPR_TEXT || r->top->type != EXPR_TEXT) {
        *r->top = expr_null();
        return pc + 1;
    }
    uint64_t steps;
    uint64_t steps_max = (EXPR_STEPS_MAX - r->f->steps) * PLACES_A_STEP;
    bool yes = expr_like_match((enum expr_like)i->a, expr_value_slice(pattern), (uint8_t)i->b, expr_value_slice(r->top),
                               steps_max, &steps);
    r->f->steps += steps / PLACES_A_STEP + (steps > steps_max ? 1 : 0);
    *r->top = expr_bool(yes != (i->x != 0));
    return pc + 1;
}

// ---- In --------------------------------------------------------------------------------------------------------------------

// One item more has been compared: the answer so far, Kleene's or.
static struct expr_value in_more(struct expr_value so_far, const struct expr_value *v, const struct expr_value *item)
{
    int order;
    if (expr_is_true(&so_far)) {
        return so_far;
    }
    if (!expr_compare(v, item, &order)) {
        return expr_null();
    }
    return order == 0 ? expr_bool(true) : so_far;
}

static bool set_has(const struct expr_value *first, unsigned count, const struct expr_value *v)
{
    unsigned low = 0;
    while (low < count) {
        unsigned middle = low + (count - low) / 2;
        int order = 0;
        expr_compare(&first[middle], v, &order);
        if (order == 0) {
            return true;
        }
        low = order < 0 ? middle + 1 : low;
        count = order < 0 ? count : middle;
    }
    return false;
}

// The constants are all texts or all numbers. Another type (a time beside texts) is compared with each.
static uint32_t op_in_set(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    const struct expr_value *first = &r->p->consts[i->b];
    const struct expr_value *v = r->top;
    bool null = (i->x & EXPR_SET_NULL) != 0;
    struct expr_value in = null ? expr_null() : expr_bool(false);
    if (v->type == first->type || (expr_is_number(v) && expr_is_number(first))) {
        in = set_has(first, i->a, v) ? expr_bool(true) : in;
    } else {
        for (unsigned k = 0; k < i->a; k++) {
            in = in_more(in, v, &first[k]);
        }
        r->f->steps += i->a;
    }
    *r->top = negated_if(in, (i->x & EXPR_SET_NEGATED) != 0);
    return pc + 1;
}

static uint32_t op_in_step(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    r->top--;
    *r->top = in_more(r->top[0], &r->top[-1], &r->top[1]);
    return pc + 1;
}

static uint32_t op_in_end(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    r->top--;
    *r->top = negated_if(r->top[1], i->x != 0);
    return pc + 1;
}

static uint32_t op_in_list(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    const struct expr_value *list = r->top--;
    struct expr_value in = expr_bool(false);
    if (list->type != EXPR_LIST) {
        *r->top = expr_null();
        return pc + 1;
    }
    const struct expr_item *it = list->item + 1;
    for (uint32_t k = 0; k < list->item->n; k++) {
        struct expr_value item = expr_item_value(it);
        in = in_more(in, r->top, &item);
        it = expr_item_next(it);
    }
    r->f->steps += list->item->n;
    *r->top = negated_if(in, i->x != 0);
    return pc + 1;
}

// ---- Arithmetic --------------------------------------------------------------------------------------------------------------

static struct expr_value arith_int(enum expr_arith op, int64_t a, int64_t b)
{
    int64_t n;
    bool over = true;
    if (op == EXPR_ADD) {
        over = __builtin_add_overflow(a, b, &n);
    } else if (op == EXPR_SUB) {
        over = __builtin_sub_overflow(a, b, &n);
    } else if (op == EXPR_MUL) {
        over = __builtin_mul_overflow(a, b, &n);
    } else if (op == EXPR_MOD && b != 0) {
        n = b == -1 ? 0 : a % b;
        over = false;
    }
    return over ? expr_null() : expr_int(n);
}

static struct expr_value arith_real(enum expr_arith op, double a, double b)
{
    switch (op) {
    case EXPR_ADD:
        return expr_real(a + b);
    case EXPR_SUB:
        return expr_real(a - b);
    case EXPR_MUL:
        return expr_real(a * b);
    case EXPR_DIV:
        return b == 0 ? expr_null() : expr_real(a / b);
    default:
        return expr_null();
    }
}

static struct expr_value arith_number(enum expr_arith op, const struct expr_value *a, const struct expr_value *b)
{
    if (a->type == EXPR_INT && b->type == EXPR_INT && op != EXPR_DIV) {
        return arith_int(op, a->i, b->i);
    }
    return arith_real(op, a->type == EXPR_INT ? (double)a->i : a->d, b->type == EXPR_INT ? (double)b->i : b->d);
}

static struct expr_value interval(int64_t months, int64_t us)
{
    bool ok = months >= -120000 && months <= 120000 && us >= -EXPR_TIME_MAX && us <= EXPR_TIME_MAX;
    return ok ? (struct expr_value){.type = EXPR_INTERVAL, .i = us, .months = months} : expr_null();
}

static struct expr_value shift_time(const struct expr_value *t, const struct expr_value *by, int sign)
{
    int64_t us;
    return expr_time_add(t->i, sign * by->months, sign * by->i, &us) ? expr_time(us) : expr_null();
}

// One of the two is a time or an interval; a text beside it is read as a time.
static struct expr_value arith_time(enum expr_arith op, struct expr_value a, struct expr_value b)
{
    int sign = op == EXPR_SUB ? -1 : 1;
    a = a.type == EXPR_TEXT ? expr_to_time(&a) : a;
    b = b.type == EXPR_TEXT ? expr_to_time(&b) : b;
    if (op != EXPR_ADD && op != EXPR_SUB) {
        return expr_null();
    }
    if (a.type == EXPR_TIME && b.type == EXPR_INTERVAL) {
        return shift_time(&a, &b, sign);
    }
    if (a.type == EXPR_INTERVAL && b.type == EXPR_TIME && op == EXPR_ADD) {
        return shift_time(&b, &a, 1);
    }
    if (a.type == EXPR_TIME && b.type == EXPR_TIME && op == EXPR_SUB) {
        return interval(0, a.i - b.i);
    }
    bool both = a.type == EXPR_INTERVAL && b.type == EXPR_INTERVAL;
    return both ? interval(a.months + sign * b.months, a.i + sign * b.i) : expr_null();
}

static struct expr_value concat(struct run *r, const struct expr_value *a, const struct expr_value *b)
{
    struct buf *scratch = &r->f->scratch;
    size_t first = scratch->len;
    if (a->type != EXPR_TEXT || b->type != EXPR_TEXT) {
        return expr_null();
    }
    buf_slice(scratch, expr_value_slice(a));
    buf_slice(scratch, expr_value_slice(b));
    r->f->steps += (scratch->len - first) / 16;
    return scratch->failed ? expr_null() : expr_text(slice_make(scratch->p + first, scratch->len - first));
}

static bool is_temporal(const struct expr_value *v)
{
    return v->type == EXPR_TIME || v->type == EXPR_INTERVAL;
}

static uint32_t op_arith(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    const struct expr_value *b = r->top--;
    const struct expr_value *a = r->top;
    if (i->a == EXPR_CONCAT) {
        *r->top = concat(r, a, b);
    } else if (expr_is_number(a) && expr_is_number(b)) {
        *r->top = arith_number((enum expr_arith)i->a, a, b);
    } else if (is_temporal(a) || is_temporal(b)) {
        *r->top = arith_time((enum expr_arith)i->a, *a, *b);
    } else {
        *r->top = expr_null();
    }
    return pc + 1;
}

static uint32_t op_negate(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    (void)i;
    struct expr_value *v = r->top;
    if (v->type == EXPR_INT) {
        *v = v->i == INT64_MIN ? expr_null() : expr_int(-v->i);
    } else if (v->type == EXPR_REAL) {
        *v = expr_real(-v->d);
    } else {
        *v = v->type == EXPR_INTERVAL ? interval(-v->months, -v->i) : expr_null();
    }
    return pc + 1;
}

static uint32_t op_cast(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    switch ((enum expr_cast)i->a) {
    case EXPR_AS_NUMBER:
        *r->top = expr_to_number(r->top);
        break;
    case EXPR_AS_TEXT:
        *r->top = expr_to_text(r->top, &r->f->scratch);
        break;
    case EXPR_AS_BOOL:
        *r->top = expr_to_bool(r->top);
        break;
    case EXPR_AS_TIME:
        *r->top = expr_to_time(r->top);
        break;
    default:
        *r->top = expr_to_version(r->top);
        break;
    }
    return pc + 1;
}

static struct expr_value seconds(int64_t us)
{
    return us % 1000000 == 0 ? expr_int(us / 1000000) : expr_real((double)us / 1e6);
}

// The field of a time in a zone; NULL: UTC.
static struct expr_value extract(enum expr_field field, struct expr_value t, const struct expr_value *zone)
{
    struct expr_calendar c = {.year = 0};
    if (t.type == EXPR_NULL) {
        return t;
    }
    expr_calendar_of(t.i + (zone != NULL ? expr_zone_offset_us(zone->zone, zone->len, t.i) : 0), &c);
    const struct expr_value fields[EXPR_FIELD_COUNT] = {
        [EXPR_YEAR] = expr_int(c.year),
        [EXPR_MONTH] = expr_int(c.month),
        [EXPR_DAY] = expr_int(c.day),
        [EXPR_HOUR] = expr_int(c.day_us / 3600000000),
        [EXPR_MINUTE] = expr_int(c.day_us / 60000000 % 60),
        [EXPR_SECOND] = seconds(c.day_us % 60000000),
        [EXPR_WEEKDAY] = expr_int(c.weekday),
        [EXPR_YEARDAY] = expr_int(c.yearday),
        [EXPR_EPOCH] = seconds(t.i),
    };
    return fields[field];
}

static uint32_t op_extract(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    *r->top = extract((enum expr_field)i->a, expr_to_time(r->top), NULL);
    return pc + 1;
}

static uint32_t op_extract_at(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    *r->top = extract((enum expr_field)i->a, expr_to_time(r->top), &r->p->consts[i->b]);
    return pc + 1;
}

static uint32_t op_call(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    struct expr_call c = {.scratch = &r->f->scratch};
    struct expr_value *args = r->top + 1 - i->x;
    struct expr_value v = expr_fn_apply(expr_fn_at(i->a), &c, args, i->x);
    r->f->steps += c.steps;
    *args = v;
    r->top = args;
    return pc + 1;
}

// ---- Quantifiers -------------------------------------------------------------------------------------------------------------

// The answer for a list that does not decide: empty, or gone through to the end.
static struct expr_value undecided(enum expr_quant quant, bool unknown)
{
    return unknown && quant != EXPR_EXISTS ? expr_null() : expr_bool(quant == EXPR_ALL_OF);
}

static uint32_t op_each(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    if (r->top->type != EXPR_LIST || r->top->item->n == 0) {
        *r->top = undecided((enum expr_quant)i->a, r->top->type != EXPR_LIST);
        return i->b;
    }
    const struct expr_item *list = r->top->item;
    r->top--;
    r->f->loop[r->loops++] = (struct expr_loop){.item = list + 1, .left = list->n - 1};
    return pc + 1;
}

static uint32_t op_next(struct run *r, const struct expr_ins *i, uint32_t pc)
{
    struct expr_loop *loop = &r->f->loop[r->loops - 1];
    enum expr_quant quant = (enum expr_quant)r->p->code[i->b].a;
    bool decided = quant == EXPR_ALL_OF ? is_false(r->top) : expr_is_true(r->top);
    loop->unknown = loop->unknown || r->top->type != EXPR_BOOL;
    if (!decided && loop->left > 0) {
        loop->left--;
        loop->item = expr_item_next(loop->item);
        r->top--;
        return i->b + 1;
    }
    *r->top = decided ? expr_bool(quant != EXPR_ALL_OF) : undecided(quant, loop->unknown);
    r->loops--;
    return pc + 1;
}

static run_op *const ops[EXPR_OP__COUNT] = {
    [EXPR_OP_END] = op_end,
    [EXPR_OP_CONST] = op_const,
    [EXPR_OP_SLOT] = op_slot,
    [EXPR_OP_NOW] = op_now,
    [EXPR_OP_DUP] = op_dup,
    [EXPR_OP_NIP] = op_nip,
    [EXPR_OP_AND] = op_and,
    [EXPR_OP_OR] = op_or,
    [EXPR_OP_NOT] = op_not,
    [EXPR_OP_JUMP] = op_jump,
    [EXPR_OP_JUMP_NOT_TRUE] = op_jump_not_true,
    [EXPR_OP_JUMP_FALSE] = op_jump_false,
    [EXPR_OP_JUMP_TRUE] = op_jump_true,
    [EXPR_OP_JUMP_NOT_NULL] = op_jump_not_null,
    [EXPR_OP_COMPARE] = op_compare,
    [EXPR_OP_COMPARE_SLOT] = op_compare_slot,
    [EXPR_OP_DISTINCT] = op_distinct,
    [EXPR_OP_IS] = op_is,
    [EXPR_OP_BETWEEN] = op_between,
    [EXPR_OP_LIKE] = op_like,
    [EXPR_OP_IN_SET] = op_in_set,
    [EXPR_OP_IN_STEP] = op_in_step,
    [EXPR_OP_IN_END] = op_in_end,
    [EXPR_OP_IN_LIST] = op_in_list,
    [EXPR_OP_ARITH] = op_arith,
    [EXPR_OP_NEGATE] = op_negate,
    [EXPR_OP_CAST] = op_cast,
    [EXPR_OP_EXTRACT] = op_extract,
    [EXPR_OP_EXTRACT_AT] = op_extract_at,
    [EXPR_OP_CALL] = op_call,
    [EXPR_OP_EACH] = op_each,
    [EXPR_OP_NEXT] = op_next,
};

enum status expr_run(const struct expr_program *p, unsigned pc, const struct expr_view *view, struct expr_frame *f,
                     struct expr_value *ret)
{
    struct run r = {.p = p, .view = view, .f = f, .top = f->stack};
    f->scratch = buf_fixed(f->scratch_mem, sizeof(f->scratch_mem));
    f->steps = 0;
    for (unsigned i = 0; i < EXPR_SLOTS_MAX / 64; i++) {
        f->bound[i] = 0;
    }
    for (uint32_t at = pc; at != STOP;) {
        const struct expr_ins *i = &p->code[at];
        at = ops[i->op](&r, i, at);
        if (++f->steps > EXPR_STEPS_MAX) {
            *ret = expr_null();
            return ST_TOO_LARGE;
        }
    }
    *ret = f->scratch.failed ? expr_null() : *r.top;
    return f->scratch.failed ? ST_TOO_LARGE : ST_OK;
}

enum status expr_eval(const struct expr_program *p, const struct expr_view *view, struct expr_frame *f,
                      struct expr_value *ret)
{
    return expr_run(p, 0, view, f, ret);
}
