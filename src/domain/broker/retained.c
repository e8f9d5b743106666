// Retained messages: rows in the store, their names as a tree in memory so that a filter finds them without looking at all.
#include <stdlib.h>

#include "base/buf.h"
#include "core/limit.h"
#include "domain/broker/broker_priv.h"
#include "domain/policy/policy.h"
#define SQL_BROKER_RETAINED_DEFINE
#include "domain/broker/sql/broker_retained.sql.h"

#define EXPIRE_ROWS 500 // of one tick
#define PERMITS_MAX 10000

// The value of a node. It stays while an operation that has changed it is not committed.
struct retained_name {
    int64_t row;   // 0: nothing is retained
    uint64_t hash; // of the topic
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
    name->hash = hash_bytes(topic);
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
        limit_met(LIMIT_RETAINED, m->tenant, by->client_id);
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

enum status retained_read(struct tx *tx, const struct broker_session *s, int64_t row, struct message **ret,
                          struct err *err)
{
    struct retained r;
    bool there = false;
    bool may = false;
    *ret = NULL;
    enum status st = row_get(tx, s->tenant, row, &r, &there, err);
    if (st == ST_OK && there) {
        st = may_send(tx, s, &r, &may, err);
    }
    if (st != ST_OK || !may) {
        message_unref(r.msg);
        return st;
    }
    *ret = r.msg;
    return ST_OK;
}

// What a new subscription is to get. *ret_rows: malloc'ed, NULL when there is nothing.
static enum status find_rows(struct broker *b, const struct broker_session *s, struct slice filter,
                             struct replay_row **ret_rows, size_t *ret_len, struct err *err)
{
    const struct tenant_state *t = map_get_u64(&b->tenants, s->tenant);
    struct tree_walk *w = b->cache.walk;
    *ret_rows = NULL;
    *ret_len = 0;
    if (t == NULL || t->retained == 0) {
        return ST_OK;
    }
    if (!tree_match_filter(&t->retained_names, filter, w)) {
        return err_set(err, ST_NOMEM, "no memory to find retained messages");
    }
    if (w->found_len == 0) {
        return ST_OK;
    }
    struct replay_row *rows = reallocarray(NULL, w->found_len, sizeof(*rows));
    if (rows == NULL) {
        return err_set(err, ST_NOMEM, "no memory to find retained messages");
    }
    for (size_t i = 0; i < w->found_len; i++) {
        const struct retained_name *name = w->found[i]->value;
        if (name->row != 0) {
            rows[(*ret_len)++] = (struct replay_row){.hash = name->hash, .row = name->row};
        }
    }
    *ret_rows = rows;
    return ST_OK;
}

// Those a durable session must not lose are stored with the subscription; *len: the others are left in rows.
static enum status store_now(struct tx *tx, struct broker_session *s, const struct broker_sub *sub,
                             struct replay_row *rows, size_t *len, struct err *err)
{
    struct work *w = work_new(tx, err);
    if (w == NULL) {
        return ST_NOMEM;
    }
    // What follows a SUBACK must not overtake it: the queue is read by an operation of its own.
    w->later = true;
    size_t left = 0;
    for (size_t i = 0; i < *len; i++) {
        struct message *m = NULL;
        enum status st = retained_read(tx, s, rows[i].row, &m, err);
        if (st == ST_OK && m != NULL && m->qos > 0) {
            const struct queue_put how = {
                .qos = m->qos < sub->qos ? m->qos : sub->qos, .retain = true, .ids = &sub->id, .ids_len = sub->id != 0};
            st = queue_store(tx, w, s, m, 0, &how, err);
        } else if (st == ST_OK && m != NULL) {
            rows[left++] = rows[i];
        }
        message_unref(m);
        if (st != ST_OK) {
            return st;
        }
    }
    *len = left;
    return ST_OK;
}

enum status retained_send(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, struct err *err)
{
    struct replay_row *rows = NULL;
    size_t len = 0;
    enum status st = find_rows(broker_of(tx->core), s, sub->filter, &rows, &len, err);
    if (st == ST_OK && len > 0 && s->row != 0 && sub->qos > 0) {
        st = store_now(tx, s, sub, rows, &len, err);
    }
    if (st == ST_OK && len > 0) {
        st = replay_start(tx, s, sub, rows, len, err);
    }
    free(rows);
    return st;
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
