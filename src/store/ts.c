// The telemetry store's life: opening, staging points, commits, housekeeping, the reserve for a full disk.
#include "store/ts.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/ts_priv.h"

#define TS_SEGMENT_BYTES  (256U << 20)
#define TS_FLUSH_AFTER_MS 3600000
#define TS_SERIES_DEVICE  1000
#define TS_METRICS_TENANT 10000
#define TS_HEAD_BYTES     (1ULL << 30)
#define TS_FULL_RETRY_US  50000
#define TS_TEXT_MAX       (32U << 20)
#define TS_AHEAD          24 // points whose series is fetched before it is needed

// --- Paths and the reserve ------------------------------------------------------------------------------------------

bool ts_path(const struct ts *t, char *dst, const char *fmt, ...)
{
    int n = snprintf(dst, TS_PATH_MAX, "%s/", t->dir);
    if (n <= 0 || n >= TS_PATH_MAX) {
        return false;
    }
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(dst + n, (size_t)(TS_PATH_MAX - n), fmt, ap);
    va_end(ap);
    return m > 0 && m < TS_PATH_MAX - n;
}

// A file that only takes space. It is given up when the disk is full, so that deleting and the flush can work, and taken
// back before anything else is stored.
static bool reserve_make(const struct ts *t)
{
    char path[TS_PATH_MAX];
    struct stat st;
    if (!ts_path(t, path, "reserve")) {
        return false;
    }
    if (stat(path, &st) == 0 && st.st_size == TS_RESERVE_BYTES) {
        return true;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    bool ok = posix_fallocate(fd, 0, TS_RESERVE_BYTES) == 0;
    (void)close(fd);
    if (!ok) {
        (void)unlink(path);
    }
    return ok;
}

// Opening needs a little space itself (shared memory of the partitions): when there is none, the reserve gives it.
static void reserve_for_open(struct ts *t)
{
    struct statvfs fs;
    if (statvfs(t->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < TS_RESERVE_BYTES) {
        ts_note_full(t);
    }
}

void ts_note_full(struct ts *t)
{
    char path[TS_PATH_MAX];
    if (t->full) {
        return; // many refusals do not put off the next try
    }
    t->full = true;
    t->full_retry_us = clock_mono_us() + TS_FULL_RETRY_US;
    if (ts_path(t, path, "reserve")) {
        (void)unlink(path);
    }
}

bool ts_full(const struct ts *t)
{
    return t->full;
}

// Space for the reserve alone would be gone with the next write: then "full" and "not full" would take turns.
static bool space_for_twice_the_reserve(const struct ts *t)
{
    struct statvfs v;
    return statvfs(t->dir, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize >= 2UL * TS_RESERVE_BYTES;
}

bool ts_reserve_take_back(struct ts *t)
{
    if (!t->full) {
        return true;
    }
    int64_t now = clock_mono_us();
    if (now < t->full_retry_us) {
        return false;
    }
    t->full_retry_us = now + TS_FULL_RETRY_US;
    t->full = !(space_for_twice_the_reserve(t) && reserve_make(t));
    return !t->full;
}

// --- Open and close -------------------------------------------------------------------------------------------------

static struct ts_conf conf_with_defaults(const struct ts_conf *c)
{
    struct ts_conf conf = *c;
    conf.segment_bytes = conf.segment_bytes != 0 ? conf.segment_bytes : TS_SEGMENT_BYTES;
    conf.flush_after_ms = conf.flush_after_ms != 0 ? conf.flush_after_ms : TS_FLUSH_AFTER_MS;
    conf.series_per_device = conf.series_per_device != 0 ? conf.series_per_device : TS_SERIES_DEVICE;
    conf.metrics_per_tenant = conf.metrics_per_tenant != 0 ? conf.metrics_per_tenant : TS_METRICS_TENANT;
    conf.head_bytes_max = conf.head_bytes_max != 0 ? conf.head_bytes_max : TS_HEAD_BYTES;
    return conf;
}

static enum status open_files(struct ts *t, struct err *err)
{
    if (mkdir(t->dir, 0700) != 0 && errno != EEXIST) {
        enum status st = errno == ENOSPC || errno == EDQUOT ? ST_FULL : ST_IO;
        return err_set(err, st, "%s: cannot be created: %s", t->dir, strerror(errno));
    }
    reserve_for_open(t);
    enum status st = ts_part_list(t, err);
    if (st == ST_OK) {
        st = ts_catalog_open(t, err);
    }
    if (st == ST_OK) {
        st = ts_log_open(t, err);
    }
    if (st == ST_OK && !t->full && !reserve_make(t)) {
        ts_note_full(t);
    }
    return st;
}

enum status ts_open(const char *dir, const struct ts_conf *conf, struct ts **ret, struct err *err)
{
    struct ts *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the telemetry store");
    }
    t->dir = strdup(dir);
    t->shared = ts_shared_new();
    t->conf = conf_with_defaults(conf);
    t->keep.day = -1;
    t->text = buf_heap(TS_TEXT_MAX);
    map_init(&t->devices);
    map_init(&t->tenants);
    map_init(&t->metrics);
    enum status st = t->dir != NULL && t->shared != NULL ? open_files(t, err)
                                                         : err_set(err, ST_NOMEM, "no memory for the telemetry store");
    if (st != ST_OK) {
        ts_close(t);
        return st;
    }
    *ret = t;
    return ST_OK;
}

void ts_close(struct ts *t)
{
    if (t == NULL) {
        return;
    }
    ts_reader_close(t->reader);
    ts_flush_free(t);
    ts_memory_free(t);
    ts_log_close(t);
    ts_part_close_all(t);
    db_close(t->catalog);
    while (t->erases != NULL) {
        struct ts_erase *next = t->erases->next;
        free(t->erases);
        t->erases = next;
    }
    ts_shared_unref(t->shared);
    buf_release(&t->text);
    free(t->staged);
    free(t->tally);
    free(t->dirty);
    free(t->days);
    free(t->policies);
    free(t->dir);
    free(t);
}

// --- Staging --------------------------------------------------------------------------------------------------------

struct ts_device *ts_device(struct ts *t, uint32_t tenant, uint64_t device)
{
    struct ts_device *d = ts_device_get(t, tenant, device);
    return d != NULL && ts_catalog_load(t, d) == ST_OK ? d : NULL;
}

int64_t ts_assign_time(struct ts_device *d, int64_t now_us)
{
    d->assigned_us = now_us > d->assigned_us ? now_us : d->assigned_us + 1;
    return d->assigned_us;
}

bool ts_dirty_push(struct ts *t, struct ts_device *d)
{
    if (d->dirty) {
        return true;
    }
    if (t->dirty_len == t->dirty_cap) {
        size_t cap = t->dirty_cap > 0 ? t->dirty_cap * 2 : 64;
        struct ts_device **dirty = reallocarray(t->dirty, cap, sizeof(struct ts_device *));
        if (dirty == NULL) {
            return false;
        }
        t->dirty = dirty;
        t->dirty_cap = cap;
    }
    t->dirty[t->dirty_len++] = d;
    d->dirty = true;
    return true;
}

struct ts_staged *ts_stage_grow(struct ts *t)
{
    size_t cap = t->staged_cap > 0 ? t->staged_cap * 2 : 256;
    struct ts_staged *staged = reallocarray(t->staged, cap, sizeof(*staged));
    if (staged == NULL) {
        return NULL;
    }
    t->staged = staged;
    t->staged_cap = cap;
    return &t->staged[t->staged_len];
}

enum status ts_stage_value(struct ts *t, struct ts_staged *p, const struct ts_value *v)
{
    union {
        double f;
        uint64_t u;
    } bits = {.u = 0};
    p->type = (uint8_t)v->type;
    switch (v->type) {
    case TS_DOUBLE:
        bits.f = v->f;
        break;
    case TS_INT:
        bits.u = (uint64_t)v->i;
        break;
    case TS_BOOL:
        bits.u = v->b ? 1 : 0;
        break;
    case TS_STRING:
        bits.u = t->text.len;
        p->len = (uint16_t)v->s.len;
        if (!buf_slice(&t->text, v->s)) {
            t->text.failed = false;
            return t->text.len + v->s.len > TS_TEXT_MAX ? ST_BUSY : ST_NOMEM;
        }
        break;
    }
    p->v = bits.u;
    return ST_OK;
}

// The point can be found through its series until the batch is settled: for duplicates within a batch.
static enum status stage(struct ts *t, struct ts_series *s, int64_t time, const struct ts_value *v, bool created)
{
    struct ts_staged *p = ts_stage_slot(t);
    enum status st = p != NULL ? ts_stage_value(t, p, v) : ST_NOMEM;
    if (st != ST_OK) {
        return st;
    }
    p->s = s;
    p->t = time;
    p->prev = s->staged;
    p->created = created;
    p->covered = false;
    s->staged = (uint32_t)++t->staged_len;
    return ST_OK;
}

static inline struct ts_value staged_double(const struct ts_staged *p)
{
    union {
        uint64_t u;
        double f;
    } bits = {.u = p->v};
    return (struct ts_value){.type = TS_DOUBLE, .f = bits.f};
}

static struct ts_value staged_value(const struct ts *t, const struct ts_staged *p)
{
    struct ts_value v = {.type = (enum ts_type)p->type};
    union {
        uint64_t u;
        double f;
    } bits = {.u = p->v};
    switch (v.type) {
    case TS_DOUBLE:
        v.f = bits.f;
        break;
    case TS_INT:
        v.i = (int64_t)bits.u;
        break;
    case TS_BOOL:
        v.b = bits.u != 0;
        break;
    case TS_STRING:
        v.s = slice_make(t->text.p + p->v, p->len);
        break;
    }
    return v;
}

struct comparison {
    struct ts_value want;
    bool same;
};

static bool compare_found(void *arg, int64_t time, struct ts_value v)
{
    (void)time;
    struct comparison *c = arg;
    c->same = ts_value_eq(c->want, v);
    return false;
}

// The client says which messages are repeats, so what looking for them may cost is bounded per commit: beyond it a repeat is
// stored again, which no range shows (equal times are one point), only the count of duplicates is lower.
#define DUPLICATE_WORK_MAX 20000
#define DUPLICATE_READ     200 // a look at the head and the chunks, in steps of the walk

// Whether the newest value stored for this time is this value: in the batch, in memory, on disk.
static enum status is_duplicate(struct ts *t, const struct ts_series *s, int64_t time, struct ts_value v, bool *ret)
{
    *ret = false;
    for (uint32_t i = s->staged; i != 0; i = t->staged[i - 1].prev) {
        if (++t->duplicate_work > DUPLICATE_WORK_MAX) {
            return ST_OK;
        }
        if (t->staged[i - 1].t == time) {
            *ret = ts_value_eq(staged_value(t, &t->staged[i - 1]), v);
            return ST_OK;
        }
    }
    if ((s->flags & TS_S_LAST) == 0 || time > s->last_t || t->duplicate_work > DUPLICATE_WORK_MAX - DUPLICATE_READ) {
        return ST_OK;
    }
    t->duplicate_work += DUPLICATE_READ;
    struct err err = {.code = ST_OK};
    struct ts_snapshot *snap = NULL;
    struct ts_query q = {.tenant = s->dev->tenant->id,
                         .device = s->dev->device,
                         .metric = slice_make(s->metric->name, s->metric->len),
                         .from_us = time,
                         .to_us = time + 1,
                         .limit = 1};
    struct comparison c = {v, false};
    enum status st = t->reader != NULL ? ST_OK : ts_reader_open(t->dir, &t->reader, &err);
    st = st == ST_OK ? ts_snapshot_take(t, &q, &snap) : st;
    st = st == ST_OK ? ts_read(t->reader, snap, &q, compare_found, &c, &err) : st;
    ts_snapshot_free(snap);
    *ret = c.same;
    return st;
}

static enum status put_check(struct ts *t, const struct ts_device *d, int64_t ts_us, struct slice metric,
                             const struct ts_value *v)
{
    if (t->settling) {
        enum status st = ts_settle(t);
        if (st != ST_OK) {
            return st;
        }
    }
    if (d->erased) {
        return ST_NOT_FOUND;
    }
    if (t->staged_len >= TS_STAGED_MAX) {
        return ST_BUSY;
    }
    bool bad = ts_us < 0 || ts_us >= TS_TIME_MAX || metric.len == 0 || metric.len > TS_METRIC_MAX ||
               (v->type == TS_DOUBLE && !isfinite(v->f)) || (v->type == TS_STRING && v->s.len > TS_STRING_MAX);
    return bad ? ST_INVALID : ST_OK;
}

enum status ts_put(struct ts *t, struct ts_device *d, int64_t ts_us, struct slice metric, uint64_t hash,
                   struct ts_value v, bool check_duplicate, bool *ret_duplicate)
{
    if (ret_duplicate != NULL) {
        *ret_duplicate = false;
    }
    enum status st = put_check(t, d, ts_us, metric, &v);
    if (st != ST_OK) {
        return st;
    }
    struct ts_series *s = ts_series_find(d, metric, hash);
    bool created = s == NULL;
    if (created) {
        st = ts_series_make(t, d, metric, hash, 0, &s);
    } else if (check_duplicate) {
        bool duplicate = false;
        st = is_duplicate(t, s, ts_us, v, &duplicate);
        if (ret_duplicate != NULL) {
            *ret_duplicate = duplicate;
        }
        if (duplicate) {
            return ST_OK;
        }
    }
    if (st != ST_OK) {
        return st;
    }
    st = stage(t, s, ts_us, &v, created);
    if (st != ST_OK && created) {
        ts_series_unmake(t, s);
    }
    return st;
}

enum status ts_stage_count(struct ts *t, struct ts_tally tally)
{
    if (t->tally_len == t->tally_cap) {
        size_t cap = t->tally_cap > 0 ? t->tally_cap * 2 : 64;
        struct ts_tally *grown = reallocarray(t->tally, cap, sizeof(*grown));
        if (grown == NULL) {
            return ST_NOMEM;
        }
        t->tally = grown;
        t->tally_cap = cap;
    }
    t->tally[t->tally_len++] = tally;
    return ST_OK;
}

enum status ts_count(struct ts *t, struct ts_device *d, unsigned counter, uint64_t n)
{
    if (counter >= TS_COUNTERS) {
        return ST_INVALID;
    }
    if (t->settling) {
        enum status st = ts_settle(t);
        if (st != ST_OK) {
            return st;
        }
    }
    if (d->erased) {
        return ST_NOT_FOUND;
    }
    return ts_stage_count(
        t, (struct ts_tally){.d = d, .n = n, .counter = (uint8_t)counter, .of_device = true, .of_tenant = true});
}

uint64_t ts_next_commit(const struct ts *t)
{
    return t->seq + 1;
}

bool ts_staged(const struct ts *t)
{
    return !t->settling && (t->staged_len > 0 || t->tally_len > 0);
}

struct ts_mark ts_mark(const struct ts *t)
{
    return t->settling ? (struct ts_mark){0, 0, 0} : (struct ts_mark){t->staged_len, t->tally_len, t->text.len};
}

void ts_undo(struct ts *t, struct ts_mark m)
{
    if (t->settling) {
        return; // what is there is durable already
    }
    while (t->staged_len > m.a) {
        struct ts_staged *p = &t->staged[--t->staged_len];
        p->s->staged = p->prev;
        if (p->created) {
            ts_series_unmake(t, p->s);
        }
    }
    t->tally_len = m.b < t->tally_len ? m.b : t->tally_len;
    t->text.len = m.c < t->text.len ? m.c : t->text.len;
}

void ts_abandon(struct ts *t)
{
    ts_undo(t, (struct ts_mark){0, 0, 0});
}

// --- Commit ---------------------------------------------------------------------------------------------------------

static bool tally_apply(struct ts *t, const struct ts_tally *c)
{
    if (c->of_device && (!ts_dirty_push(t, c->d) || !ts_counters_add(c->d, c->counter, c->n))) {
        return false;
    }
    if (c->of_tenant) {
        c->d->tenant->counters[c->counter] += c->n;
        c->d->tenant->dirty = true;
    }
    return true;
}

// Each point touches memory far from the one before: the coming ones are fetched ahead, one step of the way at a time.
static inline void settle_fetch(const struct ts_staged *p)
{
    __builtin_prefetch(p[TS_AHEAD].s, 1);
    const struct ts_chunk *next = p[TS_AHEAD * 2 / 3].s->open;
    __builtin_prefetch(next, 1);
    const struct ts_chunk *soon = p[TS_AHEAD / 3].s->open;
    if (soon != NULL) {
        __builtin_prefetch(soon->bytes, 1); // the rest of its head is on this line
        __builtin_prefetch(soon->bytes + soon->len, 1);
    }
}

// Into the heads, after the commit.
enum status ts_settle(struct ts *t)
{
    while (t->applied < t->staged_len) {
        struct ts_staged *p = &t->staged[t->applied];
        if (t->applied + TS_AHEAD < t->staged_len) {
            settle_fetch(p);
        }
        const struct ts_value v = p->type == TS_DOUBLE ? staged_double(p) : staged_value(t, p);
        enum status st = ts_series_apply(t, p->s, p->t, &v, p->covered);
        if (st != ST_OK) {
            return st;
        }
        p->s->staged = 0;
        t->stats.points += !p->covered;
        t->fresh += !p->covered;
        t->applied++;
    }
    while (t->tally_len > 0) {
        if (!tally_apply(t, &t->tally[t->tally_len - 1])) {
            return ST_NOMEM;
        }
        t->tally_len--;
    }
    t->staged_len = 0;
    t->duplicate_work = 0;
    t->applied = 0;
    t->text.len = 0;
    t->settling = false;
    return ST_OK;
}

enum status ts_commit(struct ts *t, struct err *err)
{
    if (t->settling && ts_settle(t) != ST_OK) {
        return err_set(err, ST_NOMEM, "no memory for the telemetry of the commit before");
    }
    if (!ts_staged(t)) {
        return ST_OK;
    }
    if (!ts_reserve_take_back(t)) {
        return err_set(err, ST_FULL, "%s: the disk is full", t->dir);
    }
    enum status st = ts_log_write(t, err);
    if (st == ST_FULL) {
        ts_note_full(t);
    }
    if (st != ST_OK) {
        return st;
    }
    t->stats.commits++;
    t->settling = true;
    if (ts_settle(t) != ST_OK) {
        log_warn("store", "no memory to take telemetry into memory; it is durable and will be taken later");
    }
    return ST_OK;
}

// --- Housekeeping ---------------------------------------------------------------------------------------------------

static bool step_failed(struct ts *t, enum status st, const struct err *err)
{
    if (st == ST_OK) {
        return false;
    }
    if (st == ST_FULL) {
        ts_note_full(t);
    }
    log_warn("store", "telemetry housekeeping will be tried again", LOGS("status", status_text(st)),
             LOGS("error", err->text));
    return true;
}

bool ts_step(struct ts *t, int64_t now_us)
{
    struct err err = {.code = ST_OK};
    if (t->settling && ts_settle(t) != ST_OK) {
        return false;
    }
    (void)ts_reserve_take_back(t);
    ts_reports_take(t);
    if (ts_flush_wanted(t)) {
        (void)ts_flush_begin(t);
    }
    if (t->flush.state != TS_FLUSH_IDLE) {
        return clock_mono_us() >= t->flush.retry_us && !step_failed(t, ts_flush_step(t, &err), &err);
    }
    if (t->erases != NULL) {
        return clock_mono_us() >= t->flush.retry_us && !step_failed(t, ts_erase_step(t, &err), &err);
    }
    return ts_keep_step(t, now_us);
}

enum status ts_flush(struct ts *t, struct err *err)
{
    enum status st = t->settling ? ts_settle(t) : ST_OK;
    while (st == ST_OK && t->flush.state != TS_FLUSH_IDLE) {
        st = ts_flush_step(t, err);
    }
    if (st == ST_OK) {
        st = ts_flush_begin(t);
    }
    while (st == ST_OK && t->flush.state != TS_FLUSH_IDLE) {
        st = ts_flush_step(t, err);
    }
    while (st == ST_OK && t->erases != NULL) {
        st = ts_erase_step(t, err);
    }
    return st;
}

// --- Looking --------------------------------------------------------------------------------------------------------

void ts_counters(struct ts *t, uint64_t device, uint64_t out[TS_COUNTERS])
{
    for (unsigned i = 0; i < TS_COUNTERS; i++) {
        out[i] = 0;
    }
    uint32_t tenant = 0;
    struct ts_device *d = map_get_u64(&t->devices, device);
    if (d == NULL && ts_catalog_knows(t, device, &tenant, NULL) == ST_OK) {
        d = ts_device_get(t, tenant, device);
    }
    if (d == NULL || ts_catalog_load(t, d) != ST_OK) {
        return;
    }
    for (unsigned i = 0; i < d->counters_len; i++) {
        out[i] = d->counters[i];
    }
}

void ts_tenant_counters(const struct ts *t, uint32_t tenant, uint64_t out[TS_COUNTERS])
{
    const struct ts_tenant *p = map_get_u64(&t->tenants, tenant);
    for (unsigned i = 0; i < TS_COUNTERS; i++) {
        out[i] = p != NULL ? p->counters[i] : 0;
    }
}

void ts_stats(const struct ts *t, struct ts_stats *out)
{
    *out = t->stats;
    out->series = t->series_len;
    out->log_bytes = (uint64_t)ts_log_bytes(t);
    out->corrupt += atomic_load(&t->shared->corrupt);
    out->chunk_bytes = 0;
    for (size_t i = 0; i < t->days_len; i++) {
        char path[TS_PATH_MAX];
        struct stat st;
        if (ts_part_name(t->dir, t->days[i].day, "", path, sizeof(path)) && stat(path, &st) == 0) {
            out->chunk_bytes += (uint64_t)st.st_size;
        }
    }
}

size_t ts_last(struct ts *t, uint32_t tenant, uint64_t device, ts_last_fn fn, void *arg)
{
    uint32_t of = 0;
    struct ts_device *d = map_get_u64(&t->devices, device);
    if (d == NULL && ts_catalog_knows(t, device, &of, NULL) == ST_OK) {
        d = ts_device_get(t, of, device);
    }
    if (d == NULL || d->tenant->id != tenant || ts_catalog_load(t, d) != ST_OK) {
        return 0;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < d->len; i++) {
        const struct ts_series *s = d->series[i];
        if ((s->flags & TS_S_LAST) != 0) {
            fn(arg, slice_make(s->metric->name, s->metric->len), s->last_t, ts_series_last(s));
            n++;
        }
    }
    return n;
}
