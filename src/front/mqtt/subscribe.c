// SUBSCRIBE and UNSUBSCRIBE. Subscribing to desired values or commands makes the core send what is pending.
#include <stdlib.h>

#include "domain/command/command.h"
#include "domain/twin/twin.h"
#include "front/mqtt/mqtt_conn.h"
#include "front/mqtt/reason.h"

#define QOS_MAX 1

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

static void push_submit(struct mqtt_conn *mc, bool twin, bool commands)
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

static void send_reasons(struct mqtt_conn *mc, enum mqtt_type type, uint16_t packet_id, struct slice reasons)
{
    struct mqtt_packet p;
    p.type = type;
    p.u.suback = (struct mqtt_suback){.packet_id = packet_id, .reasons = reasons};
    mqtt_conn_send(mc, &p);
}

// One filter: granted QoS or the reason against it.
static uint8_t subscribe_one(struct mqtt_conn *mc, const struct mqtt_filter *f, bool *news)
{
    enum sub sub;
    if (mc->version == MQTT_V5 && slice_starts(f->filter, SLICE("$share/"))) {
        return MQTT_RC_NO_SHARED;
    }
    enum status s = topics_sub(f->filter, mc->who, &sub, NULL);
    if (s != ST_OK) {
        return reason_suback(mc->version, s);
    }
    uint8_t qos = f->qos < QOS_MAX ? f->qos : QOS_MAX;
    session_subscribe(&mc->session, sub, qos);
    news[sub] = true;
    return qos;
}

bool mqtt_on_subscribe(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    if (MQTT_HAS(&p->u.subscribe.props, MQTT_P_SUB_ID)) {
        mqtt_conn_violation(mc, MQTT_RC_NO_SUB_ID, "subscription identifiers are not supported");
        return true;
    }
    uint8_t mem[1024]; // filters_max is at most this
    struct buf reasons = buf_fixed(mem, sizeof(mem));
    bool news[SUB__COUNT] = {false};
    struct mqtt_filter f;
    size_t pos = 0;
    while (mqtt_filter_next(p, mc->version, &pos, &f)) {
        buf_u8(&reasons, subscribe_one(mc, &f, news));
    }
    send_reasons(mc, MQTT_SUBACK, p->u.subscribe.packet_id, buf_view(&reasons));
    push_submit(mc, news[SUB_TWIN_DESIRED], news[SUB_COMMAND]);
    return true;
}

bool mqtt_on_unsubscribe(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    uint8_t mem[1024];
    struct buf reasons = buf_fixed(mem, sizeof(mem));
    struct mqtt_filter f;
    size_t pos = 0;
    while (mqtt_filter_next(p, mc->version, &pos, &f)) {
        enum sub sub;
        bool was = topics_sub(f.filter, mc->who, &sub, NULL) == ST_OK && session_unsubscribe(&mc->session, sub);
        buf_u8(&reasons, was ? MQTT_RC_SUCCESS : MQTT_RC_NO_SUBSCRIPTION);
    }
    send_reasons(mc, MQTT_UNSUBACK, p->u.subscribe.packet_id, buf_view(&reasons));
    return true;
}
