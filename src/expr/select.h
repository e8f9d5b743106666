// Statements for rules: select what from 'topic/filter' where condition. They read one message and give one JSON object.
#ifndef EXPR_SELECT_H
#define EXPR_SELECT_H

#include "expr/eval.h"

#define EXPR_SELECT_VALUES_MAX 128 // values of one statement
#define EXPR_SELECT_DEPTH_MAX  16  // of its result, without what is in the values

struct expr_select;

// Parses, checks and compiles a statement. Errors as of expr_program_make; ST_INVALID also when two items go by one name. The
// filter is not checked here: what a topic filter may be the broker knows. o->wanted is not looked at; `err` may be NULL.
enum status expr_select_make(struct slice text, const struct expr_check_options *o, struct expr_select **ret,
                             struct expr_error *err);
void expr_select_free(struct expr_select *s); // NULL is accepted

// The topic filter behind from; lives as long as the statement.
struct slice expr_select_filter(const struct expr_select *s);

// Is the condition true for this message? Then *ret_matched is set and the result is appended as a JSON object: the keys of
// the payload for *, but for those given by name, and the items in their order; lists and objects whole. ST_TOO_LARGE: a value
// is out of steps or scratch, `out` is full or the result too deep; what was appended then is of no use. Any thread.
enum status expr_select_run(const struct expr_select *s, const struct expr_view *view, struct expr_frame *f,
                            struct buf *out, bool *ret_matched);

#endif
