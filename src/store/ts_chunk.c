// The chunk codec: appending points to compressed chunks and reading them back.
#include "store/ts_chunk.h"

#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/crc.h"

#define TOKEN_RUN      0x80
#define TOKEN_GENERAL  0xc0
#define TOKEN_RUN_MAX  64
#define TOKEN_DOD_MORE 63
#define TOKEN_SHORT    128 // differences below it need no second byte
#define TOKEN_MAX      (1 + 10 + 10)
#define CHUNK_ODD      8
_Static_assert(sizeof(struct ts_chunk) % 16 == 0 && TS_CHUNK_FIRST_BYTES % 16 == CHUNK_ODD, "blocks fit the allocator");

static const int64_t ts_unit_us[3] = {1, 1000, 1000000};
static const double ts_pow10[TS_CHUNK_SCALE_MAX + 1] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

// A distance in units. False: it is not a whole number of them. Constant divisors become multiplications.
static inline bool in_units(int64_t us, uint8_t unit, int64_t *ret_n)
{
    switch (unit) {
    case 0:
        *ret_n = us;
        return true;
    case 1:
        *ret_n = us / 1000;
        return *ret_n * 1000 == us;
    default:
        *ret_n = us / 1000000;
        return *ret_n * 1000000 == us;
    }
}

static inline uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static inline int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

static inline uint64_t double_bits(double d)
{
    union {
        double d;
        uint64_t u;
    } x = {.d = d};
    return x.u;
}

static inline double bits_double(uint64_t u)
{
    union {
        uint64_t u;
        double d;
    } x = {.u = u};
    return x.d;
}

uint32_t ts_codec_pack(struct ts_codec c)
{
    return (uint32_t)c.kind | (uint32_t)c.scale << 4 | (uint32_t)c.unit << 8;
}

bool ts_codec_unpack(uint32_t v, struct ts_codec *ret)
{
    struct ts_codec c = {.kind = v & 15, .scale = v >> 4 & 15, .unit = v >> 8 & 3};
    if (ts_codec_pack(c) != v || c.kind >= TS_KIND__COUNT || c.unit > 2 || c.scale > TS_CHUNK_SCALE_MAX ||
        (c.scale > 0 && c.kind != TS_KIND_DEC)) {
        return false;
    }
    *ret = c;
    return true;
}

static double value_number(struct ts_value v)
{
    return v.type == TS_DOUBLE ? v.f : v.type == TS_INT ? (double)v.i : (double)v.b;
}

bool ts_value_eq(struct ts_value a, struct ts_value b)
{
    if (a.type == TS_STRING || b.type == TS_STRING) {
        return a.type == b.type && slice_eq(a.s, b.s);
    }
    if (a.type == TS_INT && b.type == TS_INT) {
        return a.i == b.i;
    }
    return (a.type == TS_BOOL) == (b.type == TS_BOOL) && value_number(a) == value_number(b);
}

uint32_t ts_chunk_crc(uint64_t row, const struct ts_chunk_info *info, struct slice bytes)
{
    uint8_t mem[40];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u64(&b, row);
    buf_u64(&b, (uint64_t)info->t0);
    buf_u64(&b, (uint64_t)info->t1);
    buf_u32(&b, info->n);
    buf_u32(&b, ts_codec_pack(info->codec));
    return crc32c(crc32c(0, buf_view(&b)), bytes);
}

// --- Choosing a codec -----------------------------------------------------------------------------------------------

// The number as a whole multiple of 10^-scale, when that gives back exactly the same number.
static inline bool scaled(double f, unsigned scale, int64_t *ret_m)
{
    double x = f * ts_pow10[scale];
    if (!(fabs(x) <= (double)TS_CHUNK_EXACT_INT)) {
        return false;
    }
    int64_t m = (int64_t)(x < 0 ? x - 0.5 : x + 0.5);
    if ((double)m / ts_pow10[scale] != f) {
        return false;
    }
    *ret_m = m;
    return true;
}

static struct ts_codec codec_for_double(double f, unsigned scale_min)
{
    int64_t m = 0;
    for (unsigned scale = scale_min; scale <= TS_CHUNK_SCALE_MAX; scale++) {
        if (scaled(f, scale, &m)) {
            return (struct ts_codec){.kind = TS_KIND_DEC, .scale = (uint8_t)scale};
        }
    }
    return (struct ts_codec){.kind = TS_KIND_XOR};
}

static uint8_t unit_for(int64_t us, uint8_t unit_max)
{
    uint8_t unit = unit_max;
    while (us % ts_unit_us[unit] != 0) {
        unit--;
    }
    return unit;
}

static struct ts_codec codec_for(int64_t t, const struct ts_value *v)
{
    struct ts_codec c = {.kind = TS_KIND_INT};
    switch (v->type) {
    case TS_DOUBLE:
        c = codec_for_double(v->f, 0);
        break;
    case TS_INT:
        break;
    case TS_BOOL:
        c.kind = TS_KIND_BOOL;
        break;
    case TS_STRING:
        c.kind = TS_KIND_STR;
        break;
    }
    c.unit = unit_for(t, 2);
    return c;
}

// A value as the number a codec works with. False: this codec cannot hold it.
static inline bool codec_number(struct ts_codec c, const struct ts_value *v, uint64_t *ret)
{
    double f = v->f;
    if (v->type == TS_INT && (c.kind == TS_KIND_DEC || c.kind == TS_KIND_XOR)) {
        if (v->i > TS_CHUNK_EXACT_INT || v->i < -TS_CHUNK_EXACT_INT) {
            return false;
        }
        f = (double)v->i;
    }
    int64_t m = 0;
    switch (c.kind) {
    case TS_KIND_INT:
        *ret = (uint64_t)v->i;
        return v->type == TS_INT;
    case TS_KIND_DEC:
        if (v->type > TS_INT || !scaled(f, c.scale, &m)) {
            return false;
        }
        *ret = (uint64_t)m;
        return true;
    case TS_KIND_XOR:
        *ret = double_bits(f);
        return v->type <= TS_INT;
    case TS_KIND_BOOL:
        *ret = v->type == TS_BOOL && v->b ? 1 : 0;
        return v->type == TS_BOOL;
    default:
        *ret = 0;
        return v->type == TS_STRING;
    }
}

static inline struct slice value_text(const struct ts_value *v)
{
    return v->type == TS_STRING ? v->s : slice_make(NULL, 0);
}

// --- Writing --------------------------------------------------------------------------------------------------------

static inline void put_u8(struct ts_chunk *c, uint8_t v)
{
    c->bytes[c->len++] = v;
}

static inline void put_uvarint(struct ts_chunk *c, uint64_t v)
{
    while (v >= 0x80) {
        put_u8(c, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    put_u8(c, (uint8_t)v);
}

static inline uint8_t xor_header(uint64_t x)
{
    if (x == 0) {
        return 0;
    }
    unsigned low = (unsigned)__builtin_ctzll(x) / 8;
    unsigned high = (unsigned)__builtin_clzll(x) / 8;
    return (uint8_t)(low << 4 | (8 - low - high));
}

static inline void put_xor_bytes(struct ts_chunk *c, uint64_t x, uint8_t header)
{
    x >>= 8 * (header >> 4);
    for (unsigned n = header & 15; n > 0; n--) {
        put_u8(c, (uint8_t)(x >> (8 * (n - 1))));
    }
}

static void put_string(struct ts_chunk *c, struct slice s)
{
    bool same = c->n > 0 && slice_eq(s, slice_make(c->bytes + c->last, c->last_len));
    if (same) {
        put_uvarint(c, 0);
        return;
    }
    put_uvarint(c, s.len + 1);
    c->last = c->len;
    c->last_len = (uint16_t)s.len;
    for (size_t i = 0; i < s.len; i++) {
        put_u8(c, s.p[i]);
    }
}

static void put_value(struct ts_chunk *c, uint64_t number, struct slice str)
{
    if (c->codec.kind == TS_KIND_STR) {
        put_string(c, str);
        return;
    }
    if (c->codec.kind == TS_KIND_XOR) {
        uint8_t header = xor_header(number ^ c->last);
        put_u8(c, header);
        put_xor_bytes(c, number ^ c->last, header);
    } else {
        put_uvarint(c, zigzag((int64_t)(number - c->last)));
    }
    c->last = number;
}

static void put_run(struct ts_chunk *c)
{
    if (c->run && (c->bytes[c->len - 1] & 63) < TOKEN_RUN_MAX - 1) {
        c->bytes[c->len - 1]++;
        return;
    }
    put_u8(c, TOKEN_RUN);
    c->run = true;
}

// A point that keeps the distance. True when a short token said it all.
static bool put_regular(struct ts_chunk *c, uint64_t number, struct slice str)
{
    if (c->codec.kind == TS_KIND_STR) {
        bool same = slice_eq(str, slice_make(c->bytes + c->last, c->last_len));
        if (same) {
            put_run(c);
        }
        return same;
    }
    if (number == c->last) {
        put_run(c);
        return true;
    }
    c->run = false;
    uint8_t header = xor_header(number ^ c->last);
    put_u8(c, header);
    put_xor_bytes(c, number ^ c->last, header);
    c->last = number;
    return true;
}

static inline void put_general(struct ts_chunk *c, int64_t step)
{
    uint64_t dod = zigzag(step - c->step);
    c->run = false;
    c->step = step;
    if (dod < TOKEN_DOD_MORE) {
        put_u8(c, (uint8_t)(TOKEN_GENERAL | dod));
        return;
    }
    put_u8(c, TOKEN_GENERAL | TOKEN_DOD_MORE);
    put_uvarint(c, dod);
}

// A point of a kind that is written as differences of whole numbers: the way of most.
static inline void put_number(struct ts_chunk *c, int64_t t, int64_t step, uint64_t number)
{
    uint64_t z = zigzag((int64_t)(number - c->last));
    if (step != c->step || z >= TOKEN_SHORT) {
        put_general(c, step);
        put_uvarint(c, z);
    } else if (z == 0) {
        put_run(c);
    } else {
        c->run = false;
        put_u8(c, (uint8_t)z);
    }
    c->last = number;
    c->t1 = t;
    c->n++;
}

static void put_point(struct ts_chunk *c, int64_t t, uint64_t number, struct slice str)
{
    int64_t step = 0;
    (void)in_units(t - c->t1, c->codec.unit, &step);
    if (c->codec.kind != TS_KIND_XOR && c->codec.kind != TS_KIND_STR) {
        put_number(c, t, step, number);
        return;
    }
    if (step != c->step || !put_regular(c, number, str)) {
        put_general(c, step);
        put_value(c, number, str);
    }
    c->t1 = t;
    c->n++;
}

// Room for one more point. The chunk may move.
static bool chunk_room(struct ts_chunk **chunk, size_t need)
{
    struct ts_chunk *c = *chunk;
    if (c->cap - c->len >= need) {
        return true;
    }
    // Doubles what the allocator hands out: a block of 16 n + 8 bytes, of which the head takes its part.
    size_t cap = 2 * (size_t)c->cap - CHUNK_ODD > c->len + need ? 2 * (size_t)c->cap - CHUNK_ODD : c->len + need;
    cap = ((cap + 15) & ~(size_t)15) + CHUNK_ODD;
    c = realloc(c, sizeof(*c) + cap);
    if (c == NULL) {
        return false;
    }
    c->cap = (uint32_t)cap;
    *chunk = c;
    return true;
}

static struct ts_chunk *chunk_start(struct ts_codec codec, int64_t t, uint64_t number, struct slice str,
                                    size_t expected)
{
    size_t cap = TS_CHUNK_FIRST_BYTES + (codec.kind == TS_KIND_STR ? str.len : 0);
    cap = ((expected > cap ? expected : cap) & ~(size_t)15) + 16 + CHUNK_ODD;
    struct ts_chunk *c = malloc(sizeof(*c) + cap);
    if (c == NULL) {
        return NULL;
    }
    *c = (struct ts_chunk){.t0 = t, .t1 = t, .cap = (uint32_t)cap, .codec = codec};
    put_value(c, number, str);
    c->n = 1;
    return c;
}

// The chunk's points once more, under another codec. NULL: a point does not fit it, or no memory.
static struct ts_chunk *chunk_rebuild(const struct ts_chunk *old, struct ts_codec codec, bool *ret_nomem)
{
    struct ts_chunk_info info = ts_chunk_info(old);
    struct ts_chunk_iter it;
    ts_chunk_iter_init(&it, &info, slice_make(old->bytes, old->len));
    struct ts_chunk *c = NULL;
    int64_t t = 0;
    struct ts_value v;
    while (ts_chunk_next(&it, &t, &v)) {
        uint64_t number = 0;
        struct slice str = value_text(&v);
        if (!codec_number(codec, &v, &number)) {
            free(c);
            return NULL;
        }
        if (c == NULL) {
            c = chunk_start(codec, t, number, str, old->cap);
            *ret_nomem = c == NULL;
        } else if (chunk_room(&c, TOKEN_MAX + str.len)) {
            put_point(c, t, number, str);
        } else {
            *ret_nomem = true;
        }
        if (*ret_nomem) {
            free(c);
            return NULL;
        }
    }
    if (c != NULL) {
        c->next = old->next;
    }
    return c;
}

// The codec the chunk needs so that this point fits; false: no codec takes both.
static bool codec_widen(const struct ts_chunk *c, int64_t t, const struct ts_value *v, struct ts_codec *ret)
{
    struct ts_codec codec = c->codec;
    uint64_t number = 0;
    codec.unit = unit_for(t - c->t1, codec.unit);
    if (!codec_number(codec, v, &number)) {
        bool was_number = codec.kind <= TS_KIND_XOR;
        if (!was_number || v->type > TS_INT || (v->type == TS_INT && codec.kind != TS_KIND_DEC)) {
            return false;
        }
        double f = v->type == TS_INT ? (double)v->i : v->f;
        struct ts_codec wide = codec_for_double(f, codec.scale);
        codec.kind = wide.kind;
        codec.scale = wide.scale;
        if (!codec_number(codec, v, &number)) {
            return false;
        }
    }
    *ret = codec;
    return true;
}

static bool codec_same(struct ts_codec a, struct ts_codec b)
{
    return a.kind == b.kind && a.scale == b.scale && a.unit == b.unit;
}

// Encodes the chunk in a form that takes the point as well; falls back from decimals to XOR when an older value stands
// against the finer scale.
static enum ts_append chunk_widen(struct ts_chunk **chunk, int64_t t, const struct ts_value *v)
{
    struct ts_codec codec;
    if (!codec_widen(*chunk, t, v, &codec)) {
        return TS_APPEND_SEAL;
    }
    if (codec_same(codec, (*chunk)->codec)) {
        return TS_APPENDED;
    }
    bool nomem = false;
    struct ts_chunk *c = chunk_rebuild(*chunk, codec, &nomem);
    if (c == NULL && !nomem && codec.kind == TS_KIND_DEC) {
        codec.kind = TS_KIND_XOR;
        codec.scale = 0;
        c = chunk_rebuild(*chunk, codec, &nomem);
    }
    if (c == NULL) {
        return nomem ? TS_APPEND_NOMEM : TS_APPEND_SEAL;
    }
    free(*chunk);
    *chunk = c;
    return TS_APPENDED;
}

// The short way of most points: one more decimal in a chunk of such, with room.
static inline bool append_decimal(struct ts_chunk *c, int64_t t, const struct ts_value *v)
{
    int64_t step = 0;
    int64_t m = 0;
    if (v->type != TS_DOUBLE || c->codec.kind != TS_KIND_DEC || c->cap - c->len < TOKEN_MAX ||
        c->n >= TS_CHUNK_POINTS_MAX || c->len + TOKEN_MAX > TS_CHUNK_BYTES_MAX ||
        !in_units(t - c->t1, c->codec.unit, &step) || !scaled(v->f, c->codec.scale, &m)) {
        return false;
    }
    put_number(c, t, step, (uint64_t)m);
    return true;
}

enum ts_append ts_chunk_append(struct ts_chunk **chunk, int64_t t, const struct ts_value *v, size_t expected_bytes)
{
    uint64_t number = 0;
    struct slice str = value_text(v);
    if (*chunk == NULL) {
        struct ts_codec codec = codec_for(t, v);
        (void)codec_number(codec, v, &number);
        *chunk = chunk_start(codec, t, number, str, expected_bytes);
        return *chunk != NULL ? TS_APPENDED : TS_APPEND_NOMEM;
    }
    struct ts_chunk *c = *chunk;
    if (append_decimal(c, t, v)) {
        return TS_APPENDED;
    }
    if (c->n >= TS_CHUNK_POINTS_MAX || c->len + TOKEN_MAX + str.len > TS_CHUNK_BYTES_MAX) {
        return TS_APPEND_SEAL;
    }
    int64_t step = 0;
    if (!in_units(t - c->t1, c->codec.unit, &step) || !codec_number(c->codec, v, &number)) {
        enum ts_append a = chunk_widen(chunk, t, v);
        if (a != TS_APPENDED) {
            return a;
        }
        (void)codec_number((*chunk)->codec, v, &number);
    }
    if (!chunk_room(chunk, TOKEN_MAX + str.len)) {
        return TS_APPEND_NOMEM;
    }
    put_point(*chunk, t, number, str);
    return TS_APPENDED;
}

// --- Reading --------------------------------------------------------------------------------------------------------

void ts_chunk_iter_init(struct ts_chunk_iter *it, const struct ts_chunk_info *info, struct slice bytes)
{
    *it = (struct ts_chunk_iter){
        .r = reader_make(bytes), .info = *info, .t = info->t0, .left = info->n, .str = slice_make(NULL, 0)};
}

static bool get_xor(struct ts_chunk_iter *it, uint8_t header)
{
    uint64_t low = header >> 4;
    unsigned n = header & 15;
    if (low + n > 8) {
        return false;
    }
    uint64_t x = 0;
    for (unsigned i = 0; i < n; i++) {
        x = x << 8 | rd_u8(&it->r);
    }
    it->last ^= n == 0 ? 0 : x << (8 * low);
    return true;
}

static bool get_value(struct ts_chunk_iter *it)
{
    if (it->info.codec.kind == TS_KIND_XOR) {
        return get_xor(it, rd_u8(&it->r));
    }
    uint64_t v = rd_uvarint(&it->r);
    if (it->info.codec.kind != TS_KIND_STR) {
        it->last += (uint64_t)unzigzag(v);
        return true;
    }
    if (v == 0) {
        return it->str.p != NULL;
    }
    if (v - 1 > TS_STRING_MAX) {
        return false;
    }
    it->str = rd_bytes(&it->r, (size_t)(v - 1));
    return it->str.p != NULL;
}

static bool get_step(struct ts_chunk_iter *it)
{
    int64_t us = 0;
    return it->step > 0 && !__builtin_mul_overflow(it->step, ts_unit_us[it->info.codec.unit], &us) &&
           !__builtin_add_overflow(it->t, us, &it->t);
}

static bool get_point(struct ts_chunk_iter *it)
{
    if (it->run > 0) {
        it->run--;
        return get_step(it);
    }
    uint8_t token = rd_u8(&it->r);
    if (token < TOKEN_RUN) {
        if (it->info.codec.kind == TS_KIND_XOR) {
            return get_xor(it, token) && get_step(it);
        }
        it->last += (uint64_t)unzigzag(token);
        return it->info.codec.kind != TS_KIND_STR && get_step(it);
    }
    if (token < TOKEN_GENERAL) {
        it->run = token & 63;
        return get_step(it);
    }
    uint64_t dod = token & 63;
    if (dod == TOKEN_DOD_MORE) {
        dod = rd_uvarint(&it->r);
    }
    return !__builtin_add_overflow(it->step, unzigzag(dod), &it->step) && get_step(it) && get_value(it);
}

static struct ts_value iter_value(const struct ts_chunk_iter *it)
{
    struct ts_value v = {.type = TS_INT};
    switch (it->info.codec.kind) {
    case TS_KIND_INT:
        v.i = (int64_t)it->last;
        break;
    case TS_KIND_DEC:
        v.type = TS_DOUBLE;
        v.f = (double)(int64_t)it->last / ts_pow10[it->info.codec.scale];
        break;
    case TS_KIND_XOR:
        v.type = TS_DOUBLE;
        v.f = bits_double(it->last);
        break;
    case TS_KIND_BOOL:
        v.type = TS_BOOL;
        v.b = it->last != 0;
        break;
    default:
        v.type = TS_STRING;
        v.s = it->str;
        break;
    }
    return v;
}

bool ts_chunk_next(struct ts_chunk_iter *it, int64_t *ret_t, struct ts_value *ret_v)
{
    if (it->failed) {
        return false;
    }
    if (it->left == 0) {
        it->failed = !reader_done(&it->r) || it->run > 0 || it->t != it->info.t1;
        return false;
    }
    bool ok = it->left == it->info.n ? get_value(it) : get_point(it);
    if (!ok || it->r.failed) {
        it->failed = true;
        return false;
    }
    it->left--;
    *ret_t = it->t;
    *ret_v = iter_value(it);
    return true;
}
