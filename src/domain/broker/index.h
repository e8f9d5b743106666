// The index of subscriptions: who wants a topic. One tree per tenant; a node's value is a leaf with its subscribers.
//
//   subscription:  (none) --index_add--> WAITING --commit--> ACTIVE --unsubscribe committed, session ended--> (none)
//                                           \--undone, and nothing else is under way--> (none)
//
// A waiting one is there so that the commit needs no memory; nobody is matched by it.
//
// Threads: the core thread alone writes, under the lock; it may read without. I/O loops read under the lock. Whatever they
// keep of it is true for the generation they have read it in.
#ifndef DOMAIN_BROKER_INDEX_H
#define DOMAIN_BROKER_INDEX_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "domain/broker/tree.h"

struct broker_session;
struct group;
struct leaf;

struct sub {
    struct broker_session *session; // borrowed: a session outlives its subscriptions
    struct tree_node *node;
    struct group *group; // shared subscription; NULL: an ordinary one
    struct sub *next;    // the session's
    uint32_t at;         // place in the list of the leaf or the group
    uint32_t id;         // subscription identifier, 0: none
    uint8_t qos;
    bool no_local, retain_as_published;
    bool active;
    bool wanted;      // after all operations of this batch: for answers within it; true to `active` once they are done
    uint16_t pending; // operations on it that are not committed
};
struct sub_list {
    uint32_t len, cap;
    union {
        struct sub *one; // cap == 0
        struct sub **many;
    };
};
// $share/NAME/FILTER: its members share what FILTER matches.
struct group {
    struct group *next; // of the same leaf
    struct leaf *leaf;
    uint64_t id;     // never used twice in this process
    uint32_t turn;   // core thread: whose turn it is
    uint32_t active; // members that count
    struct sub_list members;
    uint16_t name_len;
    char name[];
};
struct leaf {
    struct tree_node *node;
    struct tenant_index *home;
    struct sub_list subs;
    struct group *groups;
};
struct tenant_index {
    struct tree tree;
    uint32_t mirrors; // active subscriptions that can match topics under devices/
};
struct index {
    pthread_rwlock_t lock;
    _Atomic uint64_t generation;
    struct map tenants; // struct tenant_index by row id
    struct map groups;  // by id; core thread only
    uint64_t next_group;
    _Atomic uint64_t subs; // active ones
};

bool index_init(struct index *ix); // false: no memory
void index_release(struct index *ix);
static inline struct sub *sub_list_at(const struct sub_list *l, uint32_t i)
{
    return l->cap == 0 ? l->one : l->many[i];
}

// Core thread, under no lock. A waiting subscription; NULL: no memory. The caller hangs it on the session.
struct sub *index_add(struct index *ix, struct broker_session *s, uint32_t tenant, struct slice filter);
// The session's subscription of this filter, waiting or active; NULL: none.
struct sub *index_find(const struct index *ix, struct sub *first, uint32_t tenant, struct slice filter);
// Core thread, with the lock held for writing. Frees the subscription; the caller has taken it off the session.
void index_remove(struct index *ix, struct sub *s);
void index_set_active(struct index *ix, struct sub *s, bool active);
// How many active subscriptions of a tenant can match topics under devices/. Core thread.
uint32_t index_mirrors(const struct index *ix, uint32_t tenant);
// The lock for writing, and a new generation at its end.
void index_lock(struct index *ix);
void index_unlock(struct index *ix, bool changed);
static inline uint64_t index_generation(const struct index *ix)
{
    return atomic_load_explicit(&ix->generation, memory_order_acquire);
}
// The filter as it was subscribed to, $share/NAME/ included; returns its length, which may exceed size.
size_t sub_filter(const struct sub *s, char *dst, size_t size);

// The same for a group.
size_t group_filter(const struct group *g, char *dst, size_t size);
// The group of this name; NULL: none. Core thread.
struct group *index_group(const struct index *ix, uint32_t tenant, struct slice name, struct slice filter);

// "$share/NAME/FILTER": cuts it; false: an ordinary filter, *ret_filter is the whole.
bool share_split(struct slice text, struct slice *ret_name, struct slice *ret_filter);

#endif
