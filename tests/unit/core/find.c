// Finding by id: the row, none, and what is said of an id too long to be one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/find.h"
#include "unit/store/tmpdir.h"

static const struct sql_def named = {"named", "SELECT 7, ?2 WHERE ?1 = 'there'"};
static const struct sql_def wrong = {"wrong", "SELECT nothing FROM nowhere"};

static char dir[256];
static struct db *db;

static int setup(void **state)
{
    char path[300];
    (void)state;
    tmpdir_make(dir, sizeof(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    return db_open(path, DB_WRITER, &db, NULL) == ST_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    db_close(db);
    tmpdir_remove(dir);
    return 0;
}

static enum status find(const char *id, struct slice stored, char ret_id[ID_MAX + 1], struct err *err)
{
    STMT(s, db, &named);
    stmt_bind_str(s, 1, id);
    stmt_bind_text(s, 2, stored);
    enum status st = find_row(s, "thing", slice_str(id), err);
    if (st == ST_OK) {
        assert_int_equal(col_i64(s, 0), 7);
        st = find_id(s, 1, "thing", ret_id, err);
    }
    return st;
}

static void rows_are_found_or_missing(void **state)
{
    (void)state;
    char id[ID_MAX + 1] = "";
    char large[3 * ID_MAX + 1] = "";
    char said[2 * ID_MAX];
    struct err err = {.code = ST_OK};
    assert_int_equal(find("there", SLICE("there"), id, &err), ST_OK);
    assert_string_equal(id, "there");
    assert_int_equal(find("elsewhere", SLICE(""), id, &err), ST_NOT_FOUND);
    assert_string_equal(err.text, "no thing \"elsewhere\"");
    memset(large, 'x', sizeof(large) - 1);
    err = (struct err){.code = ST_OK};
    assert_int_equal(find(large, SLICE(""), id, &err), ST_NOT_FOUND);
    snprintf(said, sizeof(said), "no thing \"%.*s\"", ID_MAX, large);
    assert_string_equal(err.text, said);
}

static void stored_ids_are_checked(void **state)
{
    (void)state;
    char id[ID_MAX + 1] = "";
    char large[ID_MAX + 2] = "";
    memset(large, 'y', ID_MAX + 1);
    struct err err = {.code = ST_OK};
    assert_int_equal(find("there", slice_make(large, ID_MAX), id, &err), ST_OK);
    assert_int_equal(strlen(id), ID_MAX);
    assert_int_equal(find("there", slice_make(large, ID_MAX + 1), id, &err), ST_CORRUPT);
    assert_string_equal(err.text, "a stored thing has no valid id");
    err = (struct err){.code = ST_OK};
    STMT(bad, db, &wrong);
    enum status st = find_row(bad, "thing", SLICE("there"), &err);
    assert_true(st != ST_OK && st != ST_NOT_FOUND); // a store that fails is not a thing that is missing
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_found_or_missing),
                                       cmocka_unit_test(stored_ids_are_checked)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
