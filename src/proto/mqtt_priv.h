// Shared by the files of the MQTT codec; nobody else includes it.
#ifndef PROTO_MQTT_PRIV_H
#define PROTO_MQTT_PRIV_H

#include "proto/mqtt.h"

#define MQTT_VBI_MAX 268435455u // largest variable byte integer (1.5.5)

// One decoding: the bytes of one packet's body and where to report the rule they break.
struct mqtt_dec {
    struct reader r;
    enum mqtt_version v;
    const struct mqtt_limits *lim;
    struct mqtt_error *err;
};

// Sets the error; returns false, so that callers write `return mqtt_dec_bad(...)`.
bool mqtt_dec_bad(struct mqtt_dec *d, uint8_t reason, const char *text);
// True when the reader has not run past the end; else the error is set.
bool mqtt_dec_ok(struct mqtt_dec *d);
bool mqtt_dec_string(struct mqtt_dec *d, struct slice *ret); // two-byte length, UTF-8 without U+0000 (1.5.4)
bool mqtt_dec_binary(struct mqtt_dec *d, struct slice *ret); // two-byte length (1.5.6)
bool mqtt_dec_vbi(struct mqtt_dec *d, uint32_t *ret);        // variable byte integer, minimal form (1.5.5)
// A topic name or filter that was read as bytes: UTF-8, wildcards, length and levels.
bool mqtt_dec_topic(struct mqtt_dec *d, struct slice topic, bool filter);

// Property sets by where they stand: the packet type's number, or the will of a CONNECT.
#define MQTT_PROPS_WILL 0u
bool mqtt_props_decode(struct mqtt_dec *d, unsigned where, struct mqtt_props *ret);
// No property is present (what 3.1.1 packets have).
void mqtt_props_clear(struct mqtt_props *p);

// Output that can be counted before it is written: with out == NULL only `len` grows.
struct mqtt_sink {
    struct buf *out;
    size_t len;
    bool failed; // a string too long for its length field, a value the protocol does not allow
};
void mqtt_sink_u8(struct mqtt_sink *s, uint8_t v);
void mqtt_sink_u16(struct mqtt_sink *s, uint16_t v);
void mqtt_sink_u32(struct mqtt_sink *s, uint32_t v);
void mqtt_sink_vbi(struct mqtt_sink *s, uint32_t v);
void mqtt_sink_bytes(struct mqtt_sink *s, struct slice v);
void mqtt_sink_string(struct mqtt_sink *s, struct slice v); // with its two-byte length
// Length prefix and properties; those not allowed in `where` fail the sink.
void mqtt_props_encode(struct mqtt_sink *s, unsigned where, const struct mqtt_props *p);

// Why a topic name or filter is refused, or NULL when it is fine; *ret_reason is then set.
const char *mqtt_topic_problem(struct slice t, bool filter, const struct mqtt_limits *l, uint8_t *ret_reason);

#endif
