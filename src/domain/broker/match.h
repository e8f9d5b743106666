// Who gets a message of one topic: found in the index once, kept by each thread for as long as the index stays as it is.
//
// A match is immutable (but for `turn`, its maker's) and shared with the other loops by reference. What it says is true for
// one generation of the index: subscriptions, connections and permits of subscribers all count there.
#ifndef DOMAIN_BROKER_MATCH_H
#define DOMAIN_BROKER_MATCH_H

#include "core/link.h"
#include "domain/broker/index.h"
#include "domain/policy/permit.h"

// One session that gets the message: its ordinary subscriptions that match taken together, or one as member of a group.
struct match_target {
    struct broker_session *session; // a reference
    struct link *link;              // a reference; NULL: offline
    uint64_t serial;                // of the session, for no-local
    uint32_t first_id;              // its subscription identifiers: match->ids[first_id ...]
    uint16_t ids_len;
    uint16_t loop; // index of the connection's loop; loops_len: offline
    uint8_t qos;   // the highest granted
    bool no_local; // every one of the subscriptions says so
    bool retain_as_published;
    bool durable;
};
struct match_group {
    uint64_t id;
    uint32_t first, len; // members: match->targets[first ...]
    uint32_t turn;       // of the thread that has made the match
    bool durable;        // a member is: with QoS > 0 the core chooses
};
struct match {
    _Atomic uint32_t refs;
    uint32_t tenant;
    uint64_t id; // never used twice in one cache
    uint64_t hash, generation;
    bool wanted;      // somebody gets it, connected or not
    bool durable;     // somebody durable wants it with QoS > 0
    uint32_t *starts; // of each loop in targets, and the end; behind the loops: offline sessions (core only)
    struct match_target *targets; // then the members of groups
    uint32_t targets_len;         // without those
    struct match_group *groups;
    uint32_t groups_len;
    uint32_t all_len; // targets of either kind
    uint32_t *ids;
    uint32_t topic_len;
    uint8_t *topic;
};
struct match *match_ref(struct match *m);
void match_unref(struct match *m); // any thread; NULL is allowed

// What one publisher may do on one topic.
struct grant {
    uint64_t match, session, permit; // which match, session (serial) and version of its permit; match 0: free
    bool publish, retain;
};

// The cache of one thread.
struct match_cache {
    struct index *index;
    unsigned loops_len;
    bool core; // offline sessions count too; the index is read without its lock
    struct match **matches;
    struct grant *grants;
    size_t slots;    // of both; a power of two
    size_t targets;  // held by the matches
    size_t sweep_at; // next slot to look at for what has grown old
    uint64_t next_id;
    _Atomic uint64_t hits, misses; // this thread counts, others read
    struct tree_walk *walk;
    struct sub **subs; // scratch
    size_t subs_len, subs_cap;
};
bool match_cache_init(struct match_cache *c, struct index *ix, unsigned loops_len, bool core, size_t slots);
void match_cache_release(struct match_cache *c);
// The match of a topic, borrowed until the next call. NULL: no memory.
struct match *match_get(struct match_cache *c, uint32_t tenant, struct slice topic);
// What the session may do with it.
struct grant match_grant(struct match_cache *c, const struct match *m, uint64_t session, const struct permit *p,
                         struct slice topic);
// Frees a few of the matches that have grown old: at the end of a turn.
void match_cache_sweep(struct match_cache *c);

#endif
