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
    assert_true(acks_expect(&a, 1) && acks_expect(&a, 2) && acks_expect(&a, 3));
    assert_true(acks_settle(&a, 2, ST_INVALID, "why"));
    assert_false(acks_take(&a, &k));
    assert_false(acks_settle(&a, 2, ST_OK, NULL)); // has its outcome
    assert_false(acks_settle(&a, 9, ST_OK, NULL));
    assert_true(acks_settle(&a, 1, ST_OK, NULL));
    assert_true(acks_take(&a, &k) && k.packet_id == 1 && k.status == ST_OK && k.text == NULL);
    assert_true(acks_take(&a, &k) && k.packet_id == 2 && k.status == ST_INVALID);
    assert_string_equal(k.text, "why");
    free(k.text);
    assert_false(acks_take(&a, &k));
    assert_true(acks_settle(&a, 3, ST_FULL, "not taken: freed by release"));
    acks_release(&a);
}

// The same id twice in flight (a client that repeats itself): one outcome each, oldest first.
static void test_same_id(void **state)
{
    (void)state;
    struct acks a = {0};
    struct ack k;
    assert_true(acks_expect(&a, 7) && acks_expect(&a, 7));
    assert_true(acks_settle(&a, 7, ST_OK, NULL));
    assert_true(acks_settle(&a, 7, ST_FULL, NULL));
    assert_true(acks_take(&a, &k) && k.status == ST_OK);
    assert_true(acks_take(&a, &k) && k.status == ST_FULL);
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
            assert_true(acks_expect(&a, next));
            list[(first + len) % 512] = next;
            known[(first + len) % 512] = false;
            len++;
            next = next == UINT16_MAX ? 1 : (uint16_t)(next + 1);
        } else if (what == 1 && len > 0) {
            size_t i = (first + rand_u64() % len) % 512;
            assert_int_equal(acks_settle(&a, list[i], ST_OK, NULL), !known[i]);
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
        cmocka_unit_test(test_same_id),
        cmocka_unit_test(test_against_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
