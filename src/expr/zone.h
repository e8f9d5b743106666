// Time zones: which offset holds when, and reading it from the system's zone files (TZif, RFC 8536).
#ifndef EXPR_ZONE_H
#define EXPR_ZONE_H

#include "base/status.h"
#include "expr/value.h"

#define EXPR_ZONE_ROWS_MAX  1024
#define EXPR_ZONE_LAST_YEAR 2100 // rules for all years to come are written out until then; later the last offset stays

struct expr_zone_row {
    int64_t from_us;   // since 1970 UTC
    int64_t offset_us; // local time minus UTC, from then on
};

// Reads a zone file of version 2 or later. The first row begins at INT64_MIN; rows ascend. ST_MALFORMED: no such file;
// ST_UNSUPPORTED: version 1, or a rule by the day of the year; ST_TOO_LARGE: more than `max` rows.
enum status expr_zone_read(struct slice tzif, struct expr_zone_row *rows, unsigned max, unsigned *ret_count);
// "UTC", "Z", "+02:00", "-09:30": zones that need no file.
bool expr_zone_fixed(struct slice name, int64_t *ret_offset_us);
// Local time minus UTC at this time. At least one row.
int64_t expr_zone_offset_us(const struct expr_zone_row *rows, unsigned count, int64_t time_us);

#endif
