#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

// Reads the whole text and writes what was read as one line: the reader's view, easy to compare.
static const char *trace(const char *text, char *out, size_t out_size)
{
    struct json j;
    json_init(&j, slice_str(text), 32);
    struct buf b = buf_fixed(out, out_size - 1);
    for (;;) {
        enum json_token t = json_next(&j);
        static const char *const names[] = {"!", "$", "{", "}", "[", "]", "k:", "s:", "i:", "d:", "T", "F", "N"};
        buf_str(&b, names[t]);
        if (t == JT_KEY || t == JT_STRING) {
            assert_true(!j.escaped || json_unescape(j.str, &b));
            if (!j.escaped) {
                buf_slice(&b, j.str);
            }
        } else if (t == JT_INT) {
            assert_true(j.d == (double)j.i);
            buf_printf(&b, "%lld", (long long)j.i);
        } else if (t == JT_DOUBLE) {
            buf_printf(&b, "%.17g", j.d);
        } else if (t == JT_ERROR) {
            buf_printf(&b, "%zu %s", j.off, j.error);
        }
        if (t == JT_ERROR || t == JT_END) {
            assert_int_equal(json_next(&j), t); // stays so
            assert_false(b.failed);
            out[b.len] = '\0';
            return out;
        }
        buf_str(&b, " ");
    }
}

static void test_accepts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"1", "i:1 $"},
        {" [ ] ", "[ ] $"},
        {"{}", "{ } $"},
        {"{\"t\":21.5,\"h\":40}", "{ k:t d:21.5 k:h i:40 } $"},
        {"[true,false,null,\"x\"]", "[ T F N s:x ] $"},
        {"[[],[{}],{\"a\":[]}]", "[ [ ] [ { } ] { k:a [ ] } ] $"},
        {"\"\\u0041\\n\\ud83d\\ude00\\u00e9\\\"\\\\\\/\"", "s:A\n\xf0\x9f\x98\x80\xc3\xa9\"\\/ $"},
        {"\"caf\xc3\xa9, longer than eight bytes \xf0\x9f\x98\x80\"",
         "s:caf\xc3\xa9, longer than eight bytes \xf0\x9f\x98\x80 $"},
        {"[-0,0,9223372036854775807,-9223372036854775808]",
         "[ i:0 i:0 i:9223372036854775807 i:-9223372036854775808 ] $"},
        {"[9223372036854775808,-9223372036854775809]", "[ d:9.2233720368547758e+18 d:-9.2233720368547758e+18 ] $"},
        {"[1e3,1.5E-2,0.1,-0.0,5e-324]", "[ d:1000 d:0.014999999999999999 d:0.10000000000000001 d:-0 "
                                         "d:4.9406564584124654e-324 ] $"},
        {"[1e-400,0e999999999999999999999,1.7976931348623157e308]", "[ d:0 d:0 d:1.7976931348623157e+308 ] $"},
        {"\"\\u0000\"", "s:"},
    };
    char out[512];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(trace(rows[i].text, out, sizeof(out)), rows[i].want);
    }
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", "!0 the text ends too early"},
        {"  ", "!2 the text ends too early"},
        {"[1,]", "[ i:1 !3 a value is true, false, null, a number, a string, an object or an array"},
        {"[1 2]", "[ i:1 !3 ',' or ']' expected"},
        {"{\"a\" 1}", "{ !5 ':' expected after the key"},
        {"{a:1}", "{ !1 a key in double quotes expected"},
        {"{\"a\":1,}", "{ k:a i:1 !7 a key in double quotes expected"},
        {"{\"a\":1]", "{ k:a i:1 !6 ',' or '}' expected"},
        {"[}", "[ !1 a value is true, false, null, a number, a string, an object or an array"},
        {"1 2", "i:1 !2 nothing may follow the value"},
        {"01", "!0 leading zero in a number"},
        {"-", "!1 the text ends too early"},
        {"1.", "!2 the text ends too early"},
        {"1.x", "!2 digits expected after the decimal point"},
        {"1e+", "!3 the text ends too early"},
        {"1ex", "!2 digits expected in the exponent"},
        {".5", "!0 a value is true, false, null, a number, a string, an object or an array"},
        {"+1", "!0 a value is true, false, null, a number, a string, an object or an array"},
        {"1e309", "!0 number too large"},
        {"NaN", "!0 a value is true, false, null, a number, a string, an object or an array"},
        {"tru", "!0 a value is true, false, null, a number, a string, an object or an array"},
        {"\"a", "!2 the text ends too early"},
        {"\"a\nb\"", "!2 control character in a string"},
        {"\"12345678\x1f\"", "!9 control character in a string"},
        {"{\"a\\u0000\":1}", "{ !3 \\u0000 in a key"},
        {"\"\\x\"", "!1 invalid escape in a string"},
        {"\"\\u12g4\"", "!1 invalid escape in a string"},
        {"\"\\ud800\"", "!1 invalid escape in a string"},
        {"\"\\ud800\\u0041\"", "!1 invalid escape in a string"},
        {"\"\\udc00\"", "!1 invalid escape in a string"},
        {"\"\xc0\x80\"", "!1 invalid UTF-8 in a string"},
        {"\"\xed\xa0\x80\"", "!1 invalid UTF-8 in a string"},
        {"\"abc\xff\"", "!4 invalid UTF-8 in a string"},
        {"\xef\xbb\xbf{}", "!0 a value is true, false, null, a number, a string, an object or an array"},
    };
    char out[512];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(trace(rows[i].text, out, sizeof(out)), rows[i].want);
    }
}

static void test_nul_in_the_text_is_refused(void **state)
{
    (void)state;
    struct json j;
    json_init(&j, slice_make("\"a\0b\"", 5), 32);
    assert_int_equal(json_next(&j), JT_ERROR);
    json_init(&j, slice_make("1\0", 2), 32);
    assert_int_equal(json_next(&j), JT_INT);
    assert_int_equal(json_next(&j), JT_ERROR);
    json_init(&j, slice_make("\"\\\0\"", 4), 32);
    assert_int_equal(json_next(&j), JT_ERROR);
}

static void test_depth(void **state)
{
    (void)state;
    struct json j;
    json_init(&j, SLICE("[[1]]"), 1);
    assert_int_equal(json_next(&j), JT_ARRAY);
    assert_int_equal(json_next(&j), JT_ERROR);
    assert_int_equal(j.off, 1);
    json_init(&j, SLICE("1"), 0);
    assert_int_equal(json_next(&j), JT_INT);
    json_init(&j, SLICE("{}"), 0);
    assert_int_equal(json_next(&j), JT_ERROR);
    char text[80];
    memset(text, '[', 40);
    json_init(&j, slice_make(text, 40), 1000); // never deeper than JSON_DEPTH_MAX
    for (unsigned i = 0; i < JSON_DEPTH_MAX; i++) {
        assert_int_equal(json_next(&j), JT_ARRAY);
    }
    assert_int_equal(json_next(&j), JT_ERROR);
    assert_string_equal(j.error, "nested too deeply");
}

static void test_a_megabyte_of_brackets_is_refused_at_once(void **state)
{
    (void)state;
    static char text[1 << 20];
    memset(text, '[', sizeof(text));
    struct err err;
    assert_int_equal(json_check(slice_make(text, sizeof(text)), 32, 10000, &err), ST_MALFORMED);
    assert_string_equal(err.where, "byte 32");
}

static void test_numbers_are_exact(void **state)
{
    (void)state;
    // Halfway cases and long digits, against the C library in the C locale.
    static const char *const texts[] = {
        "9007199254740993.0",
        "9007199254740992.5",
        "9007199254740991.5",
        "0.1234567890123456789012345678901234567890",
        "123456789012345678901234567890",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "4.9406564584124654e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
        "17976931348623158079372897140530341507993413271003782693617377898044496829276475094664901797758720709633028641"
        "6"
        "69288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027006985557136695"
        "9"
        "622842914819860834936475292719074168444365510704342711559699508093042880177904174497791."
        "999999999999999999999999",
        "1e23",
        "8.5e22",
        "1e-22",
        "1e22",
        "0.000000000000000000000000000000000000000000001e45",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json j;
        json_init(&j, slice_str(texts[i]), 1);
        assert_int_equal(json_next(&j), JT_DOUBLE);
        double want = strtod(texts[i], NULL);
        assert_memory_equal(&j.d, &want, sizeof(want));
    }
}

static void test_very_long_numbers(void **state)
{
    (void)state;
    static char text[3000];
    // 1 followed by 1,500 zeros behind the point and a last digit: above one by less than can be held, but rounds down.
    text[0] = '1';
    text[1] = '.';
    memset(text + 2, '0', 1500);
    text[1502] = '7';
    struct json j;
    json_init(&j, slice_make(text, 1503), 1);
    assert_int_equal(json_next(&j), JT_DOUBLE);
    assert_true(j.d == 1.0);
    // A tie at bit 53 that only the 900th digit breaks.
    memset(text, '0', sizeof(text));
    memcpy(text, "9007199254740993.", 17);
    text[900] = '1';
    json_init(&j, slice_make(text, 901), 1);
    assert_int_equal(json_next(&j), JT_DOUBLE);
    assert_true(j.d == 9007199254740994.0);
    json_init(&j, slice_make(text, 900), 1);
    assert_int_equal(json_next(&j), JT_DOUBLE);
    assert_true(j.d == 9007199254740992.0);
}

static void test_skip(void **state)
{
    (void)state;
    struct json j;
    json_init(&j, SLICE("{\"a\":{\"b\":[1,{}]},\"c\":[[],2],\"d\":3,\"e\":4}"), 32);
    assert_int_equal(json_next(&j), JT_OBJECT);
    assert_int_equal(json_next(&j), JT_KEY);
    assert_true(json_skip(&j, json_next(&j))); // the object
    assert_int_equal(json_next(&j), JT_KEY);
    assert_true(json_skip(&j, JT_KEY)); // key and array
    assert_int_equal(json_next(&j), JT_KEY);
    assert_true(json_skip(&j, json_next(&j))); // a scalar has no rest
    assert_int_equal(json_next(&j), JT_KEY);
    assert_true(slice_eq_str(j.str, "e"));
    assert_int_equal(json_next(&j), JT_INT);
    assert_int_equal(json_next(&j), JT_OBJECT_END);
    assert_int_equal(json_next(&j), JT_END);
    json_init(&j, SLICE("[[1,"), 32);
    assert_false(json_skip(&j, json_next(&j)));
}

static void test_unescape(void **state)
{
    (void)state;
    char mem[8];
    struct buf b = buf_fixed(mem, sizeof(mem));
    assert_true(json_unescape(SLICE("a\\u00e9b"), &b));
    assert_true(slice_eq_str(buf_view(&b), "a\xc3\xa9"
                                           "b"));
    buf_clear(&b);
    assert_false(json_unescape(SLICE("\\ud800x"), &b));
    buf_clear(&b);
    assert_false(json_unescape(SLICE("\\"), &b));
    buf_clear(&b);
    assert_false(json_unescape(SLICE("123456789"), &b)); // no room
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_nul_in_the_text_is_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_a_megabyte_of_brackets_is_refused_at_once),
        cmocka_unit_test(test_numbers_are_exact),
        cmocka_unit_test(test_very_long_numbers),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_unescape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
