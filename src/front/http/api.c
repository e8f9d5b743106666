#include "front/http/api.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "front/http/table.h"

static const struct api_param_def *find(const struct api_call *call, const char *name, struct slice *ret)
{
    for (int i = 0; i < call->op->params_len; i++) {
        const struct api_param_def *d = &call->op->params[i];
        if (strcmp(d->name, name) == 0) {
            *ret = call->params[i];
            if (ret->p == NULL && d->dflt != NULL) {
                *ret = slice_str(d->dflt);
            }
            return d;
        }
    }
    assert(!"a parameter that the description has");
    abort();
}

struct slice api_param(const struct api_call *call, const char *name)
{
    struct slice v;
    find(call, name, &v);
    return v;
}

int64_t api_param_int(const struct api_call *call, const char *name, int64_t dflt)
{
    struct slice v;
    find(call, name, &v);
    char text[24];
    return v.p != NULL && slice_to_cstr(v, text, sizeof(text)) ? strtoll(text, NULL, 10) : dflt;
}

bool api_param_bool(const struct api_call *call, const char *name, bool dflt)
{
    struct slice v;
    find(call, name, &v);
    return v.p != NULL ? !slice_eq(v, SLICE("false")) : dflt;
}

int64_t api_param_time(const struct api_call *call, const char *name, int64_t dflt)
{
    struct slice v;
    find(call, name, &v);
    int64_t us = 0;
    return v.p != NULL && clock_parse(v, &us) ? us : dflt;
}

int64_t api_param_duration(const struct api_call *call, const char *name, int64_t dflt)
{
    struct slice v;
    find(call, name, &v);
    int64_t us = 0;
    return v.p != NULL && clock_parse_duration(v, &us) ? us : dflt;
}
