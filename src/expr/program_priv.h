// The instructions. Each works on a stack of values; what it takes and leaves is in the table, by which the loader checks. Their
// numbers are in saved programs: new ones come last, as in enum expr_type, enum expr_field and the other operands.
#ifndef EXPR_PROGRAM_PRIV_H
#define EXPR_PROGRAM_PRIV_H

#include "base/arena.h"
#include "expr/eval.h"
#include "expr/program.h"
#include "expr/zone.h"

#define EXPR_CODE_MAX           16384
#define EXPR_CONSTS_MAX         4096
#define EXPR_STEPS_OF_PATHS_MAX 2048

//        name           takes leaves   operands
#define EXPR_OP_MAP(X)                                                                                                 \
    X(END, 1, 0)   /* the result */                                                                                    \
    X(CONST, 0, 1) /* b: constant */                                                                                   \
    X(SLOT, 0, 1)  /* a: slot */                                                                                       \
    X(NOW, 0, 1)                                                                                                       \
    X(DUP, 1, 2)                                                                                                       \
    X(NIP, 2, 1) /* drops the one below the top */                                                                     \
    X(AND, 2, 1)                                                                                                       \
    X(OR, 2, 1)                                                                                                        \
    X(NOT, 1, 1)                                                                                                       \
    X(JUMP, 0, 0)          /* b: target, always further on */                                                          \
    X(JUMP_NOT_TRUE, 1, 0) /* b */                                                                                     \
    X(JUMP_FALSE, 1, 1)    /* b: when the top is false, which stays */                                                 \
    X(JUMP_TRUE, 1, 1)     /* b */                                                                                     \
    X(JUMP_NOT_NULL, 1, 0) /* b: when the top is not NULL, which then stays */                                         \
    X(COMPARE, 2, 1)       /* a: enum expr_cmp */                                                                      \
    X(COMPARE_SLOT, 0, 1)  /* slot a with constant b; x: enum expr_cmp */                                              \
    X(DISTINCT, 2, 1)      /* x: negated */                                                                            \
    X(IS, 1, 1)            /* a: enum expr_is; x: negated */                                                           \
    X(BETWEEN, 3, 1)       /* x: negated */                                                                            \
    X(LIKE, 2, 1)          /* a: enum expr_like; x: negated; b: escape or 0 */                                         \
    X(IN_SET, 1, 1)        /* a: how many constants; b: the first, ascending; x: EXPR_SET_* */                         \
    X(IN_STEP, 3, 2)       /* value, answer so far, item */                                                            \
    X(IN_END, 2, 1)        /* value, answer; x: negated */                                                             \
    X(IN_LIST, 2, 1)       /* x: negated */                                                                            \
    X(ARITH, 2, 1)         /* a: enum expr_arith */                                                                    \
    X(NEGATE, 1, 1)                                                                                                    \
    X(CAST, 1, 1)       /* a: enum expr_cast */                                                                        \
    X(EXTRACT, 1, 1)    /* a: enum expr_field */                                                                       \
    X(EXTRACT_AT, 1, 1) /* a: enum expr_field; b: zone */                                                              \
    X(CALL, 0, 1)       /* a: function; x: arguments, which it takes */                                                \
    X(EACH, 1, 0)       /* a: enum expr_quant; b: behind its NEXT. Begins a loop over the items of a list */           \
    X(NEXT, 1, 1)       /* b: its EACH. Takes the condition; goes round, or leaves the answer */

enum expr_op {
#define X(name, takes, leaves) EXPR_OP_##name,
    EXPR_OP_MAP(X)
#undef X
        EXPR_OP__COUNT
};
enum { EXPR_SET_NEGATED = 1, EXPR_SET_NULL = 2 }; // IN_SET; NULL: one of the items is

struct expr_ins {
    uint8_t op;
    uint8_t x;
    uint16_t a;
    uint32_t b;
};
_Static_assert(sizeof(struct expr_ins) == 8, "programs are dense");

struct expr_step {
    bool is_key;
    uint16_t hash;
    int32_t index;
    struct slice key;
};

// A path: from a root, or from the element of loop number `scope`.
struct expr_slot {
    uint8_t scope;   // 0: the document
    uint8_t as_time; // a number there is a time in microseconds
    uint16_t root;   // scope 0: index in the schema
    uint16_t first;  // of its steps
    uint16_t steps;
};

struct expr_program {
    const struct expr_schema *schema;
    struct expr_ins *code;
    struct expr_value *consts;
    struct expr_slot *slots;
    struct expr_step *steps;
    unsigned code_count;
    unsigned const_count;
    unsigned slot_count;
    unsigned step_count;
    expr_types types;
    struct arena arena; // holds all of it
};

// Is the program one that can be run? ST_CORRUPT: not, *ret_pc tells where; ST_NOMEM.
enum status expr_program_verify(const struct expr_program *p, unsigned *ret_pc);
// Runs from instruction `pc` on; expr_eval begins at 0.
enum status expr_run(const struct expr_program *p, unsigned pc, const struct expr_view *view, struct expr_frame *f,
                     struct expr_value *ret);

#endif
