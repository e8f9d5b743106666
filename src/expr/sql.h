// Conditions as SQL for SQLite or PostgreSQL: what a database can decide it decides, with its indexes; the rest is evaluated on each row it
// leaves over. Both together keep exactly what the expression is true for.
#ifndef EXPR_SQL_H
#define EXPR_SQL_H

#include "base/arena.h"
#include "expr/check.h"
#include "expr/eval.h"

#define EXPR_SQL_BYTES_MAX 131072

enum expr_dialect { EXPR_SQLITE, EXPR_POSTGRES };

// Where a root of the schema is in the database.
enum expr_column {
    EXPR_COLUMN_NONE, // nowhere: what speaks of it is left over
    EXPR_COLUMN_TEXT,
    EXPR_COLUMN_INT,
    EXPR_COLUMN_BOOL, // SQLite: 0 or 1
    EXPR_COLUMN_TIME, // microseconds since 1970
    EXPR_COLUMN_JSON, // PostgreSQL: jsonb. SQLite: the text of a JSON document; keys without needless escapes, none twice
};

struct expr_sql_root {
    const char *sql; // the column, as in "d.model": put into the statement as it stands
    enum expr_column kind;
};

// A parameter: a literal of the text, or what a program without document gives.
struct expr_sql_value {
    struct expr_value literal;
    struct expr_program *program; // NULL: the literal
};

struct expr_sql_where {
    struct arena arena;            // texts of literals
    struct buf sql;                // conditions joined by AND; empty when there are none
    struct expr_sql_value *params; // parameter ?(first + i), or $(first + i)
    unsigned param_count;
    struct expr_program *residual; // to be true, too, for a row; NULL: the SQL says it all
    struct buf residual_text;      // the same as text
};

// Translates a tree that expr_check has accepted as a condition. roots[i] says where schema->roots[i] is. Parameters are
// numbered from `first_param` on (at least 1). Only columns from `roots` and the keys of paths, in quotes, enter the SQL; every
// value is a parameter. ST_NOMEM; ST_TOO_LARGE: over EXPR_SQL_BYTES_MAX. End it with expr_sql_release, also after an error.
enum status expr_sql_translate(struct expr_tree *t, const struct expr_schema *schema, const struct expr_sql_root *roots,
                               enum expr_dialect dialect, unsigned first_param, struct expr_sql_where *ret,
                               struct expr_error *err);
void expr_sql_release(struct expr_sql_where *w);
// The value of a parameter at this time: NULL, INT, REAL, TEXT, BOOL (to be bound as 0 or 1), or TIME (as microseconds). Valid
// until the frame is used again.
struct expr_value expr_sql_param(const struct expr_sql_where *w, unsigned index, int64_t now_us, struct expr_frame *f);
// Appends what the SQL for SQLite calls the value below `column` that `n` keys lead to: json_extract(column, '$."key"'). An index on this text
// serves the conditions on that path. False: SQLite cannot name one of the keys, or `out` is full.
bool expr_sql_extract(const char *column, const struct slice *keys, size_t n, struct buf *out);

#endif
