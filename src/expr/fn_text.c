#include "expr/fn_priv.h"

static struct slice text_of(const struct expr_value *v)
{
    return expr_value_slice(v);
}

// The text with every capital (or small) ASCII letter changed.
static struct expr_value change_case(struct expr_call *c, struct slice s, uint8_t first, uint8_t last)
{
    size_t at = c->scratch->len;
    c->steps += s.len / 16;
    for (size_t i = 0; i < s.len; i++) {
        buf_u8(c->scratch, s.p[i] >= first && s.p[i] <= last ? s.p[i] ^ 0x20 : s.p[i]);
    }
    return c->scratch->failed ? expr_null() : expr_text(slice_make(c->scratch->p + at, s.len));
}

struct expr_value fn_lower(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    return change_case(c, text_of(&args[0]), 'A', 'Z');
}

struct expr_value fn_upper(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    return change_case(c, text_of(&args[0]), 'a', 'z');
}

struct expr_value fn_length(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    c->steps += args[0].len / 16;
    return expr_int((int64_t)expr_text_chars(text_of(&args[0])));
}

// Characters from `start` (the first is 1), as in SQL: what lies before the first counts but is not there.
struct expr_value fn_substr(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    struct slice s = text_of(&args[0]);
    int64_t start = args[1].i;
    int64_t end = INT64_MAX;
    c->steps += s.len / 16;
    if (n == 3 && (args[2].i < 0 || __builtin_add_overflow(start, args[2].i, &end))) {
        if (args[2].i < 0) {
            return expr_null();
        }
        end = INT64_MAX;
    }
    int64_t first = start > 1 ? start : 1;
    if (end <= first) {
        return expr_text(slice_head(s, 0));
    }
    s = slice_from(s, expr_text_offset(s, (uint64_t)(first - 1)));
    return expr_text(slice_head(s, expr_text_offset(s, (uint64_t)(end - first))));
}

static struct expr_value trimmed(struct slice s, bool left, bool right)
{
    while (left && s.len > 0 && s.p[0] == ' ') {
        s = slice_from(s, 1);
    }
    while (right && s.len > 0 && s.p[s.len - 1] == ' ') {
        s = slice_head(s, s.len - 1);
    }
    return expr_text(s);
}

struct expr_value fn_trim(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return trimmed(text_of(&args[0]), true, true);
}

struct expr_value fn_ltrim(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return trimmed(text_of(&args[0]), true, false);
}

struct expr_value fn_rtrim(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return trimmed(text_of(&args[0]), false, true);
}

// Where `part` first stands in s; s.len when it does not. memmem is linear.
static size_t find(struct slice s, struct slice part)
{
    const uint8_t *at = s.len > 0 ? memmem(s.p, s.len, part.p, part.len) : NULL;
    return at != NULL ? (size_t)(at - s.p) : s.len;
}

struct expr_value fn_replace(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    struct slice s = text_of(&args[0]);
    struct slice what = text_of(&args[1]);
    size_t first = c->scratch->len;
    c->steps += s.len / 16;
    if (what.len == 0) {
        return args[0];
    }
    while (s.len > 0) {
        size_t at = find(s, what);
        buf_slice(c->scratch, slice_head(s, at));
        if (at < s.len) {
            buf_slice(c->scratch, text_of(&args[2]));
        }
        s = slice_from(s, at + what.len);
    }
    return c->scratch->failed ? expr_null() : expr_text(slice_make(c->scratch->p + first, c->scratch->len - first));
}

struct expr_value fn_starts_with(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_bool(slice_starts(text_of(&args[0]), text_of(&args[1])));
}

struct expr_value fn_ends_with(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    struct slice s = text_of(&args[0]);
    struct slice end = text_of(&args[1]);
    return expr_bool(s.len >= end.len && slice_eq(slice_from(s, s.len - end.len), end));
}

struct expr_value fn_contains(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    struct slice s = text_of(&args[0]);
    c->steps += s.len / 16;
    return expr_bool(args[1].len == 0 || find(s, text_of(&args[1])) < s.len);
}

struct expr_value fn_position(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    struct slice s = text_of(&args[0]);
    c->steps += s.len / 16;
    size_t at = args[1].len == 0 ? 0 : find(s, text_of(&args[1]));
    bool found = args[1].len == 0 || at < s.len;
    return expr_int(found ? (int64_t)expr_text_chars(slice_head(s, at)) + 1 : 0);
}

struct expr_value fn_split_part(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    struct slice s = text_of(&args[0]);
    struct slice by = text_of(&args[1]);
    c->steps += s.len / 16;
    if (by.len == 0 || args[2].i < 1) {
        return expr_null();
    }
    for (int64_t i = args[2].i; i > 1; i--) {
        size_t at = find(s, by);
        if (at == s.len) {
            return expr_null();
        }
        s = slice_from(s, at + by.len);
    }
    return expr_text(slice_head(s, find(s, by)));
}

struct expr_value fn_concat(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    size_t first = c->scratch->len;
    for (unsigned i = 0; i < n; i++) {
        c->steps += args[i].len / 16;
        buf_slice(c->scratch, text_of(&args[i]));
    }
    return c->scratch->failed ? expr_null() : expr_text(slice_make(c->scratch->p + first, c->scratch->len - first));
}
