#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"
#include "front/mqtt/session.h"

static const struct session_limits limits = {.window = 4, .queue_max = 10, .queue_bytes_max = 1000};

static struct down *message(const char *topic, size_t len, uint64_t cookie)
{
    static const uint8_t zeros[2000];
    struct down *d = down_publish(topic, slice_make(zeros, len), cookie);
    assert_non_null(d);
    return d;
}

static void test_limits(void **state)
{
    (void)state;
    struct session s;
    session_init(&s, &limits);
    struct down *d = message("$muster/twin/desired", 10, 1);
    assert_int_equal(session_put(&s, d), ST_NOT_FOUND);
    session_subscribe(&s, SUB_TWIN_DESIRED, 1);
    assert_int_equal(session_put(&s, d), ST_OK);
    for (int i = 1; i < 10; i++) {
        assert_int_equal(session_put(&s, message("$muster/twin/desired", 10, 1)), ST_OK);
    }
    d = message("$muster/twin/desired", 10, 1);
    assert_int_equal(session_put(&s, d), ST_LIMIT); // 11 messages
    session_release(&s);
    assert_int_equal(session_put(&s, d), ST_NOT_FOUND); // released: subscribed to nothing
    session_subscribe(&s, SUB_TWIN_DESIRED, 1);
    assert_int_equal(session_put(&s, d), ST_OK);
    d = message("$muster/twin/desired", 991, 1);
    assert_int_equal(session_put(&s, d), ST_LIMIT); // 1,001 bytes
    free(d);
    session_release(&s);
}

static void test_unsubscribed_while_waiting(void **state)
{
    (void)state;
    struct session s;
    session_init(&s, &limits);
    session_subscribe(&s, SUB_TWIN_DESIRED, 1);
    session_subscribe(&s, SUB_COMMAND, 0);
    assert_int_equal(session_put(&s, message("$muster/twin/desired", 1, 1)), ST_OK);
    assert_int_equal(session_put(&s, message("$muster/command/a/1", 1, 2)), ST_OK);
    assert_true(session_unsubscribe(&s, SUB_TWIN_DESIRED));
    assert_false(session_unsubscribe(&s, SUB_TWIN_DESIRED));
    uint8_t qos = 9;
    uint16_t id = 9;
    struct down *d = session_next(&s, &qos, &id);
    assert_non_null(d);
    assert_int_equal(d->cookie, 2);
    assert_int_equal(qos, 0);
    assert_int_equal(id, 0);
    free(d);
    assert_null(session_next(&s, &qos, &id));
    session_release(&s);
}

// Random traffic: messages leave in order, never more than the window in flight, ids unique and never 0.
static void test_window(void **state)
{
    (void)state;
    rand_seed(11);
    struct session s;
    session_init(&s, &limits);
    session_subscribe(&s, SUB_TWIN_DESIRED, 1);
    s.last_id = 65000; // the ids wrap early
    uint16_t in_flight[4];
    size_t flying = 0;
    uint64_t put = 0;
    uint64_t taken = 0;
    for (unsigned step = 0; step < 100000; step++) {
        uint8_t qos;
        uint16_t id;
        if (rand_u64() % 2 == 0) {
            struct down *d = message("$muster/twin/desired", 1, put + 1);
            if (session_put(&s, d) == ST_OK) {
                put++;
            } else {
                free(d);
            }
        }
        const struct down *d = session_next(&s, &qos, &id);
        if (d != NULL) {
            assert_int_equal(d->cookie, ++taken);
            assert_int_equal(qos, 1);
            assert_int_not_equal(id, 0);
            assert_true(flying < 4);
            for (size_t i = 0; i < flying; i++) {
                assert_int_not_equal(id, in_flight[i]);
            }
            in_flight[flying++] = id;
        } else {
            assert_true(flying == 4 || taken == put);
        }
        if (flying > 0 && rand_u64() % 2 == 0) {
            size_t i = rand_u64() % flying;
            struct down *gone = session_acked(&s, in_flight[i]);
            assert_non_null(gone);
            free(gone);
            assert_null(session_acked(&s, in_flight[i]));
            in_flight[i] = in_flight[--flying];
        }
    }
    assert_null(session_acked(&s, 0));
    assert_true(taken > 65536 / 2);
    session_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_unsubscribed_while_waiting),
        cmocka_unit_test(test_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
