#include "domain/presence/live.h"

#include <assert.h>
#include <stdlib.h>

struct live *live_get(const struct live_table *t, uint64_t device)
{
    struct live *l = map_get_u64(&t->by_device, device);
    return l != NULL && l->link != NULL ? l : NULL;
}

struct live *live_hold(struct live_table *t, uint64_t device, uint32_t tenant)
{
    struct live *l = map_get_u64(&t->by_device, device);
    if (l == NULL) {
        l = calloc(1, sizeof(*l));
        if (l == NULL) {
            return NULL;
        }
        l->device = device;
        l->tenant = tenant;
        if (!map_set_u64(&t->by_device, device, l)) {
            free(l);
            return NULL;
        }
    }
    l->holds++;
    return l;
}

static void live_free_if_unused(struct live_table *t, struct live *l)
{
    if (l->holds == 0 && l->link == NULL) {
        map_del_u64(&t->by_device, l->device);
        free(l);
    }
}

struct link *live_settle(struct live_table *t, struct live *l, struct link *link, int64_t seen_us)
{
    assert(l->holds > 0);
    l->holds--;
    struct link *former = NULL;
    if (link != NULL) {
        former = l->link;
        if (former == NULL) {
            atomic_fetch_add_explicit(&t->count, 1, memory_order_relaxed);
        }
        l->link = link;
        l->seen_us = seen_us;
        l->stored_us = seen_us;
    }
    live_free_if_unused(t, l);
    return former;
}

bool live_drop(struct live_table *t, uint64_t device, const struct link *link)
{
    struct live *l = live_get(t, device);
    if (l == NULL || l->link != link) {
        return false;
    }
    link_unref(l->link);
    l->link = NULL;
    atomic_fetch_sub_explicit(&t->count, 1, memory_order_relaxed);
    live_free_if_unused(t, l);
    return true;
}

void live_release(struct live_table *t)
{
    size_t pos = 0;
    for (struct live *l = map_next(&t->by_device, &pos, NULL, NULL); l != NULL;
         l = map_next(&t->by_device, &pos, NULL, NULL)) {
        link_unref(l->link);
        free(l);
    }
    map_release(&t->by_device);
    while (t->late != NULL) {
        struct departure *d = t->late;
        t->late = d->next;
        link_unref(d->link);
        free(d);
    }
    atomic_store(&t->count, 0);
}
