#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/rand.h"

static void test_a_seed_repeats(void **state)
{
    (void)state;
    rand_seed(42);
    uint64_t a = rand_u64();
    uint64_t b = rand_u64();
    assert_true(a != b);
    rand_seed(42);
    assert_true(rand_u64() == a);
    assert_true(rand_u64() == b);
    rand_seed(43);
    assert_true(rand_u64() != a);
}

static void test_bits_are_even(void **state)
{
    (void)state;
    rand_seed(1);
    unsigned ones[64] = {0};
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t v = rand_u64();
        for (unsigned bit = 0; bit < 64; bit++) {
            ones[bit] += (unsigned)(v >> bit & 1);
        }
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_in_range(ones[bit], 4700, 5300);
    }
}

static void test_secrets_differ(void **state)
{
    (void)state;
    uint8_t a[1000] = {0};
    uint8_t b[1000] = {0};
    rand_secret(a, sizeof(a));
    rand_secret(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    static const uint8_t zeros[32];
    assert_memory_not_equal(a + sizeof(a) - 32, zeros, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_seed_repeats),
        cmocka_unit_test(test_bits_are_even),
        cmocka_unit_test(test_secrets_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
