// Acknowledgements owed to a client, in the order of its PUBLISH packets (4.6.0-2, 4.6.0-3): an outcome that is known early
// waits for those before it.
#ifndef FRONT_MQTT_ACKS_H
#define FRONT_MQTT_ACKS_H

#include "base/slice.h"

struct ack {
    uint16_t packet_id;
    bool known;     // reason says what became of it
    bool received;  // the acknowledgement is a PUBREC, else a PUBACK
    uint8_t reason; // of MQTT 5; from 0x80 on the message was refused
    char *text;     // why, malloc'ed, or NULL
};
struct acks {
    struct ack *slots; // ring; grows to the receive maximum, kept until the connection ends
    uint32_t cap;      // power of two
    uint32_t head;
    uint32_t len;
    uint32_t received; // of them with PUBREC
    bool run; // the ids follow each other, as most clients number them: whether one is in use is then known at once
};

void acks_release(struct acks *a); // forgets all of them; usable again
// Does an acknowledgement with this id wait?
bool acks_holds(const struct acks *a, uint16_t packet_id);
// A message was received. False: no memory.
bool acks_expect(struct acks *a, uint16_t packet_id, bool received);
// Its outcome is known: the oldest one of this id that still waits. text (may be NULL) is copied; without memory the reason
// code goes alone. False: no such message.
bool acks_settle(struct acks *a, uint16_t packet_id, uint8_t reason, const char *text);
// A message whose outcome was known on arrival. False: no memory.
bool acks_known(struct acks *a, uint16_t packet_id, bool received, uint8_t reason, const char *text);
// Takes the first one when its outcome is known. `text` is then the caller's to free.
bool acks_take(struct acks *a, struct ack *ret);

#endif
