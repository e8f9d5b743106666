// What the JSON reader, the checker and the writer share. Private to base/json*.c.
#ifndef BASE_JSON_PRIV_H
#define BASE_JSON_PRIV_H

#include "base/json.h"

#define JSON_DOUBLE_DIGITS 768 // digits beyond these can only break a tie

// m * 10^exp10 as the nearest double. False when that cannot be told quickly: subnormal, too large, or a rare case.
bool json_double_fast(uint64_t m, int64_t exp10, double *ret);
// The same for the digits in [first, last), where a point is passed over; always exact, infinite when too large. Does not
// depend on the locale.
double json_double_slow(const uint8_t *first, const uint8_t *last, int64_t exp10);

#define JSON_DOUBLE_TEXT_MAX 40
// Shortest text that reads back as v, which is finite. Returns its length; no NUL behind it.
size_t json_double_text(double v, char dst[JSON_DOUBLE_TEXT_MAX]);

#define JSON_BYTES(b) (UINT64_C(0x0101010101010101) * (b))

// Bytes at the front of [p, end) that need no look when they stand in a string: ASCII from the blank on, no quote, no
// backslash. Eight at a time; the bit trick may flag too much only above the first true hit.
static inline const uint8_t *json_scan_plain(const uint8_t *p, const uint8_t *end)
{
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, sizeof(w));
        uint64_t quote = w ^ JSON_BYTES('"');
        uint64_t slash = w ^ JSON_BYTES('\\');
        uint64_t hit = (w - JSON_BYTES(0x20)) | (quote - JSON_BYTES(1)) | (slash - JSON_BYTES(1)) | w;
        hit &= JSON_BYTES(0x80);
        if (hit != 0) {
            return p + (__builtin_ctzll(hit) >> 3);
        }
        p += 8;
    }
#endif
    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }
    return p;
}

#endif
