// Wills: sent when a connection ends without a good-bye, after their delay, after a crash of the server, and only as long as
// their owner may.
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

static struct broker_open with_will(const char *topic, uint32_t delay_s, uint32_t expiry_s, bool retain)
{
    const struct mqtt_publish p = {.qos = 1, .retain = retain, .payload = SLICE("will")};
    struct broker_open o = {.expiry_s = expiry_s};
    o.will.msg = message_new(1, 0, &p, slice_str(topic), clock_wall_us());
    o.will.delay_s = delay_s;
    assert_non_null(o.will.msg);
    return o;
}

static void sent_without_a_good_bye_only(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    struct client *w = tb_connect(&b, 0, "w", with_will("t/will", 0, 0, true));
    tb_close(w, false);
    tb_quiet(s);
    w = tb_connect(&b, 0, "w", with_will("t/will", 10, 0, true)); // the session ends with it: no delay
    tb_close(w, true);
    const struct got *g = tb_expect(s, "will");
    assert_int_equal(g->qos, 1);
    assert_string_equal(g->topic, "t/will");
    tb_close(w, true); // a second time changes nothing
    tb_quiet(s);
    struct client *late = tb_connect(&b, 0, "late", clean);
    tb_subscribe(late, "t/will", 1);
    assert_true(tb_expect(late, "will")->retain);
}

static void a_takeover_sends_it_unless_the_session_goes_on(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    struct client *first = tb_connect(&b, 0, "w", with_will("t/1", 0, 100, false));
    struct client *second = tb_connect(&b, 1, "w", with_will("t/2", 5, 100, false)); // no delay: sent
    assert_true(second->present);
    assert_string_equal(tb_expect(s, "will")->topic, "t/1");
    tb_close(first, true);
    struct client *third = tb_connect(&b, 1, "w", with_will("t/3", 5, 100, false)); // delayed, and the session goes on
    assert_true(third->present);
    tb_quiet(s);
    struct broker_open fresh = with_will("t/4", 0, 100, false);
    fresh.clean_start = true;
    struct client *fourth = tb_connect(&b, 1, "w", fresh); // its session ends: sent at once
    assert_string_equal(tb_expect(s, "will")->topic, "t/3");
    tb_close(fourth, false);
    tb_quiet(s);
}

static void a_delay_runs_and_a_return_stops_it(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    struct client *w = tb_connect(&b, 0, "w", with_will("t/1", 1, 100, false));
    tb_close(w, true);
    w = tb_connect(&b, 0, "w", (struct broker_open){.expiry_s = 100});
    assert_true(w->present);
    struct client *x = tb_connect(&b, 0, "x", with_will("t/2", 1, 100, false));
    tb_close(x, true);
    tb_quiet(s);
    assert_string_equal(tb_expect(s, "will")->topic, "t/2");
    tb_quiet(s);
}

static void a_crash_of_the_server_sends_it(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 1, "s", (struct broker_open){.expiry_s = 100});
    tb_subscribe(s, "t/#", 1);
    tb_connect(&b, 0, "w", with_will("t/1", 0, 0, false));
    testbroker_kill(&b);
    s = tb_connect(&b, 1, "s", (struct broker_open){.expiry_s = 100});
    assert_string_equal(tb_expect(s, "will")->topic, "t/1");
    tb_quiet(s);
}

static void only_what_is_allowed(void **state)
{
    (void)state;
    enum status st;
    tb_try_connect(&b, 0, "w", with_will("u/1", 0, 0, false), &st);
    assert_int_equal(st, ST_FORBIDDEN);
    tb_try_connect(&b, 0, "w", with_will("$CONTROL/x", 0, 0, false), &st);
    assert_int_equal(st, ST_FORBIDDEN);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    struct client *w = tb_connect(&b, 0, "w", with_will("t/1", 0, 0, false));
    struct tb_policy deny = {"deny", "{'statements':[{'effect':'deny','actions':['publish'],'topics':['t/1']}]}"};
    assert_int_equal(tb_run(&b, tb_do_policy, &deny), ST_OK);
    tb_close(w, true);
    tb_quiet(s);
}

static enum status do_revoke(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str("w"), &d, err);
    return st == ST_OK ? registry_notify(tx, &d, DEVICE_CHANGE_REVOKED, err) : st;
}

static void a_revoked_device_has_none(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    struct client *w = tb_connect(&b, 0, "w", with_will("t/1", 0, 0, false));
    assert_int_equal(tb_run(&b, do_revoke, NULL), ST_OK);
    tb_close(w, true);
    tb_quiet(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(sent_without_a_good_bye_only),
                                       TEST(a_takeover_sends_it_unless_the_session_goes_on),
                                       TEST(a_delay_runs_and_a_return_stops_it),
                                       TEST(a_crash_of_the_server_sends_it),
                                       TEST(only_what_is_allowed),
                                       TEST(a_revoked_device_has_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
