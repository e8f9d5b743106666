// Sessions that outlive their connection: what was acknowledged is there after a kill, in order, once, with its packet id.
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
    static const char *const small[] = {"broker.queue_max=5", "broker.window=10", NULL};
    (void)state;
    testbroker_open_with(&b, 2, small);
    return 0;
}

static int setup_window(void **state)
{
    static const char *const small[] = {"broker.window=10", NULL};
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

static void publish_many(struct client *p, const char *topic, uint8_t qos, int from, int to)
{
    for (int i = from; i < to; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        struct tb_publish k = tb_publish(p, topic, qos, false, text);
        assert_int_equal(k.status, ST_OK);
        assert_int_equal(k.went, BROKER_LATER);
        assert_true(k.matched);
    }
}

static void expect_many(struct client *s, int from, int to, enum delivery_state state)
{
    for (int i = from; i < to; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        const struct got *g = tb_expect(s, text);
        assert_int_equal(g->state, state);
        assert_int_not_equal(g->seq, 0);
    }
}

struct settle_many {
    struct client *c;
    const uint64_t *seqs;
    size_t n;
};
static void do_settle_many(void *arg)
{
    const struct settle_many *k = arg;
    for (size_t i = 0; i < k->n; i++) {
        broker_settle(k->c->bl, k->c->session, k->c->link, SETTLE_DONE, k->seqs[i]);
    }
}

// Runs, gaps, one twice, one that was never sent: what was acknowledged is gone, and nothing else.
static void acknowledged_in_runs(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_subscribe(s, "t/#", 1);
    publish_many(p, "t/a", 1, 0, 20);
    expect_many(s, 0, 20, DELIVERY_NEW);
    uint64_t one = s->got[0].seq;
    const uint64_t seqs[] = {one,     one + 1, one + 2,  one + 3,  one + 3,  one + 2,   one + 6,
                             one + 8, one + 9, one + 10, one + 12, one + 11, one + 500, one + 501};
    struct settle_many k = {s, seqs, sizeof(seqs) / sizeof(seqs[0])};
    tb_on_loop(s->loop, do_settle_many, &k);
    tb_settle(&b);
    publish_many(p, "t/a", 1, 20, 22); // numbers go on
    expect_many(s, 20, 22, DELIVERY_NEW);
    testbroker_kill(&b);
    s = tb_connect(&b, 1, "s", keep);
    static const int left[] = {4, 5, 7, 13, 14, 15, 16, 17, 18, 19, 20, 21};
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        expect_many(s, left[i], left[i] + 1, DELIVERY_AGAIN);
    }
    tb_quiet(s);
}

static void what_comes_while_away_waits(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    assert_true(broker_session_durable(s->session));
    assert_int_equal(s->expiry_s, 3600);
    assert_false(s->present);
    tb_subscribe(s, "t/#", 1);
    publish_many(p, "t/a", 1, 0, 3);
    expect_many(s, 0, 3, DELIVERY_NEW);
    tb_ack(s, SETTLE_DONE, s->got[0].seq);
    tb_settle(&b);
    tb_close(s, false);
    publish_many(p, "t/a", 1, 3, 6);
    tb_publish(p, "t/a", 0, false, "not kept");

    s = tb_connect(&b, 0, "s", keep);
    assert_true(s->present);
    expect_many(s, 1, 3, DELIVERY_AGAIN); // sent before and not acknowledged
    expect_many(s, 3, 6, DELIVERY_NEW);
    tb_quiet(s);
    publish_many(p, "t/a", 1, 6, 8); // caught up: what comes now follows at once
    expect_many(s, 6, 8, DELIVERY_NEW);
    for (size_t i = 1; i < s->got_len; i++) {
        assert_true(s->got[i].seq > s->got[i - 1].seq);
    }
}

static void a_kill_loses_nothing_and_keeps_packet_ids(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_sub(s, (struct broker_sub){.filter = SLICE("t/#"), .qos = 2, .id = 77});
    publish_many(p, "t/a", 2, 0, 3);
    expect_many(s, 0, 3, DELIVERY_NEW);
    uint64_t seqs[3] = {s->got[0].seq, s->got[1].seq, s->got[2].seq};
    tb_ack(s, SETTLE_RECEIVED, seqs[0]);
    tb_ack(s, SETTLE_DONE, seqs[1]); // the client said PUBCOMP
    tb_settle(&b);

    testbroker_kill(&b);
    s = tb_connect(&b, 0, "s", keep);
    assert_true(s->present);
    const struct got *g = tb_next(s);
    assert_true(g->released);
    assert_int_equal(g->state, DELIVERY_RELEASED);
    assert_int_equal(g->seq, seqs[0]);
    g = tb_expect(s, "2");
    assert_int_equal(g->seq, seqs[2]);
    assert_int_equal(g->state, DELIVERY_AGAIN);
    assert_int_equal(g->ids_len, 1);
    assert_int_equal(g->ids[0], 77);
    tb_quiet(s);
    p = tb_connect(&b, 1, "p", clean);
    publish_many(p, "t/a", 1, 3, 5);
    expect_many(s, 3, 5, DELIVERY_NEW);
}

static void an_inbound_id_survives_with_its_message(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", keep);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_subscribe(s, "t/a", 1);
    struct tb_publish k =
        tb_publish_full(p, "t/a", (struct mqtt_publish){.qos = 2, .packet_id = 41, .payload = SLICE("x")});
    assert_int_equal(k.status, ST_OK);
    k = tb_publish_full(p, "t/nobody", (struct mqtt_publish){.qos = 2, .packet_id = 42, .payload = SLICE("y")});
    assert_int_equal(k.went, BROKER_LATER); // the id must be kept though nobody wants the message
    assert_false(k.matched);

    testbroker_kill(&b);
    p = tb_connect(&b, 0, "p", keep);
    assert_int_equal(p->inbound_len, 2);
    assert_int_equal(p->inbound[0] + p->inbound[1], 83);
    tb_ack(p, SETTLE_INBOUND, 41);
    testbroker_kill(&b);
    p = tb_connect(&b, 0, "p", keep);
    assert_int_equal(p->inbound_len, 1);
    assert_int_equal(p->inbound[0], 42);
    s = tb_connect(&b, 1, "s", keep);
    tb_expect(s, "x");
    tb_quiet(s);
}

static void one_message_for_many_queues_is_stored_once(void **state)
{
    (void)state;
    struct client *s[3];
    struct client *p = tb_connect(&b, 0, "p", clean);
    for (unsigned i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof(id), "s%u", i);
        s[i] = tb_connect(&b, i % 2, id, keep);
        tb_subscribe(s[i], "t/a", 1);
    }
    publish_many(p, "t/a", 1, 0, 2);
    for (unsigned i = 0; i < 3; i++) {
        expect_many(s[i], 0, 2, DELIVERY_NEW);
        tb_ack(s[i], SETTLE_DONE, s[i]->got[0].seq);
    }
    tb_settle(&b);
    testbroker_kill(&b);
    for (unsigned i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof(id), "s%u", i);
        s[i] = tb_connect(&b, i % 2, id, keep);
        tb_expect(s[i], "1");
        tb_quiet(s[i]);
        tb_ack(s[i], SETTLE_DONE, s[i]->got[0].seq);
    }
    tb_settle(&b);
}

static enum status count_rows(struct tx *tx, void *arg, struct err *err)
{
    static const struct sql_def def = {
        "test_rows", "SELECT (SELECT count(*) FROM mqtt_queue) + (SELECT count(*) FROM mqtt_message) + "
                     "(SELECT count(*) FROM mqtt_session) + (SELECT count(*) FROM mqtt_sub) + "
                     "(SELECT count(*) FROM mqtt_inbound) + (SELECT count(*) FROM mqtt_will) + "
                     "(SELECT count(*) FROM mqtt_retained)"};
    STMT(s, tx->db, &def);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *(int64_t *)arg = col_i64(s, 0);
    return st;
}

static void the_end_of_a_session_leaves_nothing(void **state)
{
    (void)state;
    int64_t rows = -1;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    struct client *s2 = tb_connect(&b, 1, "s2", keep);
    tb_subscribe(s, "t/#", 1);
    tb_subscribe(s2, "t/#", 1);
    tb_close(s, false);
    publish_many(p, "t/a", 1, 0, 5);
    s = tb_connect(&b, 0, "s", clean); // clean start
    assert_false(s->present);
    assert_false(broker_session_durable(s->session));
    tb_quiet(s);
    struct tb_close k = {s2, false, 0}; // DISCONNECT with session expiry 0
    assert_int_equal(tb_run(&b, tb_do_close, &k), ST_OK);
    assert_int_equal(tb_run(&b, count_rows, &rows), ST_OK);
    assert_int_equal(rows, 0);
    assert_false(tb_publish(p, "t/a", 1, false, "x").matched);
}

static void a_session_ends_in_time(void **state)
{
    (void)state;
    int64_t rows = -1;
    struct client *s = tb_connect(&b, 1, "s", (struct broker_open){.expiry_s = 1});
    tb_subscribe(s, "t/#", 1);
    tb_close(s, false);
    for (unsigned i = 0; i < 50 && rows != 0; i++) {
        struct timespec ms = {.tv_nsec = 100000000};
        nanosleep(&ms, NULL);
        assert_int_equal(tb_run(&b, count_rows, &rows), ST_OK);
    }
    assert_int_equal(rows, 0);
    s = tb_connect(&b, 1, "s", keep);
    assert_false(s->present);
}

static void a_full_queue_takes_no_more_and_says_so(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    struct client *s2 = tb_connect(&b, 1, "s2", keep);
    tb_subscribe(s, "t/#", 1);
    tb_subscribe(s2, "t/9", 1);
    tb_close(s, false);
    publish_many(p, "t/a", 1, 0, 5);
    publish_many(p, "t/9", 1, 5, 7); // s2 gets it all the same
    expect_many(s2, 5, 7, DELIVERY_NEW);
    s = tb_connect(&b, 0, "s", keep);
    expect_many(s, 0, 5, DELIVERY_NEW);
    tb_quiet(s);
}

static void a_window_pages_through_a_long_queue(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 0, "s", (struct broker_open){.expiry_s = 60, .receive_max = 100});
    tb_subscribe(s, "t/#", 1);
    tb_close(s, false);
    publish_many(p, "t/a", 1, 0, 100);
    s = tb_connect(&b, 0, "s", (struct broker_open){.expiry_s = 60, .receive_max = 100});
    expect_many(s, 0, 10, DELIVERY_NEW);
    tb_quiet(s); // no more than the window
    publish_many(p, "t/a", 1, 100, 105);
    tb_quiet(s);
    for (int i = 0; i < 105; i++) {
        if (i >= 10) {
            expect_many(s, i, i + 1, DELIVERY_NEW);
        }
        tb_ack(s, SETTLE_DONE, s->got[i].seq);
    }
    tb_quiet(s);
    publish_many(p, "t/a", 1, 105, 107);
    expect_many(s, 105, 107, DELIVERY_NEW);
}

static void acknowledgements_of_a_lost_connection_do_not_count(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *old = tb_connect(&b, 1, "s", keep);
    tb_subscribe(old, "t/#", 1);
    publish_many(p, "t/a", 1, 0, 1);
    expect_many(old, 0, 1, DELIVERY_NEW);
    struct client *s = tb_connect(&b, 0, "s", keep); // takes over
    expect_many(s, 0, 1, DELIVERY_AGAIN);
    tb_settle(&b);
    assert_int_equal(old->closes, 1);
    tb_ack(old, SETTLE_DONE, old->got[0].seq);
    tb_settle(&b);
    tb_close(old, false);
    publish_many(p, "t/a", 1, 1, 2);
    expect_many(s, 1, 2, DELIVERY_NEW);
    testbroker_kill(&b);
    s = tb_connect(&b, 0, "s", keep);
    expect_many(s, 0, 2, DELIVERY_AGAIN);
}

// What a front does when a connection ends: the last acknowledgements first, then the end.
struct last_ack {
    struct client *c;
    uint64_t seq;
    struct op op;
};
static enum status last_close(struct tx *tx, struct op *op, struct err *err)
{
    const struct last_ack *k = (struct last_ack *)((char *)op - offsetof(struct last_ack, op));
    return broker_close(tx, k->c->session, k->c->link, false, BROKER_EXPIRY_KEEP, err);
}
static void do_last_ack(void *arg)
{
    struct last_ack *k = arg;
    broker_settle(k->c->bl, k->c->session, k->c->link, SETTLE_DONE, k->seq);
    broker_flush(k->c->bl);
    k->op = (struct op){.run = last_close, .name = "test.close"};
    core_submit(b.core.core, &k->op);
}

static void the_last_acknowledgements_count(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_subscribe(s, "t/#", 1);
    publish_many(p, "t/a", 1, 0, 2);
    expect_many(s, 0, 2, DELIVERY_NEW);
    atomic_store(&s->link->sent, s->got[1].seq);
    struct last_ack k = {.c = s, .seq = s->got[0].seq};
    tb_on_loop(s->loop, do_last_ack, &k); // both in one turn
    tb_settle(&b);
    s = tb_connect(&b, 0, "s", keep);
    expect_many(s, 1, 2, DELIVERY_AGAIN);
    tb_quiet(s);
}

static void what_never_left_is_no_repetition(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_subscribe(s, "t/#", 1);
    publish_many(p, "t/a", 1, 0, 3);
    expect_many(s, 0, 3, DELIVERY_NEW);
    atomic_store(&s->link->sent, s->got[0].seq); // the client takes one at a time
    tb_close(s, false);
    s = tb_connect(&b, 0, "s", keep);
    expect_many(s, 0, 1, DELIVERY_AGAIN);
    expect_many(s, 1, 3, DELIVERY_NEW);
}

static void the_permit_of_now_counts_for_what_waits(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_subscribe(s, "t/a", 1);
    tb_subscribe(s, "t/b/#", 1);
    tb_close(s, false);
    tb_publish(p, "t/b/secret", 1, false, "1");
    tb_publish(p, "t/b/open", 1, false, "2");
    struct tb_policy deny = {"deny", "{'statements':[{'effect':'deny','actions':['subscribe'],'topics':['t/a']},"
                                     "{'effect':'deny','actions':['receive'],'topics':['t/b/secret']}]}"};
    assert_int_equal(tb_run(&b, tb_do_policy, &deny), ST_OK);
    s = tb_connect(&b, 0, "s", keep);
    assert_true(s->present);
    tb_expect(s, "2");
    tb_quiet(s);
    assert_false(tb_unsubscribe(s, "t/a"));
    assert_true(tb_unsubscribe(s, "t/b/#"));
}

static void messages_expire_in_the_queue(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *s = tb_connect(&b, 1, "s", keep);
    tb_subscribe(s, "t/a", 1);
    tb_close(s, false);
    struct mqtt_publish soon = {.qos = 1, .payload = SLICE("soon")};
    soon.props.present = MQTT_P_MESSAGE_EXPIRY;
    soon.props.message_expiry = 1;
    struct mqtt_publish late = {.qos = 1, .payload = SLICE("late")};
    late.props.present = MQTT_P_MESSAGE_EXPIRY;
    late.props.message_expiry = 1000;
    tb_publish_full(p, "t/a", soon);
    tb_publish_full(p, "t/a", late);
    struct timespec ms = {.tv_sec = 1, .tv_nsec = 100000000};
    nanosleep(&ms, NULL);
    s = tb_connect(&b, 0, "s", keep);
    const struct got *g = tb_expect(s, "late");
    assert_int_not_equal(g->msg->expires_us, 0);
    tb_quiet(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_comes_while_away_waits),
        TEST(acknowledged_in_runs),
        TEST(a_kill_loses_nothing_and_keeps_packet_ids),
        TEST(an_inbound_id_survives_with_its_message),
        TEST(one_message_for_many_queues_is_stored_once),
        TEST(the_end_of_a_session_leaves_nothing),
        TEST(a_session_ends_in_time),
        cmocka_unit_test_setup_teardown(a_full_queue_takes_no_more_and_says_so, setup_small, teardown),
        cmocka_unit_test_setup_teardown(a_window_pages_through_a_long_queue, setup_window, teardown),
        TEST(acknowledgements_of_a_lost_connection_do_not_count),
        TEST(the_last_acknowledgements_count),
        TEST(what_never_left_is_no_repetition),
        TEST(the_permit_of_now_counts_for_what_waits),
        TEST(messages_expire_in_the_queue)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
