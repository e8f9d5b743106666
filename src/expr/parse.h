// From text to tree: the syntax only. Names and types are the checker's (check.h).
//
// The grammar is grammar.y (lemon), the words are scan.re (re2c); both are read by people as well.
#ifndef EXPR_PARSE_H
#define EXPR_PARSE_H

#include "expr/tree.h"

// Parses one expression. The tree lives in `a` (which should hold EXPR_ARENA_MAX) and keeps a copy of the text there.
// ST_MALFORMED: not UTF-8, or no expression: err says where, what was found and what was expected; ST_TOO_LARGE: over a limit
// of tree.h; ST_NOMEM: the arena is full. `err` may be NULL and is untouched on success. Any thread.
enum status expr_parse(struct arena *a, struct slice text, struct expr_tree *ret, struct expr_error *err);
// The same for a statement: select ... from 'topic/filter' where ... (select.h). The root is an EXPR_N_SELECT.
enum status expr_parse_select(struct arena *a, struct slice text, struct expr_tree *ret, struct expr_error *err);

#endif
