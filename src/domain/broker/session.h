// Sessions as the broker keeps them. Private to this folder.
#ifndef DOMAIN_BROKER_SESSION_H
#define DOMAIN_BROKER_SESSION_H

#include "domain/broker/broker.h"
#include "domain/broker/index.h"

struct queue;

// One per session, online or not; a durable one that is offline costs this and its subscriptions. Made by the operation that
// opens it, seen by others from its commit on. Constant fields any thread may read; those under the index lock I/O loops
// read with it; the rest is the core thread's.
struct broker_session {
    _Atomic uint32_t refs;
    uint32_t tenant; // constant
    uint64_t serial; // constant
    int64_t row;     // constant; 0: not durable
    struct broker *broker;
    struct broker_session *next; // of the same slot of the table
    struct broker_session *owner_next;
    struct broker_session *review_next; // change.c
    struct link *link;                  // index lock; a reference; NULL: offline
    struct permit *permit;              // index lock; a reference; of the connection
    struct sub *subs;
    struct queue *queue; // durable, and something is in it, or was on this connection
    uint64_t owner;      // row of its principal
    uint64_t lineage;    // of the credential, while it is open; the row has it for durable ones
    int64_t expires_us;  // offline: when it ends; 0: never
    uint64_t dropped;    // messages not kept for it, since the start
    uint32_t expiry_s;
    uint32_t subs_len;
    uint32_t marks;  // the front's
    uint16_t ending; // operations that erase it and are not committed
    uint16_t receive_max;
    uint16_t loop;      // index lock; of the connection
    uint8_t owner_kind; // enum principal_kind
    bool review;        // on the list of change.c
    bool listed;        // in the table; false: not yet, or ended
    uint16_t client_id_len;
    uint8_t client_id[];
};
static inline struct slice session_client_id(const struct broker_session *s)
{
    return slice_make(s->client_id, s->client_id_len);
}

// All sessions by tenant and client id, and by owner. Grows when it can: putting into it cannot fail.
struct session_table {
    struct broker_session **slots;
    struct broker_session **owners;
    size_t cap, len;
};
bool session_table_init(struct session_table *t);
void session_table_release(struct session_table *t); // drops the table's references
struct broker_session *session_table_find(const struct session_table *t, uint32_t tenant, struct slice client_id);
// The sessions of one principal, one after another.
struct broker_session *session_table_owned(const struct session_table *t, uint8_t kind, uint64_t owner);
struct broker_session *session_table_owned_next(const struct broker_session *s);
void session_table_put(struct session_table *t, struct broker_session *s); // takes a reference of its own
void session_table_del(struct session_table *t, struct broker_session *s); // gives it back

#endif
