// Messages on their way to one client: those that wait, and the packet ids of those that are in flight.
//
//   message:  put -> WAITING -> taken by deliver.c -> in flight (QoS 1, 2; qos.h) -> done
//                                                \-> gone (QoS 0)
// Messages leave in the order they came. At most `window` are in flight: the client's receive maximum, or our own limit. A
// durable session's messages stay in the store until they are settled; the others are here only.
#ifndef FRONT_MQTT_OUTBOX_H
#define FRONT_MQTT_OUTBOX_H

#include "core/link.h"
#include "domain/broker/broker.h"
#include "front/mqtt/ids.h"

// One of the two is set: a message of the broker, or one of the server's own topics.
struct waiting {
    struct waiting *next;
    struct message *msg; // a reference
    struct down *down;   // owned
    uint64_t seq;        // place in the durable queue, or 0
    uint64_t share;      // of the shared subscription it came by, or 0
    uint32_t bytes;
    uint8_t qos;
    uint8_t state; // enum delivery_state
    bool retain;
    uint16_t sub_ids_len;
    uint32_t sub_ids[];
};
struct outbox {
    struct ids
        flights; // states: enum flight_state; keep: a struct waiting that another client gets if this one does not
                 // acknowledge it, or NULL
    struct waiting *first, *last;
    uint32_t len;   // waiting
    size_t bytes;   // of them
    size_t loose;   // of them that are in no store, with what keeps them
    size_t charged; // the tenant's quota counts so much for them
    uint16_t window;
    uint16_t last_id;
};

struct outbox *outbox_new(uint16_t window); // NULL: no memory
void outbox_free(struct outbox *o);         // with all that waits; NULL is allowed
// What others of a shared subscription may get: what waits, then what is in flight. The caller's; NULL: nothing is left.
struct waiting *outbox_give_back(struct outbox *o);

// A copy that refers to the message. NULL: no memory.
struct waiting *waiting_message(const struct delivery *d);
struct waiting *waiting_down(struct down *d, uint8_t qos); // takes d, also on failure
void waiting_free(struct waiting *w);                      // NULL is allowed

void outbox_put(struct outbox *o, struct waiting *w); // at the end; takes w
struct waiting *outbox_take(struct outbox *o);        // the first one; there must be one
static inline bool outbox_room(const struct outbox *o)
{
    return o->flights.len < o->window;
}
// A message goes out. seq 0: with an id of the range for what is not durable; else with the one that follows from seq. 0: no
// memory, or that message is in flight already. keep (may be NULL) is taken on success.
uint16_t outbox_fly(struct outbox *o, uint8_t qos, uint64_t seq, uint8_t state, struct waiting *keep);
void outbox_landed(struct outbox *o, uint16_t packet_id); // its id is free again

#endif
