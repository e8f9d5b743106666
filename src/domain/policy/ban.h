// Who may not come in: banned by an operator, or for a while because of flapping.
//
//   address or network   of all tenants, the system owner's to ban; asked when a connection of an MQTT port is accepted, and
//                        at CONNECT, since MQTT may come over the HTTP ports too
//   client id, device    of one tenant; asked when it is known who comes
//   flapping             one client id from one source, connecting more often than `ban.flapping_connects` a minute:
//                        1 minute, then 2, 4, ... 64, as throttle.h has it; in memory only
//
// Banned clients are told 0x8A (MQTT 5); connections of a banned address are closed without a word. A ban ends by itself or is
// lifted. It closes the open connections it concerns at once.
#ifndef DOMAIN_BAN_H
#define DOMAIN_BAN_H

#include "base/json.h"
#include "core/conf.h"
#include "core/core.h"
#include "net/addr.h"

#define BAN_REASON_MAX 256   // bytes
#define BANS_MAX       10000 // of one tenant; of addresses as many again
#define BAN_TTL_MAX_US ((int64_t)3660 * 24 * 3600 * 1000000)

extern const struct conf_module ban_conf_module; // keys "ban.*"
struct ban_conf {
    uint32_t flapping_connects; // a minute; 0: never banned for it
    uint32_t takeovers;         // of one client id a minute before it is reported; 0: never
};
void ban_conf_read(const struct conf *conf, struct ban_conf *ret);

// core_boot, after identity; arg: const struct ban_conf.
enum status ban_start(struct tx *tx, void *arg, struct err *err);
void ban_stop(struct core *c); // after core_stop

enum ban_kind { BAN_ADDRESS = 1, BAN_CLIENT_ID, BAN_DEVICE }; // stored: never renumber
const char *ban_kind_text(enum ban_kind k);                   // "client_id"; never NULL
bool ban_kind_parse(struct slice text, enum ban_kind *ret);

// Is this address ("192.0.2.1:1234", "[2001:db8::1]:1", or without port) banned now? Any thread.
bool ban_address(const struct core *c, struct slice addr);
bool ban_peer(const struct core *c, const struct addr *peer); // the same; no lock while no address is banned
// At the beginning of a CONNECT's operation, before the credential is looked at: counts it. ST_FORBIDDEN while it is banned for
// flapping.
enum status ban_flapping(struct tx *tx, struct slice client_id, struct slice addr, struct err *err);
// When it is known who comes. ST_FORBIDDEN.
enum status ban_check(struct tx *tx, const struct principal *who, struct slice client_id, struct err *err);
// A live connection of this client id was taken over by the same principal: more than ban.takeovers a minute are reported.
void ban_takeover(struct core *c, const struct principal *who, struct slice client_id);

struct ban_make {
    enum ban_kind kind;
    struct slice value;  // address, network ("192.0.2.0/24"), client id, device id (which must exist)
    struct slice reason; // p == NULL: none
    int64_t ttl_us;      // 0: until it is lifted
};
// {"id","kind","value","reason","created","created_by","expires","closed"}: `closed` connections were open. An address needs PERM_TENANT_WRITE besides. What is
// banned already is banned anew. ST_INVALID, ST_LIMIT over BANS_MAX, ST_NOT_FOUND.
enum status ban_create(struct tx *tx, const struct ban_make *m, struct jw *out, struct err *err);
// Whoever keeps connections: to be closed after the commit, and counted. Once, before core_start, after ban_start. Failing fails
// the ban.
struct ban_whom {
    enum ban_kind kind;
    uint32_t tenant;         // of a client id
    struct slice client_id;  // borrowed
    uint64_t device;         // row
    struct addr_net network; // of an address
};
typedef enum status (*ban_close_fn)(struct tx *tx, const struct ban_whom *whom, void *arg, unsigned *ret_closed,
                                    struct err *err);
void ban_on_create(struct core *c, ban_close_fn fn, void *arg);
// {"items","next"}, oldest first; bans of addresses only for the system owner. Any tx.
enum status ban_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err);
enum status ban_delete(struct tx *tx, struct slice id, struct err *err); // ST_NOT_FOUND

#endif
