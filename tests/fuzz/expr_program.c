// Any bytes as a saved program (with the checksum they should have): the loader refuses them, or they can be run, and saved
// again to a program that gives the same.
#include <assert.h>

#include "base/crc.h"
#include "expr/eval.h"

static const char document[] =
    "{\"a\":[1,[2,{\"b\":\"x\"}],null,\"2026-01-01T00:00:00Z\"],\"b\":{\"a\":1.5},\"site\":\"berlin\"}";

static struct expr_frame frame;
static struct expr_frame frame_again;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const struct expr_program *p, const struct expr_program *again)
{
    static _Alignas(8) uint8_t mem[4096];
    struct expr_value all;
    struct expr_value roots[EXPR_ROOTS_MAX];
    assert(expr_doc_build(slice_make(document, sizeof(document) - 1), mem, sizeof(mem), &all) == ST_OK);
    for (unsigned i = 0; i < EXPR_ROOTS_MAX; i++) {
        roots[i] = all;
    }
    struct expr_view view = {.roots = roots, .count = EXPR_ROOTS_MAX, .now_us = 1700000000000000};
    struct expr_value v;
    struct expr_value w;
    enum status s = expr_eval(p, &view, &frame, &v);
    assert(s == ST_OK || (s == ST_TOO_LARGE && v.type == EXPR_NULL));
    assert(expr_eval(again, &view, &frame_again, &w) == s && v.type == w.type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf bytes = buf_heap(EXPR_PROGRAM_BYTES_MAX);
    struct buf saved = buf_heap(EXPR_PROGRAM_BYTES_MAX);
    struct expr_program *p;
    struct expr_program *again;
    struct err err = {.code = ST_OK};
    buf_put(&bytes, data, size);
    buf_u32(&bytes, crc32c(0, slice_make(data, size)));
    if (expr_program_load(buf_view(&bytes), expr_schema_device(), &p, &err) == ST_OK) {
        assert(expr_program_save(p, &saved));
        assert(expr_program_load(buf_view(&saved), expr_schema_device(), &again, NULL) == ST_OK);
        run(p, again);
        expr_program_free(p);
        expr_program_free(again);
    } else {
        assert(err.code != ST_OK && err.text[0] != '\0');
    }
    buf_release(&bytes);
    buf_release(&saved);
    return 0;
}
