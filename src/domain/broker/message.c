#include "domain/broker/message.h"

#include <stdlib.h>

#include "base/buf.h"

// Properties of a PUBLISH that travel with the message (MQTT 5.0 sections 3.3.2-4, -6, -15 to -20), in one order.
enum { PROP_PAYLOAD_FORMAT = 0x01, PROP_CONTENT_TYPE = 0x03, PROP_RESPONSE_TOPIC = 0x08, PROP_CORRELATION = 0x09 };
enum { PROP_USER = 0x26 };

static size_t text_size(const struct mqtt_props *p, uint32_t bit, struct slice s)
{
    return MQTT_HAS(p, bit) ? 1 + 2 + s.len : 0;
}

static size_t props_size(const struct mqtt_props *p)
{
    size_t n = MQTT_HAS(p, MQTT_P_PAYLOAD_FORMAT) ? 2 : 0;
    n += text_size(p, MQTT_P_CONTENT_TYPE, p->content_type);
    n += text_size(p, MQTT_P_RESPONSE_TOPIC, p->response_topic);
    n += text_size(p, MQTT_P_CORRELATION, p->correlation);
    size_t pos = 0;
    struct slice key;
    struct slice value;
    while (mqtt_props_next_user(p, &pos, &key, &value)) {
        n += 1 + 2 + key.len + 2 + value.len;
    }
    return n;
}

static void put_text(struct buf *b, struct slice s)
{
    buf_u16(b, (uint16_t)s.len);
    buf_slice(b, s);
}

static void put_prop(struct buf *b, const struct mqtt_props *p, uint32_t bit, uint8_t id, struct slice s)
{
    if (MQTT_HAS(p, bit)) {
        buf_u8(b, id);
        put_text(b, s);
    }
}

static void put_props(struct buf *b, const struct mqtt_props *p)
{
    if (MQTT_HAS(p, MQTT_P_PAYLOAD_FORMAT)) {
        buf_u8(b, PROP_PAYLOAD_FORMAT);
        buf_u8(b, p->payload_format);
    }
    put_prop(b, p, MQTT_P_CONTENT_TYPE, PROP_CONTENT_TYPE, p->content_type);
    put_prop(b, p, MQTT_P_RESPONSE_TOPIC, PROP_RESPONSE_TOPIC, p->response_topic);
    put_prop(b, p, MQTT_P_CORRELATION, PROP_CORRELATION, p->correlation);
    size_t pos = 0;
    struct slice key;
    struct slice value;
    while (mqtt_props_next_user(p, &pos, &key, &value)) {
        buf_u8(b, PROP_USER);
        put_text(b, key);
        put_text(b, value);
    }
}

static struct message *message_alloc(size_t topic_len, size_t props_len, size_t payload_len)
{
    if (topic_len > UINT16_MAX || props_len > MQTT_PACKET_MAX || payload_len > MQTT_PACKET_MAX) {
        return NULL;
    }
    struct message *m = malloc(sizeof(*m) + topic_len + props_len + payload_len);
    if (m != NULL) {
        *m = (struct message){.topic_len = (uint16_t)topic_len,
                              .props_len = (uint32_t)props_len,
                              .payload_len = (uint32_t)payload_len};
        atomic_init(&m->refs, 1);
    }
    return m;
}

struct message *message_new(uint32_t tenant, uint64_t from, const struct mqtt_publish *b, struct slice topic,
                            int64_t now_us)
{
    size_t props_len = b->props.present != 0 ? props_size(&b->props) : 0;
    struct message *m = message_alloc(topic.len, props_len, b->payload.len);
    if (m == NULL) {
        return NULL;
    }
    m->tenant = tenant;
    m->from = from;
    m->qos = b->qos;
    m->retain = b->retain;
    if (MQTT_HAS(&b->props, MQTT_P_MESSAGE_EXPIRY)) {
        m->expires_us = now_us + (int64_t)b->props.message_expiry * 1000000;
    }
    struct buf out = buf_fixed(m->bytes, topic.len + props_len + b->payload.len);
    buf_slice(&out, topic);
    if (props_len > 0) {
        put_props(&out, &b->props);
    }
    buf_slice(&out, b->payload);
    return m;
}

struct message *message_stored(const struct message_parts *parts)
{
    struct message *m = message_alloc(parts->topic.len, parts->props.len, parts->payload.len);
    if (m == NULL) {
        return NULL;
    }
    m->tenant = parts->tenant;
    m->expires_us = parts->expires_us;
    m->qos = parts->qos;
    m->retain = parts->retain;
    struct buf out = buf_fixed(m->bytes, parts->topic.len + parts->props.len + parts->payload.len);
    buf_slice(&out, parts->topic);
    buf_slice(&out, parts->props);
    buf_slice(&out, parts->payload);
    return m;
}

struct message *message_ref(struct message *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void message_unref(struct message *m)
{
    if (m != NULL && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) {
        free(m);
    }
}
