// ts_part.c: names of partitions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/ts_priv.h"

static void names_of_partitions(void **state)
{
    (void)state;
    static const struct {
        int32_t day;
        const char *name;
    } days[] = {{0, "1970-01-01.db"},     {59, "1970-03-01.db"},    {11016, "2000-02-29.db"},
                {19675, "2023-11-14.db"}, {20781, "2026-11-24.db"}, {2932896, "9999-12-31.db"}};
    for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        char path[64];
        int32_t day = -1;
        assert_true(ts_part_name("x", days[i].day, "", path, sizeof(path)));
        assert_string_equal(path + 2, days[i].name);
        assert_true(ts_part_parse(days[i].name, &day));
        assert_int_equal(day, days[i].day);
    }
    for (int32_t day = 0; day < 200000; day++) {
        char path[64];
        int32_t back = -1;
        assert_true(ts_part_name("x", day, "", path, sizeof(path)));
        assert_true(ts_part_parse(path + 2, &back));
        assert_int_equal(back, day);
    }
    int32_t day = 0;
    assert_false(ts_part_parse("2023-13-14.db", &day));
    assert_false(ts_part_parse("2023-11-14.dbx", &day));
    assert_false(ts_part_parse("catalog.db", &day));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_partitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
