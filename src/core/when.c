#include "core/when.h"

#include <inttypes.h>
#include <stdio.h>

void jw_time_ms(struct jw *w, int64_t us)
{
    uint64_t abs_us = us < 0 ? 0 - (uint64_t)us : (uint64_t)us;
    char text[40];
    int len =
        snprintf(text, sizeof(text), "%s%" PRIu64 ".%03u", us < 0 ? "-" : "", abs_us / 1000, (unsigned)(abs_us % 1000));
    while (len > 0 && text[len - 1] == '0') {
        len--;
    }
    if (len > 0 && text[len - 1] == '.') {
        len--;
    }
    jw_raw(w, slice_make(text, (size_t)len));
}

void jw_time_text(struct jw *w, int64_t us)
{
    char text[CLOCK_RFC3339_MAX];
    clock_rfc3339(us, text);
    jw_str(w, text);
}
