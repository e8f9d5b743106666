#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_priv.h"

#define JSON_EXACT_MAX     ((double)(UINT64_C(1) << 50)) // below it the fast way's rounding cannot be off by one
#define JSON_FAST_DECIMALS 6

// The digits of a double and where its point is: 0.d1d2d3... * 10^point.
struct json_digits {
    char d[20];
    int len;
    int point;
};

static void json_digits_of(struct json_digits *out, uint64_t m, int exp10)
{
    char text[24];
    char *p = text + sizeof(text);
    int len = 0;
    while (m > 0 && m % 10 == 0) {
        m /= 10;
        exp10++;
    }
    do {
        *--p = (char)('0' + m % 10);
        m /= 10;
        len++;
    } while (m > 0);
    memcpy(out->d, p, (size_t)len);
    out->len = len;
    out->point = len + exp10;
}

// Whole numbers and short decimals, which is what devices send: the fewest decimals that read back as v.
static bool json_digits_fast(double v, struct json_digits *out)
{
    for (int k = 0; k <= JSON_FAST_DECIMALS; k++) {
        double scaled = v * json_pow10[k];
        if (FLT_EVAL_METHOD != 0 || scaled >= JSON_EXACT_MAX) {
            return false;
        }
        uint64_t m = (uint64_t)(scaled + 0.5);
        if ((double)m / json_pow10[k] == v) {
            json_digits_of(out, m, -k);
            return true;
        }
    }
    return false;
}

// The rest: as few digits as read back the same. A normal number keeps every decimal of 15 digits; those too small for all
// their bits keep fewer.
static void json_digits_slow(double v, struct json_digits *out)
{
    for (int precision = v < DBL_MIN ? 1 : 15; precision <= 17; precision++) {
        char text[48];
        snprintf(text, sizeof(text), "%.*e", precision - 1, v);
        // Digits up to the 'e'; what stands between them is the locale's decimal point.
        uint64_t m = 0;
        const char *p = text;
        for (; *p != 'e'; p++) {
            m = *p >= '0' && *p <= '9' ? m * 10 + (uint64_t)(*p - '0') : m;
        }
        json_digits_of(out, m, (int)strtol(p + 1, NULL, 10) - (precision - 1));
        if (json_decimal(out->d, (size_t)out->len, out->point - out->len) == v) {
            return;
        }
    }
}

static size_t json_zeros(char *dst, int n)
{
    for (int i = 0; i < n; i++) {
        dst[i] = '0';
    }
    return n > 0 ? (size_t)n : 0;
}

// 0.00012, 12.5, 12500; outside of 10^-5 .. 10^17 with an exponent: 1.25e-7.
static size_t json_layout(const struct json_digits *g, char *dst)
{
    size_t n = 0;
    if (g->point > 17 || g->point < -4) {
        dst[n++] = g->d[0];
        if (g->len > 1) {
            dst[n++] = '.';
            memcpy(dst + n, g->d + 1, (size_t)g->len - 1);
            n += (size_t)g->len - 1;
        }
        return n + (size_t)snprintf(dst + n, 8, "e%d", (g->point - 1) % 1000);
    }
    if (g->point <= 0) {
        memcpy(dst, "0.", 2);
        n = 2 + json_zeros(dst + 2, -g->point);
        memcpy(dst + n, g->d, (size_t)g->len);
        return n + (size_t)g->len;
    }
    int whole = g->len < g->point ? g->len : g->point;
    memcpy(dst, g->d, (size_t)whole);
    n = (size_t)whole + json_zeros(dst + whole, g->point - whole);
    if (g->len > g->point) {
        dst[n++] = '.';
        memcpy(dst + n, g->d + whole, (size_t)(g->len - whole));
        n += (size_t)(g->len - whole);
    }
    return n;
}

size_t json_double_text(double v, char dst[JSON_DOUBLE_TEXT_MAX])
{
    if (v == 0) {
        const char *zero = signbit(v) ? "-0.0" : "0"; // "-0" would read as the whole number 0
        memcpy(dst, zero, strlen(zero));
        return strlen(zero);
    }
    size_t sign = v < 0 ? 1 : 0;
    dst[0] = '-';
    struct json_digits g;
    if (!json_digits_fast(fabs(v), &g)) {
        json_digits_slow(fabs(v), &g);
    }
    return sign + json_layout(&g, dst + sign);
}
