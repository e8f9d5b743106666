// PUBLISH: to which operation a message goes, and its acknowledgement when the outcome is known.
#include <stdlib.h>

#include "front/mqtt/counters.h"
#include "front/mqtt/mqtt_conn.h"
#include "front/mqtt/reason.h"
#include "front/mqtt/request.h"

#define INBOUND_MAX 4096 // QoS 2 messages of a client of 3.1.1 that wait for their PUBREL: it cannot be told a number

// --- acknowledgements --------------------------------------------------------------------------------------------

// What becomes of a QoS 2 message's id when its outcome is known.
static void inbound_known(struct mqtt_conn *mc, uint16_t packet_id, bool kept)
{
    struct id_entry *e = ids_find(&mc->inbound, packet_id);
    if (e == NULL) {
        return;
    }
    struct inbound_step step = inbound_next((enum inbound_state)e->state, kept ? INBOUND_ON_KEPT : INBOUND_ON_REFUSED);
    e->state = step.next;
    if (step.next == INBOUND_NONE) {
        ids_del(&mc->inbound, packet_id);
    }
}

static void settle(struct mqtt_conn *mc, uint16_t packet_id, uint8_t reason, const char *text)
{
    if (packet_id != 0) {
        inbound_known(mc, packet_id, reason < 0x80);
        (void)acks_settle(&mc->acks, packet_id, reason, text);
    }
}

void mqtt_publish_settle(struct mqtt_conn *mc, uint16_t packet_id, enum status status, const char *text)
{
    bool say = status != ST_OK && (text == NULL || text[0] == '\0');
    settle(mc, packet_id, reason_puback(status), say ? reason_text(status) : text);
}

static void send_ack(struct mqtt_conn *mc, const struct ack *a)
{
    if (mc->version != MQTT_V5 && a->reason >= 0x80) {
        // Before 5 there is no way to say no: an acknowledgement would mean "stored".
        mqtt_conn_end(mc, MQTT_RC_UNSPECIFIED, "refused", a->text != NULL ? a->text : "a message was refused");
        return;
    }
    mqtt_conn_send_ack(mc, a->received ? MQTT_PUBREC : MQTT_PUBACK, a->packet_id, a->reason, a->text);
}

void mqtt_publish_flush(struct mqtt_conn *mc)
{
    struct ack a;
    while (mc->state != MS_CLOSING && acks_take(&mc->acks, &a)) {
        send_ack(mc, &a);
        free(a.text);
    }
    mqtt_conn_hold(mc);
}

// The outcome was known on arrival: nothing is put into the ring when nothing waits there.
static void answer(struct mqtt_conn *mc, const struct mqtt_publish *b, uint8_t reason, const char *text)
{
    if (b->qos == 0) {
        return; // nothing to answer with
    }
    if (b->qos == 2) {
        inbound_known(mc, b->packet_id, reason < 0x80);
    }
    if (mc->version != MQTT_V5 && reason >= 0x80) {
        mc->state = MS_ENDING;
    }
    struct ack now = {.packet_id = b->packet_id, .received = b->qos == 2, .reason = reason};
    if (mc->acks.len == 0 && (reason < 0x80 || mc->version == MQTT_V5)) {
        mqtt_conn_send_ack(mc, now.received ? MQTT_PUBREC : MQTT_PUBACK, now.packet_id, reason, text);
        return;
    }
    if (!acks_known(&mc->acks, b->packet_id, b->qos == 2, reason, text)) {
        mqtt_conn_no_memory(mc, "no memory for an acknowledgement");
        return;
    }
    mqtt_publish_flush(mc);
}

// Refused on arrival. The ledger has been told by the caller.
static void refuse(struct mqtt_conn *mc, const struct mqtt_publish *b, enum status status, const char *text)
{
    answer(mc, b, reason_puback(status), text[0] != '\0' ? text : reason_text(status));
}

// --- what may be published ---------------------------------------------------------------------------------------

// Messages with QoS > 0 that are not yet acknowledged or, with QoS 2, not yet released.
static uint32_t in_flight(const struct mqtt_conn *mc)
{
    return mc->acks.len - mc->acks.received + mc->inbound.len;
}

// Rules that break the connection, not only the message. A QoS 2 message that comes again is no new one.
static bool violates(struct mqtt_conn *mc, const struct mqtt_publish *b, bool again)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    if (MQTT_HAS(&b->props, MQTT_P_SUB_ID)) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a subscription identifier from a client (3.3.4-6)");
    } else if (b->qos > 0 && mc->version == MQTT_V5 && !again && in_flight(mc) >= s->receive_max) {
        mqtt_conn_violation(mc, MQTT_RC_RECEIVE_MAX, "more messages in flight than the receive maximum (3.3.4-9)");
    } else if (b->qos == 2 && !again && mc->inbound.len >= INBOUND_MAX) {
        mqtt_conn_violation(mc, MQTT_RC_RECEIVE_MAX, "too many QoS 2 messages wait for their PUBREL");
    }
    return mc->state == MS_CLOSING;
}

// Topic aliases (3.3.2.3.4). False: the connection has ended.
static bool resolve_alias(struct mqtt_conn *mc, const struct mqtt_publish *b, struct slice *ret_topic)
{
    *ret_topic = b->topic;
    if (!MQTT_HAS(&b->props, MQTT_P_ALIAS)) {
        return true;
    }
    uint16_t alias = b->props.alias;
    uint16_t max = mc->home->front->settings.alias_max;
    if (alias > max) {
        mqtt_conn_violation(mc, MQTT_RC_BAD_ALIAS, "the topic alias is above the topic alias maximum (3.3.2-9)");
        return false;
    }
    if (b->topic.len > 0) {
        if (!alias_set(&mc->aliases_in, max, alias, b->topic)) {
            mqtt_conn_no_memory(mc, "no memory for a topic alias");
            return false;
        }
        return true;
    }
    *ret_topic = alias_get(mc->aliases_in, alias);
    if (ret_topic->p == NULL) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "the topic alias has not been set on this connection");
        return false;
    }
    return true;
}

// Is this a new message? What a repeated or misused packet id gets is said here (4.3.3-10, 2.2.1-4).
static bool is_new(struct mqtt_conn *mc, const struct mqtt_publish *b)
{
    if (b->qos == 0) {
        return true;
    }
    const struct id_entry *e = ids_find(&mc->inbound, b->packet_id);
    enum inbound_state s = e != NULL ? (enum inbound_state)e->state : INBOUND_NONE;
    if (s == INBOUND_NONE && !acks_holds(&mc->acks, b->packet_id)) {
        return true;
    }
    uint8_t act = b->qos == 2 && s != INBOUND_NONE ? inbound_next(s, INBOUND_ON_PUBLISH).act : INBOUND_IN_USE;
    if (act == INBOUND_AGAIN) {
        mqtt_conn_send_ack(mc, MQTT_PUBREC, b->packet_id, MQTT_RC_SUCCESS, NULL);
    } else if (act == INBOUND_IN_USE && mc->version != MQTT_V5) {
        mqtt_conn_violation(mc, MQTT_RC_ID_IN_USE, "the packet identifier is in use (2.3.1-2)");
    } else if (act == INBOUND_IN_USE && !acks_known(&mc->acks, b->packet_id, b->qos == 2, MQTT_RC_ID_IN_USE,
                                                    "the packet identifier is in use")) {
        mqtt_conn_no_memory(mc, "no memory for an acknowledgement");
    }
    mqtt_publish_flush(mc);
    return false;
}

// The acknowledgement that will be owed when the outcome is not known on arrival. False: the connection has ended.
static bool expect(struct mqtt_conn *mc, const struct mqtt_publish *b)
{
    if (b->qos > 0 && !acks_expect(&mc->acks, b->packet_id, b->qos == 2)) {
        mqtt_conn_no_memory(mc, "no memory for an acknowledgement");
        return false;
    }
    return true;
}

// --- where it goes -------------------------------------------------------------------------------------------------

static void look_at_congestion(struct mqtt_loop *home)
{
    size_t max = home->front->settings.pending_max;
    home->congested = home->congested || ingest_pending(home->ingest) >= max || ingest_behind(home->ingest) ||
                      broker_pending(home->broker) >= max;
}

static void telemetry(struct mqtt_conn *mc, const struct mqtt_publish *b)
{
    struct mqtt_loop *home = mc->home;
    struct slice type = MQTT_HAS(&b->props, MQTT_P_CONTENT_TYPE) ? b->props.content_type : (struct slice){NULL, 0};
    struct broker_session *once = b->qos == 2 && mc->durable ? mc->session : NULL;
    enum status s = ingest_put(home->ingest, mc->link, once, b->packet_id, b->dup, b->payload, type, &home->err);
    if (s != ST_OK) {
        counter_message(ROUTE_TELEMETRY, false, 1);
        refuse(mc, b, s, home->err.text);
        return;
    }
    (void)expect(mc, b);
    look_at_congestion(home);
}

// To the server's own topics. The retain flag has no meaning there.
static void native(struct mqtt_conn *mc, const struct mqtt_publish *b, struct slice topic)
{
    struct err *err = &mc->home->err;
    enum route route;
    struct slice param;
    enum status s = topics_route(topic, (enum principal_kind)mc->who, &route, &param, err);
    if (s != ST_OK) {
        counter_message_lost_route();
    } else if (route == ROUTE_TELEMETRY) {
        telemetry(mc, b);
        return;
    } else {
        s = request_submit(mc, route, param, b, err);
    }
    if (s == ST_OK) {
        (void)expect(mc, b);
        return;
    }
    if (mc->who == WHO_DEVICE) {
        ingest_refused(mc->home->ingest, mc->link, s);
    }
    refuse(mc, b, s, err->text);
}

// To other clients.
static void relay(struct mqtt_conn *mc, const struct mqtt_publish *b, struct slice topic)
{
    struct mqtt_loop *home = mc->home;
    const struct broker_in in = {
        .link = mc->link, .session = mc->session, .permit = mc->permit, .publish = b, .topic = topic};
    bool matched = false;
    enum status s = ST_OK;
    enum broker_went went = broker_publish(home->broker, &in, &matched, &s, &home->err);
    if (went != BROKER_LATER) { // else its outcome says
        counter_relay(b->qos, went != BROKER_REFUSED);
    }
    if (went == BROKER_REFUSED) {
        refuse(mc, b, s, home->err.text);
    } else if (went == BROKER_DONE) {
        answer(mc, b, matched ? MQTT_RC_SUCCESS : MQTT_RC_NO_MATCHING_SUBSCRIBERS, NULL);
    } else {
        (void)expect(mc, b);
        look_at_congestion(home);
    }
}

bool mqtt_on_publish(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_publish *b = &p->u.publish;
    struct slice topic;
    if (mc->subscribing > 0) { // what a client says after SUBSCRIBE is for its new subscriptions too
        mc->publish_waits = true;
        return false;
    }
    mqtt_conn_charge(mc, b->topic.len + b->payload.len);
    bool again = b->qos == 2 && ids_find(&mc->inbound, b->packet_id) != NULL;
    if (violates(mc, b, again) || !resolve_alias(mc, b, &topic) || !is_new(mc, b)) {
        return true;
    }
    if (b->qos == 2 &&
        ids_add(&mc->inbound, b->packet_id, 2, inbound_next(INBOUND_NONE, INBOUND_ON_PUBLISH).next, 0) == NULL) {
        mqtt_conn_no_memory(mc, "no memory for a QoS 2 message");
        return true;
    }
    mc->home->err.text[0] = '\0';
    if (mc->session == NULL || topics_is_native(topic)) {
        native(mc, b, topic);
    } else {
        relay(mc, b, topic);
    }
    return true;
}

// --- PUBREL --------------------------------------------------------------------------------------------------------

void mqtt_publish_released(struct mqtt_conn *mc, uint16_t packet_id)
{
    struct id_entry *e = ids_find(&mc->inbound, packet_id);
    if (e != NULL && inbound_next((enum inbound_state)e->state, INBOUND_ON_STORED).act == INBOUND_DONE) {
        ids_del(&mc->inbound, packet_id);
        mqtt_conn_send_ack(mc, MQTT_PUBCOMP, packet_id, MQTT_RC_SUCCESS, NULL);
    }
}

bool mqtt_on_pubrel(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    uint16_t id = p->u.ack.packet_id;
    struct id_entry *e = ids_find(&mc->inbound, id);
    struct inbound_step step = inbound_next(e != NULL ? (enum inbound_state)e->state : INBOUND_NONE, INBOUND_ON_PUBREL);
    if (step.act == INBOUND_UNKNOWN) {
        mqtt_conn_send_ack(mc, MQTT_PUBCOMP, id, MQTT_RC_ID_NOT_FOUND, NULL);
    } else if (step.act == INBOUND_VIOLATION) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a PUBREL before its PUBREC");
    } else if (step.act == INBOUND_FORGET && e != NULL) {
        e->state = step.next;
        if (mc->durable) {
            broker_settle(mc->home->broker, mc->session, mc->link, SETTLE_INBOUND, id);
        } else {
            mqtt_publish_released(mc, id);
        }
    }
    return true;
}

// --- outcomes that come later --------------------------------------------------------------------------------------

static void relieve(struct mqtt_loop *home)
{
    size_t low = home->front->settings.pending_max / 2;
    if (!home->congested || ingest_pending(home->ingest) > low || ingest_behind(home->ingest) ||
        broker_pending(home->broker) > low) {
        return;
    }
    home->congested = false;
    for (struct mqtt_conn *mc = home->conns; mc != NULL; mc = mc->next) {
        mqtt_conn_hold(mc);
    }
}

// Outcomes come in runs of one connection: those are settled together and leave in one write.
struct run {
    struct mqtt_loop *home;
    struct mqtt_conn *mc;
    uint64_t conn;
};

static struct mqtt_conn *run_of(struct run *r, uint64_t conn)
{
    if (conn != r->conn) {
        if (r->mc != NULL) {
            mqtt_publish_flush(r->mc);
        }
        r->conn = conn;
        r->mc = mqtt_conn_find(r->home, conn);
    }
    return r->mc;
}

static void run_end(struct run *r)
{
    (void)run_of(r, 0);
    relieve(r->home);
}

void mqtt_on_ingest_acked(void *arg, const struct ingest_ack *acks, size_t n)
{
    struct run r = {.home = arg};
    int64_t refused = 0;
    for (size_t i = 0; i < n; i++) {
        struct mqtt_conn *mc = run_of(&r, acks[i].conn);
        refused += acks[i].status != ST_OK;
        if (mc != NULL) {
            mqtt_publish_settle(mc, acks[i].packet_id, acks[i].status, NULL);
        }
    }
    counter_message(ROUTE_TELEMETRY, true, (int64_t)n - refused);
    counter_message(ROUTE_TELEMETRY, false, refused);
    run_end(&r);
}

void mqtt_on_broker_acked(void *arg, const struct broker_ack *acks, size_t n)
{
    struct run r = {.home = arg};
    for (size_t i = 0; i < n; i++) {
        const struct broker_ack *a = &acks[i];
        struct mqtt_conn *mc = run_of(&r, a->conn);
        counter_relay(a->qos, a->status == ST_OK);
        if (mc != NULL && a->status == ST_OK) {
            settle(mc, a->packet_id, a->matched ? MQTT_RC_SUCCESS : MQTT_RC_NO_MATCHING_SUBSCRIBERS, NULL);
        } else if (mc != NULL) {
            mqtt_publish_settle(mc, a->packet_id, a->status, NULL);
        }
    }
    run_end(&r);
}
