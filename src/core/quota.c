#include "core/quota.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "core/limit.h"
#include "core/metrics.h"

#define SECOND_NS 1000000000LL
#define LUMP_NS   10000000LL // a loop takes this much of a tenant's rate at once
#define BURST_NS  (2 * SECOND_NS)
#define LOG_US    60000000LL

static const char *const texts[] = {
#define X(name, text) [QUOTA_##name] = (text),
    QUOTA_MAP(X)
#undef X
};

// One tenant, shared by all loops.
struct quota_tenant {
    uint32_t row;
    _Atomic int64_t own[QUOTA__COUNT]; // QUOTA_DEFAULT: as configured
    _Atomic int64_t used[QUOTA__COUNT];
    _Atomic int64_t exceeded[QUOTA__COUNT];
    _Atomic int64_t logged_us[QUOTA__COUNT];
    _Atomic int64_t empty_ns[QUOTA_RATES]; // when the tenant's bucket will have leaked empty
};
// What one loop has taken of it and not used yet.
struct quota_share {
    struct quotas *all;
    struct quota_tenant *tenant;
    int64_t left[QUOTA_RATES];
};
struct quota_loop {
    struct quotas *all;
    struct map shares; // by tenant
};
struct quotas {
    struct quota_conf conf;
    pthread_rwlock_t lock; // of the map; what it points to stays
    struct map tenants;
    _Atomic int64_t met[QUOTA__COUNT];       // by tenants
    _Atomic int64_t met_client[QUOTA_RATES]; // by single clients
    unsigned loops_len;
    struct quota_loop loops[];
};

const char *quota_text(enum quota_what w)
{
    return (unsigned)w < QUOTA__COUNT ? texts[w] : "unknown";
}

bool quota_parse(struct slice text, enum quota_what *ret)
{
    for (unsigned i = 0; i < QUOTA__COUNT; i++) {
        if (slice_eq_str(text, texts[i])) {
            *ret = (enum quota_what)i;
            return true;
        }
    }
    return false;
}

// --- configuration -----------------------------------------------------------------------------------------------

#define RATE_MAX 1000000000LL

static const struct conf_key keys[] = {
    {.name = "quota.client_bytes",
     .type = CONF_SIZE,
     .dflt = "0",
     .min = 0,
     .max = RATE_MAX,
     .help =
         "Bytes of topics and payloads per second of one client; a faster one is read more slowly, nothing is lost; "
         "0 allows any number."},
    {.name = "quota.client_bytes_burst",
     .type = CONF_SIZE,
     .dflt = "4MiB",
     .min = 1024,
     .max = RATE_MAX,
     .help = "Bytes that one client may send at once before the rate counts."},
    {.name = "quota.tenant_messages",
     .type = CONF_INT,
     .dflt = "0",
     .min = 0,
     .max = RATE_MAX,
     .help = "Messages per second of one tenant, all its clients together, two seconds' worth at once; its clients are "
             "read more slowly; 0 allows any number."},
    {.name = "quota.tenant_bytes",
     .type = CONF_SIZE,
     .dflt = "0",
     .min = 0,
     .max = RATE_MAX,
     .help = "The same for bytes of topics and payloads."},
    {.name = "quota.tenant_connections",
     .type = CONF_INT,
     .dflt = "0",
     .min = 0,
     .max = RATE_MAX,
     .help = "Connections of one tenant at once; a further CONNECT is refused with 0x97; 0 allows any number."},
    {.name = "quota.tenant_subscriptions",
     .type = CONF_INT,
     .dflt = "1000000",
     .min = 0,
     .max = RATE_MAX,
     .help =
         "Subscriptions of one tenant, those of stored sessions too; a further one is refused with 0x97; 0 allows any "
         "number."},
    {.name = "quota.tenant_queued_bytes",
     .type = CONF_SIZE,
     .dflt = "0",
     .min = 0,
     .max = (int64_t)1 << 50,
     .help =
         "Bytes stored for one tenant's sessions that have not taken them yet; what would go over is not queued, and "
         "counted; 0 allows any number."},
};
const struct conf_module quota_conf_module = {"Quotas", keys, sizeof(keys) / sizeof(keys[0])};

void quota_conf_read(const struct conf *conf, struct quota_conf *ret)
{
    *ret = (struct quota_conf){
        .client_messages = (uint32_t)conf_int(conf, "mqtt.publishes_per_client"),
        .client_messages_burst = (uint32_t)conf_int(conf, "mqtt.publishes_burst"),
        .client_bytes = (uint64_t)conf_int(conf, "quota.client_bytes"),
        .client_bytes_burst = (uint64_t)conf_int(conf, "quota.client_bytes_burst"),
    };
    for (unsigned i = 0; i < QUOTA__COUNT; i++) {
        char key[64];
        (void)snprintf(key, sizeof(key), "quota.tenant_%s", texts[i]);
        ret->tenant[i] = conf_int(conf, key);
    }
}

// --- life --------------------------------------------------------------------------------------------------------

static void write_one(struct buf *out, const char *who, unsigned what, const _Atomic int64_t *n)
{
    (void)buf_printf(out, "muster_quota_exceeded_total{limit=\"%s_%s\"} %lld\n", who, texts[what],
                     (long long)atomic_load_explicit(n, memory_order_relaxed));
}

static void write_metrics(void *arg, struct buf *out)
{
    const struct quotas *q = arg;
    (void)buf_str(out, "# HELP muster_quota_exceeded_total How often a client or tenant met its limit.\n"
                       "# TYPE muster_quota_exceeded_total counter\n");
    for (unsigned i = 0; i < QUOTA_RATES; i++) {
        write_one(out, "client", i, &q->met_client[i]);
    }
    for (unsigned i = 0; i < QUOTA__COUNT; i++) {
        write_one(out, "tenant", i, &q->met[i]);
    }
}

enum status quotas_new(const struct quota_conf *conf, unsigned loops, struct quotas **ret, struct err *err)
{
    struct quotas *q = calloc(1, sizeof(*q) + loops * sizeof(q->loops[0]));
    if (q == NULL) {
        return err_set(err, ST_NOMEM, "no memory for quotas");
    }
    q->conf = *conf;
    q->loops_len = loops;
    map_init(&q->tenants);
    for (unsigned i = 0; i < loops; i++) {
        q->loops[i].all = q;
        map_init(&q->loops[i].shares);
    }
    if (pthread_rwlock_init(&q->lock, NULL) != 0 || !metric_collector(write_metrics, q)) {
        free(q);
        return err_set(err, ST_NOMEM, "no room for the figures of quotas");
    }
    *ret = q;
    return ST_OK;
}

static void free_values(struct map *m)
{
    size_t pos = 0;
    for (void *p = NULL; (p = map_next(m, &pos, NULL, NULL)) != NULL;) {
        free(p);
    }
    map_release(m);
}

void quotas_free(struct quotas *q)
{
    if (q == NULL) {
        return;
    }
    metric_collector_remove(write_metrics, q);
    for (unsigned i = 0; i < q->loops_len; i++) {
        free_values(&q->loops[i].shares);
    }
    free_values(&q->tenants);
    (void)pthread_rwlock_destroy(&q->lock);
    free(q);
}

void quotas_set(struct core *c, struct quotas *q)
{
    core_set_slot(c, CORE_SLOT_QUOTA, q);
}

struct quota_loop *quota_loop(struct quotas *q, unsigned index)
{
    return &q->loops[index];
}

// --- tenants -----------------------------------------------------------------------------------------------------

static struct quota_tenant *tenant_make(struct quotas *q, uint32_t row)
{
    pthread_rwlock_wrlock(&q->lock);
    struct quota_tenant *t = map_get_u64(&q->tenants, row);
    if (t == NULL) {
        t = calloc(1, sizeof(*t));
        for (unsigned i = 0; t != NULL && i < QUOTA__COUNT; i++) {
            t->row = row;
            atomic_init(&t->own[i], QUOTA_DEFAULT);
        }
        if (t != NULL && !map_set_u64(&q->tenants, row, t)) {
            free(t);
            t = NULL;
        }
    }
    pthread_rwlock_unlock(&q->lock);
    return t;
}

// Tenants are few and stay: a pointer to one is good until quotas_free. NULL: no memory.
static struct quota_tenant *tenant_of(struct quotas *q, uint32_t row)
{
    pthread_rwlock_rdlock(&q->lock);
    struct quota_tenant *t = map_get_u64(&q->tenants, row);
    pthread_rwlock_unlock(&q->lock);
    return t != NULL ? t : tenant_make(q, row);
}

static int64_t limit_of(const struct quotas *q, const struct quota_tenant *t, enum quota_what w)
{
    int64_t own = atomic_load_explicit(&t->own[w], memory_order_relaxed);
    return own != QUOTA_DEFAULT ? own : q->conf.tenant[w];
}

static void count(_Atomic int64_t *n)
{
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

// The limit was met: counted each time, logged once a minute.
static void met(struct quotas *q, struct quota_tenant *t, enum quota_what w)
{
    int64_t now_us = clock_mono_us();
    int64_t last_us = atomic_load_explicit(&t->logged_us[w], memory_order_relaxed);
    count(&q->met[w]);
    count(&t->exceeded[w]);
    if ((last_us == 0 || now_us - last_us >= LOG_US) &&
        atomic_compare_exchange_strong_explicit(&t->logged_us[w], &last_us, now_us, memory_order_relaxed,
                                                memory_order_relaxed)) {
        log_warn("quota", "a tenant has met its limit", LOGU("tenant", t->row), LOGS("limit", texts[w]),
                 LOGI("value", limit_of(q, t, w)),
                 LOGI("times", atomic_load_explicit(&t->exceeded[w], memory_order_relaxed)));
    }
}

// --- rates -------------------------------------------------------------------------------------------------------

// Adds n at `rate` a second to a bucket of one client; how long until it is within its burst again.
static int64_t fill(int64_t *empty_ns, uint64_t n, uint64_t rate, uint64_t burst, int64_t now_ns)
{
    if (rate == 0) {
        return 0;
    }
    int64_t from_ns = *empty_ns > now_ns ? *empty_ns : now_ns;
    *empty_ns = from_ns + (int64_t)((double)n * (double)SECOND_NS / (double)rate);
    int64_t over_ns = *empty_ns - now_ns - (int64_t)((double)burst * (double)SECOND_NS / (double)rate);
    return over_ns > 0 ? over_ns : 0;
}

static int64_t bucket_wait(int64_t empty_ns, uint64_t rate, uint64_t burst, int64_t now_ns)
{
    int64_t over_ns = rate > 0 ? empty_ns - now_ns - (int64_t)((double)burst * (double)SECOND_NS / (double)rate) : 0;
    return over_ns > 0 ? over_ns : 0;
}

// Takes n from the tenant's shared bucket, and a lump more for the messages to come. A bucket that is overdrawn is taken
// from all the same: what has been read is there, and the wait grows with it.
static int64_t draw(struct quota_share *s, enum quota_what w, int64_t n, int64_t rate, int64_t now_ns)
{
    int64_t lump = rate / (SECOND_NS / LUMP_NS);
    int64_t take = n > lump ? n : lump;
    _Atomic int64_t *at = &s->tenant->empty_ns[w];
    int64_t old_ns = atomic_load_explicit(at, memory_order_relaxed);
    int64_t new_ns = 0;
    do {
        int64_t from_ns = old_ns > now_ns ? old_ns : now_ns;
        bool over = from_ns - now_ns > BURST_NS;
        take = over ? n : take; // nothing ahead for who is over already
        new_ns = from_ns + (int64_t)((double)take * (double)SECOND_NS / (double)rate);
    } while (!atomic_compare_exchange_weak_explicit(at, &old_ns, new_ns, memory_order_relaxed, memory_order_relaxed));
    s->left[w] += take;
    return new_ns - now_ns > BURST_NS ? new_ns - now_ns - BURST_NS : 0;
}

static int64_t take_rate(struct quota_share *s, enum quota_what w, int64_t n, int64_t now_ns)
{
    int64_t rate = limit_of(s->all, s->tenant, w);
    if (rate == 0) {
        return 0;
    }
    int64_t wait_ns = s->left[w] >= n ? 0 : draw(s, w, n - s->left[w], rate, now_ns);
    s->left[w] -= n;
    if (wait_ns > 0) {
        met(s->all, s->tenant, w);
    }
    return wait_ns;
}

enum status quota_open(struct quota *q, struct quota_loop *l, uint32_t tenant)
{
    struct quota_share *s = map_get_u64(&l->shares, tenant);
    if (s == NULL) {
        s = calloc(1, sizeof(*s));
        struct quota_tenant *t = s != NULL ? tenant_of(l->all, tenant) : NULL;
        if (t == NULL || !map_set_u64(&l->shares, tenant, s)) {
            free(s);
            return ST_NOMEM;
        }
        s->all = l->all;
        s->tenant = t;
    }
    q->share = s;
    return ST_OK;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t client_rates(struct quota *q, struct quotas *all, size_t bytes, int64_t now_ns)
{
    const struct quota_conf *c = &all->conf;
    int64_t by_messages = fill(&q->messages_ns, 1, c->client_messages, c->client_messages_burst, now_ns);
    int64_t by_bytes = fill(&q->bytes_ns, bytes, c->client_bytes, c->client_bytes_burst, now_ns);
    if (by_messages > 0) {
        count(&all->met_client[QUOTA_MESSAGES]);
        limit_met(LIMIT_CLIENT_MESSAGES, q->share != NULL ? q->share->tenant->row : 0, SLICE(""));
    }
    if (by_bytes > 0) {
        count(&all->met_client[QUOTA_BYTES]);
        limit_met(LIMIT_CLIENT_BYTES, q->share != NULL ? q->share->tenant->row : 0, SLICE(""));
    }
    return max_of(by_messages, by_bytes);
}

int64_t quota_message(struct quota *q, struct quota_loop *l, size_t bytes, int64_t now_us)
{
    int64_t now_ns = now_us * 1000;
    int64_t wait_ns = client_rates(q, l->all, bytes, now_ns);
    if (q->share != NULL) {
        wait_ns = max_of(wait_ns, take_rate(q->share, QUOTA_MESSAGES, 1, now_ns));
        wait_ns = max_of(wait_ns, take_rate(q->share, QUOTA_BYTES, (int64_t)bytes, now_ns));
    }
    return (wait_ns + 999) / 1000;
}

static int64_t tenant_wait(const struct quota_share *s, enum quota_what w, int64_t now_ns)
{
    int64_t empty_ns = atomic_load_explicit(&s->tenant->empty_ns[w], memory_order_relaxed);
    int64_t over_ns = limit_of(s->all, s->tenant, w) > 0 && s->left[w] <= 0 ? empty_ns - now_ns - BURST_NS : 0;
    return over_ns > 0 ? over_ns : 0;
}

int64_t quota_wait(const struct quota *q, struct quota_loop *l, int64_t now_us)
{
    const struct quota_conf *c = &l->all->conf;
    int64_t now_ns = now_us * 1000;
    int64_t wait_ns = max_of(bucket_wait(q->messages_ns, c->client_messages, c->client_messages_burst, now_ns),
                             bucket_wait(q->bytes_ns, c->client_bytes, c->client_bytes_burst, now_ns));
    if (q->share != NULL) {
        wait_ns = max_of(wait_ns, tenant_wait(q->share, QUOTA_MESSAGES, now_ns));
        wait_ns = max_of(wait_ns, tenant_wait(q->share, QUOTA_BYTES, now_ns));
    }
    return (wait_ns + 999) / 1000;
}

// --- amounts -----------------------------------------------------------------------------------------------------

bool quota_take(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n)
{
    if (q == NULL) {
        return true;
    }
    struct quota_tenant *t = tenant_of(q, tenant);
    if (t == NULL) {
        return false;
    }
    int64_t limit = limit_of(q, t, w);
    int64_t now = atomic_fetch_add_explicit(&t->used[w], n, memory_order_relaxed) + n;
    if (limit > 0 && now > limit) {
        atomic_fetch_sub_explicit(&t->used[w], n, memory_order_relaxed);
        met(q, t, w);
        return false;
    }
    return true;
}

bool quota_room(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n)
{
    struct quota_tenant *t = q != NULL ? tenant_of(q, tenant) : NULL;
    int64_t limit = t != NULL ? limit_of(q, t, w) : 0;
    if (limit > 0 && atomic_load_explicit(&t->used[w], memory_order_relaxed) + n > limit) {
        met(q, t, w);
        return false;
    }
    return true;
}

void quota_give(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n)
{
    quota_count(q, tenant, w, -n);
}

void quota_count(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t n)
{
    struct quota_tenant *t = q != NULL ? tenant_of(q, tenant) : NULL;
    if (t != NULL) {
        atomic_fetch_add_explicit(&t->used[w], n, memory_order_relaxed);
    }
}

// --- a tenant's own limits ---------------------------------------------------------------------------------------

void quota_set(struct quotas *q, uint32_t tenant, enum quota_what w, int64_t limit)
{
    struct quota_tenant *t = tenant_of(q, tenant);
    if (t != NULL) {
        atomic_store_explicit(&t->own[w], limit, memory_order_relaxed);
    }
}

int64_t quota_configured(const struct quotas *q, enum quota_what w)
{
    return q->conf.tenant[w];
}

int64_t quota_limit(struct quotas *q, uint32_t tenant, enum quota_what w)
{
    struct quota_tenant *t = tenant_of(q, tenant);
    return t != NULL ? limit_of(q, t, w) : q->conf.tenant[w];
}

int64_t quota_used(struct quotas *q, uint32_t tenant, enum quota_what w)
{
    struct quota_tenant *t = tenant_of(q, tenant);
    return t != NULL ? atomic_load_explicit(&t->used[w], memory_order_relaxed) : 0;
}

int64_t quota_exceeded(struct quotas *q, uint32_t tenant, enum quota_what w)
{
    struct quota_tenant *t = tenant_of(q, tenant);
    return t != NULL ? atomic_load_explicit(&t->exceeded[w], memory_order_relaxed) : 0;
}
