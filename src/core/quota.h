// Fair shares: how fast one client and one tenant may publish, and how much a tenant may hold.
//
// Rates (messages, bytes) are leaking buckets. A client's own stands in its connection and costs no atomic. A tenant's is
// shared by all loops: each loop takes from it in small lumps (about 10 ms of the rate), so that the shared word is touched
// once per lump. Who is over a rate is not refused but read later: nothing is lost, and TCP slows the sender down.
// Amounts (connections, subscriptions, queued bytes) are counters: what would go over is refused (0x97).
//
// Every limit is a configuration key, the default of all tenants; one tenant's own stands in the store (domain/policy/limit.h).
// 0 is no limit. Each excess is counted (muster_quota_exceeded_total) and, once a minute per tenant and limit, logged.
#ifndef CORE_QUOTA_H
#define CORE_QUOTA_H

#include "base/buf.h"
#include "base/status.h"
#include "core/conf.h"
#include "core/core.h"

//    enum suffix    name in the API; key is quota.tenant_NAME       kind
#define QUOTA_MAP(X)                                                                                                   \
    X(MESSAGES, "messages")           /* a second */                                                                   \
    X(BYTES, "bytes")                 /* payload and topic, a second */                                                \
    X(CONNECTIONS, "connections")     /* open at once */                                                               \
    X(SUBSCRIPTIONS, "subscriptions") /* of all sessions, stored ones too */                                           \
    X(QUEUED_BYTES, "queued_bytes")   /* that wait for sessions, in the store or in memory */

enum quota_what {
#define X(name, text) QUOTA_##name,
    QUOTA_MAP(X)
#undef X
        QUOTA__COUNT
};
#define QUOTA_RATES 2                      // the first ones are rates, the others amounts
const char *quota_text(enum quota_what w); // "queued_bytes"; never NULL
bool quota_parse(struct slice text, enum quota_what *ret);

extern const struct conf_module quota_conf_module; // keys "quota.*"

struct quotas;      // of the process; thread-safe
struct quota_loop;  // what one loop has taken out; its thread only
struct quota_share; // one tenant in one loop
// Numbers of one client's bucket and of all tenants by default.
struct quota_conf {
    uint32_t client_messages, client_messages_burst; // a second; 0: no limit
    uint64_t client_bytes, client_bytes_burst;
    int64_t tenant[QUOTA__COUNT];
};
void quota_conf_read(const struct conf *conf, struct quota_conf *ret); // "mqtt.publishes_*" and "quota.*"
enum status quotas_new(const struct quota_conf *conf, unsigned loops, struct quotas **ret, struct err *err);
void quotas_free(struct quotas *q); // when no loop runs any more; NULL is allowed
// Where everybody finds them: set once before core_start. NULL: none were set.
void quotas_set(struct core *c, struct quotas *q);
static inline struct quotas *quotas_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_QUOTA);
}
struct quota_loop *quota_loop(struct quotas *q, unsigned index); // index below `loops`

// --- rates: the loop's own thread ------------------------------------------------------------------------------------

// Embedded in a connection. All zero: no tenant yet, only the client's own rate counts.
struct quota {
    int64_t messages_ns, bytes_ns; // monotonic: when the client's buckets will be empty
    struct quota_share *share;
};
// The client is known now. ST_NOMEM.
enum status quota_open(struct quota *q, struct quota_loop *l, uint32_t tenant);
// A message has come. Returns for how many microseconds nothing more may be read from this connection; 0: go on. To be asked
// again after that time with quota_wait.
int64_t quota_message(struct quota *q, struct quota_loop *l, size_t bytes, int64_t now_us);
int64_t quota_wait(const struct quota *q, struct quota_loop *l, int64_t now_us);

// --- amounts: any thread; without quotas (NULL) everything fits ---------------------------------------------------------------------------------------------

// Takes n of them. False, and nothing is taken: the tenant would be over its limit (0x97), or there is no memory.
bool quota_take(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n);
// Would n more fit? Takes nothing; a no counts as met.
bool quota_room(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n);
void quota_give(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n); // back again
// What was there already at the start (stored subscriptions, queues): counts, over the limit too.
void quota_count(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n);

// --- a tenant's own limits: any thread -------------------------------------------------------------------------------

#define QUOTA_DEFAULT (-1)
void quota_set(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t limit); // QUOTA_DEFAULT: as configured
int64_t quota_configured(const struct quotas *q, enum quota_what w);          // of all tenants that have no own one
int64_t quota_limit(struct quotas *q, uint32_t tenant, enum quota_what w);    // that counts; 0: none
int64_t quota_used(struct quotas *q, uint32_t tenant, enum quota_what w);     // of amounts; rates: 0
int64_t quota_exceeded(struct quotas *q, uint32_t tenant, enum quota_what w); // how often, since the start

#endif
