#include "front/mqtt/acks.h"

#include <stdlib.h>

#define ACKS_FIRST 8

static struct ack *at(const struct acks *a, uint32_t i)
{
    return &a->slots[(a->head + i) & (a->cap - 1)];
}

void acks_release(struct acks *a)
{
    for (uint32_t i = 0; i < a->len; i++) {
        free(at(a, i)->text);
    }
    free(a->slots);
    *a = (struct acks){0};
}

static bool grow(struct acks *a)
{
    uint32_t cap = a->cap > 0 ? a->cap * 2 : ACKS_FIRST;
    struct ack *slots = calloc(cap, sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < a->len; i++) {
        slots[i] = *at(a, i);
    }
    free(a->slots);
    a->slots = slots;
    a->cap = cap;
    a->head = 0;
    return true;
}

static uint16_t id_after(uint16_t id)
{
    return id == UINT16_MAX ? 1 : (uint16_t)(id + 1);
}

bool acks_holds(const struct acks *a, uint16_t packet_id)
{
    if (a->len == 0) {
        return false;
    }
    if (a->run) {
        uint16_t first = at(a, 0)->packet_id;
        uint16_t last = at(a, a->len - 1)->packet_id;
        return first <= last ? packet_id >= first && packet_id <= last : packet_id >= first || packet_id <= last;
    }
    for (uint32_t i = 0; i < a->len; i++) {
        if (at(a, i)->packet_id == packet_id) {
            return true;
        }
    }
    return false;
}

bool acks_expect(struct acks *a, uint16_t packet_id, bool received)
{
    if (a->len == a->cap && !grow(a)) {
        return false;
    }
    a->run = a->len == 0 || (a->run && packet_id == id_after(at(a, a->len - 1)->packet_id));
    *at(a, a->len) = (struct ack){.packet_id = packet_id, .received = received};
    a->len++;
    a->received += received;
    return true;
}

static void know(struct ack *k, uint8_t reason, const char *text)
{
    k->known = true;
    k->reason = reason;
    k->text = text != NULL && text[0] != '\0' ? strdup(text) : NULL;
}

bool acks_settle(struct acks *a, uint16_t packet_id, uint8_t reason, const char *text)
{
    for (uint32_t i = 0; i < a->len; i++) {
        struct ack *k = at(a, i);
        if (k->packet_id == packet_id && !k->known) {
            know(k, reason, text);
            return true;
        }
    }
    return false;
}

bool acks_known(struct acks *a, uint16_t packet_id, bool received, uint8_t reason, const char *text)
{
    if (!acks_expect(a, packet_id, received)) {
        return false;
    }
    know(at(a, a->len - 1), reason, text);
    return true;
}

bool acks_take(struct acks *a, struct ack *ret)
{
    if (a->len == 0 || !at(a, 0)->known) {
        return false;
    }
    *ret = *at(a, 0);
    a->head = (a->head + 1) & (a->cap - 1);
    a->len--;
    a->received -= ret->received;
    return true;
}
