#include "domain/identity/throttle.h"

#include <stdlib.h>

#define PLACES     1024
#define WAYS       4
#define WINDOW_US  60000000LL
#define LEVEL_MAX  6 // 64 minutes
#define FORGIVE_US 3600000000LL

struct slot {
    uint64_t key; // 0: empty
    int64_t window_start_us;
    int64_t blocked_until_us;
    uint32_t failures;
    uint32_t level; // blocks so far
};

struct throttle {
    uint32_t max;
    struct slot slots[PLACES][WAYS];
};

struct throttle *throttle_new(uint32_t failures_per_min)
{
    struct throttle *l = calloc(1, sizeof(*l));
    if (l != NULL) {
        l->max = failures_per_min;
    }
    return l;
}

void throttle_free(struct throttle *l)
{
    free(l);
}

bool throttle_blocked(const struct throttle *l, uint64_t key, int64_t now_us, int64_t *ret_wait_us)
{
    const struct slot *place = l->slots[key % PLACES];
    for (int i = 0; i < WAYS; i++) {
        if (place[i].key == key && place[i].blocked_until_us > now_us) {
            if (ret_wait_us != NULL) {
                *ret_wait_us = place[i].blocked_until_us - now_us;
            }
            return true;
        }
    }
    return false;
}

static int64_t story_end(const struct slot *s)
{
    return s->key == 0                                ? INT64_MIN
           : s->blocked_until_us > s->window_start_us ? s->blocked_until_us
                                                      : s->window_start_us;
}

// The address's slot; without one, the slot of its place whose story ended first.
static struct slot *slot_for(struct throttle *l, uint64_t key, int64_t now_us)
{
    struct slot *place = l->slots[key % PLACES];
    struct slot *worst = &place[0];
    for (int i = 0; i < WAYS; i++) {
        if (place[i].key == key) {
            return &place[i];
        }
        worst = story_end(&place[i]) < story_end(worst) ? &place[i] : worst;
    }
    *worst = (struct slot){.key = key, .window_start_us = now_us};
    return worst;
}

void throttle_failed(struct throttle *l, uint64_t key, int64_t now_us)
{
    if (l->max == 0) {
        return;
    }
    struct slot *s = slot_for(l, key, now_us);
    if (s->blocked_until_us > now_us) {
        return;
    }
    if (s->level > 0 && now_us - s->blocked_until_us > FORGIVE_US) {
        s->level = 0;
    }
    if (now_us - s->window_start_us >= WINDOW_US) {
        s->window_start_us = now_us;
        s->failures = 0;
    }
    if (++s->failures < l->max) {
        return;
    }
    s->blocked_until_us = now_us + (WINDOW_US << s->level);
    s->level = s->level < LEVEL_MAX ? s->level + 1 : LEVEL_MAX;
    s->failures = 0;
}
