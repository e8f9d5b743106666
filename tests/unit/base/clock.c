#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "base/clock.h"
#include "base/rand.h"

static void test_the_clocks_go(void **state)
{
    (void)state;
    int64_t wall = clock_wall_us();
    assert_true(wall > INT64_C(1700000000000000));
    int64_t mono = clock_mono_us();
    assert_true(clock_mono_us() >= mono);
    clock_fake(5, 7);
    assert_int_equal(clock_wall_us(), 5);
    assert_int_equal(clock_mono_us(), 7);
    clock_fake_off();
    assert_true(clock_wall_us() >= wall);
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {INT64_C(1795457460000001), "2026-11-23T18:11:00.000001Z"},
        {INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
        {INT64_C(-62167219200000000), "0000-01-01T00:00:00.000000Z"},
        {INT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z"},
    };
    char text[CLOCK_RFC3339_MAX];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        clock_rfc3339(rows[i].us, text);
        assert_string_equal(text, rows[i].text);
        int64_t back;
        assert_true(clock_parse(slice_str(text), &back));
        assert_true(back == rows[i].us);
    }
    clock_rfc3339(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    clock_rfc3339(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000000Z");
}

static void test_against_the_c_library(void **state)
{
    (void)state;
    rand_seed(1);
    for (unsigned i = 0; i < 20000; i++) {
        time_t t = (time_t)(rand_u64() % UINT64_C(315569520000)) - INT64_C(62167219200);
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        char want[64];
        strftime(want, sizeof(want), "-%m-%dT%H:%M:%S.000000Z", &tm);
        char text[CLOCK_RFC3339_MAX];
        clock_rfc3339((int64_t)t * 1000000, text);
        assert_string_equal(text + 4, want);
        assert_int_equal((text[0] - '0') * 1000 + (text[1] - '0') * 100 + (text[2] - '0') * 10 + text[3] - '0',
                         tm.tm_year + 1900);
    }
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:00z", 0},
        {"1970-01-01 00:00:00Z", 0},
        {"1970-01-01T01:30:00+01:30", 0},
        {"1969-12-31T23:00:00-01:00", 0},
        {"1970-01-01T00:00:00.5Z", 500000},
        {"1970-01-01T00:00:00.123456789Z", 123456},
        {"1990-12-31T23:59:60Z", INT64_C(662688000000000)},
        {"0", 0},
        {"1700000000000", INT64_C(1700000000000000)},
        {"1700000000000.001", INT64_C(1700000000000001)},
        {"1700000000000.25", INT64_C(1700000000000250)},
        {"-1.5", -1500},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t us = 1;
        assert_true(clock_parse(slice_str(rows[i].text), &us));
        assert_true(us == rows[i].us);
    }
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "-",
        "1.",
        ".5",
        "1e3",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-13-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "1970-01-32T00:00:00Z",
        "1970-01-00T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00+1:00",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+01:60",
        "1970-01-01T00:00:00Zx",
        "1970-01-01x00:00:00Z",
        "0000-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "99999999999999999999",
        "9999999999999999",
        " 1",
        "1 ",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t us = 77;
        assert_false(clock_parse(slice_str(bad[i]), &us));
        assert_int_equal(us, 77);
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"90s", 90000000},
        {"5m", 300000000},
        {"1h30m", 5400000000},
        {"7d", INT64_C(604800000000)},
        {"2w", 1209600000000},
        {"250ms", 250000},
        {"50us", 50},
        {"0s", 0},
        {"1s500ms", 1500000},
        {"1w1d1h1m1s1ms1us", INT64_C(694861001001)},
        {"007s", INT64_C(7000000)},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t us = -1;
        assert_true(clock_parse_duration(slice_str(good[i].text), &us));
        assert_true(us == good[i].us);
    }
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "-5s",
                                      "5 s",
                                      "1.5s",
                                      "1s1h",
                                      "1s1s",
                                      "5x",
                                      "5S",
                                      "5sm",
                                      "1h30",
                                      "1h 3m",
                                      "9999999999999999999s",
                                      "999999999999w"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t us = 77;
        assert_false(clock_parse_duration(slice_str(bad[i]), &us));
        assert_int_equal(us, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_clocks_go),         cmocka_unit_test(test_texts),
        cmocka_unit_test(test_against_the_c_library), cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),         cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
