#include <stdlib.h>

#include "domain/broker/session.h"

#define FIRST_SLOTS 1024

static size_t slot_of(const struct session_table *t, uint32_t tenant, struct slice client_id)
{
    return (size_t)(hash_bytes(client_id) + tenant * UINT64_C(0x9e3779b97f4a7c15)) & (t->cap - 1);
}

bool session_table_init(struct session_table *t)
{
    *t = (struct session_table){.slots = calloc(FIRST_SLOTS, sizeof(struct broker_session *)), .cap = FIRST_SLOTS};
    return t->slots != NULL;
}

void session_table_release(struct session_table *t)
{
    for (size_t i = 0; t->slots != NULL && i < t->cap; i++) {
        while (t->slots[i] != NULL) {
            session_table_del(t, t->slots[i]);
        }
    }
    free(t->slots);
    *t = (struct session_table){0};
}

struct broker_session *session_table_find(const struct session_table *t, uint32_t tenant, struct slice client_id)
{
    struct broker_session *s = t->slots[slot_of(t, tenant, client_id)];
    while (s != NULL && (s->tenant != tenant || !slice_eq(session_client_id(s), client_id))) {
        s = s->next;
    }
    return s;
}

static void grow(struct session_table *t)
{
    struct session_table more = {.cap = t->cap * 2, .len = t->len};
    more.slots = calloc(more.cap, sizeof(struct broker_session *));
    if (more.slots == NULL) {
        return; // the chains grow longer instead
    }
    for (size_t i = 0; i < t->cap; i++) {
        struct broker_session *s = t->slots[i];
        while (s != NULL) {
            struct broker_session *next = s->next;
            size_t at = slot_of(&more, s->tenant, session_client_id(s));
            s->next = more.slots[at];
            more.slots[at] = s;
            s = next;
        }
    }
    free(t->slots);
    *t = more;
}

void session_table_put(struct session_table *t, struct broker_session *s)
{
    if (t->len >= t->cap) {
        grow(t);
    }
    size_t at = slot_of(t, s->tenant, session_client_id(s));
    s->next = t->slots[at];
    t->slots[at] = broker_session_ref(s);
    s->listed = true;
    t->len++;
}

void session_table_del(struct session_table *t, struct broker_session *s)
{
    struct broker_session **at = &t->slots[slot_of(t, s->tenant, session_client_id(s))];
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    s->listed = false;
    t->len--;
    broker_session_unref(s);
}
