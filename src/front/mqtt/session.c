#include "front/mqtt/session.h"

#include <stdlib.h>

void session_init(struct session *s, const struct session_limits *limits)
{
    *s = (struct session){.limits = *limits};
    for (unsigned i = 0; i < SUB__COUNT; i++) {
        s->granted[i] = SESSION_NOT_SUBSCRIBED;
    }
}

void session_release(struct session *s)
{
    for (unsigned i = 0; s->flights != NULL && i < s->limits.window; i++) {
        free(s->flights[i].down);
    }
    free(s->flights);
    struct down *d = s->first;
    while (d != NULL) {
        struct down *next = (struct down *)d->post.next;
        free(d);
        d = next;
    }
    session_init(s, &s->limits);
}

void session_subscribe(struct session *s, enum sub sub, uint8_t qos)
{
    s->granted[sub] = qos;
}

bool session_unsubscribe(struct session *s, enum sub sub)
{
    bool was = s->granted[sub] != SESSION_NOT_SUBSCRIBED;
    s->granted[sub] = SESSION_NOT_SUBSCRIBED;
    return was;
}

static uint8_t qos_of(const struct session *s, const struct down *d)
{
    enum sub sub;
    return topics_sub_of(slice_str(d->topic), &sub) ? s->granted[sub] : SESSION_NOT_SUBSCRIBED;
}

enum status session_put(struct session *s, struct down *d)
{
    if (qos_of(s, d) == SESSION_NOT_SUBSCRIBED) {
        return ST_NOT_FOUND;
    }
    if (s->queue_len >= s->limits.queue_max || s->queue_bytes + d->payload_len > s->limits.queue_bytes_max) {
        return ST_LIMIT;
    }
    d->post.next = NULL;
    if (s->last != NULL) {
        s->last->post.next = &d->post;
    } else {
        s->first = d;
    }
    s->last = d;
    s->queue_len++;
    s->queue_bytes += d->payload_len;
    return ST_OK;
}

static struct down *queue_take(struct session *s)
{
    struct down *d = s->first;
    s->first = (struct down *)d->post.next;
    if (s->first == NULL) {
        s->last = NULL;
    }
    s->queue_len--;
    s->queue_bytes -= d->payload_len;
    d->post.next = NULL;
    return d;
}

static bool id_in_use(const struct session *s, uint16_t id)
{
    for (unsigned i = 0; i < s->limits.window; i++) {
        if (s->flights[i].packet_id == id) {
            return true;
        }
    }
    return false;
}

// A free slot with a new packet id. The window is smaller than the id space, so that the search ends.
static struct flight *flight_new(struct session *s)
{
    if (s->flights == NULL) {
        s->flights = calloc(s->limits.window, sizeof(*s->flights));
    }
    if (s->flights == NULL || s->in_flight >= s->limits.window) {
        return NULL;
    }
    do {
        s->last_id++;
    } while (s->last_id == 0 || id_in_use(s, s->last_id));
    for (unsigned i = 0; i < s->limits.window; i++) {
        if (s->flights[i].packet_id == 0) {
            s->flights[i].packet_id = s->last_id;
            s->in_flight++;
            return &s->flights[i];
        }
    }
    return NULL;
}

struct down *session_next(struct session *s, uint8_t *ret_qos, uint16_t *ret_packet_id)
{
    while (s->first != NULL) {
        uint8_t qos = qos_of(s, s->first);
        if (qos == SESSION_NOT_SUBSCRIBED) {
            free(queue_take(s)); // unsubscribed while it waited
            continue;
        }
        *ret_qos = qos;
        *ret_packet_id = 0;
        if (qos == 0) {
            return queue_take(s);
        }
        struct flight *f = flight_new(s);
        if (f == NULL) {
            return NULL;
        }
        *ret_packet_id = f->packet_id;
        f->down = queue_take(s);
        return f->down;
    }
    return NULL;
}

struct down *session_acked(struct session *s, uint16_t packet_id)
{
    for (unsigned i = 0; s->flights != NULL && packet_id != 0 && i < s->limits.window; i++) {
        struct flight *f = &s->flights[i];
        if (f->packet_id == packet_id) {
            struct down *d = f->down;
            *f = (struct flight){0, NULL};
            s->in_flight--;
            return d;
        }
    }
    return NULL;
}
