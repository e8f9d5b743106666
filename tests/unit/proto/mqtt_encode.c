// Encoding: exact bytes for the short forms, and the property that random packets come back as they were.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rand.h"
#include "proto/mqtt.h"

static void expect(enum mqtt_version v, const struct mqtt_packet *p, struct slice want)
{
    uint8_t mem[256];
    struct buf b = buf_fixed(mem, want.len); // no byte more than needed
    assert_true(mqtt_encode(&b, v, p));
    assert_int_equal(b.len, want.len);
    assert_memory_equal(b.p, want.p, want.len);
    if (want.len > 0) {
        b = buf_fixed(mem, want.len - 1);
        assert_false(mqtt_encode(&b, v, p));
        assert_int_equal(b.len, 0);
    }
}

static void test_short_forms(void **state)
{
    (void)state;
    struct mqtt_packet p = {.type = MQTT_PINGREQ};
    expect(MQTT_V5, &p, SLICE("\xc0\x00"));
    p = (struct mqtt_packet){.type = MQTT_DISCONNECT};
    expect(MQTT_V311, &p, SLICE("\xe0\x00"));
    p.u.disconnect.reason = MQTT_RC_TAKEN_OVER;
    expect(MQTT_V5, &p, SLICE("\xe0\x01\x8e"));
    p.u.disconnect.props.present = MQTT_P_REASON_STRING;
    p.u.disconnect.props.reason_string = SLICE("x");
    expect(MQTT_V5, &p, SLICE("\xe0\x06\x8e\x04\x1f\x00\x01x"));
    p = (struct mqtt_packet){.type = MQTT_CONNACK, .u.connack = {.reason = 4}};
    expect(MQTT_V311, &p, SLICE("\x20\x02\x00\x04"));
    expect(MQTT_V5, &p, SLICE("\x20\x03\x00\x04\x00"));
    p = (struct mqtt_packet){.type = MQTT_UNSUBACK, .u.suback = {.packet_id = 9, .reasons = SLICE("\x00")}};
    expect(MQTT_V311, &p, SLICE("\xb0\x02\x00\x09"));
    expect(MQTT_V5, &p, SLICE("\xb0\x04\x00\x09\x00\x00"));
    p = (struct mqtt_packet){.type = MQTT_PUBREL, .u.ack = {.packet_id = 9}};
    expect(MQTT_V5, &p, SLICE("\x62\x02\x00\x09"));
}

static void test_puback(void **state)
{
    (void)state;
    static const struct {
        enum mqtt_version v;
        uint8_t reason;
        const char *text;
        struct slice want;
    } rows[] = {
        {MQTT_V311, 0, NULL, SLICE("\x40\x02\x01\x02")},
        {MQTT_V311, 0x99, "no", SLICE("\x40\x02\x01\x02")},
        {MQTT_V5, 0, NULL, SLICE("\x40\x02\x01\x02")},
        {MQTT_V5, 0x99, NULL, SLICE("\x40\x03\x01\x02\x99")},
        {MQTT_V5, 0x99, "no", SLICE("\x40\x09\x01\x02\x99\x05\x1f\x00\x02no")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t mem[64];
        struct buf b = buf_fixed(mem, rows[i].want.len);
        assert_true(mqtt_encode_puback(&b, rows[i].v, 0x0102, rows[i].reason, rows[i].text));
        assert_true(slice_eq(buf_view(&b), rows[i].want));
    }
    uint8_t mem[8];
    struct buf b = buf_fixed(mem, sizeof(mem));
    assert_false(mqtt_encode_puback(&b, MQTT_V5, 0, 0, NULL));
}

static void test_refused(void **state)
{
    (void)state;
    static uint8_t big[70000];
    uint8_t mem[64];
    static const struct mqtt_packet rows[] = {
        {.type = (enum mqtt_type)0},
        {.type = (enum mqtt_type)16},
        {.type = MQTT_PUBLISH, .u.publish = {.qos = 0}},                                     // no topic
        {.type = MQTT_PUBLISH, .u.publish = {.qos = 1, .topic = {(const uint8_t *)"a", 1}}}, // no packet id
        {.type = MQTT_PUBLISH, .u.publish = {.qos = 3, .packet_id = 1, .topic = {(const uint8_t *)"a", 1}}},
        {.type = MQTT_PUBLISH, .u.publish = {.dup = true, .topic = {(const uint8_t *)"a", 1}}},
        {.type = MQTT_PUBLISH, .u.publish = {.topic = {big, sizeof(big)}}},
        {.type = MQTT_SUBSCRIBE, .u.subscribe = {.packet_id = 1}},
        {.type = MQTT_SUBACK, .u.suback = {.packet_id = 1}},
        {.type = MQTT_PUBACK, .u.ack = {.packet_id = 0}},
        {.type = MQTT_CONNECT, .u.connect = {.has_will = true}}, // a will without topic
        {.type = MQTT_CONNACK, .u.connack = {.props = {.present = MQTT_P_ALIAS, .alias = 1}}},
        {.type = MQTT_CONNACK, .u.connack = {.props = {.raw = {(const uint8_t *)"\x7f", 1}}}},
        {.type = MQTT_SUBSCRIBE,
         .u.subscribe = {.packet_id = 1,
                         .filters = {(const uint8_t *)"\0\1a", 4},
                         .props = {.present = MQTT_P_SUB_ID, .sub_id = 268435456}}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = buf_fixed(mem, sizeof(mem));
        assert_false(mqtt_encode(&b, MQTT_V5, &rows[i]));
        assert_int_equal(b.len, 0);
        assert_false(b.failed);
    }
    struct mqtt_packet auth = {.type = MQTT_AUTH};
    struct buf b = buf_fixed(mem, sizeof(mem));
    assert_false(mqtt_encode(&b, MQTT_V311, &auth));
}

static void test_filter_put(void **state)
{
    (void)state;
    uint8_t mem[32];
    struct buf b = buf_fixed(mem, 4);
    struct mqtt_filter f = {.filter = SLICE("a"), .qos = 1, .no_local = true, .retain_handling = 2};
    assert_true(mqtt_filter_put(&b, false, &f));
    assert_true(slice_eq(buf_view(&b), SLICE("\x00\x01\x61\x25")));
    b = buf_fixed(mem, 3);
    assert_true(mqtt_filter_put(&b, true, &f));
    assert_true(slice_eq(buf_view(&b), SLICE("\x00\x01\x61")));
    f.qos = 3;
    b = buf_fixed(mem, sizeof(mem));
    assert_false(mqtt_filter_put(&b, false, &f));
}

// Random packets: decode(encode(p)) encodes to the same bytes again, and keeps the fields that matter.

static struct slice random_text(uint8_t *mem, size_t max)
{
    size_t n = 1 + (size_t)(rand_u64() % max);
    for (size_t i = 0; i < n; i++) {
        mem[i] = (uint8_t)("abc/xyz$"[rand_u64() % 8]);
    }
    return slice_make(mem, n);
}

static uint32_t pick(uint32_t below)
{
    return (uint32_t)(rand_u64() % below);
}

struct scratch {
    uint8_t text[16][48];
    uint8_t raw[128];
    unsigned n;
};

static struct slice text(struct scratch *s)
{
    return random_text(s->text[s->n++ % 16], 40);
}

// Properties that the packet allows, each present or not.
static void random_props(struct scratch *s, struct mqtt_props *p, uint32_t allowed, bool sub_ids)
{
    p->present = (uint32_t)rand_u64() & allowed & ~(uint32_t)MQTT_P_USER;
    p->message_expiry = pick(1000000);
    p->session_expiry = pick(UINT32_MAX);
    p->will_delay = pick(99999);
    p->max_packet = 1 + pick(1 << 28);
    p->sub_id = 1 + pick(268435455);
    p->server_keep_alive = (uint16_t)pick(65536);
    p->receive_max = (uint16_t)(1 + pick(65535));
    p->alias_max = (uint16_t)pick(65536);
    p->alias = (uint16_t)(1 + pick(65535));
    p->payload_format = (uint8_t)pick(2);
    p->max_qos = (uint8_t)pick(2);
    p->content_type = text(s);
    p->response_topic = text(s);
    p->correlation = text(s);
    p->reason_string = text(s);
    p->assigned_id = text(s);
    p->auth_method = text(s);
    p->server_ref = text(s);
    struct buf raw = buf_fixed(s->raw, sizeof(s->raw));
    for (unsigned i = pick(4); i > 0; i--) {
        buf_slice(&raw, SLICE("\x26\x00\x01k\x00\x02vv"));
    }
    if (sub_ids && (p->present & MQTT_P_SUB_ID) != 0) {
        buf_slice(&raw, SLICE("\x0b\x07\x0b\x80\x01"));
    }
    p->raw = buf_view(&raw);
}

static void random_connect(struct scratch *s, struct mqtt_packet *p)
{
    struct mqtt_connect *c = &p->u.connect;
    c->clean_start = pick(2) != 0;
    c->has_will = pick(2) != 0;
    c->will_qos = c->has_will ? (uint8_t)pick(3) : 0;
    c->will_retain = c->has_will && pick(2) != 0;
    c->has_username = pick(2) != 0;
    c->has_password = c->has_username && pick(2) != 0;
    c->keep_alive_s = (uint16_t)pick(65536);
    c->client_id = text(s);
    c->will_topic = text(s);
    c->will_payload = text(s);
    c->username = text(s);
    c->password = text(s);
    random_props(s, &c->props, MQTT_P_SESSION_EXPIRY | MQTT_P_RECEIVE_MAX | MQTT_P_MAX_PACKET | MQTT_P_ALIAS_MAX,
                 false);
}

static void random_packet(struct scratch *s, struct mqtt_packet *p)
{
    static const uint8_t ack_reasons[] = {0x00, 0x80, 0x87};
    *p = (struct mqtt_packet){.type = (enum mqtt_type)(1 + pick(14))};
    switch (p->type) {
    case MQTT_CONNECT:
        random_connect(s, p);
        break;
    case MQTT_CONNACK:
        random_props(s, &p->u.connack.props,
                     MQTT_P_ASSIGNED_ID | MQTT_P_MAX_QOS | MQTT_P_RETAIN_AVAILABLE | MQTT_P_SERVER_KEEP_ALIVE |
                         MQTT_P_REASON_STRING | MQTT_P_AUTH_METHOD,
                     false);
        break;
    case MQTT_PUBLISH:
        p->u.publish = (struct mqtt_publish){.qos = (uint8_t)pick(3), .retain = pick(2) != 0, .topic = text(s)};
        p->u.publish.payload = text(s);
        p->u.publish.packet_id = p->u.publish.qos > 0 ? (uint16_t)(1 + pick(65535)) : 0;
        p->u.publish.dup = p->u.publish.qos > 0 && pick(2) != 0;
        random_props(s, &p->u.publish.props,
                     MQTT_P_PAYLOAD_FORMAT | MQTT_P_MESSAGE_EXPIRY | MQTT_P_CONTENT_TYPE | MQTT_P_RESPONSE_TOPIC |
                         MQTT_P_CORRELATION | MQTT_P_ALIAS | MQTT_P_SUB_ID,
                     true);
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
        p->u.ack.reason = ack_reasons[pick(3)];
        p->u.ack.packet_id = (uint16_t)(1 + pick(65535));
        random_props(s, &p->u.ack.props, MQTT_P_REASON_STRING, false);
        break;
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        p->u.ack.packet_id = (uint16_t)(1 + pick(65535));
        break;
    case MQTT_SUBSCRIBE:
        p->u.subscribe = (struct mqtt_subscribe){.packet_id = 3,
                                                 .filters = SLICE("\x00\x01+\x01\x00\x03"
                                                                  "a/b\x02")};
        random_props(s, &p->u.subscribe.props, MQTT_P_SUB_ID, false);
        break;
    case MQTT_UNSUBSCRIBE:
        p->u.subscribe = (struct mqtt_subscribe){.packet_id = 3,
                                                 .filters = SLICE("\x00\x01+\x00\x03"
                                                                  "a/b")};
        break;
    case MQTT_SUBACK:
        p->u.suback = (struct mqtt_suback){.packet_id = 65535, .reasons = SLICE("\x00\x01\x80")};
        break;
    case MQTT_UNSUBACK:
        p->u.suback = (struct mqtt_suback){.packet_id = 65535, .reasons = SLICE("\x00\x80")};
        break;
    case MQTT_DISCONNECT:
        p->u.disconnect.reason = pick(2) ? 0x8e : 0;
        random_props(s, &p->u.disconnect.props, MQTT_P_REASON_STRING | MQTT_P_SERVER_REF, false);
        break;
    default:
        break;
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    rand_seed(20261123);
    for (unsigned i = 0; i < 20000; i++) {
        static struct scratch s;
        struct mqtt_packet p;
        random_packet(&s, &p);
        enum mqtt_version v = pick(2) ? MQTT_V5 : MQTT_V311;
        uint8_t mem[2048];
        uint8_t again[2048];
        struct buf a = buf_fixed(mem, sizeof(mem));
        struct buf b = buf_fixed(again, sizeof(again));
        assert_true(mqtt_encode(&a, v, &p));
        struct mqtt_packet q;
        struct mqtt_error err = {0, ""};
        size_t used = 0;
        if (mqtt_decode(buf_view(&a), v, &mqtt_limits_default, &q, &used, NULL, &err) != MQTT_DONE) {
            fail_msg("%s: %s", mqtt_type_text(p.type), err.text);
        }
        assert_int_equal(used, a.len);
        assert_int_equal(q.type, p.type);
        assert_true(mqtt_encode(&b, v, &q));
        assert_true(slice_eq(buf_view(&a), buf_view(&b)));
        if (p.type == MQTT_PUBLISH) {
            assert_true(slice_eq(p.u.publish.payload, q.u.publish.payload));
            assert_true(slice_eq(p.u.publish.topic, q.u.publish.topic));
            assert_int_equal(p.u.publish.packet_id, q.u.publish.packet_id);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_forms), cmocka_unit_test(test_puback),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_filter_put),  cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
