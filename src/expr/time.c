#include <stdio.h>

#include "base/reader.h"
#include "expr/value.h"

#define SECOND_US INT64_C(1000000)

// ---- The calendar: proleptic Gregorian, years from March so that the leap day comes last ------------------------------------

int64_t expr_calendar_us(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return days * EXPR_DAY_US;
}

void expr_calendar_of(int64_t time_us, struct expr_calendar *ret)
{
    int64_t days = time_us / EXPR_DAY_US - (time_us % EXPR_DAY_US < 0 ? 1 : 0);
    ret->day_us = time_us - days * EXPR_DAY_US;
    ret->weekday = (int)(((days + 3) % 7 + 7) % 7) + 1;
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t of_era = z - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    ret->day = (int)(of_year - (153 * m + 2) / 5 + 1);
    ret->month = (int)(m < 10 ? m + 3 : m - 9);
    ret->year = y + era * 400 + (ret->month <= 2 ? 1 : 0);
    ret->yearday =
        (int)((expr_calendar_us(ret->year, ret->month, ret->day) - expr_calendar_us(ret->year, 1, 1)) / EXPR_DAY_US) +
        1;
}

static int month_days(int64_t year, int month)
{
    int64_t next = month == 12 ? expr_calendar_us(year + 1, 1, 1) : expr_calendar_us(year, month + 1, 1);
    return (int)((next - expr_calendar_us(year, month, 1)) / EXPR_DAY_US);
}

static bool in_range(int64_t us)
{
    return us >= EXPR_TIME_MIN && us <= EXPR_TIME_MAX;
}

bool expr_time_add(int64_t time_us, int64_t months, int64_t us, int64_t *ret_us)
{
    int64_t t = time_us;
    if (months != 0) {
        struct expr_calendar c;
        if (months < -120000 || months > 120000) {
            return false;
        }
        expr_calendar_of(time_us, &c);
        int64_t total = c.year * 12 + c.month - 1 + months;
        int64_t year = total >= 0 ? total / 12 : -1;
        if (total < 0 || year > 9999) {
            return false;
        }
        int month = (int)(total % 12) + 1;
        int last = month_days(year, month);
        t = expr_calendar_us(year, month, c.day < last ? c.day : last) + c.day_us;
    }
    return !__builtin_add_overflow(t, us, ret_us) && in_range(*ret_us);
}

// ---- RFC 3339 --------------------------------------------------------------------------------------------------------------

// Exactly n digits.
static int read_digits(struct reader *r, unsigned n)
{
    int v = 0;
    for (unsigned i = 0; i < n; i++) {
        uint8_t c = rd_u8(r);
        r->failed = r->failed || c < '0' || c > '9';
        v = v * 10 + (c - '0');
    }
    return r->failed ? -1 : v;
}

static void expect(struct reader *r, char c)
{
    r->failed = rd_u8(r) != (uint8_t)c || r->failed;
}

// ".123456789": microseconds; what is finer is cut.
static int64_t read_fraction(struct reader *r)
{
    int64_t us = 0;
    int digits = 0;
    if (rd_peek(r) != '.') {
        return 0;
    }
    rd_u8(r);
    for (; rd_peek(r) >= '0' && rd_peek(r) <= '9'; digits++) {
        uint8_t c = rd_u8(r);
        us = digits < 6 ? us * 10 + (c - '0') : us;
    }
    for (int i = digits; i < 6; i++) {
        us *= 10;
    }
    r->failed = r->failed || digits == 0 || digits > 9;
    return us;
}

// "Z", "+02:00": microseconds to take away.
static int64_t read_offset(struct reader *r)
{
    uint8_t sign = rd_u8(r);
    if (sign == 'Z' || sign == 'z') {
        return 0;
    }
    int hours = read_digits(r, 2);
    expect(r, ':');
    int minutes = read_digits(r, 2);
    r->failed = r->failed || (sign != '+' && sign != '-') || hours > 23 || minutes > 59;
    int64_t us = ((int64_t)hours * 60 + minutes) * 60 * SECOND_US;
    return sign == '-' ? -us : us;
}

static int64_t read_clock(struct reader *r)
{
    int hour = read_digits(r, 2);
    expect(r, ':');
    int minute = read_digits(r, 2);
    expect(r, ':');
    int second = read_digits(r, 2);
    r->failed = r->failed || hour > 23 || minute > 59 || second > 60; // a leap second is the next one
    int64_t us = (((int64_t)hour * 60 + minute) * 60 + second) * SECOND_US;
    us += read_fraction(r);
    return us - read_offset(r);
}

bool expr_time_parse(struct slice s, int64_t *ret_us)
{
    struct reader r = reader_make(s);
    int year = read_digits(&r, 4);
    expect(&r, '-');
    int month = read_digits(&r, 2);
    expect(&r, '-');
    int day = read_digits(&r, 2);
    if (r.failed || month < 1 || month > 12 || day < 1 || day > month_days(year, month)) {
        return false;
    }
    int64_t us = expr_calendar_us(year, month, day);
    if (reader_left(&r) > 0) {
        uint8_t t = rd_u8(&r);
        us += read_clock(&r);
        r.failed = r.failed || (t != 'T' && t != 't' && t != ' ');
    }
    if (!reader_done(&r) || !in_range(us)) {
        return false;
    }
    *ret_us = us;
    return true;
}

void expr_time_write(int64_t us, struct buf *out)
{
    struct expr_calendar c;
    expr_calendar_of(us, &c);
    int64_t seconds = c.day_us / SECOND_US;
    int64_t fraction = c.day_us % SECOND_US;
    buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", (int)c.year, c.month, c.day, (int)(seconds / 3600),
               (int)(seconds / 60 % 60), (int)(seconds % 60));
    if (fraction > 0) {
        int digits = 6;
        for (; fraction % 10 == 0; fraction /= 10) {
            digits--;
        }
        buf_printf(out, ".%0*d", digits, (int)fraction);
    }
    buf_u8(out, 'Z');
}

// ---- Intervals -------------------------------------------------------------------------------------------------------------

struct unit {
    const char *names[3]; // one, many, short
    int64_t months;
    int64_t us;
};

static const struct unit units[] = {
    {{"year", "years", "y"}, 12, 0},
    {{"month", "months", "mon"}, 1, 0},
    {{"week", "weeks", "w"}, 0, 7 * EXPR_DAY_US},
    {{"day", "days", "d"}, 0, EXPR_DAY_US},
    {{"hour", "hours", "h"}, 0, 3600 * SECOND_US},
    {{"minute", "minutes", "min"}, 0, 60 * SECOND_US},
    {{"second", "seconds", "s"}, 0, SECOND_US},
    {{"millisecond", "milliseconds", "ms"}, 0, 1000},
    {{"microsecond", "microseconds", "us"}, 0, 1},
};
#define UNIT_COUNT (sizeof(units) / sizeof(units[0]))

static const struct unit *read_unit(struct reader *r)
{
    const uint8_t *first = r->p;
    while (rd_peek(r) >= 'a' && rd_peek(r) <= 'z') {
        rd_u8(r);
    }
    struct slice name = slice_make(first, (size_t)(r->p - first));
    for (size_t i = 0; i < UNIT_COUNT * 3; i++) {
        if (slice_eq_str(name, units[i / 3].names[i % 3])) {
            return &units[i / 3];
        }
    }
    return NULL;
}

static void read_blanks(struct reader *r)
{
    while (rd_peek(r) == ' ') {
        rd_u8(r);
    }
}

// "12", "-1.5" as millionths. False when it is no number or a large one.
static bool read_amount(struct reader *r, int64_t *ret_millionths)
{
    bool negative = rd_peek(r) == '-';
    int64_t v = 0;
    if (negative || rd_peek(r) == '+') {
        rd_u8(r);
    }
    const uint8_t *first = r->p;
    while (rd_peek(r) >= '0' && rd_peek(r) <= '9' && r->p - first < 12) {
        v = v * 10 + (rd_u8(r) - '0');
    }
    bool some = r->p > first;
    v = v * 1000000 + read_fraction(r);
    *ret_millionths = negative ? -v : v;
    return some && !r->failed;
}

// "-1.5 hours" added to what is there.
static bool read_part(struct reader *r, int64_t *months, int64_t *us)
{
    int64_t amount;
    if (!read_amount(r, &amount)) {
        return false;
    }
    read_blanks(r);
    const struct unit *u = read_unit(r);
    if (u == NULL || (u->months > 0 && amount % 1000000 != 0)) {
        return false;
    }
    __int128 part = (__int128)amount * u->us / 1000000;
    if (part < -EXPR_TIME_MAX || part > EXPR_TIME_MAX) {
        return false;
    }
    *months += amount / 1000000 * u->months;
    *us += (int64_t)part;
    return *months >= -120000 && *months <= 120000 && *us >= -EXPR_TIME_MAX && *us <= EXPR_TIME_MAX;
}

bool expr_interval_parse(struct slice s, int64_t *ret_months, int64_t *ret_us)
{
    struct reader r = reader_make(s);
    int64_t months = 0;
    int64_t us = 0;
    read_blanks(&r);
    do {
        if (!read_part(&r, &months, &us)) {
            return false;
        }
        read_blanks(&r);
    } while (reader_left(&r) > 0);
    *ret_months = months;
    *ret_us = us;
    return true;
}

// " 3 days" and the like; a separator when something stands before it.
static void write_part(struct buf *out, size_t first, int64_t n, const struct unit *u)
{
    if (n != 0) {
        buf_printf(out, "%s%lld %s", out->len > first ? " " : "", (long long)n, u->names[n == 1 || n == -1 ? 0 : 1]);
    }
}

void expr_interval_write(int64_t months, int64_t us, struct buf *out)
{
    size_t first = out->len;
    write_part(out, first, months / 12, &units[0]);
    write_part(out, first, months % 12, &units[1]);
    write_part(out, first, us / EXPR_DAY_US, &units[3]);
    us %= EXPR_DAY_US;
    write_part(out, first, us / units[4].us, &units[4]);
    us %= units[4].us;
    write_part(out, first, us / units[5].us, &units[5]);
    us %= units[5].us;
    write_part(out, first, us / SECOND_US, &units[6]);
    write_part(out, first, us % SECOND_US, &units[8]);
    if (out->len == first) {
        buf_str(out, "0 seconds");
    }
}
