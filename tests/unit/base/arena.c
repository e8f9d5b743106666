#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/arena.h"

static void test_memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    uint8_t *last = NULL;
    for (size_t size = 0; size < 3000; size += 7) {
        uint8_t *p = arena_alloc(&a, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(p[i], 0);
        }
        memset(p, 0xff, size);
        assert_ptr_not_equal(p, last);
        last = p;
    }
    arena_reset(&a);
    uint8_t *p = arena_alloc(&a, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(p[i], 0); // used before the reset
    }
    arena_release(&a);
    assert_int_equal(a.used, 0);
}

static void test_the_maximum_holds(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 10000);
    size_t got = 0;
    while (arena_alloc(&a, 100) != NULL) {
        got += 100;
    }
    assert_in_range(got, 8000, 10000);
    assert_true(a.used <= 10000);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 100));
    arena_release(&a);
    assert_non_null(arena_alloc(&a, 9000)); // may be used again
    arena_release(&a);
}

static void test_copies(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 4096);
    struct slice s = arena_copy(&a, SLICE("hello"));
    assert_true(slice_eq_str(s, "hello"));
    assert_int_equal(s.p[5], 0);
    struct slice empty = arena_copy(&a, slice_make(NULL, 0));
    assert_non_null(empty.p);
    assert_int_equal(empty.len, 0);
    assert_string_equal(arena_cstr(&a, SLICE("abc")), "abc");
    assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
    static const uint8_t big[5000];
    assert_null(arena_copy(&a, slice_make(big, sizeof(big))).p);
    assert_null(arena_cstr(&a, slice_make(big, sizeof(big))));
    assert_null(arena_printf(&a, "%5000d", 1));
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(test_the_maximum_holds),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
