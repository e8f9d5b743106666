// The telemetry of a deleted device goes, whatever happens between the deletion and the erasure.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

#include "base/map.h"
#include "domain/registry/registry_priv.h"
#include "lib/testcore.h"

#define POINT_US INT64_C(1700000000000000)
#define KILLED   42

static struct testcore t;
static struct device_ref ref;

static enum status stage_point(struct ts *ts, const struct device_ref *d)
{
    struct slice metric = SLICE("temp");
    struct ts_device *td = ts_device(ts, d->tenant, d->row);
    assert_non_null(td);
    struct ts_value v = {.type = TS_INT, .i = 21};
    return ts_put(ts, td, POINT_US, metric, hash_bytes(metric), v, false, NULL);
}

static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    json_t *doc = testcore_doc("{'id':'d1'}");
    enum status st = device_create(tx, doc, &ref, err);
    json_decref(doc);
    return st == ST_OK ? stage_point(tx->ts, &ref) : st;
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    enum status st = device_find(tx, SLICE("d1"), &ref, err);
    return st == ST_OK ? device_delete(tx, &ref, -1, err) : st;
}

static void end_process(struct core *c, void *arg)
{
    (void)c;
    (void)arg;
    _exit(KILLED);
}

// The hook runs before the one of the deletion: after the commit, before the erasure.
static enum status run_delete_killed(struct tx *tx, void *arg, struct err *err)
{
    assert_true(tx_after_commit(tx, end_process, NULL, NULL));
    return run_delete(tx, arg, err);
}

static void hinder(struct core *c, void *arg)
{
    (void)c;
    assert_int_equal(stage_point(arg, &ref), ST_OK); // an erasure within a batch is refused
}

static void hinder_no_more(struct core *c, void *arg)
{
    (void)c;
    ts_abandon(arg);
}

static enum status run_delete_hindered(struct tx *tx, void *arg, struct err *err)
{
    assert_true(tx_after_commit(tx, hinder, NULL, tx->ts));
    enum status st = run_delete(tx, arg, err);
    assert_true(tx_after_commit(tx, hinder_no_more, NULL, tx->ts));
    return st;
}

static enum status run_retry(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return device_erase_retry(tx, err);
}

struct left {
    size_t metrics;
    int64_t rows;
};

static void ignore_value(void *arg, struct slice metric, int64_t ts_us, struct ts_value v)
{
    (void)arg;
    (void)metric;
    (void)ts_us;
    (void)v;
}

static enum status run_left(struct tx *tx, void *arg, struct err *err)
{
    static const struct sql_def count = {"erase_count", "SELECT count(*) FROM device_erase"};
    struct left *l = arg;
    l->metrics = ts_last(tx->ts, ref.tenant, ref.row, ignore_value, NULL);
    STMT(s, tx->db, &count);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    l->rows = row ? col_i64(s, 0) : -1;
    return st;
}

static void assert_left(size_t metrics, int64_t rows)
{
    struct left l = {0, -1};
    assert_int_equal(testcore_run(&t, run_left, &l), ST_OK);
    assert_int_equal(l.metrics, metrics);
    assert_int_equal(l.rows, rows);
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_run(&t, registry_start, NULL), ST_OK);
    assert_int_equal(testcore_run(&t, run_create, NULL), ST_OK);
    assert_left(1, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

static void erased_at_once_and_the_row_goes(void **state)
{
    (void)state;
    assert_int_equal(testcore_run(&t, run_delete, NULL), ST_OK);
    assert_left(0, 1);
    assert_int_equal(testcore_run(&t, run_retry, NULL), ST_OK);
    assert_left(0, 0);
}

static void a_kill_before_the_erasure_is_made_good_at_start(void **state)
{
    (void)state;
    testcore_stop(&t);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        testcore_reopen(&t);
        (void)testcore_run(&t, run_delete_killed, NULL);
        _exit(1);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == KILLED);
    testcore_reopen(&t);
    assert_left(1, 1);
    assert_int_equal(testcore_run(&t, registry_start, NULL), ST_OK);
    assert_left(0, 1);
    assert_int_equal(testcore_run(&t, run_retry, NULL), ST_OK);
    assert_left(0, 0);
}

static void a_failed_erasure_is_tried_again(void **state)
{
    (void)state;
    assert_int_equal(testcore_run(&t, run_delete_hindered, NULL), ST_OK);
    assert_left(1, 1);
    assert_int_equal(testcore_run(&t, run_retry, NULL), ST_OK);
    assert_left(0, 1);
    assert_int_equal(testcore_run(&t, run_retry, NULL), ST_OK);
    assert_left(0, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(erased_at_once_and_the_row_goes),
        TEST(a_kill_before_the_erasure_is_made_good_at_start),
        TEST(a_failed_erasure_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
