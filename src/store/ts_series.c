// What the telemetry store holds in memory: tenants, metrics, devices, series, and the heads of the series.
#include <stdlib.h>

#include "base/utf8.h"
#include "store/ts_priv.h"

#define DEVICE_FIRST_SERIES 4
#define LATE_FIRST          8
#define METRIC_KEY_MAX      (4 + TS_METRIC_MAX)
#define POOL_LINE           64
#define POOL_LINES          256

// --- Tenants and metrics --------------------------------------------------------------------------------------------

struct ts_tenant *ts_tenant_get(struct ts *t, uint32_t id)
{
    struct ts_tenant *tenant = map_get_u64(&t->tenants, id);
    if (tenant != NULL) {
        return tenant;
    }
    tenant = calloc(1, sizeof(*tenant));
    if (tenant == NULL) {
        return NULL;
    }
    tenant->id = id;
    if (!map_set_u64(&t->tenants, id, tenant)) {
        free(tenant);
        return NULL;
    }
    return tenant;
}

// The metric's key in the map: tenant and name.
static struct slice metric_key(uint32_t tenant, struct slice name, uint8_t mem[METRIC_KEY_MAX])
{
    struct buf b = buf_fixed(mem, METRIC_KEY_MAX);
    buf_u32(&b, tenant);
    buf_slice(&b, name);
    return buf_view(&b);
}

static struct slice metric_name(const struct ts_metric *m)
{
    return slice_make(m->name, m->len);
}

// The tenant's number of distinct names: those of the catalog, and those in memory that are not in it yet.
static enum status tenant_count_metrics(struct ts *t, struct ts_tenant *tenant)
{
    if (tenant->metrics_known) {
        return ST_OK;
    }
    uint32_t n = 0;
    enum status st = ts_catalog_metric_count(t, tenant->id, &n);
    size_t pos = 0;
    for (struct ts_metric *m = map_next(&t->metrics, &pos, NULL, NULL); st == ST_OK && m != NULL;
         m = map_next(&t->metrics, &pos, NULL, NULL)) {
        if (m->tenant != tenant) {
            continue;
        }
        st = m->id == 0 ? ts_catalog_metric(t, m, false) : ST_OK;
        n += m->id == 0;
    }
    if (st == ST_OK) {
        tenant->metrics = n;
        tenant->metrics_known = true;
    }
    return st;
}

// A new name must be allowed; one from the log or the catalog (`known`) has been.
static enum status metric_allow(struct ts *t, struct ts_metric *m)
{
    enum status st = ts_catalog_metric(t, m, false);
    if (st != ST_OK || m->id != 0) {
        return st;
    }
    st = tenant_count_metrics(t, m->tenant);
    if (st != ST_OK) {
        return st;
    }
    if (m->tenant->metrics >= t->conf.metrics_per_tenant) {
        return ST_LIMIT;
    }
    m->tenant->metrics++;
    return ST_OK;
}

static void metric_unallow(struct ts_metric *m)
{
    if (m->id == 0 && m->tenant->metrics_known && m->tenant->metrics > 0) {
        m->tenant->metrics--;
    }
}

static enum status metric_get(struct ts *t, struct ts_tenant *tenant, struct slice name, bool known,
                              struct ts_metric **ret)
{
    uint8_t mem[METRIC_KEY_MAX];
    struct slice key = metric_key(tenant->id, name, mem);
    struct ts_metric *m = map_get(&t->metrics, key);
    if (m != NULL) {
        *ret = m;
        return ST_OK;
    }
    m = calloc(1, sizeof(*m) + name.len);
    if (m == NULL) {
        return ST_NOMEM;
    }
    m->tenant = tenant;
    m->len = (uint16_t)name.len;
    struct buf copy = buf_fixed(m->name, name.len);
    buf_slice(&copy, name);
    enum status st = ST_OK;
    if (!known) {
        st = metric_allow(t, m);
    } else {
        tenant->metrics_known = false; // counted anew when it matters
    }
    if (st == ST_OK && !map_set(&t->metrics, key, m)) {
        metric_unallow(m);
        st = ST_NOMEM;
    }
    if (st != ST_OK) {
        free(m);
        return st;
    }
    *ret = m;
    return ST_OK;
}

// A name nobody uses and the catalog does not know is forgotten.
static void metric_unref(struct ts *t, struct ts_metric *m)
{
    if (--m->refs > 0 || m->id != 0) {
        return;
    }
    uint8_t mem[METRIC_KEY_MAX];
    (void)map_del(&t->metrics, metric_key(m->tenant->id, metric_name(m), mem));
    metric_unallow(m);
    free(m);
}

// --- Series by id ---------------------------------------------------------------------------------------------------

struct ts_series *ts_table_get(const struct ts_table *tab, uint32_t id)
{
    size_t block = id / TS_BLOCK;
    return block < tab->len && tab->blocks[block] != NULL ? tab->blocks[block][id % TS_BLOCK] : NULL;
}

struct ts_series *ts_table_next(const struct ts_table *tab, uint32_t id)
{
    for (size_t block = id / TS_BLOCK; block < tab->len; block++) {
        size_t i = block == id / TS_BLOCK ? id % TS_BLOCK : 0;
        for (; tab->blocks[block] != NULL && i < TS_BLOCK; i++) {
            if (tab->blocks[block][i] != NULL) {
                return tab->blocks[block][i];
            }
        }
    }
    return NULL;
}

static bool table_set(struct ts_table *tab, uint32_t id, struct ts_series *s)
{
    size_t block = id / TS_BLOCK;
    if (block >= tab->len) {
        size_t len = block + 1 + block / 2;
        struct ts_series ***blocks = reallocarray(tab->blocks, len, sizeof(struct ts_series **));
        if (blocks == NULL) {
            return false;
        }
        for (size_t i = tab->len; i < len; i++) {
            blocks[i] = NULL;
        }
        tab->blocks = blocks;
        tab->len = len;
    }
    if (tab->blocks[block] == NULL) {
        tab->blocks[block] = calloc(TS_BLOCK, sizeof(struct ts_series *));
        if (tab->blocks[block] == NULL) {
            return false;
        }
    }
    tab->blocks[block][id % TS_BLOCK] = s;
    return true;
}

static struct ts_series *pool_take(struct ts_pool *pool)
{
    if (pool->spare == NULL) {
        uint8_t *slab = aligned_alloc(POOL_LINE, (size_t)POOL_LINE * POOL_LINES);
        if (slab == NULL) {
            return NULL;
        }
        *(void **)slab = pool->slabs;
        pool->slabs = slab;
        for (size_t i = 1; i < POOL_LINES; i++) {
            void **line = (void **)(slab + i * POOL_LINE);
            *line = pool->spare;
            pool->spare = line;
        }
    }
    void **line = pool->spare;
    pool->spare = *line;
    struct ts_series *s = (struct ts_series *)line;
    *s = (struct ts_series){.id = 0};
    return s;
}

static void pool_give(struct ts_pool *pool, struct ts_series *s)
{
    if (s != NULL) {
        *(void **)s = pool->spare;
        pool->spare = s;
    }
}

static void pool_release(struct ts_pool *pool)
{
    while (pool->slabs != NULL) {
        void *next = *(void **)pool->slabs;
        free(pool->slabs);
        pool->slabs = next;
    }
    pool->spare = NULL;
}

// --- Devices --------------------------------------------------------------------------------------------------------

struct ts_device *ts_device_get(struct ts *t, uint32_t tenant, uint64_t device)
{
    struct ts_device *d = map_get_u64(&t->devices, device);
    if (d != NULL) {
        return d;
    }
    struct ts_tenant *of = ts_tenant_get(t, tenant);
    d = calloc(1, sizeof(*d));
    if (d == NULL || of == NULL || !map_set_u64(&t->devices, device, d)) {
        free(d);
        return NULL;
    }
    d->device = device;
    d->tenant = of;
    return d;
}

bool ts_counters_add(struct ts_device *d, unsigned counter, uint64_t n)
{
    if (counter >= d->counters_len) {
        uint64_t *grown = reallocarray(d->counters, counter + 1, sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        for (unsigned i = d->counters_len; i <= counter; i++) {
            grown[i] = 0;
        }
        d->counters = grown;
        d->counters_len = (uint8_t)(counter + 1);
    }
    d->counters[counter] += n;
    return true;
}

struct ts_series *ts_series_find(struct ts_device *d, struct slice metric, uint64_t hash)
{
    uint32_t tag = (uint32_t)hash;
    if (d->hint < d->len && d->tags[d->hint] == tag && slice_eq(metric, metric_name(d->series[d->hint]->metric))) {
        return d->series[d->hint++];
    }
    for (uint32_t i = 0; i < d->len; i++) {
        if (d->tags[i] == tag && slice_eq(metric, metric_name(d->series[i]->metric))) {
            d->hint = i + 1;
            return d->series[i];
        }
    }
    return NULL;
}

static bool device_room(struct ts_device *d)
{
    if (d->len < d->cap) {
        return true;
    }
    uint32_t cap = d->cap > 0 ? d->cap * 2 : DEVICE_FIRST_SERIES;
    struct ts_series **series = reallocarray(d->series, cap, sizeof(struct ts_series *));
    if (series == NULL) {
        return false;
    }
    d->series = series;
    uint32_t *tags = reallocarray(d->tags, cap, sizeof(*tags));
    if (tags == NULL) {
        return false;
    }
    d->tags = tags;
    d->cap = cap;
    return true;
}

static bool metric_name_ok(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.p[i] < 0x20 || name.p[i] == 0x7f) {
            return false;
        }
    }
    return name.len > 0 && name.len <= TS_METRIC_MAX && utf8_valid(name);
}

static enum status series_link(struct ts *t, struct ts_device *d, struct ts_metric *m, uint64_t hash, uint32_t id,
                               struct ts_series **ret)
{
    struct ts_series *s = pool_take(&t->pool);
    if (s == NULL || !device_room(d) || !table_set(&t->table, id, s)) {
        pool_give(&t->pool, s);
        return ST_NOMEM;
    }
    s->dev = d;
    s->metric = m;
    s->id = id;
    m->refs++;
    d->tags[d->len] = (uint32_t)hash;
    d->series[d->len] = s;
    d->len++;
    t->series_len++;
    if (id >= t->series_next) {
        t->series_next = id + 1;
    }
    *ret = s;
    return ST_OK;
}

enum status ts_series_make(struct ts *t, struct ts_device *d, struct slice metric, uint64_t hash, uint32_t id,
                           struct ts_series **ret)
{
    bool known = id != 0;
    if (!metric_name_ok(metric)) {
        return ST_INVALID;
    }
    if (!known && (d->len >= t->conf.series_per_device || t->series_next == UINT32_MAX)) {
        return ST_LIMIT;
    }
    struct ts_metric *m = NULL;
    enum status st = metric_get(t, d->tenant, metric, known, &m);
    if (st != ST_OK) {
        return st;
    }
    m->refs++; // held until the series is
    st = series_link(t, d, m, hash, known ? id : t->series_next, ret);
    metric_unref(t, m);
    if (st == ST_OK) {
        (*ret)->flags |= TS_S_NEW;
    }
    return st;
}

// --- Heads ----------------------------------------------------------------------------------------------------------

static void text_free(struct ts_series *s)
{
    if ((s->flags & TS_S_LAST) != 0 && s->last_type == TS_STRING) {
        free(s->last.text);
    }
}

bool ts_series_set_last(struct ts_series *s, int64_t time, const struct ts_value *v)
{
    struct ts_text *text = NULL;
    if (v->type == TS_STRING) {
        text = malloc(sizeof(*text) + v->s.len);
        if (text == NULL) {
            return false;
        }
        text->len = (uint32_t)v->s.len;
        struct buf copy = buf_fixed(text->p, v->s.len);
        buf_slice(&copy, v->s);
    }
    text_free(s);
    s->last_type = (uint8_t)v->type;
    s->last_t = time;
    s->flags |= TS_S_LAST;
    switch (v->type) {
    case TS_DOUBLE: {
        union {
            double f;
            uint64_t u;
        } bits = {.f = v->f};
        s->last.u = bits.u;
        break;
    }
    case TS_INT:
        s->last.u = (uint64_t)v->i;
        break;
    case TS_BOOL:
        s->last.u = v->b ? 1 : 0;
        break;
    case TS_STRING:
        s->last.text = text;
        break;
    }
    return true;
}

struct ts_value ts_series_last(const struct ts_series *s)
{
    struct ts_value v = {.type = (enum ts_type)s->last_type};
    union {
        uint64_t u;
        double f;
    } bits = {.u = s->last.u};
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
        v.s = slice_make(s->last.text->p, s->last.text->len);
        break;
    }
    return v;
}

static struct ts_spill *spill_get(struct ts *t, struct ts_series *s)
{
    if (s->spill == NULL) {
        s->spill = calloc(1, sizeof(*s->spill));
        if (s->spill != NULL) {
            t->stats.head_bytes += sizeof(*s->spill);
        }
    }
    return s->spill;
}

// The open chunk is closed; the next one will be about as long.
static struct ts_chunk *series_close_chunk(struct ts_series *s)
{
    struct ts_chunk *c = s->open;
    size_t usual = (c->len + TS_USUAL - 1) / TS_USUAL;
    s->usual = usual < UINT8_MAX ? (uint8_t)usual : UINT8_MAX;
    s->open = NULL;
    return c;
}

static bool series_seal(struct ts *t, struct ts_series *s)
{
    struct ts_spill *spill = spill_get(t, s);
    if (spill == NULL) {
        return false;
    }
    ts_list_push(&spill->sealed, series_close_chunk(s));
    return true;
}

static enum ts_append series_append(struct ts *t, struct ts_chunk **chunk, int64_t time, const struct ts_value *v,
                                    size_t expected)
{
    size_t before = *chunk != NULL ? ts_chunk_size(*chunk) : 0;
    enum ts_append a = ts_chunk_append(chunk, time, v, expected);
    t->stats.head_bytes += (*chunk != NULL ? ts_chunk_size(*chunk) : 0) - before;
    return a;
}

static enum status series_in_order(struct ts *t, struct ts_series *s, int64_t time, const struct ts_value *v)
{
    if (s->open != NULL && ts_day_of(time) != ts_day_of(s->open->t0) && !series_seal(t, s)) {
        return ST_NOMEM;
    }
    enum ts_append a = series_append(t, &s->open, time, v, (size_t)s->usual * TS_USUAL);
    if (a == TS_APPEND_SEAL) {
        if (!series_seal(t, s)) {
            return ST_NOMEM;
        }
        a = series_append(t, &s->open, time, v, (size_t)s->usual * TS_USUAL);
    }
    return a == TS_APPENDED ? ST_OK : ST_NOMEM;
}

static void late_free(struct ts *t, struct ts_spill *spill)
{
    for (uint32_t i = 0; i < spill->late_len; i++) {
        if (spill->late[i].v.type == TS_STRING) {
            t->stats.head_bytes -= spill->late[i].v.s.len;
            free((void *)(uintptr_t)spill->late[i].v.s.p);
        }
    }
    t->stats.head_bytes -= spill->late_cap * sizeof(*spill->late);
    free(spill->late);
    spill->late = NULL;
    spill->late_len = 0;
    spill->late_cap = 0;
}

static void list_free(struct ts *t, struct ts_list *l)
{
    for (struct ts_chunk *c = l->first; c != NULL;) {
        struct ts_chunk *next = c->next;
        t->stats.head_bytes -= ts_chunk_size(c);
        free(c);
        c = next;
    }
    *l = (struct ts_list){NULL, NULL};
}

// Chunks of points in time order, cut at the days.
static enum status chunks_of(struct ts *t, const struct ts_points *ps, struct ts_list *ret)
{
    struct ts_chunk *c = NULL;
    for (size_t i = 0; i < ps->len; i++) {
        const struct ts_point *p = &ps->p[i];
        if (c != NULL && ts_day_of(p->t) != ts_day_of(c->t0)) {
            ts_list_push(ret, c);
            c = NULL;
        }
        enum ts_append a = series_append(t, &c, p->t, &p->v, 0);
        if (a == TS_APPEND_SEAL) {
            ts_list_push(ret, c);
            c = NULL;
            a = series_append(t, &c, p->t, &p->v, 0);
        }
        if (a != TS_APPENDED) {
            if (c != NULL) {
                ts_list_push(ret, c);
            }
            list_free(t, ret);
            return ST_NOMEM;
        }
    }
    if (c != NULL) {
        ts_list_push(ret, c);
    }
    return ST_OK;
}

// Late points become chunks of their own, in time order; of equal times the last one that came.
static enum status late_pack(struct ts *t, struct ts_spill *spill)
{
    struct ts_points ps = ts_points_make(TS_LATE_MAX);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < spill->late_len; i++) {
        st = ts_points_add(&ps, spill->late[i].t, 0, spill->late[i].v);
    }
    struct ts_list packed = {NULL, NULL};
    if (st == ST_OK) {
        ts_points_settle(&ps);
        st = chunks_of(t, &ps, &packed);
    }
    ts_points_release(&ps);
    if (st != ST_OK) {
        return st;
    }
    for (struct ts_chunk *c = packed.first; c != NULL;) {
        struct ts_chunk *next = c->next;
        ts_list_push(&spill->disorder, c);
        c = next;
    }
    late_free(t, spill);
    return ST_OK;
}

static enum status late_room(struct ts *t, struct ts_spill *spill)
{
    if (spill->late_len >= TS_LATE_MAX) {
        enum status st = late_pack(t, spill);
        if (st != ST_OK) {
            return st;
        }
    }
    if (spill->late_len < spill->late_cap) {
        return ST_OK;
    }
    uint32_t cap = spill->late_cap > 0 ? spill->late_cap * 2 : LATE_FIRST;
    struct ts_late *late = reallocarray(spill->late, cap, sizeof(*late));
    if (late == NULL) {
        return ST_NOMEM;
    }
    t->stats.head_bytes += (cap - spill->late_cap) * sizeof(*late);
    spill->late = late;
    spill->late_cap = cap;
    return ST_OK;
}

static enum status series_late(struct ts *t, struct ts_series *s, int64_t time, const struct ts_value *v)
{
    struct ts_spill *spill = spill_get(t, s);
    enum status st = spill != NULL ? late_room(t, spill) : ST_NOMEM;
    if (st != ST_OK) {
        return st;
    }
    struct ts_late late = {time, *v};
    if (v->type == TS_STRING) {
        struct buf copy = buf_heap(TS_STRING_MAX + 1);
        if (!buf_slice(&copy, v->s) || !buf_u8(&copy, 0)) {
            buf_release(&copy);
            return ST_NOMEM;
        }
        late.v.s.p = copy.p; // the late point owns it now
        t->stats.head_bytes += v->s.len;
    }
    spill->late[spill->late_len++] = late;
    return ST_OK;
}

enum status ts_series_apply(struct ts *t, struct ts_series *s, int64_t time, const struct ts_value *v, bool covered)
{
    if ((s->flags & TS_S_DIRTY) == 0) { // asked here first: the device is another far place in memory
        if (!ts_dirty_push(t, s->dev)) {
            return ST_NOMEM;
        }
        s->flags |= TS_S_DIRTY;
    }
    bool in_order = s->open == NULL || time > s->open->t1;
    enum status st = ST_OK;
    if (!covered) {
        st = in_order ? series_in_order(t, s, time, v) : series_late(t, s, time, v);
    }
    if (st != ST_OK) {
        return st;
    }
    if (v->type == TS_DOUBLE && s->last_type == TS_DOUBLE && (s->flags & TS_S_LAST) != 0) { // the way of most points
        union {
            double f;
            uint64_t u;
        } bits = {.f = v->f};
        s->last.u = time >= s->last_t ? bits.u : s->last.u;
        s->last_t = time >= s->last_t ? time : s->last_t;
    } else if ((s->flags & TS_S_LAST) == 0 || time >= s->last_t) {
        // Without memory for a text the older value stays shown until the next one; the point itself is kept.
        (void)ts_series_set_last(s, time, v);
    }
    return ST_OK;
}

static void list_move(struct ts_list *to, struct ts_list *from)
{
    for (struct ts_chunk *c = from->first; c != NULL;) {
        struct ts_chunk *next = c->next;
        ts_list_push(to, c);
        c = next;
    }
    *from = (struct ts_list){NULL, NULL};
}

enum status ts_series_detach(struct ts *t, struct ts_series *s, struct ts_list *ret)
{
    *ret = (struct ts_list){NULL, NULL};
    if (s->open == NULL && s->spill == NULL) {
        return ST_OK;
    }
    struct ts_spill *spill = spill_get(t, s);
    if (spill == NULL) {
        return ST_NOMEM;
    }
    if (spill->late_len > 0) {
        enum status st = late_pack(t, spill);
        if (st != ST_OK) {
            return st;
        }
    }
    list_move(&spill->flushing, &spill->sealed);
    if (s->open != NULL) {
        ts_list_push(&spill->flushing, series_close_chunk(s));
    }
    list_move(&spill->flushing, &spill->disorder);
    *ret = spill->flushing;
    return ST_OK;
}

static void spill_free_empty(struct ts *t, struct ts_series *s)
{
    struct ts_spill *spill = s->spill;
    if (spill->flushing.first == NULL && spill->sealed.first == NULL && spill->disorder.first == NULL &&
        spill->late_len == 0) {
        late_free(t, spill);
        t->stats.head_bytes -= sizeof(*spill);
        free(spill);
        s->spill = NULL;
    }
}

void ts_series_detached_free(struct ts *t, struct ts_series *s, struct ts_chunk *chunk)
{
    struct ts_list *l = &s->spill->flushing;
    struct ts_chunk *before = NULL;
    for (struct ts_chunk *c = l->first; c != chunk && c != NULL; c = c->next) {
        before = c; // with days in turn, chunks go from the front; others are rare
    }
    if (before == NULL) {
        l->first = chunk->next;
    } else {
        before->next = chunk->next;
    }
    l->last = l->last == chunk ? before : l->last;
    t->stats.head_bytes -= ts_chunk_size(chunk);
    free(chunk);
    spill_free_empty(t, s);
}

static void series_free(struct ts *t, struct ts_series *s)
{
    text_free(s);
    if (s->open != NULL) {
        t->stats.head_bytes -= ts_chunk_size(s->open);
        free(s->open);
    }
    if (s->spill != NULL) {
        list_free(t, &s->spill->flushing);
        list_free(t, &s->spill->sealed);
        list_free(t, &s->spill->disorder);
        late_free(t, s->spill);
        spill_free_empty(t, s);
    }
    (void)table_set(&t->table, s->id, NULL);
    t->series_len--;
    metric_unref(t, s->metric);
    pool_give(&t->pool, s);
}

void ts_series_unmake(struct ts *t, struct ts_series *s)
{
    struct ts_device *d = s->dev;
    d->len--;
    if (s->id == t->series_next - 1) {
        t->series_next--;
    }
    series_free(t, s);
}

void ts_device_forget(struct ts *t, struct ts_device *d)
{
    for (uint32_t i = 0; i < d->len; i++) {
        series_free(t, d->series[i]);
    }
    free(d->series);
    free(d->tags);
    free(d->counters);
    d->series = NULL;
    d->tags = NULL;
    d->counters = NULL;
    d->len = 0;
    d->cap = 0;
    d->hint = 0;
    d->counters_len = 0;
}

void ts_memory_free(struct ts *t)
{
    size_t pos = 0;
    for (struct ts_device *d = map_next(&t->devices, &pos, NULL, NULL); d != NULL;
         d = map_next(&t->devices, &pos, NULL, NULL)) {
        ts_device_forget(t, d);
        free(d);
    }
    map_release(&t->devices);
    pos = 0;
    for (void *m = map_next(&t->metrics, &pos, NULL, NULL); m != NULL; m = map_next(&t->metrics, &pos, NULL, NULL)) {
        free(m);
    }
    map_release(&t->metrics);
    pos = 0;
    for (void *p = map_next(&t->tenants, &pos, NULL, NULL); p != NULL; p = map_next(&t->tenants, &pos, NULL, NULL)) {
        free(p);
    }
    map_release(&t->tenants);
    for (size_t i = 0; i < t->table.len; i++) {
        free(t->table.blocks[i]);
    }
    free(t->table.blocks);
    t->table = (struct ts_table){NULL, 0};
    pool_release(&t->pool);
}
