#include "core/link.h"

#include <stdlib.h>

#define DOWN_PAYLOAD_MAX (512u << 10) // two twin sections and their frame

static struct down *down_new(enum down_kind kind, size_t payload_len)
{
    struct down *d = calloc(1, sizeof(*d) + payload_len);
    if (d != NULL) {
        d->kind = kind;
        d->payload_len = (uint32_t)payload_len;
    }
    return d;
}

struct down *down_publish(const char *topic, struct slice payload, uint64_t cookie)
{
    if (payload.len > DOWN_PAYLOAD_MAX) {
        return NULL;
    }
    struct down *d = down_new(DOWN_PUBLISH, payload.len);
    if (d == NULL) {
        return NULL;
    }
    if (!slice_to_cstr(slice_str(topic), d->topic, sizeof(d->topic))) {
        free(d);
        return NULL;
    }
    if (payload.len > 0) {
        memcpy(d->payload, payload.p, payload.len);
    }
    d->cookie = cookie;
    return d;
}

struct down *down_close(enum down_close why)
{
    struct down *d = down_new(DOWN_CLOSE, 0);
    if (d != NULL) {
        d->close = why;
    }
    return d;
}

struct link *link_new(struct loop *loop, uint64_t conn, void (*deliver)(struct link *l, struct down *d))
{
    struct link *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return NULL;
    }
    atomic_init(&l->refs, 1);
    atomic_init(&l->in_flight, 0);
    l->loop = loop;
    l->conn = conn;
    l->deliver = deliver;
    return l;
}

struct link *link_ref(struct link *l)
{
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return l;
}

void link_unref(struct link *l)
{
    if (l != NULL && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {
        free(l);
    }
}

static void down_arrived(struct post *p)
{
    struct down *d = (struct down *)p;
    struct link *l = d->link;
    d->link = NULL;
    l->deliver(l, d);
    link_unref(l);
}

void link_send(struct link *l, struct down *d)
{
    d->link = link_ref(l);
    d->post.fn = down_arrived;
    loop_post(l->loop, &d->post);
}
