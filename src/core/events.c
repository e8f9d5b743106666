#include "core/events.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rand.h"

#define SUB_QUEUE_MAX 1000
#define TENANT_SLOTS  64
// Texts are still made for this long after the last listener left, so that one who reconnects misses nothing.
#define LINGER_US (60LL * 1000000)

struct wanted {
    _Atomic uint32_t subs;
    _Atomic int64_t until_us; // monotonic
};

struct events {
    pthread_mutex_t lock; // ring, subs and their queues
    struct event **ring;
    size_t ring_cap, ring_len, ring_head; // head: oldest
    size_t ring_bytes, ring_bytes_max;
    uint64_t next_seq;
    uint32_t epoch;
    struct events_sub *subs;
    struct wanted wanted[EV__COUNT][TENANT_SLOTS]; // tenants share slots: "wanted" may say yes too often, never no
};

//   LISTENING --events_unlisten--> DEAD, freed at once or, when a post is on its way, when that has arrived
struct events_sub {
    struct post post;
    struct events_sub *next;
    struct events *events;
    struct loop *loop;
    struct events_filter filter;
    void (*deliver)(void *arg, const struct event *ev);
    void (*gap)(void *arg);
    void *arg;
    struct event *queue[SUB_QUEUE_MAX];
    size_t queue_len;
    bool gapped;
    size_t gap_at;   // with gapped: tell before this element of the queue
    bool posted;     // a post is on its way
    bool delivering; // sub_arrived is above us on the stack
    bool dead;
};

static const char *const type_texts[] = {
#define X(name, text) text,
    EVENT_MAP(X)
#undef X
};

const char *event_type_text(enum event_type t)
{
    return t < EV__COUNT ? type_texts[t] : "unknown";
}

bool event_type_parse(struct slice text, enum event_type *ret)
{
    for (unsigned i = 0; i < EV__COUNT; i++) {
        if (slice_eq_str(text, type_texts[i])) {
            *ret = (enum event_type)i;
            return true;
        }
    }
    return false;
}

struct event *event_new(enum event_type type, uint32_t tenant, uint64_t device, const char *device_id, int64_t ts_us,
                        struct slice json)
{
    struct event *e = malloc(sizeof(*e) + json.len + 1);
    if (e == NULL) {
        return NULL;
    }
    memset(e, 0, sizeof(*e));
    atomic_init(&e->refs, 1);
    e->type = type;
    e->tenant = tenant;
    e->device = device;
    e->ts_us = ts_us;
    snprintf(e->device_id, sizeof(e->device_id), "%s", device_id != NULL ? device_id : "");
    e->json_len = (uint32_t)json.len;
    if (json.len > 0) {
        memcpy(e->json, json.p, json.len);
    }
    e->json[json.len] = '\0';
    return e;
}

struct event *event_ref(struct event *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

void event_unref(struct event *e)
{
    if (e != NULL && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1) {
        free(e);
    }
}

struct events *events_new(size_t ring_events, size_t ring_bytes)
{
    struct events *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    e->ring = calloc(ring_events, sizeof(struct event *));
    if (e->ring == NULL) {
        free(e);
        return NULL;
    }
    pthread_mutex_init(&e->lock, NULL);
    e->ring_cap = ring_events;
    e->ring_bytes_max = ring_bytes;
    e->next_seq = 1;
    rand_secret(&e->epoch, sizeof(e->epoch));
    return e;
}

static size_t event_bytes(const struct event *ev)
{
    return sizeof(*ev) + ev->json_len + 1;
}

static void ring_drop_oldest(struct events *e)
{
    struct event *ev = e->ring[e->ring_head];
    e->ring_bytes -= event_bytes(ev);
    e->ring_head = (e->ring_head + 1) % e->ring_cap;
    e->ring_len--;
    event_unref(ev);
}

static void ring_put(struct events *e, struct event *ev)
{
    size_t bytes = event_bytes(ev);
    while (e->ring_len > 0 && (e->ring_len == e->ring_cap || e->ring_bytes + bytes > e->ring_bytes_max)) {
        ring_drop_oldest(e);
    }
    e->ring[(e->ring_head + e->ring_len) % e->ring_cap] = event_ref(ev);
    e->ring_len++;
    e->ring_bytes += bytes;
}

static void sub_free(struct events_sub *s)
{
    for (size_t i = 0; i < s->queue_len; i++) {
        event_unref(s->queue[i]);
    }
    free(s);
}

void events_free(struct events *e)
{
    if (e == NULL) {
        return;
    }
    while (e->ring_len > 0) {
        ring_drop_oldest(e);
    }
    while (e->subs != NULL) {
        struct events_sub *s = e->subs;
        e->subs = s->next;
        sub_free(s);
    }
    pthread_mutex_destroy(&e->lock);
    free(e->ring);
    free(e);
}

static bool filter_matches(const struct events_filter *f, const struct event *ev)
{
    return f->tenant == ev->tenant && (f->types >> ev->type & 1U) != 0 &&
           (f->device_id[0] == '\0' || strcmp(f->device_id, ev->device_id) == 0);
}

static void sub_arrived(struct post *p)
{
    struct events_sub *s = (struct events_sub *)p;
    struct events *e = s->events;
    struct event *batch[SUB_QUEUE_MAX];

    pthread_mutex_lock(&e->lock);
    s->posted = false;
    s->delivering = true;
    bool gapped = s->gapped;
    size_t gap_at = s->gap_at;
    size_t n = s->queue_len;
    memcpy(batch, s->queue, n * sizeof(struct event *));
    s->queue_len = 0;
    s->gapped = false;
    pthread_mutex_unlock(&e->lock);

    for (size_t i = 0; i <= n; i++) {
        if (gapped && i == gap_at && !s->dead) {
            s->gap(s->arg);
        }
        if (i == n) {
            break;
        }
        // A callback may have ended the subscription: dead is set on this very thread.
        if (!s->dead) {
            s->deliver(s->arg, batch[i]);
        }
        event_unref(batch[i]);
    }
    pthread_mutex_lock(&e->lock);
    s->delivering = false;
    bool release = s->dead && !s->posted;
    pthread_mutex_unlock(&e->lock);
    if (release) {
        sub_free(s);
    }
}

// Under the lock.
static void sub_wake(struct events_sub *s)
{
    if (!s->posted) {
        s->posted = true;
        s->post.fn = sub_arrived;
        loop_post(s->loop, &s->post);
    }
}

static void sub_gap(struct events_sub *s)
{
    if (!s->gapped) {
        s->gapped = true;
        s->gap_at = s->queue_len;
    }
}

static void sub_put(struct events_sub *s, struct event *ev)
{
    if (s->queue_len == SUB_QUEUE_MAX) {
        sub_gap(s);
    } else {
        s->queue[s->queue_len++] = event_ref(ev);
    }
    sub_wake(s);
}

void events_publish(struct events *e, struct event *ev)
{
    pthread_mutex_lock(&e->lock);
    ev->seq = e->next_seq++;
    ring_put(e, ev);
    for (struct events_sub *s = e->subs; s != NULL; s = s->next) {
        if (filter_matches(&s->filter, ev)) {
            sub_put(s, ev);
        }
    }
    pthread_mutex_unlock(&e->lock);
    event_unref(ev);
}

static struct wanted *wanted_slot(struct events *e, enum event_type type, uint32_t tenant)
{
    return &e->wanted[type][tenant % TENANT_SLOTS];
}

bool events_wanted(const struct events *e, enum event_type type, uint32_t tenant)
{
    const struct wanted *w = &e->wanted[type][tenant % TENANT_SLOTS];
    if (atomic_load_explicit(&w->subs, memory_order_relaxed) > 0) {
        return true;
    }
    int64_t until = atomic_load_explicit(&w->until_us, memory_order_relaxed);
    return until != 0 && clock_mono_us() < until;
}

void events_id(const struct events *e, uint64_t seq, char dst[EVENT_ID_MAX])
{
    snprintf(dst, EVENT_ID_MAX, "%08x-%llu", (unsigned)e->epoch, (unsigned long long)seq);
}

// The sequence number in "epoch-seq"; false when this process has not given it out.
static bool parse_id(const struct events *e, struct slice id, uint64_t *ret_seq)
{
    char text[EVENT_ID_MAX] = "";
    if (!slice_to_cstr(id, text, sizeof(text)) || strlen(text) < 10 || text[8] != '-') {
        return false;
    }
    char *end = NULL;
    unsigned long epoch = strtoul(text, &end, 16);
    if (end != text + 8 || epoch != e->epoch) {
        return false;
    }
    *ret_seq = strtoull(text + 9, &end, 10);
    return text[9] >= '0' && text[9] <= '9' && *end == '\0' && *ret_seq < e->next_seq;
}

// Was every type of the filter being recorded all the time since the last listener? Otherwise a resume has a gap.
static bool was_recorded(struct events *e, const struct events_filter *f)
{
    for (unsigned t = 0; t < EV__COUNT; t++) {
        if (t == EV_TELEMETRY && (f->types >> t & 1U) != 0 && !events_wanted(e, (enum event_type)t, f->tenant)) {
            return false;
        }
    }
    return true;
}

// Under the lock: queues what the ring still has after last_id; a gap when that is not everything.
static void replay(struct events *e, struct events_sub *s, struct slice last_id, bool recorded)
{
    uint64_t seq = 0;
    if (!parse_id(e, last_id, &seq) || !recorded) {
        sub_gap(s);
        seq = recorded ? seq : UINT64_MAX;
    }
    if (e->ring_len > 0 && e->ring[e->ring_head]->seq > seq + 1) {
        sub_gap(s);
    }
    for (size_t i = 0; i < e->ring_len && seq != UINT64_MAX && !s->gapped; i++) {
        struct event *ev = e->ring[(e->ring_head + i) % e->ring_cap];
        if (ev->seq > seq && filter_matches(&s->filter, ev)) {
            sub_put(s, ev);
        }
    }
    if (s->gapped) {
        sub_wake(s);
    }
}

struct events_sub *events_listen(struct events *e, struct loop *loop, const struct events_filter *f,
                                 struct slice last_id, void (*deliver)(void *arg, const struct event *ev),
                                 void (*gap)(void *arg), void *arg)
{
    struct events_sub *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->events = e;
    s->loop = loop;
    s->filter = *f;
    s->deliver = deliver;
    s->gap = gap;
    s->arg = arg;
    pthread_mutex_lock(&e->lock);
    bool recorded = was_recorded(e, f);
    s->next = e->subs;
    e->subs = s;
    for (unsigned t = 0; t < EV__COUNT; t++) {
        if ((f->types >> t & 1U) != 0) {
            atomic_fetch_add(&wanted_slot(e, (enum event_type)t, f->tenant)->subs, 1);
        }
    }
    if (last_id.len > 0) {
        replay(e, s, last_id, recorded);
    }
    pthread_mutex_unlock(&e->lock);
    return s;
}

void events_unlisten(struct events_sub *s)
{
    struct events *e = s->events;
    pthread_mutex_lock(&e->lock);
    for (struct events_sub **p = &e->subs; *p != NULL; p = &(*p)->next) {
        if (*p == s) {
            *p = s->next;
            break;
        }
    }
    for (unsigned t = 0; t < EV__COUNT; t++) {
        if ((s->filter.types >> t & 1U) != 0) {
            struct wanted *w = wanted_slot(e, (enum event_type)t, s->filter.tenant);
            atomic_store(&w->until_us, clock_mono_us() + LINGER_US);
            atomic_fetch_sub(&w->subs, 1);
        }
    }
    s->dead = true;
    // A delivery on the way, or one in progress above us on this thread's stack, frees it instead.
    bool later = s->posted || s->delivering;
    pthread_mutex_unlock(&e->lock);
    if (!later) {
        sub_free(s);
    }
}
