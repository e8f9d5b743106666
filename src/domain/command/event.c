#include "domain/command/event.h"

#include "core/member.h"
#include "core/page.h"
#include "core/when.h"
#include "domain/command/command.h"
#define SQL_DEVICE_EVENT_DEFINE
#include "domain/command/sql/device_event.sql.h"

#define EVENT_TEXT_MAX (COMMAND_PAYLOAD_MAX + 1024)

// Nobody listening: no text is made.
static enum status publish(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                           int64_t ts_us, struct err *err)
{
    if (!events_wanted(core_events(tx->core), EV_EVENT, d->tenant)) {
        return ST_OK;
    }
    struct buf text = buf_heap(EVENT_TEXT_MAX);
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "device", d->id);
    jw_key(&w, "ts");
    jw_time_ms(&w, ts_us);
    jw_member_text(&w, "name", name);
    jw_key(&w, "data");
    jw_raw(&w, payload);
    jw_object_end(&w);
    struct event *ev = text.failed ? NULL : event_new(EV_EVENT, d->tenant, d->row, d->id, ts_us, buf_view(&text));
    buf_release(&text);
    return tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory for the event");
}

static enum status next_seq(struct tx *tx, uint64_t device, int64_t *ret_seq, struct err *err)
{
    STMT(s, tx->db, &sql_device_event[SQL_DEVICE_EVENT_NEXT]);
    stmt_bind_i64(s, 1, (int64_t)device);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        *ret_seq = row ? col_i64(s, 0) : 1;
    }
    return st;
}

static enum status trim(struct tx *tx, uint64_t device, int64_t newest, struct err *err)
{
    if (newest <= EVENT_KEEP_MAX) {
        return ST_OK;
    }
    STMT(s, tx->db, &sql_device_event[SQL_DEVICE_EVENT_TRIM]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, newest - EVENT_KEEP_MAX);
    return stmt_run(s, err);
}

enum status device_event(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ts_us, struct err *err)
{
    enum status st = command_check_message(name, payload, err);
    int64_t seq = 0;
    if (st == ST_OK) {
        st = next_seq(tx, d->row, &seq, err);
    }
    if (st != ST_OK) {
        return st;
    }
    if (ts_us == 0) {
        ts_us = tx->now_us;
    }
    STMT(s, tx->db, &sql_device_event[SQL_DEVICE_EVENT_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, seq);
    stmt_bind_i64(s, 3, d->tenant);
    stmt_bind_i64(s, 4, ts_us);
    stmt_bind_i64(s, 5, tx->now_us);
    stmt_bind_text(s, 6, name);
    stmt_bind_text(s, 7, payload);
    st = stmt_run(s, err);
    if (st == ST_OK) {
        st = trim(tx, d->row, seq, err);
    }
    return st == ST_OK ? publish(tx, d, name, payload, ts_us, err) : st;
}

enum status device_event_forget(struct tx *tx, int64_t before_us, int rows, struct err *err)
{
    STMT(s, tx->db, &sql_device_event[SQL_DEVICE_EVENT_FORGET]);
    stmt_bind_i64(s, 1, before_us);
    stmt_bind_i64(s, 2, rows);
    return stmt_run(s, err);
}

static void write_row(struct stmt *s, struct jw *out)
{
    jw_object(out);
    jw_key(out, "ts");
    jw_time_ms(out, col_i64(s, 1));
    jw_member_time(out, "time", col_i64(s, 1));
    jw_member_time(out, "received", col_i64(s, 2));
    jw_member_text(out, "name", col_text(s, 3));
    jw_key(out, "data");
    jw_raw(out, col_text(s, 4));
    jw_object_end(out);
}

enum status device_event_list(struct tx *tx, const struct device_ref *d, struct slice name, struct slice cursor,
                              unsigned limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_EVENTS, .a = INT64_MAX}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_device_event[SQL_DEVICE_EVENT_LIST]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, p.from.a);
    stmt_bind_text(s, 3, name.p != NULL ? name : SLICE(""));
    stmt_bind_i64(s, 4, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_row(s, out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}
