// What one principal may do on the broker's topics: the policies that apply to it, with its own values filled in.
//
// Made on the core thread (policy.h) at CONNECT and whenever a policy, an attachment or a tag it uses changes; immutable from
// then on and read by any thread. Deny beats allow; what nothing allows is refused. The server's own `$muster/` topics are
// not governed by permits: a device has them by being that device.
#ifndef DOMAIN_PERMIT_H
#define DOMAIN_PERMIT_H

#include "base/slice.h"

struct permit;
struct permit *permit_ref(struct permit *p); // NULL stays NULL
void permit_unref(struct permit *p);         // any thread; NULL is allowed

// All take the principal's own topic or filter, without a tenant; any thread; linear in its length times the number of
// rules. NULL permits nothing.
bool permit_publish(const struct permit *p, struct slice topic);
bool permit_retain(const struct permit *p,
                   struct slice topic); // publishing with the retain flag; besides permit_publish
// May it subscribe to this filter (of a shared subscription: the part behind its name)? Inclusion, not intersection: every
// topic the filter can match must be allowed, by one rule as a whole; a deny rule refuses it when it covers the filter, and
// else takes effect message by message (permit_receive).
bool permit_subscribe(const struct permit *p, struct slice filter);
bool permit_receive(const struct permit *p, struct slice topic);
// Changes whenever what it allows may have changed; 0 is no permit.
uint64_t permit_version(const struct permit *p);

#endif
