// A whole connection on a fake core: any bytes, in any pieces, with commits between them. What must hold:
//   * all that the server says are packets a server may send, in the version the client speaks;
//   * each acknowledgement answers a QoS 1 message that was sent, in its order;
//   * afterwards nothing is left: no connection, no reference, no message in flight.
//
// Input: one byte that chooses a ready-made beginning, then pieces: a length byte, what to do afterwards, the bytes.
#include "../lib/fake_mqtt.h"

#include "front/mqtt/mqtt_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static const struct {
    const char *bytes;
    size_t len;
} beginnings[] = {
#define B(lit)                                                                                                         \
    {                                                                                                                  \
        lit, sizeof(lit) - 1                                                                                           \
    }
    B(""),
    B("\x10\x13\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01"
      "c\x00\x01"
      "d\x00\x01p"),
    B("\x10\x14\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00\x01"
      "c\x00\x01"
      "d\x00\x01p"),
    B("\x10\x19\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00\x01"
      "c\x00\x06$claim\x00\x01p"),
    B("\x10\x19\x00\x04MQTT\x05\xc0\x00\x3c\x05\x11\x00\x00\x0e\x10\x00\x01"
      "c\x00\x01"
      "d\x00\x01p"),
    B("\x10\x13\x00\x04MQTT\x04\xc0\x00\x3c\x00\x01"
      "c\x00\x01"
      "d\x00\x01p"),
    B("\x10\x1a\x00\x04MQTT\x05\xc2\x00\x3c\x06\x22\x00\x02\x21\x00\x02\x00\x01"
      "c\x00\x01"
      "d\x00\x01p"),
};

// Reads what the server has said so far.
static void listen(struct conn *c, const struct mqtt_conn *mc, unsigned *acks)
{
    struct slice out = buf_view(&c->out);
    struct mqtt_limits limits = mqtt_limits_default;
    limits.packet_max = 1 << 20;
    while (out.len > 0) {
        struct mqtt_packet p;
        struct mqtt_error err;
        size_t used = 0;
        require(mqtt_decode(out, mc->version, &limits, &p, &used, NULL, &err) == MQTT_DONE);
        require(p.type != MQTT_CONNECT && p.type != MQTT_SUBSCRIBE && p.type != MQTT_UNSUBSCRIBE &&
                p.type != MQTT_PINGREQ);
        *acks += p.type == MQTT_PUBACK;
        out = slice_from(out, used);
    }
    buf_clear(&c->out);
}

// A message of the broker: QoS, stored or not, shared or not, sent before or not.
static void deliver(struct fake *f, unsigned what)
{
    static uint64_t seq;
    const struct mqtt_publish b = {.qos = 2, .payload = SLICE("payload")};
    struct message *m = f->core.link != NULL ? message_new(1, 0, &b, SLICE("some/topic"), 0) : NULL;
    if (m == NULL) {
        return;
    }
    bool durable = (what & 0x10) != 0 && fake_broker.last != NULL && fake_broker.last->durable;
    struct delivery d = {.msg = m,
                         .seq = durable ? ++seq : 0,
                         .qos = (uint8_t)((what >> 5) % 3),
                         .share = (what & 0x80) != 0 ? 3 : 0,
                         .state = durable && (what & 8) != 0 ? DELIVERY_AGAIN : DELIVERY_NEW};
    d.qos = durable && d.qos == 0 ? 1 : d.qos;
    fake_broker.front.on_deliver(fake_broker.front.arg, f->core.link, &d, 1);
    message_unref(m);
}

static void act(struct fake *f, unsigned what)
{
    if (what >= 0x80) {
        deliver(f, what);
        return;
    }
    switch (what % 9) {
    case 8:
        fake_broker_commit((what & 0x10) != 0 ? ST_FULL : ST_OK);
        break;
    case 1:
        fake_core_run(f);
        fake_turn(f);
        break;
    case 2:
        fake_ingest_commit(ST_OK);
        break;
    case 3:
        fake_ingest_commit(ST_FULL);
        break;
    case 4:
        fake_core_run(f);
        fake_ingest_commit(ST_OK);
        fake_turn(f);
        break;
    case 5:
        if (f->core.link != NULL) {
            struct down *d = down_publish("$muster/twin/desired", SLICE("{}"), 1);
            require(d != NULL);
            link_send(f->core.link, d);
        }
        fake_turn(f);
        break;
    case 6:
        fake_sleep(f, 45000);
        break;
    case 7:
        f->core.commit = f->core.commit == ST_OK ? ST_FULL : ST_OK;
        break;
    default:
        break;
    }
}

// QoS 1 messages in what was consumed: the most acknowledgements there may be.
static unsigned play(struct fake *f, struct conn *c, struct reader *r)
{
    unsigned acks = 0;
    const struct mqtt_conn *mc = conn_user(c);
    while (reader_left(r) >= 2 && !c->closing) {
        uint8_t len = rd_u8(r);
        uint8_t what = rd_u8(r);
        struct slice piece = rd_bytes(r, len < reader_left(r) ? len : reader_left(r));
        fake_input(f, c, piece);
        act(f, what);
        listen(c, mc, &acks);
        require(mc->acks.len <= 65535 && mc->requests <= REQUESTS_MAX);
    }
    fake_core_run(f);
    fake_ingest_commit(ST_OK);
    fake_broker_commit(ST_OK);
    fake_turn(f);
    listen(c, mc, &acks);
    return acks;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct reader r = reader_make(slice_make(data, size));
    unsigned begin = rd_u8(&r) % (sizeof(beginnings) / sizeof(beginnings[0]));
    // One front for all inputs: what a connection leaves behind would be found by the next one. No limit of connects, as its
    // state would make inputs depend on each other.
    static const char *const conf[] = {"mqtt.connects_per_source=0", NULL};
    static struct fake *f;
    if (f == NULL) {
        f = fake_new(conf);
    }
    struct conn *c = fake_open(f);
    require(c != NULL);
    fake_input(f, c, slice_make(beginnings[begin].bytes, beginnings[begin].len));
    if (begin != 0) {
        fake_core_run(f);
        fake_turn(f);
        require(c->authenticated);
    }
    // Every QoS 1 PUBLISH has at least 7 bytes.
    require(play(f, c, &r) <= size / 7 + 1);
    struct link *link = f->core.link != NULL ? link_ref(f->core.link) : NULL;
    fake_reset(f);
    if (link != NULL) {
        require(atomic_load(&link->refs) == 1 && atomic_load(&link->in_flight) == 0);
        link_unref(link);
    }
    return 0;
}
