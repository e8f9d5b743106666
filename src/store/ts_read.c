// Ranges: a snapshot of what is only in memory, taken by the owner, merged on a reader thread with the chunk rows.
//
// Sources of points are chunk rows, chunks of the snapshot and its late points. Sources of a day that overlap in time form a
// cluster; a cluster is decoded, sorted and freed of equal times, where what was stored last stays: rows and the snapshot
// carry the commit up to which they hold points. A flush between the snapshot and the read shows the same points twice,
// which is no different from any other equal times.
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/log.h"
#include "store/sql/ts_part.sql.h"
#include "store/ts_priv.h"

#define READER_OPEN    8           // partitions kept open
#define READ_BYTES_MAX (64U << 20) // strings of one cluster
#define READ_ROWS_MAX  (1U << 20)  // chunks of one day and series

// --- Shared reports -------------------------------------------------------------------------------------------------

struct ts_shared *ts_shared_new(void)
{
    struct ts_shared *s = calloc(1, sizeof(*s));
    if (s == NULL || pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return NULL;
    }
    atomic_init(&s->refs, 1);
    return s;
}

void ts_shared_unref(struct ts_shared *s)
{
    if (s != NULL && atomic_fetch_sub(&s->refs, 1) == 1) {
        (void)pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

// A damaged chunk: said in the log, counted, and told to the owner, who moves it. Found twice before that: said once.
static void report(struct ts_shared *s, int32_t day, uint64_t row)
{
    bool known = false;
    (void)pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->reports_len; i++) {
        known = known || (s->reports[i].day == day && s->reports[i].id == row);
    }
    if (!known && s->reports_len < TS_REPORTS_MAX) {
        s->reports[s->reports_len].day = day;
        s->reports[s->reports_len].id = row;
        s->reports_len++;
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (!known) {
        atomic_fetch_add(&s->corrupt, 1);
        log_error("store", "damaged chunk in a telemetry partition, its points are missing from now on",
                  LOGI("day", day), LOGU("row", row), LOGU("series", ts_row_series(row)));
    }
}

void ts_reports_take(struct ts *t)
{
    struct ts_shared *s = t->shared;
    if (atomic_load_explicit(&s->corrupt, memory_order_relaxed) == 0) {
        return;
    }
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        bool any = s->reports_len > 0;
        int32_t day = any ? s->reports[s->reports_len - 1].day : 0;
        uint64_t row = any ? s->reports[s->reports_len - 1].id : 0;
        s->reports_len -= any;
        (void)pthread_mutex_unlock(&s->lock);
        if (!any) {
            return;
        }
        ts_part_quarantine(t, day, row);
    }
}

// --- Snapshot -------------------------------------------------------------------------------------------------------

// Where points of one day come from.
struct source {
    struct ts_chunk_info info;
    uint64_t seq;     // holds points up to this commit
    uint64_t row;     // of the chunk; in memory: the order
    const uint8_t *p; // in memory: the bytes; NULL: a row, or late points
    size_t len;
    size_t late, late_n; // late points, sorted: index and number
    bool memory;
};

struct ts_snapshot {
    struct ts_shared *shared;
    uint32_t series;
    uint64_t seq;
    int32_t *days; // partitions of the range
    size_t days_len;
    struct source *sources;
    size_t sources_len;
    struct ts_points late;
    struct arena arena;
};

static bool overlaps(int64_t t0, int64_t t1, const struct ts_query *q)
{
    return t0 < q->to_us && t1 >= q->from_us;
}

static size_t list_count(const struct ts_list *l, const struct ts_query *q)
{
    size_t n = 0;
    for (const struct ts_chunk *c = l->first; c != NULL; c = c->next) {
        n += overlaps(c->t0, c->t1, q);
    }
    return n;
}

static bool snapshot_chunk(struct ts_snapshot *s, const struct ts_chunk *c, const struct ts_query *q)
{
    if (c == NULL || !overlaps(c->t0, c->t1, q)) {
        return true;
    }
    struct slice copy = arena_copy(&s->arena, slice_make(c->bytes, c->len));
    s->sources[s->sources_len] = (struct source){
        .info = ts_chunk_info(c), .seq = s->seq, .row = s->sources_len, .p = copy.p, .len = copy.len, .memory = true};
    s->sources_len++;
    return copy.p != NULL;
}

static bool snapshot_list(struct ts_snapshot *s, const struct ts_list *l, const struct ts_query *q)
{
    bool ok = true;
    for (const struct ts_chunk *c = l->first; ok && c != NULL; c = c->next) {
        ok = snapshot_chunk(s, c, q);
    }
    return ok;
}

static bool snapshot_late(struct ts_snapshot *s, const struct ts_spill *spill, const struct ts_query *q)
{
    for (uint32_t i = 0; i < spill->late_len; i++) {
        struct ts_value v = spill->late[i].v;
        if (!overlaps(spill->late[i].t, spill->late[i].t, q)) {
            continue;
        }
        if (v.type == TS_STRING) {
            v.s = arena_copy(&s->arena, v.s);
        }
        if ((v.type == TS_STRING && v.s.p == NULL) || ts_points_add(&s->late, spill->late[i].t, 0, v) != ST_OK) {
            return false;
        }
    }
    ts_points_settle(&s->late);
    return true;
}

static bool snapshot_heads(struct ts_snapshot *s, const struct ts_series *series, const struct ts_query *q)
{
    const struct ts_spill *spill = series->spill;
    size_t n = 1;
    if (spill != NULL) {
        n += list_count(&spill->flushing, q) + list_count(&spill->sealed, q) + list_count(&spill->disorder, q);
    }
    s->sources = calloc(n, sizeof(*s->sources));
    if (s->sources == NULL) {
        return false;
    }
    // In the order of storing: late chunks may repeat times of those before.
    return (spill == NULL || (snapshot_list(s, &spill->flushing, q) && snapshot_list(s, &spill->sealed, q))) &&
           snapshot_chunk(s, series->open, q) &&
           (spill == NULL || (snapshot_list(s, &spill->disorder, q) && snapshot_late(s, spill, q)));
}

static bool snapshot_days(struct ts_snapshot *s, const struct ts *t, const struct ts_query *q)
{
    s->days = calloc(t->days_len > 0 ? t->days_len : 1, sizeof(*s->days));
    if (s->days == NULL) {
        return false;
    }
    for (size_t i = 0; i < t->days_len; i++) {
        int64_t start = (int64_t)t->days[i].day * TS_DAY_US;
        if (overlaps(start, start + TS_DAY_US - 1, q)) {
            s->days[s->days_len++] = t->days[i].day;
        }
    }
    return true;
}

enum status ts_snapshot_take(struct ts *t, const struct ts_query *q, struct ts_snapshot **ret)
{
    if (t->settling && ts_settle(t) != ST_OK) {
        return ST_NOMEM;
    }
    uint32_t of = 0;
    struct ts_device *d = map_get_u64(&t->devices, q->device);
    if (d == NULL && ts_catalog_knows(t, q->device, &of, NULL) == ST_OK) {
        d = ts_device_get(t, of, q->device);
    }
    if (d == NULL || d->tenant->id != q->tenant || d->erased) {
        return ST_NOT_FOUND;
    }
    enum status st = ts_catalog_load(t, d);
    struct ts_series *series = st == ST_OK ? ts_series_find(d, q->metric, hash_bytes(q->metric)) : NULL;
    if (series == NULL || (series->flags & TS_S_LAST) == 0) {
        return st == ST_OK ? ST_NOT_FOUND : st;
    }
    struct ts_snapshot *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ST_NOMEM;
    }
    s->shared = t->shared;
    atomic_fetch_add(&s->shared->refs, 1);
    s->series = series->id;
    s->seq = t->seq;
    s->late = ts_points_make(TS_LATE_MAX);
    arena_init(&s->arena, READ_BYTES_MAX);
    if (!snapshot_days(s, t, q) || !snapshot_heads(s, series, q)) {
        ts_snapshot_free(s);
        return ST_NOMEM;
    }
    *ret = s;
    return ST_OK;
}

void ts_snapshot_free(struct ts_snapshot *s)
{
    if (s == NULL) {
        return;
    }
    ts_shared_unref(s->shared);
    ts_points_release(&s->late);
    arena_release(&s->arena);
    free(s->days);
    free(s->sources);
    free(s);
}

// --- Reader ---------------------------------------------------------------------------------------------------------

struct reader_part {
    int32_t day;
    struct db *db;
    dev_t dev;
    ino_t ino;
    uint64_t used;
};
struct ts_reader {
    char *dir;
    struct reader_part parts[READER_OPEN];
    uint64_t clock;
    struct source *sources; // of the day at hand
    size_t len, cap;
    struct ts_points points;
    struct arena arena;
};

enum status ts_reader_open(const char *dir, struct ts_reader **ret, struct err *err)
{
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return err_set(err, ST_NOT_FOUND, "%s: no telemetry store", dir);
    }
    struct ts_reader *r = calloc(1, sizeof(*r));
    char *copy = strdup(dir);
    if (r == NULL || copy == NULL) {
        free(r);
        free(copy);
        return err_set(err, ST_NOMEM, "no memory for a telemetry reader");
    }
    r->dir = copy;
    r->points = ts_points_make(TS_MERGE_MAX);
    arena_init(&r->arena, READ_BYTES_MAX);
    *ret = r;
    return ST_OK;
}

void ts_reader_close(struct ts_reader *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < READER_OPEN; i++) {
        db_close(r->parts[i].db);
    }
    ts_points_release(&r->points);
    arena_release(&r->arena);
    free(r->sources);
    free(r->dir);
    free(r);
}

// Closes what has been dropped or replaced since: an open file would keep its space, and show old data.
static void reader_refresh(struct ts_reader *r)
{
    for (size_t i = 0; i < READER_OPEN; i++) {
        struct reader_part *p = &r->parts[i];
        char path[TS_PATH_MAX];
        struct stat st;
        if (p->db != NULL && (!ts_part_name(r->dir, p->day, "", path, sizeof(path)) || stat(path, &st) != 0 ||
                              st.st_ino != p->ino || st.st_dev != p->dev)) {
            db_close(p->db);
            *p = (struct reader_part){0};
        }
    }
}

// ST_NOT_FOUND: the partition has been dropped.
static enum status reader_part(struct ts_reader *r, int32_t day, struct db **ret, struct err *err)
{
    struct reader_part *oldest = &r->parts[0];
    for (size_t i = 0; i < READER_OPEN; i++) {
        struct reader_part *p = &r->parts[i];
        if (p->db != NULL && p->day == day) {
            p->used = ++r->clock;
            *ret = p->db;
            return ST_OK;
        }
        oldest = p->used < oldest->used ? p : oldest;
    }
    db_close(oldest->db);
    *oldest = (struct reader_part){0};
    char path[TS_PATH_MAX];
    struct stat st;
    if (!ts_part_name(r->dir, day, "", path, sizeof(path)) || stat(path, &st) != 0) {
        return ST_NOT_FOUND;
    }
    struct db *db = NULL;
    enum status s = db_open_kind(path, DB_READER, &ts_part_kind, &db, err);
    if (s == ST_OK) {
        *oldest = (struct reader_part){.day = day, .db = db, .dev = st.st_dev, .ino = st.st_ino, .used = ++r->clock};
        *ret = db;
    }
    return s;
}

// --- The sources of a day -------------------------------------------------------------------------------------------

static enum status source_add(struct ts_reader *r, const struct source *s)
{
    if (r->len == r->cap) {
        size_t cap = r->cap > 0 ? r->cap * 2 : 64;
        struct source *sources = cap <= READ_ROWS_MAX ? reallocarray(r->sources, cap, sizeof(*sources)) : NULL;
        if (sources == NULL) {
            return cap <= READ_ROWS_MAX ? ST_NOMEM : ST_LIMIT;
        }
        r->sources = sources;
        r->cap = cap;
    }
    r->sources[r->len++] = *s;
    return ST_OK;
}

static enum status row_source(struct ts_reader *r, const struct ts_snapshot *snap, const struct ts_query *q,
                              int32_t day, struct stmt *s)
{
    struct source src = {.row = (uint64_t)col_i64(s, 0), .seq = (uint64_t)col_i64(s, 5)};
    int64_t start = col_i64(s, 1);
    int64_t span = col_i64(s, 2);
    int64_t n = col_i64(s, 3);
    int64_t codec = col_i64(s, 4);
    if (start < 0 || start >= TS_DAY_US || span < 0 || span >= TS_DAY_US - start || n < 1 || n > TS_CHUNK_POINTS_MAX ||
        codec < 0 || codec > UINT32_MAX || !ts_codec_unpack((uint32_t)codec, &src.info.codec)) {
        report(snap->shared, day, src.row);
        return ST_OK;
    }
    src.info.t0 = (int64_t)day * TS_DAY_US + start;
    src.info.t1 = src.info.t0 + span;
    src.info.n = (uint32_t)n;
    return overlaps(src.info.t0, src.info.t1, q) ? source_add(r, &src) : ST_OK;
}

static enum status epoch_sources(struct ts_reader *r, const struct ts_snapshot *snap, const struct ts_query *q,
                                 int32_t day, struct db *db, uint32_t epoch, struct err *err)
{
    STMT(s, db, &sql_ts_part[SQL_TS_PART_CHUNKS]);
    stmt_bind_i64(s, 1, (int64_t)ts_row(epoch, snap->series, 0));
    stmt_bind_i64(s, 2, (int64_t)ts_row(epoch, snap->series, (1U << TS_ROW_PART_BITS) - 1));
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    while (st == ST_OK && row) {
        st = row_source(r, snap, q, day, s);
        st = st == ST_OK ? stmt_step(s, &row, err) : st;
    }
    return st;
}

static enum status disk_sources(struct ts_reader *r, const struct ts_snapshot *snap, const struct ts_query *q,
                                int32_t day, struct db *db, struct err *err)
{
    STMT(s, db, &sql_ts_part[SQL_TS_PART_EPOCHS]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    while (st == ST_OK && row) {
        st = epoch_sources(r, snap, q, day, db, (uint32_t)col_i64(s, 0), err);
        st = st == ST_OK ? stmt_step(s, &row, err) : st;
    }
    return st;
}

static enum status memory_sources(struct ts_reader *r, const struct ts_snapshot *snap, int32_t day)
{
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < snap->sources_len; i++) {
        if (ts_day_of(snap->sources[i].info.t0) == day) {
            st = source_add(r, &snap->sources[i]);
        }
    }
    struct source late = {.seq = snap->seq, .row = UINT64_MAX, .memory = true};
    for (size_t i = 0; i < snap->late.len; i++) {
        if (ts_day_of(snap->late.p[i].t) == day) {
            late.late = late.late_n == 0 ? i : late.late;
            late.late_n++;
        }
    }
    if (st == ST_OK && late.late_n > 0) {
        late.info.t0 = snap->late.p[late.late].t;
        late.info.t1 = snap->late.p[late.late + late.late_n - 1].t;
        late.info.n = (uint32_t)late.late_n;
        st = source_add(r, &late);
    }
    return st;
}

static int source_by_time(const void *pa, const void *pb)
{
    const struct source *a = pa;
    const struct source *b = pb;
    if (a->info.t0 != b->info.t0) {
        return a->info.t0 < b->info.t0 ? -1 : 1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

// In the order of storing.
static int source_by_age(const void *pa, const void *pb)
{
    const struct source *a = pa;
    const struct source *b = pb;
    if (a->seq != b->seq) {
        return a->seq < b->seq ? -1 : 1;
    }
    if (a->memory != b->memory) {
        return a->memory ? 1 : -1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

// --- What becomes of the points -------------------------------------------------------------------------------------

struct bucket {
    int64_t start;
    uint64_t n; // points that count for this aggregate; 0: no bucket open
    struct ts_value v;
    double sum;
    __extension__ __int128 sum_i;
    bool whole; // only whole numbers so far
};

struct sink {
    const struct ts_query *q;
    ts_point_fn fn; // NULL: count only
    void *arg;
    uint64_t n; // delivered, or counted
    bool stop;
    struct bucket b;
};

static void sink_deliver(struct sink *k, int64_t t, struct ts_value v)
{
    k->n++;
    if (!k->fn(k->arg, t, v) || (k->q->limit > 0 && k->n >= k->q->limit)) {
        k->stop = true;
    }
}

static double number_of(struct ts_value v)
{
    return v.type == TS_DOUBLE ? v.f : (double)v.i;
}

static void bucket_emit(struct sink *k)
{
    struct bucket *b = &k->b;
    if (b->n == 0 || k->stop) {
        return;
    }
    struct ts_value v = b->v;
    if (k->q->agg == TS_COUNT) {
        v = (struct ts_value){.type = TS_INT, .i = (int64_t)b->n};
    } else if (k->q->agg == TS_AVG) {
        v = (struct ts_value){.type = TS_DOUBLE, .f = b->sum / (double)b->n};
    } else if (k->q->agg == TS_SUM) {
        bool fits = b->whole && b->sum_i <= INT64_MAX && b->sum_i >= INT64_MIN;
        v = fits ? (struct ts_value){.type = TS_INT, .i = (int64_t)b->sum_i}
                 : (struct ts_value){.type = TS_DOUBLE, .f = b->sum};
    }
    int64_t start = b->start;
    b->n = 0;
    sink_deliver(k, start, v);
}

// The value that FIRST, LAST, MIN and MAX keep.
static bool bucket_takes(const struct sink *k, struct ts_value v)
{
    switch (k->q->agg) {
    case TS_FIRST:
        return k->q->descending;
    case TS_LAST:
        return !k->q->descending;
    case TS_MIN:
        return number_of(v) < number_of(k->b.v);
    case TS_MAX:
        return number_of(v) > number_of(k->b.v);
    default:
        return false;
    }
}

static void bucket_point(struct sink *k, int64_t t, struct ts_value v)
{
    int64_t start = t - t % k->q->bucket_us;
    bool numeric = k->q->agg == TS_MIN || k->q->agg == TS_MAX || k->q->agg == TS_AVG || k->q->agg == TS_SUM;
    if (numeric && v.type == TS_STRING) {
        return; // texts have no average
    }
    if (numeric && v.type == TS_BOOL) {
        v = (struct ts_value){.type = TS_INT, .i = v.b ? 1 : 0};
    }
    if (k->b.n > 0 && k->b.start != start) {
        bucket_emit(k);
        if (k->stop) {
            return;
        }
    }
    if (k->b.n == 0) {
        k->b = (struct bucket){.start = start, .v = v, .whole = true};
    } else if (bucket_takes(k, v)) {
        k->b.v = v;
    }
    k->b.n++;
    if (numeric) {
        k->b.sum += number_of(v);
        k->b.whole = k->b.whole && v.type == TS_INT;
        k->b.sum_i += v.type == TS_INT ? v.i : 0;
    }
}

static void sink_points(struct sink *k, const struct ts_points *ps)
{
    if (k->fn == NULL) {
        k->n += ps->len;
        return;
    }
    for (size_t i = 0; i < ps->len && !k->stop; i++) {
        const struct ts_point *p = &ps->p[k->q->descending ? ps->len - 1 - i : i];
        if (k->q->agg == TS_RAW) {
            sink_deliver(k, p->t, p->v);
        } else {
            bucket_point(k, p->t, p->v);
        }
    }
}

// --- Reading --------------------------------------------------------------------------------------------------------

struct reading {
    struct ts_reader *r;
    const struct ts_snapshot *snap;
    const struct ts_query *q;
    struct db *db; // of the day; NULL: only memory
    int32_t day;
    struct sink *sink;
    struct err *err;
};

static enum status decode_row(struct reading *rd, const struct source *s, uint32_t rank)
{
    STMT(get, rd->db, &sql_ts_part[SQL_TS_PART_BYTES]);
    stmt_bind_i64(get, 1, (int64_t)s->row);
    bool row = false;
    enum status st = stmt_step(get, &row, rd->err);
    if (st != ST_OK || !row) {
        return st;
    }
    struct slice bytes = col_blob(get, 1);
    if (ts_chunk_crc(s->row, &s->info, bytes) != (uint32_t)(int32_t)col_i64(get, 0)) {
        return ST_CORRUPT;
    }
    if (s->info.codec.kind == TS_KIND_STR) {
        bytes = arena_copy(&rd->r->arena, bytes); // the points refer to it
        if (bytes.p == NULL) {
            return ST_LIMIT;
        }
    }
    return ts_points_add_chunk(&rd->r->points, &s->info, bytes, rank, rd->q->from_us, rd->q->to_us);
}

static enum status decode_late(struct reading *rd, const struct source *s, uint32_t rank)
{
    enum status st = ST_OK;
    for (size_t i = s->late; st == ST_OK && i < s->late + s->late_n; i++) {
        st = ts_points_add(&rd->r->points, rd->snap->late.p[i].t, rank, rd->snap->late.p[i].v);
    }
    return st;
}

static enum status decode(struct reading *rd, const struct source *s, uint32_t rank)
{
    enum status st;
    if (!s->memory) {
        st = decode_row(rd, s, rank);
    } else if (s->p == NULL) {
        st = decode_late(rd, s, rank);
    } else {
        st =
            ts_points_add_chunk(&rd->r->points, &s->info, slice_make(s->p, s->len), rank, rd->q->from_us, rd->q->to_us);
    }
    if (st == ST_CORRUPT && !s->memory) {
        report(rd->snap->shared, rd->day, s->row);
        return ST_OK;
    }
    return st == ST_OK ? ST_OK : err_set(rd->err, st, "the range has too much data that overlaps in time");
}

static enum status read_cluster(struct reading *rd, struct source *sources, size_t n)
{
    struct ts_reader *r = rd->r;
    const struct ts_query *q = rd->q;
    if (rd->sink->fn == NULL && n == 1 && sources[0].info.t0 >= q->from_us && sources[0].info.t1 < q->to_us) {
        rd->sink->n += sources[0].info.n; // wholly inside: no need to look at the points
        return ST_OK;
    }
    if (n > 1) {
        qsort(sources, n, sizeof(*sources), source_by_age);
    }
    ts_points_clear(&r->points);
    arena_reset(&r->arena);
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        st = decode(rd, &sources[i], (uint32_t)i);
    }
    if (st == ST_OK) {
        ts_points_settle(&r->points);
        sink_points(rd->sink, &r->points);
    }
    return st;
}

// The end of the cluster that begins at `i`: the first source that begins after all before it have ended.
static size_t cluster_end(const struct ts_reader *r, size_t i)
{
    int64_t t1 = r->sources[i].info.t1;
    size_t end = i + 1;
    while (end < r->len && r->sources[end].info.t0 <= t1) {
        t1 = r->sources[end].info.t1 > t1 ? r->sources[end].info.t1 : t1;
        end++;
    }
    return end;
}

static enum status read_ascending(struct reading *rd)
{
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < rd->r->len && !rd->sink->stop;) {
        size_t end = cluster_end(rd->r, i);
        st = read_cluster(rd, rd->r->sources + i, end - i);
        i = end;
    }
    return st;
}

// Clusters from the last to the first: their beginnings are noted first.
static enum status read_descending(struct reading *rd)
{
    struct ts_reader *r = rd->r;
    size_t *starts = calloc(r->len > 0 ? r->len : 1, sizeof(*starts));
    if (starts == NULL) {
        return err_set(rd->err, ST_NOMEM, "no memory to read telemetry");
    }
    size_t n = 0;
    for (size_t i = 0; i < r->len; i = cluster_end(r, i)) {
        starts[n++] = i;
    }
    enum status st = ST_OK;
    size_t end = r->len;
    while (st == ST_OK && n > 0 && !rd->sink->stop) {
        n--;
        st = read_cluster(rd, r->sources + starts[n], end - starts[n]);
        end = starts[n];
    }
    free(starts);
    return st;
}

static enum status read_day(struct reading *rd, int32_t day)
{
    struct ts_reader *r = rd->r;
    rd->day = day;
    rd->db = NULL;
    r->len = 0;
    enum status st = reader_part(r, day, &rd->db, rd->err);
    if (st == ST_OK) {
        st = db_begin(rd->db, rd->err);
    }
    if (st != ST_OK && st != ST_NOT_FOUND) {
        return st;
    }
    st = rd->db != NULL ? disk_sources(r, rd->snap, rd->q, day, rd->db, rd->err) : ST_OK;
    st = st == ST_OK ? memory_sources(r, rd->snap, day) : st;
    if (st == ST_OK && r->len > 0) {
        qsort(r->sources, r->len, sizeof(*r->sources), source_by_time);
        st = rd->q->descending ? read_descending(rd) : read_ascending(rd);
    }
    if (rd->db != NULL) {
        db_rollback(rd->db);
    }
    return st;
}

static int day_compare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a;
    int32_t y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

// Every day that may hold points: of partitions and of the snapshot, each once, ascending.
static int32_t *days_of(const struct ts_snapshot *s, size_t *ret_n)
{
    size_t n = 0;
    int32_t *days = calloc(s->days_len + s->sources_len + s->late.len + 1, sizeof(*days));
    if (days == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < s->days_len; i++) {
        days[n++] = s->days[i];
    }
    for (size_t i = 0; i < s->sources_len; i++) {
        days[n++] = ts_day_of(s->sources[i].info.t0);
    }
    for (size_t i = 0; i < s->late.len; i++) {
        days[n++] = ts_day_of(s->late.p[i].t);
    }
    qsort(days, n, sizeof(*days), day_compare);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || days[kept - 1] != days[i]) {
            days[kept++] = days[i];
        }
    }
    *ret_n = kept;
    return days;
}

static enum status read_all(struct reading *rd)
{
    size_t n = 0;
    int32_t *days = days_of(rd->snap, &n);
    if (days == NULL) {
        return err_set(rd->err, ST_NOMEM, "no memory to read telemetry");
    }
    reader_refresh(rd->r);
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < n && !rd->sink->stop; i++) {
        st = read_day(rd, days[rd->q->descending ? n - 1 - i : i]);
    }
    free(days);
    if (st == ST_OK && rd->sink->fn != NULL && rd->q->agg != TS_RAW) {
        bucket_emit(rd->sink);
    }
    return st;
}

enum status ts_read(struct ts_reader *r, const struct ts_snapshot *s, const struct ts_query *q, ts_point_fn fn,
                    void *arg, struct err *err)
{
    if (q->agg != TS_RAW && q->bucket_us <= 0) {
        return err_set(err, ST_INVALID, "an aggregate needs a bucket of at least one microsecond");
    }
    struct sink sink = {.q = q, .fn = fn, .arg = arg};
    struct reading rd = {.r = r, .snap = s, .q = q, .sink = &sink, .err = err};
    return read_all(&rd);
}

enum status ts_read_count(struct ts_reader *r, const struct ts_snapshot *s, const struct ts_query *q, uint64_t *ret_n,
                          struct err *err)
{
    struct sink sink = {.q = q};
    struct reading rd = {.r = r, .snap = s, .q = q, .sink = &sink, .err = err};
    enum status st = read_all(&rd);
    if (st == ST_OK) {
        *ret_n = sink.n;
    }
    return st;
}
