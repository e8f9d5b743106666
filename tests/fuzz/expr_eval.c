// An expression, a NUL, and a JSON text as the document of every root: whatever both are, evaluation ends, and the laws of the
// logic hold.
#include <assert.h>

#include "expr/eval.h"

static struct expr_frame frame;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The value of `before` + the expression + `after`; its type is stored.
static enum expr_type value_of(const char *before, struct slice text, const char *after, const struct expr_view *view,
                               bool *ret_true)
{
    struct buf whole = buf_heap(2 * EXPR_TEXT_MAX);
    struct expr_program *p;
    struct expr_value v = expr_null();
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY};
    buf_str(&whole, before);
    buf_slice(&whole, text);
    buf_str(&whole, after);
    bool ok = expr_program_make(buf_view(&whole), &o, &p, NULL) == ST_OK && expr_eval(p, view, &frame, &v) == ST_OK;
    enum expr_type type = ok ? (enum expr_type)v.type : EXPR_TYPE_COUNT;
    *ret_true = expr_is_true(&v);
    expr_program_free(p);
    buf_release(&whole);
    return type;
}

static void check_laws(struct slice text, const struct expr_view *view)
{
    bool yes;
    bool no;
    bool is;
    enum expr_type type = value_of("", text, "", view, &yes);
    if (type == EXPR_TYPE_COUNT) {
        return;
    }
    // A trailing comment would swallow what stands behind: a newline ends it.
    enum expr_type negated = value_of("not (", text, "\n)", view, &no);
    if (negated != EXPR_TYPE_COUNT) {
        assert((type == EXPR_BOOL) == (negated == EXPR_BOOL) && !(yes && no) && (type != EXPR_BOOL || yes || no));
    }
    if (value_of("(", text, "\n) is null", view, &is) != EXPR_TYPE_COUNT) {
        assert(is == (type == EXPR_NULL));
    }
    if (value_of("(", text, "\n) or not online is unknown", view, &is) != EXPR_TYPE_COUNT) {
        assert(is || !yes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static _Alignas(8) uint8_t mem[1 << 20];
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t split = nul != NULL ? (size_t)(nul - data) : size;
    struct expr_value all;
    struct expr_value roots[EXPR_ROOTS_MAX];
    enum status s = expr_doc_build(slice_from(slice_make(data, size), split + 1), mem, sizeof(mem), &all);
    assert(s == ST_OK || all.type == EXPR_NULL);
    for (unsigned i = 0; i < EXPR_ROOTS_MAX; i++) {
        roots[i] = all;
    }
    struct expr_view view = {.roots = roots, .count = EXPR_ROOTS_MAX, .now_us = 1700000000000000};
    check_laws(slice_make(data, split), &view);
    return 0;
}
