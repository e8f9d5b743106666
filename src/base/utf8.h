// UTF-8 (RFC 3629) and the character rules of MQTT strings (MQTT 5 section 1.5.4).
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

bool utf8_valid(struct slice s);      // no surrogates, no overlong forms, nothing above U+10FFFF
bool utf8_mqtt_valid(struct slice s); // the same, and no U+0000
// Length (1 to 4) of the well-formed sequence `s` begins with; 0 when it begins with none or is empty.
size_t utf8_sequence(struct slice s);
// The code point of the well-formed sequence of `len` bytes (from utf8_sequence) that `s` begins with.
uint32_t utf8_code_point(struct slice s, size_t len);

#endif
