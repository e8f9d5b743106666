#include "front/mqtt/mqtt_conn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/mqtt/connect.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/looking.h"

#define THROTTLE_MS 50

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
    mc->expiry_s = BROKER_EXPIRY_KEEP;
    mc->window = home->front->settings.send_max;
    mqtt_marks_read(0, mc->granted);
    timer_init(&mc->timer, home->loop, on_timer);
    mc->next = home->conns;
    if (mc->next != NULL) {
        mc->next->prev = mc;
    }
    home->conns = mc;
    conn_set_user(net, mc);
    looking_accepted(mc);
    return ST_OK;
}

// What a shared subscription has sent here and was not acknowledged goes to another client (4.8.2).
static void give_back(struct mqtt_conn *mc)
{
    struct waiting *w;
    while (mc->out != NULL && (w = outbox_give_back(mc->out)) != NULL) {
        broker_give_back(mc->home->broker, message_ref(w->msg), w->share);
        waiting_free(w);
    }
}

void mqtt_conn_detach(struct mqtt_conn *mc)
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
    mc->next = mc->prev = NULL;
    mc->net = NULL;
    if (mc->link != NULL) {
        mc->link->front = NULL;
        broker_slow_room(mc->home->broker, mc->session, mc->link, &mc->slow, true);
        broker_more(mc->home->broker, mc->link);
    }
    give_back(mc);
    auth_end(mc);
}

void mqtt_conn_free(struct mqtt_conn *mc)
{
    broker_session_unref(mc->session);
    permit_unref(mc->permit);
    if (mc->counted) {
        quota_give(mc->home->front->quotas, mc->link->who.tenant, QUOTA_CONNECTIONS, 1);
    }
    link_unref(mc->link);
    outbox_free(mc->out);
    alias_free(mc->aliases_in, mc->home->front->settings.alias_max);
    alias_out_free(mc->aliases_out);
    acks_release(&mc->acks);
    ids_release(&mc->inbound);
    free(mc->detail);
    free(mc);
}

struct mqtt_conn *mqtt_conn_find(struct mqtt_loop *home, uint64_t id)
{
    struct conn *net = conn_find(home->loop, id);
    return net != NULL ? conn_user(net) : NULL;
}

const char *mqtt_conn_name(const struct mqtt_conn *mc)
{
    return mc->entered || mc->who != WHO_NOBODY ? mc->link->who.name : "";
}

// --- ending ------------------------------------------------------------------------------------------------------

static void send_disconnect(struct mqtt_conn *mc, uint8_t reason, const char *text, const char *reference)
{
    struct mqtt_packet p;
    p.type = MQTT_DISCONNECT;
    p.u.disconnect = (struct mqtt_disconnect){.reason = reason};
    struct mqtt_props *props = &p.u.disconnect.props;
    if (mc->problem_info && (mc->packet_max == 0 || strlen(text) + 16 <= mc->packet_max)) {
        props->present = MQTT_P_REASON_STRING;
        props->reason_string = slice_str(text);
    }
    if (reference != NULL) {
        props->present |= MQTT_P_SERVER_REF;
        props->server_ref = slice_str(reference);
    }
    mqtt_conn_send(mc, &p);
}

// The connection is over, whatever was said.
static void close_with(struct mqtt_conn *mc, const char *why, const char *text)
{
    mc->state = MS_CLOSING;
    mc->why = why;
    mc->detail = text[0] != '\0' ? strdup(text) : NULL; // without memory the reason alone is kept
    timer_stop(&mc->timer);
    conn_close(mc->net, text);
}

static void end_with(struct mqtt_conn *mc, uint8_t reason, const char *why, const char *text, const char *reference)
{
    if (mc->state == MS_CLOSING) {
        return;
    }
    if (mc->version == MQTT_V5 && (mc->state == MS_OPEN || mc->state == MS_ENDING)) {
        send_disconnect(mc, reason, text, reference);
    }
    close_with(mc, why, text);
}

void mqtt_conn_end(struct mqtt_conn *mc, uint8_t reason, const char *why, const char *text)
{
    end_with(mc, reason, why, text, NULL);
}

void mqtt_conn_stop(struct mqtt_conn *mc)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    bool elsewhere = s->redirect_to[0] != '\0';
    uint8_t reason = !elsewhere ? MQTT_RC_SHUTTING_DOWN : s->redirect != 0 ? s->redirect : MQTT_RC_USE_ANOTHER;
    end_with(mc, reason, "server_shutdown", "the server is shutting down", elsewhere ? s->redirect_to : NULL);
}

void mqtt_conn_no_memory(struct mqtt_conn *mc, const char *text)
{
    mqtt_conn_end(mc, MQTT_RC_QUOTA, "no_memory", text);
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
                 LOGS("client", mqtt_conn_name(mc)), LOGS("error", text));
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
    bool stuck = conn_out_len(mc->net) > 0;
    mqtt_conn_end(mc, MQTT_RC_KEEP_ALIVE, "keep_alive", "nothing came for 1.5 times the keep-alive");
    if (stuck) { // it takes nothing either: waiting for that would keep it alive beyond its time
        conn_abort(mc->net, CLOSE_TIMEOUT, "");
    }
}

// --- input -------------------------------------------------------------------------------------------------------

static int64_t now_us(const struct mqtt_conn *mc)
{
    return loop_now_ms(mc->home->loop) * 1000;
}

// Held for its rate: looked at again when the shortest wait is over, at least every THROTTLE_MS.
static void throttle(struct mqtt_loop *home)
{
    if (!home->throttle.armed) {
        timer_start(&home->throttle, THROTTLE_MS, 0);
    }
}

void mqtt_conn_charge(struct mqtt_conn *mc, size_t bytes)
{
    mc->too_fast = quota_message(&mc->quota, mc->home->quotas, bytes, now_us(mc)) > 0;
}

static bool too_fast(struct mqtt_conn *mc)
{
    if (!mc->too_fast || mc->state != MS_OPEN) {
        return false;
    }
    mc->too_fast = quota_wait(&mc->quota, mc->home->quotas, now_us(mc)) > 0;
    if (mc->too_fast) {
        throttle(mc->home);
    }
    return mc->too_fast;
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
    return slow || mc->publish_waits || mc->requests >= REQUESTS_MAX || mc->home->congested || too_fast(mc);
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
        struct slice rest = slice_from(in, used);
        enum mqtt_result r = mqtt_decode(rest, mc->version, limits, &p, &n, NULL, &err);
        if (r == MQTT_MORE) {
            if (mc->state == MS_NEW && in.len > 0 && p.type != MQTT_CONNECT) {
                on_first_not_connect(mc, &p); // a stranger's bytes are not gathered in vain
            }
            return used;
        }
        if (r == MQTT_BAD) {
            looking_bad(mc, rest, err.text);
            on_undecodable(mc, &p, &err);
            break;
        }
        mc->home->packet = slice_head(rest, n);
        bool held_back = mc->state == MS_CONNECTING || mc->state == MS_ENDING; // it comes again
        if (mc->home->looking && !held_back) {
            if (p.type == MQTT_CONNECT) {
                looking_connect(mc, &p.u.connect);
            }
            looking_in(mc, mc->home->packet);
        }
        if (!mqtt_actions[mc->state][p.type](mc, &p)) {
            mqtt_conn_hold(mc);
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

static bool on_not_auth(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "before CONNACK only AUTH and DISCONNECT may follow (3.1.2-30)");
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
    if (MQTT_HAS(&d->props, MQTT_P_SESSION_EXPIRY)) {
        if (d->props.session_expiry != 0 && mc->expiry_zero) {
            mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR,
                                "a session expiry in DISCONNECT after none in CONNECT (3.1.2.11.2)");
            return true;
        }
        mc->expiry_s = d->props.session_expiry == BROKER_EXPIRY_KEEP ? UINT32_MAX : d->props.session_expiry;
    }
    mc->will_off = d->reason == MQTT_RC_SUCCESS; // 3.14.4-3
    char text[64] = "";
    if (d->reason != MQTT_RC_SUCCESS) {
        snprintf(text, sizeof(text), "the client gave reason 0x%02x", d->reason);
    }
    close_with(mc, "client_disconnect", text);
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
    [MS_AUTHENTICATING] =
        {
            [0] = on_not_auth,
            [MQTT_CONNECT] = on_second_connect,
            [MQTT_CONNACK] = on_not_auth,
            [MQTT_PUBLISH] = on_not_auth,
            [MQTT_PUBACK] = on_not_auth,
            [MQTT_PUBREC] = on_not_auth,
            [MQTT_PUBREL] = on_not_auth,
            [MQTT_PUBCOMP] = on_not_auth,
            [MQTT_SUBSCRIBE] = on_not_auth,
            [MQTT_SUBACK] = on_not_auth,
            [MQTT_UNSUBSCRIBE] = on_not_auth,
            [MQTT_UNSUBACK] = on_not_auth,
            [MQTT_PINGREQ] = on_not_auth,
            [MQTT_PINGRESP] = on_not_auth,
            [MQTT_DISCONNECT] = on_disconnect,
            [MQTT_AUTH] = mqtt_on_auth,
        },
    [MS_CONNECTING] = ALL(on_early),
    [MS_OPEN] =
        {
            [0] = on_servers_packet, // the decoder lets no type 0 through
            [MQTT_CONNECT] = on_second_connect,
            [MQTT_CONNACK] = on_servers_packet,
            [MQTT_PUBLISH] = mqtt_on_publish,
            [MQTT_PUBACK] = mqtt_on_puback,
            [MQTT_PUBREC] = mqtt_on_pubrec,
            [MQTT_PUBREL] = mqtt_on_pubrel,
            [MQTT_PUBCOMP] = mqtt_on_pubcomp,
            [MQTT_SUBSCRIBE] = mqtt_on_subscribe,
            [MQTT_SUBACK] = on_servers_packet,
            [MQTT_UNSUBSCRIBE] = mqtt_on_unsubscribe,
            [MQTT_UNSUBACK] = on_servers_packet,
            [MQTT_PINGREQ] = on_pingreq,
            [MQTT_PINGRESP] = on_servers_packet,
            [MQTT_DISCONNECT] = on_disconnect,
            [MQTT_AUTH] = mqtt_on_reauth,
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

void mqtt_conn_send_ack(struct mqtt_conn *mc, enum mqtt_type type, uint16_t packet_id, uint8_t reason, const char *text)
{
    bool wanted = text != NULL && mc->problem_info && (mc->packet_max == 0 || strlen(text) + 16 <= mc->packet_max);
    (void)mqtt_encode_ack(conn_out(mc->net), mc->version, type, packet_id, reason, wanted ? text : NULL);
    conn_flush_later(mc->net);
}
