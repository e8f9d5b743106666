// Chunks of the telemetry store. The first byte chooses: wrong bytes must be refused without harm, or points made of the
// input must come back as they went in.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/ts_chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define POINTS_MAX 512

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "ts_chunk: %s\n", what);
        abort();
    }
}

static void read_foreign(struct reader *r)
{
    struct ts_chunk_info info = {.n = rd_u16(r)};
    info.t0 = (int64_t)(rd_u64(r) >> 2);
    info.t1 = info.t0 + (int64_t)rd_u32(r);
    if (!ts_codec_unpack(rd_u16(r), &info.codec) || r->failed) {
        return;
    }
    struct ts_chunk_iter it;
    ts_chunk_iter_init(&it, &info, rd_rest(r));
    int64_t t = 0;
    int64_t before = -1;
    struct ts_value v;
    uint32_t n = 0;
    while (ts_chunk_next(&it, &t, &v)) {
        must(t > before, "times go back");
        must(v.type != TS_STRING || v.s.len <= TS_STRING_MAX, "a text is too long");
        before = t;
        n++;
    }
    must(it.failed || n == info.n, "neither all points nor an error");
}

static struct ts_value make_value(struct reader *r)
{
    union {
        uint64_t u;
        double f;
    } x;
    struct ts_value v = {.type = (enum ts_type)(rd_u8(r) & 3)};
    switch (v.type) {
    case TS_DOUBLE:
        x.u = rd_u64(r);
        v.f = isfinite(x.f) ? x.f : (double)(int8_t)x.u / 10;
        break;
    case TS_INT:
        v.i = rd_svarint(r);
        break;
    case TS_BOOL:
        v.b = (rd_u8(r) & 1) != 0;
        break;
    default:
        v.s = rd_bytes(r, rd_u8(r));
        break;
    }
    return v;
}

static size_t write_points(struct reader *r, struct ts_chunk **c, int64_t *times, struct ts_value *values)
{
    static const int64_t units[] = {1, 1000, 1000000, 60000000};
    int64_t t = INT64_C(1700000000000000);
    size_t n = 0;
    while (n < POINTS_MAX && !r->failed && reader_left(r) > 0) {
        uint8_t how = rd_u8(r);
        t += (1 + (how & 63)) * units[how >> 6];
        struct ts_value v = make_value(r);
        if (r->failed) {
            break;
        }
        enum ts_append a = ts_chunk_append(c, t, &v, 0);
        must(a != TS_APPEND_NOMEM, "no memory");
        if (a == TS_APPEND_SEAL) {
            break;
        }
        times[n] = t;
        values[n++] = v;
    }
    return n;
}

static void round_trip(struct reader *r)
{
    static int64_t times[POINTS_MAX];
    static struct ts_value values[POINTS_MAX];
    struct ts_chunk *c = NULL;
    size_t n = write_points(r, &c, times, values);
    if (c == NULL) {
        return;
    }
    struct ts_chunk_info info = ts_chunk_info(c);
    struct ts_chunk_iter it;
    ts_chunk_iter_init(&it, &info, slice_make(c->bytes, c->len));
    int64_t t = 0;
    struct ts_value v;
    size_t i = 0;
    while (ts_chunk_next(&it, &t, &v)) {
        must(i < n && t == times[i], "a time has changed");
        must(ts_value_eq(v, values[i]), "a value has changed");
        i++;
    }
    must(!it.failed && i == n, "points are missing");
    free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_make(slice_make(data, size));
    if ((rd_u8(&r) & 1) != 0) {
        round_trip(&r);
    } else {
        read_foreign(&r);
    }
    return 0;
}
