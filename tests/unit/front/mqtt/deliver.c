// Subscriptions and what comes to the device through them.
#include "lib/mqtt_talk.h"

static void send(struct fake *f, const char *topic, const char *payload)
{
    struct down *d = down_publish(topic, slice_str(payload), 1);
    assert_non_null(d);
    link_send(f->core.link, d);
    fake_turn(f);
}

static void test_subscribe(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *four = talk_connected(f, CONNECT4);
    say(f, four, "82 0001 '$muster/twin/desired' 02 '$muster/command/+/+' 00 '#' 00 '$muster/twin/get' 01");
    fake_settle(f);
    heard(four, "90 0001 02 00 00 80");
    fake_settle(f);
    assert_int_equal(f->core.twin_pushes, 1);
    assert_int_equal(f->core.command_pushes, 1);
    say(f, four, "a2 0002 '$muster/twin/desired' '$muster/twin/get/reply'");
    fake_settle(f);
    heard(four, "b0 0002");

    struct conn *five = talk_connected(f, CONNECT5);
    say(f, five, "82 0001 00 '$muster/twin/get/reply' 01 'x/+' 01 '$share/g/x' 01 '$muster/provision/response' 00");
    fake_settle(f);
    heard(five, "90 0001 00 01 01 01 00");
    fake_settle(f);
    assert_int_equal(f->core.twin_pushes, 1); // nothing new to push
    say(f, five, "a2 0002 00 '$muster/twin/get/reply' '$muster/twin/get/reply'");
    fake_settle(f);
    heard(five, "b0 0002 00 00 11");
    say(f, five, "82 0003 02 0b 07 'x' 1d"); // no local, retain as published, retain handling 1
    fake_settle(f);
    heard(five, "90 0003 00 01");
    assert_int_equal(fake_broker.sub.id, 7);
    assert_true(fake_broker.sub.no_local && fake_broker.sub.retain_as_published);
    assert_int_equal(fake_broker.sub.retain_handling, 1);
    say(f, five, "82 0004 00 'no/entry' 01 'quota' 02 'x' 02");
    fake_settle(f);
    heard(five, "90 0004 00 87 97 02");
    say(f, five, "82 0005 00 'x' 02 'broken' 00 | a2 0006 00 'no/such' 'x' | a2 0007 00 'broken'");
    fake_settle(f);
    heard(five, "90 0005 * | b0 0006 00 11 00 | b0 0007 *");
    fake_free(f);
}

static void test_delivery(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    send(f, "$muster/twin/desired", "{}");
    heard(c, ""); // not subscribed
    say(f, c, "82 0001 '$muster/twin/desired' 01 '$muster/command/+/+' 00");
    fake_settle(f);
    heard(c, "90 0001 01 00");
    send(f, "$muster/twin/desired", "{\"a\":1}");
    send(f, "$muster/command/reboot/17", "{}");
    heard(c, "32 '$muster/twin/desired' c000 ({\"a\":1}) | 30 '$muster/command/reboot/17' ({})");
    say(f, c, "40 c000");
    say(f, c, "40 c000"); // twice
    assert_true(c->closing);
    send(f, "$muster/twin/desired", "{}"); // too late, and no harm
    fake_free(f);
}

static void test_properties_in_5(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "82 0001 00 '$muster/twin/desired' 01");
    fake_settle(f);
    heard(c, "90 0001 00 01");
    send(f, "$muster/twin/desired", "{}");
    heard(c, "32 '$muster/twin/desired' c000 15 01 01 03 'application/json' ({})");
    say(f, c, "40 c000 80"); // the device refuses it
    assert_false(c->closing);
    fake_free(f);
}

static void test_window(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 21 0002 'c1' 'dev' 'pw'"); // receive maximum 2
    say(f, c, "82 0001 00 '$muster/twin/desired' 01");
    fake_settle(f);
    buf_clear(&c->out);
    for (int i = 0; i < 4; i++) {
        send(f, "$muster/twin/desired", "{}");
    }
    heard(c, "32 '$muster/twin/desired' c000 * | 32 '$muster/twin/desired' c001 *");
    say(f, c, "40 c001");
    heard(c, "32 '$muster/twin/desired' c002 *");
    say(f, c, "40 c000 | 40 c002");
    heard(c, "32 '$muster/twin/desired' c003 *");
    fake_free(f);
}

static void test_slow_device(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.queue_max=3", NULL};
    struct fake *f = fake_new(conf);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 21 0001 'c1' 'dev' 'pw'");
    say(f, c, "82 0001 00 '$muster/twin/desired' 01");
    fake_settle(f);
    buf_clear(&c->out);
    for (int i = 0; i < 4; i++) {
        send(f, "$muster/twin/desired", "{}");
    }
    assert_false(c->closing);
    send(f, "$muster/twin/desired", "{}");
    assert_true(c->closing); // nothing is dropped behind its back: it gets all that is pending after a reconnect
    heard(c, "32 * | e0 97 *");
    fake_gone(f, c, CLOSE_EOF);
    fake_settle(f);
    assert_string_equal(f->core.reason, "slow_consumer");
    fake_free(f);
}

static void test_maximum_packet_size(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 05 27 00000080 'c1' 'dev' 'pw'"); // 128 bytes
    say(f, c, "82 0001 00 '$muster/twin/desired' 01");
    fake_settle(f);
    buf_clear(&c->out);
    char big[200];
    memset(big, ' ', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    send(f, "$muster/twin/desired", big);
    heard(c, "");
    assert_false(c->closing);
    send(f, "$muster/twin/desired", "{}");
    heard(c, "32 '$muster/twin/desired' c001 *");
    fake_free(f);
}

static void test_push_fails(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    f->core.push_status = ST_IO;
    say(f, c, "82 0001 00 '$muster/twin/desired' 01");
    fake_settle(f);
    heard(c, "90 0001 00 01 | e0 89 *");
    assert_true(c->closing);
    fake_free(f);
}

static void test_closed_by_the_core(void **state)
{
    (void)state;
    static const struct {
        enum down_close why;
        const char *packet, *reason;
    } rows[] = {
        {DOWN_CLOSE_TAKEOVER, "e0 8e *", "takeover"},        {DOWN_CLOSE_REVOKED, "e0 87 *", "revoked"},
        {DOWN_CLOSE_DELETED, "e0 98 *", "deleted"},          {DOWN_CLOSE_SUSPENDED, "e0 98 *", "suspended"},
        {DOWN_CLOSE_SHUTDOWN, "e0 8b *", "server_shutdown"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fake *f = fake_new(NULL);
        struct conn *c = talk_connected(f, CONNECT5);
        link_send(f->core.link, down_close(rows[i].why));
        fake_turn(f);
        heard(c, rows[i].packet);
        assert_true(c->closing);
        fake_gone(f, c, CLOSE_EOF);
        fake_settle(f);
        assert_string_equal(f->core.reason, rows[i].reason);
        link_send(f->core.link, down_close(rows[i].why)); // the connection is gone, the link is not
        fake_turn(f);
        fake_free(f);
    }
}

// Messages in flight and in the queue go with the connection.
static void test_release(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "82 0001 '$muster/twin/desired' 01");
    fake_settle(f);
    for (int i = 0; i < 40; i++) {
        send(f, "$muster/twin/desired", "{}");
    }
    fake_free(f); // the leak checker looks
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subscribe),       cmocka_unit_test(test_delivery),
        cmocka_unit_test(test_properties_in_5), cmocka_unit_test(test_window),
        cmocka_unit_test(test_slow_device),     cmocka_unit_test(test_maximum_packet_size),
        cmocka_unit_test(test_push_fails),      cmocka_unit_test(test_closed_by_the_core),
        cmocka_unit_test(test_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
