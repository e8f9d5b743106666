#include "base/utf8.h"
#include "expr/value.h"

size_t expr_text_chars(struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += (s.p[i] & 0xc0) != 0x80 ? 1 : 0;
    }
    return n;
}

size_t expr_text_offset(struct slice s, uint64_t chars)
{
    size_t i = 0;
    for (; i < s.len; i++) {
        if ((s.p[i] & 0xc0) != 0x80 && chars-- == 0) {
            break;
        }
    }
    return i;
}

static uint8_t fold(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

// Length of the character `s` begins with; a stray byte counts as one.
static size_t char_len(struct slice s)
{
    size_t n = utf8_sequence(s);
    return n > 0 ? n : 1;
}

static uint32_t code_point(struct slice s)
{
    size_t n = utf8_sequence(s);
    return n > 0 ? utf8_code_point(s, n) : s.p[0];
}

// [abc], [^a-z]; a ] that comes first is meant. Length of the class; 0 when it does not end, and nothing matches it.
static size_t class_match(struct slice pattern, uint32_t c, bool *ret_in)
{
    size_t i = 1;
    bool negated = i < pattern.len && pattern.p[i] == '^';
    bool in = false;
    i += negated ? 1 : 0;
    for (size_t first = i; i < pattern.len;) {
        struct slice rest = slice_from(pattern, i);
        if (rest.p[0] == ']' && i > first) {
            *ret_in = in != negated;
            return i + 1;
        }
        uint32_t low = code_point(rest);
        uint32_t high = low;
        i += char_len(rest);
        rest = slice_from(pattern, i);
        if (rest.len >= 2 && rest.p[0] == '-' && rest.p[1] != ']') {
            rest = slice_from(rest, 1);
            high = code_point(rest);
            i += 1 + char_len(rest);
        }
        in = in || (c >= low && c <= high);
    }
    return 0;
}

struct matcher {
    enum expr_like kind;
    uint8_t escape; // 0: none
};

static bool is_run(const struct matcher *m, struct slice pattern)
{
    return pattern.len > 0 && pattern.p[0] == (m->kind == EXPR_GLOB ? '*' : '%') && (m->escape != pattern.p[0]);
}

// One element of the pattern that is not a run, against what the text begins with. False: does not match. The lengths of
// both are given back.
static bool match_one(const struct matcher *m, struct slice pattern, struct slice text, size_t *ret_pattern,
                      size_t *ret_text)
{
    uint8_t c = pattern.p[0];
    *ret_pattern = 1;
    *ret_text = 1;
    if (m->kind == EXPR_GLOB && c == '[') {
        bool in = false;
        *ret_pattern = class_match(pattern, code_point(text), &in);
        *ret_text = char_len(text);
        return in && *ret_pattern > 0;
    }
    if (m->kind != EXPR_GLOB && m->escape != 0 && c == m->escape && pattern.len > 1) {
        c = pattern.p[1];
        *ret_pattern = 2;
    } else if (c == (m->kind == EXPR_GLOB ? '?' : '_') && (m->kind == EXPR_GLOB || c != m->escape)) {
        *ret_text = char_len(text);
        return true;
    }
    return c == text.p[0] || (m->kind == EXPR_ILIKE && fold(c) == fold(text.p[0]));
}

// Only the last run is ever taken back: what stands before it has matched as early as possible, and that cannot be bettered.
bool expr_like_match(enum expr_like kind, struct slice pattern, uint8_t escape, struct slice text, uint64_t steps_max,
                     uint64_t *ret_steps)
{
    const struct matcher m = {kind, escape};
    struct slice after_run = {0}; // pattern behind the last run
    struct slice retry = {0};     // where the text would go on if that run were longer
    bool has_run = false;
    uint64_t steps = 0;
    for (; steps <= steps_max; steps++) {
        size_t np;
        size_t nt;
        if (is_run(&m, pattern)) {
            pattern = slice_from(pattern, 1);
            after_run = pattern;
            retry = text;
            has_run = true;
            if (pattern.len == 0) {
                text = slice_from(text, text.len);
                break;
            }
        } else if (pattern.len > 0 && text.len > 0 && match_one(&m, pattern, text, &np, &nt)) {
            pattern = slice_from(pattern, np);
            text = slice_from(text, nt);
        } else if (has_run && retry.len > 0 && text.len > 0) {
            retry = slice_from(retry, char_len(retry));
            text = retry;
            pattern = after_run;
        } else {
            break;
        }
    }
    *ret_steps = steps;
    return steps <= steps_max && text.len == 0 && pattern.len == 0;
}
