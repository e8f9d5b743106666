// Limits of tenants: stored, in force after the commit, there again after a restart, and whose they are.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/policy/limit.h"
#include "lib/testcore.h"

static struct testcore t;
static struct quotas *quotas;

static void start(void)
{
    struct quota_conf conf = {.client_messages = 0};
    conf.tenant[QUOTA_CONNECTIONS] = 5;
    assert_int_equal(quotas_new(&conf, 1, &quotas, NULL), ST_OK);
    quotas_set(t.core, quotas);
    assert_int_equal(testcore_run(&t, limit_start, NULL), ST_OK);
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    quotas_free(quotas);
    testcore_close(&t);
    return 0;
}

struct set {
    const char *tenant;
    int64_t value;
    bool fail;
};
static enum status run_set(struct tx *tx, void *arg, struct err *err)
{
    const struct set *s = arg;
    enum status st = limit_set(tx, slice_str(s->tenant), QUOTA_CONNECTIONS, s->value, err);
    if (st == ST_OK) {
        st = limit_write(tx, slice_str(s->tenant), &t.w, err); // in the same answer
    }
    return st == ST_OK && s->fail ? err_set(err, ST_INTERNAL, "as asked") : st;
}

static enum status run_write(struct tx *tx, void *arg, struct err *err)
{
    return limit_write(tx, slice_str(arg), &t.w, err);
}

// The "limit" and "default" of connections in the last answer.
static int64_t answered(bool *ret_default)
{
    json_t *doc = testcore_json(&t);
    const json_t *limits = json_object_get(doc, "limits");
    assert_int_equal(json_array_size(limits), QUOTA__COUNT);
    const json_t *one = json_array_get(limits, QUOTA_CONNECTIONS);
    int64_t limit = json_integer_value(json_object_get(one, "limit"));
    *ret_default = json_is_true(json_object_get(one, "default"));
    json_decref(doc);
    return limit;
}

static int64_t shown(bool *ret_default)
{
    assert_int_equal(testcore_run(&t, run_write, NULL), ST_OK);
    return answered(ret_default);
}

static void test_set_and_taken_back(void **state)
{
    (void)state;
    bool dflt = false;
    assert_int_equal(shown(&dflt), 5);
    assert_true(dflt);
    struct set s = {.tenant = NULL, .value = 2};
    assert_int_equal(testcore_run(&t, run_set, &s), ST_OK);
    assert_int_equal(quota_limit(quotas, 1, QUOTA_CONNECTIONS), 2);
    assert_int_equal(shown(&dflt), 2);
    assert_false(dflt);
    s.value = QUOTA_DEFAULT;
    assert_int_equal(testcore_run(&t, run_set, &s), ST_OK);
    assert_int_equal(answered(&dflt), 5);
    assert_true(dflt);
    assert_int_equal(quota_limit(quotas, 1, QUOTA_CONNECTIONS), 5);
    s.value = -2;
    assert_int_equal(testcore_run(&t, run_set, &s), ST_INVALID);
}

static void test_a_failed_change_changes_nothing(void **state)
{
    (void)state;
    bool dflt = false;
    struct set s = {.value = 2, .fail = true};
    assert_int_equal(testcore_run(&t, run_set, &s), ST_INTERNAL);
    assert_int_equal(quota_limit(quotas, 1, QUOTA_CONNECTIONS), 5);
    assert_int_equal(shown(&dflt), 5);
}

static void test_there_again_after_a_restart(void **state)
{
    (void)state;
    struct set s = {.value = 0};
    assert_int_equal(testcore_run(&t, run_set, &s), ST_OK);
    quotas_free(quotas);
    testcore_stop(&t);
    testcore_reopen(&t);
    start();
    assert_int_equal(quota_limit(quotas, 1, QUOTA_CONNECTIONS), 0);
}

static void test_other_tenants(void **state)
{
    (void)state;
    struct set s = {.tenant = "other", .value = 1};
    assert_int_equal(testcore_run(&t, run_write, (void *)"other"), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_set, &s), ST_NOT_FOUND);
    t.who.tenant = 7; // of whom "default" is another one
    assert_int_equal(testcore_run(&t, run_write, (void *)"default"), ST_NOT_FOUND);
    t.who.perms = perms_all();
    assert_int_equal(testcore_run(&t, run_write, (void *)"default"), ST_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_set_and_taken_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_failed_change_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_there_again_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_tenants, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
