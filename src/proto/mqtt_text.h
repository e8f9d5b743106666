// MQTT packets in words, one line each, for people who look for a mistake. No secrets: of a password only that there is one.
#ifndef PROTO_MQTT_TEXT_H
#define PROTO_MQTT_TEXT_H

#include "proto/mqtt.h"

#define MQTT_TEXT_PAYLOAD_MAX 128 // bytes of a payload that are shown

// Appends `PUBLISH id=7 qos=1 topic="a/b" payload=5 "21.50"`: a decoded packet of a connection of version `v`. Control
// characters, quotes and bytes that are not UTF-8 are escaped (\xHH), so that the text is safe for a terminal. False when
// `out` is full.
bool mqtt_text(struct buf *out, enum mqtt_version v, const struct mqtt_packet *p);
// Where the password of an encoded CONNECT lies; false when it is no decodable CONNECT or has none. `packet`: from its first
// byte on.
bool mqtt_password_place(struct slice packet, size_t *ret_offset, size_t *ret_len);

#endif
