// The state table: what each packet does in each state, and what time does to a connection.
#include "lib/mqtt_talk.h"

#include "front/mqtt/mqtt_conn.h"

static void test_table_is_complete(void **state)
{
    (void)state;
    for (unsigned s = 0; s < MS__COUNT; s++) {
        for (unsigned t = 0; t < 16; t++) {
            assert_non_null(mqtt_actions[s][t]);
        }
    }
}

// One good packet of each type, 3.1.1 and 5.
static const struct {
    const char *v4, *v5;
} samples[16] = {
    [MQTT_CONNECT] = {CONNECT4, CONNECT5},
    [MQTT_CONNACK] = {"20 00 00", "20 00 00 00"},
    [MQTT_PUBLISH] = {"32 '$muster/telemetry' 0007 ({})", "32 '$muster/telemetry' 0007 00 ({})"},
    [MQTT_PUBACK] = {"40 0001", "40 0001"},
    [MQTT_PUBREC] = {"50 0001", "50 0001"},
    [MQTT_PUBREL] = {"62 0001", "62 0001"},
    [MQTT_PUBCOMP] = {"70 0001", "70 0001"},
    [MQTT_SUBSCRIBE] = {"82 0001 '$muster/twin/desired' 01", "82 0001 00 '$muster/twin/desired' 01"},
    [MQTT_SUBACK] = {"90 0001 00", "90 0001 00 00"},
    [MQTT_UNSUBSCRIBE] = {"a2 0001 'a'", "a2 0001 00 'a'"},
    [MQTT_UNSUBACK] = {"b0 0001", "b0 0001 00 00"},
    [MQTT_PINGREQ] = {"c0", "c0"},
    [MQTT_PINGRESP] = {"d0", "d0"},
    [MQTT_DISCONNECT] = {"e0", "e0"},
    [MQTT_AUTH] = {NULL, "f0"},
};

// c: the connection closes; p: it goes on; w: the packet waits; i: ignored, it is closing anyway.
// In the order of types 1..15: CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK
// PINGREQ PINGRESP DISCONNECT AUTH. A PUBACK for nothing closes too.
static const char *const expected[MS__COUNT] = {
    [MS_NEW] = "pcccccccccccccc",  [MS_AUTHENTICATING] = "ccccccccccccccc", [MS_CONNECTING] = "wwwwwwwwwwwwwww",
    [MS_OPEN] = "ccpcppppcpcpccc", [MS_ENDING] = "wwwwwwwwwwwwwww",         [MS_CLOSING] = "iiiiiiiiiiiiiii",
};

static struct conn *in_state(struct fake *f, enum mqtt_state s, bool v5)
{
    struct conn *c = fake_open(f);
    if (s == MS_NEW) {
        return c;
    }
    if (s == MS_AUTHENTICATING) {
        ((struct mqtt_conn *)conn_user(c))->state = MS_AUTHENTICATING;
        return c;
    }
    say(f, c, v5 ? CONNECT5 : CONNECT4);
    if (s == MS_CONNECTING) {
        return c;
    }
    fake_settle(f);
    if (s == MS_ENDING) {
        say(f, c, "32 '$muster/telemetry' 0001 ({}) | 32 'forbidden' 0002 ({})");
    } else if (s == MS_CLOSING) {
        say(f, c, "e0");
    }
    buf_clear(&c->out);
    return c;
}

static void check_cell(enum mqtt_state s, unsigned type, bool v5)
{
    const char *packet = v5 ? samples[type].v5 : samples[type].v4;
    if (packet == NULL || (s == MS_ENDING && v5)) { // ENDING is a state of 3.1.1 only
        return;
    }
    struct fake *f = fake_new(NULL);
    struct conn *c = in_state(f, s, v5);
    struct mqtt_conn *mc = conn_user(c);
    assert_int_equal(mc->state, s);
    say(f, c, packet);
    char got = mc->state == MS_CLOSING ? (s == MS_CLOSING ? 'i' : 'c') : c->in.len > 0 ? 'w' : 'p';
    if (got != expected[s][type - 1]) {
        fail_msg("state %u, %s, version %d: %c", s, mqtt_type_text((enum mqtt_type)type), v5 ? 5 : 4, got);
    }
    fake_free(f);
}

static void test_every_state_and_packet(void **state)
{
    (void)state;
    for (unsigned s = 0; s < MS__COUNT; s++) {
        for (unsigned t = 1; t < 16; t++) {
            check_cell((enum mqtt_state)s, t, false);
            check_cell((enum mqtt_state)s, t, true);
        }
    }
}

static void test_early_packets_wait(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    say(f, c, CONNECT4 " | 32 '$muster/telemetry' 0001 ({}) | c0");
    assert_true(c->paused);
    heard(c, "");
    assert_int_equal(fake_ingest->put, 0);
    fake_core_run(f);
    fake_turn(f);
    heard(c, "20 00 00 | d0");
    assert_int_equal(fake_ingest->put, 1);
    fake_settle(f);
    heard(c, "40 0001");
    fake_free(f);
}

static void test_bytes_one_by_one(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    const char *text = "32 '$muster/telemetry' 0001 ({\"t\":1}) | c0";
    struct talk_packet p;
    while (talk_next(&text, &p)) {
        for (size_t i = 0; i < p.len; i++) {
            fake_input(f, c, slice_make(p.bytes + i, 1));
        }
    }
    fake_settle(f);
    heard(c, "d0 | 40 0001");
    fake_free(f);
}

static void test_bad_bytes(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    fake_input(f, c, SLICE("\x36\x00"));
    assert_true(c->closing);
    heard(c, "e0 81 *");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_string_equal(f->core.reason, "protocol_error");

    c = talk_connected(f, CONNECT5); // larger than allowed: known from the header alone
    fake_input(f, c, SLICE("\x30\xff\xff\xff\x7f"));
    heard(c, "e0 95 *");

    c = talk_connected(f, CONNECT5); // a second CONNECT that is malformed too
    say(f, c, "10 'MQTT' 54 c2 003c 00 'c1'");
    heard(c, "e0 82 *");

    c = fake_open(f); // a stranger's limit is smaller
    fake_input(f, c, SLICE("\x10\x80\x80\x01"));
    assert_true(c->closing);
    heard(c, "");
    fake_free(f);
}

static void test_keep_alive(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5); // 60 s
    fake_sleep(f, 60000);
    say(f, c, "c0");
    heard(c, "d0");
    fake_sleep(f, 89000); // the first due time passes, but something came
    assert_false(c->closing);
    fake_sleep(f, 999);
    assert_false(c->closing);
    fake_sleep(f, 1);
    assert_true(c->closing);
    assert_false(c->aborted);
    heard(c, "e0 8d *");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_string_equal(f->core.reason, "keep_alive");

    c = talk_connected(f, CONNECT5); // one that has not taken what was said to it gets no time to do so
    say(f, c, "c0");
    fake_sleep(f, 90000);
    assert_true(c->aborted);
    fake_gone(f, c, CLOSE_TIMEOUT);
    fake_settle(f);
    assert_string_equal(f->core.reason, "keep_alive");

    c = talk_connected(f, "10 'MQTT' 04 c2 0000 'c1' 'dev' 'pw'"); // none, and 3.1.1 cannot be told one
    fake_sleep(f, 1000000000);
    assert_false(c->closing);
    fake_free(f);
}

static void test_disconnect(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "e0 04");
    assert_true(c->closing);
    heard(c, "");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(f->core.disconnected, 1);
    assert_string_equal(f->core.reason, "client_disconnect");
    assert_string_equal(f->core.detail, "the client gave reason 0x04");

    c = talk_connected(f, CONNECT5);
    say(f, c, "e0 00 05 11 00000001"); // an expiry that CONNECT did not ask for
    heard(c, "e0 82 *");

    c = talk_connected(f, CONNECT4);
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_string_equal(f->core.reason, "peer_closed");
    fake_free(f);
}

static void test_stop(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *five = talk_connected(f, CONNECT5);
    struct conn *four = talk_connected(f, CONNECT4);
    struct conn *connecting = fake_open(f);
    say(f, connecting, CONNECT5);
    assert_int_equal(mqtt_front_connections(f->front), 3);
    mqtt_front_stop(f->front);
    mqtt_front_stop(f->front);
    fake_turn(f);
    heard(five, "e0 8b *");
    heard(four, "");
    assert_true(five->closing && four->closing && connecting->closing);
    assert_null(fake_open(f));
    fake_settle(f); // the CONNECT that was with the core is durable now: its end must be too
    fake_gone(f, connecting, CLOSE_EOF);
    fake_gone(f, five, CLOSE_EOF);
    fake_gone(f, four, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(f->core.connected, 3);
    assert_int_equal(f->core.disconnected, 3);
    assert_string_equal(f->core.reason, "server_shutdown");
    assert_int_equal(mqtt_front_connections(f->front), 0);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_complete),  cmocka_unit_test(test_every_state_and_packet),
        cmocka_unit_test(test_early_packets_wait), cmocka_unit_test(test_bytes_one_by_one),
        cmocka_unit_test(test_bad_bytes),          cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_disconnect),         cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
