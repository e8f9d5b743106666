#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "proto/cbor.h"

// Bytes from hex text.
static struct slice unhex(const char *hex, uint8_t *dst)
{
    size_t n = 0;
    for (; hex[0] != '\0'; hex += 2, n++) {
        const char digits[] = "0123456789abcdef";
        dst[n] = (uint8_t)((strchr(digits, hex[0]) - digits) << 4 | (strchr(digits, hex[1]) - digits));
    }
    return slice_make(dst, n);
}

static enum status convert(const char *hex, struct buf *out, struct err *err)
{
    uint8_t item[512];
    struct cbor_limits limits = cbor_limits_default();
    return cbor_to_json(unhex(hex, item), &limits, out, err);
}

// The examples of RFC 8949 appendix A that have a JSON form, and some of our own.
static const struct {
    const char *hex, *json;
} accepted[] = {
    {"00", "0"},
    {"17", "23"},
    {"1818", "24"},
    {"1903e8", "1000"},
    {"1a000f4240", "1000000"},
    {"1b000000e8d4a51000", "1000000000000"},
    {"1bffffffffffffffff", "18446744073709551615"},
    {"3bffffffffffffffff", "-18446744073709551616"},
    {"3b7fffffffffffffff", "-9223372036854775808"},
    {"3b8000000000000000", "-9223372036854775809"},
    {"20", "-1"},
    {"3863", "-100"},
    {"3903e7", "-1000"},
    {"f90000", "0"},
    {"f98000", "-0.0"},
    {"f93c00", "1"},
    {"f93e00", "1.5"},
    {"f97bff", "65504"},
    {"fa47c35000", "100000"},
    {"fb3ff199999999999a", "1.1"},
    {"fb7e37e43c8800759c", "1e300"},
    {"f90001", "5.960464477539063e-8"},
    {"f9c400", "-4"},
    {"f4", "false"},
    {"f5", "true"},
    {"f6", "null"},
    {"f7", "null"},
    {"c074323031332d30332d32315432303a30343a30305a", "\"2013-03-21T20:04:00Z\""},
    {"c11a514b67b0", "\"2013-03-21T20:04:00.000000Z\""},
    {"c1fb41d452d9ec200000", "\"2013-03-21T20:04:00.500000Z\""},
    {"c1fb41d954fc4007e6b4", "\"2023-11-14T22:13:20.123456Z\""},
    {"c120", "\"1969-12-31T23:59:59.000000Z\""},
    {"d9d9f7c100", "\"1970-01-01T00:00:00.000000Z\""},
    {"c11b0000003afff4417f", "\"9999-12-31T23:59:59.000000Z\""},
    {"a1627473c11a514b67b0", "{\"ts\":\"2013-03-21T20:04:00.000000Z\"}"},
    {"82c10000", "[\"1970-01-01T00:00:00.000000Z\",0]"},
    {"40", "\"\""},
    {"4401020304", "\"AQIDBA\""},
    {"41ff", "\"_w\""},
    {"43fbefff", "\"--__\""},
    {"60", "\"\""},
    {"6161", "\"a\""},
    {"62225c", "\"\\\"\\\\\""},
    {"62c3bc", "\"\xc3\xbc\""},
    {"80", "[]"},
    {"83010203", "[1,2,3]"},
    {"8301820203820405", "[1,[2,3],[4,5]]"},
    {"a0", "{}"},
    {"a26161016162820203", "{\"a\":1,\"b\":[2,3]}"},
    {"826161a161626163", "[\"a\",{\"b\":\"c\"}]"},
    {"5f42010243030405ff", "\"AQIDBAU\""},
    {"7f657374726561646d696e67ff", "\"streaming\""},
    {"7fff", "\"\""},
    {"5fff", "\"\""},
    {"9fff", "[]"},
    {"9f018202039f0405ffff", "[1,[2,3],[4,5]]"},
    {"83018202039f0405ff", "[1,[2,3],[4,5]]"},
    {"bf61610161629f0203ffff", "{\"a\":1,\"b\":[2,3]}"},
    {"826161bf61626163ff", "[\"a\",{\"b\":\"c\"}]"},
    {"bf6346756ef563416d7421ff", "{\"Fun\":true,\"Amt\":-2}"},
    {"a17f61616162ff01", "{\"ab\":1}"},
    {"a16161a0", "{\"a\":{}}"},
    {"8280a0", "[[],{}]"},
};

static void test_accepts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        struct buf out = buf_heap(4096);
        struct err err = {0};
        enum status s = convert(accepted[i].hex, &out, &err);
        assert_string_equal(err.text, "");
        assert_int_equal(s, ST_OK);
        buf_u8(&out, 0);
        assert_string_equal((const char *)out.p, accepted[i].json);
        buf_release(&out);
    }
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum status status;
        const char *where, *text;
    } rows[] = {
        {"", ST_MALFORMED, "byte 0", "not acceptable CBOR: cut short"},
        {"1903", ST_MALFORMED, "byte 0", "not acceptable CBOR: cut short"},
        {"8201", ST_MALFORMED, "byte 2", "not acceptable CBOR: cut short"},
        {"a16161", ST_MALFORMED, "byte 3", "not acceptable CBOR: cut short"},
        {"9f01", ST_MALFORMED, "byte 2", "not acceptable CBOR: cut short"},
        {"6261", ST_MALFORMED, "byte 0", "not acceptable CBOR: cut short"},
        {"7bffffffffffffffff61", ST_MALFORMED, "byte 0", "not acceptable CBOR: cut short"},
        {"1c", ST_MALFORMED, "byte 0", "not acceptable CBOR: no such item"},
        {"f820", ST_MALFORMED, "byte 0", "not acceptable CBOR: no such item"},
        {"0000", ST_MALFORMED, "byte 1", "not acceptable CBOR: more than one item"},
        {"ff", ST_MALFORMED, "byte 0", "not acceptable CBOR: a break where nothing can end"},
        {"81ff", ST_MALFORMED, "byte 1", "not acceptable CBOR: a break where nothing can end"},
        {"bf6161ff", ST_MALFORMED, "byte 3", "not acceptable CBOR: a break where nothing can end"},
        {"9fc1ff", ST_MALFORMED, "byte 2", "not acceptable CBOR: a break where nothing can end"},
        {"7f4101ff", ST_MALFORMED, "byte 1",
         "not acceptable CBOR: an indefinite string holds something else than chunks of its kind"},
        {"5f6161ff", ST_MALFORMED, "byte 1",
         "not acceptable CBOR: an indefinite string holds something else than chunks of its kind"},
        {"7f7f6161ffff", ST_MALFORMED, "byte 1",
         "not acceptable CBOR: an indefinite string holds something else than chunks of its kind"},
        {"5f01ff", ST_MALFORMED, "byte 1",
         "not acceptable CBOR: an indefinite string holds something else than chunks of its kind"},
        {"7fc1ff", ST_MALFORMED, "byte 1",
         "not acceptable CBOR: an indefinite string holds something else than chunks of its kind"},
        {"a1610001", ST_INVALID, "byte 1", "not acceptable CBOR: a map key may not hold U+0000"},
        {"a10102", ST_INVALID, "byte 1", "not acceptable CBOR: a map key must be text"},
        {"a1410102", ST_INVALID, "byte 1", "not acceptable CBOR: a map key must be text"},
        {"a18001", ST_INVALID, "byte 1", "not acceptable CBOR: a map key must be text"},
        {"bff601ff", ST_INVALID, "byte 1", "not acceptable CBOR: a map key must be text"},
        {"f97e00", ST_INVALID, "byte 0", "not acceptable CBOR: NaN and Infinity are no JSON numbers"},
        {"fa7f800000", ST_INVALID, "byte 0", "not acceptable CBOR: NaN and Infinity are no JSON numbers"},
        {"fbfff0000000000000", ST_INVALID, "byte 0", "not acceptable CBOR: NaN and Infinity are no JSON numbers"},
        {"62c328", ST_INVALID, "byte 0", "not acceptable CBOR: a text string is not valid UTF-8"},
        {"7f61c361bcff", ST_INVALID, "byte 1", "not acceptable CBOR: a text string is not valid UTF-8"},
        {"c2420100", ST_INVALID, "byte 0", "not acceptable CBOR: only the tags 0, 1 and 55799 are allowed"},
        {"c1c100", ST_INVALID, "byte 1", "not acceptable CBOR: only the tags 0, 1 and 55799 are allowed"},
        {"c000", ST_INVALID, "byte 1", "not acceptable CBOR: tag 0 must hold text"},
        {"c1f5", ST_INVALID, "byte 1", "not acceptable CBOR: tag 1 must hold a number"},
        {"c16161", ST_INVALID, "byte 1", "not acceptable CBOR: tag 1 must hold a number"},
        {"c11b0000003afff44180", ST_INVALID, "byte 1",
         "not acceptable CBOR: a time of tag 1 must be in the years 0 to 9999"},
        {"c13bffffffffffffffff", ST_INVALID, "byte 1",
         "not acceptable CBOR: a time of tag 1 must be in the years 0 to 9999"},
        {"a1c10001", ST_INVALID, "byte 2", "not acceptable CBOR: a map key must be text"},
        {"9bffffffffffffffff", ST_TOO_LARGE, "byte 0", "not acceptable CBOR: too many items"},
        {"bb8000000000000001", ST_TOO_LARGE, "byte 0", "not acceptable CBOR: too many items"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = buf_heap(4096);
        buf_str(&out, "before");
        struct err err = {0};
        enum status s = convert(rows[i].hex, &out, &err);
        assert_string_equal(err.where, rows[i].where);
        assert_string_equal(err.text, rows[i].text);
        assert_int_equal(s, rows[i].status);
        assert_true(slice_eq_str(buf_view(&out), "before"));
        buf_release(&out);
    }
}

static void test_limits(void **state)
{
    (void)state;
    uint8_t deep[64];
    memset(deep, 0x81, sizeof(deep));
    deep[32] = 0x00;
    struct buf out = buf_heap(4096);
    struct cbor_limits limits = cbor_limits_default();
    assert_int_equal(cbor_to_json(slice_make(deep, 33), &limits, &out, NULL), ST_OK);
    assert_int_equal(out.len, 65);
    deep[32] = 0x81;
    deep[33] = 0x00;
    assert_int_equal(cbor_to_json(slice_make(deep, 34), &limits, &out, NULL), ST_TOO_LARGE);
    limits.depth_max = 1;
    uint8_t item[16];
    assert_int_equal(cbor_to_json(unhex("8101", item), &limits, &out, NULL), ST_OK);
    assert_int_equal(cbor_to_json(unhex("818101", item), &limits, &out, NULL), ST_TOO_LARGE);
    limits.items_max = 3;
    assert_int_equal(cbor_to_json(unhex("820101", item), &limits, &out, NULL), ST_OK);
    assert_int_equal(cbor_to_json(unhex("9f0101ff", item), &limits, &out, NULL), ST_TOO_LARGE);
    buf_release(&out);
    char small[4];
    struct buf tight = buf_fixed(small, sizeof(small));
    assert_int_equal(cbor_to_json(unhex("626162", item), &(struct cbor_limits){1, 9}, &tight, NULL), ST_OK);
    buf_clear(&tight);
    assert_int_equal(cbor_to_json(unhex("63616263", item), &(struct cbor_limits){1, 9}, &tight, NULL), ST_TOO_LARGE);
}

static void test_telling_cbor_from_json(void **state)
{
    (void)state;
    uint8_t item[16];
    assert_true(cbor_likely(unhex("a0", item)));
    assert_true(cbor_likely(unhex("9f", item)));
    assert_true(cbor_likely(unhex("d9d9f7", item)));
    assert_false(cbor_likely(SLICE("")));
    static const char *const json[] = {"{}", "[", "\"", "-1", "0", " ", "\t", "\n", "\r", "true", "null", "false"};
    for (size_t i = 0; i < sizeof(json) / sizeof(json[0]); i++) {
        assert_false(cbor_likely(slice_str(json[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_telling_cbor_from_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
