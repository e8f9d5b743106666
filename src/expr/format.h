// The canonical text of an expression: one way to write each tree.
#ifndef EXPR_FORMAT_H
#define EXPR_FORMAT_H

#include "expr/tree.h"

// Appends the text of the tree. Parsed again it gives an equal tree, formatted again the same text. ST_TOO_LARGE: it does not
// fit into `out`. Any thread.
enum status expr_format(const struct expr_tree *t, struct buf *out);

#endif
