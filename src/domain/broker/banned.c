// A ban ends the connections of those it concerns.
#include "domain/broker/broker_priv.h"
#include "domain/policy/ban.h"

static enum status close_one(struct tx *tx, const struct broker_session *s, unsigned *closed, struct err *err)
{
    enum status st = session_close(tx, s, DOWN_CLOSE_BANNED, err);
    *closed += st == ST_OK && s != NULL && s->link != NULL;
    return st;
}

static bool from_network(const struct broker_session *s, const struct addr_net *n)
{
    struct addr peer;
    return s->link != NULL && addr_parse(slice_str(s->link->who.addr), &peer) && addr_net_has(n, &peer);
}

// All sessions are looked at: who bans an address is rare, and an index by address would be paid for by every connection.
static enum status close_network(struct tx *tx, const struct broker *b, const struct addr_net *n, unsigned *closed,
                                 struct err *err)
{
    enum status st = ST_OK;
    for (size_t i = 0; i < b->sessions.cap; i++) {
        for (const struct broker_session *s = b->sessions.slots[i]; s != NULL && st == ST_OK; s = s->next) {
            st = from_network(s, n) ? close_one(tx, s, closed, err) : ST_OK;
        }
    }
    return st;
}

static enum status close_device(struct tx *tx, const struct broker *b, uint64_t device, unsigned *closed,
                                struct err *err)
{
    enum status st = ST_OK;
    const struct broker_session *s = session_table_owned(&b->sessions, WHO_DEVICE, device);
    for (; s != NULL && st == ST_OK; s = session_table_owned_next(s)) {
        st = close_one(tx, s, closed, err);
    }
    return st;
}

// Nothing is said in its name either (S14). Of devices change.c sees to it.
static enum status close_client(struct tx *tx, const struct broker *b, const struct ban_whom *whom, unsigned *closed,
                                struct err *err)
{
    const struct will_key k = {whom->tenant, whom->client_id};
    enum status st = will_del(tx, &k, err);
    return st == ST_OK ? close_one(tx, session_table_find(&b->sessions, whom->tenant, whom->client_id), closed, err)
                       : st;
}

static enum status on_ban(struct tx *tx, const struct ban_whom *whom, void *arg, unsigned *ret_closed, struct err *err)
{
    const struct broker *b = arg;
    switch (whom->kind) {
    case BAN_ADDRESS:
        return close_network(tx, b, &whom->network, ret_closed, err);
    case BAN_CLIENT_ID:
        return close_client(tx, b, whom, ret_closed, err);
    case BAN_DEVICE:
        return close_device(tx, b, whom->device, ret_closed, err);
    }
    return ST_OK;
}

void banned_start(struct broker *b)
{
    ban_on_create(b->core, on_ban, b);
}
