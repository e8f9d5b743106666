// Wrong tokens per source address: a bucket each, in a table of fixed size. Thread-safe.
//
// A source is an IPv4 address or the /64 of an IPv6 one, without the port. When the table is full the bucket that was idle
// longest is taken over, so a stranger with many addresses costs no memory; one with few is held back.
#ifndef FRONT_HTTP_LIMITER_H
#define FRONT_HTTP_LIMITER_H

#include "base/slice.h"

struct limiter;
struct limiter *limiter_new(uint32_t failures_per_min); // NULL: no memory
void limiter_free(struct limiter *l);
void limiter_failed(struct limiter *l, struct slice peer_addr, int64_t now_us); // monotonic time
// Seconds until this source may try again, 0: now.
unsigned limiter_wait_s(struct limiter *l, struct slice peer_addr, int64_t now_us);

#endif
