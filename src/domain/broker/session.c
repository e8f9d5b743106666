#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "domain/broker/broker_priv.h"

// --- references --------------------------------------------------------------------------------------------------

struct broker_session *broker_session_ref(struct broker_session *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void broker_session_unref(struct broker_session *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        link_unref(s->link);
        permit_unref(s->permit);
        free(s);
    }
}

uint64_t broker_session_serial(const struct broker_session *s)
{
    return s->serial;
}

bool broker_session_durable(const struct broker_session *s)
{
    return s->row != 0;
}

static struct broker_session *session_new(struct broker *b, const struct principal *who, struct slice client_id)
{
    struct broker_session *s = calloc(1, sizeof(*s) + client_id.len);
    if (s == NULL) {
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->broker = b;
    s->serial = b->next_serial++;
    s->tenant = who->tenant;
    s->owner_kind = (uint8_t)who->kind;
    s->owner = who->row;
    s->client_id_len = (uint16_t)client_id.len;
    struct buf id = buf_fixed(s->client_id, client_id.len);
    buf_slice(&id, client_id);
    return s;
}

// --- the end of a session ----------------------------------------------------------------------------------------

static void detach(struct broker *b, struct broker_session *s)
{
    index_lock(&b->index);
    link_unref(s->link);
    permit_unref(s->permit);
    s->link = NULL;
    s->permit = NULL;
    index_unlock(&b->index, s->subs != NULL);
}

void session_end(struct broker *b, struct broker_session *s)
{
    bool had = s->subs != NULL;
    index_lock(&b->index);
    for (struct sub **at = &s->subs; *at != NULL;) {
        struct sub *sub = *at;
        if (sub->pending > 0) { // whoever works on it takes it off
            index_set_active(&b->index, sub, false);
            at = &sub->next;
            continue;
        }
        *at = sub->next;
        s->subs_len--;
        index_remove(&b->index, sub);
    }
    index_unlock(&b->index, had);
    detach(b, s);
    if (s->listed) {
        session_table_del(&b->sessions, s);
    }
}

// --- CONNECT -----------------------------------------------------------------------------------------------------

// What the commit of a CONNECT does to the memory.
struct arrival {
    struct broker_session *session; // a reference
    struct link *link;              // a reference
    struct permit *permit;          // a reference
};

static void arrival_free(struct arrival *a)
{
    broker_session_unref(a->session);
    link_unref(a->link);
    permit_unref(a->permit);
    free(a);
}

static void close_link(struct link *link, enum down_close why)
{
    struct down *d = down_close(why);
    if (d != NULL) {
        link_send(link, d);
    } else {
        log_error("broker", "no memory to close a connection", LOGU("conn", link->conn));
    }
}

// Who had the session until now is told to go.
static void take_over(struct broker *b, struct broker_session *s, const struct link *by)
{
    if (s->link != NULL && s->link != by) {
        close_link(s->link, DOWN_CLOSE_TAKEOVER);
    }
    (void)b;
}

static void attach(struct broker *b, struct broker_session *s, struct arrival *a)
{
    index_lock(&b->index);
    link_unref(s->link);
    permit_unref(s->permit);
    s->link = a->link;
    s->permit = a->permit;
    s->loop = (uint16_t)broker_loop_of(b, a->link->loop)->at;
    index_unlock(&b->index, s->subs != NULL);
    a->link = NULL;
    a->permit = NULL;
}

static void arrival_commit(struct core *c, void *arg)
{
    struct arrival *a = arg;
    struct broker *b = broker_of(c);
    struct broker_session *s = a->session;
    struct broker_session *former = session_table_find(&b->sessions, s->tenant, session_client_id(s));
    if (former != NULL) {
        take_over(b, former, a->link);
    }
    if (former != NULL && former != s) {
        session_end(b, former);
    }
    if (!s->listed) {
        session_table_put(&b->sessions, s);
    }
    attach(b, s, a);
    arrival_free(a);
}

static void arrival_undo(struct core *c, void *arg)
{
    (void)c;
    arrival_free(arg);
}

static enum status arrive(struct tx *tx, struct broker_session *s, struct link *link, struct permit *p,
                          struct err *err)
{
    struct arrival *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return err_set(err, ST_NOMEM, "no memory for one more session");
    }
    *a = (struct arrival){broker_session_ref(s), link_ref(link), permit_ref(p)};
    if (!tx_after_commit(tx, arrival_commit, arrival_undo, a)) {
        arrival_free(a);
        return err_set(err, ST_NOMEM, "no memory for one more session");
    }
    return ST_OK;
}

enum status broker_open(struct tx *tx, struct link *link, const struct broker_open *in,
                        struct broker_session **ret_session, bool *ret_present, uint32_t *ret_expiry_s,
                        uint16_t **ret_inbound, size_t *ret_inbound_len, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct broker_session *s = session_new(b, &link->who, in->client_id);
    enum status st = s != NULL ? arrive(tx, s, link, in->permit, err) : err_set(err, ST_NOMEM, "no memory");
    message_unref(in->will.msg);
    if (st != ST_OK) {
        broker_session_unref(s);
        return st;
    }
    *ret_session = s;
    *ret_present = false;
    *ret_expiry_s = 0;
    *ret_inbound = NULL;
    *ret_inbound_len = 0;
    return ST_OK;
}

// --- its end -----------------------------------------------------------------------------------------------------

struct departure {
    struct broker_session *session; // a reference
    struct link *link;              // a reference
};

static void departure_free(struct departure *d)
{
    broker_session_unref(d->session);
    link_unref(d->link);
    free(d);
}

static void departure_commit(struct core *c, void *arg)
{
    struct departure *d = arg;
    struct broker *b = broker_of(c);
    if (d->session->link == d->link) {
        session_end(b, d->session);
    }
    departure_free(d);
}

static void departure_undo(struct core *c, void *arg)
{
    departure_commit(c, arg); // the connection is gone whatever the store says
}

enum status broker_close(struct tx *tx, struct broker_session *s, struct link *link, bool will, uint32_t expiry_s,
                         struct err *err)
{
    (void)will;
    (void)expiry_s;
    struct departure *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return err_set(err, ST_NOMEM, "no memory to close a session");
    }
    *d = (struct departure){broker_session_ref(s), link_ref(link)};
    if (!tx_after_commit(tx, departure_commit, departure_undo, d)) {
        departure_free(d);
        return err_set(err, ST_NOMEM, "no memory to close a session");
    }
    return ST_OK;
}
