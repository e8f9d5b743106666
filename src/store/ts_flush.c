// From memory to chunk rows, in bounded steps between commits, and then the log segments that are no longer needed go.
//
// A batch takes the heads of some hundred series out of the way (they stay readable) and writes them, one transaction per day.
// Each transaction says which series hold everything up to which commit, so that a replay after a crash in the middle
// takes exactly the rest.
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/ts_priv.h"

#define FLUSH_BATCH_CHUNKS 1024 // gathered at once
#define FLUSH_BATCH_BYTES  (256 << 10)
#define FLUSH_VISIT        20000 // series looked at in one step
#define FLUSH_DEVICES      256   // device rows in one step
#define FLUSH_SEGMENTS     16    // many small segments (restarts) are reason enough
#define FLUSH_RETRY_US     1000000
#define FLUSH_EARLY        4   // a log of this part of its size is enough,
#define FLUSH_EARLY_POINTS 128 // when the series have that many points each: a shorter log is a faster restart

bool ts_flush_wanted(const struct ts *t)
{
    if (t->flush.state != TS_FLUSH_IDLE || t->log.began_us == 0) {
        return false;
    }
    int64_t log = ts_log_bytes(t);
    if (log >= (int64_t)t->conf.segment_bytes / FLUSH_EARLY && t->fresh / FLUSH_EARLY_POINTS >= t->series_len) {
        return true;
    }
    return log >= (int64_t)t->conf.segment_bytes || t->stats.head_bytes > t->conf.head_bytes_max ||
           t->log.len > FLUSH_SEGMENTS || clock_mono_us() - t->log.began_us >= (int64_t)t->conf.flush_after_ms * 1000;
}

enum status ts_flush_begin(struct ts *t)
{
    struct ts_flush *f = &t->flush;
    if (t->log.len == 0) {
        return ST_OK;
    }
    f->segment = t->log.list[t->log.len - 1].number;
    f->seq_begin = t->seq;
    f->number++;
    f->cursor = 1;
    f->items_len = 0;
    f->items_next = 0;
    t->fresh = 0;
    f->state = TS_FLUSH_CHUNKS;
    (void)ts_log_seal(t); // without a new segment the next commit makes one, or says why not
    return ST_OK;
}

static bool items_room(struct ts_flush *f, size_t n)
{
    if (f->items_cap - f->items_len >= n) {
        return true;
    }
    size_t cap = f->items_len + n > f->items_cap * 2 ? f->items_len + n : f->items_cap * 2;
    struct ts_flush_item *items = reallocarray(f->items, cap, sizeof(*items));
    if (items == NULL) {
        return false;
    }
    f->items = items;
    f->items_cap = cap;
    return true;
}

static int item_compare(const void *pa, const void *pb)
{
    const struct ts_flush_item *a = pa;
    const struct ts_flush_item *b = pb;
    if (a->day != b->day) {
        return a->day < b->day ? -1 : 1;
    }
    return a->order < b->order ? -1 : a->order > b->order;
}

static enum status gather_series(struct ts *t, struct ts_series *s, size_t *bytes)
{
    struct ts_flush *f = &t->flush;
    struct ts_list list;
    enum status st = ts_series_detach(t, s, &list);
    size_t n = 0;
    for (const struct ts_chunk *c = list.first; c != NULL; c = c->next) {
        n++;
    }
    if (st != ST_OK || n == 0) {
        return st;
    }
    if (!items_room(f, n)) {
        return ST_NOMEM; // detached already: the next round finds it in the same list
    }
    for (struct ts_chunk *c = list.first; c != NULL; c = c->next) {
        f->items[f->items_len] = (struct ts_flush_item){
            .s = s, .chunk = c, .day = ts_day_of(c->t0), .id = s->id, .order = (uint32_t)f->items_len};
        f->items_len++;
        *bytes += c->len;
    }
    return ST_OK;
}

static enum status gather(struct ts *t)
{
    struct ts_flush *f = &t->flush;
    size_t bytes = 0;
    f->items_len = 0;
    f->items_next = 0;
    f->since = f->cursor;
    f->seq = t->seq;
    enum status st = ST_OK;
    for (unsigned seen = 0; seen < FLUSH_VISIT && f->items_len < FLUSH_BATCH_CHUNKS && bytes < FLUSH_BATCH_BYTES;
         seen++) {
        struct ts_series *s = ts_table_next(&t->table, f->cursor);
        if (s == NULL) {
            f->cursor = 0; // the end
            break;
        }
        st = gather_series(t, s, &bytes);
        if (st != ST_OK) {
            break;
        }
        f->upto = s->id;
        f->cursor = s->id + 1;
    }
    if (f->items_len > 0) {
        qsort(f->items, f->items_len, sizeof(*f->items), item_compare);
    }
    return f->items_len > 0 ? ST_OK : st;
}

// One day of the batch.
static enum status write_day(struct ts *t, struct err *err)
{
    struct ts_flush *f = &t->flush;
    size_t end = f->items_next;
    int32_t day = f->items[end].day;
    while (end < f->items_len && f->items[end].day == day) {
        end++;
    }
    const struct ts_flush_item *items = f->items + f->items_next;
    enum status st = ts_part_write(t, day, items, end - f->items_next, f->since, f->upto, f->seq, err);
    if (st != ST_OK) {
        return st;
    }
    for (; f->items_next < end; f->items_next++) {
        struct ts_flush_item *item = &f->items[f->items_next];
        if (item->s != NULL) {
            ts_series_detached_free(t, item->s, item->chunk);
        }
    }
    return ST_OK;
}

static enum status step_chunks(struct ts *t, struct err *err)
{
    struct ts_flush *f = &t->flush;
    if (f->items_next < f->items_len) {
        return write_day(t, err);
    }
    if (f->cursor != 0) {
        enum status st = gather(t);
        return st == ST_OK ? ST_OK : err_set(err, st, "no memory to flush telemetry");
    }
    f->devices = t->dirty;
    f->devices_len = t->dirty_len;
    f->devices_next = 0;
    t->dirty = NULL;
    t->dirty_len = 0;
    t->dirty_cap = 0;
    f->state = TS_FLUSH_CATALOG;
    return ST_OK;
}

static enum status step_catalog(struct ts *t, struct err *err)
{
    struct ts_flush *f = &t->flush;
    if (f->devices_next < f->devices_len) {
        size_t n = f->devices_len - f->devices_next;
        n = n < FLUSH_DEVICES ? n : FLUSH_DEVICES;
        enum status st = ts_catalog_write(t, f->devices + f->devices_next, n, err);
        f->devices_next += st == ST_OK ? n : 0;
        return st;
    }
    if (t->erases != NULL) {
        return ts_erase_step(t, err); // their record is in a segment that is about to go
    }
    enum status st = ts_catalog_write_end(t, err);
    if (st == ST_OK) {
        free(f->devices);
        f->devices = NULL;
        f->devices_len = 0;
        f->state = TS_FLUSH_DROP;
    }
    return st;
}

static enum status step_drop(struct ts *t, struct err *err)
{
    (void)err;
    ts_log_drop(t, t->flush.segment);
    t->flush.state = TS_FLUSH_IDLE;
    t->stats.flushes++;
    return ST_OK;
}

enum status ts_flush_step(struct ts *t, struct err *err)
{
    static enum status (*const steps[])(struct ts *, struct err *) = {
        [TS_FLUSH_CHUNKS] = step_chunks, [TS_FLUSH_CATALOG] = step_catalog, [TS_FLUSH_DROP] = step_drop};
    if (t->flush.state == TS_FLUSH_IDLE) {
        return ST_OK;
    }
    enum status st = steps[t->flush.state](t, err);
    t->flush.retry_us = st == ST_OK ? 0 : clock_mono_us() + FLUSH_RETRY_US;
    return st;
}

void ts_flush_forget(struct ts *t, const struct ts_device *d)
{
    struct ts_flush *f = &t->flush;
    for (size_t i = f->items_next; i < f->items_len; i++) {
        if (f->items[i].s != NULL && f->items[i].s->dev == d) {
            f->items[i].s = NULL;
            f->items[i].chunk = NULL;
        }
    }
}

void ts_flush_free(struct ts *t)
{
    free(t->flush.items);
    free(t->flush.devices);
}
