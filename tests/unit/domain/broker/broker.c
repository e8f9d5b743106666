// Messages through sessions that end with their connection: who gets them, on which loop, with which QoS and flags.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/testbroker.h"

static struct testbroker b;

static int setup(void **state)
{
    (void)state;
    testbroker_open(&b, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testbroker_close(&b);
    return 0;
}

static const struct broker_open clean = {.clean_start = true};

static void a_message_reaches_who_wants_it_on_every_loop(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *near = tb_connect(&b, 0, "near", clean);
    struct client *far = tb_connect(&b, 1, "far", clean);
    struct client *other = tb_connect(&b, 1, "other", clean);
    assert_false(broker_session_durable(p->session));
    struct tb_publish none = tb_publish(p, "t/a", 1, false, "nobody");
    assert_int_equal(none.went, BROKER_DONE);
    assert_false(none.matched);

    tb_subscribe(near, "t/+", 1);
    tb_subscribe(far, "t/#", 0);
    tb_subscribe(other, "t/b/c", 2);
    struct tb_publish some = tb_publish(p, "t/a", 1, false, "one");
    assert_int_equal(some.went, BROKER_DONE);
    assert_true(some.matched);
    struct got *g = tb_expect(near, "one");
    assert_int_equal(g->qos, 1);
    assert_int_equal(g->seq, 0);
    assert_string_equal(g->topic, "t/a");
    assert_int_equal(tb_expect(far, "one")->qos, 0);
    tb_publish(p, "t/b/c", 2, false, "two");
    assert_int_equal(tb_expect(other, "two")->qos, 2);
    assert_int_equal(tb_expect(far, "two")->qos, 0);
    tb_quiet(near);
    tb_quiet(other);

    assert_true(tb_unsubscribe(far, "t/#"));
    assert_false(tb_unsubscribe(far, "t/#"));
    tb_publish(p, "t/a", 0, false, "three");
    tb_expect(near, "three");
    tb_quiet(far);
    tb_close(near, false);
    assert_false(tb_publish(p, "t/a", 0, false, "four").matched);
}

static void order_is_kept(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    for (int i = 0; i < 500; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        tb_publish(p, i % 3 == 0 ? "t/a" : "t/b", 1, false, text);
    }
    for (int i = 0; i < 500; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        tb_expect(s, text);
    }
}

static void overlapping_subscriptions_give_one_copy(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/#"), .qos = 0, .id = 7});
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .qos = 2, .id = 9});
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/+"), .qos = 1});
    tb_publish(p, "t/a", 2, false, "x");
    struct got *g = tb_expect(s, "x");
    assert_int_equal(g->qos, 2);
    assert_int_equal(g->ids_len, 2);
    assert_int_equal(g->ids[0] + g->ids[1], 16);
    tb_quiet(s);
    // The same filter again replaces the options.
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .qos = 0, .id = 1});
    tb_unsubscribe(s, "t/#");
    tb_publish(p, "t/a", 2, false, "y");
    g = tb_expect(s, "y");
    assert_int_equal(g->qos, 1);
    assert_int_equal(g->ids_len, 1);
    assert_int_equal(g->ids[0], 1);
}

static void no_local_and_retain_as_published(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 0, "s", clean);
    tb_sub(p, (struct broker_sub){.filter = SLICE("t/#"), .qos = 1, .no_local = true});
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .qos = 1, .retain_as_published = true});
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/b"), .qos = 1});
    tb_publish(p, "t/a", 1, true, "x");
    assert_true(tb_expect(s, "x")->retain);
    tb_publish(p, "t/b", 1, true, "y");
    assert_false(tb_expect(s, "y")->retain);
    tb_quiet(p);
    tb_publish(s, "t/a", 1, false, "z");
    assert_false(tb_expect(p, "z")->retain);
}

static void what_no_policy_allows_is_refused(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    assert_int_equal(tb_sub(p, (struct broker_sub){.filter = SLICE("#"), .qos = 1}), MQTT_RC_NOT_AUTHORIZED);
    assert_int_equal(tb_sub(p, (struct broker_sub){.filter = SLICE("$SYS/#"), .qos = 1}), MQTT_RC_NOT_AUTHORIZED);
    assert_int_equal(tb_sub(p, (struct broker_sub){.filter = SLICE("$share/g/u/#"), .qos = 1}), MQTT_RC_NOT_AUTHORIZED);
    struct tb_publish k = tb_publish(p, "u/a", 1, false, "x");
    assert_int_equal(k.went, BROKER_REFUSED);
    assert_int_equal(k.status, ST_FORBIDDEN);
    assert_int_equal(tb_publish(p, "$SYS/a", 1, false, "x").status, ST_FORBIDDEN);
    assert_int_equal(tb_publish(p, "devices/p/telemetry", 1, false, "x").status, ST_FORBIDDEN);
}

static void a_client_id_belongs_to_its_principal(void **state)
{
    (void)state;
    enum status st;
    struct client *first = tb_connect(&b, 0, "p", (struct broker_open){.clean_start = true, .client_id = SLICE("x")});
    tb_subscribe(first, "t/#", 0);
    tb_try_connect(&b, 0, "q", (struct broker_open){.clean_start = true, .client_id = SLICE("x")}, &st);
    assert_int_equal(st, ST_FORBIDDEN);
    tb_try_connect(&b, 0, "q", (struct broker_open){.clean_start = true, .client_id = SLICE("p")},
                   &st); // a device's id
    assert_int_equal(st, ST_FORBIDDEN);
    assert_int_equal(first->closes, 0);
    // The same principal takes it over: once.
    struct client *again = tb_connect(&b, 1, "p", (struct broker_open){.clean_start = true, .client_id = SLICE("x")});
    tb_settle(&b);
    assert_int_equal(first->closes, 1);
    assert_false(again->present);
    struct client *pub = tb_connect(&b, 0, "pub", clean);
    tb_publish(pub, "t/a", 0, false, "x");
    tb_quiet(first);
    tb_quiet(again);        // a clean session has no subscriptions
    tb_close(first, false); // the end of the old one changes nothing
    tb_subscribe(again, "t/#", 0);
    tb_publish(pub, "t/a", 0, false, "y");
    tb_expect(again, "y");
}

static void too_many_subscriptions_are_refused(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 0, "s", clean);
    for (unsigned i = 0; i < 1000; i++) {
        char filter[32];
        snprintf(filter, sizeof(filter), "t/%u", i);
        tb_subscribe(s, filter, 0);
    }
    assert_int_equal(tb_sub(s, (struct broker_sub){.filter = SLICE("t/x"), .qos = 0}), MQTT_RC_QUOTA);
    tb_subscribe(s, "t/5", 1); // one that is there may change
    assert_true(tb_unsubscribe(s, "t/7"));
    tb_subscribe(s, "t/x", 0);
}

static void a_new_permit_ends_what_it_does_not_allow(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/a", 1);
    tb_subscribe(s, "t/b/#", 1);
    tb_publish(p, "t/a", 1, false, "1");
    tb_expect(s, "1");
    struct tb_policy deny = {"deny", "{'statements':[{'effect':'deny','actions':['subscribe'],'topics':['t/a']},"
                                     "{'effect':'deny','actions':['receive'],'topics':['t/b/secret']},"
                                     "{'effect':'deny','actions':['publish'],'topics':['t/c']}]}"};
    assert_int_equal(tb_run(&b, tb_do_policy, &deny), ST_OK);
    tb_settle(&b);
    assert_true(s->permits > 0);
    tb_publish(p, "t/a", 1, false, "2");
    tb_publish(p, "t/b/secret", 1, false, "3");
    tb_publish(p, "t/b/open", 1, false, "4");
    tb_expect(s, "4");
    tb_quiet(s);
    assert_int_equal(tb_publish(p, "t/c", 1, false, "5").status, ST_FORBIDDEN);
    assert_false(tb_unsubscribe(s, "t/a")); // it is gone already
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(a_message_reaches_who_wants_it_on_every_loop),
                                       TEST(order_is_kept),
                                       TEST(overlapping_subscriptions_give_one_copy),
                                       TEST(no_local_and_retain_as_published),
                                       TEST(what_no_policy_allows_is_refused),
                                       TEST(a_client_id_belongs_to_its_principal),
                                       TEST(too_many_subscriptions_are_refused),
                                       TEST(a_new_permit_ends_what_it_does_not_allow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
