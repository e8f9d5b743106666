// The core: operations alone in their savepoints, hooks, events after the commit, readers, repeated work, the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/core.h"

#include <stdlib.h>
#include <unistd.h>

static const struct db_migration migrations[] = {{1, "test", "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT) STRICT;"}};
static const struct sql_def statements[] = {{"put", "INSERT INTO t (k, v) VALUES (?, 'x')"},
                                            {"count", "SELECT count(*) FROM t"}};

struct fixture {
    char dir[64];
    struct core *core;
    struct loop *loop;
};

static enum status open_core(struct fixture *f, struct err *err)
{
    const struct sql_def *tables[] = {statements};
    size_t lens[] = {2};
    struct core_conf conf = {.dir = f->dir,
                             .migrations = migrations,
                             .migrations_len = 1,
                             .sql_tables = tables,
                             .sql_lens = lens,
                             .sql_tables_len = 1,
                             .readers = 2,
                             .queue_max = 100000};
    return core_new(&conf, &f->core, err);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = {.code = ST_OK};
    snprintf(f->dir, sizeof(f->dir), "/tmp/muster-core-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    if (open_core(f, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    f->loop = loop_new("test", &err);
    assert_non_null(f->loop);
    *state = f;
    return 0;
}

static void start(struct fixture *f)
{
    struct err err = {.code = ST_OK};
    assert_int_equal(core_start(f->core, &err), ST_OK);
    assert_int_equal(loop_start(f->loop, &err), ST_OK);
}

static void stop(struct fixture *f)
{
    core_stop(f->core);
    loop_stop(f->loop);
    loop_join(f->loop);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    loop_free(f->loop);
    core_free(f->core);
    snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

// One operation of a test: puts a row, may fail after it, notes what its hooks were told.
struct put {
    struct op op;
    int64_t key;
    bool fail;
    int committed, undone;
    int64_t count; // readers: rows seen
    _Atomic bool done;
};

static void on_commit(struct core *c, void *arg)
{
    (void)c;
    ((struct put *)arg)->committed++;
}

static void on_undo(struct core *c, void *arg)
{
    (void)c;
    ((struct put *)arg)->undone++;
}

static enum status put_run(struct tx *tx, struct op *op, struct err *err)
{
    struct put *p = (struct put *)op;
    assert_false(tx->ro);
    assert_int_equal(tx->who->kind, WHO_SYSTEM);
    STMT(s, tx->db, &statements[0]);
    stmt_bind_i64(s, 1, p->key);
    enum status st = stmt_run(s, err);
    if (st == ST_OK && !tx_after_commit(tx, on_commit, on_undo, p)) {
        return ST_NOMEM;
    }
    if (st == ST_OK && p->fail) {
        return err_set(err, ST_INVALID, "as asked");
    }
    return st;
}

static enum status count_run(struct tx *tx, struct op *op, struct err *err)
{
    struct put *p = (struct put *)op;
    bool row = false;
    assert_true(tx->ro);
    assert_null(tx->ts);
    assert_non_null(tx->ts_reader);
    STMT(s, tx->db, &statements[1]);
    enum status st = stmt_step(s, &row, err);
    p->count = row ? col_i64(s, 0) : -1;
    return st;
}

static void put_done(struct op *op)
{
    ((struct put *)op)->done = true;
}

static void submit(struct fixture *f, struct put *p, int64_t key, bool fail)
{
    *p = (struct put){
        .op = {.run = put_run, .done = put_done, .reply_to = f->loop, .name = "test.put"}, .key = key, .fail = fail};
    core_submit(f->core, &p->op);
}

static void wait_done(struct put *p)
{
    for (int i = 0; i < 10000 && !p->done; i++) {
        usleep(500);
    }
    assert_true(p->done);
}

static int64_t rows(struct fixture *f)
{
    struct put p = {.op = {.run = count_run, .done = put_done, .reply_to = f->loop, .name = "test.count"}};
    core_read(f->core, &p.op);
    wait_done(&p);
    assert_int_equal(p.op.status, ST_OK);
    return p.count;
}

static void test_failure_is_alone(void **state)
{
    struct fixture *f = *state;
    struct put p[30];
    start(f);
    for (int i = 0; i < 30; i++) {
        submit(f, &p[i], i / 3, i % 3 == 1); // of three: stored, fails, clashes with the first
    }
    for (int i = 0; i < 30; i++) {
        wait_done(&p[i]);
        static const enum status want[3] = {ST_OK, ST_INVALID, ST_EXISTS};
        // The second fails with a clash too when the first was there, which it is.
        enum status expected = i % 3 == 1 ? ST_EXISTS : want[i % 3];
        assert_int_equal(p[i].op.status, expected);
        assert_int_equal(p[i].committed, i % 3 == 0);
        assert_int_equal(p[i].undone, 0);
    }
    assert_int_equal(rows(f), 10);
    stop(f);
}

static void test_hooks_of_the_failed_are_undone(void **state)
{
    struct fixture *f = *state;
    struct put p[20];
    start(f);
    for (int i = 0; i < 20; i++) {
        submit(f, &p[i], i, i % 2 == 1);
    }
    for (int i = 0; i < 20; i++) {
        wait_done(&p[i]);
        assert_int_equal(p[i].op.status, i % 2 == 1 ? ST_INVALID : ST_OK);
        assert_int_equal(p[i].committed, i % 2 == 0);
        assert_int_equal(p[i].undone, i % 2 == 1);
    }
    assert_int_equal(rows(f), 10);
    struct core_stats stats;
    core_stats(f->core, &stats);
    assert_int_equal(stats.ops_failed, 10);
    assert_true(stats.batches <= stats.ops);
    stop(f);
}

static enum status boot_put(struct tx *tx, void *arg, struct err *err)
{
    STMT(s, tx->db, &statements[0]);
    stmt_bind_i64(s, 1, *(int64_t *)arg);
    enum status st = stmt_run(s, err);
    return st == ST_OK && *(int64_t *)arg == 99 ? err_set(err, ST_INVALID, "not this one") : st;
}

static void test_boot(void **state)
{
    struct fixture *f = *state;
    struct err err = {.code = ST_OK};
    int64_t key = 1;
    assert_int_equal(core_boot(f->core, boot_put, &key, &err), ST_OK);
    key = 99;
    assert_int_equal(core_boot(f->core, boot_put, &key, &err), ST_INVALID);
    assert_string_equal(err.text, "not this one");
    start(f);
    assert_int_equal(rows(f), 1);
    stop(f);
}

static _Atomic int ticks;

static enum status tick(struct tx *tx, struct err *err)
{
    (void)tx;
    (void)err;
    ticks++;
    return ST_OK;
}

static void test_every(void **state)
{
    struct fixture *f = *state;
    ticks = 0;
    core_every(f->core, 5, tick);
    start(f);
    for (int i = 0; i < 1000 && ticks < 5; i++) {
        usleep(2000);
    }
    assert_true(ticks >= 5);
    stop(f);
}

static void test_state(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(core_state(f->core), CORE_STARTING);
    start(f);
    assert_int_equal(core_state(f->core), CORE_STARTING); // threads alone are not ready
    core_set_ready(f->core);
    assert_int_equal(core_state(f->core), CORE_READY);
    stop(f);
    assert_int_equal(core_state(f->core), CORE_STOPPING);
}

static void test_stop_commits_what_is_queued(void **state)
{
    struct fixture *f = *state;
    static struct put p[2000];
    start(f);
    for (int i = 0; i < 2000; i++) {
        submit(f, &p[i], i, false);
    }
    core_stop(f->core);
    struct put late;
    submit(f, &late, 5000, false);
    for (int i = 0; i < 2000; i++) {
        wait_done(&p[i]);
        assert_int_equal(p[i].op.status, ST_OK);
    }
    wait_done(&late);
    assert_int_equal(late.op.status, ST_SHUTDOWN);
    loop_stop(f->loop);
    loop_join(f->loop);
    // On disk, seen by another process to come.
    core_free(f->core);
    struct err err = {.code = ST_OK};
    assert_int_equal(open_core(f, &err), ST_OK);
    struct db *db = NULL;
    char path[128];
    snprintf(path, sizeof(path), "%s/state.db", f->dir);
    assert_int_equal(db_open(path, DB_READER, &db, &err), ST_OK);
    STMT(s, db, &statements[1]);
    bool row = false;
    assert_int_equal(stmt_step(s, &row, &err), ST_OK);
    assert_int_equal(col_i64(s, 0), 2000);
    stmt_reset(s);
    s = NULL;
    db_close(db);
}

static enum status event_run(struct tx *tx, struct op *op, struct err *err)
{
    const struct put *p = (const struct put *)op;
    if (!tx_event(tx, event_new(EV_TWIN, 1, 1, "d1", tx->now_us, SLICE("{}")))) {
        return ST_NOMEM;
    }
    return p->fail ? err_set(err, ST_INVALID, "as asked") : ST_OK;
}

static _Atomic int delivered;

static void deliver(void *arg, const struct event *ev)
{
    (void)arg;
    (void)ev;
    delivered++;
}

static void no_gap(void *arg)
{
    (void)arg;
    fail();
}

static void test_events_of_the_failed_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct events_filter filter = {.tenant = 1, .types = 1U << EV_TWIN};
    delivered = 0;
    struct events_sub *sub =
        events_listen(core_events(f->core), f->loop, &filter, (struct slice){NULL, 0}, deliver, no_gap, NULL);
    assert_non_null(sub);
    start(f);
    struct put p[10];
    for (int i = 0; i < 10; i++) {
        p[i] = (struct put){.op = {.run = event_run, .done = put_done, .reply_to = f->loop, .name = "test.event"},
                            .fail = i % 2 == 1};
        core_submit(f->core, &p[i].op);
    }
    for (int i = 0; i < 10; i++) {
        wait_done(&p[i]);
    }
    usleep(20000);
    assert_int_equal(delivered, 5);
    stop(f);
    events_unlisten(sub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_failure_is_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hooks_of_the_failed_are_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_boot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_commits_what_is_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events_of_the_failed_are_dropped, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
