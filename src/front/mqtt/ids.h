// Packet ids in use, with what is to be remembered about each: an open-addressing table that holds nothing while it is empty.
//
// Used in both directions: messages to the client that are in flight, and QoS 2 messages from it that are not yet released.
#ifndef FRONT_MQTT_IDS_H
#define FRONT_MQTT_IDS_H

#include <stdbool.h>
#include <stdint.h>

struct id_entry {
    uint64_t seq; // the user's: place in the durable queue, or 0
    void *keep;   // the user's
    uint16_t id;  // 0: free
    uint8_t qos;
    uint8_t state; // the user's
};
struct ids {
    struct id_entry *slots;
    uint32_t cap; // power of two, at least twice len; 0 before the first one
    uint32_t len;
};

void ids_release(struct ids *t); // forgets all of them; usable again
// The entry of this id, valid until the next change; NULL when it is not in use.
struct id_entry *ids_find(const struct ids *t, uint16_t id);
// A new entry; the id must not be in use. NULL: no memory.
struct id_entry *ids_add(struct ids *t, uint16_t id, uint8_t qos, uint8_t state, uint64_t seq);
void ids_del(struct ids *t, uint16_t id); // no effect when it is not in use

#endif
