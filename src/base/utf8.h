// UTF-8 (RFC 3629) and the character rules of MQTT strings (MQTT 5 section 1.5.4).
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

bool utf8_valid(struct slice s);      // no surrogates, no overlong forms, nothing above U+10FFFF
bool utf8_mqtt_valid(struct slice s); // the same, and no U+0000

#endif
