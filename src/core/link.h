// How the core reaches a connected device: the downlink. Fronts make links, domains send through them.
//
// A link is shared by the I/O thread that owns the connection and the core thread; it outlives the connection (reference
// count), and messages to a connection that is gone are dropped: desired state is durable and delivered again by
// reconciliation, not by hope.
#ifndef CORE_LINK_H
#define CORE_LINK_H

#include <stdatomic.h>

#include "base/slice.h"
#include "core/principal.h"
#include "net/loop.h"

struct link;
struct hold;

enum down_kind {
    DOWN_PUBLISH, // topic + payload to the device, at least once within this connection
    DOWN_CLOSE,   // end the connection: reason tells why
};
enum down_close {
    DOWN_CLOSE_TAKEOVER,
    DOWN_CLOSE_REVOKED,
    DOWN_CLOSE_DELETED,
    DOWN_CLOSE_SUSPENDED,
    DOWN_CLOSE_SHUTDOWN,
    DOWN_CLOSE_ADMIN // an operator has ended the session
};

struct down {
    struct post post;  // private to link.c
    struct link *link; // private
    enum down_kind kind;
    enum down_close close;
    char topic[192];
    uint64_t cookie; // the sender's: command row, twin version
    uint32_t payload_len;
    uint8_t payload[];
};
struct down *down_publish(const char *topic, struct slice payload, uint64_t cookie); // NULL: no memory
struct down *down_close(enum down_close why);

struct link {
    _Atomic uint32_t refs;
    struct loop *loop; // the connection's
    uint64_t conn;     // conn_id
    uint64_t session;  // presence session row id
    struct principal who;
    struct ts_device *ts;       // core thread only: ingest fast path; true only while the link is the device's live one
    bool takes_desired;         // core thread only: subscribed to $muster/twin/desired, changes are pushed
    bool takes_commands;        // core thread only: subscribed to its commands
    _Atomic uint32_t in_flight; // messages received and not yet counted as stored or refused
    _Atomic uint64_t sent; // I/O thread writes: highest place of the durable queue that left; read when it has ended
    _Atomic bool full;     // I/O thread writes: no room for what need not come here, a member of a shared subscription
    _Atomic uint32_t retaining; // the broker's: subscriptions whose retained messages are on their way
    struct hold *hold;          // I/O thread; the broker's: what waits for them
    void *front;                // I/O thread; the front's connection, NULL before it is one and after it has ended
    // I/O thread; the front's: called with a message for a connection that may have ended meanwhile. Takes `d`.
    void (*deliver)(struct link *l, struct down *d);
};
struct link *link_new(struct loop *loop, uint64_t conn, void (*deliver)(struct link *l, struct down *d));
struct link *link_ref(struct link *l);
void link_unref(struct link *l);
void link_send(struct link *l, struct down *d); // any thread; takes d

#endif
