#include "base/map.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/rand.h"

#define MAP_FIRST_SLOTS 16

// A copied string key.
struct map_key {
    size_t len;
    uint8_t bytes[];
};

// Free slot: val == NULL. Deleted slot: val == &map_tomb.
struct map_entry {
    uint64_t hash;       // of the string key, or the 64-bit key itself
    struct map_key *key; // NULL: a 64-bit key
    void *val;
};

static char map_tomb;

// The secret of this process; made once, read-only afterwards.
static uint64_t hash_key[2];
static _Atomic bool hash_key_made;
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void hash_key_make(void)
{
    rand_secret(hash_key, sizeof(hash_key));
    atomic_store_explicit(&hash_key_made, true, memory_order_release);
}

static inline void hash_key_need(void)
{
    if (!atomic_load_explicit(&hash_key_made, memory_order_acquire)) {
        pthread_once(&hash_key_once, hash_key_make);
    }
}

static inline uint64_t hash_rotl(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}

// One round of SipHash (Aumasson and Bernstein, 2012).
static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = hash_rotl(v[1], 13) ^ v[0];
    v[3] = hash_rotl(v[3], 16) ^ v[2];
    v[0] = hash_rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = hash_rotl(v[1], 17) ^ v[2];
    v[3] = hash_rotl(v[3], 21) ^ v[0];
    v[2] = hash_rotl(v[2], 32);
}

// SipHash-1-3: enough against chosen collisions in a table, cheaper than 2-4.
uint64_t hash_bytes(struct slice s)
{
    hash_key_need();
    uint64_t v[4] = {hash_key[0] ^ UINT64_C(0x736f6d6570736575), hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
                     hash_key[0] ^ UINT64_C(0x6c7967656e657261), hash_key[1] ^ UINT64_C(0x7465646279746573)};
    size_t i = 0;
    for (; s.len - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, s.p + i, sizeof(word));
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)s.len << 56;
    for (unsigned shift = 0; i < s.len; i++, shift += 8) {
        last |= (uint64_t)s.p[i] << shift;
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_u64(uint64_t v)
{
    hash_key_need();
    __extension__ unsigned __int128 m = (unsigned __int128)(v ^ hash_key[0]) * (hash_key[1] | 1);
    uint64_t x = (uint64_t)m ^ (uint64_t)(m >> 64) ^ hash_key[1];
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_release(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++) {
        free(m->slots[i].key);
    }
    free(m->slots);
    map_init(m);
}

static bool map_same(const struct map_entry *e, uint64_t hash, bool is_str, struct slice key)
{
    if (e->hash != hash || e->val == &map_tomb || (e->key != NULL) != is_str) {
        return false;
    }
    return !is_str || slice_eq(slice_make(e->key->bytes, e->key->len), key);
}

// Where the probing of a key starts. String hashes are spread already; 64-bit keys are hashed here.
static size_t map_home(const struct map *m, uint64_t hash, bool is_str)
{
    return (size_t)(is_str ? hash : hash_u64(hash)) & (m->cap - 1);
}

// The key's slot, or NULL. At least one slot is always free, so the probing ends.
static struct map_entry *map_find(const struct map *m, uint64_t hash, bool is_str, struct slice key)
{
    if (m->cap == 0) {
        return NULL;
    }
    for (size_t i = map_home(m, hash, is_str); m->slots[i].val != NULL; i = (i + 1) & (m->cap - 1)) {
        if (map_same(&m->slots[i], hash, is_str, key)) {
            return &m->slots[i];
        }
    }
    return NULL;
}

static struct map_entry *map_free_slot(const struct map *m, uint64_t hash, bool is_str)
{
    size_t i = map_home(m, hash, is_str);
    while (m->slots[i].val != NULL && m->slots[i].val != &map_tomb) {
        i = (i + 1) & (m->cap - 1);
    }
    return &m->slots[i];
}

// Room for one entry more: at most three quarters of the slots hold entries or tombs.
static bool map_make_room(struct map *m)
{
    if (m->cap > 0 && (m->len + m->tombs + 1) * 4 <= m->cap * 3) {
        return true;
    }
    struct map grown = *m;
    grown.cap = m->cap == 0 ? MAP_FIRST_SLOTS : (m->len + 1) * 2 > m->cap ? m->cap * 2 : m->cap;
    grown.tombs = 0;
    grown.slots = calloc(grown.cap, sizeof(*grown.slots));
    if (grown.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < m->cap; i++) {
        const struct map_entry *e = &m->slots[i];
        if (e->val != NULL && e->val != &map_tomb) {
            *map_free_slot(&grown, e->hash, e->key != NULL) = *e;
        }
    }
    free(m->slots);
    *m = grown;
    return true;
}

static bool map_put(struct map *m, uint64_t hash, bool is_str, struct slice key, void *val)
{
    struct map_entry *e = map_find(m, hash, is_str, key);
    if (e != NULL) {
        e->val = val;
        return true;
    }
    struct map_key *copy = NULL;
    if (is_str) {
        copy = malloc(sizeof(*copy) + key.len);
        if (copy == NULL) {
            return false;
        }
        copy->len = key.len;
        if (key.len > 0) {
            memcpy(copy->bytes, key.p, key.len);
        }
    }
    if (!map_make_room(m)) {
        free(copy);
        return false;
    }
    e = map_free_slot(m, hash, is_str);
    if (e->val == &map_tomb) {
        m->tombs--;
    }
    *e = (struct map_entry){hash, copy, val};
    m->len++;
    return true;
}

static void *map_take(struct map *m, struct map_entry *e)
{
    if (e == NULL) {
        return NULL;
    }
    void *val = e->val;
    free(e->key);
    *e = (struct map_entry){.val = &map_tomb};
    m->len--;
    m->tombs++;
    return val;
}

void *map_get_u64(const struct map *m, uint64_t key)
{
    const struct map_entry *e = map_find(m, key, false, slice_make(NULL, 0));
    return e != NULL ? e->val : NULL;
}

void *map_get(const struct map *m, struct slice key)
{
    const struct map_entry *e = map_find(m, hash_bytes(key), true, key);
    return e != NULL ? e->val : NULL;
}

bool map_set_u64(struct map *m, uint64_t key, void *val)
{
    return map_put(m, key, false, slice_make(NULL, 0), val);
}

bool map_set(struct map *m, struct slice key, void *val)
{
    return map_put(m, hash_bytes(key), true, key, val);
}

void *map_del_u64(struct map *m, uint64_t key)
{
    return map_take(m, map_find(m, key, false, slice_make(NULL, 0)));
}

void *map_del(struct map *m, struct slice key)
{
    return map_take(m, map_find(m, hash_bytes(key), true, key));
}

void *map_next(const struct map *m, size_t *pos, uint64_t *ret_key_u64, struct slice *ret_key)
{
    while (*pos < m->cap) {
        const struct map_entry *e = &m->slots[(*pos)++];
        if (e->val == NULL || e->val == &map_tomb) {
            continue;
        }
        if (ret_key_u64 != NULL) {
            *ret_key_u64 = e->key == NULL ? e->hash : 0;
        }
        if (ret_key != NULL) {
            *ret_key = e->key != NULL ? slice_make(e->key->bytes, e->key->len) : slice_make(NULL, 0);
        }
        return e->val;
    }
    return NULL;
}
