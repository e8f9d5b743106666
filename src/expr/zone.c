#include "expr/zone.h"

#include "base/reader.h"

#define TZIF_MAGIC UINT32_C(0x545a6966) // "TZif"
#define SECOND_US  INT64_C(1000000)
#define HOUR_US    INT64_C(3600000000)
#define TYPES_MAX  256

// The numbers of a header, in its order.
struct counts {
    uint32_t utc, standard, leaps, times, types, chars;
};

struct zone {
    struct expr_zone_row *rows;
    unsigned max;
    unsigned count;
    bool full;
};

static void add_row(struct zone *z, int64_t from_us, int64_t offset_us)
{
    if (z->count > 0 && z->rows[z->count - 1].offset_us == offset_us) {
        return; // another name, the same time
    }
    if (z->count == z->max) {
        z->full = true;
        return;
    }
    z->rows[z->count++] = (struct expr_zone_row){from_us, offset_us};
}

static bool read_header(struct reader *r, struct counts *ret, uint8_t *ret_version)
{
    bool magic = rd_u32(r) == TZIF_MAGIC;
    *ret_version = rd_u8(r);
    rd_bytes(r, 15);
    ret->utc = rd_u32(r);
    ret->standard = rd_u32(r);
    ret->leaps = rd_u32(r);
    ret->times = rd_u32(r);
    ret->types = rd_u32(r);
    ret->chars = rd_u32(r);
    return magic && !r->failed;
}

// The data of version 1 has 32-bit times and is passed over.
static void skip_old(struct reader *r, const struct counts *c)
{
    uint64_t n =
        (uint64_t)c->times * 5 + (uint64_t)c->types * 6 + c->chars + (uint64_t)c->leaps * 8 + c->standard + c->utc;
    rd_bytes(r, n);
}

// Times beyond the years 0 to 9999 are as good as the nearest of them.
static int64_t clamp_us(int64_t seconds)
{
    int64_t us;
    if (__builtin_mul_overflow(seconds, SECOND_US, &us) || us < EXPR_TIME_MIN || us > EXPR_TIME_MAX) {
        return seconds < 0 ? EXPR_TIME_MIN : EXPR_TIME_MAX;
    }
    return us;
}

// The transitions; *ret_last is the time of the last.
static bool read_times(struct reader *r, const struct counts *c, struct zone *z, int64_t *ret_last)
{
    struct reader times = rd_sub(r, (size_t)c->times * 8);
    struct reader indexes = rd_sub(r, c->times);
    struct reader types = rd_sub(r, (size_t)c->types * 6);
    int64_t offset_us[TYPES_MAX];
    if (r->failed || c->types == 0 || c->types > TYPES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < c->types; i++) {
        offset_us[i] = (int32_t)rd_u32(&types) * SECOND_US;
        rd_u16(&types);
        if (offset_us[i] < -EXPR_DAY_US || offset_us[i] > EXPR_DAY_US) {
            return false;
        }
    }
    *ret_last = INT64_MIN;
    add_row(z, INT64_MIN, offset_us[0]);
    for (uint32_t i = 0; i < c->times; i++) {
        int64_t us = clamp_us((int64_t)rd_u64(&times));
        uint8_t type = rd_u8(&indexes);
        if (type >= c->types || us < *ret_last) {
            return false;
        }
        add_row(z, us, offset_us[type]);
        *ret_last = us;
    }
    return true;
}

// ---- The rule for the years to come, as in the TZ variable of POSIX: CET-1CEST,M3.5.0,M10.5.0/3 ---------------------------------

struct change {
    int month, week, weekday; // Sunday 0; week 5 is the last
    int64_t time_us;          // local, since midnight; may lie in other days
};

static void read_name(struct reader *r)
{
    bool quoted = rd_peek(r) == '<';
    while (rd_peek(r) >= 0) {
        int c = rd_peek(r);
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!quoted && !letter) {
            return;
        }
        rd_u8(r);
        if (quoted && c == '>') {
            return;
        }
    }
}

static int read_number(struct reader *r)
{
    int v = 0;
    int digits = 0;
    for (; rd_peek(r) >= '0' && rd_peek(r) <= '9' && digits < 4; digits++) {
        v = v * 10 + (rd_u8(r) - '0');
    }
    r->failed = r->failed || digits == 0;
    return v;
}

// "[+-]hh[:mm[:ss]]"
static int64_t read_clock(struct reader *r)
{
    bool negative = rd_peek(r) == '-';
    if (negative || rd_peek(r) == '+') {
        rd_u8(r);
    }
    int64_t us = 0;
    int64_t unit = HOUR_US;
    for (int part = 0; part < 3; part++, unit /= 60) {
        us += (int64_t)read_number(r) * unit;
        if (rd_peek(r) != ':') {
            break;
        }
        rd_u8(r);
    }
    return negative ? -us : us;
}

static void expect(struct reader *r, char c)
{
    r->failed = rd_u8(r) != (uint8_t)c || r->failed;
}

// "M3.5.0/2"
static struct change read_change(struct reader *r)
{
    struct change c = {.time_us = 2 * HOUR_US};
    expect(r, 'M');
    c.month = read_number(r);
    expect(r, '.');
    c.week = read_number(r);
    expect(r, '.');
    c.weekday = read_number(r);
    if (rd_peek(r) == '/') {
        rd_u8(r);
        c.time_us = read_clock(r);
    }
    r->failed = r->failed || c.month < 1 || c.month > 12 || c.week < 1 || c.week > 5 || c.weekday > 6;
    return c;
}

// When the change comes in that year, in local time.
static int64_t change_us(const struct change *c, int64_t year)
{
    struct expr_calendar first;
    int64_t month = expr_calendar_us(year, c->month, 1);
    int64_t next = c->month == 12 ? expr_calendar_us(year + 1, 1, 1) : expr_calendar_us(year, c->month + 1, 1);
    expr_calendar_of(month, &first);
    int64_t days = (c->weekday - first.weekday % 7 + 7) % 7; // until the first such weekday
    days += (c->week - INT64_C(1)) * 7;
    int64_t day = month + days * EXPR_DAY_US;
    return (day >= next ? day - 7 * EXPR_DAY_US : day) + c->time_us;
}

static void add_years(struct zone *z, const struct change change[2], const int64_t offset_us[2], int64_t last)
{
    struct expr_calendar c;
    expr_calendar_of(last < 0 ? 0 : last, &c);
    for (int64_t year = c.year; year <= EXPR_ZONE_LAST_YEAR && !z->full; year++) {
        // The summer begins in winter time and ends in summer time; in the south it ends first.
        int64_t begins = change_us(&change[0], year) - offset_us[0];
        int64_t ends = change_us(&change[1], year) - offset_us[1];
        bool north = begins < ends;
        const int64_t at[2] = {north ? begins : ends, north ? ends : begins};
        for (int i = 0; i < 2; i++) {
            if (at[i] > last) {
                add_row(z, at[i], offset_us[(i == 0) == north ? 1 : 0]);
                last = at[i];
            }
        }
    }
}

static enum status read_rule(struct reader r, struct zone *z, int64_t last)
{
    int64_t offset_us[2]; // winter, summer; POSIX counts them westward
    if (rd_u8(&r) != '\n' || rd_peek(&r) == '\n') {
        return r.failed ? ST_MALFORMED : ST_OK; // no rule
    }
    read_name(&r);
    offset_us[0] = -read_clock(&r);
    if (r.failed || rd_peek(&r) == '\n') {
        return r.failed ? ST_MALFORMED : ST_OK; // no summer time: the last offset stays
    }
    read_name(&r);
    offset_us[1] = rd_peek(&r) == ',' ? offset_us[0] + HOUR_US : -read_clock(&r);
    expect(&r, ',');
    bool by_day = rd_peek(&r) == 'J' || (rd_peek(&r) >= '0' && rd_peek(&r) <= '9');
    if (by_day || r.failed) {
        return r.failed ? ST_MALFORMED : ST_UNSUPPORTED;
    }
    struct change change[2];
    change[0] = read_change(&r);
    expect(&r, ',');
    change[1] = read_change(&r);
    if (r.failed || rd_peek(&r) != '\n') {
        return ST_MALFORMED;
    }
    add_years(z, change, offset_us, last);
    return ST_OK;
}

enum status expr_zone_read(struct slice tzif, struct expr_zone_row *rows, unsigned max, unsigned *ret_count)
{
    struct reader r = reader_make(tzif);
    struct counts c;
    struct zone z = {.rows = rows, .max = max};
    uint8_t version;
    int64_t last;
    *ret_count = 0;
    if (!read_header(&r, &c, &version)) {
        return ST_MALFORMED;
    }
    if (version < '2') {
        return ST_UNSUPPORTED;
    }
    skip_old(&r, &c);
    if (!read_header(&r, &c, &version) || !read_times(&r, &c, &z, &last)) {
        return ST_MALFORMED;
    }
    rd_bytes(&r, c.chars);
    rd_bytes(&r, (size_t)c.leaps * 12);
    rd_bytes(&r, c.standard);
    rd_bytes(&r, c.utc);
    enum status s = r.failed ? ST_MALFORMED : read_rule(r, &z, last);
    if (s != ST_OK || z.full) {
        return s != ST_OK ? s : ST_TOO_LARGE;
    }
    *ret_count = z.count;
    return ST_OK;
}

bool expr_zone_fixed(struct slice name, int64_t *ret_offset_us)
{
    struct reader r = reader_make(name);
    if (slice_eq(name, SLICE("UTC")) || slice_eq(name, SLICE("Z"))) {
        *ret_offset_us = 0;
        return true;
    }
    if (name.len != 6 || (name.p[0] != '+' && name.p[0] != '-') || name.p[3] != ':') {
        return false;
    }
    int64_t us = read_clock(&r);
    *ret_offset_us = us;
    return reader_done(&r) && us > -EXPR_DAY_US && us < EXPR_DAY_US;
}

int64_t expr_zone_offset_us(const struct expr_zone_row *rows, unsigned count, int64_t time_us)
{
    unsigned low = 0;
    while (count - low > 1) {
        unsigned middle = low + (count - low) / 2;
        if (rows[middle].from_us <= time_us) {
            low = middle;
        } else {
            count = middle;
        }
    }
    return rows[low].offset_us;
}
