// Damaged files of the telemetry store: reported, set aside, and the rest goes on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/store/ts_fixture.h"

static void damage(struct db *db, const char *sql)
{
    assert_int_equal(sqlite3_exec(db->h, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void damaged_chunk_is_reported_and_set_aside(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 4; i++) {
        for (int64_t k = 0; k < 10; k++) {
            assert_int_equal(put(f, 1, "t", T0 + (i * 10 + k) * 1000000, whole(k)), ST_OK);
        }
        commit(f);
        flush(f);
    }
    assert_int_equal(points(f, 1, "t"), 40);
    struct ts_part *p = NULL;
    assert_int_equal(ts_part_open(f->ts, ts_day_of(T0), false, &p, NULL), ST_OK);
    damage(p->db, "UPDATE chunk SET bytes = zeroblob(length(bytes)) WHERE id = (SELECT min(id) FROM chunk)");
    damage(p->db, "UPDATE chunk SET codec = 999 WHERE id = (SELECT max(id) FROM chunk)");
    struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
    struct ts_snapshot *s = NULL;
    assert_int_equal(ts_snapshot_take(f->ts, &q, &s), ST_OK);
    got.n = 0;
    assert_int_equal(ts_read(f->reader, s, &q, take, &got, NULL), ST_OK);
    ts_snapshot_free(s);
    assert_int_equal(got.n, 20); // the other two rows
    assert_int_equal(stats(f).corrupt, 2);
    (void)ts_step(f->ts, T0);
    static const struct sql_def count = {"count", "SELECT count(*) FROM quarantine"};
    int64_t n = 0;
    assert_int_equal(ts_part_open(f->ts, ts_day_of(T0), false, &p, NULL), ST_OK);
    assert_int_equal(db_ask_i64(p->db, &count, &n, NULL), ST_OK);
    assert_int_equal(n, 2);
    assert_int_equal(points(f, 1, "t"), 20);
    assert_int_equal(stats(f).corrupt, 2);
}

static void damaged_log_row_is_reported_and_set_aside(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 10; i++) {
        assert_int_equal(put(f, 1, "t", T0 + i * MINUTE, whole(i)), ST_OK);
        commit(f);
    }
    damage(f->ts->log.db,
           "UPDATE log SET blob = CAST(substr(blob, 1, length(blob) - 1) || x'00' AS BLOB) WHERE seq = 5");
    damage(f->ts->log.db, "UPDATE log SET blob = substr(blob, 1, 3) WHERE seq = 8");
    reopen(f);
    assert_int_equal(points(f, 1, "t"), 8);
    assert_int_equal(stats(f).corrupt, 2);
    static const struct sql_def count = {"count", "SELECT count(*) FROM quarantine"};
    int64_t n = 0;
    assert_int_equal(db_ask_i64(f->ts->catalog, &count, &n, NULL), ST_OK);
    assert_int_equal(n, 2);
    assert_int_equal(put(f, 1, "t", T0 + 20 * MINUTE, whole(20)), ST_OK);
    commit(f);
    flush(f);
    assert_int_equal(points(f, 1, "t"), 9);
}

static void lost_definition_is_found_in_the_catalog(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 1, "t", T0, whole(1)), ST_OK);
    commit(f);
    flush(f); // the catalog knows the series now
    assert_int_equal(put(f, 1, "t", T0 + 1, whole(2)), ST_OK);
    commit(f);
    assert_int_equal(put(f, 1, "t", T0 + 2, whole(3)), ST_OK);
    commit(f);
    damage(f->ts->log.db, "UPDATE log SET crc = crc + 1 WHERE seq = (SELECT min(seq) FROM log)");
    reopen(f);
    assert_int_equal(points(f, 1, "t"), 2); // the first of the segment is lost, the second is not
    assert_int_equal(stats(f).corrupt, 1);
}

static void damaged_partition_does_not_stop_the_store(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 1, "t", T0, whole(1)), ST_OK);
    commit(f);
    flush(f);
    fixture_close(f);
    char path[512];
    assert_true(ts_part_name(f->dir, ts_day_of(T0), "", path, sizeof(path)));
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    fputs("this was a database once", file);
    fclose(file);
    fixture_open(f);
    assert_int_equal(put(f, 1, "t", T0 + 1, whole(2)), ST_OK);
    commit(f);
    flush(f);
    assert_int_equal(points(f, 1, "t"), 1);
    assert_int_equal(stats(f).corrupt, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(damaged_chunk_is_reported_and_set_aside),
        TEST(damaged_log_row_is_reported_and_set_aside),
        TEST(lost_definition_is_found_in_the_catalog),
        TEST(damaged_partition_does_not_stop_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
