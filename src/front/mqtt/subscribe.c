// SUBSCRIBE and UNSUBSCRIBE: one operation each, whose end sends the answer; it is run several times when retained messages go
// into a durable session's queue. Filters of the server's own topics stay here (the
// session keeps them as one number); all others are the broker's. Subscribing to desired values or commands makes the core
// send what is pending.
#include <stdlib.h>

#include "domain/command/command.h"
#include "domain/twin/twin.h"
#include "front/mqtt/mqtt_conn.h"
#include "front/mqtt/reason.h"

#define PARKED_MS 50

// Sends what waits for the device, once it listens.
struct push {
    struct op op;
    struct mqtt_loop *home;
    struct link *link; // one reference
    uint64_t conn;
    bool twin, commands;
};

static enum status push_run(struct tx *tx, struct op *op, struct err *err)
{
    struct push *p = (struct push *)op;
    struct device_ref d;
    enum status s = device_find_row(tx, p->link->who.row, &d, err);
    if (s == ST_OK && p->twin) {
        s = twin_push_pending(tx, &d, p->link, err);
    }
    if (s == ST_OK && p->commands) {
        s = command_push_pending(tx, &d, p->link, err);
    }
    return s;
}

static void push_failed(struct mqtt_conn *mc)
{
    // Nobody would send it again before the next connect: so let there be one.
    mqtt_conn_end(mc, MQTT_RC_SERVER_BUSY, "server_busy", "pending messages could not be read; connect again");
}

static void push_done(struct op *op)
{
    struct push *p = (struct push *)op;
    struct mqtt_conn *mc = mqtt_conn_find(p->home, p->conn);
    if (op->status != ST_OK && mc != NULL) {
        push_failed(mc);
    }
    link_unref(p->link);
    free(p);
}

void mqtt_push_pending(struct mqtt_conn *mc, bool twin, bool commands)
{
    if (!twin && !commands) {
        return;
    }
    struct push *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        push_failed(mc);
        return;
    }
    p->home = mc->home;
    p->conn = conn_id(mc->net);
    p->link = link_ref(mc->link);
    p->twin = twin;
    p->commands = commands;
    p->op = (struct op){
        .run = push_run, .done = push_done, .reply_to = mc->home->loop, .who = &p->link->who, .name = "mqtt.push"};
    core_submit(mc->home->front->core, &p->op);
}

// --- native subscriptions ------------------------------------------------------------------------------------------

uint32_t mqtt_marks(const uint8_t granted[SUB__COUNT])
{
    uint32_t marks = 0;
    for (unsigned i = 0; i < SUB__COUNT; i++) {
        marks |= (granted[i] == NOT_SUBSCRIBED ? 0u : granted[i] + 1u) << (4 * i);
    }
    return marks;
}

void mqtt_marks_read(uint32_t marks, uint8_t granted[SUB__COUNT])
{
    for (unsigned i = 0; i < SUB__COUNT; i++) {
        unsigned m = marks >> (4 * i) & 0xf;
        granted[i] = m == 0 ? NOT_SUBSCRIBED : (uint8_t)(m - 1);
    }
}

// --- the operation -------------------------------------------------------------------------------------------------

struct subscribe_op {
    struct op op;
    struct link *link;              // one reference
    struct broker_session *session; // the connection's; the operation that ends it comes later
    struct mqtt_packet packet;      // filters in bytes
    enum mqtt_version version;
    bool durable;
    bool suback_due;             // counted by the connection
    uint8_t granted[SUB__COUNT]; // as they will be
    bool news[SUB__COUNT];
    struct broker_fetch fetch;
    size_t pos;  // how far the filters are done
    size_t from; // where the last run began
    struct mqtt_loop *home;
    struct subscribe_op *next; // of those that wait
    struct buf reasons;        // in bytes, behind the filters
    size_t reasons_sure;       // of them committed
    uint8_t bytes[];
};

// QoS 2 only where the packet id lives as long as the session: what is pending is pushed again with a new one.
static uint8_t native_qos(const struct subscribe_op *so, uint8_t qos)
{
    return so->durable && qos > 1 ? 1 : qos;
}

static uint8_t subscribe_native(struct subscribe_op *so, const struct mqtt_filter *f)
{
    enum sub sub;
    enum status s = topics_sub(f->filter, so->link->who.kind, &sub, NULL);
    if (s != ST_OK) {
        return reason_suback(so->version, s);
    }
    so->granted[sub] = native_qos(so, f->qos);
    so->news[sub] = true;
    return so->granted[sub];
}

static enum status subscribe_one(struct tx *tx, struct subscribe_op *so, const struct mqtt_filter *f, struct err *err)
{
    uint8_t reason = MQTT_RC_UNSPECIFIED;
    enum status s = ST_OK;
    if (so->session == NULL || topics_is_native(f->filter)) {
        reason = subscribe_native(so, f);
    } else {
        const struct broker_sub sub = {
            .filter = f->filter,
            .qos = f->qos,
            .retain_handling = f->retain_handling,
            .no_local = f->no_local,
            .fetch = &so->fetch,
            .retain_as_published = f->retain_as_published,
            .id = MQTT_HAS(&so->packet.u.subscribe.props, MQTT_P_SUB_ID) ? so->packet.u.subscribe.props.sub_id : 0};
        s = broker_subscribe(tx, so->session, &sub, &reason, err);
    }
    if (so->fetch.state == FETCH_DONE && !so->fetch.catch_up) {
        buf_u8(&so->reasons, so->version != MQTT_V5 && reason >= 0x80 ? MQTT_RC_UNSPECIFIED : reason);
    }
    return s;
}

static enum status unsubscribe_one(struct tx *tx, struct subscribe_op *so, const struct mqtt_filter *f, struct err *err)
{
    bool was = false;
    enum status s = ST_OK;
    enum sub sub;
    if (so->session != NULL && !topics_is_native(f->filter)) {
        s = broker_unsubscribe(tx, so->session, f->filter, &was, err);
    } else if (topics_sub(f->filter, so->link->who.kind, &sub, NULL) == ST_OK) {
        was = so->granted[sub] != NOT_SUBSCRIBED;
        so->granted[sub] = NOT_SUBSCRIBED;
    }
    buf_u8(&so->reasons, was ? MQTT_RC_SUCCESS : MQTT_RC_NO_SUBSCRIPTION);
    return s;
}

static enum status subscribe_run(struct tx *tx, struct op *op, struct err *err)
{
    struct subscribe_op *so = (struct subscribe_op *)op;
    bool on = so->packet.type == MQTT_SUBSCRIBE;
    enum status s = ST_OK;
    if (so->session != NULL) { // operations before this one may have changed them
        mqtt_marks_read(broker_session_marks(so->session), so->granted);
    }
    so->reasons_sure = so->reasons.len;
    so->from = so->pos;
    broker_fetch_run(&so->fetch);
    struct mqtt_filter f;
    size_t pos = so->pos;
    while (s == ST_OK && mqtt_filter_next(&so->packet, so->version, &pos, &f)) {
        s = on ? subscribe_one(tx, so, &f, err) : unsubscribe_one(tx, so, &f, err);
        if (so->fetch.state != FETCH_DONE) {
            break;
        }
        so->pos = pos;
    }
    uint32_t marks = mqtt_marks(so->granted);
    if (s == ST_OK && so->session != NULL && marks != broker_session_marks(so->session)) {
        s = broker_session_mark(tx, so->session, marks, err);
    }
    return s;
}

static void send_reasons(struct mqtt_conn *mc, const struct subscribe_op *so)
{
    struct mqtt_packet p;
    p.type = so->packet.type == MQTT_SUBSCRIBE ? MQTT_SUBACK : MQTT_UNSUBACK;
    p.u.suback = (struct mqtt_suback){.packet_id = so->packet.u.subscribe.packet_id, .reasons = buf_view(&so->reasons)};
    const char *text = so->op.status != ST_OK ? reason_say(so->op.status, &so->op.err) : "";
    size_t size = strlen(text) + so->reasons.len + 16;
    if (text[0] != '\0' && mc->problem_info && (mc->packet_max == 0 || size <= mc->packet_max)) {
        p.u.suback.props.present = MQTT_P_REASON_STRING;
        p.u.suback.props.reason_string = slice_str(text);
    }
    mqtt_conn_send(mc, &p);
}

// What runs before this one have committed stands; nothing else has happened, and is answered alike.
static void all_failed(struct subscribe_op *so, uint8_t reason)
{
    so->reasons.len = so->reasons_sure;
    while (so->reasons.len < so->packet.u.subscribe.count) {
        buf_u8(&so->reasons, reason);
    }
}

static void subscribed(struct mqtt_conn *mc, struct subscribe_op *so)
{
    if (so->op.status == ST_OK) {
        for (unsigned i = 0; i < SUB__COUNT; i++) {
            mc->granted[i] = so->granted[i];
        }
    } else if (so->packet.type == MQTT_UNSUBSCRIBE && so->version != MQTT_V5) {
        // 3.1.1 cannot say that it failed: the client would not get rid of it.
        mqtt_conn_end(mc, MQTT_RC_UNSPECIFIED, "refused", reason_say(so->op.status, &so->op.err));
        return;
    } else {
        // UNSUBACK knows no code for a full store; the reason string says it.
        bool on = so->packet.type == MQTT_SUBSCRIBE;
        all_failed(so, on ? reason_suback(so->version, so->op.status) : MQTT_RC_UNSPECIFIED);
    }
    send_reasons(mc, so);
    mqtt_push_pending(mc, so->news[SUB_TWIN_DESIRED], so->news[SUB_COMMAND]);
}

static void subscribe_op_free(struct subscribe_op *so)
{
    broker_session_unref(so->session);
    link_unref(so->link);
    broker_fetch_end(&so->fetch);
    free(so);
}

// MQTT allows a PUBLISH before the SUBACK of its filter (3.8.4), but clients do not look for it there. While an operation runs
// again, what its first filters have found waits; not while it is parked, which is until that has gone.
static void suback_due(struct subscribe_op *so, bool due)
{
    struct mqtt_conn *mc = so->link->front;
    if (mc == NULL || so->suback_due == due) {
        return;
    }
    so->suback_due = due;
    mc->suback_due = (uint16_t)(due ? mc->suback_due + 1 : mc->suback_due - 1);
    if (mc->suback_due == 0) {
        mqtt_deliver_more(mc);
    }
}

static void finish(struct subscribe_op *so)
{
    struct mqtt_conn *mc = so->link->front;
    if (mc != NULL) {
        mc->requests--;
        mc->subscribing--;
        mc->publish_waits = mc->publish_waits && mc->subscribing > 0;
        if (mc->state != MS_CLOSING) {
            subscribed(mc, so);
        }
        suback_due(so, false);
        mqtt_conn_hold(mc);
    }
    subscribe_op_free(so);
}

// Until the connection has taken retained messages of former subscriptions: lists of them are what a client could make without
// end. The timer looks again.
static void park(struct mqtt_loop *home, struct subscribe_op *so)
{
    suback_due(so, false);
    so->next = home->parked;
    home->parked = so;
    if (so->next == NULL) {
        timer_start(&home->parked_due, PARKED_MS, 0);
    }
}

static bool is_open(const struct subscribe_op *so)
{
    const struct mqtt_conn *mc = so->link->front;
    return mc != NULL && mc->state == MS_OPEN;
}

void mqtt_parked_due(struct timer *t)
{
    struct mqtt_loop *home = (struct mqtt_loop *)((char *)t - offsetof(struct mqtt_loop, parked_due));
    struct subscribe_op *so = home->parked;
    home->parked = NULL;
    while (so != NULL) {
        struct subscribe_op *next = so->next;
        if (!is_open(so)) {
            finish(so);
        } else if (broker_replay_room(so->link)) {
            core_submit(home->front->core, &so->op);
        } else {
            park(home, so);
        }
        so = next;
    }
}

void mqtt_parked_free(struct mqtt_loop *home)
{
    while (home->parked != NULL) {
        struct subscribe_op *so = home->parked;
        home->parked = so->next;
        subscribe_op_free(so);
    }
}

// Retained messages that came between a run and its commit could not be found again: they are promised, so it is tried again.
static void catch_up_later(struct mqtt_loop *home, struct subscribe_op *so)
{
    broker_fetch_end(&so->fetch);
    so->pos = so->from;
    park(home, so);
}

//   RUN --all filters done--> (answered)
//    | ^
//    | +-- the budget of a run is spent (FETCH_MORE)
//    | +-- retained messages came before a commit: all filters once more (catch_up)
//    | +-- PARKED --room for another list (FETCH_WAIT), or a failed catch-up's next try
//
// False: it is at its end, or has failed.
static bool goes_on(struct mqtt_loop *home, struct subscribe_op *so)
{
    struct broker_fetch *f = &so->fetch;
    if (!is_open(so) || so->op.status == ST_SHUTDOWN || (so->op.status != ST_OK && !f->catch_up)) {
        return false;
    }
    if (so->op.status != ST_OK) {
        catch_up_later(home, so);
        return true;
    }
    if (f->state == FETCH_WAIT) {
        park(home, so);
        return true;
    }
    if (f->state == FETCH_DONE && (f->catch_up || !f->again)) {
        return false;
    }
    if (f->state == FETCH_DONE) {
        f->again = false;
        f->catch_up = true;
        so->pos = 0;
    }
    suback_due(so, true);
    core_submit(home->front->core, &so->op);
    return true;
}

static void subscribe_done(struct op *op)
{
    struct subscribe_op *so = (struct subscribe_op *)op;
    if (!goes_on(so->home, so)) {
        finish(so);
    }
}

// --- making it -----------------------------------------------------------------------------------------------------

static struct subscribe_op *subscribe_op_new(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    struct slice filters = p->u.subscribe.filters;
    struct subscribe_op *so = calloc(1, sizeof(*so) + filters.len + p->u.subscribe.count);
    if (so == NULL) {
        return NULL;
    }
    so->home = mc->home;
    so->link = link_ref(mc->link);
    so->session = mc->session != NULL ? broker_session_ref(mc->session) : NULL;
    so->packet = *p;
    so->version = (enum mqtt_version)mc->version;
    so->durable = mc->durable;
    for (unsigned i = 0; i < SUB__COUNT; i++) {
        so->granted[i] = mc->granted[i];
    }
    struct buf copy = buf_fixed(so->bytes, filters.len);
    buf_slice(&copy, filters);
    so->packet.u.subscribe.filters = buf_view(&copy);
    so->packet.u.subscribe.props.raw = (struct slice){NULL, 0}; // only sub_id is looked at
    so->reasons = buf_fixed(so->bytes + filters.len, p->u.subscribe.count);
    so->op = (struct op){.run = subscribe_run,
                         .done = subscribe_done,
                         .reply_to = mc->home->loop,
                         .who = &so->link->who,
                         .name = p->type == MQTT_SUBSCRIBE ? "mqtt.subscribe" : "mqtt.unsubscribe"};
    return so;
}

static bool submit(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    struct subscribe_op *so = subscribe_op_new(mc, p);
    if (so == NULL) {
        mqtt_conn_no_memory(mc, "no memory for a subscription");
        return true;
    }
    mc->requests++;
    mc->subscribing++;
    broker_flush(mc->home->broker); // a retained message that was published before is found
    core_submit(mc->home->front->core, &so->op);
    return true;
}

bool mqtt_on_subscribe(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    return submit(mc, p);
}

bool mqtt_on_unsubscribe(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    return submit(mc, p);
}
