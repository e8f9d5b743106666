// How often one source address may connect: a token bucket per address, in a table of fixed size.
#ifndef FRONT_MQTT_SOURCES_H
#define FRONT_MQTT_SOURCES_H

#include "base/slice.h"

struct sources;
// rate: connects per second; 0 allows everything. NULL: no memory.
struct sources *sources_new(uint32_t rate, uint32_t burst);
void sources_free(struct sources *s);
// One connect from "192.0.2.1:1234" or "[2001:db8::1]:1234" (IPv6 counts by /64). Any thread. False: over the limit.
bool sources_allow(struct sources *s, const char *peer_addr, int64_t now_us);

#endif
