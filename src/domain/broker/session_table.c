#include <stdlib.h>

#include "domain/broker/session.h"

#define FIRST_SLOTS 1024

static size_t slot_of(const struct session_table *t, uint32_t tenant, struct slice client_id)
{
    return (size_t)(hash_bytes(client_id) + tenant * UINT64_C(0x9e3779b97f4a7c15)) & (t->cap - 1);
}

static size_t owner_slot_of(const struct session_table *t, uint8_t kind, uint64_t owner)
{
    return (size_t)hash_u64(owner ^ (uint64_t)kind << 60) & (t->cap - 1);
}

static bool slots_make(struct session_table *t, size_t cap)
{
    t->cap = cap;
    t->slots = calloc(cap, sizeof(struct broker_session *));
    t->owners = calloc(cap, sizeof(struct broker_session *));
    if (t->slots != NULL && t->owners != NULL) {
        return true;
    }
    free(t->slots);
    free(t->owners);
    return false;
}

bool session_table_init(struct session_table *t)
{
    *t = (struct session_table){0};
    return slots_make(t, FIRST_SLOTS);
}

void session_table_release(struct session_table *t)
{
    for (size_t i = 0; t->slots != NULL && i < t->cap; i++) {
        while (t->slots[i] != NULL) {
            session_table_del(t, t->slots[i]);
        }
    }
    free(t->slots);
    free(t->owners);
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

static struct broker_session *owned(struct broker_session *s, uint8_t kind, uint64_t owner)
{
    while (s != NULL && (s->owner_kind != kind || s->owner != owner)) {
        s = s->owner_next;
    }
    return s;
}

struct broker_session *session_table_owned(const struct session_table *t, uint8_t kind, uint64_t owner)
{
    return owned(t->owners[owner_slot_of(t, kind, owner)], kind, owner);
}

struct broker_session *session_table_owned_next(const struct broker_session *s)
{
    return owned(s->owner_next, s->owner_kind, s->owner);
}

static void link_in(struct session_table *t, struct broker_session *s)
{
    size_t at = slot_of(t, s->tenant, session_client_id(s));
    s->next = t->slots[at];
    t->slots[at] = s;
    at = owner_slot_of(t, s->owner_kind, s->owner);
    s->owner_next = t->owners[at];
    t->owners[at] = s;
}

static void grow(struct session_table *t)
{
    const struct session_table old = *t;
    struct session_table more = {.len = t->len};
    if (!slots_make(&more, t->cap * 2)) {
        return; // the chains grow longer instead
    }
    *t = more;
    for (size_t i = 0; i < old.cap; i++) {
        struct broker_session *s = old.slots[i];
        while (s != NULL) {
            struct broker_session *next = s->next;
            link_in(t, s);
            s = next;
        }
    }
    free(old.slots);
    free(old.owners);
}

void session_table_put(struct session_table *t, struct broker_session *s)
{
    if (t->len >= t->cap) {
        grow(t);
    }
    link_in(t, broker_session_ref(s));
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
    at = &t->owners[owner_slot_of(t, s->owner_kind, s->owner)];
    while (*at != s) {
        at = &(*at)->owner_next;
    }
    *at = s->owner_next;
    s->listed = false;
    t->len--;
    broker_session_unref(s);
}
