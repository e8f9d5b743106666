// Bytes to MQTT packets. Every rule about a packet's form is checked here, so that whoever gets a packet can rely on it.
#include "base/utf8.h"
#include "proto/mqtt_priv.h"

const struct mqtt_limits mqtt_limits_default = {
    .packet_max = 256 * 1024,
    .topic_max = 1024,
    .levels_max = 32,
    .user_props_max = 32,
    .filters_max = 64,
    .user_props_bytes_max = 8 * 1024,
};

const char *mqtt_type_text(enum mqtt_type t)
{
    static const char *const names[] = {"reserved", "CONNECT",  "CONNACK",    "PUBLISH", "PUBACK",      "PUBREC",
                                        "PUBREL",   "PUBCOMP",  "SUBSCRIBE",  "SUBACK",  "UNSUBSCRIBE", "UNSUBACK",
                                        "PINGREQ",  "PINGRESP", "DISCONNECT", "AUTH"};
    return (unsigned)t < sizeof(names) / sizeof(names[0]) ? names[t] : names[0];
}

bool mqtt_dec_bad(struct mqtt_dec *d, uint8_t reason, const char *text)
{
    d->err->reason = reason;
    d->err->text = text;
    return false;
}

bool mqtt_dec_ok(struct mqtt_dec *d)
{
    return !d->r.failed || mqtt_dec_bad(d, MQTT_RC_MALFORMED, "the packet ends inside a field");
}

bool mqtt_dec_binary(struct mqtt_dec *d, struct slice *ret)
{
    *ret = rd_bytes(&d->r, rd_u16(&d->r));
    return mqtt_dec_ok(d);
}

bool mqtt_dec_string(struct mqtt_dec *d, struct slice *ret)
{
    return mqtt_dec_binary(d, ret) &&
           (utf8_mqtt_valid(*ret) ||
            mqtt_dec_bad(d, MQTT_RC_MALFORMED, "a string is not valid UTF-8 or contains U+0000 (1.5.4)"));
}

bool mqtt_dec_vbi(struct mqtt_dec *d, uint32_t *ret)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t b = rd_u8(&d->r);
        if (!mqtt_dec_ok(d)) {
            return false;
        }
        v |= (uint32_t)(b & 0x7f) << (7 * i);
        if ((b & 0x80) == 0) {
            *ret = v;
            return (b != 0 || i == 0) ||
                   mqtt_dec_bad(d, MQTT_RC_MALFORMED, "a length is not in its shortest form (1.5.5-1)");
        }
    }
    return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "a length has more than 4 bytes (1.5.5)");
}

bool mqtt_dec_topic(struct mqtt_dec *d, struct slice topic, bool filter)
{
    uint8_t reason;
    const char *why = mqtt_topic_problem(topic, filter, d->lim, &reason);
    return why == NULL || mqtt_dec_bad(d, reason, why);
}

// Properties of a packet that 3.1.1 does not have.
static bool decode_props(struct mqtt_dec *d, enum mqtt_type where, struct mqtt_props *ret)
{
    if (d->v != MQTT_V5) {
        mqtt_props_clear(ret);
        return true;
    }
    return mqtt_props_decode(d, (unsigned)where, ret);
}

static bool decode_packet_id(struct mqtt_dec *d, uint16_t *ret)
{
    *ret = rd_u16(&d->r);
    return mqtt_dec_ok(d) &&
           (*ret != 0 || mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "packet identifier 0 is not allowed (2.2.1-3)"));
}

// CONNECT (3.1)

#define CF_RESERVED    0x01
#define CF_CLEAN       0x02
#define CF_WILL        0x04
#define CF_WILL_RETAIN 0x20
#define CF_PASSWORD    0x40
#define CF_USERNAME    0x80

// Name and level (3.1.2.1, 3.1.2.2). When the level is not one we speak, c->version says in which form to answer.
static bool decode_protocol(struct mqtt_dec *d, struct mqtt_connect *c)
{
    struct slice name;
    if (!mqtt_dec_binary(d, &name)) {
        return false;
    }
    bool v31 = slice_eq(name, SLICE("MQIsdp"));
    if (!v31 && !slice_eq(name, SLICE("MQTT"))) {
        return mqtt_dec_bad(d, MQTT_RC_BAD_VERSION, "the protocol name is not \"MQTT\" (3.1.2-1)");
    }
    uint8_t level = rd_u8(&d->r);
    if (!mqtt_dec_ok(d)) {
        return false;
    }
    bool known = v31 ? level == MQTT_V31 : (level == MQTT_V311 || level == MQTT_V5);
    c->version = known ? (enum mqtt_version)level : level > MQTT_V5 ? MQTT_V5 : MQTT_V311;
    d->v = c->version;
    return known || mqtt_dec_bad(d, MQTT_RC_BAD_VERSION, "the protocol version is not 3.1.1 or 5.0 (3.1.2-2)");
}

static bool decode_connect_flags(struct mqtt_dec *d, struct mqtt_connect *c)
{
    uint8_t f = rd_u8(&d->r);
    if ((f & CF_RESERVED) != 0) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "the reserved CONNECT flag is set (3.1.2-3)");
    }
    c->clean_start = (f & CF_CLEAN) != 0;
    c->has_will = (f & CF_WILL) != 0;
    c->will_qos = (uint8_t)(f >> 3 & 3);
    c->will_retain = (f & CF_WILL_RETAIN) != 0;
    c->has_password = (f & CF_PASSWORD) != 0;
    c->has_username = (f & CF_USERNAME) != 0;
    if (c->will_qos == 3) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "will QoS 3 does not exist (3.1.2-12)");
    }
    if (!c->has_will && (c->will_qos != 0 || c->will_retain)) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "will QoS or retain is set without a will (3.1.2-11)");
    }
    if (c->version != MQTT_V5 && c->has_password && !c->has_username) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "a password without a user name (3.1.2-22)");
    }
    c->keep_alive_s = rd_u16(&d->r);
    return mqtt_dec_ok(d);
}

static bool decode_will(struct mqtt_dec *d, struct mqtt_connect *c)
{
    if (!c->has_will) {
        return true;
    }
    if (c->version == MQTT_V5 && !mqtt_props_decode(d, MQTT_PROPS_WILL, &c->will_props)) {
        return false;
    }
    return mqtt_dec_binary(d, &c->will_topic) && mqtt_dec_topic(d, c->will_topic, false) &&
           mqtt_dec_binary(d, &c->will_payload);
}

static bool decode_connect(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_connect *c = &p->u.connect;
    *c = (struct mqtt_connect){0};
    if (!decode_protocol(d, c) || !decode_connect_flags(d, c) || !decode_props(d, MQTT_CONNECT, &c->props) ||
        !mqtt_dec_string(d, &c->client_id) || !decode_will(d, c)) {
        return false;
    }
    return (!c->has_username || mqtt_dec_string(d, &c->username)) &&
           (!c->has_password || mqtt_dec_binary(d, &c->password));
}

// Reason codes by packet (2.4). One row a code: in which packets it may stand.

#define IN(t) (1u << (t))
static const struct reason_def {
    uint8_t code;
    uint16_t where;
} reasons[] = {
#define PUB2 (IN(MQTT_PUBACK) | IN(MQTT_PUBREC))
#define REL2 (IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP))
#define SUBS (IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK))
#define ENDS (IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT))
    {MQTT_RC_SUCCESS, IN(MQTT_CONNACK) | PUB2 | REL2 | SUBS | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH)},
    {MQTT_RC_GRANTED_QOS1, IN(MQTT_SUBACK)},
    {MQTT_RC_GRANTED_QOS2, IN(MQTT_SUBACK)},
    {MQTT_RC_DISCONNECT_WITH_WILL, IN(MQTT_DISCONNECT)},
    {MQTT_RC_NO_MATCHING_SUBSCRIBERS, PUB2},
    {MQTT_RC_NO_SUBSCRIPTION, IN(MQTT_UNSUBACK)},
    {MQTT_RC_CONTINUE_AUTH, IN(MQTT_AUTH)},
    {MQTT_RC_REAUTHENTICATE, IN(MQTT_AUTH)},
    {MQTT_RC_UNSPECIFIED, PUB2 | SUBS | ENDS},
    {MQTT_RC_MALFORMED, ENDS},
    {MQTT_RC_PROTOCOL_ERROR, ENDS},
    {MQTT_RC_IMPLEMENTATION, PUB2 | SUBS | ENDS},
    {MQTT_RC_BAD_VERSION, IN(MQTT_CONNACK)},
    {MQTT_RC_BAD_CLIENT_ID, IN(MQTT_CONNACK)},
    {MQTT_RC_BAD_CREDENTIALS, IN(MQTT_CONNACK)},
    {MQTT_RC_NOT_AUTHORIZED, PUB2 | SUBS | ENDS},
    {MQTT_RC_SERVER_UNAVAILABLE, IN(MQTT_CONNACK)},
    {MQTT_RC_SERVER_BUSY, ENDS},
    {MQTT_RC_BANNED, IN(MQTT_CONNACK)},
    {MQTT_RC_SHUTTING_DOWN, IN(MQTT_DISCONNECT)},
    {MQTT_RC_BAD_AUTH_METHOD, ENDS},
    {MQTT_RC_KEEP_ALIVE, IN(MQTT_DISCONNECT)},
    {MQTT_RC_TAKEN_OVER, IN(MQTT_DISCONNECT)},
    {MQTT_RC_BAD_FILTER, SUBS | IN(MQTT_DISCONNECT)},
    {MQTT_RC_BAD_TOPIC, PUB2 | ENDS},
    {MQTT_RC_ID_IN_USE, PUB2 | SUBS},
    {MQTT_RC_ID_NOT_FOUND, REL2},
    {MQTT_RC_RECEIVE_MAX, IN(MQTT_DISCONNECT)},
    {MQTT_RC_BAD_ALIAS, IN(MQTT_DISCONNECT)},
    {MQTT_RC_TOO_LARGE, ENDS},
    {MQTT_RC_RATE, IN(MQTT_DISCONNECT)},
    {MQTT_RC_QUOTA, PUB2 | IN(MQTT_SUBACK) | ENDS},
    {MQTT_RC_ADMIN, IN(MQTT_DISCONNECT)},
    {MQTT_RC_BAD_PAYLOAD, PUB2 | ENDS},
    {MQTT_RC_NO_RETAIN, ENDS},
    {MQTT_RC_NO_QOS, ENDS},
    {MQTT_RC_USE_ANOTHER, ENDS},
    {MQTT_RC_MOVED, ENDS},
    {MQTT_RC_NO_SHARED, IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
    {MQTT_RC_CONN_RATE, ENDS},
    {MQTT_RC_CONNECT_TIME, IN(MQTT_DISCONNECT)},
    {MQTT_RC_NO_SUB_ID, IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
    {MQTT_RC_NO_WILDCARD, IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
};

static bool check_reason(struct mqtt_dec *d, enum mqtt_type type, uint8_t code)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].code == code) {
            if ((reasons[i].where & IN(type)) != 0) {
                return true;
            }
            break;
        }
    }
    return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "the reason code does not exist in this packet (2.4)");
}

static bool decode_connack(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_connack *c = &p->u.connack;
    uint8_t flags = rd_u8(&d->r);
    c->session_present = (flags & 1) != 0;
    c->reason = rd_u8(&d->r);
    mqtt_props_clear(&c->props);
    if (!mqtt_dec_ok(d)) {
        return false;
    }
    if ((flags & 0xfe) != 0) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "reserved CONNACK flags are set (3.2.2-1)");
    }
    if (c->session_present && c->reason != 0) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "a session is present though refused (3.2.2-6)");
    }
    if (d->v != MQTT_V5) {
        return c->reason <= 5 || mqtt_dec_bad(d, MQTT_RC_MALFORMED, "the return code does not exist (3.2.2.3)");
    }
    return check_reason(d, MQTT_CONNACK, c->reason) && decode_props(d, MQTT_CONNACK, &c->props);
}

// PUBLISH (3.3)

static bool decode_publish_flags(struct mqtt_dec *d, const struct mqtt_publish *b)
{
    if (b->qos == 3) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "QoS 3 does not exist (3.3.1-4)");
    }
    if (b->dup && b->qos == 0) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "DUP is set with QoS 0 (3.3.1-2)");
    }
    return true;
}

static bool decode_publish(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_publish *b = &p->u.publish;
    b->dup = (p->flags & 8) != 0;
    b->qos = (uint8_t)(p->flags >> 1 & 3);
    b->retain = (p->flags & 1) != 0;
    b->packet_id = 0;
    if (!decode_publish_flags(d, b) || !mqtt_dec_binary(d, &b->topic)) {
        return false;
    }
    if ((b->qos > 0 && !decode_packet_id(d, &b->packet_id)) || !decode_props(d, MQTT_PUBLISH, &b->props)) {
        return false;
    }
    if (b->topic.len == 0 && MQTT_HAS(&b->props, MQTT_P_ALIAS)) {
        b->payload = rd_rest(&d->r);
        return true;
    }
    if (b->topic.len == 0 && d->v == MQTT_V5) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "an empty topic without a topic alias (3.3.2.1)");
    }
    if (!mqtt_dec_topic(d, b->topic, false)) {
        return false;
    }
    b->payload = rd_rest(&d->r);
    return true;
}

// PUBACK, PUBREC, PUBREL, PUBCOMP (3.4-3.7): without reason it means success, without length there are no properties.
static bool decode_ack(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_ack *a = &p->u.ack;
    a->reason = MQTT_RC_SUCCESS;
    mqtt_props_clear(&a->props);
    if (!decode_packet_id(d, &a->packet_id)) {
        return false;
    }
    if (d->v != MQTT_V5 || reader_left(&d->r) == 0) {
        return true;
    }
    a->reason = rd_u8(&d->r);
    if (!check_reason(d, p->type, a->reason)) {
        return false;
    }
    return reader_left(&d->r) == 0 || decode_props(d, p->type, &a->props);
}

// SUBSCRIBE, UNSUBSCRIBE (3.8, 3.10)

static bool check_sub_options(struct mqtt_dec *d, uint8_t o, struct slice filter)
{
    if ((o & 3) == 3) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "QoS 3 does not exist (3.8.3-4)");
    }
    if (d->v != MQTT_V5) {
        return (o & 0xfc) == 0 || mqtt_dec_bad(d, MQTT_RC_MALFORMED, "reserved SUBSCRIBE bits are set (3.8.3-4)");
    }
    if ((o & 0xc0) != 0) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "reserved subscription option bits are set (3.8.3-5)");
    }
    if ((o & 0x30) == 0x30) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "retain handling 3 does not exist (3.8.3.1)");
    }
    if ((o & 4) != 0 && slice_starts(filter, SLICE("$share/"))) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "no local on a shared subscription (3.8.3-4)");
    }
    return true;
}

static bool decode_filters(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_subscribe *s = &p->u.subscribe;
    s->count = 0;
    if (!decode_packet_id(d, &s->packet_id) || !decode_props(d, p->type, &s->props)) {
        return false;
    }
    s->filters = rd_rest(&d->r);
    struct mqtt_dec sub = {reader_make(s->filters), d->v, d->lim, d->err};
    while (reader_left(&sub.r) > 0) {
        struct slice f;
        if (!mqtt_dec_binary(&sub, &f) || !mqtt_dec_topic(&sub, f, true)) {
            return false;
        }
        if (p->type == MQTT_SUBSCRIBE) {
            uint8_t options = rd_u8(&sub.r);
            if (!mqtt_dec_ok(&sub) || !check_sub_options(&sub, options, f)) {
                return false;
            }
        }
        if (++s->count > d->lim->filters_max) {
            return mqtt_dec_bad(d, MQTT_RC_QUOTA, "more topic filters in one packet than allowed");
        }
    }
    return s->count > 0 || mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "a packet without topic filters (3.8.3-2)");
}

bool mqtt_filter_next(const struct mqtt_packet *p, enum mqtt_version v, size_t *pos, struct mqtt_filter *ret)
{
    struct reader r = reader_make(slice_from(p->u.subscribe.filters, *pos));
    if (reader_left(&r) == 0) {
        return false;
    }
    *ret = (struct mqtt_filter){0};
    ret->filter = rd_bytes(&r, rd_u16(&r));
    if (p->type == MQTT_SUBSCRIBE) {
        uint8_t o = rd_u8(&r);
        ret->qos = o & 3;
        ret->no_local = v == MQTT_V5 && (o & 4) != 0;
        ret->retain_as_published = v == MQTT_V5 && (o & 8) != 0;
        ret->retain_handling = v == MQTT_V5 ? (uint8_t)(o >> 4 & 3) : 0;
    }
    *pos = p->u.subscribe.filters.len - reader_left(&r);
    return !r.failed;
}

static bool check_v311_suback(struct mqtt_dec *d, struct slice codes)
{
    struct reader r = reader_make(codes);
    while (reader_left(&r) > 0) {
        uint8_t c = rd_u8(&r);
        if (c > 2 && c != 0x80) {
            return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "the SUBACK return code does not exist (3.9.3-2)");
        }
    }
    return true;
}

// SUBACK, UNSUBACK (3.9, 3.11)
static bool decode_suback(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_suback *s = &p->u.suback;
    if (!decode_packet_id(d, &s->packet_id) || !decode_props(d, p->type, &s->props)) {
        return false;
    }
    if (d->v != MQTT_V5 && p->type == MQTT_UNSUBACK) {
        s->reasons = (struct slice){NULL, 0}; // has no payload: anything left is trailing
        return true;
    }
    s->reasons = rd_rest(&d->r);
    if (s->reasons.len == 0) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "an acknowledgement without reason codes (3.9.3)");
    }
    if (d->v != MQTT_V5) {
        return check_v311_suback(d, s->reasons);
    }
    struct reader r = reader_make(s->reasons);
    while (reader_left(&r) > 0) {
        if (!check_reason(d, p->type, rd_u8(&r))) {
            return false;
        }
    }
    return true;
}

static bool decode_empty(struct mqtt_dec *d, struct mqtt_packet *p)
{
    (void)d;
    (void)p;
    return true; // trailing bytes are refused for every type alike
}

// DISCONNECT, AUTH (3.14, 3.15)
static bool decode_end(struct mqtt_dec *d, struct mqtt_packet *p)
{
    struct mqtt_disconnect *x = &p->u.disconnect;
    x->reason = MQTT_RC_SUCCESS;
    mqtt_props_clear(&x->props);
    if (d->v != MQTT_V5) {
        return p->type == MQTT_DISCONNECT || mqtt_dec_bad(d, MQTT_RC_MALFORMED, "AUTH does not exist in MQTT 3.1.1");
    }
    if (reader_left(&d->r) == 0) {
        return true;
    }
    x->reason = rd_u8(&d->r);
    if (!check_reason(d, p->type, x->reason)) {
        return false;
    }
    return reader_left(&d->r) == 0 || decode_props(d, p->type, &x->props);
}

// The fixed header's flags by type (2.1.3); PUBLISH has its own meaning for them.
#define FLAGS_ANY 0xff
static const struct type_def {
    bool (*decode)(struct mqtt_dec *d, struct mqtt_packet *p);
    uint8_t flags;
} types[16] = {
    [MQTT_CONNECT] = {decode_connect, 0},
    [MQTT_CONNACK] = {decode_connack, 0},
    [MQTT_PUBLISH] = {decode_publish, FLAGS_ANY},
    [MQTT_PUBACK] = {decode_ack, 0},
    [MQTT_PUBREC] = {decode_ack, 0},
    [MQTT_PUBREL] = {decode_ack, 2},
    [MQTT_PUBCOMP] = {decode_ack, 0},
    [MQTT_SUBSCRIBE] = {decode_filters, 2},
    [MQTT_SUBACK] = {decode_suback, 0},
    [MQTT_UNSUBSCRIBE] = {decode_filters, 2},
    [MQTT_UNSUBACK] = {decode_suback, 0},
    [MQTT_PINGREQ] = {decode_empty, 0},
    [MQTT_PINGRESP] = {decode_empty, 0},
    [MQTT_DISCONNECT] = {decode_end, 0},
    [MQTT_AUTH] = {decode_end, 0},
};

static enum mqtt_result bad(struct mqtt_error *err, uint8_t reason, const char *text)
{
    err->reason = reason;
    err->text = text;
    return MQTT_BAD;
}

// First byte and remaining length (2.1). MQTT_DONE: *ret_body is the packet's body as far as it is there.
static enum mqtt_result decode_header(struct slice in, const struct mqtt_limits *limits, struct mqtt_packet *ret,
                                      size_t *ret_head, size_t *ret_body, struct mqtt_error *err)
{
    struct mqtt_dec d = {reader_make(in), MQTT_V5, limits, err};
    if (in.len == 0) {
        return MQTT_MORE;
    }
    uint8_t first = rd_u8(&d.r);
    ret->type = (enum mqtt_type)(first >> 4);
    ret->flags = first & 0x0f;
    const struct type_def *def = &types[ret->type];
    if (def->decode == NULL) {
        return bad(err, MQTT_RC_MALFORMED, "packet type 0 is reserved (2.1.2)");
    }
    if (def->flags != FLAGS_ANY && def->flags != ret->flags) {
        return bad(err, MQTT_RC_MALFORMED, "the fixed header's flags are not those of this packet type (2.1.3-1)");
    }
    uint32_t len = 0;
    if (!mqtt_dec_vbi(&d, &len)) {
        return d.r.failed ? MQTT_MORE : MQTT_BAD;
    }
    *ret_head = in.len - reader_left(&d.r);
    *ret_body = len;
    if (*ret_head + len > limits->packet_max) {
        return bad(err, MQTT_RC_TOO_LARGE, "the packet is larger than allowed");
    }
    return MQTT_DONE;
}

enum mqtt_result mqtt_decode(struct slice in, enum mqtt_version v, const struct mqtt_limits *limits,
                             struct mqtt_packet *ret, size_t *ret_used, size_t *ret_need, struct mqtt_error *err)
{
    size_t head = 0;
    size_t body = 0;
    ret->type = (enum mqtt_type)0;
    if (ret_need != NULL) {
        *ret_need = 0;
    }
    enum mqtt_result res = decode_header(in, limits, ret, &head, &body, err);
    if (ret->type == MQTT_CONNECT) {
        ret->u.connect.version = (enum mqtt_version)0;
    }
    if (res != MQTT_DONE) {
        return res;
    }
    if (in.len - head < body) {
        if (ret_need != NULL) {
            *ret_need = head + body;
        }
        return MQTT_MORE;
    }
    struct mqtt_dec d = {reader_make(slice_head(slice_from(in, head), body)), v, limits, err};
    if (!types[ret->type].decode(&d, ret)) {
        return MQTT_BAD;
    }
    if (!reader_done(&d.r)) {
        return bad(err, MQTT_RC_MALFORMED, "bytes are left over behind the packet's last field");
    }
    *ret_used = head + body;
    return MQTT_DONE;
}
