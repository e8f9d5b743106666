#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/reader.h"

static void test_numbers(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct reader r = reader_make(slice_make(bytes, sizeof(bytes)));
    assert_int_equal(rd_peek(&r), 1);
    assert_int_equal(rd_u8(&r), 1);
    assert_int_equal(rd_u16(&r), 0x0203);
    assert_int_equal(rd_u32(&r), 0x04050607);
    assert_true(rd_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
    assert_true(reader_done(&r));
    assert_int_equal(rd_peek(&r), -1);
    assert_false(r.failed);
    assert_int_equal(rd_u8(&r), 0);
    assert_true(r.failed);
    assert_false(reader_done(&r));
}

static void test_a_short_read_moves_nothing_and_sticks(void **state)
{
    (void)state;
    struct reader r = reader_make(SLICE("abc"));
    assert_int_equal(rd_u32(&r), 0);
    assert_true(r.failed);
    assert_int_equal(reader_left(&r), 3);
    assert_int_equal(rd_u8(&r), 0); // would fit
    assert_int_equal(rd_peek(&r), -1);
    assert_null(rd_bytes(&r, 1).p);
    assert_int_equal(rd_rest(&r).len, 0);
    assert_true(rd_sub(&r, 1).failed);
    assert_true(rd_uvarint(&r) == 0);
    assert_int_equal(reader_left(&r), 3);
}

static void test_bytes(void **state)
{
    (void)state;
    struct reader r = reader_make(SLICE("abcdef"));
    assert_true(slice_eq_str(rd_bytes(&r, 2), "ab"));
    assert_int_equal(rd_bytes(&r, 0).len, 0);
    struct reader sub = rd_sub(&r, 3);
    assert_true(slice_eq_str(rd_rest(&sub), "cde"));
    assert_true(reader_done(&sub));
    assert_int_equal(rd_u8(&sub), 0);
    assert_true(sub.failed);
    assert_false(r.failed); // the sub-reader's failure is its own
    assert_true(slice_eq_str(rd_rest(&r), "f"));
    assert_null(rd_bytes(&r, SIZE_MAX).p);
    assert_true(r.failed);
}

static void test_empty_input(void **state)
{
    (void)state;
    struct reader r = reader_make(slice_make(NULL, 0));
    assert_true(reader_done(&r));
    assert_int_equal(rd_rest(&r).len, 0);
    assert_true(reader_done(&r));
    assert_true(rd_u64(&r) == 0);
    assert_true(r.failed);
}

static void test_varints_refused(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        uint8_t bytes[12];
    } rows[] = {
        {0, {0}},
        {1, {0x80}},
        {2, {0x80, 0x00}},       // 0 in two bytes
        {3, {0xff, 0x80, 0x00}}, // 127 in three
        {10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}},
        {11, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reader r = reader_make(slice_make(rows[i].bytes, rows[i].len));
        assert_true(rd_uvarint(&r) == 0);
        assert_true(r.failed);
        assert_int_equal(reader_left(&r), rows[i].len);
    }
}

static void test_varints_written_are_read(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int d = -1; d <= 1; d++) {
            uint64_t v = (UINT64_C(1) << bit) + (uint64_t)d;
            struct buf b = buf_heap(32);
            buf_uvarint(&b, v);
            buf_svarint(&b, (int64_t)v);
            buf_svarint(&b, (int64_t)(0 - v));
            struct reader r = reader_make(buf_view(&b));
            assert_true(rd_uvarint(&r) == v);
            assert_true(rd_svarint(&r) == (int64_t)v);
            assert_true(rd_svarint(&r) == (int64_t)(0 - v));
            assert_true(reader_done(&r));
            buf_release(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_a_short_read_moves_nothing_and_sticks),
        cmocka_unit_test(test_bytes),           cmocka_unit_test(test_empty_input),
        cmocka_unit_test(test_varints_refused), cmocka_unit_test(test_varints_written_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
