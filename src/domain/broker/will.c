// Wills: kept in the store from CONNECT on, so that they are sent after a crash as well; at most one for a client id.
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker_priv.h"
#include "domain/policy/policy.h"
#define SQL_BROKER_WILL_DEFINE
#include "domain/broker/sql/broker_will.sql.h"

#define DUE_MAX 100 // of one tick

enum status will_put(struct tx *tx, const struct link *link, struct slice client_id, const struct broker_will *w,
                     struct err *err)
{
    const struct message *m = w->msg;
    uint32_t delay = w->delay_s < broker_of(tx->core)->settings.will_delay_max_s
                         ? w->delay_s
                         : broker_of(tx->core)->settings.will_delay_max_s;
    STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_PUT]);
    stmt_bind_i64(s, 1, link->who.tenant);
    stmt_bind_text(s, 2, client_id);
    stmt_bind_i64(s, 3, (int64_t)link->conn);
    stmt_bind_i64(s, 4, link->who.kind);
    stmt_bind_i64(s, 5, (int64_t)link->who.row);
    stmt_bind_i64(s, 6, delay);
    stmt_bind_i64(s, 7, m->qos);
    stmt_bind_i64(s, 8, m->retain);
    if (m->expires_us != 0) {
        stmt_bind_i64(s, 9, (m->expires_us - tx->now_us + 999999) / 1000000);
    }
    stmt_bind_text(s, 10, message_topic(m));
    stmt_bind_blob(s, 11, message_props(m));
    stmt_bind_blob(s, 12, message_payload(m));
    return stmt_run(s, err);
}

enum status will_del(struct tx *tx, const struct will_key *k, struct err *err)
{
    STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_DEL]);
    stmt_bind_i64(s, 1, k->tenant);
    stmt_bind_text(s, 2, k->client_id);
    return stmt_run(s, err);
}

// --- sending -----------------------------------------------------------------------------------------------------

// A row of broker_will_get, copied out of the statement.
struct will {
    uint64_t conn;
    struct principal who;
    uint32_t delay_s;
    struct message *msg; // a reference
};

static enum status will_read(struct tx *tx, struct stmt *s, struct will *ret, struct err *err)
{
    *ret = (struct will){.conn = (uint64_t)col_i64(s, 0),
                         .who = {.kind = (enum principal_kind)col_i64(s, 1),
                                 .tenant = (uint32_t)col_i64(s, 11),
                                 .row = (uint64_t)col_i64(s, 2)},
                         .delay_s = (uint32_t)col_i64(s, 3)};
    struct message_parts parts = {.tenant = (uint32_t)col_i64(s, 11),
                                  .expires_us = col_is_null(s, 6) ? 0 : tx->now_us + col_i64(s, 6) * 1000000,
                                  .qos = (uint8_t)col_i64(s, 4),
                                  .retain = col_i64(s, 5) != 0,
                                  .topic = col_text(s, 7),
                                  .props = col_blob(s, 8),
                                  .payload = col_blob(s, 9)};
    ret->msg = message_stored(&parts);
    return ret->msg != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for a will");
}

// S14: the permit of now decides, whatever was allowed at CONNECT.
static enum status may_send(struct tx *tx, const struct will *w, struct slice client_id, bool *ret_may, struct err *err)
{
    struct permit *p = NULL;
    enum status st = policy_permit(tx, &w->who, client_id, &p, err);
    if (st != ST_OK && st != ST_NOT_FOUND) {
        return st;
    }
    *ret_may = p != NULL && permit_publish(p, message_topic(w->msg)) &&
               (!w->msg->retain || permit_retain(p, message_topic(w->msg)));
    permit_unref(p);
    return ST_OK;
}

static enum status will_send(struct tx *tx, const struct will *w, const struct will_key *k, struct err *err)
{
    bool may = false;
    enum status st = may_send(tx, w, k->client_id, &may, err);
    if (st != ST_OK || !may) {
        if (st == ST_OK) {
            log_info("broker", "a will is not sent: no policy allows it any more", LOGSL("client", k->client_id),
                     LOGSL("topic", message_topic(w->msg)));
            broker_count(COUNT_DROPPED_DENIED, 1);
        }
        return st;
    }
    const struct retained_by by = {(uint8_t)w->who.kind, w->who.row, k->client_id};
    st = w->msg->retain ? retained_set(tx, w->msg, &by, err) : ST_OK;
    if (st == ST_LIMIT) {
        st = ST_OK; // it is sent all the same
    }
    struct work *work = st == ST_OK ? work_new(tx, err) : NULL;
    if (work == NULL) {
        return st != ST_OK ? st : ST_NOMEM;
    }
    broker_count(COUNT_WILLS, 1);
    return work_publish(tx, work, w->msg, true, err);
}

static enum status will_get(struct tx *tx, const struct will_key *k, struct will *ret, bool *ret_there, struct err *err)
{
    STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_GET]);
    stmt_bind_i64(s, 1, k->tenant);
    stmt_bind_text(s, 2, k->client_id);
    enum status st = stmt_step(s, ret_there, err);
    return st == ST_OK && *ret_there ? will_read(tx, s, ret, err) : st;
}

static enum status send_and_drop(struct tx *tx, const struct will *w, const struct will_key *k, struct err *err)
{
    enum status st = will_send(tx, w, k, err);
    return st == ST_OK ? will_del(tx, k, err) : st;
}

enum status will_on_open(struct tx *tx, const struct will_key *k, bool resumed, struct err *err)
{
    struct will w = {0};
    bool there = false;
    enum status st = will_get(tx, k, &w, &there, err);
    if (st == ST_OK && there) {
        // A connection that is taken over has ended without DISCONNECT. What waits is not sent when the session goes on
        // (MQTT-3.1.3-9).
        bool send = !resumed || (w.conn != 0 && w.delay_s == 0);
        st = send ? send_and_drop(tx, &w, k, err) : will_del(tx, k, err);
    }
    message_unref(w.msg);
    return st;
}

static enum status will_wait(struct tx *tx, const struct will_key *k, uint32_t delay_s, struct err *err)
{
    STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_DELAY]);
    stmt_bind_i64(s, 1, k->tenant);
    stmt_bind_text(s, 2, k->client_id);
    stmt_bind_i64(s, 3, tx->now_us + (int64_t)delay_s * 1000000);
    return stmt_run(s, err);
}

enum status will_on_close(struct tx *tx, const struct will_key *k, uint64_t conn, bool send, uint32_t expiry_s,
                          struct err *err)
{
    struct will w = {0};
    bool there = false;
    enum status st = will_get(tx, k, &w, &there, err);
    if (st == ST_OK && there && w.conn == conn) { // else it is another connection's
        uint32_t delay = w.delay_s < expiry_s ? w.delay_s : expiry_s;
        st = !send ? will_del(tx, k, err) : delay > 0 ? will_wait(tx, k, delay, err) : send_and_drop(tx, &w, k, err);
    }
    message_unref(w.msg);
    return st;
}

enum status will_on_end(struct tx *tx, const struct will_key *k, struct err *err)
{
    struct will w = {0};
    bool there = false;
    enum status st = will_get(tx, k, &w, &there, err);
    if (st == ST_OK && there) {
        st = send_and_drop(tx, &w, k, err);
    }
    message_unref(w.msg);
    return st;
}

enum status will_fire_due(struct tx *tx, struct err *err)
{
    for (unsigned i = 0; i < DUE_MAX; i++) {
        struct will w = {0};
        char id[BROKER_CLIENT_ID_MAX];
        STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_DUE]);
        stmt_bind_i64(s, 1, tx->now_us);
        bool there = false;
        enum status st = stmt_step(s, &there, err);
        if (st != ST_OK || !there) {
            return st;
        }
        st = will_read(tx, s, &w, err);
        struct buf client = buf_fixed(id, sizeof(id));
        buf_slice(&client, col_text(s, 10));
        struct will_key k = {w.who.tenant, buf_view(&client)};
        if (st == ST_OK) {
            st = send_and_drop(tx, &w, &k, err);
        }
        message_unref(w.msg);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

enum status will_forget(struct tx *tx, uint8_t kind, uint64_t row, int64_t *ret_n, struct err *err)
{
    STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_FORGET]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, kind);
    enum status st = stmt_run(s, err);
    *ret_n = st == ST_OK ? stmt_changes(s) : 0;
    return st;
}

enum status will_restart(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_broker_will[SQL_BROKER_WILL_RESTART]);
    stmt_bind_i64(s, 1, tx->now_us);
    return stmt_run(s, err);
}
