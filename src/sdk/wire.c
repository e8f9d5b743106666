#include "sdk/client.h"

#define READS_MAX      8u  // transport reads in one step, so that a flood cannot keep us
#define TX_RESERVE     64u // room kept for acknowledgements before the next packet is taken
#define SESSION_KEEP_S 300 // how long the server should remember us between connections

// ---- Why, in words --------------------------------------------------------------------------------------------------

static const struct {
    uint8_t reason;
    const char *text;
} reason_texts[] = {
    {MQTT_RC_SUCCESS, "the server closed the session"},
    {MQTT_RC_MALFORMED, "the server could not parse what was sent"},
    {MQTT_RC_PROTOCOL_ERROR, "protocol error"},
    {MQTT_RC_BAD_VERSION, "the server does not speak this protocol version"},
    {MQTT_RC_BAD_CLIENT_ID, "the client id is not allowed"},
    {MQTT_RC_BAD_CREDENTIALS, "wrong user name, password or certificate"},
    {MQTT_RC_NOT_AUTHORIZED, "not authorised"},
    {MQTT_RC_SERVER_UNAVAILABLE, "the server is unavailable"},
    {MQTT_RC_SERVER_BUSY, "the server is busy"},
    {MQTT_RC_SHUTTING_DOWN, "the server is shutting down"},
    {MQTT_RC_KEEP_ALIVE, "the server heard nothing for too long"},
    {MQTT_RC_TAKEN_OVER, "another connection uses this identity"},
    {MQTT_RC_TOO_LARGE, "packet too large"},
    {MQTT_RC_RATE, "too many messages"},
    {MQTT_RC_QUOTA, "quota exceeded"},
    {MQTT_RC_ADMIN, "closed by an administrator"},
    {MQTT_RC_CONN_RATE, "too many connections"},
};

static struct slice reason_text(uint8_t reason, const struct mqtt_props *props)
{
    if (MQTT_HAS(props, MQTT_P_REASON_STRING)) {
        return props->reason_string;
    }
    for (size_t i = 0; i < sizeof(reason_texts) / sizeof(reason_texts[0]); i++) {
        if (reason_texts[i].reason == reason) {
            return slice_str(reason_texts[i].text);
        }
    }
    return SLICE("refused by the server");
}

// MQTT 3.1.1 return codes (table 3.1) in MQTT 5 numbering.
static uint8_t reason_of_return_code(uint8_t code)
{
    static const uint8_t map[] = {MQTT_RC_SUCCESS,         MQTT_RC_BAD_VERSION,
                                  MQTT_RC_BAD_CLIENT_ID,   MQTT_RC_SERVER_UNAVAILABLE,
                                  MQTT_RC_BAD_CREDENTIALS, MQTT_RC_NOT_AUTHORIZED};
    return code < sizeof(map) ? map[code] : MQTT_RC_UNSPECIFIED;
}

// ---- Out ------------------------------------------------------------------------------------------------------------

// Bytes already written make room. A packet that does not fit leaves tx.failed set; the state's driver sees it.
static void wire_put(struct muster *m, const struct mqtt_packet *p)
{
    if (m->tx_off > 0) {
        buf_consume(&m->tx, m->tx_off);
        m->tx_off = 0;
    }
    if (!mqtt_encode(&m->tx, m->version, p)) {
        m->tx.failed = true;
    }
}

void wire_connect(struct muster *m)
{
    const struct muster_config *c = &m->config;
    struct mqtt_packet p = {.type = MQTT_CONNECT};
    struct mqtt_connect *connect = &p.u.connect;
    *connect =
        (struct mqtt_connect){.version = m->version,
                              .clean_start = !m->ever_connected || c->client_id == NULL || c->client_id[0] == '\0',
                              .has_username = c->username != NULL,
                              .has_password = c->password != NULL,
                              .keep_alive_s = c->keep_alive_s,
                              .client_id = slice_str(c->client_id != NULL ? c->client_id : ""),
                              .username = slice_str(c->username),
                              .password = slice_str(c->password)};
    if (m->version == MQTT_V5) {
        connect->props.present = MQTT_P_MAX_PACKET | MQTT_P_RECEIVE_MAX;
        connect->props.max_packet = (uint32_t)c->rx_bytes;
        connect->props.receive_max = 16;
        if (c->role == MUSTER_DEVICE) {
            connect->props.present |= MQTT_P_SESSION_EXPIRY;
            connect->props.session_expiry = SESSION_KEEP_S;
        }
    }
    wire_put(m, &p);
}

void wire_subscribe(struct muster *m)
{
    static const char *const device_filters[] = {"$muster/twin/desired", "$muster/twin/get/reply",
                                                 "$muster/command/+/+", "$muster/provision/response"};
    static const char *const claim_filters[] = {"$muster/provision/response"};
    bool device = m->config.role == MUSTER_DEVICE;
    const char *const *filters = device ? device_filters : claim_filters;
    unsigned n = device ? 4 : 1;
    uint8_t mem[160];
    struct buf list = buf_fixed(mem, sizeof(mem));
    for (unsigned i = 0; i < n; i++) {
        struct mqtt_filter f = {.filter = slice_str(filters[i]), .qos = 1};
        mqtt_filter_put(&list, false, &f);
    }
    m->subscribe_id = window_fresh_id(&m->window);
    struct mqtt_packet p = {.type = MQTT_SUBSCRIBE};
    p.u.subscribe = (struct mqtt_subscribe){.packet_id = m->subscribe_id, .filters = buf_view(&list), .count = n};
    wire_put(m, &p);
}

void wire_ping(struct muster *m)
{
    struct mqtt_packet p = {.type = MQTT_PINGREQ};
    wire_put(m, &p);
    m->ping_ms = client_now(m);
}

void wire_disconnect(struct muster *m, uint8_t reason)
{
    struct mqtt_packet p = {.type = MQTT_DISCONNECT};
    p.u.disconnect.reason = reason;
    wire_put(m, &p);
}

static void wire_refused_too_large(struct muster *m, uint16_t packet_id)
{
    uint64_t cookie = 0;
    if (window_ack(&m->window, packet_id, &cookie) && cookie != 0 && m->config.callbacks.on_acked != NULL) {
        struct muster_ack ack = {.cookie = cookie, .stored = false, .reason = MQTT_RC_TOO_LARGE};
        m->config.callbacks.on_acked(m->config.user, &ack);
    }
}

void wire_pump(struct muster *m)
{
    if (m->tx_off > 0) {
        buf_consume(&m->tx, m->tx_off);
        m->tx_off = 0;
    }
    while (m->window.in_flight < m->server_receive_max) {
        struct slot *s = window_next(&m->window);
        if (s == NULL) {
            return;
        }
        if (s->len > m->server_packet_max) {
            uint16_t id = s->packet_id;
            window_sent(&m->window, s);
            wire_refused_too_large(m, id);
            continue;
        }
        if (m->tx.cap - m->tx.len < s->len + (m->tx.len > 0 ? TX_RESERVE : 0)) {
            return;
        }
        buf_slice(&m->tx, window_packet(&m->window, s));
        window_sent(&m->window, s);
    }
}

static void wire_lost(struct muster *m, ptrdiff_t n)
{
    const struct muster_transport *t = &m->config.transport;
    const char *why = t->error != NULL ? t->error(t->arg) : NULL;
    if (why == NULL || why[0] == '\0') {
        why = n == MUSTER_E_CLOSED ? "the server closed the connection" : "the connection broke";
    }
    client_fail(m, 0, slice_str(why));
}

void wire_flush(struct muster *m)
{
    if (m->tx.failed) {
        client_fail(m, 0, SLICE("a packet is larger than tx_bytes"));
        return;
    }
    while (m->tx_off < m->tx.len) {
        ptrdiff_t n = m->config.transport.write(m->config.transport.arg, m->tx.p + m->tx_off, m->tx.len - m->tx_off);
        if (n < 0 || (size_t)n > m->tx.len - m->tx_off) {
            wire_lost(m, n);
            return;
        }
        if (n == 0) {
            return;
        }
        m->tx_off += (size_t)n;
        m->last_tx_ms = client_now(m);
        m->more = m->more || m->blocked;
    }
    buf_clear(&m->tx);
    m->tx_off = 0;
}

// ---- In -------------------------------------------------------------------------------------------------------------

// The server broke the protocol: say so (best effort) and start over.
static void wire_bad(struct muster *m, uint8_t reason, const char *text)
{
    if (m->version == MQTT_V5 && m->state != MUSTER_CONNECTING) {
        wire_disconnect(m, reason);
        wire_flush(m);
    }
    client_fail(m, 0, slice_str(text));
}

static void on_connack(struct muster *m, const struct mqtt_packet *p)
{
    const struct mqtt_connack *c = &p->u.connack;
    uint8_t reason = m->version == MQTT_V5 ? c->reason : reason_of_return_code(c->reason);
    if (reason != MQTT_RC_SUCCESS) {
        client_fail(m, reason, reason_text(reason, &c->props));
        return;
    }
    const struct mqtt_props *props = &c->props;
    m->server_receive_max = MQTT_HAS(props, MQTT_P_RECEIVE_MAX) ? props->receive_max : UINT16_MAX;
    m->server_packet_max = MQTT_HAS(props, MQTT_P_MAX_PACKET) ? props->max_packet : MQTT_PACKET_MAX;
    m->keep_alive_ms =
        1000u * (MQTT_HAS(props, MQTT_P_SERVER_KEEP_ALIVE) ? props->server_keep_alive : m->config.keep_alive_s);
    if (MQTT_HAS(props, MQTT_P_MAX_QOS) && props->max_qos < 1) {
        wire_bad(m, MQTT_RC_IMPLEMENTATION, "the server does not offer QoS 1");
        return;
    }
    client_event(m, EV_CONNACK);
}

static void on_suback(struct muster *m, const struct mqtt_packet *p)
{
    if (p->u.suback.packet_id != m->subscribe_id) {
        wire_bad(m, MQTT_RC_PROTOCOL_ERROR, "SUBACK for a subscription that was not asked for");
        return;
    }
    struct reader r = reader_make(p->u.suback.reasons);
    while (reader_left(&r) > 0) {
        uint8_t reason = rd_u8(&r);
        if (reason >= MQTT_RC_UNSPECIFIED) {
            wire_disconnect(m, MQTT_RC_SUCCESS);
            wire_flush(m);
            client_fail(m, reason, SLICE("the server refused a subscription"));
            return;
        }
    }
    client_event(m, EV_SUBACKED);
}

static void on_puback(struct muster *m, const struct mqtt_packet *p)
{
    const struct mqtt_ack *a = &p->u.ack;
    uint64_t cookie = 0;
    if (!window_ack(&m->window, a->packet_id, &cookie)) {
        return; // late answer to an earlier connection's message: harmless
    }
    if (cookie != 0 && m->config.callbacks.on_acked != NULL) {
        struct muster_ack ack = {.cookie = cookie, .stored = a->reason < MQTT_RC_UNSPECIFIED, .reason = a->reason};
        if (MQTT_HAS(&a->props, MQTT_P_REASON_STRING)) {
            ack.text = (struct muster_text){(const char *)a->props.reason_string.p, a->props.reason_string.len};
        }
        m->config.callbacks.on_acked(m->config.user, &ack);
    }
}

static void on_publish(struct muster *m, const struct mqtt_packet *p)
{
    const struct mqtt_publish *pub = &p->u.publish;
    if (pub->qos > 1) {
        wire_bad(m, MQTT_RC_PROTOCOL_ERROR, "the server sent a message with QoS 2, which was not subscribed to");
        return;
    }
    inbound_publish(m, pub);
    if (pub->qos == 1) {
        struct mqtt_packet ack = {.type = MQTT_PUBACK};
        ack.u.ack.packet_id = pub->packet_id;
        wire_put(m, &ack);
    }
}

static void on_pingresp(struct muster *m, const struct mqtt_packet *p)
{
    (void)p;
    m->ping_ms = -1;
}

static void on_disconnect(struct muster *m, const struct mqtt_packet *p)
{
    uint8_t reason = p->u.disconnect.reason;
    client_fail(m, reason, reason_text(reason, &p->u.disconnect.props));
}

// Which packet is welcome in which state; everything else breaks the protocol.
struct packet_rule {
    unsigned states; // bit per enum muster_state
    void (*handle)(struct muster *m, const struct mqtt_packet *p);
};
#define IN(s)     (1u << (s))
#define CONNECTED (IN(MUSTER_SUBSCRIBING) | IN(MUSTER_ONLINE) | IN(MUSTER_CLOSING))
static const struct packet_rule packet_rules[MQTT_AUTH + 1] = {
    [MQTT_CONNACK] = {IN(MUSTER_CONNECTING), on_connack},
    [MQTT_SUBACK] = {IN(MUSTER_SUBSCRIBING), on_suback},
    [MQTT_PUBLISH] = {CONNECTED, on_publish},
    [MQTT_PUBACK] = {CONNECTED, on_puback},
    [MQTT_PINGRESP] = {CONNECTED, on_pingresp},
    [MQTT_DISCONNECT] = {CONNECTED, on_disconnect},
};

static void wire_handle(struct muster *m, const struct mqtt_packet *p)
{
    const struct packet_rule *rule = &packet_rules[p->type];
    if ((rule->states & IN(m->state)) == 0) {
        wire_bad(m, MQTT_RC_PROTOCOL_ERROR, "the server sent a packet that has no place here");
        return;
    }
    rule->handle(m, p);
}

// Handles the complete packets in rx. Stops when the state leaves those that read, or when tx has no room for answers.
static void wire_parse(struct muster *m)
{
    size_t off = 0;
    while (m->state == MUSTER_CONNECTING || m->state == MUSTER_SUBSCRIBING || m->state == MUSTER_ONLINE) {
        if (m->tx.cap - m->tx.len + m->tx_off < TX_RESERVE) {
            m->blocked = off < m->rx.len; // wire_flush says when to go on
            break;
        }
        struct mqtt_packet p;
        struct mqtt_error err = {0};
        size_t used = 0;
        enum mqtt_result r =
            mqtt_decode(slice_from(buf_view(&m->rx), off), m->version, &m->limits, &p, &used, NULL, &err);
        if (r == MQTT_MORE) {
            break;
        }
        if (r == MQTT_BAD) {
            wire_bad(m, err.reason, err.text != NULL ? err.text : "the server sent a malformed packet");
            return; // rx was cleared
        }
        off += used;
        wire_handle(m, &p);
    }
    if (off > 0 && m->rx.len >= off) {
        buf_consume(&m->rx, off);
    }
}

// One read into rx. False: there is nothing more now, or the connection is gone.
static bool wire_fill(struct muster *m)
{
    size_t room = m->rx.cap - m->rx.len;
    if (room == 0) {
        return false; // full of packets whose answers have no room yet
    }
    ptrdiff_t n = m->config.transport.read(m->config.transport.arg, m->rx.p + m->rx.len, room);
    if (n < 0 || (size_t)n > room) {
        wire_lost(m, n);
        return false;
    }
    if (n > 0) {
        m->last_rx_ms = client_now(m);
        buf_commit(&m->rx, (size_t)n);
    }
    return n > 0;
}

void wire_read(struct muster *m)
{
    enum muster_state before = m->state;
    for (unsigned i = 0; i < READS_MAX; i++) {
        bool got = wire_fill(m);
        if (m->state != before) {
            return;
        }
        m->blocked = false;
        wire_parse(m); // also what was left when answers had no room
        if (m->state != before || !got) {
            return;
        }
    }
    m->more = true;
}
