#include "domain/telemetry/query.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "core/page.h"
#include "core/when.h"
#include "domain/telemetry/value.h"

#define LAST_MEMORY_MAX (8u << 20)

// --- newest values -----------------------------------------------------------------------------------------------

struct last {
    struct slice metric;
    int64_t ts_us;
    struct ts_value value;
};

// Copies of the newest values: what the store hands out lives for one call only.
struct last_list {
    struct arena arena;
    struct last *rows;
    size_t len, cap;
    struct slice prefix;
    bool failed; // no memory
};

static void last_add(void *arg, struct slice metric, int64_t ts_us, struct ts_value v)
{
    struct last_list *l = arg;
    if (l->failed || !slice_starts(metric, l->prefix)) {
        return;
    }
    if (l->len == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 32;
        struct last *rows = reallocarray(l->rows, cap, sizeof(*rows));
        if (rows == NULL) {
            l->failed = true;
            return;
        }
        l->rows = rows;
        l->cap = cap;
    }
    struct last row = {arena_copy(&l->arena, metric), ts_us, v};
    if (v.type == TS_STRING) {
        row.value.s = arena_copy(&l->arena, v.s);
    }
    l->failed = row.metric.p == NULL || (v.type == TS_STRING && row.value.s.p == NULL);
    l->rows[l->len] = row;
    l->len += !l->failed;
}

static int by_name(const void *a, const void *b)
{
    const struct slice x = ((const struct last *)a)->metric;
    const struct slice y = ((const struct last *)b)->metric;
    int c = memcmp(x.p, y.p, x.len < y.len ? x.len : y.len);
    return c != 0 ? c : (x.len > y.len) - (x.len < y.len);
}

static enum status last_read(struct tx *tx, const struct device_ref *d, struct slice prefix, struct last_list *l,
                             struct err *err)
{
    *l = (struct last_list){.prefix = prefix};
    arena_init(&l->arena, LAST_MEMORY_MAX);
    ts_last(tx->ts, d->tenant, d->row, last_add, l);
    if (l->failed) {
        return err_set(err, ST_NOMEM, "no memory for the newest values of device %s", d->id);
    }
    if (l->len > 1) {
        qsort(l->rows, l->len, sizeof(*l->rows), by_name);
    }
    return ST_OK;
}

static void last_release(struct last_list *l)
{
    free(l->rows);
    arena_release(&l->arena);
}

static void write_when(struct jw *out, int64_t ts_us)
{
    jw_key(out, "ts");
    jw_time_ms(out, ts_us);
    jw_key(out, "time");
    jw_time_text(out, ts_us);
}

enum status telemetry_last_write(struct tx *tx, const struct device_ref *d, struct slice prefix, struct jw *out,
                                 struct err *err)
{
    struct last_list l;
    enum status st = last_read(tx, d, prefix, &l, err);
    if (st == ST_OK) {
        jw_object(out);
        jw_key(out, "metrics");
        jw_object(out);
        for (size_t i = 0; i < l.len; i++) {
            jw_key_slice(out, l.rows[i].metric);
            jw_object(out);
            write_when(out, l.rows[i].ts_us);
            jw_key(out, "value");
            value_write(out, &l.rows[i].value);
            jw_object_end(out);
        }
        jw_object_end(out);
        jw_object_end(out);
    }
    last_release(&l);
    return st;
}

enum status telemetry_metrics_write(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    static const char *const types[] = {
        [TS_DOUBLE] = "number", [TS_INT] = "integer", [TS_BOOL] = "boolean", [TS_STRING] = "string"};
    struct last_list l;
    enum status st = last_read(tx, d, SLICE(""), &l, err);
    if (st == ST_OK) {
        jw_object(out);
        jw_key(out, "items");
        jw_array(out);
        for (size_t i = 0; i < l.len; i++) {
            jw_object(out);
            jw_key(out, "name");
            jw_slice(out, l.rows[i].metric);
            jw_key(out, "type");
            jw_str(out, types[l.rows[i].value.type]);
            write_when(out, l.rows[i].ts_us);
            jw_object_end(out);
        }
        jw_array_end(out);
        jw_key(out, "next");
        jw_null(out);
        jw_object_end(out);
    }
    last_release(&l);
    return st;
}

// --- ranges ------------------------------------------------------------------------------------------------------

struct telemetry_range {
    struct ts_query query;        // query.metric points to `metric`
    struct ts_snapshot *snapshot; // NULL: there is no such series
    bool count;
    unsigned limit;
    char metric[TS_METRIC_MAX];
};

static enum status check_params(const struct telemetry_range_params *p, struct err *err)
{
    if (p->metric.len == 0 || p->metric.len > TS_METRIC_MAX) {
        return err_at(err, ST_INVALID, "metric", "a metric name has 1 to %d bytes", TS_METRIC_MAX);
    }
    if (p->limit < 1 || p->limit > TELEMETRY_PAGE_MAX) {
        return err_at(err, ST_INVALID, "limit", "a page has 1 to %d points", TELEMETRY_PAGE_MAX);
    }
    if (p->bucket_us != 0 && (p->bucket_us < TELEMETRY_BUCKET_MIN || p->bucket_us > TELEMETRY_BUCKET_MAX)) {
        return err_at(err, ST_INVALID, "bucket", "a bucket is 1s to 366d long");
    }
    if (p->agg != TS_RAW && p->bucket_us == 0) {
        return err_at(err, ST_INVALID, "agg", "agg needs a bucket: bucket=5m");
    }
    if (p->count && p->bucket_us != 0) {
        return err_at(err, ST_INVALID, "count", "count=true is of raw points: leave out bucket (or use agg=count)");
    }
    if (p->from_us > p->to_us) {
        return err_at(err, ST_INVALID, "from", "from lies behind to");
    }
    return ST_OK;
}

// A cursor is the time the next page starts at (ascending), or ends before (descending).
static enum status apply_cursor(const struct telemetry_range_params *p, struct ts_query *q, struct err *err)
{
    uint8_t mem[CURSOR_MAX];
    struct cursor c = {.kind = PAGE_TELEMETRY, .a = p->descending ? INT64_MAX : INT64_MIN, .b = p->descending};
    enum status st = cursor_read(p->cursor, PAGE_TELEMETRY, mem, &c, err);
    if (st != ST_OK) {
        return st;
    }
    if (c.b != p->descending) {
        return err_at(err, ST_INVALID, "cursor",
                      "the cursor belongs to the other order; keep the parameters while paging");
    }
    if (p->descending) {
        q->to_us = c.a < q->to_us ? c.a : q->to_us;
    } else {
        q->from_us = c.a > q->from_us ? c.a : q->from_us;
    }
    return ST_OK;
}

static enum status take_snapshot(struct tx *tx, const struct device_ref *d, struct telemetry_range *r, struct err *err)
{
    enum status st = ts_snapshot_take(tx->ts, &r->query, &r->snapshot);
    if (st == ST_NOT_FOUND) {
        r->snapshot = NULL;
        return ST_OK;
    }
    return st == ST_OK ? ST_OK : err_set(err, st, "cannot read the telemetry of device %s", d->id);
}

enum status telemetry_range_open(struct tx *tx, const struct device_ref *d, const struct telemetry_range_params *p,
                                 struct telemetry_range **ret, struct err *err)
{
    enum status st = check_params(p, err);
    if (st != ST_OK) {
        return st;
    }
    struct telemetry_range *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the query");
    }
    struct buf metric = buf_fixed(r->metric, sizeof(r->metric));
    buf_slice(&metric, p->metric);
    r->query = (struct ts_query){.tenant = d->tenant,
                                 .device = d->row,
                                 .metric = buf_view(&metric),
                                 .from_us = p->from_us,
                                 .to_us = p->to_us,
                                 .bucket_us = p->bucket_us,
                                 .agg = p->bucket_us != 0 && p->agg == TS_RAW ? TS_AVG : p->agg,
                                 .limit = p->limit + 1, // one more tells whether there is a next page
                                 .descending = p->descending};
    r->limit = p->limit;
    r->count = p->count;
    st = apply_cursor(p, &r->query, err);
    if (st == ST_OK) {
        st = take_snapshot(tx, d, r, err);
    }
    if (st != ST_OK) {
        telemetry_range_free(r);
        return st;
    }
    *ret = r;
    return ST_OK;
}

struct range_page {
    struct jw *out;
    unsigned left;
    int64_t last_us;
    bool more;
};

static bool write_point(void *arg, int64_t ts_us, struct ts_value v)
{
    struct range_page *p = arg;
    if (p->left == 0) {
        p->more = true;
        return false;
    }
    jw_array(p->out);
    jw_time_ms(p->out, ts_us);
    value_write(p->out, &v);
    jw_array_end(p->out);
    p->last_us = ts_us;
    p->left--;
    return true;
}

static enum status write_count(struct tx *tx, const struct telemetry_range *r, struct jw *out, struct err *err)
{
    uint64_t n = 0;
    enum status st = r->snapshot != NULL ? ts_read_count(tx->ts_reader, r->snapshot, &r->query, &n, err) : ST_OK;
    if (st == ST_OK) {
        jw_object(out);
        jw_key(out, "count");
        jw_uint(out, n);
        jw_object_end(out);
    }
    return st;
}

enum status telemetry_range_write(struct tx *tx, const struct telemetry_range *r, struct jw *out, struct err *err)
{
    if (r->count) {
        return write_count(tx, r, out, err);
    }
    struct range_page p = {.out = out, .left = r->limit};
    jw_object(out);
    jw_key(out, "points");
    jw_array(out);
    enum status st = r->snapshot != NULL ? ts_read(tx->ts_reader, r->snapshot, &r->query, write_point, &p, err) : ST_OK;
    jw_array_end(out);
    jw_key(out, "next");
    if (st == ST_OK) {
        int64_t step = r->query.bucket_us > 0 ? r->query.bucket_us : 1;
        const struct cursor c = {
            .kind = PAGE_TELEMETRY, .a = r->query.descending ? p.last_us : p.last_us + step, .b = r->query.descending};
        st = cursor_write(p.more ? &c : NULL, out, err);
    }
    if (st == ST_OK) { // else what was written is thrown away
        jw_object_end(out);
    }
    return st;
}

void telemetry_range_free(struct telemetry_range *r)
{
    if (r != NULL) {
        ts_snapshot_free(r->snapshot);
        free(r);
    }
}
