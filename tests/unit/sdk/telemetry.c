#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/slice.h"
#include "muster/muster.h"

static void builds(void **state)
{
    (void)state;
    char mem[256];
    struct muster_telemetry t;
    muster_telemetry_begin(&t, mem, sizeof(mem), 1700000000000);
    muster_telemetry_add_double(&t, "t", 21.5);
    muster_telemetry_add_double(&t, "nan", (double)NAN);
    muster_telemetry_add_double(&t, "inf", (double)INFINITY);
    muster_telemetry_add_int(&t, "n", -3);
    muster_telemetry_add_bool(&t, "on", true);
    muster_telemetry_add_str(&t, "s\"", "a\nb");
    assert_int_equal(muster_telemetry_end(&t), MUSTER_OK);
    assert_true(
        slice_eq_str(slice_make(t.json, t.len),
                     "{\"ts\":1700000000000,\"values\":{\"t\":21.5,\"n\":-3,\"on\":true,\"s\\\"\":\"a\\nb\"}}"));
    muster_telemetry_begin(&t, mem, sizeof(mem), MUSTER_NO_TIME);
    assert_int_equal(muster_telemetry_end(&t), MUSTER_E_NOT_FOUND);
    muster_telemetry_begin(&t, mem, sizeof(mem), MUSTER_NO_TIME);
    muster_telemetry_add_int(&t, "a", 1);
    assert_int_equal(muster_telemetry_end(&t), MUSTER_OK);
    assert_true(slice_eq_str(slice_make(t.json, t.len), "{\"values\":{\"a\":1}}"));
}

static void never_writes_past_its_memory(void **state)
{
    (void)state;
    const size_t whole = strlen("{\"ts\":1,\"values\":{\"abc\":1.25,\"d\":true}}");
    for (size_t size = 0; size < 60; size++) {
        char *mem = malloc(size > 0 ? size : 1); // exact, for the address sanitizer
        struct muster_telemetry t;
        muster_telemetry_begin(&t, mem, size, 1);
        muster_telemetry_add_double(&t, "abc", 1.25);
        muster_telemetry_add_bool(&t, "d", true);
        assert_int_equal(muster_telemetry_end(&t), size >= whole ? MUSTER_OK : MUSTER_E_TOO_LARGE);
        free(mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(builds), cmocka_unit_test(never_writes_past_its_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
