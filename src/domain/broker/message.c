#include "domain/broker/message.h"

#include <stdlib.h>

#include "base/buf.h"

static struct message *message_alloc(size_t topic_len, size_t props_len, size_t payload_len)
{
    if (topic_len > UINT16_MAX || props_len > MQTT_PACKET_MAX || payload_len > MQTT_PACKET_MAX) {
        return NULL;
    }
    struct message *m = malloc(sizeof(*m) + topic_len + props_len + payload_len);
    if (m != NULL) {
        *m = (struct message){
            .topic_len = (uint16_t)topic_len, .props_len = (uint32_t)props_len, .payload_len = (uint32_t)payload_len};
        atomic_init(&m->refs, 1);
    }
    return m;
}

struct message *message_new(uint32_t tenant, uint64_t from, const struct mqtt_publish *b, struct slice topic,
                            int64_t now_us)
{
    size_t props_len = mqtt_props_relay(b->props.raw, NULL);
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
        mqtt_props_relay(b->props.raw, &out);
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
