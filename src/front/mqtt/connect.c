// CONNECT: one operation decides who this is and makes the device present; CONNACK leaves after its commit.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "domain/policy/ban.h"
#include "domain/policy/policy.h"
#include "domain/presence/presence.h"
#include "front/mqtt/connect.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/leave.h"
#include "front/mqtt/looking.h"
#include "front/mqtt/reason.h"
#include "net/crypto.h"

#define CLIENT_ID_MAX 128

struct connect_op {
    struct op op;
    struct mqtt_loop *home;
    uint64_t conn;
    struct link *link;
    struct leave *leave;
    struct mqtt_packet packet; // slices into bytes
    struct credential cred;    // the same
    struct device_login login;
    struct presence_info info;
    struct device_ref device;
    bool id_assigned, keep_alive_told;
    bool banned;                       // why it failed
    bool counted;                      // as one of its tenant's connections
    char username[SCRAM_NAME_MAX + 1]; // of the exchange
    uint16_t keep_alive_s;
    uint16_t window;
    // What came of it.
    struct permit *permit;
    struct broker_session *session;
    bool present;
    uint32_t expiry_s, marks;
    uint16_t *inbound;
    size_t inbound_len;
    uint8_t cert_sha256[SHA256_LEN];
    char tls[96];
    uint8_t tls_texts[2 * (ID_MAX + 1)]; // PSK identity, tenant
    size_t bytes_len;
    uint8_t bytes[];
};

void connect_op_free(struct connect_op *co)
{
    if (co == NULL) {
        return;
    }
    if (co->counted && co->link != NULL) {
        quota_give(co->home->front->quotas, co->link->who.tenant, QUOTA_CONNECTIONS, 1);
    }
    link_unref(co->link);
    leave_free(co->leave);
    permit_unref(co->permit);
    broker_session_unref(co->session);
    free(co->inbound);
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

static void refuse_to(struct mqtt_conn *mc, uint8_t reason, const char *text, const char *log_text,
                      const char *reference)
{
    struct mqtt_connack ack = {.reason = mc->version == MQTT_V5 ? reason : reason_connack_v311(reason)};
    if (mc->problem_info && (mc->packet_max == 0 || strlen(text) + 16 <= mc->packet_max)) {
        ack.props.present = MQTT_P_REASON_STRING;
        ack.props.reason_string = slice_str(text);
    }
    if (reference != NULL) {
        ack.props.present |= MQTT_P_SERVER_REF;
        ack.props.server_ref = slice_str(reference);
    }
    send_connack(mc, &ack);
    counter_add(COUNT_CONNECTS_REFUSED, 1);
    looking_note(mc, "refused", log_text);
    log_info("mqtt", "connect refused", LOGU("conn", conn_id(mc->net)), LOGS("peer", conn_peer_addr(mc->net)),
             LOGS("error", log_text));
    mqtt_conn_end(mc, reason, "connect_refused", text);
}

void mqtt_connect_refuse(struct mqtt_conn *mc, uint8_t reason, const char *text, const char *log_text)
{
    refuse_to(mc, reason, text, log_text, NULL);
}

void mqtt_connect_malformed(struct mqtt_conn *mc, enum mqtt_version v, const struct mqtt_error *err)
{
    bool known = v != 0; // else there is no form to answer in
    mc->problem_info = true;
    mc->version = known ? v : mc->version;
    if (known && (v == MQTT_V5 || err->reason == MQTT_RC_BAD_VERSION)) {
        mqtt_connect_refuse(mc, err->reason, err->text, err->text);
        return;
    }
    counter_add(COUNT_CONNECTS_REFUSED, 1);
    mqtt_conn_violation(mc, err->reason, err->text); // 3.1.1 has no answer for it: the connection is closed (4.8)
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

static bool banned_address(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)c;
    return ban_address(mc->home->front->core, slice_str(conn_peer_addr(mc->net)));
}

static bool unknown_method(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return MQTT_HAS(&c->props, MQTT_P_AUTH_METHOD) && !auth_method_known(c->props.auth_method);
}

static bool method_without_data(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return MQTT_HAS(&c->props, MQTT_P_AUTH_METHOD) && !MQTT_HAS(&c->props, MQTT_P_AUTH_DATA);
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

static bool will_to_us(const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    (void)mc;
    return c->has_will && c->will_topic.len > 0 && c->will_topic.p[0] == '$';
}

// What a well-formed CONNECT may not ask for, in the order of checking.
static const struct {
    bool (*broken)(const struct mqtt_conn *mc, const struct mqtt_connect *c);
    uint8_t reason;
    const char *text;
} checks[] = {
    {stopping, MQTT_RC_SERVER_UNAVAILABLE, "the server is shutting down"},
    {too_often, MQTT_RC_CONN_RATE, "too many connects from this address; try again later"},
    {banned_address, MQTT_RC_BANNED, "this address is banned"},
    {unknown_method, MQTT_RC_BAD_AUTH_METHOD, "the authentication method is not SCRAM-SHA-256"},
    {method_without_data, MQTT_RC_NOT_AUTHORIZED, "the authentication data is missing: the client speaks first"},
    {no_id_to_resume, MQTT_RC_BAD_CLIENT_ID, "a client without an id needs a clean session (3.1.3-8)"},
    {bad_client_id, MQTT_RC_BAD_CLIENT_ID, "a client id has at most 128 bytes and no control characters"},
    {will_to_us, MQTT_RC_NOT_AUTHORIZED, "a will goes to no topic that begins with $"},
};

// --- the operation -----------------------------------------------------------------------------------------------

// A will is a publish: what may not be published now is refused now (and looked at again when it fires).
static enum status make_will(struct tx *tx, const struct connect_op *co, struct broker_will *ret, struct err *err)
{
    const struct mqtt_connect *c = &co->packet.u.connect;
    *ret = (struct broker_will){0};
    if (!c->has_will) {
        return ST_OK;
    }
    if (!permit_publish(co->permit, c->will_topic) || (c->will_retain && !permit_retain(co->permit, c->will_topic))) {
        return err_set(err, ST_FORBIDDEN, "the will's topic may not be published to");
    }
    const struct mqtt_publish will = {.qos = c->will_qos,
                                      .retain = c->will_retain,
                                      .topic = c->will_topic,
                                      .payload = c->will_payload,
                                      .props = c->will_props};
    ret->delay_s = MQTT_HAS(&c->will_props, MQTT_P_WILL_DELAY) ? c->will_props.will_delay : 0;
    ret->msg = message_new(co->link->who.tenant, 0, &will, c->will_topic, tx->now_us);
    return ret->msg != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for a will");
}

static enum status open_session(struct tx *tx, struct connect_op *co, struct err *err)
{
    const struct mqtt_connect *c = &co->packet.u.connect;
    enum status s = policy_permit(tx, &co->link->who, co->cred.client_id, &co->permit, err);
    struct broker_open in = {.client_id = co->cred.client_id,
                             .clean_start = c->clean_start,
                             .permit = co->permit,
                             .receive_max = co->window};
    if (c->version != MQTT_V5) {
        in.expiry_s = c->clean_start ? 0 : UINT32_MAX;
    } else if (MQTT_HAS(&c->props, MQTT_P_SESSION_EXPIRY)) {
        in.expiry_s = c->props.session_expiry;
    }
    if (s == ST_OK) {
        s = make_will(tx, co, &in.will, err);
    }
    if (s == ST_OK) {
        s = broker_open(tx, co->link, &in, &co->session, &co->present, &co->expiry_s, &co->inbound, &co->inbound_len,
                        err);
    }
    if (s == ST_OK) {
        co->marks = broker_session_marks(co->session);
    }
    return s;
}

// Before the credential is looked at, and when it is known who comes.
static enum status check_bans(struct tx *tx, struct connect_op *co, bool known, struct err *err)
{
    enum status s = ST_OK;
    if (known) {
        s = ban_check(tx, &co->link->who, co->cred.client_id, err);
    } else if (ban_address(tx->core, co->cred.peer_addr)) { // since the packet was read
        s = err_set(err, ST_FORBIDDEN, "this address is banned");
    } else if (co->login.state == LOGIN_NONE && !co->id_assigned) {
        s = ban_flapping(tx, co->cred.client_id, co->cred.peer_addr, err);
    }
    co->banned = s == ST_FORBIDDEN;
    return s;
}

static enum status authenticate(struct tx *tx, struct connect_op *co, struct err *err)
{
    enum status s = check_bans(tx, co, false, err);
    if (s != ST_OK) {
        return s;
    }
    s = identity_authenticate(tx, &co->cred, &co->link->who, &co->device, err);
    if (s == ST_UNAUTHENTICATED && co->login.state != LOGIN_ASKED) {
        identity_auth_failed(tx->core, co->cred.peer_addr);
    }
    return s == ST_OK ? check_bans(tx, co, true, err) : s;
}

static enum status count_connection(struct connect_op *co, struct err *err)
{
    co->counted = quota_take(co->home->front->quotas, co->link->who.tenant, QUOTA_CONNECTIONS, 1);
    return co->counted ? ST_OK : err_set(err, ST_LIMIT, "the tenant has as many connections as it may have");
}

static enum status connect_run(struct tx *tx, struct op *op, struct err *err)
{
    struct connect_op *co = (struct connect_op *)op;
    struct principal *who = &co->link->who;
    enum status s = authenticate(tx, co, err);
    if (s == ST_OK) {
        s = count_connection(co, err);
    }
    if (s != ST_OK) {
        return s;
    }
    tx->who = who; // from here on the device itself acts
    if (who->kind == WHO_DEVICE) {
        s = presence_connected(tx, co->link, &co->device, &co->info, err);
    }
    return s == ST_OK && who->kind != WHO_CLAIM ? open_session(tx, co, err) : s;
}

// Response information as configured, with the client id put in where it says so. False: there is none to give.
static bool response_information(const struct mqtt_settings *s, struct slice client_id, struct buf *out)
{
    static const char var[] = "${client.id}";
    const char *at = strstr(s->response_information, var);
    if (at == NULL) {
        buf_str(out, s->response_information);
    } else {
        buf_put(out, s->response_information, (size_t)(at - s->response_information));
        buf_slice(out, client_id);
        buf_str(out, at + sizeof(var) - 1);
    }
    return out->len > 0 && !out->failed;
}

static void connack(struct mqtt_conn *mc, const struct connect_op *co)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    const struct mqtt_props *asked = &co->packet.u.connect.props;
    char mem[512];
    struct buf info = buf_fixed(mem, sizeof(mem));
    struct mqtt_connack ack = {.reason = MQTT_RC_SUCCESS, .session_present = co->present && mc->version != MQTT_V31};
    struct mqtt_props *p = &ack.props;
    p->present = MQTT_P_RECEIVE_MAX | MQTT_P_ALIAS_MAX | MQTT_P_MAX_PACKET;
    p->receive_max = s->receive_max;
    p->alias_max = s->alias_max;
    p->max_packet = s->limits.packet_max;
    uint32_t expiry_asked = MQTT_HAS(asked, MQTT_P_SESSION_EXPIRY) ? asked->session_expiry : 0;
    if (co->expiry_s != expiry_asked) {
        p->present |= MQTT_P_SESSION_EXPIRY;
        p->session_expiry = co->expiry_s;
    }
    if (co->id_assigned) {
        p->present |= MQTT_P_ASSIGNED_ID;
        p->assigned_id = co->cred.client_id;
    }
    if (co->keep_alive_told) {
        p->present |= MQTT_P_SERVER_KEEP_ALIVE;
        p->server_keep_alive = co->keep_alive_s;
    }
    if (MQTT_HAS(asked, MQTT_P_REQUEST_RESPONSE) && asked->request_response == 1 &&
        response_information(s, co->cred.client_id, &info)) {
        p->present |= MQTT_P_RESPONSE_INFO;
        p->response_info = buf_view(&info);
    }
    auth_connack(mc, p);
    send_connack(mc, &ack);
    auth_end(mc);
}

// What the core has made goes to the connection, also when it is closing already. False: no memory.
static bool hand_over(struct mqtt_conn *mc, struct connect_op *co)
{
    mc->who = mc->link->who.kind;
    mc->entered = mc->who != WHO_CLAIM;
    mc->session = co->session;
    mc->permit = co->permit;
    co->session = NULL;
    co->permit = NULL;
    mc->counted = co->counted;
    co->counted = false;
    mc->durable = mc->session != NULL && broker_session_durable(mc->session);
    mc->resumed = co->present;
    mqtt_marks_read(co->marks, mc->granted);
    for (size_t i = 0; i < co->inbound_len; i++) {
        if (ids_find(&mc->inbound, co->inbound[i]) == NULL &&
            ids_add(&mc->inbound, co->inbound[i], 2, INBOUND_RECEIVED, 0) == NULL) {
            return false;
        }
    }
    return quota_open(&mc->quota, mc->home->quotas, mc->link->who.tenant) == ST_OK;
}

static void accepted(struct mqtt_conn *mc, struct connect_op *co)
{
    const struct mqtt_settings *s = &mc->home->front->settings;
    mc->state = MS_OPEN;
    conn_authenticated(mc->net);
    looking_known(mc);
    connack(mc, co);
    counter_add(COUNT_CONNECTS_ACCEPTED, 1);
    log_debug("mqtt", "connected", LOGS("client", mc->link->who.name), LOGU("conn", co->conn),
              LOGS("peer", conn_peer_addr(mc->net)));
    mc->last_in_ms = loop_now_ms(mc->home->loop);
    mc->silence_ms = co->keep_alive_s * 1500u;
    if (mc->who == WHO_CLAIM) {
        timer_start(&mc->timer, s->claim_timeout_ms, 0);
    } else if (mc->silence_ms > 0) {
        timer_start(&mc->timer, mc->silence_ms, 0);
    }
    if (stopping(mc, NULL)) {
        mqtt_conn_stop(mc);
    }
    mqtt_push_pending(mc, mc->granted[SUB_TWIN_DESIRED] != NOT_SUBSCRIBED, mc->granted[SUB_COMMAND] != NOT_SUBSCRIBED);
    mqtt_deliver_more(mc);
    mqtt_conn_hold(mc);
}

// The client had gone before its CONNECT was committed: the end follows at once.
static void undo(struct connect_op *co)
{
    if (co->link->who.kind == WHO_CLAIM) {
        return;
    }
    const struct leaving of = {.link = co->link,
                               .session = co->session,
                               .will = true,
                               .expiry_s = BROKER_EXPIRY_KEEP,
                               .reason = "peer_closed",
                               .detail = "before the server had answered"};
    leave_submit(co->leave, &of);
    co->session = NULL;
    co->leave = NULL;
}

// A password takes milliseconds to check: here, and then the core is asked once more. False: there is none to check.
static bool ask_again(struct connect_op *co)
{
    if (co->op.status != ST_UNAUTHENTICATED || co->login.state != LOGIN_ASKED) {
        return false;
    }
    device_password_check(&co->login, co->cred.password);
    core_submit(co->home->front->core, &co->op);
    return true;
}

void mqtt_connect_failed(struct mqtt_conn *mc, enum status status, const struct err *err)
{
    bool wrong = status == ST_UNAUTHENTICATED; // a stranger does not learn what was wrong
    mqtt_connect_refuse(mc, reason_connack(MQTT_V5, status),
                        wrong ? "unknown or wrong credential" : reason_say(status, err), err->text);
}

static void connect_done(struct op *op)
{
    struct connect_op *co = (struct connect_op *)op;
    struct mqtt_conn *mc = co->link->front;
    if (mc != NULL && mc->state == MS_CONNECTING && ask_again(co)) {
        return;
    }
    if (op->status == ST_OK && mc == NULL) {
        undo(co);
    } else if (op->status == ST_OK) {
        bool ok = hand_over(mc, co);
        if (!ok) {
            mqtt_connect_refuse(mc, MQTT_RC_QUOTA, "the server is out of memory", "no memory");
        } else if (mc->state == MS_CONNECTING) {
            accepted(mc, co);
        }
    } else if (mc != NULL && mc->state == MS_CONNECTING && co->banned) {
        mqtt_connect_refuse(mc, MQTT_RC_BANNED, op->err.text, op->err.text);
    } else if (mc != NULL && mc->state == MS_CONNECTING) {
        mqtt_connect_failed(mc, op->status, &op->err);
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

// The packet's own copy, decoded once more: all slices then live as long as the operation.
static bool fill_packet(struct connect_op *co, const struct mqtt_conn *mc, struct buf *b)
{
    struct slice copy = keep(b, mc->home->packet);
    struct mqtt_error err;
    size_t used = 0;
    const struct mqtt_limits *limits = &mc->home->front->settings.limits_before_auth;
    return mqtt_decode(copy, MQTT_V5, limits, &co->packet, &used, NULL, &err) == MQTT_DONE;
}

static void fill_credential(struct connect_op *co, const struct mqtt_conn *mc, struct buf *b)
{
    const struct mqtt_connect *c = &co->packet.u.connect;
    char assigned[32];
    co->cred.client_id = c->client_id;
    if (c->client_id.len == 0) {
        snprintf(assigned, sizeof(assigned), "auto-%016llx", (unsigned long long)rand_u64());
        co->cred.client_id = keep(b, slice_str(assigned));
        co->id_assigned = true;
    }
    co->cred.mqtt = true;
    co->cred.anonymous = conn_tls(mc->net) == NULL; // only where nobody expects to be known
    co->cred.login = &co->login;
    co->cred.username = sent(c->has_username, c->username);
    co->cred.password = sent(c->has_password, c->password);
    co->cred.peer_addr = keep(b, slice_str(conn_peer_addr(mc->net)));
}

static struct connect_op *connect_op_new(struct mqtt_conn *mc)
{
    size_t len = mc->home->packet.len + strlen(conn_peer_addr(mc->net)) + 32;
    struct connect_op *co = calloc(1, sizeof(*co) + len);
    if (co == NULL) {
        return NULL;
    }
    co->bytes_len = len;
    struct buf b = buf_fixed(co->bytes, len);
    co->home = mc->home;
    co->conn = conn_id(mc->net);
    co->window = mc->window;
    co->link = link_new(mc->home->loop, co->conn, mqtt_deliver);
    co->leave = leave_new(mc->home->front->core);
    if (co->link == NULL || co->leave == NULL || !fill_packet(co, mc, &b)) {
        connect_op_free(co);
        return NULL;
    }
    mc->link = link_ref(co->link);
    mc->link->front = mc;
    fill_credential(co, mc, &b);
    describe_tls(co, conn_tls(mc->net));
    co->op = (struct op){.run = connect_run, .done = connect_done, .reply_to = mc->home->loop, .name = "mqtt.connect"};
    return co;
}

static struct slice protocol_name(enum mqtt_version v)
{
    return v == MQTT_V5 ? SLICE("mqtt5") : v == MQTT_V31 ? SLICE("mqtt3.1") : SLICE("mqtt3.1.1");
}

// MQTT 5 clients are told the keep-alive to use; those of 3.1.1 cannot be told, theirs counts.
static void choose_keep_alive(struct connect_op *co, const struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    uint16_t max = mc->home->front->settings.keep_alive_max_s;
    co->keep_alive_told = c->version == MQTT_V5 && (c->keep_alive_s == 0 || c->keep_alive_s > max);
    co->keep_alive_s = co->keep_alive_told ? max : c->keep_alive_s;
    co->info = (struct presence_info){.address = co->cred.peer_addr,
                                      .protocol = protocol_name(c->version),
                                      .client_id = co->cred.client_id,
                                      .tls = slice_str(co->tls),
                                      .keep_alive_s = co->keep_alive_s};
}

static void remember_wishes(struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    const struct mqtt_props *p = &c->props;
    const struct mqtt_settings *s = &mc->home->front->settings;
    mc->version = (uint8_t)c->version;
    mc->problem_info = !MQTT_HAS(p, MQTT_P_REQUEST_PROBLEM) || p->request_problem == 1;
    mc->expiry_zero = c->version == MQTT_V5 && (!MQTT_HAS(p, MQTT_P_SESSION_EXPIRY) || p->session_expiry == 0);
    mc->packet_max = MQTT_HAS(p, MQTT_P_MAX_PACKET) ? p->max_packet : 0;
    if (MQTT_HAS(p, MQTT_P_RECEIVE_MAX) && p->receive_max < mc->window) {
        mc->window = p->receive_max;
    } else {
        mc->window_cut = true;
    }
    if (MQTT_HAS(p, MQTT_P_ALIAS_MAX)) {
        mc->alias_out_max = p->alias_max < s->alias_max ? p->alias_max : s->alias_max;
    }
}

bool mqtt_on_connect(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_connect *c = &p->u.connect;
    const struct mqtt_settings *s = &mc->home->front->settings;
    remember_wishes(mc, c);
    if (s->redirect != 0) {
        refuse_to(mc, s->redirect, "this server sends its clients elsewhere", "redirected",
                  s->redirect_to[0] != '\0' ? s->redirect_to : NULL);
        return true;
    }
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (checks[i].broken(mc, c)) {
            mqtt_connect_refuse(mc, checks[i].reason, checks[i].text, checks[i].text);
            return true;
        }
    }
    struct connect_op *co = connect_op_new(mc);
    if (co == NULL) {
        mqtt_connect_refuse(mc, MQTT_RC_QUOTA, "the server is out of memory", "no memory");
        return true;
    }
    choose_keep_alive(co, mc, c);
    mc->state = MS_CONNECTING;
    if (MQTT_HAS(&c->props, MQTT_P_AUTH_METHOD)) {
        auth_begin(mc, co, &c->props);
    } else {
        core_submit(mc->home->front->core, &co->op);
    }
    return true;
}

const struct credential *connect_op_credential(const struct connect_op *co)
{
    return &co->cred;
}

void connect_op_submit(struct mqtt_conn *mc, struct connect_op *co, const struct device_login *login,
                       struct slice username)
{
    co->login = *login;
    (void)slice_to_cstr(username, co->username, sizeof(co->username));
    co->cred.username = slice_str(co->username);
    co->cred.password = (struct slice){NULL, 0};
    co->cred.cert_sha256 = NULL; // the method decides alone
    co->cred.mqtt = false;
    mc->state = MS_CONNECTING;
    core_submit(mc->home->front->core, &co->op);
}
