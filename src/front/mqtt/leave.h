// The operation that tells the core of a connection's end: presence, and the broker's session. It is made when the connection
// has ended; as long as there is no memory for it, what is left of the connection waits and it is tried again, so that no lack
// of memory can leave a device "online".
#ifndef FRONT_MQTT_LEAVE_H
#define FRONT_MQTT_LEAVE_H

#include "core/core.h"
#include "core/link.h"
#include "domain/broker/broker.h"

struct leave;
struct leave *leave_new(struct core *core); // NULL: no memory
void leave_free(struct leave *l);           // one that was never submitted; NULL is allowed
struct leaving {
    struct link *link;              // a reference of the caller's
    struct broker_session *session; // taken; NULL: none
    bool will;                      // publish it
    uint32_t expiry_s;              // or BROKER_EXPIRY_KEEP
    const char *reason, *detail;    // copied
};
// Takes `l`; on the link's loop. Tried again while the core is busy.
void leave_submit(struct leave *l, const struct leaving *of);

#endif
