// Retained messages: kept, replaced, deleted, found by wildcards, sent as the subscription asks, and only while their
// publisher may.
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

static int setup_small(void **state)
{
    static const char *const small[] = {"broker.retained_max=3", NULL};
    (void)state;
    testbroker_open_with(&b, 1, small);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testbroker_close(&b);
    return 0;
}

static const struct broker_open clean = {.clean_start = true};
static const struct broker_open keep = {.expiry_s = 3600};

static void set(struct client *p, const char *topic, uint8_t qos, const char *payload)
{
    struct tb_publish k = tb_publish(p, topic, qos, true, payload);
    assert_int_equal(k.status, ST_OK);
    assert_int_equal(k.went, qos > 0 ? BROKER_LATER : BROKER_DONE);
}

static void a_new_subscription_gets_the_last_message(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    set(p, "t/a", 1, "old");
    set(p, "t/a", 1, "new");
    set(p, "t/b", 0, "zero");
    set(p, "t/c", 1, "gone");
    set(p, "t/c", 1, "");
    tb_settle(&b);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .qos = 2, .id = 5});
    const struct got *g = tb_expect(s, "new");
    assert_true(g->retain);
    assert_int_equal(g->qos, 1);
    assert_int_equal(g->ids_len, 1);
    assert_int_equal(g->ids[0], 5);
    tb_subscribe(s, "t/b", 1);
    assert_int_equal(tb_expect(s, "zero")->qos, 0);
    tb_subscribe(s, "t/c", 1);
    tb_quiet(s);
    testbroker_kill(&b);
    s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/+", 0);
    const char *first = tb_next(s)->payload;
    const char *second = tb_next(s)->payload;
    assert_true((strcmp(first, "new") == 0 && strcmp(second, "zero") == 0) ||
                (strcmp(first, "zero") == 0 && strcmp(second, "new") == 0));
    tb_quiet(s);
}

static void retain_handling_decides(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set(p, "t/a", 1, "x");
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .retain_handling = 2});
    tb_quiet(s);
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .retain_handling = 1}); // not new
    tb_quiet(s);
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .retain_handling = 0});
    tb_expect(s, "x");
    tb_unsubscribe(s, "t/a");
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/a"), .retain_handling = 1});
    tb_expect(s, "x");
    tb_sub(s, (struct broker_sub){.filter = SLICE("$share/g/t/a")}); // never for shared ones
    tb_quiet(s);
}

static void a_durable_session_keeps_what_follows_its_subscription(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    for (int i = 0; i < 20; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t/%d", i);
        set(p, topic, 1, topic);
    }
    tb_subscribe(s, "t/#", 1);
    testbroker_kill(&b); // nothing was acknowledged by the client, some of it may not even have left
    s = tb_connect(&b, 1, "s", keep);
    for (int i = 0; i < 20; i++) {
        const struct got *g = tb_next(s);
        assert_true(g->retain);
        assert_int_not_equal(g->seq, 0);
        assert_string_equal(g->payload, g->topic);
    }
    tb_quiet(s);
}

static void many_follow_in_pages(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    for (int i = 0; i < 700; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t/%d", i);
        set(p, topic, 0, "x");
    }
    tb_settle(&b);
    tb_subscribe(s, "t/#", 1);
    assert_true(tb_wait(&b, &s->got_len, 700));
    s->got_at = 700;
    tb_quiet(s);
}

static void set_many(struct client *p, int n, const char *payload)
{
    for (int i = 0; i < n; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t/%d", i);
        set(p, topic, 0, payload);
    }
    tb_settle(&b);
}

static void publish_live(struct client *p, int n, const char *payload)
{
    for (int i = 0; i < n; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t/%d", i);
        assert_int_equal(tb_publish(p, topic, 0, false, payload).status, ST_OK);
    }
    tb_settle(&b);
}

static void they_come_as_the_connection_has_room(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set_many(p, 600, "x");
    s->room = 3;
    tb_subscribe(s, "t/#", 1);
    tb_settle(&b);
    assert_int_equal(s->got_len, 3);
    for (size_t room = 13; room < 600; room += 100) {
        tb_room(s, room);
        tb_settle(&b);
        assert_int_equal(s->got_len, room);
    }
    tb_room(s, 0);
    assert_true(tb_wait(&b, &s->got_len, 600));
    s->got_at = 600;
    tb_quiet(s);
}

// How often `payload` came on the topic, and the place of the last one among all; -1: never.
static int last_of(const struct client *s, const char *topic, const char *payload, int *ret_n)
{
    int at = -1;
    *ret_n = 0;
    for (size_t i = 0; i < s->got_len; i++) {
        if (strcmp(s->got[i].topic, topic) == 0 && strcmp(s->got[i].payload, payload) == 0) {
            at = (int)i;
            *ret_n += 1;
        }
    }
    return at;
}

static void an_older_one_never_follows_a_live_one(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set_many(p, 600, "old");
    s->room = 300; // the second page is offered, the third not read yet
    tb_subscribe(s, "t/#", 1);
    publish_live(p, 700, "new");
    assert_true(s->got_len > 400 && s->got_len < 1000); // live ones of topics that wait for nothing are there
    tb_room(s, 0);
    assert_true(tb_wait(&b, &s->got_len, 1300));
    for (int i = 0; i < 700; i++) {
        char topic[16];
        int olds = 0;
        int news = 0;
        snprintf(topic, sizeof(topic), "t/%d", i);
        int old = last_of(s, topic, "old", &olds);
        int new = last_of(s, topic, "new", &news);
        assert_int_equal(olds, i < 600);
        assert_int_equal(news, 1);
        assert_true(old < new);
    }
    s->got_at = 1300;
    tb_quiet(s);
}

// More live messages than may wait: the newer ones go, what they have made old is left out.
static void too_many_live_ones_take_their_place(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set_many(p, 500, "old");
    s->room = 1;
    tb_subscribe(s, "t/#", 1);
    publish_live(p, 500, "1");
    publish_live(p, 500, "2");
    publish_live(p, 500, "3");
    tb_room(s, 0);
    tb_settle(&b);
    int left_out = 0;
    for (int i = 0; i < 500; i++) {
        char topic[16];
        int n[4];
        snprintf(topic, sizeof(topic), "t/%d", i);
        const int at[4] = {last_of(s, topic, "old", &n[0]), last_of(s, topic, "1", &n[1]),
                           last_of(s, topic, "2", &n[2]), last_of(s, topic, "3", &n[3])};
        assert_true(at[0] < at[1] && at[1] < at[2] && at[2] < at[3]);
        assert_true(n[0] <= 1 && n[1] == 1 && n[2] == 1 && n[3] == 1);
        left_out += n[0] == 0;
    }
    assert_true(left_out > 100 && left_out < 500);
}

static void they_end_with_the_subscription(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set_many(p, 600, "x");
    s->room = 3;
    tb_subscribe(s, "t/#", 1);
    tb_settle(&b);
    assert_true(tb_unsubscribe(s, "t/#"));
    tb_room(s, 0);
    tb_settle(&b);
    assert_true(s->got_len >= 3 && s->got_len <= 512); // what was read already
    s->got_at = s->got_len;
    s->room = s->got_len + 5;
    tb_subscribe(s, "t/#", 1); // and with the connection, or with the server's end, while they wait
    publish_live(p, 10, "new");
    tb_subscribe(s, "t/+", 0);
    tb_settle(&b);
    tb_close(s, false);
}

static enum status do_suspend(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str("p"), &d, err);
    return st == ST_OK ? registry_notify(tx, &d, *(enum device_change *)arg, err) : st;
}

static void they_go_with_their_publisher(void **state)
{
    (void)state;
    enum device_change what = DEVICE_CHANGE_REVOKED;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *q = tb_connect(&b, 0, "q", clean);
    set(p, "t/a", 1, "of p");
    set(q, "t/b", 1, "of q");
    assert_int_equal(tb_run(&b, do_suspend, &what), ST_OK);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    tb_expect(s, "of q");
    tb_quiet(s);
}

static void the_publishers_right_of_now_counts(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    set(p, "t/a", 1, "a");
    set(p, "t/b", 1, "b");
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    tb_next(s);
    tb_next(s);
    struct tb_policy deny = {"deny", "{'statements':[{'effect':'deny','actions':['retain'],'topics':['t/a']}]}"};
    assert_int_equal(tb_run(&b, tb_do_policy, &deny), ST_OK);
    tb_unsubscribe(s, "t/#");
    tb_subscribe(s, "t/#", 1);
    tb_expect(s, "b");
    tb_quiet(s);
    assert_int_equal(tb_publish(p, "t/a", 1, true, "x").status, ST_FORBIDDEN);
    assert_int_equal(tb_publish(p, "t/a", 1, false, "x").status, ST_OK);
}

static void a_tenant_has_a_limited_number(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    set(p, "t/a", 1, "1");
    set(p, "t/b", 1, "2");
    set(p, "t/c", 1, "3");
    assert_int_equal(tb_publish(p, "t/d", 1, true, "4").status, ST_LIMIT);
    set(p, "t/c", 1, "33"); // one that is there may change
    set(p, "t/a", 1, "");
    set(p, "t/d", 1, "4");
}

static void they_expire(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct mqtt_publish soon = {.qos = 1, .retain = true, .payload = SLICE("soon")};
    soon.props.present = MQTT_P_MESSAGE_EXPIRY;
    soon.props.message_expiry = 1;
    assert_int_equal(tb_publish_full(p, "t/a", soon).status, ST_OK);
    struct timespec ms = {.tv_sec = 1, .tv_nsec = 50000000};
    nanosleep(&ms, NULL);
    struct client *s = tb_connect(&b, 1, "s", clean);
    tb_subscribe(s, "t/#", 1);
    tb_quiet(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_new_subscription_gets_the_last_message),
        TEST(retain_handling_decides),
        TEST(a_durable_session_keeps_what_follows_its_subscription),
        TEST(many_follow_in_pages),
        TEST(they_come_as_the_connection_has_room),
        TEST(an_older_one_never_follows_a_live_one),
        TEST(too_many_live_ones_take_their_place),
        TEST(they_end_with_the_subscription),
        TEST(they_go_with_their_publisher),
        TEST(the_publishers_right_of_now_counts),
        cmocka_unit_test_setup_teardown(a_tenant_has_a_limited_number, setup_small, teardown),
        TEST(they_expire)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
