#include "domain/telemetry/ledger.h"

#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/map.h"
#include "core/metrics.h"
#include "domain/presence/presence.h"
#define SQL_LEDGER_DEFINE
#include "domain/telemetry/sql/ledger.sql.h"

#define LATE_EVERY_MS    1000
#define LATE_DEVICES_MAX 100000 // devices with refusals in memory; a server holds fewer connections
#define LATE_PER_STEP    128

// Numbers of the counters in the telemetry store. They are on disk: never renumber.
enum { COUNTER_STORED = 0, COUNTER_DUPLICATE = 1, COUNTER_REFUSED_FIRST = 2 };
static const uint8_t refused_counter[ST__COUNT] = {
    [ST_INVALID] = 2,    [ST_MALFORMED] = 3,    [ST_PROTOCOL] = 4, [ST_UNAUTHENTICATED] = 5, [ST_FORBIDDEN] = 6,
    [ST_NOT_FOUND] = 7,  [ST_METHOD] = 8,       [ST_EXISTS] = 9,   [ST_CONFLICT] = 10,       [ST_VERSION] = 11,
    [ST_TOO_LARGE] = 12, [ST_UNSUPPORTED] = 13, [ST_LIMIT] = 14,   [ST_INTERNAL] = 15,       [ST_BUSY] = 16,
    [ST_NOMEM] = 17,     [ST_SHUTDOWN] = 18,    [ST_TIMEOUT] = 19, [ST_FULL] = 20,           [ST_IO] = 21,
    [ST_CORRUPT] = 22,
};
_Static_assert(ST__COUNT == 22, "a new status needs a counter number of its own");
_Static_assert(TS_COUNTERS > 22, "the telemetry store has too few counters for the ledger");

static struct metric uncounted = {
    .name = "muster_ledger_uncounted_total",
    .labels = "",
    .help = "Refused messages that could not even be counted for lack of memory; anything but 0 is a fault.",
    .kind = METRIC_COUNTER};

// Refusals of one device that are not in the store yet.
struct late {
    uint64_t device;
    uint32_t tenant;
    uint64_t n[ST__COUNT];
};

struct ledger {
    struct map late; // by device row
};

static struct ledger *ledger(const struct core *c)
{
    struct ledger *l = core_slot(c, CORE_SLOT_TELEMETRY);
    assert(l != NULL);
    return l;
}

static bool is_device(const struct link *from)
{
    return from->who.kind == WHO_DEVICE;
}

// --- counting ----------------------------------------------------------------------------------------------------

enum status ledger_stage(struct tx *tx, struct ts_device *series, enum status fate, bool duplicate, uint64_t n)
{
    unsigned counter = fate == ST_OK ? COUNTER_STORED : refused_counter[fate];
    enum status st = ts_count(tx->ts, series, counter, n);
    if (st == ST_OK && duplicate) {
        st = ts_count(tx->ts, series, COUNTER_DUPLICATE, n);
    }
    return st;
}

static struct late *late_get(struct ledger *l, uint64_t device, uint32_t tenant)
{
    struct late *late = map_get_u64(&l->late, device);
    if (late != NULL || l->late.len >= LATE_DEVICES_MAX) {
        return late;
    }
    late = calloc(1, sizeof(*late));
    if (late == NULL) {
        return NULL;
    }
    late->device = device;
    late->tenant = tenant;
    if (!map_set_u64(&l->late, device, late)) {
        free(late);
        return NULL;
    }
    return late;
}

void ledger_late(struct core *c, const struct link *from, enum status reason, uint64_t n)
{
    assert(is_device(from));
    struct late *late = late_get(ledger(c), from->who.row, from->who.tenant);
    if (late == NULL) {
        metric_add(&uncounted, (int64_t)n);
        return;
    }
    late->n[reason] += n;
}

void ledger_lost(struct link *from, uint64_t n)
{
    atomic_fetch_sub_explicit(&from->in_flight, (uint32_t)n, memory_order_relaxed);
    metric_add(&uncounted, (int64_t)n);
}

static void in_flight_again(struct core *c, void *arg)
{
    (void)c;
    struct link *from = arg;
    atomic_fetch_add_explicit(&from->in_flight, 1, memory_order_relaxed);
    link_unref(from);
}

static void release_link(struct core *c, void *arg)
{
    (void)c;
    link_unref(arg);
}

static enum status count_row(struct tx *tx, enum sql_ledger_id id, int64_t key, struct err *err)
{
    STMT(s, tx->db, &sql_ledger[id]);
    stmt_bind_i64(s, 1, key);
    return stmt_run(s, err);
}

enum status ledger_stored(struct tx *tx, struct link *from, struct err *err)
{
    assert(is_device(from));
    // Readers of the ledger run on this thread too and see the row at once, so the message leaves in_flight at once.
    atomic_fetch_sub_explicit(&from->in_flight, 1, memory_order_relaxed);
    if (!tx_after_commit(tx, release_link, in_flight_again, link_ref(from))) {
        in_flight_again(tx->core, from);
        return err_set(err, ST_NOMEM, "no memory to count the message");
    }
    enum status st = count_row(tx, SQL_LEDGER_STORED, (int64_t)from->who.row, err);
    return st == ST_OK ? count_row(tx, SQL_LEDGER_STORED_TENANT, from->who.tenant, err) : st;
}

// --- what had to wait for room in the store ----------------------------------------------------------------------

// A copy of what one step stages; the commit takes it off the figures in memory, a failure changes nothing.
struct moved {
    size_t len;
    struct late rows[LATE_PER_STEP];
};

static void late_subtract(struct ledger *l, const struct late *moved)
{
    struct late *late = map_get_u64(&l->late, moved->device);
    if (late == NULL) {
        return;
    }
    uint64_t left = 0;
    for (int i = 0; i < ST__COUNT; i++) {
        late->n[i] -= moved->n[i];
        left += late->n[i];
    }
    if (left == 0) {
        map_del_u64(&l->late, late->device);
        free(late);
    }
}

static void moved_commit(struct core *c, void *arg)
{
    struct moved *m = arg;
    for (size_t i = 0; i < m->len; i++) {
        late_subtract(ledger(c), &m->rows[i]);
    }
    free(m);
}

static void moved_undo(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

// Of a device that was deleted meanwhile nothing is kept.
static enum status stage_late(struct tx *tx, const struct late *late, struct err *err)
{
    struct device_ref d;
    enum status found = device_find_row(tx, late->device, &d, err);
    if (found != ST_OK) {
        return found == ST_NOT_FOUND ? ST_OK : found;
    }
    struct ts_device *series = ts_device(tx->ts, late->tenant, late->device);
    enum status st = series != NULL ? ST_OK : ST_NOMEM;
    for (int i = 0; i < ST__COUNT && st == ST_OK; i++) {
        if (late->n[i] > 0) {
            st = ts_count(tx->ts, series, refused_counter[i], late->n[i]);
        }
    }
    return st;
}

static enum status store_late(struct tx *tx, struct err *err)
{
    struct ledger *l = ledger(tx->core);
    if (l->late.len == 0) {
        return ST_OK;
    }
    struct moved *m = calloc(1, sizeof(*m));
    if (m == NULL || !tx_after_commit(tx, moved_commit, moved_undo, m)) {
        free(m);
        return err_set(err, ST_NOMEM, "no memory to store refused messages' counts");
    }
    size_t pos = 0;
    for (const struct late *late = map_next(&l->late, &pos, NULL, NULL); late != NULL && m->len < LATE_PER_STEP;
         late = map_next(&l->late, &pos, NULL, NULL)) {
        enum status st = stage_late(tx, late, err);
        if (st != ST_OK) {
            return err_set(err, st, "cannot store refused messages' counts");
        }
        m->rows[m->len++] = *late;
    }
    return ST_OK;
}

// --- reading -----------------------------------------------------------------------------------------------------

struct figures {
    uint64_t stored, duplicate, in_flight;
    uint64_t refused[ST__COUNT];
};

static void add_counters(struct figures *f, const uint64_t counters[TS_COUNTERS])
{
    f->stored += counters[COUNTER_STORED];
    f->duplicate += counters[COUNTER_DUPLICATE];
    for (int i = 0; i < ST__COUNT; i++) {
        if (refused_counter[i] >= COUNTER_REFUSED_FIRST) {
            f->refused[i] += counters[refused_counter[i]];
        }
    }
}

static void add_late(struct figures *f, const struct late *late)
{
    for (int i = 0; late != NULL && i < ST__COUNT; i++) {
        f->refused[i] += late->n[i];
    }
}

static enum status add_row(struct tx *tx, enum sql_ledger_id id, int64_t key, struct figures *f, struct err *err)
{
    STMT(s, tx->db, &sql_ledger[id]);
    stmt_bind_i64(s, 1, key);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row) {
        f->stored += (uint64_t)col_i64(s, 0);
    }
    return st;
}

static void write_figures(const struct figures *f, struct jw *out)
{
    uint64_t received = f->stored + f->in_flight;
    for (int i = 0; i < ST__COUNT; i++) {
        received += f->refused[i];
    }
    jw_object(out);
    jw_key(out, "received");
    jw_uint(out, received);
    jw_key(out, "stored");
    jw_uint(out, f->stored);
    jw_key(out, "duplicate");
    jw_uint(out, f->duplicate);
    jw_key(out, "refused");
    jw_object(out);
    for (int i = 0; i < ST__COUNT; i++) {
        if (f->refused[i] > 0) {
            jw_key(out, status_text((enum status)i));
            jw_uint(out, f->refused[i]);
        }
    }
    jw_object_end(out);
    jw_key(out, "in_flight");
    jw_uint(out, f->in_flight);
    jw_object_end(out);
}

enum status ledger_write(struct tx *tx, uint64_t device, struct jw *out, struct err *err)
{
    struct figures f = {0};
    uint64_t counters[TS_COUNTERS];
    ts_counters(tx->ts, device, counters);
    add_counters(&f, counters);
    add_late(&f, map_get_u64(&ledger(tx->core)->late, device));
    struct link *link = presence_link(tx->core, device);
    f.in_flight = link != NULL ? atomic_load_explicit(&link->in_flight, memory_order_relaxed) : 0;
    enum status st = add_row(tx, SQL_LEDGER_GET, (int64_t)device, &f, err);
    if (st == ST_OK) {
        write_figures(&f, out);
    }
    return st;
}

enum status ledger_write_tenant(struct tx *tx, uint32_t tenant, struct jw *out, struct err *err)
{
    struct figures f = {0};
    uint64_t counters[TS_COUNTERS];
    ts_tenant_counters(tx->ts, tenant, counters);
    add_counters(&f, counters);
    const struct map *late = &ledger(tx->core)->late;
    size_t pos = 0;
    for (const struct late *l = map_next(late, &pos, NULL, NULL); l != NULL; l = map_next(late, &pos, NULL, NULL)) {
        add_late(&f, l->tenant == tenant ? l : NULL);
    }
    f.in_flight = presence_in_flight(tx->core, tenant);
    enum status st = add_row(tx, SQL_LEDGER_GET_TENANT, tenant, &f, err);
    if (st == ST_OK) {
        write_figures(&f, out);
    }
    return st;
}

// --- start and stop ----------------------------------------------------------------------------------------------

enum status ledger_start(struct tx *tx, struct err *err)
{
    struct ledger *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the ledger");
    }
    map_init(&l->late);
    static _Atomic bool registered;
    if (!atomic_exchange(&registered, true)) {
        metric_register(&uncounted);
    }
    core_set_slot(tx->core, CORE_SLOT_TELEMETRY, l);
    core_every(tx->core, LATE_EVERY_MS, store_late);
    return ST_OK;
}

void ledger_stop(struct core *c)
{
    struct ledger *l = core_slot(c, CORE_SLOT_TELEMETRY);
    if (l == NULL) {
        return;
    }
    core_set_slot(c, CORE_SLOT_TELEMETRY, NULL);
    size_t pos = 0;
    for (struct late *late = map_next(&l->late, &pos, NULL, NULL); late != NULL;
         late = map_next(&l->late, &pos, NULL, NULL)) {
        free(late);
    }
    map_release(&l->late);
    free(l);
}
