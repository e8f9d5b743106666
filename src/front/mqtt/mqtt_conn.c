#include "front/mqtt/mqtt_conn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/mqtt/counters.h"

#define THROTTLE_MS 50
#define ONE         1000 // a PUBLISH, in units of credit

// --- life --------------------------------------------------------------------------------------------------------

static void on_timer(struct timer *t);

enum status mqtt_conn_new(struct mqtt_loop *home, struct conn *net)
{
    struct mqtt_conn *mc = calloc(1, sizeof(*mc));
    if (mc == NULL) {
        return ST_NOMEM;
    }
    mc->net = net;
    mc->home = home;
    mc->version = MQTT_V311;
    mc->state = MS_NEW;
    mc->credit = (int64_t)home->front->settings.publish_burst * ONE;
    mc->credit_ms = loop_now_ms(home->loop);
    session_init(&mc->session, &home->front->settings.session);
    timer_init(&mc->timer, home->loop, on_timer);
    mc->next = home->conns;
    if (mc->next != NULL) {
        mc->next->prev = mc;
    }
    home->conns = mc;
    conn_set_user(net, mc);
    return ST_OK;
}

static void aliases_free(struct mqtt_conn *mc)
{
    for (unsigned i = 0; mc->aliases != NULL && i < mc->home->front->settings.alias_max; i++) {
        free(mc->aliases[i].topic);
    }
    free(mc->aliases);
}

void mqtt_conn_free(struct mqtt_conn *mc)
{
    timer_stop(&mc->timer);
    if (mc->prev != NULL) {
        mc->prev->next = mc->next;
    } else {
        mc->home->conns = mc->next;
    }
    if (mc->next != NULL) {
        mc->next->prev = mc->prev;
    }
    leave_free(mc->leave);
    link_unref(mc->link);
    session_release(&mc->session);
    acks_release(&mc->acks);
    aliases_free(mc);
    free(mc);
}

struct mqtt_conn *mqtt_conn_find(struct mqtt_loop *home, uint64_t id)
{
    struct conn *net = conn_find(home->loop, id);
    return net != NULL ? conn_user(net) : NULL;
}

// --- ending ------------------------------------------------------------------------------------------------------

static void send_disconnect(struct mqtt_conn *mc, uint8_t reason, const char *text)
{
    struct mqtt_packet p;
    p.type = MQTT_DISCONNECT;
    p.u.disconnect = (struct mqtt_disconnect){.reason = reason};
    p.u.disconnect.props.present = MQTT_P_REASON_STRING;
    p.u.disconnect.props.reason_string = slice_str(text);
    mqtt_conn_send(mc, &p);
}

void mqtt_conn_end(struct mqtt_conn *mc, uint8_t reason, const char *why, const char *text)
{
    if (mc->state == MS_CLOSING) {
        return;
    }
    if (mc->version == MQTT_V5 && (mc->state == MS_OPEN || mc->state == MS_ENDING)) {
        send_disconnect(mc, reason, text);
    }
    mc->state = MS_CLOSING;
    mc->why = why;
    snprintf(mc->detail, sizeof(mc->detail), "%s", text);
    timer_stop(&mc->timer);
    conn_close(mc->net, text);
}

bool mqtt_conn_source_may(const struct mqtt_conn *mc)
{
    uint64_t source = rate_source(slice_str(conn_peer_addr(mc->net)), (struct slice){NULL, 0});
    return rate_take(mc->home->front->connects, source, clock_mono_us());
}

// Strangers do not fill the log: beyond the connect rate of their address their mistakes are not worth a line.
static bool worth_a_line(const struct mqtt_conn *mc)
{
    return mc->state != MS_NEW || mqtt_conn_source_may(mc);
}

void mqtt_conn_violation(struct mqtt_conn *mc, uint8_t reason, const char *text)
{
    if (worth_a_line(mc)) {
        log_info("mqtt", "protocol error", LOGU("conn", conn_id(mc->net)), LOGS("peer", conn_peer_addr(mc->net)),
                 LOGS("device", mc->link != NULL ? mc->link->who.name : ""), LOGS("error", text));
    }
    mqtt_conn_end(mc, reason, "protocol_error", text);
}

// --- time --------------------------------------------------------------------------------------------------------

static void on_timer(struct timer *t)
{
    struct mqtt_conn *mc = (struct mqtt_conn *)((char *)t - offsetof(struct mqtt_conn, timer));
    if (mc->who == WHO_CLAIM) {
        mqtt_conn_end(mc, MQTT_RC_CONNECT_TIME, "claim_timeout", "a claim's connection is for enrolling only");
        return;
    }
    int64_t silent_ms = loop_now_ms(mc->home->loop) - mc->last_in_ms;
    if (mc->held || silent_ms < (int64_t)mc->silence_ms) {
        // Held: its packets may wait in the kernel, so silence proves nothing.
        int64_t left = mc->held ? (int64_t)mc->silence_ms : (int64_t)mc->silence_ms - silent_ms;
        timer_start(t, (uint32_t)left, 0);
        return;
    }
    mqtt_conn_end(mc, MQTT_RC_KEEP_ALIVE, "keep_alive", "nothing came for 1.5 times the keep-alive");
}

// --- input -------------------------------------------------------------------------------------------------------

// The client's credit now. Reckoned when it is asked for: no timer per connection.
static int64_t credit(struct mqtt_conn *mc)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    int64_t now_ms = loop_now_ms(mc->home->loop);
    int64_t full = (int64_t)s->publish_burst * ONE;
    int64_t gained = (now_ms - mc->credit_ms) * s->publish_rate;
    mc->credit = gained > full - mc->credit ? full : mc->credit + gained;
    mc->credit_ms = now_ms;
    return mc->credit;
}

void mqtt_conn_charge(struct mqtt_conn *mc)
{
    if (mc->home->front->settings.publish_rate > 0) {
        mc->credit = credit(mc) - ONE;
    }
}

static bool too_fast(struct mqtt_conn *mc)
{
    struct mqtt_loop *home = mc->home;
    if (home->front->settings.publish_rate == 0 || mc->state != MS_OPEN || credit(mc) >= ONE) {
        return false;
    }
    if (!home->throttle.armed) {
        timer_start(&home->throttle, THROTTLE_MS, 0);
    }
    return true;
}

void mqtt_throttle_due(struct timer *t)
{
    struct mqtt_loop *home = (struct mqtt_loop *)((char *)t - offsetof(struct mqtt_loop, throttle));
    for (struct mqtt_conn *mc = home->conns; mc != NULL; mc = mc->next) {
        if (mc->held) {
            mqtt_conn_hold(mc); // starts the timer again when one of them must still wait
        }
    }
}

static bool wants_hold(struct mqtt_conn *mc)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    if (mc->state == MS_CONNECTING || mc->state == MS_ENDING) {
        return true;
    }
    // Once held for its unanswered messages, half of them must be answered first: not a pause and a start for each.
    uint32_t acks_max = mc->held ? s->receive_max / 2u : s->receive_max;
    bool slow = mc->version != MQTT_V5 && mc->acks.len > 0 && mc->acks.len >= acks_max;
    return slow || mc->requests >= REQUESTS_MAX || mc->home->congested || too_fast(mc);
}

void mqtt_conn_hold(struct mqtt_conn *mc)
{
    bool hold = wants_hold(mc);
    if (hold && !mc->held) {
        conn_pause(mc->net);
    } else if (!hold && mc->held) {
        conn_resume(mc->net);
    }
    mc->held = hold;
}

static bool on_first_not_connect(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "the first packet is not a CONNECT (3.1.0-1)");
    return true;
}

static bool on_second_connect(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a second CONNECT (3.1.0-2)");
    return true;
}

static void on_undecodable(struct mqtt_conn *mc, const struct mqtt_packet *p, const struct mqtt_error *err)
{
    if (mc->state == MS_NEW && p->type == MQTT_CONNECT) {
        mqtt_connect_malformed(mc, p->u.connect.version, err);
    } else if (p->type == MQTT_CONNECT) {
        on_second_connect(mc, p); // whatever else is wrong with it; its reasons do not exist in DISCONNECT
    } else {
        mqtt_conn_violation(mc, err->reason, err->text);
    }
}

size_t mqtt_conn_input(struct mqtt_conn *mc, struct slice in)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    struct mqtt_packet p;
    size_t used = 0;
    mc->last_in_ms = loop_now_ms(mc->home->loop);
    while (mc->state != MS_CLOSING && !mc->held) {
        const struct mqtt_limits *limits = mc->state == MS_OPEN ? &s->limits : &s->limits_before_auth;
        struct mqtt_error err = {0, ""};
        size_t n = 0;
        enum mqtt_result r = mqtt_decode(slice_from(in, used), mc->version, limits, &p, &n, NULL, &err);
        if (r == MQTT_MORE) {
            if (mc->state == MS_NEW && in.len > 0 && p.type != MQTT_CONNECT) {
                on_first_not_connect(mc, &p); // a stranger's bytes are not gathered in vain
            }
            return used;
        }
        if (r == MQTT_BAD) {
            on_undecodable(mc, &p, &err);
            break;
        }
        if (!mqtt_actions[mc->state][p.type](mc, &p)) {
            break;
        }
        used += n;
        mqtt_conn_hold(mc);
    }
    return mc->state == MS_CLOSING ? in.len : used;
}

// --- the table ---------------------------------------------------------------------------------------------------

static bool on_servers_packet(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a packet that only servers send");
    return true;
}

static bool on_qos2_packet(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a QoS 2 acknowledgement without a QoS 2 message");
    return true;
}

static bool on_auth(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH without an authentication method in CONNECT (4.12-1)");
    return true;
}

static bool on_pingreq(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    static const struct mqtt_packet pong = {.type = MQTT_PINGRESP};
    mqtt_conn_send(mc, &pong);
    return true;
}

static bool on_disconnect(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_disconnect *d = &p->u.disconnect;
    if (MQTT_HAS(&d->props, MQTT_P_SESSION_EXPIRY) && d->props.session_expiry != 0 && !mc->session_expiry) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR,
                            "a session expiry in DISCONNECT after none in CONNECT (3.14.2.2.2)");
        return true;
    }
    char text[64] = "";
    if (d->reason != MQTT_RC_SUCCESS) {
        snprintf(text, sizeof(text), "the client gave reason 0x%02x", d->reason);
    }
    mc->state = MS_CLOSING;
    mc->why = "client_disconnect";
    snprintf(mc->detail, sizeof(mc->detail), "%s", text);
    timer_stop(&mc->timer);
    conn_close(mc->net, "");
    return true;
}

// The packet waits: it is offered again when the state has changed.
static bool on_early(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)mc;
    (void)p;
    return false;
}

static bool on_late(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)mc;
    (void)p;
    return true;
}

#define ALL(action)                                                                                                    \
    {                                                                                                                  \
        action, action, action, action, action, action, action, action, action, action, action, action, action,        \
            action, action, action                                                                                     \
    }
const mqtt_action mqtt_actions[MS__COUNT][16] = {
    [MS_NEW] =
        {
            [0] = on_first_not_connect,
            [MQTT_CONNECT] = mqtt_on_connect,
            [MQTT_CONNACK] = on_first_not_connect,
            [MQTT_PUBLISH] = on_first_not_connect,
            [MQTT_PUBACK] = on_first_not_connect,
            [MQTT_PUBREC] = on_first_not_connect,
            [MQTT_PUBREL] = on_first_not_connect,
            [MQTT_PUBCOMP] = on_first_not_connect,
            [MQTT_SUBSCRIBE] = on_first_not_connect,
            [MQTT_SUBACK] = on_first_not_connect,
            [MQTT_UNSUBSCRIBE] = on_first_not_connect,
            [MQTT_UNSUBACK] = on_first_not_connect,
            [MQTT_PINGREQ] = on_first_not_connect,
            [MQTT_PINGRESP] = on_first_not_connect,
            [MQTT_DISCONNECT] = on_first_not_connect,
            [MQTT_AUTH] = on_first_not_connect,
        },
    [MS_CONNECTING] = ALL(on_early),
    [MS_OPEN] =
        {
            [0] = on_servers_packet, // the decoder lets no type 0 through
            [MQTT_CONNECT] = on_second_connect,
            [MQTT_CONNACK] = on_servers_packet,
            [MQTT_PUBLISH] = mqtt_on_publish,
            [MQTT_PUBACK] = mqtt_on_puback,
            [MQTT_PUBREC] = on_qos2_packet,
            [MQTT_PUBREL] = on_qos2_packet,
            [MQTT_PUBCOMP] = on_qos2_packet,
            [MQTT_SUBSCRIBE] = mqtt_on_subscribe,
            [MQTT_SUBACK] = on_servers_packet,
            [MQTT_UNSUBSCRIBE] = mqtt_on_unsubscribe,
            [MQTT_UNSUBACK] = on_servers_packet,
            [MQTT_PINGREQ] = on_pingreq,
            [MQTT_PINGRESP] = on_servers_packet,
            [MQTT_DISCONNECT] = on_disconnect,
            [MQTT_AUTH] = on_auth,
        },
    [MS_ENDING] = ALL(on_early),
    [MS_CLOSING] = ALL(on_late),
};

void mqtt_conn_send(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    // Without room the buffer is marked failed, and the connection overflows when it is flushed.
    (void)mqtt_encode(conn_out(mc->net), mc->version, p);
    conn_flush_later(mc->net);
}
