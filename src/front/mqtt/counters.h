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
    COUNT__LEN
};
void counters_register(void); // any number of times; the first one counts
void counter_add(enum counter c, int64_t n);
// A message from a device and what became of it.
void counter_message(enum route r, bool stored, int64_t n);
void counter_message_lost_route(void); // a publish to no topic of ours
// A message for other clients came in, and whether it was taken.
void counter_relay(uint8_t qos, bool taken);
// A message went out; a client has acknowledged one; one was given up.
void counter_sent(uint8_t qos);
void counter_acked(void);
enum drop {
    DROP_NOT_SUBSCRIBED, // a downlink nobody listens to
    DROP_SLOW,           // QoS 0 and the client does not read
    DROP_QUEUE_FULL,
    DROP_TOO_LARGE, // for the client's maximum packet size
    DROP_EXPIRED,
    DROP__COUNT
};
void counter_drop(enum drop why);

#endif
