// Mirror topics: what the core's events become for applications that watch devices, and only while somebody does.
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
    testbroker_open(&b, 1);
    struct tb_policy watch = {"watch",
                              "{'statements':[{'effect':'allow','actions':['subscribe'],'topics':['devices/#']}]}"};
    assert_int_equal(tb_run(&b, tb_do_policy, &watch), ST_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testbroker_close(&b);
    return 0;
}

struct fact {
    enum event_type type;
    const char *json;
};
static enum status do_event(struct tx *tx, void *arg, struct err *err)
{
    const struct fact *f = arg;
    (void)err;
    struct event *ev = event_new(f->type, 1, 5, "pump-7", tx->now_us, slice_str(f->json));
    return tx_event(tx, ev) ? ST_OK : ST_NOMEM;
}
static void happens(enum event_type type, const char *json)
{
    struct fact f = {type, json};
    assert_int_equal(tb_run(&b, do_event, &f), ST_OK);
}

static void events_become_messages(void **state)
{
    (void)state;
    assert_false(events_wanted(core_events(b.core.core), EV_TELEMETRY, 1));
    struct client *s = tb_connect(&b, 0, "s", (struct broker_open){.expiry_s = 60});
    tb_subscribe(s, "devices/+/telemetry", 1);
    tb_settle(&b);
    assert_true(events_wanted(core_events(b.core.core), EV_TELEMETRY, 1));
    tb_subscribe(s, "devices/pump-7/event/#", 0);
    happens(EV_TELEMETRY, "{\"device\":\"pump-7\",\"values\":{\"t\":1}}");
    const struct got *g = tb_expect(s, "{\"device\":\"pump-7\",\"values\":{\"t\":1}}");
    assert_string_equal(g->topic, "devices/pump-7/telemetry");
    assert_int_equal(g->qos, 1);
    assert_int_not_equal(g->seq, 0); // stored: the session is durable
    assert_int_equal(message_props(g->msg).len, 21);
    happens(EV_EVENT, "{\"device\":\"pump-7\",\"ts\":1,\"name\":\"leak\",\"data\":{\"name\":\"x\"}}");
    g = tb_next(s);
    assert_string_equal(g->topic, "devices/pump-7/event/leak");
    assert_int_equal(g->qos, 0);
    happens(EV_PRESENCE, "{}"); // nobody wants it
    happens(EV_DEVICE, "{}");   // has no mirror
    tb_quiet(s);
    tb_subscribe(s, "devices/+/presence", 0);
    happens(EV_PRESENCE, "{\"online\":true}");
    assert_string_equal(tb_next(s)->topic, "devices/pump-7/presence");
}

static void a_burst_comes_whole_and_in_order(void **state)
{
    (void)state;
    struct client *s = tb_connect(&b, 0, "s", (struct broker_open){.clean_start = true});
    tb_subscribe(s, "devices/#", 1);
    for (int i = 0; i < 500; i++) {
        char json[32];
        snprintf(json, sizeof(json), "{\"n\":%d}", i);
        happens(EV_TWIN, json);
    }
    for (int i = 0; i < 500; i++) {
        char json[32];
        snprintf(json, sizeof(json), "{\"n\":%d}", i);
        assert_string_equal(tb_expect(s, json)->topic, "devices/pump-7/twin");
    }
    tb_close(s, false);
    tb_settle(&b);
    happens(EV_TWIN, "{}");
    tb_settle(&b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(events_become_messages), TEST(a_burst_comes_whole_and_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
