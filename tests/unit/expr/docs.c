// Every example of docs/expressions.md: the last two cells of a table row are an expression and an expression for what it is.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "expr/select.h"
#include "unit/expr/device.h"
#include "unit/expr/message.h"
#include "unit/expr/zoneinfo.h"

#include "expr/fn.h"

#define PAGE_BYTES_MAX 262144

static char page[PAGE_BYTES_MAX];
static struct device device;
static struct message message;
static struct expr_frame frame;
static struct expr_frame frame_want;

// The first block of JSON behind `from`.
static struct slice next_json(const char *from)
{
    static const char fence[] = "```json\n";
    const char *first = strstr(from, fence);
    const char *last = first != NULL ? strstr(first + sizeof(fence), "```\n") : NULL;
    if (last == NULL) {
        return SLICE("");
    }
    first += sizeof(fence) - 1;
    return slice_make(first, (size_t)(last - first));
}

static int read_page(void **state)
{
    (void)state;
    char path[4096];
    const char *tests = strstr(__FILE__, "tests/unit/expr/docs.c");
    snprintf(path, sizeof(path), "%.*sdocs/expressions.md", (int)(tests - __FILE__), __FILE__);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    size_t n = fread(page, 1, sizeof(page) - 1, f);
    fclose(f);
    page[n] = '\0';
    struct slice sample = next_json(page);
    struct slice payload = next_json((const char *)sample.p);
    return device_init(&device, sample) && message_init(&message, payload) ? 0 : 1;
}

static struct expr_value evaluate(struct slice text, struct expr_frame *f, struct expr_program **ret)
{
    struct expr_error err = {.text = ""};
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF_ANY, .zone = zoneinfo_load};
    struct expr_value v = expr_null();
    if (expr_program_make(text, &o, ret, &err) != ST_OK) {
        fail_msg(SLICE_FMT ": %s", SLICE_ARG(text), err.text);
    }
    assert_int_equal(expr_eval(*ret, &device.view, f, &v), ST_OK);
    return v;
}

// The text between the last backticks of [first, last), bars unescaped into `dst`; *last moves before it. False: no such cell.
static bool last_cell(const char *first, const char **last, char *dst, size_t size)
{
    const char *end = *last;
    unsigned bars = 0;
    while (end > first && end[-1] != '`') {
        bars += end[-1] == '|' ? 1 : 0;
        if (end[-1] != ' ' && end[-1] != '|') {
            return false;
        }
        end--;
    }
    const char *start = end - 1;
    while (start > first && start[-1] != '`') {
        start--;
    }
    size_t n = 0;
    for (const char *p = start; p < end - 1 && n + 1 < size; p++) {
        if (!(p[0] == '\\' && p[1] == '|')) {
            dst[n++] = *p;
        }
    }
    dst[n] = '\0';
    *last = start - 1;
    return end > first && start > first && n > 0 && bars > 0;
}

static void run_statement(const char *text, const char *is)
{
    struct expr_error err = {.text = ""};
    struct expr_check_options o = {.schema = expr_schema_message()};
    struct expr_select *s;
    bool matched;
    struct buf out = buf_heap(4096);
    if (expr_select_make(slice_str(text), &o, &s, &err) != ST_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    assert_int_equal(expr_select_run(s, &message.view, &frame, &out, &matched), ST_OK);
    assert_true(matched);
    buf_u8(&out, 0);
    assert_string_equal((const char *)out.p, is);
    buf_release(&out);
    expr_select_free(s);
}

static bool run_row(const char *first, const char *last)
{
    char text[512];
    char is[512];
    struct expr_program *p;
    struct expr_program *q;
    if (first[0] != '|' || !last_cell(first, &last, is, sizeof(is)) || !last_cell(first, &last, text, sizeof(text))) {
        return false;
    }
    if (strncmp(text, "select ", 7) == 0) {
        run_statement(text, is);
        return true;
    }
    struct expr_value got = evaluate(slice_str(text), &frame, &p);
    struct expr_value want = evaluate(slice_str(is), &frame_want, &q);
    if (!expr_same(&got, &want)) {
        struct buf out = buf_heap(1024);
        struct expr_value t = expr_to_text(&got, &out);
        fail_msg("%s is not %s but " SLICE_FMT, text, is, SLICE_ARG(expr_value_slice(&t)));
    }
    expr_program_free(p);
    expr_program_free(q);
    return true;
}

static void examples(void **state)
{
    (void)state;
    unsigned rows = 0;
    const char *line = page;
    for (const char *end = strchr(line, '\n'); end != NULL; line = end + 1, end = strchr(line, '\n')) {
        rows += run_row(line, end) ? 1 : 0;
    }
    // All functions, and those written by hand: fewer would mean that the page is no longer read.
    assert_true(rows > expr_fn_count() + 45);
}

// The tables on the page are those of the code.
static void tables(void **state)
{
    (void)state;
    struct buf out = buf_heap(PAGE_BYTES_MAX);
    assert_true(expr_schema_reference(expr_schema_device(), &out));
    buf_u8(&out, 0);
    assert_non_null(strstr(page, (const char *)out.p));
    buf_clear(&out);
    assert_true(expr_fn_reference(&out));
    buf_u8(&out, 0);
    assert_non_null(strstr(page, (const char *)out.p));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, read_page, NULL);
}
