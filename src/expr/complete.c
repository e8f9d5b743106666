#include "expr/complete.h"

#include <stdio.h>
#include <strings.h>

#include "base/json.h"
#include "expr/fn.h"
#include "expr/grammar.h"
#include "expr/parse_priv.h"

// Words that only mean something before a bracket or a quote; elsewhere they are names. One of them may stand where a value may.
static const struct expr_word value_words[] = {
    {0, "cast(", "cast(value as number | text | bool | time | version)"},
    {0, "extract(",
     "extract(year | month | day | hour | minute | second | weekday | yearday | epoch from time [at 'zone'])"},
    {0, "exists(", "exists(list[*] where condition): is the condition true for an item?"},
    {0, "any(", "any(list[*] where condition): as exists, but unknown when that is not known"},
    {0, "all(", "all(list[*] where condition): is the condition true for all items?"},
    {0, "time '", "time '2026-01-31T12:00:00Z'"},
    {0, "interval '", "interval '7 days'"},
    {0, "polygon(", "polygon((lat lon, lat lon, lat lon, ...)), for inside()"},
};
#define VALUE_WORDS (sizeof(value_words) / sizeof(value_words[0]))

static bool is_word_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

struct complete {
    const struct expr_check_options *o;
    struct slice prefix; // what there is of the word
    struct jw w;
};

static void offer(struct complete *c, const char *text, const char *kind, const char *detail, const char *doc)
{
    if (strlen(text) < c->prefix.len ||
        (c->prefix.len > 0 && strncasecmp(text, (const char *)c->prefix.p, c->prefix.len) != 0)) {
        return;
    }
    jw_object(&c->w);
    jw_key(&c->w, "text");
    jw_str(&c->w, text);
    jw_key(&c->w, "kind");
    jw_str(&c->w, kind);
    jw_key(&c->w, "detail");
    jw_str(&c->w, detail);
    jw_key(&c->w, "doc");
    jw_str(&c->w, doc);
    jw_object_end(&c->w);
}

// "a text", "anything, by key"
static void root_detail(const struct expr_root *root, char *dst, size_t dst_size)
{
    if (root->shape == EXPR_SHAPE_VALUE) {
        expr_types_text(root->types, dst, dst_size);
    } else {
        snprintf(dst, dst_size, root->shape == EXPR_SHAPE_SAMPLES ? "samples, by key" : "anything, by key");
    }
}

static void offer_values(struct complete *c)
{
    const struct expr_schema *s = c->o->schema;
    for (unsigned i = 0; i < s->count; i++) {
        char detail[80];
        root_detail(&s->roots[i], detail, sizeof(detail));
        offer(c, s->roots[i].name, "name", detail, s->roots[i].doc);
    }
    for (unsigned i = 0; i < expr_fn_count(); i++) {
        const struct expr_fn *fn = expr_fn_at(i);
        char text[64];
        char detail[128];
        snprintf(text, sizeof(text), "%s(", fn->name);
        snprintf(detail, sizeof(detail), "%s(%s)", fn->name, fn->signature);
        offer(c, text, "function", detail, fn->doc);
    }
    for (unsigned i = 0; i < VALUE_WORDS; i++) {
        offer(c, value_words[i].name, "keyword", "", value_words[i].doc);
    }
}

static void offer_words(struct complete *c, const struct expr_expected *expected)
{
    for (unsigned i = 0; expr_word_at(i) != NULL; i++) {
        const struct expr_word *word = expr_word_at(i);
        if (expected->token[word->token]) {
            offer(c, word->name, "keyword", "", word->doc);
        }
    }
}

// The name the path begins with that ends (with a dot) at the end of `head`, and how many steps follow it. Empty when that is
// no plain path.
static struct slice path_root(struct slice head, unsigned *ret_steps)
{
    struct slice rest = slice_head(head, head.len > 0 ? head.len - 1 : 0);
    *ret_steps = 0;
    for (;;) {
        size_t n = 0;
        while (n < rest.len && is_word_byte(rest.p[rest.len - 1 - n])) {
            n++;
        }
        struct slice name = slice_from(rest, rest.len - n);
        rest = slice_head(rest, rest.len - n);
        if (n == 0 || rest.len == 0 || rest.p[rest.len - 1] != '.') {
            return name;
        }
        rest = slice_head(rest, rest.len - 1);
        (*ret_steps)++;
    }
}

// Behind a dot: the keys that are known.
static void offer_keys(struct complete *c, struct slice head)
{
    unsigned steps;
    struct slice root = path_root(head, &steps);
    int index = expr_schema_find(c->o->schema, root);
    for (size_t i = 0; steps == 0 && i < c->o->names_count; i++) {
        const struct expr_names *n = &c->o->names[i];
        for (size_t k = 0; slice_eq_str(root, n->root) && k < n->count; k++) {
            offer(c, n->names[k], "key", n->root, "");
        }
    }
    if (index >= 0 && steps == 1 && c->o->schema->roots[index].shape == EXPR_SHAPE_SAMPLES) {
        offer(c, "time", "key", "a time", "when the value was measured");
        offer(c, "value", "key", "any value", "the last value");
    }
}

// What stands before the word is parsed; the items follow from what may come next.
static enum status offer_all(struct complete *c, struct arena *a, struct slice head)
{
    struct expr_tree t = {.arena = a, .text = arena_copy(a, head)};
    struct expr_parse p = {.tree = &t};
    struct expr_expected expected = {{false}};
    int last = 0;
    if (t.text.p == NULL) {
        return ST_NOMEM;
    }
    expr_grammar_expect(&p, &expected, &last);
    if (p.status != ST_OK) {
        return p.status == ST_NOMEM ? ST_NOMEM : ST_OK; // no items
    }
    if (last == EXPR_TK_DOT) {
        offer_keys(c, t.text);
    } else if (expected.token[EXPR_TK_EXISTS]) {
        offer_values(c);
        offer_words(c, &expected);
    } else {
        offer_words(c, &expected);
    }
    return ST_OK;
}

enum status expr_complete(struct slice text, size_t offset, const struct expr_check_options *o, struct buf *out)
{
    size_t to = offset < text.len ? offset : text.len;
    size_t from = to;
    if (text.len > EXPR_TEXT_MAX) {
        return ST_TOO_LARGE;
    }
    while (from > 0 && is_word_byte(text.p[from - 1])) {
        from--;
    }
    struct complete c = {.o = o, .prefix = slice_make(text.p + from, to - from)};
    struct arena a;
    arena_init(&a, EXPR_ARENA_MAX);
    jw_init(&c.w, out);
    jw_object(&c.w);
    jw_key(&c.w, "from");
    jw_uint(&c.w, from);
    jw_key(&c.w, "to");
    jw_uint(&c.w, to);
    jw_key(&c.w, "items");
    jw_array(&c.w);
    enum status s = offer_all(&c, &a, slice_head(text, from));
    jw_array_end(&c.w);
    jw_object_end(&c.w);
    arena_release(&a);
    return s != ST_OK ? s : out->failed ? ST_TOO_LARGE : ST_OK;
}

// ---- Hover -----------------------------------------------------------------------------------------------------------------

static void explain(struct jw *w, struct expr_token t, const char *title, const char *doc)
{
    jw_object(w);
    jw_key(w, "from");
    jw_uint(w, t.offset);
    jw_key(w, "to");
    jw_uint(w, t.offset + t.length);
    jw_key(w, "title");
    jw_str(w, title);
    jw_key(w, "doc");
    jw_str(w, doc);
    jw_object_end(w);
}

// The word `t` stands alone or begins something; `call`: a bracket follows.
static void explain_word(struct jw *w, const struct expr_check_options *o, struct slice text, struct expr_token t,
                         int token, bool call)
{
    struct slice name = slice_head(slice_from(text, t.offset), t.length);
    char title[256];
    char types[80];
    int fn = call ? expr_fn_find(name) : -1;
    int root = token == EXPR_TK_ID && !call ? expr_schema_find(o->schema, name) : -1;
    if (fn >= 0) {
        const struct expr_fn *f = expr_fn_at((unsigned)fn);
        expr_types_text(f->result, types, sizeof(types));
        snprintf(title, sizeof(title), "%s(%s): %s", f->name, f->signature, types);
        explain(w, t, title, f->doc);
        return;
    }
    if (root >= 0) {
        root_detail(&o->schema->roots[root], types, sizeof(types));
        snprintf(title, sizeof(title), "%s: %s", o->schema->roots[root].name, types);
        explain(w, t, title, o->schema->roots[root].doc);
        return;
    }
    for (unsigned i = 0; expr_word_at(i) != NULL; i++) {
        if (token == expr_word_at(i)->token) {
            explain(w, t, expr_word_at(i)->name, expr_word_at(i)->doc);
            return;
        }
    }
    for (unsigned i = 0; i < VALUE_WORDS && token != EXPR_TK_ID; i++) {
        const char *word = value_words[i].name;
        if (strlen(word) >= t.length && strncasecmp(word, (const char *)name.p, t.length) == 0) {
            snprintf(title, sizeof(title), "%.*s", (int)t.length, word);
            explain(w, t, title, value_words[i].doc);
            return;
        }
    }
    jw_null(w);
}

// Finds the word at `offset`, and the name its path begins with.
static void hover(struct jw *w, const struct expr_check_options *o, struct slice text, size_t offset)
{
    struct expr_scanner s = {.start = text.p, .p = text.p, .end = text.p + text.len};
    struct expr_token t;
    struct expr_token first = {0, 0}; // of the path
    int first_token = 0;
    bool in_path = false;
    int last = 0;
    for (int token = expr_scan(&s, &t); token != 0 && token != EXPR_TK_BAD; token = expr_scan(&s, &t)) {
        in_path = last == EXPR_TK_DOT;
        if (!in_path && token != EXPR_TK_DOT) {
            first = t;
            first_token = token;
        }
        if (offset >= t.offset && offset < (size_t)t.offset + t.length) {
            struct expr_token next;
            struct expr_scanner ahead = s;
            bool call = !in_path && expr_scan(&ahead, &next) == EXPR_TK_LP;
            explain_word(w, o, text, first, first_token, call);
            return;
        }
        last = token;
    }
    jw_null(w);
}

enum status expr_hover(struct slice text, size_t offset, const struct expr_check_options *o, struct buf *out)
{
    struct arena a;
    struct jw w;
    if (text.len > EXPR_TEXT_MAX) {
        return ST_TOO_LARGE;
    }
    arena_init(&a, 2 * (size_t)EXPR_TEXT_MAX);
    struct slice copy = arena_copy(&a, text); // ends with the NUL the scanner wants
    if (copy.p == NULL) {
        return ST_NOMEM;
    }
    jw_init(&w, out);
    hover(&w, o, copy, offset);
    arena_release(&a);
    return out->failed ? ST_TOO_LARGE : ST_OK;
}
