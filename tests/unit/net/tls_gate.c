#include "net/tls_gate.h"

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>

enum { PEERS = 64 };

struct peer {
    struct tls_seat seat;
    bool running, gone;
    unsigned order;
};
static struct tls_gate g;
static struct peer peers[PEERS];
static unsigned order;

static void on_start(void *arg)
{
    struct peer *p = arg;
    p->running = true;
    p->order = ++order;
}

static void on_expire(void *arg)
{
    struct peer *p = arg;
    p->gone = true;
    tls_gate_leave(&g, &p->seat);
}

static int setup(void **state)
{
    (void)state;
    tls_gate_init(&g, on_start, on_expire);
    order = 0;
    for (int i = 0; i < PEERS; i++) {
        peers[i] = (struct peer){.seat = {.arg = &peers[i]}};
    }
    return 0;
}

static void come(int i, unsigned max, bool resumes, int64_t now_ms)
{
    if (tls_gate_enter(&g, &peers[i].seat, max, resumes, now_ms)) {
        on_start(&peers[i]);
    }
}

static void leave(int i)
{
    tls_gate_leave(&g, &peers[i].seat);
    peers[i].gone = true;
}

static struct tls_gate_stats stats(void)
{
    struct tls_gate_stats st = {0};
    tls_gate_stats(&g, &st);
    return st;
}

static void those_that_resume_go_first(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        come(i, 2, i >= 6, 0);
    }
    assert_true(peers[0].running && peers[1].running && !peers[2].running);
    assert_int_equal(stats().running, 2);
    assert_int_equal(stats().waiting, 6);
    assert_false(tls_gate_turn(&g, 1)); // nobody has left: no use to come back at once
    leave(0);
    assert_false(tls_gate_turn(&g, 2));
    assert_true(peers[6].running);
    leave(1);
    leave(6);
    tls_gate_turn(&g, 3);
    assert_true(peers[7].running && peers[2].running && !peers[3].running);
    assert_true(peers[7].order < peers[2].order);
}

static void a_turn_starts_only_some(void **state)
{
    (void)state;
    for (int i = 0; i < PEERS; i++) {
        come(i, 1000, false, 0);
    }
    assert_int_equal(stats().running, GATE_TURN_STARTS);
    assert_true(tls_gate_turn(&g, 0)); // and the next turn comes at once
    assert_int_equal(stats().running, 2 * GATE_TURN_STARTS);
}

static void seats_that_do_not_move_are_given_up(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        come(i, 2, false, 0);
    }
    assert_int_equal(tls_gate_due_ms(&g, 400), GATE_SLOW_MS - 400);
    tls_gate_turn(&g, GATE_SLOW_MS - 1);
    assert_false(peers[2].running);
    tls_gate_turn(&g, GATE_SLOW_MS);
    assert_true(peers[2].running && peers[3].running && !peers[0].gone);
    // 2 seats, at most 8 late ones: the next two late ones push out the oldest.
    for (int i = 2; i <= 4; i++) {
        tls_gate_turn(&g, (int64_t)i * GATE_SLOW_MS);
    }
    assert_true(peers[9].running && !peers[0].gone);
    assert_int_equal(stats().running, 10);
    tls_gate_turn(&g, 5 * GATE_SLOW_MS);
    assert_true(peers[0].gone && peers[1].gone && !peers[2].gone);
    assert_true(peers[10].running && peers[11].running);
    assert_int_equal(stats().expired, 2);
    assert_int_equal(tls_gate_due_ms(&g, 0), -1); // nobody waits
}

static void every_way_out_gives_the_seat_back(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        come(i, 3, i % 2 == 0, 0);
    }
    tls_gate_turn(&g, GATE_SLOW_MS); // the first three are late, the others seated
    for (int i = 5; i >= 0; i--) {
        leave(i);
        leave(i); // once more does no harm
    }
    assert_int_equal(stats().running, 0);
    assert_int_equal(stats().waiting, 0);
    come(6, 3, false, 0);
    come(7, 1, false, 0);
    leave(7); // out of the queue
    assert_int_equal(stats().waiting, 0);
    assert_int_equal(stats().running, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(those_that_resume_go_first, setup),
        cmocka_unit_test_setup(a_turn_starts_only_some, setup),
        cmocka_unit_test_setup(seats_that_do_not_move_are_given_up, setup),
        cmocka_unit_test_setup(every_way_out_gives_the_seat_back, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
