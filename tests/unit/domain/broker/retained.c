// Retained messages: kept, replaced, deleted, found by wildcards, sent as the subscription asks, and only while their
// publisher may.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "domain/broker/broker_priv.h"
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

static enum status run_hide(struct tx *tx, void *arg, struct err *err)
{
    static const struct sql_def hide[] = {{"test_hide", "ALTER TABLE mqtt_retained RENAME TO hidden"},
                                          {"test_show", "ALTER TABLE hidden RENAME TO mqtt_retained"}};
    STMT(s, tx->db, &hide[*(const bool *)arg ? 0 : 1]);
    return stmt_run(s, err);
}

static void hide(bool on)
{
    assert_int_equal(tb_run(&b, run_hide, &on), ST_OK);
}

// READING -> RETRYING -> READING -> OFFERED -> the end: a page that cannot be read is read again until it can.
static void a_page_that_fails_is_read_again(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set(p, "t/1", 0, "one");
    set(p, "t/2", 0, "two");
    tb_settle(&b);
    hide(true);
    tb_subscribe(s, "t/#", 1);
    usleep(150000); // two or three tries
    tb_quiet(s);
    hide(false);
    assert_true(tb_wait(&b, &s->got_len, 2));
    s->got_at = 2;
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

struct burst {
    struct client *c;
    int n;
};
// Retained messages of one turn.
static void publish_burst(void *arg)
{
    const struct burst *u = arg;
    for (int i = 0; i < u->n; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t/%d", i);
        struct tb_publish k = {
            .c = u->c,
            .topic = topic,
            .publish = {.qos = 1, .retain = true, .packet_id = (uint16_t)(i + 1), .payload = SLICE("x")}};
        tb_do_publish(&k);
    }
}

static void set_stored(struct client *p, int n)
{
    for (int i = 0; i < n; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t/%d", i);
        set(p, topic, i % 2 == 0 ? 1 : 0, topic);
    }
    tb_settle(&b);
}

static void a_large_subscription_of_a_durable_session_takes_several_runs(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    set_stored(p, 800);
    tb_subscribe(s, "t/#", 1);
    assert_in_range(s->subscribe_runs, 3, 6); // 400 are stored, in pages
    testbroker_kill(&b);                      // SUBACK has come: all of them are kept
    s = tb_connect(&b, 1, "s", keep);
    assert_true(tb_wait(&b, &s->got_len, 400));
    for (int i = 0; i < 400; i++) {
        const struct got *g = tb_next(s);
        assert_true(g->retain);
        assert_int_not_equal(g->seq, 0);
    }
    tb_quiet(s);
}

static void a_full_queue_ends_the_reading(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 0, "s", keep);
    set_stored(p, 2000);
    tb_subscribe(s, "t/#", 1);
    assert_int_equal(s->session->queue->len, 5);
    assert_int_equal(s->session->dropped, 995);
    assert_int_equal(s->subscribe_runs, 1);
}

static int setup_short_queue(void **state)
{
    static const char *const small[] = {"broker.queue_max=5", NULL};
    (void)state;
    testbroker_open_with(&b, 1, small);
    return 0;
}

// A subscriber that takes nothing: its lists have a bound, and go with its connection.
static void lists_of_one_connection_are_bounded(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", clean);
    set_many(p, 2, "x");
    tb_room(s, 1);
    int n = 0;
    for (; n < 500 && broker_replay_room(s->link); n++) {
        tb_subscribe(s, "t/#", 0);
    }
    assert_in_range(n, 200, 300);
    struct tb_sub k = {.c = s, .sub = {.filter = SLICE("t/#"), .retain_handling = 0}};
    assert_int_equal(tb_run(&b, tb_do_subscribe, &k), ST_OK);
    assert_int_equal(k.fetch.state, FETCH_WAIT);
    assert_true(atomic_load(&s->link->replaying) < 2 * BROKER_REPLAY_MAX);
    struct link *l = link_ref(s->link);
    tb_close(s, false);
    tb_room(s, 0);
    for (int i = 0; i < 200 && atomic_load(&l->replaying) > 0; i++) {
        tb_settle(&b);
    }
    assert_int_equal(atomic_load(&l->replaying), 0);
    link_unref(l);
}

static void the_limit_holds_within_a_commit(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct burst u = {p, 20};
    size_t before = p->acks_len;
    tb_on_loop(p->loop, publish_burst, &u);
    assert_true(tb_wait(&b, &p->acks_len, before + 20));
    int ok = 0;
    for (int i = 0; i < 20; i++) {
        ok += p->acks[before + (size_t)i].status == ST_OK;
    }
    assert_int_equal(ok, 3);
}

static void what_is_refused_has_reached_nobody(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 0, "s", clean);
    tb_subscribe(s, "t/#", 1);
    const char *const topics[] = {"t/1", "t/2", "t/3"};
    for (int i = 0; i < 3; i++) {
        set(p, topics[i], 1, "x");
        tb_expect(s, "x");
    }
    assert_int_equal(tb_publish(p, "t/4", 1, true, "y").status, ST_LIMIT);
    tb_quiet(s);
    set(p, "t/4", 0, "z"); // with QoS 0 nobody can be told: it is not retained, but those who are there get it
    tb_expect(s, "z");
    struct client *late = tb_connect(&b, 0, "late", clean);
    tb_subscribe(late, "t/4", 0);
    tb_quiet(late);
}

// Retained and others of one topic in one turn.
static void publish_mixed(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < 40; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        struct tb_publish k = {
            .c = c, .topic = i % 8 == 7 ? "t/b" : "t/a", .publish = {.retain = i % 5 == 2, .payload = slice_str(text)}};
        tb_do_publish(&k);
    }
}

static void a_topics_order_stays(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *near = tb_connect(&b, 0, "near", clean);
    struct client *far = tb_connect(&b, 1, "far", clean);
    tb_subscribe(near, "t/a", 0);
    tb_subscribe(far, "t/a", 0);
    for (int round = 0; round < 20; round++) {
        tb_on_loop(p->loop, publish_mixed, p);
        for (int i = 0; i < 40; i++) {
            char text[16];
            snprintf(text, sizeof(text), "%d", i);
            if (i % 8 != 7) {
                tb_expect(near, text);
                tb_expect(far, text);
            }
        }
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_new_subscription_gets_the_last_message),
        TEST(retain_handling_decides),
        TEST(a_durable_session_keeps_what_follows_its_subscription),
        TEST(many_follow_in_pages),
        TEST(a_page_that_fails_is_read_again),
        TEST(they_come_as_the_connection_has_room),
        TEST(an_older_one_never_follows_a_live_one),
        TEST(too_many_live_ones_take_their_place),
        TEST(they_end_with_the_subscription),
        TEST(they_go_with_their_publisher),
        TEST(the_publishers_right_of_now_counts),
        cmocka_unit_test_setup_teardown(a_tenant_has_a_limited_number, setup_small, teardown),
        cmocka_unit_test_setup_teardown(the_limit_holds_within_a_commit, setup_small, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused_has_reached_nobody, setup_small, teardown),
        TEST(a_topics_order_stays),
        TEST(a_large_subscription_of_a_durable_session_takes_several_runs),
        cmocka_unit_test_setup_teardown(a_full_queue_ends_the_reading, setup_short_queue, teardown),
        TEST(lists_of_one_connection_are_bounded),
        TEST(they_expire)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
