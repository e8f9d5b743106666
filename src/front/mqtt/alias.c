#include "front/mqtt/alias.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/map.h"

#define SEEN          64 // topics that came while all aliases were taken, by hash
#define WORTH_A_BYTES 5  // a shorter topic costs no more than its alias

void alias_free(struct alias *table, uint16_t max)
{
    for (unsigned i = 0; table != NULL && i < max; i++) {
        free(table[i].topic);
    }
    free(table);
}

// A copy of the topic's bytes; NULL: no memory.
static uint8_t *copy_topic(struct slice topic)
{
    struct buf copy = buf_heap(topic.len);
    if (!buf_slice(&copy, topic)) {
        buf_release(&copy);
        return NULL;
    }
    return copy.p;
}

bool alias_set(struct alias **table, uint16_t max, uint16_t alias, struct slice topic)
{
    if (*table == NULL) {
        *table = calloc(max, sizeof(**table));
    }
    uint8_t *copy = *table != NULL ? copy_topic(topic) : NULL;
    if (copy == NULL) {
        return false;
    }
    struct alias *a = &(*table)[alias - 1];
    free(a->topic);
    *a = (struct alias){copy, (uint16_t)topic.len};
    return true;
}

struct slice alias_get(const struct alias *table, uint16_t alias)
{
    return table == NULL ? (struct slice){NULL, 0} : slice_make(table[alias - 1].topic, table[alias - 1].len);
}

// --- towards the client --------------------------------------------------------------------------------------------

struct out_entry {
    uint64_t hash;
    uint64_t used; // when, on the table's own clock
    uint8_t *topic;
    uint16_t len;
};
struct alias_out {
    uint64_t now;
    uint64_t seen[SEEN];
    uint16_t max, len;
    struct out_entry entries[];
};

struct alias_out *alias_out_new(uint16_t max)
{
    struct alias_out *a = calloc(1, sizeof(*a) + max * sizeof(a->entries[0]));
    if (a != NULL) {
        a->max = max;
    }
    return a;
}

void alias_out_free(struct alias_out *a)
{
    for (unsigned i = 0; a != NULL && i < a->len; i++) {
        free(a->entries[i].topic);
    }
    free(a);
}

uint16_t alias_out_find(struct alias_out *a, struct slice topic)
{
    uint64_t hash = hash_bytes(topic);
    for (unsigned i = 0; i < a->len; i++) {
        struct out_entry *e = &a->entries[i];
        if (e->hash == hash && slice_eq(slice_make(e->topic, e->len), topic)) {
            e->used = ++a->now;
            return (uint16_t)(i + 1);
        }
    }
    return 0;
}

static unsigned oldest(const struct alias_out *a)
{
    unsigned best = 0;
    for (unsigned i = 1; i < a->len; i++) {
        best = a->entries[i].used < a->entries[best].used ? i : best;
    }
    return best;
}

uint16_t alias_out_set(struct alias_out *a, struct slice topic)
{
    uint64_t hash = hash_bytes(topic);
    uint64_t *seen = &a->seen[hash % SEEN];
    // While there is room an alias costs three bytes once; when there is none another topic would lose its own.
    if (topic.len < WORTH_A_BYTES || (a->len == a->max && *seen != hash)) {
        *seen = hash;
        return 0;
    }
    uint8_t *copy = copy_topic(topic);
    if (copy == NULL) {
        return 0; // it goes without
    }
    unsigned i = a->len < a->max ? a->len++ : oldest(a);
    free(a->entries[i].topic);
    a->entries[i] = (struct out_entry){.hash = hash, .used = ++a->now, .topic = copy, .len = (uint16_t)topic.len};
    return (uint16_t)(i + 1);
}
