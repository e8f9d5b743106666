// Telemetry from the wire to the store, batched per I/O loop and turn.
//
// I/O thread: a payload is decoded to points in the batch being gathered (ingest_put); at the end of the loop turn the batch
// goes to the core as one operation (a turn hook). Core thread: points are staged into the telemetry store, counted,
// committed. Back on the I/O thread: one callback with the fate of every message, so that acknowledgements are coalesced.
// Nothing is acknowledged before it is durable.
//
//   batch:  FREE --first message--> GATHERING --turn ends and the core has room, or full--> SUBMITTED --callback--> FREE
//
// A message of a batch is refused alone when a limit stops it (its points are taken back); a commit that fails refuses all.
// A message with the DUP flag is checked for points that are already there; one whose points all are counts as duplicate.
// Points without a time of their own get the server's and are new points even in a repeated message.
#ifndef DOMAIN_INGEST_H
#define DOMAIN_INGEST_H

#include "base/slice.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/broker/broker.h"
#include "domain/telemetry/ledger.h"

// Limits of one batch: over them it is submitted early.
#define INGEST_BATCH_MESSAGES 4096
#define INGEST_BATCH_BYTES    (1u << 20)
// While this many are with the core, a batch that is not full gathers on over the ends of turns: one commit at work, one
// batch behind it, and the third takes whatever arrives meanwhile. Small batches thus never pile up.
#define INGEST_BATCHES_AHEAD 2
// Limits of what one loop has submitted and not got back: over them messages are refused as busy. A front stops reading long
// before (ingest_pending), so that devices wait instead of being refused.
#define INGEST_PENDING_MESSAGES (1u << 18)
#define INGEST_PENDING_BYTES    (128u << 20)

// The fate of one message.
struct ingest_ack {
    uint64_t conn;
    uint16_t packet_id; // 0: QoS 0, nothing to acknowledge
    enum status status; // ST_OK: durable
};
struct ingest;
// In the order of ingest_put. On the loop's thread.
typedef void (*ingest_acked_fn)(void *arg, const struct ingest_ack *acks, size_t n);
// NULL: no memory. Before the loop starts, or on its thread.
struct ingest *ingest_new(struct core *core, struct loop *loop, ingest_acked_fn acked, void *arg);
void ingest_free(struct ingest *in); // after core_stop and after the loop has ended; NULL is allowed

// Decodes JSON or CBOR (content_type "application/cbor", or a first byte that cannot start JSON). Forms:
// {"t":21.4}, {"ts":1700000000000,"values":{"t":21.4}}, arrays of either; ts in epoch milliseconds (fraction allowed) or RFC
// 3339 text; values are numbers, booleans, strings; nested objects become dotted names (payload.h has every rule). The link
// is referenced until counted. once: the message came with QoS 2 in this durable session, which keeps its packet id in the
// same transaction; else NULL. A status other than ST_OK: the payload was refused, err says why with a JSON pointer; it has
// been counted in the ledger's batch already (the caller answers on the wire, and no callback follows).
enum status ingest_put(struct ingest *in, struct link *from, struct broker_session *once, uint16_t packet_id, bool dup,
                       struct slice payload, struct slice content_type, struct err *err);
// Counts a message of any other kind as refused that went no further than the front (bad topic, no JSON, ...).
void ingest_refused(struct ingest *in, struct link *from, enum status why);
// The same for one that was announced with ledger_received and whose operation failed.
void ingest_failed(struct ingest *in, struct link *from, enum status why);
// Hands what was gathered in this turn to the core now: before the operation that ends one of its connections.
void ingest_flush(struct ingest *in);
// Back-pressure: messages that wait for their commit; and whether half of INGEST_PENDING_BYTES is out (large messages).
size_t ingest_pending(const struct ingest *in);
bool ingest_behind(const struct ingest *in);

// core_boot, after presence_start: the ledger, the stored retention. And after core_stop.
enum status telemetry_start(struct tx *tx, void *arg, struct err *err);
void telemetry_stop(struct core *c);

#endif
