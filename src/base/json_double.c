#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_pow10.h"
#include "base/json_priv.h"

#define DOUBLE_FRACTION_BITS 52
#define DOUBLE_EXPONENT_MAX  0x7ff
#define DOUBLE_HIDDEN_BIT    (UINT64_C(1) << DOUBLE_FRACTION_BITS)

struct wide {
    uint64_t hi, lo;
};

// The whole product of two 64-bit numbers.
static struct wide wide_mul(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ unsigned __int128 v = (unsigned __int128)a * b;
    return (struct wide){(uint64_t)(v >> 64), (uint64_t)v};
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t mid = a1 * b0 + (a0 * b0 >> 32);
    uint64_t mid2 = a0 * b1 + (uint32_t)mid;
    return (struct wide){a1 * b1 + (mid >> 32) + (mid2 >> 32), a * b};
#endif
}

static unsigned leading_zeros(uint64_t v)
{
#ifdef __GNUC__
    return (unsigned)__builtin_clzll(v);
#else
    unsigned n = 0;
    for (; (v & UINT64_C(1) << 63) == 0; v <<= 1) {
        n++;
    }
    return n;
#endif
}

static double double_from_bits(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

// floor(log2(10^e)) and floor(log10(2^e)), exact for every exponent a double has. Dividing downwards, because >> of a negative
// number is the compiler's choice.
static int floor_log2_pow10(int e)
{
    return e >= 0 ? (int)((int64_t)e * 1741647 >> 19) : -(int)(((int64_t)-e * 1741647 + (1 << 19) - 1) >> 19);
}

static int floor_shift22(int64_t v)
{
    return v >= 0 ? (int)(v >> 22) : -(int)((-v + (1 << 22) - 1) >> 22);
}

// Reading, after Eisel and Lemire (2021): the number's 64 bits times the first 128 bits of the power of ten decide the
// rounding, but for rare cases that are left to json_decimal.
bool json_double_fast(uint64_t m, int64_t exp10, double *ret)
{
    if (m == 0) {
        *ret = 0;
        return true;
    }
    if (exp10 < JSON_POW10_FIRST || exp10 > 308) {
        return false;
    }
    int e = (int)exp10;
    const uint64_t *pow10 = json_pow10[e - JSON_POW10_FIRST];
    unsigned zeros = leading_zeros(m);
    struct wide product = wide_mul(m << zeros, pow10[0]);
    if ((product.hi & 0x1ff) == 0x1ff) { // the bits below the last one used could carry: look at more of the power
        uint64_t more = wide_mul(m << zeros, pow10[1]).hi;
        product.lo += more;
        product.hi += product.lo < more ? 1 : 0;
    }
    if (product.lo == UINT64_MAX && (e < -27 || e > 55)) {
        return false;
    }
    unsigned top = (unsigned)(product.hi >> 63);
    unsigned drop = top + 64 - DOUBLE_FRACTION_BITS - 3;
    uint64_t fraction = product.hi >> drop;
    int exponent = floor_log2_pow10(e) + 63 + (int)top - (int)zeros + 1023;
    if (exponent <= 0) {
        return false;
    }
    bool may_be_tie = product.lo <= 1 && e >= -4 && e <= 23 && (fraction & 3) == 1;
    if (may_be_tie && fraction << drop == product.hi) {
        fraction &= ~UINT64_C(1); // exactly between two doubles: to the even one
    }
    fraction = (fraction + (fraction & 1)) >> 1;
    if (fraction >= DOUBLE_HIDDEN_BIT << 1) {
        fraction = DOUBLE_HIDDEN_BIT;
        exponent++;
    }
    if (exponent >= DOUBLE_EXPONENT_MAX) {
        return false;
    }
    *ret = double_from_bits((fraction & ~DOUBLE_HIDDEN_BIT) | (uint64_t)exponent << DOUBLE_FRACTION_BITS);
    return true;
}

double json_double_slow(const uint8_t *first, const uint8_t *last, int64_t exp10)
{
    char text[JSON_DOUBLE_DIGITS + 32];
    size_t len = 0;
    bool cut = false;
    for (const uint8_t *p = first; p < last; p++) {
        if (*p == '.' || (len == 0 && *p == '0')) {
            continue;
        }
        if (len < JSON_DOUBLE_DIGITS) {
            text[len++] = (char)*p;
        } else {
            cut = cut || *p != '0';
            exp10++;
        }
    }
    if (len == 0) {
        return 0;
    }
    if (cut) {
        text[len++] = '1'; // stands for all that follows: it only has to be more than nothing
        exp10--;
    }
    exp10 = exp10 > 99999 ? 99999 : exp10 < -99999 ? -99999 : exp10;
    // Without a decimal point strtod means the same in every locale.
    snprintf(text + len, sizeof(text) - len, "e%d", (int)exp10);
    return strtod(text, NULL);
}

// A number in decimal: digits * 10^exp10.
struct decimal {
    uint64_t digits;
    int exp10;
};

// Bits 128 and up of power * c, with a 1 at the end for anything below them: enough to compare exactly.
static uint64_t round_to_odd(struct wide power, uint64_t c)
{
    struct wide low = wide_mul(power.lo, c);
    struct wide high = wide_mul(power.hi, c);
    uint64_t below = high.lo + low.hi;
    high.hi += below < low.hi ? 1 : 0;
    return high.hi | (below > 1 ? 1 : 0);
}

// Writing, after Giulietti's Schubfach (2020): of all decimals that read back as v the shortest, and of those the nearest.
// v is finite and above 0.
static struct decimal decimal_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    uint64_t fraction = bits & (DOUBLE_HIDDEN_BIT - 1);
    int exponent = (int)(bits >> DOUBLE_FRACTION_BITS);
    uint64_t c = exponent != 0 ? fraction | DOUBLE_HIDDEN_BIT : fraction; // v = c * 2^q
    int q = (exponent != 0 ? exponent : 1) - 1023 - DOUBLE_FRACTION_BITS;
    bool even = (c & 1) == 0;                    // the bounds themselves read back as v
    bool closer = fraction == 0 && exponent > 1; // the next lower double is only half as far
    int k = floor_shift22((int64_t)q * 1262611 - (closer ? 524031 : 0));
    int h = q + floor_log2_pow10(-k) + 1;
    const uint64_t *entry = json_pow10[-k - JSON_POW10_FIRST];
    uint64_t up1 =
        k <= 0 ? 1 : 0; // the proof wants the power cut, plus one; those below 0 stand like that in the table
    struct wide power = {entry[0] + (entry[1] + up1 < up1 ? 1 : 0), entry[1] + up1};
    // Four times v and its bounds, in units of 10^k.
    uint64_t lower = round_to_odd(power, (4 * c - (closer ? 1 : 2)) << h);
    uint64_t value = round_to_odd(power, 4 * c << h);
    uint64_t upper = round_to_odd(power, (4 * c + 2) << h);
    lower += even ? 0 : 1;
    upper -= even ? 0 : 1;
    uint64_t s = value / 4;
    if (s >= 10) { // one digit less, if just one such number lies within
        uint64_t s10 = s / 10;
        bool down = lower <= 40 * s10;
        bool up = 40 * s10 + 40 <= upper;
        if (down != up) {
            return (struct decimal){s10 + (up ? 1 : 0), k + 1};
        }
    }
    bool down = lower <= 4 * s;
    bool up = 4 * s + 4 <= upper;
    bool nearer_up = value > 4 * s + 2 || (value == 4 * s + 2 && (s & 1) != 0);
    return (struct decimal){s + (down != up ? (up ? 1 : 0) : (nearer_up ? 1 : 0)), k};
}

// The digits of a double and where its point is: 0.d1d2d3... * 10^point.
struct layout {
    char d[20];
    int len;
    int point;
};

static struct layout layout_of(struct decimal v)
{
    while (v.digits % 10 == 0) {
        v.digits /= 10;
        v.exp10++;
    }
    char text[20];
    int len = 0;
    for (; v.digits > 0; v.digits /= 10) {
        text[sizeof(text) - (size_t)++len] = (char)('0' + v.digits % 10);
    }
    struct layout g = {.len = len, .point = len + v.exp10};
    memcpy(g.d, text + sizeof(text) - (size_t)len, (size_t)len);
    return g;
}

static size_t put_zeros(char *dst, int n)
{
    for (int i = 0; i < n; i++) {
        dst[i] = '0';
    }
    return n > 0 ? (size_t)n : 0;
}

// 0.00012, 12.5, 12500; outside of 10^-5 .. 10^17 with an exponent: 1.25e-7.
static size_t put_layout(const struct layout *g, char *dst)
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
        dst[0] = '0';
        dst[1] = '.';
        n = 2 + put_zeros(dst + 2, -g->point);
        memcpy(dst + n, g->d, (size_t)g->len);
        return n + (size_t)g->len;
    }
    int whole = g->len < g->point ? g->len : g->point;
    memcpy(dst, g->d, (size_t)whole);
    n = (size_t)whole + put_zeros(dst + whole, g->point - whole);
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
        static const char zero[] = {'-', '0', '.', '0'}; // "-0" would read as the whole number 0
        size_t n = signbit(v) ? sizeof(zero) : 1;
        memcpy(dst, n == 1 ? "0" : zero, n);
        return n;
    }
    size_t sign = v < 0 ? 1 : 0;
    dst[0] = '-';
    struct layout g = layout_of(decimal_of(fabs(v)));
    return sign + put_layout(&g, dst + sign);
}
