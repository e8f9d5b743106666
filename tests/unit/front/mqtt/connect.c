#include "lib/mqtt_talk.h"

static void refused(const char *connect, const char *answer)
{
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    say(f, c, connect);
    fake_settle(f);
    heard(c, answer);
    assert_true(c->closing);
    assert_false(c->authenticated);
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(f->core.disconnected, 0);
    assert_int_equal(fake_broker.closes, 0);
    fake_free(f);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *connect, *answer;
    } rows[] = {
        // credentials
        {"10 'MQTT' 04 c2 003c 'c1' 'stranger' 'x'", "20 00 04"},
        {"10 'MQTT' 04 c2 003c 'c1' 'revoked' 'x'", "20 00 05"},
        {"10 'MQTT' 04 c2 003c 'c1' 'often' 'x'", "20 00 03"},
        {"10 'MQTT' 04 c2 003c 'c1' 'broken' 'x'", "20 00 03"},
        {"10 'MQTT' 05 c2 003c 00 'c1' 'stranger' 'x'", "20 00 86 1e 1f 'unknown or wrong credential'"},
        {"10 'MQTT' 05 c2 003c 00 'c1' 'revoked' 'x'", "20 00 87 *"},
        {"10 'MQTT' 05 c2 003c 00 'c1' 'often' 'x'", "20 00 97 *"},
        {"10 'MQTT' 05 c2 003c 00 'c1' 'broken' 'x'", "20 00 80 *"},
        // versions and forms
        {"10 'MQIsdp' 04 02 003c 'c1'", "20 00 01"},
        {"10 'MQTT' 06 02 003c 00 'c1'", "20 00 84 *"},
        {"10 'MQTT' 03 02 003c 'c1'", "20 00 01"},
        {"10 'MQTT' 05 03 003c 00 'c1'", "20 00 81 *"},
        {"10 'MQTT' 04 03 003c 'c1'", ""},
        {"10 'HTTP' 04 02 003c 'c1'", ""},
        // client ids
        {"10 'MQTT' 04 c0 003c '' 'dev' 'x'", "20 00 02"},
        {"10 'MQTT' 04 c2 003c 0002 4101 'dev' 'x'", "20 00 02"},
        {"10 'MQTT' 05 c2 003c 00 0002 4101 'dev' 'x'", "20 00 85 *"},
        // wills, authentication methods
        {"10 'MQTT' 04 c6 003c 'c1' '$muster/telemetry' '{}' 'dev' 'x'", "20 00 05"},
        {"10 'MQTT' 04 c6 003c 'c1' 'forbidden' '{}' 'dev' 'x'", "20 00 05"},
        {"10 'MQTT' 05 c6 003c 00 'c1' 00 'forbidden' '{}' 'dev' 'x'", "20 00 87 *"},
        {"10 'MQTT' 05 e6 003c 00 'c1' 00 'unretained' '{}' 'dev' 'x'", "20 00 87 *"},
        {"10 'MQTT' 05 c2 003c 06 15 'abc' 'c1' 'dev' 'x'", "20 00 8c *"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        refused(rows[i].connect, rows[i].answer);
    }
}

static void test_stranger_learns_nothing_and_is_counted(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    say(f, c, "10 'MQTT' 05 c2 003c 00 'c1' 'stranger' 'x'");
    fake_settle(f);
    assert_null(memmem(c->out.p, c->out.len, "secret", 6));
    assert_int_equal(f->core.auth_failures, 1);
    fake_free(f);
}

static void test_accepted(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    say(f, c, CONNECT4);
    fake_core_run(f);
    heard(c, ""); // committed, but not back on the loop yet
    fake_turn(f);
    heard(c, "20 00 00");
    assert_true(c->authenticated);
    assert_int_equal(f->core.connected, 1);
    assert_string_equal(f->core.protocol, "mqtt3.1.1");
    assert_string_equal(f->core.client_id, "c1");

    c = fake_open(f);
    say(f, c, CONNECT5);
    fake_settle(f);
    heard(c,
          "20 00 00 0b 21 0064 22 0020 27 00040000"); // receive max 100, aliases 32, packet 256 KiB; all is available
    assert_string_equal(f->core.protocol, "mqtt5");
    fake_free(f);
}

static void test_what_the_server_decides(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    // no keep-alive, no id, a session that should last for ever
    say(f, c, "10 'MQTT' 05 c2 0000 05 11 ffffffff '' 'dev' 'x'");
    fake_settle(f);
    assert_memory_equal(f->core.client_id, "auto-", 5);
    assert_int_equal(strlen(f->core.client_id), 21);
    assert_non_null(memmem(c->out.p, c->out.len, "\x11\x00\x00\x0e\x10", 5)); // it will an hour
    assert_non_null(memmem(c->out.p, c->out.len,
                           "\x12\x00\x15"
                           "auto-",
                           8));                                       // the id
    assert_non_null(memmem(c->out.p, c->out.len, "\x13\x0e\x10", 3)); // 3,600 s
    fake_sleep(f, 5399999);
    assert_false(c->closing);
    fake_sleep(f, 1);
    assert_true(c->closing);
    fake_free(f);
}

static void test_commit_fails(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    f->core.commit = ST_FULL;
    struct conn *c = fake_open(f);
    say(f, c, CONNECT4);
    fake_settle(f);
    heard(c, "20 00 03");
    assert_true(c->closing);
    f->core.commit = ST_OK;
    f->core.refuse = ST_BUSY;
    c = fake_open(f);
    say(f, c, CONNECT5);
    fake_settle(f);
    heard(c, "20 00 89 *");
    fake_free(f);
}

// The client is gone before the core has answered: it was present for a moment, and that must end too.
static void test_gone_while_connecting(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    say(f, c, CONNECT4);
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(f->core.connected, 1);
    assert_int_equal(f->core.disconnected, 1);
    assert_string_equal(f->core.reason, "peer_closed");

    c = fake_open(f);
    say(f, c, "10 'MQTT' 04 c2 003c 'c1' 'stranger' 'x'");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(f->core.disconnected, 1);
    fake_free(f);
}

static void test_leaving_waits_for_a_busy_core(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    f->core.refuse = ST_BUSY;
    fake_gone(f, c, CLOSE_RESET);
    fake_sleep(f, 100);
    fake_sleep(f, 100);
    assert_int_equal(f->core.disconnected, 0);
    f->core.refuse = ST_OK;
    fake_sleep(f, 100);
    fake_settle(f);
    assert_int_equal(f->core.disconnected, 1);
    assert_string_equal(f->core.reason, "connection_reset");
    fake_free(f);
}

static void test_rate_per_source(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.connects_per_source=1", "mqtt.connects_burst=2", NULL};
    struct fake *f = fake_new(conf);
    talk_connected(f, CONNECT5);
    talk_connected(f, CONNECT5);
    struct conn *c = fake_open(f);
    say(f, c, CONNECT5);
    heard(c, "20 00 9f *");
    c = fake_open(f);
    c->loopback = true;
    say(f, c, CONNECT5);
    fake_settle(f);
    heard(c, "20 00 00 *");
    c = fake_open(f);
    c->peer = "192.0.2.2:1234";
    say(f, c, CONNECT5);
    fake_settle(f);
    heard(c, "20 00 00 *");
    fake_free(f);
}

static void test_claim_may_not_stay(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CLAIM5);
    assert_int_equal(f->core.connected, 0); // a claim is nobody's presence
    fake_sleep(f, 59999);
    assert_false(c->closing);
    fake_sleep(f, 1);
    heard(c, "e0 a0 *");
    assert_true(c->closing);
    fake_free(f);
}

static void test_old_version(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    talk_connected(f, "10 'MQIsdp' 03 c2 003c 'c1' 'dev' 'pw'");
    assert_string_equal(f->core.protocol, "mqtt3.1");
    fake_free(f);
}

static void test_session(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 04 c0 003c 'dur' 'dev' 'pw'");
    assert_int_equal(fake_broker.opened.expiry_s, UINT32_MAX);
    fake_gone(f, c, CLOSE_RESET);
    fake_settle(f);
    assert_int_equal(fake_broker.closes, 1);
    assert_int_equal(fake_broker.close_expiry_s, BROKER_EXPIRY_KEEP);
    c = fake_open(f);
    say(f, c, "10 'MQTT' 04 c0 003c 'dur' 'dev' 'pw'");
    fake_settle(f);
    heard(c, "20 01 00"); // session present
    c = fake_open(f);
    say(f, c, "10 'MQTT' 05 c0 003c 05 11 00000064 'dur' 'dev' 'pw'");
    fake_settle(f);
    heard(c, "20 01 00 *");
    say(f, c, "e0 00 05 11 00000000"); // it ends here after all
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(fake_broker.close_expiry_s, 0);
    c = talk_connected(f, CONNECT4);
    assert_int_equal(fake_broker.opened.expiry_s, 0);
    assert_true(fake_broker.opened.clean_start);
    fake_free(f);
}

static void test_will(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c =
        talk_connected(f, "10 'MQTT' 05 d6 003c 00 'c1' 05 18 0000001e 'will/topic' 'gone' 'dev' 'pw'"); // QoS 2, 30 s
    assert_string_equal(fake_broker.will_topic, "will/topic");
    assert_string_equal(fake_broker.will_payload, "gone");
    assert_int_equal(fake_broker.will_delay_s, 30);
    fake_gone(f, c, CLOSE_RESET);
    fake_settle(f);
    assert_int_equal(fake_broker.wills, 1);
    c = talk_connected(f, CONNECT5);
    assert_string_equal(fake_broker.will_topic, "");
    say(f, c, "e0 04"); // with will
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(fake_broker.wills, 2);
    c = talk_connected(f, CONNECT5);
    say(f, c, "e0");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(fake_broker.wills, 2);
    c = fake_open(f); // gone before it was answered
    say(f, c, CONNECT5);
    fake_gone(f, c, CLOSE_RESET);
    fake_settle(f);
    assert_int_equal(fake_broker.wills, 3);
    fake_free(f);
}

static void test_application(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 00 'any' 'app' 'pw'");
    assert_int_equal(f->core.connected, 0); // no presence
    assert_int_equal(fake_broker.opens, 1);
    say(f, c, "32 '$muster/telemetry' 0001 00 ({}) | 32 'a' 0002 00 (x)");
    heard(c, "40 0001 87 * | 40 0002");
    say(f, c, "82 0003 00 '$muster/twin/desired' 01");
    fake_settle(f);
    heard(c, "90 0003 00 87");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_int_equal(f->core.disconnected, 0);
    assert_int_equal(fake_broker.closes, 1);
    fake_free(f);
}

static void test_password(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    talk_connected(f, "10 'MQTT' 05 c2 003c 00 'c1' 'pass' 'right'"); // two operations, one answer
    assert_int_equal(f->core.ran, 2);
    assert_int_equal(f->core.auth_failures, 0);
    fake_free(f);
    refused("10 'MQTT' 05 c2 003c 00 'c1' 'pass' 'wrong'", "20 00 86 *");
}

static void test_bans(void **state)
{
    (void)state;
    refused("10 'MQTT' 05 c2 003c 00 'flapping' 'dev' 'pw'", "20 00 8a *");
    refused("10 'MQTT' 05 c2 003c 00 'banned' 'dev' 'pw'", "20 00 8a *");
    refused("10 'MQTT' 04 c2 003c 'banned' 'dev' 'pw'", "20 00 05");
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    c->peer = "203.0.113.66:1234";
    say(f, c, CONNECT5);
    heard(c, "20 00 8a *");
    assert_int_equal(f->core.ran, 0); // nothing was asked
    fake_free(f);
}

static void test_session_of_somebody_else(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    fake_broker.open_status = ST_FORBIDDEN;
    struct conn *c = fake_open(f);
    say(f, c, CONNECT5);
    fake_settle(f);
    heard(c, "20 00 87 *");
    fake_free(f);
}

static void test_connections_of_a_tenant(void **state)
{
    (void)state;
    static const char *const conf[] = {"quota.tenant_connections=2", NULL};
    struct fake *f = fake_new(conf);
    struct conn *first = talk_connected(f, CONNECT5);
    talk_connected(f, CONNECT5);
    struct conn *c = fake_open(f);
    say(f, c, CONNECT5);
    fake_settle(f);
    heard(c, "20 00 97 *");
    fake_gone(f, first, CLOSE_EOF);
    talk_connected(f, CONNECT5);
    fake_free(f);
}

static void test_redirect(void **state)
{
    (void)state;
    static const char *const moved[] = {"mqtt.redirect=moved", "mqtt.redirect_to=b.example:8883", NULL};
    static const char *const stop[] = {"mqtt.redirect_to=b.example:8883", NULL};
    struct fake *f = fake_new(moved);
    struct conn *five = fake_open(f);
    struct conn *four = fake_open(f);
    say(f, five, "10 'MQTT' 05 c2 003c 02 17 00 'c1' 'dev' 'pw'"); // no reason string
    say(f, four, CONNECT4);
    heard(five, "20 00 9d 11 1c 'b.example:8883'");
    heard(four, "20 00 03");
    fake_free(f);
    f = fake_new(stop);
    five = talk_connected(f, CONNECT5);
    mqtt_front_stop(f->front);
    fake_turn(f);
    assert_non_null(memmem(five->out.p, five->out.len, "b.example:8883", 14));
    heard(five, "e0 9c *");
    fake_free(f);
}

static void test_response_information(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.response_information=reply/${client.id}/", NULL};
    struct fake *f = fake_new(conf);
    struct conn *c = fake_open(f);
    say(f, c, "10 'MQTT' 05 c2 003c 02 19 01 'c1' 'dev' 'pw'");
    fake_settle(f);
    assert_non_null(memmem(c->out.p, c->out.len, "\x1a\x00\x09reply/c1/", 12));
    c = fake_open(f); // who does not ask is not told
    say(f, c, CONNECT5);
    fake_settle(f);
    assert_null(memmem(c->out.p, c->out.len, "reply", 5));
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_stranger_learns_nothing_and_is_counted),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_what_the_server_decides),
        cmocka_unit_test(test_commit_fails),
        cmocka_unit_test(test_gone_while_connecting),
        cmocka_unit_test(test_leaving_waits_for_a_busy_core),
        cmocka_unit_test(test_rate_per_source),
        cmocka_unit_test(test_claim_may_not_stay),
        cmocka_unit_test(test_old_version),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_will),
        cmocka_unit_test(test_application),
        cmocka_unit_test(test_password),
        cmocka_unit_test(test_bans),
        cmocka_unit_test(test_session_of_somebody_else),
        cmocka_unit_test(test_connections_of_a_tenant),
        cmocka_unit_test(test_redirect),
        cmocka_unit_test(test_response_information),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
