#include <stdlib.h>

#include "base/log.h"
#include "core/limit.h"
#include "core/quota.h"
#include "domain/audit/audit.h"
#include "domain/broker/broker_priv.h"
#include "domain/broker/sql/broker_session.sql.h"

enum { OPTION_QOS = 3, OPTION_NO_LOCAL = 4, OPTION_AS_PUBLISHED = 8 };

// What the commit of a SUBSCRIBE or UNSUBSCRIBE does to one subscription.
struct change {
    struct broker_session *session; // a reference
    struct sub *sub;                // its `pending` counts this change
    bool active;
    uint8_t qos;
    bool no_local, retain_as_published;
    uint32_t id;
};

static void take_off(const struct broker *b, struct broker_session *s, const struct sub *sub)
{
    struct sub **at = &s->subs;
    while (*at != sub) {
        at = &(*at)->next;
    }
    *at = sub->next;
    s->subs_len--;
    quota_give(quotas_of(b->core), s->tenant, QUOTA_SUBSCRIPTIONS, 1);
}

// One change less under way; nobody needs a subscription that is not active then.
static void settle(struct broker *b, struct change *ch)
{
    struct sub *sub = ch->sub;
    sub->pending--;
    if (sub->pending == 0) {
        sub->wanted = sub->active;
        if (!sub->active) {
            take_off(b, ch->session, sub);
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
    uint32_t tenant = ch->session->tenant;
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
    mirror_look(b, tenant);
}

static void change_undo(struct core *c, void *arg)
{
    struct broker *b = broker_of(c);
    index_lock(&b->index);
    settle(b, arg);
    index_unlock(&b->index, false);
}

// to: NULL: it ends.
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

// --- rows --------------------------------------------------------------------------------------------------------

static enum status row_put(struct tx *tx, const struct broker_session *s, const struct broker_sub *in, struct err *err)
{
    if (s->row == 0 || s->ending > 0) {
        return ST_OK;
    }
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_SUB_PUT]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_text(stmt, 2, in->filter);
    stmt_bind_i64(stmt, 3,
                  in->qos | (in->no_local ? OPTION_NO_LOCAL : 0) | (in->retain_as_published ? OPTION_AS_PUBLISHED : 0));
    stmt_bind_i64(stmt, 4, in->id);
    return stmt_run(stmt, err);
}

static enum status row_del(struct tx *tx, const struct broker_session *s, struct slice filter, struct err *err)
{
    if (s->row == 0) {
        return ST_OK;
    }
    STMT(stmt, tx->db, &sql_broker_session[SQL_BROKER_SESSION_SUB_DEL]);
    stmt_bind_i64(stmt, 1, s->row);
    stmt_bind_text(stmt, 2, filter);
    return stmt_run(stmt, err);
}

// --- SUBSCRIBE, UNSUBSCRIBE --------------------------------------------------------------------------------------

// Why the filter is refused: a reason of MQTT 5.0 table 3.9.3; 0: it is not.
static uint8_t refusal(const struct broker *b, const struct broker_session *s, const struct broker_sub *in, bool is_new)
{
    struct slice name;
    struct slice filter;
    bool shared = share_split(in->filter, &name, &filter);
    if (slice_starts(filter, SLICE("$")) || !permit_subscribe(s->permit, filter)) {
        return MQTT_RC_NOT_AUTHORIZED;
    }
    if (shared && in->filter.len > BROKER_SHARE_MAX) {
        return MQTT_RC_BAD_FILTER;
    }
    if (!is_new) {
        return 0;
    }
    if (s->subs_len >= b->settings.subscriptions_max) {
        limit_met(LIMIT_SUBSCRIPTIONS, s->tenant, session_client_id(s));
        return MQTT_RC_QUOTA;
    }
    return quota_room(quotas_of(b->core), s->tenant, QUOTA_SUBSCRIPTIONS, 1) ? 0 : MQTT_RC_QUOTA;
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
        quota_count(quotas_of(b->core), s->tenant, QUOTA_SUBSCRIPTIONS, 1);
    }
    return sub;
}

enum status broker_subscribe(struct tx *tx, struct broker_session *s, const struct broker_sub *in, uint8_t *ret_reason,
                             struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct sub *sub = index_find(&b->index, s->subs, s->tenant, in->filter);
    bool is_new = sub == NULL || !sub->wanted;
    uint8_t why = refusal(b, s, in, is_new);
    if (why != 0) {
        *ret_reason = why;
        return ST_OK;
    }
    // Retained messages come first: what is live must find that they are on their way.
    bool retained = in->retain_handling == 0 || (in->retain_handling == 1 && is_new);
    bool shared = slice_starts(in->filter, SLICE("$share/"));
    enum status st = retained && !shared ? retained_send(tx, s, in, err) : ST_OK;
    if (st != ST_OK) {
        return st;
    }
    sub = sub_need(b, s, in->filter);
    st = sub != NULL ? change(tx, s, sub, in, err) : err_set(err, ST_NOMEM, "no memory for a subscription");
    if (st == ST_OK) {
        st = row_put(tx, s, in, err);
    }
    *ret_reason = in->qos;
    return st;
}

enum status broker_unsubscribe(struct tx *tx, struct broker_session *s, struct slice filter, bool *ret_was,
                               struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct sub *sub = index_find(&b->index, s->subs, s->tenant, filter);
    *ret_was = sub != NULL && sub->wanted;
    if (!*ret_was) {
        return ST_OK;
    }
    enum status st = change(tx, s, sub, NULL, err);
    return st == ST_OK ? row_del(tx, s, filter, err) : st;
}

// --- stored subscriptions ----------------------------------------------------------------------------------------

bool subscribe_load(struct broker *b, struct broker_session *s, struct slice filter, unsigned options, uint32_t id)
{
    struct sub *sub = sub_need(b, s, filter);
    if (sub == NULL) {
        return false;
    }
    sub->qos = options & OPTION_QOS;
    sub->no_local = (options & OPTION_NO_LOCAL) != 0;
    sub->retain_as_published = (options & OPTION_AS_PUBLISHED) != 0;
    sub->id = id;
    sub->wanted = true;
    index_lock(&b->index);
    index_set_active(&b->index, sub, true);
    index_unlock(&b->index, true);
    mirror_look(b, s->tenant);
    return true;
}

static enum status drop_denied(struct tx *tx, struct broker_session *s, struct sub *sub, struct slice filter,
                               struct err *err)
{
    log_info("broker", "a subscription ends: no policy allows it any more", LOGSL("client", session_client_id(s)),
             LOGSL("filter", filter));
    broker_count(COUNT_SUBS_REVOKED, 1);
    enum status st = change(tx, s, sub, NULL, err);
    if (st == ST_OK) {
        st = row_del(tx, s, filter, err);
    }
    if (st == ST_OK) {
        struct buf text = buf_heap(BROKER_SHARE_MAX + 65536 * 6);
        struct jw w;
        jw_init(&w, &text);
        jw_object(&w);
        jw_key(&w, "filter");
        jw_slice(&w, filter);
        jw_object_end(&w);
        st = text.failed ? err_set(err, ST_NOMEM, "no memory for the audit record")
                         : audit_write_for(tx, s->tenant, "session.unsubscribe", "session", session_client_id(s),
                                           buf_view(&text), (struct slice){NULL, 0}, err);
        buf_release(&text);
    }
    return st;
}

enum status subscribe_drop_denied(struct tx *tx, struct broker_session *s, const struct permit *p, struct err *err)
{
    struct sub *next = NULL;
    for (struct sub *sub = s->subs; sub != NULL; sub = next) {
        next = sub->next;
        size_t len = sub_filter(sub, NULL, 0);
        char *text = malloc(len + 1);
        if (text == NULL) {
            return err_set(err, ST_NOMEM, "no memory to look at a subscription");
        }
        sub_filter(sub, text, len);
        struct slice whole = slice_make(text, len);
        struct slice name;
        struct slice filter;
        share_split(whole, &name, &filter);
        enum status st = sub->wanted && !permit_subscribe(p, filter) ? drop_denied(tx, s, sub, whole, err) : ST_OK;
        free(text);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}
