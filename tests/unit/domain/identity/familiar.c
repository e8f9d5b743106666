// Who is remembered, how long, and that a full place forgets the one not seen for longest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/identity/familiar.h"

#define DAY_US 86400000000LL

static void remembers_for_a_day(void **state)
{
    (void)state;
    struct familiar *f = familiar_new();
    assert_non_null(f);
    assert_false(familiar_has(f, 7, 0));
    familiar_add(f, 7, 1000);
    assert_true(familiar_has(f, 7, 1000));
    assert_false(familiar_has(f, 8, 1000));
    assert_true(familiar_has(f, 7, 999 + DAY_US));
    assert_false(familiar_has(f, 7, 1000 + DAY_US));
    familiar_add(f, 7, 2000 + DAY_US);
    assert_true(familiar_has(f, 7, 2000 + DAY_US));
    familiar_free(f);
}

static void the_oldest_makes_room(void **state)
{
    (void)state;
    struct familiar *f = familiar_new();
    assert_non_null(f);
    for (uint64_t i = 0; i < 4; i++) {
        familiar_add(f, 5 + i * 4096, 100 + (int64_t)i);
    }
    familiar_add(f, 5, 200); // seen again: no longer the oldest
    familiar_add(f, 5 + 4 * 4096, 300);
    assert_true(familiar_has(f, 5, 300));
    assert_false(familiar_has(f, 5 + 4096, 300));
    for (uint64_t i = 2; i <= 4; i++) {
        assert_true(familiar_has(f, 5 + i * 4096, 300));
    }
    familiar_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(remembers_for_a_day), cmocka_unit_test(the_oldest_makes_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
