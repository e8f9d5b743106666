#include "proto/cbor.h"

#include <cbor.h>
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/reader.h"
#include "base/utf8.h"

#define CBOR_TAG_SELF_DESCRIBED 55799
#define EPOCH_S_MIN             (-62167219200.0) // the year 0
#define EPOCH_S_MAX             253402300799.0   // the end of the year 9999

// What an item is, as far as its place cares.
enum cbor_kind { CK_NUMBER, CK_TEXT, CK_OTHER };

// What is open:
//
//   LIST --value--> LIST           MAP_KEY --text--> MAP_VALUE --value--> MAP_KEY
//   TEXT --text chunk--> TEXT      BYTES --byte chunk--> BYTES
//   a definite LIST or MAP_KEY closes when nothing remains; an indefinite LIST, MAP_KEY, TEXT or BYTES at a break
enum cbor_place { CP_TOP, CP_LIST, CP_MAP_KEY, CP_MAP_VALUE, CP_TEXT, CP_BYTES };

struct cbor_level {
    enum cbor_place place;
    bool indefinite;
    uint64_t remaining; // values, or pairs of key and value
};

// What the tag just read wants of its content.
enum cbor_want { CW_ANY, CW_TEXT, CW_NUMBER };

struct cbor_run {
    struct jw w;
    struct buf chunks;                           // of an indefinite string, and base64url text
    struct cbor_level level[JSON_DEPTH_MAX + 2]; // [0] is the top; one more than containers for a chunked string
    unsigned depth;
    unsigned containers;
    unsigned depth_max;
    unsigned items_max;
    enum cbor_want want;
    bool tagged;  // a tag waits for its content
    bool written; // the one item of the top is complete
    enum status status;
    const char *problem; // static text
};

static void cbor_fail(struct cbor_run *r, enum status status, const char *problem)
{
    if (r->status == ST_OK) {
        r->status = status;
        r->problem = problem;
    }
}

static struct cbor_level *cbor_top(struct cbor_run *r)
{
    return &r->level[r->depth];
}

// May an item of this kind stand here? Called before anything is written for it.
static bool cbor_accept(struct cbor_run *r, enum cbor_kind kind)
{
    enum cbor_place place = cbor_top(r)->place;
    if (place == CP_TEXT || place == CP_BYTES) {
        cbor_fail(r, ST_MALFORMED, "an indefinite string holds something else than chunks of its kind");
    } else if (place == CP_MAP_KEY && kind != CK_TEXT) {
        cbor_fail(r, ST_INVALID, "a map key must be text");
    } else if (r->want == CW_TEXT && kind != CK_TEXT) {
        cbor_fail(r, ST_INVALID, "tag 0 must hold text");
    } else if (r->want == CW_NUMBER && kind != CK_NUMBER) {
        cbor_fail(r, ST_INVALID, "tag 1 must hold a number");
    }
    r->want = CW_ANY;
    r->tagged = false;
    return r->status == ST_OK;
}

// A value (or key) is complete: moves on in what surrounds it and closes definite containers that are used up.
static void cbor_complete(struct cbor_run *r)
{
    for (;;) {
        struct cbor_level *l = cbor_top(r);
        if (l->place == CP_TOP) {
            r->written = true;
            return;
        }
        if (l->place == CP_MAP_KEY) {
            l->place = CP_MAP_VALUE;
            return;
        }
        bool map = l->place == CP_MAP_VALUE;
        l->place = map ? CP_MAP_KEY : CP_LIST;
        if (l->indefinite || --l->remaining > 0) {
            return;
        }
        if (map) {
            jw_object_end(&r->w);
        } else {
            jw_array_end(&r->w);
        }
        r->depth--;
        r->containers--;
    }
}

static void cbor_open(struct cbor_run *r, enum cbor_place place, bool indefinite, uint64_t count)
{
    if (!cbor_accept(r, CK_OTHER)) {
        return;
    }
    if (r->containers >= r->depth_max) {
        cbor_fail(r, ST_TOO_LARGE, "nested too deeply");
        return;
    }
    if (count > r->items_max) {
        cbor_fail(r, ST_TOO_LARGE, "too many items");
        return;
    }
    bool map = place == CP_MAP_KEY;
    if (map) {
        jw_object(&r->w);
    } else {
        jw_array(&r->w);
    }
    if (!indefinite && count == 0) {
        if (map) {
            jw_object_end(&r->w);
        } else {
            jw_array_end(&r->w);
        }
        cbor_complete(r);
        return;
    }
    r->containers++;
    r->level[++r->depth] = (struct cbor_level){place, indefinite, count};
}

static void cbor_open_chunks(struct cbor_run *r, enum cbor_place place)
{
    if (cbor_accept(r, place == CP_TEXT ? CK_TEXT : CK_OTHER)) {
        buf_clear(&r->chunks);
        r->level[++r->depth] = (struct cbor_level){place, true, 0};
    }
}

// The text of a string item, which may be a key.
static void cbor_write_text(struct cbor_run *r, struct slice text)
{
    if (cbor_top(r)->place != CP_MAP_KEY) {
        jw_slice(&r->w, text.p != NULL ? text : SLICE(""));
    } else if (text.len > 0 && memchr(text.p, 0, text.len) != NULL) {
        cbor_fail(r, ST_INVALID, "a map key may not hold U+0000");
        return;
    } else {
        jw_key_slice(&r->w, text);
    }
    cbor_complete(r);
}

static void cbor_write_bytes(struct cbor_run *r, struct slice s)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct buf text = buf_heap(s.len / 3 * 4 + 4);
    for (struct reader in = reader_make(s); reader_left(&in) > 0;) {
        size_t n = reader_left(&in) < 3 ? reader_left(&in) : 3;
        uint32_t v = 0;
        for (size_t i = 0; i < 3; i++) {
            v = v << 8 | (i < n ? rd_u8(&in) : 0);
        }
        for (size_t i = 0; i <= n; i++) {
            buf_u8(&text, (uint8_t)alphabet[v >> (18 - 6 * i) & 63]);
        }
    }
    if (text.failed) {
        cbor_fail(r, ST_NOMEM, "no memory");
    } else {
        cbor_write_text(r, buf_view(&text));
    }
    buf_release(&text);
}

static void cbor_add_chunk(struct cbor_run *r, struct slice s)
{
    if (!buf_slice(&r->chunks, s)) {
        cbor_fail(r, ST_NOMEM, "no memory");
    }
}

static void on_text(void *arg, cbor_data p, size_t len)
{
    struct cbor_run *r = arg;
    struct slice s = slice_make(p, len);
    if (!utf8_valid(s)) {
        cbor_fail(r, ST_INVALID, "a text string is not valid UTF-8");
    } else if (cbor_top(r)->place == CP_TEXT) {
        cbor_add_chunk(r, s);
    } else if (cbor_accept(r, CK_TEXT)) {
        cbor_write_text(r, s);
    }
}

static void on_bytes(void *arg, cbor_data p, size_t len)
{
    struct cbor_run *r = arg;
    struct slice s = slice_make(p, len);
    if (cbor_top(r)->place == CP_BYTES) {
        cbor_add_chunk(r, s);
    } else if (cbor_accept(r, CK_OTHER)) {
        cbor_write_bytes(r, s);
    }
}

static void on_text_start(void *arg)
{
    cbor_open_chunks(arg, CP_TEXT);
}

static void on_bytes_start(void *arg)
{
    cbor_open_chunks(arg, CP_BYTES);
}

static void on_array(void *arg, size_t count)
{
    cbor_open(arg, CP_LIST, false, count);
}

static void on_map(void *arg, size_t count)
{
    cbor_open(arg, CP_MAP_KEY, false, count);
}

static void on_indef_array(void *arg)
{
    cbor_open(arg, CP_LIST, true, 0);
}

static void on_indef_map(void *arg)
{
    cbor_open(arg, CP_MAP_KEY, true, 0);
}

static void on_break(void *arg)
{
    struct cbor_run *r = arg;
    struct cbor_level *l = cbor_top(r);
    if (!l->indefinite || l->place == CP_MAP_VALUE || r->tagged) {
        cbor_fail(r, ST_MALFORMED, "a break where nothing can end");
        return;
    }
    enum cbor_place place = l->place;
    r->depth--;
    switch (place) {
    case CP_TEXT:
        cbor_write_text(r, buf_view(&r->chunks));
        return;
    case CP_BYTES:
        cbor_write_bytes(r, buf_view(&r->chunks));
        return;
    case CP_MAP_KEY:
        jw_object_end(&r->w);
        break;
    default:
        jw_array_end(&r->w);
        break;
    }
    r->containers--;
    cbor_complete(r);
}

// The number of tag 1 as text. A double tells microseconds apart until the year 2255.
static void cbor_time(struct cbor_run *r, double seconds)
{
    if (!(seconds >= EPOCH_S_MIN && seconds <= EPOCH_S_MAX)) {
        cbor_fail(r, ST_INVALID, "a time of tag 1 must be in the years 0 to 9999");
    } else if (cbor_accept(r, CK_NUMBER)) {
        char text[CLOCK_RFC3339_MAX];
        clock_rfc3339(llround(seconds * 1e6), text);
        jw_str(&r->w, text);
        cbor_complete(r);
    }
}

static void cbor_unsigned(struct cbor_run *r, uint64_t v)
{
    if (r->want == CW_NUMBER) {
        cbor_time(r, (double)v);
    } else if (cbor_accept(r, CK_NUMBER)) {
        jw_uint(&r->w, v);
        cbor_complete(r);
    }
}

// The value is -1 - v.
static void cbor_negative(struct cbor_run *r, uint64_t v)
{
    if (r->want == CW_NUMBER) {
        cbor_time(r, -1 - (double)v);
        return;
    }
    if (!cbor_accept(r, CK_NUMBER)) {
        return;
    }
    if (v <= INT64_MAX) {
        jw_int(&r->w, -1 - (int64_t)v);
    } else if (v == UINT64_MAX) {
        jw_raw(&r->w, SLICE("-18446744073709551616"));
    } else {
        char text[24];
        int n = snprintf(text, sizeof(text), "-%llu", (unsigned long long)v + 1);
        jw_raw(&r->w, slice_make(text, (size_t)n));
    }
    cbor_complete(r);
}

static void cbor_real(struct cbor_run *r, double v)
{
    if (!isfinite(v)) {
        cbor_fail(r, ST_INVALID, "NaN and Infinity are no JSON numbers");
    } else if (r->want == CW_NUMBER) {
        cbor_time(r, v);
    } else if (cbor_accept(r, CK_NUMBER)) {
        jw_double(&r->w, v);
        cbor_complete(r);
    }
}

static void on_uint8(void *arg, uint8_t v)
{
    cbor_unsigned(arg, v);
}

static void on_uint16(void *arg, uint16_t v)
{
    cbor_unsigned(arg, v);
}

static void on_uint32(void *arg, uint32_t v)
{
    cbor_unsigned(arg, v);
}

static void on_uint64(void *arg, uint64_t v)
{
    cbor_unsigned(arg, v);
}

static void on_negint8(void *arg, uint8_t v)
{
    cbor_negative(arg, v);
}

static void on_negint16(void *arg, uint16_t v)
{
    cbor_negative(arg, v);
}

static void on_negint32(void *arg, uint32_t v)
{
    cbor_negative(arg, v);
}

static void on_negint64(void *arg, uint64_t v)
{
    cbor_negative(arg, v);
}

static void on_float(void *arg, float v)
{
    cbor_real(arg, (double)v);
}

static void on_double(void *arg, double v)
{
    cbor_real(arg, v);
}

static void on_null(void *arg)
{
    struct cbor_run *r = arg;
    if (cbor_accept(r, CK_OTHER)) {
        jw_null(&r->w);
        cbor_complete(r);
    }
}

static void on_bool(void *arg, bool v)
{
    struct cbor_run *r = arg;
    if (cbor_accept(r, CK_OTHER)) {
        jw_bool(&r->w, v);
        cbor_complete(r);
    }
}

static void on_tag(void *arg, uint64_t tag)
{
    struct cbor_run *r = arg;
    enum cbor_place place = cbor_top(r)->place;
    if (place == CP_TEXT || place == CP_BYTES) {
        cbor_fail(r, ST_MALFORMED, "an indefinite string holds something else than chunks of its kind");
    } else if (r->want != CW_ANY || tag > CBOR_TAG_SELF_DESCRIBED || (tag > 1 && tag < CBOR_TAG_SELF_DESCRIBED)) {
        cbor_fail(r, ST_INVALID, "only the tags 0, 1 and 55799 are allowed");
    } else {
        r->want = tag == 0 ? CW_TEXT : tag == 1 ? CW_NUMBER : CW_ANY;
        r->tagged = true;
    }
}

static const struct cbor_callbacks cbor_handlers = {
    .uint8 = on_uint8,
    .uint16 = on_uint16,
    .uint32 = on_uint32,
    .uint64 = on_uint64,
    .negint8 = on_negint8,
    .negint16 = on_negint16,
    .negint32 = on_negint32,
    .negint64 = on_negint64,
    .byte_string_start = on_bytes_start,
    .byte_string = on_bytes,
    .string = on_text,
    .string_start = on_text_start,
    .indef_array_start = on_indef_array,
    .array_start = on_array,
    .indef_map_start = on_indef_map,
    .map_start = on_map,
    .tag = on_tag,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .undefined = on_null,
    .null = on_null,
    .boolean = on_bool,
    .indef_break = on_break,
};

// Feeds item after item to the handlers until the one of the top is complete; where it stopped in *ret_off.
static void cbor_feed(struct cbor_run *r, struct slice item, size_t *ret_off)
{
    size_t off = 0;
    for (unsigned items = 0; r->status == ST_OK && !r->written; items++) {
        *ret_off = off;
        struct slice rest = slice_from(item, off);
        if (items >= r->items_max) {
            cbor_fail(r, ST_TOO_LARGE, "too many items");
            return;
        }
        if (rest.len == 0) {
            cbor_fail(r, ST_MALFORMED, "cut short");
            return;
        }
        struct cbor_decoder_result got = cbor_stream_decode(rest.p, rest.len, &cbor_handlers, r);
        if (got.status != CBOR_DECODER_FINISHED) {
            cbor_fail(r, ST_MALFORMED, got.status == CBOR_DECODER_NEDATA ? "cut short" : "no such item");
        }
        if (r->w.out->failed) {
            cbor_fail(r, r->w.out->starved ? ST_NOMEM : ST_TOO_LARGE,
                      r->w.out->starved ? "no memory" : "the JSON text has no room");
        }
        off += got.read;
    }
    if (r->status == ST_OK && off < item.len) {
        *ret_off = off;
        cbor_fail(r, ST_MALFORMED, "more than one item");
    }
}

struct cbor_limits cbor_limits_default(void)
{
    return (struct cbor_limits){.depth_max = JSON_DEPTH_MAX, .items_max = 20000};
}

enum status cbor_to_json(struct slice item, const struct cbor_limits *limits, struct buf *out, struct err *err)
{
    struct cbor_run r = {
        .depth_max = limits->depth_max < JSON_DEPTH_MAX ? limits->depth_max : JSON_DEPTH_MAX,
        .items_max = limits->items_max,
        .chunks = buf_heap(item.len),
    };
    size_t len = out->len;
    size_t off = 0;
    jw_init(&r.w, out);
    cbor_feed(&r, item, &off);
    buf_release(&r.chunks);
    if (r.status == ST_OK) {
        return ST_OK;
    }
    out->len = len;
    char where[32];
    snprintf(where, sizeof(where), "byte %zu", off);
    return err_at(err, r.status, where, "not acceptable CBOR: %s", r.problem);
}

bool cbor_likely(struct slice payload)
{
    return payload.len > 0 && payload.p[0] >= 0x80;
}
