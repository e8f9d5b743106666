#include "domain/telemetry/retention.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "domain/audit/audit.h"
#define SQL_RETENTION_DEFINE
#include "domain/telemetry/sql/retention.sql.h"

// A rule on its way to the telemetry store, until the commit decides.
struct rule {
    struct ts *ts;
    uint32_t tenant;
    int64_t keep_us;
    size_t len;
    char metric[TS_METRIC_MAX];
};

static void rule_commit(struct core *c, void *arg)
{
    (void)c;
    struct rule *r = arg;
    if (ts_set_retention(r->ts, r->tenant, slice_make(r->metric, r->len), r->keep_us) != ST_OK) {
        log_warn("telemetry", "no memory for a retention rule: it holds from the next start",
                 LOGU("tenant", r->tenant));
    }
    free(r);
}

static void rule_undo(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

// The longest unit that fits evenly: 7d, 36h, 90m, 45s.
static void write_duration(struct jw *out, int64_t us)
{
    static const struct {
        int64_t us;
        const char *name;
    } units[] = {{86400000000, "d"}, {3600000000, "h"}, {60000000, "m"}, {1000000, "s"}};
    if (us == 0 || us == RETENTION_DEFAULT) {
        jw_str(out, us == 0 ? "forever" : "default");
        return;
    }
    size_t i = 0;
    while (i + 1 < sizeof(units) / sizeof(units[0]) && us % units[i].us != 0) {
        i++;
    }
    char text[32];
    (void)snprintf(text, sizeof(text), "%" PRId64 "%s", us / units[i].us, units[i].name);
    jw_str(out, text);
}

static enum status check(struct tx *tx, struct slice metric, int64_t keep_us, struct err *err)
{
    if (metric.len > TS_METRIC_MAX) {
        return err_at(err, ST_INVALID, "/metric", "a metric name has at most %d bytes", TS_METRIC_MAX);
    }
    if (keep_us == RETENTION_DEFAULT) {
        return ST_OK; // a rule less
    }
    if (keep_us != 0 && (keep_us < RETENTION_KEEP_MIN || keep_us > RETENTION_KEEP_MAX || keep_us % 1000000 != 0)) {
        return err_at(err, ST_INVALID, "/keep", "telemetry is kept for whole seconds from 1h to 36600d, or forever");
    }
    STMT(s, tx->db, &sql_retention[SQL_RETENTION_COUNT]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, metric);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row && col_i64(s, 0) >= RETENTION_RULES_MAX) {
        st = err_set(err, ST_LIMIT, "a tenant has at most %d retention rules", RETENTION_RULES_MAX);
    }
    return st;
}

// The audit text of a rule: {"metric", "keep"}.
static void write_rule(struct buf *text, struct slice metric, int64_t keep_us)
{
    struct jw w;
    jw_init(&w, text);
    jw_object(&w);
    jw_key(&w, "metric");
    jw_slice(&w, metric);
    jw_key(&w, "keep");
    write_duration(&w, keep_us);
    jw_object_end(&w);
}

static enum status audit(struct tx *tx, struct slice metric, int64_t keep_us, struct err *err)
{
    uint8_t before_mem[1024];
    uint8_t after_mem[1024];
    struct buf before = buf_fixed(before_mem, sizeof(before_mem));
    struct buf after = buf_fixed(after_mem, sizeof(after_mem));
    STMT(s, tx->db, &sql_retention[SQL_RETENTION_GET]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, metric);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (row) {
        write_rule(&before, metric, col_i64(s, 0));
    }
    write_rule(&after, metric, keep_us);
    return audit_write(tx, "retention.set", "retention", metric, row ? buf_view(&before) : (struct slice){NULL, 0},
                       buf_view(&after), err);
}

static enum status put(struct tx *tx, struct slice metric, int64_t keep_us, struct err *err)
{
    bool gone = keep_us == RETENTION_DEFAULT;
    STMT(s, tx->db, &sql_retention[gone ? SQL_RETENTION_DELETE : SQL_RETENTION_PUT]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, metric);
    if (!gone) {
        stmt_bind_i64(s, 3, keep_us);
    }
    return stmt_run(s, err);
}

enum status retention_set(struct tx *tx, struct slice metric, int64_t keep_us, struct err *err)
{
    if (metric.p == NULL) {
        metric = SLICE("");
    }
    enum status st = check(tx, metric, keep_us, err);
    if (st == ST_OK) {
        st = audit(tx, metric, keep_us, err);
    }
    if (st == ST_OK) {
        st = put(tx, metric, keep_us, err);
    }
    if (st != ST_OK) {
        return st;
    }
    struct rule *r = calloc(1, sizeof(*r));
    if (r == NULL || !tx_after_commit(tx, rule_commit, rule_undo, r)) {
        free(r);
        return err_set(err, ST_NOMEM, "no memory for the retention rule");
    }
    *r = (struct rule){.ts = tx->ts, .tenant = tx->who->tenant, .keep_us = keep_us};
    struct buf name = buf_fixed(r->metric, sizeof(r->metric));
    buf_slice(&name, metric);
    r->len = name.len;
    return ST_OK;
}

enum status retention_write(struct tx *tx, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_retention[SQL_RETENTION_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    jw_object(out);
    jw_key(out, "default");
    if (row && col_text(s, 0).len == 0) { // sorts before every name
        write_duration(out, col_i64(s, 1));
        st = stmt_step(s, &row, err);
    } else {
        jw_null(out);
    }
    jw_key(out, "metrics");
    jw_object(out);
    for (; st == ST_OK && row; st = stmt_step(s, &row, err)) {
        jw_key_slice(out, col_text(s, 0));
        write_duration(out, col_i64(s, 1));
    }
    jw_object_end(out);
    jw_object_end(out);
    return st;
}

enum status retention_start(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_retention[SQL_RETENTION_ALL]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    for (; st == ST_OK && row; st = stmt_step(s, &row, err)) {
        enum status told = ts_set_retention(tx->ts, (uint32_t)col_i64(s, 0), col_text(s, 1), col_i64(s, 2));
        if (told != ST_OK) {
            return err_set(err, told, "no memory for the retention rules");
        }
    }
    return st;
}
