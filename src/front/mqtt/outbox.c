#include "front/mqtt/outbox.h"

#include <stdlib.h>

#include "front/mqtt/qos.h"

struct outbox *outbox_new(uint16_t window)
{
    struct outbox *o = calloc(1, sizeof(*o));
    if (o != NULL) {
        o->window = window;
        o->last_id = BROKER_ID_DURABLE_MAX;
    }
    return o;
}

void outbox_free(struct outbox *o)
{
    if (o == NULL) {
        return;
    }
    while (o->first != NULL) {
        waiting_free(outbox_take(o));
    }
    for (uint32_t i = 0; i < o->flights.cap; i++) {
        waiting_free(o->flights.slots[i].keep);
    }
    ids_release(&o->flights);
    free(o);
}

struct waiting *outbox_give_back(struct outbox *o)
{
    while (o->first != NULL) {
        struct waiting *w = outbox_take(o);
        if (w->share != 0 && w->seq == 0 && w->qos == 1) {
            return w;
        }
        waiting_free(w);
    }
    for (uint32_t i = 0; i < o->flights.cap; i++) {
        struct waiting *w = o->flights.slots[i].keep;
        if (w != NULL) {
            o->flights.slots[i].keep = NULL;
            return w;
        }
    }
    return NULL;
}

struct waiting *waiting_message(const struct delivery *d)
{
    struct waiting *w = malloc(sizeof(*w) + d->sub_ids_len * sizeof(w->sub_ids[0]));
    if (w == NULL) {
        return NULL;
    }
    *w = (struct waiting){.msg = d->msg != NULL ? message_ref(d->msg) : NULL,
                          .seq = d->seq,
                          .share = d->share,
                          .qos = d->qos,
                          .state = (uint8_t)d->state,
                          .retain = d->retain,
                          .sub_ids_len = (uint16_t)d->sub_ids_len};
    w->bytes = d->msg != NULL ? d->msg->topic_len + d->msg->props_len + d->msg->payload_len : 0;
    for (unsigned i = 0; i < d->sub_ids_len; i++) {
        w->sub_ids[i] = d->sub_ids[i];
    }
    return w;
}

struct waiting *waiting_down(struct down *d, uint8_t qos)
{
    struct waiting *w = malloc(sizeof(*w));
    if (w == NULL) {
        free(d);
        return NULL;
    }
    *w = (struct waiting){.down = d, .qos = qos, .bytes = d->payload_len};
    return w;
}

void waiting_free(struct waiting *w)
{
    if (w != NULL) {
        message_unref(w->msg);
        free(w->down);
        free(w);
    }
}

static size_t loose(const struct waiting *w)
{
    return w->msg != NULL && w->seq == 0 ? sizeof(*w) + w->bytes : 0;
}

void outbox_put(struct outbox *o, struct waiting *w)
{
    w->next = NULL;
    if (o->last != NULL) {
        o->last->next = w;
    } else {
        o->first = w;
    }
    o->last = w;
    o->len++;
    o->bytes += w->bytes;
    o->loose += loose(w);
}

struct waiting *outbox_take(struct outbox *o)
{
    struct waiting *w = o->first;
    o->first = w->next;
    if (o->first == NULL) {
        o->last = NULL;
    }
    o->len--;
    o->bytes -= w->bytes;
    o->loose -= loose(w);
    w->next = NULL;
    return w;
}

// The window is far smaller than the range, so that the search ends.
static uint16_t free_id(struct outbox *o)
{
    do {
        o->last_id = o->last_id == UINT16_MAX ? BROKER_ID_DURABLE_MAX + 1 : (uint16_t)(o->last_id + 1);
    } while (ids_find(&o->flights, o->last_id) != NULL);
    return o->last_id;
}

uint16_t outbox_fly(struct outbox *o, uint8_t qos, uint64_t seq, uint8_t state, struct waiting *keep)
{
    uint16_t id = seq != 0 ? broker_packet_id(seq) : free_id(o);
    if (seq != 0 && ids_find(&o->flights, id) != NULL) {
        return 0;
    }
    struct id_entry *e = ids_add(&o->flights, id, qos, state, seq);
    if (e == NULL) {
        return 0;
    }
    e->keep = keep;
    return id;
}

void outbox_landed(struct outbox *o, uint16_t packet_id)
{
    struct id_entry *e = ids_find(&o->flights, packet_id);
    if (e != NULL) {
        waiting_free(e->keep);
        ids_del(&o->flights, packet_id);
    }
}
