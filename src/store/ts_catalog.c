// catalog.db: what must be known about series without reading their data, and the counters of devices and tenants.
//
// The body of a device row: n counters (varint n, then n varints), then varint n series, each: id, metric id, type (one byte,
// 255: no value yet), and with a value its time (zigzag) and the value (8 bytes, zigzag, byte, or length and bytes).
// Counters are absolute; the row says up to which commit, so that a replay counts nothing twice.
#include <stdlib.h>

#include "base/crc.h"
#include "base/log.h"
#include "store/ts_priv.h"

#define SQL_TS_CATALOG_DEFINE
#include "store/sql/ts_catalog.sql.h"

#define CATALOG_APPLICATION_ID 0x4d535443 // "MSTC"
#define CATALOG_BODY_MAX       (4U << 20) // a device with all its series
#define CATALOG_CHECKPOINT     1000       // pages
#define CATALOG_NO_VALUE       255

static const struct db_kind catalog_kind = {
    .application_id = CATALOG_APPLICATION_ID,
    .writer = &sql_ts_catalog[SQL_TS_CATALOG_SETTINGS],
    .reader = &sql_ts_catalog[SQL_TS_CATALOG_SETTINGS],
};

static uint32_t body_crc(uint64_t key, struct slice body)
{
    uint8_t mem[8];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u64(&b, key);
    return crc32c(crc32c(0, buf_view(&b)), body);
}

// --- Notes ----------------------------------------------------------------------------------------------------------

static enum status note_get(struct db *db, const char *key, uint64_t *ret, struct err *err)
{
    STMT(s, db, &sql_ts_catalog[SQL_TS_CATALOG_NOTE_GET]);
    stmt_bind_str(s, 1, key);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row) {
        *ret = (uint64_t)col_i64(s, 0);
    }
    return st;
}

static enum status note_set(struct db *db, const char *key, uint64_t v, struct err *err)
{
    STMT(s, db, &sql_ts_catalog[SQL_TS_CATALOG_NOTE_SET]);
    stmt_bind_str(s, 1, key);
    stmt_bind_i64(s, 2, (int64_t)v);
    return stmt_run(s, err);
}

// --- Opening --------------------------------------------------------------------------------------------------------

static enum status load_counters(struct reader *r, uint64_t out[TS_COUNTERS])
{
    uint64_t n = rd_uvarint(r);
    if (n > TS_COUNTERS) {
        return ST_CORRUPT;
    }
    for (uint64_t i = 0; i < n; i++) {
        out[i] = rd_uvarint(r);
    }
    return r->failed ? ST_CORRUPT : ST_OK;
}

static enum status load_tenant(struct ts *t, struct stmt *s)
{
    uint64_t id = (uint64_t)col_i64(s, 0);
    struct slice body = col_blob(s, 3);
    struct reader r = reader_make(body);
    uint64_t counters[TS_COUNTERS] = {0};
    if (id > UINT32_MAX || body_crc(id, body) != (uint32_t)col_i64(s, 2) || load_counters(&r, counters) != ST_OK) {
        t->stats.corrupt++;
        log_error("store", "damaged tenant row in the telemetry catalog, its totals start at zero", LOGU("tenant", id));
        return ST_OK;
    }
    struct ts_tenant *tenant = ts_tenant_get(t, (uint32_t)id);
    if (tenant == NULL) {
        return ST_NOMEM;
    }
    tenant->seq = (uint64_t)col_i64(s, 1);
    for (unsigned i = 0; i < TS_COUNTERS; i++) {
        tenant->counters[i] = counters[i];
    }
    return ST_OK;
}

static enum status load_tenants(struct ts *t, struct err *err)
{
    STMT(s, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_TENANTS]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    while (st == ST_OK && row) {
        st = load_tenant(t, s);
        st = st == ST_OK ? stmt_step(s, &row, err) : st;
    }
    return st;
}

enum status ts_catalog_open(struct ts *t, struct err *err)
{
    char path[TS_PATH_MAX];
    if (!ts_path(t, path, "catalog.db")) {
        return err_set(err, ST_INVALID, "the data directory's path is too long");
    }
    const struct db_migration schema = {1, "catalog", sql_ts_catalog[SQL_TS_CATALOG_SCHEMA].text};
    enum status st = db_open_kind(path, DB_WRITER, &catalog_kind, &t->catalog, err);
    if (st == ST_OK) {
        st = db_migrate(t->catalog, &schema, 1, err);
    }
    if (st == ST_OK) {
        st = db_prepare_all(t->catalog, sql_ts_catalog + SQL_TS_CATALOG_NOTE_GET,
                            SQL_TS_CATALOG__COUNT - SQL_TS_CATALOG_NOTE_GET, err);
    }
    uint64_t next = 1;
    uint64_t segment = 0;
    st = st == ST_OK ? note_get(t->catalog, "series_next", &next, err) : st;
    st = st == ST_OK ? note_get(t->catalog, "flushed_seq", &t->flushed_seq, err) : st;
    st = st == ST_OK ? note_get(t->catalog, "counted_seq", &t->counted_seq, err) : st;
    st = st == ST_OK ? note_get(t->catalog, "segment", &segment, err) : st;
    st = st == ST_OK ? load_tenants(t, err) : st;
    t->series_next = (uint32_t)next;
    t->flush.segment = (uint32_t)segment;
    t->seq = t->flushed_seq > t->counted_seq ? t->flushed_seq : t->counted_seq;
    return st;
}

// --- Metrics and series ---------------------------------------------------------------------------------------------

enum status ts_catalog_metric(struct ts *t, struct ts_metric *m, bool add)
{
    STMT(s, t->catalog, &sql_ts_catalog[add ? SQL_TS_CATALOG_METRIC_ADD : SQL_TS_CATALOG_METRIC_BY_NAME]);
    stmt_bind_i64(s, 1, m->tenant->id);
    stmt_bind_text(s, 2, slice_make(m->name, m->len));
    bool row = false;
    enum status st = stmt_step(s, &row, NULL);
    if (st == ST_OK && row) {
        m->id = (uint32_t)col_i64(s, 0);
        st = stmt_step(s, &row, NULL); // to the end: an insert is done only then
    }
    return st;
}

enum status ts_catalog_metric_count(struct ts *t, uint32_t tenant, uint32_t *ret_n)
{
    STMT(s, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_METRIC_COUNT]);
    stmt_bind_i64(s, 1, tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, NULL);
    if (st == ST_OK) {
        *ret_n = (uint32_t)col_i64(s, 0);
    }
    return st;
}

enum status ts_catalog_series(struct ts *t, uint32_t id, struct ts_series **ret)
{
    STMT(s, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_SERIES_GET]);
    stmt_bind_i64(s, 1, id);
    bool row = false;
    enum status st = stmt_step(s, &row, NULL);
    if (st != ST_OK || !row) {
        return st == ST_OK ? ST_NOT_FOUND : st;
    }
    struct ts_device *d = ts_device_get(t, (uint32_t)col_i64(s, 1), (uint64_t)col_i64(s, 0));
    struct slice name = col_text(s, 2);
    return d == NULL ? ST_NOMEM : ts_series_make(t, d, name, hash_bytes(name), id, ret);
}

// --- Devices --------------------------------------------------------------------------------------------------------

static enum status decode_value(struct reader *r, uint8_t type, struct ts_value *ret)
{
    struct ts_value v = {.type = (enum ts_type)type};
    union {
        uint64_t u;
        double f;
    } bits;
    switch (type) {
    case TS_DOUBLE:
        bits.u = rd_u64(r);
        v.f = bits.f;
        break;
    case TS_INT:
        v.i = rd_svarint(r);
        break;
    case TS_BOOL:
        v.b = rd_u8(r) != 0;
        break;
    case TS_STRING: {
        uint64_t len = rd_uvarint(r);
        v.s = rd_bytes(r, len <= TS_STRING_MAX ? (size_t)len : SIZE_MAX);
        break;
    }
    default:
        return ST_CORRUPT;
    }
    *ret = v;
    return r->failed ? ST_CORRUPT : ST_OK;
}

static enum status metric_name_of(struct ts *t, uint64_t id, struct ts_device *d, uint32_t series,
                                  struct ts_series **ret)
{
    STMT(s, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_METRIC_BY_ID]);
    stmt_bind_i64(s, 1, (int64_t)id);
    bool row = false;
    enum status st = stmt_step(s, &row, NULL);
    if (st != ST_OK || !row || (uint64_t)col_i64(s, 0) != d->tenant->id) {
        return st == ST_OK ? ST_CORRUPT : st;
    }
    struct slice name = col_text(s, 1);
    st = ts_series_make(t, d, name, hash_bytes(name), series, ret);
    if (st == ST_OK) {
        (*ret)->metric->id = (uint32_t)id;
    }
    return st == ST_INVALID ? ST_CORRUPT : st;
}

// One series of a body. What the log has brought already is newer and stays.
static enum status decode_series(struct ts *t, struct ts_device *d, struct reader *r)
{
    uint64_t id = rd_uvarint(r);
    uint64_t metric = rd_uvarint(r);
    uint8_t type = rd_u8(r);
    if (r->failed || id == 0 || id >= UINT32_MAX || metric == 0 || metric > UINT32_MAX) {
        return ST_CORRUPT;
    }
    struct ts_series *s = ts_table_get(&t->table, (uint32_t)id);
    enum status st = s != NULL ? ST_OK : metric_name_of(t, metric, d, (uint32_t)id, &s);
    if (st != ST_OK || s->dev != d) {
        return st == ST_OK ? ST_CORRUPT : st;
    }
    s->flags &= (uint8_t)~TS_S_NEW;
    s->metric->id = (uint32_t)metric;
    if (type == CATALOG_NO_VALUE) {
        return ST_OK;
    }
    int64_t time = rd_svarint(r);
    struct ts_value v;
    st = decode_value(r, type, &v);
    if (st == ST_OK && ((s->flags & TS_S_LAST) == 0 || time > s->last_t) && !ts_series_set_last(s, time, &v)) {
        st = ST_NOMEM;
    }
    return st;
}

enum status ts_catalog_decode(struct ts *t, struct ts_device *d, struct slice body)
{
    struct reader r = reader_make(body);
    uint64_t counters[TS_COUNTERS] = {0};
    enum status st = load_counters(&r, counters);
    uint64_t n = rd_uvarint(&r);
    if (st == ST_OK && (r.failed || n > reader_left(&r))) {
        st = ST_CORRUPT;
    }
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        st = decode_series(t, d, &r);
    }
    if (st == ST_OK && !reader_done(&r)) {
        st = ST_CORRUPT;
    }
    for (unsigned i = 0; st == ST_OK && i < TS_COUNTERS; i++) {
        if (counters[i] != 0 && !ts_counters_add(d, i, counters[i])) {
            st = ST_NOMEM;
        }
    }
    return st;
}

enum status ts_catalog_load(struct ts *t, struct ts_device *d)
{
    if (d->loaded) {
        return ST_OK;
    }
    STMT(s, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_DEVICE_GET]);
    stmt_bind_i64(s, 1, (int64_t)d->device);
    bool row = false;
    struct err err = {.code = ST_OK};
    enum status st = stmt_step(s, &row, &err);
    if (st != ST_OK) {
        log_error("store", "telemetry catalog cannot be read", LOGS("error", err.text));
        return st;
    }
    if (row) {
        struct slice body = col_blob(s, 3);
        bool good = body_crc(d->device, body) == (uint32_t)col_i64(s, 2);
        d->seq = (uint64_t)col_i64(s, 1);
        st = good ? ts_catalog_decode(t, d, body) : ST_CORRUPT;
    }
    if (st == ST_CORRUPT) {
        t->stats.corrupt++;
        log_error("store", "damaged device row in the telemetry catalog; its counters start at zero",
                  LOGU("device", d->device));
        st = ST_OK;
    }
    d->loaded = st == ST_OK;
    return st;
}

enum status ts_catalog_knows(struct ts *t, uint64_t device, uint32_t *ret_tenant, struct err *err)
{
    STMT(s, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_DEVICE_GET]);
    stmt_bind_i64(s, 1, (int64_t)device);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK || !row) {
        return st != ST_OK ? st : ST_NOT_FOUND;
    }
    *ret_tenant = (uint32_t)col_i64(s, 0);
    return ST_OK;
}

static void encode_counters(struct buf *b, const uint64_t *counters, unsigned n)
{
    buf_uvarint(b, n);
    for (unsigned i = 0; i < n; i++) {
        buf_uvarint(b, counters[i]);
    }
}

static void encode_value(struct buf *b, const struct ts_series *s)
{
    if ((s->flags & TS_S_LAST) == 0) {
        buf_u8(b, CATALOG_NO_VALUE);
        return;
    }
    buf_u8(b, s->last_type);
    buf_svarint(b, s->last_t);
    switch (s->last_type) {
    case TS_DOUBLE:
        buf_u64(b, s->last.u);
        break;
    case TS_INT:
        buf_svarint(b, (int64_t)s->last.u);
        break;
    case TS_BOOL:
        buf_u8(b, (uint8_t)s->last.u);
        break;
    default:
        buf_uvarint(b, s->last.text->len);
        buf_put(b, s->last.text->p, s->last.text->len);
        break;
    }
}

static enum status write_new_series(struct ts *t, struct ts_series *s, struct err *err)
{
    enum status st = s->metric->id != 0 ? ST_OK : ts_catalog_metric(t, s->metric, true);
    if (st != ST_OK) {
        return err_set(err, st, "the telemetry catalog takes no metric name");
    }
    STMT(add, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_SERIES_ADD]);
    stmt_bind_i64(add, 1, s->id);
    stmt_bind_i64(add, 2, (int64_t)s->dev->device);
    stmt_bind_i64(add, 3, s->dev->tenant->id);
    stmt_bind_i64(add, 4, s->metric->id);
    return stmt_run(add, err);
}

static enum status write_device(struct ts *t, struct ts_device *d, struct buf *body, struct err *err)
{
    enum status st = ts_catalog_load(t, d);
    buf_clear(body);
    encode_counters(body, d->counters, d->counters_len);
    buf_uvarint(body, d->len);
    for (uint32_t i = 0; st == ST_OK && i < d->len; i++) {
        struct ts_series *s = d->series[i];
        if ((s->flags & TS_S_NEW) != 0) {
            st = write_new_series(t, s, err);
        }
        buf_uvarint(body, s->id);
        buf_uvarint(body, s->metric->id);
        encode_value(body, s);
    }
    if (st == ST_OK && body->failed) {
        st = err_set(err, ST_NOMEM, "no memory for a row of the telemetry catalog");
    }
    if (st != ST_OK) {
        return st;
    }
    STMT(set, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_DEVICE_SET]);
    stmt_bind_i64(set, 1, (int64_t)d->device);
    stmt_bind_i64(set, 2, d->tenant->id);
    stmt_bind_i64(set, 3, (int64_t)t->seq);
    stmt_bind_i64(set, 4, body_crc(d->device, buf_view(body)));
    stmt_bind_blob(set, 5, buf_view(body));
    return stmt_run(set, err);
}

// A transaction that is not wholly stored must leave no metric id behind that the catalog does not have.
static void forget_metric_ids(struct ts_device *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < list[i]->len; k++) {
            struct ts_series *s = list[i]->series[k];
            if ((s->flags & TS_S_NEW) != 0) {
                s->metric->id = 0;
            }
        }
    }
}

enum status ts_catalog_write(struct ts *t, struct ts_device *const *list, size_t n, struct err *err)
{
    struct buf body = buf_heap(CATALOG_BODY_MAX);
    enum status st = db_begin(t->catalog, err);
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        st = list[i]->erased ? ST_OK : write_device(t, list[i], &body, err);
    }
    if (st == ST_OK) {
        st = note_set(t->catalog, "counted_seq", t->seq, err);
    }
    if (st == ST_OK) {
        st = note_set(t->catalog, "series_next", t->series_next, err);
    }
    if (st == ST_OK) {
        st = db_commit(t->catalog, err);
    }
    buf_release(&body);
    if (st != ST_OK) {
        db_rollback(t->catalog);
        forget_metric_ids(list, n);
        return st;
    }
    t->counted_seq = t->seq;
    for (size_t i = 0; i < n; i++) {
        list[i]->seq = t->seq;
        list[i]->dirty = false;
        for (uint32_t k = 0; k < list[i]->len; k++) {
            list[i]->series[k]->flags &= (uint8_t) ~(TS_S_NEW | TS_S_DIRTY);
        }
    }
    (void)db_checkpoint(t->catalog, CATALOG_CHECKPOINT);
    return ST_OK;
}

static enum status write_tenant(struct ts *t, const struct ts_tenant *tenant, struct err *err)
{
    struct buf body = buf_heap(CATALOG_BODY_MAX);
    encode_counters(&body, tenant->counters, TS_COUNTERS);
    enum status st = ST_NOMEM;
    if (!body.failed) {
        STMT(set, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_TENANT_SET]);
        stmt_bind_i64(set, 1, tenant->id);
        stmt_bind_i64(set, 2, (int64_t)t->seq);
        stmt_bind_i64(set, 3, body_crc(tenant->id, buf_view(&body)));
        stmt_bind_blob(set, 4, buf_view(&body));
        st = stmt_run(set, err);
    }
    buf_release(&body);
    return st;
}

enum status ts_catalog_write_end(struct ts *t, struct err *err)
{
    enum status st = db_begin(t->catalog, err);
    size_t pos = 0;
    for (struct ts_tenant *p = map_next(&t->tenants, &pos, NULL, NULL); st == ST_OK && p != NULL;
         p = map_next(&t->tenants, &pos, NULL, NULL)) {
        st = p->dirty ? write_tenant(t, p, err) : ST_OK;
    }
    st = st == ST_OK ? note_set(t->catalog, "flushed_seq", t->flush.seq_begin, err) : st;
    st = st == ST_OK ? note_set(t->catalog, "segment", t->flush.segment, err) : st;
    st = st == ST_OK ? note_set(t->catalog, "counted_seq", t->seq, err) : st;
    st = st == ST_OK ? note_set(t->catalog, "series_next", t->series_next, err) : st;
    st = st == ST_OK ? db_commit(t->catalog, err) : st;
    if (st != ST_OK) {
        db_rollback(t->catalog);
        return st;
    }
    pos = 0;
    for (struct ts_tenant *p = map_next(&t->tenants, &pos, NULL, NULL); p != NULL;
         p = map_next(&t->tenants, &pos, NULL, NULL)) {
        p->seq = p->dirty ? t->seq : p->seq;
        p->dirty = false;
    }
    t->counted_seq = t->seq;
    t->flushed_seq = t->flush.seq_begin;
    return ST_OK;
}

enum status ts_catalog_erase(struct ts *t, const struct ts_erase *e, struct err *err)
{
    enum status st = db_begin(t->catalog, err);
    if (st == ST_OK) {
        STMT(del, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_DEVICE_DELETE]);
        stmt_bind_i64(del, 1, (int64_t)e->device);
        st = stmt_run(del, err);
    }
    for (uint32_t i = 0; st == ST_OK && i < e->len; i++) {
        STMT(del, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_SERIES_DELETE]);
        stmt_bind_i64(del, 1, e->ids[i]);
        st = stmt_run(del, err);
    }
    st = st == ST_OK ? db_commit(t->catalog, err) : st;
    if (st != ST_OK) {
        db_rollback(t->catalog);
    }
    return st;
}

enum status ts_catalog_quarantine(struct ts *t, uint32_t segment, uint64_t seq, uint32_t crc, const char *reason,
                                  struct slice bytes)
{
    STMT(add, t->catalog, &sql_ts_catalog[SQL_TS_CATALOG_QUARANTINE]);
    stmt_bind_i64(add, 1, segment);
    stmt_bind_i64(add, 2, (int64_t)seq);
    stmt_bind_i64(add, 3, crc);
    stmt_bind_str(add, 4, reason);
    stmt_bind_blob(add, 5, bytes.p != NULL ? bytes : SLICE(""));
    return stmt_run(add, NULL);
}
