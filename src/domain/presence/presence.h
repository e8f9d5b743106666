// Who is connected: the live table (core thread, memory) and the session history (store).
//
// "Online" means: this process holds an authenticated connection of the device. At start every session that a former process
// left open is closed with reason "server_restart" before anyone may connect.
//
//   session:  (none) --connected--> OPEN --disconnected--> CLOSED(reason)
//                                     \---server start---> CLOSED("server_restart")
//
// Which session is the device's current one stands in the store (device_presence.session) and is therefore right within a
// batch too; the live table follows after each commit. History: 1,000 sessions per device, 90 days.
#ifndef DOMAIN_PRESENCE_H
#define DOMAIN_PRESENCE_H

#include "base/json.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/registry/registry.h"

#define PRESENCE_SESSIONS_MAX 1000 // history per device

struct presence_info {
    struct slice address, protocol, client_id,
        tls; // "192.0.2.1:1234", "mqtt5", ..., "TLSv1.3 TLS_AES_128_GCM_SHA256" or ""
    int keep_alive_s;
};
// The device's new connection. A former link of the same device is told to close (takeover). Sets link->session and
// link->ts. Writes the session row and the event.
enum status presence_connected(struct tx *tx, struct link *link, const struct device_ref *d,
                               const struct presence_info *info, struct err *err);
// The connection ended. Only the link that is current takes the device offline. `reason`: "client_disconnect", "peer_closed",
// "keep_alive", "takeover", "revoked", "protocol_error", "server_shutdown", ...
enum status presence_disconnected(struct tx *tx, struct link *link, struct slice reason, struct slice detail,
                                  struct err *err);
// Core thread: the device's live link (borrowed) or NULL.
struct link *presence_link(struct core *c, uint64_t device);
// Closes the live link after the commit. DOWN_CLOSE_DELETED also takes link->ts away at once, so that nothing is put into
// the erased device's series any more. False: no memory, the operation should fail.
bool presence_kick(struct tx *tx, uint64_t device, enum down_close why);
void presence_seen(struct core *c, uint64_t device,
                   int64_t ts_us); // memory only; stored with the session's end and once a minute
// core_boot, before anyone may connect: makes the live table, closes left-open sessions, starts the repeated work.
enum status presence_start(struct tx *tx, void *arg, struct err *err);
void presence_stop(struct core *c);                         // after core_stop: forgets all links
size_t presence_online_count(const struct core *c);         // any thread
size_t presence_in_flight(struct core *c, uint32_t tenant); // core thread: messages not yet counted, of all live links

// --- queries: core thread or reader. On the core thread they are exact. On a reader last_seen of a connected device is up to
// a minute old, and while the disk is full a device that has left meanwhile still shows as online. Times are RFC 3339.

// {"device","online","since","last_seen","reason","connection":{...}|null}. A device that was never connected: online
// false, everything else null.
enum status presence_write(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err);
struct presence_filter {
    int online;             // 1, 0, or -1 for both (the connected ones first)
    int64_t seen_before_us; // only those last seen before; INT64_MAX: all
    struct slice cursor;    // of the former page, or empty
    unsigned limit;
};
// {"items":[...],"next":cursor|null} over the tenant's devices that were ever connected.
enum status presence_list(struct tx *tx, const struct presence_filter *f, struct jw *out, struct err *err);
// {"items":[{"start","end","reason",...}],"next"} newest first.
enum status presence_sessions(struct tx *tx, const struct device_ref *d, struct slice cursor, unsigned limit,
                              struct jw *out, struct err *err);

#endif
