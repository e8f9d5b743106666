#include "base/json.h"
#include "muster/muster.h"

// The builder keeps no writer between calls: each call writes its piece behind what is there.

static struct buf telemetry_buf(const struct muster_telemetry *t)
{
    struct buf b = buf_fixed(t->json, t->cap);
    b.len = t->len;
    b.failed = t->failed;
    return b;
}

static void telemetry_keep(struct muster_telemetry *t, const struct buf *b)
{
    t->failed = b->failed;
    if (!b->failed) {
        t->len = b->len;
    }
}

// One JSON value of any type behind what is there.
static struct jw telemetry_value(struct buf *b)
{
    struct jw w;
    jw_init(&w, b);
    return w;
}

void muster_telemetry_begin(struct muster_telemetry *t, void *memory, size_t memory_bytes, int64_t time_ms)
{
    *t = (struct muster_telemetry){.json = memory, .cap = memory_bytes};
    struct buf b = telemetry_buf(t);
    if (time_ms == MUSTER_NO_TIME) {
        buf_str(&b, "{\"values\":{");
    } else {
        buf_str(&b, "{\"ts\":");
        struct jw w = telemetry_value(&b);
        jw_int(&w, time_ms);
        buf_str(&b, ",\"values\":{");
    }
    telemetry_keep(t, &b);
}

static struct buf telemetry_key(struct muster_telemetry *t, const char *metric)
{
    struct buf b = telemetry_buf(t);
    if (t->values > 0) {
        buf_u8(&b, ',');
    }
    struct jw w = telemetry_value(&b);
    jw_str(&w, metric);
    buf_u8(&b, ':');
    t->values++;
    return b;
}

void muster_telemetry_add_double(struct muster_telemetry *t, const char *metric, double value)
{
    if (value - value != 0) { // infinite or not a number
        return;
    }
    struct buf b = telemetry_key(t, metric);
    struct jw w = telemetry_value(&b);
    jw_double(&w, value);
    telemetry_keep(t, &b);
}

void muster_telemetry_add_int(struct muster_telemetry *t, const char *metric, int64_t value)
{
    struct buf b = telemetry_key(t, metric);
    struct jw w = telemetry_value(&b);
    jw_int(&w, value);
    telemetry_keep(t, &b);
}

void muster_telemetry_add_bool(struct muster_telemetry *t, const char *metric, bool value)
{
    struct buf b = telemetry_key(t, metric);
    struct jw w = telemetry_value(&b);
    jw_bool(&w, value);
    telemetry_keep(t, &b);
}

void muster_telemetry_add_str(struct muster_telemetry *t, const char *metric, const char *value)
{
    struct buf b = telemetry_key(t, metric);
    struct jw w = telemetry_value(&b);
    jw_str(&w, value);
    telemetry_keep(t, &b);
}

enum muster_status muster_telemetry_end(struct muster_telemetry *t)
{
    struct buf b = telemetry_buf(t);
    buf_str(&b, "}}");
    telemetry_keep(t, &b);
    if (t->failed) {
        return MUSTER_E_TOO_LARGE;
    }
    return t->values > 0 ? MUSTER_OK : MUSTER_E_NOT_FOUND;
}
