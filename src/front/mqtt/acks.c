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

bool acks_expect(struct acks *a, uint16_t packet_id)
{
    if (a->len == a->cap && !grow(a)) {
        return false;
    }
    *at(a, a->len) = (struct ack){.packet_id = packet_id};
    a->len++;
    return true;
}

bool acks_settle(struct acks *a, uint16_t packet_id, enum status status, const char *text)
{
    for (uint32_t i = 0; i < a->len; i++) {
        struct ack *k = at(a, i);
        if (k->packet_id == packet_id && !k->known) {
            k->known = true;
            k->status = (uint8_t)status;
            k->text = text != NULL && text[0] != '\0' ? strdup(text) : NULL;
            return true;
        }
    }
    return false;
}

bool acks_take(struct acks *a, struct ack *ret)
{
    if (a->len == 0 || !at(a, 0)->known) {
        return false;
    }
    *ret = *at(a, 0);
    a->head = (a->head + 1) & (a->cap - 1);
    a->len--;
    return true;
}
