// db.c: opening, transactions, migrations, checkpoints, backup, and what happens to a lost transaction.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/db_priv.h"
#include "unit/store/tmpdir.h"

static const struct sql_def insert = {"insert_item", "INSERT INTO item (id, name) VALUES (?1, ?2)"};
static const struct sql_def count = {"count_item", "SELECT count(*) FROM item"};
static const struct sql_def one = {"one_item", "SELECT name, size, data FROM item WHERE id = ?1"};
static const struct sql_def set_data = {"set_data", "UPDATE item SET size = ?2, data = ?3 WHERE id = ?1"};
static const struct sql_def wrong = {"wrong", "SELECT nothing FROM nowhere"};
static const struct sql_def add_part = {"add_part", "INSERT INTO part (item) VALUES (?1)"};
static const struct sql_def endless = {
    "endless", "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"};

static const struct db_migration steps[] = {
    {1, "items",
     "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE CHECK (length(name) < 50), size REAL, data BLOB) "
     "STRICT;"},
    {2, "parts", "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id)) STRICT;"},
};
static const struct db_migration bad_steps[] = {
    {1, "items", "CREATE TABLE item (id INTEGER PRIMARY KEY);"},
    {2, "broken", "CREATE TABLE part (item INTEGER); CREATE TABLE part (item INTEGER);"},
};

struct fixture {
    char dir[256];
    char path[300];
    struct db *db;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    tmpdir_make(f->dir, sizeof(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/state.db", f->dir);
    assert_int_equal(db_open(f->path, DB_WRITER, &f->db, NULL), ST_OK);
    assert_int_equal(db_migrate(f->db, steps, 2, NULL), ST_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    db_close(f->db);
    tmpdir_remove(f->dir);
    test_free(f);
    return 0;
}

static enum status put(struct db *db, int64_t id, const char *name)
{
    STMT(s, db, &insert);
    stmt_bind_i64(s, 1, id);
    stmt_bind_str(s, 2, name);
    return stmt_run(s, NULL);
}

static int64_t items(struct db *db)
{
    int64_t n = -1;
    assert_int_equal(db_ask_i64(db, &count, &n, NULL), ST_OK);
    return n;
}

static void file_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char wal[320];
    snprintf(wal, sizeof(wal), "%s-wal", f->path);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void settings_are_in_force(void **state)
{
    struct fixture *f = *state;
    static const struct {
        struct sql_def def;
        int64_t want;
    } asked[] = {
        {{"s1", "PRAGMA synchronous"}, 2},        {{"s2", "PRAGMA foreign_keys"}, 1},
        {{"s3", "PRAGMA trusted_schema"}, 0},     {{"s4", "PRAGMA page_size"}, 4096},
        {{"s5", "PRAGMA wal_autocheckpoint"}, 0}, {{"s6", "PRAGMA application_id"}, DB_APPLICATION_ID},
        {{"s7", "PRAGMA user_version"}, 2},       {{"s8", "PRAGMA busy_timeout"}, 5000},
    };
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        int64_t v = -1;
        assert_int_equal(db_ask_i64(f->db, &asked[i].def, &v, NULL), ST_OK);
        assert_int_equal(v, asked[i].want);
    }
}

static void values_come_back(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f->db, 7, "seven"), ST_OK);
    STMT(u, f->db, &set_data);
    stmt_bind_i64(u, 1, 7);
    stmt_bind_f64(u, 2, 2.5);
    stmt_bind_blob(u, 3, SLICE("a\0b"));
    assert_int_equal(stmt_run(u, NULL), ST_OK);
    assert_int_equal(stmt_changes(u), 1);
    stmt_bind_i64(u, 1, 8);
    assert_int_equal(stmt_run(u, NULL), ST_OK);
    assert_int_equal(stmt_changes(u), 0);

    STMT(s, f->db, &one);
    stmt_bind_i64(s, 1, 7);
    bool row = false;
    assert_int_equal(stmt_step(s, &row, NULL), ST_OK);
    assert_true(row);
    assert_true(slice_eq_str(col_text(s, 0), "seven"));
    assert_true(col_f64(s, 1) == 2.5);
    assert_true(slice_eq(col_blob(s, 2), SLICE("a\0b")));
    assert_int_equal(stmt_step(s, &row, NULL), ST_OK);
    assert_false(row);
    assert_int_equal(stmt_step(s, &row, NULL), ST_OK); // does not start again
    assert_false(row);
    stmt_reset(s);

    assert_int_equal(put(f->db, 9, NULL), ST_OK);
    STMT(n, f->db, &one);
    stmt_bind_i64(n, 1, 9);
    assert_int_equal(stmt_step(n, &row, NULL), ST_OK);
    assert_true(row && col_is_null(n, 0));
    assert_null(col_text(n, 0).p);
    assert_null(col_blob(n, 2).p);
}

static void empty_is_not_null(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f->db, 1, ""), ST_OK);
    STMT(u, f->db, &set_data);
    stmt_bind_i64(u, 1, 1);
    stmt_bind_blob(u, 3, SLICE(""));
    assert_int_equal(stmt_run(u, NULL), ST_OK);
    STMT(s, f->db, &one);
    stmt_bind_i64(s, 1, 1);
    bool row = false;
    assert_int_equal(stmt_step(s, &row, NULL), ST_OK);
    assert_non_null(col_text(s, 0).p);
    assert_non_null(col_blob(s, 2).p);
    assert_int_equal(col_blob(s, 2).len, 0);
}

static void constraints_have_names(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    assert_int_equal(put(f->db, 1, "a"), ST_OK);
    assert_int_equal(put(f->db, 1, "b"), ST_EXISTS);
    assert_int_equal(put(f->db, 2, "a"), ST_EXISTS);
    assert_int_equal(put(f->db, 3, "a name that is longer than the fifty characters allowed here"), ST_CONFLICT);
    STMT(s, f->db, &add_part);
    stmt_bind_i64(s, 1, 99);
    assert_int_equal(stmt_run(s, &err), ST_CONFLICT);
    assert_non_null(strstr(err.text, f->path));
}

static void broken_statement_says_so(void **state)
{
    struct fixture *f = *state;
    struct stmt *s = db_stmt(f->db, &wrong);
    stmt_bind_i64(s, 1, 1);
    bool row = true;
    assert_int_equal(stmt_step(s, &row, NULL), ST_INTERNAL);
    assert_false(row);
    assert_int_equal(col_i64(s, 0), 0);
    stmt_reset(s);
    struct err err = {0};
    assert_int_equal(db_prepare_all(f->db, &wrong, 1, &err), ST_INTERNAL);
    assert_non_null(strstr(err.text, "wrong"));
    assert_int_equal(db_prepare_all(f->db, &insert, 1, NULL), ST_OK);
}

static void bind_out_of_range_fails_the_step(void **state)
{
    struct fixture *f = *state;
    STMT(s, f->db, &insert);
    stmt_bind_i64(s, 3, 1);
    assert_int_equal(stmt_run(s, NULL), ST_INTERNAL);
    assert_int_equal(items(f->db), 0);
}

static void savepoint_undoes_one_operation(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(db_begin(f->db, NULL), ST_OK);
    assert_true(db_in_transaction(f->db));
    assert_false(db_changed(f->db));
    assert_int_equal(db_savepoint(f->db), ST_OK);
    assert_int_equal(put(f->db, 1, "kept"), ST_OK);
    assert_int_equal(db_savepoint_release(f->db), ST_OK);
    assert_int_equal(db_savepoint(f->db), ST_OK);
    assert_int_equal(put(f->db, 2, "undone"), ST_OK);
    db_savepoint_rollback(f->db);
    assert_true(db_changed(f->db));
    assert_int_equal(db_commit(f->db, NULL), ST_OK);
    assert_false(db_in_transaction(f->db));
    assert_int_equal(items(f->db), 1);
    assert_int_equal(db_begin(f->db, NULL), ST_OK);
    assert_int_equal(put(f->db, 3, "gone"), ST_OK);
    db_rollback(f->db);
    assert_int_equal(items(f->db), 1);
}

static void transactions_do_not_nest(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(db_begin(f->db, NULL), ST_OK);
    assert_int_equal(db_begin(f->db, NULL), ST_INTERNAL);
    assert_int_equal(db_commit(f->db, NULL), ST_OK);
    assert_int_equal(db_commit(f->db, NULL), ST_INTERNAL);
    db_rollback(f->db);
}

// SQLite undoes a whole transaction on some errors. What follows in the batch must not commit by itself.
static void lost_transaction_stops_the_batch(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(db_begin(f->db, NULL), ST_OK);
    assert_int_equal(put(f->db, 1, "a"), ST_OK);
    assert_int_equal(sqlite3_exec(f->db->h, "PRAGMA max_page_count = 6", NULL, NULL, NULL), SQLITE_OK);
    enum status st = ST_OK;
    for (int64_t i = 2; st == ST_OK && i < 4000; i++) {
        char name[40];
        snprintf(name, sizeof(name), "some longer name %lld", (long long)i);
        st = put(f->db, i, name);
    }
    assert_int_equal(st, ST_FULL);
    if (f->db->tx == DB_TX_LOST) {
        assert_int_equal(put(f->db, 5000, "after"), ST_FULL);
        assert_int_equal(db_savepoint(f->db), ST_FULL);
        db_savepoint_rollback(f->db);
        assert_int_equal(db_commit(f->db, NULL), ST_FULL);
    } else {
        db_rollback(f->db);
    }
    assert_false(db_in_transaction(f->db));
    assert_int_equal(items(f->db), 0);
    assert_int_equal(sqlite3_exec(f->db->h, "PRAGMA max_page_count = 100000", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(db_begin(f->db, NULL), ST_OK);
    assert_int_equal(put(f->db, 1, "again"), ST_OK);
    assert_int_equal(db_commit(f->db, NULL), ST_OK);
    assert_int_equal(items(f->db), 1);
}

static void lost_state_refuses_everything(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(db_begin(f->db, NULL), ST_OK);
    assert_int_equal(put(f->db, 1, "a"), ST_OK);
    // As SQLite does it by itself: the transaction ends under the statement.
    assert_int_equal(sqlite3_exec(f->db->h, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(db_result(f->db, SQLITE_FULL, "test", NULL), ST_FULL);
    assert_int_equal(put(f->db, 2, "b"), ST_FULL);
    assert_int_equal(db_savepoint(f->db), ST_FULL);
    struct err err = {0};
    assert_int_equal(db_commit(f->db, &err), ST_FULL);
    assert_non_null(strstr(err.text, "undone"));
    assert_int_equal(items(f->db), 0);
}

static void reader_sees_its_snapshot(void **state)
{
    struct fixture *f = *state;
    struct db *r = NULL;
    assert_int_equal(put(f->db, 1, "a"), ST_OK);
    assert_int_equal(db_open(f->path, DB_READER, &r, NULL), ST_OK);
    assert_int_equal(db_begin(r, NULL), ST_OK);
    assert_int_equal(put(f->db, 2, "b"), ST_OK);
    assert_int_equal(items(r), 1);
    assert_int_equal(db_commit(r, NULL), ST_OK);
    assert_int_equal(items(r), 2);
    assert_int_equal(put(r, 3, "c"), ST_IO);
    assert_int_equal(items(f->db), 2);
    db_close(r);
}

static void reader_needs_a_store(void **state)
{
    struct fixture *f = *state;
    struct db *r = NULL;
    struct err err = {0};
    char path[320];
    snprintf(path, sizeof(path), "%s/none.db", f->dir);
    assert_int_equal(db_open(path, DB_READER, &r, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "none.db"));
    assert_null(r);
}

static int interrupt_now(void *db)
{
    db_interrupt(db);
    return 0;
}

static void interrupt_ends_a_read(void **state)
{
    struct fixture *f = *state;
    STMT(s, f->db, &endless);
    // SQLite looks at the flag now and then; the progress handler plays the other thread.
    sqlite3_progress_handler(f->db->h, 1000, interrupt_now, f->db);
    struct err err = {0};
    assert_int_equal(stmt_run(s, &err), ST_TIMEOUT);
    sqlite3_progress_handler(f->db->h, 0, NULL, NULL);
}

static void foreign_files_are_refused(void **state)
{
    struct fixture *f = *state;
    char path[320];
    struct db *db = NULL;
    struct err err = {0};
    snprintf(path, sizeof(path), "%s/text.db", f->dir);
    FILE *t = fopen(path, "w");
    assert_non_null(t);
    for (int i = 0; i < 1000; i++) {
        fputs("this is no database at all\n", t);
    }
    fclose(t);
    assert_int_equal(db_open(path, DB_WRITER, &db, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "text.db"));

    snprintf(path, sizeof(path), "%s/other.db", f->dir);
    sqlite3 *h = NULL;
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, "CREATE TABLE theirs (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(h);
    assert_int_equal(db_open(path, DB_WRITER, &db, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "another program"));
    assert_null(db);
}

static void newer_store_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    assert_int_equal(db_migrate(f->db, steps, 1, &err), ST_VERSION);
    assert_non_null(strstr(err.text, "newer version"));
    assert_int_equal(db_migrate(f->db, steps, 2, NULL), ST_OK);
}

static void failed_migration_leaves_the_former_version(void **state)
{
    struct fixture *f = *state;
    char path[320];
    snprintf(path, sizeof(path), "%s/two.db", f->dir);
    struct db *db = NULL;
    struct err err = {0};
    assert_int_equal(db_open(path, DB_WRITER, &db, NULL), ST_OK);
    assert_int_not_equal(db_migrate(db, bad_steps, 2, &err), ST_OK);
    assert_non_null(strstr(err.text, "migration 2 (broken)"));
    static const struct sql_def version = {"v", "PRAGMA user_version"};
    static const struct sql_def tables = {"t", "SELECT count(*) FROM sqlite_schema WHERE name = 'part'"};
    int64_t v = -1;
    assert_int_equal(db_ask_i64(db, &version, &v, NULL), ST_OK);
    assert_int_equal(v, 1);
    assert_int_equal(db_ask_i64(db, &tables, &v, NULL), ST_OK);
    assert_int_equal(v, 0);
    db_close(db);
}

static void migration_must_keep_references(void **state)
{
    struct fixture *f = *state;
    static const struct db_migration breaks[] = {
        {1, "items", ""}, {2, "parts", ""}, {3, "dangling", "INSERT INTO part (item) VALUES (12345);"}};
    struct err err = {0};
    assert_int_equal(db_migrate(f->db, breaks, 3, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "part"));
    // And foreign keys are enforced again afterwards.
    STMT(s, f->db, &add_part);
    stmt_bind_i64(s, 1, 99);
    assert_int_equal(stmt_run(s, NULL), ST_CONFLICT);
}

static void checkpoint_waits_for_enough_pages(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(db_checkpoint(f->db, 0), ST_OK);
    assert_int_equal(f->db->wal_pages, 0);
    assert_int_equal(put(f->db, 1, "a"), ST_OK);
    unsigned pages = f->db->wal_pages;
    assert_true(pages > 0);
    assert_int_equal(db_checkpoint(f->db, 1000), ST_OK);
    assert_int_equal(f->db->wal_copied, 0);
    assert_int_equal(db_checkpoint(f->db, 1), ST_OK);
    assert_int_equal(f->db->wal_copied, pages);
    assert_int_equal(put(f->db, 2, "b"), ST_OK); // the log begins anew
    assert_true(f->db->wal_pages <= pages);
    assert_int_equal(f->db->wal_copied, 0);
    assert_int_equal(db_checkpoint(f->db, 0), ST_OK);
    char wal[320];
    struct stat st;
    snprintf(wal, sizeof(wal), "%s-wal", f->path);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_true(db_size_bytes(f->db) >= 4096);
}

static void backup_is_a_whole_store(void **state)
{
    struct fixture *f = *state;
    char to[320];
    snprintf(to, sizeof(to), "%s/backup.db", f->dir);
    for (int64_t i = 1; i <= 100; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%lld", (long long)i);
        assert_int_equal(put(f->db, i, name), ST_OK);
    }
    struct db *r = NULL;
    assert_int_equal(db_open(f->path, DB_READER, &r, NULL), ST_OK);
    assert_int_equal(db_begin(r, NULL), ST_OK);
    assert_int_equal(put(f->db, 101, "later"), ST_OK);
    assert_int_equal(db_backup(r, to, NULL), ST_OK); // of the snapshot
    assert_int_equal(db_commit(r, NULL), ST_OK);
    db_close(r);
    struct stat st;
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct db *b = NULL;
    assert_int_equal(db_open(to, DB_WRITER, &b, NULL), ST_OK);
    assert_int_equal(db_migrate(b, steps, 2, NULL), ST_OK);
    assert_int_equal(db_integrity(b, NULL), ST_OK);
    assert_int_equal(items(b), 100);
    db_close(b);
    struct err err = {0};
    assert_int_not_equal(db_backup(f->db, "/nonexistent/x.db", &err), ST_OK);
    assert_non_null(strstr(err.text, "/nonexistent/x.db"));
}

static void damage_is_found(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 1; i <= 500; i++) {
        char name[48];
        snprintf(name, sizeof(name), "a name of some length %lld", (long long)i);
        assert_int_equal(put(f->db, i, name), ST_OK);
    }
    assert_int_equal(db_integrity(f->db, NULL), ST_OK);
    assert_int_equal(db_checkpoint(f->db, 0), ST_OK);
    db_close(f->db);
    f->db = NULL;
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    fseek(file, 4096, SEEK_SET);
    for (int i = 0; i < 4096 * 2; i++) {
        fputc(0x5a, file);
    }
    fclose(file);
    struct err err = {0};
    enum status st = db_open(f->path, DB_WRITER, &f->db, &err);
    if (st == ST_OK) {
        st = db_integrity(f->db, &err);
    }
    assert_int_equal(st, ST_CORRUPT);
    assert_non_null(strstr(err.text, "state.db"));
}

static void failed_sync_ends_the_process(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)db_result(f->db, SQLITE_IOERR_FSYNC, "commit", NULL);
        _exit(0); // not reached
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 70);
    // A failed read is an error like others.
    assert_int_equal(db_result(f->db, SQLITE_IOERR_READ, "read", NULL), ST_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(file_is_private, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_are_in_force, setup, teardown),
        cmocka_unit_test_setup_teardown(values_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_is_not_null, setup, teardown),
        cmocka_unit_test_setup_teardown(constraints_have_names, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_statement_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(bind_out_of_range_fails_the_step, setup, teardown),
        cmocka_unit_test_setup_teardown(savepoint_undoes_one_operation, setup, teardown),
        cmocka_unit_test_setup_teardown(transactions_do_not_nest, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_transaction_stops_the_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_state_refuses_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(reader_sees_its_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(reader_needs_a_store, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupt_ends_a_read, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(newer_store_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_migration_leaves_the_former_version, setup, teardown),
        cmocka_unit_test_setup_teardown(migration_must_keep_references, setup, teardown),
        cmocka_unit_test_setup_teardown(checkpoint_waits_for_enough_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(backup_is_a_whole_store, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_sync_ends_the_process, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
