// Hash map from a 64-bit key or a byte string to a pointer. Open addressing, grows by doubling; string keys are copied.
// Hashing is keyed with a per-process secret, so a stranger cannot choose colliding keys. Not thread-safe.
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/slice.h"

uint64_t hash_bytes(struct slice s); // keyed; differs from process to process: never store it
uint64_t hash_u64(uint64_t v);

struct map_entry;
struct map {
    struct map_entry *slots;
    size_t cap;
    size_t len;
    size_t tombs;
};

// An empty map; allocates nothing before the first entry. End it with map_release.
void map_init(struct map *m);
void map_release(struct map *m); // frees the map and its keys, not the values
void *map_get_u64(const struct map *m, uint64_t key);
void *map_get(const struct map *m, struct slice key);
// Sets or replaces. False when memory is not to be had: the map is unchanged. `val` must not be NULL.
bool map_set_u64(struct map *m, uint64_t key, void *val);
bool map_set(struct map *m, struct slice key, void *val);
void *map_del_u64(struct map *m, uint64_t key); // the removed value or NULL
void *map_del(struct map *m, struct slice key);
// Iterates in no order: start with *pos = 0; NULL at the end. The map may not change meanwhile, but map_del of the entry
// just returned is allowed.
void *map_next(const struct map *m, size_t *pos, uint64_t *ret_key_u64, struct slice *ret_key);

#endif
