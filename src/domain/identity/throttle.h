// Counts failures per address and blocks those that fail too often, longer each time. Fixed memory, whatever strangers do.
//
//   COUNTING --max failures within a minute--> BLOCKED 1 min, 2, 4, ... 64 min --over--> COUNTING
//   an hour without failures after a block: the next one starts at 1 min again
//
// An IPv6 address counts by its /64, since a host has all of it. Slots are found by a keyed hash, four per place; the one
// least worth keeping makes room. One thread.
#ifndef DOMAIN_THROTTLE_H
#define DOMAIN_THROTTLE_H

#include "base/rate.h"

struct throttle;
struct throttle *throttle_new(uint32_t failures_per_min); // NULL: no memory. 0 failures: never blocks
void throttle_free(struct throttle *l);
// `key`: who is counted, from rate_source.
// *ret_wait_us: how long still (may be NULL).
bool throttle_blocked(const struct throttle *l, uint64_t key, int64_t now_us, int64_t *ret_wait_us);
void throttle_failed(struct throttle *l, uint64_t key, int64_t now_us);

#endif
