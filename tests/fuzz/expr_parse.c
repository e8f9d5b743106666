// Any text, as an expression and as a statement: what is one has one canonical text that means the same, and compiles or is
// refused with a reason. An editor's questions about any text have an answer.
#include <assert.h>

#include "base/json.h"
#include "expr/complete.h"
#include "expr/format.h"
#include "expr/parse.h"
#include "expr/select.h"
#include "expr/sql.h"

#define CANONICAL_MAX (16 * EXPR_TEXT_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum status parse_fn(struct arena *a, struct slice text, struct expr_tree *ret, struct expr_error *err);

static void check_error(const struct expr_error *err, size_t size)
{
    assert(err->text[0] != '\0' && err->line >= 1 && err->column >= 1 && err->offset <= size);
}

// Is it an expression (or a statement)? If so its canonical text is looked at.
static bool check_canonical(struct slice text, parse_fn *parse)
{
    struct arena a;
    struct arena b;
    struct expr_tree t;
    struct expr_tree again;
    struct expr_error err = {.text = ""};
    struct buf out = buf_heap(CANONICAL_MAX);
    struct buf twice = buf_heap(CANONICAL_MAX);
    arena_init(&a, EXPR_ARENA_MAX);
    arena_init(&b, EXPR_ARENA_MAX);
    bool ok = parse(&a, text, &t, &err) == ST_OK;
    if (!ok) {
        check_error(&err, text.len);
    } else {
        assert(expr_format(&t, &out) == ST_OK);
        // The canonical text may be longer than the limit, with blanks where there were none.
        if (parse(&b, buf_view(&out), &again, &err) == ST_OK) {
            assert(expr_tree_equal(t.root, again.root));
            assert(expr_format(&again, &twice) == ST_OK && slice_eq(buf_view(&out), buf_view(&twice)));
        } else {
            assert(out.len > EXPR_TEXT_MAX);
        }
    }
    buf_release(&out);
    buf_release(&twice);
    arena_release(&b);
    arena_release(&a);
    return ok;
}

// As SQL: every parameter has a value, and what is left over is an expression again.
static void check_sql(struct slice text, const struct expr_check_options *o)
{
    static const enum expr_column kinds[] = {EXPR_COLUMN_TEXT, EXPR_COLUMN_INT, EXPR_COLUMN_BOOL, EXPR_COLUMN_TIME,
                                             EXPR_COLUMN_NONE};
    static struct expr_frame frame;
    struct expr_sql_root roots[EXPR_ROOTS_MAX];
    struct expr_sql_where w;
    struct expr_tree t;
    struct arena a;
    for (unsigned i = 0; i < o->schema->count; i++) {
        bool json = o->schema->roots[i].shape == EXPR_SHAPE_DOCUMENT;
        roots[i] = (struct expr_sql_root){"c", json ? EXPR_COLUMN_JSON : kinds[i % 5]};
    }
    arena_init(&a, 2 * EXPR_ARENA_MAX);
    if (expr_parse(&a, text, &t, NULL) == ST_OK && expr_check(&t, o, NULL) == ST_OK) {
        enum status s =
            expr_sql_translate(&t, o->schema, roots, t.nodes % 2 == 0 ? EXPR_SQLITE : EXPR_POSTGRES, 1, &w, NULL);
        assert(s == ST_OK || s == ST_TOO_LARGE);
        for (unsigned i = 0; i < w.param_count; i++) {
            assert(expr_sql_param(&w, i, 0, &frame).type < EXPR_INTERVAL);
        }
        struct expr_tree left;
        assert(s != ST_OK || w.residual_text.len == 0 || w.residual_text.len > EXPR_TEXT_MAX ||
               expr_parse(&a, buf_view(&w.residual_text), &left, NULL) != ST_MALFORMED);
        expr_sql_release(&w);
    }
    arena_release(&a);
}

static void check_editor(struct slice text, size_t offset, const struct expr_check_options *o)
{
    struct buf out = buf_heap(65536);
    enum status s = expr_complete(text, offset, o, &out);
    assert(s == ST_TOO_LARGE || (s == ST_OK && json_check(buf_view(&out), 4, 4096, NULL) == ST_OK));
    buf_clear(&out);
    s = expr_hover(text, offset, o, &out);
    assert(s == ST_TOO_LARGE || (s == ST_OK && json_check(buf_view(&out), 4, 16, NULL) == ST_OK));
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_make(data, size);
    struct expr_error err = {.text = ""};
    struct expr_check_options device = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY};
    struct expr_check_options message = {.schema = expr_schema_message(), .wanted = EXPR_OF_ANY};
    if (check_canonical(text, expr_parse)) {
        struct expr_program *p;
        if (expr_program_make(text, &device, &p, &err) != ST_OK) {
            check_error(&err, size);
        }
        expr_program_free(p);
        struct expr_check_options condition = {.schema = device.schema, .wanted = EXPR_OF(EXPR_BOOL)};
        check_sql(text, &condition);
    }
    if (check_canonical(text, expr_parse_select)) {
        struct expr_select *s;
        if (expr_select_make(text, &message, &s, &err) != ST_OK) {
            check_error(&err, size);
        }
        expr_select_free(s);
    }
    check_editor(text, size, &device);
    check_editor(text, size / 2, &device);
    return 0;
}
