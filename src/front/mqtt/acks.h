// Acknowledgements owed to a client, in the order of its PUBLISH packets (4.6.0-2): an outcome that is known early waits for
// those before it.
#ifndef FRONT_MQTT_ACKS_H
#define FRONT_MQTT_ACKS_H

#include "base/slice.h"
#include "base/status.h"

struct ack {
    uint16_t packet_id;
    bool known; // status says what became of it
    uint8_t status;
    char *text; // why it was refused, malloc'ed, or NULL
};
struct acks {
    struct ack *slots; // ring; grows to the receive maximum, kept until the connection ends
    uint32_t cap;      // power of two
    uint32_t head;
    uint32_t len;
};

void acks_release(struct acks *a); // forgets all of them; usable again
// A message was received. False: no memory.
bool acks_expect(struct acks *a, uint16_t packet_id);
// Its outcome is known: the oldest one of this id that still waits. text (may be NULL) is copied; without memory the reason
// code goes alone. False: no such message.
bool acks_settle(struct acks *a, uint16_t packet_id, enum status status, const char *text);
// Takes the first one when its outcome is known. `text` is then the caller's to free.
bool acks_take(struct acks *a, struct ack *ret);

#endif
