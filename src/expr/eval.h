// Evaluation of a program on a document. No allocation, no locks, bounded work; the time is given, so that the same program on
// the same view gives the same result.
#ifndef EXPR_EVAL_H
#define EXPR_EVAL_H

#include "expr/doc.h"
#include "expr/program.h"
#include "expr/tree.h"

#define EXPR_STACK_MAX     64
#define EXPR_SLOTS_MAX     128    // different paths of one program
#define EXPR_SCRATCH_BYTES 16384  // for texts made on the way
#define EXPR_STEPS_MAX     100000 // instructions, and work of like size within them

// What a document holds: one value for each root of the schema, in its order; roots beyond `count` are NULL. Borrowed.
struct expr_view {
    const struct expr_value *roots;
    unsigned count;
    int64_t now_us; // now(), microseconds since 1970
};

// The memory of one evaluation, given by the caller and used again for the next; it needs no initialisation.
struct expr_frame {
    struct expr_value stack[EXPR_STACK_MAX + 1]; // from 1 on
    struct expr_value slot[EXPR_SLOTS_MAX];
    uint64_t bound[EXPR_SLOTS_MAX / 64]; // slots that hold their value
    struct expr_loop {
        const struct expr_item *item;
        uint32_t left; // items after this one
        bool unknown;  // the condition was NULL for one of them
    } loop[EXPR_SCOPE_MAX];
    struct buf scratch;
    uint64_t steps; // done so far
    uint8_t scratch_mem[EXPR_SCRATCH_BYTES];
};

// Evaluates. *ret is valid until the frame is used again, as long as the view and the program. ST_TOO_LARGE: out of steps or
// scratch; *ret is NULL then, which no condition is fulfilled by. Any thread, with a frame of its own.
enum status expr_eval(const struct expr_program *p, const struct expr_view *view, struct expr_frame *f,
                      struct expr_value *ret);
// Is the result true? NULL, false and everything that is no bool are not, nor is an evaluation that failed.
static inline bool expr_is_true(const struct expr_value *v)
{
    return v->type == EXPR_BOOL && v->b;
}

#endif
