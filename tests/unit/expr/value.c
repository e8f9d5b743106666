// Values by themselves: time, intervals, versions, patterns, and the order of numbers.
#include "expr/value.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/rand.h"

static void calendar_is_that_of_libc(void **state)
{
    (void)state;
    for (int64_t day = -719528; day < 2932897; day += 13) { // years 0 to 9999
        struct expr_calendar c;
        time_t t = (time_t)(day * 86400);
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        expr_calendar_of(day * EXPR_DAY_US + 5, &c);
        assert_int_equal(c.year, tm.tm_year + 1900);
        assert_int_equal(c.month, tm.tm_mon + 1);
        assert_int_equal(c.day, tm.tm_mday);
        assert_int_equal(c.weekday % 7, tm.tm_wday);
        assert_int_equal(c.yearday, tm.tm_yday + 1);
        assert_int_equal(c.day_us, 5);
        assert_int_equal(expr_calendar_us(c.year, c.month, c.day), day * EXPR_DAY_US);
    }
}

struct time_row {
    const char *text;
    const char *canonical; // NULL: no time
};

static const struct time_row times[] = {
    {"2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"},
    {"2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"},
    {"2026-01-31 12:00:00Z", "2026-01-31T12:00:00Z"},
    {"2026-01-31T12:00:00+02:30", "2026-01-31T09:30:00Z"},
    {"2026-01-31T12:00:00-23:59", "2026-02-01T11:59:00Z"},
    {"2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.5Z"},
    {"2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456Z"},
    {"2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:00.000001Z"},
    {"2026-01-31", "2026-01-31T00:00:00Z"},
    {"0000-01-01", "0000-01-01T00:00:00Z"},
    {"9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"},
    {"2024-02-29", "2024-02-29T00:00:00Z"},
    {"1900-02-29", NULL},
    {"2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
    {"0000-01-01T00:00:00+00:01", NULL},
    {"9999-12-31T23:59:00-00:01", NULL},
    {"2026-13-01", NULL},
    {"2026-00-01", NULL},
    {"2026-01-32", NULL},
    {"2026-1-1", NULL},
    {"2026-01-31T24:00:00Z", NULL},
    {"2026-01-31T12:60:00Z", NULL},
    {"2026-01-31T12:00:61Z", NULL},
    {"2026-01-31T12:00:00", NULL},
    {"2026-01-31T12:00:00.Z", NULL},
    {"2026-01-31T12:00:00.1234567890Z", NULL},
    {"2026-01-31T12:00:00+24:00", NULL},
    {"2026-01-31T12:00:00Z ", NULL},
    {"2026-01-31Z", NULL},
    {" 2026-01-31", NULL},
    {"1768910400000", NULL},
    {"", NULL},
};

static void time_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        int64_t us;
        char text[64];
        struct buf out = buf_fixed(text, sizeof(text));
        bool ok = expr_time_parse(slice_str(times[i].text), &us);
        if (ok != (times[i].canonical != NULL)) {
            fail_msg("%s", times[i].text);
        }
        if (ok) {
            expr_time_write(us, &out);
            assert_true(slice_eq_str(buf_view(&out), times[i].canonical));
        }
    }
}

struct interval_row {
    const char *text;
    int64_t months;
    int64_t us;
    const char *canonical; // NULL: no interval
};

static const struct interval_row intervals[] = {
    {"7 days", 0, 7 * EXPR_DAY_US, "7 days"},
    {"1week", 0, 7 * EXPR_DAY_US, "7 days"},
    {"1 year 2 months", 14, 0, "1 year 2 months"},
    {"-1 mon", -1, 0, "-1 month"},
    {"1.5 h 30 min", 0, 7200000000, "2 hours"},
    {"-90 s", 0, -90000000, "-1 minute -30 seconds"},
    {"250 ms 1 us", 0, 250001, "250001 microseconds"},
    {"1 d -1 h", 0, 82800000000, "23 hours"},
    {"0 s", 0, 0, "0 seconds"},
    {"9999 years", 119988, 0, "9999 years"},
    {"99999 years", 0, 0, NULL},
    {"1.5 years", 0, 0, NULL},
    {"1", 0, 0, NULL},
    {"days", 0, 0, NULL},
    {"1 dayz", 0, 0, NULL},
    {"1 day,", 0, 0, NULL},
    {"", 0, 0, NULL},
    {"1. day", 0, 0, NULL},
    {"999999999999 days", 0, 0, NULL},
    {"9999999999999 us", 0, 0, NULL},
};

static void interval_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(intervals) / sizeof(intervals[0]); i++) {
        const struct interval_row *row = &intervals[i];
        int64_t months = 0;
        int64_t us = 0;
        char text[128];
        struct buf out = buf_fixed(text, sizeof(text));
        bool ok = expr_interval_parse(slice_str(row->text), &months, &us);
        if (ok != (row->canonical != NULL)) {
            fail_msg("%s", row->text);
        }
        assert_int_equal(months, row->months);
        assert_int_equal(us, row->us);
        if (ok) {
            int64_t months_again;
            int64_t us_again;
            expr_interval_write(months, us, &out);
            assert_true(slice_eq_str(buf_view(&out), row->canonical));
            assert_true(expr_interval_parse(buf_view(&out), &months_again, &us_again));
            assert_true(months_again == months && us_again == us);
        }
    }
}

// Ascending; those with a - in front equal the one before.
static const char *const versions[] = {
    "0",
    "-v0.0.0",
    "0.0.1-0",
    "0.0.1",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "-1",
    "-1.0+build.5",
    "-01.00",
    "1.0.0.1",
    "1.2",
    "1.10",
    "1.10.1",
    "2-x-y",
    "2",
    "18446744073709551616",
    "18446744073709551617",
};
static const char *const no_versions[] = {"",     "v",    "1.",       ".1",   "1..2", "a",   "1.0rc1",
                                          "1.0-", "1.0+", "1.0-a..b", "1.0 ", "1,0",  "vv1", "1.0-\xc3\xa4"};

static void version_order(void **state)
{
    (void)state;
    int rank[sizeof(versions) / sizeof(versions[0])];
    int n = -1;
    const size_t count = sizeof(versions) / sizeof(versions[0]);
    for (size_t i = 0; i < count; i++) {
        n += versions[i][0] == '-' ? 0 : 1;
        rank[i] = n;
    }
    for (size_t i = 0; i < count; i++) {
        struct slice a = slice_str(versions[i] + (versions[i][0] == '-' ? 1 : 0));
        assert_true(expr_version_valid(a));
        for (size_t k = 0; k < count; k++) {
            struct slice b = slice_str(versions[k] + (versions[k][0] == '-' ? 1 : 0));
            int want = rank[i] < rank[k] ? -1 : rank[i] > rank[k] ? 1 : 0;
            int got = expr_version_compare(a, b);
            if ((got > 0) - (got < 0) != want) {
                fail_msg("%s and %s: %d", versions[i], versions[k], got);
            }
        }
    }
    for (size_t i = 0; i < sizeof(no_versions) / sizeof(no_versions[0]); i++) {
        assert_false(expr_version_valid(slice_str(no_versions[i])));
    }
    char text[EXPR_VERSION_MAX + 1];
    memset(text, '1', sizeof(text));
    assert_true(expr_version_valid(slice_make(text, EXPR_VERSION_MAX)));
    assert_false(expr_version_valid(slice_make(text, EXPR_VERSION_MAX + 1)));
}

// What like means, in the plainest words: reach[i] tells whether the pattern so far can end before character i of the text.
static bool like_by_table(struct slice pattern, struct slice text)
{
    bool reach[64] = {true};
    for (size_t p = 0; p < pattern.len; p++) {
        bool next[64] = {false};
        for (size_t t = 0; t <= text.len; t++) {
            if (pattern.p[p] == '%') {
                next[t] = reach[t] || (t > 0 && next[t - 1]);
            } else {
                next[t] = t > 0 && reach[t - 1] && (pattern.p[p] == '_' || pattern.p[p] == text.p[t - 1]);
            }
        }
        for (size_t t = 0; t <= text.len; t++) {
            reach[t] = next[t];
        }
    }
    return reach[text.len];
}

static void patterns(void **state)
{
    (void)state;
    unsigned matched = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t r = rand_u64();
        char pattern[12];
        char text[16];
        struct slice p = slice_make(pattern, r % 11);
        struct slice t = slice_make(text, r / 11 % 15);
        for (size_t k = 0; k < sizeof(pattern); k++) {
            pattern[k] = "ab%_"[rand_u64() % 4];
        }
        for (size_t k = 0; k < sizeof(text); k++) {
            text[k] = "ab"[rand_u64() % 2];
        }
        uint64_t steps;
        bool want = like_by_table(p, t);
        assert_int_equal(expr_like_match(EXPR_LIKE, p, 0, t, UINT64_MAX - 1, &steps), want);
        assert_true(steps <= (p.len + 2) * (t.len + 2));
        for (size_t k = 0; k < sizeof(pattern); k++) { // the same as glob
            pattern[k] = pattern[k] == '%' ? '*' : pattern[k] == '_' ? '?' : pattern[k];
        }
        assert_int_equal(expr_like_match(EXPR_GLOB, p, 0, t, UINT64_MAX - 1, &steps), want);
        assert_false(expr_like_match(EXPR_GLOB, p, 0, t, steps > 0 ? steps - 1 : 0, &steps) && steps > 1);
        matched += want ? 1 : 0;
    }
    assert_true(matched > 20000);
}

// The same order as with 128 bits, or long double, whose mantissa holds both kinds.
static void numbers_compare_exactly(void **state)
{
    (void)state;
    static const int64_t near[] = {0,         1,         INT64_C(1) << 53, (INT64_C(1) << 53) + 1,
                                   INT64_MAX, INT64_MIN, INT64_MIN + 1,    -5};
    for (unsigned i = 0; i < 100000; i++) {
        int64_t a = i % 2 == 0 ? near[rand_u64() % 8] : (int64_t)(rand_u64() >> rand_u64() % 64);
        double b = i % 3 == 0 ? (double)near[rand_u64() % 8] + (double)(rand_u64() % 3) - 1
                              : (double)(int64_t)rand_u64() / 1024.0;
        struct expr_value x = expr_int(a);
        struct expr_value y = expr_real(b);
        long double wide = (long double)a;
        int want = wide < (long double)b ? -1 : wide > (long double)b ? 1 : 0;
        int order;
        assert_true(expr_compare(&x, &y, &order));
        assert_int_equal((order > 0) - (order < 0), want);
        assert_true(expr_compare(&y, &x, &order));
        assert_int_equal((order > 0) - (order < 0), -want);
    }
}

static void no_values(void **state)
{
    (void)state;
    assert_int_equal(expr_real(NAN).type, EXPR_NULL);
    assert_int_equal(expr_real(INFINITY).type, EXPR_NULL);
    assert_false(signbit(expr_real(-0.0).d));
    assert_int_equal(expr_time(EXPR_TIME_MAX + 1).type, EXPR_NULL);
    assert_int_equal(expr_time(EXPR_TIME_MIN - 1).type, EXPR_NULL);
    assert_int_equal(expr_point(90.1, 0).type, EXPR_NULL);
    assert_int_equal(expr_point(NAN, 0).type, EXPR_NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calendar_is_that_of_libc),
        cmocka_unit_test(time_text),
        cmocka_unit_test(interval_text),
        cmocka_unit_test(version_order),
        cmocka_unit_test(patterns),
        cmocka_unit_test(numbers_compare_exactly),
        cmocka_unit_test(no_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
