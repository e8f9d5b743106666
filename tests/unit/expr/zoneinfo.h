// The system's zone files for tests of expressions: a callback as a server would give it to the checker.
#ifndef UNIT_EXPR_ZONEINFO_H
#define UNIT_EXPR_ZONEINFO_H

#include <stdio.h>

#include "expr/zone.h"

static inline enum status zoneinfo_load(void *ctx, struct slice name, struct expr_zone_row *rows, unsigned max,
                                        unsigned *ret_count)
{
    static uint8_t file[65536];
    char path[256];
    (void)ctx;
    snprintf(path, sizeof(path), "/usr/share/zoneinfo/" SLICE_FMT, SLICE_ARG(slice_head(name, 128)));
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return ST_NOT_FOUND;
    }
    size_t n = fread(file, 1, sizeof(file), f);
    fclose(f);
    return expr_zone_read(slice_make(file, n), rows, max, ret_count);
}

#endif
