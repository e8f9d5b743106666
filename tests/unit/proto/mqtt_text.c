// Packets in words: what each says, what is hidden, and that nothing a terminal would obey gets through.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/mqtt_text.h"

static void says(enum mqtt_version v, struct slice bytes, const char *want)
{
    struct mqtt_packet p;
    struct mqtt_error err = {0, ""};
    size_t used = 0;
    char text[1024];
    struct buf out = buf_fixed(text, sizeof(text));
    if (mqtt_decode(bytes, v, &mqtt_limits_default, &p, &used, NULL, &err) != MQTT_DONE) {
        fail_msg("%s", err.text);
    }
    assert_true(mqtt_text(&out, v, &p));
    assert_true(buf_u8(&out, 0));
    assert_string_equal(text, want);
}

static void test_every_type(void **state)
{
    (void)state;
    says(MQTT_V311, SLICE("\xc0\x00"), "PINGREQ");
    says(MQTT_V311, SLICE("\xd0\x00"), "PINGRESP");
    says(MQTT_V311, SLICE("\x20\x02\x00\x05"), "CONNACK reason=0x05");
    says(MQTT_V5, SLICE("\x20\x03\x01\x00\x00"), "CONNACK reason=0x00 session_present");
    says(MQTT_V311,
         SLICE("\x30\x05\x00\x03"
               "a/b"),
         "PUBLISH qos=0 topic=\"a/b\" payload=0 \"\"");
    says(MQTT_V311,
         SLICE("\x3b\x09\x00\x03"
               "a/b\x00\x07"
               "hi"),
         "PUBLISH id=7 qos=1 dup retain topic=\"a/b\" payload=2 \"hi\"");
    says(MQTT_V5,
         SLICE("\x30\x0f\x00\x01"
               "t\x09\x26\x00\x01"
               "k\x00\x01"
               "v\x01\x01"
               "21"),
         "PUBLISH qos=0 topic=\"t\" payload_format=1 user:\"k\"=\"v\" payload=2 \"21\"");
    says(MQTT_V311, SLICE("\x40\x02\x00\x07"), "PUBACK id=7");
    says(MQTT_V5, SLICE("\x40\x03\x00\x07\x97"), "PUBACK id=7 reason=0x97");
    says(MQTT_V5, SLICE("\x62\x03\x00\x07\x92"), "PUBREL id=7 reason=0x92");
    says(MQTT_V5,
         SLICE("\x82\x0b\x00\x01\x02\x0b\x05\x00\x03"
               "a/+\x1d"),
         "SUBSCRIBE id=1 sub_id=5 filter=\"a/+\" qos=1 no_local retain_as_published retain=new");
    says(MQTT_V311, SLICE("\x90\x04\x00\x01\x01\x80"), "SUBACK id=1 reason=0x01 reason=0x80");
    says(MQTT_V311,
         SLICE("\xa2\x07\x00\x02\x00\x03"
               "a/b"),
         "UNSUBSCRIBE id=2 filter=\"a/b\"");
    says(MQTT_V5, SLICE("\xe0\x01\x8e"), "DISCONNECT reason=0x8e");
}

static void test_connect_hides_the_password(void **state)
{
    (void)state;
    struct slice bytes = SLICE("\x10\x16\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01"
                               "c\x00\x01"
                               "u\x00\x04s3cr");
    says(MQTT_V311, bytes, "CONNECT version=3.1.1 client=\"c\" keep_alive=60 clean user=\"u\" password=(hidden)");
    size_t at = 0;
    size_t len = 0;
    assert_true(mqtt_password_place(bytes, &at, &len));
    assert_int_equal(len, 4);
    assert_memory_equal(bytes.p + at, "s3cr", 4);
    assert_false(mqtt_password_place(slice_head(bytes, bytes.len - 1), &at, &len));
    assert_false(mqtt_password_place(SLICE("\xc0\x00"), &at, &len));
}

static void test_nothing_a_terminal_obeys(void **state)
{
    (void)state;
    says(MQTT_V311,
         SLICE("\x30\x0c\x00\x01"
               "t\x1b[2J\x9b\"\\\r\n"),
         "PUBLISH qos=0 topic=\"t\" payload=9 \"\\x1b[2J\\x9b\\\"\\\\\\x0d\\x0a\"");
}

static void test_full(void **state)
{
    (void)state;
    struct mqtt_packet p = {.type = MQTT_PUBLISH, .u.publish = {.topic = SLICE("a/b"), .payload = SLICE("0123456789")}};
    char text[20];
    struct buf out = buf_fixed(text, sizeof(text));
    assert_false(mqtt_text(&out, MQTT_V311, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_connect_hides_the_password),
        cmocka_unit_test(test_nothing_a_terminal_obeys),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
