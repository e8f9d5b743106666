#include <stdlib.h>

#include "domain/broker/broker_priv.h"

// What the commit of a SUBSCRIBE or UNSUBSCRIBE does to one subscription.
struct change {
    struct broker_session *session; // a reference
    struct sub *sub;                // its `pending` counts this change
    bool active;
    uint8_t qos;
    bool no_local, retain_as_published;
    uint32_t id;
};

static void take_off(struct broker_session *s, const struct sub *sub)
{
    struct sub **at = &s->subs;
    while (*at != sub) {
        at = &(*at)->next;
    }
    *at = sub->next;
    s->subs_len--;
}

// One change less under way; nobody needs a subscription that is not active then.
static void settle(struct broker *b, struct change *ch)
{
    struct sub *sub = ch->sub;
    sub->pending--;
    if (sub->pending == 0) {
        sub->wanted = sub->active;
        if (!sub->active) {
            take_off(ch->session, sub);
            index_remove(&b->index, sub);
        }
    }
    broker_session_unref(ch->session);
    free(ch);
}

static void change_commit(struct core *c, void *arg)
{
    struct change *ch = arg;
    struct broker *b = broker_of(c);
    struct sub *sub = ch->sub;
    index_lock(&b->index);
    if (ch->active) {
        sub->qos = ch->qos;
        sub->no_local = ch->no_local;
        sub->retain_as_published = ch->retain_as_published;
        sub->id = ch->id;
    }
    // A session that has ended meanwhile is matched no more.
    index_set_active(&b->index, sub, ch->active && ch->session->listed);
    settle(b, ch);
    index_unlock(&b->index, true);
}

static void change_undo(struct core *c, void *arg)
{
    struct broker *b = broker_of(c);
    index_lock(&b->index);
    settle(b, arg);
    index_unlock(&b->index, false);
}

static enum status change(struct tx *tx, struct broker_session *s, struct sub *sub, const struct broker_sub *to,
                          struct err *err)
{
    struct change *ch = calloc(1, sizeof(*ch));
    if (ch == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a subscription");
    }
    *ch = (struct change){.session = broker_session_ref(s), .sub = sub, .active = to != NULL};
    if (to != NULL) {
        ch->qos = to->qos;
        ch->no_local = to->no_local;
        ch->retain_as_published = to->retain_as_published;
        ch->id = to->id;
    }
    sub->pending++;
    if (!tx_after_commit(tx, change_commit, change_undo, ch)) {
        change_undo(tx->core, ch);
        return err_set(err, ST_NOMEM, "no memory for a subscription");
    }
    sub->wanted = to != NULL;
    return ST_OK;
}

// Why the filter is refused: a reason of MQTT 5.0 table 3.9.3; 0: it is not.
static uint8_t refusal(const struct broker *b, const struct broker_session *s, const struct broker_sub *in)
{
    struct slice name;
    struct slice filter;
    share_split(in->filter, &name, &filter);
    if (slice_starts(filter, SLICE("$")) || !permit_subscribe(s->permit, filter)) {
        return MQTT_RC_NOT_AUTHORIZED;
    }
    return s->subs_len >= b->settings.subscriptions_max ? MQTT_RC_QUOTA : 0;
}

static struct sub *sub_need(struct broker *b, struct broker_session *s, struct slice filter)
{
    struct sub *sub = index_find(&b->index, s->subs, s->tenant, filter);
    if (sub != NULL) {
        return sub;
    }
    sub = index_add(&b->index, s, s->tenant, filter);
    if (sub != NULL) {
        sub->next = s->subs;
        s->subs = sub;
        s->subs_len++;
    }
    return sub;
}

enum status broker_subscribe(struct tx *tx, struct broker_session *s, const struct broker_sub *in, uint8_t *ret_reason,
                             struct err *err)
{
    struct broker *b = broker_of(tx->core);
    uint8_t why = refusal(b, s, in);
    if (why != 0) {
        *ret_reason = why;
        return ST_OK;
    }
    struct sub *sub = sub_need(b, s, in->filter);
    if (sub == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a subscription");
    }
    enum status st = change(tx, s, sub, in, err);
    if (st == ST_OK) {
        *ret_reason = in->qos;
    }
    return st;
}

enum status broker_unsubscribe(struct tx *tx, struct broker_session *s, struct slice filter, bool *ret_was,
                               struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct sub *sub = index_find(&b->index, s->subs, s->tenant, filter);
    *ret_was = sub != NULL && sub->wanted;
    return *ret_was ? change(tx, s, sub, NULL, err) : ST_OK;
}
