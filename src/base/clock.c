#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/reader.h"

#define US_PER_S   INT64_C(1000000)
#define US_PER_DAY (INT64_C(86400) * US_PER_S)
// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: what RFC 3339 can write.
#define WALL_US_MIN (INT64_C(-719528) * US_PER_DAY)
#define WALL_US_MAX (INT64_C(2932897) * US_PER_DAY - 1)

// The fake of tests and simulation; read by every thread.
static _Atomic bool clock_faked;
static _Atomic int64_t clock_fake_wall_us;
static _Atomic int64_t clock_fake_mono_us;

static int64_t clock_read_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    if (atomic_load_explicit(&clock_faked, memory_order_acquire)) {
        return atomic_load_explicit(&clock_fake_wall_us, memory_order_relaxed);
    }
    return clock_read_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    if (atomic_load_explicit(&clock_faked, memory_order_acquire)) {
        return atomic_load_explicit(&clock_fake_mono_us, memory_order_relaxed);
    }
    return clock_read_us(CLOCK_MONOTONIC);
}

void clock_fake(int64_t wall_us, int64_t mono_us)
{
    atomic_store_explicit(&clock_fake_wall_us, wall_us, memory_order_relaxed);
    atomic_store_explicit(&clock_fake_mono_us, mono_us, memory_order_relaxed);
    atomic_store_explicit(&clock_faked, true, memory_order_release);
}

void clock_fake_off(void)
{
    atomic_store_explicit(&clock_faked, false, memory_order_release);
}

static bool clock_leap_year(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int clock_month_days(int64_t year, int month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && clock_leap_year(year) ? 1 : 0);
}

// Days from 0000-01-01 to the first of January of `year` (proleptic Gregorian, 0 <= year <= 10000).
static int64_t clock_days_before_year(int64_t year)
{
    return year == 0 ? 0 : year * 365 + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1;
}

void clock_rfc3339(int64_t wall_us, char *dst)
{
    if (wall_us < WALL_US_MIN) {
        wall_us = WALL_US_MIN;
    }
    if (wall_us > WALL_US_MAX) {
        wall_us = WALL_US_MAX;
    }
    int64_t us = wall_us - WALL_US_MIN; // since the year 0, never negative
    int64_t day = us / US_PER_DAY;
    us %= US_PER_DAY;
    int64_t year = day * 400 / 146097; // the right one or one too few or many
    while (year > 0 && clock_days_before_year(year) > day) {
        year--;
    }
    while (clock_days_before_year(year + 1) <= day) {
        year++;
    }
    int rest = (int)(day - clock_days_before_year(year));
    int month = 1;
    while (rest >= clock_month_days(year, month)) {
        rest -= clock_month_days(year, month++);
    }
    int second = (int)(us / US_PER_S);
    snprintf(dst, CLOCK_RFC3339_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", (unsigned)year % 10000U,
             (unsigned)month % 100U, (unsigned)(rest + 1) % 100U, (unsigned)second / 3600U % 100U,
             (unsigned)second / 60U % 60U, (unsigned)second % 60U, (unsigned)(us % US_PER_S));
}

// A number of exactly n digits.
static int rd_digits(struct reader *r, unsigned n)
{
    int v = 0;
    for (unsigned i = 0; i < n; i++) {
        uint8_t c = rd_u8(r);
        if (c < '0' || c > '9') {
            r->failed = true;
            return 0;
        }
        v = v * 10 + (c - '0');
    }
    return v;
}

static void rd_expect(struct reader *r, char want)
{
    if (rd_u8(r) != (uint8_t)want) {
        r->failed = true;
    }
}

// ".123" as units of 10^-places, cut after that many digits; 0 when there is no point.
static int64_t rd_fraction(struct reader *r, unsigned places)
{
    if (rd_peek(r) != '.') {
        return 0;
    }
    rd_u8(r);
    int64_t v = 0;
    unsigned n = 0;
    for (int c = rd_peek(r); c >= '0' && c <= '9'; c = rd_peek(r)) {
        rd_u8(r);
        if (n < places) {
            v = v * 10 + (c - '0');
        }
        n++;
    }
    if (n == 0) {
        r->failed = true;
    }
    for (; n < places; n++) {
        v *= 10;
    }
    return v;
}

// "Z", "+01:00": seconds east of Greenwich.
static int64_t rd_offset(struct reader *r)
{
    uint8_t sign = rd_u8(r);
    if (sign == 'Z' || sign == 'z') {
        return 0;
    }
    int hours = rd_digits(r, 2);
    rd_expect(r, ':');
    int minutes = rd_digits(r, 2);
    if ((sign != '+' && sign != '-') || hours > 23 || minutes > 59) {
        r->failed = true;
    }
    int64_t s = hours * 3600 + minutes * 60;
    return sign == '-' ? -s : s;
}

// RFC 3339 section 5.6; a blank may stand for the T. A leap second is the first moment of the next minute.
static bool clock_parse_rfc3339(struct reader r, int64_t *ret_wall_us)
{
    int year = rd_digits(&r, 4);
    rd_expect(&r, '-');
    int month = rd_digits(&r, 2);
    rd_expect(&r, '-');
    int day = rd_digits(&r, 2);
    uint8_t t = rd_u8(&r);
    int hour = rd_digits(&r, 2);
    rd_expect(&r, ':');
    int minute = rd_digits(&r, 2);
    rd_expect(&r, ':');
    int second = rd_digits(&r, 2);
    int64_t fraction_us = rd_fraction(&r, 6);
    int64_t offset_s = rd_offset(&r);
    if (!reader_done(&r) || (t != 'T' && t != 't' && t != ' ') || month < 1 || month > 12 || day < 1 ||
        day > clock_month_days(year, month) || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    int64_t days = clock_days_before_year(year) + day - 1;
    for (int m = 1; m < month; m++) {
        days += clock_month_days(year, m);
    }
    int64_t wall_us =
        WALL_US_MIN + days * US_PER_DAY + (hour * 3600 + minute * 60 + second - offset_s) * US_PER_S + fraction_us;
    if (wall_us < WALL_US_MIN || wall_us > WALL_US_MAX) {
        return false;
    }
    *ret_wall_us = wall_us;
    return true;
}

// A whole number of at least one digit that stays under `max`.
static int64_t rd_decimal(struct reader *r, int64_t max)
{
    int64_t v = 0;
    unsigned n = 0;
    for (int c = rd_peek(r); c >= '0' && c <= '9'; c = rd_peek(r), n++) {
        rd_u8(r);
        if (v > (max - (c - '0')) / 10) {
            r->failed = true;
            return 0;
        }
        v = v * 10 + (c - '0');
    }
    if (n == 0) {
        r->failed = true;
    }
    return v;
}

static bool clock_parse_epoch_ms(struct reader r, int64_t *ret_wall_us)
{
    bool negative = rd_peek(&r) == '-';
    if (negative) {
        rd_u8(&r);
    }
    int64_t ms = rd_decimal(&r, WALL_US_MAX / 1000);
    int64_t us = ms * 1000 + rd_fraction(&r, 3);
    us = negative ? -us : us;
    if (!reader_done(&r) || us < WALL_US_MIN || us > WALL_US_MAX) {
        return false;
    }
    *ret_wall_us = us;
    return true;
}

bool clock_parse(struct slice text, int64_t *ret_wall_us)
{
    struct reader r = reader_make(text);
    bool date = text.len > 5 && text.p[4] == '-';
    return date ? clock_parse_rfc3339(r, ret_wall_us) : clock_parse_epoch_ms(r, ret_wall_us);
}

struct clock_unit {
    const char *name;
    int64_t us;
};

// Longest first: each may follow only longer ones.
static const struct clock_unit clock_units[] = {
    {"w", 7 * US_PER_DAY}, {"d", US_PER_DAY}, {"h", 3600 * US_PER_S}, {"m", 60 * US_PER_S}, {"s", US_PER_S},
    {"ms", 1000},          {"us", 1},
};
#define CLOCK_UNITS (sizeof(clock_units) / sizeof(clock_units[0]))

bool clock_parse_duration(struct slice text, int64_t *ret_us)
{
    struct reader r = reader_make(text);
    int64_t sum = 0;
    unsigned next_unit = 0;
    while (!r.failed && reader_left(&r) > 0) {
        int64_t n = rd_decimal(&r, INT64_MAX);
        const uint8_t *name = r.p;
        for (int c = rd_peek(&r); c >= 'a' && c <= 'z'; c = rd_peek(&r)) {
            rd_u8(&r);
        }
        struct slice unit = slice_make(name, (size_t)(r.p - name));
        unsigned u = next_unit;
        while (u < CLOCK_UNITS && !slice_eq_str(unit, clock_units[u].name)) {
            u++;
        }
        int64_t us;
        if (r.failed || u == CLOCK_UNITS || __builtin_mul_overflow(n, clock_units[u].us, &us) ||
            __builtin_add_overflow(sum, us, &sum)) {
            return false;
        }
        next_unit = u + 1;
    }
    if (r.failed || text.len == 0) {
        return false;
    }
    *ret_us = sum;
    return true;
}
