// Sessions: opened by CONNECT, left by the end of the connection, ended by expiry or a clean start.
#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "core/limit.h"
#include "core/quota.h"
#include "domain/broker/broker_priv.h"
#include "domain/identity/lineage.h"
#include "domain/policy/ban.h"
#include "domain/policy/security.h"
#include "domain/registry/registry.h"
#define SQL_BROKER_SESSION_DEFINE
#include "domain/broker/sql/broker_session.sql.h"

#define EXPIRE_SESSIONS 100 // of one tick

// --- references --------------------------------------------------------------------------------------------------

struct broker_session *broker_session_ref(struct broker_session *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void broker_session_unref(struct broker_session *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        link_unref(s->link);
        permit_unref(s->permit);
        queue_free(s->queue);
        free(s);
    }
}

uint64_t broker_session_serial(const struct broker_session *s)
{
    return s->serial;
}

bool broker_session_durable(const struct broker_session *s)
{
    return s->row != 0;
}

struct broker_session *session_new(struct broker *b, uint32_t tenant, uint8_t owner_kind, uint64_t owner,
                                   struct slice client_id)
{
    struct broker_session *s = calloc(1, sizeof(*s) + client_id.len);
    if (s == NULL) {
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->broker = b;
    s->serial = b->next_serial++;
    s->tenant = tenant;
    s->owner_kind = owner_kind;
    s->owner = owner;
    s->client_id_len = (uint16_t)client_id.len;
    struct buf id = buf_fixed(s->client_id, client_id.len);
    buf_slice(&id, client_id);
    return s;
}

// --- the end of a session ----------------------------------------------------------------------------------------

static void detach(struct broker *b, struct broker_session *s)
{
    queue_detach(b, s);
    if (s->link == NULL) {
        return;
    }
    index_lock(&b->index);
    struct link *link = s->link;
    struct permit *permit = s->permit;
    s->link = NULL;
    s->permit = NULL;
    index_unlock(&b->index, s->subs != NULL);
    link_unref(link);
    permit_unref(permit);
}

static void drop_subs(struct broker *b, struct broker_session *s)
{
    bool had = s->subs != NULL;
    index_lock(&b->index);
    for (struct sub **at = &s->subs; *at != NULL;) {
        struct sub *sub = *at;
        if (sub->pending > 0) { // whoever works on it takes it off
            index_set_active(&b->index, sub, false);
            at = &sub->next;
            continue;
        }
        *at = sub->next;
        s->subs_len--;
        quota_give(quotas_of(b->core), s->tenant, QUOTA_SUBSCRIPTIONS, 1);
        index_remove(&b->index, sub);
    }
    index_unlock(&b->index, had);
    mirror_look(b, s->tenant);
}

void session_end(struct broker *b, struct broker_session *s)
{
    if (!s->listed) {
        return;
    }
    if (s->row != 0) {
        struct tenant_state *t = map_get_u64(&b->tenants, s->tenant);
        t->durable--;
        broker_count(COUNT_SESSIONS_DURABLE, -1);
    }
    if (s->queue != NULL) {
        slow_queue_room(b, s, true);
        broker_count(COUNT_QUEUED, -(int64_t)s->queue->len);
        broker_count(COUNT_QUEUED_BYTES, -(int64_t)s->queue->bytes);
        quota_give(quotas_of(b->core), s->tenant, QUOTA_QUEUED_BYTES, (int64_t)s->queue->bytes);
        s->queue->len = 0;
        s->queue->bytes = 0;
    }
    drop_subs(b, s);
    detach(b, s);
    session_table_del(&b->sessions, s);
}

// Sessions made and erased in this batch, as the limit counts them; settled when it is committed or undone.
static void pending_add(struct broker *b, const struct broker_session *s, int n)
{
    struct tenant_state *t = map_get_u64(&b->tenants, s->tenant);
    if (t != NULL) { // made with the first session
        t->durable_pending += n;
    }
}

// What the commit of erasing does: `session` is NULL when nobody has it in memory yet.
static void erase_commit(struct core *c, void *arg)
{
    struct broker_session *s = arg;
    s->ending--;
    pending_add(broker_of(c), s, 1);
    session_end(broker_of(c), s);
    broker_session_unref(s);
}

static void erase_undo(struct core *c, void *arg)
{
    struct broker_session *s = arg;
    s->ending--;
    pending_add(broker_of(c), s, 1);
    broker_session_unref(s);
}

// The session of a row: in the table, or made in this batch.
static struct broker_session *session_of(const struct broker *b, uint32_t tenant, struct slice client_id, int64_t row)
{
    struct broker_session *s = session_table_find(&b->sessions, tenant, client_id);
    if (s != NULL && s->row == row) {
        return s;
    }
    for (s = b->fresh; s != NULL && s->row != row;) {
        s = s->next;
    }
    return s;
}

enum status session_erase(struct tx *tx, uint32_t tenant, int64_t row, struct slice client_id, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct broker_session *s = session_of(b, tenant, client_id, row);
    struct work *w = work_new(tx, err);
    if (w == NULL) {
        return ST_NOMEM;
    }
    if (s != NULL) {
        broker_session_ref(s);
        s->ending++;
        pending_add(b, s, -1);
        if (!tx_after_commit(tx, erase_commit, erase_undo, s)) {
            erase_undo(tx->core, s);
            return err_set(err, ST_NOMEM, "no memory to end a session");
        }
    }
    return queue_erase(tx, w, tenant, row, s, err);
}

enum status session_expire(struct tx *tx, struct err *err)
{
    for (unsigned i = 0; i < EXPIRE_SESSIONS; i++) {
        STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_EXPIRED]);
        stmt_bind_i64(stmt, 1, tx->now_us);
        stmt_bind_i64(stmt, 2, 1);
        bool there = false;
        enum status st = stmt_step(stmt, &there, err);
        if (st != ST_OK || !there) {
            return st;
        }
        const struct will_key k = {(uint32_t)col_i64(stmt, 1), col_text(stmt, 2)};
        st = will_on_end(tx, &k, err);
        if (st == ST_OK) {
            st = session_erase(tx, k.tenant, col_i64(stmt, 0), k.client_id, err);
        }
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

// --- CONNECT: whose is it? ---------------------------------------------------------------------------------------

// What the store knows of the client id.
struct stored {
    int64_t row; // 0: nothing
    uint8_t owner_kind;
    uint64_t owner;
    uint64_t lineage;
};

static enum status stored_get(struct tx *tx, uint32_t tenant, struct slice client_id, struct stored *ret,
                              struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_GET]);
    stmt_bind_i64(s, 1, tenant);
    stmt_bind_text(s, 2, client_id);
    bool there = false;
    enum status st = stmt_step(s, &there, err);
    *ret = (struct stored){0};
    if (st == ST_OK && there) {
        *ret = (struct stored){.row = col_i64(s, 0),
                               .owner_kind = (uint8_t)col_i64(s, 1),
                               .owner = (uint64_t)col_i64(s, 2),
                               .lineage = (uint64_t)col_i64(s, 3)};
    }
    return st;
}

static void report(struct tx *tx, enum security_what what, const struct principal *who, struct slice client_id)
{
    bool device = who->kind == WHO_DEVICE;
    security_report(tx->core, &(struct security_note){.what = what,
                                                      .tenant = who->tenant,
                                                      .client_id = client_id,
                                                      .by = slice_str(who->name),
                                                      .address = slice_str(who->addr),
                                                      .device = device ? who->row : 0,
                                                      .device_id = slice_str(device ? who->name : NULL)});
}

static enum status foreign(struct tx *tx, const struct principal *who, struct slice client_id, struct err *err)
{
    broker_count(COUNT_FOREIGN, 1);
    report(tx, SECURITY_CLIENT_ID_TAKEN, who, client_id);
    return err_set(err, ST_FORBIDDEN, "the client id belongs to another principal");
}

// S15: a client id belongs to whoever has the session, and the id of a device to that device.
static enum status check_owner(struct tx *tx, const struct principal *who, struct slice client_id,
                               const struct stored *row, struct err *err)
{
    const struct broker_session *s = session_table_find(&broker_of(tx->core)->sessions, who->tenant, client_id);
    if (row->row != 0 && (row->owner_kind != who->kind || row->owner != who->row)) {
        return foreign(tx, who, client_id, err);
    }
    if (s != NULL && s->row == 0 && s->link != NULL && (s->owner_kind != who->kind || s->owner != who->row)) {
        return foreign(tx, who, client_id, err);
    }
    if ((who->kind == WHO_DEVICE && slice_eq_str(client_id, who->name)) || !id_valid(client_id)) {
        return ST_OK;
    }
    struct device_ref d;
    struct principal system = principal_system();
    const struct principal *before = tx->who;
    system.tenant = who->tenant;
    tx->who = &system;
    enum status st = device_find(tx, client_id, &d, NULL);
    tx->who = before;
    if (st == ST_OK) {
        return foreign(tx, who, client_id, err);
    }
    return st == ST_NOT_FOUND ? ST_OK : err_set(err, st, "cannot look up the client id");
}

// S16: a session belongs to the credentials that follow each other (identity/lineage.h). While one of them still lets the device
// in, another credential is refused: there are two who call themselves this client, and one of them is not meant to. When all
// have ended it is the device's new one, which begins anew: *ret_anew. Sessions of applications need no more than their owner,
// which is the token itself.
static enum status check_lineage(struct tx *tx, const struct principal *who, struct slice client_id,
                                 const struct stored *row, bool *ret_anew, struct err *err)
{
    const struct broker_session *s = session_table_find(&broker_of(tx->core)->sessions, who->tenant, client_id);
    uint64_t of = row->row != 0 ? row->lineage : s != NULL && s->link != NULL ? s->lineage : 0;
    bool usable = false;
    *ret_anew = false;
    if (of == 0 || who->lineage == 0 || of == who->lineage) {
        return ST_OK;
    }
    enum status st = lineage_usable(tx, who->row, of, &usable, err);
    if (st != ST_OK) {
        return st;
    }
    if (usable) {
        broker_count(COUNT_LINEAGE_REFUSED, 1);
        report(tx, SECURITY_OTHER_CREDENTIAL, who, client_id);
        return err_set(err, ST_FORBIDDEN,
                       "the session of this client id belongs to another credential of this device, which is still "
                       "valid: revoke that one, or make this one with \"replaces\", or delete the session");
    }
    *ret_anew = true;
    return ST_OK;
}

// --- CONNECT: what the commit does -------------------------------------------------------------------------------

struct arrival {
    struct broker_session *session; // a reference
    struct link *link;              // a reference
    struct permit *permit;          // a reference
    uint32_t expiry_s;
    uint16_t receive_max;
};

static void arrival_free(struct arrival *a)
{
    broker_session_unref(a->session);
    link_unref(a->link);
    permit_unref(a->permit);
    free(a);
}

static void close_link(struct link *link, enum down_close why)
{
    struct down *d = down_close(why);
    if (d != NULL) {
        link_send(link, d);
    } else {
        log_error("broker", "no memory to close a connection", LOGU("conn", link->conn));
    }
}

struct closing {
    struct link *link; // a reference
    enum down_close why;
};

static void closing_undo(struct core *c, void *arg)
{
    (void)c;
    struct closing *cl = arg;
    link_unref(cl->link);
    free(cl);
}

static void closing_commit(struct core *c, void *arg)
{
    const struct closing *cl = arg;
    close_link(cl->link, cl->why);
    closing_undo(c, arg);
}

enum status session_close(struct tx *tx, const struct broker_session *s, enum down_close why, struct err *err)
{
    if (s == NULL || s->link == NULL) {
        return ST_OK;
    }
    struct closing *cl = malloc(sizeof(*cl));
    if (cl == NULL) {
        return err_set(err, ST_NOMEM, "no memory to close a connection");
    }
    *cl = (struct closing){link_ref(s->link), why};
    if (!tx_after_commit(tx, closing_commit, closing_undo, cl)) {
        closing_undo(tx->core, cl);
        return err_set(err, ST_NOMEM, "no memory to close a connection");
    }
    return ST_OK;
}

static void not_fresh(struct broker *b, struct broker_session *s)
{
    struct broker_session **at = &b->fresh;
    while (*at != NULL && *at != s) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = s->next;
        pending_add(b, s, -1);
    }
}

static void attach(struct broker *b, struct arrival *a)
{
    struct broker_session *s = a->session;
    index_lock(&b->index);
    s->link = a->link;
    s->permit = a->permit;
    s->loop = (uint16_t)broker_loop_of(b, a->link->loop)->at;
    s->lineage = a->link->who.lineage;
    index_unlock(&b->index, s->subs != NULL);
    a->link = NULL;
    a->permit = NULL;
    s->expiry_s = a->expiry_s;
    s->expires_us = 0;
    queue_attach(b, s, a->receive_max);
}

void session_list(struct broker *b, struct broker_session *s)
{
    not_fresh(b, s);
    session_table_put(&b->sessions, s);
    if (s->row != 0) {
        broker_tenant(b, s->tenant)->durable++; // made when it was opened or loaded
        broker_count(COUNT_SESSIONS_DURABLE, 1);
    }
}

static void arrival_commit(struct core *c, void *arg)
{
    struct arrival *a = arg;
    struct broker *b = broker_of(c);
    struct broker_session *s = a->session;
    struct broker_session *former = session_table_find(&b->sessions, s->tenant, session_client_id(s));
    if (former != NULL && former->link != NULL && former->link != a->link) {
        ban_takeover(c, &a->link->who, session_client_id(s));
        close_link(former->link, DOWN_CLOSE_TAKEOVER);
    }
    if (former != NULL && former != s) {
        session_end(b, former);
    }
    if (!s->listed) {
        session_list(b, s);
    }
    detach(b, s);
    attach(b, a);
    arrival_free(a);
}

static void arrival_undo(struct core *c, void *arg)
{
    struct arrival *a = arg;
    not_fresh(broker_of(c), a->session);
    arrival_free(a);
}

static enum status arrive(struct tx *tx, struct broker_session *s, struct link *link, const struct broker_open *in,
                          uint32_t expiry_s, struct err *err)
{
    struct arrival *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return err_set(err, ST_NOMEM, "no memory for one more session");
    }
    *a = (struct arrival){.session = broker_session_ref(s),
                          .link = link_ref(link),
                          .permit = permit_ref(in->permit),
                          .expiry_s = expiry_s,
                          .receive_max = in->receive_max};
    if (!tx_after_commit(tx, arrival_commit, arrival_undo, a)) {
        arrival_undo(tx->core, a);
        return err_set(err, ST_NOMEM, "no memory for one more session");
    }
    return ST_OK;
}

bool broker_connected(const struct core *c, const struct principal *who, struct slice client_id)
{
    const struct broker_session *s = session_table_find(&broker_of(c)->sessions, who->tenant, client_id);
    return s != NULL && s->link != NULL && s->owner_kind == who->kind && s->owner == who->row;
}

// --- CONNECT: the operation --------------------------------------------------------------------------------------

static enum status row_add(struct tx *tx, const struct broker_session *s, const struct link *link, uint32_t expiry_s,
                           struct err *err)
{
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_ADD]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, s->tenant);
    stmt_bind_text(stmt, 3, session_client_id(s));
    stmt_bind_i64(stmt, 4, s->owner_kind);
    stmt_bind_i64(stmt, 5, (int64_t)s->owner);
    stmt_bind_i64(stmt, 6, (int64_t)link->conn);
    stmt_bind_i64(stmt, 7, expiry_s);
    stmt_bind_i64(stmt, 8, tx->now_us);
    stmt_bind_i64(stmt, 9, (int64_t)link->who.lineage);
    return stmt_run(stmt, err);
}

// A new session; the old one of this client id, if any, is gone already.
static enum status begin(struct tx *tx, const struct link *link, const struct broker_open *in, uint32_t *expiry_s,
                         struct broker_session **ret, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct tenant_state *t = broker_tenant(b, link->who.tenant);
    *ret = session_new(b, link->who.tenant, (uint8_t)link->who.kind, link->who.row, in->client_id);
    if (*ret == NULL || t == NULL) {
        return err_set(err, ST_NOMEM, "no memory for one more session");
    }
    if (*expiry_s > 0 && (int64_t)t->durable + t->durable_pending >= (int64_t)b->settings.sessions_max) {
        limit_met(LIMIT_SESSIONS, link->who.tenant, in->client_id); // it ends with its connection
        *expiry_s = 0;
    }
    if (*expiry_s == 0) {
        return ST_OK;
    }
    (*ret)->row = b->next_session_row++;
    (*ret)->next = b->fresh;
    b->fresh = *ret;
    pending_add(b, *ret, 1);
    return row_add(tx, *ret, link, *expiry_s, err);
}

static enum status inbound_get(struct tx *tx, int64_t row, uint16_t **ret, size_t *ret_len, struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_INBOUND]);
    stmt_bind_i64(s, 1, row);
    for (;;) {
        bool there = false;
        enum status st = stmt_step(s, &there, err);
        if (st != ST_OK || !there) {
            return st;
        }
        uint16_t *more = reallocarray(*ret, *ret_len + 1, sizeof(**ret));
        if (more == NULL) {
            return err_set(err, ST_NOMEM, "no memory to resume a session");
        }
        *ret = more;
        more[(*ret_len)++] = (uint16_t)col_i64(s, 0);
    }
}

static enum status resume(struct tx *tx, struct broker_session *s, const struct link *link,
                          const struct broker_open *in, uint32_t expiry_s, struct err *err)
{
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_RESUME]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, (int64_t)link->conn);
    stmt_bind_i64(stmt, 3, expiry_s);
    stmt_bind_i64(stmt, 4, (int64_t)link->who.lineage);
    struct queue *q = NULL;
    enum status st = stmt_run(stmt, err);
    if (st == ST_OK) {
        st = queue_need(tx, s, &q, err);
    }
    return st == ST_OK ? subscribe_drop_denied(tx, s, in->permit, err) : st;
}

static void restarted(const struct link *link, struct slice client_id)
{
    broker_count(COUNT_LINEAGE_ENDED, 1);
    log_info("broker", "a session ends: its credentials have ended and the device has come with a new one",
             LOGSL("client", client_id), LOGU("tenant", link->who.tenant), LOGS("device", link->who.name));
}

// Ends or resumes what the store has, or begins anew. *ret_session: a reference.
static enum status open_session(struct tx *tx, const struct link *link, const struct broker_open *in,
                                struct broker_session **ret_session, bool *ret_present, uint32_t *expiry_s,
                                struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct stored row;
    bool anew = false;
    const struct will_key k = {link->who.tenant, in->client_id};
    enum status st = stored_get(tx, link->who.tenant, in->client_id, &row, err);
    if (st == ST_OK) {
        st = check_owner(tx, &link->who, in->client_id, &row, err);
    }
    if (st == ST_OK) {
        st = check_lineage(tx, &link->who, in->client_id, &row, &anew, err);
    }
    if (st != ST_OK) {
        return st;
    }
    struct broker_session *old = row.row != 0 ? session_of(b, k.tenant, k.client_id, row.row) : NULL;
    *ret_present = old != NULL && !in->clean_start && !anew;
    if (old != NULL && anew) {
        restarted(link, in->client_id);
    }
    st = will_on_open(tx, &k, *ret_present, err);
    if (st != ST_OK) {
        return st;
    }
    if (*ret_present) {
        *ret_session = broker_session_ref(old);
        return resume(tx, old, link, in, *expiry_s, err);
    }
    if (row.row != 0) {
        st = session_erase(tx, k.tenant, row.row, k.client_id, err);
    }
    return st == ST_OK ? begin(tx, link, in, expiry_s, ret_session, err) : st;
}

static enum status will_check(const struct broker_open *in, struct err *err)
{
    const struct message *m = in->will.msg;
    if (m == NULL) {
        return ST_OK;
    }
    if (broker_topic_reserved(message_topic(m)) || !permit_publish(in->permit, message_topic(m)) ||
        (m->retain && !permit_retain(in->permit, message_topic(m)))) {
        return err_set(err, ST_FORBIDDEN, "no policy allows the will's topic");
    }
    return ST_OK;
}

static enum status open_checked(struct tx *tx, struct link *link, const struct broker_open *in,
                                struct broker_session **ret_session, bool *ret_present, uint32_t *ret_expiry_s,
                                struct err *err)
{
    if (in->client_id.len == 0 || in->client_id.len > BROKER_CLIENT_ID_MAX) {
        return err_set(err, ST_INVALID, "a client id has 1 to %d bytes", BROKER_CLIENT_ID_MAX);
    }
    enum status st = will_check(in, err);
    if (st == ST_OK) {
        st = open_session(tx, link, in, ret_session, ret_present, ret_expiry_s, err);
    }
    if (st == ST_OK && in->will.msg != NULL) {
        st = will_put(tx, link, in->client_id, &in->will, err);
    }
    return st == ST_OK ? arrive(tx, *ret_session, link, in, *ret_expiry_s, err) : st;
}

enum status broker_open(struct tx *tx, struct link *link, const struct broker_open *in,
                        struct broker_session **ret_session, bool *ret_present, uint32_t *ret_expiry_s,
                        uint16_t **ret_inbound, size_t *ret_inbound_len, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    uint32_t most = b->settings.session_expiry_max_s;
    struct broker_session *s = NULL;
    uint32_t expiry_s = in->expiry_s < most ? in->expiry_s : most;
    *ret_inbound = NULL;
    *ret_inbound_len = 0;
    enum status st = open_checked(tx, link, in, &s, ret_present, &expiry_s, err);
    if (st == ST_OK && *ret_present) {
        st = inbound_get(tx, s->row, ret_inbound, ret_inbound_len, err);
    }
    message_unref(in->will.msg);
    if (st != ST_OK) {
        if (s != NULL) {
            not_fresh(b, s);
        }
        broker_session_unref(s);
        free(*ret_inbound);
        *ret_inbound = NULL;
        *ret_inbound_len = 0;
        return st;
    }
    *ret_session = s;
    *ret_expiry_s = expiry_s;
    return ST_OK;
}

// --- the end of a connection -------------------------------------------------------------------------------------

struct departure {
    struct departure *next;
    struct broker_session *session; // a reference
    struct link *link;              // a reference
    bool will;
    bool ends;        // the session ends with it
    uint64_t dropped; // of them, those the store knows now
    uint32_t expiry_s;
    int64_t expires_us;
};

static void departure_free(struct departure *d)
{
    broker_session_unref(d->session);
    link_unref(d->link);
    free(d);
}

void session_late_free(struct broker *b)
{
    while (b->late != NULL) {
        struct departure *d = b->late;
        b->late = d->next;
        departure_free(d);
    }
}

static void departure_commit(struct core *c, void *arg)
{
    struct departure *d = arg;
    struct broker *b = broker_of(c);
    d->session->dropped -= d->dropped;
    if (d->session->link == d->link || (d->session->link == NULL && d->ends)) {
        if (d->ends) {
            session_end(b, d->session);
        } else {
            detach(b, d->session);
            d->session->expiry_s = d->expiry_s;
            d->session->expires_us = d->expires_us;
        }
    }
    departure_free(d);
}

// The connection is gone whatever the store says; the rest is tried again.
static void departure_undo(struct core *c, void *arg)
{
    struct departure *d = arg;
    struct broker *b = broker_of(c);
    if (d->session->link == d->link) {
        detach(b, d->session);
    }
    d->next = b->late;
    b->late = d;
}

static enum status row_leave(struct tx *tx, const struct departure *d, bool *ret_was, struct err *err)
{
    struct broker_session *s = d->session;
    uint64_t sent = s->queue == NULL ? 0 : s->queue->pushed > s->queue->sent ? s->queue->pushed : s->queue->sent;
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_LEAVE]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, (int64_t)d->link->conn);
    stmt_bind_i64(stmt, 3, d->expiry_s);
    if (d->expires_us != 0) {
        stmt_bind_i64(stmt, 4, d->expires_us);
    }
    stmt_bind_i64(stmt, 5, (int64_t)sent);
    stmt_bind_i64(stmt, 6, (int64_t)s->dropped);
    enum status st = stmt_run(stmt, err);
    *ret_was = stmt_changes(stmt) > 0;
    return st;
}

static enum status depart_durable(struct tx *tx, struct departure *d, struct err *err)
{
    bool was = false;
    enum status st = row_leave(tx, d, &was, err);
    d->dropped = was ? d->session->dropped : 0;
    if (st != ST_OK || !was || d->expiry_s > 0) {
        return st;
    }
    d->ends = true;
    return session_erase(tx, d->session->tenant, d->session->row, session_client_id(d->session), err);
}

// `d` is the hooks' from here on, or was freed.
static enum status depart(struct tx *tx, struct departure *d, struct err *err)
{
    struct broker_session *s = d->session;
    if (!tx_after_commit(tx, departure_commit, departure_undo, d)) {
        departure_undo(tx->core, d);
        return err_set(err, ST_NOMEM, "no memory to close a session");
    }
    d->expires_us = d->expiry_s == UINT32_MAX ? 0 : tx->now_us + (int64_t)d->expiry_s * 1000000;
    const struct will_key k = {s->tenant, session_client_id(s)};
    enum status st = will_on_close(tx, &k, d->link->conn, d->will, s->row != 0 ? d->expiry_s : 0, err);
    if (st == ST_OK && s->row != 0) {
        st = depart_durable(tx, d, err);
    }
    return st;
}

enum status broker_close(struct tx *tx, struct broker_session *s, struct link *link, bool will, uint32_t expiry_s,
                         struct err *err)
{
    struct departure *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return err_set(err, ST_NOMEM, "no memory to close a session");
    }
    uint64_t left = atomic_load_explicit(&link->sent, memory_order_relaxed);
    if (s->queue != NULL && s->link == link && s->queue->pushed > left) {
        s->queue->pushed = left; // the rest never left the front: it will not be a repetition
    }
    uint32_t most = s->broker->settings.session_expiry_max_s;
    *d = (struct departure){.session = broker_session_ref(s),
                            .link = link_ref(link),
                            .will = will,
                            .ends = s->row == 0,
                            .expiry_s = expiry_s == BROKER_EXPIRY_KEEP ? s->expiry_s
                                        : expiry_s < most              ? expiry_s
                                                                       : most};
    return depart(tx, d, err);
}

enum status session_retry_late(struct tx *tx, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct departure *d = b->late;
    if (d == NULL) {
        return ST_OK;
    }
    b->late = d->next;
    return depart(tx, d, err);
}

// --- marks -------------------------------------------------------------------------------------------------------

uint32_t broker_session_marks(const struct broker_session *s)
{
    return s->marks;
}

struct mark {
    struct broker_session *session; // a reference
    uint32_t marks;
};

static void mark_undo(struct core *c, void *arg)
{
    (void)c;
    struct mark *m = arg;
    m->session->marks = m->marks;
    broker_session_unref(m->session);
    free(m);
}

static void mark_commit(struct core *c, void *arg)
{
    (void)c;
    struct mark *m = arg;
    broker_session_unref(m->session);
    free(m);
}

enum status broker_session_mark(struct tx *tx, struct broker_session *s, uint32_t marks, struct err *err)
{
    struct mark *m = calloc(1, sizeof(*m));
    if (m == NULL || !tx_after_commit(tx, mark_commit, mark_undo, m)) {
        free(m);
        return err_set(err, ST_NOMEM, "no memory for a subscription");
    }
    *m = (struct mark){broker_session_ref(s), s->marks};
    s->marks = marks;
    if (s->row == 0) {
        return ST_OK;
    }
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_MARK]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, marks);
    return stmt_run(stmt, err);
}
