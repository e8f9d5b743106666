#include "proto/mqtt_text.h"

static const char hex[] = "0123456789abcdef";

// Between quotes, at most `max` bytes of it. ASCII as it is, the rest escaped; UTF-8 text stays readable where it is valid
// JSON-like ASCII, which is what device payloads mostly are.
static void quoted(struct buf *out, struct slice s, size_t max)
{
    buf_u8(out, '"');
    for (size_t i = 0; i < s.len && i < max; i++) {
        uint8_t ch = s.p[i];
        if (ch == '"' || ch == '\\') {
            buf_u8(out, '\\');
            buf_u8(out, ch);
        } else if (ch >= 0x20 && ch < 0x7f) {
            buf_u8(out, ch);
        } else {
            buf_str(out, "\\x");
            buf_u8(out, (uint8_t)hex[ch >> 4]);
            buf_u8(out, (uint8_t)hex[ch & 15]);
        }
    }
    buf_str(out, s.len > max ? "\"..." : "\"");
}

static void field(struct buf *out, const char *name, struct slice s)
{
    buf_u8(out, ' ');
    buf_str(out, name);
    buf_u8(out, '=');
    quoted(out, s, 256);
}

static void number(struct buf *out, const char *name, unsigned long v)
{
    buf_printf(out, " %s=%lu", name, v);
}

static void reason(struct buf *out, uint8_t code)
{
    buf_printf(out, " reason=0x%02x", code);
}

// --- properties --------------------------------------------------------------------------------------------------

static void numbers_of(struct buf *out, const struct mqtt_props *p)
{
    const struct {
        uint32_t bit;
        const char *name;
        uint32_t value;
    } all[] = {
        {MQTT_P_PAYLOAD_FORMAT, "payload_format", p->payload_format},
        {MQTT_P_MESSAGE_EXPIRY, "message_expiry", p->message_expiry},
        {MQTT_P_SESSION_EXPIRY, "session_expiry", p->session_expiry},
        {MQTT_P_SERVER_KEEP_ALIVE, "server_keep_alive", p->server_keep_alive},
        {MQTT_P_REQUEST_PROBLEM, "request_problem", p->request_problem},
        {MQTT_P_REQUEST_RESPONSE, "request_response", p->request_response},
        {MQTT_P_WILL_DELAY, "will_delay", p->will_delay},
        {MQTT_P_RECEIVE_MAX, "receive_max", p->receive_max},
        {MQTT_P_ALIAS_MAX, "alias_max", p->alias_max},
        {MQTT_P_ALIAS, "alias", p->alias},
        {MQTT_P_MAX_QOS, "max_qos", p->max_qos},
        {MQTT_P_RETAIN_AVAILABLE, "retain_available", p->retain_available},
        {MQTT_P_MAX_PACKET, "max_packet", p->max_packet},
        {MQTT_P_WILDCARD_AVAILABLE, "wildcard_available", p->wildcard_available},
        {MQTT_P_SUB_ID_AVAILABLE, "sub_id_available", p->sub_id_available},
        {MQTT_P_SHARED_AVAILABLE, "shared_available", p->shared_available},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (MQTT_HAS(p, all[i].bit)) {
            number(out, all[i].name, all[i].value);
        }
    }
}

static void texts_of(struct buf *out, const struct mqtt_props *p)
{
    const struct {
        uint32_t bit;
        const char *name;
        struct slice value;
    } all[] = {
        {MQTT_P_CONTENT_TYPE, "content_type", p->content_type},
        {MQTT_P_RESPONSE_TOPIC, "response", p->response_topic},
        {MQTT_P_CORRELATION, "correlation", p->correlation},
        {MQTT_P_ASSIGNED_ID, "assigned_id", p->assigned_id},
        {MQTT_P_AUTH_METHOD, "auth_method", p->auth_method},
        {MQTT_P_RESPONSE_INFO, "response_info", p->response_info},
        {MQTT_P_SERVER_REF, "server_ref", p->server_ref},
        {MQTT_P_REASON_STRING, "text", p->reason_string},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (MQTT_HAS(p, all[i].bit)) {
            field(out, all[i].name, all[i].value);
        }
    }
    if (MQTT_HAS(p, MQTT_P_AUTH_DATA)) {
        number(out, "auth_data", p->auth_data.len); // it may hold a proof: only its length
    }
}

static void properties(struct buf *out, const struct mqtt_props *p)
{
    if (p->present == 0) {
        return;
    }
    numbers_of(out, p);
    texts_of(out, p);
    size_t pos = 0;
    struct slice key;
    struct slice value;
    while (mqtt_props_next_user(p, &pos, &key, &value)) {
        buf_str(out, " user:");
        quoted(out, key, 64);
        buf_u8(out, '=');
        quoted(out, value, 128);
    }
    uint32_t id = 0;
    pos = 0;
    while (mqtt_props_next_sub_id(p, &pos, &id)) {
        number(out, "sub_id", id);
    }
}

// --- packets -----------------------------------------------------------------------------------------------------

static void text_connect(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    (void)v;
    const struct mqtt_connect *c = &p->u.connect;
    const char *version = c->version == MQTT_V5 ? "5.0" : c->version == MQTT_V311 ? "3.1.1" : "3.1";
    buf_printf(out, " version=%s", version);
    field(out, "client", c->client_id);
    number(out, "keep_alive", c->keep_alive_s);
    buf_str(out, c->clean_start ? " clean" : " resume");
    if (c->has_username) {
        field(out, "user", c->username);
    }
    buf_str(out, c->has_password ? " password=(hidden)" : "");
    properties(out, &c->props);
    if (c->has_will) {
        field(out, "will", c->will_topic);
        buf_printf(out, " will_qos=%u%s will_payload=%zu", c->will_qos, c->will_retain ? " will_retain" : "",
                   c->will_payload.len);
        properties(out, &c->will_props);
    }
}

static void text_connack(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    (void)v;
    reason(out, p->u.connack.reason);
    buf_str(out, p->u.connack.session_present ? " session_present" : "");
    properties(out, &p->u.connack.props);
}

static void text_publish(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    (void)v;
    const struct mqtt_publish *b = &p->u.publish;
    if (b->qos > 0) {
        number(out, "id", b->packet_id);
    }
    buf_printf(out, " qos=%u%s%s", b->qos, b->dup ? " dup" : "", b->retain ? " retain" : "");
    field(out, "topic", b->topic);
    properties(out, &b->props);
    number(out, "payload", b->payload.len);
    buf_u8(out, ' ');
    quoted(out, b->payload, MQTT_TEXT_PAYLOAD_MAX);
}

static void text_ack(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    number(out, "id", p->u.ack.packet_id);
    if (v == MQTT_V5) {
        reason(out, p->u.ack.reason);
        properties(out, &p->u.ack.props);
    }
}

static void text_subscribe(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    number(out, "id", p->u.subscribe.packet_id);
    properties(out, &p->u.subscribe.props);
    struct mqtt_filter f;
    size_t pos = 0;
    while (mqtt_filter_next(p, v, &pos, &f)) {
        field(out, "filter", f.filter);
        if (p->type == MQTT_SUBSCRIBE) {
            buf_printf(out, " qos=%u%s%s", f.qos, f.no_local ? " no_local" : "",
                       f.retain_as_published ? " retain_as_published" : "");
            buf_str(out, f.retain_handling == 1 ? " retain=new" : f.retain_handling == 2 ? " retain=none" : "");
        }
    }
}

static void text_suback(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    (void)v;
    const struct mqtt_suback *a = &p->u.suback;
    number(out, "id", a->packet_id);
    for (size_t i = 0; i < a->reasons.len; i++) {
        reason(out, a->reasons.p[i]);
    }
    properties(out, &a->props);
}

static void text_disconnect(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    if (v == MQTT_V5) {
        reason(out, p->u.disconnect.reason);
        properties(out, &p->u.disconnect.props);
    }
}

static void text_bare(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    (void)out;
    (void)v;
    (void)p;
}

static void (*const texts[16])(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p) = {
    [0] = text_bare,
    [MQTT_CONNECT] = text_connect,
    [MQTT_CONNACK] = text_connack,
    [MQTT_PUBLISH] = text_publish,
    [MQTT_PUBACK] = text_ack,
    [MQTT_PUBREC] = text_ack,
    [MQTT_PUBREL] = text_ack,
    [MQTT_PUBCOMP] = text_ack,
    [MQTT_SUBSCRIBE] = text_subscribe,
    [MQTT_SUBACK] = text_suback,
    [MQTT_UNSUBSCRIBE] = text_subscribe,
    [MQTT_UNSUBACK] = text_suback,
    [MQTT_PINGREQ] = text_bare,
    [MQTT_PINGRESP] = text_bare,
    [MQTT_DISCONNECT] = text_disconnect,
    [MQTT_AUTH] = text_disconnect,
};

bool mqtt_text(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    buf_str(out, mqtt_type_text(p->type));
    texts[(unsigned)p->type & 15u](out, v, p);
    return !out->failed;
}

bool mqtt_password_place(struct slice packet, size_t *ret_offset, size_t *ret_len)
{
    static const struct mqtt_limits any = {.packet_max = MQTT_PACKET_MAX,
                                           .topic_max = UINT16_MAX,
                                           .levels_max = UINT16_MAX,
                                           .user_props_max = UINT16_MAX,
                                           .filters_max = UINT16_MAX,
                                           .user_props_bytes_max = UINT32_MAX};
    struct mqtt_packet p;
    struct mqtt_error err;
    size_t used = 0;
    if (mqtt_decode(packet, MQTT_V5, &any, &p, &used, NULL, &err) != MQTT_DONE || p.type != MQTT_CONNECT ||
        !p.u.connect.has_password || p.u.connect.password.len == 0) {
        return false;
    }
    *ret_offset = (size_t)(p.u.connect.password.p - packet.p);
    *ret_len = p.u.connect.password.len;
    return true;
}
