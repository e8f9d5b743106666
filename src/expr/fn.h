// The functions of the language: one table, from which come the checks of arguments, the calls, the reference
// (docs/expressions.md) and what an editor shows.
#ifndef EXPR_FN_H
#define EXPR_FN_H

#include "expr/value.h"

#define EXPR_ARGS_MAX 16

// What a function may use while it runs.
struct expr_call {
    struct buf *scratch; // for texts it makes; when it is full the evaluation ends
    uint64_t steps;      // work done beyond the call itself
};

enum expr_fn_flag {
    EXPR_FN_NULLS = 1,    // is called with NULLs too; the others give NULL when an argument is one
    EXPR_FN_SPECIAL = 2,  // has no `call`: the compiler makes its own instructions
    EXPR_FN_VOLATILE = 4, // not the same at every evaluation: never computed ahead
    EXPR_FN_UNITE = 8,    // the result has the types of the arguments
    EXPR_FN_MESSAGE = 16, // SPECIAL: gives the root "$" + its name of a message
};

struct expr_fn {
    const char *name;
    const char *group;     // heading in the reference
    const char *signature; // "text, int [, int]"
    uint8_t min;
    uint8_t max;
    uint8_t flags;
    expr_types args[4]; // the last is that of all further ones
    expr_types result;
    struct expr_value (*call)(struct expr_call *c, const struct expr_value *args, unsigned n);
    // May argument `arg` be this literal? NULL: any of its type. `rule` says what may be.
    bool (*literal)(unsigned arg, const struct expr_value *v);
    const char *rule;
    const char *doc;     // one line
    const char *example; // NULL: the examples of statements show it
    const char *gives;   // what the example is equal to
};

// Index in the table, or -1. Names are found without regard to case.
int expr_fn_find(struct slice name);
unsigned expr_fn_count(void);
const struct expr_fn *expr_fn_at(unsigned index); // NULL behind the last
expr_types expr_fn_arg(const struct expr_fn *fn, unsigned index);
// Calls it (not SPECIAL) with n arguments, which are between min and max. Arguments of types it does not take give NULL; a text
// where a time or a version is wanted is read as one.
struct expr_value expr_fn_apply(const struct expr_fn *fn, struct expr_call *c, const struct expr_value *args,
                                unsigned n);
// Appends the reference of all functions as Markdown tables.
bool expr_fn_reference(struct buf *out);

#endif
