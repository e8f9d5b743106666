// Presence as operators see it. The statements are presence.c's.
#include "core/cursor.h"
#include "core/when.h"
#include "domain/presence/live.h"
#include "domain/presence/presence.h"
#include "domain/presence/sql/presence.sql.h"

enum { CURSOR_LIST = 10, CURSOR_SESSIONS = 11 };

static void write_time(struct jw *out, const char *key, struct stmt *s, int col)
{
    jw_key(out, key);
    if (col_is_null(s, col)) {
        jw_null(out);
    } else {
        jw_time_text(out, col_i64(s, col));
    }
}

// Columns address, protocol, client_id, tls, keep_alive_s from `col` on.
static void write_connection(struct jw *out, struct stmt *s, int col)
{
    jw_key(out, "address");
    jw_slice(out, col_text(s, col));
    jw_key(out, "protocol");
    jw_slice(out, col_text(s, col + 1));
    jw_key(out, "client_id");
    jw_slice(out, col_text(s, col + 2));
    jw_key(out, "tls");
    struct slice tls = col_text(s, col + 3);
    jw_slice(out, tls.len > 0 ? tls : (struct slice){NULL, 0});
    jw_key(out, "keep_alive_s");
    jw_int(out, col_i64(s, col + 4));
}

// A row as it is shown.
struct view {
    bool online;
    int64_t since_us, seen_us;
    struct slice reason;
};

// What the core thread knows better than the store: the last sign of life of a connected device, and the end of a session
// the store had no room for yet.
static void correct(const struct tx *tx, uint64_t device, uint64_t session, struct view *v)
{
    const struct live_table *t = tx->ro ? NULL : core_slot(tx->core, CORE_SLOT_PRESENCE);
    if (t == NULL || !v->online) {
        return;
    }
    const struct live *l = live_get(t, device);
    if (l != NULL && l->seen_us > v->seen_us) {
        v->seen_us = l->seen_us;
    }
    for (const struct departure *d = t->late; d != NULL; d = d->next) {
        if (d->session == session) {
            *v = (struct view){false, d->end_us, d->seen_us > v->seen_us ? d->seen_us : v->seen_us,
                               slice_str(d->reason)};
            return;
        }
    }
}

static void write_row(struct tx *tx, struct jw *out, struct slice id, uint64_t device, struct stmt *s)
{
    struct view v = {col_i64(s, 0) != 0, col_i64(s, 1), col_i64(s, 2), col_text(s, 3)};
    correct(tx, device, (uint64_t)col_i64(s, 9), &v);
    jw_object(out);
    jw_key(out, "device");
    jw_slice(out, id);
    jw_key(out, "online");
    jw_bool(out, v.online);
    jw_key(out, "since");
    jw_time_text(out, v.since_us);
    jw_key(out, "last_seen");
    jw_time_text(out, v.seen_us);
    jw_key(out, "reason");
    jw_slice(out, v.online ? (struct slice){NULL, 0} : v.reason);
    jw_key(out, "connection");
    if (v.online && !col_is_null(s, 4)) {
        jw_object(out);
        write_connection(out, s, 4);
        jw_object_end(out);
    } else {
        jw_null(out);
    }
    jw_object_end(out);
}

static void write_never(struct jw *out, const char *id)
{
    static const char *const nulls[] = {"since", "last_seen", "reason", "connection"};
    jw_object(out);
    jw_key(out, "device");
    jw_str(out, id);
    jw_key(out, "online");
    jw_bool(out, false);
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        jw_key(out, nulls[i]);
        jw_null(out);
    }
    jw_object_end(out);
}

enum status presence_write(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_GET]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (row) {
        write_row(tx, out, slice_str(d->id), d->row, s);
    } else {
        write_never(out, d->id);
    }
    return ST_OK;
}

struct page {
    struct tx *tx;
    struct jw *out;
    unsigned left;      // items this page may still take
    struct cursor last; // of the last item written
    bool more;
};

// One of the two halves of the list, from `after` on; at most p->left items.
static enum status list_half(struct page *p, bool online, int64_t after, int64_t seen_before_us, struct err *err)
{
    STMT(s, p->tx->db, &sql_presence[SQL_PRESENCE_LIST]);
    stmt_bind_i64(s, 1, p->tx->who->tenant);
    stmt_bind_i64(s, 2, online);
    stmt_bind_i64(s, 3, after);
    stmt_bind_i64(s, 4, seen_before_us);
    stmt_bind_i64(s, 5, (int64_t)p->left + 1); // one more tells whether there is a next page
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        if (p->left == 0) {
            p->more = true;
            return ST_OK;
        }
        uint64_t device = (uint64_t)col_i64(s, 11);
        write_row(p->tx, p->out, col_text(s, 10), device, s);
        p->last = (struct cursor){.kind = CURSOR_LIST, .a = online, .b = (int64_t)device};
        p->left--;
    }
}

enum status presence_list(struct tx *tx, const struct presence_filter *f, struct jw *out, struct err *err)
{
    uint8_t mem[CURSOR_MAX];
    struct cursor from = {.kind = CURSOR_LIST, .a = f->online != 0, .b = 0};
    enum status st = cursor_read(f->cursor, CURSOR_LIST, mem, &from, err);
    if (st != ST_OK) {
        return st;
    }
    struct page p = {.tx = tx, .out = out, .left = f->limit};
    jw_object(out);
    jw_key(out, "items");
    jw_array(out);
    if (f->online != 0 && from.a == 1) {
        st = list_half(&p, true, from.b, f->seen_before_us, err);
        from.b = 0;
    }
    if (st == ST_OK && f->online != 1 && !p.more) {
        st = list_half(&p, false, from.a == 1 ? 0 : from.b, f->seen_before_us, err);
    }
    jw_array_end(out);
    jw_key(out, "next");
    if (st == ST_OK) {
        st = cursor_write(p.more ? &p.last : NULL, out, err);
    }
    if (st == ST_OK) { // else what was written is thrown away
        jw_object_end(out);
    }
    return st;
}

static void write_session(struct jw *out, struct stmt *s)
{
    jw_object(out);
    write_time(out, "start", s, 1);
    write_time(out, "end", s, 2);
    jw_key(out, "reason");
    jw_slice(out, col_text(s, 3));
    jw_key(out, "detail");
    jw_slice(out, col_text(s, 4));
    write_connection(out, s, 5);
    jw_object_end(out);
}

enum status presence_sessions(struct tx *tx, const struct device_ref *d, struct slice cursor, unsigned limit,
                              struct jw *out, struct err *err)
{
    uint8_t mem[CURSOR_MAX];
    struct cursor c = {.kind = CURSOR_SESSIONS, .a = INT64_MAX};
    enum status st = cursor_read(cursor, CURSOR_SESSIONS, mem, &c, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_SESSIONS]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, c.a);
    stmt_bind_i64(s, 3, (int64_t)limit + 1);
    jw_object(out);
    jw_key(out, "items");
    jw_array(out);
    bool row = false;
    unsigned n = 0;
    for (st = stmt_step(s, &row, err); st == ST_OK && row && n < limit; st = stmt_step(s, &row, err)) {
        write_session(out, s);
        c.a = col_i64(s, 0);
        n++;
    }
    jw_array_end(out);
    jw_key(out, "next");
    if (st == ST_OK) {
        st = cursor_write(row ? &c : NULL, out, err);
    }
    if (st == ST_OK) { // else what was written is thrown away
        jw_object_end(out);
    }
    return st;
}
