// Messages to the device: from the core through its link, into the session, out as the windows allow.
#include <stdlib.h>

#include "base/log.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/mqtt_conn.h"

#define OUT_HIGH_BYTES ((size_t)256 * 1024) // more is not encoded ahead of the peer's reading

static size_t size_on_wire(const struct down *d)
{
    return strlen(d->topic) + d->payload_len + 64; // headers, packet id and properties are below that
}

static void send_down(struct mqtt_conn *mc, const struct down *d, uint8_t qos, uint16_t packet_id)
{
    struct mqtt_packet p;
    p.type = MQTT_PUBLISH;
    p.u.publish = (struct mqtt_publish){.qos = qos,
                                        .packet_id = packet_id,
                                        .topic = slice_str(d->topic),
                                        .payload = slice_make(d->payload, d->payload_len)};
    p.u.publish.props.present = MQTT_P_CONTENT_TYPE | MQTT_P_PAYLOAD_FORMAT;
    p.u.publish.props.content_type = SLICE("application/json");
    p.u.publish.props.payload_format = 1;
    mqtt_conn_send(mc, &p);
    counter_add(COUNT_DOWN_SENT, 1);
}

void mqtt_deliver_more(struct mqtt_conn *mc)
{
    uint8_t qos;
    uint16_t packet_id;
    struct down *d;
    while (mc->state == MS_OPEN && conn_out_len(mc->net) < OUT_HIGH_BYTES &&
           (d = session_next(&mc->session, &qos, &packet_id)) != NULL) {
        send_down(mc, d, qos, packet_id);
        if (qos == 0) {
            free(d);
        }
    }
}

void mqtt_deliver_to(struct mqtt_conn *mc, struct down *d)
{
    if (mc->packet_max != 0 && size_on_wire(d) > mc->packet_max) {
        // As if it had been sent (3.1.2-25); it stays pending in the store.
        log_warn("mqtt", "a message is larger than the device's maximum packet size",
                 LOGS("device", mc->link->who.name), LOGS("topic", d->topic), LOGU("bytes", d->payload_len));
        counter_add(COUNT_DOWN_DROPPED, 1);
        free(d);
        return;
    }
    enum status s = session_put(&mc->session, d);
    if (s == ST_OK) {
        mqtt_deliver_more(mc);
        return;
    }
    counter_add(COUNT_DOWN_DROPPED, 1);
    free(d);
    if (s != ST_NOT_FOUND) { // not subscribed is the device's choice
        mqtt_conn_end(mc, MQTT_RC_QUOTA, "slow_consumer", "too many messages wait for this device; connect again");
    }
}

static const struct {
    uint8_t reason;
    const char *why, *text;
} closes[] = {
    [DOWN_CLOSE_TAKEOVER] = {MQTT_RC_TAKEN_OVER, "takeover", "the same device has connected again"},
    [DOWN_CLOSE_REVOKED] = {MQTT_RC_NOT_AUTHORIZED, "revoked", "the credential was revoked"},
    [DOWN_CLOSE_DELETED] = {MQTT_RC_ADMIN, "deleted", "the device was deleted"},
    [DOWN_CLOSE_SUSPENDED] = {MQTT_RC_ADMIN, "suspended", "the device was suspended"},
    [DOWN_CLOSE_SHUTDOWN] = {MQTT_RC_SHUTTING_DOWN, "server_shutdown", "the server is shutting down"},
};

void mqtt_deliver(struct link *l, struct down *d)
{
    struct conn *net = conn_find(l->loop, l->conn);
    struct mqtt_conn *mc = net != NULL ? conn_user(net) : NULL;
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

bool mqtt_on_puback(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    struct down *d = session_acked(&mc->session, p->u.ack.packet_id);
    if (d == NULL) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a PUBACK for a packet id that is not in flight");
        return true;
    }
    counter_add(COUNT_DOWN_ACKED, 1);
    if (d->acked != NULL && p->u.ack.reason < 0x80) {
        d->acked(d);
    }
    free(d);
    mqtt_deliver_more(mc);
    return true;
}
