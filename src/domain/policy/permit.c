// Permits: policies and one principal's values, asked by any thread.
#include "domain/policy/permit.h"

#include <stdlib.h>

#include "domain/policy/policy_priv.h"

#define BIT(a) (1U << (a))

// A value in the permit's own memory: its name, then the value.
struct slot {
    uint32_t off;
    uint16_t name_len, value_len;
};

// One allocation: the struct, the policies, the slots, the bytes.
struct permit {
    _Atomic uint32_t refs;
    uint32_t tenant;
    uint64_t row, perms, version;
    enum principal_kind kind;
    uint16_t policies_len, slots_len, client_id_len;
    struct policy **policies;
    struct slot *slots;
    const uint8_t *bytes; // the client id first
};

// --- policies in memory ------------------------------------------------------------------------------------------

struct policy *policy_new(uint64_t row, uint32_t tenant, struct slice id, struct policy_doc *doc, uint64_t version)
{
    struct policy *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    if (pthread_rwlock_init(&p->lock, NULL) != 0) {
        free(p);
        return NULL;
    }
    atomic_init(&p->refs, 1);
    atomic_init(&p->version, version);
    p->row = row;
    p->tenant = tenant;
    p->doc = doc;
    (void)slice_to_cstr(id, p->id, sizeof(p->id));
    return p;
}

struct policy *policy_get(struct policy *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void policy_put(struct policy *p)
{
    if (p != NULL && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) {
        policy_doc_free(p->doc);
        (void)pthread_rwlock_destroy(&p->lock);
        free(p);
    }
}

void policy_swap(struct policy *p, struct policy_doc *doc, uint64_t version)
{
    pthread_rwlock_wrlock(&p->lock);
    struct policy_doc *old = p->doc;
    p->doc = doc;
    // After the document: who has read the new version asks the new document.
    atomic_store_explicit(&p->version, version, memory_order_release);
    pthread_rwlock_unlock(&p->lock);
    policy_doc_free(old);
}

// --- life --------------------------------------------------------------------------------------------------------

static bool worth_keeping(const struct permit_value *v)
{
    return pattern_value_ok(v->value) && v->name.len <= UINT16_MAX;
}

static size_t bytes_needed(const struct permit_make *m, size_t *ret_slots)
{
    size_t bytes = m->client_id.len;
    *ret_slots = 0;
    for (size_t i = 0; i < m->values_len; i++) {
        if (worth_keeping(&m->values[i])) {
            bytes += m->values[i].name.len + m->values[i].value.len;
            (*ret_slots)++;
        }
    }
    return bytes;
}

static void copy_values(struct permit *p, uint8_t *bytes, size_t room, const struct permit_make *m)
{
    struct buf b = buf_fixed(bytes, room);
    (void)buf_slice(&b, m->client_id);
    for (size_t i = 0; i < m->values_len; i++) {
        const struct permit_value *v = &m->values[i];
        if (worth_keeping(v)) {
            p->slots[p->slots_len++] = (struct slot){(uint32_t)b.len, (uint16_t)v->name.len, (uint16_t)v->value.len};
            (void)buf_slice(&b, v->name);
            (void)buf_slice(&b, v->value);
        }
    }
    p->bytes = bytes;
}

struct permit *permit_new(const struct permit_make *m)
{
    size_t slots = 0;
    size_t bytes = bytes_needed(m, &slots);
    if (m->policies_len > POLICY_PER_PERMIT_MAX || slots > UINT16_MAX || m->client_id.len > UINT16_MAX) {
        return NULL;
    }
    size_t fixed = sizeof(struct permit) + m->policies_len * sizeof(struct policy *) + slots * sizeof(struct slot);
    struct permit *p = malloc(fixed + bytes);
    if (p == NULL) {
        return NULL;
    }
    *p = (struct permit){.tenant = m->tenant,
                         .row = m->row,
                         .perms = m->perms,
                         .version = m->version,
                         .kind = m->kind,
                         .policies_len = (uint16_t)m->policies_len,
                         .client_id_len = (uint16_t)m->client_id.len};
    atomic_init(&p->refs, 1);
    p->policies = (struct policy **)(p + 1);
    p->slots = (struct slot *)(p->policies + m->policies_len);
    for (size_t i = 0; i < m->policies_len; i++) {
        p->policies[i] = policy_get(m->policies[i]);
    }
    copy_values(p, (uint8_t *)(p->slots + slots), bytes, m);
    return p;
}

struct permit *permit_ref(struct permit *p)
{
    if (p != NULL) {
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    }
    return p;
}

void permit_unref(struct permit *p)
{
    if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (unsigned i = 0; i < p->policies_len; i++) {
        policy_put(p->policies[i]);
    }
    free(p);
}

uint64_t permit_version(const struct permit *p)
{
    uint64_t newest = p != NULL ? p->version : 0;
    for (unsigned i = 0; p != NULL && i < p->policies_len; i++) {
        uint64_t v = atomic_load_explicit(&p->policies[i]->version, memory_order_acquire);
        newest = v > newest ? v : newest;
    }
    return newest;
}

enum principal_kind permit_kind(const struct permit *p)
{
    return p->kind;
}

uint32_t permit_tenant(const struct permit *p)
{
    return p->tenant;
}

uint64_t permit_row(const struct permit *p)
{
    return p->row;
}

uint64_t permit_perms(const struct permit *p)
{
    return p->perms;
}

struct slice permit_client_id(const struct permit *p)
{
    return slice_make(p->bytes, p->client_id_len);
}

// --- asking ------------------------------------------------------------------------------------------------------

static struct slice value_of(const void *arg, struct slice name)
{
    const struct permit *p = arg;
    for (unsigned i = 0; i < p->slots_len; i++) {
        const struct slot *s = &p->slots[i];
        if (slice_eq(slice_make(p->bytes + s->off, s->name_len), name)) {
            return slice_make(p->bytes + s->off + s->name_len, s->value_len);
        }
    }
    return (struct slice){NULL, 0};
}

// How a question is answered: which rules speak of it, and whether they must match a topic or cover a filter.
static const struct question {
    uint8_t allow, deny; // bits of actions
    bool (*holds)(const struct pattern *p, const struct pattern_values *v, bool any, struct slice topic);
} questions[] = {
    [PERMIT_PUBLISH] = {BIT(PERMIT_PUBLISH), BIT(PERMIT_PUBLISH), pattern_matches},
    [PERMIT_RETAIN] = {BIT(PERMIT_RETAIN), BIT(PERMIT_RETAIN), pattern_matches},
    [PERMIT_SUBSCRIBE] = {BIT(PERMIT_SUBSCRIBE), BIT(PERMIT_SUBSCRIBE) | BIT(PERMIT_RECEIVE), pattern_covers},
    [PERMIT_RECEIVE] = {BIT(PERMIT_SUBSCRIBE) | BIT(PERMIT_RECEIVE), BIT(PERMIT_SUBSCRIBE) | BIT(PERMIT_RECEIVE),
                        pattern_matches},
};

static void decided(struct permit_why *why, const struct policy *p, const struct policy_rule *r)
{
    *why = (struct permit_why){.allowed = !r->deny, .by_rule = true, .statement = r->statement, .topic = r->topic};
    (void)slice_to_cstr(slice_str(p->id), why->policy, sizeof(why->policy));
    why->text = r->deny ? "a deny statement matches" : "an allow statement matches";
}

// One policy's rules. True: a deny rule has ended the matter.
static bool ask_policy(const struct permit *pm, struct policy *p, const struct question *q, struct slice topic,
                       struct permit_why *why)
{
    const struct pattern_values values = {value_of, pm};
    bool denied = false;
    pthread_rwlock_rdlock(&p->lock);
    for (unsigned i = 0; p->doc != NULL && i < p->doc->rules_len && !denied; i++) {
        const struct policy_rule *r = &p->doc->rules[i];
        bool asked = r->deny || !why->allowed;
        if (asked && (r->actions & (r->deny ? q->deny : q->allow)) != 0 &&
            q->holds(&r->pattern, &values, r->deny, topic)) {
            decided(why, p, r);
            denied = r->deny;
        }
    }
    pthread_rwlock_unlock(&p->lock);
    return denied;
}

// --- mirror topics -----------------------------------------------------------------------------------------------

#define MIRROR "devices"
#define LEVEL(kind, text)                                                                                              \
    {                                                                                                                  \
        PATTERN_##kind, SLICE(text)                                                                                    \
    }
static const struct pattern_level mirror_levels[][4] = {
    {LEVEL(TEXT, MIRROR), LEVEL(PLUS, "+"), LEVEL(TEXT, "telemetry")},
    {LEVEL(TEXT, MIRROR), LEVEL(PLUS, "+"), LEVEL(TEXT, "twin")},
    {LEVEL(TEXT, MIRROR), LEVEL(PLUS, "+"), LEVEL(TEXT, "presence")},
    {LEVEL(TEXT, MIRROR), LEVEL(PLUS, "+"), LEVEL(TEXT, "event"), LEVEL(PLUS, "+")},
};
// What an application sees of devices because its token may read the same over the API.
static const struct {
    enum perm perm;
    struct pattern pattern;
} mirrors[] = {{PERM_TELEMETRY_READ, {3, mirror_levels[0]}},
               {PERM_TWIN_READ, {3, mirror_levels[1]}},
               {PERM_PRESENCE_READ, {3, mirror_levels[2]}},
               {PERM_TELEMETRY_READ, {4, mirror_levels[3]}}};

static bool is_mirror(struct slice topic)
{
    return slice_starts(topic, SLICE(MIRROR "/")) || slice_eq_str(topic, MIRROR);
}

static bool shown_by_permission(const struct permit *p, const struct question *q, struct slice topic)
{
    const struct pattern_values none = {value_of, p};
    for (size_t i = 0; p->kind == WHO_OPERATOR && i < sizeof(mirrors) / sizeof(mirrors[0]); i++) {
        if ((p->perms >> mirrors[i].perm & 1U) != 0 && q->holds(&mirrors[i].pattern, &none, false, topic)) {
            return true;
        }
    }
    return false;
}

// --- doors -------------------------------------------------------------------------------------------------------

void permit_explain(const struct permit *p, enum permit_action a, struct slice topic, struct permit_why *ret)
{
    const struct question *q = &questions[a];
    *ret = (struct permit_why){.text = "no policy allows it"};
    if (p == NULL || topic.len == 0 || topic.p[0] == '$') {
        ret->text = "topics that begin with '$' are the server's own";
        return;
    }
    bool reads = a == PERMIT_SUBSCRIBE || a == PERMIT_RECEIVE;
    if (!reads && is_mirror(topic)) {
        ret->text = "only the server publishes under devices/";
        return;
    }
    for (unsigned i = 0; i < p->policies_len; i++) {
        if (ask_policy(p, p->policies[i], q, topic, ret)) {
            return;
        }
    }
    if (!ret->allowed && reads && shown_by_permission(p, q, topic)) {
        ret->allowed = true;
        ret->text = "the token's permission shows this topic";
    }
}

static bool ask(const struct permit *p, enum permit_action a, struct slice topic)
{
    struct permit_why why;
    permit_explain(p, a, topic, &why);
    return why.allowed;
}

bool permit_publish(const struct permit *p, struct slice topic)
{
    return ask(p, PERMIT_PUBLISH, topic);
}

bool permit_retain(const struct permit *p, struct slice topic)
{
    return ask(p, PERMIT_RETAIN, topic);
}

bool permit_subscribe(const struct permit *p, struct slice filter)
{
    return ask(p, PERMIT_SUBSCRIBE, filter);
}

bool permit_receive(const struct permit *p, struct slice topic)
{
    return ask(p, PERMIT_RECEIVE, topic);
}
