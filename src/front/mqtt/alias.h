// Topic aliases of MQTT 5 (3.3.2.3.4), both ways.
#ifndef FRONT_MQTT_ALIAS_H
#define FRONT_MQTT_ALIAS_H

#include "base/slice.h"

// What the client has set: `max` of them, made with the first one.
struct alias {
    uint8_t *topic; // malloc'ed, NULL: not set
    uint16_t len;
};
void alias_free(struct alias *table, uint16_t max); // NULL is allowed
// 1 <= alias <= max. False: no memory.
bool alias_set(struct alias **table, uint16_t max, uint16_t alias, struct slice topic);
struct slice alias_get(const struct alias *table, uint16_t alias); // p == NULL: not set

// What we have set towards the client. A topic gets an alias with its first message as long as one is free. When all are
// taken, it gets one when it comes a second time, and the topic whose alias was not used for the longest time loses its own.
struct alias_out;
struct alias_out *alias_out_new(uint16_t max); // NULL: no memory
void alias_out_free(struct alias_out *a);      // NULL is allowed
// The alias of this topic; 0: it has none.
uint16_t alias_out_find(struct alias_out *a, struct slice topic);
// Gives it one if it is worth one; 0: not. The next message with this topic must carry both.
uint16_t alias_out_set(struct alias_out *a, struct slice topic);

#endif
