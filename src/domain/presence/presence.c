#include "domain/presence/presence.h"

#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "core/ids.h"
#include "core/when.h"
#include "domain/presence/live.h"
#define SQL_PRESENCE_DEFINE
#include "domain/presence/sql/presence.sql.h"

#define SESSION_KEEP_US (90LL * 24 * 3600 * 1000000)
#define EXPIRE_EVERY_MS 60000
#define EXPIRE_ROWS     2000
#define SEEN_EVERY_MS   1000
#define SEEN_STORE_US   60000000 // a device's "last seen" is written at most this often
#define SEEN_LOOKS      5000     // entries looked at per step
#define SEEN_ROWS       500      // rows written per step
#define LATE_EVERY_MS   1000
#define LATE_ROWS       500 // departures tried again per step
#define EVENT_JSON_MAX  1024

static struct live_table *table(const struct core *c)
{
    struct live_table *t = core_slot(c, CORE_SLOT_PRESENCE);
    assert(t != NULL);
    return t;
}

// --- repeated work -------------------------------------------------------------------------------------

static enum status expire_sessions(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_EXPIRE]);
    stmt_bind_i64(s, 1, tx->now_us - SESSION_KEEP_US);
    stmt_bind_i64(s, 2, EXPIRE_ROWS);
    return stmt_run(s, err);
}

static enum status seen_write(struct tx *tx, const struct live *l, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_SEEN]);
    stmt_bind_i64(s, 1, (int64_t)l->device);
    stmt_bind_i64(s, 2, l->seen_us);
    return stmt_run(s, err);
}

// Goes round the live table in small steps. A failed commit loses one round of a figure that is at most a minute old anyway.
static enum status store_seen(struct tx *tx, struct err *err)
{
    struct live_table *t = table(tx->core);
    unsigned rows = 0;
    for (unsigned i = 0; i < SEEN_LOOKS && rows < SEEN_ROWS; i++) {
        struct live *l = map_next(&t->by_device, &t->cursor, NULL, NULL);
        if (l == NULL) {
            t->cursor = 0;
            break;
        }
        if (l->link == NULL || l->seen_us - l->stored_us < SEEN_STORE_US) {
            continue;
        }
        enum status st = seen_write(tx, l, err);
        if (st != ST_OK) {
            return st;
        }
        l->stored_us = l->seen_us;
        rows++;
    }
    return ST_OK;
}

// --- events ------------------------------------------------------------------------------------------------------

struct presence_fact {
    uint32_t tenant;
    uint64_t device;
    const char *id;
    int64_t ts_us;
    bool online;
    struct slice reason;  // p == NULL: none
    struct slice address; // p == NULL: none
};

static enum status publish(struct tx *tx, const struct presence_fact *f, struct err *err)
{
    uint8_t mem[EVENT_JSON_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_key(&w, "device");
    jw_str(&w, f->id);
    jw_key(&w, "online");
    jw_bool(&w, f->online);
    jw_key(&w, "ts");
    jw_time_ms(&w, f->ts_us);
    jw_key(&w, "reason");
    jw_slice(&w, f->reason);
    jw_key(&w, "address");
    jw_slice(&w, f->address);
    jw_object_end(&w);
    struct event *ev =
        text.failed ? NULL : event_new(EV_PRESENCE, f->tenant, f->device, f->id, f->ts_us, buf_view(&text));
    return tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory for the presence event");
}

// --- connected ---------------------------------------------------------------------------------------------------

struct arrival {
    struct live *live;
    struct link *link;
    int64_t now_us;
};

static void arrival_commit(struct core *c, void *arg)
{
    struct arrival *a = arg;
    struct link *former = live_settle(table(c), a->live, a->link, a->now_us);
    if (former != NULL) {
        struct down *d = former != a->link ? down_close(DOWN_CLOSE_TAKEOVER) : NULL;
        if (d != NULL) {
            link_send(former, d);
        } else if (former != a->link) {
            log_error("presence", "no memory to close a connection that was taken over", LOGU("conn", former->conn));
        }
        link_unref(former);
    }
    free(a);
}

static void arrival_undo(struct core *c, void *arg)
{
    struct arrival *a = arg;
    live_settle(table(c), a->live, NULL, 0);
    a->link->session = 0;
    a->link->ts = NULL;
    link_unref(a->link);
    free(a);
}

// From here on the outcome of the operation settles the live table.
static enum status arrival_hold(struct tx *tx, struct link *link, const struct device_ref *d, struct err *err)
{
    struct arrival *a = calloc(1, sizeof(*a));
    struct ts_device *series = ts_device(tx->ts, d->tenant, d->row);
    struct live *live = a != NULL && series != NULL ? live_hold(table(tx->core), d->row, d->tenant) : NULL;
    if (live == NULL) {
        free(a);
        return err_set(err, ST_NOMEM, "no memory for one more connected device");
    }
    *a = (struct arrival){.live = live, .link = link_ref(link), .now_us = tx->now_us};
    if (!tx_after_commit(tx, arrival_commit, arrival_undo, a)) {
        arrival_undo(tx->core, a);
        return err_set(err, ST_NOMEM, "no memory for one more connected device");
    }
    link->session = id_new();
    link->ts = series;
    return ST_OK;
}

static enum status session_next(struct tx *tx, uint64_t device, int64_t *ret_seq, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_SESSION_NEXT]);
    stmt_bind_i64(s, 1, (int64_t)device);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        *ret_seq = row ? col_i64(s, 0) : 1;
    }
    return st;
}

static struct slice text_or_empty(struct slice s)
{
    return s.p != NULL ? s : SLICE("");
}

static enum status session_open(struct tx *tx, const struct link *link, const struct device_ref *d,
                                const struct presence_info *info, struct err *err)
{
    int64_t seq = 0;
    enum status st = session_next(tx, d->row, &seq, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_SESSION_OPEN]);
    stmt_bind_i64(s, 1, (int64_t)link->session);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, (int64_t)d->row);
    stmt_bind_i64(s, 4, seq);
    stmt_bind_i64(s, 5, tx->now_us);
    stmt_bind_text(s, 6, text_or_empty(info->address));
    stmt_bind_text(s, 7, text_or_empty(info->protocol));
    stmt_bind_text(s, 8, text_or_empty(info->client_id));
    stmt_bind_text(s, 9, text_or_empty(info->tls));
    stmt_bind_i64(s, 10, info->keep_alive_s);
    st = stmt_run(s, err);
    if (st != ST_OK || seq <= PRESENCE_SESSIONS_MAX) {
        return st;
    }
    STMT(trim, tx->db, &sql_presence[SQL_PRESENCE_SESSION_TRIM]);
    stmt_bind_i64(trim, 1, (int64_t)d->row);
    stmt_bind_i64(trim, 2, seq - PRESENCE_SESSIONS_MAX);
    return stmt_run(trim, err);
}

static enum status device_online(struct tx *tx, const struct link *link, const struct device_ref *d, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_ONLINE]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, tx->now_us);
    stmt_bind_i64(s, 4, (int64_t)link->session);
    return stmt_run(s, err);
}

enum status presence_connected(struct tx *tx, struct link *link, const struct device_ref *d,
                               const struct presence_info *info, struct err *err)
{
    assert(link->session == 0);
    enum status st = arrival_hold(tx, link, d, err);
    if (st == ST_OK) {
        st = session_open(tx, link, d, info, err);
    }
    if (st == ST_OK) {
        st = device_online(tx, link, d, err);
    }
    if (st != ST_OK) {
        return err_wrap(err, "cannot open a session");
    }
    const struct presence_fact f = {.tenant = d->tenant,
                                    .device = d->row,
                                    .id = d->id,
                                    .ts_us = tx->now_us,
                                    .online = true,
                                    .address = info->address};
    return publish(tx, &f, err);
}

// --- disconnected ------------------------------------------------------------------------------------------------
// The end of a session carries everything it must write. When the store refuses it (no space), it waits in memory and is
// tried again, so that no device stays online in the store because the disk was full at the wrong moment.

static void departure_commit(struct core *c, void *arg)
{
    struct departure *d = arg;
    live_drop(table(c), d->device, d->link);
    link_unref(d->link);
    free(d);
}

static void departure_undo(struct core *c, void *arg)
{
    struct departure *d = arg;
    struct live_table *t = table(c);
    live_drop(t, d->device, d->link); // the connection is gone whatever the store says
    d->next = t->late;
    t->late = d;
}

static enum status session_close(struct tx *tx, const struct departure *d, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_SESSION_CLOSE]);
    stmt_bind_i64(s, 1, (int64_t)d->session);
    stmt_bind_i64(s, 2, d->end_us);
    stmt_bind_str(s, 3, d->reason);
    stmt_bind_text(s, 4, d->detail[0] != '\0' ? slice_str(d->detail) : (struct slice){NULL, 0});
    return stmt_run(s, err);
}

static enum status device_offline(struct tx *tx, const struct departure *d, bool *ret_was_current, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_OFFLINE]);
    stmt_bind_i64(s, 1, (int64_t)d->device);
    stmt_bind_i64(s, 2, (int64_t)d->session);
    stmt_bind_i64(s, 3, d->end_us);
    stmt_bind_i64(s, 4, d->seen_us);
    stmt_bind_str(s, 5, d->reason);
    enum status st = stmt_run(s, err);
    *ret_was_current = st == ST_OK && stmt_changes(s) > 0;
    return st;
}

static enum status departure_write(struct tx *tx, const struct departure *d, struct err *err)
{
    bool was_current = false;
    enum status st = session_close(tx, d, err);
    if (st == ST_OK) {
        st = device_offline(tx, d, &was_current, err);
    }
    if (st != ST_OK) {
        return err_wrap(err, "cannot close the session");
    }
    if (!was_current) {
        return ST_OK; // taken over, or the device is deleted: its presence is not this link's to change
    }
    const struct presence_fact f = {.tenant = d->link->who.tenant,
                                    .device = d->device,
                                    .id = d->link->who.name,
                                    .ts_us = d->end_us,
                                    .online = false,
                                    .reason = slice_str(d->reason),
                                    .address = slice_str(d->link->who.addr)};
    return publish(tx, &f, err);
}

static enum status depart(struct tx *tx, struct departure *d, struct err *err)
{
    if (!tx_after_commit(tx, departure_commit, departure_undo, d)) {
        departure_undo(tx->core, d);
        return err_set(err, ST_NOMEM, "no memory to close a session");
    }
    return departure_write(tx, d, err);
}

static int64_t last_sign(struct core *c, const struct link *link, struct slice reason, int64_t now_us)
{
    if (slice_eq(reason, SLICE("client_disconnect"))) {
        return now_us; // it said goodbye
    }
    const struct live *l = live_get(table(c), link->who.row);
    return l != NULL && l->link == link ? l->seen_us : 0;
}

// As much of the text as fits.
static void copy_text(char *dst, size_t size, struct slice text)
{
    struct buf b = buf_fixed(dst, size - 1);
    buf_slice(&b, slice_head(text, size - 1));
    dst[b.len] = '\0';
}

enum status presence_disconnected(struct tx *tx, struct link *link, struct slice reason, struct slice detail,
                                  struct err *err)
{
    if (link->session == 0) {
        return ST_OK; // it never became a session
    }
    struct departure *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return err_set(err, ST_NOMEM, "no memory to close a session");
    }
    *d = (struct departure){.link = link_ref(link),
                            .device = link->who.row,
                            .session = link->session,
                            .end_us = tx->now_us,
                            .seen_us = last_sign(tx->core, link, reason, tx->now_us)};
    copy_text(d->reason, sizeof(d->reason), reason);
    copy_text(d->detail, sizeof(d->detail), detail);
    return depart(tx, d, err);
}

// Tries those again that the store refused.
static enum status depart_late(struct tx *tx, struct err *err)
{
    struct live_table *t = table(tx->core);
    enum status st = ST_OK;
    for (unsigned i = 0; i < LATE_ROWS && t->late != NULL && st == ST_OK; i++) {
        struct departure *d = t->late;
        t->late = d->next;
        st = depart(tx, d, err);
    }
    return st;
}

// --- the live table ----------------------------------------------------------------------------------------------

struct link *presence_link(struct core *c, uint64_t device)
{
    const struct live *l = live_get(table(c), device);
    return l != NULL ? l->link : NULL;
}

void presence_seen(struct core *c, uint64_t device, int64_t ts_us)
{
    struct live *l = live_get(table(c), device);
    if (l != NULL && l->seen_us < ts_us) {
        l->seen_us = ts_us;
    }
}

size_t presence_online_count(const struct core *c)
{
    const struct live_table *t = core_slot(c, CORE_SLOT_PRESENCE);
    return t != NULL ? atomic_load_explicit(&t->count, memory_order_relaxed) : 0;
}

size_t presence_in_flight(struct core *c, uint32_t tenant)
{
    const struct live_table *t = table(c);
    size_t pos = 0;
    size_t n = 0;
    for (const struct live *l = map_next(&t->by_device, &pos, NULL, NULL); l != NULL;
         l = map_next(&t->by_device, &pos, NULL, NULL)) {
        if (l->link != NULL && l->tenant == tenant) {
            n += atomic_load_explicit(&l->link->in_flight, memory_order_relaxed);
        }
    }
    return n;
}

struct kick {
    uint64_t device;
    enum down_close why;
    struct link *link;        // whose series were taken away; NULL: none
    struct ts_device *series; // to be given back
};

static void kick_commit(struct core *c, void *arg)
{
    struct kick *k = arg;
    struct link *link = presence_link(c, k->device);
    if (link != NULL) {
        struct down *d = down_close(k->why);
        if (d != NULL) {
            link_send(link, d);
        } else {
            log_error("presence", "no memory to close a connection", LOGU("conn", link->conn));
        }
    }
    link_unref(k->link);
    free(k);
}

static void kick_undo(struct core *c, void *arg)
{
    (void)c;
    struct kick *k = arg;
    if (k->link != NULL) {
        k->link->ts = k->series;
        link_unref(k->link);
    }
    free(k);
}

bool presence_kick(struct tx *tx, uint64_t device, enum down_close why)
{
    struct kick *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        return false;
    }
    *k = (struct kick){.device = device, .why = why};
    struct link *link = presence_link(tx->core, device);
    if (why == DOWN_CLOSE_DELETED && link != NULL) {
        k->link = link_ref(link);
        k->series = link->ts;
        link->ts = NULL;
    }
    if (!tx_after_commit(tx, kick_commit, kick_undo, k)) {
        kick_undo(tx->core, k);
        return false;
    }
    return true;
}

// --- start and stop ----------------------------------------------------------------------------------------------

static enum status run_plain(struct tx *tx, enum sql_presence_id id, int64_t *ret_changes, struct err *err)
{
    STMT(s, tx->db, &sql_presence[id]);
    enum status st = stmt_run(s, err);
    *ret_changes = st == ST_OK ? stmt_changes(s) : 0;
    return st;
}

// What the registry and identity change about a device ends its connection.
static enum status device_changed(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    static const enum down_close why[] = {[DEVICE_CHANGE_REMOVED] = DOWN_CLOSE_DELETED,
                                          [DEVICE_CHANGE_SUSPENDED] = DOWN_CLOSE_SUSPENDED,
                                          [DEVICE_CHANGE_RETIRED] = DOWN_CLOSE_SUSPENDED,
                                          [DEVICE_CHANGE_REVOKED] = DOWN_CLOSE_REVOKED,
                                          [DEVICE_CHANGE_BANNED] = DOWN_CLOSE_BANNED};
    return presence_kick(tx, d->row, why[what]) ? ST_OK : err_set(err, ST_NOMEM, "no memory to close the connection");
}

enum status presence_start(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    int64_t sessions = 0;
    int64_t devices = 0;
    enum status st = run_plain(tx, SQL_PRESENCE_RESTART_SESSIONS, &sessions, err);
    if (st == ST_OK) {
        st = run_plain(tx, SQL_PRESENCE_RESTART_DEVICES, &devices, err);
    }
    if (st != ST_OK) {
        return err_wrap(err, "cannot close the sessions of the former process");
    }
    if (sessions > 0) {
        log_info("presence", "sessions of the former process closed", LOGI("sessions", sessions),
                 LOGI("devices", devices));
    }
    struct live_table *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the table of connected devices");
    }
    map_init(&t->by_device);
    core_set_slot(tx->core, CORE_SLOT_PRESENCE, t);
    core_every(tx->core, SEEN_EVERY_MS, store_seen);
    core_every(tx->core, LATE_EVERY_MS, depart_late);
    core_every(tx->core, EXPIRE_EVERY_MS, expire_sessions);
    return registry_watch(tx->core, device_changed, err);
}

void presence_stop(struct core *c)
{
    struct live_table *t = core_slot(c, CORE_SLOT_PRESENCE);
    if (t != NULL) {
        core_set_slot(c, CORE_SLOT_PRESENCE, NULL);
        live_release(t);
        free(t);
    }
}
