#include "front/mqtt/sources.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"

#define SETS        1024
#define WAYS        4
#define SECOND      1000000LL
#define ADDRESS_MAX 64

// A bucket holds microseconds of credit; one connect costs SECOND / rate. An unused bucket is full and may be given away.
struct bucket {
    uint64_t key; // 0: unused
    int64_t credit_us;
    int64_t at_us;
};
struct sources {
    pthread_mutex_t lock;
    int64_t cost_us; // of one connect; 0: no limit
    int64_t full_us;
    struct bucket sets[SETS][WAYS];
};

struct sources *sources_new(uint32_t rate, uint32_t burst)
{
    struct sources *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->cost_us = rate > 0 ? SECOND / rate : 0;
    s->full_us = s->cost_us * (burst > 0 ? burst : 1);
    return s;
}

void sources_free(struct sources *s)
{
    if (s != NULL) {
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

// The address without its port; of IPv6 the first 64 bits, which one household or host owns.
static uint64_t key_of(const char *peer_addr)
{
    char text[ADDRESS_MAX];
    const char *colon = strrchr(peer_addr, ':');
    struct slice host = slice_make(peer_addr, colon != NULL ? (size_t)(colon - peer_addr) : strlen(peer_addr));
    if (host.len > 2 && host.p[0] == '[') {
        host = slice_head(slice_from(host, 1), host.len - 2);
    }
    struct in6_addr v6;
    uint64_t key = slice_to_cstr(host, text, sizeof(text)) && inet_pton(AF_INET6, text, &v6) == 1
                       ? hash_bytes(slice_make(v6.s6_addr, 8))
                       : hash_bytes(host);
    return key != 0 ? key : 1;
}

static int64_t credit_at(const struct sources *s, const struct bucket *b, int64_t now_us)
{
    int64_t gained = now_us > b->at_us ? now_us - b->at_us : 0;
    return gained > s->full_us - b->credit_us ? s->full_us : b->credit_us + gained;
}

// The address's bucket, or the fullest one of its set, which forgets the least.
static struct bucket *bucket_for(struct sources *s, uint64_t key, int64_t now_us)
{
    struct bucket *set = s->sets[key % SETS];
    struct bucket *best = &set[0];
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].key == key) {
            return &set[i];
        }
        if (set[i].key == 0 || (best->key != 0 && credit_at(s, &set[i], now_us) > credit_at(s, best, now_us))) {
            best = &set[i];
        }
    }
    *best = (struct bucket){key, s->full_us, now_us};
    return best;
}

bool sources_allow(struct sources *s, const char *peer_addr, int64_t now_us)
{
    if (s->cost_us == 0) {
        return true;
    }
    uint64_t key = key_of(peer_addr);
    pthread_mutex_lock(&s->lock);
    struct bucket *b = bucket_for(s, key, now_us);
    b->credit_us = credit_at(s, b, now_us);
    b->at_us = now_us;
    bool ok = b->credit_us >= s->cost_us;
    if (ok) {
        b->credit_us -= s->cost_us;
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}
