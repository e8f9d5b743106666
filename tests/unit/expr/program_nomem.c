// Memory that is not to be had, at every allocation from the text to the program: an error, no leak, and never another program.
#include "expr/parse.h"
#include "expr/sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static int left = -1; // allocations that go well before one fails; negative: none fails

static bool fails_now(void)
{
    return left >= 0 && left-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

static const char text[] =
    "model in ('a', 'it''s') and exists(reported.l[*] where it.x = upper('y' || 'z')) or tags.a is not null and "
    "inside(location, polygon((1 2, 3 4, 5 7))) and created > time '2026-01-01' + interval '1 day'";

static void every_allocation(void **state)
{
    (void)state;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    struct expr_program *p;
    struct buf want = buf_heap(EXPR_PROGRAM_BYTES_MAX);
    assert_int_equal(expr_program_make(slice_str(text), &o, &p, NULL), ST_OK);
    assert_true(expr_program_save(p, &want));
    expr_program_free(p);
    enum status s = ST_NOMEM;
    int n = 0;
    for (; s != ST_OK; n++) {
        struct expr_error err = {.text = ""};
        left = n;
        s = expr_program_make(slice_str(text), &o, &p, &err);
        left = -1;
        assert_true(s == ST_OK || (s == ST_NOMEM && p == NULL && err.text[0] != '\0'));
    }
    assert_in_range(n, 8, 100);
    struct buf got = buf_heap(EXPR_PROGRAM_BYTES_MAX);
    assert_true(expr_program_save(p, &got));
    assert_true(slice_eq(buf_view(&want), buf_view(&got)));
    buf_release(&got);
    buf_release(&want);
    expr_program_free(p);
}

static void every_allocation_of_the_loader(void **state)
{
    (void)state;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    struct expr_program *p;
    struct buf bytes = buf_heap(EXPR_PROGRAM_BYTES_MAX);
    assert_int_equal(expr_program_make(slice_str(text), &o, &p, NULL), ST_OK);
    assert_true(expr_program_save(p, &bytes));
    expr_program_free(p);
    enum status s = ST_NOMEM;
    int n = 0;
    for (; s != ST_OK; n++) {
        left = n;
        s = expr_program_load(buf_view(&bytes), expr_schema_device(), &p, NULL);
        left = -1;
        assert_true(s == ST_OK || (s == ST_NOMEM && p == NULL));
    }
    assert_in_range(n, 3, 20);
    expr_program_free(p);
    buf_release(&bytes);
}

static enum status translate(const struct expr_check_options *o, struct expr_sql_where *ret)
{
    struct expr_sql_root roots[EXPR_ROOTS_MAX] = {{NULL, EXPR_COLUMN_NONE}};
    struct arena a;
    struct expr_tree t;
    *ret = (struct expr_sql_where){.params = NULL};
    roots[expr_schema_find(o->schema, SLICE("model"))] = (struct expr_sql_root){"model", EXPR_COLUMN_TEXT};
    roots[expr_schema_find(o->schema, SLICE("created"))] = (struct expr_sql_root){"created_us", EXPR_COLUMN_TIME};
    arena_init(&a, EXPR_ARENA_MAX);
    enum status s = expr_parse(
        &a, SLICE("model in ('a', 'b') and model like 'x%' and created > now() - interval '1 day' and id = 'x'"), &t,
        NULL);
    if (s == ST_OK) {
        s = expr_check(&t, o, NULL);
    }
    if (s == ST_OK) {
        s = expr_sql_translate(&t, o->schema, roots, EXPR_SQLITE, 1, ret, NULL);
    }
    arena_release(&a);
    return s;
}

static void every_allocation_of_the_translation(void **state)
{
    (void)state;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    enum status s = ST_NOMEM;
    int n = 0;
    for (; s != ST_OK; n++) {
        struct expr_sql_where w;
        left = n;
        s = translate(&o, &w);
        left = -1;
        assert_true(s == ST_OK || s == ST_NOMEM);
        assert_true(s != ST_OK || (w.param_count == 4 && w.residual != NULL));
        expr_sql_release(&w);
    }
    assert_in_range(n, 10, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(every_allocation_of_the_loader),
        cmocka_unit_test(every_allocation_of_the_translation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
