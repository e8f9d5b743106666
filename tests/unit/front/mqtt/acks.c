#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"
#include "front/mqtt/acks.h"

static void test_order_and_text(void **state)
{
    (void)state;
    struct acks a = {0};
    struct ack k;
    assert_false(acks_take(&a, &k));
    assert_true(acks_expect(&a, 1, false) && acks_expect(&a, 2, true) && acks_expect(&a, 3, false));
    assert_true(acks_settle(&a, 2, 0x99, "why"));
    assert_false(acks_take(&a, &k));
    assert_false(acks_settle(&a, 2, 0x00, NULL)); // has its outcome
    assert_false(acks_settle(&a, 9, 0x00, NULL));
    assert_true(acks_settle(&a, 1, 0x00, NULL));
    assert_true(acks_take(&a, &k) && k.packet_id == 1 && !k.received && k.reason == 0x00 && k.text == NULL);
    assert_true(acks_take(&a, &k) && k.packet_id == 2 && k.received && k.reason == 0x99);
    assert_string_equal(k.text, "why");
    free(k.text);
    assert_false(acks_take(&a, &k));
    assert_true(acks_settle(&a, 3, 0x97, "not taken: freed by release"));
    acks_release(&a);
}

// An outcome known on arrival waits for its turn and leaves the one that is open alone.
static void test_known_on_arrival(void **state)
{
    (void)state;
    struct acks a = {0};
    struct ack k;
    assert_true(acks_expect(&a, 7, false) && acks_known(&a, 7, false, 0x91, "in use"));
    assert_false(acks_take(&a, &k));
    assert_true(acks_settle(&a, 7, 0x00, NULL));
    assert_true(acks_take(&a, &k) && k.reason == 0x00);
    assert_true(acks_take(&a, &k) && k.reason == 0x91);
    assert_string_equal(k.text, "in use");
    free(k.text);
    acks_release(&a);
}

static void test_holds(void **state)
{
    (void)state;
    struct acks a = {0};
    struct ack k;
    assert_false(acks_holds(&a, 1));
    for (uint16_t id = 65534; id != 3; id = id == UINT16_MAX ? 1 : (uint16_t)(id + 1)) { // over the end of the range
        assert_false(acks_holds(&a, id));
        assert_true(acks_expect(&a, id, false));
        assert_true(acks_holds(&a, id));
    }
    assert_true(a.run);
    assert_false(acks_holds(&a, 3) || acks_holds(&a, 65533));
    assert_true(acks_expect(&a, 100, true)); // no longer one after the other
    assert_false(a.run);
    assert_true(acks_holds(&a, 100) && acks_holds(&a, 65535) && acks_holds(&a, 2) && !acks_holds(&a, 3));
    assert_int_equal(a.received, 1);
    while (a.len > 0) {
        assert_true(acks_settle(&a, a.slots[a.head].packet_id, 0, NULL) && acks_take(&a, &k));
        assert_false(acks_holds(&a, k.packet_id));
    }
    assert_int_equal(a.received, 0);
    acks_release(&a);
}

// Random outcomes in random order against a plain list: what is taken is always the list's beginning.
static void test_against_a_list(void **state)
{
    (void)state;
    rand_seed(7);
    struct acks a = {0};
    uint16_t list[512];
    bool known[512] = {false};
    size_t first = 0;
    size_t len = 0;
    uint16_t next = 1;
    for (unsigned step = 0; step < 200000; step++) {
        unsigned what = (unsigned)(rand_u64() % 3);
        if (what == 0 && len < 300) {
            assert_true(acks_expect(&a, next, false));
            list[(first + len) % 512] = next;
            known[(first + len) % 512] = false;
            len++;
            next = next == UINT16_MAX ? 1 : (uint16_t)(next + 1);
        } else if (what == 1 && len > 0) {
            size_t i = (first + rand_u64() % len) % 512;
            assert_int_equal(acks_settle(&a, list[i], 0x00, NULL), !known[i]);
            known[i] = true;
        } else {
            struct ack k;
            bool took = acks_take(&a, &k);
            assert_int_equal(took, len > 0 && known[first]);
            if (took) {
                assert_int_equal(k.packet_id, list[first]);
                first = (first + 1) % 512;
                len--;
            }
        }
        assert_int_equal(a.len, len);
    }
    acks_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_text),
        cmocka_unit_test(test_known_on_arrival),
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_against_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
