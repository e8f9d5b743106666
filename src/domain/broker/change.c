// Policies, devices and tokens change: open connections get new permits within a second, what is no longer allowed ends.
#include <stdlib.h>

#include "base/log.h"
#include "domain/audit/audit.h"
#include "domain/broker/broker_priv.h"
#include "domain/identity/operator.h"
#include "domain/policy/policy.h"
#include "domain/registry/registry.h"

#define SLICE_SESSIONS 200  // looked at again by one operation
#define SLICE_SLOTS    2000 // of the table, while all of it is walked

//   IDLE --a change is committed--> BUSY: listed sessions, then a walk through the table --nothing left--> IDLE
struct review {
    struct op op; // first
    struct broker *broker;
    bool busy;    // with the core
    bool walking; // all sessions, from slot `at` on
    size_t at;
    struct broker_session *first; // references, through review_next
};

// --- one session -------------------------------------------------------------------------------------------------

struct permit_post {
    struct post post; // first
    struct broker_loop *to;
    struct link *link;     // a reference
    struct permit *permit; // a reference
};

static void permit_arrived(struct post *p)
{
    struct permit_post *pp = (struct permit_post *)p;
    pp->to->front.on_permit(pp->to->front.arg, pp->link, pp->permit);
    link_unref(pp->link);
    free(pp);
}

static void permit_tell(struct broker *b, const struct broker_session *s)
{
    struct permit_post *pp = calloc(1, sizeof(*pp));
    if (pp == NULL) {
        log_error("broker", "no memory to change a permit", LOGSL("client", session_client_id(s)));
        return;
    }
    pp->to = &b->loops[s->loop];
    pp->link = link_ref(s->link);
    pp->permit = permit_ref(s->permit);
    pp->post.fn = permit_arrived;
    loop_post(pp->to->loop, &pp->post);
}

struct renewal {
    struct broker_session *session; // a reference
    struct link *link;              // a reference
    struct permit *permit;          // a reference
};

static void renewal_free(struct renewal *r)
{
    broker_session_unref(r->session);
    link_unref(r->link);
    permit_unref(r->permit);
    free(r);
}

static void renewal_commit(struct core *c, void *arg)
{
    struct renewal *r = arg;
    struct broker *b = broker_of(c);
    if (r->session->link == r->link) {
        index_lock(&b->index);
        struct permit *old = r->session->permit;
        r->session->permit = r->permit;
        r->permit = old;
        index_unlock(&b->index, true);
        permit_tell(b, r->session);
    }
    renewal_free(r);
}

static void renewal_undo(struct core *c, void *arg)
{
    (void)c;
    renewal_free(arg);
}

static enum status review_one(struct tx *tx, struct broker_session *s, struct err *err)
{
    if (s->link == NULL || !s->listed || s->permit == NULL) {
        return ST_OK;
    }
    struct renewal *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, ST_NOMEM, "no memory to change a permit");
    }
    *r = (struct renewal){.session = broker_session_ref(s), .link = link_ref(s->link)};
    enum status st = policy_permit_again(tx, s->permit, &r->permit, err);
    if (st != ST_OK) {
        renewal_free(r);
        return st == ST_NOT_FOUND ? ST_OK : st; // gone: its connection is being closed
    }
    if (!tx_after_commit(tx, renewal_commit, renewal_undo, r)) {
        renewal_free(r);
        return err_set(err, ST_NOMEM, "no memory to change a permit");
    }
    return subscribe_drop_denied(tx, s, r->permit, err);
}

// --- all that a change concerns ----------------------------------------------------------------------------------

static void review_list(struct review *r, struct broker_session *s)
{
    if (s->link != NULL && !s->review) {
        s->review = true;
        s->review_next = r->first;
        r->first = broker_session_ref(s);
    }
}

static void review_walk(struct review *r)
{
    const struct session_table *t = &r->broker->sessions;
    for (unsigned n = 0; n < SLICE_SLOTS && r->at < t->cap; n++, r->at++) {
        for (struct broker_session *s = t->slots[r->at]; s != NULL; s = s->next) {
            review_list(r, s);
        }
    }
    r->walking = r->at < t->cap;
}

static enum status review_run(struct tx *tx, struct op *op, struct err *err)
{
    struct review *r = (struct review *)op;
    if (r->first == NULL && r->walking) {
        review_walk(r);
    }
    for (unsigned n = 0; n < SLICE_SESSIONS && r->first != NULL; n++) {
        struct broker_session *s = r->first;
        enum status st = review_one(tx, s, err);
        if (st != ST_OK) {
            return err_wrap(err, "cannot change the permit of a connection");
        }
        r->first = s->review_next;
        s->review_next = NULL;
        s->review = false;
        broker_session_unref(s);
    }
    return ST_OK;
}

static void review_kick(struct review *r);

static void review_done(struct op *op)
{
    struct review *r = (struct review *)op;
    r->busy = false;
    if (op->status == ST_OK) {
        review_kick(r);
    } else if (op->status != ST_SHUTDOWN) {
        log_warn("broker", "permits were not renewed; it is tried again", LOGS("error", op->err.text));
    }
}

static void review_kick(struct review *r)
{
    if (r->busy || (r->first == NULL && !r->walking)) {
        return;
    }
    r->busy = true;
    r->op = (struct op){
        .run = review_run, .done = review_done, .reply_to = core_loop(r->broker->core), .name = "broker.review"};
    core_submit(r->broker->core, &r->op);
}

void change_kick(struct broker *b)
{
    if (b->review != NULL) {
        review_kick(b->review);
    }
}

// --- what has changed --------------------------------------------------------------------------------------------

static void principal_committed(struct core *c, void *arg)
{
    struct policy_change *ch = arg;
    struct broker *b = broker_of(c);
    struct broker_session *s = session_table_owned(&b->sessions, (uint8_t)ch->kind, ch->row);
    for (; s != NULL; s = session_table_owned_next(s)) {
        review_list(b->review, s);
    }
    retained_forget_permits(b);
    review_kick(b->review);
    free(ch);
}

static void tenant_committed(struct core *c, void *arg)
{
    struct broker *b = broker_of(c);
    b->review->walking = true;
    b->review->at = 0;
    retained_forget_permits(b);
    index_lock(&b->index); // what was matched under the old document does not count
    index_unlock(&b->index, true);
    review_kick(b->review);
    free(arg);
}

static void change_undone(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

// S14: what a device has left to be said in its name is not said any more.
static enum status drop_will(struct tx *tx, const struct device_ref *d, struct err *err)
{
    int64_t n = 0;
    enum status st = will_forget(tx, WHO_DEVICE, d->row, &n, err);
    if (st == ST_OK && n > 0) {
        st = audit_write_for(tx, d->tenant, "session.drop_will", "device", slice_str(d->id), (struct slice){NULL, 0},
                             (struct slice){NULL, 0}, err);
    }
    return st;
}

static enum status drop_sessions(struct tx *tx, enum principal_kind kind, uint64_t row, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct broker_session *s = session_table_owned(&b->sessions, (uint8_t)kind, row);
    for (; s != NULL; s = session_table_owned_next(s)) {
        if (s->row != 0 && s->ending == 0) {
            enum status st = session_erase(tx, s->tenant, s->row, session_client_id(s), err);
            if (st != ST_OK) {
                return st;
            }
        }
    }
    return ST_OK;
}

static enum status close_connections(struct tx *tx, enum principal_kind kind, uint64_t row, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    struct broker_session *s = session_table_owned(&b->sessions, (uint8_t)kind, row);
    for (; s != NULL; s = session_table_owned_next(s)) {
        enum status st = session_close(tx, s, DOWN_CLOSE_REVOKED, err);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

// An application's token was revoked or has run out: its connections end, and nothing it left behind speaks for it (S11, S14).
static enum status token_changed(struct tx *tx, uint64_t row, struct err *err)
{
    struct principal now;
    int64_t n = 0;
    struct err why = {.code = ST_OK};
    enum status st = operator_principal(tx, row, &now, &why);
    if (st != ST_NOT_FOUND) {
        return st == ST_OK ? ST_OK : err_set(err, st, "%s", why.text);
    }
    st = close_connections(tx, WHO_OPERATOR, row, err);
    if (st == ST_OK) {
        st = will_forget(tx, WHO_OPERATOR, row, &n, err);
    }
    if (st == ST_OK) {
        st = retained_forget(tx, WHO_OPERATOR, row, err);
    }
    return st == ST_OK ? drop_sessions(tx, WHO_OPERATOR, row, err) : st;
}

static enum status policy_changed_fn(struct tx *tx, const struct policy_change *change, void *arg, struct err *err)
{
    (void)arg;
    if (change->scope == POLICY_OF_PRINCIPAL && change->kind == WHO_OPERATOR) {
        enum status st = token_changed(tx, change->row, err);
        if (st != ST_OK) {
            return st;
        }
    }
    struct policy_change *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        return err_set(err, ST_NOMEM, "no memory to change permits");
    }
    *copy = *change;
    if (!tx_after_commit(tx, change->scope == POLICY_OF_PRINCIPAL ? principal_committed : tenant_committed,
                         change_undone, copy)) {
        free(copy);
        return err_set(err, ST_NOMEM, "no memory to change permits");
    }
    return ST_OK;
}

static enum status device_changed(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    bool gone = what == DEVICE_CHANGE_REMOVED || what == DEVICE_CHANGE_RETIRED;
    bool back = what == DEVICE_CHANGE_SUSPENDED || what == DEVICE_CHANGE_BANNED; // it may be itself again tomorrow
    enum status st = drop_will(tx, d, err);
    if (st == ST_OK && !back) {
        st = retained_forget(tx, WHO_DEVICE, d->row, err);
    }
    return st == ST_OK && gone ? drop_sessions(tx, WHO_DEVICE, d->row, err) : st;
}

enum status change_start(struct tx *tx, struct err *err)
{
    struct broker *b = broker_of(tx->core);
    b->review = calloc(1, sizeof(*b->review));
    if (b->review == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the broker");
    }
    b->review->broker = b;
    policy_on_change(tx->core, policy_changed_fn, b);
    return registry_watch(tx->core, device_changed, err);
}

void change_release(struct broker *b)
{
    struct review *r = b->review;
    while (r != NULL && r->first != NULL) {
        struct broker_session *s = r->first;
        r->first = s->review_next;
        broker_session_unref(s);
    }
    free(r);
    b->review = NULL;
}
