#include "base/json.h"

#include <math.h>

#include "base/json_priv.h"
#include "base/utf8.h"

// What may come next:
//
//   START/VALUE --scalar--> AFTER --','--> VALUE (array) or KEY (object)
//   START/VALUE --'['--> FIRST_ITEM --']'--> AFTER, or a value
//   START/VALUE --'{'--> FIRST_KEY  --'}'--> AFTER, or a key
//   KEY --"..." ':'--> VALUE          AFTER --']' or '}'--> AFTER          AFTER at depth 0 --end--> DONE
//   any --mistake--> BROKEN
enum json_state { JS_VALUE, JS_FIRST_ITEM, JS_FIRST_KEY, JS_KEY, JS_AFTER, JS_DONE, JS_BROKEN };

void json_init(struct json *j, struct slice text, unsigned depth_max)
{
    *j = (struct json){
        .start = text.p,
        .p = text.p,
        .end = text.len > 0 ? text.p + text.len : text.p,
        .depth_max = depth_max < JSON_DEPTH_MAX ? depth_max : JSON_DEPTH_MAX,
        .state = JS_VALUE,
    };
}

static enum json_token json_fail_at(struct json *j, const uint8_t *at, const char *error)
{
    j->state = JS_BROKEN;
    j->error = error;
    j->off = (size_t)(at - j->start);
    return JT_ERROR;
}

static enum json_token json_fail(struct json *j, const char *error)
{
    return json_fail_at(j, j->p, j->p == j->end ? "the text ends too early" : error);
}

static inline void json_blanks(struct json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t')) {
        j->p++;
    }
}

static int json_hex4(struct slice s)
{
    int v = 0;
    if (s.len < 4) {
        return -1;
    }
    for (size_t i = 0; i < 4; i++) {
        uint8_t c = s.p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        v = v << 4 | digit;
    }
    return v;
}

// Reads the escape `s` begins with. Its length and the code point it stands for; 0 when there is no such escape.
static size_t json_escape(struct slice s, uint32_t *ret_cp)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (s.len < 2 || s.p[1] == '\0') {
        return 0;
    }
    const char *letter = strchr(letters, s.p[1]);
    if (letter != NULL) {
        *ret_cp = (uint8_t)meanings[letter - letters];
        return 2;
    }
    int high = s.p[1] == 'u' ? json_hex4(slice_from(s, 2)) : -1;
    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff)) {
        return 0;
    }
    if (high < 0xd800 || high > 0xdbff) {
        *ret_cp = (uint32_t)high;
        return 6;
    }
    if (s.len < 12 || s.p[6] != '\\' || s.p[7] != 'u') {
        return 0;
    }
    int low = json_hex4(slice_from(s, 8));
    if (low < 0xdc00 || low > 0xdfff) {
        return 0;
    }
    *ret_cp = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    return 12;
}

// What is wrong where the scan of a string stopped.
static const char *json_string_error(uint8_t c)
{
    return c == '\\'   ? "invalid escape in a string"
           : c >= 0x80 ? "invalid UTF-8 in a string"
                       : "control character in a string";
}

// From the opening quote to behind the closing one; fills str and escaped. False: broken. A key may not hold U+0000, which
// would end it early wherever keys are C strings.
static bool json_string(struct json *j, bool key)
{
    const uint8_t *first = ++j->p;
    j->escaped = false;
    for (;;) {
        j->p = json_scan_plain(j->p, j->end);
        if (j->p == j->end) {
            json_fail(j, NULL);
            return false;
        }
        struct slice rest = slice_make(j->p, (size_t)(j->end - j->p));
        if (*j->p == '"') {
            j->str = slice_make(first, (size_t)(j->p - first));
            j->p++;
            return true;
        }
        uint32_t cp = 1;
        size_t n = *j->p == '\\' ? json_escape(rest, &cp) : *j->p >= 0x80 ? utf8_sequence(rest) : 0;
        if (n == 0 || (key && cp == 0)) {
            json_fail(j, n == 0 ? json_string_error(*j->p) : "\\u0000 in a key");
            return false;
        }
        j->escaped = j->escaped || *j->p == '\\';
        j->p += n;
    }
}

static bool json_digit(const struct json *j)
{
    return j->p < j->end && (unsigned)(*j->p - '0') < 10;
}

// "e+12" when there is one. Saturates far outside of what a double can hold. False: broken.
static bool json_exponent(struct json *j, int64_t *ret_exp10)
{
    *ret_exp10 = 0;
    if (j->p == j->end || (*j->p | 0x20) != 'e') {
        return true;
    }
    j->p++;
    bool negative = j->p < j->end && *j->p == '-';
    if (j->p < j->end && (*j->p == '-' || *j->p == '+')) {
        j->p++;
    }
    if (!json_digit(j)) {
        json_fail(j, "digits expected in the exponent");
        return false;
    }
    int64_t v = 0;
    for (; json_digit(j); j->p++) {
        v = v < INT64_C(1000000000000) ? v * 10 + (*j->p - '0') : v;
    }
    *ret_exp10 = negative ? -v : v;
    return true;
}

static enum json_token json_double(struct json *j, const uint8_t *first, const uint8_t *last, uint64_t m, bool exact,
                                   int64_t exp10)
{
    bool negative = *first == '-';
    double d;
    if (!exact || !json_double_fast(m, exp10, &d)) {
        d = json_double_slow(first + (negative ? 1 : 0), last, exp10);
        if (!isfinite(d)) {
            return json_fail_at(j, first, "number too large");
        }
    }
    j->d = negative ? -d : d;
    return JT_DOUBLE;
}

static enum json_token json_number(struct json *j)
{
    const uint8_t *first = j->p;
    bool negative = *j->p == '-';
    j->p += negative ? 1 : 0;
    const uint8_t *digits = j->p;
    uint64_t m = 0; // right as long as there are at most 19 digits
    for (; json_digit(j); j->p++) {
        m = m * 10 + (uint64_t)(*j->p - '0');
    }
    size_t n = (size_t)(j->p - digits);
    if (n == 0) {
        return json_fail(j, "digits expected");
    }
    if (n > 1 && *digits == '0') {
        return json_fail_at(j, digits, "leading zero in a number");
    }
    size_t decimals = 0;
    if (j->p < j->end && *j->p == '.') {
        const uint8_t *point = j->p++;
        for (; json_digit(j); j->p++) {
            m = m * 10 + (uint64_t)(*j->p - '0');
        }
        decimals = (size_t)(j->p - point) - 1;
        if (decimals == 0) {
            return json_fail(j, "digits expected after the decimal point");
        }
    }
    const uint8_t *last = j->p;
    int64_t exp10;
    if (!json_exponent(j, &exp10)) {
        return JT_ERROR;
    }
    bool exact = n + decimals <= 19;
    if (exact && decimals == 0 && j->p == last && m <= (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        j->i = (int64_t)(negative ? 0 - m : m);
        j->d = (double)j->i;
        return JT_INT;
    }
    return json_double(j, first, last, m, exact, exp10 - (int64_t)decimals);
}

static enum json_token json_literal(struct json *j, const char *word, size_t len, enum json_token token)
{
    if ((size_t)(j->end - j->p) < len || memcmp(j->p, word, len) != 0) {
        return json_fail_at(j, j->p, "a value is true, false, null, a number, a string, an object or an array");
    }
    j->p += len;
    return token;
}

static enum json_token json_open(struct json *j, bool object)
{
    if (j->depth >= j->depth_max) {
        return json_fail(j, "nested too deeply");
    }
    j->p++;
    uint32_t bit = UINT32_C(1) << j->depth++;
    j->in_object = object ? j->in_object | bit : j->in_object & ~bit;
    j->state = object ? JS_FIRST_KEY : JS_FIRST_ITEM;
    return object ? JT_OBJECT : JT_ARRAY;
}

static inline bool json_inside_object(const struct json *j)
{
    return (j->in_object >> (j->depth - 1) & 1) != 0;
}

static enum json_token json_close(struct json *j)
{
    bool object = json_inside_object(j);
    j->p++;
    j->depth--;
    j->state = JS_AFTER;
    return object ? JT_OBJECT_END : JT_ARRAY_END;
}

static enum json_token json_value(struct json *j)
{
    if (j->p == j->end) {
        return json_fail(j, NULL);
    }
    j->state = JS_AFTER;
    switch (*j->p) {
    case '{':
        return json_open(j, true);
    case '[':
        return json_open(j, false);
    case '"':
        return json_string(j, false) ? JT_STRING : JT_ERROR;
    case 't':
        return json_literal(j, "true", 4, JT_TRUE);
    case 'f':
        return json_literal(j, "false", 5, JT_FALSE);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return json_number(j);
    default:
        return json_literal(j, "null", 4, JT_NULL);
    }
}

static enum json_token json_key(struct json *j)
{
    if (j->p == j->end || *j->p != '"') {
        return json_fail(j, "a key in double quotes expected");
    }
    if (!json_string(j, true)) {
        return JT_ERROR;
    }
    json_blanks(j);
    if (j->p == j->end || *j->p != ':') {
        return json_fail(j, "':' expected after the key");
    }
    j->p++;
    j->state = JS_VALUE;
    return JT_KEY;
}

// Behind a complete value: a comma and what it announces, a closing bracket, or the end.
static enum json_token json_after(struct json *j)
{
    if (j->depth == 0) {
        if (j->p != j->end) {
            return json_fail(j, "nothing may follow the value");
        }
        j->state = JS_DONE;
        return JT_END;
    }
    bool object = json_inside_object(j);
    if (j->p < j->end && *j->p == (object ? '}' : ']')) {
        return json_close(j);
    }
    if (j->p == j->end || *j->p != ',') {
        return json_fail(j, object ? "',' or '}' expected" : "',' or ']' expected");
    }
    j->p++;
    json_blanks(j);
    return object ? json_key(j) : json_value(j);
}

enum json_token json_next(struct json *j)
{
    if (j->state == JS_BROKEN) {
        return JT_ERROR;
    }
    json_blanks(j);
    switch ((enum json_state)j->state) {
    case JS_VALUE:
        return json_value(j);
    case JS_FIRST_ITEM:
        return j->p < j->end && *j->p == ']' ? json_close(j) : json_value(j);
    case JS_FIRST_KEY:
        return j->p < j->end && *j->p == '}' ? json_close(j) : json_key(j);
    case JS_KEY:
        return json_key(j);
    case JS_AFTER:
        return json_after(j);
    case JS_DONE:
        return JT_END;
    case JS_BROKEN:
        break;
    }
    return JT_ERROR;
}

bool json_skip(struct json *j, enum json_token just_read)
{
    if (just_read == JT_KEY) {
        just_read = json_next(j);
    }
    if (just_read != JT_OBJECT && just_read != JT_ARRAY) {
        return just_read != JT_ERROR;
    }
    for (unsigned outside = j->depth - 1; j->depth > outside;) {
        if (json_next(j) == JT_ERROR) {
            return false;
        }
    }
    return true;
}

static bool json_put_utf8(struct buf *out, uint32_t cp)
{
    uint8_t b[4];
    size_t n;
    if (cp < 0x80) {
        b[0] = (uint8_t)cp;
        n = 1;
    } else if (cp < 0x800) {
        b[0] = (uint8_t)(0xc0 | cp >> 6);
        n = 2;
    } else if (cp < 0x10000) {
        b[0] = (uint8_t)(0xe0 | cp >> 12);
        n = 3;
    } else {
        b[0] = (uint8_t)(0xf0 | cp >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++) {
        b[i] = (uint8_t)(0x80 | (cp >> (6 * (n - 1 - i)) & 0x3f));
    }
    return buf_put(out, b, n);
}

bool json_unescape(struct slice raw, struct buf *out)
{
    while (raw.len > 0) {
        const uint8_t *slash = memchr(raw.p, '\\', raw.len);
        size_t plain = slash != NULL ? (size_t)(slash - raw.p) : raw.len;
        buf_put(out, raw.p, plain);
        raw = slice_from(raw, plain);
        if (raw.len > 0) {
            uint32_t cp;
            size_t n = json_escape(raw, &cp);
            if (n == 0) {
                return false;
            }
            json_put_utf8(out, cp);
            raw = slice_from(raw, n);
        }
    }
    return !out->failed;
}
