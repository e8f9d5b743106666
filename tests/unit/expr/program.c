// Saved programs that were tampered with, limits of the compiler, and no memory at any point.
#include "expr/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/crc.h"
#include "expr/eval.h"
#include "expr/parse.h"
#include "expr/program_priv.h"

static struct expr_frame frame;

static struct expr_program *make(const char *text)
{
    struct expr_program *p;
    struct expr_error err = {.text = ""};
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY};
    if (expr_program_make(slice_str(text), &o, &p, &err) != ST_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return p;
}

static const char *const texts[] = {
    "model in ('a', 'b', 'c') and reported.x[2].y > 5 or now() > time '2026-01-01'",
    "exists(reported.l[*] where any(it[*] where it = 1) and k like 'x%' escape '!')",
    "case reported.x when 1 then 'one' when 2 then lower(model) else 'many' end",
    "coalesce(tags.a, tags.b, interval '1 month') is null or inside(location, polygon((1 2, 3 4, 5 7)))",
    "reported.n in (1, reported.m, 2.5) or version(reported.fw) < version('1.2')",
};

// Every byte changed in a few ways, with a right checksum: refused, or still a program that ends.
static void tampered(void **state)
{
    (void)state;
    unsigned loaded = 0;
    unsigned refused = 0;
    for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
        struct expr_program *p = make(texts[t]);
        struct buf bytes = buf_heap(EXPR_PROGRAM_BYTES_MAX);
        assert_true(expr_program_save(p, &bytes));
        expr_program_free(p);
        for (size_t i = 0; i < (bytes.len - 4) * 5; i++) {
            static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x10, 0x03};
            uint8_t *at = &bytes.p[i / 5];
            *at ^= changes[i % 5];
            struct buf copy = buf_heap(EXPR_PROGRAM_BYTES_MAX);
            buf_put(&copy, bytes.p, bytes.len - 4);
            buf_u32(&copy, crc32c(0, slice_make(bytes.p, bytes.len - 4)));
            if (expr_program_load(buf_view(&copy), expr_schema_device(), &p, NULL) == ST_OK) {
                struct expr_view nothing = {.roots = NULL};
                struct expr_value v;
                expr_eval(p, &nothing, &frame, &v);
                expr_program_free(p);
                loaded++;
            } else {
                assert_null(p);
                refused++;
            }
            buf_release(&copy);
            *at ^= changes[i % 5];
        }
        // Cut anywhere, or with a wrong checksum: never.
        for (size_t n = 0; n < bytes.len; n++) {
            assert_int_equal(expr_program_load(slice_head(buf_view(&bytes), n), expr_schema_device(), &p, NULL),
                             ST_CORRUPT);
        }
        buf_release(&bytes);
    }
    assert_true(loaded > 100 && refused > 1000);
}

struct bad {
    const char *why;
    struct expr_ins code[6];
    unsigned count;
};

#define I(name, x, a, b)                                                                                               \
    {                                                                                                                  \
        EXPR_OP_##name, (x), (a), (b)                                                                                  \
    }
static const struct bad bads[] = {
    {"no end", {I(CONST, 0, 0, 0)}, 1},
    {"nothing on the stack", {I(END, 0, 0, 0)}, 1},
    {"two on the stack", {I(CONST, 0, 0, 0), I(CONST, 0, 0, 0), I(END, 0, 0, 0)}, 3},
    {"takes more than there is", {I(CONST, 0, 0, 0), I(AND, 0, 0, 0), I(END, 0, 0, 0)}, 3},
    {"no such constant", {I(CONST, 0, 0, 2), I(END, 0, 0, 0)}, 2},
    {"no such slot", {I(SLOT, 0, 1, 0), I(END, 0, 0, 0)}, 2},
    {"no such instruction", {{EXPR_OP__COUNT, 0, 0, 0}, I(END, 0, 0, 0)}, 2},
    {"a jump back", {I(CONST, 0, 0, 0), I(JUMP, 0, 0, 0), I(END, 0, 0, 0)}, 3},
    {"a jump to itself", {I(CONST, 0, 0, 0), I(JUMP, 0, 0, 1), I(END, 0, 0, 0)}, 3},
    {"a jump behind the end", {I(CONST, 0, 0, 0), I(JUMP, 0, 0, 3), I(END, 0, 0, 0)}, 3},
    {"nothing leads there", {I(CONST, 0, 0, 0), I(JUMP, 0, 0, 3), I(CONST, 0, 0, 0), I(END, 0, 0, 0)}, 4},
    {"two depths", {I(CONST, 0, 0, 0), I(JUMP_TRUE, 0, 0, 3), I(CONST, 0, 0, 0), I(END, 0, 0, 0)}, 4},
    {"a loop without end", {I(CONST, 0, 0, 0), I(EACH, 0, 0, 3), I(CONST, 0, 0, 0), I(END, 0, 0, 0)}, 4},
    {"an end without loop", {I(CONST, 0, 0, 0), I(NEXT, 0, 0, 0), I(END, 0, 0, 0)}, 3},
    {"out of a loop",
     {I(CONST, 0, 0, 0), I(EACH, 0, 0, 5), I(CONST, 0, 0, 0), I(JUMP, 0, 0, 5), I(NEXT, 0, 0, 1), I(END, 0, 0, 0)},
     6},
    {"into a loop",
     {I(CONST, 0, 0, 0), I(JUMP_TRUE, 0, 0, 4), I(EACH, 0, 0, 5), I(CONST, 0, 0, 0), I(NEXT, 0, 0, 2), I(END, 0, 0, 0)},
     6},
    {"a round that takes too much", {I(CONST, 0, 0, 0), I(EACH, 0, 0, 3), I(NEXT, 0, 0, 1), I(END, 0, 0, 0)}, 4},
    {"no such function", {I(CONST, 0, 0, 0), I(CALL, 1, 9999, 0), I(END, 0, 0, 0)}, 3},
    {"too few arguments", {I(CONST, 0, 0, 0), I(CALL, 0, 0, 0), I(END, 0, 0, 0)}, 3},
    {"no such comparison", {I(CONST, 0, 0, 0), I(CONST, 0, 0, 0), I(COMPARE, 0, 6, 0), I(END, 0, 0, 0)}, 4},
    {"a set of nothing", {I(CONST, 0, 0, 0), I(IN_SET, 0, 0, 0), I(END, 0, 0, 0)}, 3},
    {"a set beyond the constants", {I(CONST, 0, 0, 0), I(IN_SET, 0, 3, 0), I(END, 0, 0, 0)}, 3},
    {"a set of two kinds", {I(CONST, 0, 0, 0), I(IN_SET, 0, 2, 0), I(END, 0, 0, 0)}, 3},
};

static void verification(void **state)
{
    (void)state;
    struct expr_value consts[2] = {expr_int(1), expr_text(SLICE("x"))};
    struct expr_slot slots[1] = {{.scope = 0}};
    struct expr_ins good[] = {I(CONST, 0, 0, 0), I(EACH, 0, 0, 4), I(CONST, 0, 0, 0), I(NEXT, 0, 0, 1),
                              I(END, 0, 0, 0)};
    struct expr_program p = {
        .code = good, .code_count = 5, .consts = consts, .const_count = 2, .slots = slots, .slot_count = 1};
    unsigned pc;
    assert_int_equal(expr_program_verify(&p, &pc), ST_OK);
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        struct expr_ins code[6];
        for (unsigned k = 0; k < 6; k++) {
            code[k] = bads[i].code[k];
        }
        p.code = code;
        p.code_count = bads[i].count;
        if (expr_program_verify(&p, &pc) != ST_CORRUPT) {
            fail_msg("%s was accepted", bads[i].why);
        }
    }
    // A path of an element outside of its loop.
    struct expr_slot element[1] = {{.scope = 1}};
    struct expr_ins outside[] = {I(SLOT, 0, 0, 0), I(END, 0, 0, 0)};
    p.code = outside;
    p.code_count = 2;
    assert_int_equal(expr_program_verify(&p, &pc), ST_OK);
    p.slots = element;
    assert_int_equal(expr_program_verify(&p, &pc), ST_CORRUPT);
}

static enum status make_many(const char *first, const char *middle, unsigned n, const char *last,
                             struct expr_error *err)
{
    struct expr_program *p;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY};
    struct buf text = buf_heap(65536);
    buf_str(&text, first);
    for (unsigned i = 0; i < n; i++) {
        buf_str(&text, middle);
    }
    buf_str(&text, last);
    enum status s = expr_program_make(buf_view(&text), &o, &p, err);
    expr_program_free(p);
    buf_release(&text);
    return s;
}

static enum status make_paths(unsigned n, struct expr_error *err)
{
    struct expr_program *p;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY};
    struct buf text = buf_heap(65536);
    for (unsigned i = 0; i < n; i++) {
        buf_printf(&text, "%stags.t%u", i > 0 ? " or " : "", i);
    }
    enum status s = expr_program_make(buf_view(&text), &o, &p, err);
    expr_program_free(p);
    buf_release(&text);
    return s;
}

static void limits(void **state)
{
    (void)state;
    struct expr_error err;
    assert_int_equal(make_paths(EXPR_SLOTS_MAX - 1, &err), ST_OK);
    assert_int_equal(make_paths(EXPR_SLOTS_MAX, &err), ST_OK);
    assert_int_equal(make_paths(EXPR_SLOTS_MAX + 1, &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "at most 128 different paths in an expression");
    assert_int_equal(make_many("model in ('x'", ",'y'", EXPR_LIST_MAX - 1, ")", &err), ST_OK);
    assert_int_equal(make_many("reported.x in (1", ",model", 500, ")", &err), ST_OK);
    assert_int_equal(make_many("reported.x = 1", " or model = 'x'", 400, "", &err), ST_OK);
}

// The stack: concat of 16 arguments, each the last of the one around it, needs 15 values a level.
static void stack(void **state)
{
    (void)state;
    struct expr_error err;
    static const char level[] =
        "concat(model,model,model,model,model,model,model,model,model,model,model,model,model,model,model,";
    assert_int_equal(make_many("", level, 4, "model))))", &err), ST_OK);
    assert_int_equal(make_many("", level, 5, "model)))))", &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "this expression needs more than 64 values at once");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tampered),
        cmocka_unit_test(verification),
        cmocka_unit_test(limits),
        cmocka_unit_test(stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
