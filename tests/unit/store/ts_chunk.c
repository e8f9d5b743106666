// ts_chunk.c: every series that goes in comes out, byte for byte of meaning; and what small chunks cost.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"
#include "store/ts_chunk.h"

#define T0 INT64_C(1700000000000000)

struct list { // chunks in order
    struct ts_chunk *c[64];
    size_t n;
};

static void list_add(struct list *l, int64_t t, struct ts_value v)
{
    if (l->n == 0) {
        l->n = 1;
    }
    enum ts_append a = ts_chunk_append(&l->c[l->n - 1], t, &v, 0);
    if (a == TS_APPEND_SEAL) {
        assert_true(l->n < 64);
        l->n++;
        a = ts_chunk_append(&l->c[l->n - 1], t, &v, 0);
    }
    assert_int_equal(a, TS_APPENDED);
}

static size_t list_bytes(const struct list *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        n += l->c[i]->len;
    }
    return n;
}

static void list_free(struct list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->c[i]);
    }
    *l = (struct list){0};
}

static void assert_value(struct ts_value got, struct ts_value want)
{
    if (want.type == TS_STRING) {
        assert_int_equal(got.type, TS_STRING);
        assert_true(slice_eq(got.s, want.s));
    } else if (want.type == TS_BOOL) {
        assert_int_equal(got.type, TS_BOOL);
        assert_int_equal(got.b, want.b);
    } else if (want.type == TS_INT && got.type == TS_INT) {
        assert_true(got.i == want.i);
    } else {
        // A whole number among fractions comes back as a double of the same value.
        double g = got.type == TS_INT ? (double)got.i : got.f;
        double w = want.type == TS_INT ? (double)want.i : want.f;
        assert_true(got.type == TS_INT || got.type == TS_DOUBLE);
        assert_true(memcmp(&g, &w, sizeof(g)) == 0 || (g == 0 && w == 0));
    }
}

static void assert_same(const struct list *l, const int64_t *t, const struct ts_value *v, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct ts_chunk_info info = ts_chunk_info(l->c[i]);
        struct ts_chunk_iter it;
        // An exact copy, so that the address sanitizer sees a read past the end.
        uint8_t *copy = malloc(l->c[i]->len);
        assert_non_null(copy);
        memcpy(copy, l->c[i]->bytes, l->c[i]->len);
        ts_chunk_iter_init(&it, &info, slice_make(copy, l->c[i]->len));
        int64_t got_t = 0;
        struct ts_value got;
        while (ts_chunk_next(&it, &got_t, &got)) {
            assert_true(at < n);
            assert_true(got_t == t[at]);
            assert_value(got, v[at]);
            at++;
        }
        assert_false(it.failed);
        free(copy);
    }
    assert_int_equal(at, n);
}

static struct ts_value num(double f)
{
    return (struct ts_value){.type = TS_DOUBLE, .f = f};
}

static struct ts_value whole(int64_t i)
{
    return (struct ts_value){.type = TS_INT, .i = i};
}

static void regular_decimals_are_small(void **state)
{
    (void)state;
    struct list l = {0};
    int64_t t[1000];
    struct ts_value v[1000];
    rand_seed(1);
    double x = 21.4;
    for (size_t i = 0; i < 1000; i++) {
        t[i] = T0 + (int64_t)i * 60000000;
        x = round((x + (double)((int)(rand_u64() % 5) - 2) / 10) * 10) / 10;
        v[i] = num(x);
        list_add(&l, t[i], v[i]);
    }
    assert_same(&l, t, v, 1000);
    assert_int_equal(l.n, 1);
    assert_true(list_bytes(&l) < 1100); // about a byte per point
    list_free(&l);
}

static void constant_series_cost_nothing(void **state)
{
    (void)state;
    struct list l = {0};
    int64_t t[2000];
    struct ts_value v[2000];
    for (size_t i = 0; i < 2000; i++) {
        t[i] = T0 + (int64_t)i * 1000000;
        v[i] = (struct ts_value){.type = TS_BOOL, .b = true};
        list_add(&l, t[i], v[i]);
    }
    assert_same(&l, t, v, 2000);
    assert_true(list_bytes(&l) < 60);
    list_free(&l);
}

static void extremes(void **state)
{
    (void)state;
    static const double doubles[] = {0.0,
                                     -0.0,
                                     1.0,
                                     0.1,
                                     1e-9,
                                     1e-10,
                                     1e300,
                                     -1e300,
                                     5e-324,
                                     0.3,
                                     1.0 / 3,
                                     1e15,
                                     9007199254740992.0,
                                     9007199254740994.0,
                                     1.7976931348623157e308,
                                     21.45};
    struct list l = {0};
    int64_t t[200];
    struct ts_value v[200];
    size_t n = 0;
    int64_t at = T0;
    for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
        at += 1 + (int64_t)i * 7;
        t[n] = at;
        v[n++] = num(doubles[i]);
    }
    static const int64_t ints[] = {INT64_MIN, INT64_MAX, 0, -1, 1, INT64_MAX, INT64_MIN, (1LL << 53) + 1, 42};
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
        at += 1000;
        t[n] = at;
        v[n++] = whole(ints[i]);
    }
    for (size_t i = 0; i < n; i++) {
        list_add(&l, t[i], v[i]);
    }
    assert_same(&l, t, v, n);
    list_free(&l);
}

static void whole_numbers_stay_whole(void **state)
{
    (void)state;
    struct list l = {0};
    int64_t t[100];
    struct ts_value v[100];
    for (size_t i = 0; i < 100; i++) {
        t[i] = T0 + (int64_t)i * 10;
        v[i] = whole((int64_t)i * 1000003);
        list_add(&l, t[i], v[i]);
    }
    struct ts_chunk_info info = ts_chunk_info(l.c[0]);
    assert_int_equal(info.codec.kind, TS_KIND_INT);
    assert_same(&l, t, v, 100);
    list_add(&l, T0 + 5000, num(0.25)); // the chunk turns into decimals
    assert_int_equal(l.n, 1);
    assert_int_equal(l.c[0]->codec.kind, TS_KIND_DEC);
    assert_int_equal(l.c[0]->codec.scale, 2);
    list_add(&l, T0 + 6000, whole((1LL << 60) + 1)); // and that one cannot be held exactly
    assert_int_equal(l.n, 2);
    list_free(&l);
}

static void texts(void **state)
{
    (void)state;
    static char big[TS_STRING_MAX];
    for (size_t i = 0; i < sizeof(big); i++) {
        big[i] = (char)('a' + i % 26);
    }
    struct list l = {0};
    int64_t t[300];
    struct ts_value v[300];
    static const char *const words[] = {"on", "on", "off", "", "on", "error: überhitzt"};
    for (size_t i = 0; i < 300; i++) {
        t[i] = T0 + (int64_t)i * 1000000;
        struct slice s = i % 50 == 7 ? slice_make(big, sizeof(big) - i) : slice_str(words[i / 3 % 6]);
        v[i] = (struct ts_value){.type = TS_STRING, .s = s};
        list_add(&l, t[i], v[i]);
    }
    assert_same(&l, t, v, 300);
    list_free(&l);
}

static void full_chunks_are_sealed(void **state)
{
    (void)state;
    struct list l = {0};
    for (int64_t i = 0; i < TS_CHUNK_POINTS_MAX + 10; i++) {
        list_add(&l, T0 + i * 1000000, whole(i % 3));
    }
    assert_int_equal(l.n, 2);
    assert_int_equal(l.c[0]->n, TS_CHUNK_POINTS_MAX);
    assert_int_equal(l.c[1]->n, 10);
    list_free(&l);
}

// A random walk through all types, units, scales and jumps.
static struct ts_value random_value(unsigned style)
{
    static const char *const words[] = {"a", "bb", "ccc", ""};
    switch (style) {
    case 0:
        return num((double)(int64_t)(rand_u64() % 2000) / 10);
    case 1:
        return num((double)(int64_t)(rand_u64() % 2000000) / 1000);
    case 2: {
        union {
            uint64_t u;
            double f;
        } x = {.u = rand_u64()};
        return num(isfinite(x.f) ? x.f : 1.5);
    }
    case 3:
        return whole((int64_t)(rand_u64() % 100));
    case 4:
        return whole((int64_t)rand_u64());
    case 5:
        return (struct ts_value){.type = TS_BOOL, .b = rand_u64() % 2 == 0};
    case 6:
        return (struct ts_value){.type = TS_STRING, .s = slice_str(words[rand_u64() % 4])};
    default:
        return num(20.5);
    }
}

static void random_series_come_back(void **state)
{
    (void)state;
    static int64_t t[600];
    static struct ts_value v[600];
    static const int64_t units[] = {1, 1000, 1000000};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        rand_seed(seed);
        struct list l = {0};
        size_t n = 1 + rand_u64() % 600;
        int64_t at = T0;
        unsigned style = (unsigned)(rand_u64() % 8);
        unsigned restless = (unsigned)(rand_u64() % 40) + 10;
        int64_t step = (int64_t)(rand_u64() % 100 + 1) * units[rand_u64() % 3];
        for (size_t i = 0; i < n; i++) {
            style = rand_u64() % restless == 0 ? (unsigned)(rand_u64() % 8) : style;
            step = rand_u64() % 10 == 0 ? (int64_t)(rand_u64() % 5000 + 1) * units[rand_u64() % 3] : step;
            at += step;
            t[i] = at;
            v[i] = rand_u64() % 4 == 0 && i > 0 ? v[i - 1] : random_value(style);
            list_add(&l, t[i], v[i]);
        }
        assert_same(&l, t, v, n);
        list_free(&l);
    }
}

// Wrong bytes are found or decode to something else, but never read past the end; the checksum tells them apart.
static void damaged_bytes_do_no_harm(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        rand_seed(seed);
        struct ts_chunk *c = NULL;
        int64_t at = T0;
        unsigned style = (unsigned)(seed % 8);
        for (unsigned i = 0; i < 50; i++) {
            at += 1000000 + (int64_t)(rand_u64() % 3) * 1000;
            struct ts_value x = random_value(style);
            enum ts_append a = ts_chunk_append(&c, at, &x, seed % 3 * 100);
            assert_int_not_equal(a, TS_APPEND_NOMEM);
        }
        struct ts_chunk_info info = ts_chunk_info(c);
        uint32_t crc = ts_chunk_crc(7, &info, slice_make(c->bytes, c->len));
        assert_int_equal(crc, ts_chunk_crc(7, &info, slice_make(c->bytes, c->len)));
        assert_int_not_equal(crc, ts_chunk_crc(8, &info, slice_make(c->bytes, c->len)));
        for (uint32_t i = 0; i < c->len; i++) {
            uint8_t *copy = malloc(c->len);
            assert_non_null(copy);
            memcpy(copy, c->bytes, c->len);
            copy[i] ^= (uint8_t)(1 + rand_u64() % 255);
            assert_int_not_equal(crc, ts_chunk_crc(7, &info, slice_make(copy, c->len)));
            struct ts_chunk_iter it;
            ts_chunk_iter_init(&it, &info, slice_make(copy, c->len));
            int64_t t = 0;
            struct ts_value v;
            uint32_t n = 0;
            while (ts_chunk_next(&it, &t, &v)) {
                n++;
            }
            assert_true(it.failed || n == info.n);
            free(copy);
        }
        free(c);
    }
}

static void codecs_are_checked(void **state)
{
    (void)state;
    struct ts_codec c;
    unsigned good = 0;
    for (uint32_t v = 0; v < 1U << 16; v++) {
        if (ts_codec_unpack(v, &c)) {
            assert_int_equal(ts_codec_pack(c), v);
            good++;
        }
    }
    assert_int_equal(good, 3 * (4 + TS_CHUNK_SCALE_MAX + 1));
    assert_false(ts_codec_unpack(1U << 20, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_decimals_are_small),
        cmocka_unit_test(constant_series_cost_nothing),
        cmocka_unit_test(extremes),
        cmocka_unit_test(whole_numbers_stay_whole),
        cmocka_unit_test(texts),
        cmocka_unit_test(full_chunks_are_sealed),
        cmocka_unit_test(random_series_come_back),
        cmocka_unit_test(damaged_bytes_do_no_harm),
        cmocka_unit_test(codecs_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
