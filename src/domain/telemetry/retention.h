// How long telemetry is kept: per tenant, and per metric where it differs. Durable here, carried out by the telemetry store.
#ifndef DOMAIN_RETENTION_H
#define DOMAIN_RETENTION_H

#include "base/json.h"
#include "core/core.h"

#define RETENTION_DEFAULT   (-1)                            // no rule: what stands above it counts
#define RETENTION_RULES_MAX 1000                            // per tenant
#define RETENTION_KEEP_MIN  (3600LL * 1000000)              // an hour
#define RETENTION_KEEP_MAX  (100LL * 366 * 86400 * 1000000) // a century

// metric: empty for the tenant's default. keep_us 0: for ever; RETENTION_DEFAULT: the rule is taken away. Points older than that vanish with the store's next round,
// and do not come back when the time is made longer again. Audited. Core thread.
enum status retention_set(struct tx *tx, struct slice metric, int64_t keep_us, struct err *err);
// {"default": "30d"|"forever"|null, "metrics": {"cpu.util": "7d"}}; null: the server's default. Any tx.
enum status retention_write(struct tx *tx, struct jw *out, struct err *err);
// core_boot: tells the telemetry store.
enum status retention_start(struct tx *tx, struct err *err);

#endif
