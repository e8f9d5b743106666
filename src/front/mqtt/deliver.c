// Messages to the client: from the broker, and from the core through its link; out as the windows allow.
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/limit.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/mqtt_conn.h"

#define OUT_HIGH_BYTES ((size_t)256 * 1024) // what can wait is not encoded further ahead of the peer's reading

// --- onto the wire -------------------------------------------------------------------------------------------------

// In 5: an alias instead of the topic, or the topic with a new alias for the next time.
static void use_alias(struct mqtt_conn *mc, struct mqtt_relay *r, size_t size)
{
    if (mc->alias_out_max == 0) {
        return;
    }
    if (mc->aliases_out == NULL) {
        mc->aliases_out = alias_out_new(mc->alias_out_max);
    }
    if (mc->aliases_out == NULL) {
        return; // it goes without
    }
    r->alias = alias_out_find(mc->aliases_out, r->topic);
    if (r->alias != 0) {
        r->topic = SLICE("");
    } else if (mc->packet_max == 0 || size + 8 <= mc->packet_max) { // the alias and a longer length
        r->alias = alias_out_set(mc->aliases_out, r->topic);
    }
}

// False: the packet is larger than the client takes (3.1.2-25), or has no form in the protocol.
static bool send_relay(struct mqtt_conn *mc, struct mqtt_relay *r)
{
    enum mqtt_version v = (enum mqtt_version)mc->version;
    size_t size = mqtt_relay_size(v, r);
    if (v == MQTT_V5 && size != 0) {
        use_alias(mc, r, size);
        size = mqtt_relay_size(v, r);
    }
    if (size == 0 || (mc->packet_max != 0 && size > mc->packet_max)) {
        return false;
    }
    // Without room the buffer is marked failed, and the connection overflows when it is flushed.
    (void)mqtt_encode_relay(conn_out(mc->net), v, r, size);
    conn_flush_later(mc->net);
    return true;
}

// How long a message may still wait, in seconds. False: its time is over, unless it is on its way already.
static bool set_expiry(struct mqtt_relay *r, const struct message *m, bool again)
{
    if (m->expires_us == 0) {
        return true;
    }
    int64_t left_us = m->expires_us - clock_wall_us();
    if (left_us <= 0 && !again) {
        return false;
    }
    r->has_expiry = true;
    r->expiry_s = left_us > 0 ? (uint32_t)((left_us + 999999) / 1000000) : 0;
    return true;
}

static void fill_down(struct mqtt_relay *r, const struct down *d)
{
    static const uint8_t props[] = {0x01, 0x01, 0x03, 0x00, 0x10, 'a', 'p', 'p', 'l', 'i', 'c',
                                    'a',  't',  'i',  'o',  'n',  '/', 'j', 's', 'o', 'n'};
    r->topic = slice_str(d->topic);
    r->props = slice_make(props, sizeof(props)); // payload format 1, content type application/json
    r->payload = slice_make(d->payload, d->payload_len);
}

static void dropped(const struct mqtt_conn *mc, enum drop why, struct slice topic)
{
    counter_drop(why);
    if (why == DROP_TOO_LARGE) {
        log_warn("mqtt", "a message is larger than the client's maximum packet size",
                 LOGS("client", mqtt_conn_name(mc)), LOGSL("topic", topic));
    }
}

// The client has it, or it will not be sent, as if it had been (3.1.2-25).
static void settle_done(struct mqtt_conn *mc, uint64_t seq)
{
    if (seq != 0) {
        broker_settle(mc->home->broker, mc->session, mc->link, SETTLE_DONE, seq);
    }
}

static void note_sent(const struct mqtt_conn *mc, uint64_t seq)
{
    if (seq > atomic_load_explicit(&mc->link->sent, memory_order_relaxed)) {
        atomic_store_explicit(&mc->link->sent, seq, memory_order_relaxed);
    }
}

// One message goes out. keep: what another client gets when this one does not acknowledge it; taken. False: the connection has
// ended.
static bool send_one(struct mqtt_conn *mc, struct mqtt_relay *r, const struct message *m, uint64_t seq, bool again,
                     struct waiting *keep)
{
    struct slice topic = r->topic;
    if (m != NULL && !set_expiry(r, m, again)) {
        dropped(mc, DROP_EXPIRED, topic);
        settle_done(mc, seq);
        waiting_free(keep);
        return true;
    }
    r->dup = again && r->qos > 0;
    if (r->qos > 0) {
        uint8_t state = r->qos == 2 ? FLIGHT_SENT2 : FLIGHT_SENT1;
        r->packet_id = outbox_fly(mc->out, r->qos, seq, state, keep);
        if (r->packet_id == 0) {
            waiting_free(keep);
            mqtt_conn_no_memory(mc, "no memory for a message in flight");
            return false;
        }
    }
    if (send_relay(mc, r)) {
        counter_sent(r->qos);
        note_sent(mc, seq);
        return true;
    }
    dropped(mc, DROP_TOO_LARGE, topic);
    if (r->qos > 0) {
        outbox_landed(mc->out, r->packet_id);
        settle_done(mc, seq);
    }
    return true;
}

static void send_release(struct mqtt_conn *mc, uint64_t seq)
{
    uint16_t id = outbox_fly(mc->out, 2, seq, FLIGHT_RELEASED, NULL);
    if (id == 0) {
        mqtt_conn_no_memory(mc, "no memory for a message in flight");
        return;
    }
    note_sent(mc, seq);
    mqtt_conn_send_ack(mc, MQTT_PUBREL, id, MQTT_RC_SUCCESS, NULL);
}

// Takes w.
static void send_waiting(struct mqtt_conn *mc, struct waiting *w)
{
    struct mqtt_relay r = {.qos = w->qos, .retain = w->retain, .sub_ids = w->sub_ids, .sub_ids_len = w->sub_ids_len};
    if (w->state == DELIVERY_RELEASED) {
        send_release(mc, w->seq);
    } else if (w->down != NULL) {
        uint8_t granted = NOT_SUBSCRIBED;
        enum sub sub;
        if (topics_sub_of(slice_str(w->down->topic), &sub)) {
            granted = mc->granted[sub];
        }
        fill_down(&r, w->down);
        if (granted != NOT_SUBSCRIBED) { // else unsubscribed while it waited
            (void)send_one(mc, &r, NULL, 0, false, NULL);
        }
    } else {
        r.topic = message_topic(w->msg);
        r.props = message_props(w->msg);
        r.payload = message_payload(w->msg);
        bool keep = w->share != 0 && w->seq == 0 && w->qos == 1;
        (void)send_one(mc, &r, w->msg, w->seq, w->state == DELIVERY_AGAIN, keep ? w : NULL);
        w = keep ? NULL : w;
    }
    waiting_free(w);
}

static bool may_send(const struct mqtt_conn *mc, uint8_t qos)
{
    return mc->state == MS_OPEN && conn_out_len(mc->net) < OUT_HIGH_BYTES && (qos == 0 || outbox_room(mc->out));
}

// For one more that need not wait. Up to CONN_OUT_HIGH: it is when that was exceeded that on_drain comes.
static bool has_room(const struct mqtt_conn *mc)
{
    bool in_window = mc->out == NULL || (mc->out->first == NULL && outbox_room(mc->out));
    return in_window && conn_out_len(mc->net) <= CONN_OUT_HIGH;
}

void mqtt_deliver_more(struct mqtt_conn *mc)
{
    while (mc->out != NULL && mc->out->first != NULL && may_send(mc, mc->out->first->qos)) {
        send_waiting(mc, outbox_take(mc->out));
    }
    if (!has_room(mc)) {
        return;
    }
    if (mc->slow.dropped > 0) {
        broker_slow_room(mc->home->broker, mc->session, mc->link, &mc->slow, false);
    }
    if (mc->link != NULL && atomic_load_explicit(&mc->link->full, memory_order_relaxed)) {
        atomic_store_explicit(&mc->link->full, false, memory_order_relaxed);
    }
    if (mc->more_waits) {
        mc->more_waits = false;
        broker_more(mc->home->broker, mc->link);
    }
}

bool mqtt_on_broker_room(void *arg, struct link *to)
{
    (void)arg;
    struct mqtt_conn *mc = to->front;
    bool room = mc == NULL || mc->state != MS_OPEN || has_room(mc);
    if (!room) {
        mc->more_waits = true;
    }
    return room;
}

// --- into the queue ------------------------------------------------------------------------------------------------

static bool outbox_ready(struct mqtt_conn *mc)
{
    if (mc->out == NULL) {
        mc->out = outbox_new(mc->window);
    }
    if (mc->out == NULL) {
        mqtt_conn_no_memory(mc, "no memory for messages to the client");
    }
    return mc->out != NULL;
}

static void dropped_slow(struct mqtt_conn *mc, enum drop why)
{
    counter_drop(why);
    broker_slow_dropped(mc->home->broker, mc->session, mc->link, &mc->slow);
}

// A message that would have to wait, and there are too many already.
static void give_up(struct mqtt_conn *mc)
{
    dropped_slow(mc, DROP_QUEUE_FULL);
    if (!mc->home->front->settings.slow_drop) {
        mqtt_conn_end(mc, MQTT_RC_QUOTA, "slow_consumer", "too many messages wait for this client; connect again");
    }
}

static bool queue_full(const struct mqtt_conn *mc, size_t bytes)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    return mc->out->len >= s->queue_max || mc->out->bytes + bytes > s->queue_bytes_max;
}

// Takes w, which may be NULL for want of memory. Sent at once when nothing waits before it.
static void queue(struct mqtt_conn *mc, struct waiting *w)
{
    // The client would take more than mqtt.send_max.
    if (mc->window_cut && mc->state == MS_OPEN && !outbox_room(mc->out)) {
        limit_met(LIMIT_SEND, mc->link->who.tenant, slice_str(mqtt_conn_name(mc)));
    }
    if (w == NULL) {
        mqtt_conn_no_memory(mc, "no memory for a message to the client");
        return;
    }
    outbox_put(mc->out, w);
    mqtt_deliver_more(mc);
}

void mqtt_deliver_to(struct mqtt_conn *mc, struct down *d)
{
    enum sub sub;
    uint8_t qos = topics_sub_of(slice_str(d->topic), &sub) ? mc->granted[sub] : NOT_SUBSCRIBED;
    if (qos == NOT_SUBSCRIBED || !outbox_ready(mc)) {
        counter_drop(DROP_NOT_SUBSCRIBED); // the client's choice; it stays pending in the store
        free(d);
        return;
    }
    if (queue_full(mc, d->payload_len)) {
        free(d);
        dropped_slow(mc, DROP_QUEUE_FULL);
        mqtt_conn_end(mc, MQTT_RC_QUOTA, "slow_consumer", "too many messages wait for this device; connect again");
        return;
    }
    queue(mc, waiting_down(d, qos));
}

// A message of a shared subscription that finds no room: another member has some, or the broker counts it as dropped.
static bool pass_on(struct mqtt_conn *mc, const struct delivery *d)
{
    if (d->share == 0) {
        return false;
    }
    atomic_store_explicit(&mc->link->full, true, memory_order_relaxed);
    broker_give_back(mc->home->broker, message_ref(d->msg), d->share);
    return true;
}

// --- from the broker -----------------------------------------------------------------------------------------------

static void deliver_qos0(struct mqtt_conn *mc, const struct delivery *d)
{
    if (mc->state != MS_OPEN || conn_out_len(mc->net) > mc->home->front->settings.out_max / 2) {
        if (mc->state != MS_OPEN || !pass_on(mc, d)) {
            dropped_slow(mc, DROP_SLOW);
        }
        return;
    }
    struct mqtt_relay r = {.topic = message_topic(d->msg),
                           .props = message_props(d->msg),
                           .payload = message_payload(d->msg),
                           .sub_ids = d->sub_ids,
                           .sub_ids_len = d->sub_ids_len,
                           .retain = d->retain};
    (void)send_one(mc, &r, d->msg, 0, false, NULL);
}

static void deliver_one(struct mqtt_conn *mc, const struct delivery *d)
{
    if (d->qos == 0 && d->seq == 0) {
        deliver_qos0(mc, d);
        return;
    }
    if (!outbox_ready(mc)) {
        return;
    }
    bool plain = d->state != DELIVERY_RELEASED && d->share == 0;
    if (plain && mc->out->first == NULL && may_send(mc, d->qos)) {
        struct mqtt_relay r = {.topic = message_topic(d->msg),
                               .props = message_props(d->msg),
                               .payload = message_payload(d->msg),
                               .sub_ids = d->sub_ids,
                               .sub_ids_len = d->sub_ids_len,
                               .qos = d->qos,
                               .retain = d->retain};
        (void)send_one(mc, &r, d->msg, d->seq, d->state == DELIVERY_AGAIN, NULL);
        return;
    }
    // What is durable waits in the store, and the broker sends only a window ahead; the rest has its limit here.
    if (d->seq == 0 && queue_full(mc, message_bytes(d->msg))) {
        if (!pass_on(mc, d)) {
            give_up(mc);
        }
        return;
    }
    queue(mc, waiting_message(d));
}

// The connection has ended meanwhile: what is durable stays in the store, what came by a shared subscription goes to another.
static void undeliverable(struct mqtt_loop *home, const struct delivery *d)
{
    if (d->share != 0 && d->seq == 0 && d->qos == 1) {
        broker_give_back(home->broker, message_ref(d->msg), d->share);
    }
}

void mqtt_on_broker_deliver(void *arg, struct link *to, const struct delivery *d, size_t n)
{
    struct mqtt_conn *mc = to->front;
    for (size_t i = 0; i < n; i++) {
        if (mc != NULL && (mc->state == MS_OPEN || mc->state == MS_CONNECTING)) {
            deliver_one(mc, &d[i]);
        } else {
            undeliverable(arg, &d[i]);
        }
    }
}

void mqtt_on_broker_permit(void *arg, struct link *of, struct permit *p)
{
    (void)arg;
    struct mqtt_conn *mc = of->front;
    if (mc == NULL) {
        permit_unref(p);
        return;
    }
    permit_unref(mc->permit);
    mc->permit = p;
}

// --- from the core -------------------------------------------------------------------------------------------------

static const struct {
    uint8_t reason;
    const char *why, *text;
} closes[] = {
    [DOWN_CLOSE_TAKEOVER] = {MQTT_RC_TAKEN_OVER, "takeover", "the same device has connected again"},
    [DOWN_CLOSE_REVOKED] = {MQTT_RC_NOT_AUTHORIZED, "revoked", "the credential was revoked"},
    [DOWN_CLOSE_DELETED] = {MQTT_RC_ADMIN, "deleted", "the device was deleted"},
    [DOWN_CLOSE_SUSPENDED] = {MQTT_RC_ADMIN, "suspended", "the device was suspended"},
    [DOWN_CLOSE_SHUTDOWN] = {MQTT_RC_SHUTTING_DOWN, "server_shutdown", "the server is shutting down"},
    [DOWN_CLOSE_ADMIN] = {MQTT_RC_ADMIN, "session_deleted", "an operator has ended the session"},
};

void mqtt_deliver(struct link *l, struct down *d)
{
    struct mqtt_conn *mc = l->front;
    if (mc == NULL) {
        free(d); // gone: durable state is delivered again at the next connect
        return;
    }
    if (d->kind == DOWN_PUBLISH) {
        mqtt_deliver_to(mc, d);
        return;
    }
    if (d->kind == DOWN_CLOSE) {
        mqtt_conn_end(mc, closes[d->close].reason, closes[d->close].why, closes[d->close].text);
    }
    free(d);
}

// --- acknowledgements of the client ----------------------------------------------------------------------------------

// What the table says is to be done; the id is free already where it ends.
static void flight_act(struct mqtt_conn *mc, uint16_t id, uint64_t seq, enum flight_act act)
{
    switch (act) {
    case FLIGHT_IGNORE:
        break;
    case FLIGHT_STRAY:
        if (!mc->resumed) { // what a client had in flight on its last connection may come late
            mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "an acknowledgement for a packet id that is not in flight");
        }
        break;
    case FLIGHT_VIOLATION:
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR,
                            "an acknowledgement that does not fit the message's QoS or state");
        break;
    case FLIGHT_UNKNOWN:
        mqtt_conn_send_ack(mc, MQTT_PUBREL, id, MQTT_RC_ID_NOT_FOUND, NULL);
        break;
    case FLIGHT_KEEP:
        broker_settle(mc->home->broker, mc->session, mc->link, SETTLE_RECEIVED, seq);
        break;
    case FLIGHT_RELEASE:
        mqtt_conn_send_ack(mc, MQTT_PUBREL, id, MQTT_RC_SUCCESS, NULL);
        break;
    case FLIGHT_DONE:
        settle_done(mc, seq);
        counter_acked();
        mqtt_deliver_more(mc);
        break;
    }
}

static void flight_step(struct mqtt_conn *mc, uint16_t id, enum flight_event event)
{
    struct id_entry *e = mc->out != NULL ? ids_find(&mc->out->flights, id) : NULL;
    uint64_t seq = e != NULL ? e->seq : 0;
    struct flight_step step = flight_next(e != NULL ? (enum flight_state)e->state : FLIGHT_NONE, event);
    if (step.act == FLIGHT_KEEP && seq == 0) { // nothing to store
        step = flight_next((enum flight_state)step.next, FLIGHT_ON_STORED);
    }
    if (e != NULL && step.next == FLIGHT_NONE) {
        outbox_landed(mc->out, id);
    } else if (e != NULL) {
        e->state = step.next;
    }
    flight_act(mc, id, seq, (enum flight_act)step.act);
}

bool mqtt_on_puback(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    flight_step(mc, p->u.ack.packet_id, FLIGHT_ON_PUBACK);
    return true;
}

bool mqtt_on_pubrec(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    flight_step(mc, p->u.ack.packet_id, p->u.ack.reason < 0x80 ? FLIGHT_ON_PUBREC : FLIGHT_ON_REFUSAL);
    return true;
}

bool mqtt_on_pubcomp(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    flight_step(mc, p->u.ack.packet_id, FLIGHT_ON_PUBCOMP);
    return true;
}

void mqtt_on_broker_settled(void *arg, struct link *of, uint64_t seq_or_packet_id, int what)
{
    (void)arg;
    struct mqtt_conn *mc = of->front;
    if (mc == NULL || mc->state != MS_OPEN) {
        return;
    }
    if (what == SETTLE_INBOUND) {
        mqtt_publish_released(mc, (uint16_t)seq_or_packet_id);
    } else {
        flight_step(mc, broker_packet_id(seq_or_packet_id), FLIGHT_ON_STORED);
    }
}
