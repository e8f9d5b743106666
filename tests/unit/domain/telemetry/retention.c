#include "domain/telemetry/retention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/testcore.h"
#include "lib/testlive.h"

#define DAY_US 86400000000LL

struct rule {
    struct testlive *l;
    const char *metric;
    int64_t keep_us;
};

static enum status do_set(struct tx *tx, void *arg, struct err *err)
{
    const struct rule *r = arg;
    return retention_set(tx, slice_str(r->metric), r->keep_us, err);
}

static enum status do_write(struct tx *tx, void *arg, struct err *err)
{
    const struct rule *r = arg;
    return retention_write(tx, &r->l->core.w, err);
}

static enum status set(struct testlive *l, const char *metric, int64_t keep_us)
{
    struct rule r = {l, metric, keep_us};
    return testcore_run(&l->core, do_set, &r);
}

static void assert_rules(struct testlive *l, const char *want_text)
{
    struct rule r = {.l = l};
    assert_int_equal(testcore_run(&l->core, do_write, &r), ST_OK);
    json_t *have = testcore_json(&l->core);
    json_t *want = testcore_doc(want_text);
    assert_true(json_equal(have, want));
    json_decref(have);
    json_decref(want);
}

static void rules_are_kept_per_tenant_and_metric(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    assert_rules(&l, "{'default':null,'metrics':{}}");
    assert_int_equal(set(&l, "cpu.util", 7 * DAY_US), ST_OK);
    assert_int_equal(set(&l, "", 36 * 3600000000LL), ST_OK);
    assert_int_equal(set(&l, "alarm", 0), ST_OK);
    assert_rules(&l, "{'default':'36h','metrics':{'alarm':'forever','cpu.util':'7d'}}");
    assert_int_equal(set(&l, "cpu.util", 90 * 60000000LL), ST_OK);
    assert_int_equal(set(&l, "alarm", RETENTION_DEFAULT), ST_OK);
    assert_rules(&l, "{'default':'36h','metrics':{'cpu.util':'90m'}}");
    l.core.who.tenant = 2;
    assert_rules(&l, "{'default':null,'metrics':{}}");
    l.core.who.tenant = 1;

    testlive_stop_core(&l); // a restart tells the telemetry store again
    testcore_reopen(&l.core);
    testlive_start(&l);
    assert_rules(&l, "{'default':'36h','metrics':{'cpu.util':'90m'}}");
    testlive_close(&l);
}

static void refused_rules(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    static const int64_t bad[] = {1, RETENTION_KEEP_MIN - 1, RETENTION_KEEP_MIN + 1, RETENTION_KEEP_MAX + 1000000, -2};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(set(&l, "t", bad[i]), ST_INVALID);
        assert_string_equal(l.core.err.where, "/keep");
    }
    char name[TS_METRIC_MAX + 2];
    snprintf(name, sizeof(name), "%0*d", TS_METRIC_MAX + 1, 0);
    assert_int_equal(set(&l, name, DAY_US), ST_INVALID);
    for (int i = 0; i < RETENTION_RULES_MAX; i++) {
        char metric[16];
        snprintf(metric, sizeof(metric), "m%d", i);
        assert_int_equal(set(&l, metric, DAY_US), ST_OK);
    }
    assert_int_equal(set(&l, "m5", 2 * DAY_US), ST_OK); // a rule that is there may change
    assert_int_equal(set(&l, "one.more", DAY_US), ST_LIMIT);
    assert_int_equal(set(&l, "m5", RETENTION_DEFAULT), ST_OK);
    assert_int_equal(set(&l, "one.more", DAY_US), ST_OK);
    testlive_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_kept_per_tenant_and_metric),
        cmocka_unit_test(refused_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
