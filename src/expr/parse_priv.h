// What the grammar, the scanner and the builders of nodes share.
#ifndef EXPR_PARSE_PRIV_H
#define EXPR_PARSE_PRIV_H

#include "expr/parse.h"

struct expr_token {
    uint32_t offset;
    uint32_t length;
};

struct expr_parse {
    struct expr_tree *tree;
    struct expr_error *err;
    enum status status; // the first thing that went wrong; nothing is built after it
    bool overflow;      // the parser's stack is full
    bool select;        // a statement is wanted, not an expression
};

// ---- scan.re ---------------------------------------------------------------------------------------------------------------
struct expr_scanner {
    const uint8_t *start;
    const uint8_t *p;
    const uint8_t *end;     // a NUL stands here
    bool after_dot;         // the next word is a key, whatever it says
    const char *problem;    // of EXPR_TK_BAD
    const char *suggestion; // may be NULL
};
// The next word, an EXPR_TK_* of grammar.h; 0 at the end; EXPR_TK_BAD for what is none, with the problem.
int expr_scan(struct expr_scanner *s, struct expr_token *ret);

// ---- grammar.y -------------------------------------------------------------------------------------------------------------
#define EXPR_TOKENS_MAX 128
struct expr_expected {
    bool token[EXPR_TOKENS_MAX];
};
// Runs the scanner and the parser over the tree's text. The result is in p->status and p->tree->root.
void expr_grammar_run(struct expr_parse *p);
// The same over the beginning of an expression: which words may come next, and which came last (0: none).
void expr_grammar_expect(struct expr_parse *p, struct expr_expected *ret, int *ret_last);

// ---- parse.c ---------------------------------------------------------------------------------------------------------------
// `token` (with text `t`) cannot stand here; `expected` can.
void expr_unexpected(struct expr_parse *p, int token, struct expr_token t, const struct expr_expected *expected);
// The words an editor offers or explains, in the order of their table; NULL behind the last.
struct expr_word {
    int token;
    const char *name;
    const char *doc;
};
const struct expr_word *expr_word_at(unsigned index);
// The scanner has found a word that is none.
void expr_bad_word(struct expr_parse *p, struct expr_token t, const struct expr_scanner *s);
void expr_fail(struct expr_parse *p, enum status code, struct expr_token t, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

// ---- build.c: all take NULL for a child that failed, and then give NULL ------------------------------------------------------
struct expr_node *expr_new(struct expr_parse *p, enum expr_kind kind, unsigned op, struct expr_token t);
// With children in order, those that are not NULL; its place in the text is from the first to the last.
struct expr_node *expr_new1(struct expr_parse *p, enum expr_kind kind, unsigned op, struct expr_node *a);
struct expr_node *expr_new2(struct expr_parse *p, enum expr_kind kind, unsigned op, struct expr_node *a,
                            struct expr_node *b);
struct expr_node *expr_append(struct expr_parse *p, struct expr_node *parent, struct expr_node *child);
struct expr_node *expr_logic(struct expr_parse *p, enum expr_kind kind, struct expr_node *a, struct expr_node *b);
// The list is complete: `value` becomes its first child.
struct expr_node *expr_in_close(struct expr_parse *p, struct expr_node *list, struct expr_node *value);
// The statement is complete: the items become its first children, before the condition (NULL: none).
struct expr_node *expr_select_node(struct expr_parse *p, struct expr_node *n, struct expr_token filter,
                                   struct expr_node *where);
struct expr_node *expr_case_else(struct expr_parse *p, struct expr_node *n, struct expr_node *other);
struct expr_node *expr_negate(struct expr_parse *p, struct expr_token minus, struct expr_node *a);
// The node now reaches from `first` to `last` in the text.
struct expr_node *expr_span(struct expr_node *n, struct expr_token first, struct expr_token last);
struct expr_node *expr_not(struct expr_node *n, bool negated);

struct expr_node *expr_number(struct expr_parse *p, struct expr_token t, bool negative);
struct expr_node *expr_string(struct expr_parse *p, struct expr_token t);
struct expr_node *expr_constant(struct expr_parse *p, struct expr_token t, struct expr_value v);
struct expr_node *expr_time_literal(struct expr_parse *p, struct expr_token first, struct expr_token t);
struct expr_node *expr_interval_literal(struct expr_parse *p, struct expr_token first, struct expr_token t);
struct expr_node *expr_name(struct expr_parse *p, enum expr_kind kind, struct expr_token t);
struct expr_node *expr_step_index(struct expr_parse *p, struct expr_token t, bool negative);
struct expr_node *expr_cast_node(struct expr_parse *p, struct expr_node *a, struct expr_token type);
struct expr_node *expr_extract_node(struct expr_parse *p, struct expr_token field, struct expr_node *a);

#endif
