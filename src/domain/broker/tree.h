// A tree of topic levels: filters with what subscribes to them, or topic names with what is retained under them.
//
// One tree holds one tenant's. A node is one level; it exists while it or something below it has a value. Children are found
// in one hash table for the whole tree, so that a node is small and a million brothers cost no more than a few.
//
// Thread: none of its own. tree_match_* only read; everything else needs the caller's exclusion of readers.
#ifndef DOMAIN_BROKER_TREE_H
#define DOMAIN_BROKER_TREE_H

#include "base/slice.h"

#define TREE_LEVELS_MAX 1024 // as mqtt.topic_levels_max allows at most

struct tree_node {
    struct tree_node *parent;      // NULL: the root
    struct tree_node *first;       // child
    struct tree_node *next, *prev; // brothers
    void *value;                   // the owner's; NULL: none
    bool has_plus, has_hash;       // children "+" and "#"
    uint16_t len;
    uint8_t level[];
};
struct tree {
    struct tree_node *root;
    struct tree_node **slots; // children by (parent, level); linear probing
    size_t cap, len;
};

bool tree_init(struct tree *t); // false: no memory
// Frees all nodes; each value goes to `drop` (may be NULL) before.
void tree_release(struct tree *t, void (*drop)(void *value));
// The node of this filter or name, made where missing. NULL: no memory, or more than TREE_LEVELS_MAX levels.
struct tree_node *tree_need(struct tree *t, struct slice path);
struct tree_node *tree_find(const struct tree *t, struct slice path); // NULL: none
// The node's value is NULL now: frees it and its ancestors as far as nothing needs them.
void tree_drop(struct tree *t, struct tree_node *n);
// Appends the path of a node to dst, at most `size` bytes; returns its length (which may be larger).
size_t tree_path(const struct tree_node *n, char *dst, size_t size);

// Room for a walk, and what it has found. Large: one for each thread, made once.
struct tree_level {
    struct slice text;
    uint64_t hash;
};
struct tree_step {
    struct tree_node *node;
    unsigned depth;
};
struct tree_walk {
    struct tree_node **found;
    size_t found_len, found_cap, found_max; // at most found_max are kept; 0: all
    unsigned levels_len;
    struct tree_level levels[TREE_LEVELS_MAX];
    struct tree_step stack[TREE_LEVELS_MAX + 2];
};
void tree_walk_init(struct tree_walk *w);
void tree_walk_release(struct tree_walk *w);
// All nodes with a value whose filter matches the topic name (MQTT 5.0 section 4.7), into w->found. False: no memory.
bool tree_match_topic(const struct tree *t, struct slice topic, struct tree_walk *w);
// All nodes with a value whose name the filter matches, at most found_max. False: no memory.
bool tree_match_filter(const struct tree *t, struct slice filter, struct tree_walk *w);

#endif
