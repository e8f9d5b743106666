// Limits that a client meets: counted each time, logged once a minute each. For those that have no count of their own.
#ifndef CORE_LIMIT_H
#define CORE_LIMIT_H

#include <stdint.h>

#include "base/slice.h"

//    enum suffix                   configuration key: the label of muster_limits_met_total
#define LIMIT_MAP(X)                                                                                                   \
    X(SUBSCRIPTIONS, "broker.subscriptions_max")                                                                       \
    X(SESSIONS, "broker.sessions_max")                                                                                 \
    X(RETAINED, "broker.retained_max")                                                                                 \
    X(SEND, "mqtt.send_max")                                                                                           \
    X(CLIENT_MESSAGES, "mqtt.publishes_per_client")                                                                    \
    X(CLIENT_BYTES, "quota.client_bytes")

enum limit {
#define X(name, text) LIMIT_##name,
    LIMIT_MAP(X)
#undef X
        LIMIT__COUNT
};

void limits_register(void); // metrics of the process; may be called again
// A client has met it. Any thread. client: its name, may be empty.
void limit_met(enum limit l, uint32_t tenant, struct slice client);

#endif
