// The telemetry log: a commit is one row, a blob of records, in the newest segment. A segment is a small SQLite file whose
// write-ahead log is never copied: what was committed lies there, checksummed by SQLite and once more by us.
//
// Records of a blob, each beginning with a varint whose low three bits are its type:
//   0-4  a point: DOUBLE, INT, FALSE, TRUE, STRING. The upper bits: zigzag difference of the series id to the point before.
//        Then the zigzag difference of the time to the point before, then the value: 8 bytes, zigzag, none, none, length
//        and bytes.
//   7    the upper bits say what else: 0 a series (id, tenant, device, name), 1 counters of a device (tenant, device, n, then
//        n pairs of counter and amount), 2 the erasure of a device (tenant, device, n, series ids).
// A series is defined before its first use in each segment, so that a segment is readable without the catalog.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "store/ts_priv.h"

#define SQL_TS_LOG_DEFINE
#include "store/sql/ts_log.sql.h"

#define LOG_APPLICATION_ID 0x4d53544c // "MSTL"
#define LOG_FRAME_BYTES    4120       // a page in SQLite's write-ahead log
#define LOG_RECORD_MAX     64         // a point without its string, a definition without its name
#define LOG_NAME_DIGITS    10

enum { REC_DOUBLE, REC_INT, REC_FALSE, REC_TRUE, REC_STRING, REC_CONTROL = 7 };
enum { CTL_SERIES, CTL_COUNT, CTL_ERASE };

static const struct db_kind log_kind = {
    .application_id = LOG_APPLICATION_ID,
    .writer = &sql_ts_log[SQL_TS_LOG_SETTINGS],
    .reader = &sql_ts_log[SQL_TS_LOG_SETTINGS],
};

// --- Files ----------------------------------------------------------------------------------------------------------

static bool log_path(const struct ts *t, uint32_t number, const char *suffix, char *dst)
{
    return ts_path(t, dst, "log/%0*u.seg%s", LOG_NAME_DIGITS, number, suffix);
}

static enum status segment_open(struct ts *t, uint32_t number, struct err *err)
{
    char path[TS_PATH_MAX];
    if (!log_path(t, number, "", path)) {
        return err_set(err, ST_INVALID, "the data directory's path is too long");
    }
    const struct db_migration schema = {1, "log", sql_ts_log[SQL_TS_LOG_SCHEMA].text};
    struct db *db = NULL;
    enum status st = db_open_kind(path, DB_WRITER, &log_kind, &db, err);
    if (st != ST_OK) {
        return st;
    }
    // The log of the file is the segment itself; copying it into the file would only write everything twice.
    (void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    st = db_migrate(db, &schema, 1, err);
    if (st == ST_OK) {
        st = db_prepare_all(db, sql_ts_log + SQL_TS_LOG_INSERT, 2, err);
    }
    if (st != ST_OK) {
        db_close(db);
        return st;
    }
    t->log.db = db;
    return ST_OK;
}

static enum status segment_add(struct ts_log *log, uint32_t number)
{
    if (log->len == log->cap) {
        size_t cap = log->cap > 0 ? log->cap * 2 : 8;
        struct ts_segment *list = reallocarray(log->list, cap, sizeof(*list));
        if (list == NULL) {
            return ST_NOMEM;
        }
        log->list = list;
        log->cap = cap;
    }
    log->list[log->len++] = (struct ts_segment){.number = number};
    return ST_OK;
}

static int64_t segment_bytes_now(const struct ts *t)
{
    return t->log.db != NULL ? (int64_t)t->log.db->wal_pages * LOG_FRAME_BYTES : 0;
}

int64_t ts_log_bytes(const struct ts *t)
{
    int64_t sum = segment_bytes_now(t);
    for (size_t i = 0; i < t->log.len; i++) {
        sum += t->log.list[i].bytes;
    }
    return sum;
}

static enum status segment_new(struct ts *t, struct err *err)
{
    uint32_t number = t->log.len > 0 ? t->log.list[t->log.len - 1].number + 1 : t->flush.segment + 1;
    enum status st = segment_open(t, number, err);
    if (st != ST_OK) {
        return st;
    }
    st = segment_add(&t->log, number);
    if (st != ST_OK) {
        db_close(t->log.db);
        t->log.db = NULL;
        return err_set(err, st, "no memory for a new log segment");
    }
    return ST_OK;
}

enum status ts_log_seal(struct ts *t)
{
    if (t->log.db != NULL) {
        t->log.list[t->log.len - 1].bytes = segment_bytes_now(t);
        db_close(t->log.db);
        t->log.db = NULL;
    }
    t->log.began_us = 0;
    // Made now and not by the next commit, which would have to wait for it. When it fails, that commit tries again.
    return segment_new(t, NULL);
}

static void segment_delete(struct ts *t, const struct ts_segment *s)
{
    char path[TS_PATH_MAX];
    char wal[TS_PATH_MAX];
    char to[TS_PATH_MAX];
    if (!log_path(t, s->number, "", path) || !log_path(t, s->number, "-wal", wal)) {
        return;
    }
    if (s->damaged) {
        (void)(log_path(t, s->number, ".damaged", to) && rename(path, to) == 0);
        (void)(log_path(t, s->number, ".damaged-wal", to) && rename(wal, to) == 0);
        return;
    }
    // The file goes first: a log without its file is removed at the next start, a file without its log would look empty.
    (void)unlink(path);
    char dir[TS_PATH_MAX];
    int fd = ts_path(t, dir, "log") ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (fsync(fd) != 0) {
            db_fatal(dir, "sync", SQLITE_IOERR_DIR_FSYNC, errno);
        }
        (void)close(fd);
    }
    (void)unlink(wal);
}

void ts_log_drop(struct ts *t, uint32_t upto)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->log.len; i++) {
        if (t->log.list[i].number <= upto) {
            segment_delete(t, &t->log.list[i]);
        } else {
            t->log.list[kept++] = t->log.list[i];
        }
    }
    t->log.len = kept;
}

void ts_log_close(struct ts *t)
{
    db_close(t->log.db);
    free(t->log.list);
    buf_release(&t->log.blob);
    t->log = (struct ts_log){.blob = t->log.blob};
}

// --- Writing --------------------------------------------------------------------------------------------------------

static inline uint8_t *wr_uvarint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline uint64_t wr_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static inline uint8_t *wr_u64(uint8_t *p, uint64_t v)
{
    for (int shift = 56; shift >= 0; shift -= 8) {
        *p++ = (uint8_t)(v >> shift);
    }
    return p;
}

static void write_series(struct buf *b, const struct ts_series *s)
{
    uint8_t *start = buf_reserve(b, LOG_RECORD_MAX);
    if (start == NULL) {
        return;
    }
    uint8_t *p = wr_uvarint(start, CTL_SERIES << 3 | REC_CONTROL);
    p = wr_uvarint(p, s->id);
    p = wr_uvarint(p, s->dev->tenant->id);
    p = wr_uvarint(p, s->dev->device);
    p = wr_uvarint(p, s->metric->len);
    buf_commit(b, (size_t)(p - start));
    buf_put(b, s->metric->name, s->metric->len);
}

// What the record before left: ids and times are written as differences.
struct log_prev {
    int64_t id;
    int64_t t;
};

static inline void write_point(struct ts *t, const struct ts_staged *sp, struct log_prev *prev)
{
    struct buf *b = &t->log.blob;
    uint8_t *start = buf_reserve(b, LOG_RECORD_MAX);
    if (start == NULL) {
        return;
    }
    static const uint8_t types[] = {
        [TS_DOUBLE] = REC_DOUBLE, [TS_INT] = REC_INT, [TS_BOOL] = REC_FALSE, [TS_STRING] = REC_STRING};
    unsigned type = types[sp->type] + (sp->type == TS_BOOL && sp->v != 0);
    uint8_t *p = wr_uvarint(start, wr_zigzag((int64_t)sp->s->id - prev->id) << 3 | type);
    p = wr_uvarint(p, wr_zigzag(sp->t - prev->t));
    prev->id = sp->s->id;
    prev->t = sp->t;
    if (type == REC_DOUBLE) {
        p = wr_u64(p, sp->v);
    } else if (type == REC_INT) {
        p = wr_uvarint(p, wr_zigzag((int64_t)sp->v));
    } else if (type == REC_STRING) {
        p = wr_uvarint(p, sp->len);
    }
    buf_commit(b, (size_t)(p - start));
    if (type == REC_STRING) {
        buf_put(b, t->text.p + sp->v, sp->len);
    }
}

static void write_points(struct ts *t, uint32_t segment)
{
    struct log_prev prev = {0, 0};
    for (size_t i = 0; i < t->staged_len; i++) {
        struct ts_series *s = t->staged[i].s;
        if (s->def_seg != segment && (s->flags & TS_S_DEFINED) == 0) {
            write_series(&t->log.blob, s);
            s->flags |= TS_S_DEFINED;
        }
        write_point(t, &t->staged[i], &prev);
    }
}

static void write_counts_of(struct buf *b, const struct ts_device *d, const uint64_t sums[TS_COUNTERS])
{
    unsigned n = 0;
    for (unsigned i = 0; i < TS_COUNTERS; i++) {
        n += sums[i] != 0;
    }
    buf_uvarint(b, CTL_COUNT << 3 | REC_CONTROL);
    buf_uvarint(b, d->tenant->id);
    buf_uvarint(b, d->device);
    buf_uvarint(b, n);
    for (unsigned i = 0; i < TS_COUNTERS; i++) {
        if (sums[i] != 0) {
            buf_uvarint(b, i);
            buf_uvarint(b, sums[i]);
        }
    }
}

// Messages of one device come in a row: their counts become one record.
static void write_counts(struct ts *t)
{
    for (size_t i = 0; i < t->tally_len;) {
        uint64_t sums[TS_COUNTERS] = {0};
        const struct ts_device *d = t->tally[i].d;
        for (; i < t->tally_len && t->tally[i].d == d; i++) {
            sums[t->tally[i].counter] += t->tally[i].n;
        }
        write_counts_of(&t->log.blob, d, sums);
    }
}

static uint32_t row_crc(uint64_t seq, struct slice blob)
{
    uint8_t mem[8];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u64(&b, seq);
    return crc32c(crc32c(0, buf_view(&b)), blob);
}

// The blob as one durable row. The commit is SQLite's own: a statement outside a transaction.
static enum status write_row(struct ts *t, struct err *err)
{
    uint64_t seq = t->seq + 1;
    STMT(s, t->log.db, &sql_ts_log[SQL_TS_LOG_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)seq);
    stmt_bind_i64(s, 2, row_crc(seq, buf_view(&t->log.blob)));
    stmt_bind_blob(s, 3, buf_view(&t->log.blob));
    enum status st = stmt_run(s, err);
    if (st == ST_OK) {
        t->seq = seq;
        if (t->log.began_us == 0) {
            t->log.began_us = clock_mono_us();
        }
        t->stats.messages_bytes += t->log.blob.len;
    }
    return st;
}

// Definitions count from the moment they are durable.
static void settle_definitions(struct ts *t, bool durable, uint32_t segment)
{
    for (size_t i = 0; i < t->staged_len; i++) {
        struct ts_series *s = t->staged[i].s;
        if ((s->flags & TS_S_DEFINED) != 0) {
            s->flags &= (uint8_t)~TS_S_DEFINED;
            s->def_seg = durable ? segment : s->def_seg;
        }
    }
}

enum status ts_log_write(struct ts *t, struct err *err)
{
    enum status st = t->log.db != NULL ? ST_OK : segment_new(t, err);
    if (st != ST_OK) {
        return st;
    }
    uint32_t segment = t->log.list[t->log.len - 1].number;
    buf_clear(&t->log.blob);
    write_points(t, segment);
    write_counts(t);
    st = t->log.blob.failed ? err_set(err, ST_NOMEM, "no memory for a commit of the telemetry log") : write_row(t, err);
    settle_definitions(t, st == ST_OK, segment);
    return st;
}

enum status ts_log_erase(struct ts *t, const struct ts_device *d, struct err *err)
{
    enum status st = t->log.db != NULL ? ST_OK : segment_new(t, err);
    if (st != ST_OK) {
        return st;
    }
    struct buf *b = &t->log.blob;
    buf_clear(b);
    buf_uvarint(b, CTL_ERASE << 3 | REC_CONTROL);
    buf_uvarint(b, d->tenant->id);
    buf_uvarint(b, d->device);
    buf_uvarint(b, d->len);
    for (uint32_t i = 0; i < d->len; i++) {
        buf_uvarint(b, d->series[i]->id);
    }
    return b->failed ? err_set(err, ST_NOMEM, "no memory to erase a device") : write_row(t, err);
}

// --- Reading back ---------------------------------------------------------------------------------------------------

struct replay {
    struct ts *t;
    struct ts_cover *cover; // NULL: everything is taken
    uint32_t segment;
    uint64_t seq;
    struct log_prev prev;
    size_t staged;   // points of the row whose counts have been met
    int32_t day;     // of the last point, -1: none yet
    uint64_t newest; // commit that this day's partition holds
    uint64_t rows, points, skipped;
};

static enum status read_series(struct replay *rp, struct reader *r)
{
    uint64_t id = rd_uvarint(r);
    uint64_t tenant = rd_uvarint(r);
    uint64_t device = rd_uvarint(r);
    struct slice name = rd_bytes(r, (size_t)rd_uvarint(r));
    if (r->failed || id == 0 || id >= UINT32_MAX || tenant > UINT32_MAX) {
        return ST_CORRUPT;
    }
    struct ts_series *s = ts_table_get(&rp->t->table, (uint32_t)id);
    if (s == NULL) {
        struct ts_device *d = ts_device_get(rp->t, (uint32_t)tenant, device);
        enum status st = d == NULL ? ST_NOMEM : ts_series_make(rp->t, d, name, hash_bytes(name), (uint32_t)id, &s);
        if (st != ST_OK) {
            return st == ST_INVALID ? ST_CORRUPT : st;
        }
    } else if (s->dev->device != device) {
        return ST_CORRUPT;
    }
    s->def_seg = rp->segment;
    return ST_OK;
}

// Counts come in the order of the points before them, so that the device is mostly that of the next point.
static struct ts_device *count_device(struct replay *rp, uint32_t tenant, uint64_t device)
{
    struct ts *t = rp->t;
    for (; rp->staged < t->staged_len; rp->staged++) {
        struct ts_device *d = t->staged[rp->staged].s->dev;
        if (d->device == device) {
            return d;
        }
    }
    rp->staged = 0;
    return ts_device_get(t, tenant, device);
}

// A count is taken unless the catalog holds it already: there it is absolute, with the commit it goes up to.
static enum status read_counts(struct replay *rp, struct reader *r)
{
    uint64_t tenant = rd_uvarint(r);
    uint64_t device = rd_uvarint(r);
    uint64_t n = rd_uvarint(r);
    if (r->failed || tenant > UINT32_MAX || n > TS_COUNTERS) {
        return ST_CORRUPT;
    }
    struct ts_device *d = count_device(rp, (uint32_t)tenant, device);
    enum status st = d != NULL ? ST_OK : ST_NOMEM;
    if (st == ST_OK && rp->seq <= rp->t->counted_seq && !d->loaded) {
        st = ts_catalog_load(rp->t, d);
    }
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        uint64_t counter = rd_uvarint(r);
        uint64_t amount = rd_uvarint(r);
        if (r->failed || counter >= TS_COUNTERS) {
            return ST_CORRUPT;
        }
        st = ts_stage_count(rp->t, (struct ts_tally){.d = d,
                                                     .n = amount,
                                                     .counter = (uint8_t)counter,
                                                     .of_device = rp->seq > d->seq,
                                                     .of_tenant = rp->seq > d->tenant->seq});
    }
    return st;
}

static enum status read_erase(struct replay *rp, struct reader *r)
{
    uint64_t tenant = rd_uvarint(r);
    uint64_t device = rd_uvarint(r);
    uint64_t n = rd_uvarint(r);
    if (r->failed || tenant > UINT32_MAX || n > reader_left(r)) {
        return ST_CORRUPT;
    }
    uint32_t *ids = calloc(n > 0 ? n : 1, sizeof(*ids));
    struct ts_device *d = ts_device_get(rp->t, (uint32_t)tenant, device);
    enum status st = ids != NULL && d != NULL ? ST_OK : ST_NOMEM;
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        uint64_t id = rd_uvarint(r);
        st = r->failed || id == 0 || id >= UINT32_MAX ? ST_CORRUPT : ST_OK;
        ids[i] = (uint32_t)id;
    }
    if (st == ST_OK && rp->t->staged_len + rp->t->tally_len > 0) {
        st = ST_CORRUPT; // an erasure is a commit of its own
    }
    if (st == ST_OK) {
        ts_flush_forget(rp->t, d);
        ts_device_forget(rp->t, d);
        d->erased = true;
        d->loaded = true;
        st = ts_erase_queue(rp->t, device, ids, (uint32_t)n);
    }
    free(ids);
    return st;
}

static enum status read_control(struct replay *rp, struct reader *r, uint64_t what)
{
    static enum status (*const readers[])(struct replay *, struct reader *) = {
        [CTL_SERIES] = read_series, [CTL_COUNT] = read_counts, [CTL_ERASE] = read_erase};
    return what < sizeof(readers) / sizeof(readers[0]) ? readers[what](rp, r) : ST_CORRUPT;
}

static enum status read_text(struct ts *t, struct reader *r, struct ts_staged *p)
{
    uint64_t len = rd_uvarint(r);
    struct ts_value v = {.type = TS_STRING, .s = rd_bytes(r, len <= TS_STRING_MAX ? (size_t)len : SIZE_MAX)};
    return r->failed ? ST_CORRUPT : ts_stage_value(t, p, &v);
}

static inline enum status read_value(struct ts *t, struct reader *r, unsigned type, struct ts_staged *p)
{
    switch (type) {
    case REC_DOUBLE:
        p->type = TS_DOUBLE;
        p->v = rd_u64(r);
        break;
    case REC_INT:
        p->type = TS_INT;
        p->v = (uint64_t)rd_svarint(r);
        break;
    case REC_FALSE:
    case REC_TRUE:
        p->type = TS_BOOL;
        p->v = type == REC_TRUE;
        break;
    case REC_STRING:
        return read_text(t, r, p);
    default:
        return ST_CORRUPT;
    }
    return r->failed ? ST_CORRUPT : ST_OK;
}

// Whether a partition holds the point already.
static inline enum status read_covered(struct replay *rp, uint32_t id, int64_t time, bool *ret)
{
    *ret = false;
    if (rp->cover == NULL) {
        return ST_OK;
    }
    int32_t day = ts_day_of(time);
    if (day != rp->day) {
        enum status st = ts_cover_newest(rp->cover, day, &rp->newest, NULL);
        if (st != ST_OK) {
            return st;
        }
        rp->day = day;
    }
    *ret = rp->seq <= rp->newest && ts_cover_has(rp->cover, day, id, rp->seq);
    return ST_OK;
}

static inline enum status read_point(struct replay *rp, struct reader *r, uint64_t tag)
{
    struct ts *t = rp->t;
    uint64_t z = tag >> 3;
    int64_t id = 0;
    int64_t time = 0;
    if (__builtin_add_overflow(rp->prev.id, (int64_t)(z >> 1 ^ (0 - (z & 1))), &id) || id <= 0 || id >= UINT32_MAX ||
        __builtin_add_overflow(rp->prev.t, rd_svarint(r), &time) || time < 0 || time >= TS_TIME_MAX) {
        return ST_CORRUPT;
    }
    struct ts_staged *p = ts_stage_slot(t);
    if (p == NULL) {
        return ST_NOMEM;
    }
    enum status st = read_value(t, r, tag & 7, p);
    struct ts_series *s = ts_table_get(&t->table, (uint32_t)id);
    if (st == ST_OK && s == NULL) {
        st = ts_catalog_series(t, (uint32_t)id, &s); // its definition was lost
        st = st == ST_NOT_FOUND ? ST_CORRUPT : st;
    }
    st = st == ST_OK ? read_covered(rp, (uint32_t)id, time, &p->covered) : st;
    if (st != ST_OK) {
        return st;
    }
    p->s = s;
    p->t = time;
    p->prev = 0; // nobody asks for duplicates here, and the series itself is not touched yet
    p->created = false;
    rp->points += !p->covered;
    rp->skipped += p->covered;
    rp->prev = (struct log_prev){id, time};
    t->staged_len++;
    return ST_OK;
}

static enum status read_blob(struct replay *rp, struct slice blob)
{
    struct reader r = reader_make(blob);
    enum status st = ST_OK;
    rp->prev = (struct log_prev){0, 0};
    rp->staged = 0;
    while (st == ST_OK && reader_left(&r) > 0) {
        uint64_t tag = rd_uvarint(&r);
        st = r.failed                   ? ST_CORRUPT
             : (tag & 7) == REC_CONTROL ? read_control(rp, &r, tag >> 3)
                                        : read_point(rp, &r, tag);
    }
    return st == ST_OK && !reader_done(&r) ? ST_CORRUPT : st;
}

enum status ts_log_decode(struct ts *t, struct slice blob, uint64_t seq, struct err *err)
{
    struct replay rp = {.t = t, .seq = seq};
    enum status st = read_blob(&rp, blob);
    return st == ST_OK ? ST_OK : err_set(err, st, "log row %llu: wrong content", (unsigned long long)seq);
}

// A row that cannot be used goes to the quarantine, with what is wrong; the others are read on.
static enum status row_bad(struct replay *rp, uint64_t seq, uint32_t crc, const char *why, struct slice blob)
{
    ts_abandon(rp->t);
    rp->t->stats.corrupt++;
    log_error("store", "damaged row in the telemetry log, set aside", LOGU("segment", rp->segment), LOGU("seq", seq),
              LOGS("reason", why), LOGU("bytes", blob.len));
    return ts_catalog_quarantine(rp->t, rp->segment, seq, crc, why, blob);
}

static enum status replay_row(struct replay *rp, struct stmt *s)
{
    uint64_t seq = (uint64_t)col_i64(s, 0);
    uint32_t crc = (uint32_t)col_i64(s, 1);
    struct slice blob = col_blob(s, 2);
    rp->seq = seq;
    rp->rows++;
    if (seq <= rp->t->flushed_seq) { // a finished flush holds all of it; only the deletion is missing
        return ST_OK;
    }
    if (seq > rp->t->seq) {
        rp->t->seq = seq;
    }
    if (row_crc(seq, blob) != crc) {
        return row_bad(rp, seq, crc, "checksum", blob);
    }
    enum status st = read_blob(rp, blob);
    if (st == ST_CORRUPT) {
        return row_bad(rp, seq, crc, "content", blob);
    }
    if (st == ST_OK) {
        rp->t->settling = true;
        st = ts_settle(rp->t);
    }
    return st;
}

static enum status replay_segment(struct replay *rp, struct ts_segment *seg, struct err *err)
{
    struct ts *t = rp->t;
    struct err why = {.code = ST_OK};
    rp->segment = seg->number;
    enum status st = segment_open(t, seg->number, &why);
    bool row = st == ST_OK;
    if (st == ST_OK) {
        STMT(s, t->log.db, &sql_ts_log[SQL_TS_LOG_SCAN]);
        while (st == ST_OK && (st = stmt_step(s, &row, &why)) == ST_OK && row) {
            st = replay_row(rp, s);
        }
    }
    if (st == ST_CORRUPT || st == ST_INVALID) {
        seg->damaged = true;
        t->stats.corrupt++;
        log_error("store", "damaged segment of the telemetry log, what follows in it is set aside",
                  LOGU("segment", seg->number), LOGS("error", why.text));
        st = ST_OK;
    }
    return st == ST_OK ? ST_OK
                       : err_set(err, st, "replay of log segment %u: %s", seg->number,
                                 why.text[0] != '\0' ? why.text : status_text(st));
}

static int segment_compare(const void *a, const void *b)
{
    uint32_t x = ((const struct ts_segment *)a)->number;
    uint32_t y = ((const struct ts_segment *)b)->number;
    return x < y ? -1 : x > y;
}

// "0000000012.seg" -> 12
static bool segment_parse(const char *name, const char *suffix, uint32_t *ret)
{
    uint64_t v = 0;
    for (int i = 0; i < LOG_NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        v = v * 10 + (uint64_t)(name[i] - '0');
    }
    *ret = (uint32_t)v;
    return v > 0 && v < UINT32_MAX && strcmp(name + LOG_NAME_DIGITS, suffix) == 0;
}

static enum status list_segments(struct ts *t, struct err *err)
{
    char dir[TS_PATH_MAX];
    if (!ts_path(t, dir, "log")) {
        return err_set(err, ST_INVALID, "the data directory's path is too long");
    }
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return err_set(err, errno == ENOSPC ? ST_FULL : ST_IO, "%s: cannot be created: %s", dir, strerror(errno));
    }
    DIR *d = opendir(dir);
    if (d == NULL) {
        return err_set(err, ST_IO, "%s: cannot be read: %s", dir, strerror(errno));
    }
    enum status st = ST_OK;
    uint32_t number = 0;
    for (const struct dirent *e = readdir(d); st == ST_OK && e != NULL; e = readdir(d)) {
        if (segment_parse(e->d_name, ".seg", &number)) {
            st = segment_add(&t->log, number);
        }
    }
    closedir(d);
    if (t->log.len > 0) {
        qsort(t->log.list, t->log.len, sizeof(*t->log.list), segment_compare);
    }
    return st == ST_OK ? ST_OK : err_set(err, st, "no memory for the list of log segments");
}

// The write-ahead log of a segment whose file is gone already: the end of a deletion that a crash cut short.
static void remove_orphans(struct ts *t)
{
    char path[TS_PATH_MAX];
    DIR *d = ts_path(t, path, "log") ? opendir(path) : NULL;
    for (const struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        uint32_t number = 0;
        struct stat st;
        if (segment_parse(e->d_name, ".seg-wal", &number) && log_path(t, number, "", path) && stat(path, &st) != 0 &&
            log_path(t, number, "-wal", path)) {
            (void)unlink(path);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

static enum status replay_all(struct replay *rp, struct err *err)
{
    struct ts *t = rp->t;
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < t->log.len; i++) {
        struct ts_segment *seg = &t->log.list[i];
        st = replay_segment(rp, seg, err);
        bool last = i + 1 == t->log.len && !seg->damaged;
        if (st == ST_OK && last && t->log.db != NULL) {
            break; // goes on being written
        }
        char wal[TS_PATH_MAX];
        struct stat file;
        seg->bytes = log_path(t, seg->number, "-wal", wal) && stat(wal, &file) == 0 ? (int64_t)file.st_size : 0;
        db_close(t->log.db);
        t->log.db = NULL;
    }
    return st;
}

// After a start SQLite has not told the pages of the open segment yet.
static void adopt_last(struct ts *t)
{
    char wal[TS_PATH_MAX];
    struct stat st;
    if (t->log.db != NULL && log_path(t, t->log.list[t->log.len - 1].number, "-wal", wal) && stat(wal, &st) == 0) {
        t->log.db->wal_pages = (unsigned)(st.st_size / LOG_FRAME_BYTES);
    }
}

enum status ts_log_open(struct ts *t, struct err *err)
{
    t->log.blob = buf_heap(TS_BLOB_MAX);
    remove_orphans(t);
    enum status st = list_segments(t, err);
    if (st != ST_OK || t->log.len == 0) {
        return st;
    }
    int64_t start = clock_mono_us();
    struct replay rp = {.t = t, .day = -1, .cover = ts_cover_new(t, t->flushed_seq)};
    st = rp.cover != NULL ? replay_all(&rp, err) : err_set(err, ST_NOMEM, "no memory to replay the log");
    ts_cover_free(rp.cover);
    if (st == ST_OK) {
        adopt_last(t);
        t->log.began_us = start;
        log_info("store", "telemetry log replayed", LOGU("segments", t->log.len), LOGU("commits", rp.rows),
                 LOGU("points", rp.points), LOGU("stored_before", rp.skipped), LOGI("us", clock_mono_us() - start));
    }
    return st;
}
