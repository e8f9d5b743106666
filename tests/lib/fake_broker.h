// A broker in memory for tests of the device SDK: a transport whose other end the test reads and writes, and a clock it moves.
#ifndef TESTS_FAKE_BROKER_H
#define TESTS_FAKE_BROKER_H

#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "muster/muster.h"
#include "proto/mqtt.h"

struct fake_broker {
    enum mqtt_version version;
    int64_t now_ms;
    uint32_t random;
    enum muster_status open_result; // what open() says
    bool closed;                    // the server has closed: read says so
    size_t chunk;                   // at most so many bytes per read and write; 0: any
    size_t write_room;              // bytes that write() still takes
    unsigned opens, closes;
    uint8_t in_mem[8192], out_mem[8192];
    struct buf in;            // client -> server, not yet decoded
    struct buf out;           // server -> client, not yet read
    uint8_t packet_mem[8192]; // the packet decoded last
};

static inline enum muster_status fb_open(void *arg)
{
    struct fake_broker *b = arg;
    b->opens++;
    return b->open_result;
}
static inline ptrdiff_t fb_read(void *arg, void *dst, size_t len)
{
    struct fake_broker *b = arg;
    size_t n = b->out.len < len ? b->out.len : len;
    n = b->chunk != 0 && n > b->chunk ? b->chunk : n;
    if (n == 0) {
        return b->closed ? MUSTER_E_CLOSED : 0;
    }
    memcpy(dst, b->out.p, n);
    buf_consume(&b->out, n);
    return (ptrdiff_t)n;
}
static inline ptrdiff_t fb_write(void *arg, const void *src, size_t len)
{
    struct fake_broker *b = arg;
    size_t n = len < b->write_room ? len : b->write_room;
    n = b->chunk != 0 && n > b->chunk ? b->chunk : n;
    assert(buf_put(&b->in, src, n));
    b->write_room -= n;
    return (ptrdiff_t)n;
}
static inline void fb_close(void *arg)
{
    struct fake_broker *b = arg;
    b->closes++;
    b->closed = false;
    buf_clear(&b->in);
    buf_clear(&b->out);
}
static inline int64_t fb_now_ms(void *arg)
{
    return ((struct fake_broker *)arg)->now_ms;
}
static inline void fb_random(void *arg, void *dst, size_t len)
{
    memset(dst, 0, len);
    memcpy(dst, &((struct fake_broker *)arg)->random, len < 4 ? len : 4);
}

static inline struct muster_transport fb_init(struct fake_broker *b, enum mqtt_version v)
{
    memset(b, 0, sizeof(*b));
    b->version = v;
    b->now_ms = 1000000;
    b->random = UINT32_MAX / 2;
    b->write_room = SIZE_MAX;
    b->in = buf_fixed(b->in_mem, sizeof(b->in_mem));
    b->out = buf_fixed(b->out_mem, sizeof(b->out_mem));
    return (struct muster_transport){.arg = b,
                                     .open = fb_open,
                                     .read = fb_read,
                                     .write = fb_write,
                                     .close = fb_close,
                                     .now_ms = fb_now_ms,
                                     .random = fb_random};
}

// The next packet the client has sent; false when there is no whole one.
static inline bool fb_recv(struct fake_broker *b, struct mqtt_packet *ret)
{
    memcpy(b->packet_mem, b->in.p, b->in.len);
    size_t used = 0;
    struct mqtt_error err = {0};
    enum mqtt_result r =
        mqtt_decode(slice_make(b->packet_mem, b->in.len), b->version, &mqtt_limits_default, ret, &used, NULL, &err);
    assert(r != MQTT_BAD);
    if (r != MQTT_DONE) {
        return false;
    }
    buf_consume(&b->in, used);
    return true;
}

static inline void fb_send(struct fake_broker *b, const struct mqtt_packet *p)
{
    assert(mqtt_encode(&b->out, b->version, p));
}

static inline void fb_connack(struct fake_broker *b, uint8_t reason)
{
    struct mqtt_packet p = {.type = MQTT_CONNACK};
    p.u.connack.reason = reason;
    fb_send(b, &p);
}

static inline void fb_suback(struct fake_broker *b, uint16_t id, unsigned count, uint8_t reason)
{
    uint8_t reasons[8];
    memset(reasons, reason, sizeof(reasons));
    struct mqtt_packet p = {.type = MQTT_SUBACK};
    p.u.suback.packet_id = id;
    p.u.suback.reasons = slice_make(reasons, count);
    fb_send(b, &p);
}

static inline void fb_puback(struct fake_broker *b, uint16_t id, uint8_t reason)
{
    assert(mqtt_encode_puback(&b->out, b->version, id, reason, NULL));
}

static inline void fb_publish(struct fake_broker *b, const char *topic, const char *payload, uint8_t qos, uint16_t id)
{
    struct mqtt_packet p = {.type = MQTT_PUBLISH};
    p.u.publish =
        (struct mqtt_publish){.qos = qos, .packet_id = id, .topic = slice_str(topic), .payload = slice_str(payload)};
    fb_send(b, &p);
}

#endif
