// The live table: device row -> link. Private to presence; core thread, except the count.
//
// A link enters in two steps, so that nothing can fail after the commit: live_hold inside the operation makes room (or
// fails), live_settle after the commit puts the link in (or gives the room back).
#ifndef DOMAIN_PRESENCE_LIVE_H
#define DOMAIN_PRESENCE_LIVE_H

#include <stdatomic.h>

#include "base/map.h"
#include "core/link.h"

struct live {
    struct link *link; // one reference; NULL while only held
    uint64_t device;
    uint32_t tenant;
    unsigned holds;    // operations between live_hold and live_settle
    int64_t seen_us;   // newest sign of life
    int64_t stored_us; // the part of it that is in the store
};

// The end of a session, until it is stored.
struct departure {
    struct departure *next;
    struct link *link; // one reference
    uint64_t device, session;
    int64_t end_us, seen_us;
    char reason[64];
    char detail[192];
};

struct live_table {
    struct map by_device;
    _Atomic size_t count;   // entries with a link
    size_t cursor;          // where the periodic writing of seen_us goes on
    struct departure *late; // sessions whose end the store refused (no space): at most one per connection that was open
};

// The entry of a connected device, or NULL.
struct live *live_get(const struct live_table *t, uint64_t device);
// NULL: no memory.
struct live *live_hold(struct live_table *t, uint64_t device, uint32_t tenant);
// Ends one hold. With a link (its reference is taken) that link becomes the device's; returns the one it replaces, whose
// reference is now the caller's, or NULL. `l` may be gone afterwards.
struct link *live_settle(struct live_table *t, struct live *l, struct link *link, int64_t seen_us);
// Takes the device's link out when it is this one, and drops the table's reference. False: it was not.
bool live_drop(struct live_table *t, uint64_t device, const struct link *link);
void live_release(struct live_table *t);

#endif
