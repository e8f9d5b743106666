#include <math.h>

#include "expr/doc.h"
#include "expr/fn_priv.h"
#include "expr/tree.h"

struct expr_value fn_number(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_to_number(&args[0]);
}

struct expr_value fn_text(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    return expr_to_text(&args[0], c->scratch);
}

struct expr_value fn_bool(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_to_bool(&args[0]);
}

struct expr_value fn_time(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_to_time(&args[0]);
}

struct expr_value fn_version(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_to_version(&args[0]);
}

struct expr_value fn_typeof(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_text(slice_str(expr_type_name((enum expr_type)args[0].type)));
}

struct expr_value fn_nullif(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    int order;
    return expr_compare(&args[0], &args[1], &order) && order == 0 ? expr_null() : args[0];
}

struct expr_value fn_date_trunc(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    static const int64_t unit_us[] = {[EXPR_HOUR] = 3600000000, [EXPR_MINUTE] = 60000000, [EXPR_SECOND] = 1000000};
    int field = expr_field_find(expr_value_slice(&args[0]));
    struct expr_calendar d;
    if (field < 0 || field > EXPR_SECOND) {
        return expr_null();
    }
    expr_calendar_of(args[1].i, &d);
    if (field >= EXPR_HOUR) {
        return expr_time(args[1].i - d.day_us % unit_us[field]);
    }
    return expr_time(expr_calendar_us(d.year, field == EXPR_YEAR ? 1 : d.month, field == EXPR_DAY ? d.day : 1));
}

struct expr_value fn_epoch_ms(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    int64_t us = args[0].i;
    return expr_int(us / 1000 - (us % 1000 < 0 ? 1 : 0));
}

struct expr_value fn_from_epoch_ms(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    int64_t us;
    return __builtin_mul_overflow(args[0].i, 1000, &us) ? expr_null() : expr_time(us);
}

static double real_of(const struct expr_value *v)
{
    return v->type == EXPR_INT ? (double)v->i : v->d;
}

struct expr_value fn_point(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_point(real_of(&args[0]), real_of(&args[1]));
}

struct expr_value fn_lat(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(args[0].d);
}

struct expr_value fn_lon(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(args[0].lon);
}

struct expr_value fn_distance(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_real(expr_distance_m(&args[0], &args[1]));
}

struct expr_value fn_within(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_bool(expr_distance_m(&args[0], &args[1]) <= real_of(&args[2]));
}

// Does a line from the point to the north pole cross the edges an odd number of times? Edges are straight in degrees; an area
// across the 180th meridian is given as two.
struct expr_value fn_inside(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    const double *corner = args[1].corners;
    size_t count = args[1].len;
    bool in = false;
    c->steps += count / 8;
    for (size_t i = 0, j = count - 2; i < count; j = i, i += 2) {
        double lat = corner[i];
        double lon = corner[i + 1];
        double last_lat = corner[j];
        double last_lon = corner[j + 1];
        bool across = (lon > args[0].lon) != (last_lon > args[0].lon);
        if (across && args[0].d < (last_lat - lat) * (args[0].lon - lon) / (last_lon - lon) + lat) {
            in = !in;
        }
    }
    return expr_bool(in);
}

struct expr_value fn_size(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)c;
    (void)n;
    return expr_int(args[0].item->n);
}

struct expr_value fn_has_key(struct expr_call *c, const struct expr_value *args, unsigned n)
{
    (void)n;
    struct slice key = expr_value_slice(&args[1]);
    return expr_bool(expr_item_get(args[0].item, key, expr_key_hash(key), &c->steps) != NULL);
}
