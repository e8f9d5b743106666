// MQTT packets to bytes: each body is first counted, then written, so that nothing half-written stays in the buffer.
#include "proto/mqtt_priv.h"

void mqtt_sink_u8(struct mqtt_sink *s, uint8_t v)
{
    s->len += 1;
    if (s->out != NULL) {
        buf_u8(s->out, v);
    }
}

void mqtt_sink_u16(struct mqtt_sink *s, uint16_t v)
{
    s->len += 2;
    if (s->out != NULL) {
        buf_u16(s->out, v);
    }
}

void mqtt_sink_u32(struct mqtt_sink *s, uint32_t v)
{
    s->len += 4;
    if (s->out != NULL) {
        buf_u32(s->out, v);
    }
}

void mqtt_sink_vbi(struct mqtt_sink *s, uint32_t v)
{
    s->failed = s->failed || v > MQTT_VBI_MAX;
    do {
        uint8_t b = v & 0x7f;
        v >>= 7;
        mqtt_sink_u8(s, v > 0 ? b | 0x80 : b);
    } while (v > 0);
}

void mqtt_sink_bytes(struct mqtt_sink *s, struct slice v)
{
    s->len += v.len;
    if (s->out != NULL && v.len > 0) {
        buf_slice(s->out, v);
    }
}

void mqtt_sink_string(struct mqtt_sink *s, struct slice v)
{
    s->failed = s->failed || v.len > UINT16_MAX;
    mqtt_sink_u16(s, (uint16_t)v.len);
    mqtt_sink_bytes(s, v);
}

static void put_props(struct mqtt_sink *s, enum mqtt_version v, enum mqtt_type where, const struct mqtt_props *p)
{
    if (v == MQTT_V5) {
        mqtt_props_encode(s, (unsigned)where, p);
    }
}

static void put_packet_id(struct mqtt_sink *s, uint16_t id)
{
    s->failed = s->failed || id == 0;
    mqtt_sink_u16(s, id);
}

static void encode_connect(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    const struct mqtt_connect *c = &p->u.connect;
    unsigned flags = (c->clean_start ? 0x02u : 0u) | (c->has_will ? 0x04u : 0u) | (c->has_password ? 0x40u : 0u) |
                     (c->has_username ? 0x80u : 0u);
    if (c->has_will) {
        flags |= (unsigned)c->will_qos << 3 | (c->will_retain ? 0x20u : 0u);
    }
    s->failed = s->failed || c->will_qos > 2 || (v != MQTT_V5 && c->has_password && !c->has_username);
    mqtt_sink_string(s, v == MQTT_V31 ? SLICE("MQIsdp") : SLICE("MQTT"));
    mqtt_sink_u8(s, (uint8_t)v);
    mqtt_sink_u8(s, (uint8_t)flags);
    mqtt_sink_u16(s, c->keep_alive_s);
    put_props(s, v, MQTT_CONNECT, &c->props);
    mqtt_sink_string(s, c->client_id);
    if (c->has_will) {
        if (v == MQTT_V5) {
            mqtt_props_encode(s, MQTT_PROPS_WILL, &c->will_props);
        }
        s->failed = s->failed || c->will_topic.len == 0;
        mqtt_sink_string(s, c->will_topic);
        mqtt_sink_string(s, c->will_payload);
    }
    if (c->has_username) {
        mqtt_sink_string(s, c->username);
    }
    if (c->has_password) {
        mqtt_sink_string(s, c->password);
    }
}

static void encode_connack(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    const struct mqtt_connack *c = &p->u.connack;
    mqtt_sink_u8(s, c->session_present ? 1 : 0);
    mqtt_sink_u8(s, c->reason);
    put_props(s, v, MQTT_CONNACK, &c->props);
}

static void encode_publish(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    const struct mqtt_publish *b = &p->u.publish;
    bool alias = v == MQTT_V5 && MQTT_HAS(&b->props, MQTT_P_ALIAS);
    s->failed = s->failed || b->qos > 2 || (b->dup && b->qos == 0) || (b->topic.len == 0 && !alias);
    mqtt_sink_string(s, b->topic);
    if (b->qos > 0) {
        put_packet_id(s, b->packet_id);
    }
    put_props(s, v, MQTT_PUBLISH, &b->props);
    mqtt_sink_bytes(s, b->payload);
}

// The shortest form: no properties without any, no reason when it is success (3.4.2.1).
static void put_reason(struct mqtt_sink *s, enum mqtt_type type, uint8_t reason, const struct mqtt_props *props)
{
    bool has_props = props->present != 0 || props->raw.len > 0;
    if (has_props || reason != MQTT_RC_SUCCESS) {
        mqtt_sink_u8(s, reason);
    }
    if (has_props) {
        mqtt_props_encode(s, (unsigned)type, props);
    }
}

static void encode_ack(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    const struct mqtt_ack *a = &p->u.ack;
    put_packet_id(s, a->packet_id);
    if (v == MQTT_V5) {
        put_reason(s, p->type, a->reason, &a->props);
    }
}

static void encode_filters(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    const struct mqtt_subscribe *b = &p->u.subscribe;
    s->failed = s->failed || b->filters.len == 0;
    put_packet_id(s, b->packet_id);
    put_props(s, v, p->type, &b->props);
    mqtt_sink_bytes(s, b->filters);
}

static void encode_suback(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    const struct mqtt_suback *b = &p->u.suback;
    put_packet_id(s, b->packet_id);
    put_props(s, v, p->type, &b->props);
    if (v == MQTT_V5 || p->type == MQTT_SUBACK) {
        s->failed = s->failed || b->reasons.len == 0;
        mqtt_sink_bytes(s, b->reasons);
    }
}

static void encode_empty(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    (void)s;
    (void)v;
    (void)p;
}

static void encode_end(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p)
{
    if (v == MQTT_V5) {
        put_reason(s, p->type, p->u.disconnect.reason, &p->u.disconnect.props);
    }
    s->failed = s->failed || (v != MQTT_V5 && p->type == MQTT_AUTH);
}

typedef void (*encode_fn)(struct mqtt_sink *s, enum mqtt_version v, const struct mqtt_packet *p);
static const encode_fn encoders[16] = {
    [MQTT_CONNECT] = encode_connect,     [MQTT_CONNACK] = encode_connack,   [MQTT_PUBLISH] = encode_publish,
    [MQTT_PUBACK] = encode_ack,          [MQTT_PUBREC] = encode_ack,        [MQTT_PUBREL] = encode_ack,
    [MQTT_PUBCOMP] = encode_ack,         [MQTT_SUBSCRIBE] = encode_filters, [MQTT_SUBACK] = encode_suback,
    [MQTT_UNSUBSCRIBE] = encode_filters, [MQTT_UNSUBACK] = encode_suback,   [MQTT_PINGREQ] = encode_empty,
    [MQTT_PINGRESP] = encode_empty,      [MQTT_DISCONNECT] = encode_end,    [MQTT_AUTH] = encode_end,
};

static uint8_t first_byte(const struct mqtt_packet *p)
{
    unsigned flags = 0;
    if (p->type == MQTT_PUBLISH) {
        const struct mqtt_publish *b = &p->u.publish;
        flags = (b->dup ? 8u : 0u) | (unsigned)b->qos << 1 | (b->retain ? 1u : 0u);
    } else if (p->type == MQTT_PUBREL || p->type == MQTT_SUBSCRIBE || p->type == MQTT_UNSUBSCRIBE) {
        flags = 2; // 2.1.3-1
    }
    return (uint8_t)((unsigned)p->type << 4 | flags);
}

bool mqtt_encode(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p)
{
    encode_fn encode = (unsigned)p->type < 16 ? encoders[p->type] : NULL;
    if (encode == NULL) {
        return false;
    }
    struct mqtt_sink count = {NULL, 0, false};
    encode(&count, v, p);
    struct mqtt_sink head = {NULL, 1, false};
    mqtt_sink_vbi(&head, (uint32_t)count.len);
    if (count.failed || count.len > MQTT_VBI_MAX || buf_reserve(out, head.len + count.len) == NULL) {
        return false;
    }
    struct mqtt_sink s = {out, 0, false};
    mqtt_sink_u8(&s, first_byte(p));
    mqtt_sink_vbi(&s, (uint32_t)count.len);
    encode(&s, v, p);
    return !out->failed;
}

bool mqtt_encode_ack(struct buf *out, enum mqtt_version v, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                     const char *reason_string)
{
    struct mqtt_packet p;
    p.type = type;
    if (v == MQTT_V5 && reason_string != NULL) {
        p.u.ack = (struct mqtt_ack){.packet_id = packet_id, .reason = reason};
        p.u.ack.props.present = MQTT_P_REASON_STRING;
        p.u.ack.props.reason_string = slice_str(reason_string);
        return mqtt_encode(out, v, &p);
    }
    bool with_reason = v == MQTT_V5 && reason != MQTT_RC_SUCCESS;
    return packet_id != 0 && buf_reserve(out, with_reason ? 5 : 4) != NULL && buf_u8(out, first_byte(&p)) &&
           buf_u8(out, with_reason ? 3 : 2) && buf_u16(out, packet_id) && (!with_reason || buf_u8(out, reason));
}

bool mqtt_encode_puback(struct buf *out, enum mqtt_version v, uint16_t packet_id, uint8_t reason,
                        const char *reason_string)
{
    return mqtt_encode_ack(out, v, MQTT_PUBACK, packet_id, reason, reason_string);
}

// --- a PUBLISH for many --------------------------------------------------------------------------------------------

static size_t vbi_len(size_t v)
{
    return v < 0x80 ? 1 : v < 0x4000 ? 2 : v < 0x200000 ? 3 : 4;
}

static size_t relay_props_len(const struct mqtt_relay *r)
{
    size_t len = r->props.len + (r->has_expiry ? 5u : 0u) + (r->alias != 0 ? 3u : 0u);
    for (unsigned i = 0; i < r->sub_ids_len; i++) {
        len += 1 + vbi_len(r->sub_ids[i]);
    }
    return len;
}

static size_t relay_body_len(enum mqtt_version v, const struct mqtt_relay *r)
{
    size_t len = 2 + r->topic.len + (r->qos > 0 ? 2u : 0u) + r->payload.len;
    if (v == MQTT_V5) {
        size_t props = relay_props_len(r);
        len += vbi_len(props) + props;
    }
    return len;
}

size_t mqtt_relay_size(enum mqtt_version v, const struct mqtt_relay *r)
{
    bool named = r->topic.len > 0 || (v == MQTT_V5 && r->alias != 0);
    size_t len = relay_body_len(v, r);
    bool ok = named && r->topic.len <= UINT16_MAX && (r->qos > 0) == (r->packet_id != 0) && len <= MQTT_VBI_MAX;
    return ok ? 1 + vbi_len(len) + len : 0;
}

static void put_relay_props(struct mqtt_sink *s, const struct mqtt_relay *r)
{
    mqtt_sink_vbi(s, (uint32_t)relay_props_len(r));
    if (r->has_expiry) {
        mqtt_sink_u8(s, 0x02);
        mqtt_sink_u32(s, r->expiry_s);
    }
    if (r->alias != 0) {
        mqtt_sink_u8(s, 0x23);
        mqtt_sink_u16(s, r->alias);
    }
    for (unsigned i = 0; i < r->sub_ids_len; i++) {
        mqtt_sink_u8(s, 0x0b);
        mqtt_sink_vbi(s, r->sub_ids[i]);
    }
    mqtt_sink_bytes(s, r->props);
}

bool mqtt_encode_relay(struct buf *out, enum mqtt_version v, const struct mqtt_relay *r, size_t size)
{
    if (size == 0 || buf_reserve(out, size) == NULL) {
        return false;
    }
    struct mqtt_sink s = {out, 0, false};
    unsigned flags = (r->dup ? 8u : 0u) | (unsigned)r->qos << 1 | (r->retain ? 1u : 0u);
    mqtt_sink_u8(&s, (uint8_t)((unsigned)MQTT_PUBLISH << 4 | flags));
    mqtt_sink_vbi(&s, (uint32_t)relay_body_len(v, r));
    mqtt_sink_u16(&s, (uint16_t)r->topic.len);
    mqtt_sink_bytes(&s, r->topic);
    if (r->qos > 0) {
        mqtt_sink_u16(&s, r->packet_id);
    }
    if (v == MQTT_V5) {
        put_relay_props(&s, r);
    }
    mqtt_sink_bytes(&s, r->payload);
    return !s.failed && !out->failed;
}

bool mqtt_filter_put(struct buf *filters, bool unsubscribe, const struct mqtt_filter *f)
{
    if (f->filter.len == 0 || f->filter.len > UINT16_MAX || f->qos > 2 || f->retain_handling > 2 ||
        buf_reserve(filters, f->filter.len + (unsubscribe ? 2 : 3)) == NULL) {
        return false;
    }
    unsigned options =
        f->qos | (f->no_local ? 4u : 0u) | (f->retain_as_published ? 8u : 0u) | (unsigned)f->retain_handling << 4;
    return buf_u16(filters, (uint16_t)f->filter.len) && buf_slice(filters, f->filter) &&
           (unsubscribe || buf_u8(filters, (uint8_t)options));
}
