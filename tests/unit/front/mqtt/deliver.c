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

// --- from the broker -----------------------------------------------------------------------------------------------

static struct message *make(const char *topic, const char *payload, const char *props, int64_t expires_us)
{
    struct mqtt_publish b = {.qos = 1, .payload = slice_str(payload)};
    b.props.raw = slice_str(props);
    struct message *m = message_new(1, 0, &b, slice_str(topic), 0);
    assert_non_null(m);
    m->expires_us = expires_us;
    return m;
}

static void deliver(struct link *to, struct delivery d, const char *topic, const char *payload)
{
    struct message *m = make(topic, payload, "", 0);
    d.msg = m;
    fake_broker.front.on_deliver(fake_broker.front.arg, to, &d, 1);
    message_unref(m);
}

static void test_broker_delivers(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *four = talk_connected(f, CONNECT4);
    struct link *to = link_ref(f->core.link);
    deliver(to, (struct delivery){.qos = 0, .retain = true}, "a/b", "zero");
    deliver(to, (struct delivery){.qos = 1}, "a/b", "one");
    deliver(to, (struct delivery){.qos = 2}, "a/b", "two");
    heard(four, "31 'a/b' (zero) | 32 'a/b' c000 (one) | 34 'a/b' c001 (two)");
    say(f, four, "40 c000 | 50 c001 | 50 c001");
    heard(four, "62 c001 | 62 c001");
    say(f, four, "70 c001 | 70 c001"); // the second one is of no consequence
    heard(four, "");
    assert_int_equal(fake_broker.settled_len, 0); // nothing of it is stored
    fake_gone(f, four, CLOSE_EOF);
    deliver(to, (struct delivery){.qos = 1}, "a/b", "late");
    link_unref(to);

    struct conn *five = talk_connected(f, CONNECT5);
    static const uint32_t ids[] = {1, 300};
    const struct delivery with_ids = {.qos = 1, .sub_ids = ids, .sub_ids_len = 2};
    deliver(f->core.link, with_ids, "a", "x");
    heard(five, "32 'a' c000 05 0b 01 0b ac02 (x)");
    struct message *m = make("a", "x", "\x01\x01\x26\x00\x01k\x00\x01v", 0);
    fake_broker.front.on_deliver(fake_broker.front.arg, f->core.link, &(struct delivery){.msg = m}, 1);
    message_unref(m);
    fake_free(f);
}

static void test_mistaken_acknowledgements(void **state)
{
    (void)state;
    static const struct {
        const char *said, *answer;
        uint8_t qos;
    } rows[] = {
        {"50 c000", "e0 82 *", 1}, {"70 c000", "e0 82 *", 1},    {"40 c000", "e0 82 *", 2}, {"70 c000", "e0 82 *", 2},
        {"40 0007", "e0 82 *", 1}, {"50 0007", "62 0007 92", 1}, {"50 c000 80", "", 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fake *f = fake_new(NULL);
        struct conn *c = talk_connected(f, CONNECT5);
        deliver(f->core.link, (struct delivery){.qos = rows[i].qos}, "a", "x");
        buf_clear(&c->out);
        say(f, c, rows[i].said);
        heard(c, rows[i].answer);
        fake_free(f);
    }
}

#define DURABLE5 "10 'MQTT' 05 c0 003c 08 11 00000e10 21 0003 'dur' 'dev' 'pw'" // receive maximum 3
static void test_durable_queue(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = fake_open(f);
    say(f, c, DURABLE5);
    fake_core_run(f);
    struct link *to = f->core.link;
    // The queue comes before CONNACK has left.
    deliver(to, (struct delivery){.seq = 10, .qos = 1, .state = DELIVERY_AGAIN}, "a", "1");
    fake_broker.front.on_deliver(fake_broker.front.arg, to,
                                 &(struct delivery){.seq = 11, .qos = 2, .state = DELIVERY_RELEASED}, 1);
    deliver(to, (struct delivery){.seq = 12, .qos = 2}, "a", "3");
    deliver(to, (struct delivery){.seq = 13, .qos = 1}, "a", "4");
    heard(c, "");
    fake_turn(f);
    heard(c, "20 00 * | 3a 'a' 000b 00 (1) | 62 000c | 34 'a' 000d 00 (3)"); // and the window is full
    say(f, c, "40 000b");
    heard(c, "32 'a' 000e 00 (4)");
    assert_int_equal(fake_broker.settled_len, 1);
    assert_int_equal(fake_broker.settled[0].what, SETTLE_DONE);
    assert_int_equal(fake_broker.settled[0].id, 10);
    say(f, c, "50 000d");
    heard(c, ""); // PUBREL when that is stored
    assert_int_equal(fake_broker.settled[1].what, SETTLE_RECEIVED);
    fake_broker_commit(ST_OK);
    heard(c, "62 000d");
    say(f, c, "70 000d | 70 000c");
    assert_int_equal(fake_broker.settled_len, 2);
    assert_int_equal(fake_broker.settled[0].id, 12);
    assert_int_equal(fake_broker.settled[1].id, 11);
    fake_free(f);
}

// What the client cannot take is settled as if it had been sent (3.1.2-25); what is too old as well.
static void test_settled_unsent(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c0 003c 0a 11 00000e10 27 00000020 'dur' 'dev' 'pw'");
    deliver(f->core.link, (struct delivery){.seq = 1, .qos = 1}, "a", "more than thirty-two bytes, by far");
    deliver(f->core.link, (struct delivery){.seq = 2, .qos = 2}, "a", "more than thirty-two bytes, by far");
    deliver(f->core.link, (struct delivery){.seq = 3, .qos = 1}, "a", "fits");
    struct message *old = make("a", "x", "", 1);
    const struct delivery late[] = {{.msg = old, .seq = 4, .qos = 1},
                                    {.msg = old, .seq = 5, .qos = 1, .state = DELIVERY_AGAIN}};
    fake_broker.front.on_deliver(fake_broker.front.arg, f->core.link, late, 2);
    message_unref(old);
    // What was on its way already goes on.
    heard(c, "32 'a' 0004 00 (fits) | 3a 'a' 0006 05 02 00000000 (x)");
    assert_int_equal(fake_broker.settled_len, 3);
    assert_int_equal(fake_broker.settled[0].id, 1);
    assert_int_equal(fake_broker.settled[1].id, 2);
    assert_int_equal(fake_broker.settled[2].id, 4);
    fake_free(f);
}

static void test_aliases_out(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 22 0005 'c1' 'dev' 'pw'");
    for (int i = 0; i < 3; i++) {
        deliver(f->core.link, (struct delivery){.qos = 0}, "some/topic", "x");
    }
    heard(c, "30 'some/topic' 03 23 0001 (x) | 30 '' 03 23 0001 (x) | 30 '' 03 23 0001 (x)");
    fake_free(f);
}

static void test_slow_consumer(void **state)
{
    (void)state;
    static const char *const confs[][3] = {{"mqtt.queue_max=2", "mqtt.slow_consumer=disconnect", NULL},
                                           {"mqtt.queue_bytes_max=64KiB", "mqtt.queue_max=2", NULL}};
    for (unsigned drop = 0; drop < 2; drop++) {
        struct fake *f = fake_new(confs[drop]);
        struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 21 0001 'c1' 'dev' 'pw'"); // one at a time
        for (unsigned i = 0; i < 4; i++) {
            deliver(f->core.link, (struct delivery){.qos = 1}, "a", "x");
        }
        assert_int_equal(c->closing, !drop);
        fake_free(f);
    }
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    char *big = calloc(1, 100001);
    memset(big, 'x', 100000);
    for (unsigned i = 0; i < 100; i++) { // nobody reads
        deliver(f->core.link, (struct delivery){.qos = 0}, "a", big);
    }
    assert_false(c->closing);
    assert_in_range(c->out.len, 2u << 20, (2u << 20) + 100100);
    free(big);
    fake_free(f);
}

static void test_shared_goes_to_another(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 21 0002 'c1' 'dev' 'pw'");
    struct link *to = link_ref(f->core.link);
    for (unsigned i = 0; i < 4; i++) {
        deliver(to, (struct delivery){.qos = 1, .share = 5}, "a", "x");
    }
    heard(c, "32 'a' c000 00 (x) | 32 'a' c001 00 (x)");
    say(f, c, "40 c000"); // one is done, three are not
    fake_gone(f, c, CLOSE_RESET);
    assert_int_equal(fake_broker.given_back, 3);
    deliver(to, (struct delivery){.qos = 1, .share = 5}, "a", "x"); // too late for this one
    assert_int_equal(fake_broker.given_back, 4);
    link_unref(to);
    fake_free(f);
}

// A full member of a shared subscription gives a message back before it is dropped; what is its own is dropped.
static void test_shared_when_full(void **state)
{
    (void)state;
    static const char *const conf[] = {"mqtt.queue_max=2", NULL};
    struct fake *f = fake_new(conf);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 21 0001 'c1' 'dev' 'pw'");
    unsigned before = fake_broker.given_back;
    unsigned dropped = fake_broker.slow_dropped;
    for (unsigned i = 0; i < 6; i++) { // one is in flight, two wait
        deliver(f->core.link, (struct delivery){.qos = 1, .share = 5}, "a", "x");
    }
    assert_int_equal(fake_broker.given_back, before + 3);
    assert_int_equal(fake_broker.slow_dropped, dropped);
    assert_true(atomic_load(&f->core.link->full));
    deliver(f->core.link, (struct delivery){.qos = 1}, "a", "x");
    assert_int_equal(fake_broker.slow_dropped, dropped + 1);
    say(f, c, "40 c000 | 40 c001");
    assert_true(atomic_load(&f->core.link->full)); // its window is still full
    say(f, c, "40 c002");
    assert_false(atomic_load(&f->core.link->full));
    assert_false(c->closing);
    fake_free(f);
}

// The broker asks before each retained message, and is told when there is room again.
static void test_room_for_retained(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, "10 'MQTT' 05 c2 003c 03 21 0001 'c1' 'dev' 'pw'");
    struct link *to = link_ref(f->core.link);
    const struct broker_front *front = &fake_broker.front;
    unsigned before = fake_broker.mores;
    assert_true(front->has_room(front->arg, to));
    deliver(to, (struct delivery){.qos = 1, .retain = true}, "a", "x");
    assert_false(front->has_room(front->arg, to)); // the window is full
    assert_int_equal(fake_broker.mores, before);
    say(f, c, "40 c000");
    assert_int_equal(fake_broker.mores, before + 1);
    assert_true(front->has_room(front->arg, to));
    char *big = calloc(1, 70001);
    memset(big, 'x', 70000);
    deliver(to, (struct delivery){.qos = 0, .retain = true}, "a", big);
    assert_false(front->has_room(front->arg, to)); // the output is full
    buf_clear(&c->out);
    f->service.proto->on_drain(c);
    assert_int_equal(fake_broker.mores, before + 2);
    assert_true(front->has_room(front->arg, to));
    fake_gone(f, c, CLOSE_RESET);
    assert_int_equal(fake_broker.mores, before + 3); // whoever waits for room need not wait any more
    assert_true(front->has_room(front->arg, to));
    link_unref(to);
    free(big);
    fake_free(f);
}

// A durable session remembers its subscriptions to the server's own topics.
static void test_native_subscriptions_survive(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, DURABLE5);
    say(f, c, "82 0001 00 '$muster/twin/desired' 02");
    fake_settle(f);
    heard(c, "90 0001 00 01"); // QoS 2 would need an id that lives as long as the session
    assert_int_equal(f->core.twin_pushes, 1);
    fake_gone(f, c, CLOSE_RESET);
    fake_settle(f);
    c = talk_connected(f, DURABLE5);
    fake_settle(f);
    assert_int_equal(f->core.twin_pushes, 2); // what is pending is pushed at once
    send(f, "$muster/twin/desired", "{}");
    heard(c, "32 '$muster/twin/desired' c000 *");
    fake_free(f);
}

static void test_permit_changes(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    struct link *to = link_ref(f->core.link);
    struct permit *p = NULL;
    struct err err;
    assert_int_equal(policy_permit(NULL, NULL, SLICE(""), &p, &err), ST_OK);
    fake_broker.front.on_permit(fake_broker.front.arg, to, p);
    fake_gone(f, c, CLOSE_EOF);
    fake_broker.front.on_permit(fake_broker.front.arg, to, permit_ref(p));
    link_unref(to);
    fake_free(f); // counts references
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subscribe),
        cmocka_unit_test(test_delivery),
        cmocka_unit_test(test_properties_in_5),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_slow_device),
        cmocka_unit_test(test_maximum_packet_size),
        cmocka_unit_test(test_push_fails),
        cmocka_unit_test(test_closed_by_the_core),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_broker_delivers),
        cmocka_unit_test(test_mistaken_acknowledgements),
        cmocka_unit_test(test_durable_queue),
        cmocka_unit_test(test_settled_unsent),
        cmocka_unit_test(test_aliases_out),
        cmocka_unit_test(test_slow_consumer),
        cmocka_unit_test(test_shared_goes_to_another),
        cmocka_unit_test(test_shared_when_full),
        cmocka_unit_test(test_room_for_retained),
        cmocka_unit_test(test_native_subscriptions_survive),
        cmocka_unit_test(test_permit_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
