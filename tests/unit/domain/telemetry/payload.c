#include "domain/telemetry/payload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/map.h"
#include "proto/cbor.h"

#define NOW_US 1700000000000000LL

struct fixture {
    struct payload p;
    struct err err;
};

static enum status decode(struct fixture *f, const char *json)
{
    f->err = (struct err){.code = ST_OK};
    return payload_decode(&f->p, slice_str(json), NOW_US, &f->err);
}

static const struct payload_point *point(const struct fixture *f, const char *metric)
{
    for (uint32_t i = 0; i < f->p.points_len; i++) {
        if (slice_eq_str(f->p.points[i].metric, metric)) {
            return &f->p.points[i];
        }
    }
    return NULL;
}

static void values_of_every_kind(void **state)
{
    (void)state;
    struct fixture f = {0};
    assert_int_equal(decode(&f, "{\"i\":-7,\"d\":21.4,\"t\":true,\"f\":false,\"s\":\"a\\u00e9\\n\",\"e\":\"\","
                                "\"big\":12345678901234567890}"),
                     ST_OK);
    assert_int_equal(f.p.groups_len, 1);
    assert_true(f.p.groups[0].ts_us == PAYLOAD_NO_TIME);
    assert_int_equal(f.p.groups[0].len, 7);
    assert_int_equal(point(&f, "i")->value.type, TS_INT);
    assert_int_equal(point(&f, "i")->value.i, -7);
    assert_int_equal(point(&f, "d")->value.type, TS_DOUBLE);
    assert_true(point(&f, "d")->value.f == 21.4);
    assert_int_equal(point(&f, "t")->value.type, TS_BOOL);
    assert_true(point(&f, "t")->value.b);
    assert_false(point(&f, "f")->value.b);
    assert_true(slice_eq_str(point(&f, "s")->value.s, "a\xc3\xa9\n"));
    assert_int_equal(point(&f, "e")->value.s.len, 0);
    assert_int_equal(point(&f, "big")->value.type, TS_DOUBLE);
    assert_true(point(&f, "i")->hash == hash_bytes(SLICE("i")));
    payload_release(&f.p);
}

static void times(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int64_t us;
    } good[] = {
        {"{\"ts\":1690000000000,\"values\":{\"t\":1}}", 1690000000000000},
        {"{\"values\":{\"t\":1},\"ts\":1690000000000.001}", 1690000000000001},
        {"{\"ts\":1690000000000.999,\"values\":{\"t\":1}}", 1690000000000999},
        {"{\"ts\":\"2023-07-22T04:26:40Z\",\"values\":{\"t\":1}}", 1690000000000000},
        {"{\"ts\":\"2023-07-22T06:26:40.000007+02:00\",\"values\":{\"t\":1}}", 1690000000000007},
        {"{\"ts\":0,\"values\":{\"t\":1}}", 0},
        {"{\"ts\":1700086400000,\"values\":{\"t\":1}}", NOW_US + PAYLOAD_AHEAD_US},
        {"{\"values\":{\"t\":1}}", PAYLOAD_NO_TIME},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct fixture f = {0};
        assert_int_equal(decode(&f, good[i].json), ST_OK);
        assert_int_equal(f.p.groups_len, 1);
        assert_true(f.p.groups[0].ts_us == good[i].us);
        payload_release(&f.p);
    }
}

// {"ts": 1(1700000000.123456), "values": {"t": 21}}: tag 1 counts seconds, a bare number milliseconds.
static void a_tagged_time_of_cbor_is_in_seconds(void **state)
{
    (void)state;
    static const uint8_t item[] = "\xa2\x62ts\xc1\xfb\x41\xd9\x54\xfc\x40\x07\xe6\xb4\x66values\xa1\x61t\x15";
    struct cbor_limits limits = cbor_limits_default();
    struct fixture f = {0};
    struct buf json = buf_heap(1024);
    assert_int_equal(cbor_to_json(slice_make(item, sizeof(item) - 1), &limits, &json, &f.err), ST_OK);
    assert_int_equal(payload_decode(&f.p, buf_view(&json), NOW_US, &f.err), ST_OK);
    assert_int_equal(f.p.groups_len, 1);
    assert_true(f.p.groups[0].ts_us == 1700000000123456);
    assert_int_equal(point(&f, "t")->value.i, 21);
    buf_release(&json);
    payload_release(&f.p);
}

static void records_of_an_array_keep_their_own_times(void **state)
{
    (void)state;
    struct fixture f = {0};
    assert_int_equal(decode(&f, " [ {\"a\":1,\"b\":2} , {\"ts\":5,\"values\":{\"a\":3}}, {\"a\":4}] "), ST_OK);
    assert_int_equal(f.p.groups_len, 3);
    assert_int_equal(f.p.groups[0].len, 2);
    assert_int_equal(f.p.groups[1].first, 2);
    assert_true(f.p.groups[1].ts_us == 5000);
    assert_true(f.p.groups[2].ts_us == PAYLOAD_NO_TIME);
    assert_int_equal(f.p.points[3].value.i, 4);
    payload_release(&f.p);
}

static void nested_objects_become_dotted_names(void **state)
{
    (void)state;
    struct fixture f = {0};
    assert_int_equal(decode(&f, "{\"a\":{\"b\":1,\"c\":{\"d\":2}},\"e\":3,\"f.g\":4,\"x\\u0041\":{\"y\":5},\"n\":{}}"),
                     ST_OK);
    assert_int_equal(f.p.points_len, 5);
    assert_int_equal(point(&f, "a.b")->value.i, 1);
    assert_int_equal(point(&f, "a.c.d")->value.i, 2);
    assert_int_equal(point(&f, "e")->value.i, 3);
    assert_int_equal(point(&f, "f.g")->value.i, 4);
    assert_int_equal(point(&f, "xA.y")->value.i, 5);
    assert_int_equal(decode(&f, "{\"values\":{\"a\":{\"b\":9}}}"), ST_OK);
    assert_int_equal(f.p.points[5].value.i, 9);
    assert_true(slice_eq_str(f.p.points[5].metric, "a.b"));
    assert_int_equal(decode(&f, "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":1}}}}}}}}"), ST_OK);
    assert_true(slice_eq_str(f.p.points[6].metric, "a.b.c.d.e.f.g.h"));
    payload_release(&f.p);
}

static void a_name_twice_is_one_point_with_the_last_value(void **state)
{
    (void)state;
    struct fixture f = {0};
    assert_int_equal(decode(&f, "{\"a\":1,\"b.c\":2,\"a\":\"x\",\"b\":{\"c\":3}}"), ST_OK);
    assert_int_equal(f.p.points_len, 2);
    assert_int_equal(point(&f, "a")->value.type, TS_STRING);
    assert_int_equal(point(&f, "b.c")->value.i, 3);
    // In another record it is another point.
    assert_int_equal(decode(&f, "[{\"a\":1},{\"a\":1}]"), ST_OK);
    assert_int_equal(f.p.points_len, 4);
    payload_release(&f.p);
}

static void refusals_name_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum status status;
        const char *where;
    } bad[] = {
        {"", ST_MALFORMED, ""},
        {"{", ST_MALFORMED, ""},
        {"{\"t\":}", ST_MALFORMED, ""},
        {"{\"t\":1}x", ST_MALFORMED, ""},
        {"{\"t\":1,}", ST_MALFORMED, ""},
        {"[{\"t\":1}", ST_MALFORMED, ""},
        {"21", ST_INVALID, ""},
        {"\"t\"", ST_INVALID, ""},
        {"{}", ST_INVALID, ""},
        {"[]", ST_INVALID, ""},
        {"[{\"t\":1},{}]", ST_INVALID, "/1"},
        {"[{\"t\":1},7]", ST_INVALID, "/1"},
        {"[[]]", ST_INVALID, "/0"},
        {"{\"ts\":1,\"values\":{}}", ST_INVALID, ""},
        {"{\"t\":null}", ST_INVALID, "/t"},
        {"{\"t\":[1]}", ST_INVALID, "/t"},
        {"{\"a\":{\"b/~\":null}}", ST_INVALID, "/a/b~1~0"},
        {"[{\"t\":1},{\"ts\":1,\"values\":{\"a\":{\"b\":[]}}}]", ST_INVALID, "/1/values/a/b"},
        {"{\"\":1}", ST_INVALID, "/"},
        {"{\"a\":{\"\":1}}", ST_INVALID, "/a/"},
        {"{\"a\\u0007\":1}", ST_INVALID, "/a\\u0007"},
        {"{\"ts\":1,\"t\":1}", ST_INVALID, "/ts"},
        {"{\"ts\":1}", ST_INVALID, "/ts"},
        {"{\"ts\":-1,\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"ts\":1700086400001,\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"ts\":1e300,\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"ts\":9223372036854775807,\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"ts\":\"yesterday\",\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"ts\":true,\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"ts\":1,\"ts\":2,\"values\":{\"t\":1}}", ST_INVALID, "/ts"},
        {"{\"values\":{\"t\":1},\"u\":1}", ST_INVALID, "/u"},
        {"{\"u\":1,\"values\":{\"t\":1}}", ST_INVALID, "/values"},
        {"{\"values\":{\"t\":1},\"values\":{\"t\":1}}", ST_INVALID, "/values"},
        {"{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":1}}}}}}}}}", ST_INVALID, "/a/b/c/d/e/f/g/h"},
    };
    struct fixture f = {0};
    assert_int_equal(decode(&f, "{\"kept\":1}"), ST_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum status st = decode(&f, bad[i].json);
        if (st != bad[i].status || strcmp(f.err.where, bad[i].where) != 0) {
            fail_msg("%s: %s at '%s'", bad[i].json, status_text(st), f.err.where);
        }
        assert_int_equal(f.err.code, st);
        assert_int_not_equal(f.err.text[0], '\0');
        assert_int_equal(f.p.points_len, 1); // nothing of it stays
        assert_int_equal(f.p.groups_len, 1);
    }
    payload_release(&f.p);
}

static void limits(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct buf text = buf_heap(1u << 20);
    for (int n = PAYLOAD_POINTS_MAX; n <= PAYLOAD_POINTS_MAX + 1; n++) {
        buf_clear(&text);
        buf_u8(&text, '{');
        for (int i = 0; i < n; i++) {
            buf_printf(&text, "%s\"m%d\":%d", i > 0 ? "," : "", i, i);
        }
        buf_str(&text, "}");
        buf_u8(&text, '\0');
        assert_int_equal(decode(&f, (const char *)text.p), n <= PAYLOAD_POINTS_MAX ? ST_OK : ST_TOO_LARGE);
        assert_int_equal(f.p.points_len, PAYLOAD_POINTS_MAX);
    }
    payload_clear(&f.p);
    for (int n = TS_METRIC_MAX; n <= TS_METRIC_MAX + 1; n++) {
        for (int k = 0; k < 2; k++) {
            buf_clear(&text);
            buf_printf(&text, k == 0 ? "{\"%0*d\":1}" : "{\"a\":{\"%0*d\":1}}", k == 0 ? n : n - 2, 0);
            buf_u8(&text, '\0');
            assert_int_equal(decode(&f, (const char *)text.p), n <= TS_METRIC_MAX ? ST_OK : ST_INVALID);
        }
    }
    for (int n = PAYLOAD_STRING_MAX; n <= PAYLOAD_STRING_MAX + 1; n++) {
        buf_clear(&text);
        buf_printf(&text, "{\"s\":\"%0*d\"}", n, 0);
        buf_u8(&text, '\0');
        assert_int_equal(decode(&f, (const char *)text.p), n <= PAYLOAD_STRING_MAX ? ST_OK : ST_INVALID);
    }
    buf_release(&text);
    payload_release(&f.p);
}

static void clearing_reuses_memory(void **state)
{
    (void)state;
    struct fixture f = {0};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(decode(&f, "{\"a\":{\"b\":1},\"s\":\"\\u0041\"}"), ST_OK);
        assert_non_null(payload_copy(&f.p, SLICE("text")).p);
    }
    size_t once = payload_memory(&f.p);
    for (int round = 0; round < 5; round++) {
        payload_clear(&f.p);
        assert_int_equal(f.p.points_len, 0);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(decode(&f, "{\"a\":{\"b\":1},\"s\":\"\\u0041\"}"), ST_OK);
            assert_non_null(payload_copy(&f.p, SLICE("text")).p);
        }
        assert_int_equal(payload_memory(&f.p), once);
    }
    payload_release(&f.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind),
        cmocka_unit_test(times),
        cmocka_unit_test(a_tagged_time_of_cbor_is_in_seconds),
        cmocka_unit_test(records_of_an_array_keep_their_own_times),
        cmocka_unit_test(nested_objects_become_dotted_names),
        cmocka_unit_test(a_name_twice_is_one_point_with_the_last_value),
        cmocka_unit_test(refusals_name_the_place),
        cmocka_unit_test(limits),
        cmocka_unit_test(clearing_reuses_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
