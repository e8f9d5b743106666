// Metrics of the MQTT front. The counters are the process's own (metrics are registered once and live for ever).
#ifndef FRONT_MQTT_COUNTERS_H
#define FRONT_MQTT_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "front/mqtt/topics.h"

enum counter {
    COUNT_CONNECTIONS, // gauge
    COUNT_CONNECTS_ACCEPTED,
    COUNT_CONNECTS_REFUSED,
    COUNT_TLS_FAILURES,
    COUNT_DOWN_SENT,
    COUNT_DOWN_ACKED,
    COUNT_DOWN_DROPPED,
    COUNT__LEN
};
void counters_register(void); // any number of times; the first one counts
void counter_add(enum counter c, int64_t n);
// A message from a device and what became of it.
void counter_message(enum route r, bool stored, int64_t n);
void counter_message_lost_route(void); // a publish to no topic of ours

#endif
