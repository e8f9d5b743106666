// PUBLISH: to which operation a message goes, and its acknowledgement when the outcome is known.
#include <stdlib.h>

#include "front/mqtt/counters.h"
#include "front/mqtt/mqtt_conn.h"
#include "front/mqtt/reason.h"
#include "front/mqtt/request.h"

// --- acknowledgements --------------------------------------------------------------------------------------------

void mqtt_publish_settle(struct mqtt_conn *mc, uint16_t packet_id, enum status status, const char *text)
{
    if (packet_id != 0) {
        (void)acks_settle(&mc->acks, packet_id, status, text);
    }
}

// A reason string only where it is wanted and fits the client's packets (3.4.2.2.2).
static const char *reason_string(const struct mqtt_conn *mc, const struct ack *a)
{
    const char *text = a->text != NULL ? a->text : reason_text((enum status)a->status);
    bool fits = mc->packet_max == 0 || strlen(text) + 16 <= mc->packet_max;
    return a->status != ST_OK && mc->problem_info && fits ? text : NULL;
}

static void send_ack(struct mqtt_conn *mc, const struct ack *a)
{
    if (mc->version != MQTT_V5 && a->status != ST_OK) {
        // 3.1.1 cannot say no: an acknowledgement would mean "stored".
        mqtt_conn_end(mc, MQTT_RC_UNSPECIFIED, "refused",
                      a->text != NULL ? a->text : reason_text((enum status)a->status));
        return;
    }
    (void)mqtt_encode_puback(conn_out(mc->net), mc->version, a->packet_id, reason_puback((enum status)a->status),
                             reason_string(mc, a));
}

void mqtt_publish_flush(struct mqtt_conn *mc)
{
    struct ack a;
    while (mc->state != MS_CLOSING && acks_take(&mc->acks, &a)) {
        send_ack(mc, &a);
        free(a.text);
    }
    conn_flush_later(mc->net);
    mqtt_conn_hold(mc);
}

// Refused on arrival. The ledger has been told by the caller.
static void refuse(struct mqtt_conn *mc, const struct mqtt_publish *b, enum status status, const char *text)
{
    if (b->qos == 0) {
        return; // nothing to answer with
    }
    if (mc->version != MQTT_V5) {
        mc->state = MS_ENDING;
    }
    mqtt_publish_settle(mc, b->packet_id, status, text);
    mqtt_publish_flush(mc);
}

// --- what may be published ---------------------------------------------------------------------------------------

// Rules that break the connection, not only the message.
static bool violates(struct mqtt_conn *mc, const struct mqtt_publish *b)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    if (b->qos > 1) {
        mqtt_conn_violation(mc, MQTT_RC_NO_QOS, "QoS 2 is not supported: the maximum QoS is 1");
    } else if (b->retain && mc->version == MQTT_V5) {
        mqtt_conn_violation(mc, MQTT_RC_NO_RETAIN, "retained messages are not supported");
    } else if (MQTT_HAS(&b->props, MQTT_P_SUB_ID)) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a subscription identifier from a client (3.3.4-6)");
    } else if (b->qos > 0 && mc->version == MQTT_V5 && mc->acks.len >= s->receive_max) {
        mqtt_conn_violation(mc, MQTT_RC_RECEIVE_MAX,
                            "more QoS 1 messages in flight than the receive maximum (3.3.4-9)");
    }
    return mc->state == MS_CLOSING;
}

static bool alias_set(struct mqtt_conn *mc, uint16_t alias, struct slice topic)
{
    if (mc->aliases == NULL) {
        mc->aliases = calloc(mc->home->front->settings.alias_max, sizeof(*mc->aliases));
    }
    struct buf copy = buf_heap(topic.len);
    if (mc->aliases == NULL || !buf_slice(&copy, topic)) {
        buf_release(&copy);
        mqtt_conn_end(mc, MQTT_RC_QUOTA, "no_memory", "no memory for a topic alias");
        return false;
    }
    struct alias *a = &mc->aliases[alias - 1];
    free(a->topic);
    *a = (struct alias){copy.p, (uint16_t)topic.len};
    return true;
}

// Topic aliases (3.3.2.3.4). False: the connection has ended.
static bool resolve_alias(struct mqtt_conn *mc, const struct mqtt_publish *b, struct slice *ret_topic)
{
    *ret_topic = b->topic;
    if (!MQTT_HAS(&b->props, MQTT_P_ALIAS)) {
        return true;
    }
    uint16_t alias = b->props.alias;
    if (alias > mc->home->front->settings.alias_max) {
        mqtt_conn_violation(mc, MQTT_RC_BAD_ALIAS, "the topic alias is above the topic alias maximum (3.3.2-9)");
        return false;
    }
    if (b->topic.len > 0) {
        return alias_set(mc, alias, b->topic);
    }
    if (mc->aliases == NULL || mc->aliases[alias - 1].topic == NULL) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "the topic alias has not been set on this connection");
        return false;
    }
    *ret_topic = slice_make(mc->aliases[alias - 1].topic, mc->aliases[alias - 1].len);
    return true;
}

static void telemetry(struct mqtt_conn *mc, const struct mqtt_publish *b)
{
    struct mqtt_loop *home = mc->home;
    struct slice type = MQTT_HAS(&b->props, MQTT_P_CONTENT_TYPE) ? b->props.content_type : (struct slice){NULL, 0};
    enum status s = ingest_put(home->ingest, mc->link, b->packet_id, b->dup, b->payload, type, &home->err);
    if (s != ST_OK) {
        counter_message(ROUTE_TELEMETRY, false, 1);
        refuse(mc, b, s, home->err.text);
    } else if (ingest_pending(home->ingest) >= home->front->settings.pending_max || ingest_behind(home->ingest)) {
        home->congested = true;
    }
}

bool mqtt_on_publish(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_publish *b = &p->u.publish;
    struct err *err = &mc->home->err;
    struct slice topic;
    mqtt_conn_charge(mc);
    if (violates(mc, b) || !resolve_alias(mc, b, &topic)) {
        return true;
    }
    if (b->qos > 0 && !acks_expect(&mc->acks, b->packet_id)) {
        mqtt_conn_end(mc, MQTT_RC_QUOTA, "no_memory", "no memory for an acknowledgement");
        return true;
    }
    err->text[0] = '\0';
    enum route route;
    struct slice param;
    enum status s = topics_route(topic, mc->who, &route, &param, err);
    if (s != ST_OK) {
        counter_message_lost_route();
    } else if (route == ROUTE_TELEMETRY) {
        telemetry(mc, b);
        return true;
    } else {
        s = request_submit(mc, route, param, b, err);
    }
    if (s != ST_OK) {
        if (mc->who == WHO_DEVICE) {
            ingest_refused(mc->home->ingest, mc->link, s);
        }
        refuse(mc, b, s, err->text);
    }
    return true;
}

// --- telemetry is durable ----------------------------------------------------------------------------------------

static void relieve(struct mqtt_loop *home)
{
    size_t pending_low = home->front->settings.pending_max / 2;
    if (!home->congested || ingest_pending(home->ingest) > pending_low || ingest_behind(home->ingest)) {
        return;
    }
    home->congested = false;
    for (struct mqtt_conn *mc = home->conns; mc != NULL; mc = mc->next) {
        mqtt_conn_hold(mc);
    }
}

void mqtt_on_ingest_acked(void *arg, const struct ingest_ack *acks, size_t n)
{
    struct mqtt_loop *home = arg;
    struct mqtt_conn *mc = NULL;
    uint64_t conn = 0;
    int64_t refused = 0;
    for (size_t i = 0; i < n; i++) {
        if (acks[i].conn != conn) {
            if (mc != NULL) {
                mqtt_publish_flush(mc);
            }
            conn = acks[i].conn;
            mc = mqtt_conn_find(home, conn);
        }
        refused += acks[i].status != ST_OK;
        if (mc != NULL) {
            mqtt_publish_settle(mc, acks[i].packet_id, acks[i].status, NULL);
        }
    }
    if (mc != NULL) {
        mqtt_publish_flush(mc);
    }
    counter_message(ROUTE_TELEMETRY, true, (int64_t)n - refused);
    counter_message(ROUTE_TELEMETRY, false, refused);
    relieve(home);
}
