// The server's own figures at /metrics: commits, queues, stores, ledger.
#ifndef SERVER_GAUGES_H
#define SERVER_GAUGES_H

#include "core/core.h"

// Registers them; store sizes are refreshed once a second by the core. Once per process, before core_start.
void gauges_register(struct core *c);

#endif
