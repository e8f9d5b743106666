// MQTT packets as readable text, for conversations with the front. A packet is a list of tokens: the first byte, then the
// body; the remaining length is put in between.
//
//   10 'MQTT' 04 02 003c 'c1'      hex bytes; 'text' with its two-byte length; (text) as it is
//   c000 | e000                    several packets
//   40 0001 *                      expected: the rest of this packet may be anything
#ifndef TESTS_LIB_MQTT_TALK_H
#define TESTS_LIB_MQTT_TALK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/fake_mqtt.h"

struct talk_packet {
    uint8_t bytes[4096];
    size_t len;
    bool open_end;
};

static inline size_t talk_body(const char **at, uint8_t *out, size_t max, bool *open_end)
{
    const char *s = *at;
    size_t n = 0;
    *open_end = false;
    while (*s != '\0' && *s != '|') {
        assert_true(n + 130 < max);
        if (*s == '\'' || *s == '(') {
            const char *end = strchr(s + 1, *s == '(' ? ')' : '\'');
            assert_non_null(end);
            size_t len = (size_t)(end - s - 1);
            if (*s == '\'') {
                out[n++] = (uint8_t)(len >> 8);
                out[n++] = (uint8_t)len;
            }
            assert_true(n + len < max);
            memcpy(out + n, s + 1, len);
            n += len;
            s = end + 1;
        } else if (*s == '*') {
            *open_end = true;
            s++;
        } else if (*s == ' ') {
            s++;
        } else {
            unsigned v;
            assert_int_equal(sscanf(s, "%2x", &v), 1);
            out[n++] = (uint8_t)v;
            s += 2;
        }
    }
    *at = s;
    return n;
}

// One packet of `*text`; false at its end. An open end has no length to compare.
static inline bool talk_next(const char **text, struct talk_packet *ret)
{
    static uint8_t body[4096];
    while (**text == ' ' || **text == '|') {
        (*text)++;
    }
    if (**text == '\0') {
        return false;
    }
    size_t n = talk_body(text, body, sizeof(body), &ret->open_end);
    struct buf b = buf_fixed(ret->bytes, sizeof(ret->bytes));
    buf_u8(&b, body[0]);
    if (!ret->open_end) {
        size_t left = n - 1;
        do {
            buf_u8(&b, (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
            left >>= 7;
        } while (left > 0);
    }
    buf_put(&b, body + 1, n - 1);
    ret->len = b.len;
    return true;
}

static inline void say(struct fake *f, struct conn *c, const char *text)
{
    struct talk_packet p;
    struct buf all = buf_heap(1 << 20);
    while (talk_next(&text, &p)) {
        buf_put(&all, p.bytes, p.len);
    }
    fake_input(f, c, buf_view(&all)); // in one piece, as from one read
    buf_release(&all);
}

static inline size_t talk_packet_len(struct slice in, size_t *ret_head)
{
    size_t len = 0;
    size_t i = 1;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(i < in.len);
        len |= (size_t)(in.p[i] & 0x7f) << shift;
        if ((in.p[i++] & 0x80) == 0) {
            break;
        }
    }
    *ret_head = i;
    assert_true(i + len <= in.len);
    return i + len;
}

// The server has said exactly this since the last time. "" for nothing.
#define heard(c, text) heard_at((c), (text), __FILE__, __LINE__)
static inline void heard_at(struct conn *c, const char *text, const char *file, int line)
{
    struct talk_packet p;
    struct slice in = buf_view(&c->out);
    const char *whole = text;
    while (talk_next(&text, &p)) {
        bool ok = in.len > 0;
        size_t n = 0;
        if (ok) {
            size_t head;
            n = talk_packet_len(in, &head);
            ok = p.open_end ? in.p[0] == p.bytes[0] && n - head >= p.len - 1 &&
                                  memcmp(in.p + head, p.bytes + 1, p.len - 1) == 0
                            : n == p.len && memcmp(in.p, p.bytes, n) == 0;
        }
        if (!ok) {
            for (size_t i = 0; i < in.len && i < 64; i++) {
                fprintf(stderr, "%02x ", in.p[i]);
            }
            fprintf(stderr, "(%zu bytes) instead of %s at %s:%d\n", in.len, whole, file, line);
            fail();
        }
        in = slice_from(in, n);
    }
    if (in.len > 0) {
        for (size_t i = 0; i < in.len && i < 64; i++) {
            fprintf(stderr, "%02x ", in.p[i]);
        }
        fprintf(stderr, "said beyond \"%s\" at %s:%d\n", whole, file, line);
        fail();
    }
    buf_clear(&c->out);
}

// A connected device (user "dev") or claim (user "$claim"); CONNACK was taken.
static inline struct conn *talk_connected(struct fake *f, const char *connect)
{
    struct conn *c = fake_open(f);
    assert_non_null(c);
    say(f, c, connect);
    fake_settle(f);
    assert_true(c->authenticated);
    buf_clear(&c->out);
    return c;
}
#define CONNECT4 "10 'MQTT' 04 c2 003c 'c1' 'dev' 'pw'"
#define CONNECT5 "10 'MQTT' 05 c2 003c 00 'c1' 'dev' 'pw'"
#define CLAIM4   "10 'MQTT' 04 c2 003c 'c1' '$claim' 'pw'"
#define CLAIM5   "10 'MQTT' 05 c2 003c 00 'c1' '$claim' 'pw'"

#endif
