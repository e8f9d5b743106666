// From the tree to instructions: one walk, children before what is done with them. What needs neither document nor time is
// computed here (by the evaluator, so that it cannot be another result).
#include <stdio.h>
#include <stdlib.h>

#include "expr/fn.h"
#include "expr/parse.h"
#include "expr/program_priv.h"

#define NONE             UINT32_MAX
#define EXPR_COMPILE_MAX 524288 // bytes of memory while compiling

// What a node being compiled remembers until it is left.
struct level {
    uint32_t start;   // its first instruction
    uint32_t pending; // jumps to its end: each holds the one before it; NONE: no more
    uint32_t next;    // jump to the next when of a case; the EACH of a quantifier
    unsigned consts;  // how many there were before it
};

struct compile {
    struct expr_tree *tree;
    struct arena *mem;
    struct expr_program p; // its arrays are in `mem`, as large as they can get
    struct expr_error *err;
    struct level level[EXPR_DEPTH_MAX];
    unsigned code_cap;
    unsigned const_cap;
    uint32_t impure; // behind the last instruction that reads the document or the clock
    enum status status;
    struct expr_frame frame; // to compute constants
};

static void too_large(struct compile *c, const struct expr_node *n, const char *what, unsigned limit)
{
    if (c->status == ST_OK) {
        c->status =
            expr_error_at(c->err, ST_TOO_LARGE, c->tree->text, n->offset, n->length, "at most %u %s", limit, what);
    }
}

static uint32_t emit(struct compile *c, const struct expr_node *n, enum expr_op op, unsigned x, unsigned a, uint32_t b)
{
    if (c->p.code_count + 1 >= c->code_cap) { // one more for the end of what is computed ahead
        too_large(c, n, "instructions in an expression", c->code_cap);
        return 0;
    }
    c->p.code[c->p.code_count] = (struct expr_ins){.op = (uint8_t)op, .x = (uint8_t)x, .a = (uint16_t)a, .b = b};
    return c->p.code_count++;
}

static uint32_t add_const(struct compile *c, const struct expr_node *n, struct expr_value v)
{
    if (c->p.const_count >= c->const_cap) {
        too_large(c, n, "constants in an expression", c->const_cap);
        return 0;
    }
    c->p.consts[c->p.const_count] = v;
    return c->p.const_count++;
}

static void emit_const(struct compile *c, const struct expr_node *n, struct expr_value v)
{
    emit(c, n, EXPR_OP_CONST, 0, 0, add_const(c, n, v));
}

static struct level *level_of(struct compile *c, const struct expr_walk *w)
{
    return &c->level[w->depth - 1];
}

// A jump to the end of the node, which is not known yet.
static void emit_pending(struct compile *c, const struct expr_walk *w, enum expr_op op)
{
    struct level *l = level_of(c, w);
    l->pending = emit(c, w->node, op, 0, 0, l->pending);
}

static void patch_pending(struct compile *c, struct level *l)
{
    while (l->pending != NONE && c->status == ST_OK) {
        struct expr_ins *jump = &c->p.code[l->pending];
        l->pending = jump->b;
        jump->b = c->p.code_count;
    }
}

// ---- Paths -----------------------------------------------------------------------------------------------------------------

static void add_key(struct compile *c, const struct expr_node *n, struct slice key)
{
    if (c->p.step_count >= EXPR_STEPS_OF_PATHS_MAX) {
        too_large(c, n, "steps of paths in an expression", EXPR_STEPS_OF_PATHS_MAX);
        return;
    }
    c->p.steps[c->p.step_count++] = (struct expr_step){.is_key = true, .hash = expr_key_hash(key), .key = key};
}

static void add_step(struct compile *c, const struct expr_node *step)
{
    if (step->kind == EXPR_N_KEY) {
        add_key(c, step, expr_value_slice(&step->value));
    } else if (c->p.step_count >= EXPR_STEPS_OF_PATHS_MAX) {
        too_large(c, step, "steps of paths in an expression", EXPR_STEPS_OF_PATHS_MAX);
    } else {
        c->p.steps[c->p.step_count++] = (struct expr_step){.index = (int32_t)step->value.i};
    }
}

static bool same_steps(const struct expr_program *p, const struct expr_slot *a, const struct expr_slot *b)
{
    for (unsigned i = 0; i < a->steps; i++) {
        const struct expr_step *x = &p->steps[a->first + i];
        const struct expr_step *y = &p->steps[b->first + i];
        if (x->is_key != y->is_key || x->index != y->index || !slice_eq(x->key, y->key)) {
            return false;
        }
    }
    return true;
}

// The slot, or an equal one that is there already.
static unsigned intern_slot(struct compile *c, const struct expr_node *n, const struct expr_slot *s)
{
    for (unsigned i = 0; i < c->p.slot_count; i++) {
        const struct expr_slot *old = &c->p.slots[i];
        bool like =
            old->scope == s->scope && old->as_time == s->as_time && old->root == s->root && old->steps == s->steps;
        if (like && same_steps(&c->p, old, s)) {
            c->p.step_count = s->first;
            return i;
        }
    }
    if (c->p.slot_count >= EXPR_SLOTS_MAX) {
        too_large(c, n, "different paths in an expression", EXPR_SLOTS_MAX);
        return 0;
    }
    c->p.slots[c->p.slot_count] = *s;
    return c->p.slot_count++;
}

// telemetry.KEY is its value, telemetry.KEY.time a time.
static void add_sample_steps(struct compile *c, const struct expr_node *key, struct expr_slot *s)
{
    const struct expr_node *field = key->next;
    struct slice name = field != NULL && field->kind == EXPR_N_KEY ? expr_value_slice(&field->value) : SLICE("");
    s->as_time = field != NULL && field->next == NULL && slice_eq(name, SLICE("time"));
    add_step(c, key);
    if (!s->as_time && !slice_eq(name, SLICE("value"))) {
        add_key(c, key, SLICE("value"));
    }
    for (; field != NULL; field = field->next) {
        add_step(c, field);
    }
}

static void compile_path(struct compile *c, const struct expr_node *n)
{
    struct expr_slot s = {.scope = n->scope, .root = n->fn, .first = (uint16_t)c->p.step_count};
    const struct expr_node *step = n->op == EXPR_BASE_DOC ? n->first->next : n->first;
    bool document = n->op == EXPR_BASE_ROOT || n->op == EXPR_BASE_DOC;
    if (n->op == EXPR_BASE_FALLBACK || n->op == EXPR_BASE_FIELD) {
        add_key(c, n, expr_value_slice(&n->value));
    }
    if (document && step != NULL && c->p.schema->roots[n->fn].shape == EXPR_SHAPE_SAMPLES) {
        add_sample_steps(c, step, &s);
        step = NULL;
    }
    for (; step != NULL; step = step->next) {
        add_step(c, step);
    }
    s.steps = (uint16_t)(c->p.step_count - s.first);
    emit(c, n, EXPR_OP_SLOT, 0, intern_slot(c, n, &s), 0);
    c->impure = c->p.code_count;
}

// ---- In --------------------------------------------------------------------------------------------------------------------

static int by_order(const void *a, const void *b)
{
    int order = 0;
    expr_compare(a, b, &order);
    return order;
}

// Are the items literals, all texts or all numbers (or NULL)?
static bool is_set(const struct expr_node *n)
{
    bool text = false;
    bool number = false;
    for (const struct expr_node *item = n->first->next; item != NULL; item = item->next) {
        if (item->kind != EXPR_N_LITERAL ||
            (item->value.type != EXPR_NULL && item->value.type != EXPR_TEXT && !expr_is_number(&item->value))) {
            return false;
        }
        text = text || item->value.type == EXPR_TEXT;
        number = number || expr_is_number(&item->value);
    }
    return text != number;
}

static void compile_set(struct compile *c, const struct expr_node *n)
{
    uint32_t first = c->p.const_count;
    unsigned flags = n->negated ? EXPR_SET_NEGATED : 0;
    for (const struct expr_node *item = n->first->next; item != NULL; item = item->next) {
        if (item->value.type == EXPR_NULL) {
            flags |= EXPR_SET_NULL;
        } else {
            add_const(c, item, item->value);
        }
    }
    unsigned count = c->p.const_count - first;
    qsort(&c->p.consts[first], count, sizeof(c->p.consts[0]), by_order);
    emit(c, n, EXPR_OP_IN_SET, flags, count, first);
}

// ---- Nodes -----------------------------------------------------------------------------------------------------------------

static void compile_polygon(struct compile *c, const struct expr_node *n)
{
    double *corners = arena_array(c->mem, n->children, sizeof(*corners));
    unsigned count = 0;
    if (corners == NULL) {
        c->status =
            expr_error_at(c->err, ST_NOMEM, c->tree->text, n->offset, n->length, "no memory for this expression");
        return;
    }
    for (const struct expr_node *x = n->first; x != NULL; x = x->next) {
        corners[count++] = x->value.type == EXPR_INT ? (double)x->value.i : x->value.d;
    }
    emit_const(c, n, (struct expr_value){.type = EXPR_POLYGON, .len = count, .corners = corners});
}

static bool has_flag(const struct expr_node *n, unsigned flag)
{
    return n->kind == EXPR_N_CALL && (expr_fn_at(n->fn)->flags & flag) != 0;
}

static bool is_coalesce(const struct expr_node *n)
{
    return has_flag(n, EXPR_FN_SPECIAL) && !has_flag(n, EXPR_FN_MESSAGE) && n->children > 0;
}

// topic() is the root $topic; topic(n) is split_part($topic, '/', n).
static void enter_message(struct compile *c, const struct expr_node *n)
{
    char name[32];
    snprintf(name, sizeof(name), "$%s", expr_fn_at(n->fn)->name);
    struct expr_slot s = {.root = (uint16_t)expr_schema_find(c->p.schema, slice_str(name)),
                          .first = (uint16_t)c->p.step_count};
    emit(c, n, EXPR_OP_SLOT, 0, intern_slot(c, n, &s), 0);
    if (n->children > 0) {
        emit_const(c, n, expr_text(SLICE("/")));
    }
}

static void after_case(struct compile *c, struct expr_walk *w)
{
    const struct expr_node *n = w->node;
    struct level *l = level_of(c, w);
    bool operand = (n->op & EXPR_CASE_OPERAND) != 0;
    unsigned index = w->index - (operand ? 1 : 0); // of when, then, when, ...; wraps for the operand
    unsigned last = n->children - (operand ? 2U : 1U);
    bool is_else = (n->op & EXPR_CASE_ELSE) != 0 && index == last;
    bool is_operand = operand && w->index == 0;
    if (is_else) {
        if (operand) {
            emit(c, n, EXPR_OP_NIP, 0, 0, 0);
        }
        return;
    }
    if (!is_operand && index % 2 == 0) {
        if (operand) {
            emit(c, n, EXPR_OP_COMPARE, 0, EXPR_EQ, 0);
        }
        l->next = emit(c, n, EXPR_OP_JUMP_NOT_TRUE, 0, 0, 0);
        return;
    }
    if (!is_operand) {
        if (operand) {
            emit(c, n, EXPR_OP_NIP, 0, 0, 0);
        }
        emit_pending(c, w, EXPR_OP_JUMP);
        c->p.code[l->next].b = c->p.code_count;
    }
    bool when_follows = is_operand || index + 2 <= last;
    if (operand && when_follows) {
        emit(c, n, EXPR_OP_DUP, 0, 0, 0);
    }
}

static void after_child(struct compile *c, struct expr_walk *w)
{
    const struct expr_node *n = w->node;
    bool last = w->index + 1U == n->children;
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_AND:
    case EXPR_N_OR:
        if (w->index > 0) {
            emit(c, n, n->kind == EXPR_N_AND ? EXPR_OP_AND : EXPR_OP_OR, 0, 0, 0);
        }
        if (!last) {
            emit_pending(c, w, n->kind == EXPR_N_AND ? EXPR_OP_JUMP_FALSE : EXPR_OP_JUMP_TRUE);
        }
        break;
    case EXPR_N_IN:
        if (w->index > 0) {
            emit(c, n, EXPR_OP_IN_STEP, 0, 0, 0);
        } else if (is_set(n)) {
            compile_set(c, n);
            expr_walk_finish(w);
        } else {
            emit_const(c, n, expr_bool(false));
        }
        break;
    case EXPR_N_LIKE:
        if (w->index == 1) {
            expr_walk_finish(w); // the escape is in the instruction
        }
        break;
    case EXPR_N_EXTRACT:
        expr_walk_finish(w); // the zone is in the instruction
        break;
    case EXPR_N_QUANT:
        if (w->index == 0) {
            level_of(c, w)->next = emit(c, n, EXPR_OP_EACH, 0, n->op, 0);
        }
        break;
    case EXPR_N_CASE:
        after_case(c, w);
        break;
    case EXPR_N_CALL:
        if (is_coalesce(n) && !last) {
            emit_pending(c, w, EXPR_OP_JUMP_NOT_NULL);
        }
        break;
    default:
        break;
    }
}

// a op constant, where a is a path: one instruction instead of three.
static void compile_compare(struct compile *c, const struct expr_node *n, const struct level *l)
{
    struct expr_ins *code = c->p.code;
    uint32_t count = c->p.code_count;
    bool direct = count == l->start + 2 && code[count - 2].op == EXPR_OP_SLOT && code[count - 1].op == EXPR_OP_CONST;
    if (!direct) {
        emit(c, n, EXPR_OP_COMPARE, 0, n->op, 0);
        return;
    }
    code[count - 2] =
        (struct expr_ins){.op = EXPR_OP_COMPARE_SLOT, .x = n->op, .a = code[count - 2].a, .b = code[count - 1].b};
    c->p.code_count--;
}

static void compile_call(struct compile *c, const struct expr_node *n)
{
    const struct expr_fn *fn = expr_fn_at(n->fn);
    if ((fn->flags & EXPR_FN_SPECIAL) == 0) {
        emit(c, n, EXPR_OP_CALL, n->children, n->fn, 0);
    } else if ((fn->flags & EXPR_FN_MESSAGE) != 0) {
        if (n->children > 0) {
            emit(c, n, EXPR_OP_CALL, 3, (unsigned)expr_fn_find(SLICE("split_part")), 0);
        }
    } else if (n->children == 0) {
        emit(c, n, EXPR_OP_NOW, 0, 0, 0);
    }
    if ((fn->flags & EXPR_FN_VOLATILE) != 0) {
        c->impure = c->p.code_count;
    }
}

static void compile_quant(struct compile *c, const struct expr_node *n, const struct level *l)
{
    if (n->children == 1) {
        emit_const(c, n, expr_bool(true));
    }
    emit(c, n, EXPR_OP_NEXT, 0, 0, l->next);
    c->p.code[l->next].b = c->p.code_count;
    c->impure = c->p.code_count;
}

static void leave(struct compile *c, const struct expr_node *n, const struct level *l)
{
    switch ((enum expr_kind)n->kind) {
    case EXPR_N_LITERAL:
        emit_const(c, n, n->value);
        break;
    case EXPR_N_NOT:
        emit(c, n, EXPR_OP_NOT, 0, 0, 0);
        break;
    case EXPR_N_NEGATE:
        emit(c, n, EXPR_OP_NEGATE, 0, 0, 0);
        break;
    case EXPR_N_ARITH:
        emit(c, n, EXPR_OP_ARITH, 0, n->op, 0);
        break;
    case EXPR_N_COMPARE:
        compile_compare(c, n, l);
        break;
    case EXPR_N_DISTINCT:
        emit(c, n, EXPR_OP_DISTINCT, n->negated, 0, 0);
        break;
    case EXPR_N_IS:
        emit(c, n, EXPR_OP_IS, n->negated, n->op, 0);
        break;
    case EXPR_N_BETWEEN:
        emit(c, n, EXPR_OP_BETWEEN, n->negated, 0, 0);
        break;
    case EXPR_N_IN:
        if (!is_set(n)) {
            emit(c, n, EXPR_OP_IN_END, n->negated, 0, 0);
        }
        break;
    case EXPR_N_IN_LIST:
        emit(c, n, EXPR_OP_IN_LIST, n->negated, 0, 0);
        break;
    case EXPR_N_LIKE:
        emit(c, n, EXPR_OP_LIKE, n->negated, n->op, n->children > 2 ? n->last->value.p[0] : 0);
        break;
    case EXPR_N_CAST:
        emit(c, n, EXPR_OP_CAST, 0, n->op, 0);
        break;
    case EXPR_N_EXTRACT:
        if (n->children > 1) {
            emit(c, n, EXPR_OP_EXTRACT_AT, 0, n->op, add_const(c, n, n->value));
        } else {
            emit(c, n, EXPR_OP_EXTRACT, 0, n->op, 0);
        }
        break;
    case EXPR_N_QUANT:
        compile_quant(c, n, l);
        break;
    case EXPR_N_CALL:
        compile_call(c, n);
        break;
    case EXPR_N_CASE:
        if ((n->op & EXPR_CASE_ELSE) == 0) {
            emit_const(c, n, expr_null());
            if ((n->op & EXPR_CASE_OPERAND) != 0) {
                emit(c, n, EXPR_OP_NIP, 0, 0, 0);
            }
        }
        break;
    default:
        break;
    }
}

// ---- Constants -------------------------------------------------------------------------------------------------------------

// What the node computes, when that is the same for every document. Its instructions are run, and one constant stands for
// them.
static void fold(struct compile *c, const struct expr_node *n, const struct level *l)
{
    struct expr_view nothing = {.roots = NULL};
    struct expr_value v;
    bool pure = c->impure <= l->start && c->p.code_count > l->start + 1;
    if (!pure || c->status != ST_OK) {
        return;
    }
    c->p.code[c->p.code_count] = (struct expr_ins){.op = EXPR_OP_END};
    if (expr_run(&c->p, l->start, &nothing, &c->frame, &v) != ST_OK) {
        return;
    }
    if (v.type == EXPR_TEXT || v.type == EXPR_VERSION) {
        struct slice copy = arena_copy(c->mem, expr_value_slice(&v));
        if (copy.p == NULL) {
            return; // it is computed each time, then
        }
        v.p = copy.p;
    }
    c->p.code_count = l->start;
    c->p.const_count = l->consts;
    emit_const(c, n, v);
}

static void visit(struct compile *c, struct expr_walk *w)
{
    struct level *l = level_of(c, w);
    if (w->visit == EXPR_ENTER) {
        *l = (struct level){.start = c->p.code_count, .pending = NONE, .consts = c->p.const_count};
        w->skip = w->node->kind == EXPR_N_PATH || w->node->kind == EXPR_N_POLYGON;
        if (w->node->kind == EXPR_N_PATH) {
            compile_path(c, w->node);
        } else if (has_flag(w->node, EXPR_FN_MESSAGE)) {
            enter_message(c, w->node);
        } else if (w->skip) {
            compile_polygon(c, w->node);
        }
    } else if (w->visit == EXPR_AFTER) {
        after_child(c, w);
    } else {
        leave(c, w->node, l);
        patch_pending(c, l);
        fold(c, w->node, l);
    }
}

// How much of each array this tree can need at most.
static bool prepare(struct compile *c, struct arena *a, unsigned nodes)
{
    c->code_cap = nodes * 4 + 4 < EXPR_CODE_MAX ? nodes * 4 + 4 : EXPR_CODE_MAX;
    c->const_cap = nodes * 2 + 2 < EXPR_CONSTS_MAX ? nodes * 2 + 2 : EXPR_CONSTS_MAX;
    c->p.code = arena_array(a, c->code_cap, sizeof(*c->p.code));
    c->p.consts = arena_array(a, c->const_cap, sizeof(*c->p.consts));
    c->p.slots = arena_array(a, EXPR_SLOTS_MAX, sizeof(*c->p.slots));
    c->p.steps = arena_array(a, EXPR_STEPS_OF_PATHS_MAX, sizeof(*c->p.steps));
    return c->p.code != NULL && c->p.consts != NULL && c->p.slots != NULL && c->p.steps != NULL;
}

// Through the bytes of a saved program: what is run has always passed the loader's checks.
static enum status finish(struct compile *c, struct expr_program **ret)
{
    struct buf bytes = buf_heap(EXPR_PROGRAM_BYTES_MAX);
    unsigned pc = 0;
    emit(c, c->tree->root, EXPR_OP_END, 0, 0, 0);
    enum status s = c->status;
    if (s == ST_OK) {
        s = expr_program_verify(&c->p, &pc);
    }
    if (s == ST_CORRUPT) { // the compiler makes no other fault
        s = expr_error_at(c->err, ST_TOO_LARGE, c->tree->text, 0, 0,
                          "this expression needs more than %d values at once", EXPR_STACK_MAX);
    } else if (s == ST_NOMEM) {
        expr_error_at(c->err, s, c->tree->text, 0, 0, "no memory for this expression");
    }
    if (s == ST_OK) {
        s = expr_program_save(&c->p, &bytes) ? expr_program_load(buf_view(&bytes), c->p.schema, ret, NULL) : ST_NOMEM;
        if (s != ST_OK) {
            expr_error_at(c->err, s, c->tree->text, 0, 0, "no memory for this expression");
        }
    }
    buf_release(&bytes);
    return s;
}

enum status expr_compile(struct expr_tree *t, const struct expr_schema *schema, struct expr_program **ret,
                         struct expr_error *err)
{
    struct arena mem;
    *ret = NULL;
    arena_init(&mem, EXPR_COMPILE_MAX);
    struct compile *c = arena_alloc(&mem, sizeof(*c));
    enum status s = ST_NOMEM;
    if (c == NULL || !prepare(c, &mem, t->nodes)) {
        expr_error_at(err, s, t->text, 0, 0, "no memory for this expression");
    } else {
        struct expr_walk w;
        c->tree = t;
        c->mem = &mem;
        c->err = err;
        c->p.schema = schema;
        c->p.types = t->root->types;
        expr_walk_init(&w, t->root);
        while (c->status == ST_OK && expr_walk_next(&w)) {
            visit(c, &w);
        }
        s = c->status == ST_OK ? finish(c, ret) : c->status;
    }
    arena_release(&mem);
    return s;
}

enum status expr_program_make(struct slice text, const struct expr_check_options *o, struct expr_program **ret,
                              struct expr_error *err)
{
    struct arena a;
    struct expr_tree t;
    *ret = NULL;
    arena_init(&a, EXPR_ARENA_MAX);
    enum status s = expr_parse(&a, text, &t, err);
    if (s == ST_OK) {
        s = expr_check(&t, o, err);
    }
    if (s == ST_OK) {
        s = expr_compile(&t, o->schema, ret, err);
    }
    arena_release(&a);
    return s;
}
