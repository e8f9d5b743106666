#include "net/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/map.h"

#define ROWS           4
#define ROW_BITS       12
#define ROW_LEN        (1U << ROW_BITS)

#define SOURCE_BITS_V4 32
#define SOURCE_BITS_V6 64
#define NET_BITS_V4    24
#define NET_BITS_V6    56

// How many, by address: the count-min sketch of Cormode and Muthukrishnan (2005), with the same hash cut into its rows.
struct tally {
    _Atomic uint32_t at[ROWS][ROW_LEN];
};

struct admission {
    struct admission_conf conf;
    struct addr_net *proxy_from;
    int64_t every_us, full_us; // of the accept rate
    _Atomic int64_t empty_us;  // when the bucket of accepted connections will have leaked
    struct tally sources, nets;
    _Atomic uint64_t strangers, pauses, refused_source, refused_net, dropped, proxy_refused;
};

struct admission *admission_new(const struct admission_conf *conf)
{
    struct admission *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    a->conf = *conf;
    if (conf->proxy_from_len > 0) {
        a->proxy_from = calloc(conf->proxy_from_len, sizeof(*a->proxy_from));
        if (a->proxy_from == NULL) {
            free(a);
            return NULL;
        }
    }
    for (size_t i = 0; i < conf->proxy_from_len; i++) {
        a->proxy_from[i] = conf->proxy_from[i];
    }
    a->conf.proxy_from = a->proxy_from;
    if (conf->accept_rate > 0) {
        a->every_us = 1000000 / conf->accept_rate > 0 ? 1000000 / conf->accept_rate : 1;
        a->full_us = a->every_us * (conf->accept_burst > 0 ? conf->accept_burst : 1);
    }
    return a;
}

void admission_free(struct admission *a)
{
    if (a != NULL) {
        free(a->proxy_from);
        free(a);
    }
}

void admission_stats(const struct admission *a, struct admission_stats *out)
{
    *out = (struct admission_stats){
        .strangers = atomic_load(&a->strangers),
        .pauses = atomic_load(&a->pauses),
        .refused_source = atomic_load(&a->refused_source),
        .refused_net = atomic_load(&a->refused_net),
        .dropped = atomic_load(&a->dropped),
        .proxy_refused = atomic_load(&a->proxy_refused),
    };
}

// ---- the rate: a leaking bucket that all loops fill ----

int64_t admission_wait_us(struct admission *a, int64_t now_us)
{
    if (a == NULL || a->every_us == 0) {
        return 0;
    }
    int64_t empty_us = atomic_load_explicit(&a->empty_us, memory_order_relaxed);
    int64_t over_us = empty_us - now_us + a->every_us - a->full_us;
    if (over_us > 0) {
        atomic_fetch_add_explicit(&a->pauses, 1, memory_order_relaxed);
    }
    return over_us > 0 ? over_us : 0;
}

void admission_accepted(struct admission *a, int64_t now_us)
{
    if (a == NULL || a->every_us == 0) {
        return;
    }
    int64_t empty_us = atomic_load_explicit(&a->empty_us, memory_order_relaxed);
    int64_t next_us = 0;
    do {
        next_us = (empty_us > now_us ? empty_us : now_us) + a->every_us;
    } while (!atomic_compare_exchange_weak_explicit(&a->empty_us, &empty_us, next_us, memory_order_relaxed,
                                                    memory_order_relaxed));
}

// ---- proxies ----

bool admission_is_proxy(const struct admission *a, const struct addr *peer)
{
    for (size_t i = 0; a != NULL && i < a->conf.proxy_from_len; i++) {
        if (addr_net_has(&a->proxy_from[i], peer)) {
            return true;
        }
    }
    return false;
}

void admission_proxy_refused(struct admission *a)
{
    if (a != NULL) {
        atomic_fetch_add_explicit(&a->proxy_refused, 1, memory_order_relaxed);
    }
}

// ---- counting by address ----

static uint64_t key_of(const struct addr *peer, uint8_t v4_bits, uint8_t v6_bits)
{
    struct addr_net n = addr_net_of(peer, v4_bits, v6_bits);
    return hash_bytes(slice_make(n.ip, sizeof(n.ip)));
}

static _Atomic uint32_t *cell(struct tally *t, uint64_t key, unsigned row)
{
    return &t->at[row][(key >> (row * ROW_BITS)) % ROW_LEN];
}

// One more; how many there are now, or more than that.
static uint32_t tally_add(struct tally *t, uint64_t key)
{
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; i < ROWS; i++) {
        uint32_t n = atomic_fetch_add_explicit(cell(t, key, i), 1, memory_order_relaxed) + 1;
        least = n < least ? n : least;
    }
    return least;
}

static void tally_sub(struct tally *t, uint64_t key)
{
    for (unsigned i = 0; i < ROWS; i++) {
        atomic_fetch_sub_explicit(cell(t, key, i), 1, memory_order_relaxed);
    }
}

static bool is_over(const struct admission *a, const struct addr *peer, uint32_t n, uint32_t max)
{
    return max > 0 && n > max && (a->conf.limit_loopback || !addr_is_loopback(peer));
}

static bool add_stranger(struct admission *a, const struct addr *peer)
{
    atomic_fetch_add_explicit(&a->strangers, 1, memory_order_relaxed);
    return !is_over(a, peer, tally_add(&a->nets, key_of(peer, NET_BITS_V4, NET_BITS_V6)), a->conf.strangers_per_net);
}

enum admission_verdict admission_enter(struct admission *a, const struct addr *peer)
{
    if (a == NULL) {
        return ADMITTED;
    }
    uint64_t source = key_of(peer, SOURCE_BITS_V4, SOURCE_BITS_V6);
    if (is_over(a, peer, tally_add(&a->sources, source), a->conf.conns_per_source)) {
        tally_sub(&a->sources, source);
        atomic_fetch_add_explicit(&a->refused_source, 1, memory_order_relaxed);
        return REFUSED_SOURCE;
    }
    if (!add_stranger(a, peer)) {
        admission_known(a, peer);
        tally_sub(&a->sources, source);
        atomic_fetch_add_explicit(&a->refused_net, 1, memory_order_relaxed);
        return REFUSED_NET;
    }
    return ADMITTED;
}

bool admission_crowded(const struct admission *a)
{
    return a != NULL && a->conf.strangers_max > 0 &&
           atomic_load_explicit(&a->strangers, memory_order_relaxed) > a->conf.strangers_max;
}

void admission_dropped(struct admission *a)
{
    if (a != NULL) {
        atomic_fetch_add_explicit(&a->dropped, 1, memory_order_relaxed);
    }
}

void admission_stranger(struct admission *a, const struct addr *peer)
{
    if (a != NULL) {
        (void)add_stranger(a, peer); // it is in already: its network's number is looked at when the next one comes
    }
}

void admission_known(struct admission *a, const struct addr *peer)
{
    if (a != NULL) {
        atomic_fetch_sub_explicit(&a->strangers, 1, memory_order_relaxed);
        tally_sub(&a->nets, key_of(peer, NET_BITS_V4, NET_BITS_V6));
    }
}

void admission_leave(struct admission *a, const struct addr *peer)
{
    if (a != NULL) {
        tally_sub(&a->sources, key_of(peer, SOURCE_BITS_V4, SOURCE_BITS_V6));
    }
}
