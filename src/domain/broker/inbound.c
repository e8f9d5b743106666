// Packet ids of QoS 2 messages from clients, kept with what the messages have done, so that none does it twice.
//
// A message can reach the core when another connection has its session already: I/O loops batch, and do not wait for each other.
// That other connection was told the ids that were kept until then, and its client sends everything else again. So an id is kept
// for the connection that has the session, and a message that comes too late has no effect at all:
//
//   core:  A's message, B takes over     kept; B is told the id and answers the copy without taking it
//          B takes over, A's message     not counted; B's copy is
//          A ends, A's message           the same; there the front sends what it has before the end
//
// Points are committed after the state, in a store of their own: between the two the process may die. The id carries the number
// of the commit that has the points, and the start forgets ids whose points never came: their message was not acknowledged.
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker_priv.h"
#include "domain/broker/sql/broker_session.sql.h"

#define AGAIN_MS 100

enum status broker_inbound_put(struct tx *tx, const struct broker_session *s, uint64_t conn, uint16_t packet_id,
                               bool staged, bool *ret_new, struct err *err)
{
    *ret_new = true;
    if (s->row == 0 || s->ending > 0) {
        return ST_OK;
    }
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_INBOUND_PUT]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, packet_id);
    stmt_bind_i64(stmt, 3, (int64_t)conn);
    stmt_bind_i64(stmt, 4, staged ? (int64_t)ts_next_commit(tx->ts) : 0);
    enum status st = stmt_run(stmt, err);
    *ret_new = st == ST_OK && stmt_changes(stmt) > 0;
    return st;
}

enum status broker_inbound_drop(struct tx *tx, const struct broker_session *s, uint16_t packet_id, struct err *err)
{
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_INBOUND_DEL]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_i64(stmt, 2, packet_id);
    return stmt_run(stmt, err);
}

enum status inbound_restart(struct tx *tx, struct err *err)
{
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_INBOUND_RESTART]);
    stmt_bind_i64(stmt, 1, (int64_t)ts_next_commit(tx->ts));
    return stmt_run(stmt, err);
}

// --- the points could not be stored, but the id was --------------------------------------------------------------

struct lost {
    struct op op; // first
    struct timer again;
    struct broker_session *session; // a reference
    uint16_t packet_id;
};

static enum status lost_run(struct tx *tx, struct op *op, struct err *err)
{
    const struct lost *l = (struct lost *)op;
    return broker_inbound_drop(tx, l->session, l->packet_id, err);
}

static void lost_again(struct timer *t)
{
    struct lost *l = (struct lost *)((char *)t - offsetof(struct lost, again));
    core_submit(l->session->broker->core, &l->op);
}

static void lost_done(struct op *op)
{
    struct lost *l = (struct lost *)op;
    if (op->status != ST_OK && op->status != ST_SHUTDOWN) {
        timer_start(&l->again, AGAIN_MS, 0);
        return;
    }
    broker_session_unref(l->session);
    free(l);
}

void broker_inbound_lost(struct core *c, struct broker_session *s, uint16_t packet_id)
{
    struct lost *l = s->row != 0 ? calloc(1, sizeof(*l)) : NULL;
    if (l == NULL) {
        if (s->row != 0) {
            log_error("broker", "no memory to forget a packet id: a later message with it is not taken",
                      LOGSL("client", session_client_id(s)));
        }
        return;
    }
    l->session = broker_session_ref(s);
    l->packet_id = packet_id;
    timer_init(&l->again, core_loop(c), lost_again);
    l->op = (struct op){.run = lost_run, .done = lost_done, .reply_to = core_loop(c), .name = "broker.inbound"};
    core_submit(c, &l->op);
}
