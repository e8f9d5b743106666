#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rand.h"
#include "front/mqtt/ids.h"

static void test_one(void **state)
{
    (void)state;
    struct ids t = {0};
    assert_null(ids_find(&t, 1));
    ids_del(&t, 1);
    struct id_entry *e = ids_add(&t, 65535, 2, 3, 77);
    assert_non_null(e);
    assert_ptr_equal(ids_find(&t, 65535), e);
    assert_int_equal(e->qos, 2);
    assert_int_equal(e->state, 3);
    assert_int_equal(e->seq, 77);
    assert_null(ids_find(&t, 0));
    assert_null(ids_find(&t, 15)); // the same place
    ids_del(&t, 65535);
    assert_null(ids_find(&t, 65535));
    assert_int_equal(t.len, 0);
    ids_release(&t);
}

// Random adding, finding and deleting against a plain array.
static void test_against_an_array(void **state)
{
    (void)state;
    static uint64_t there[65536];
    rand_seed(11);
    struct ids t = {0};
    uint32_t len = 0;
    for (unsigned step = 0; step < 300000; step++) {
        // Ids that lie together, as clients choose them, and far ones that fall on the same places.
        uint16_t id = (uint16_t)(1 + rand_u64() % 300 + (rand_u64() % 4) * 16384);
        if (there[id] == 0 && len < 400) {
            there[id] = step + 1;
            assert_non_null(ids_add(&t, id, 1, 1, there[id]));
            len++;
        } else if (there[id] != 0) {
            assert_int_equal(ids_find(&t, id)->seq, there[id]);
            ids_del(&t, id);
            there[id] = 0;
            len--;
        }
        assert_int_equal(t.len, len);
        uint16_t other = (uint16_t)(1 + rand_u64() % 300);
        assert_int_equal(ids_find(&t, other) != NULL, there[other] != 0);
    }
    assert_true(t.cap <= 1024);
    ids_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_against_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
