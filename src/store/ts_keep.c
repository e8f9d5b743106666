// How long data stays: retention by whole days, and the erasure of devices.
#include <stdlib.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "store/ts_priv.h"

#define KEEP_EVERY_US 60000000 // also the time after a start in which the policies are given
#define KEEP_VISIT    256      // chunk groups looked at in one step

// --- Policies -------------------------------------------------------------------------------------------------------

static struct slice policy_metric(const struct ts_policy *p)
{
    return slice_make(p->metric, p->len);
}

static struct ts_policy *policy_find(const struct ts *t, uint32_t tenant, struct slice metric)
{
    for (size_t i = 0; i < t->policies_len; i++) {
        if (t->policies[i].tenant == tenant && slice_eq(policy_metric(&t->policies[i]), metric)) {
            return &t->policies[i];
        }
    }
    return NULL;
}

int64_t ts_keep_for(const struct ts *t, uint32_t tenant, struct slice metric)
{
    const struct ts_policy *p = policy_find(t, tenant, metric);
    if (p == NULL) {
        p = policy_find(t, tenant, SLICE(""));
    }
    return p != NULL ? p->keep_us : t->conf.retention_us;
}

enum status ts_set_retention(struct ts *t, uint32_t tenant, struct slice metric_or_all, int64_t keep_us)
{
    if (metric_or_all.len > TS_METRIC_MAX) {
        return ST_INVALID;
    }
    struct ts_policy *p = policy_find(t, tenant, metric_or_all);
    if (p == NULL && keep_us < 0) {
        return ST_OK;
    }
    if (keep_us < 0) {
        *p = t->policies[--t->policies_len];
        return ST_OK;
    }
    if (p == NULL) {
        if (t->policies_len == t->policies_cap) {
            size_t cap = t->policies_cap > 0 ? t->policies_cap * 2 : 8;
            struct ts_policy *grown = reallocarray(t->policies, cap, sizeof(*grown));
            if (grown == NULL) {
                return ST_NOMEM;
            }
            t->policies = grown;
            t->policies_cap = cap;
        }
        p = &t->policies[t->policies_len++];
        *p = (struct ts_policy){.tenant = tenant, .len = (uint16_t)metric_or_all.len};
        struct buf name = buf_fixed(p->metric, sizeof(p->metric));
        buf_slice(&name, metric_or_all);
    }
    p->keep_us = keep_us;
    return ST_OK;
}

// The longest retention of all: a partition older than that holds nothing anyone wants. 0: for ever.
static int64_t keep_longest(const struct ts *t)
{
    int64_t longest = t->conf.retention_us;
    for (size_t i = 0; longest != 0 && i < t->policies_len; i++) {
        int64_t k = t->policies[i].keep_us;
        longest = k == 0 ? 0 : k > longest ? k : longest;
    }
    return longest;
}

// The longest retention that is over for data of this age; 0: none.
static int64_t keep_over(const struct ts *t, int64_t age_us)
{
    int64_t over = t->conf.retention_us <= age_us ? t->conf.retention_us : 0;
    for (size_t i = 0; i < t->policies_len; i++) {
        int64_t k = t->policies[i].keep_us;
        over = k <= age_us && k > over ? k : over;
    }
    return over;
}

// Independent of the order the policies were given in.
static uint32_t policies_sum(const struct ts *t)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < t->policies_len; i++) {
        uint8_t mem[16];
        struct buf b = buf_fixed(mem, sizeof(mem));
        buf_u64(&b, (uint64_t)t->policies[i].keep_us);
        buf_u32(&b, t->policies[i].tenant);
        sum += crc32c(crc32c(0, buf_view(&b)), policy_metric(&t->policies[i]));
    }
    return sum;
}

// --- Purging a partition --------------------------------------------------------------------------------------------

// Whether the series' data of this age are to go. Rows of a series nobody knows belong to an erased device.
static enum status series_over(struct ts *t, uint32_t id, int64_t age_us, bool *ret)
{
    struct ts_series *s = ts_table_get(&t->table, id);
    enum status st = s != NULL ? ST_OK : ts_catalog_series(t, id, &s);
    if (st == ST_NOT_FOUND) {
        *ret = true;
        return ST_OK;
    }
    if (st == ST_OK) {
        int64_t keep = ts_keep_for(t, s->dev->tenant->id, slice_make(s->metric->name, s->metric->len));
        *ret = keep > 0 && keep <= age_us;
    }
    return st;
}

static enum status purge_some(struct ts *t, struct ts_part *p, int64_t age_us, bool *ret_done, struct err *err)
{
    enum status st = ST_OK;
    *ret_done = false;
    for (unsigned i = 0; st == ST_OK && i < KEEP_VISIT; i++) {
        uint64_t row = 0;
        bool over = false;
        st = ts_part_scan(p, t->keep.cursor, &row, err);
        if (st == ST_OK && row == 0) {
            *ret_done = true;
            return ST_OK;
        }
        st = st == ST_OK ? series_over(t, ts_row_series(row), age_us, &over) : st;
        uint64_t end = row | ((UINT64_C(1) << TS_ROW_PART_BITS) - 1);
        if (st == ST_OK && over) {
            st = ts_part_delete_range(p, row, end, err);
        }
        if (st == ST_OK) {
            t->keep.cursor = end + 1;
        }
    }
    return st;
}

static enum status purge_step(struct ts *t, struct ts_day *d, int64_t age_us, bool *ret_done, struct err *err)
{
    struct ts_part *p = NULL;
    enum status st = ts_part_open(t, d->day, false, &p, err);
    st = st == ST_OK ? db_begin(p->db, err) : st;
    if (st != ST_OK) {
        return st;
    }
    uint64_t cursor = t->keep.cursor;
    int64_t over = keep_over(t, age_us);
    uint32_t sum = policies_sum(t);
    st = purge_some(t, p, age_us, ret_done, err);
    if (st == ST_OK && *ret_done) {
        st = ts_part_note_set(p, "purged_us", over, err);
        st = st == ST_OK ? ts_part_note_set(p, "policies", sum, err) : st;
    }
    st = st == ST_OK ? db_commit(p->db, err) : st;
    if (st != ST_OK) {
        db_rollback(p->db);
        t->keep.cursor = cursor;
        return st;
    }
    if (*ret_done) {
        d->purged_us = over;
        d->policies = sum;
    }
    (void)db_checkpoint(p->db, 1);
    return ST_OK;
}

static enum status day_know(struct ts *t, struct ts_day *d, struct err *err)
{
    if (d->known) {
        return ST_OK;
    }
    struct ts_part *p = NULL;
    int64_t sum = 0;
    enum status st = ts_part_open(t, d->day, false, &p, err);
    st = st == ST_OK ? ts_part_note(p, "purged_us", &d->purged_us, err) : st;
    st = st == ST_OK ? ts_part_note(p, "policies", &sum, err) : st;
    d->policies = (uint32_t)sum;
    d->known = st == ST_OK;
    return st;
}

// One partition, or a part of it. *ret_next: go on with the one after it.
static enum status keep_day(struct ts *t, struct ts_day *d, int64_t age_us, bool *ret_next, struct err *err)
{
    int64_t longest = keep_longest(t);
    int32_t day = d->day;
    *ret_next = true;
    if (longest > 0 && age_us >= longest) {
        enum status st = ts_part_drop(t, day);
        if (st == ST_OK) {
            log_info("store", "telemetry partition dropped, its retention is over", LOGI("day", day));
        }
        return st;
    }
    int64_t over = keep_over(t, age_us);
    if (over == 0) {
        return ST_OK;
    }
    enum status st = day_know(t, d, err);
    if (st != ST_OK || (d->purged_us >= over && d->policies == policies_sum(t))) {
        return st;
    }
    if (!t->keep.purging) {
        t->keep.purging = true;
        t->keep.cursor = 0;
    }
    st = purge_step(t, d, age_us, ret_next, err);
    t->keep.purging = st == ST_OK && !*ret_next;
    return st;
}

bool ts_keep_step(struct ts *t, int64_t now_us)
{
    int64_t mono = clock_mono_us();
    if (t->keep.next_us == 0) {
        t->keep.next_us = mono + KEEP_EVERY_US;
    }
    if (mono < t->keep.next_us) {
        return false;
    }
    struct ts_day *d = ts_part_after(t, t->keep.day);
    int64_t age_us = d != NULL ? now_us - ((int64_t)d->day + 1) * TS_DAY_US : -1;
    if (d == NULL || age_us < 0) {
        t->keep.day = -1;
        t->keep.next_us = mono + KEEP_EVERY_US;
        return false;
    }
    int32_t day = d->day;
    bool next = true;
    struct err err = {.code = ST_OK};
    enum status st = keep_day(t, d, age_us, &next, &err);
    if (st != ST_OK) {
        log_warn("store", "retention of telemetry could not be applied, will be tried again", LOGI("day", day),
                 LOGS("error", err.text));
    }
    if (st != ST_OK || next) {
        t->keep.day = day;
        t->keep.purging = false;
    }
    return true;
}

// --- Erasing a device -----------------------------------------------------------------------------------------------

enum status ts_erase_queue(struct ts *t, uint64_t device, const uint32_t *ids, uint32_t n)
{
    struct ts_erase *e = calloc(1, sizeof(*e) + n * sizeof(*ids));
    if (e == NULL) {
        return ST_NOMEM;
    }
    e->device = device;
    e->day = -1;
    e->len = n;
    for (uint32_t i = 0; i < n; i++) {
        e->ids[i] = ids[i];
    }
    struct ts_erase **end = &t->erases;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = e;
    return ST_OK;
}

enum status ts_erase_step(struct ts *t, struct err *err)
{
    struct ts_erase *e = t->erases;
    if (!e->catalog_done) {
        enum status st = ts_catalog_erase(t, e, err);
        e->catalog_done = st == ST_OK;
        return st;
    }
    const struct ts_day *d = ts_part_after(t, e->day);
    if (d == NULL) {
        t->erases = e->next;
        free(e);
        return ST_OK;
    }
    int32_t day = d->day;
    enum status st = ts_part_delete_series(t, day, e->ids, e->len, err);
    e->day = st == ST_OK ? day : e->day;
    return st;
}

enum status ts_device_erase(struct ts *t, uint64_t device, struct err *err)
{
    if (t->staged_len > 0 || t->tally_len > 0) {
        return err_set(err, ST_BUSY, "a device is erased between commits, not within one");
    }
    uint32_t tenant = 0;
    struct ts_device *d = map_get_u64(&t->devices, device);
    if (d == NULL) {
        enum status known = ts_catalog_knows(t, device, &tenant, err);
        if (known != ST_OK) {
            return known == ST_NOT_FOUND ? ST_OK : known;
        }
    }
    d = d != NULL ? d : ts_device_get(t, tenant, device);
    if (d == NULL) {
        return err_set(err, ST_NOMEM, "no memory to erase a device");
    }
    if (d->erased) {
        return ST_OK;
    }
    enum status st = ts_catalog_load(t, d);
    uint32_t *ids = st == ST_OK ? calloc(d->len > 0 ? d->len : 1, sizeof(*ids)) : NULL;
    if (ids == NULL) {
        return err_set(err, st == ST_OK ? ST_NOMEM : st, "the device's series cannot be listed");
    }
    for (uint32_t i = 0; i < d->len; i++) {
        ids[i] = d->series[i]->id;
    }
    st = ts_log_erase(t, d, err);
    if (st == ST_OK) {
        st = ts_erase_queue(t, device, ids, d->len);
    }
    if (st == ST_OK) {
        ts_flush_forget(t, d);
        ts_device_forget(t, d);
        d->erased = true;
    }
    free(ids);
    return st;
}
