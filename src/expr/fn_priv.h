// The functions' bodies, which fn.c puts into the table.
#ifndef EXPR_FN_PRIV_H
#define EXPR_FN_PRIV_H

#include "expr/fn.h"

typedef struct expr_value expr_fn_call(struct expr_call *c, const struct expr_value *args, unsigned n);

// fn_text.c
expr_fn_call fn_lower, fn_upper, fn_length, fn_substr, fn_trim, fn_ltrim, fn_rtrim, fn_replace, fn_starts_with,
    fn_ends_with, fn_contains, fn_position, fn_split_part, fn_concat;
// fn_number.c
expr_fn_call fn_abs, fn_sign, fn_floor, fn_ceil, fn_trunc, fn_round, fn_div, fn_mod, fn_sqrt, fn_power, fn_exp, fn_ln,
    fn_log10, fn_least, fn_greatest;
// fn_other.c
expr_fn_call fn_number, fn_text, fn_bool, fn_time, fn_version, fn_typeof, fn_nullif, fn_date_trunc, fn_epoch_ms,
    fn_from_epoch_ms, fn_point, fn_lat, fn_lon, fn_distance, fn_within, fn_inside, fn_size, fn_has_key;

#endif
