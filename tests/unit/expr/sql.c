// Expressions as SQL: the text of some, and a property of all: what SQLite and the residual keep is what the evaluator keeps.
#include "expr/sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/rand.h"
#include "expr/parse.h"
#include "unit/expr/device.h"

#define ROWS        200
#define EXPRESSIONS 4000
#define JSON_BYTES  1024

// Where the roots of a device are in the table of this test.
static const struct {
    const char *root;
    struct expr_sql_root at;
} places[] = {
    {"id", {"id", EXPR_COLUMN_TEXT}},
    {"model", {"model", EXPR_COLUMN_TEXT}},
    {"version", {"version", EXPR_COLUMN_INT}},
    {"online", {"online", EXPR_COLUMN_BOOL}},
    {"created", {"created_us", EXPR_COLUMN_TIME}},
    {"tags", {"tags", EXPR_COLUMN_JSON}},
    {"reported", {"reported", EXPR_COLUMN_JSON}},
};

static struct expr_sql_root roots[EXPR_ROOTS_MAX];

struct device_row {
    char json[4 * JSON_BYTES]; // the whole document, for the evaluator
    struct device device;
};

static struct device_row *rows;
static sqlite3 *db;
static struct expr_frame frame;

struct translated {
    struct arena arena;
    struct expr_tree tree;
    struct expr_sql_where where;
};

// False when the text is refused by the checker.
static bool translate(const char *text, struct translated *t)
{
    struct expr_error err = {.text = ""};
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    arena_init(&t->arena, 2 * EXPR_ARENA_MAX);
    if (expr_parse(&t->arena, slice_str(text), &t->tree, &err) != ST_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    if (expr_check(&t->tree, &o, &err) != ST_OK) {
        arena_release(&t->arena);
        return false;
    }
    assert_int_equal(expr_sql_translate(&t->tree, expr_schema_device(), roots, 2, &t->where, &err), ST_OK);
    return true;
}

static void translated_end(struct translated *t)
{
    expr_sql_release(&t->where);
    arena_release(&t->arena);
}

struct text_row {
    const char *text;
    const char *sql;
    const char *residual;
};

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
    unsigned bad = 0;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct translated t;
        assert_true(translate(texts[i].text, &t));
        if (!slice_eq_str(buf_view(&t.where.sql), texts[i].sql) ||
            !slice_eq_str(buf_view(&t.where.residual_text), texts[i].residual)) {
            print_message("%s: " SLICE_FMT " | " SLICE_FMT "\n", texts[i].text, SLICE_ARG(buf_view(&t.where.sql)),
                          SLICE_ARG(buf_view(&t.where.residual_text)));
            bad++;
        }
        assert_int_equal(t.where.residual != NULL, texts[i].residual[0] != '\0');
        translated_end(&t);
    }
    assert_int_equal(bad, 0);
}

// ---- Random documents and expressions ----------------------------------------------------------------------------------------

static const char *pick(const char *const *list, size_t n)
{
    return list[rand_u64() % n];
}
#define PICK(list) pick((list), sizeof(list) / sizeof((list)[0]))

static const char *const values[] = {
    "1",
    "2",
    "5",
    "-3",
    "2.5",
    "5.0",
    "1e3",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "true",
    "false",
    "null",
    "\"a\"",
    "\"b\"",
    "\"5\"",
    "\"\"",
    "\"A%_\"",
    "\"a*b\"",
    "\"\xc3\xa4\"",
    "{\"k\":1}",
    "[1,\"a\",{\"k\":5}]",
    "\"it's\"",
    "\"a\\\"b\"",
};
static const char *const keys[] = {"site", "x", "it's", "a b"};
static const char *const paths[] = {
    "tags.site",    "tags.x",        "reported.x",       "reported.site",    "reported.\"it's\"", "tags.\"a b\"",
    "reported.x.k", "reported.x[0]", "reported.x[-1].k", "reported.site[1]", "reported.gone",
};
static const char *const texts_of[] = {"'a'",        "'b'",  "'5'",   "''",          "'it''s'",
                                       "'\xc3\xa4'", "'TH'", "'A%_'", "'{\"k\":1}'", "'a\"b'"};
static const char *const numbers[] = {
    "1", "2", "5", "2.5", "-3", "9007199254740992.0", "9007199254740993", "9223372036854775807", "1 + 1", "0"};
static const char *const comparisons[] = {"=", "<>", "<", "<=", ">", ">="};
static const char *const patterns[] = {"'a%'", "'%a%'", "'_'", "'%*%'", "'a!%_' escape '!'",
                                       "'A%'", "'%b'",  "''",  "'%'",   "'a\\%'"};
static const char *const times[] = {"now()", "now() - interval '1 day'", "'2026-01-05'", "time '2026-01-10'"};

static void put_document(struct buf *out)
{
    buf_u8(out, '{');
    const char *comma = "";
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (rand_u64() % 4 > 0) {
            buf_printf(out, "%s\"%s\":%s", comma, keys[i], PICK(values));
            comma = ",";
        }
    }
    buf_u8(out, '}');
}

static void put_leaf(struct buf *out)
{
    const char *path = PICK(paths);
    switch (rand_u64() % 14) {
    case 0:
        buf_printf(out, "%s %s %s", path, PICK(comparisons), PICK(texts_of));
        break;
    case 1:
        buf_printf(out, "%s %s %s", path, PICK(comparisons), PICK(numbers));
        break;
    case 2:
        buf_printf(out, "%s %s %s", PICK(numbers), PICK(comparisons), path);
        break;
    case 3:
        buf_printf(out, "%s is %snull", path, rand_u64() % 2 == 0 ? "not " : "");
        break;
    case 4:
        buf_printf(out, "%s %sin (%s, %s%s)", path, rand_u64() % 2 == 0 ? "not " : "", PICK(texts_of), PICK(texts_of),
                   rand_u64() % 4 == 0 ? ", null" : "");
        break;
    case 5:
        buf_printf(out, "%s %sin (%s, %s)", path, rand_u64() % 2 == 0 ? "not " : "", PICK(numbers), PICK(numbers));
        break;
    case 6:
        buf_printf(out, "%s %sbetween %s and %s", path, rand_u64() % 2 == 0 ? "not " : "", PICK(numbers),
                   PICK(numbers));
        break;
    case 7:
        buf_printf(out, "%s %s%s %s", rand_u64() % 2 == 0 ? path : "model", rand_u64() % 2 == 0 ? "not " : "",
                   rand_u64() % 2 == 0 ? "like" : "ilike", PICK(patterns));
        break;
    case 8:
        buf_printf(out, "model %s %s", PICK(comparisons), PICK(texts_of));
        break;
    case 9:
        buf_printf(out, "version %s %s", PICK(comparisons), PICK(numbers));
        break;
    case 10:
        buf_printf(out, "created %s %s", PICK(comparisons), PICK(times));
        break;
    case 11:
        buf_str(out, rand_u64() % 2 == 0 ? "online" : path);
        break;
    case 12:
        buf_printf(out, "%s %s %s", rand_u64() % 2 == 0 ? "online" : path, rand_u64() % 2 == 0 ? "=" : "<>",
                   rand_u64() % 2 == 0 ? "true" : "false");
        break;
    default:
        buf_printf(out, "size(%s) > 1", path);
        break;
    }
}

// A few levels of and, or and not around predicates; written from the outside in.
static void put_expression(struct buf *out)
{
    const char *close[8];
    unsigned depth = (unsigned)(rand_u64() % 4);
    for (unsigned i = 0; i < depth; i++) {
        uint64_t r = rand_u64() % 3;
        buf_str(out, r == 0 ? "not (" : "(");
        put_leaf(out);
        buf_str(out, rand_u64() % 2 == 0 ? " and " : " or ");
        close[i] = ")";
    }
    put_leaf(out);
    for (unsigned i = depth; i > 0; i--) {
        buf_str(out, close[i - 1]);
        if (rand_u64() % 3 == 0) {
            buf_str(out, rand_u64() % 2 == 0 ? " and " : " or ");
            put_leaf(out);
        }
    }
}

static void insert_row(unsigned i)
{
    struct device_row *row = &rows[i];
    char tags[JSON_BYTES];
    char reported[JSON_BYTES];
    struct buf t = buf_fixed(tags, sizeof(tags) - 1);
    struct buf r = buf_fixed(reported, sizeof(reported) - 1);
    put_document(&t);
    put_document(&r);
    tags[t.len] = '\0';
    reported[r.len] = '\0';
    static const char *const models[] = {"\"TH\"", "\"a\"", "\"b\"", "null", "\"A%_\""};
    const char *model = PICK(models);
    int version = (int)(rand_u64() % 6);
    int day = (int)(rand_u64() % 20) + 1;
    const char *online = rand_u64() % 2 == 0 ? "true" : "false";
    snprintf(row->json, sizeof(row->json),
             "{\"now\":\"2026-01-15T00:00:00Z\",\"id\":\"d%u\",\"model\":%s,\"version\":%d,\"online\":%s,\"created\":"
             "\"2026-01-%02dT00:00:00Z\","
             "\"tags\":%s,\"reported\":%s}",
             i, model, version, online, day, tags, reported);
    assert_true(device_init(&row->device, slice_str(row->json)));
    sqlite3_stmt *st;
    static const char insert[] = "INSERT INTO d SELECT ?1, json_extract(?2, '$.id'), json_extract(?2, '$.model'), "
                                 "json_extract(?2, '$.version'), "
                                 "json_extract(?2, '$.online'), ?3, ?4, ?5";
    assert_int_equal(sqlite3_prepare_v2(db, insert, -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_int(st, 1, (int)i);
    sqlite3_bind_text(st, 2, row->json, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, expr_calendar_us(2026, 1, day));
    sqlite3_bind_text(st, 4, tags, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 5, reported, -1, SQLITE_STATIC);
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
        if (!translate(text, &t)) {
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
        assert_true(translate(attempts[i], &t));
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
    assert_true(translate("tags.site in ('a', 'b')", &t));
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
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        roots[expr_schema_find(expr_schema_device(), slice_str(places[i].root))] = places[i].at;
    }
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
