#include "front/http/limiter.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"

#define LIMITER_SLOTS 4096 // power of two
#define LIMITER_WAYS  8    // slots a source may be in
#define MINUTE_US     60000000

// A leaking bucket: each failure adds cost_us, time takes it away; over one minute the source has to wait.
struct bucket {
    uint8_t source[17]; // family, then address; family 0: free
    int64_t until_us;   // the time at which the bucket will be empty again
};
struct limiter {
    pthread_mutex_t lock;
    int64_t cost_us; // what one failure adds
    struct bucket slots[LIMITER_SLOTS];
};

struct limiter *limiter_new(uint32_t failures_per_min)
{
    struct limiter *l = calloc(1, sizeof(*l));
    if (l != NULL) {
        pthread_mutex_init(&l->lock, NULL);
        l->cost_us = MINUTE_US / (failures_per_min > 0 ? failures_per_min : 1);
    }
    return l;
}

void limiter_free(struct limiter *l)
{
    if (l != NULL) {
        pthread_mutex_destroy(&l->lock);
        free(l);
    }
}

// "192.0.2.1:1234" or "[2001:db8::1]:1234"; anything else is one source of its own, by hash.
static void source_of(struct slice addr, uint8_t source[17])
{
    char text[64];
    memset(source, 0, 17);
    size_t end = addr.len;
    while (end > 0 && addr.p[end - 1] != ':') {
        end--;
    }
    struct slice host = slice_head(addr, end > 0 ? end - 1 : addr.len);
    if (host.len >= 2 && host.p[0] == '[') {
        host = slice_head(slice_from(host, 1), host.len - 2);
    }
    if (slice_to_cstr(host, text, sizeof(text)) && inet_pton(AF_INET, text, source + 1) == 1) {
        source[0] = 4;
        return;
    }
    uint8_t six[16];
    if (slice_to_cstr(host, text, sizeof(text)) && inet_pton(AF_INET6, text, six) == 1) {
        source[0] = 6;
        for (int i = 0; i < 8; i++) {
            source[1 + i] = six[i];
        }
        return;
    }
    uint64_t h = hash_bytes(host);
    source[0] = 1;
    for (int i = 0; i < 8; i++) {
        source[1 + i] = (uint8_t)(h >> (8 * i));
    }
}

// The source's bucket; when it has none, the one that empties first (`add`), or NULL.
static struct bucket *bucket_of(struct limiter *l, const uint8_t source[17], bool add)
{
    uint64_t h = hash_bytes(slice_make(source, 17));
    struct bucket *oldest = NULL;
    for (unsigned i = 0; i < LIMITER_WAYS; i++) {
        struct bucket *b = &l->slots[(h + i) % LIMITER_SLOTS];
        if (memcmp(b->source, source, 17) == 0) {
            return b;
        }
        if (oldest == NULL || b->until_us < oldest->until_us) {
            oldest = b;
        }
    }
    if (!add) {
        return NULL;
    }
    for (int i = 0; i < 17; i++) {
        oldest->source[i] = source[i];
    }
    oldest->until_us = 0;
    return oldest;
}

void limiter_failed(struct limiter *l, struct slice peer_addr, int64_t now_us)
{
    uint8_t source[17];
    source_of(peer_addr, source);
    pthread_mutex_lock(&l->lock);
    struct bucket *b = bucket_of(l, source, true);
    b->until_us = (b->until_us > now_us ? b->until_us : now_us) + l->cost_us;
    pthread_mutex_unlock(&l->lock);
}

unsigned limiter_wait_s(struct limiter *l, struct slice peer_addr, int64_t now_us)
{
    uint8_t source[17];
    source_of(peer_addr, source);
    pthread_mutex_lock(&l->lock);
    const struct bucket *b = bucket_of(l, source, false);
    int64_t over_us = b != NULL ? b->until_us - now_us - (MINUTE_US - l->cost_us) : 0;
    pthread_mutex_unlock(&l->lock);
    return over_us > 0 ? (unsigned)((over_us + 999999) / 1000000) : 0;
}
