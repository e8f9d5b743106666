#include "expr/program.h"

#include <stdlib.h>

#include "base/crc.h"
#include "base/reader.h"
#include "base/utf8.h"
#include "expr/fn.h"
#include "expr/program_priv.h"

#define MAGIC                0x4d455850 // "MEXP"
#define VERSION              1

#define EXPR_PROGRAM_MEM_MAX 2097152 // bytes of a loaded program
#define EXPR_CORNERS_MAX     2048    // numbers of a polygon

struct op_row {
    uint8_t takes;
    uint8_t leaves;
};
static const struct op_row op_rows[EXPR_OP__COUNT] = {
#define X(name, takes, leaves) {takes, leaves},
    EXPR_OP_MAP(X)
#undef X
};

// ---- Verification ----------------------------------------------------------------------------------------------------------
// One pass from front to back. Jumps go forward only, but for the round of a loop, so when an instruction is reached, all that
// can lead to it has been seen: the depth of the stack there is known and must be the same from everywhere.

struct verify {
    const struct expr_program *p;
    struct place {
        int16_t depth; // values on the stack before it; -1: nothing leads here yet
        int16_t loop;  // the EACH around it; -1: none
    } place[EXPR_CODE_MAX + 1];
};

static bool jumps(enum expr_op op)
{
    return op == EXPR_OP_JUMP || op == EXPR_OP_JUMP_NOT_TRUE || op == EXPR_OP_JUMP_FALSE || op == EXPR_OP_JUMP_TRUE ||
           op == EXPR_OP_JUMP_NOT_NULL || op == EXPR_OP_EACH;
}

// Something leads to `pc` with that many values.
static bool flow(struct verify *v, unsigned pc, int depth)
{
    if (pc >= v->p->code_count || depth < 0 || depth > EXPR_STACK_MAX) {
        return false;
    }
    if (v->place[pc].depth < 0) {
        v->place[pc].depth = (int16_t)depth;
    }
    return v->place[pc].depth == depth;
}

// Which loop each instruction is in: an EACH and the NEXT before its target belong together, and nest.
static bool find_loops(struct verify *v, unsigned *ret_pc)
{
    int open[EXPR_SCOPE_MAX];
    unsigned n = 0;
    for (unsigned pc = 0; pc < v->p->code_count; pc++) {
        const struct expr_ins *i = &v->p->code[pc];
        v->place[pc] = (struct place){.depth = -1, .loop = (int16_t)(n > 0 ? open[n - 1] : -1)};
        *ret_pc = pc;
        if (i->op == EXPR_OP_EACH) {
            const struct expr_ins *end = i->b > pc + 1 && i->b <= v->p->code_count ? &v->p->code[i->b - 1] : NULL;
            if (n == EXPR_SCOPE_MAX || end == NULL || end->op != EXPR_OP_NEXT || end->b != pc) {
                return false;
            }
            open[n++] = (int)pc;
        } else if (i->op == EXPR_OP_NEXT && (n == 0 || open[--n] != (int)i->b || v->p->code[i->b].b != pc + 1)) {
            return false;
        }
    }
    return n == 0;
}

static unsigned loops_around(const struct verify *v, unsigned pc)
{
    unsigned n = 0;
    for (int at = v->place[pc].loop; at >= 0; at = v->place[at].loop) {
        n++;
    }
    return n;
}

static bool good_set(const struct expr_program *p, const struct expr_ins *i)
{
    if (i->a == 0 || i->a > EXPR_LIST_MAX || i->b > p->const_count || i->a > p->const_count - i->b || i->x > 3) {
        return false;
    }
    const struct expr_value *first = &p->consts[i->b];
    for (unsigned k = 0; k < i->a; k++) {
        bool kind =
            first->type == EXPR_TEXT ? first[k].type == EXPR_TEXT : expr_is_number(&first[k]) && expr_is_number(first);
        int order = 0;
        if (!kind || (k > 0 && (!expr_compare(&first[k - 1], &first[k], &order) || order > 0))) {
            return false;
        }
    }
    return true;
}

static bool good_call(const struct expr_ins *i)
{
    const struct expr_fn *fn = expr_fn_at(i->a);
    return fn != NULL && fn->call != NULL && i->x >= fn->min && i->x <= fn->max;
}

static bool good_slot(const struct verify *v, unsigned pc, unsigned slot)
{
    return slot < v->p->slot_count && v->p->slots[slot].scope <= loops_around(v, pc);
}

static bool good_operands(const struct verify *v, unsigned pc)
{
    const struct expr_program *p = v->p;
    const struct expr_ins *i = &p->code[pc];
    switch ((enum expr_op)i->op) {
    case EXPR_OP_CONST:
        return i->b < p->const_count;
    case EXPR_OP_SLOT:
        return good_slot(v, pc, i->a);
    case EXPR_OP_COMPARE_SLOT:
        return good_slot(v, pc, i->a) && i->b < p->const_count && i->x <= EXPR_GE;
    case EXPR_OP_COMPARE:
        return i->a <= EXPR_GE;
    case EXPR_OP_IS:
        return i->a <= EXPR_IS_UNKNOWN;
    case EXPR_OP_LIKE:
        return i->a <= EXPR_GLOB && i->b < 0x80;
    case EXPR_OP_IN_SET:
        return good_set(p, i);
    case EXPR_OP_ARITH:
        return i->a <= EXPR_CONCAT;
    case EXPR_OP_CAST:
        return i->a < EXPR_AS_COUNT;
    case EXPR_OP_EXTRACT:
        return i->a < EXPR_FIELD_COUNT;
    case EXPR_OP_EXTRACT_AT:
        return i->a < EXPR_FIELD_COUNT && i->b < p->const_count && p->consts[i->b].type == EXPR_ZONE;
    case EXPR_OP_CALL:
        return good_call(i);
    case EXPR_OP_EACH:
        return i->a <= EXPR_ALL_OF;
    default:
        return i->op < EXPR_OP__COUNT;
    }
}

// Where the instruction leads, and with how many values.
static bool good_flow(struct verify *v, unsigned pc)
{
    const struct expr_ins *i = &v->p->code[pc];
    int depth = v->place[pc].depth;
    int takes = i->op == EXPR_OP_CALL ? i->x : op_rows[i->op].takes;
    int after = depth - takes + op_rows[i->op].leaves;
    if (depth < takes) {
        return false;
    }
    if (jumps((enum expr_op)i->op)) {
        // What jumps keeping a value that falling through drops.
        int there = i->op == EXPR_OP_JUMP_NOT_NULL || i->op == EXPR_OP_EACH ? depth : after;
        if (i->b <= pc || i->b >= v->p->code_count || v->place[i->b].loop != v->place[pc].loop ||
            !flow(v, i->b, there)) {
            return false;
        }
    }
    if (i->op == EXPR_OP_NEXT && v->place[i->b].depth != depth) {
        return false; // a round must end as it began: with the condition where the list was
    }
    if (i->op == EXPR_OP_END) {
        return depth == 1 && pc + 1 == v->p->code_count;
    }
    return i->op == EXPR_OP_JUMP || flow(v, pc + 1, after);
}

static bool verify_all(struct verify *v, unsigned *ret_pc)
{
    if (v->p->code_count == 0 || v->p->code_count > EXPR_CODE_MAX || !find_loops(v, ret_pc) || !flow(v, 0, 0)) {
        return false;
    }
    for (unsigned pc = 0; pc < v->p->code_count; pc++) {
        *ret_pc = pc;
        if (v->p->code[pc].op >= EXPR_OP__COUNT || v->place[pc].depth < 0 || !good_operands(v, pc) ||
            !good_flow(v, pc)) {
            return false;
        }
    }
    return v->p->code[v->p->code_count - 1].op == EXPR_OP_END;
}

enum status expr_program_verify(const struct expr_program *p, unsigned *ret_pc)
{
    struct verify *v = calloc(1, sizeof(*v));
    if (v == NULL) {
        return ST_NOMEM;
    }
    v->p = p;
    bool ok = verify_all(v, ret_pc);
    free(v);
    return ok ? ST_OK : ST_CORRUPT;
}

// ---- Writing ---------------------------------------------------------------------------------------------------------------

union bits {
    double d;
    uint64_t u;
};

static void put_real(struct buf *out, double d)
{
    union bits bits;
    bits.d = d;
    buf_u64(out, bits.u);
}

static void put_text(struct buf *out, struct slice s)
{
    buf_uvarint(out, s.len);
    buf_slice(out, s);
}

static void put_const(struct buf *out, const struct expr_value *v)
{
    buf_u8(out, (uint8_t)v->type);
    switch ((enum expr_type)v->type) {
    case EXPR_BOOL:
        buf_u8(out, v->b ? 1 : 0);
        break;
    case EXPR_INT:
    case EXPR_TIME:
        buf_svarint(out, v->i);
        break;
    case EXPR_REAL:
        put_real(out, v->d);
        break;
    case EXPR_INTERVAL:
        buf_svarint(out, v->months);
        buf_svarint(out, v->i);
        break;
    case EXPR_TEXT:
    case EXPR_VERSION:
        put_text(out, expr_value_slice(v));
        break;
    case EXPR_POINT:
        put_real(out, v->d);
        put_real(out, v->lon);
        break;
    case EXPR_ZONE:
        buf_uvarint(out, v->len);
        for (uint32_t i = 0; i < v->len; i++) {
            buf_svarint(out, v->zone[i].from_us);
            buf_svarint(out, v->zone[i].offset_us);
        }
        break;
    case EXPR_POLYGON:
        buf_uvarint(out, v->len);
        for (uint32_t i = 0; i < v->len; i++) {
            put_real(out, v->corners[i]);
        }
        break;
    default:
        break;
    }
}

static void put_paths(struct buf *out, const struct expr_program *p)
{
    buf_uvarint(out, p->step_count);
    for (unsigned i = 0; i < p->step_count; i++) {
        buf_u8(out, p->steps[i].is_key ? 1 : 0);
        if (p->steps[i].is_key) {
            put_text(out, p->steps[i].key);
        } else {
            buf_svarint(out, p->steps[i].index);
        }
    }
    buf_uvarint(out, p->slot_count);
    for (unsigned i = 0; i < p->slot_count; i++) {
        const struct expr_slot *s = &p->slots[i];
        buf_u8(out, s->scope);
        buf_u8(out, s->as_time);
        // Roots and functions go by name: their numbers may be others tomorrow.
        put_text(out, s->scope == 0 ? slice_str(p->schema->roots[s->root].name) : SLICE(""));
        buf_uvarint(out, s->first);
        buf_uvarint(out, s->steps);
    }
}

bool expr_program_save(const struct expr_program *p, struct buf *out)
{
    size_t first = out->len;
    buf_u32(out, MAGIC);
    buf_u16(out, VERSION);
    put_text(out, slice_str(p->schema->name));
    buf_u16(out, p->types);
    put_paths(out, p);
    buf_uvarint(out, p->const_count);
    for (unsigned i = 0; i < p->const_count; i++) {
        put_const(out, &p->consts[i]);
    }
    buf_uvarint(out, p->code_count);
    for (unsigned i = 0; i < p->code_count; i++) {
        const struct expr_ins *ins = &p->code[i];
        buf_u8(out, ins->op);
        buf_u8(out, ins->x);
        if (ins->op == EXPR_OP_CALL) {
            put_text(out, slice_str(expr_fn_at(ins->a)->name));
        } else {
            buf_uvarint(out, ins->a);
        }
        buf_uvarint(out, ins->b);
    }
    if (!out->failed) {
        buf_u32(out, crc32c(0, slice_make(out->p + first, out->len - first)));
    }
    return !out->failed;
}

// ---- Reading ---------------------------------------------------------------------------------------------------------------

struct load {
    struct reader r;
    struct expr_program *p;
    struct err *err;
    enum status status;
};

static bool load_fail(struct load *l, enum status code, const char *what)
{
    if (l->status == ST_OK) {
        l->status = err_set(l->err, code, "not a usable program: %s", what);
    }
    return false;
}

static struct slice get_text(struct load *l)
{
    return rd_bytes(&l->r, rd_uvarint(&l->r));
}

// A count of things, and the memory for them. NULL when it is over the limit.
static void *get_array(struct load *l, unsigned max, size_t size, unsigned *ret_count)
{
    uint64_t n = rd_uvarint(&l->r);
    if (l->r.failed || n > max || n > reader_left(&l->r)) {
        load_fail(l, ST_CORRUPT, "a count is wrong");
        return NULL;
    }
    void *mem = arena_array(&l->p->arena, n, size);
    if (mem == NULL) {
        load_fail(l, ST_NOMEM, "no memory");
    }
    *ret_count = (unsigned)n;
    return mem;
}

static double get_real(struct load *l)
{
    union bits bits;
    bits.u = rd_u64(&l->r);
    return bits.d;
}

static struct expr_value get_polygon(struct load *l)
{
    uint64_t n = rd_uvarint(&l->r);
    if (n < 6 || n % 2 != 0 || n > EXPR_CORNERS_MAX || n > reader_left(&l->r)) {
        return expr_null();
    }
    double *corners = arena_array(&l->p->arena, n, sizeof(*corners));
    if (corners == NULL) {
        load_fail(l, ST_NOMEM, "no memory");
        return expr_null();
    }
    for (uint64_t i = 0; i < n; i += 2) {
        corners[i] = get_real(l);
        corners[i + 1] = get_real(l);
        if (expr_point(corners[i], corners[i + 1]).type == EXPR_NULL) {
            return expr_null();
        }
    }
    return (struct expr_value){.type = EXPR_POLYGON, .len = (uint32_t)n, .corners = corners};
}

static struct expr_value get_zone(struct load *l)
{
    uint64_t n = rd_uvarint(&l->r);
    if (n == 0 || n > EXPR_ZONE_ROWS_MAX || n > reader_left(&l->r)) {
        return expr_null();
    }
    struct expr_zone_row *rows = arena_array(&l->p->arena, n, sizeof(*rows));
    if (rows == NULL) {
        load_fail(l, ST_NOMEM, "no memory");
        return expr_null();
    }
    for (uint64_t i = 0; i < n; i++) {
        rows[i].from_us = rd_svarint(&l->r);
        rows[i].offset_us = rd_svarint(&l->r);
        bool ascends = i == 0 || rows[i].from_us >= rows[i - 1].from_us;
        if (!ascends || rows[i].offset_us < -EXPR_DAY_US || rows[i].offset_us > EXPR_DAY_US) {
            return expr_null();
        }
    }
    return (struct expr_value){.type = EXPR_ZONE, .len = (uint32_t)n, .zone = rows};
}

static struct expr_value get_const_text(struct load *l, enum expr_type type)
{
    struct slice copy = arena_copy(&l->p->arena, get_text(l));
    if (copy.p == NULL) {
        load_fail(l, ST_NOMEM, "no memory");
    }
    if (copy.p == NULL || !utf8_valid(copy) || (type == EXPR_VERSION && !expr_version_valid(copy))) {
        return expr_null();
    }
    return (struct expr_value){.type = type, .len = (uint32_t)copy.len, .p = copy.p};
}

static struct expr_value get_value(struct load *l, enum expr_type type)
{
    struct expr_value v = {.type = EXPR_INTERVAL};
    double lat;
    switch (type) {
    case EXPR_BOOL:
        return expr_bool(rd_u8(&l->r) != 0);
    case EXPR_INT:
        return expr_int(rd_svarint(&l->r));
    case EXPR_REAL:
        return expr_real(get_real(l));
    case EXPR_TIME:
        return expr_time(rd_svarint(&l->r));
    case EXPR_INTERVAL:
        v.months = rd_svarint(&l->r);
        v.i = rd_svarint(&l->r);
        return v.months >= -120000 && v.months <= 120000 && v.i >= -EXPR_TIME_MAX && v.i <= EXPR_TIME_MAX ? v
                                                                                                          : expr_null();
    case EXPR_TEXT:
    case EXPR_VERSION:
        return get_const_text(l, type);
    case EXPR_POINT:
        lat = get_real(l);
        return expr_point(lat, get_real(l));
    case EXPR_POLYGON:
        return get_polygon(l);
    case EXPR_ZONE:
        return get_zone(l);
    default:
        return expr_null();
    }
}

static bool get_consts(struct load *l)
{
    struct expr_program *p = l->p;
    p->consts = get_array(l, EXPR_CONSTS_MAX, sizeof(*p->consts), &p->const_count);
    for (unsigned i = 0; l->status == ST_OK && i < p->const_count; i++) {
        uint8_t type = rd_u8(&l->r);
        p->consts[i] = get_value(l, (enum expr_type)type);
        if (p->consts[i].type != type || l->r.failed) {
            return load_fail(l, ST_CORRUPT, "a constant is wrong");
        }
    }
    return l->status == ST_OK;
}

static bool get_steps(struct load *l)
{
    struct expr_program *p = l->p;
    p->steps = get_array(l, EXPR_STEPS_OF_PATHS_MAX, sizeof(*p->steps), &p->step_count);
    for (unsigned i = 0; l->status == ST_OK && i < p->step_count; i++) {
        struct expr_step *s = &p->steps[i];
        s->is_key = rd_u8(&l->r) != 0;
        int64_t index = s->is_key ? 0 : rd_svarint(&l->r);
        if (s->is_key) {
            s->key = arena_copy(&p->arena, get_text(l));
            s->hash = s->key.p != NULL ? expr_key_hash(s->key) : 0;
        }
        s->index = (int32_t)index;
        if (s->is_key && s->key.p == NULL) {
            return load_fail(l, ST_NOMEM, "no memory");
        }
        if (l->r.failed || index != s->index) {
            return load_fail(l, ST_CORRUPT, "a path is wrong");
        }
    }
    return l->status == ST_OK;
}

static bool get_slots(struct load *l)
{
    struct expr_program *p = l->p;
    p->slots = get_array(l, EXPR_SLOTS_MAX, sizeof(*p->slots), &p->slot_count);
    for (unsigned i = 0; l->status == ST_OK && i < p->slot_count; i++) {
        struct expr_slot *s = &p->slots[i];
        s->scope = rd_u8(&l->r);
        s->as_time = rd_u8(&l->r);
        int root = expr_schema_find(p->schema, get_text(l));
        uint64_t first = rd_uvarint(&l->r);
        uint64_t steps = rd_uvarint(&l->r);
        if (l->r.failed || s->scope > EXPR_SCOPE_MAX || first > p->step_count || steps > p->step_count - first) {
            return load_fail(l, ST_CORRUPT, "a path is wrong");
        }
        if (s->scope == 0 && root < 0) {
            return load_fail(l, ST_INVALID, "it reads a name that is not there");
        }
        s->root = (uint16_t)(root < 0 ? 0 : root);
        s->first = (uint16_t)first;
        s->steps = (uint16_t)steps;
    }
    return l->status == ST_OK;
}

static bool get_code(struct load *l)
{
    struct expr_program *p = l->p;
    unsigned pc = 0;
    p->code = get_array(l, EXPR_CODE_MAX, sizeof(*p->code), &p->code_count);
    for (unsigned i = 0; l->status == ST_OK && i < p->code_count; i++) {
        struct expr_ins *ins = &p->code[i];
        ins->op = rd_u8(&l->r);
        ins->x = rd_u8(&l->r);
        int fn = ins->op == EXPR_OP_CALL ? expr_fn_find(get_text(l)) : 0;
        uint64_t a = ins->op == EXPR_OP_CALL ? (uint64_t)(fn < 0 ? 0 : fn) : rd_uvarint(&l->r);
        uint64_t b = rd_uvarint(&l->r);
        if (l->r.failed || a > UINT16_MAX || b > UINT32_MAX) {
            return load_fail(l, ST_CORRUPT, "an instruction is wrong");
        }
        if (fn < 0) {
            return load_fail(l, ST_INVALID, "it calls a function that is not there");
        }
        ins->a = (uint16_t)a;
        ins->b = (uint32_t)b;
    }
    if (l->status == ST_OK && !reader_done(&l->r)) {
        return load_fail(l, ST_CORRUPT, "something follows its instructions");
    }
    enum status fits = l->status == ST_OK ? expr_program_verify(p, &pc) : ST_OK;
    if (fits != ST_OK) {
        return load_fail(l, fits, fits == ST_NOMEM ? "no memory" : "its instructions do not fit together");
    }
    return l->status == ST_OK;
}

static bool load_all(struct load *l, struct slice bytes)
{
    struct reader sum = reader_make(slice_from(bytes, bytes.len >= 4 ? bytes.len - 4 : bytes.len));
    struct slice body = slice_head(bytes, bytes.len >= 4 ? bytes.len - 4 : 0);
    if (bytes.len < 8 || bytes.len > EXPR_PROGRAM_BYTES_MAX || rd_u32(&sum) != crc32c(0, body)) {
        return load_fail(l, ST_CORRUPT, "the checksum is wrong");
    }
    l->r = reader_make(body);
    if (rd_u32(&l->r) != MAGIC || rd_u16(&l->r) != VERSION) {
        return load_fail(l, ST_CORRUPT, "another version");
    }
    if (!slice_eq_str(get_text(l), l->p->schema->name)) {
        return load_fail(l, ST_INVALID, "it is for other documents");
    }
    l->p->types = rd_u16(&l->r);
    return get_steps(l) && get_slots(l) && get_consts(l) && get_code(l);
}

enum status expr_program_load(struct slice bytes, const struct expr_schema *schema, struct expr_program **ret,
                              struct err *err)
{
    struct expr_program *p = calloc(1, sizeof(*p));
    *ret = NULL;
    if (p == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a program");
    }
    p->schema = schema;
    arena_init(&p->arena, EXPR_PROGRAM_MEM_MAX);
    struct load l = {.p = p, .err = err};
    if (!load_all(&l, bytes)) {
        expr_program_free(p);
        return l.status;
    }
    *ret = p;
    return ST_OK;
}

void expr_program_free(struct expr_program *p)
{
    if (p != NULL) {
        arena_release(&p->arena);
        free(p);
    }
}

expr_types expr_program_types(const struct expr_program *p)
{
    return p->types;
}

// ---- What it reads ---------------------------------------------------------------------------------------------------------

// Slots of the document only: those of elements are below a list, which is one.
static const struct expr_slot *document_slot(const struct expr_program *p, unsigned index)
{
    for (unsigned i = 0; i < p->slot_count; i++) {
        if (p->slots[i].scope == 0 && index-- == 0) {
            return &p->slots[i];
        }
    }
    return NULL;
}

unsigned expr_program_paths(const struct expr_program *p)
{
    unsigned n = 0;
    while (document_slot(p, n) != NULL) {
        n++;
    }
    return n;
}

struct expr_path expr_program_path(const struct expr_program *p, unsigned index)
{
    const struct expr_slot *s = document_slot(p, index);
    if (s == NULL) {
        return (struct expr_path){0, slice_make(NULL, 0)};
    }
    bool key = s->steps > 0 && p->steps[s->first].is_key;
    return (struct expr_path){s->root, key ? p->steps[s->first].key : slice_make(NULL, 0)};
}
