// Enhanced authentication (MQTT 5.0 section 4.12) with SCRAM-SHA-256, before CONNACK and again on an open connection.
//
//              verifier read             client-final, right or wrong         as this identity
//   ASKING --------------------> CHALLENGED ---------------------> PROVING ------------------> (ended)
//
// ASKING and PROVING are with the core; the hashing is done here, on the connection's own thread. Before CONNACK the proving is
// the CONNECT's own operation, so that a wrong proof is counted like a wrong password.
#include <stdlib.h>

#include "front/mqtt/connect.h"
#include "front/mqtt/reason.h"

struct auth {
    struct op op;
    struct core *core;
    struct link *link; // one reference
    bool busy;         // with the core: its end frees what the connection has left behind
    bool ended;        // the connection wants no more of it
    struct scram *scram;
    struct device_login login;
    struct credential cred;
    struct connect_op *co; // NULL: the connection is open already
    struct buf answer;     // of the server: challenge, then final message
    char peer[64];
};

static void auth_free(struct auth *a)
{
    connect_op_free(a->co);
    scram_free(a->scram);
    link_unref(a->link);
    buf_release(&a->answer);
    free(a);
}

void auth_end(struct mqtt_conn *mc)
{
    struct auth *a = mc->auth;
    mc->auth = NULL;
    if (a != NULL && a->busy) {
        a->ended = true;
    } else if (a != NULL) {
        auth_free(a);
    }
}

bool auth_method_known(struct slice method)
{
    return slice_eq_str(method, SCRAM_METHOD);
}

static void fill(struct mqtt_props *p, struct slice data)
{
    p->present |= MQTT_P_AUTH_METHOD | MQTT_P_AUTH_DATA;
    p->auth_method = SLICE(SCRAM_METHOD);
    p->auth_data = data;
}

void auth_connack(const struct mqtt_conn *mc, struct mqtt_props *ret)
{
    if (mc->auth != NULL) {
        fill(ret, buf_view(&mc->auth->answer));
    }
}

static void send_auth(struct mqtt_conn *mc, uint8_t reason, struct slice data)
{
    struct mqtt_packet p;
    p.type = MQTT_AUTH;
    p.u.disconnect = (struct mqtt_disconnect){.reason = reason};
    fill(&p.u.disconnect.props, data);
    mqtt_conn_send(mc, &p);
}

// Before CONNACK the failure is CONNACK's, afterwards DISCONNECT's (4.12.0-2, 4.12.1-2).
static void fail(struct mqtt_conn *mc, enum status status, const struct err *err)
{
    if (mc->state == MS_OPEN) {
        mqtt_conn_end(mc, MQTT_RC_NOT_AUTHORIZED, "reauthentication", "the new authentication has failed");
        return;
    }
    mqtt_connect_failed(mc, status, err);
}

// --- asking for the verifier -----------------------------------------------------------------------------------------

static enum status ask_run(struct tx *tx, struct op *op, struct err *err)
{
    struct auth *a = (struct auth *)op;
    return identity_login(tx, &a->cred, &a->login, err);
}

static void ask_done(struct op *op)
{
    struct auth *a = (struct auth *)op;
    struct mqtt_conn *mc = a->ended ? NULL : a->link->front;
    a->busy = false;
    if (mc == NULL) {
        auth_free(a);
        return;
    }
    enum status s = op->status;
    if (s == ST_OK) {
        s = scram_challenge(a->scram, &a->login.verifier, &a->answer, &op->err);
    }
    if (s != ST_OK) {
        fail(mc, s, &op->err);
        return;
    }
    if (mc->state == MS_CONNECTING) {
        mc->state = MS_AUTHENTICATING;
    }
    send_auth(mc, MQTT_RC_CONTINUE_AUTH, buf_view(&a->answer));
    mqtt_conn_hold(mc);
}

static void submit(struct auth *a, enum status (*run)(struct tx *, struct op *, struct err *),
                   void (*done)(struct op *), const char *name)
{
    a->busy = true;
    a->op = (struct op){.run = run, .done = done, .reply_to = a->link->loop, .name = name};
    core_submit(a->core, &a->op);
}

// NULL: no memory.
static struct auth *auth_new(const struct mqtt_conn *mc)
{
    struct auth *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    a->core = mc->home->front->core;
    a->link = link_ref(mc->link);
    a->answer = buf_heap((size_t)SCRAM_MESSAGE_MAX * 2);
    a->scram = scram_new();
    (void)slice_to_cstr(slice_str(conn_peer_addr(mc->net)), a->peer, sizeof(a->peer));
    a->cred.peer_addr = slice_str(a->peer);
    if (a->scram == NULL) {
        auth_free(a);
        return NULL;
    }
    return a;
}

static void begin(struct mqtt_conn *mc, struct auth *a, struct slice first)
{
    struct err err = {.code = ST_OK};
    mc->auth = a;
    enum status s = scram_first(a->scram, first, &err);
    if (s != ST_OK) {
        fail(mc, s, &err);
        return;
    }
    a->cred.username = scram_name(a->scram);
    a->cred.login = &a->login;
    submit(a, ask_run, ask_done, "mqtt.auth");
}

void auth_begin(struct mqtt_conn *mc, struct connect_op *co, const struct mqtt_props *props)
{
    struct auth *a = auth_new(mc);
    if (a == NULL) {
        connect_op_free(co);
        mqtt_connect_refuse(mc, MQTT_RC_QUOTA, "the server is out of memory", "no memory");
        return;
    }
    a->co = co;
    mc->scram = true;
    begin(mc, a, props->auth_data);
}

// --- the client's proof ----------------------------------------------------------------------------------------------

// Is it still the same device that speaks?
static enum status prove_run(struct tx *tx, struct op *op, struct err *err)
{
    struct auth *a = (struct auth *)op;
    struct principal who;
    struct device_ref d;
    enum status s = identity_authenticate(tx, &a->cred, &who, &d, err);
    if (s == ST_UNAUTHENTICATED) {
        identity_auth_failed(tx->core, a->cred.peer_addr);
    }
    bool same =
        s == ST_OK && who.kind == a->link->who.kind && who.tenant == a->link->who.tenant && who.row == a->link->who.row;
    return s == ST_OK && !same ? err_set(err, ST_FORBIDDEN, "another identity than in CONNECT (4.12.1-1)") : s;
}

static void prove_done(struct op *op)
{
    struct auth *a = (struct auth *)op;
    struct mqtt_conn *mc = a->ended ? NULL : a->link->front;
    a->busy = false;
    if (mc == NULL) {
        auth_free(a);
        return;
    }
    if (op->status != ST_OK) {
        fail(mc, op->status, &op->err);
        return;
    }
    send_auth(mc, MQTT_RC_SUCCESS, buf_view(&a->answer));
    auth_end(mc);
}

static bool fits(struct mqtt_conn *mc, const struct mqtt_props *props)
{
    if (!mc->scram || !MQTT_HAS(props, MQTT_P_AUTH_METHOD) || !auth_method_known(props->auth_method)) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH with another method than CONNECT's (4.12.0-5)");
        return false;
    }
    return true;
}

static void go_on(struct mqtt_conn *mc, const struct mqtt_props *props)
{
    struct auth *a = mc->auth;
    struct err err = {.code = ST_OK};
    if (a == NULL || a->busy || scram_state(a->scram) != SCRAM_CHALLENGED) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH that nobody waits for");
        return;
    }
    buf_clear(&a->answer);
    struct slice data = MQTT_HAS(props, MQTT_P_AUTH_DATA) ? props->auth_data : SLICE("");
    enum status s = scram_final(a->scram, data, &a->answer, &err);
    a->login.state = s == ST_OK ? LOGIN_PROVED : LOGIN_WRONG;
    if (s != ST_OK && s != ST_UNAUTHENTICATED) {
        fail(mc, s, &err);
    } else if (a->co != NULL) {
        struct connect_op *co = a->co;
        a->co = NULL;
        connect_op_submit(mc, co, &a->login, scram_name(a->scram));
    } else {
        submit(a, prove_run, prove_done, "mqtt.auth");
    }
}

bool mqtt_on_auth(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_disconnect *d = &p->u.disconnect;
    if (d->reason != MQTT_RC_CONTINUE_AUTH) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH before CONNACK has reason 0x18 (4.12.0-3)");
    } else if (fits(mc, &d->props)) {
        go_on(mc, &d->props);
    }
    return true;
}

static void begin_again(struct mqtt_conn *mc, const struct mqtt_props *props)
{
    if (mc->auth != NULL) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "a new authentication before the last one has ended");
        return;
    }
    struct auth *a = auth_new(mc);
    if (a == NULL) {
        mqtt_conn_no_memory(mc, "no memory for an authentication");
        return;
    }
    begin(mc, a, MQTT_HAS(props, MQTT_P_AUTH_DATA) ? props->auth_data : SLICE(""));
}

bool mqtt_on_reauth(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    const struct mqtt_disconnect *d = &p->u.disconnect;
    if (!mc->scram) {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH without an authentication method in CONNECT (4.12.0-6)");
    } else if (!fits(mc, &d->props)) {
        return true;
    } else if (d->reason == MQTT_RC_REAUTHENTICATE) {
        begin_again(mc, &d->props);
    } else if (d->reason == MQTT_RC_CONTINUE_AUTH) {
        go_on(mc, &d->props);
    } else {
        mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH of a client has reason 0x18 or 0x19");
    }
    return true;
}
