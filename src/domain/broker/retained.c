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
// What one run of a SUBSCRIBE may do: the core has others to serve.
#define FETCH_ROWS  128
#define FETCH_BYTES (64u << 10)
#define FETCH_WALK  20000 // names looked at; one search always may be

// The value of a node. It stays while an operation that has changed it is not committed.
struct retained_name {
    int64_t row;      // 0: nothing is retained
    int64_t next_row; // with pins: as it will be
    uint64_t hash;    // of the topic
    uint64_t changed; // the last change's number
    uint32_t pins;    // operations that are not committed
    uint8_t qos, next_qos;
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
    int32_t ahead;
    uint8_t qos;
};

static void change_commit(struct core *c, void *arg)
{
    (void)c;
    struct retained_change *ch = arg;
    int64_t more = (ch->row != 0) - (ch->name->row != 0);
    ch->tenant->retained = (uint32_t)((int64_t)ch->tenant->retained + more);
    broker_count(COUNT_RETAINED, more);
    ch->name->row = ch->row;
    ch->name->qos = ch->qos;
    ch->tenant->retained_ahead -= ch->ahead;
    ch->name->pins--;
    name_drop_if_unused(ch->tenant, ch->name);
    free(ch);
}

static void change_undo(struct core *c, void *arg)
{
    (void)c;
    struct retained_change *ch = arg;
    ch->tenant->retained_ahead -= ch->ahead;
    ch->name->pins--;
    name_drop_if_unused(ch->tenant, ch->name);
    free(ch);
}

// As operations of this commit see it; 0: nothing is retained.
static int64_t row_now(const struct retained_name *name)
{
    return name->pins > 0 ? name->next_row : name->row;
}

static enum status change(struct tx *tx, struct tenant_state *t, struct retained_name *name, int64_t row, uint8_t qos,
                          struct err *err)
{
    struct retained_change *ch = calloc(1, sizeof(*ch));
    int32_t ahead = (row != 0) - (row_now(name) != 0);
    name->pins++;
    if (ch != NULL) {
        *ch = (struct retained_change){t, name, row, ahead, qos};
        if (tx_after_commit(tx, change_commit, change_undo, ch)) {
            t->retained_ahead += ahead;
            name->next_row = row;
            name->next_qos = qos;
            name->changed = ++t->broker->retained_changes;
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
    return st == ST_OK && n != NULL && n->value != NULL ? change(tx, t, n->value, 0, 0, err) : st;
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
    bool is_new = n == NULL || n->value == NULL || row_now(n->value) == 0;
    if (is_new && (int64_t)t->retained + t->retained_ahead >= b->settings.retained_max) {
        limit_met(LIMIT_RETAINED, m->tenant, by->client_id);
        return err_set(err, ST_LIMIT, "the tenant has its %u retained messages", b->settings.retained_max);
    }
    int64_t row = 0;
    enum status st = row_put(tx, b, m, by, &row, err);
    if (st != ST_OK) {
        return st;
    }
    struct retained_name *name = name_need(t, message_topic(m));
    if (name == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a retained message");
    }
    return change(tx, t, name, row, m->qos, err);
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

void broker_fetch_run(struct broker_fetch *f)
{
    f->state = FETCH_DONE;
    f->read = 0;
    f->bytes = f->walked = 0;
}

static void fetch_clear(struct broker_fetch *f)
{
    free(f->rows);
    f->rows = NULL;
    f->len = f->at = 0;
    f->found = false;
}

void broker_fetch_end(struct broker_fetch *f)
{
    fetch_clear(f);
    f->since = 0;
}

// Which ones a search is for: those that are stored for a durable session, or the others.
enum wanted { WANT_ALL, WANT_QOS0, WANT_STORED };

static bool is_wanted(const struct retained_name *name, enum wanted want, const struct broker_fetch *f)
{
    uint8_t qos = name->pins > 0 ? name->next_qos : name->qos;
    bool kind = want == WANT_ALL || (qos > 0) == (want == WANT_STORED);
    bool fresh = name->changed >= f->since && (!f->catch_up || name->changed <= f->ceiling);
    return kind && fresh && row_now(name) != 0;
}

// f->rows: what the filter matches and has changed since f->since; NULL when there is nothing.
static enum status find_rows(struct broker *b, const struct broker_session *s, struct slice filter, enum wanted want,
                             struct broker_fetch *f, struct err *err)
{
    const struct tenant_state *t = map_get_u64(&b->tenants, s->tenant);
    struct tree_walk *w = b->cache.walk;
    fetch_clear(f);
    f->found = true;
    if (t == NULL || (int64_t)t->retained + t->retained_ahead <= 0) {
        return ST_OK;
    }
    if (!tree_match_filter(&t->retained_names, filter, w)) {
        return err_set(err, ST_NOMEM, "no memory to find retained messages");
    }
    f->walked += w->found_len;
    size_t n = 0;
    for (size_t i = 0; i < w->found_len; i++) {
        n += is_wanted(w->found[i]->value, want, f);
    }
    if (n == 0) {
        return ST_OK;
    }
    f->rows = reallocarray(NULL, n, sizeof(*f->rows));
    if (f->rows == NULL) {
        return err_set(err, ST_NOMEM, "no memory to find retained messages");
    }
    for (size_t i = 0; i < w->found_len && f->len < n; i++) {
        const struct retained_name *name = w->found[i]->value;
        if (is_wanted(name, want, f)) {
            f->rows[f->len++] = (struct replay_row){.hash = name->hash, .row = row_now(name)};
        }
    }
    return ST_OK;
}

static bool spent(const struct broker_fetch *f)
{
    return f->read >= FETCH_ROWS || f->bytes >= FETCH_BYTES || f->walked >= FETCH_WALK;
}

// Reads one and stores it. *ret_full: the queue has no room for it.
static enum status store_one(struct tx *tx, struct work *w, struct broker_session *s, const struct broker_sub *sub,
                             struct broker_fetch *f, bool *ret_full, struct err *err)
{
    struct message *m = NULL;
    struct queue *q = NULL;
    *ret_full = false;
    enum status st = retained_read(tx, s, f->rows[f->at].row, &m, err);
    if (st == ST_OK && m != NULL && m->qos > 0) {
        st = queue_need(tx, s, &q, err);
    }
    if (st == ST_OK && q != NULL) {
        const struct queue_put how = {
            .qos = m->qos < sub->qos ? m->qos : sub->qos, .retain = true, .ids = &sub->id, .ids_len = sub->id != 0};
        *ret_full = queue_full(w->b, q, message_bytes(m));
        f->bytes += message_bytes(m);
        st = queue_store(tx, w, s, m, 0, &how, err); // counts what is dropped
    }
    message_unref(m);
    f->read++;
    f->at++;
    return st;
}

// The rest of the list as far as this run may go. The queue is full with the first message that does not fit: the others are
// not even read, so a list costs no more than the queue holds.
static enum status store_page(struct tx *tx, struct broker_session *s, const struct broker_sub *sub,
                              struct broker_fetch *f, struct err *err)
{
    struct work *w = f->at < f->len ? work_new(tx, err) : NULL;
    if (f->at < f->len && w == NULL) {
        return ST_NOMEM;
    }
    if (w != NULL) {
        // What follows a SUBACK must not overtake it: the queue is read by an operation of its own.
        w->later = true;
    }
    while (f->at < f->len && f->read < FETCH_ROWS && f->bytes < FETCH_BYTES) {
        bool full = false;
        enum status st = store_one(tx, w, s, sub, f, &full, err);
        if (st != ST_OK) {
            return st;
        }
        if (full) {
            s->dropped += f->len - f->at;
            broker_count(COUNT_DROPPED_FULL, (int64_t)(f->len - f->at));
            f->at = f->len;
        }
    }
    return ST_OK;
}

// Until all there is now is stored. What changes between two runs is looked at again, so that the run that makes the
// subscription active has missed nothing.
static enum status store_all(struct tx *tx, struct broker_session *s, const struct broker_sub *sub,
                             struct broker_fetch *f, struct err *err)
{
    const struct broker *b = broker_of(tx->core);
    for (;;) {
        enum status st = ST_OK;
        if (!f->found) {
            st = find_rows(broker_of(tx->core), s, sub->filter, WANT_STORED, f, err);
            f->since = b->retained_changes + 1;
        }
        st = st == ST_OK ? store_page(tx, s, sub, f, err) : st;
        if (st != ST_OK || f->at < f->len) {
            f->state = FETCH_MORE;
            return st;
        }
        f->found = false;
        if (f->since > b->retained_changes) {
            return ST_OK;
        }
    }
}

// What is not stored follows in pages of its own.
static enum status send_rest(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, bool stored,
                             struct broker_fetch *f, struct err *err)
{
    f->since = f->catch_up ? f->floor : 0;
    enum status st = find_rows(broker_of(tx->core), s, sub->filter, stored ? WANT_QOS0 : WANT_ALL, f, err);
    if (st == ST_OK && f->len > 0) {
        st = replay_start(tx, s, sub, f->rows, f->len, err);
    }
    return st;
}

static enum status fetch(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, struct broker_fetch *f,
                         struct err *err)
{
    bool stored = s->row != 0 && sub->qos > 0;
    if (!f->found && spent(f)) {
        f->state = FETCH_MORE;
        return ST_OK;
    }
    if (s->link == NULL) { // the connection has ended, or lost its session
        return ST_OK;
    }
    if (!f->found && f->since == 0) {
        f->since = f->catch_up ? f->floor : 0;
    }
    if (!broker_replay_room(s->link)) {
        f->state = FETCH_WAIT;
        return ST_OK;
    }
    enum status st = stored ? store_all(tx, s, sub, f, err) : ST_OK;
    if (st == ST_OK && f->state == FETCH_DONE) {
        st = send_rest(tx, s, sub, stored, f, err);
    }
    return st;
}

enum status retained_send(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, struct err *err)
{
    struct broker_fetch *f = sub->fetch;
    enum status st = fetch(tx, s, sub, f, err);
    if (st != ST_OK || f->state == FETCH_DONE) {
        fetch_clear(f);
        f->since = 0;
    }
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
        name->qos = (uint8_t)col_i64(s, 3);
        t->retained++;
        broker_count(COUNT_RETAINED, 1);
    }
}
