// The ledger: the fate of every message of every device, counted durably.
//
//   received = stored + refused(by reason) + in_flight          duplicate is a part of stored
//
// holds at every moment, because received is that sum and each message is in exactly one of the parts: it enters
// link->in_flight when it comes and leaves it when the store has counted it as stored or refused, in the same commit as its
// effect. Where the counts live:
//   * telemetry, and every refusal of any kind: counters of the telemetry store, beside the points;
//   * other kinds that were stored (events, twin reports, replies): table `ledger`, in the transaction of their effect;
//   * refusals the store had no room for (disk full): memory, until it has room again. Nothing of them was acknowledged.
#ifndef DOMAIN_LEDGER_H
#define DOMAIN_LEDGER_H

#include "base/json.h"
#include "core/core.h"
#include "core/link.h"

// A message of a kind that goes through an operation of its own has come: call it before core_submit; the operation then
// calls ledger_stored, or the front, when it failed, ingest_failed. I/O thread.
static inline void ledger_received(struct link *from)
{
    atomic_fetch_add_explicit(&from->in_flight, 1, memory_order_relaxed);
}
// Counts a message announced by ledger_received as stored, inside the transaction of its effect. Core thread.
enum status ledger_stored(struct tx *tx, struct link *from, struct err *err);

// {"received","stored","duplicate","refused":{reason: n},"in_flight"}; core thread. Reasons are texts of enum status.
enum status ledger_write(struct tx *tx, uint64_t device, struct jw *out, struct err *err);
enum status ledger_write_tenant(struct tx *tx, uint32_t tenant, struct jw *out, struct err *err);

// core_boot, once; and after core_stop.
enum status ledger_start(struct tx *tx, struct err *err);
void ledger_stop(struct core *c);

// --- for ingest.c, core thread -----------------------------------------------------------------------------------

// Stages a count of n messages into the telemetry store. ST_OK as the fate counts them as stored.
enum status ledger_stage(struct tx *tx, struct ts_device *series, enum status fate, bool duplicate, uint64_t n);
// The commit failed: n messages are refused with this reason, in memory until they can be stored.
void ledger_late(struct core *c, const struct link *from, enum status reason, uint64_t n);
// n messages in from->in_flight cannot even be remembered (no memory): they leave it and show in a metric. Any thread.
void ledger_lost(struct link *from, uint64_t n);

#endif
