// Inside of the broker. Private to this folder.
#ifndef DOMAIN_BROKER_PRIV_H
#define DOMAIN_BROKER_PRIV_H

#include "domain/broker/match.h"
#include "domain/broker/session.h"

// Values of broker_conf[], read once.
struct broker_settings {
    uint32_t session_expiry_max_s; // UINT32_MAX: no limit
    uint32_t will_delay_max_s;
    uint32_t queue_max;
    uint64_t queue_bytes_max;
    uint32_t subscriptions_max; // of one session
    uint32_t retained_max;      // of one tenant
    uint32_t sessions_max;      // durable ones of one tenant
    uint32_t window;            // messages of a durable queue that are with one connection
    uint32_t match_cache;       // slots per thread
};

// --- from one thread to the connections of a loop ---------------------------------------------------------------------

// A message for all connections of a match on one loop (`only` == FAN_ALL), or for one of its targets.
#define FAN_ALL     UINT32_MAX
#define FAN_RUN_MAX 64 // messages handed to one connection at once
struct fan_job {
    struct message *msg; // a reference
    struct match *match; // a reference
    uint32_t only;
};
// What one thread has for one loop at the end of a turn.
struct fan {
    struct post post;
    struct broker_loop *to;
    _Atomic uint64_t *waiting; // bytes of the sender that have not arrived: less by `bytes` when they have
    uint64_t bytes;
    size_t len, cap;
    struct fan_job *jobs;
};

struct broker_loop {
    struct turn_hook hook; // first
    struct broker *broker;
    struct loop *loop;
    unsigned at; // index of the loop
    struct broker_front front;
    struct match_cache cache;
    struct delivery run[FAN_RUN_MAX];
    struct fan **fans;        // for each loop: what goes there at the end of this turn; NULL: nothing
    _Atomic uint64_t waiting; // bytes on their way to other loops
};

struct broker {
    struct core *core;
    struct broker_settings settings;
    struct index index;
    struct session_table sessions; // core thread
    struct match_cache cache;      // core thread
    uint64_t next_serial;          // core thread
    unsigned loops_len;
    struct broker_loop loops[];
};

static inline struct broker *broker_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_BROKER);
}
struct broker_loop *broker_loop_of(struct broker *b, const struct loop *l); // NULL: none of ours

// fan.c: loop thread, or the core thread with fans of its own.
bool fan_put(struct broker_loop *from, unsigned to, struct message *m, struct match *match, uint32_t only);
// Hands out what has gathered: to its own loop at once, to others by post.
void fan_flush(struct broker_loop *bl);
void fan_free(struct fan *f);

// session.c: core thread.
// Ends a session whose rows are gone: it leaves the table and the index.
void session_end(struct broker *b, struct broker_session *s);

#endif
