// A telemetry value as JSON; private to telemetry.
#ifndef DOMAIN_TELEMETRY_VALUE_H
#define DOMAIN_TELEMETRY_VALUE_H

#include "base/json.h"
#include "store/ts.h"

static inline void value_write(struct jw *w, const struct ts_value *v)
{
    switch (v->type) {
    case TS_DOUBLE:
        jw_double(w, v->f);
        break;
    case TS_INT:
        jw_int(w, v->i);
        break;
    case TS_BOOL:
        jw_bool(w, v->b);
        break;
    case TS_STRING:
        jw_slice(w, v->s);
        break;
    }
}

#endif
