// MQTT 3.1.1 and 5.0 packets: bytes <-> structs (OASIS MQTT 3.1.1 sections 2-3, MQTT 5.0 sections 2-3).
//
// No sockets, no clock, no allocation. Decoding borrows from the input; encoding goes into a buf. Used by the server's
// front and by the device SDK, each in its own direction. Strict C11.
#ifndef PROTO_MQTT_H
#define PROTO_MQTT_H

#include "base/buf.h"
#include "base/reader.h"
#include "base/slice.h"

#define MQTT_PACKET_MAX 268435460u // 4 header bytes + 268,435,455

enum mqtt_version { MQTT_V31 = 3, MQTT_V311 = 4, MQTT_V5 = 5 };

enum mqtt_type {
    MQTT_CONNECT = 1,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT,
    MQTT_AUTH
};
// "PUBLISH"; "reserved" for anything that is no packet type. Never NULL.
const char *mqtt_type_text(enum mqtt_type t);

// Reason codes (MQTT 5.0 section 2.4); values are the wire's.
enum mqtt_reason {
    MQTT_RC_SUCCESS = 0x00,
    MQTT_RC_GRANTED_QOS1 = 0x01,
    MQTT_RC_GRANTED_QOS2 = 0x02,
    MQTT_RC_DISCONNECT_WITH_WILL = 0x04,
    MQTT_RC_NO_MATCHING_SUBSCRIBERS = 0x10,
    MQTT_RC_NO_SUBSCRIPTION = 0x11,
    MQTT_RC_CONTINUE_AUTH = 0x18,
    MQTT_RC_REAUTHENTICATE = 0x19,
    MQTT_RC_UNSPECIFIED = 0x80,
    MQTT_RC_MALFORMED = 0x81,
    MQTT_RC_PROTOCOL_ERROR = 0x82,
    MQTT_RC_IMPLEMENTATION = 0x83,
    MQTT_RC_BAD_VERSION = 0x84,
    MQTT_RC_BAD_CLIENT_ID = 0x85,
    MQTT_RC_BAD_CREDENTIALS = 0x86,
    MQTT_RC_NOT_AUTHORIZED = 0x87,
    MQTT_RC_SERVER_UNAVAILABLE = 0x88,
    MQTT_RC_SERVER_BUSY = 0x89,
    MQTT_RC_BANNED = 0x8a,
    MQTT_RC_SHUTTING_DOWN = 0x8b,
    MQTT_RC_BAD_AUTH_METHOD = 0x8c,
    MQTT_RC_KEEP_ALIVE = 0x8d,
    MQTT_RC_TAKEN_OVER = 0x8e,
    MQTT_RC_BAD_FILTER = 0x8f,
    MQTT_RC_BAD_TOPIC = 0x90,
    MQTT_RC_ID_IN_USE = 0x91,
    MQTT_RC_ID_NOT_FOUND = 0x92,
    MQTT_RC_RECEIVE_MAX = 0x93,
    MQTT_RC_BAD_ALIAS = 0x94,
    MQTT_RC_TOO_LARGE = 0x95,
    MQTT_RC_RATE = 0x96,
    MQTT_RC_QUOTA = 0x97,
    MQTT_RC_ADMIN = 0x98,
    MQTT_RC_BAD_PAYLOAD = 0x99,
    MQTT_RC_NO_RETAIN = 0x9a,
    MQTT_RC_NO_QOS = 0x9b,
    MQTT_RC_USE_ANOTHER = 0x9c,
    MQTT_RC_MOVED = 0x9d,
    MQTT_RC_NO_SHARED = 0x9e,
    MQTT_RC_CONN_RATE = 0x9f,
    MQTT_RC_CONNECT_TIME = 0xa0,
    MQTT_RC_NO_SUB_ID = 0xa1,
    MQTT_RC_NO_WILDCARD = 0xa2
};

// Properties (MQTT 5.0 section 2.2.2.2) as a struct of what was present. User properties and subscription ids stay in the
// packet's bytes and are read with mqtt_props_next.
#define MQTT_HAS(p, bit) (((p)->present & (bit)) != 0)
enum mqtt_prop_bit {
    MQTT_P_PAYLOAD_FORMAT = 1u << 0,
    MQTT_P_MESSAGE_EXPIRY = 1u << 1,
    MQTT_P_CONTENT_TYPE = 1u << 2,
    MQTT_P_RESPONSE_TOPIC = 1u << 3,
    MQTT_P_CORRELATION = 1u << 4,
    MQTT_P_SUB_ID = 1u << 5,
    MQTT_P_SESSION_EXPIRY = 1u << 6,
    MQTT_P_ASSIGNED_ID = 1u << 7,
    MQTT_P_SERVER_KEEP_ALIVE = 1u << 8,
    MQTT_P_AUTH_METHOD = 1u << 9,
    MQTT_P_AUTH_DATA = 1u << 10,
    MQTT_P_REQUEST_PROBLEM = 1u << 11,
    MQTT_P_WILL_DELAY = 1u << 12,
    MQTT_P_REQUEST_RESPONSE = 1u << 13,
    MQTT_P_RESPONSE_INFO = 1u << 14,
    MQTT_P_SERVER_REF = 1u << 15,
    MQTT_P_REASON_STRING = 1u << 16,
    MQTT_P_RECEIVE_MAX = 1u << 17,
    MQTT_P_ALIAS_MAX = 1u << 18,
    MQTT_P_ALIAS = 1u << 19,
    MQTT_P_MAX_QOS = 1u << 20,
    MQTT_P_RETAIN_AVAILABLE = 1u << 21,
    MQTT_P_USER = 1u << 22,
    MQTT_P_MAX_PACKET = 1u << 23,
    MQTT_P_WILDCARD_AVAILABLE = 1u << 24,
    MQTT_P_SUB_ID_AVAILABLE = 1u << 25,
    MQTT_P_SHARED_AVAILABLE = 1u << 26
};
struct mqtt_props {
    uint32_t present;
    uint32_t message_expiry, session_expiry, will_delay, max_packet, sub_id;
    uint16_t server_keep_alive, receive_max, alias_max, alias;
    uint8_t payload_format, request_problem, request_response, max_qos, retain_available, wildcard_available,
        sub_id_available, shared_available;
    struct slice content_type, response_topic, correlation, assigned_id, auth_method, auth_data, response_info,
        server_ref, reason_string;
    unsigned user_count;
    // All property bytes. Decoding: what mqtt_props_next_* walk. Encoding: the user properties and subscription identifiers
    // in it are written (others come from the fields above); {NULL, 0} when there are none. sub_id is the first one.
    struct slice raw;
};
// Next user property in raw; start with *pos = 0. False at the end.
bool mqtt_props_next_user(const struct mqtt_props *p, size_t *pos, struct slice *ret_key, struct slice *ret_value);
bool mqtt_props_next_sub_id(const struct mqtt_props *p, size_t *pos, uint32_t *ret_id);

struct mqtt_connect {
    enum mqtt_version version;
    bool clean_start, has_will, has_username, has_password, will_retain;
    uint8_t will_qos;
    uint16_t keep_alive_s;
    struct mqtt_props props, will_props;
    struct slice client_id, will_topic, will_payload, username, password;
};
struct mqtt_connack {
    bool session_present;
    uint8_t reason;
    struct mqtt_props props;
};
struct mqtt_publish {
    bool dup, retain;
    uint8_t qos;
    uint16_t packet_id; // 0 with QoS 0
    struct slice topic, payload;
    struct mqtt_props props;
};
struct mqtt_ack {
    uint16_t packet_id;
    uint8_t reason;
    struct mqtt_props props;
}; // PUBACK, PUBREC, PUBREL, PUBCOMP
struct mqtt_subscribe {
    uint16_t packet_id;
    struct mqtt_props props;
    struct slice filters;
    unsigned count;
};
struct mqtt_suback {
    uint16_t packet_id;
    struct mqtt_props props;
    struct slice reasons;
}; // SUBACK, UNSUBACK (v5)
struct mqtt_disconnect {
    uint8_t reason;
    struct mqtt_props props;
}; // also AUTH
struct mqtt_packet {
    enum mqtt_type type;
    uint8_t flags;
    union {
        struct mqtt_connect connect;
        struct mqtt_connack connack;
        struct mqtt_publish publish;
        struct mqtt_ack ack;
        struct mqtt_subscribe subscribe; // UNSUBSCRIBE too
        struct mqtt_suback suback;
        struct mqtt_disconnect disconnect;
    } u;
};
// Next entry of a SUBSCRIBE (options byte) or UNSUBSCRIBE (options 0); start with *pos = 0. False at the end.
struct mqtt_filter {
    struct slice filter;
    uint8_t qos;
    bool no_local, retain_as_published;
    uint8_t retain_handling;
};
bool mqtt_filter_next(const struct mqtt_packet *p, enum mqtt_version v, size_t *pos, struct mqtt_filter *ret);

struct mqtt_limits {
    uint32_t packet_max; // whole packet
    uint16_t topic_max, levels_max, user_props_max, filters_max;
    uint32_t user_props_bytes_max;
};
extern const struct mqtt_limits mqtt_limits_default; // reliability limits: 256 KiB, 1,024 B, 32 levels, 32 / 8 KiB, 64

enum mqtt_result { MQTT_DONE, MQTT_MORE, MQTT_BAD };
struct mqtt_error {
    uint8_t reason;
    const char *text;
}; // text: static, names the violated rule, for reason strings and logs
// Decodes the first packet of `in`. MQTT_DONE: *ret_used bytes were taken. MQTT_MORE: incomplete, *ret_need (may be NULL) is the
// total length when already known, else 0. MQTT_BAD: *err says why; a packet over limits->packet_max is bad as soon as its
// header is read. `v` is the connection's version (ignored for CONNECT). With MQTT_BAD and MQTT_MORE, ret->type is what the
// first byte said (0 without one). With MQTT_BAD of a CONNECT, u.connect.version is the version to answer in: 0 when the
// protocol level was not reached, MQTT_V5 for levels above 5. A repeated subscription identifier in a PUBLISH is not an
// error: servers send them.
enum mqtt_result mqtt_decode(struct slice in, enum mqtt_version v, const struct mqtt_limits *limits,
                             struct mqtt_packet *ret, size_t *ret_used, size_t *ret_need, struct mqtt_error *err);
// Encodes one packet in the form of version `v` (3.1.1 drops properties and reason codes). False when it does not fit the buf
// (which is then marked failed) or the protocol (a string over 65,535 bytes, packet id 0, ...); nothing was written then.
bool mqtt_encode(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p);
// Those of the hot path, without building a packet. mqtt_encode_ack: PUBACK, PUBREC, PUBREL or PUBCOMP; reason_string may be
// NULL.
bool mqtt_encode_ack(struct buf *out, enum mqtt_version v, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                     const char *reason_string);
bool mqtt_encode_puback(struct buf *out, enum mqtt_version v, uint16_t packet_id, uint8_t reason,
                        const char *reason_string);
// A PUBLISH on its way from one client to others. `props` are encoded properties that are passed on as they are, without
// their length (3.3.2-15 to -20); all properties are left out in 3.1.1.
struct mqtt_relay {
    struct slice topic; // empty: the alias says it
    struct slice props, payload;
    const uint32_t *sub_ids;
    unsigned sub_ids_len;
    uint16_t packet_id; // 0 with QoS 0
    uint16_t alias;     // 0: none
    uint32_t expiry_s;  // with has_expiry
    uint8_t qos;
    bool dup, retain, has_expiry;
};
// Bytes of the whole packet; 0: it does not fit the protocol.
size_t mqtt_relay_size(enum mqtt_version v, const struct mqtt_relay *r);
// `size` as of mqtt_relay_size. False: no room, nothing was written.
bool mqtt_encode_relay(struct buf *out, enum mqtt_version v, const struct mqtt_relay *r, size_t size);
// The properties of a PUBLISH or will that go to subscribers unchanged, in their order: how many bytes; appended to `out` unless
// it is NULL. `raw` as in mqtt_props.
size_t mqtt_props_relay(struct slice raw, struct buf *out);
// Room for a SUBSCRIBE's filters: builds the `filters` bytes for mqtt_encode.
bool mqtt_filter_put(struct buf *filters, bool unsubscribe, const struct mqtt_filter *f);

bool mqtt_topic_valid(struct slice topic, const struct mqtt_limits *l);   // a topic name: no wildcards (4.7)
bool mqtt_filter_valid(struct slice filter, const struct mqtt_limits *l); // a topic filter, $share included
// 4.7; topics starting with $ match no leading wildcard. Both valid; of a shared subscription the part behind its name.
bool mqtt_topic_matches(struct slice filter, struct slice topic);

#endif
