#include "domain/identity/psk_table.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"
#include "net/crypto.h"

struct key {
    size_t len;
    uint8_t bytes[];
};
struct psk_table {
    pthread_rwlock_t lock;
    struct map by_identity; // struct key
};

static void key_free(struct key *k)
{
    if (k != NULL) {
        crypto_wipe(k->bytes, k->len);
        free(k);
    }
}

struct psk_table *psk_table_new(void)
{
    struct psk_table *t = calloc(1, sizeof(*t));
    if (t != NULL) {
        pthread_rwlock_init(&t->lock, NULL);
        map_init(&t->by_identity);
    }
    return t;
}

void psk_table_free(struct psk_table *t)
{
    if (t == NULL) {
        return;
    }
    size_t pos = 0;
    for (struct key *k; (k = map_next(&t->by_identity, &pos, NULL, NULL)) != NULL;) {
        key_free(k);
    }
    map_release(&t->by_identity);
    pthread_rwlock_destroy(&t->lock);
    free(t);
}

bool psk_table_set(struct psk_table *t, struct slice identity, struct slice key)
{
    struct key *k = calloc(1, sizeof(*k) + key.len);
    if (k == NULL) {
        return false;
    }
    struct buf b = buf_fixed(k->bytes, key.len);
    k->len = key.len;
    buf_slice(&b, key);
    pthread_rwlock_wrlock(&t->lock);
    struct key *old = map_get(&t->by_identity, identity);
    bool ok = map_set(&t->by_identity, identity, k);
    pthread_rwlock_unlock(&t->lock);
    key_free(ok ? old : k);
    return ok;
}

void psk_table_del(struct psk_table *t, struct slice identity)
{
    pthread_rwlock_wrlock(&t->lock);
    struct key *old = map_del(&t->by_identity, identity);
    pthread_rwlock_unlock(&t->lock);
    key_free(old);
}

size_t psk_table_get(struct psk_table *t, struct slice identity, uint8_t *dst, size_t dst_size)
{
    struct buf out = buf_fixed(dst, dst_size);
    pthread_rwlock_rdlock(&t->lock);
    const struct key *k = map_get(&t->by_identity, identity);
    bool ok = k != NULL && buf_put(&out, k->bytes, k->len);
    pthread_rwlock_unlock(&t->lock);
    return ok ? out.len : 0;
}
