// Presence as operators see it. The statements are presence.c's.
#include "core/member.h"
#include "core/page.h"
#include "domain/presence/live.h"
#include "domain/presence/presence.h"
#include "domain/presence/sql/presence.sql.h"

// Columns address, protocol, client_id, tls, keep_alive_s from `col` on.
static void write_connection(struct jw *out, struct stmt *s, int col)
{
    jw_member_text(out, "address", col_text(s, col));
    jw_member_text(out, "protocol", col_text(s, col + 1));
    jw_member_text(out, "client_id", col_text(s, col + 2));
    jw_key(out, "tls");
    struct slice tls = col_text(s, col + 3);
    jw_slice(out, tls.len > 0 ? tls : (struct slice){NULL, 0});
    jw_member_int(out, "keep_alive_s", col_i64(s, col + 4));
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
    jw_member_text(out, "device", id);
    jw_member_bool(out, "online", v.online);
    jw_member_time(out, "since", v.since_us);
    jw_member_time(out, "last_seen", v.seen_us);
    jw_member_text(out, "reason", v.online ? (struct slice){NULL, 0} : v.reason);
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
    jw_member_str(out, "device", id);
    jw_member_bool(out, "online", false);
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

// One of the two halves of the list, from `after` on.
static void list_half(struct tx *tx, struct page *p, bool online, int64_t after, int64_t seen_before_us,
                      struct err *err)
{
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_i64(s, 2, online);
    stmt_bind_i64(s, 3, after);
    stmt_bind_i64(s, 4, seen_before_us);
    stmt_bind_i64(s, 5, page_rows(p));
    while (page_next(p, s, err)) {
        uint64_t device = (uint64_t)col_i64(s, 11);
        write_row(tx, p->out, col_text(s, 10), device, s);
        page_wrote(p, (struct cursor){.a = online, .b = (int64_t)device});
    }
}

enum status presence_list(struct tx *tx, const struct presence_filter *f, struct jw *out, struct err *err)
{
    struct page p = {.limit = f->limit, .from = {.kind = PAGE_PRESENCE, .a = f->online != 0}};
    enum status st = page_begin(&p, f->cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    bool from_online = p.from.a == 1;
    if (f->online != 0 && from_online) {
        list_half(tx, &p, true, p.from.b, f->seen_before_us, err);
    }
    if (f->online != 1 && !p.more) {
        list_half(tx, &p, false, from_online ? 0 : p.from.b, f->seen_before_us, err);
    }
    return page_end(&p, err);
}

static void write_session(struct jw *out, struct stmt *s)
{
    jw_object(out);
    jw_member_time_col(out, "start", s, 1);
    jw_member_time_col(out, "end", s, 2);
    jw_member_text(out, "reason", col_text(s, 3));
    jw_member_text(out, "detail", col_text(s, 4));
    write_connection(out, s, 5);
    jw_object_end(out);
}

enum status presence_sessions(struct tx *tx, const struct device_ref *d, struct slice cursor, unsigned limit,
                              struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_PRESENCE_SESSIONS, .a = INT64_MAX}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_presence[SQL_PRESENCE_SESSIONS]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, p.from.a);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_session(out, s);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}
