// Parsing, the canonical text, and errors.
#include "expr/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "expr/format.h"

#define TEXT_MAX 65536

static char formatted[TEXT_MAX];

// The canonical text; NULL when the text is no expression.
static const char *canonical(struct slice text, struct expr_error *err)
{
    struct arena a;
    arena_init(&a, EXPR_ARENA_MAX);
    struct expr_tree t;
    struct buf out = buf_fixed(formatted, sizeof(formatted) - 1);
    bool ok = expr_parse(&a, text, &t, err) == ST_OK;
    if (ok) {
        assert_int_equal(expr_format(&t, &out), ST_OK);
        formatted[out.len] = '\0';
        struct expr_tree again;
        struct arena b;
        arena_init(&b, EXPR_ARENA_MAX);
        assert_int_equal(expr_parse(&b, buf_view(&out), &again, err), ST_OK);
        assert_true(expr_tree_equal(t.root, again.root));
        struct buf twice = buf_heap(TEXT_MAX);
        assert_int_equal(expr_format(&again, &twice), ST_OK);
        assert_true(slice_eq(buf_view(&out), buf_view(&twice)));
        buf_release(&twice);
        arena_release(&b);
    }
    arena_release(&a);
    return ok ? formatted : NULL;
}

struct pair {
    const char *text;
    const char *canonical; // NULL: as it stands
};

static const struct pair pairs[] = {
    {"model = 'x' and reported.temp > 30", NULL},
    {"MODEL", "MODEL"},
    {"a AND b Or not C", "a and b or not C"},
    {"(a and b) and c", "a and b and c"},
    {"a and (b and c)", NULL},
    {"(a or b) and c", NULL},
    {"not (a or b)", NULL},
    {"not not a", NULL},
    {"(not a) = b", NULL},
    {"not a = b", NULL},
    {"not (a = b)", "not a = b"},
    {"(a = b) = c", NULL},
    {"a != 1", "a <> 1"},
    {"1 + 2 * 3 - 4", NULL},
    {"(1 + 2) * 3", NULL},
    {"1 - (2 - 3)", NULL},
    {"(1 - 2) - 3", "1 - 2 - 3"},
    {"a || b || c", NULL},
    {"a + b || c", NULL},
    {"(a + b) || c", NULL},
    {"a * -b", NULL},
    {"-(-a)", NULL},
    {"- - a", "-(-a)"},
    {"-5", NULL},
    {"- -5", "5"},
    {"2 - -5", NULL},
    {"-(5)", "-5"},
    {"-(a + 1)", NULL},
    {"-9223372036854775808", NULL},
    {"9223372036854775807", NULL},
    {"0x1F", "31"},
    {"1.50", "1.5"},
    {"1e3", "1000.0"},
    {"1.0", "1.0"},
    {"1e300", NULL},
    {"'it''s'", NULL},
    {"''", NULL},
    {"a . b", "a.b"},
    {"a.\"odd key\".c", NULL},
    {"a['odd key']['b']", "a.\"odd key\".b"},
    {"a[0][-1].x", NULL},
    {"a.and.or.select.\"x\"", "a.and.or.select.x"},
    {"\"select\" = 1", NULL},
    {"\"x\"", "x"},
    {"\"a\"\"b\"", NULL},
    {"time.time", NULL},
    {"a is not null", NULL},
    {"a is unknown or b is not true", NULL},
    {"a is not distinct from b + 1", NULL},
    {"a between 1 and 2 and b not between 3 and 4", NULL},
    {"a in (1, 2, 'x')", NULL},
    {"a not in (b or c)", NULL},
    {"'a' in tags.list", NULL},
    {"a like 'x%' escape '!'", NULL},
    {"a not ilike 'x' and b glob '*'", NULL},
    {"case when a then 1 when b then 2 else 3 end", NULL},
    {"case a + 1 when 1 then 'x' end", NULL},
    {"case when a then 1 end + 1", NULL},
    {"cast(a as NUMBER)", "cast(a as number)"},
    {"extract(hour from now())", NULL},
    {"extract(hour FROM a + b AT 'Europe/Berlin')", "extract(hour from a + b at 'Europe/Berlin')"},
    {"at = 1 and a.at = 'x'", NULL},
    {"extract(year from a or b)", ""},
    {"exists(a.b[*] where value > 3 and kind = 't')", NULL},
    {"any(a[*])", NULL},
    {"all(a[*] where it > 1 or exists(b[*]))", NULL},
    {"f()", NULL},
    {"f(1, a = b, c or d)", NULL},
    {"time '2026-01-01T00:00:00+01:00'", "time '2025-12-31T23:00:00Z'"},
    {"time '2026-01-01'", "time '2026-01-01T00:00:00Z'"},
    {"interval '14 months 1.5 hours'", "interval '1 year 2 months 1 hour 30 minutes'"},
    {"interval '-1 day'", NULL},
    {"interval '0 days'", "interval '0 seconds'"},
    {"inside(p, polygon((1 2, -3.5 4, 5 -6)))", "inside(p, polygon((1 2, -3.5 4, 5 -6)))"},
    {"a -- comment\n and /* ** */ b", "a and b"},
};

static void canonical_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct expr_error err = {.text = ""};
        const char *got = canonical(slice_str(pairs[i].text), &err);
        const char *want = pairs[i].canonical != NULL ? pairs[i].canonical : pairs[i].text;
        if (got == NULL && want[0] != '\0') {
            fail_msg("%s: %s", pairs[i].text, err.text);
        }
        assert_string_equal(got != NULL ? got : "", want);
    }
}

struct mistake {
    const char *text;
    unsigned line;
    unsigned column;
    const char *message;
    const char *suggestion;
};

static const struct mistake mistakes[] = {
    {"", 1, 1, "the expression ends too early; expected a value", ""},
    {"a =", 1, 4, "the expression ends too early; expected a value", ""},
    {"a b", 1, 3, "found b; expected a comparison, an operator, and, or or the end", ""},
    {"model lik 'x'", 1, 7, "found lik; expected a comparison, an operator, and, or or the end", "like"},
    {"a = 1 adn b", 1, 7, "found adn; expected an operator, and, or or the end", "and"},
    {"a == 1", 1, 3, "== is not used here: one = compares", "="},
    {"a && b", 1, 3, "&& is not used here: write and", "and"},
    {"!a", 1, 1, "! is not used here: write not", "not"},
    {"a = 'x", 1, 5, "' begins a text that does not end", ""},
    {"a\nand\n  \"\xc3\xa4\" ? 1", 3, 7, "? means nothing here", ""},
    {"a = b = c", 1, 7, "found =; expected an operator, and, or or the end", ""},
    {"f(1,)", 1, 5, "found ); expected a value", ""},
    {"a.5", 1, 3, "found 5; expected a name", ""},
    {"a[b]", 1, 3, "found b; expected a value or a number", ""},
    {"(a", 1, 3, "the expression ends too early; expected a comparison, an operator, and, or or )", ""},
    {"12abc", 1, 1, "12abc is neither a number nor a name", ""},
    {"007", 1, 1, "not a number: leading zero in a number", ""},
    {"1e999", 1, 1, "not a number: number too large", ""},
    {"0x8000000000000000", 1, 1, "this number has more than 63 bits", ""},
    {"select", 1, 1, "found select; expected a value", ""},
    {"a having b", 1, 3, "having is reserved for later", ""},
    {"a group by b", 1, 3, "group by is reserved for later", ""},
    {"a regexp 'x'", 1, 3, "regexp is not offered: like and glob are", "like"},
    {"time 'yesterday'", 1, 6, "not a time: write it as '2026-01-31T12:00:00Z' or '2026-01-31'", ""},
    {"interval '1.5 months'", 1, 10, "not an interval: write it as '7 days' or '1 month 2 hours'", ""},
    {"cast(a as int)", 1, 11, "a cast goes to number, text, bool, time or version", ""},
    {"/* a", 1, 1, "/* begins a comment that does not end", "*/"},
    {"\xff", 1, 1, "the expression is not UTF-8 text", ""},
    {"\xc3\xa4", 1, 1, "\xc3\xa4 is no name: put other letters in double quotes", ""},
};

static void errors_say_where_and_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *m = &mistakes[i];
        struct expr_error err = {.text = "nothing"};
        assert_null(canonical(slice_str(m->text), &err));
        assert_string_equal(err.text, m->message);
        assert_string_equal(err.suggestion, m->suggestion);
        assert_int_equal(err.line, m->line);
        assert_int_equal(err.column, m->column);
        assert_null(canonical(slice_str(m->text), NULL));
    }
}

// `n` times `middle` between `first` and `last`.
static enum status parse_many(const char *first, const char *middle, unsigned n, const char *last,
                              struct expr_error *err)
{
    struct arena a;
    arena_init(&a, EXPR_ARENA_MAX);
    struct expr_tree t;
    struct buf text = buf_heap(TEXT_MAX);
    buf_str(&text, first);
    for (unsigned i = 0; i < n; i++) {
        buf_str(&text, middle);
    }
    buf_str(&text, last);
    enum status s = expr_parse(&a, buf_view(&text), &t, err);
    buf_release(&text);
    arena_release(&a);
    return s;
}

static void limits(void **state)
{
    (void)state;
    struct expr_error err;
    assert_int_equal(parse_many("", "-a+ ", EXPR_TEXT_MAX / 4, "", &err), ST_TOO_LARGE); // deep before it is long
    assert_int_equal(parse_many("a", " ", EXPR_TEXT_MAX - 1, "", &err), ST_OK);
    assert_int_equal(parse_many("a", " ", EXPR_TEXT_MAX, "", &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "an expression has at most 8192 bytes, this one 8193");
    // Depth: the root, EXPR_DEPTH_MAX - 2 calls, the name.
    assert_int_equal(parse_many("", "not ", EXPR_DEPTH_MAX - 2, "a", &err), ST_OK);
    assert_int_equal(parse_many("", "not ", EXPR_DEPTH_MAX - 1, "a", &err), ST_OK);
    assert_int_equal(parse_many("", "not ", EXPR_DEPTH_MAX, "a", &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "nested more than 64 deep");
    assert_int_equal(parse_many("", "(", 1000, "a", &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "nested too deeply");
    // Nodes: `or` and its terms.
    assert_int_equal(parse_many("a", " or a", EXPR_LIST_MAX - 1, "", &err), ST_OK);
    assert_int_equal(parse_many("a", " or a", EXPR_LIST_MAX, "", &err), ST_OK);
    assert_int_equal(parse_many("a", " or a", EXPR_LIST_MAX + 1, "", &err), ST_TOO_LARGE);
    assert_int_equal(parse_many("a in (1", ",1", EXPR_LIST_MAX - 2, ")", &err), ST_OK);
    assert_int_equal(parse_many("a in (1", ",1", EXPR_LIST_MAX - 1, ")", &err), ST_OK);
    assert_int_equal(parse_many("a in (1", ",1", EXPR_LIST_MAX, ")", &err), ST_TOO_LARGE);
    assert_int_equal(parse_many("f(-a", ",-a", EXPR_NODES_MAX / 2 - 2, ")", &err), ST_OK);
    assert_int_equal(parse_many("f(-a,b", ",-a", EXPR_NODES_MAX / 2 - 2, ")", &err), ST_OK);
    assert_int_equal(parse_many("f(-a,-a", ",-a", EXPR_NODES_MAX / 2 - 2, ")", &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "an expression has at most 2048 parts");
}

// With any amount of memory too small there is an error, and nothing else.
static void arena_exhausted(void **state)
{
    (void)state;
    static const char text[] =
        "a = 'it''s' and exists(b[*] where c in (1, 2)) or case d when 1 then time '2026-01-01' end = e";
    size_t bytes = 0;
    enum status s = ST_NOMEM;
    for (; s != ST_OK; bytes += 16) {
        struct arena a;
        struct expr_tree t;
        struct expr_error err;
        arena_init(&a, bytes);
        s = expr_parse(&a, slice_str(text), &t, &err);
        assert_true(s == ST_OK || (s == ST_NOMEM && err.text[0] != '\0'));
        arena_release(&a);
    }
    assert_in_range(bytes, 1024, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_text),
        cmocka_unit_test(errors_say_where_and_what),
        cmocka_unit_test(limits),
        cmocka_unit_test(arena_exhausted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
