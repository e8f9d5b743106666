#include "base/rate.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"

#define SETS 1024
#define WAYS 4 // slots a source may be in

struct bucket {
    uint64_t source;  // 0: unused
    int64_t empty_us; // when all of it will have leaked away
};
struct rate {
    pthread_mutex_t lock;
    int64_t every_us;
    int64_t full_us;
    struct bucket sets[SETS][WAYS];
};

static struct slice without_port(struct slice addr)
{
    if (addr.len > 0 && addr.p[0] == '[') {
        const uint8_t *end = memchr(addr.p, ']', addr.len);
        return end != NULL ? slice_make(addr.p + 1, (size_t)(end - addr.p) - 1) : addr;
    }
    const uint8_t *colon = addr.len > 0 ? memchr(addr.p, ':', addr.len) : NULL;
    if (colon == NULL || memchr(colon + 1, ':', addr.len - (size_t)(colon + 1 - addr.p)) != NULL) {
        return addr; // no port, or a bare IPv6 address
    }
    return slice_head(addr, (size_t)(colon - addr.p));
}

uint64_t rate_source(struct slice addr, struct slice name)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct slice host = without_port(addr);
    char text[INET6_ADDRSTRLEN];
    struct in6_addr v6;
    struct in_addr v4;
    struct slice counted = host;
    if (slice_to_cstr(host, text, sizeof(text))) {
        if (inet_pton(AF_INET, text, &v4) == 1) {
            counted = slice_make(&v4, sizeof(v4));
        } else if (inet_pton(AF_INET6, text, &v6) == 1) {
            bool is_v4 = memcmp(v6.s6_addr, mapped, sizeof(mapped)) == 0;
            counted = is_v4 ? slice_make(&v6.s6_addr[12], 4) : slice_make(v6.s6_addr, 8);
        }
    }
    uint64_t key = hash_bytes(counted);
    if (name.p != NULL) {
        key = hash_u64(key ^ hash_u64(hash_bytes(name)));
    }
    return key != 0 ? key : 1;
}

struct rate *rate_new(int64_t every_us, uint32_t burst)
{
    struct rate *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        pthread_mutex_init(&r->lock, NULL);
        r->every_us = every_us;
        r->full_us = every_us * (burst > 0 ? burst : 1);
    }
    return r;
}

void rate_free(struct rate *r)
{
    if (r != NULL) {
        pthread_mutex_destroy(&r->lock);
        free(r);
    }
}

static int64_t wait_us(const struct rate *r, const struct bucket *b, int64_t now_us)
{
    int64_t over_us = b->empty_us - now_us + r->every_us - r->full_us;
    return over_us > 0 ? over_us : 0;
}

static void add(const struct rate *r, struct bucket *b, int64_t now_us)
{
    b->empty_us = (b->empty_us > now_us ? b->empty_us : now_us) + r->every_us;
}

static struct bucket *find(struct rate *r, uint64_t source)
{
    struct bucket *set = r->sets[source % SETS];
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].source == source) {
            return &set[i];
        }
    }
    return NULL;
}

static struct bucket *find_or_make(struct rate *r, uint64_t source)
{
    struct bucket *b = find(r, source);
    if (b == NULL) {
        struct bucket *set = r->sets[source % SETS];
        b = &set[0];
        for (unsigned i = 1; i < WAYS; i++) {
            b = set[i].empty_us < b->empty_us ? &set[i] : b;
        }
        *b = (struct bucket){.source = source};
    }
    return b;
}

bool rate_take(struct rate *r, uint64_t source, int64_t now_us)
{
    if (r->every_us == 0) {
        return true;
    }
    pthread_mutex_lock(&r->lock);
    struct bucket *b = find_or_make(r, source);
    bool may = wait_us(r, b, now_us) == 0;
    if (may) {
        add(r, b, now_us);
    }
    pthread_mutex_unlock(&r->lock);
    return may;
}

void rate_add(struct rate *r, uint64_t source, int64_t now_us)
{
    pthread_mutex_lock(&r->lock);
    add(r, find_or_make(r, source), now_us);
    pthread_mutex_unlock(&r->lock);
}

int64_t rate_wait_us(struct rate *r, uint64_t source, int64_t now_us)
{
    pthread_mutex_lock(&r->lock);
    const struct bucket *b = find(r, source);
    int64_t us = b != NULL ? wait_us(r, b, now_us) : 0;
    pthread_mutex_unlock(&r->lock);
    return us;
}
