// Time zones: the same local time as libc finds, for many zones and times; and files that are none.
#include "expr/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/rand.h"
#include "unit/expr/zoneinfo.h"

static struct expr_zone_row rows[EXPR_ZONE_ROWS_MAX];

// North and south, half hours, summer times in the night before, none at all, days that were left out.
static const char *const zones[] = {
    "Europe/Berlin", "America/New_York",  "America/Santiago", "Australia/Lord_Howe", "Asia/Kolkata",
    "Asia/Gaza",     "Africa/Casablanca", "Pacific/Apia",     "America/St_Johns",    "Asia/Tokyo",
    "Europe/Dublin", "Etc/UTC",           "Antarctica/Troll", "America/Nuuk",
};

static void as_libc(void **state)
{
    (void)state;
    for (size_t z = 0; z < sizeof(zones) / sizeof(zones[0]); z++) {
        unsigned count;
        assert_int_equal(zoneinfo_load(NULL, slice_str(zones[z]), rows, EXPR_ZONE_ROWS_MAX, &count), ST_OK);
        assert_int_equal(setenv("TZ", zones[z], 1), 0);
        tzset();
        for (unsigned i = 0; i < 20000; i++) {
            // Around a change, or anywhere from 1850 to 2100.
            int64_t at = i % 2 == 0 && count > 1
                             ? rows[1 + rand_u64() % (count - 1)].from_us / 1000000 + (int64_t)(rand_u64() % 5) - 2
                             : (int64_t)(rand_u64() % 7889000000) - 3786000000;
            time_t t = (time_t)at;
            struct tm tm;
            assert_non_null(localtime_r(&t, &tm));
            if (expr_zone_offset_us(rows, count, at * 1000000) != tm.tm_gmtoff * INT64_C(1000000)) {
                fail_msg("%s at %lld: %lld s, not %ld", zones[z], (long long)at,
                         (long long)(expr_zone_offset_us(rows, count, at * 1000000) / 1000000), tm.tm_gmtoff);
            }
        }
    }
    unsetenv("TZ");
    tzset();
}

static void broken_files(void **state)
{
    (void)state;
    static uint8_t file[65536];
    FILE *f = fopen("/usr/share/zoneinfo/Europe/Berlin", "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, sizeof(file), f);
    fclose(f);
    unsigned count;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(expr_zone_read(slice_make(file, i), rows, EXPR_ZONE_ROWS_MAX, &count), ST_MALFORMED);
        assert_int_equal(count, 0);
    }
    assert_int_equal(expr_zone_read(slice_make(file, n), rows, EXPR_ZONE_ROWS_MAX, &count), ST_OK);
    unsigned needed = count;
    assert_int_equal(expr_zone_read(slice_make(file, n), rows, needed, &count), ST_OK);
    assert_int_equal(expr_zone_read(slice_make(file, n), rows, needed - 1, &count), ST_TOO_LARGE);
    for (size_t i = 0; i < n * 3; i++) {
        static const uint8_t changes[] = {0x01, 0x80, 0xff};
        file[i / 3] ^= changes[i % 3];
        if (expr_zone_read(slice_make(file, n), rows, EXPR_ZONE_ROWS_MAX, &count) == ST_OK) {
            assert_in_range(count, 1, EXPR_ZONE_ROWS_MAX);
            for (unsigned k = 1; k < count; k++) {
                assert_true(rows[k].from_us >= rows[k - 1].from_us);
            }
        }
        file[i / 3] ^= changes[i % 3];
    }
    file[4] = 0;
    assert_int_equal(expr_zone_read(slice_make(file, n), rows, EXPR_ZONE_ROWS_MAX, &count), ST_UNSUPPORTED);
}

static void fixed(void **state)
{
    (void)state;
    int64_t us;
    assert_true(expr_zone_fixed(SLICE("UTC"), &us) && us == 0);
    assert_true(expr_zone_fixed(SLICE("+02:00"), &us) && us == 7200000000);
    assert_true(expr_zone_fixed(SLICE("-09:30"), &us) && us == -34200000000);
    assert_false(expr_zone_fixed(SLICE("+2:00"), &us));
    assert_false(expr_zone_fixed(SLICE("+24:00"), &us));
    assert_false(expr_zone_fixed(SLICE("+02:0x"), &us));
    assert_false(expr_zone_fixed(SLICE("CET"), &us));
    assert_false(expr_zone_fixed(SLICE(""), &us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_libc),
        cmocka_unit_test(broken_files),
        cmocka_unit_test(fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
