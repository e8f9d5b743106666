#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "front/mqtt/outbox.h"
#include "front/mqtt/qos.h"

static struct message *make(const char *topic, const char *payload)
{
    const struct mqtt_publish b = {.qos = 1, .payload = slice_str(payload)};
    struct message *m = message_new(1, 0, &b, slice_str(topic), 0);
    assert_non_null(m);
    return m;
}

static struct waiting *wait_for(struct message *m, uint64_t seq, uint64_t share)
{
    static const uint32_t ids[] = {7, 9};
    const struct delivery d = {
        .msg = m, .seq = seq, .qos = 1, .retain = true, .sub_ids = ids, .sub_ids_len = 2, .share = share};
    struct waiting *w = waiting_message(&d);
    assert_non_null(w);
    return w;
}

static void test_order_and_bytes(void **state)
{
    (void)state;
    struct outbox *o = outbox_new(10);
    struct message *m = make("t", "12345");
    outbox_put(o, wait_for(m, 1, 0));
    outbox_put(o, wait_for(m, 2, 0));
    outbox_put(o, waiting_down(down_publish("$muster/twin/desired", SLICE("{}"), 0), 2));
    message_unref(m);
    assert_int_equal(o->len, 3);
    assert_int_equal(o->bytes, 6 + 6 + 2);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct waiting *w = outbox_take(o);
        assert_int_equal(w->seq, seq);
        assert_true(w->retain && w->sub_ids_len == 2 && w->sub_ids[1] == 9);
        assert_true(slice_eq_str(message_payload(w->msg), "12345"));
        waiting_free(w);
    }
    assert_int_equal(o->len, 1);
    outbox_free(o); // with what waits
}

// Ids of what is durable follow from its place; the others lie above and never meet one in flight.
static void test_ids(void **state)
{
    (void)state;
    struct outbox *o = outbox_new(50);
    assert_int_equal(outbox_fly(o, 1, 5, FLIGHT_SENT1, NULL), broker_packet_id(5));
    assert_int_equal(outbox_fly(o, 1, 5, FLIGHT_SENT1, NULL), 0); // in flight already
    assert_int_equal(outbox_fly(o, 2, BROKER_ID_DURABLE_MAX, FLIGHT_SENT2, NULL), 1);
    uint16_t stuck = outbox_fly(o, 1, 0, FLIGHT_SENT1, NULL);
    assert_int_equal(stuck, BROKER_ID_DURABLE_MAX + 1);
    for (unsigned i = 0; i < 40000; i++) { // around the range
        uint16_t id = outbox_fly(o, 1, 0, FLIGHT_SENT1, NULL);
        assert_true(id > BROKER_ID_DURABLE_MAX && id != stuck);
        outbox_landed(o, id);
    }
    assert_int_equal(o->flights.len, 3);
    outbox_free(o);
}

static void test_window(void **state)
{
    (void)state;
    struct outbox *o = outbox_new(2);
    assert_true(outbox_room(o));
    uint16_t id = outbox_fly(o, 1, 0, FLIGHT_SENT1, NULL);
    assert_true(outbox_room(o));
    outbox_fly(o, 2, 0, FLIGHT_SENT2, NULL);
    assert_false(outbox_room(o));
    outbox_landed(o, id);
    outbox_landed(o, id); // no effect
    assert_true(outbox_room(o));
    outbox_free(o);
}

// What came by a shared subscription and is not durable is given back: waiting or in flight, until it has landed.
static void test_give_back(void **state)
{
    (void)state;
    struct outbox *o = outbox_new(10);
    struct message *m = make("t", "x");
    outbox_put(o, wait_for(m, 0, 3));
    outbox_put(o, wait_for(m, 0, 0));
    outbox_put(o, wait_for(m, 8, 3)); // durable: it is in the store
    uint16_t landed = outbox_fly(o, 1, 0, FLIGHT_SENT1, wait_for(m, 0, 4));
    outbox_fly(o, 1, 0, FLIGHT_SENT1, wait_for(m, 0, 5));
    outbox_landed(o, landed);
    message_unref(m);
    unsigned shares = 0;
    struct waiting *w;
    while ((w = outbox_give_back(o)) != NULL) {
        shares = shares * 10 + (unsigned)w->share;
        waiting_free(w);
    }
    assert_int_equal(shares, 35);
    outbox_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_bytes),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
