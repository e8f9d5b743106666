#include "lib/mqtt_talk.h"

static void test_acknowledged_after_the_commit(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "32 '$muster/telemetry' 0005 ({}) | 32 '$muster/telemetry' 0006 ({}) | 30 '$muster/telemetry' ({})");
    fake_turn(f);
    fake_core_run(f);
    heard(c, "");
    fake_ingest_commit(ST_OK);
    heard(c, "40 0005 | 40 0006");
    assert_int_equal(fake_ingest->put, 3);
    fake_free(f);
}

// Acknowledgements leave in the order of the messages (4.6.0-2), whatever is known first.
static void test_order(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "32 '$muster/telemetry' 0001 ({}) | 32 '$muster/event/e' 0002 ({}) | 32 '$muster/telemetry' 0003 ({})");
    fake_core_run(f);
    fake_turn(f);
    assert_int_equal(f->core.events, 1);
    heard(c, ""); // the event is stored, but it is not its turn
    fake_ingest_commit(ST_OK);
    heard(c, "40 0001 | 40 0002 | 40 0003");
    say(f, c, "32 '$muster/event/e' 0004 ({}) | 32 '$muster/telemetry' 0005 ({})");
    fake_ingest_commit(ST_OK);
    heard(c, "");
    fake_core_run(f);
    fake_turn(f);
    heard(c, "40 0004 | 40 0005");
    fake_free(f);
}

static void test_refused_in_5(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "32 '$muster/telemetry' 0001 00 ({}) | 32 '$muster/telemetry' 0002 00 (nonsense)");
    heard(c, ""); // the first one's turn is first
    fake_ingest_commit(ST_OK);
    heard(c, "40 0001 | 40 0002 99 10 1f 'not telemetry'");
    say(f, c, "32 '$muster/no/such' 0003 00 ({}) | 32 '$muster/provision/request' 0004 00 ({})");
    heard(c, "40 0003 90 * | 40 0004 87 *");
    assert_int_equal(fake_ingest->refused[ST_NOT_FOUND], 1);
    assert_int_equal(fake_ingest->refused[ST_FORBIDDEN], 1);
    say(f, c, "30 '$muster/no/such' 00 ({})"); // QoS 0: counted only
    heard(c, "");
    assert_int_equal(fake_ingest->refused[ST_NOT_FOUND], 2);
    assert_false(c->closing);
    fake_free(f);
}

static void test_reason_strings_only_where_wanted(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 02 17 00 'c1' 'dev' 'pw'"); // no problem information
    say(f, c, "32 '$muster/telemetry' 0001 00 (nonsense)");
    heard(c, "40 0001 99");
    c = talk_connected(f, "10 'MQTT' 05 c2 003c 05 27 00000010 'c1' 'dev' 'pw'"); // packets of 16 bytes
    say(f, c, "32 '$muster/telemetry' 0001 00 (nonsense)");
    heard(c, "40 0001 99");
    fake_free(f);
}

// 3.1.1 has no way to say no: what came before is acknowledged, then the connection ends.
static void test_refused_in_311(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c,
        "32 '$muster/telemetry' 0001 ({}) | 32 '$muster/telemetry' 0002 (nonsense) | 32 '$muster/telemetry' 0003 ({})");
    assert_false(c->closing);
    assert_true(c->paused);
    fake_ingest_commit(ST_OK);
    heard(c, "40 0001");
    assert_true(c->closing);
    assert_int_equal(fake_ingest->put, 2); // the third was not looked at any more
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_string_equal(f->core.reason, "refused");
    assert_string_equal(f->core.detail, "not telemetry");

    c = talk_connected(f, CONNECT4);
    say(f, c, "30 '$muster/telemetry' (nonsense)");
    assert_false(c->closing);
    fake_free(f);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *five = talk_connected(f, CONNECT5);
    struct conn *four = talk_connected(f, CONNECT4);
    say(f, five, "32 '$muster/telemetry' 0001 00 ({})");
    say(f, four, "32 '$muster/telemetry' 0001 ({})");
    fake_ingest_commit(ST_FULL);
    heard(five, "40 0001 97 *");
    assert_false(five->closing);
    heard(four, "");
    assert_true(four->closing);
    say(f, five, "32 '$muster/telemetry' 0002 00 ({})");
    fake_ingest_commit(ST_OK);
    heard(five, "40 0002");
    fake_free(f);
}

static void test_receive_maximum(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.receive_max=4", NULL};
    struct fake *f = fake_new(conf);
    struct conn *five = talk_connected(f, CONNECT5);
    struct conn *four = talk_connected(f, CONNECT4);
    say(f, five,
        "32 '$muster/telemetry' 0001 00 ({}) | 32 '$muster/telemetry' 0002 00 ({}) | 34 '$muster/telemetry' 0003 00 "
        "({}) | "
        "34 '$muster/telemetry' 0004 00 ({})");
    assert_false(five->closing);
    say(f, five, "32 '$muster/telemetry' 0009 00 ({})");
    heard(five, "e0 93 *");
    assert_true(five->closing);

    // 3.1.1 was not told: it is read more slowly instead.
    say(f, four,
        "32 '$muster/telemetry' 0001 ({}) | 32 '$muster/telemetry' 0002 ({}) | 32 '$muster/telemetry' 0003 ({}) | "
        "32 '$muster/telemetry' 0004 ({}) | 32 '$muster/telemetry' 0005 ({})");
    assert_true(four->paused);
    fake_ingest_commit(ST_OK);
    heard(four, "40 0001 | 40 0002 | 40 0003 | 40 0004");
    assert_false(four->paused);
    fake_settle(f);
    heard(four, "40 0005");
    fake_free(f);
}

static void test_congestion(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.pending_max=100", NULL};
    struct fake *f = fake_new(conf);
    struct conn *a = talk_connected(f, CONNECT4);
    struct conn *b = talk_connected(f, CONNECT4);
    for (int i = 0; i < 100; i++) {
        say(f, a, "30 '$muster/telemetry' ({})");
    }
    assert_true(a->paused);
    say(f, b, "30 '$muster/telemetry' ({}) | c0");
    assert_true(b->paused);
    heard(b, "");
    fake_sleep(f, 100000); // silence of a connection that is not read is no silence
    assert_false(b->closing);
    fake_settle(f);
    assert_false(a->paused);
    heard(b, "d0");
    fake_free(f);
}

// A client that publishes too fast is read more slowly; nothing is lost.
static void test_rate_per_client(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.publishes_per_client=10", "mqtt.publishes_burst=3", NULL};
    struct fake *f = fake_new(conf);
    struct conn *fast = talk_connected(f, "10 'MQTT' 04 c2 0000 'c1' 'dev' 'pw'");
    struct conn *other = talk_connected(f, CONNECT4);
    for (int i = 0; i < 4; i++) {
        assert_false(fast->paused);
        say(f, fast, "30 '$muster/telemetry' ({})");
    }
    assert_true(fast->paused);
    say(f, fast, "30 '$muster/telemetry' ({}) | 30 '$muster/telemetry' ({}) | c0");
    assert_int_equal(fake_ingest->put, 4);
    say(f, other, "30 '$muster/telemetry' ({}) | c0");
    heard(other, "d0");
    static const struct {
        unsigned ms, put;
    } steps[] = {{50, 5}, {50, 6}, {50, 6}, {50, 7}, {50, 7}}; // the other client's one counted in
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        fake_sleep(f, steps[i].ms);
        fake_turn(f);
        assert_int_equal(fake_ingest->put, steps[i].put);
    }
    heard(fast, "");
    fake_sleep(f, 50);
    fake_turn(f);
    heard(fast, "d0");
    fake_sleep(f, 3600000); // a rest fills the credit to the burst, not beyond
    for (int i = 0; i < 4; i++) {
        assert_false(fast->paused);
        say(f, fast, "30 '$muster/telemetry' ({})");
    }
    assert_true(fast->paused);
    fake_free(f);
}

static void test_forbidden_forms(void **state)
{
    (void)state;
    static const struct {
        const char *packet, *answer;
    } rows[] = {
        {"32 '$muster/telemetry' 0001 02 0b 01 ({})", "e0 82 *"},   // subscription id
        {"32 '$muster/telemetry' 0001 03 23 0021 ({})", "e0 94 *"}, // alias 33 of 32
        {"32 '' 0001 03 23 0001 ({})", "e0 82 *"},                  // alias not set
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fake *f = fake_new(NULL);
        struct conn *c = talk_connected(f, CONNECT5);
        say(f, c, rows[i].packet);
        heard(c, rows[i].answer);
        assert_true(c->closing);
        fake_free(f);
    }
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "33 '$muster/telemetry' 0001 ({})"); // the flag has no effect
    fake_ingest_commit(ST_OK);
    heard(c, "40 0001");
    fake_free(f);
}

static void test_topic_alias(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "32 '$muster/telemetry' 0001 03 23 0020 ({}) | 32 '' 0002 03 23 0020 ({})");
    fake_ingest_commit(ST_OK);
    heard(c, "40 0001 | 40 0002");
    say(f, c, "32 '$muster/event/e' 0003 03 23 0020 ({}) | 32 '' 0004 03 23 0020 ({})"); // set anew
    fake_settle(f);
    heard(c, "40 0003 | 40 0004");
    assert_int_equal(fake_ingest->put, 2);
    assert_int_equal(f->core.events, 2);
    fake_free(f);
}

static void test_gone_before_the_commit(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "32 '$muster/telemetry' 0001 ({}) | 32 '$muster/event/e' 0002 ({})");
    fake_gone(f, c, CLOSE_RESET);
    fake_settle(f);
    assert_int_equal(f->core.events, 1);
    assert_int_equal(f->core.disconnected, 1);
    fake_free(f);
}

// --- to other clients, and QoS 2 -----------------------------------------------------------------------------------

static void test_relayed(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *five = talk_connected(f, CONNECT5);
    struct conn *four = talk_connected(f, CONNECT4);
    say(f, five,
        "30 'a/b' 00 (x) | 33 'a/b' 0001 00 (hello) | 32 'nobody' 0002 00 (x) | 32 'later/x' 0003 00 (x) | 32 'a' 0004 "
        "00");
    heard(five, "40 0001 | 40 0002 10"); // the fourth waits for the third
    assert_int_equal(fake_broker.published, 5);
    fake_broker_commit(ST_OK);
    heard(five, "40 0003 | 40 0004");
    say(f, five, "32 'forbidden/x' 0005 00 (x) | 32 'later/x' 0006 00 (x)");
    fake_broker_commit(ST_FULL);
    heard(five, "40 0005 87 * | 40 0006 97 *");
    say(f, four, "32 'nobody' 0001 (x) | 32 'later/nobody' 0002 (x) | 30 'forbidden/x' (x)");
    heard(four, "40 0001");
    fake_broker_commit(ST_OK);
    heard(four, "40 0002");
    say(f, four, "32 'later/x' 0003 (x) | 32 'forbidden/x' 0004 (x)");
    assert_false(four->closing);
    fake_broker_commit(ST_OK);
    heard(four, "40 0003");
    assert_true(four->closing);
    fake_free(f);
}

static void test_alias_of_others(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "31 'a/b' 03 23 0001 (x) | 30 '' 03 23 0001 (y)");
    assert_string_equal(fake_broker.topic, "a/b");
    assert_string_equal(fake_broker.payload, "y");
    assert_false(fake_broker.retain);
    fake_free(f);
}

static void test_qos2(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "34 'a' 0001 00 (x)");
    heard(c, "50 0001");
    say(f, c, "3c 'a' 0001 00 (x) | 34 'a' 0001 00 (x)"); // again, and again: once is enough
    heard(c, "50 0001 | 50 0001");
    assert_int_equal(fake_broker.published, 1);
    say(f, c, "32 'a' 0001 00 (x)"); // the id is in use
    heard(c, "40 0001 91 *");
    say(f, c, "62 0001");
    heard(c, "70 0001");
    say(f, c, "62 0001"); // nobody knows it any more
    heard(c, "70 0001 92");
    say(f, c, "34 'a' 0001 00 (x) | 34 'nobody' 0002 00 (x) | 34 'forbidden' 0003 00 (x)");
    heard(c, "50 0001 | 50 0002 10 | 50 0003 87 *");
    say(f, c, "34 'a' 0003 00 (x)"); // refused, so the id is free
    heard(c, "50 0003");
    assert_int_equal(fake_broker.published, 4);
    fake_free(f);
}

static void test_qos2_waits(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "34 'later/x' 0001 00 (x) | 32 'a' 0002 00 (x) | 3c 'later/x' 0001 00 (x)");
    heard(c, "");
    fake_broker_commit(ST_OK);
    heard(c, "50 0001 | 40 0002");
    assert_int_equal(fake_broker.published, 2);
    say(f, c, "34 'later/x' 0003 00 (x)");
    fake_broker_commit(ST_FULL);
    heard(c, "50 0003 97 *");
    say(f, c, "34 'later/x' 0003 00 (x) | 62 0003"); // released before it was received
    heard(c, "e0 82 *");
    fake_free(f);
}

#define DURABLE5 "10 'MQTT' 05 c0 003c 05 11 00000e10 'dur' 'dev' 'pw'"
static void test_qos2_of_a_durable_session(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, DURABLE5);
    say(f, c, "34 'later/x' 0001 00 (x) | 34 '$muster/event/e' 0002 00 ({}) | 34 '$muster/telemetry' 0003 00 ({})");
    fake_settle(f);
    heard(c, "50 0001 | 50 0002 | 50 0003");
    assert_int_equal(fake_broker.last->inbound_len, 1); // the event's; the others are kept by those who store them
    assert_int_equal(fake_broker.last->inbound[0], 2);
    assert_int_equal(fake_ingest->once, 1);
    fake_broker.taken_over = true; // another connection has the session meanwhile: no effect, no "received"
    unsigned events = f->core.events;
    say(f, c, "34 '$muster/event/e' 0004 00 ({})");
    fake_settle(f);
    heard(c, "50 0004 80 *");
    assert_int_equal(f->core.events, events);
    fake_broker.taken_over = false;
    say(f, c, "62 0002");
    heard(c, ""); // not before it is stored
    assert_int_equal(fake_broker.settled[0].what, SETTLE_INBOUND);
    say(f, c, "62 0002 | 34 'a' 0002 00 (x)"); // and the id is in use until then
    heard(c, "50 0002 91 *");
    fake_broker_commit(ST_OK);
    heard(c, "70 0002");
    fake_gone(f, c, CLOSE_RESET);
    fake_settle(f);

    fake_broker.kept[FAKE_SESSIONS - 1]->inbound_len = 2; // of a connection before
    fake_broker.kept[FAKE_SESSIONS - 1]->inbound[1] = 9;
    c = talk_connected(f, DURABLE5);
    unsigned published = fake_broker.published;
    say(f, c, "3c 'later/x' 0009 00 (x) | 62 0009");
    heard(c, "50 0009");
    assert_int_equal(fake_broker.published, published);
    fake_broker_commit(ST_OK);
    heard(c, "70 0009");
    fake_free(f);
}

static void test_qos2_before_5(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "34 'a' 0001 (x) | 62 0001 | 62 0001");
    heard(c, "50 0001 | 70 0001 | 70 0001");
    say(f, c, "34 'later/x' 0002 (x) | 34 'forbidden' 0003 (x)");
    assert_false(c->closing);
    fake_broker_commit(ST_OK);
    heard(c, "50 0002");
    assert_true(c->closing);
    c = talk_connected(f, CONNECT4);
    say(f, c, "34 'a' 0001 (x) | 32 'a' 0001 (x)"); // the id is in use
    assert_true(c->closing);
    fake_free(f);
}

static void test_packet_id_in_use(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "32 'later/x' 0001 00 (x) | 32 'a' 0001 00 (x)");
    heard(c, "");
    fake_broker_commit(ST_OK);
    heard(c, "40 0001 | 40 0001 91 *");
    fake_free(f);
}

static void test_broker_is_behind(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.pending_max=100", NULL};
    struct fake *f = fake_new(conf);
    struct conn *c = talk_connected(f, CONNECT5);
    fake_broker.pending = 100;
    say(f, c, "32 'later/x' 0001 00 (x)");
    assert_true(c->paused);
    fake_broker.pending = 0;
    fake_broker_commit(ST_OK);
    assert_false(c->paused);
    heard(c, "40 0001");
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acknowledged_after_the_commit),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_refused_in_5),
        cmocka_unit_test(test_reason_strings_only_where_wanted),
        cmocka_unit_test(test_refused_in_311),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_receive_maximum),
        cmocka_unit_test(test_congestion),
        cmocka_unit_test(test_forbidden_forms),
        cmocka_unit_test(test_topic_alias),
        cmocka_unit_test(test_gone_before_the_commit),
        cmocka_unit_test(test_rate_per_client),
        cmocka_unit_test(test_relayed),
        cmocka_unit_test(test_alias_of_others),
        cmocka_unit_test(test_qos2),
        cmocka_unit_test(test_qos2_waits),
        cmocka_unit_test(test_qos2_of_a_durable_session),
        cmocka_unit_test(test_qos2_before_5),
        cmocka_unit_test(test_packet_id_in_use),
        cmocka_unit_test(test_broker_is_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
