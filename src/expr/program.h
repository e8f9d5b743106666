// A compiled expression: a flat program that any number of threads evaluate at once.
#ifndef EXPR_PROGRAM_H
#define EXPR_PROGRAM_H

#include "expr/check.h"

struct expr_program;

// Compiles a tree that expr_check has accepted for this schema. ST_TOO_LARGE: it names more than EXPR_SLOTS_MAX different paths,
// or needs a deeper stack than there is; ST_NOMEM. The program needs neither the tree nor its arena; end it with
// expr_program_free. The schema is borrowed as long. `err` may be NULL.
enum status expr_compile(struct expr_tree *t, const struct expr_schema *schema, struct expr_program **ret,
                         struct expr_error *err);
// Parses, checks and compiles, in an arena of its own.
enum status expr_program_make(struct slice text, const struct expr_check_options *o, struct expr_program **ret,
                              struct expr_error *err);
void expr_program_free(struct expr_program *p); // NULL is accepted

// The types its result may have, besides NULL.
expr_types expr_program_types(const struct expr_program *p);

// What it reads of a document: all it depends on, besides the time.
struct expr_path {
    unsigned root;    // index in the schema
    struct slice key; // the first key below it; p == NULL: all of the root
};
unsigned expr_program_paths(const struct expr_program *p); // how many; some may be equal
struct expr_path expr_program_path(const struct expr_program *p, unsigned index);

#define EXPR_PROGRAM_BYTES_MAX 1048576
// Appends the program as bytes that a later version of this software reads too. False: `out` is full.
bool expr_program_save(const struct expr_program *p, struct buf *out);
// Reads what expr_program_save wrote. Nothing in it is trusted: checksum, every jump, the depth of the stack, and every
// operand are checked. ST_CORRUPT: not such bytes; ST_INVALID: it names a root or a function that is not there (any more);
// ST_NOMEM. `err` may be NULL.
enum status expr_program_load(struct slice bytes, const struct expr_schema *schema, struct expr_program **ret,
                              struct err *err);

#endif
