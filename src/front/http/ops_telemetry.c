// telemetry.*, retention.*: newest values, ranges, how long they are kept.
#include "base/clock.h"
#include "domain/doc/doc.h"
#include "domain/telemetry/query.h"
#include "domain/telemetry/retention.h"
#include "front/http/api.h"

enum status op_telemetry_last(struct api_call *call, struct err *err);
enum status op_telemetry_range(struct api_call *call, struct err *err);
enum status op_telemetry_metrics(struct api_call *call, struct err *err);
enum status op_retention_get(struct api_call *call, struct err *err);
enum status op_retention_set(struct api_call *call, struct err *err);

enum status op_telemetry_last(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    return st == ST_OK ? telemetry_last_write(call->tx, &d, api_param(call, "prefix"), call->out, err) : st;
}

enum status op_telemetry_metrics(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    return st == ST_OK ? telemetry_metrics_write(call->tx, &d, call->out, err) : st;
}

static enum ts_agg agg_of(struct slice name)
{
    static const struct {
        const char *name;
        enum ts_agg agg;
    } names[] = {{"min", TS_MIN},     {"max", TS_MAX},     {"avg", TS_AVG},  {"sum", TS_SUM},
                 {"count", TS_COUNT}, {"first", TS_FIRST}, {"last", TS_LAST}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_eq_str(name, names[i].name)) {
            return names[i].agg;
        }
    }
    return TS_RAW; // absent; the description allows no other text
}

static enum status range_then(struct api_call *call, struct err *err)
{
    return telemetry_range_write(call->tx, call->state, call->out, err);
}

static void range_free(void *state)
{
    telemetry_range_free(state);
}

// 0 without the parameter. "0s" is a bucket that is too short, not none: the domain refuses it.
static int64_t bucket_of(const struct api_call *call)
{
    int64_t us = api_param_duration(call, "bucket", -1);
    return us < 0 ? 0 : us == 0 ? 1 : us;
}

enum status op_telemetry_range(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    const struct telemetry_range_params p = {
        .metric = api_param(call, "metric"),
        .from_us = api_param_time(call, "from", INT64_MIN),
        .to_us = api_param_time(call, "to", INT64_MAX),
        .bucket_us = bucket_of(call),
        .agg = agg_of(api_param(call, "agg")),
        .count = api_param_bool(call, "count", false),
        .descending = slice_eq(api_param(call, "order"), SLICE("desc")),
        .limit = (unsigned)api_param_int(call, "limit", 1000),
        .cursor = api_param(call, "cursor"),
    };
    struct telemetry_range *range = NULL;
    st = telemetry_range_open(call->tx, &d, &p, &range, err);
    if (st == ST_OK) {
        call->state = range;
        call->state_free = range_free;
        call->then = range_then;
    }
    return st;
}

enum status op_retention_get(struct api_call *call, struct err *err)
{
    return retention_write(call->tx, call->out, err);
}

enum status op_retention_set(struct api_call *call, struct err *err)
{
    struct slice keep = doc_str(call->body, "keep");
    int64_t keep_us = 0;
    if (slice_eq(keep, SLICE("default"))) {
        keep_us = RETENTION_DEFAULT;
    } else if (!slice_eq(keep, SLICE("forever")) && (!clock_parse_duration(keep, &keep_us) || keep_us == 0)) {
        return err_at(err, ST_INVALID, "/keep", "a number and unit like 90d or 36h, or forever, or default");
    }
    enum status st = retention_set(call->tx, doc_str(call->body, "metric"), keep_us, err);
    return st == ST_OK ? retention_write(call->tx, call->out, err) : st;
}
