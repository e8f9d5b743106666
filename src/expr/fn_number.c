#include <math.h>

#include "expr/fn_priv.h"

static double real_of(const struct expr_value *v)
{
    return v->type == EXPR_INT ? (double)v->i : v->d;
}

struct expr_value fn_abs(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    if (args[0].type == EXPR_REAL) {
        return expr_real(fabs(args[0].d));
    }
    return args[0].i == INT64_MIN ? expr_null() : expr_int(args[0].i < 0 ? -args[0].i : args[0].i);
}

struct expr_value fn_sign(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    double d = real_of(&args[0]);
    return expr_int(d < 0 ? -1 : d > 0 ? 1 : 0);
}

struct expr_value fn_floor(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return args[0].type == EXPR_INT ? args[0] : expr_real(floor(args[0].d));
}

struct expr_value fn_ceil(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return args[0].type == EXPR_INT ? args[0] : expr_real(ceil(args[0].d));
}

struct expr_value fn_trunc(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return args[0].type == EXPR_INT ? args[0] : expr_real(trunc(args[0].d));
}

// Halves go away from zero.
struct expr_value fn_round(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    if (args[0].type == EXPR_INT) {
        return args[0];
    }
    int64_t digits = n > 1 ? args[1].i : 0;
    if (digits < 0 || digits > 15) {
        return expr_null();
    }
    double scale = pow(10, (double)digits);
    double scaled = args[0].d * scale;
    // From 2^52 on there is no fraction left to round.
    return fabs(scaled) < 0x1p52 ? expr_real(round(scaled) / scale) : args[0];
}

static bool divisible(const struct expr_value *args)
{
    return args[1].i != 0 && !(args[0].i == INT64_MIN && args[1].i == -1);
}

struct expr_value fn_div(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return divisible(args) ? expr_int(args[0].i / args[1].i) : expr_null();
}

struct expr_value fn_mod(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    if (args[1].i == -1) {
        return expr_int(0);
    }
    return divisible(args) ? expr_int(args[0].i % args[1].i) : expr_null();
}

struct expr_value fn_sqrt(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(sqrt(real_of(&args[0])));
}

struct expr_value fn_power(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(pow(real_of(&args[0]), real_of(&args[1])));
}

struct expr_value fn_exp(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(exp(real_of(&args[0])));
}

struct expr_value fn_ln(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(log(real_of(&args[0])));
}

struct expr_value fn_log10(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(log10(real_of(&args[0])));
}

// The one all others compare as `sign` to, or equal; NULL when two cannot be compared.
static struct expr_value extreme(const struct expr_value *args, unsigned n, int sign)
{
    unsigned best = 0;
    for (unsigned i = 1; i < n; i++) {
        int order;
        if (!expr_compare(&args[i], &args[best], &order)) {
            return expr_null();
        }
        best = order * sign < 0 ? i : best;
    }
    return args[best];
}

struct expr_value fn_least(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    return extreme(args, n, 1);
}

struct expr_value fn_greatest(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    return extreme(args, n, -1);
}
