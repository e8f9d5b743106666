// CONNECT: one operation decides who this is and makes the device present; CONNACK leaves after its commit.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "domain/identity/identity.h"
#include "domain/presence/presence.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/mqtt_conn.h"
#include "front/mqtt/reason.h"
#include "net/crypto.h"

#define CLIENT_ID_MAX 128

struct connect_op {
    struct op op;
    struct mqtt_loop *home;
    uint64_t conn;
    struct link *link;
    struct leave *leave;
    struct credential cred; // slices into bytes
    struct presence_info info;
    struct device_ref device;
    bool id_assigned, keep_alive_told;
    uint16_t keep_alive_s;
    uint8_t cert_sha256[SHA256_LEN];
    char tls[96];
    uint8_t tls_texts[2 * (ID_MAX + 1)]; // PSK identity, tenant
    size_t bytes_len;
    uint8_t bytes[];
};

static void connect_op_free(struct connect_op *co)
{
    link_unref(co->link);
    leave_free(co->leave);
    crypto_wipe(co->bytes, co->bytes_len);
    free(co);
}

// --- refusals ----------------------------------------------------------------------------------------------------

static void send_connack(struct mqtt_conn *mc, const struct mqtt_connack *ack)
{
    struct mqtt_packet p;
    p.type = MQTT_CONNACK;
    p.u.connack = *ack;
    mqtt_conn_send(mc, &p);
}

static void refuse(struct mqtt_conn *mc, uint8_t reason, const char *text, const char *log_text)
{
    struct mqtt_connack ack = {.reason = mc->version == MQTT_V5 ? reason : reason_connack_v311(reason)};
    ack.props.present = MQTT_P_REASON_STRING;
    ack.props.reason_string = slice_str(text);
    send_connack(mc, &ack);
    counter_add(COUNT_CONNECTS_REFUSED, 1);
    log_info("mqtt", "connect refused", LOGU("conn", conn_id(mc->net)), LOGS("peer", conn_peer_addr(mc->net)),
             LOGS("error", log_text));
    mqtt_conn_end(mc, reason, "connect_refused", text);
}

void mqtt_connect_malformed(struct mqtt_conn *mc, enum mqtt_version v, const struct mqtt_error *err)
{
    bool known = v != 0; // else there is no form to answer in
    mc->version = known ? v : mc->version;
    if (known && (v == MQTT_V5 || err->reason == MQTT_RC_BAD_VERSION)) {
        refuse(mc, err->reason, err->text, err->text);
        return;
    }
    counter_add(COUNT_CONNECTS_REFUSED, 1);
    mqtt_conn_violation(mc, err->reason, err->text); // 3.1.1 has no answer for it: the connection is closed (4.8)
}

static bool version_unknown(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return c->version == MQTT_V31;
}

static bool stopping(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)c;
    return atomic_load_explicit(&mc->home->front->stopping, memory_order_relaxed);
}

static bool too_often(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)c;
    const struct mqtt_front *f = mc->home->front;
    return (f->settings.limit_loopback || !conn_peer_is_loopback(mc->net)) && !mqtt_conn_source_may(mc);
}

static bool enhanced_auth(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return MQTT_HAS(&c->props, MQTT_P_AUTH_METHOD);
}

static bool no_id_to_resume(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return c->client_id.len == 0 && c->version != MQTT_V5 && !c->clean_start;
}

static bool bad_client_id(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    for (size_t i = 0; i < c->client_id.len; i++) {
        if (c->client_id.p[i] < 0x20 || c->client_id.p[i] == 0x7f) {
            return true;
        }
    }
    return c->client_id.len > CLIENT_ID_MAX;
}

static bool will_qos2(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return c->has_will && c->will_qos > 1;
}

static bool will_retained(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return c->has_will && c->will_retain;
}

static bool any_will(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return c->has_will;
}

// What a well-formed CONNECT may not ask for, in the order of checking.
static const struct {
    bool (*broken)(const struct mqtt_conn *mc, const struct mqtt_connect *c);
    uint8_t reason;
    const char *text;
} checks[] = {
    {version_unknown, MQTT_RC_BAD_VERSION, "MQTT 3.1 is not spoken here; use 3.1.1 or 5.0"},
    {stopping, MQTT_RC_SERVER_UNAVAILABLE, "the server is shutting down"},
    {too_often, MQTT_RC_CONN_RATE, "too many connects from this address; try again later"},
    {enhanced_auth, MQTT_RC_BAD_AUTH_METHOD,
     "no authentication method is supported; use a certificate or user name and password"},
    {no_id_to_resume, MQTT_RC_BAD_CLIENT_ID, "a client without an id needs a clean session (3.1.3-8)"},
    {bad_client_id, MQTT_RC_BAD_CLIENT_ID, "a client id has at most 128 bytes and no control characters"},
    {will_qos2, MQTT_RC_NO_QOS, "QoS 2 is not supported"},
    {will_retained, MQTT_RC_NO_RETAIN, "retained messages are not supported"},
    {any_will, MQTT_RC_NOT_AUTHORIZED, "no topic here takes a will; presence says when a device is gone"},
};

// --- the operation -----------------------------------------------------------------------------------------------

static enum status connect_run(struct tx *tx, struct op *op, struct err *err)
{
    struct connect_op *co = (struct connect_op *)op;
    struct principal *who = &co->link->who;
    enum status s = identity_authenticate(tx, &co->cred, who, &co->device, err);
    if (s == ST_UNAUTHENTICATED) {
        identity_auth_failed(tx->core, co->cred.peer_addr);
    }
    if (s != ST_OK) {
        return s;
    }
    tx->who = who; // from here on the device itself acts
    if (who->kind != WHO_DEVICE) {
        return ST_OK;
    }
    return presence_connected(tx, co->link, &co->device, &co->info, err);
}

static void connack(struct mqtt_conn *mc, const struct connect_op *co)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    struct mqtt_connack ack = {.reason = MQTT_RC_SUCCESS};
    struct mqtt_props *p = &ack.props;
    p->present = MQTT_P_MAX_QOS | MQTT_P_RETAIN_AVAILABLE | MQTT_P_WILDCARD_AVAILABLE | MQTT_P_SUB_ID_AVAILABLE |
                 MQTT_P_SHARED_AVAILABLE | MQTT_P_RECEIVE_MAX | MQTT_P_ALIAS_MAX | MQTT_P_MAX_PACKET;
    p->max_qos = 1; // the others stay 0: not available
    p->receive_max = s->receive_max;
    p->alias_max = s->alias_max;
    p->max_packet = s->limits.packet_max;
    if (mc->session_expiry) {
        p->present |= MQTT_P_SESSION_EXPIRY; // 0: the session ends with the connection, whatever was asked for
    }
    if (co->id_assigned) {
        p->present |= MQTT_P_ASSIGNED_ID;
        p->assigned_id = co->cred.client_id;
    }
    if (co->keep_alive_told) {
        p->present |= MQTT_P_SERVER_KEEP_ALIVE;
        p->server_keep_alive = co->keep_alive_s;
    }
    send_connack(mc, &ack);
}

static void accepted(struct mqtt_conn *mc, struct connect_op *co)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    mc->who = mc->link->who.kind;
    mc->state = MS_OPEN;
    conn_authenticated(mc->net);
    connack(mc, co);
    counter_add(COUNT_CONNECTS_ACCEPTED, 1);
    log_debug("mqtt", "connected", LOGS("device", mc->link->who.name), LOGU("conn", co->conn),
              LOGS("peer", conn_peer_addr(mc->net)));
    mc->last_in_ms = loop_now_ms(mc->home->loop);
    mc->silence_ms = co->keep_alive_s * 1500u;
    if (mc->who == WHO_CLAIM) {
        timer_start(&mc->timer, s->claim_timeout_ms, 0);
    } else if (mc->silence_ms > 0) {
        timer_start(&mc->timer, mc->silence_ms, 0);
    }
    if (stopping(mc, NULL)) {
        mqtt_conn_end(mc, MQTT_RC_SHUTTING_DOWN, "server_shutdown", "the server is shutting down");
    }
    mqtt_conn_hold(mc);
}

// The link and the duty to take the device offline go to the connection, also when it is closing already.
static void hand_over(struct mqtt_conn *mc, struct connect_op *co)
{
    mc->link = co->link;
    co->link = NULL;
    if (mc->link->who.kind == WHO_DEVICE) {
        mc->leave = co->leave;
        co->leave = NULL;
    }
}

static void connect_done(struct op *op)
{
    struct connect_op *co = (struct connect_op *)op;
    struct mqtt_conn *mc = mqtt_conn_find(co->home, co->conn);
    if (op->status == ST_OK && mc == NULL) {
        if (co->link->who.kind == WHO_DEVICE) {
            leave_submit(co->leave, co->link, "peer_closed", "before the server had answered");
            co->leave = NULL;
        }
    } else if (op->status == ST_OK) {
        hand_over(mc, co);
        if (mc->state == MS_CONNECTING) {
            accepted(mc, co);
        }
    } else if (mc != NULL && mc->state == MS_CONNECTING) {
        bool wrong = op->status == ST_UNAUTHENTICATED; // a stranger does not learn what was wrong
        refuse(mc, reason_connack(MQTT_V5, op->status),
               wrong ? "unknown or wrong credential" : reason_say(op->status, &op->err), op->err.text);
    }
    connect_op_free(co);
}

// --- making it ---------------------------------------------------------------------------------------------------

// A copy in the operation's own memory; absent stays absent.
static struct slice keep(struct buf *b, struct slice s)
{
    size_t at = b->len;
    buf_slice(b, s);
    return s.p != NULL ? slice_from(buf_view(b), at) : s;
}

static void describe_tls(struct connect_op *co, const struct tls_peer *peer)
{
    if (peer == NULL) {
        return;
    }
    snprintf(co->tls, sizeof(co->tls), "%s %s", peer->version, peer->cipher);
    if (peer->has_cert) {
        struct buf b = buf_fixed(co->cert_sha256, sizeof(co->cert_sha256));
        buf_put(&b, peer->cert_sha256, sizeof(peer->cert_sha256));
        co->cred.cert_sha256 = co->cert_sha256;
    }
    struct buf texts = buf_fixed(co->tls_texts, sizeof(co->tls_texts));
    co->cred.psk_identity = keep(&texts, slice_str(peer->psk_identity));
    co->cred.tenant = keep(&texts, slice_str(peer->tenant));
}

// An absent user name or password stays {NULL, 0}; an empty one that was sent has p != NULL.
static struct slice sent(bool has, struct slice s)
{
    return has ? slice_make(s.p != NULL ? (const void *)s.p : "", s.len) : (struct slice){NULL, 0};
}

static void fill_credential(struct connect_op *co, const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    struct buf b = buf_fixed(co->bytes, co->bytes_len);
    char assigned[32];
    struct slice id = c->client_id;
    if (id.len == 0) {
        snprintf(assigned, sizeof(assigned), "auto-%016llx", (unsigned long long)rand_u64());
        id = slice_str(assigned);
        co->id_assigned = true;
    }
    co->cred.client_id = keep(&b, id);
    co->cred.username = keep(&b, sent(c->has_username, c->username));
    co->cred.password = keep(&b, sent(c->has_password, c->password));
    co->cred.peer_addr = keep(&b, slice_str(conn_peer_addr(mc->net)));
}

static struct connect_op *connect_op_new(struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    size_t len = c->client_id.len + c->username.len + c->password.len + strlen(conn_peer_addr(mc->net)) + 32;
    struct connect_op *co = calloc(1, sizeof(*co) + len);
    if (co == NULL) {
        return NULL;
    }
    co->bytes_len = len;
    co->home = mc->home;
    co->conn = conn_id(mc->net);
    co->link = link_new(mc->home->loop, co->conn, mqtt_deliver);
    co->leave = leave_new(mc->home->front->core);
    if (co->link == NULL || co->leave == NULL) {
        connect_op_free(co);
        return NULL;
    }
    fill_credential(co, mc, c);
    describe_tls(co, conn_tls(mc->net));
    co->op = (struct op){.run = connect_run, .done = connect_done, .reply_to = mc->home->loop, .name = "mqtt.connect"};
    return co;
}

// MQTT 5 clients are told the keep-alive to use; those of 3.1.1 cannot be told, theirs counts.
static void choose_keep_alive(struct connect_op *co, const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    uint16_t max = mc->home->front->settings.keep_alive_max_s;
    co->keep_alive_told = c->version == MQTT_V5 && (c->keep_alive_s == 0 || c->keep_alive_s > max);
    co->keep_alive_s = co->keep_alive_told ? max : c->keep_alive_s;
    co->info = (struct presence_info){.address = co->cred.peer_addr,
                                      .protocol = c->version == MQTT_V5 ? SLICE("mqtt5") : SLICE("mqtt3.1.1"),
                                      .client_id = co->cred.client_id,
                                      .tls = slice_str(co->tls),
                                      .keep_alive_s = co->keep_alive_s};
}

static void remember_wishes(struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    const struct mqtt_props *p = &c->props;
    mc->problem_info = !MQTT_HAS(p, MQTT_P_REQUEST_PROBLEM) || p->request_problem == 1;
    mc->session_expiry = MQTT_HAS(p, MQTT_P_SESSION_EXPIRY) && p->session_expiry != 0;
    mc->packet_max = MQTT_HAS(p, MQTT_P_MAX_PACKET) ? p->max_packet : 0;
    if (MQTT_HAS(p, MQTT_P_RECEIVE_MAX) && p->receive_max < mc->session.limits.window) {
        mc->session.limits.window = p->receive_max;
    }
}

bool mqtt_on_connect(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_connect *c = &p->u.connect;
    mc->version = c->version;
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (checks[i].broken(mc, c)) {
            refuse(mc, checks[i].reason, checks[i].text, checks[i].text);
            return true;
        }
    }
    struct connect_op *co = connect_op_new(mc, c);
    if (co == NULL) {
        refuse(mc, MQTT_RC_QUOTA, "the server is out of memory", "no memory");
        return true;
    }
    choose_keep_alive(co, mc, c);
    remember_wishes(mc, c);
    mc->state = MS_CONNECTING;
    core_submit(mc->home->front->core, &co->op);
    return true;
}
