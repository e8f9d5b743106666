// Every status becomes a code that its packet allows: the decoder, written from the other side, is the judge.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "front/mqtt/reason.h"

static void allowed(enum mqtt_version v, const struct mqtt_packet *p)
{
    uint8_t mem[64];
    struct buf b = buf_fixed(mem, sizeof(mem));
    struct mqtt_packet q;
    struct mqtt_error err = {0, ""};
    size_t used = 0;
    assert_true(mqtt_encode(&b, v, p));
    if (mqtt_decode(buf_view(&b), v, &mqtt_limits_default, &q, &used, NULL, &err) != MQTT_DONE) {
        fail_msg("%s: %s", mqtt_type_text(p->type), err.text);
    }
}

static void test_codes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ST__COUNT; i++) {
        enum status s = (enum status)i;
        struct mqtt_packet p = {.type = MQTT_CONNACK, .u.connack.reason = reason_connack(MQTT_V5, s)};
        allowed(MQTT_V5, &p);
        p.u.connack.reason = reason_connack(MQTT_V311, s);
        allowed(MQTT_V311, &p);
        p = (struct mqtt_packet){.type = MQTT_PUBACK, .u.ack = {.packet_id = 1, .reason = reason_puback(s)}};
        allowed(MQTT_V5, &p);
        uint8_t code = reason_suback(MQTT_V5, s);
        p = (struct mqtt_packet){.type = MQTT_SUBACK, .u.suback = {.packet_id = 1, .reasons = slice_make(&code, 1)}};
        allowed(MQTT_V5, &p);
        assert_string_not_equal(reason_text(s), "");
        if (s != ST_OK) {
            assert_true(reason_connack(MQTT_V5, s) >= 0x80 && reason_puback(s) >= 0x80 && code >= 0x80);
            assert_int_not_equal(reason_connack(MQTT_V311, s), 0);
            assert_int_equal(reason_suback(MQTT_V311, s), 0x80);
        }
    }
    assert_int_equal(reason_puback(ST_FULL), MQTT_RC_QUOTA);
    assert_int_equal(reason_connack(MQTT_V311, ST_UNAUTHENTICATED), 4);
}

// What is about our insides stays in the log; what is about the client's message is told.
static void test_what_is_said(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ST_FULL, "/var/lib/muster/state.db: db_commit: the disk is full");
    assert_string_equal(reason_say(ST_FULL, &err), reason_text(ST_FULL));
    assert_string_equal(reason_say(ST_IO, &err), reason_text(ST_IO));
    err_set(&err, ST_INVALID, "\"t\" is no number");
    assert_string_equal(reason_say(ST_INVALID, &err), "\"t\" is no number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_codes), cmocka_unit_test(test_what_is_said)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
