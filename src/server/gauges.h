// The server's own figures at /metrics: commits, queues, stores, ledger.
#ifndef SERVER_GAUGES_H
#define SERVER_GAUGES_H

#include "core/core.h"
#include "net/admission.h"
#include "net/conn.h"

// Registers them; store sizes are refreshed once a second by the core. Once per process, before core_start.
void gauges_register(struct core *c);

// The listeners, by name; NULL for one that is off. Both must outlive the export: gauges_net_end before they go.
struct gauges_net {
    struct listener *const *listeners;
    const char *const *names;
    unsigned len;
    const struct admission *admission;
};
void gauges_net_begin(struct gauges_net *g);
void gauges_net_end(struct gauges_net *g); // no effect when it was not begun

#endif
