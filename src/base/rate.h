// How often someone may do something: a leaking bucket for each source, in a table of fixed size. Thread-safe.
//
// When the table is full, the bucket that is empty first makes room: it forgets least. So a stranger with many addresses
// costs no memory, and one with few is held back.
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include "base/slice.h"

// Who is counted: the address ("192.0.2.1:1234", "[2001:db8::1]:1234" or without port; IPv6 by its /64, since a host has
// all of it), and with name.p != NULL this name at this address. Never 0; differs from process to process.
uint64_t rate_source(struct slice addr, struct slice name);

struct rate;
// `burst` times at once (at least 1), then once every `every_us` microseconds; 0: no limit. NULL: no memory.
struct rate *rate_new(int64_t every_us, uint32_t burst);
void rate_free(struct rate *r); // NULL is allowed

// Times are monotonic, in microseconds.
bool rate_take(struct rate *r, uint64_t source, int64_t now_us);       // once more now, if that is allowed
void rate_add(struct rate *r, uint64_t source, int64_t now_us);        // it happened, allowed or not
int64_t rate_wait_us(struct rate *r, uint64_t source, int64_t now_us); // until it is allowed; 0: now

#endif
