// What an editor asks: what may stand here, and what is this?
#ifndef EXPR_COMPLETE_H
#define EXPR_COMPLETE_H

#include "expr/check.h"

// Appends, as JSON, what may stand at `offset` of the text, given what stands before it:
//
//   {"from": 10, "to": 12, "items": [{"text": "model", "kind": "name", "detail": "a text", "doc": "its model"}, ...]}
//
// [from, to) is the beginning of the word that is being written; items are what it may become. Kinds: name, key, function,
// keyword. When what stands before is no beginning of an expression there are no items. ST_TOO_LARGE: the text is too long, or
// `out` is full; ST_NOMEM. Any thread.
enum status expr_complete(struct slice text, size_t offset, const struct expr_check_options *o, struct buf *out);
// Appends, as JSON, what the word at `offset` is, or null:
//
//   {"from": 0, "to": 5, "title": "model: a text", "doc": "its model"}
enum status expr_hover(struct slice text, size_t offset, const struct expr_check_options *o, struct buf *out);

#endif
