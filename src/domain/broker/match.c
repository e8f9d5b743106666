#include "domain/broker/match.h"

#include <stdlib.h>

#include "base/buf.h"
#include "domain/broker/session.h"

#define WAYS        4
#define TARGETS_MAX (1u << 20) // of all matches of a cache: beyond it the cache is emptied
#define SWEEP_SLOTS 64

struct match *match_ref(struct match *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void match_unref(struct match *m)
{
    if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint32_t i = 0; i < m->all_len; i++) {
        broker_session_unref(m->targets[i].session);
        link_unref(m->targets[i].link);
    }
    free(m);
}

bool match_cache_init(struct match_cache *c, struct index *ix, unsigned loops_len, bool core, size_t slots)
{
    *c = (struct match_cache){.index = ix, .loops_len = loops_len, .core = core, .next_id = 1};
    c->slots = WAYS;
    while (c->slots < slots) {
        c->slots *= 2;
    }
    c->matches = calloc(c->slots, sizeof(struct match *));
    c->grants = calloc(c->slots, sizeof(struct grant));
    c->walk = malloc(sizeof(*c->walk));
    if (c->walk != NULL) {
        tree_walk_init(c->walk);
    }
    return c->matches != NULL && c->grants != NULL && c->walk != NULL;
}

static void let_go(struct match_cache *c, size_t i)
{
    if (c->matches[i] != NULL) {
        c->targets -= c->matches[i]->all_len;
        match_unref(c->matches[i]);
        c->matches[i] = NULL;
    }
}

static void empty(struct match_cache *c)
{
    for (size_t i = 0; c->matches != NULL && i < c->slots; i++) {
        let_go(c, i);
    }
}

void match_cache_release(struct match_cache *c)
{
    empty(c);
    free(c->matches);
    free(c->grants);
    free(c->subs);
    if (c->walk != NULL) {
        tree_walk_release(c->walk);
    }
    free(c->walk);
    *c = (struct match_cache){0};
}

// --- finding the subscriptions -----------------------------------------------------------------------------------

static bool keep_sub(struct match_cache *c, struct sub *s)
{
    if (c->subs_len == c->subs_cap) {
        size_t cap = c->subs_cap > 0 ? c->subs_cap * 2 : 64;
        struct sub **more = reallocarray(c->subs, cap, sizeof(struct sub *));
        if (more == NULL) {
            return false;
        }
        c->subs = more;
        c->subs_cap = cap;
    }
    c->subs[c->subs_len++] = s;
    return true;
}

// Does this one get the topic? A session that is offline is asked when it is back.
static bool receives(const struct sub *s, struct slice topic)
{
    return s->active && (s->session->link == NULL || permit_receive(s->session->permit, topic));
}

static bool keep_list(struct match_cache *c, const struct sub_list *l, struct slice topic)
{
    for (uint32_t i = 0; i < l->len; i++) {
        struct sub *s = sub_list_at(l, i);
        if (receives(s, topic) && !keep_sub(c, s)) {
            return false;
        }
    }
    return true;
}

static int by_session(const void *a, const void *b)
{
    const struct sub *x = *(struct sub *const *)a;
    const struct sub *y = *(struct sub *const *)b;
    return x->session < y->session ? -1 : x->session > y->session;
}

// What is known of a match before its memory is made.
struct plan {
    struct slice topic;
    size_t ordinary; // subscriptions in c->subs that belong to no group; the members of groups follow, by group
    size_t groups;
    uint32_t targets; // at most
};

static bool collect(struct match_cache *c, struct plan *p)
{
    const struct tree_walk *w = c->walk;
    c->subs_len = 0;
    for (size_t i = 0; i < w->found_len; i++) {
        const struct leaf *l = w->found[i]->value;
        if (!keep_list(c, &l->subs, p->topic)) {
            return false;
        }
    }
    p->ordinary = c->subs_len;
    if (w->found_len > 1 && p->ordinary > 1) { // one leaf has a session once
        qsort(c->subs, p->ordinary, sizeof(struct sub *), by_session);
    }
    p->groups = 0;
    for (size_t i = 0; i < w->found_len; i++) {
        const struct leaf *l = w->found[i]->value;
        for (const struct group *g = l->groups; g != NULL; g = g->next) {
            size_t before = c->subs_len;
            if (!keep_list(c, &g->members, p->topic)) {
                return false;
            }
            p->groups += c->subs_len > before;
        }
    }
    p->targets = (uint32_t)c->subs_len;
    return true;
}

// --- making the match --------------------------------------------------------------------------------------------

// One piece of memory for all of it.
static struct match *match_alloc(const struct match_cache *c, const struct plan *p)
{
    size_t targets = p->targets * sizeof(struct match_target);
    size_t groups = p->groups * sizeof(struct match_group);
    size_t starts = (c->loops_len + 2) * sizeof(uint32_t);
    size_t ids = p->targets * sizeof(uint32_t);
    struct match *m = malloc(sizeof(*m) + targets + groups + starts + ids + p->topic.len);
    if (m == NULL) {
        return NULL;
    }
    *m = (struct match){.topic_len = (uint32_t)p->topic.len};
    atomic_init(&m->refs, 1);
    m->targets = (struct match_target *)(m + 1);
    m->groups = (struct match_group *)(m->targets + p->targets);
    m->starts = (uint32_t *)(m->groups + p->groups);
    m->ids = m->starts + c->loops_len + 2;
    m->topic = (uint8_t *)(m->ids + p->targets);
    struct buf b = buf_fixed(m->topic, p->topic.len);
    buf_slice(&b, p->topic);
    return m;
}

static unsigned place_of(const struct match_cache *c, const struct broker_session *s)
{
    return s->link != NULL ? s->loop : c->loops_len;
}

// Does a loop keep this target? It can send nothing to sessions that are offline.
static bool kept(const struct match_cache *c, const struct broker_session *s)
{
    return c->core || s->link != NULL;
}

static struct match_target target_of(const struct match_cache *c, const struct sub *s)
{
    return (struct match_target){.session = s->session,
                                 .link = s->session->link,
                                 .serial = s->session->serial,
                                 .loop = (uint16_t)place_of(c, s->session),
                                 .durable = s->session->row != 0,
                                 .no_local = true};
}

static void target_merge(struct match *m, struct match_target *t, uint32_t *ids_len, const struct sub *s)
{
    t->qos = s->qos > t->qos ? s->qos : t->qos;
    t->no_local = t->no_local && s->no_local;
    t->retain_as_published = t->retain_as_published || s->retain_as_published;
    if (s->id != 0) {
        m->ids[(*ids_len)++] = s->id;
        t->ids_len++;
    }
}

static void target_hold(struct match_target *t)
{
    broker_session_ref(t->session);
    if (t->link != NULL) {
        link_ref(t->link);
    }
}

static void note(struct match *m, const struct match_target *t)
{
    m->wanted = m->wanted || t->link != NULL || t->qos > 0;
    m->durable = m->durable || (t->durable && t->qos > 0);
}

// The end of the run of subscriptions of one session that begins at i.
static size_t same_session(const struct match_cache *c, size_t i, size_t end)
{
    size_t j = i + 1;
    while (j < end && c->subs[j]->session == c->subs[i]->session) {
        j++;
    }
    return j;
}

// Counts per loop, then puts each target to its loop's.
static uint32_t fill_targets(const struct match_cache *c, const struct plan *p, struct match *m)
{
    uint32_t ids = 0;
    memset(m->starts, 0, (c->loops_len + 2) * sizeof(uint32_t));
    for (size_t i = 0; i < p->ordinary; i = same_session(c, i, p->ordinary)) {
        const struct broker_session *s = c->subs[i]->session;
        m->starts[place_of(c, s) + 1] += kept(c, s);
    }
    for (unsigned i = 1; i < c->loops_len + 2; i++) {
        m->starts[i] += m->starts[i - 1];
    }
    m->targets_len = m->starts[c->loops_len + 1];
    for (size_t i = 0; i < p->ordinary;) {
        struct match_target t = target_of(c, c->subs[i]);
        t.first_id = ids;
        for (size_t end = same_session(c, i, p->ordinary); i < end; i++) {
            target_merge(m, &t, &ids, c->subs[i]);
        }
        note(m, &t);
        if (kept(c, t.session)) {
            target_hold(&t);
            m->targets[m->starts[t.loop]++] = t; // moved on; set right below
        }
    }
    for (unsigned i = c->loops_len + 1; i > 0; i--) {
        m->starts[i] = m->starts[i - 1];
    }
    m->starts[0] = 0;
    return ids;
}

static void fill_groups(const struct match_cache *c, const struct plan *p, struct match *m, uint32_t ids)
{
    m->all_len = m->targets_len;
    for (size_t i = p->ordinary; i < c->subs_len;) {
        const struct group *group = c->subs[i]->group;
        struct match_group g = {.id = group->id, .first = m->all_len};
        for (; i < c->subs_len && c->subs[i]->group == group; i++) {
            struct match_target t = target_of(c, c->subs[i]);
            t.first_id = ids;
            target_merge(m, &t, &ids, c->subs[i]);
            g.durable = g.durable || (t.durable && t.qos > 0);
            note(m, &t);
            if (kept(c, t.session)) {
                target_hold(&t);
                m->targets[m->all_len++] = t;
                g.len++;
            }
        }
        m->groups[m->groups_len++] = g;
    }
}

static struct match *build(struct match_cache *c, uint32_t tenant, struct slice topic, uint64_t hash)
{
    const struct tenant_index *t = map_get_u64(&c->index->tenants, tenant);
    struct plan p = {.topic = topic};
    c->subs_len = 0;
    if (t != NULL && (!tree_match_topic(&t->tree, topic, c->walk) || !collect(c, &p))) {
        return NULL;
    }
    struct match *m = match_alloc(c, &p);
    if (m == NULL) {
        return NULL;
    }
    m->tenant = tenant;
    m->hash = hash;
    m->id = c->next_id++;
    m->generation = index_generation(c->index);
    fill_groups(c, &p, m, fill_targets(c, &p, m));
    return m;
}

// --- the cache ---------------------------------------------------------------------------------------------------

static bool is(const struct match *m, uint64_t hash, uint32_t tenant, struct slice topic)
{
    return m != NULL && m->hash == hash && m->tenant == tenant && slice_eq(slice_make(m->topic, m->topic_len), topic);
}

// Where a new match goes: a free or outdated slot, else the oldest.
static size_t victim(const struct match_cache *c, size_t set, uint64_t generation)
{
    size_t best = set;
    for (size_t i = set; i < set + WAYS; i++) {
        const struct match *m = c->matches[i];
        if (m == NULL || m->generation != generation) {
            return i;
        }
        if (m->id < c->matches[best]->id) {
            best = i;
        }
    }
    return best;
}

// One writer: no need of an atomic addition.
static void count_up(_Atomic uint64_t *n)
{
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1, memory_order_relaxed);
}

static struct match *miss(struct match_cache *c, uint32_t tenant, struct slice topic, uint64_t hash, size_t set)
{
    count_up(&c->misses);
    if (!c->core) {
        pthread_rwlock_rdlock(&c->index->lock);
    }
    struct match *m = build(c, tenant, topic, hash);
    if (!c->core) {
        pthread_rwlock_unlock(&c->index->lock);
    }
    if (m == NULL) {
        return NULL;
    }
    if (c->targets + m->all_len > TARGETS_MAX) {
        empty(c);
    }
    size_t i = victim(c, set, m->generation);
    let_go(c, i);
    c->matches[i] = m;
    c->targets += m->all_len;
    return m;
}

struct match *match_get(struct match_cache *c, uint32_t tenant, struct slice topic)
{
    uint64_t hash = hash_bytes(topic) + tenant * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t generation = index_generation(c->index);
    size_t set = (size_t)hash & (c->slots - 1) & ~(size_t)(WAYS - 1);
    for (size_t i = set; i < set + WAYS; i++) {
        if (is(c->matches[i], hash, tenant, topic)) {
            if (c->matches[i]->generation == generation) {
                count_up(&c->hits);
                return c->matches[i];
            }
            let_go(c, i);
        }
    }
    return miss(c, tenant, topic, hash, set);
}

struct grant match_grant(struct match_cache *c, const struct match *m, uint64_t session, const struct permit *p,
                         struct slice topic)
{
    uint64_t version = permit_version(p);
    size_t at = (size_t)(m->hash + session * UINT64_C(0x9e3779b97f4a7c15)) & (c->slots - 1);
    struct grant *g = &c->grants[at];
    if (g->match != m->id || g->session != session || g->permit != version) {
        bool publish = permit_publish(p, topic);
        *g = (struct grant){.match = m->id,
                            .session = session,
                            .permit = version,
                            .publish = publish,
                            .retain = publish && permit_retain(p, topic)};
    }
    return *g;
}

void match_cache_sweep(struct match_cache *c)
{
    uint64_t generation = index_generation(c->index);
    for (unsigned n = 0; n < SWEEP_SLOTS && n < c->slots; n++) {
        size_t i = c->sweep_at++ & (c->slots - 1);
        if (c->matches[i] != NULL && c->matches[i]->generation != generation) {
            let_go(c, i);
        }
    }
}
