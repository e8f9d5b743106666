#include "expr/parse.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"
#include "expr/grammar.h"
#include "expr/parse_priv.h"
#include "expr/suggest.h"

#define EXPECTED_MAX 6 // more than that tells nobody anything

// How a token is called in an error. Tokens of one class are told once; `word` is set for what a misspelt name may have meant.
struct token_name {
    int token;
    const char *name;
    bool word;
};

static const struct token_name token_names[] = {
    {EXPR_TK_STRING, "a value", false},
    {EXPR_TK_INTEGER, "a number", false},
    {EXPR_TK_QID, "a name", false},
    {EXPR_TK_EQ, "a comparison", false},
    {EXPR_TK_PLUS, "an operator", false},
    {EXPR_TK_AND, "and", true},
    {EXPR_TK_OR, "or", true},
    {EXPR_TK_NOT, "not", true},
    {EXPR_TK_IN, "in", true},
    {EXPR_TK_LIKE, "like", true},
    {EXPR_TK_ILIKE, "ilike", true},
    {EXPR_TK_GLOB, "glob", true},
    {EXPR_TK_BETWEEN, "between", true},
    {EXPR_TK_IS, "is", true},
    {EXPR_TK_NULL, "null", true},
    {EXPR_TK_TRUE, "true", true},
    {EXPR_TK_FALSE, "false", true},
    {EXPR_TK_UNKNOWN, "unknown", true},
    {EXPR_TK_DISTINCT, "distinct", true},
    {EXPR_TK_FROM, "from", true},
    {EXPR_TK_ESCAPE, "escape", true},
    {EXPR_TK_WHEN, "when", true},
    {EXPR_TK_THEN, "then", true},
    {EXPR_TK_ELSE, "else", true},
    {EXPR_TK_END, "end", true},
    {EXPR_TK_AS, "as", true},
    {EXPR_TK_WHERE, "where", true},
    {EXPR_TK_CASE, "case", true},
    {EXPR_TK_AT, "at", true},
    {EXPR_TK_LP, "(", false},
    {EXPR_TK_RP, ")", false},
    {EXPR_TK_LB, "[", false},
    {EXPR_TK_RB, "]", false},
    {EXPR_TK_STAR, "*", false},
    {EXPR_TK_COMMA, ",", false},
    {EXPR_TK_LBRACE, "{", false},
    {EXPR_TK_RBRACE, "}", false},
    {EXPR_TK_COLON, ":", false},
    {EXPR_TK_SELECT, "select", true},
    {EXPR_TK_DOT, ".", false},
    {0, "the end", false},
};
#define NAME_COUNT (sizeof(token_names) / sizeof(token_names[0]))

void expr_fail(struct expr_parse *p, enum status code, struct expr_token t, const char *fmt, ...)
{
    if (p->status != ST_OK) {
        return; // the first one counts
    }
    char text[sizeof(p->err->text)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    p->status = expr_error_at(p->err, code, p->tree->text, t.offset, t.length, "%s", text);
}

static struct slice text_at(const struct expr_parse *p, struct expr_token t)
{
    return slice_head(slice_from(p->tree->text, t.offset), t.length < 40 ? t.length : 40);
}

static void suggest(struct expr_parse *p, const char *text)
{
    if (p->err != NULL && text != NULL) {
        snprintf(p->err->suggestion, sizeof(p->err->suggestion), "%s", text);
    }
}

void expr_bad_word(struct expr_parse *p, struct expr_token t, const struct expr_scanner *s)
{
    struct slice word = text_at(p, t);
    expr_fail(p, ST_MALFORMED, t, SLICE_FMT " %s", SLICE_ARG(word), s->problem);
    suggest(p, s->suggestion);
}

// Which names need not be told, because another one covers them.
static bool is_covered(int token, const struct expr_expected *e)
{
    bool value = e->token[EXPR_TK_STRING] && e->token[EXPR_TK_CASE];
    bool in_value = token == EXPR_TK_INTEGER || token == EXPR_TK_QID || token == EXPR_TK_NULL ||
                    token == EXPR_TK_TRUE || token == EXPR_TK_FALSE || token == EXPR_TK_CASE || token == EXPR_TK_LP ||
                    token == EXPR_TK_NOT;
    bool comparison = e->token[EXPR_TK_EQ];
    bool in_comparison = token == EXPR_TK_IN || token == EXPR_TK_LIKE || token == EXPR_TK_ILIKE ||
                         token == EXPR_TK_GLOB || token == EXPR_TK_BETWEEN || token == EXPR_TK_IS ||
                         token == EXPR_TK_NOT;
    bool plus = e->token[EXPR_TK_PLUS];
    bool in_operator = token == EXPR_TK_STAR || token == EXPR_TK_DOT || token == EXPR_TK_LB || token == EXPR_TK_LP;
    return (value && in_value) || (comparison && in_comparison) || (plus && in_operator);
}

// "a value, ) or the end"
static void list_expected(const struct expr_expected *e, char *dst, size_t dst_size)
{
    const char *names[EXPECTED_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < NAME_COUNT && n < EXPECTED_MAX; i++) {
        int token = token_names[i].token;
        if (e->token[token] && !is_covered(token, e)) {
            names[n++] = token_names[i].name;
        }
    }
    struct buf out = buf_fixed(dst, dst_size - 1);
    for (unsigned i = 0; i < n; i++) {
        buf_printf(&out, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", names[i]);
    }
    dst[out.len] = '\0';
}

void expr_unexpected(struct expr_parse *p, int token, struct expr_token t, const struct expr_expected *expected)
{
    char list[128];
    struct slice word = text_at(p, t);
    list_expected(expected, list, sizeof(list));
    if (token == 0) {
        expr_fail(p, ST_MALFORMED, t, "the expression ends too early; expected %s", list);
        return;
    }
    expr_fail(p, ST_MALFORMED, t, "found " SLICE_FMT "; expected %s", SLICE_ARG(word), list);
    struct expr_suggest near;
    expr_suggest_init(&near, word);
    for (unsigned i = 0; i < NAME_COUNT; i++) {
        if (token_names[i].word && expected->token[token_names[i].token]) {
            expr_suggest_offer(&near, "", token_names[i].name);
        }
    }
    suggest(p, near.text);
}

static const struct expr_word words[] = {
    {EXPR_TK_AND, "and", "both are true"},
    {EXPR_TK_OR, "or", "one of them is true"},
    {EXPR_TK_NOT, "not", "true becomes false; unknown stays unknown"},
    {EXPR_TK_IN, "in", "value in (a, b, ...), or value in list"},
    {EXPR_TK_LIKE, "like", "text like pattern: % is any text, _ one character"},
    {EXPR_TK_ILIKE, "ilike", "as like; small and capital ASCII letters are alike"},
    {EXPR_TK_GLOB, "glob", "text glob pattern: * is any text, ? one character, [a-z] one of these"},
    {EXPR_TK_ESCAPE, "escape", "like pattern escape '!': what follows ! in the pattern is meant as it is"},
    {EXPR_TK_BETWEEN, "between", "value between low and high, both included"},
    {EXPR_TK_IS, "is", "is null, is true, is false, is unknown, is distinct from; never unknown themselves"},
    {EXPR_TK_NULL, "null", "missing"},
    {EXPR_TK_TRUE, "true", "the condition holds"},
    {EXPR_TK_FALSE, "false", "the condition does not hold"},
    {EXPR_TK_UNKNOWN, "unknown", "a condition that is null"},
    {EXPR_TK_DISTINCT, "distinct", "is distinct from: differs; null is a value like any other"},
    {EXPR_TK_FROM, "from", "is distinct from value; extract(field from time)"},
    {EXPR_TK_CASE, "case", "case when condition then value ... else value end"},
    {EXPR_TK_WHEN, "when", "the value behind then, if this is true"},
    {EXPR_TK_THEN, "then", "the value for this when"},
    {EXPR_TK_ELSE, "else", "the value when none of the conditions is true"},
    {EXPR_TK_END, "end", "ends the case"},
    {EXPR_TK_AS, "as", "cast(value as type)"},
    {EXPR_TK_WHERE, "where", "list[*] where condition: the items that count"},
    {EXPR_TK_AT, "at", "extract(field from time at 'Europe/Berlin')"},
};

const struct expr_word *expr_word_at(unsigned index)
{
    return index < sizeof(words) / sizeof(words[0]) ? &words[index] : NULL;
}

static enum status parse(struct arena *a, struct slice text, bool select, struct expr_tree *ret, struct expr_error *err)
{
    *ret = (struct expr_tree){.arena = a, .text = text};
    if (text.len > EXPR_TEXT_MAX) {
        return expr_error_at(err, ST_TOO_LARGE, text, EXPR_TEXT_MAX, 0,
                             "an expression has at most %d bytes, this one %zu", EXPR_TEXT_MAX, text.len);
    }
    if (!utf8_mqtt_valid(text)) {
        return expr_error_at(err, ST_MALFORMED, text, 0, 0, "the expression is not UTF-8 text");
    }
    ret->text = arena_copy(a, text);
    if (ret->text.p == NULL) {
        return expr_error_at(err, ST_NOMEM, text, 0, 0, "no memory for this expression");
    }
    struct expr_parse p = {.tree = ret, .err = err, .select = select};
    expr_grammar_run(&p);
    return p.status;
}

enum status expr_parse(struct arena *a, struct slice text, struct expr_tree *ret, struct expr_error *err)
{
    return parse(a, text, false, ret, err);
}

enum status expr_parse_select(struct arena *a, struct slice text, struct expr_tree *ret, struct expr_error *err)
{
    return parse(a, text, true, ret, err);
}
