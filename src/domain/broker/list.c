// Sessions and retained messages as operators see them.
#include "base/utf8.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/broker/broker_priv.h"
#include "domain/broker/sql/broker_retained.sql.h"
#include "domain/broker/sql/broker_session.sql.h"
#include "net/crypto.h"

enum { OPTION_QOS = 3, OPTION_NO_LOCAL = 4, OPTION_AS_PUBLISHED = 8 };

// --- sessions ----------------------------------------------------------------------------------------------------

// The members of a session, in the columns of broker_session_list. more_dropped: what the store does not know yet.
static void write_session(struct jw *out, struct stmt *s, uint64_t more_dropped)
{
    jw_member_text(out, "client_id", col_text(s, 1));
    jw_member_text(out, "principal", col_text(s, 10));
    jw_member_bool(out, "online", col_i64(s, 2) != 0);
    jw_key(out, "expiry_s");
    if (col_i64(s, 3) == UINT32_MAX) {
        jw_null(out);
    } else {
        jw_int(out, col_i64(s, 3));
    }
    jw_member_time_col(out, "expires", s, 4);
    jw_member_int(out, "queued", col_i64(s, 7));
    jw_member_int(out, "queued_bytes", col_i64(s, 8));
    jw_member_int(out, "dropped", col_i64(s, 5) + (int64_t)more_dropped);
    jw_member_int(out, "subscriptions", col_i64(s, 9));
    jw_member_time_col(out, "created", s, 6);
}

enum status broker_sessions_write(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_BROKER_SESSIONS}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, p.from.text);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        jw_object(out);
        write_session(out, s, 0);
        jw_object_end(out);
        page_wrote(&p, (struct cursor){.text = col_text(s, 1)});
    }
    return page_end(&p, err);
}

static enum status show(struct tx *tx, struct slice client_id, struct stmt *s, struct err *err)
{
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, client_id);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    return st == ST_OK && !row
               ? err_set(err, ST_NOT_FOUND, "there is no session of this client id that outlives its connection")
               : st;
}

static enum status write_filters(struct tx *tx, int64_t session, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_SUBS]);
    stmt_bind_i64(s, 1, session);
    jw_key(out, "filters");
    jw_array(out);
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            jw_array_end(out);
            return st;
        }
        int64_t options = col_i64(s, 1);
        jw_object(out);
        jw_member_text(out, "filter", col_text(s, 0));
        jw_member_int(out, "qos", options & OPTION_QOS);
        jw_member_bool(out, "no_local", (options & OPTION_NO_LOCAL) != 0);
        jw_member_bool(out, "retain_as_published", (options & OPTION_AS_PUBLISHED) != 0);
        jw_key(out, "id");
        if (col_i64(s, 2) == 0) {
            jw_null(out);
        } else {
            jw_int(out, col_i64(s, 2));
        }
        jw_object_end(out);
    }
}

enum status broker_session_write(struct tx *tx, struct slice client_id, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_SHOW]);
    enum status st = show(tx, client_id, s, err);
    if (st != ST_OK) {
        return st;
    }
    const struct broker_session *live = session_table_find(&broker_of(tx->core)->sessions, tx->who->tenant, client_id);
    jw_object(out);
    write_session(out, s, live != NULL ? live->dropped : 0);
    st = write_filters(tx, col_i64(s, 0), out, err);
    jw_object_end(out);
    return st;
}

enum status broker_session_delete(struct tx *tx, struct slice client_id, struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_SHOW]);
    enum status st = show(tx, client_id, s, err);
    if (st != ST_OK) {
        return st;
    }
    const struct broker_session *live = session_table_find(&broker_of(tx->core)->sessions, tx->who->tenant, client_id);
    const struct will_key k = {tx->who->tenant, client_id};
    st = session_close(tx, live, DOWN_CLOSE_ADMIN, err);
    st = st == ST_OK ? will_on_end(tx, &k, err) : st;
    if (st == ST_OK) {
        st = session_erase(tx, tx->who->tenant, col_i64(s, 0), client_id, err);
    }
    return st == ST_OK ? audit_write(tx, "session.delete", "session", client_id, (struct slice){NULL, 0},
                                     (struct slice){NULL, 0}, err)
                       : st;
}

// --- retained messages -------------------------------------------------------------------------------------------

static void write_retained(struct jw *out, struct stmt *s)
{
    jw_member_text(out, "topic", col_text(s, 1));
    jw_member_text(out, "principal", col_text(s, 7));
    jw_member_text(out, "client_id", col_text(s, 2));
    jw_member_int(out, "qos", col_i64(s, 3));
    jw_member_int(out, "bytes", col_i64(s, 6));
    jw_member_time_col(out, "stored", s, 4);
    jw_member_time_col(out, "expires", s, 5);
}

enum status broker_retained_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_RETAINED}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_i64(s, 2, p.from.a);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        jw_object(out);
        write_retained(out, s);
        jw_object_end(out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}

static enum status write_payload(struct jw *out, struct slice payload, struct err *err)
{
    if (utf8_valid(payload)) {
        jw_member_text(out, "payload", payload);
        jw_member_text(out, "payload_base64", (struct slice){NULL, 0});
        return ST_OK;
    }
    struct buf text = buf_heap(payload.len * 2 + 8);
    bool ok = base64_encode(payload, &text);
    jw_member_text(out, "payload", (struct slice){NULL, 0});
    jw_member_text(out, "payload_base64", buf_view(&text));
    buf_release(&text);
    return ok ? ST_OK : err_set(err, ST_NOMEM, "no memory for the payload");
}

enum status broker_retained_write(struct tx *tx, struct slice topic, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_SHOW]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, topic);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK || !row) {
        return st != ST_OK ? st : err_set(err, ST_NOT_FOUND, "no message is retained under this topic");
    }
    jw_object(out);
    write_retained(out, s);
    st = write_payload(out, col_blob(s, 8), err);
    jw_object_end(out);
    return st;
}

enum status broker_retained_delete(struct tx *tx, struct slice topic, struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_SHOW]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, topic);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK || !row) {
        return st != ST_OK ? st : err_set(err, ST_NOT_FOUND, "no message is retained under this topic");
    }
    st = retained_drop(tx, tx->who->tenant, topic, err);
    return st == ST_OK ? audit_write(tx, "retained.delete", "retained", topic, (struct slice){NULL, 0},
                                     (struct slice){NULL, 0}, err)
                       : st;
}
