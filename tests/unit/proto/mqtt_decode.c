// The rules of packet form, one row each: bytes, and what the decoder says of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/mqtt.h"

#define OK 0xff // decodes

struct row {
    const char *what;
    enum mqtt_version v;
    const char *hex; // spaces are for the eye
    uint8_t reason;  // OK or the reason of the refusal
};

// CONNECT up to the client id: name, level, flags, keep alive 60
#define C311(flags) "0004 4d515454 04 " flags " 003c "
#define C5(flags)   "0004 4d515454 05 " flags " 003c "

static const struct row rows[] = {
    // fixed header
    {"type 0", MQTT_V5, "00 00", MQTT_RC_MALFORMED},
    {"PINGREQ", MQTT_V311, "c0 00", OK},
    {"PINGREQ with flags", MQTT_V311, "c1 00", MQTT_RC_MALFORMED},
    {"PINGREQ with body", MQTT_V311, "c0 01 00", MQTT_RC_MALFORMED},
    {"PINGRESP", MQTT_V5, "d0 00", OK},
    {"length not minimal", MQTT_V5, "c0 80 00", MQTT_RC_MALFORMED},
    {"length of five bytes", MQTT_V5, "30 ff ff ff ff 01", MQTT_RC_MALFORMED},
    {"over the packet limit", MQTT_V5, "30 ff ff ff 7f", MQTT_RC_TOO_LARGE},
    {"AUTH in 3.1.1", MQTT_V311, "f0 00", MQTT_RC_MALFORMED},
    {"AUTH in 5", MQTT_V5, "f0 00", OK},
    {"AUTH continue", MQTT_V5, "f0 07 18 05 15 0002 6162", OK},
    {"AUTH data without method", MQTT_V5, "f0 06 18 04 16 0001 61", MQTT_RC_PROTOCOL_ERROR},
    {"AUTH unknown reason", MQTT_V5, "f0 01 80", MQTT_RC_PROTOCOL_ERROR},

    // CONNECT
    {"CONNECT 3.1.1", MQTT_V311, "10 0d " C311("02") "0001 61", OK},
    {"CONNECT 3.1", MQTT_V311, "10 0f 0006 4d5149736470 03 02 003c 0001 61", OK},
    {"CONNECT 5", MQTT_V311, "10 0e " C5("02") "00 0001 61", OK},
    {"CONNECT flags in the header", MQTT_V311, "11 0d " C311("02") "0001 61", MQTT_RC_MALFORMED},
    {"CONNECT other name", MQTT_V311, "10 0d 0004 4d515455 04 02 003c 0001 61", MQTT_RC_BAD_VERSION},
    {"CONNECT level 6", MQTT_V311, "10 0d 0004 4d515454 06 02 003c 0001 61", MQTT_RC_BAD_VERSION},
    {"CONNECT level 3 with the new name", MQTT_V311, "10 0d 0004 4d515454 03 02 003c 0001 61", MQTT_RC_BAD_VERSION},
    {"CONNECT reserved flag", MQTT_V311, "10 0d " C311("03") "0001 61", MQTT_RC_MALFORMED},
    {"CONNECT will QoS without will", MQTT_V311, "10 0d " C311("0a") "0001 61", MQTT_RC_MALFORMED},
    {"CONNECT will retain without will", MQTT_V311, "10 0d " C311("22") "0001 61", MQTT_RC_MALFORMED},
    {"CONNECT will QoS 3", MQTT_V311, "10 12 " C311("1e") "0001 61 0001 62 0000", MQTT_RC_MALFORMED},
    {"CONNECT will", MQTT_V311, "10 12 " C311("0e") "0001 61 0001 62 0000", OK},
    {"CONNECT will with a wildcard", MQTT_V311, "10 12 " C311("0e") "0001 61 0001 23 0000", MQTT_RC_BAD_TOPIC},
    {"CONNECT will without topic", MQTT_V311, "10 11 " C311("0e") "0001 61 0000 0000", MQTT_RC_BAD_TOPIC},
    {"CONNECT password without user, 3.1.1", MQTT_V311, "10 10 " C311("42") "0001 61 0001 70", MQTT_RC_MALFORMED},
    {"CONNECT password without user, 5", MQTT_V311, "10 11 " C5("42") "00 0001 61 0001 70", OK},
    {"CONNECT user and password", MQTT_V311, "10 13 " C311("c2") "0001 61 0001 75 0001 70", OK},
    {"CONNECT password missing", MQTT_V311, "10 10 " C311("c2") "0001 61 0001 75", MQTT_RC_MALFORMED},
    {"CONNECT trailing byte", MQTT_V311, "10 0e " C311("02") "0001 61 00", MQTT_RC_MALFORMED},
    {"CONNECT ends early", MQTT_V311, "10 05 0004 4d5154", MQTT_RC_MALFORMED},
    {"CONNECT client id not UTF-8", MQTT_V311, "10 0d " C311("02") "0001 ff", MQTT_RC_MALFORMED},
    {"CONNECT client id with U+0000", MQTT_V311, "10 0d " C311("02") "0001 00", MQTT_RC_MALFORMED},
    {"CONNECT client id with a surrogate", MQTT_V311, "10 0f " C311("02") "0003 eda080", MQTT_RC_MALFORMED},
    {"CONNECT receive maximum 0", MQTT_V311, "10 11 " C5("02") "03 21 0000 0001 61", MQTT_RC_PROTOCOL_ERROR},
    {"CONNECT receive maximum twice", MQTT_V311, "10 14 " C5("02") "06 21 0001 21 0001 0001 61",
     MQTT_RC_PROTOCOL_ERROR},
    {"CONNECT maximum packet size 0", MQTT_V311, "10 13 " C5("02") "05 27 00000000 0001 61", MQTT_RC_PROTOCOL_ERROR},
    {"CONNECT request problem 2", MQTT_V311, "10 10 " C5("02") "02 17 02 0001 61", MQTT_RC_PROTOCOL_ERROR},
    {"CONNECT with a PUBLISH property", MQTT_V311, "10 11 " C5("02") "03 23 0001 0001 61", MQTT_RC_MALFORMED},
    {"CONNECT unknown property", MQTT_V311, "10 10 " C5("02") "02 7f 00 0001 61", MQTT_RC_MALFORMED},
    {"CONNECT property cut by its length", MQTT_V311, "10 10 " C5("02") "02 21 00 0001 61", MQTT_RC_MALFORMED},
    {"CONNECT properties longer than the packet", MQTT_V311, "10 0e " C5("02") "7f 0001 61", MQTT_RC_MALFORMED},
    {"CONNECT will delay in the will", MQTT_V311, "10 19 " C5("06") "00 0001 61 05 18 00000001 0001 62 0000", OK},
    {"CONNECT will delay outside the will", MQTT_V311, "10 13 " C5("02") "05 18 00000001 0001 61", MQTT_RC_MALFORMED},
    {"CONNECT user property", MQTT_V311, "10 15 " C5("02") "07 26 0001 6b 0001 76 0001 61", OK},
    {"CONNECT user property twice", MQTT_V311, "10 1c " C5("02") "0e 26 0001 6b 0001 76 26 0001 6b 0001 76 0001 61",
     OK},

    // CONNACK
    {"CONNACK 3.1.1", MQTT_V311, "20 02 00 00", OK},
    {"CONNACK 3.1.1 code 5", MQTT_V311, "20 02 00 05", OK},
    {"CONNACK 3.1.1 code 6", MQTT_V311, "20 02 00 06", MQTT_RC_MALFORMED},
    {"CONNACK reserved flags", MQTT_V311, "20 02 02 00", MQTT_RC_MALFORMED},
    {"CONNACK refused with a session", MQTT_V311, "20 02 01 05", MQTT_RC_PROTOCOL_ERROR},
    {"CONNACK 5", MQTT_V5, "20 05 00 00 02 24 01", OK},
    {"CONNACK 5 without properties", MQTT_V5, "20 02 00 00", MQTT_RC_MALFORMED},
    {"CONNACK 5 maximum QoS 2", MQTT_V5, "20 05 00 00 02 24 02", MQTT_RC_PROTOCOL_ERROR},
    {"CONNACK 5 unknown reason", MQTT_V5, "20 03 00 7f 00", MQTT_RC_PROTOCOL_ERROR},

    // PUBLISH
    {"PUBLISH QoS 0", MQTT_V311, "30 05 0001 61 7b7d", OK},
    {"PUBLISH without payload", MQTT_V311, "30 03 0001 61", OK},
    {"PUBLISH QoS 1", MQTT_V311, "32 05 0001 61 0001", OK},
    {"PUBLISH QoS 1 DUP", MQTT_V311, "3a 05 0001 61 0001", OK},
    {"PUBLISH QoS 2", MQTT_V311, "34 05 0001 61 0001", OK},
    {"PUBLISH QoS 3", MQTT_V311, "36 05 0001 61 0001", MQTT_RC_MALFORMED},
    {"PUBLISH QoS 0 DUP", MQTT_V311, "38 03 0001 61", MQTT_RC_MALFORMED},
    {"PUBLISH packet id 0", MQTT_V311, "32 05 0001 61 0000", MQTT_RC_PROTOCOL_ERROR},
    {"PUBLISH packet id missing", MQTT_V311, "32 03 0001 61", MQTT_RC_MALFORMED},
    {"PUBLISH empty topic, 3.1.1", MQTT_V311, "30 02 0000", MQTT_RC_BAD_TOPIC},
    {"PUBLISH empty topic without alias", MQTT_V5, "30 03 0000 00", MQTT_RC_PROTOCOL_ERROR},
    {"PUBLISH empty topic with alias", MQTT_V5, "30 06 0000 03 23 0001", OK},
    {"PUBLISH alias 0", MQTT_V5, "30 07 0001 61 03 23 0000", MQTT_RC_BAD_ALIAS},
    {"PUBLISH topic with #", MQTT_V311, "30 03 0001 23", MQTT_RC_BAD_TOPIC},
    {"PUBLISH topic with +", MQTT_V311, "30 05 0003 612f2b", MQTT_RC_BAD_TOPIC},
    {"PUBLISH topic not UTF-8", MQTT_V311, "30 04 0002 c0af", MQTT_RC_MALFORMED},
    {"PUBLISH response topic with a wildcard", MQTT_V5, "30 08 0001 61 04 08 0001 23", MQTT_RC_BAD_TOPIC},
    {"PUBLISH payload format 2", MQTT_V5, "30 06 0001 61 02 01 02", MQTT_RC_PROTOCOL_ERROR},
    {"PUBLISH content type twice", MQTT_V5, "30 0c 0001 61 08 03 0001 61 03 0001 61", MQTT_RC_PROTOCOL_ERROR},
    {"PUBLISH subscription id", MQTT_V5, "30 06 0001 61 02 0b 01", OK},
    {"PUBLISH two subscription ids", MQTT_V5, "30 08 0001 61 04 0b 01 0b 02", OK},
    {"PUBLISH subscription id 0", MQTT_V5, "30 06 0001 61 02 0b 00", MQTT_RC_PROTOCOL_ERROR},
    {"PUBLISH with a CONNECT property", MQTT_V5, "30 07 0001 61 03 21 0001", MQTT_RC_MALFORMED},
    {"PUBLISH without property length", MQTT_V5, "30 03 0001 61", MQTT_RC_MALFORMED},

    // acknowledgements
    {"PUBACK 3.1.1", MQTT_V311, "40 02 0001", OK},
    {"PUBACK id 0", MQTT_V311, "40 02 0000", MQTT_RC_PROTOCOL_ERROR},
    {"PUBACK 3.1.1 with a reason", MQTT_V311, "40 03 0001 00", MQTT_RC_MALFORMED},
    {"PUBACK with flags", MQTT_V311, "42 02 0001", MQTT_RC_MALFORMED},
    {"PUBACK 5 short", MQTT_V5, "40 02 0001", OK},
    {"PUBACK 5 reason", MQTT_V5, "40 03 0001 10", OK},
    {"PUBACK 5 reason and properties", MQTT_V5, "40 08 0001 87 04 1f 0001 61", OK},
    {"PUBACK 5 foreign reason", MQTT_V5, "40 03 0001 92", MQTT_RC_PROTOCOL_ERROR},
    {"PUBREC", MQTT_V5, "50 02 0001", OK},
    {"PUBREL", MQTT_V311, "62 02 0001", OK},
    {"PUBREL without its flag", MQTT_V311, "60 02 0001", MQTT_RC_MALFORMED},
    {"PUBREL 5 not found", MQTT_V5, "62 03 0001 92", OK},
    {"PUBREL 5 foreign reason", MQTT_V5, "62 03 0001 10", MQTT_RC_PROTOCOL_ERROR},
    {"PUBCOMP", MQTT_V311, "70 02 0001", OK},

    // SUBSCRIBE and UNSUBSCRIBE
    {"SUBSCRIBE", MQTT_V311, "82 06 0001 0001 61 01", OK},
    {"SUBSCRIBE without its flag", MQTT_V311, "80 06 0001 0001 61 01", MQTT_RC_MALFORMED},
    {"SUBSCRIBE empty", MQTT_V311, "82 02 0001", MQTT_RC_PROTOCOL_ERROR},
    {"SUBSCRIBE id 0", MQTT_V311, "82 06 0000 0001 61 01", MQTT_RC_PROTOCOL_ERROR},
    {"SUBSCRIBE QoS 3", MQTT_V311, "82 06 0001 0001 61 03", MQTT_RC_PROTOCOL_ERROR},
    {"SUBSCRIBE 3.1.1 with options of 5", MQTT_V311, "82 06 0001 0001 61 05", MQTT_RC_MALFORMED},
    {"SUBSCRIBE options missing", MQTT_V311, "82 05 0001 0001 61", MQTT_RC_MALFORMED},
    {"SUBSCRIBE empty filter", MQTT_V311, "82 05 0001 0000 00", MQTT_RC_BAD_FILTER},
    {"SUBSCRIBE a/#/b", MQTT_V311, "82 0a 0001 0005 612f232f62 00", MQTT_RC_BAD_FILTER},
    {"SUBSCRIBE a+", MQTT_V311, "82 07 0001 0002 612b 00", MQTT_RC_BAD_FILTER},
    {"SUBSCRIBE a#", MQTT_V311, "82 07 0001 0002 6123 00", MQTT_RC_BAD_FILTER},
    {"SUBSCRIBE 5", MQTT_V5, "82 07 0001 00 0001 61 2d", OK},
    {"SUBSCRIBE 5 reserved bits", MQTT_V5, "82 07 0001 00 0001 61 41", MQTT_RC_MALFORMED},
    {"SUBSCRIBE 5 retain handling 3", MQTT_V5, "82 07 0001 00 0001 61 31", MQTT_RC_PROTOCOL_ERROR},
    {"SUBSCRIBE 5 subscription id", MQTT_V5, "82 09 0001 02 0b 01 0001 61 00", OK},
    {"SUBSCRIBE 5 subscription id twice", MQTT_V5, "82 0b 0001 04 0b 01 0b 01 0001 61 00", MQTT_RC_PROTOCOL_ERROR},
    {"SUBSCRIBE 5 shared", MQTT_V5, "82 10 0001 00 000a 2473686172652f672f61 01", OK},
    {"SUBSCRIBE 5 shared no local", MQTT_V5, "82 10 0001 00 000a 2473686172652f672f61 05", MQTT_RC_PROTOCOL_ERROR},
    {"SUBSCRIBE 5 shared without filter", MQTT_V5, "82 0e 0001 00 0008 2473686172652f67 01", MQTT_RC_BAD_FILTER},
    {"SUBACK 3.1.1", MQTT_V311, "90 05 0001 00 01 80", OK},
    {"SUBACK 3.1.1 code 3", MQTT_V311, "90 03 0001 03", MQTT_RC_MALFORMED},
    {"SUBACK without codes", MQTT_V311, "90 02 0001", MQTT_RC_PROTOCOL_ERROR},
    {"SUBACK 5", MQTT_V5, "90 04 0001 00 a2", OK},
    {"SUBACK 5 foreign reason", MQTT_V5, "90 04 0001 00 11", MQTT_RC_PROTOCOL_ERROR},
    {"UNSUBSCRIBE", MQTT_V311, "a2 05 0001 0001 61", OK},
    {"UNSUBSCRIBE empty", MQTT_V311, "a2 02 0001", MQTT_RC_PROTOCOL_ERROR},
    {"UNSUBACK 3.1.1", MQTT_V311, "b0 02 0001", OK},
    {"UNSUBACK 3.1.1 with codes", MQTT_V311, "b0 03 0001 00", MQTT_RC_MALFORMED},
    {"UNSUBACK 5", MQTT_V5, "b0 04 0001 00 11", OK},
    {"UNSUBACK 5 without codes", MQTT_V5, "b0 03 0001 00", MQTT_RC_PROTOCOL_ERROR},

    // DISCONNECT
    {"DISCONNECT 3.1.1", MQTT_V311, "e0 00", OK},
    {"DISCONNECT 3.1.1 with a reason", MQTT_V311, "e0 01 00", MQTT_RC_MALFORMED},
    {"DISCONNECT 5", MQTT_V5, "e0 00", OK},
    {"DISCONNECT 5 with will", MQTT_V5, "e0 01 04", OK},
    {"DISCONNECT 5 session expiry", MQTT_V5, "e0 07 00 05 11 00000000", OK},
    {"DISCONNECT 5 foreign reason", MQTT_V5, "e0 01 01", MQTT_RC_PROTOCOL_ERROR},
};

static size_t unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;
    while (*hex != '\0') {
        unsigned v = 0;
        if (*hex == ' ') {
            hex++;
            continue;
        }
        assert_int_equal(sscanf(hex, "%2x", &v), 1);
        assert_true(n < max);
        out[n++] = (uint8_t)v;
        hex += 2;
    }
    return n;
}

// An exact-size heap copy, so that the address sanitizer sees every read past the end.
static enum mqtt_result decode_exact(const uint8_t *bytes, size_t len, enum mqtt_version v, struct mqtt_packet *p,
                                     size_t *used, size_t *need, struct mqtt_error *err)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    enum mqtt_result r = mqtt_decode(slice_make(copy, len), v, &mqtt_limits_default, p, used, need, err);
    free(copy);
    return r;
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t bytes[128];
        size_t len = unhex(rows[i].hex, bytes, sizeof(bytes));
        struct mqtt_packet p;
        struct mqtt_error err = {0, "none"};
        size_t used = 0;
        enum mqtt_result r = decode_exact(bytes, len, rows[i].v, &p, &used, NULL, &err);
        if (rows[i].reason == OK ? r != MQTT_DONE : (r != MQTT_BAD || err.reason != rows[i].reason)) {
            fail_msg("%s: result %d, reason 0x%02x (%s)", rows[i].what, (int)r, err.reason, err.text);
        }
        if (r == MQTT_DONE) {
            assert_int_equal(used, len);
        }
    }
}

// Every prefix of a good packet asks for more (and says how much once the header is there), never errs.
static void test_prefixes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].reason != OK) {
            continue;
        }
        uint8_t bytes[128];
        size_t len = unhex(rows[i].hex, bytes, sizeof(bytes));
        for (size_t n = 0; n < len; n++) {
            struct mqtt_packet p;
            struct mqtt_error err;
            size_t used = 0;
            size_t need = 1;
            assert_int_equal(decode_exact(bytes, n, rows[i].v, &p, &used, &need, &err), MQTT_MORE);
            assert_int_equal(need, n < 2 ? 0 : len);
        }
    }
}

static void test_bad_version_says_how_to_answer(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum mqtt_version v;
    } cases[] = {{"10 0d 0004 4d515454 06 02 003c 0001 61", MQTT_V5},
                 {"10 0d 0004 4d515454 02 02 003c 0001 61", MQTT_V311},
                 {"10 0d 0004 4d515454 05 03 003c 0001 61", MQTT_V5},
                 {"10 02 0009", (enum mqtt_version)0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[64];
        size_t len = unhex(cases[i].hex, bytes, sizeof(bytes));
        struct mqtt_packet p;
        struct mqtt_error err;
        size_t used = 0;
        assert_int_equal(decode_exact(bytes, len, MQTT_V311, &p, &used, NULL, &err), MQTT_BAD);
        assert_int_equal(p.type, MQTT_CONNECT);
        assert_int_equal(p.u.connect.version, cases[i].v);
    }
}

static void test_connect_fields(void **state)
{
    (void)state;
    uint8_t bytes[128];
    size_t len =
        unhex("10 23 0004 4d515454 05 ee 001e 03 21 0014 0001 61 02 01 01 0001 62 0002 6869 0002 7531 0002 7077", bytes,
              sizeof(bytes));
    bytes[1] = (uint8_t)(len - 2);
    struct mqtt_packet p;
    struct mqtt_error err = {0, ""};
    size_t used = 0;
    assert_int_equal(mqtt_decode(slice_make(bytes, len), MQTT_V311, &mqtt_limits_default, &p, &used, NULL, &err),
                     MQTT_DONE);
    const struct mqtt_connect *c = &p.u.connect;
    assert_int_equal(c->version, MQTT_V5);
    assert_true(c->clean_start && c->has_will && c->will_retain && c->has_username && c->has_password);
    assert_int_equal(c->will_qos, 1);
    assert_int_equal(c->keep_alive_s, 30);
    assert_true(MQTT_HAS(&c->props, MQTT_P_RECEIVE_MAX));
    assert_int_equal(c->props.receive_max, 20);
    assert_int_equal(c->will_props.payload_format, 1);
    assert_true(slice_eq_str(c->client_id, "a") && slice_eq_str(c->will_topic, "b"));
    assert_true(slice_eq_str(c->will_payload, "hi"));
    assert_true(slice_eq_str(c->username, "u1") && slice_eq_str(c->password, "pw"));
}

static void test_filters(void **state)
{
    (void)state;
    uint8_t bytes[64];
    size_t len = unhex("82 0c 0007 00 0001 61 29 0002 2b2f 16", bytes, sizeof(bytes));
    struct mqtt_packet p;
    struct mqtt_error err = {0, ""};
    size_t used = 0;
    assert_int_equal(mqtt_decode(slice_make(bytes, len), MQTT_V5, &mqtt_limits_default, &p, &used, NULL, &err),
                     MQTT_DONE);
    assert_int_equal(p.u.subscribe.count, 2);
    assert_int_equal(p.u.subscribe.packet_id, 7);
    size_t pos = 0;
    struct mqtt_filter f;
    assert_true(mqtt_filter_next(&p, MQTT_V5, &pos, &f));
    assert_true(slice_eq_str(f.filter, "a") && f.qos == 1 && f.retain_as_published && !f.no_local);
    assert_int_equal(f.retain_handling, 2);
    assert_true(mqtt_filter_next(&p, MQTT_V5, &pos, &f));
    assert_true(slice_eq_str(f.filter, "+/") && f.qos == 2 && f.no_local && !f.retain_as_published);
    assert_int_equal(f.retain_handling, 1);
    assert_false(mqtt_filter_next(&p, MQTT_V5, &pos, &f));
}

// A limit holds exactly: n is allowed, n + 1 is not.
static void test_limits(void **state)
{
    (void)state;
    struct mqtt_limits l = mqtt_limits_default;
    struct mqtt_packet p;
    struct mqtt_error err = {0, ""};
    size_t used = 0;
    uint8_t bytes[64];

    size_t len = unhex("30 05 0003 612f62", bytes, sizeof(bytes));
    struct slice in = slice_make(bytes, len);
    l.packet_max = (uint32_t)len;
    l.topic_max = 3;
    l.levels_max = 2;
    assert_int_equal(mqtt_decode(in, MQTT_V311, &l, &p, &used, NULL, &err), MQTT_DONE);
    l.packet_max--;
    assert_int_equal(mqtt_decode(in, MQTT_V311, &l, &p, &used, NULL, &err), MQTT_BAD);
    assert_int_equal(err.reason, MQTT_RC_TOO_LARGE);
    assert_int_equal(mqtt_decode(slice_head(in, 2), MQTT_V311, &l, &p, &used, NULL, &err), MQTT_BAD);
    l.packet_max++;
    l.topic_max = 2;
    assert_int_equal(mqtt_decode(in, MQTT_V311, &l, &p, &used, NULL, &err), MQTT_BAD);
    l.topic_max = 3;
    l.levels_max = 1;
    assert_int_equal(mqtt_decode(in, MQTT_V311, &l, &p, &used, NULL, &err), MQTT_BAD);
    assert_int_equal(err.reason, MQTT_RC_BAD_TOPIC);

    len = unhex("82 0a 0001 0001 61 00 0001 62 00", bytes, sizeof(bytes));
    in = slice_make(bytes, len);
    l.levels_max = 32;
    l.filters_max = 2;
    l.packet_max = 64;
    assert_int_equal(mqtt_decode(in, MQTT_V311, &l, &p, &used, NULL, &err), MQTT_DONE);
    l.filters_max = 1;
    assert_int_equal(mqtt_decode(in, MQTT_V311, &l, &p, &used, NULL, &err), MQTT_BAD);
    assert_int_equal(err.reason, MQTT_RC_QUOTA);

    len = unhex("e0 10 00 0e 26 0001 6b 0001 76 26 0001 6b 0001 76", bytes, sizeof(bytes));
    in = slice_make(bytes, len);
    l.user_props_max = 2;
    l.user_props_bytes_max = 4;
    assert_int_equal(mqtt_decode(in, MQTT_V5, &l, &p, &used, NULL, &err), MQTT_DONE);
    assert_int_equal(p.u.disconnect.props.user_count, 2);
    l.user_props_max = 1;
    assert_int_equal(mqtt_decode(in, MQTT_V5, &l, &p, &used, NULL, &err), MQTT_BAD);
    l.user_props_max = 2;
    l.user_props_bytes_max = 3;
    assert_int_equal(mqtt_decode(in, MQTT_V5, &l, &p, &used, NULL, &err), MQTT_BAD);
    assert_int_equal(err.reason, MQTT_RC_QUOTA);
}

static void test_user_props(void **state)
{
    (void)state;
    uint8_t bytes[64];
    size_t len = unhex("30 16 0001 61 12 26 0001 6b 0001 76 0b 05 26 0001 78 0001 79 0b 06", bytes, sizeof(bytes));
    struct mqtt_packet p;
    struct mqtt_error err = {0, ""};
    size_t used = 0;
    assert_int_equal(mqtt_decode(slice_make(bytes, len), MQTT_V5, &mqtt_limits_default, &p, &used, NULL, &err),
                     MQTT_DONE);
    const struct mqtt_props *props = &p.u.publish.props;
    assert_int_equal(props->user_count, 2);
    assert_int_equal(props->sub_id, 5);
    struct slice k;
    struct slice v;
    size_t pos = 0;
    assert_true(mqtt_props_next_user(props, &pos, &k, &v) && slice_eq_str(k, "k") && slice_eq_str(v, "v"));
    assert_true(mqtt_props_next_user(props, &pos, &k, &v) && slice_eq_str(k, "x") && slice_eq_str(v, "y"));
    assert_false(mqtt_props_next_user(props, &pos, &k, &v));
    uint32_t id = 0;
    pos = 0;
    assert_true(mqtt_props_next_sub_id(props, &pos, &id) && id == 5);
    assert_true(mqtt_props_next_sub_id(props, &pos, &id) && id == 6);
    assert_false(mqtt_props_next_sub_id(props, &pos, &id));
}

static void test_type_text(void **state)
{
    (void)state;
    assert_string_equal(mqtt_type_text(MQTT_PUBLISH), "PUBLISH");
    assert_string_equal(mqtt_type_text(MQTT_AUTH), "AUTH");
    assert_string_equal(mqtt_type_text((enum mqtt_type)16), "reserved");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_filters),    cmocka_unit_test(test_connect_fields),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_bad_version_says_how_to_answer),
        cmocka_unit_test(test_user_props), cmocka_unit_test(test_type_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
