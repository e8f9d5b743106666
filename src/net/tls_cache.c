#include "net/tls_cache.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/map.h"
#include "net/crypto.h"

enum kind { STRANGER, KNOWN, KINDS };
#define STRANGERS_SHARE 4 // strangers have one part in so many

// Three rings or chains go through an entry: its bucket by id, its bucket by client, and its kind in order of last use.
struct entry {
    struct entry *next_id, *next_client;
    struct entry *newer, *older;
    uint64_t client_key; // 0: stranger
    size_t bytes;
    struct tls_session s; // cut off behind the name's end
};

struct cache_kind {
    struct entry *newest, *oldest;
    unsigned len, max;
};
struct tls_cache {
    _Atomic uint32_t refs;
    int64_t lifetime_us;
    pthread_mutex_t lock;
    struct cache_kind kinds[KINDS];
    struct tls_cache_stats stats;
    unsigned mask; // buckets - 1
    struct entry **by_id, **by_client;
};

// ---- buckets ----

static uint64_t client_key(const struct tls_client *c)
{
    uint64_t h = 0;
    if (c->has_cert) {
        h = hash_bytes(slice_make(c->cert_sha256, sizeof(c->cert_sha256)));
    } else if (c->has_psk) {
        h = hash_bytes(slice_str(c->name));
    }
    return c->has_cert || c->has_psk ? h | 1 : 0;
}

static bool same_client(const struct tls_client *a, const struct tls_client *b)
{
    return a->has_cert == b->has_cert && a->has_psk == b->has_psk &&
           slice_eq(slice_make(a->cert_sha256, 32), slice_make(b->cert_sha256, 32)) &&
           (!a->has_psk || slice_eq_str(slice_str(a->name), b->name));
}

static struct entry **id_bucket(const struct tls_cache *c, struct slice id)
{
    return &c->by_id[hash_bytes(id) & c->mask];
}

static struct entry **client_bucket(const struct tls_cache *c, uint64_t key)
{
    return &c->by_client[(key >> 1) & c->mask];
}

static struct slice id_of(const struct entry *e)
{
    return slice_make(e->s.id, sizeof(e->s.id));
}

static struct entry *find(const struct tls_cache *c, struct slice id)
{
    for (struct entry *e = *id_bucket(c, id); e != NULL; e = e->next_id) {
        if (slice_eq(id_of(e), id)) {
            return e;
        }
    }
    return NULL;
}

// ---- order of use ----

static struct cache_kind *kind_of(struct tls_cache *c, const struct entry *e)
{
    return &c->kinds[e->client_key != 0 ? KNOWN : STRANGER];
}

static void order_out(struct cache_kind *k, struct entry *e)
{
    *(e->newer != NULL ? &e->newer->older : &k->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &k->oldest) = e->newer;
    e->newer = e->older = NULL;
    k->len--;
}

static void order_in(struct cache_kind *k, struct entry *e)
{
    e->older = k->newest;
    *(k->newest != NULL ? &k->newest->newer : &k->oldest) = e;
    k->newest = e;
    k->len++;
}

static void drop(struct tls_cache *c, struct entry *e)
{
    struct entry **at = id_bucket(c, id_of(e));
    while (*at != e) {
        at = &(*at)->next_id;
    }
    *at = e->next_id;
    if (e->client_key != 0) {
        at = client_bucket(c, e->client_key);
        while (*at != e) {
            at = &(*at)->next_client;
        }
        *at = e->next_client;
    }
    order_out(kind_of(c, e), e);
    c->stats.entries--;
    c->stats.bytes -= e->bytes;
    OPENSSL_cleanse(e, e->bytes);
    free(e);
}

// The clock may have been set back: an entry from the future has ended too.
static bool has_ended(const struct tls_cache *c, const struct entry *e)
{
    int64_t age_us = clock_wall_us() - e->s.made_us;
    return age_us < 0 || age_us >= c->lifetime_us;
}

// Room for one more entry like `e`: its client's least recently used one goes, then that of its kind.
static void make_room(struct tls_cache *c, const struct entry *e)
{
    struct cache_kind *k = kind_of(c, e);
    struct entry *last = NULL; // newest stand first in a bucket
    unsigned n = 0;
    for (struct entry *o = e->client_key != 0 ? *client_bucket(c, e->client_key) : NULL; o != NULL;
         o = o->next_client) {
        if (same_client(&o->s.client, &e->s.client)) {
            last = o;
            n++;
        }
    }
    if (n >= TLS_CACHE_PER_CLIENT) {
        drop(c, last);
        c->stats.evicted++;
    }
    while (k->oldest != NULL && (k->len >= k->max || has_ended(c, k->oldest))) {
        c->stats.evicted += has_ended(c, k->oldest) ? 0 : 1;
        drop(c, k->oldest);
    }
}

static void client_in(struct tls_cache *c, struct entry *e)
{
    if (e->client_key != 0) {
        struct entry **at = client_bucket(c, e->client_key);
        e->next_client = *at;
        *at = e;
    }
}

static void used(struct tls_cache *c, struct entry *e)
{
    order_out(kind_of(c, e), e);
    order_in(kind_of(c, e), e);
    if (e->client_key != 0) {
        struct entry **at = client_bucket(c, e->client_key);
        while (*at != e) {
            at = &(*at)->next_client;
        }
        *at = e->next_client;
        client_in(c, e);
    }
}

// ---- doors ----

static unsigned buckets_for(unsigned entries_max)
{
    unsigned n = 64;
    while (n < entries_max && n < 1u << 20) {
        n *= 2;
    }
    return n;
}

struct tls_cache *tls_cache_new(unsigned entries_max, int64_t lifetime_us)
{
    struct tls_cache *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    unsigned buckets = buckets_for(entries_max);
    atomic_init(&c->refs, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->lifetime_us = lifetime_us;
    c->mask = buckets - 1;
    c->kinds[KNOWN].max = entries_max - entries_max / STRANGERS_SHARE;
    c->kinds[STRANGER].max = entries_max / STRANGERS_SHARE;
    c->by_id = calloc(buckets, sizeof(struct entry *));
    c->by_client = calloc(buckets, sizeof(struct entry *));
    if (c->by_id == NULL || c->by_client == NULL) {
        tls_cache_unref(c);
        return NULL;
    }
    return c;
}

struct tls_cache *tls_cache_ref(struct tls_cache *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void tls_cache_unref(struct tls_cache *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    for (int k = 0; k < KINDS; k++) {
        while (c->kinds[k].oldest != NULL) {
            drop(c, c->kinds[k].oldest);
        }
    }
    free(c->by_id);
    free(c->by_client);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int64_t tls_cache_lifetime_us(const struct tls_cache *c)
{
    return c->lifetime_us;
}

static struct entry *entry_new(const struct tls_session *s)
{
    size_t bytes = offsetof(struct entry, s.client.name) + strlen(s->client.name) + 1;
    struct entry *e = calloc(1, bytes);
    if (e == NULL) {
        return NULL;
    }
    struct buf b = buf_fixed(&e->s, bytes - offsetof(struct entry, s));
    buf_put(&b, s, b.max);
    e->client_key = client_key(&s->client);
    e->bytes = bytes;
    return e;
}

bool tls_cache_put(struct tls_cache *c, const struct tls_session *s)
{
    struct entry *e = entry_new(s);
    if (e == NULL) {
        return false;
    }
    pthread_mutex_lock(&c->lock);
    struct entry *same = find(c, id_of(e));
    if (same != NULL) {
        drop(c, same);
    }
    make_room(c, e);
    struct entry **at = id_bucket(c, id_of(e));
    e->next_id = *at;
    *at = e;
    client_in(c, e);
    order_in(kind_of(c, e), e);
    c->stats.entries++;
    c->stats.bytes += e->bytes;
    pthread_mutex_unlock(&c->lock);
    return true;
}

bool tls_cache_get(struct tls_cache *c, struct slice id, struct tls_session *ret)
{
    pthread_mutex_lock(&c->lock);
    struct entry *e = id.len == TLS_TICKET_LEN ? find(c, id) : NULL;
    if (e != NULL && has_ended(c, e)) {
        drop(c, e);
        e = NULL;
    }
    if (e != NULL) {
        used(c, e);
        struct buf b = buf_fixed(ret, sizeof(*ret));
        buf_put(&b, &e->s, e->bytes - offsetof(struct entry, s));
    }
    *(e != NULL ? &c->stats.hits : &c->stats.misses) += 1;
    pthread_mutex_unlock(&c->lock);
    return e != NULL;
}

bool tls_cache_knows(struct tls_cache *c, struct slice id)
{
    pthread_mutex_lock(&c->lock);
    const struct entry *e = id.len == TLS_TICKET_LEN ? find(c, id) : NULL;
    bool known = e != NULL && !has_ended(c, e);
    pthread_mutex_unlock(&c->lock);
    return known;
}

static unsigned forget(struct tls_cache *c, const struct tls_client *client)
{
    unsigned n = 0;
    pthread_mutex_lock(&c->lock);
    struct entry *e = *client_bucket(c, client_key(client));
    while (e != NULL) {
        struct entry *next = e->next_client;
        if (same_client(&e->s.client, client)) {
            drop(c, e);
            n++;
        }
        e = next;
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}

unsigned tls_cache_forget_cert(struct tls_cache *c, const uint8_t cert_sha256[32])
{
    struct tls_client client = {.has_cert = true};
    struct buf b = buf_fixed(client.cert_sha256, sizeof(client.cert_sha256));
    buf_put(&b, cert_sha256, sizeof(client.cert_sha256));
    return forget(c, &client);
}

unsigned tls_cache_forget_psk(struct tls_cache *c, struct slice identity)
{
    struct tls_client client = {.has_psk = true};
    return slice_to_cstr(identity, client.name, sizeof(client.name)) ? forget(c, &client) : 0;
}

void tls_cache_stats(struct tls_cache *c, struct tls_cache_stats *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->stats;
    pthread_mutex_unlock(&c->lock);
}
