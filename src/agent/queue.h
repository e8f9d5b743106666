// The agent's queue on disk: messages wait here, in order, until the server has them.
//
// Append-only segment files "<first sequence number, 16 hex digits>.seg" in their own directory:
//
//   segment: "MQUE" version(4) first_seq(8)            record: len(4) crc32c(4) payload(len)      all big-endian
//
// A record's sequence number is first_seq plus its place; the checksum covers the number and the payload, so that a record found in
// the wrong place is a broken one. What is acknowledged is noted in "acked" (two slots written in turn, not synced: after a power cut
// an older note means that some messages are sent again, marked as repeats). A segment is deleted when all of it is acknowledged.
//
// Promises: after queue_append() a kill -9 loses nothing; after queue_sync() a power cut loses nothing. Records come out in the order
// they went in. Over bytes_max the oldest segment is dropped and its messages are counted. Not thread-safe.
#ifndef AGENT_QUEUE_H
#define AGENT_QUEUE_H

#include "base/buf.h"
#include "base/status.h"

#define QUEUE_RECORD_MAX   16384u
#define QUEUE_BYTES_MIN    262144u // smallest bytes_max
#define QUEUE_IN_FLIGHT    64      // records handed out by queue_next() and not acknowledged
#define QUEUE_SEGMENTS_MAX 128

struct queue;

// Makes the directory when it is not there. Cuts a torn last record off; what is broken elsewhere is counted as dropped.
enum status queue_open(const char *dir, uint64_t bytes_max, struct queue **ret, struct err *err);
void queue_close(struct queue *q); // NULL is fine

// ST_FULL, ST_IO: the record is not in the queue, everything else is as before. ST_TOO_LARGE over QUEUE_RECORD_MAX.
enum status queue_append(struct queue *q, struct slice payload, struct err *err);
enum status queue_sync(struct queue *q, struct err *err); // nothing to do when nothing was appended since
bool queue_dirty(const struct queue *q); // appended, not synced and not acknowledged: a power cut would lose it

// The next record that was not handed out since queue_open() or queue_rewind(), appended to `out`. `repeat`: it may have been sent
// before. ST_NOT_FOUND: there is none; ST_BUSY: too many are in flight.
enum status queue_next(struct queue *q, struct buf *out, uint64_t *ret_seq, bool *ret_repeat, struct err *err);
// Takes the record that queue_next() gave last back: it comes again next.
void queue_put_back(struct queue *q, uint64_t seq);
// The server has this record (or refused it for good): it is not handed out again. Unknown numbers are ignored.
void queue_ack(struct queue *q, uint64_t seq);
// Hands out again, as repeats, what was handed out and not acknowledged.
void queue_rewind(struct queue *q);

uint64_t queue_len(const struct queue *q);     // not acknowledged
uint64_t queue_dropped(const struct queue *q); // lost for lack of room or by damage, since the directory was made
void queue_count_dropped(struct queue *q);     // one that could not even be appended

#endif
