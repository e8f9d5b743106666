#include "core/when.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void milliseconds_with_no_more_decimals_than_needed(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } rows[] = {
        {0, "0"},
        {1, "0.001"},
        {10, "0.01"},
        {100, "0.1"},
        {1000, "1"},
        {10000, "10"},
        {1700000000000001, "1700000000000.001"},
        {1700000000000120, "1700000000000.12"},
        {1700000000000000, "1700000000000"},
        {-1, "-0.001"},
        {-1500, "-1.5"},
        {INT64_MAX, "9223372036854775.807"},
        {INT64_MIN, "-9223372036854775.808"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t mem[64];
        struct buf out = buf_fixed(mem, sizeof(mem));
        struct jw w;
        jw_init(&w, &out);
        jw_time_ms(&w, rows[i].us);
        assert_int_equal(out.len, strlen(rows[i].text));
        assert_memory_equal(out.p, rows[i].text, out.len);
    }
}

static void text(void **state)
{
    (void)state;
    uint8_t mem[64];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &out);
    jw_time_text(&w, 1700000000000001);
    static const char want[] = "\"2023-11-14T22:13:20.000001Z\"";
    assert_int_equal(out.len, sizeof(want) - 1);
    assert_memory_equal(out.p, want, out.len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(milliseconds_with_no_more_decimals_than_needed),
        cmocka_unit_test(text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
