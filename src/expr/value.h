// Values of the expression language: what an expression gives, what a document holds, and how two of them compare.
//
// A value is 24 bytes and owns nothing: text, versions, lists and objects are views into a document, a program or the
// scratch of a frame. NULL is the missing value and JSON's null. There is no NaN and no infinity: what would be one is NULL.
#ifndef EXPR_VALUE_H
#define EXPR_VALUE_H

#include "base/buf.h"
#include "base/slice.h"

enum expr_type {
    EXPR_NULL,
    EXPR_BOOL,
    EXPR_INT,      // 64 bits
    EXPR_REAL,     // a finite double
    EXPR_TEXT,     // UTF-8, compared byte by byte
    EXPR_TIME,     // microseconds since 1970 UTC, years 0 to 9999
    EXPR_INTERVAL, // months and microseconds
    EXPR_VERSION,  // text that is a version (expr_version_valid)
    EXPR_POINT,    // latitude and longitude in degrees
    EXPR_LIST,     // an item of a document
    EXPR_OBJECT,   // an item of a document
    EXPR_POLYGON,  // a constant only: corners of an area
    EXPR_ZONE,     // a constant only: offsets of a time zone
    EXPR_TYPE_COUNT,
};

// Sets of types. What the checker knows of a node is the set of types it may have besides NULL.
typedef uint16_t expr_types;
#define EXPR_OF(type)   ((expr_types)(1U << (type)))
#define EXPR_OF_NUMBER  ((expr_types)(EXPR_OF(EXPR_INT) | EXPR_OF(EXPR_REAL)))
#define EXPR_OF_ANY     ((expr_types)((1U << EXPR_POLYGON) - 2)) // all a document can hold, but NULL
#define EXPR_OF_NOTHING ((expr_types)0)                          // always NULL

struct expr_item;     // doc.h
struct expr_zone_row; // zone.h

struct expr_value {
    uint32_t type; // enum expr_type
    uint32_t len;  // TEXT, VERSION: bytes; POLYGON: numbers; ZONE: rows
    union {
        bool b;
        int64_t i; // INT; TIME: us since 1970; INTERVAL: us
        double d;  // REAL; POINT: latitude, -90 to 90
        const uint8_t *p;
        const struct expr_item *item; // LIST, OBJECT
        const double *corners;        // POLYGON: latitude, longitude, ...
        const struct expr_zone_row *zone;
    };
    union {
        int64_t months; // INTERVAL
        double lon;     // POINT, -180 to 180
    };
};

static inline struct expr_value expr_null(void)
{
    return (struct expr_value){.type = EXPR_NULL};
}
static inline struct expr_value expr_bool(bool b)
{
    return (struct expr_value){.type = EXPR_BOOL, .b = b};
}
static inline struct expr_value expr_int(int64_t i)
{
    return (struct expr_value){.type = EXPR_INT, .i = i};
}
// At most 4 GiB, as every text here.
static inline struct expr_value expr_text(struct slice s)
{
    return (struct expr_value){.type = EXPR_TEXT, .len = (uint32_t)s.len, .p = s.p};
}
static inline struct slice expr_value_slice(const struct expr_value *v)
{
    return slice_make(v->p, v->len);
}
static inline bool expr_is_number(const struct expr_value *v)
{
    return v->type == EXPR_INT || v->type == EXPR_REAL;
}
struct expr_value expr_real(double d);                // NULL when not finite
struct expr_value expr_time(int64_t us);              // NULL outside the years 0 to 9999
struct expr_value expr_point(double lat, double lon); // NULL outside of the earth

// "int", "text", ...; never NULL.
const char *expr_type_name(enum expr_type t);
// What a person reads in an error: "a number", "a text or a time".
void expr_types_text(expr_types types, char *dst, size_t dst_size);

// How a and b stand to each other: *ret is below, at or above 0. False when that is not known: one is NULL, they are of
// different families, or lists or objects. Numbers compare exactly, also an int with a real beyond 2^53. A text beside a time
// or a version is read as one. Points are only equal or not: then *ret is 0 or 1.
bool expr_compare(const struct expr_value *a, const struct expr_value *b, int *ret);
// May values of these types be compared at all?
bool expr_comparable(expr_types a, expr_types b);
// Same value or both NULL: never unknown. What cannot be compared is distinct.
bool expr_same(const struct expr_value *a, const struct expr_value *b);

// The conversions of cast(): NULL when there is none. `scratch` takes the text of numbers, times and intervals; when it is
// full, it has failed and the result is NULL.
struct expr_value expr_to_number(const struct expr_value *v);
struct expr_value expr_to_bool(const struct expr_value *v);
struct expr_value expr_to_time(const struct expr_value *v);
struct expr_value expr_to_version(const struct expr_value *v);
struct expr_value expr_to_text(const struct expr_value *v, struct buf *scratch);

// ---- Versions: digits with dots, then -pre.release and +build as in semver. A leading "v" is passed over. ------------------
#define EXPR_VERSION_MAX 256 // bytes
bool expr_version_valid(struct slice s);
// Both are valid. Missing parts are 0, parts are numbers of any length, a pre-release comes first (semver 11), build data
// does not count.
int expr_version_compare(struct slice a, struct slice b);

// ---- Time ------------------------------------------------------------------------------------------------------------------
#define EXPR_TIME_MIN INT64_C(-62167219200000000) // 0000-01-01T00:00:00Z
#define EXPR_TIME_MAX INT64_C(253402300799999999) // 9999-12-31T23:59:59.999999Z
#define EXPR_DAY_US   INT64_C(86400000000)
// RFC 3339 with any offset and up to 9 digits of fraction (cut to 6), or a date alone, which is its midnight UTC.
bool expr_time_parse(struct slice s, int64_t *ret_us);
// "2026-01-31T00:00:00Z", with as many digits of fraction as are needed, at most 6.
void expr_time_write(int64_t us, struct buf *out);
// "1 year 2 months", "1.5 hours", "-3 days 20 minutes"; a sum of parts. Fractions of months and years are refused.
bool expr_interval_parse(struct slice s, int64_t *ret_months, int64_t *ret_us);
// The same value in whole units from years to microseconds: "1 year 2 months 3 days"; "0 seconds" when it is none.
void expr_interval_write(int64_t months, int64_t us, struct buf *out);
// Adds months by the calendar (the 31st becomes the last day of a shorter month), then microseconds. False out of range.
bool expr_time_add(int64_t time_us, int64_t months, int64_t us, int64_t *ret_us);

struct expr_calendar {
    int64_t year;
    int month, day; // from 1
    int weekday;    // Monday 1 to Sunday 7
    int yearday;    // from 1
    int64_t day_us; // microseconds since midnight
};
void expr_calendar_of(int64_t time_us, struct expr_calendar *ret);
int64_t expr_calendar_us(int64_t year, int month, int day); // midnight of that day; month 1 to 12

// ---- Text ------------------------------------------------------------------------------------------------------------------
enum expr_like { EXPR_LIKE, EXPR_ILIKE, EXPR_GLOB };
// Does all of `text` match the pattern? LIKE: % any run, _ one character, `escape` (0: none) makes the next one plain; ILIKE
// the same with ASCII letters of both cases alike; GLOB: * ? [abc] [^a-z]. *ret_steps is the number of places looked at, at most
// text times pattern; after `steps_max` of them it gives up: false, and *ret_steps is more.
bool expr_like_match(enum expr_like kind, struct slice pattern, uint8_t escape, struct slice text, uint64_t steps_max,
                     uint64_t *ret_steps);
// Characters (code points) of valid UTF-8.
size_t expr_text_chars(struct slice s);
// The bytes of the first `chars` characters, at most all.
size_t expr_text_offset(struct slice s, uint64_t chars);

// ---- Geography -------------------------------------------------------------------------------------------------------------
// Metres on a sphere of 6371008.8 m (haversine).
double expr_distance_m(const struct expr_value *a, const struct expr_value *b);

#endif
