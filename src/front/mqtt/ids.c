#include "front/mqtt/ids.h"

#include <stdlib.h>

#define IDS_FIRST 16

void ids_release(struct ids *t)
{
    free(t->slots);
    *t = (struct ids){0};
}

// Ids come one after another. Were they their own hash, those in flight would lie side by side, and each deletion would walk
// over all of them. So blocks of eight stay together, for the cache's sake, and neighbouring blocks come to lie far apart
// (multiplied by the golden ratio).
static uint32_t home_of(const struct ids *t, uint16_t id)
{
    uint32_t block = (id >> 3) * UINT32_C(2654435769) >> (35 - __builtin_ctz(t->cap));
    return block << 3 | (id & 7);
}

// Where the id is, or would be put.
static uint32_t place_of(const struct ids *t, uint16_t id)
{
    uint32_t i = home_of(t, id);
    while (t->slots[i].id != 0 && t->slots[i].id != id) {
        i = (i + 1) & (t->cap - 1);
    }
    return i;
}

struct id_entry *ids_find(const struct ids *t, uint16_t id)
{
    if (t->len == 0 || id == 0) {
        return NULL;
    }
    struct id_entry *e = &t->slots[place_of(t, id)];
    return e->id == id ? e : NULL;
}

static bool grow(struct ids *t)
{
    struct ids more = {.cap = t->cap > 0 ? t->cap * 2 : IDS_FIRST, .len = t->len};
    more.slots = calloc(more.cap, sizeof(*more.slots));
    if (more.slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < t->cap; i++) {
        if (t->slots[i].id != 0) {
            more.slots[place_of(&more, t->slots[i].id)] = t->slots[i];
        }
    }
    free(t->slots);
    *t = more;
    return true;
}

struct id_entry *ids_add(struct ids *t, uint16_t id, uint8_t qos, uint8_t state, uint64_t seq)
{
    if (t->len * 2 >= t->cap && !grow(t)) {
        return NULL;
    }
    struct id_entry *e = &t->slots[place_of(t, id)];
    *e = (struct id_entry){.seq = seq, .id = id, .qos = qos, .state = state};
    t->len++;
    return e;
}

// Entries behind the hole move up, so that every one can be reached from its home without a gap.
void ids_del(struct ids *t, uint16_t id)
{
    if (ids_find(t, id) == NULL) {
        return;
    }
    uint32_t mask = t->cap - 1;
    uint32_t hole = place_of(t, id);
    for (uint32_t i = (hole + 1) & mask; t->slots[i].id != 0; i = (i + 1) & mask) {
        if (((i - home_of(t, t->slots[i].id)) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = (struct id_entry){0};
    t->len--;
}
