#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/metrics.h"

static struct metric stored = {.name = "t_messages_total", .labels = "outcome=\"stored\"", .help = "Messages."};
static struct metric refused = {.name = "t_messages_total", .labels = "outcome=\"refused\"", .help = "Messages."};
static struct metric online = {.name = "t_connections", .labels = "", .help = "Open.", .kind = METRIC_GAUGE};

static void refresh(void *arg, struct buf *out)
{
    metric_set(&online, *(int *)arg);
    buf_str(out, "# collected\n");
}

static void test_text_format(void **state)
{
    (void)state;
    metric_register(&stored);
    metric_register(&online);
    metric_register(&refused);
    metric_register(&stored); // changes nothing
    metric_add(&stored, 3);
    metric_add(&stored, 2);
    int n = 12;
    assert_true(metric_collector(refresh, &n));
    struct buf out = buf_heap(4096);
    metrics_write(&out);
    assert_true(slice_eq_str(buf_view(&out), "# collected\n"
                                             "# HELP t_connections Open.\n"
                                             "# TYPE t_connections gauge\n"
                                             "t_connections 12\n"
                                             "# HELP t_messages_total Messages.\n"
                                             "# TYPE t_messages_total counter\n"
                                             "t_messages_total{outcome=\"refused\"} 0\n"
                                             "t_messages_total{outcome=\"stored\"} 5\n"));
    buf_clear(&out);
    metric_collector_remove(refresh, &n);
    n = 13;
    metrics_write(&out);
    assert_true(slice_starts(buf_view(&out), SLICE("# HELP t_connections Open.\n# TYPE t_connections gauge\n"
                                                   "t_connections 12\n")));
    buf_release(&out);
}

static void test_collectors_are_bounded(void **state)
{
    (void)state;
    int n = 0;
    unsigned taken = 0;
    while (taken < 1000 && metric_collector(refresh, &n)) {
        taken++;
    }
    assert_int_equal(taken, 32);
    for (unsigned i = 0; i < taken; i++) {
        metric_collector_remove(refresh, &n);
    }
    assert_true(metric_collector(refresh, &n));
    metric_collector_remove(refresh, &n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_format),
        cmocka_unit_test(test_collectors_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
