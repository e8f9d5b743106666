// What a client has subscribed to, and the messages on their way to it. Today it lives and dies with the connection; nothing
// in it points at the connection, so that a session can outlive one.
//
//   message:  put -> QUEUED -> next -> IN FLIGHT (QoS 1) -> acked
//                                  \-> gone (QoS 0)
// Messages leave in the order they came. At most `window` are in flight (the client's receive maximum, our own limit).
#ifndef FRONT_MQTT_SESSION_H
#define FRONT_MQTT_SESSION_H

#include "core/link.h"
#include "front/mqtt/topics.h"

#define SESSION_NOT_SUBSCRIBED 0xff

struct session_limits {
    uint16_t window;
    uint32_t queue_max;
    size_t queue_bytes_max;
};
struct flight {
    uint16_t packet_id; // 0: free
    struct down *down;
};
struct session {
    uint8_t granted[SUB__COUNT]; // QoS, or SESSION_NOT_SUBSCRIBED
    struct session_limits limits;
    struct flight *flights; // `window` slots, made with the first QoS 1 message
    uint16_t in_flight;
    uint16_t last_id;
    struct down *first, *last; // queue, linked through post.next: a delivered message's post is free
    uint32_t queue_len;
    size_t queue_bytes;
};

// Subscribed to nothing, nothing on its way. The limits are copied; the window may be lowered before the first message.
void session_init(struct session *s, const struct session_limits *limits);
// Drops all messages and subscriptions; as after session_init.
void session_release(struct session *s);

// Subscribes, or changes the QoS (0 or 1) of a subscription.
void session_subscribe(struct session *s, enum sub sub, uint8_t qos);
bool session_unsubscribe(struct session *s, enum sub sub); // false: was not subscribed

// Takes `d` on ST_OK. ST_NOT_FOUND: not subscribed to its topic; ST_LIMIT: the queue is full.
enum status session_put(struct session *s, struct down *d);
// The next message that may leave now, or NULL. With QoS 1 the session keeps it until session_acked; with QoS 0 it is the
// caller's. *ret_qos and *ret_packet_id say how to send it.
struct down *session_next(struct session *s, uint8_t *ret_qos, uint16_t *ret_packet_id);
// The client acknowledged: the message, now the caller's, or NULL when the id is not in flight.
struct down *session_acked(struct session *s, uint16_t packet_id);

#endif
