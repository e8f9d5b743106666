// Any text: what is an expression has one canonical text that means the same, and compiles or is refused with a reason.
#include <assert.h>

#include "expr/format.h"
#include "expr/parse.h"
#include "expr/program.h"

#define CANONICAL_MAX (16 * EXPR_TEXT_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const struct expr_error *err, size_t size)
{
    assert(err->text[0] != '\0' && err->line >= 1 && err->column >= 1 && err->offset <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct expr_tree t;
    struct expr_error err = {.text = ""};
    arena_init(&a, EXPR_ARENA_MAX);
    if (expr_parse(&a, slice_make(data, size), &t, &err) != ST_OK) {
        check_error(&err, size);
        arena_release(&a);
        return 0;
    }
    struct buf out = buf_heap(CANONICAL_MAX);
    struct buf twice = buf_heap(CANONICAL_MAX);
    assert(expr_format(&t, &out) == ST_OK);
    struct arena b;
    struct expr_tree again;
    arena_init(&b, EXPR_ARENA_MAX);
    // The canonical text may be longer than the limit, with blanks where there were none.
    if (expr_parse(&b, buf_view(&out), &again, &err) == ST_OK) {
        assert(expr_tree_equal(t.root, again.root));
        assert(expr_format(&again, &twice) == ST_OK && slice_eq(buf_view(&out), buf_view(&twice)));
    } else {
        assert(out.len > EXPR_TEXT_MAX);
    }
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY};
    struct expr_program *p;
    if (expr_program_make(slice_make(data, size), &o, &p, &err) != ST_OK) {
        check_error(&err, size);
    }
    expr_program_free(p);
    buf_release(&out);
    buf_release(&twice);
    arena_release(&b);
    arena_release(&a);
    return 0;
}
