#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buf.h"

static void test_heap_grows_to_its_maximum_and_no_further(void **state)
{
    (void)state;
    struct buf b = buf_heap(100);
    assert_null(b.p);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(buf_u8(&b, (uint8_t)i));
    }
    assert_int_equal(b.len, 100);
    assert_true(b.cap <= 100);
    assert_false(buf_u8(&b, 1));
    assert_true(b.failed);
    assert_int_equal(b.len, 100);
    assert_int_equal(b.p[99], 99);
    buf_clear(&b);
    assert_false(b.failed);
    assert_true(buf_str(&b, "again"));
    buf_release(&b);
    assert_null(b.p);
    assert_true(buf_str(&b, "and again"));
    buf_release(&b);
}

static void test_failure_is_sticky(void **state)
{
    (void)state;
    uint8_t mem[4];
    struct buf b = buf_fixed(mem, sizeof(mem));
    assert_true(buf_u16(&b, 0x0102));
    assert_false(buf_u32(&b, 1));
    assert_false(buf_u8(&b, 3)); // would fit, but the text would have a hole
    assert_int_equal(b.len, 2);
    assert_false(buf_put(&b, "", 0));
    buf_release(&b); // nothing to free
    assert_true(buf_put(&b, "abcd", 4));
    assert_ptr_equal(b.p, mem);
}

static void test_huge_requests_do_not_wrap(void **state)
{
    (void)state;
    struct buf b = buf_heap(SIZE_MAX);
    assert_true(buf_u8(&b, 1));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    assert_int_equal(b.len, 1);
    buf_release(&b);
}

static void test_numbers_are_big_endian(void **state)
{
    (void)state;
    uint8_t mem[32];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u8(&b, 0x01);
    buf_u16(&b, 0x0203);
    buf_u32(&b, 0x04050607);
    buf_u64(&b, UINT64_C(0x08090a0b0c0d0e0f));
    static const uint8_t want[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    assert_int_equal(b.len, sizeof(want));
    assert_memory_equal(mem, want, sizeof(want));
}

static void test_varints(void **state)
{
    (void)state;
    static const struct {
        uint64_t v;
        size_t len;
        uint8_t bytes[10];
    } rows[] = {
        {0, 1, {0}},
        {127, 1, {0x7f}},
        {128, 2, {0x80, 0x01}},
        {300, 2, {0xac, 0x02}},
        {UINT64_MAX, 10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t mem[10];
        struct buf b = buf_fixed(mem, sizeof(mem));
        assert_true(buf_uvarint(&b, rows[i].v));
        assert_int_equal(b.len, rows[i].len);
        assert_memory_equal(mem, rows[i].bytes, b.len);
    }
    uint8_t mem[10];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_svarint(&b, -1);
    buf_svarint(&b, 1);
    buf_svarint(&b, -64);
    static const uint8_t want[] = {1, 2, 127};
    assert_memory_equal(mem, want, sizeof(want));
}

static void test_printf(void **state)
{
    (void)state;
    struct buf b = buf_heap(1000);
    assert_true(buf_printf(&b, "%d-%s", 42, "x"));
    assert_true(slice_eq_str(buf_view(&b), "42-x"));
    char text[600];
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_true(buf_printf(&b, "%s", text));
    assert_int_equal(b.len, 4 + 599);
    assert_int_equal(b.p[602], 'y');
    assert_false(buf_printf(&b, "%s", text));
    assert_int_equal(b.len, 603);
    buf_release(&b);
}

static void test_consume(void **state)
{
    (void)state;
    struct buf b = buf_heap(100);
    buf_str(&b, "abcdef");
    buf_consume(&b, 0);
    buf_consume(&b, 2);
    assert_true(slice_eq_str(buf_view(&b), "cdef"));
    buf_consume(&b, 99);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void test_reserve_and_commit(void **state)
{
    (void)state;
    struct buf b = buf_heap(16);
    uint8_t *p = buf_reserve(&b, 8);
    assert_non_null(p);
    memcpy(p, "12345678", 8);
    assert_int_equal(b.len, 0);
    buf_commit(&b, 5);
    assert_true(slice_eq_str(buf_view(&b), "12345"));
    assert_non_null(buf_reserve(&b, 11));
    assert_null(buf_reserve(&b, 12));
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_grows_to_its_maximum_and_no_further),
        cmocka_unit_test(test_failure_is_sticky),
        cmocka_unit_test(test_huge_requests_do_not_wrap),
        cmocka_unit_test(test_numbers_are_big_endian),
        cmocka_unit_test(test_varints),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_consume),
        cmocka_unit_test(test_reserve_and_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
