#include "sdk/window.h"

#define PUBLISH_DUP 0x08u // MQTT 3.3.1.1

void window_init(struct window *w, struct slot *slots, uint16_t cap, uint8_t *mem, size_t bytes)
{
    *w = (struct window){.slots = slots, .cap = cap, .mem = mem, .bytes = bytes};
}

void window_clear(struct window *w)
{
    w->head = w->count = w->in_flight = 0;
    w->start = w->end = 0;
}

static struct slot *window_at(const struct window *w, uint16_t i)
{
    return &w->slots[(w->head + i) % w->cap];
}

static bool window_id_used(const struct window *w, uint16_t id)
{
    for (uint16_t i = 0; i < w->count; i++) {
        if (window_at(w, i)->packet_id == id) {
            return true;
        }
    }
    return false;
}

uint16_t window_fresh_id(struct window *w)
{
    // At most 256 ids are used, so this ends.
    do {
        w->last_id++;
    } while (w->last_id == 0 || window_id_used(w, w->last_id));
    return w->last_id;
}

// Moves the kept packets to the front of the block.
static void window_compact(struct window *w)
{
    if (w->start == 0) {
        return;
    }
    memmove(w->mem, w->mem + w->start, w->end - w->start);
    for (uint16_t i = 0; i < w->count; i++) {
        window_at(w, i)->off -= w->start;
    }
    w->end -= w->start;
    w->start = 0;
}

static bool window_encode(struct window *w, enum mqtt_version v, const struct mqtt_packet *p, size_t *ret_len)
{
    struct buf b = buf_fixed(w->mem + w->end, w->bytes - w->end);
    if (!mqtt_encode(&b, v, p)) {
        return false;
    }
    *ret_len = b.len;
    return true;
}

enum muster_status window_put(struct window *w, enum mqtt_version v, struct slice topic, struct slice payload,
                              bool repeat, uint64_t cookie, size_t packet_max)
{
    // Fixed header, two lengths, packet id and an empty property section are at most 10 bytes.
    size_t needed = topic.len + payload.len + 10;
    if (needed > packet_max || needed > w->bytes) {
        return MUSTER_E_TOO_LARGE;
    }
    if (w->count == w->cap) {
        return MUSTER_E_FULL;
    }
    if (w->bytes - w->end < needed) {
        window_compact(w);
        if (w->bytes - w->end < needed) {
            return MUSTER_E_FULL;
        }
    }
    uint16_t id = window_fresh_id(w);
    struct mqtt_packet p = {.type = MQTT_PUBLISH};
    p.u.publish = (struct mqtt_publish){.dup = repeat, .qos = 1, .packet_id = id, .topic = topic, .payload = payload};
    size_t len = 0;
    if (!window_encode(w, v, &p, &len)) {
        return MUSTER_E_INVALID;
    }
    *window_at(w, w->count) =
        (struct slot){.cookie = cookie, .off = w->end, .len = len, .packet_id = id, .repeat = repeat};
    w->count++;
    w->end += len;
    return MUSTER_OK;
}

struct slot *window_next(struct window *w)
{
    for (uint16_t i = 0; i < w->count; i++) {
        struct slot *s = window_at(w, i);
        if (!s->sent && !s->acked) {
            return s;
        }
    }
    return NULL;
}

struct slice window_packet(const struct window *w, const struct slot *s)
{
    return slice_make(w->mem + s->off, s->len);
}

void window_sent(struct window *w, struct slot *s)
{
    s->sent = true;
    s->repeat = true;
    w->in_flight++;
}

static void window_give_back(struct window *w)
{
    while (w->count > 0 && window_at(w, 0)->acked) {
        const struct slot *s = window_at(w, 0);
        w->start = s->off + s->len;
        w->head = (uint16_t)((w->head + 1) % w->cap);
        w->count--;
    }
    if (w->count == 0) {
        w->start = w->end = 0;
    }
}

bool window_ack(struct window *w, uint16_t packet_id, uint64_t *ret_cookie)
{
    for (uint16_t i = 0; i < w->count; i++) {
        struct slot *s = window_at(w, i);
        if (s->packet_id == packet_id && s->sent && !s->acked) {
            s->acked = true;
            w->in_flight--;
            *ret_cookie = s->cookie;
            window_give_back(w);
            return true;
        }
    }
    return false;
}

void window_rewind(struct window *w)
{
    for (uint16_t i = 0; i < w->count; i++) {
        struct slot *s = window_at(w, i);
        s->sent = false;
        if (s->repeat) {
            w->mem[s->off] |= PUBLISH_DUP;
        }
    }
    w->in_flight = 0;
}
