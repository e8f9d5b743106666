// A message on its way through the broker: made once, shared by all who get it, never changed.
#ifndef DOMAIN_MESSAGE_H
#define DOMAIN_MESSAGE_H

#include <stdatomic.h>

#include "base/slice.h"
#include "proto/mqtt.h"

struct message {
    _Atomic uint32_t refs;
    uint32_t tenant;
    uint64_t from; // serial of the publisher's session, for no-local (MQTT 5.0 section 3.8.3.1); 0: the server itself
    int64_t expires_us; // wall clock; 0: never (3.3.2.3.3)
    uint8_t qos;        // the publisher's
    bool retain;        // the publisher's flag
    uint16_t topic_len;
    uint32_t
        props_len; // encoded properties that are passed on unchanged: payload format, content type, response topic,
                   // correlation data, user properties, in their order (3.3.2-15 to -20)
    uint32_t payload_len;
    uint8_t bytes[]; // topic, properties, payload
};
// Copies everything. NULL: no memory.
struct message *message_new(uint32_t tenant, uint64_t from, const struct mqtt_publish *b, struct slice topic,
                            int64_t now_us);
// The same from parts that were encoded before: what the store has kept. Copies everything. NULL: no memory.
struct message_parts {
    uint32_t tenant;
    int64_t expires_us;
    uint8_t qos;
    bool retain;
    struct slice topic, props, payload;
};
struct message *message_stored(const struct message_parts *parts);
struct message *message_ref(struct message *m);
void message_unref(struct message *m); // any thread; NULL is allowed
// What it costs to keep: the bytes of its three parts.
static inline size_t message_bytes(const struct message *m)
{
    return (size_t)m->topic_len + m->props_len + m->payload_len;
}
static inline struct slice message_topic(const struct message *m)
{
    return slice_make(m->bytes, m->topic_len);
}
static inline struct slice message_props(const struct message *m)
{
    return slice_make(m->bytes + m->topic_len, m->props_len);
}
static inline struct slice message_payload(const struct message *m)
{
    return slice_make(m->bytes + m->topic_len + m->props_len, m->payload_len);
}

#endif
