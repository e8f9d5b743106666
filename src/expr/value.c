#include "expr/value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/json.h"

#define EARTH_RADIUS_M 6371008.8
#define DEGREE         (3.14159265358979323846 / 180)

struct expr_value expr_real(double d)
{
    return isfinite(d) ? (struct expr_value){.type = EXPR_REAL, .d = d == 0 ? 0 : d} : expr_null();
}

struct expr_value expr_time(int64_t us)
{
    bool ok = us >= EXPR_TIME_MIN && us <= EXPR_TIME_MAX;
    return ok ? (struct expr_value){.type = EXPR_TIME, .i = us} : expr_null();
}

struct expr_value expr_point(double lat, double lon)
{
    bool ok = lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180;
    return ok ? (struct expr_value){.type = EXPR_POINT, .d = lat, .lon = lon} : expr_null();
}

static const char *const type_names[EXPR_TYPE_COUNT] = {
    "null", "bool", "int", "real", "text", "time", "interval", "version", "point", "list", "object", "polygon", "zone",
};

const char *expr_type_name(enum expr_type t)
{
    return (unsigned)t < EXPR_TYPE_COUNT ? type_names[t] : "null";
}

void expr_types_text(expr_types types, char *dst, size_t dst_size)
{
    struct buf out = buf_fixed(dst, dst_size - 1);
    if (types == EXPR_OF_ANY || types == 0) {
        buf_str(&out, types == 0 ? "null" : "any value");
    }
    bool number = (types & EXPR_OF_NUMBER) == EXPR_OF_NUMBER;
    for (unsigned t = EXPR_BOOL; t < EXPR_TYPE_COUNT && types != EXPR_OF_ANY; t++) {
        if ((types & EXPR_OF(t)) == 0 || (number && t == EXPR_REAL)) {
            continue;
        }
        const char *name = number && t == EXPR_INT ? "number" : type_names[t];
        bool vowel = name[0] == 'i' || name[0] == 'o';
        buf_printf(&out, "%s%s %s", out.len > 0 ? " or " : "", vowel ? "an" : "a", name);
    }
    dst[out.len] = '\0';
}

// ---- Comparison ------------------------------------------------------------------------------------------------------------

static int compare_i64(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int compare_f64(double a, double b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

// Exact: the whole part of b is compared as an int, its fraction decides the rest.
static int compare_int_real(int64_t a, double b)
{
    if (b >= 0x1p63) {
        return -1;
    }
    if (b < -0x1p63) {
        return 1;
    }
    double whole = trunc(b);
    int c = compare_i64(a, (int64_t)whole);
    return c != 0 ? c : compare_f64(whole, b);
}

static int compare_slices(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n > 0 ? memcmp(a.p, b.p, n) : 0;
    return c != 0 ? c : compare_i64((int64_t)a.len, (int64_t)b.len);
}

// Months count 30 days here, as PostgreSQL has it. Both are within the years 0 to 9999, or nearly: no overflow in 128 bits.
static int compare_intervals(const struct expr_value *a, const struct expr_value *b)
{
    __int128 x = (__int128)a->months * 30 * EXPR_DAY_US + a->i;
    __int128 y = (__int128)b->months * 30 * EXPR_DAY_US + b->i;
    return x < y ? -1 : x > y ? 1 : 0;
}

static bool compare_same_type(const struct expr_value *a, const struct expr_value *b, int *ret)
{
    switch ((enum expr_type)a->type) {
    case EXPR_BOOL:
        *ret = compare_i64(a->b, b->b);
        return true;
    case EXPR_INT:
    case EXPR_TIME:
        *ret = compare_i64(a->i, b->i);
        return true;
    case EXPR_REAL:
        *ret = compare_f64(a->d, b->d);
        return true;
    case EXPR_TEXT:
        *ret = compare_slices(expr_value_slice(a), expr_value_slice(b));
        return true;
    case EXPR_INTERVAL:
        *ret = compare_intervals(a, b);
        return true;
    case EXPR_VERSION:
        *ret = expr_version_compare(expr_value_slice(a), expr_value_slice(b));
        return true;
    case EXPR_POINT:
        *ret = compare_f64(a->d, b->d) == 0 && compare_f64(a->lon, b->lon) == 0 ? 0 : 1;
        return true;
    default:
        return false;
    }
}

// A text beside a time or a version is read as one.
static struct expr_value read_as(const struct expr_value *v, uint32_t type)
{
    return type == EXPR_TIME ? expr_to_time(v) : type == EXPR_VERSION ? expr_to_version(v) : expr_null();
}

bool expr_compare(const struct expr_value *a, const struct expr_value *b, int *ret)
{
    if (a->type == b->type) {
        return compare_same_type(a, b, ret);
    }
    if (a->type == EXPR_INT && b->type == EXPR_REAL) {
        *ret = compare_int_real(a->i, b->d);
        return true;
    }
    if (a->type == EXPR_REAL && b->type == EXPR_INT) {
        *ret = -compare_int_real(b->i, a->d);
        return true;
    }
    struct expr_value read = expr_null();
    if (a->type == EXPR_TEXT) {
        read = read_as(a, b->type);
        return read.type == b->type && compare_same_type(&read, b, ret);
    }
    if (b->type == EXPR_TEXT) {
        read = read_as(b, a->type);
        return read.type == a->type && compare_same_type(a, &read, ret);
    }
    return false;
}

bool expr_comparable(expr_types a, expr_types b)
{
    const expr_types read = EXPR_OF(EXPR_TIME) | EXPR_OF(EXPR_VERSION);
    expr_types never = EXPR_OF(EXPR_LIST) | EXPR_OF(EXPR_OBJECT);
    if (a == 0 || b == 0 || ((a & b) & ~never) != 0 || ((a & EXPR_OF_NUMBER) != 0 && (b & EXPR_OF_NUMBER) != 0)) {
        return true;
    }
    return ((a & EXPR_OF(EXPR_TEXT)) != 0 && (b & read) != 0) || ((b & EXPR_OF(EXPR_TEXT)) != 0 && (a & read) != 0);
}

bool expr_same(const struct expr_value *a, const struct expr_value *b)
{
    int c;
    if (a->type == EXPR_NULL || b->type == EXPR_NULL) {
        return a->type == b->type;
    }
    return expr_compare(a, b, &c) && c == 0;
}

// ---- Conversions -----------------------------------------------------------------------------------------------------------

struct expr_value expr_to_number(const struct expr_value *v)
{
    struct json j;
    if (expr_is_number(v)) {
        return *v;
    }
    if (v->type == EXPR_BOOL) {
        return expr_int(v->b ? 1 : 0);
    }
    if (v->type != EXPR_TEXT || v->len == 0 || v->p[0] == ' ') {
        return expr_null();
    }
    json_init(&j, expr_value_slice(v), 0);
    enum json_token t = json_next(&j);
    struct expr_value n = t == JT_INT ? expr_int(j.i) : t == JT_DOUBLE ? expr_real(j.d) : expr_null();
    bool whole = j.p == j.end; // json_next would pass over blanks
    return whole ? n : expr_null();
}

struct expr_value expr_to_bool(const struct expr_value *v)
{
    if (v->type == EXPR_BOOL) {
        return *v;
    }
    bool yes = v->type == EXPR_TEXT && slice_eq(expr_value_slice(v), SLICE("true"));
    bool no = v->type == EXPR_TEXT && slice_eq(expr_value_slice(v), SLICE("false"));
    return yes || no ? expr_bool(yes) : expr_null();
}

struct expr_value expr_to_time(const struct expr_value *v)
{
    int64_t us;
    if (v->type == EXPR_TIME) {
        return *v;
    }
    return v->type == EXPR_TEXT && expr_time_parse(expr_value_slice(v), &us) ? expr_time(us) : expr_null();
}

struct expr_value expr_to_version(const struct expr_value *v)
{
    struct expr_value version = *v;
    version.type = EXPR_VERSION;
    bool ok = v->type == EXPR_VERSION || (v->type == EXPR_TEXT && expr_version_valid(expr_value_slice(v)));
    return ok ? version : expr_null();
}

struct expr_value expr_to_text(const struct expr_value *v, struct buf *scratch)
{
    if (v->type == EXPR_TEXT || v->type == EXPR_VERSION) {
        return expr_text(expr_value_slice(v));
    }
    if (v->type == EXPR_BOOL) {
        return expr_text(v->b ? SLICE("true") : SLICE("false"));
    }
    size_t first = scratch->len;
    struct jw w;
    jw_init(&w, scratch);
    switch ((enum expr_type)v->type) {
    case EXPR_INT:
        jw_int(&w, v->i);
        break;
    case EXPR_REAL:
        jw_double(&w, v->d);
        break;
    case EXPR_TIME:
        expr_time_write(v->i, scratch);
        break;
    case EXPR_INTERVAL:
        expr_interval_write(v->months, v->i, scratch);
        break;
    default:
        return expr_null();
    }
    return scratch->failed ? expr_null() : expr_text(slice_make(scratch->p + first, scratch->len - first));
}

// ---- Geography -------------------------------------------------------------------------------------------------------------

double expr_distance_m(const struct expr_value *a, const struct expr_value *b)
{
    assert(a->type == EXPR_POINT && b->type == EXPR_POINT);
    double lat = sin((b->d - a->d) * DEGREE / 2);
    double lon = sin((b->lon - a->lon) * DEGREE / 2);
    double h = lat * lat + cos(a->d * DEGREE) * cos(b->d * DEGREE) * lon * lon;
    return 2 * EARTH_RADIUS_M * asin(sqrt(h < 1 ? h : 1));
}
