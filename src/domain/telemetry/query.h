// Telemetry as operators read it: newest values, names, ranges.
#ifndef DOMAIN_TELEMETRY_QUERY_H
#define DOMAIN_TELEMETRY_QUERY_H

#include "base/json.h"
#include "core/core.h"
#include "domain/registry/registry.h"

#define TELEMETRY_PAGE_MAX   10000
#define TELEMETRY_BUCKET_MIN 1000000LL
#define TELEMETRY_BUCKET_MAX (366LL * 86400 * 1000000)

// {"metrics": {name: {"ts": epoch ms, "time": RFC 3339, "value": v}}} sorted by name; prefix empty: all. Core thread.
enum status telemetry_last_write(struct tx *tx, const struct device_ref *d, struct slice prefix, struct jw *out,
                                 struct err *err);
// {"items": [{"name","type","ts","time"}], "next": null} sorted by name. Core thread.
enum status telemetry_metrics_write(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err);

struct telemetry_range_params {
    struct slice metric;
    int64_t from_us, to_us; // [from, to)
    int64_t bucket_us;      // 0: raw points
    enum ts_agg agg;        // TS_RAW: average when there is a bucket
    bool count;             // only how many
    bool descending;
    unsigned limit; // 1..TELEMETRY_PAGE_MAX
    struct slice cursor;
};
// A range is read in two steps: opening takes what is only in memory (core thread, cheap), writing merges it with the store
// (reader thread). Freed on any thread.
struct telemetry_range;
enum status telemetry_range_open(struct tx *tx, const struct device_ref *d, const struct telemetry_range_params *p,
                                 struct telemetry_range **ret, struct err *err);
// {"points": [[epoch ms, value], ...], "next": cursor|null} or {"count": n}. A metric nobody ever sent has no points.
enum status telemetry_range_write(struct tx *tx, const struct telemetry_range *r, struct jw *out, struct err *err);
void telemetry_range_free(struct telemetry_range *r); // NULL is allowed

#endif
