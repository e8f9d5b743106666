#include "base/utf8.h"

#define UTF8_HIGH_BITS UINT64_C(0x8080808080808080)

// What may follow a leading byte: the length of the sequence and the bounds of its second byte (RFC 3629 section 4).
struct utf8_lead {
    uint8_t first, last; // leading bytes
    uint8_t len;
    uint8_t lo, hi; // second byte
};

static const struct utf8_lead utf8_leads[] = {
    {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f},
    {0xee, 0xef, 3, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
};

size_t utf8_sequence(struct slice s)
{
    if (s.len == 0) {
        return 0;
    }
    if (s.p[0] < 0x80) {
        return 1;
    }
    for (size_t i = 0; i < sizeof(utf8_leads) / sizeof(utf8_leads[0]); i++) {
        const struct utf8_lead *lead = &utf8_leads[i];
        if (s.p[0] < lead->first || s.p[0] > lead->last) {
            continue;
        }
        if (s.len < lead->len || s.p[1] < lead->lo || s.p[1] > lead->hi) {
            return 0;
        }
        for (size_t k = 2; k < lead->len; k++) {
            if ((s.p[k] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return lead->len;
    }
    return 0;
}

uint32_t utf8_code_point(struct slice s, size_t len)
{
    if (len == 1) {
        return s.p[0];
    }
    uint32_t v = s.p[0] & (0xffU >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        v = v << 6 | (s.p[i] & 0x3fU);
    }
    return v;
}

bool utf8_valid(struct slice s)
{
    size_t i = 0;
    while (i < s.len) {
        if (s.len - i >= 8) {
            uint64_t word;
            memcpy(&word, s.p + i, sizeof(word));
            if ((word & UTF8_HIGH_BITS) == 0) {
                i += 8;
                continue;
            }
        }
        size_t n = utf8_sequence(slice_from(s, i));
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

bool utf8_mqtt_valid(struct slice s)
{
    return utf8_valid(s) && (s.len == 0 || memchr(s.p, 0, s.len) == NULL);
}
