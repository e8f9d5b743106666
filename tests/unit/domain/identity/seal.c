#include "domain/identity/seal.h"

// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "domain/identity/psk_table.h"

static struct identity id = {.key = {1, 2, 3}}, other = {.key = {9}};

static void what_was_sealed_opens_only_as_it_was(void **state)
{
    (void)state;
    uint8_t sealed_mem[100], again_mem[100], plain_mem[100];
    struct buf sealed = buf_fixed(sealed_mem, sizeof(sealed_mem)), again = buf_fixed(again_mem, sizeof(again_mem));
    struct buf plain = buf_fixed(plain_mem, sizeof(plain_mem));
    assert_true(seal(&id, SLICE("meter"), SLICE("a secret"), &sealed));
    assert_true(seal(&id, SLICE("meter"), SLICE("a secret"), &again));
    assert_int_equal(sealed.len, 8 + SEAL_EXTRA);
    assert_false(slice_eq(buf_view(&sealed), buf_view(&again))); // another nonce
    assert_true(unseal(&id, SLICE("meter"), buf_view(&sealed), &plain));
    assert_true(slice_eq_str(buf_view(&plain), "a secret"));
    buf_clear(&plain);
    assert_false(unseal(&id, SLICE("metre"), buf_view(&sealed), &plain));
    assert_false(unseal(&other, SLICE("meter"), buf_view(&sealed), &plain));
    for (size_t i = 0; i < sealed.len; i++) {
        sealed_mem[i] ^= 1;
        assert_false(unseal(&id, SLICE("meter"), buf_view(&sealed), &plain));
        sealed_mem[i] ^= 1;
        assert_false(unseal(&id, SLICE("meter"), slice_head(buf_view(&sealed), i), &plain));
    }
    assert_int_equal(plain.len, 0);
    struct buf small = buf_fixed(plain_mem, 8 + SEAL_EXTRA - 1);
    assert_false(seal(&id, SLICE("meter"), SLICE("a secret"), &small));
}

static void keys_are_found_changed_and_forgotten(void **state)
{
    (void)state;
    uint8_t got[32];
    struct psk_table *t = psk_table_new();
    assert_non_null(t);
    assert_int_equal(psk_table_get(t, SLICE("a"), got, sizeof(got)), 0);
    assert_true(psk_table_set(t, SLICE("a"), SLICE("0123456789abcdef")));
    assert_true(psk_table_set(t, SLICE("b"), SLICE("fedcba9876543210")));
    assert_int_equal(psk_table_get(t, SLICE("a"), got, sizeof(got)), 16);
    assert_memory_equal(got, "0123456789abcdef", 16);
    assert_int_equal(psk_table_get(t, SLICE("a"), got, 15), 0); // it does not fit
    assert_true(psk_table_set(t, SLICE("a"), SLICE("a longer key than the first one")));
    assert_int_equal(psk_table_get(t, SLICE("a"), got, sizeof(got)), 31);
    psk_table_del(t, SLICE("a"));
    psk_table_del(t, SLICE("a"));
    assert_int_equal(psk_table_get(t, SLICE("a"), got, sizeof(got)), 0);
    assert_int_equal(psk_table_get(t, SLICE("b"), got, sizeof(got)), 16);
    psk_table_free(t);
    psk_table_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sealed_opens_only_as_it_was),
        cmocka_unit_test(keys_are_found_changed_and_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
