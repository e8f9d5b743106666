// What an outcome becomes on the wire. Each packet allows other codes (MQTT 5.0 section 2.4), so status_mqtt alone does not do.
#ifndef FRONT_MQTT_REASON_H
#define FRONT_MQTT_REASON_H

#include "base/status.h"
#include "proto/mqtt.h"

uint8_t reason_connack(enum mqtt_version v, enum status s); // 3.1.1: return code 0-5
uint8_t reason_connack_v311(uint8_t v5_reason);             // the return code nearest to a reason of 5.0
uint8_t reason_puback(enum status s);                       // MQTT 5.0
uint8_t reason_suback(enum mqtt_version v, enum status s);  // for refusals
// A sentence for outcomes that come without one of their own. Never NULL.
const char *reason_text(enum status s);
// What a client may read of a refusal: the text of `err` where it is about his message, reason_text where it is about our
// insides (names of files and statements are for the log). Borrowed from err.
const char *reason_say(enum status s, const struct err *err);

#endif
