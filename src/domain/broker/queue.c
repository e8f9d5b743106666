// The durable queue of a session: rows in the store, and what of them is with the connection.
#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "core/quota.h"
#include "domain/broker/broker_priv.h"
#define SQL_BROKER_QUEUE_DEFINE
#include "domain/broker/sql/broker_queue.sql.h"
#include "domain/broker/sql/broker_session.sql.h"

#define OUT_BYTES_MAX (1u << 20) // with one connection; one message always may be
#define READ_AHEAD    32         // beyond what the client takes at once

void queue_free(struct queue *q)
{
    if (q != NULL) {
        free(q->out);
        free(q);
    }
}

static uint32_t window_of(const struct broker_session *s)
{
    uint32_t most = s->broker->settings.window;
    uint32_t want = (uint32_t)s->receive_max + READ_AHEAD;
    return s->receive_max == 0 || want > most ? most : want;
}

struct queue *queue_make(struct broker *b, struct broker_session *s, const struct queue_sum *sum)
{
    struct queue *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    q->len = sum->len;
    q->bytes = sum->bytes;
    q->sent = sum->sent;
    q->next_seq = (sum->last > sum->sent ? sum->last : sum->sent) + 1;
    q->window = window_of(s);
    q->tenant = s->tenant;
    s->queue = q;
    broker_count(COUNT_QUEUED, q->len);
    broker_count(COUNT_QUEUED_BYTES, (int64_t)q->bytes);
    quota_count(quotas_of(b->core), q->tenant, QUOTA_QUEUED_BYTES, (int64_t)q->bytes);
    return q;
}

enum status queue_need(struct tx *tx, struct broker_session *s, struct queue **ret, struct err *err)
{
    *ret = s->queue;
    if (s->queue != NULL) {
        return ST_OK;
    }
    STMT(stmt, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_LOAD]);
    stmt_bind_i64(stmt, 1, s->row);
    bool row = false;
    enum status st = stmt_step(stmt, &row, err);
    if (st != ST_OK) {
        return st;
    }
    const struct queue_sum sum = {.len = (uint32_t)col_i64(stmt, 0),
                                  .bytes = (uint64_t)col_i64(stmt, 1),
                                  .last = (uint64_t)col_i64(stmt, 2),
                                  .sent = (uint64_t)col_i64(stmt, 3)};
    *ret = queue_make(s->broker, s, &sum);
    return *ret != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for a session's queue");
}

bool queue_full(const struct broker *b, const struct queue *q, size_t bytes)
{
    return q->len >= b->settings.queue_max || q->bytes + bytes > b->settings.queue_bytes_max ||
           !quota_room(quotas_of(b->core), q->tenant, QUOTA_QUEUED_BYTES, (int64_t)bytes);
}

// --- rows --------------------------------------------------------------------------------------------------------

enum status queue_message_add(struct tx *tx, struct broker *b, const struct message *m, uint32_t refs, int64_t *ret_row,
                              struct err *err)
{
    STMT(s, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_MESSAGE_ADD]);
    *ret_row = b->next_message_row++;
    stmt_bind_i64(s, 1, *ret_row);
    stmt_bind_i64(s, 2, refs);
    stmt_bind_text(s, 3, message_topic(m));
    stmt_bind_blob(s, 4, message_props(m));
    stmt_bind_blob(s, 5, message_payload(m));
    return stmt_run(s, err);
}

enum status queue_message_less(struct tx *tx, int64_t row, struct err *err)
{
    STMT(s, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_MESSAGE_LESS]);
    stmt_bind_i64(s, 1, row);
    bool there = false;
    enum status st = stmt_step(s, &there, err);
    if (st != ST_OK || !there || col_i64(s, 0) > 0) {
        return st;
    }
    STMT(drop, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_MESSAGE_DROP]);
    stmt_bind_i64(drop, 1, row);
    return stmt_run(drop, err);
}

static enum status row_add(struct tx *tx, const struct broker_session *s, const struct message *m, uint64_t seq,
                           int64_t msg_row, const struct queue_put *how, struct err *err)
{
    uint8_t ids_mem[4 * 64];
    struct buf ids = buf_fixed(ids_mem, sizeof(ids_mem));
    for (uint32_t i = 0; i < how->ids_len; i++) {
        buf_u32(&ids, how->ids[i]);
    }
    char share[BROKER_SHARE_MAX];
    STMT(stmt, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_ADD]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, (int64_t)seq);
    stmt_bind_i64(stmt, 3, how->qos);
    stmt_bind_i64(stmt, 4, how->retain);
    stmt_bind_i64(stmt, 5, (int64_t)message_bytes(m));
    if (m->expires_us != 0) {
        stmt_bind_i64(stmt, 6, m->expires_us);
    }
    if (ids.len > 0) {
        stmt_bind_blob(stmt, 7, buf_view(&ids));
    }
    size_t len = how->group != NULL ? group_filter(how->group, share, sizeof(share)) : 0;
    if (len > 0 && len <= sizeof(share)) {
        stmt_bind_text(stmt, 8, slice_make(share, len));
    }
    if (msg_row != 0) {
        stmt_bind_i64(stmt, 9, msg_row);
    } else {
        stmt_bind_text(stmt, 10, message_topic(m));
        stmt_bind_blob(stmt, 11, message_props(m));
        stmt_bind_blob(stmt, 12, message_payload(m));
    }
    return stmt_run(stmt, err);
}

static void dropped_full(struct tx *tx, struct broker_session *s)
{
    slow_queue_full(tx, s);
    s->dropped++;
    broker_count(COUNT_DROPPED_FULL, 1);
}

static void queue_more(const struct broker *b, struct queue *q, uint32_t bytes)
{
    q->len++;
    q->bytes += bytes;
    broker_count(COUNT_QUEUED, 1);
    broker_count(COUNT_QUEUED_BYTES, bytes);
    quota_count(quotas_of(b->core), q->tenant, QUOTA_QUEUED_BYTES, bytes);
}

void queue_less(struct broker *b, struct broker_session *s, uint32_t bytes)
{
    struct queue *q = s->queue;
    uint64_t less = bytes <= q->bytes ? bytes : q->bytes;
    q->len -= q->len > 0;
    q->bytes -= less;
    quota_give(quotas_of(b->core), q->tenant, QUOTA_QUEUED_BYTES, (int64_t)less);
    broker_count(COUNT_QUEUED, -1);
    broker_count(COUNT_QUEUED_BYTES, -(int64_t)less);
    slow_queue_room(b, s, false);
}

static uint32_t *copy_ids(const struct queue_put *how)
{
    uint32_t *ids = reallocarray(NULL, how->ids_len, sizeof(*ids));
    for (uint32_t i = 0; ids != NULL && i < how->ids_len; i++) {
        ids[i] = how->ids[i];
    }
    return ids;
}

enum status queue_store(struct tx *tx, struct work *w, struct broker_session *s, struct message *m, int64_t msg_row,
                        const struct queue_put *how, struct err *err)
{
    struct queue *q = NULL;
    if (s->ending > 0) {
        return msg_row != 0 ? queue_message_less(tx, msg_row, err) : ST_OK;
    }
    enum status st = queue_need(tx, s, &q, err);
    if (st != ST_OK) {
        return st;
    }
    if (queue_full(w->b, q, message_bytes(m))) {
        dropped_full(tx, s);
        return ST_OK;
    }
    struct parcel p = {.session = broker_session_ref(s),
                       .msg = message_ref(m),
                       .seq = q->next_seq,
                       .bytes = (uint32_t)message_bytes(m),
                       .qos = how->qos,
                       .retain = how->retain,
                       .shared = msg_row != 0,
                       .state = DELIVERY_NEW,
                       .ids_len = how->ids_len};
    if (how->ids_len > 0 && (p.ids = copy_ids(how)) == NULL) {
        parcel_release(&p);
        return err_set(err, ST_NOMEM, "no memory for a message");
    }
    st = row_add(tx, s, m, q->next_seq, msg_row, how, err);
    if (st != ST_OK) {
        parcel_release(&p);
        return st;
    }
    q->next_seq++;
    if (!work_parcel(w, &p)) {
        return err_set(err, ST_NOMEM, "no memory for a message");
    }
    queue_more(w->b, q, (uint32_t)message_bytes(m));
    return ST_OK;
}

static enum status release_message(struct tx *tx, struct stmt *s, struct err *err)
{
    return col_is_null(s, 0) ? ST_OK : queue_message_less(tx, col_i64(s, 0), err);
}

enum status queue_delete(struct tx *tx, const struct broker_session *s, uint64_t seq, bool *ret_there, struct err *err)
{
    STMT(stmt, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_DEL]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, (int64_t)seq);
    *ret_there = false;
    enum status st = stmt_step(stmt, ret_there, err);
    return st == ST_OK && *ret_there ? release_message(tx, stmt, err) : st;
}

enum status queue_delete_run(struct tx *tx, const struct broker_session *s, uint64_t first, uint64_t last,
                             struct err *err)
{
    STMT(stmt, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_DEL_RUN]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, (int64_t)first);
    stmt_bind_i64(stmt, 3, (int64_t)last);
    return stmt_run(stmt, err);
}

enum status queue_received(struct tx *tx, const struct broker_session *s, uint64_t seq, struct err *err)
{
    STMT(get, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_GET_MSG]);
    stmt_bind_i64(get, 1, s->row);
    stmt_bind_i64(get, 2, (int64_t)seq);
    bool there = false;
    enum status st = stmt_step(get, &there, err);
    if (st != ST_OK || !there) {
        return st;
    }
    st = release_message(tx, get, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(set, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_RECEIVED]);
    stmt_bind_i64(set, 1, s->row);
    stmt_bind_i64(set, 2, (int64_t)seq);
    return stmt_run(set, err);
}

// --- the end of a queue ------------------------------------------------------------------------------------------

// The group that a stored message came by; NULL: it has no members any more.
static struct group *group_of(struct broker *b, uint32_t tenant, struct slice share)
{
    struct slice name;
    struct slice filter;
    return share_split(share, &name, &filter) ? index_group(&b->index, tenant, name, filter) : NULL;
}

// What a session leaves that others of its groups may have. One by one: storing it again uses the store in between.
static enum status pass_on(struct tx *tx, struct work *w, uint32_t tenant, int64_t session,
                           const struct broker_session *not_to, struct err *err)
{
    int64_t after = 0;
    bool row = true;
    while (row) {
        STMT(s, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_SHARED]);
        stmt_bind_i64(s, 1, session);
        stmt_bind_i64(s, 2, after);
        stmt_bind_i64(s, 3, 1);
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        after = col_i64(s, 0);
        struct group *g = group_of(w->b, tenant, col_text(s, 1));
        struct message_parts parts = {.tenant = tenant,
                                      .expires_us = col_i64(s, 2),
                                      .qos = 1,
                                      .topic = col_text(s, 3),
                                      .props = col_blob(s, 4),
                                      .payload = col_blob(s, 5)};
        struct message *m = g != NULL ? message_stored(&parts) : NULL;
        if (g != NULL && m == NULL) {
            return err_set(err, ST_NOMEM, "no memory for a message");
        }
        st = g != NULL ? work_publish_group(tx, w, m, g, not_to, err) : ST_OK;
        message_unref(m);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

static enum status release_messages(struct tx *tx, int64_t session, struct err *err)
{
    STMT(s, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_MESSAGES]);
    stmt_bind_i64(s, 1, session);
    bool row = true;
    while (row) {
        enum status st = stmt_step(s, &row, err);
        if (st == ST_OK && row) {
            st = queue_message_less(tx, col_i64(s, 0), err);
        }
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

enum status queue_erase(struct tx *tx, struct work *w, uint32_t tenant, int64_t session,
                        const struct broker_session *not_to, struct err *err)
{
    static const enum sql_broker_session_id drops[] = {SQL_BROKER_SESSION_DROP_QUEUE, SQL_BROKER_SESSION_DROP_SUBS,
                                                       SQL_BROKER_SESSION_DROP_INBOUND, SQL_BROKER_SESSION_DROP};
    enum status st = pass_on(tx, w, tenant, session, not_to, err);
    if (st == ST_OK) {
        st = release_messages(tx, session, err);
    }
    for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]) && st == ST_OK; i++) {
        STMT(s, tx->db, &sql_broker_session[drops[i]]);
        stmt_bind_i64(s, 1, session);
        st = stmt_run(s, err);
    }
    return st;
}

// --- with the connection -----------------------------------------------------------------------------------------

static const struct queue_out *out_at(const struct queue *q, uint32_t i)
{
    return &q->out[(q->out_first + i) & (q->out_cap - 1)];
}

static bool out_room(struct queue *q)
{
    if (q->out_len < q->out_cap) {
        return true;
    }
    uint32_t cap = q->out_cap > 0 ? q->out_cap * 2 : 16;
    struct queue_out *out = reallocarray(NULL, cap, sizeof(*out));
    if (out == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < q->out_len; i++) {
        out[i] = *out_at(q, i);
    }
    free(q->out);
    q->out = out;
    q->out_cap = cap;
    q->out_first = 0;
    return true;
}

bool queue_has_room(const struct queue *q, uint64_t seq)
{
    return q->out_len == 0 || (q->out_len < q->window && q->out_bytes < OUT_BYTES_MAX &&
                               seq - out_at(q, 0)->seq < BROKER_ID_DURABLE_MAX - 1);
}

bool queue_push(struct broker *b, struct broker_session *s, struct parcel *p)
{
    struct queue *q = s->queue;
    if (!queue_has_room(q, p->seq) || !out_room(q) || !parcels_room(b, s->loop)) {
        return false;
    }
    q->out[(q->out_first + q->out_len) & (q->out_cap - 1)] = (struct queue_out){p->seq, p->bytes, p->shared};
    q->out_len++;
    q->out_bytes += p->bytes;
    q->pushed = p->seq;
    p->link = link_ref(s->link);
    parcels_put(b, s->loop, p);
    return true;
}

// The next page, when acknowledgements have made room for it.
static void read_on(struct broker *b, struct broker_session *s)
{
    const struct queue *q = s->queue;
    if (q->behind && q->out_len <= q->window / 2) {
        feed_list(b, s);
    }
}

void queue_stored(struct broker *b, struct parcel *p)
{
    struct broker_session *s = p->session;
    struct queue *q = s->queue;
    if (!s->listed || s->link == NULL || q == NULL || q->behind) {
        parcel_release(p);             // it is in the store
    } else if (!queue_push(b, s, p)) { // no room, or no memory: read from the store, so that nothing overtakes it
        q->behind = true;
        parcel_release(p);
        read_on(b, s);
    }
}

// The place of a message among those with the connection; -1: none.
static int64_t out_find(const struct queue *q, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = q->out_len;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (out_at(q, mid)->seq < seq) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < q->out_len && out_at(q, low)->seq == seq ? (int64_t)low : -1;
}

bool queue_is_out(const struct queue *q, uint64_t seq)
{
    return out_find(q, seq) >= 0;
}

bool queue_is_alone(const struct queue *q, uint64_t seq)
{
    int64_t at = out_find(q, seq);
    return at >= 0 && !out_at(q, (uint32_t)at)->shared;
}

void queue_settled(struct broker *b, struct broker_session *s, uint64_t seq)
{
    struct queue *q = s->queue;
    int64_t at = q != NULL ? out_find(q, seq) : -1;
    if (at < 0) {
        return;
    }
    uint32_t bytes = out_at(q, (uint32_t)at)->bytes;
    for (uint32_t i = (uint32_t)at; i > 0; i--) { // most come in order: the first goes
        q->out[(q->out_first + i) & (q->out_cap - 1)] = *out_at(q, i - 1);
    }
    q->out_first = (q->out_first + 1) & (q->out_cap - 1);
    q->out_len--;
    q->out_bytes -= bytes;
    queue_less(b, s, bytes);
    read_on(b, s);
}

void queue_attach(struct broker *b, struct broker_session *s, uint16_t receive_max)
{
    struct queue *q = s->queue;
    s->receive_max = receive_max;
    if (q == NULL) {
        return;
    }
    q->window = window_of(s);
    q->behind = q->len > 0;
    if (q->behind) {
        feed_list(b, s);
    }
}

void queue_detach(struct broker *b, struct broker_session *s)
{
    struct queue *q = s->queue;
    if (q == NULL) {
        return;
    }
    q->sent = q->pushed > q->sent ? q->pushed : q->sent;
    q->pushed = 0;
    q->out_len = 0;
    q->out_first = 0;
    q->out_bytes = 0;
    free(q->out);
    q->out = NULL;
    q->out_cap = 0;
    if (q->len == 0 && !q->feeding) { // nothing of it is in flight: its numbers may begin again
        slow_queue_room(b, s, true);
        queue_free(q);
        s->queue = NULL;
    }
}
