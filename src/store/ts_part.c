// Day partitions: one SQLite file per day (UTC) with the chunk rows of all series, and which commits they hold.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/reader.h"
#include "store/ts_priv.h"

#define SQL_TS_PART_DEFINE
#include "store/sql/ts_part.sql.h"

#define PART_APPLICATION_ID 0x4d535450 // "MSTP"
#define PART_CHECKPOINT     512        // pages: 2 MiB copied at once

const struct db_kind ts_part_kind = {
    .application_id = PART_APPLICATION_ID,
    .writer = &sql_ts_part[SQL_TS_PART_SETTINGS_WRITER],
    .reader = &sql_ts_part[SQL_TS_PART_SETTINGS_READER],
};

// --- Names ----------------------------------------------------------------------------------------------------------

bool ts_part_name(const char *dir, int32_t day, const char *suffix, char *dst, size_t size)
{
    char date[CLOCK_RFC3339_MAX];
    clock_rfc3339((int64_t)day * TS_DAY_US, date);
    int n = snprintf(dst, size, "%s/%.10s.db%s", dir, date, suffix);
    return n > 0 && (size_t)n < size;
}

bool ts_part_parse(const char *name, int32_t *ret_day)
{
    struct reader r = reader_make(slice_str(name));
    struct slice date = rd_bytes(&r, 10);
    bool suffix = slice_eq_str(rd_bytes(&r, 3), ".db");
    char text[CLOCK_RFC3339_MAX];
    int64_t us = 0;
    if (!reader_done(&r) || !suffix || snprintf(text, sizeof(text), SLICE_FMT "T00:00:00Z", SLICE_ARG(date)) != 20 ||
        !clock_parse(slice_str(text), &us) || us < 0) {
        return false;
    }
    *ret_day = (int32_t)(us / TS_DAY_US);
    return true;
}

// --- Which there are ------------------------------------------------------------------------------------------------

static size_t day_place(const struct ts *t, int32_t day)
{
    size_t lo = 0;
    size_t hi = t->days_len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->days[mid].day < day) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct ts_day *ts_part_day(const struct ts *t, int32_t day)
{
    size_t i = day_place(t, day);
    return i < t->days_len && t->days[i].day == day ? &t->days[i] : NULL;
}

struct ts_day *ts_part_after(const struct ts *t, int32_t day)
{
    size_t i = day_place(t, day + 1);
    return i < t->days_len ? &t->days[i] : NULL;
}

static bool day_add(struct ts *t, int32_t day)
{
    size_t at = day_place(t, day);
    if (at < t->days_len && t->days[at].day == day) {
        return true;
    }
    if (t->days_len == t->days_cap) {
        size_t cap = t->days_cap > 0 ? t->days_cap * 2 : 64;
        struct ts_day *days = reallocarray(t->days, cap, sizeof(*days));
        if (days == NULL) {
            return false;
        }
        t->days = days;
        t->days_cap = cap;
    }
    for (size_t i = t->days_len; i > at; i--) {
        t->days[i] = t->days[i - 1];
    }
    t->days[at] = (struct ts_day){.day = day};
    t->days_len++;
    return true;
}

static void day_remove(struct ts *t, int32_t day)
{
    size_t at = day_place(t, day);
    if (at >= t->days_len || t->days[at].day != day) {
        return;
    }
    for (size_t i = at; i + 1 < t->days_len; i++) {
        t->days[i] = t->days[i + 1];
    }
    t->days_len--;
}

enum status ts_part_list(struct ts *t, struct err *err)
{
    DIR *d = opendir(t->dir);
    if (d == NULL) {
        return err_set(err, ST_IO, "%s: cannot be read: %s", t->dir, strerror(errno));
    }
    enum status st = ST_OK;
    int32_t day = 0;
    for (const struct dirent *e = readdir(d); st == ST_OK && e != NULL; e = readdir(d)) {
        if (ts_part_parse(e->d_name, &day) && !day_add(t, day)) {
            st = err_set(err, ST_NOMEM, "no memory for the list of partitions");
        }
    }
    closedir(d);
    return st;
}

// --- Writing connections --------------------------------------------------------------------------------------------

static void part_close(struct ts_part *p)
{
    db_close(p->db); // the last connection copies the log into the file
    *p = (struct ts_part){.day = -1};
}

void ts_part_close_all(struct ts *t)
{
    for (size_t i = 0; i < TS_PARTS_OPEN; i++) {
        part_close(&t->parts[i]);
    }
}

// A partition that cannot be opened is kept under another name, and a new one begun: one bad file must not stop the store.
static enum status part_set_aside(struct ts *t, int32_t day, const char *why)
{
    static const char *const files[] = {"", "-wal", "-shm"};
    char from[TS_PATH_MAX];
    char to[TS_PATH_MAX];
    char suffix[64];
    t->stats.corrupt++;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        (void)snprintf(suffix, sizeof(suffix), ".damaged-%llu%s", (unsigned long long)t->seq, files[i]);
        if (!ts_part_name(t->dir, day, files[i], from, sizeof(from)) ||
            !ts_part_name(t->dir, day, suffix, to, sizeof(to)) || (rename(from, to) != 0 && i == 0)) {
            return ST_CORRUPT;
        }
    }
    log_error("store", "damaged telemetry partition, set aside", LOGI("day", day), LOGS("error", why));
    return ST_OK;
}

static enum status part_setup(const char *path, struct db **ret, struct err *err)
{
    const struct db_migration schema = {1, "partition", sql_ts_part[SQL_TS_PART_SCHEMA].text};
    struct db *db = NULL;
    enum status st = db_open_kind(path, DB_WRITER, &ts_part_kind, &db, err);
    if (st == ST_OK) {
        st = db_migrate(db, &schema, 1, err);
    }
    if (st != ST_OK) {
        db_close(db);
        return st;
    }
    *ret = db;
    return ST_OK;
}

// A new partition comes under its name only when it is whole, so that no reader finds a half made one.
static enum status part_create(const struct ts *t, int32_t day, const char *path, struct err *err)
{
    static const char *const files[] = {".new-wal", ".new-shm", ".new"};
    char made[TS_PATH_MAX];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) { // what a crash left
        if (ts_part_name(t->dir, day, files[i], made, sizeof(made))) {
            (void)unlink(made);
        }
    }
    struct db *db = NULL;
    enum status st = part_setup(made, &db, err);
    if (st != ST_OK) {
        return st;
    }
    db_close(db);
    if (rename(made, path) != 0) {
        return err_set(err, ST_IO, "%s: cannot be renamed: %s", made, strerror(errno));
    }
    return ST_OK;
}

static enum status part_connect(const struct ts *t, int32_t day, struct db **ret, struct err *err)
{
    char path[TS_PATH_MAX];
    if (!ts_part_name(t->dir, day, "", path, sizeof(path))) {
        return err_set(err, ST_INVALID, "the data directory's path is too long");
    }
    if (access(path, F_OK) != 0) {
        enum status st = part_create(t, day, path, err);
        if (st != ST_OK) {
            return st;
        }
    }
    return part_setup(path, ret, err);
}

static struct ts_part *part_slot(struct ts *t, int32_t day)
{
    struct ts_part *oldest = &t->parts[0];
    for (size_t i = 0; i < TS_PARTS_OPEN; i++) {
        if (t->parts[i].db != NULL && t->parts[i].day == day) {
            return &t->parts[i];
        }
        if (t->parts[i].used < oldest->used) {
            oldest = &t->parts[i];
        }
    }
    part_close(oldest);
    return oldest;
}

enum status ts_part_open(struct ts *t, int32_t day, bool create, struct ts_part **ret, struct err *err)
{
    if (!create && ts_part_day(t, day) == NULL) {
        (void)err_set(err, ST_NOT_FOUND, "no partition of this day");
        return ST_NOT_FOUND;
    }
    struct ts_part *p = part_slot(t, day);
    p->used = ++t->parts_clock;
    if (p->db != NULL) {
        *ret = p;
        return ST_OK;
    }
    struct err why = {.code = ST_OK};
    enum status st = part_connect(t, day, &p->db, &why);
    if (st == ST_CORRUPT && part_set_aside(t, day, why.text) == ST_OK) {
        st = part_connect(t, day, &p->db, &why);
    }
    if (st == ST_OK && !day_add(t, day)) {
        st = ST_NOMEM;
    }
    if (st != ST_OK) {
        part_close(p);
        (void)err_set(err, st, "%s", why.text);
        return st;
    }
    p->day = day;
    *ret = p;
    return ST_OK;
}

// --- Chunk rows -----------------------------------------------------------------------------------------------------

// The number of this flush in this partition: one more than the last.
static enum status part_epoch(struct ts *t, struct ts_part *p, struct err *err)
{
    if (p->epoch != 0 && p->flush == t->flush.number) {
        return ST_OK;
    }
    int64_t last = 0;
    enum status st = db_ask_i64(p->db, &sql_ts_part[SQL_TS_PART_EPOCH_LAST], &last, err);
    if (st == ST_OK && last + 1 >= INT64_C(1) << TS_ROW_EPOCH_BITS) {
        return err_set(err, ST_LIMIT, "a telemetry partition was flushed too often");
    }
    if (st == ST_OK) {
        p->epoch = (uint32_t)last + 1;
        p->flush = t->flush.number;
    }
    return st;
}

static enum status part_insert(struct ts_part *p, const struct ts_flush_item *item, uint32_t part, uint64_t seq,
                               struct err *err)
{
    const struct ts_chunk *c = item->chunk;
    struct ts_chunk_info info = ts_chunk_info(c);
    uint64_t row = ts_row(p->epoch, item->id, part);
    struct slice bytes = slice_make(c->bytes, c->len);
    STMT(s, p->db, &sql_ts_part[SQL_TS_PART_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, c->t0 - (int64_t)p->day * TS_DAY_US);
    stmt_bind_i64(s, 3, c->t1 - c->t0);
    stmt_bind_i64(s, 4, c->n);
    stmt_bind_i64(s, 5, ts_codec_pack(c->codec));
    stmt_bind_i64(s, 6, (int64_t)seq);
    stmt_bind_i64(s, 7, (int32_t)ts_chunk_crc(row, &info, bytes)); // signed: takes four bytes, not six
    stmt_bind_blob(s, 8, bytes);
    return stmt_run(s, err);
}

static enum status part_cover(struct ts_part *p, uint32_t since, uint32_t upto, uint64_t seq, struct err *err)
{
    STMT(e, p->db, &sql_ts_part[SQL_TS_PART_EPOCH_SET]);
    stmt_bind_i64(e, 1, p->epoch);
    stmt_bind_i64(e, 2, (int64_t)seq);
    enum status st = stmt_run(e, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(f, p->db, &sql_ts_part[SQL_TS_PART_FLUSHED_SET]);
    stmt_bind_i64(f, 1, p->epoch);
    stmt_bind_i64(f, 2, upto);
    stmt_bind_i64(f, 3, since);
    stmt_bind_i64(f, 4, (int64_t)seq);
    return stmt_run(f, err);
}

static enum status part_rows(struct ts_part *p, const struct ts_flush_item *items, size_t n, uint64_t seq,
                             struct err *err)
{
    enum status st = ST_OK;
    uint32_t id = 0;
    uint32_t part = 0;
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        if (items[i].s == NULL) {
            continue; // erased
        }
        part = items[i].id == id ? part + 1 : 0;
        id = items[i].id;
        st = part < 1U << TS_ROW_PART_BITS ? part_insert(p, &items[i], part, seq, err)
                                           : err_set(err, ST_LIMIT, "a series has too many chunks in one flush");
    }
    return st;
}

enum status ts_part_write(struct ts *t, int32_t day, const struct ts_flush_item *items, size_t n, uint32_t since,
                          uint32_t upto, uint64_t seq, struct err *err)
{
    struct ts_part *p = NULL;
    enum status st = ts_part_open(t, day, true, &p, err);
    if (st != ST_OK) {
        return st;
    }
    st = part_epoch(t, p, err);
    st = st == ST_OK ? db_begin(p->db, err) : st;
    st = st == ST_OK ? part_rows(p, items, n, seq, err) : st;
    st = st == ST_OK ? part_cover(p, since, upto, seq, err) : st;
    st = st == ST_OK ? db_commit(p->db, err) : st;
    if (st != ST_OK) {
        db_rollback(p->db);
        return st;
    }
    (void)db_checkpoint(p->db, PART_CHECKPOINT); // a full disk leaves it in the log, where it is durable as well
    return ST_OK;
}

// --- Deleting -------------------------------------------------------------------------------------------------------

enum status ts_part_drop(struct ts *t, int32_t day)
{
    for (size_t i = 0; i < TS_PARTS_OPEN; i++) {
        if (t->parts[i].db != NULL && t->parts[i].day == day) {
            part_close(&t->parts[i]);
        }
    }
    static const char *const files[] = {"", "-wal", "-shm"};
    char path[TS_PATH_MAX];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (ts_part_name(t->dir, day, files[i], path, sizeof(path)) && unlink(path) != 0 && errno != ENOENT) {
            log_error("store", "telemetry partition cannot be deleted", LOGS("file", path), LOGI("errno", errno));
            return ST_IO;
        }
    }
    day_remove(t, day);
    return ST_OK;
}

void ts_part_quarantine(struct ts *t, int32_t day, uint64_t row)
{
    struct ts_part *p = NULL;
    struct err err = {.code = ST_OK};
    enum status st = ts_part_open(t, day, false, &p, &err);
    st = st == ST_OK ? db_begin(p->db, &err) : st;
    if (st != ST_OK) {
        return;
    }
    STMT(copy, p->db, &sql_ts_part[SQL_TS_PART_QUARANTINE]);
    stmt_bind_i64(copy, 1, (int64_t)row);
    st = stmt_run(copy, &err);
    STMT(del, p->db, &sql_ts_part[SQL_TS_PART_DELETE]);
    stmt_bind_i64(del, 1, (int64_t)row);
    stmt_bind_i64(del, 2, (int64_t)row);
    st = st == ST_OK ? stmt_run(del, &err) : st;
    st = st == ST_OK ? db_commit(p->db, &err) : st;
    if (st != ST_OK) {
        db_rollback(p->db);
        log_warn("store", "damaged chunk could not be moved to the quarantine", LOGU("row", row),
                 LOGS("error", err.text));
    }
}

enum status ts_part_scan(struct ts_part *p, uint64_t from, uint64_t *ret_row, struct err *err)
{
    STMT(s, p->db, &sql_ts_part[SQL_TS_PART_SCAN]);
    stmt_bind_i64(s, 1, (int64_t)from);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        *ret_row = row ? (uint64_t)col_i64(s, 0) : 0;
    }
    return st;
}

enum status ts_part_delete_range(struct ts_part *p, uint64_t from, uint64_t to, struct err *err)
{
    static const int which[] = {SQL_TS_PART_DELETE, SQL_TS_PART_QUARANTINE_ERASE};
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < sizeof(which) / sizeof(which[0]); i++) {
        STMT(del, p->db, &sql_ts_part[which[i]]);
        stmt_bind_i64(del, 1, (int64_t)from);
        stmt_bind_i64(del, 2, (int64_t)to);
        st = stmt_run(del, err);
    }
    return st;
}

enum status ts_part_note(struct ts_part *p, const char *key, int64_t *ret_v, struct err *err)
{
    STMT(s, p->db, &sql_ts_part[SQL_TS_PART_NOTE_GET]);
    stmt_bind_str(s, 1, key);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row) {
        *ret_v = col_i64(s, 0);
    }
    return st;
}

enum status ts_part_note_set(struct ts_part *p, const char *key, int64_t v, struct err *err)
{
    STMT(s, p->db, &sql_ts_part[SQL_TS_PART_NOTE_SET]);
    stmt_bind_str(s, 1, key);
    stmt_bind_i64(s, 2, v);
    return stmt_run(s, err);
}

enum status ts_part_delete_series(struct ts *t, int32_t day, const uint32_t *ids, size_t n, struct err *err)
{
    struct ts_part *p = NULL;
    enum status st = ts_part_open(t, day, false, &p, err);
    if (st != ST_OK) {
        return st == ST_NOT_FOUND ? ST_OK : st;
    }
    int64_t last = 0;
    st = db_ask_i64(p->db, &sql_ts_part[SQL_TS_PART_EPOCH_LAST], &last, err);
    st = st == ST_OK ? db_begin(p->db, err) : st;
    for (int64_t epoch = 1; st == ST_OK && epoch <= last; epoch++) {
        for (size_t i = 0; st == ST_OK && i < n; i++) {
            st = ts_part_delete_range(p, ts_row((uint32_t)epoch, ids[i], 0),
                                      ts_row((uint32_t)epoch, ids[i], (1U << TS_ROW_PART_BITS) - 1), err);
        }
    }
    st = st == ST_OK ? db_commit(p->db, err) : st;
    if (st != ST_OK) {
        db_rollback(p->db);
        return st;
    }
    (void)db_checkpoint(p->db, PART_CHECKPOINT);
    return ST_OK;
}

// --- What a replay need not take ------------------------------------------------------------------------------------

struct cover_range {
    uint32_t since, upto;
    uint64_t seq;
};
struct cover_day {
    int32_t day;
    uint64_t seq_max;
    struct cover_range *ranges;
    size_t len, cap;
};
struct ts_cover {
    struct ts *t;
    uint64_t after;
    struct cover_day *days;
    size_t len, cap, last;
};

struct ts_cover *ts_cover_new(struct ts *t, uint64_t seq)
{
    struct ts_cover *c = calloc(1, sizeof(*c));
    if (c != NULL) {
        c->t = t;
        c->after = seq;
    }
    return c;
}

void ts_cover_free(struct ts_cover *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->len; i++) {
        free(c->days[i].ranges);
    }
    free(c->days);
    free(c);
}

static enum status cover_range_add(struct cover_day *d, struct cover_range r)
{
    if (d->len == d->cap) {
        size_t cap = d->cap > 0 ? d->cap * 2 : 16;
        struct cover_range *ranges = reallocarray(d->ranges, cap, sizeof(*ranges));
        if (ranges == NULL) {
            return ST_NOMEM;
        }
        d->ranges = ranges;
        d->cap = cap;
    }
    d->ranges[d->len++] = r;
    d->seq_max = r.seq > d->seq_max ? r.seq : d->seq_max;
    return ST_OK;
}

static enum status cover_load(struct ts_cover *c, struct cover_day *d, struct err *err)
{
    struct ts_part *p = NULL;
    enum status st = ts_part_open(c->t, d->day, false, &p, err);
    if (st != ST_OK) {
        return st == ST_NOT_FOUND ? ST_OK : st;
    }
    STMT(s, p->db, &sql_ts_part[SQL_TS_PART_FLUSHED_AFTER]);
    stmt_bind_i64(s, 1, (int64_t)c->after + 1);
    bool row = false;
    st = stmt_step(s, &row, err);
    while (st == ST_OK && row) {
        st = cover_range_add(d, (struct cover_range){.since = (uint32_t)col_i64(s, 1),
                                                     .upto = (uint32_t)col_i64(s, 2),
                                                     .seq = (uint64_t)col_i64(s, 3)});
        st = st == ST_OK ? stmt_step(s, &row, err) : st;
    }
    return st;
}

static enum status cover_day_get(struct ts_cover *c, int32_t day, struct err *err)
{
    for (size_t i = 0; i < c->len; i++) {
        if (c->days[i].day == day) {
            c->last = i;
            return ST_OK;
        }
    }
    if (c->len == c->cap) {
        size_t cap = c->cap > 0 ? c->cap * 2 : 16;
        struct cover_day *days = reallocarray(c->days, cap, sizeof(*days));
        if (days == NULL) {
            return ST_NOMEM;
        }
        c->days = days;
        c->cap = cap;
    }
    c->days[c->len] = (struct cover_day){.day = day};
    c->last = c->len++;
    return cover_load(c, &c->days[c->last], err);
}

enum status ts_cover_newest(struct ts_cover *c, int32_t day, uint64_t *ret_seq, struct err *err)
{
    if (c->len == 0 || c->days[c->last].day != day) {
        enum status st = cover_day_get(c, day, err);
        if (st != ST_OK) {
            return st;
        }
    }
    *ret_seq = c->days[c->last].seq_max;
    return ST_OK;
}

bool ts_cover_has(struct ts_cover *c, int32_t day, uint32_t series, uint64_t seq)
{
    const struct cover_day *d = &c->days[c->last];
    bool has = false;
    for (size_t i = 0; d->day == day && i < d->len && !has; i++) {
        const struct cover_range *r = &d->ranges[i];
        has = series >= r->since && series <= r->upto && seq <= r->seq;
    }
    return has;
}
