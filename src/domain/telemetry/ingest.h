// Telemetry from the wire to the store, batched per I/O loop and turn; and the ledger of every message.
//
// I/O thread: a payload is decoded to points in the batch being gathered (ingest_put); at the end of the loop turn the batch
// goes to the core as one operation (ingest_flush, by a turn hook). Core thread: points are staged into the telemetry store,
// counted, committed. Back on the I/O thread: one callback with the fate of every message, so that acknowledgements are
// coalesced. Nothing is acknowledged before it is durable.
#ifndef DOMAIN_INGEST_H
#define DOMAIN_INGEST_H

#include "base/json.h"
#include "base/slice.h"
#include "core/core.h"
#include "core/link.h"

// The fate of one message.
struct ingest_ack {
    uint64_t conn;
    uint16_t packet_id; // 0: QoS 0, nothing to acknowledge
    enum status status; // ST_OK: durable
};
struct ingest;
typedef void (*ingest_acked_fn)(void *arg, const struct ingest_ack *acks, size_t n); // on the loop's thread
struct ingest *ingest_new(struct core *core, struct loop *loop, ingest_acked_fn acked, void *arg);
void ingest_free(struct ingest *in);

// Decodes JSON or CBOR (content_type "application/cbor", or a first byte that cannot start JSON). Forms:
// {"t":21.4}, {"ts":1700000000000,"values":{"t":21.4}}, arrays of either; ts in epoch milliseconds (fraction allowed) or RFC
// 3339 text; values are numbers, booleans, strings; nested objects become dotted names. The link is referenced until counted.
// A status other than ST_OK: the payload was refused, err says why with a JSON pointer; it has been counted in the ledger's
// batch already (the caller answers on the wire).
enum status ingest_put(struct ingest *in, struct link *from, uint16_t packet_id, bool dup, struct slice payload,
                       struct slice content_type, struct err *err);
// Counts a message of any other kind as refused (bad topic, malformed twin report, ...).
void ingest_refused(struct ingest *in, struct link *from, enum status why);
size_t ingest_pending(const struct ingest *in); // messages submitted and not yet committed: back-pressure

// Ledger for messages that go through their own operations (events, twin reports, replies): inside the same transaction.
enum status ledger_stored(struct tx *tx, struct link *from, struct err *err);
// {"received","stored","duplicate","refused":{...},"in_flight"}; core thread.
enum status ledger_write(struct tx *tx, uint64_t device, struct jw *out, struct err *err);
enum status ledger_write_tenant(struct tx *tx, uint32_t tenant, struct jw *out, struct err *err);

#endif
