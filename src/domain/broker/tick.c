// Repeated work: wills that are due, sessions and messages whose time is over, what the store had no room for.
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker_priv.h"
#include "domain/broker/sql/broker_queue.sql.h"

#define TICK_MS     500
#define EXPIRE_ROWS 1000 // looked at in one tick

// --- messages whose time is over ---------------------------------------------------------------------------------

// Was it sent, or is it on its way? Then its acknowledgement ends it.
static bool on_its_way(const struct broker *b, uint32_t tenant, struct slice client_id, uint64_t seq, uint64_t sent,
                       struct broker_session **ret)
{
    struct broker_session *s = session_table_find(&b->sessions, tenant, client_id);
    const struct queue *q = s != NULL ? s->queue : NULL;
    *ret = s;
    return seq <= sent || (q != NULL && (seq <= q->sent || seq <= q->pushed || q->feeding));
}

struct expired {
    struct broker_session *session; // a reference
    uint32_t bytes;
};

static void expired_commit(struct core *c, void *arg)
{
    struct expired *e = arg;
    if (e->session->queue != NULL) {
        queue_less(broker_of(c), e->session, e->bytes);
    }
    broker_session_unref(e->session);
    free(e);
}

static void expired_undo(struct core *c, void *arg)
{
    (void)c;
    struct expired *e = arg;
    broker_session_unref(e->session);
    free(e);
}

static enum status expire_one(struct tx *tx, struct broker_session *s, uint64_t seq, uint32_t bytes, struct err *err)
{
    struct expired *e = calloc(1, sizeof(*e));
    if (e == NULL || !tx_after_commit(tx, expired_commit, expired_undo, e)) {
        free(e);
        return err_set(err, ST_NOMEM, "no memory to drop a message");
    }
    *e = (struct expired){broker_session_ref(s), bytes};
    broker_count(COUNT_DROPPED_EXPIRED, 1);
    bool there = false;
    return queue_delete(tx, s, seq, &there, err);
}

// Goes round all messages that are over, in small steps.
static enum status expire_messages(struct tx *tx, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    STMT(s, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_EXPIRED]);
    stmt_bind_i64(s, 1, tx->now_us);
    stmt_bind_i64(s, 2, b->expiry_at_us);
    stmt_bind_i64(s, 3, b->expiry_at_session);
    stmt_bind_i64(s, 4, b->expiry_at_seq);
    stmt_bind_i64(s, 5, EXPIRE_ROWS);
    bool row = true;
    unsigned n = 0;
    for (;; n++) {
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            break;
        }
        uint64_t seq = (uint64_t)col_i64(s, 2);
        struct broker_session *session = NULL;
        bool keep = on_its_way(b, (uint32_t)col_i64(s, 3), col_text(s, 4), seq, (uint64_t)col_i64(s, 5), &session);
        b->expiry_at_us = col_i64(s, 0);
        b->expiry_at_session = col_i64(s, 1);
        b->expiry_at_seq = (int64_t)seq;
        st = keep || session == NULL ? ST_OK : expire_one(tx, session, seq, (uint32_t)col_i64(s, 6), err);
        if (st != ST_OK) {
            return st;
        }
    }
    if (n < EXPIRE_ROWS) {
        b->expiry_at_us = 0; // begins anew
    }
    return ST_OK;
}

// --- the tick ----------------------------------------------------------------------------------------------------

static enum status tick(struct tx *tx, struct err *err)
{
    static enum status (*const work[])(struct tx *, struct err *) = {session_retry_late, will_fire_due, session_expire,
                                                                     expire_messages, retained_expire};
    for (size_t i = 0; i < sizeof(work) / sizeof(work[0]); i++) {
        enum status st = work[i](tx, err);
        if (st != ST_OK) {
            return st;
        }
    }
    feed_kick(broker_of(tx->core));
    change_kick(broker_of(tx->core));
    return ST_OK;
}

void tick_start(struct broker *b)
{
    core_every(b->core, TICK_MS, tick);
}
