// Expressions as SQL: the text of some, and a property of all: what SQLite and the residual keep is what the evaluator keeps.
#include "expr/sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "unit/expr/sql_random.h"

#define EXPRESSIONS 4000

static struct device_row *rows;
static sqlite3 *db;
static struct expr_frame frame;

static const struct text_row texts[] = {
    {"model = 'x'", "(model = ?2)", ""},
    {"'x' < model", "(model > ?2)", ""},
    {"not model = 'x'", "((model <> ?2))", ""},
    {"tags.site = 'x'", "(json_extract(tags, '$.\"site\"') = ?2 AND json_type(tags, '$.\"site\"') = 'text')", ""},
    {"reported.a[0][-1].b > 5",
     "(json_extract(reported, '$.\"a\"[0][#-1].\"b\"') > ?2 AND json_type(reported, '$.\"a\"[0][#-1].\"b\"') IN "
     "('integer', 'real'))",
     ""},
    {"tags.\"it's\" is null", "(json_extract(tags, '$.\"it''s\"') IS NULL)", ""},
    {"tags.\"a\"\"b\" is null", "", "tags.\"a\"\"b\" is null"},
    {"tags.\"a\\b\" is null", "", "tags.\"a\\b\" is null"},
    {"model = 'x' and lower(model) = 'y' and version > 3", "(model = ?2) AND (version > ?3)", "lower(model) = 'y'"},
    {"(model = 'x' or lower(model) = 'y') and (online or not online)", "((online = 1) OR ((online = 0)))",
     "model = 'x' or lower(model) = 'y'"},
    {"not (online and model in ('a', 'b'))", "(((online = 0) OR (model NOT IN (?2, ?3))))", ""},
    {"model not in ('a', null)", "0", ""},
    {"created > now() - interval '1 day'", "(created_us > ?2)", ""},
    {"created > '2026-01-01'", "(created_us > ?2)", ""},
    {"version between 1 and 2.5", "((version >= ?2) AND (version <= ?3))", ""},
    {"version not between 1 and 2", "((version < ?2) OR (version > ?3))", ""},
    {"model like 'a%_*' and model ilike 'a\\%'", "(model GLOB ?2) AND (model LIKE ?3 ESCAPE '\\')", ""},
    {"model like '%a%b%c%d%'", "", "model like '%a%b%c%d%'"},
    {"model glob '[a]'", "", "model glob '[a]'"},
    {"online = true and reported.x <> true", "(online = 1) AND (json_type(reported, '$.\"x\"') = 'false')", ""},
    {"reported.x", "(json_type(reported, '$.\"x\"') = 'true')", ""},
    {"name = 'x'", "", "name = 'x'"},
    {"reported.x = version('1')", "", "reported.x = version('1')"},
    {"exists(reported.l[*] where it = 1)", "", "exists(reported.l[*] where it = 1)"},
    {"true", "1", ""},
    {"null", "0", ""},
};

static void sql_text(void **state)
{
    (void)state;
    assert_texts(texts, sizeof(texts) / sizeof(texts[0]), EXPR_SQLITE, 2);
}

static void insert_row(unsigned i)
{
    struct device_row *row = &rows[i];
    make_row(row, i);
    sqlite3_stmt *st;
    static const char insert[] = "INSERT INTO d SELECT ?1, json_extract(?2, '$.id'), json_extract(?2, '$.model'), "
                                 "json_extract(?2, '$.version'), "
                                 "json_extract(?2, '$.online'), ?3, ?4, ?5";
    assert_int_equal(sqlite3_prepare_v2(db, insert, -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_int(st, 1, (int)i);
    sqlite3_bind_text(st, 2, row->json, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, row->created_us);
    sqlite3_bind_text(st, 4, row->tags, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 5, row->reported, -1, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(st), SQLITE_DONE);
    sqlite3_finalize(st);
}

static void bind(sqlite3_stmt *st, const struct translated *t)
{
    for (unsigned i = 0; i < t->where.param_count; i++) {
        struct expr_value v = expr_sql_param(&t->where, i, rows[0].device.view.now_us, &frame);
        int at = (int)i + 2;
        if (v.type == EXPR_TEXT) {
            sqlite3_bind_text(st, at, (const char *)v.p, (int)v.len, SQLITE_TRANSIENT);
        } else if (v.type == EXPR_INT || v.type == EXPR_TIME) {
            sqlite3_bind_int64(st, at, v.i);
        } else if (v.type == EXPR_REAL) {
            sqlite3_bind_double(st, at, v.d);
        } else {
            assert_int_equal(v.type, EXPR_NULL);
        }
    }
}

static bool is_true(const struct expr_program *p, const struct device_row *row)
{
    struct expr_value v;
    assert_int_equal(expr_eval(p, &row->device.view, &frame, &v), ST_OK);
    return expr_is_true(&v);
}

// The rows SQL and the residual keep.
static void run_sql(const char *text, const struct translated *t, bool kept[ROWS])
{
    char sql[65536];
    sqlite3_stmt *st;
    bool any = t->where.sql.len > 0;
    snprintf(sql, sizeof(sql), "SELECT row FROM d WHERE ?1 = 1%s" SLICE_FMT, any ? " AND " : "",
             SLICE_ARG(buf_view(&t->where.sql)));
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK) {
        fail_msg("%s: %s: %s", text, sql, sqlite3_errmsg(db));
    }
    sqlite3_bind_int(st, 1, 1);
    bind(st, t);
    int step = sqlite3_step(st);
    for (; step == SQLITE_ROW; step = sqlite3_step(st)) {
        int row = sqlite3_column_int(st, 0);
        kept[row] = t->where.residual == NULL || is_true(t->where.residual, &rows[row]);
    }
    if (step != SQLITE_DONE) {
        fail_msg("%s: %s: %s", text, sql, sqlite3_errmsg(db));
    }
    sqlite3_finalize(st);
}

static void compare_one(const char *text, const struct translated *t, unsigned *found)
{
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    struct expr_program *p;
    bool kept[ROWS] = {false};
    assert_int_equal(expr_program_make(slice_str(text), &o, &p, NULL), ST_OK);
    run_sql(text, t, kept);
    for (unsigned i = 0; i < ROWS; i++) {
        bool want = is_true(p, &rows[i]);
        *found += want ? 1 : 0;
        if (kept[i] != want) {
            fail_msg("%s: the evaluator says %s, SQL the other: " SLICE_FMT "\nresidual: " SLICE_FMT "\n%s", text,
                     want ? "yes" : "no", SLICE_ARG(buf_view(&t->where.sql)),
                     SLICE_ARG(buf_view(&t->where.residual_text)), rows[i].json);
        }
    }
    expr_program_free(p);
}

static void same_rows(void **state)
{
    (void)state;
    unsigned compared = 0;
    unsigned exact = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < EXPRESSIONS; i++) {
        char text[4096];
        struct buf out = buf_fixed(text, sizeof(text) - 1);
        struct translated t;
        put_expression(&out);
        text[out.len] = '\0';
        if (!translate(text, EXPR_SQLITE, 2, &t)) {
            continue; // a time beside a number, and the like
        }
        compare_one(text, &t, &found);
        compared++;
        exact += t.where.residual == NULL ? 1 : 0;
        translated_end(&t);
    }
    assert_true(compared > EXPRESSIONS / 2);
    assert_true(exact > compared / 3 && exact < compared);
    assert_true(found > compared * ROWS / 20);
}

// What people write into literals and names stays data.
static void injection(void **state)
{
    (void)state;
    static const char *const attempts[] = {
        "model = ''' OR 1=1 --'",       "model = 'x''; DROP TABLE d; --'",
        "tags.\"x') OR 1=1 --\" = 'a'", "tags.\"x' OR ''='\" = 'a'",
        "tags.\"$[0]\" = 'a'",          "reported.\"?2\" = 5",
        "model like '%'' OR 1=1 --'",   "tags.\"a\"\"') OR 1 --\" = 'a'",
    };
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        struct translated t;
        unsigned found = 0;
        assert_true(translate(attempts[i], EXPR_SQLITE, 2, &t));
        compare_one(attempts[i], &t, &found);
        assert_int_equal(found, 0);
        translated_end(&t);
    }
}

// An index on the text expr_sql_extract gives is used.
static void indexes_serve(void **state)
{
    (void)state;
    struct slice key = SLICE("site");
    struct buf sql = buf_heap(1024);
    buf_str(&sql, "CREATE INDEX d_site ON d (");
    assert_true(expr_sql_extract("tags", &key, 1, &sql));
    buf_str(&sql, ")");
    buf_u8(&sql, 0);
    assert_int_equal(sqlite3_exec(db, (const char *)sql.p, NULL, NULL, NULL), SQLITE_OK);
    struct translated t;
    sqlite3_stmt *st;
    char plan[1024];
    assert_true(translate("tags.site in ('a', 'b')", EXPR_SQLITE, 2, &t));
    snprintf(plan, sizeof(plan), "EXPLAIN QUERY PLAN SELECT row FROM d WHERE " SLICE_FMT,
             SLICE_ARG(buf_view(&t.where.sql)));
    assert_int_equal(sqlite3_prepare_v2(db, plan, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_non_null(strstr((const char *)sqlite3_column_text(st, 3), "USING INDEX d_site"));
    sqlite3_finalize(st);
    translated_end(&t);
    buf_clear(&sql);
    key = SLICE("a\"b");
    assert_false(expr_sql_extract("tags", &key, 1, &sql));
    buf_release(&sql);
}

static int setup(void **state)
{
    (void)state;
    find_roots();
    rows = calloc(ROWS, sizeof(*rows));
    if (rows == NULL || sqlite3_open(":memory:", &db) != SQLITE_OK) {
        return 1;
    }
    static const char create[] = "CREATE TABLE d (row INTEGER PRIMARY KEY, id TEXT, model TEXT, version INTEGER, "
                                 "online INTEGER, created_us INTEGER, "
                                 "tags TEXT, reported TEXT) STRICT";
    if (sqlite3_exec(db, create, NULL, NULL, NULL) != SQLITE_OK) {
        return 1;
    }
    for (unsigned i = 0; i < ROWS; i++) {
        insert_row(i);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sqlite3_close(db);
    free(rows);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sql_text),
        cmocka_unit_test(same_rows),
        cmocka_unit_test(injection),
        cmocka_unit_test(indexes_serve),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
