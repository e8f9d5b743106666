#include "domain/telemetry/payload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/map.h"

#define BLOCK_MIN      (64u << 10)
#define BLOCK_KEEP_MAX (256u << 10)
#define POINTS_CAP_MIN 64u
#define GROUPS_CAP_MIN 16u

// --- memory ------------------------------------------------------------------------------------------------------

struct payload_block {
    struct payload_block *next;
    size_t cap, used;
    uint8_t bytes[];
};

static uint8_t *take(struct payload *p, size_t n)
{
    struct payload_block *b = p->blocks;
    if (b == NULL || b->cap - b->used < n) {
        size_t cap = n > BLOCK_MIN ? n : BLOCK_MIN;
        b = malloc(sizeof(*b) + cap);
        if (b == NULL) {
            return NULL;
        }
        b->next = p->blocks;
        b->cap = cap;
        b->used = 0;
        p->blocks = b;
        p->bytes += cap;
    }
    uint8_t *at = b->bytes + b->used;
    b->used += n;
    return at;
}

struct slice payload_copy(struct payload *p, struct slice s)
{
    uint8_t *at = take(p, s.len > 0 ? s.len : 1);
    if (at == NULL) {
        return (struct slice){NULL, 0};
    }
    struct buf b = buf_fixed(at, s.len);
    buf_slice(&b, s);
    return slice_make(at, s.len);
}

static void free_blocks(struct payload_block *b)
{
    while (b != NULL) {
        struct payload_block *next = b->next;
        free(b);
        b = next;
    }
}

void payload_clear(struct payload *p)
{
    p->points_len = 0;
    p->groups_len = 0;
    struct payload_block *b = p->blocks;
    if (b != NULL) {
        free_blocks(b->next);
        b->next = NULL;
        b->used = 0;
        if (b->cap > BLOCK_KEEP_MAX) {
            free(b);
            b = NULL;
        }
    }
    p->blocks = b;
    p->bytes = b != NULL ? b->cap : 0;
}

void payload_release(struct payload *p)
{
    free(p->points);
    free(p->groups);
    free(p->slots);
    free_blocks(p->blocks);
    *p = (struct payload){0};
}

size_t payload_memory(const struct payload *p)
{
    return p->bytes + p->points_cap * sizeof(*p->points) + p->groups_cap * sizeof(*p->groups);
}

static bool points_room(struct payload *p)
{
    if (p->points_len < p->points_cap) {
        return true;
    }
    uint32_t cap = p->points_cap > 0 ? p->points_cap * 2 : POINTS_CAP_MIN;
    struct payload_point *more = reallocarray(p->points, cap, sizeof(*more));
    if (more == NULL) {
        return false;
    }
    p->points = more;
    p->points_cap = cap;
    return true;
}

// Names of the record being read: open addressing, at most half full, emptied by counting the generation up.
#define SLOTS 2048u
_Static_assert(SLOTS >= 2 * PAYLOAD_POINTS_MAX, "the table of names must stay half empty");
struct payload_slot {
    uint32_t generation;
    uint32_t point;
};

static bool next_generation(struct payload *p)
{
    if (p->slots == NULL || p->generation == UINT32_MAX) {
        free(p->slots);
        p->slots = calloc(SLOTS, sizeof(*p->slots));
        p->generation = 0;
    }
    p->generation++;
    return p->slots != NULL;
}

// The point of this record with the same name, or `fresh` after noting it under its name.
static uint32_t find_or_note(struct payload *p, uint32_t fresh)
{
    const struct payload_point *pt = &p->points[fresh];
    for (uint32_t i = (uint32_t)pt->hash;; i++) {
        struct payload_slot *s = &p->slots[i % SLOTS];
        if (s->generation != p->generation) {
            *s = (struct payload_slot){p->generation, fresh};
            return fresh;
        }
        if (p->points[s->point].hash == pt->hash && slice_eq(p->points[s->point].metric, pt->metric)) {
            return s->point;
        }
    }
}

static bool groups_room(struct payload *p)
{
    if (p->groups_len < p->groups_cap) {
        return true;
    }
    uint32_t cap = p->groups_cap > 0 ? p->groups_cap * 2 : GROUPS_CAP_MIN;
    struct payload_group *more = reallocarray(p->groups, cap, sizeof(*more));
    if (more == NULL) {
        return false;
    }
    p->groups = more;
    p->groups_cap = cap;
    return true;
}

// --- decoding ----------------------------------------------------------------------------------------------------

struct decoder {
    struct json json;
    struct payload *out;
    int64_t now_us;
    uint32_t points_before; // of this message's first point
    int record;             // index in the array; -1: the message is one record
    // The way to the value being read, as raw keys: for pointers.
    struct slice path[PAYLOAD_DEPTH_MAX + 1];
    unsigned path_len;
    // Its name. Joined names stand in `name`, plain ones in the message.
    struct slice metric;
    char name[TS_METRIC_MAX];
    size_t prefix[PAYLOAD_DEPTH_MAX]; // bytes of `name` before the key, per level
    struct err *err;
};

// The record being read.
struct record {
    int64_t ts_us;
    uint32_t first;
    bool has_ts, has_values, has_plain;
};

static void write_pointer(const struct decoder *d, char *dst, size_t size)
{
    struct buf b = buf_fixed(dst, size - 1);
    if (d->record >= 0) {
        buf_printf(&b, "/%d", d->record);
    }
    for (unsigned i = 0; i < d->path_len; i++) {
        buf_u8(&b, '/');
        for (size_t k = 0; k < d->path[i].len; k++) {
            uint8_t c = d->path[i].p[k];
            if (c == '~' || c == '/') {
                buf_str(&b, c == '~' ? "~0" : "~1");
            } else {
                buf_u8(&b, c);
            }
        }
    }
    dst[b.len] = '\0';
}

// Refuses the message for what stands at the end of the path.
static enum status refuse(const struct decoder *d, enum status code, const char *text)
{
    char where[sizeof(d->err->where)];
    write_pointer(d, where, sizeof(where));
    return err_at(d->err, code, where, "%s", text);
}

static enum status malformed(const struct decoder *d)
{
    return err_set(d->err, ST_MALFORMED, "not valid JSON: %s at byte %zu",
                   d->json.error != NULL ? d->json.error : "unexpected token", d->json.off);
}

static enum json_token next(struct decoder *d)
{
    return json_next(&d->json);
}

// The JSON reader lets no control byte through but DEL; only an escape can make the others.
static bool printable(struct slice s, bool escaped)
{
    if (!escaped) {
        return memchr(s.p, 0x7f, s.len) == NULL;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 0x20 || s.p[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

// d->metric is the name so far; `key` the part of it that is new.
static enum status check_name(struct decoder *d, struct slice key)
{
    if (key.len == 0) {
        return refuse(d, ST_INVALID, "a metric name may not be empty");
    }
    if (!printable(d->json.escaped ? d->metric : key, d->json.escaped)) {
        return refuse(d, ST_INVALID, "a metric name may not have control characters");
    }
    return ST_OK;
}

// The name of the member just read, whose objects above take the first `prefix` bytes of d->name.
static enum status set_name(struct decoder *d, size_t prefix)
{
    struct slice key = d->json.str;
    d->path[d->path_len - 1] = key;
    if (prefix == 0 && !d->json.escaped) {
        d->metric = key;
        return key.len <= TS_METRIC_MAX ? check_name(d, key)
                                        : refuse(d, ST_INVALID, "a metric name has at most 128 bytes");
    }
    struct buf b = buf_fixed(d->name, sizeof(d->name));
    b.len = prefix;
    bool ok = d->json.escaped ? json_unescape(key, &b) : buf_slice(&b, key);
    if (b.failed) {
        return refuse(d, ST_INVALID, "a metric name has at most 128 bytes, dots included");
    }
    if (!ok) {
        return refuse(d, ST_MALFORMED, "the name has a broken escape");
    }
    d->metric = slice_make(d->name, b.len);
    return check_name(d, key);
}

static enum status set_string(struct decoder *d, struct ts_value *v)
{
    struct slice s = d->json.str;
    if (d->json.escaped) {
        uint8_t *mem = take(d->out, s.len > 0 ? s.len : 1); // unescaping never makes it longer
        if (mem == NULL) {
            return err_set(d->err, ST_NOMEM, "no memory for the message");
        }
        struct buf b = buf_fixed(mem, s.len);
        if (!json_unescape(s, &b)) {
            return refuse(d, ST_MALFORMED, "the string has a broken escape");
        }
        s = buf_view(&b);
    }
    if (s.len > PAYLOAD_STRING_MAX) {
        return refuse(d, ST_INVALID, "a string value has at most 1,024 bytes");
    }
    v->type = TS_STRING;
    v->s = s;
    return ST_OK;
}

static enum status set_value(struct decoder *d, enum json_token tok, struct ts_value *v)
{
    switch (tok) {
    case JT_INT:
        v->type = TS_INT;
        v->i = d->json.i;
        return ST_OK;
    case JT_DOUBLE:
        v->type = TS_DOUBLE;
        v->f = d->json.d;
        return ST_OK;
    case JT_TRUE:
    case JT_FALSE:
        v->type = TS_BOOL;
        v->b = tok == JT_TRUE;
        return ST_OK;
    case JT_STRING:
        return set_string(d, v);
    case JT_NULL:
    case JT_ARRAY:
        return refuse(d, ST_INVALID, "a value is a number, true, false or a string");
    case JT_ERROR:
    case JT_END:
    case JT_OBJECT:
    case JT_OBJECT_END:
    case JT_ARRAY_END:
    case JT_KEY:
        break;
    }
    return malformed(d);
}

static enum status put_value(struct decoder *d, enum json_token tok)
{
    struct payload *out = d->out;
    if (out->points_len - d->points_before == PAYLOAD_POINTS_MAX) {
        return refuse(d, ST_TOO_LARGE, "a message has at most 1,000 values");
    }
    if (!points_room(out)) {
        return err_set(d->err, ST_NOMEM, "no memory for the message");
    }
    struct payload_point *pt = &out->points[out->points_len];
    enum status st = set_value(d, tok, &pt->value);
    if (st != ST_OK) {
        return st;
    }
    pt->metric = d->metric;
    if (d->metric.p == (const uint8_t *)d->name) {
        pt->metric = payload_copy(out, d->metric);
        if (pt->metric.p == NULL) {
            return err_set(d->err, ST_NOMEM, "no memory for the message");
        }
    }
    pt->hash = hash_bytes(pt->metric);
    uint32_t at = find_or_note(out, out->points_len);
    if (at != out->points_len) {
        out->points[at].value = pt->value;
    } else {
        out->points_len++;
    }
    return ST_OK;
}

// Goes down into the object behind the member just named. *depth counts the parts of the name so far.
static enum status go_down(struct decoder *d, unsigned *depth)
{
    if (*depth + 1 >= PAYLOAD_DEPTH_MAX) {
        return refuse(d, ST_INVALID, "objects are nested more than 8 deep");
    }
    struct buf b = buf_fixed(d->name, sizeof(d->name));
    if (d->metric.p == (const uint8_t *)d->name) {
        b.len = d->metric.len; // it stands there already
    } else {
        buf_slice(&b, d->metric);
    }
    buf_u8(&b, '.');
    if (b.failed) {
        return refuse(d, ST_INVALID, "a metric name has at most 128 bytes, dots included");
    }
    (*depth)++;
    d->prefix[*depth] = b.len;
    d->path_len++;
    return ST_OK;
}

// Reads members up to the '}' of the object that was open at `base`; those of objects below it get joined names.
static enum status read_members(struct decoder *d, unsigned base)
{
    unsigned depth = base;
    for (;;) {
        enum json_token tok = next(d);
        if (tok == JT_OBJECT_END) {
            d->path_len--;
            if (depth == base) {
                return ST_OK;
            }
            depth--;
            continue;
        }
        if (tok != JT_KEY) {
            return malformed(d);
        }
        enum status st = set_name(d, d->prefix[depth]);
        if (st != ST_OK) {
            return st;
        }
        tok = next(d);
        st = tok == JT_OBJECT ? go_down(d, &depth) : put_value(d, tok);
        if (st != ST_OK) {
            return st;
        }
    }
}

static enum status read_time(struct decoder *d, struct record *r)
{
    enum json_token tok = next(d);
    bool ok = false;
    int64_t us = 0;
    int64_t max_us = d->now_us + PAYLOAD_AHEAD_US;
    switch (tok) {
    case JT_INT:
        ok = d->json.i >= 0 && d->json.i <= max_us / 1000;
        us = ok ? d->json.i * 1000 : 0;
        break;
    case JT_DOUBLE:
        ok = d->json.d >= 0 && d->json.d <= (double)max_us / 1000;
        us = ok ? llround(d->json.d * 1000) : 0;
        break;
    case JT_STRING:
        if (!clock_parse(d->json.str, &us)) {
            return refuse(d, ST_INVALID, "a time is epoch milliseconds or RFC 3339 text");
        }
        ok = us >= 0 && us <= max_us;
        break;
    case JT_ERROR:
        return malformed(d);
    default:
        return refuse(d, ST_INVALID, "a time is epoch milliseconds or RFC 3339 text");
    }
    if (!ok) {
        return refuse(d, ST_INVALID, "a time lies between 1970 and one day from now");
    }
    r->ts_us = us;
    r->has_ts = true;
    return ST_OK;
}

static enum status read_plain(struct decoder *d, struct record *r, enum json_token tok)
{
    r->has_plain = true;
    if (r->has_values) {
        return refuse(d, ST_INVALID, "only \"ts\" may stand beside \"values\"");
    }
    if (tok != JT_OBJECT) {
        return put_value(d, tok);
    }
    unsigned depth = 0;
    enum status st = go_down(d, &depth);
    return st == ST_OK ? read_members(d, depth) : st;
}

static enum status read_values(struct decoder *d, struct record *r)
{
    if (r->has_values || r->has_plain) {
        return refuse(d, ST_INVALID,
                      r->has_values ? "\"values\" is there twice" : "only \"ts\" may stand beside \"values\"");
    }
    r->has_values = true;
    d->path_len++;
    return read_members(d, 0);
}

// One member of a record, whose key was just read.
static enum status read_member(struct decoder *d, struct record *r)
{
    d->path_len = 1;
    d->path[0] = d->json.str;
    if (!d->json.escaped && slice_eq(d->json.str, SLICE("ts"))) {
        return r->has_ts ? refuse(d, ST_INVALID, "\"ts\" is there twice") : read_time(d, r);
    }
    bool values = !d->json.escaped && slice_eq(d->json.str, SLICE("values"));
    enum status st = set_name(d, 0);
    if (st != ST_OK) {
        return st;
    }
    enum json_token tok = next(d);
    return values && tok == JT_OBJECT ? read_values(d, r) : read_plain(d, r, tok);
}

static enum status end_record(struct decoder *d, const struct record *r)
{
    struct payload *out = d->out;
    if (r->has_ts && !r->has_values) {
        d->path_len = 1;
        d->path[0] = SLICE("ts");
        return refuse(d, ST_INVALID, "\"ts\" stands beside \"values\": {\"ts\": ..., \"values\": {...}}");
    }
    d->path_len = 0;
    if (out->points_len == r->first) {
        return refuse(d, ST_INVALID, "there are no values");
    }
    if (!groups_room(out)) {
        return err_set(d->err, ST_NOMEM, "no memory for the message");
    }
    out->groups[out->groups_len++] =
        (struct payload_group){.ts_us = r->ts_us, .first = r->first, .len = out->points_len - r->first};
    return ST_OK;
}

// Behind the '{' of a record, up to its '}'.
static enum status read_record(struct decoder *d)
{
    struct record r = {.ts_us = PAYLOAD_NO_TIME, .first = d->out->points_len};
    if (!next_generation(d->out)) {
        return err_set(d->err, ST_NOMEM, "no memory for the message");
    }
    for (;;) {
        enum json_token tok = next(d);
        if (tok == JT_OBJECT_END) {
            return end_record(d, &r);
        }
        if (tok != JT_KEY) {
            return malformed(d);
        }
        enum status st = read_member(d, &r);
        if (st != ST_OK) {
            return st;
        }
    }
}

static enum status read_records(struct decoder *d)
{
    for (d->record = 0;; d->record++) {
        d->path_len = 0;
        enum json_token tok = next(d);
        if (tok == JT_ARRAY_END) {
            return d->record > 0 ? ST_OK : err_set(d->err, ST_INVALID, "the array is empty: there are no values");
        }
        if (tok == JT_ERROR) {
            return malformed(d);
        }
        if (tok != JT_OBJECT) {
            return refuse(d, ST_INVALID, "telemetry is an object, or an array of objects");
        }
        enum status st = read_record(d);
        if (st != ST_OK) {
            return st;
        }
    }
}

static enum status read_message(struct decoder *d)
{
    enum status st = ST_OK;
    switch (next(d)) {
    case JT_OBJECT:
        st = read_record(d);
        break;
    case JT_ARRAY:
        st = read_records(d);
        break;
    case JT_ERROR:
        return malformed(d);
    default:
        return err_set(d->err, ST_INVALID, "telemetry is an object, or an array of objects");
    }
    if (st == ST_OK && next(d) != JT_END) {
        st = malformed(d);
    }
    return st;
}

enum status payload_decode(struct payload *p, struct slice json, int64_t now_us, struct err *err)
{
    struct decoder d;
    json_init(&d.json, json, JSON_DEPTH_MAX);
    d.out = p;
    d.now_us = now_us;
    d.points_before = p->points_len;
    d.record = -1;
    d.path_len = 0;
    d.prefix[0] = 0;
    d.err = err;
    uint32_t groups_before = p->groups_len;
    enum status st = read_message(&d);
    if (st != ST_OK) {
        p->points_len = d.points_before;
        p->groups_len = groups_before;
    }
    return st;
}
