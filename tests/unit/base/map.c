#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/map.h"
#include "base/rand.h"

static int values[20000];

static void test_u64(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    assert_null(map_get_u64(&m, 1));
    assert_null(map_del_u64(&m, 1));
    for (uint64_t i = 0; i < 20000; i++) {
        assert_true(map_set_u64(&m, i << 40, &values[i])); // sequential and equal in the low bits
    }
    assert_int_equal(m.len, 20000);
    for (uint64_t i = 0; i < 20000; i++) {
        assert_ptr_equal(map_get_u64(&m, i << 40), &values[i]);
    }
    assert_null(map_get_u64(&m, 1));
    assert_true(map_set_u64(&m, 0, &values[7]));
    assert_ptr_equal(map_get_u64(&m, 0), &values[7]);
    assert_int_equal(m.len, 20000);
    assert_ptr_equal(map_del_u64(&m, 0), &values[7]);
    assert_null(map_get_u64(&m, 0));
    map_release(&m);
    assert_int_equal(m.len, 0);
    assert_null(map_get_u64(&m, 0));
}

static void test_strings_are_copied(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    char key[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key-%d", i);
        assert_true(map_set(&m, slice_str(key), &values[i]));
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key-%d", i);
        assert_ptr_equal(map_get(&m, slice_str(key)), &values[i]);
    }
    assert_null(map_get(&m, SLICE("key-")));
    assert_true(map_set(&m, SLICE(""), &values[1]));
    assert_ptr_equal(map_get(&m, SLICE("")), &values[1]);
    assert_true(map_set(&m, slice_make("a\0b", 3), &values[2]));
    assert_null(map_get(&m, SLICE("a")));
    map_release(&m);
}

static void test_both_kinds_stay_apart(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    uint64_t h = hash_bytes(SLICE("x"));
    assert_true(map_set(&m, SLICE("x"), &values[1]));
    assert_null(map_get_u64(&m, h));
    assert_true(map_set_u64(&m, h, &values[2]));
    assert_ptr_equal(map_get(&m, SLICE("x")), &values[1]);
    assert_ptr_equal(map_get_u64(&m, h), &values[2]);
    map_release(&m);
}

// Random sets and deletions against a plain array.
static void test_against_a_model(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    void *model[500] = {NULL};
    size_t len = 0;
    rand_seed(3);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t k = rand_u64() % 500;
        if (rand_u64() % 2 == 0) {
            len += model[k] == NULL ? 1 : 0;
            model[k] = &values[i % 20000];
            assert_true(map_set_u64(&m, k, model[k]));
        } else {
            len -= model[k] != NULL ? 1 : 0;
            assert_ptr_equal(map_del_u64(&m, k), model[k]);
            model[k] = NULL;
        }
        assert_int_equal(m.len, len);
        assert_ptr_equal(map_get_u64(&m, k), model[k]);
    }
    assert_true(m.cap <= 2048); // deletions do not make it grow
    map_release(&m);
}

static void test_iteration_with_deletion(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(map_set_u64(&m, i, &values[i]));
    }
    assert_true(map_set(&m, SLICE("name"), &values[500]));
    size_t pos = 0;
    unsigned seen = 0;
    unsigned named = 0;
    uint64_t k;
    struct slice name;
    for (int *v = map_next(&m, &pos, &k, &name); v != NULL; v = map_next(&m, &pos, &k, &name)) {
        seen++;
        if (name.p != NULL) {
            assert_true(slice_eq_str(name, "name"));
            assert_ptr_equal(map_del(&m, name), &values[500]);
            named++;
        } else {
            assert_ptr_equal(v, &values[k]);
            assert_ptr_equal(map_del_u64(&m, k), v);
        }
    }
    assert_int_equal(seen, 101);
    assert_int_equal(named, 1);
    assert_int_equal(m.len, 0);
    pos = 0;
    assert_null(map_next(&m, &pos, NULL, NULL));
    map_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),
        cmocka_unit_test(test_strings_are_copied),
        cmocka_unit_test(test_both_kinds_stay_apart),
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_iteration_with_deletion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
