// Shared subscriptions: one member gets each message, in turn; what a member leaves behind goes to another.
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
static const struct broker_open keep = {.expiry_s = 3600};

static void publish_many(struct client *p, uint8_t qos, int n)
{
    for (int i = 0; i < n; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        assert_int_equal(tb_publish(p, "t/a", qos, false, text).status, ST_OK);
    }
}

static void members_take_turns(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *m[3];
    for (unsigned i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof(id), "m%u", i);
        m[i] = tb_connect(&b, i % 2, id, clean);
        tb_subscribe(m[i], "$share/g/t/+", 1);
    }
    struct client *alone = tb_connect(&b, 1, "alone", clean);
    tb_subscribe(alone, "$share/h/t/+", 1); // another group
    tb_subscribe(alone, "t/a", 0);          // and an ordinary subscription
    publish_many(p, 1, 30);
    assert_true(tb_wait(&b, &alone->got_len, 60));
    tb_settle(&b);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(m[i]->got_len, 10);
        assert_int_not_equal(m[i]->got[0].share, 0);
        assert_int_equal(m[i]->got[0].seq, 0);
    }
}

struct give_back {
    struct client *c;
    const struct got *g;
};
static void do_give_back(void *arg)
{
    const struct give_back *k = arg;
    broker_give_back(k->c->bl, message_ref(k->g->msg), k->g->share);
}

static void what_was_not_acknowledged_goes_to_another(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *m = tb_connect(&b, 0, "m", clean);
    struct client *n = tb_connect(&b, 1, "n", clean);
    tb_subscribe(m, "$share/g/t/#", 1);
    publish_many(p, 1, 1);
    struct give_back k = {m, tb_expect(m, "0")};
    tb_subscribe(n, "$share/g/t/#", 1);
    tb_close(m, false);
    tb_on_loop(m->loop, do_give_back, &k);
    tb_expect(n, "0");
    tb_close(n, false); // nobody is left: it is dropped
    struct give_back last = {n, &n->got[0]};
    tb_on_loop(n->loop, do_give_back, &last);
    tb_settle(&b);
}

static void set_full(const struct client *c, bool full)
{
    atomic_store(&c->link->full, full);
}

static void a_member_without_room_is_passed_over(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *m = tb_connect(&b, 0, "m", clean);
    struct client *n = tb_connect(&b, 1, "n", clean);
    tb_subscribe(m, "$share/g/t/#", 1);
    tb_subscribe(n, "$share/g/t/#", 1);
    publish_many(p, 1, 1);
    tb_settle(&b);
    struct client *first = m->got_len > 0 ? m : n;
    struct client *other = m->got_len > 0 ? n : m;
    set_full(first, true);
    struct give_back k = {first, tb_next(first)};
    tb_on_loop(first->loop, do_give_back, &k); // what had no room there
    tb_expect(other, "0");
    publish_many(p, 1, 10);
    publish_many(p, 0, 10);
    tb_settle(&b);
    assert_int_equal(first->got_len, 1);
    assert_int_equal(other->got_len, 21);
    set_full(other, true); // nobody has room: it is dropped, and that ends there
    tb_on_loop(first->loop, do_give_back, &k);
    publish_many(p, 1, 5);
    tb_settle(&b);
    assert_int_equal(first->got_len + other->got_len, 22);
    set_full(first, false);
    publish_many(p, 1, 5);
    tb_settle(&b);
    assert_int_equal(first->got_len, 6);
}

static void a_durable_member_gets_it_stored(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *m = tb_connect(&b, 0, "m", keep);
    struct client *n = tb_connect(&b, 1, "n", keep);
    tb_subscribe(m, "$share/g/t/#", 1);
    tb_subscribe(n, "$share/g/t/#", 1);
    publish_many(p, 1, 10);
    tb_settle(&b);
    assert_int_equal(m->got_len, 5);
    assert_int_equal(n->got_len, 5);
    assert_int_not_equal(m->got[0].seq, 0);
    // An offline member is passed over while another is there.
    tb_close(n, false);
    publish_many(p, 1, 4);
    tb_settle(&b);
    assert_int_equal(m->got_len, 9);
    // When its session ends, what it had not acknowledged goes to the others.
    n = tb_connect(&b, 1, "n", clean);
    tb_settle(&b);
    assert_int_equal(m->got_len, 14);
    tb_quiet(n);
    // Nobody is connected: it waits with one of them.
    tb_close(m, false);
    publish_many(p, 1, 2);
    testbroker_kill(&b);
    m = tb_connect(&b, 0, "m", keep);
    assert_true(tb_wait(&b, &m->got_len, 16));
    m->got_at = 16;
    tb_quiet(m);
}

static void qos_2_stays_with_its_session(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *m = tb_connect(&b, 0, "m", keep);
    tb_subscribe(m, "$share/g/t/#", 2);
    publish_many(p, 2, 1);
    tb_expect(m, "0");
    tb_close(m, false);
    struct client *n = tb_connect(&b, 1, "n", keep);
    tb_subscribe(n, "$share/g/t/#", 2);
    tb_quiet(n);
    m = tb_connect(&b, 0, "m", clean); // its session ends, and the message with it (MQTT-4.8.2-5)
    tb_quiet(n);
    tb_quiet(m);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(members_take_turns), TEST(what_was_not_acknowledged_goes_to_another),
                                       TEST(a_member_without_room_is_passed_over),
                                       TEST(a_durable_member_gets_it_stored), TEST(qos_2_stays_with_its_session)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
