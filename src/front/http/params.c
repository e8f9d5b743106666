#include "front/http/params.h"

#include <stdio.h>

#include "base/reader.h"
#include "base/utf8.h"

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The next decoded byte, or -1 when the escape is broken.
static int decode_byte(struct reader *r, bool plus)
{
    uint8_t c = rd_u8(r);
    if (c == '+' && plus) {
        return ' ';
    }
    if (c != '%') {
        return c;
    }
    int hi = hex_digit(rd_u8(r));
    int lo = hex_digit(rd_u8(r));
    return r->failed || hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

enum status percent_decode(struct arena *arena, struct slice text, bool plus, struct slice *ret)
{
    uint8_t *dst = arena_alloc(arena, text.len + 1); // decoding never makes it longer
    if (dst == NULL) {
        return ST_NOMEM;
    }
    struct buf out = buf_fixed(dst, text.len + 1);
    struct reader r = reader_make(text);
    while (reader_left(&r) > 0) {
        int c = decode_byte(&r, plus);
        if (c <= 0) {
            return ST_INVALID;
        }
        buf_u8(&out, (uint8_t)c);
    }
    *ret = slice_make(dst, out.len);
    return utf8_valid(*ret) ? ST_OK : ST_INVALID;
}

static enum status no_memory(struct err *err)
{
    return err_set(err, ST_NOMEM, "no memory for the parameters; try again later");
}

static enum status check_string(const struct api_param_def *d, struct slice v, struct err *err)
{
    if (v.len < d->min_len || v.len > d->max_len) {
        return err_at(err, ST_INVALID, d->name, "has %zu bytes; allowed: %u to %u", v.len, d->min_len, d->max_len);
    }
    if (!format_check(d->format, v)) {
        return err_at(err, ST_INVALID, d->name, "allowed: %s", format_allowed(d->format));
    }
    if (d->choices_len == 0) {
        return ST_OK;
    }
    char allowed[240];
    struct buf b = buf_fixed(allowed, sizeof(allowed) - 1);
    for (unsigned i = 0; i < d->choices_len; i++) {
        if (slice_eq_str(v, d->choices[i])) {
            return ST_OK;
        }
        buf_printf(&b, "%s%s", i > 0 ? ", " : "", d->choices[i]);
    }
    allowed[b.len] = '\0';
    return err_at(err, ST_INVALID, d->name, "is not one of the allowed: %s", allowed);
}

static bool parse_int(struct slice v, int64_t *ret)
{
    bool negative = v.len > 0 && v.p[0] == '-';
    struct slice digits = slice_from(v, negative ? 1 : 0);
    if (digits.len == 0 || digits.len > 18) { // 18 digits always fit
        return false;
    }
    int64_t n = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9') {
            return false;
        }
        n = n * 10 + (digits.p[i] - '0');
    }
    *ret = negative ? -n : n;
    return true;
}

static enum status check_integer(const struct api_param_def *d, struct slice v, struct err *err)
{
    int64_t n = 0;
    if (parse_int(v, &n) && n >= d->minimum && n <= d->maximum) {
        return ST_OK;
    }
    if (d->minimum == INT64_MIN || d->maximum == INT64_MAX) {
        return err_at(err, ST_INVALID, d->name, "allowed: an integer%s", d->minimum == 0 ? ", not negative" : "");
    }
    return err_at(err, ST_INVALID, d->name, "allowed: an integer from %lld to %lld", (long long)d->minimum,
                  (long long)d->maximum);
}

static enum status check_boolean(const struct api_param_def *d, struct slice v, struct err *err)
{
    if (v.len == 0 || slice_eq(v, SLICE("true")) || slice_eq(v, SLICE("false"))) {
        return ST_OK; // "?count" alone is true
    }
    return err_at(err, ST_INVALID, d->name, "allowed: true or false");
}

static enum status check_time(const struct api_param_def *d, struct slice v, struct err *err)
{
    return format_check(FORMAT_TIME, v) ? ST_OK
                                        : err_at(err, ST_INVALID, d->name, "allowed: %s", format_allowed(FORMAT_TIME));
}

static enum status check_duration(const struct api_param_def *d, struct slice v, struct err *err)
{
    return format_check(FORMAT_DURATION, v)
               ? ST_OK
               : err_at(err, ST_INVALID, d->name, "allowed: %s", format_allowed(FORMAT_DURATION));
}

static enum status check_param(const struct api_param_def *d, struct slice v, struct err *err)
{
    static enum status (*const checks[])(const struct api_param_def *, struct slice, struct err *) = {
        [API_STRING] = check_string, [API_INTEGER] = check_integer,   [API_BOOLEAN] = check_boolean,
        [API_TIME] = check_time,     [API_DURATION] = check_duration,
    };
    return checks[d->type](d, v, err);
}

static enum status take(const struct api_param_def *d, struct slice raw, bool plus, struct arena *arena,
                        struct slice *ret, struct err *err)
{
    struct slice v;
    enum status st = percent_decode(arena, raw, plus, &v);
    if (st == ST_NOMEM) {
        return no_memory(err);
    }
    if (st != ST_OK) {
        return err_at(err, ST_INVALID, d->name, "allowed: UTF-8 text, percent-encoded, without NUL");
    }
    *ret = v;
    return check_param(d, v, err);
}

static int query_param(const struct api_op *op, struct slice name)
{
    for (int i = 0; i < op->params_len; i++) {
        if (!op->params[i].in_path && slice_eq_str(name, op->params[i].name)) {
            return i;
        }
    }
    return -1;
}

static enum status unknown_param(const struct api_op *op, struct slice name, struct err *err)
{
    char known[240];
    struct buf b = buf_fixed(known, sizeof(known) - 1);
    for (int i = 0; i < op->params_len; i++) {
        if (!op->params[i].in_path) {
            buf_printf(&b, "%s%s", b.len > 0 ? ", " : "", op->params[i].name);
        }
    }
    known[b.len] = '\0';
    char where[64];
    snprintf(where, sizeof(where), SLICE_FMT, SLICE_ARG(slice_head(name, sizeof(where) - 1)));
    return err_at(err, ST_INVALID, where, "is not a parameter of this operation; allowed: %s",
                  known[0] != '\0' ? known : "none");
}

// One "name=value" of the query.
static enum status take_pair(const struct api_op *op, struct slice pair, struct arena *arena, struct slice *params,
                             struct err *err)
{
    size_t eq = 0;
    while (eq < pair.len && pair.p[eq] != '=') {
        eq++;
    }
    struct slice name;
    enum status st = percent_decode(arena, slice_head(pair, eq), true, &name);
    if (st == ST_NOMEM) {
        return no_memory(err);
    }
    if (st != ST_OK) {
        return err_set(err, ST_INVALID, "the query has a parameter name that cannot be decoded");
    }
    int i = query_param(op, name);
    if (i < 0) {
        return unknown_param(op, name, err);
    }
    if (params[i].p != NULL) {
        return err_at(err, ST_INVALID, op->params[i].name, "is there twice; allowed: once");
    }
    return take(&op->params[i], slice_from(pair, eq + 1), true, arena, &params[i], err);
}

static enum status take_query(const struct api_op *op, struct slice query, struct arena *arena, struct slice *params,
                              struct err *err)
{
    while (query.len > 0) {
        size_t n = 0;
        while (n < query.len && query.p[n] != '&') {
            n++;
        }
        struct slice pair = slice_head(query, n);
        query = slice_from(query, n + 1);
        enum status st = pair.len > 0 ? take_pair(op, pair, arena, params, err) : ST_OK;
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

enum status params_read(const struct api_op *op, const struct api_match *route, struct slice query, struct arena *arena,
                        struct slice params[API_PARAMS_MAX], struct err *err)
{
    for (int i = 0; i < op->params_len; i++) {
        params[i] = (struct slice){NULL, 0};
        if (op->params[i].in_path) {
            enum status st =
                take(&op->params[i], route->segments[op->params[i].segment], false, arena, &params[i], err);
            if (st != ST_OK) {
                return st;
            }
        }
    }
    enum status st = take_query(op, query, arena, params, err);
    for (int i = 0; i < op->params_len && st == ST_OK; i++) {
        if (op->params[i].required && params[i].p == NULL) {
            st = err_at(err, ST_INVALID, op->params[i].name, "is missing");
        }
    }
    return st;
}
