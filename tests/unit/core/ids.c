#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "core/ids.h"

#define THREADS 4
#define EACH    20000

static void test_ids_grow_with_time(void **state)
{
    (void)state;
    clock_fake(INT64_C(1795457460000000), 0);
    uint64_t first = id_new();
    assert_true(first > 0 && first <= INT64_MAX);
    uint64_t second = id_new();
    assert_true(second > first);
    clock_fake(INT64_C(1795457460001000), 0);
    uint64_t later = id_new();
    assert_true(later >> 21 == (first >> 21) + 1); // the next millisecond
    clock_fake(INT64_C(1795457000000000), 0);
    assert_true(id_new() == later + 1); // a clock set back does not set ids back
    clock_fake(0, 0);
    assert_true(id_new() == later + 2);
    clock_fake_off();
}

static void *make_ids(void *arg)
{
    uint64_t *ids = arg;
    for (size_t i = 0; i < EACH; i++) {
        ids[i] = id_new();
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void test_threads_never_share_an_id(void **state)
{
    (void)state;
    static uint64_t ids[THREADS * EACH];
    pthread_t threads[THREADS];
    for (size_t t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_create(&threads[t], NULL, make_ids, ids + t * EACH), 0);
    }
    for (size_t t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
    }
    for (size_t t = 0; t < THREADS; t++) {
        for (size_t i = 1; i < EACH; i++) {
            assert_true(ids[t * EACH + i] > ids[t * EACH + i - 1]);
        }
    }
    qsort(ids, THREADS * EACH, sizeof(ids[0]), by_value);
    for (size_t i = 1; i < THREADS * EACH; i++) {
        assert_true(ids[i] != ids[i - 1]);
    }
}

static void row_ids_read_back(void **state)
{
    (void)state;
    static const uint64_t rows[] = {0, 1, UINT64_C(0x0123456789abcdef), INT64_MAX};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[ROW_ID_LEN + 1];
        uint64_t back = 77;
        row_id_text(rows[i], text);
        assert_true(row_id_parse(slice_str(text), &back));
        assert_true(back == rows[i]);
    }
    static const char *const bad[] = {"",
                                      "0",
                                      "000000000000001",
                                      "00000000000000001",
                                      "000000000000000g",
                                      "8000000000000000",
                                      "ffffffffffffffff",
                                      "0x00000000000001"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t back = 77;
        assert_false(row_id_parse(slice_str(bad[i]), &back));
        assert_int_equal(back, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_ids_read_back),
        cmocka_unit_test(test_ids_grow_with_time),
        cmocka_unit_test(test_threads_never_share_an_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
