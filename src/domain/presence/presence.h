// Who is connected: the live table (core thread, memory) and the session history (store).
//
// "Online" means: this process holds an authenticated connection of the device. At start every session that a former process
// left open is closed with reason "server_restart" before anyone may connect.
#ifndef DOMAIN_PRESENCE_H
#define DOMAIN_PRESENCE_H

#include "core/core.h"
#include "core/link.h"
#include "domain/registry/registry.h"

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
// Closes the live link after the commit.
bool presence_kick(struct tx *tx, uint64_t device, enum down_close why);
void presence_seen(struct core *c, uint64_t device,
                   int64_t ts_us); // memory only; stored with the session's end and periodically
enum status presence_start(struct tx *tx, void *arg, struct err *err); // core_boot: closes left-open sessions
size_t presence_online_count(const struct core *c);                    // any thread

#endif
