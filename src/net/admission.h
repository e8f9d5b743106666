// Who may connect: limits that hold over all listeners and loops of a process, in tables of fixed size.
//
//   rate      how many connections are accepted in a second; beyond it accepting pauses and the kernel's queue holds the others
//   source    how many one address may have open (IPv6: one /64)
//   strangers how many one network may have open that have not shown who they are (IPv4: /24, IPv6: /56), and how many there may be
//             in all: at that mark the oldest makes room for the newest
//
// Addresses are counted in rows of counters that several addresses share by a secret hash; an address has as many as the smallest
// of its counters says, or fewer. So the table never fills, never forgets, and nobody can choose whom to share with.
#ifndef NET_ADMISSION_H
#define NET_ADMISSION_H

#include "net/addr.h"

struct admission_conf {
    uint32_t accept_rate, accept_burst; // a second; 0: any number
    uint32_t conns_per_source;          // 0: any number
    uint32_t strangers_per_net;         // 0: any number
    uint32_t strangers_max;             // 0: any number
    bool limit_loopback;                // whether source and network count for this machine's own addresses
    const struct addr_net *proxy_from;  // who may say whom it speaks for (PROXY protocol), and must; copied
    size_t proxy_from_len;
};

struct admission;
// NULL: no memory. All that follows: any thread.
struct admission *admission_new(const struct admission_conf *conf);
void admission_free(struct admission *a); // after the listeners; NULL is allowed

struct admission_stats {
    uint64_t strangers;      // now
    uint64_t pauses;         // ever: accepting waited for the rate
    uint64_t refused_source; // ever: the address had enough
    uint64_t refused_net;    // ever: its network had enough strangers
    uint64_t dropped;        // ever: strangers that made room
    uint64_t proxy_refused;  // ever: a listed proxy sent no header, or a bad one
};
void admission_stats(const struct admission *a, struct admission_stats *out);

// ---- for listeners and connections; NULL admits everybody ----

// How long accepting must wait for the rate; 0: not at all. Several loops that ask at once may each get one.
int64_t admission_wait_us(struct admission *a, int64_t now_us);
void admission_accepted(struct admission *a, int64_t now_us);
bool admission_is_proxy(const struct admission *a, const struct addr *peer);
void admission_proxy_refused(struct admission *a);

enum admission_verdict { ADMITTED, REFUSED_SOURCE, REFUSED_NET };
// A connection of this peer begins, as a stranger. When it is admitted it is counted until admission_leave.
enum admission_verdict admission_enter(struct admission *a, const struct addr *peer);
bool admission_crowded(const struct admission *a); // over the mark: the oldest stranger is to be dropped
void admission_dropped(struct admission *a);
void admission_known(struct admission *a, const struct addr *peer);    // it is no stranger any more
void admission_stranger(struct admission *a, const struct addr *peer); // it is one again
void admission_leave(struct admission *a, const struct addr *peer);    // after admission_known

#endif
