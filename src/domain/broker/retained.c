// Retained messages: rows in the store, their names as a tree in memory so that a filter finds them without looking at all.
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "domain/broker/broker_priv.h"
#include "domain/policy/policy.h"
#define SQL_BROKER_RETAINED_DEFINE
#include "domain/broker/sql/broker_retained.sql.h"

#define PAGE_ROWS   256 // to a new subscriber at once
#define EXPIRE_ROWS 500 // of one tick
#define PERMITS_MAX 10000

// The value of a node. It stays while an operation that has changed it is not committed.
struct retained_name {
    int64_t row;   // 0: nothing is retained
    uint32_t pins; // operations that are not committed
    struct tree_node *node;
};

void retained_free(struct tenant_state *t)
{
    if (t->retained_names.root != NULL) {
        tree_release(&t->retained_names, free);
    }
}

static struct retained_name *name_need(struct tenant_state *t, struct slice topic)
{
    struct tree_node *n = tree_need(&t->retained_names, topic);
    if (n == NULL || n->value != NULL) {
        return n != NULL ? n->value : NULL;
    }
    struct retained_name *name = calloc(1, sizeof(*name));
    if (name == NULL) {
        tree_drop(&t->retained_names, n);
        return NULL;
    }
    name->node = n;
    n->value = name;
    return name;
}

static void name_drop_if_unused(struct tenant_state *t, struct retained_name *name)
{
    if (name->row == 0 && name->pins == 0) {
        struct tree_node *n = name->node;
        n->value = NULL;
        tree_drop(&t->retained_names, n);
        free(name);
    }
}

// --- changes -----------------------------------------------------------------------------------------------------

struct retained_change {
    struct tenant_state *tenant;
    struct retained_name *name;
    int64_t row;
};

static void change_commit(struct core *c, void *arg)
{
    (void)c;
    struct retained_change *ch = arg;
    int64_t more = (ch->row != 0) - (ch->name->row != 0);
    ch->tenant->retained = (uint32_t)((int64_t)ch->tenant->retained + more);
    broker_count(COUNT_RETAINED, more);
    ch->name->row = ch->row;
    ch->name->pins--;
    name_drop_if_unused(ch->tenant, ch->name);
    free(ch);
}

static void change_undo(struct core *c, void *arg)
{
    (void)c;
    struct retained_change *ch = arg;
    ch->name->pins--;
    name_drop_if_unused(ch->tenant, ch->name);
    free(ch);
}

static enum status change(struct tx *tx, struct tenant_state *t, struct retained_name *name, int64_t row,
                          struct err *err)
{
    struct retained_change *ch = calloc(1, sizeof(*ch));
    name->pins++;
    if (ch != NULL) {
        *ch = (struct retained_change){t, name, row};
        if (tx_after_commit(tx, change_commit, change_undo, ch)) {
            return ST_OK;
        }
        free(ch);
    }
    name->pins--;
    name_drop_if_unused(t, name);
    return err_set(err, ST_NOMEM, "no memory for a retained message");
}

static enum status row_del(struct tx *tx, uint32_t tenant, struct slice topic, struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_DEL]);
    stmt_bind_i64(s, 1, tenant);
    stmt_bind_text(s, 2, topic);
    return stmt_run(s, err);
}

static enum status row_put(struct tx *tx, struct broker *b, const struct message *m, const struct retained_by *by,
                           int64_t *ret_row, struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_PUT]);
    stmt_bind_i64(s, 1, b->next_retained_row++);
    stmt_bind_i64(s, 2, m->tenant);
    stmt_bind_text(s, 3, message_topic(m));
    stmt_bind_i64(s, 4, by->kind);
    stmt_bind_i64(s, 5, (int64_t)by->row);
    stmt_bind_text(s, 6, by->client_id);
    stmt_bind_i64(s, 7, m->qos);
    stmt_bind_i64(s, 8, tx->now_us);
    if (m->expires_us != 0) {
        stmt_bind_i64(s, 9, m->expires_us);
    }
    stmt_bind_blob(s, 10, message_props(m));
    stmt_bind_blob(s, 11, message_payload(m));
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        *ret_row = row ? col_i64(s, 0) : 0;
        st = stmt_step(s, &row, err);
    }
    return st;
}

static enum status retained_del(struct tx *tx, struct tenant_state *t, struct slice topic, struct err *err)
{
    enum status st = row_del(tx, t->tenant, topic, err);
    struct tree_node *n = tree_find(&t->retained_names, topic);
    return st == ST_OK && n != NULL && n->value != NULL ? change(tx, t, n->value, 0, err) : st;
}

enum status retained_drop(struct tx *tx, uint32_t tenant, struct slice topic, struct err *err)
{
    struct tenant_state *t = broker_tenant(broker_of(tx->core), tenant);
    return t != NULL ? retained_del(tx, t, topic, err) : err_set(err, ST_NOMEM, "no memory for a retained message");
}

enum status retained_set(struct tx *tx, const struct message *m, const struct retained_by *by, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct tenant_state *t = broker_tenant(b, m->tenant);
    if (t == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a retained message");
    }
    if (m->payload_len == 0) {
        return retained_del(tx, t, message_topic(m), err);
    }
    const struct tree_node *n = tree_find(&t->retained_names, message_topic(m));
    if ((n == NULL || n->value == NULL) && t->retained >= b->settings.retained_max) {
        return err_set(err, ST_LIMIT, "the tenant has its %u retained messages", b->settings.retained_max);
    }
    int64_t row = 0;
    enum status st = row_put(tx, b, m, by, &row, err);
    if (st != ST_OK) {
        return st;
    }
    struct retained_name *name = name_need(t, message_topic(m));
    return name != NULL ? change(tx, t, name, row, err) : err_set(err, ST_NOMEM, "no memory for a retained message");
}

// --- rows --------------------------------------------------------------------------------------------------------

// A retained message as the store has it.
struct retained {
    struct message *msg; // a reference
    struct principal by;
    char client_id[BROKER_CLIENT_ID_MAX];
    size_t client_id_len;
};

static enum status row_get(struct tx *tx, uint32_t tenant, int64_t row, struct retained *ret, bool *ret_there,
                           struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_ROW]);
    stmt_bind_i64(s, 1, row);
    *ret = (struct retained){.msg = NULL};
    enum status st = stmt_step(s, ret_there, err);
    if (st != ST_OK || !*ret_there) {
        return st;
    }
    struct message_parts parts = {.tenant = tenant,
                                  .expires_us = col_i64(s, 5),
                                  .qos = (uint8_t)col_i64(s, 4),
                                  .retain = true,
                                  .topic = col_text(s, 0),
                                  .props = col_blob(s, 6),
                                  .payload = col_blob(s, 7)};
    ret->by = (struct principal){
        .kind = (enum principal_kind)col_i64(s, 1), .tenant = tenant, .row = (uint64_t)col_i64(s, 2)};
    struct buf id = buf_fixed(ret->client_id, sizeof(ret->client_id));
    buf_slice(&id, col_text(s, 3));
    ret->client_id_len = id.len;
    ret->msg = message_stored(&parts);
    return ret->msg != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for a retained message");
}

// --- may it be shown? (S11) --------------------------------------------------------------------------------------

// Permits of publishers, kept until a policy changes.
struct owner_permit {
    struct permit *permit; // a reference; NULL: there is no such principal any more
    enum principal_kind kind;
    uint64_t row;
    struct slice client_id; // behind it
};

void retained_forget_permits(struct broker *b)
{
    size_t pos = 0;
    struct owner_permit *o;
    while ((o = map_next(&b->permits, &pos, NULL, NULL)) != NULL) {
        permit_unref(o->permit);
        free(o);
    }
    map_release(&b->permits);
    map_init(&b->permits);
}

static enum status owner_permit_make(struct tx *tx, const struct retained *r, struct owner_permit **ret,
                                     struct err *err)
{
    struct owner_permit *o = calloc(1, sizeof(*o) + r->client_id_len);
    if (o == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a permit");
    }
    struct buf id = buf_fixed(o + 1, r->client_id_len);
    buf_slice(&id, slice_make(r->client_id, r->client_id_len));
    o->client_id = buf_view(&id);
    o->kind = r->by.kind;
    o->row = r->by.row;
    enum status st = policy_permit(tx, &r->by, o->client_id, &o->permit, err);
    if (st != ST_OK && st != ST_NOT_FOUND) {
        free(o);
        return st;
    }
    *ret = o;
    return ST_OK;
}

static enum status owner_may(struct tx *tx, struct broker *b, const struct retained *r, bool *ret_may, struct err *err)
{
    if (r->by.kind == WHO_SYSTEM) {
        *ret_may = true;
        return ST_OK;
    }
    struct slice id = slice_make(r->client_id, r->client_id_len);
    uint64_t key = hash_bytes(id) ^ hash_u64(r->by.row + r->by.kind);
    struct owner_permit *o = map_get_u64(&b->permits, key);
    bool kept = o != NULL && o->kind == r->by.kind && o->row == r->by.row && slice_eq(o->client_id, id);
    enum status st = kept ? ST_OK : owner_permit_make(tx, r, &o, err);
    if (st != ST_OK) {
        return st;
    }
    *ret_may = permit_publish(o->permit, message_topic(r->msg)) && permit_retain(o->permit, message_topic(r->msg));
    if (!kept && b->permits.len >= PERMITS_MAX) {
        retained_forget_permits(b);
    }
    if (!kept && (map_get_u64(&b->permits, key) != NULL || !map_set_u64(&b->permits, key, o))) {
        permit_unref(o->permit);
        free(o);
    }
    return ST_OK;
}

static enum status may_send(struct tx *tx, const struct broker_session *s, const struct retained *r, bool *ret_may,
                            struct err *err)
{
    *ret_may = false;
    if (r->msg->expires_us != 0 && r->msg->expires_us <= tx->now_us) {
        return ST_OK;
    }
    if (!permit_receive(s->permit, message_topic(r->msg))) {
        return ST_OK;
    }
    return owner_may(tx, s->broker, r, ret_may, err);
}

// --- to a new subscriber -----------------------------------------------------------------------------------------

// What follows after SUBACK: rows still to be sent, in pages.
struct retained_job {
    struct retained_job *next;
    struct broker_session *session; // a reference
    struct link *link;              // a reference: the connection that has subscribed
    uint32_t id;                    // subscription identifier
    uint8_t qos;
    size_t at, len;
    int64_t rows[];
};

static void job_free(struct retained_job *j)
{
    broker_session_unref(j->session);
    link_unref(j->link);
    free(j);
}

void retained_jobs_free(struct broker *b)
{
    while (b->jobs != NULL) {
        struct retained_job *j = b->jobs;
        b->jobs = j->next;
        job_free(j);
    }
}

static void job_commit(struct core *c, void *arg)
{
    struct retained_job **at = &broker_of(c)->jobs;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = arg;
    pages_kick(broker_of(c));
}

static void job_undo(struct core *c, void *arg)
{
    (void)c;
    job_free(arg);
}

static enum status send_row(struct tx *tx, struct work *w, struct broker_session *s, const struct retained_job *j,
                            int64_t row, struct err *err)
{
    struct retained r;
    bool there = false;
    bool may = false;
    enum status st = row_get(tx, s->tenant, row, &r, &there, err);
    if (st == ST_OK && there) {
        st = may_send(tx, s, &r, &may, err);
    }
    if (st != ST_OK || !may) {
        message_unref(r.msg);
        return st;
    }
    uint8_t qos = r.msg->qos < j->qos ? r.msg->qos : j->qos;
    if (s->row != 0 && qos > 0) {
        const struct queue_put how = {.qos = qos, .retain = true, .ids = &j->id, .ids_len = j->id != 0};
        st = queue_store(tx, w, s, r.msg, 0, &how, err);
        message_unref(r.msg);
        return st;
    }
    struct parcel p = {.session = broker_session_ref(s), .msg = r.msg, .qos = qos, .retain = true};
    if (j->id != 0 && !parcel_id(&p, j->id)) {
        parcel_release(&p);
        return err_set(err, ST_NOMEM, "no memory for a retained message");
    }
    // cppcheck-suppress memleak ; work_parcel takes what p holds
    return work_parcel(w, &p) ? ST_OK : err_set(err, ST_NOMEM, "no memory for a retained message");
}

static enum status find_rows(struct broker *b, struct broker_session *s, const struct broker_sub *sub,
                             struct retained_job **ret, struct err *err)
{
    const struct tenant_state *t = map_get_u64(&b->tenants, s->tenant);
    struct tree_walk *w = b->cache.walk;
    *ret = NULL;
    if (t == NULL || t->retained == 0) {
        return ST_OK;
    }
    if (!tree_match_filter(&t->retained_names, sub->filter, w)) {
        return err_set(err, ST_NOMEM, "no memory to find retained messages");
    }
    if (w->found_len == 0) {
        return ST_OK;
    }
    struct retained_job *j = calloc(1, sizeof(*j) + w->found_len * sizeof(j->rows[0]));
    if (j == NULL) {
        return err_set(err, ST_NOMEM, "no memory to find retained messages");
    }
    for (size_t i = 0; i < w->found_len; i++) {
        const struct retained_name *name = w->found[i]->value;
        if (name->row != 0) {
            j->rows[j->len++] = name->row;
        }
    }
    j->session = broker_session_ref(s);
    j->link = link_ref(s->link);
    j->qos = sub->qos;
    j->id = sub->id;
    *ret = j;
    return ST_OK;
}

// Those a durable session must not lose are stored with the subscription.
static enum status store_now(struct tx *tx, struct retained_job *j, struct err *err)
{
    struct work *w = work_new(tx, err);
    if (w == NULL) {
        return ST_NOMEM;
    }
    for (size_t i = 0; i < j->len; i++) {
        enum status st = send_row(tx, w, j->session, j, j->rows[i], err);
        if (st != ST_OK) {
            return st;
        }
    }
    // What follows a SUBACK must not overtake it: the queue is read by an operation of its own.
    w->later = true;
    return ST_OK;
}

enum status retained_send(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, struct err *err)
{
    struct retained_job *j = NULL;
    enum status st = find_rows(broker_of(tx->core), s, sub, &j, err);
    if (st != ST_OK || j == NULL) {
        return st;
    }
    if (s->row != 0 && sub->qos > 0) {
        st = store_now(tx, j, err);
        job_free(j);
        return st;
    }
    if (!tx_after_commit(tx, job_commit, job_undo, j)) {
        job_free(j);
        return err_set(err, ST_NOMEM, "no memory to send retained messages");
    }
    return ST_OK;
}

bool retained_pages_wait(const struct broker *b)
{
    return b->jobs != NULL;
}

enum status retained_page(struct tx *tx, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct retained_job *j = b->jobs;
    if (j == NULL) {
        return ST_OK;
    }
    struct work *w = work_new(tx, err);
    if (w == NULL) {
        return ST_NOMEM;
    }
    bool gone = j->session->link != j->link;
    for (unsigned i = 0; i < PAGE_ROWS && j->at < j->len && !gone; i++) {
        enum status st = send_row(tx, w, j->session, j, j->rows[j->at++], err);
        if (st != ST_OK) {
            return st;
        }
    }
    b->jobs = j->next;
    if (gone || j->at == j->len) {
        job_free(j);
        return ST_OK;
    }
    struct retained_job **at = &b->jobs; // the others have their turn
    while (*at != NULL) {
        at = &(*at)->next;
    }
    j->next = NULL;
    *at = j;
    return ST_OK;
}

// --- the end of messages -----------------------------------------------------------------------------------------

// Deletes what a statement of (tenant, topic) finds.
static enum status del_found(struct tx *tx, struct stmt *s, struct err *err)
{
    bool row = true;
    while (row) {
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        struct tenant_state *t = broker_tenant(broker_of(tx->core), (uint32_t)col_i64(s, 0));
        st = t != NULL ? retained_del(tx, t, col_text(s, 1), err) : err_set(err, ST_NOMEM, "no memory");
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

enum status retained_expire(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_EXPIRED]);
    stmt_bind_i64(s, 1, tx->now_us);
    stmt_bind_i64(s, 2, EXPIRE_ROWS);
    return del_found(tx, s, err);
}

enum status retained_forget(struct tx *tx, uint8_t kind, uint64_t row, struct err *err)
{
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_OWNED]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, kind);
    stmt_bind_i64(s, 3, -1);
    return del_found(tx, s, err);
}

enum status retained_load(struct tx *tx, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    STMT(s, tx->db, &sql_broker_retained[SQL_BROKER_RETAINED_LOAD]);
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        struct tenant_state *t = broker_tenant(b, (uint32_t)col_i64(s, 1));
        struct retained_name *name = t != NULL ? name_need(t, col_text(s, 2)) : NULL;
        if (name == NULL) {
            return err_set(err, ST_NOMEM, "no memory for the names of retained messages");
        }
        name->row = col_i64(s, 0);
        t->retained++;
        broker_count(COUNT_RETAINED, 1);
    }
}
