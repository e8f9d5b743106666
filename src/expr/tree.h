// The tree of an expression: what the parser makes, the checker types, and the formatter and the compiler walk.
//
// Nodes live in the arena of the tree and point into its text (or, for texts with quotes inside, into the arena). Walks are
// loops (struct expr_walk): the depth of a tree is limited where it is built.
#ifndef EXPR_TREE_H
#define EXPR_TREE_H

#include "base/arena.h"
#include "base/status.h"
#include "expr/value.h"

#define EXPR_TEXT_MAX  8192 // bytes of an expression
#define EXPR_DEPTH_MAX 64   // of the tree
#define EXPR_NODES_MAX 2048
#define EXPR_LIST_MAX  1024   // items of in (...)
#define EXPR_ARENA_MAX 262144 // bytes an arena for one tree needs at most

enum expr_kind {
    EXPR_N_LITERAL, // value
    EXPR_N_PATH,    // value: the first name; children: steps. The checker fills op (enum expr_base), fn, scope
    EXPR_N_KEY,     // a step: value is the key
    EXPR_N_INDEX,   // a step: value is the index, from the end when negative
    EXPR_N_OR,      // children: two or more
    EXPR_N_AND,     // the same
    EXPR_N_NOT,
    EXPR_N_NEGATE,
    EXPR_N_ARITH,    // op: enum expr_arith; two children
    EXPR_N_COMPARE,  // op: enum expr_cmp; two children
    EXPR_N_DISTINCT, // is distinct from
    EXPR_N_IS,       // op: enum expr_is; one child
    EXPR_N_BETWEEN,  // value, low, high
    EXPR_N_IN,       // value, items
    EXPR_N_IN_LIST,  // value, a list
    EXPR_N_LIKE,     // op: enum expr_like; text, pattern, perhaps the escape
    EXPR_N_CASE,     // op: EXPR_CASE_*; [operand] {when then} [else]
    EXPR_N_CAST,     // op: enum expr_cast; one child
    EXPR_N_EXTRACT,  // op: enum expr_field; a time, perhaps the name of a zone. value: the zone, from the checker
    EXPR_N_QUANT,    // op: enum expr_quant; a list, perhaps the condition
    EXPR_N_CALL,     // value: the name; fn: the function's index; children: arguments
    EXPR_N_POLYGON,  // children: literals lat, lon, lat, lon, ...
    EXPR_N_SELECT,   // value: the topic filter; children: items; op: EXPR_SELECT_WHERE: the last is the condition
    EXPR_N_ALL,      // *
    EXPR_N_ITEM,     // a value, and the keys (EXPR_N_KEY) it goes by, if it has any
    EXPR_N_OBJECT,   // {key: value}: children are keys and values in turn
    EXPR_N_ARRAY,    // [value]
    EXPR_N_COUNT,
};

enum expr_arith { EXPR_ADD, EXPR_SUB, EXPR_MUL, EXPR_DIV, EXPR_MOD, EXPR_CONCAT };
enum expr_cmp { EXPR_EQ, EXPR_NE, EXPR_LT, EXPR_LE, EXPR_GT, EXPR_GE };
enum expr_is { EXPR_IS_NULL, EXPR_IS_TRUE, EXPR_IS_FALSE, EXPR_IS_UNKNOWN };
enum expr_cast { EXPR_AS_NUMBER, EXPR_AS_TEXT, EXPR_AS_BOOL, EXPR_AS_TIME, EXPR_AS_VERSION, EXPR_AS_COUNT };
enum expr_quant { EXPR_EXISTS, EXPR_ANY_OF, EXPR_ALL_OF };
enum expr_field {
    EXPR_YEAR,
    EXPR_MONTH,
    EXPR_DAY,
    EXPR_HOUR,
    EXPR_MINUTE,
    EXPR_SECOND,
    EXPR_WEEKDAY,
    EXPR_YEARDAY,
    EXPR_EPOCH,
    EXPR_FIELD_COUNT,
};
enum { EXPR_CASE_OPERAND = 1, EXPR_CASE_ELSE = 2 };
enum { EXPR_SELECT_WHERE = 1 };

// What a path begins with (fn is the index of the root).
enum expr_base {
    EXPR_BASE_ROOT,     // its name is the root
    EXPR_BASE_FALLBACK, // its name is a key of the root
    EXPR_BASE_DOC,      // its name is doc, the first step the root: the document seen from within a quantifier
    EXPR_BASE_IT,       // its name is it, the element
    EXPR_BASE_FIELD,    // its name is a key of the element
};

// Whose names a path begins with. Scope 0 is the document; each exists, any or all around it is one more.
#define EXPR_SCOPE_MAX 4

struct expr_node {
    uint8_t kind; // enum expr_kind
    uint8_t op;
    uint8_t negated; // not in, not like, is not, not between
    uint8_t scope;   // PATH: of which quantifier's element; 0: the document
    uint16_t depth;  // 1 for a leaf
    uint16_t fn;
    uint32_t offset; // bytes in the text
    uint32_t length;
    expr_types types; // besides NULL; from expr_check
    uint16_t children;
    struct expr_node *first;
    struct expr_node *last;
    struct expr_node *next;
    struct expr_value value;
};

struct expr_tree {
    struct arena *arena;
    struct slice text;
    struct expr_node *root;
    unsigned nodes;
};

// The first mistake of a text, as an editor shows it.
struct expr_error {
    uint32_t offset; // bytes
    uint32_t length;
    uint32_t line;       // from 1
    uint32_t column;     // characters, from 1
    char text[256];      // what was found, what was expected
    char suggestion[64]; // what to write instead; "" when nothing comes near
};

// Fills the error for a place in the text (line and column are found here). Returns `code`. `err` may be NULL.
enum status expr_error_at(struct expr_error *err, enum status code, struct slice text, size_t offset, size_t length,
                          const char *fmt, ...) __attribute__((format(printf, 6, 7)));

// ---- Walking ---------------------------------------------------------------------------------------------------------------
// Visits every node: EXPR_ENTER before its children, EXPR_AFTER behind each child, EXPR_LEAVE at last.
enum expr_visit { EXPR_ENTER, EXPR_AFTER, EXPR_LEAVE };

struct expr_walk {
    struct {
        struct expr_node *node;
        struct expr_node *child; // the next one to enter
        unsigned index;          // children entered so far
    } level[EXPR_DEPTH_MAX];
    unsigned depth;
    enum expr_visit visit;
    struct expr_node *node;  // being visited
    struct expr_node *child; // EXPR_AFTER: the child just left
    unsigned index;          // EXPR_AFTER: its index
    bool skip;               // set at EXPR_ENTER: pass over the children and EXPR_LEAVE
};
void expr_walk_init(struct expr_walk *w, struct expr_node *root);
// The next visit, in w->visit, node, child, index. False at the end.
bool expr_walk_next(struct expr_walk *w);
// At EXPR_AFTER: the children that are left are passed over.
void expr_walk_finish(struct expr_walk *w);
// The node around the one being entered, and which of its children that is; NULL for the root.
const struct expr_node *expr_walk_parent(const struct expr_walk *w, unsigned *ret_index);

// Same structure and values: what they compute cannot differ. Places in the text do not count.
bool expr_tree_equal(struct expr_node *a, struct expr_node *b);

// Names of the enums, as the language writes them.
const char *expr_arith_text(enum expr_arith op);
const char *expr_cmp_text(enum expr_cmp op);
const char *expr_cast_text(enum expr_cast op);
const char *expr_field_text(enum expr_field op);
const char *expr_quant_text(enum expr_quant op);
const char *expr_like_text(enum expr_like op);
// Index of the name, without regard to case, or -1.
int expr_cast_find(struct slice name);
int expr_field_find(struct slice name);

#endif
