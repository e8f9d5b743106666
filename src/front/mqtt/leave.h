// The operation that takes a device offline when its connection has ended. It is made together with the connection, so
// that no lack of memory can leave a device "online".
#ifndef FRONT_MQTT_LEAVE_H
#define FRONT_MQTT_LEAVE_H

#include "core/core.h"
#include "core/link.h"

struct leave;
struct leave *leave_new(struct core *core); // NULL: no memory
void leave_free(struct leave *l);           // one that was never submitted
// Takes `l` and a reference of its own to the link; on the link's loop. Tried again while the core is busy.
void leave_submit(struct leave *l, struct link *link, const char *reason, const char *detail);

#endif
