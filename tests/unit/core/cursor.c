// Cursors: round trips, and that anything else is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rand.h"
#include "core/cursor.h"

static void round_trips(void **state)
{
    (void)state;
    char text[CURSOR_TEXT_MAX + 1];
    memset(text, 'x', sizeof(text));
    rand_seed(3);
    for (size_t len = 0; len <= CURSOR_TEXT_MAX; len++) {
        uint8_t mem[CURSOR_MAX], back_mem[CURSOR_MAX];
        struct buf out = buf_fixed(mem, sizeof(mem));
        struct cursor back = {.kind = 0};
        struct cursor c = {
            .kind = (uint8_t)len, .a = (int64_t)rand_u64(), .b = (int64_t)rand_u64(), .text = slice_make(text, len)};
        assert_true(cursor_encode(&c, &out));
        assert_int_equal(cursor_decode(buf_view(&out), back_mem, &back, NULL), ST_OK);
        assert_int_equal(back.kind, c.kind);
        assert_true(back.a == c.a && back.b == c.b && slice_eq(back.text, c.text));
        for (size_t i = 0; i < out.len; i++) { // it goes into URLs as it is
            assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", mem[i]));
        }
    }
    uint8_t mem[2 * CURSOR_MAX];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct cursor c = {.text = slice_make(text, CURSOR_TEXT_MAX + 1)};
    assert_false(cursor_encode(&c, &out));
}

static void rubbish_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "A", "AAAAAAAAAAAAAAAAAAAAAA", "!!!!", "AAAA====", "\xff\xff"};
    char large[CURSOR_MAX + 2];
    uint8_t mem[CURSOR_MAX];
    struct cursor c = {.kind = 77};
    memset(large, 'A', sizeof(large));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = {.code = ST_OK};
        assert_int_equal(cursor_decode(slice_str(bad[i]), mem, &c, &err), ST_INVALID);
        assert_string_equal(err.where, "cursor");
    }
    assert_int_equal(cursor_decode(slice_make(large, sizeof(large)), mem, &c, NULL), ST_INVALID);
    assert_int_equal(c.kind, 77); // untouched
}

static void kinds_are_kept_apart(void **state)
{
    (void)state;
    uint8_t mem[CURSOR_MAX], back_mem[CURSOR_MAX];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct cursor c = {.kind = 3, .a = 9, .text = SLICE("t")};
    struct cursor at = {.kind = 5, .a = 1};
    assert_true(cursor_encode(&c, &out));
    assert_int_equal(cursor_read((struct slice){NULL, 0}, 5, back_mem, &at, NULL), ST_OK);
    assert_int_equal(at.a, 1);
    assert_int_equal(cursor_read(buf_view(&out), 5, back_mem, &at, NULL), ST_INVALID);
    assert_int_equal(at.a, 1);
    assert_int_equal(cursor_read(buf_view(&out), 3, back_mem, &at, NULL), ST_OK);
    assert_int_equal(at.a, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(rubbish_is_refused),
                                       cmocka_unit_test(kinds_are_kept_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
