// Random documents and random conditions on them, for the tests that compare a database with the evaluator.
#ifndef UNIT_EXPR_SQL_RANDOM_H
#define UNIT_EXPR_SQL_RANDOM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rand.h"
#include "expr/parse.h"
#include "expr/sql.h"
#include "unit/expr/device.h"

#define ROWS       200
#define JSON_BYTES 1024

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

static inline void find_roots(void)
{
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        roots[expr_schema_find(expr_schema_device(), slice_str(places[i].root))] = places[i].at;
    }
}

struct device_row {
    const char *model; // JSON
    int version;
    bool online;
    int64_t created_us;
    char tags[JSON_BYTES];
    char reported[JSON_BYTES];
    char json[4 * JSON_BYTES]; // the whole document, for the evaluator
    struct device device;
};

struct translated {
    struct arena arena;
    struct expr_tree tree;
    struct expr_sql_where where;
};

// False when the text is refused by the checker.
static inline bool translate(const char *text, enum expr_dialect dialect, unsigned first_param, struct translated *t)
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
    assert_int_equal(expr_sql_translate(&t->tree, expr_schema_device(), roots, dialect, first_param, &t->where, &err),
                     ST_OK);
    return true;
}

static inline void translated_end(struct translated *t)
{
    expr_sql_release(&t->where);
    arena_release(&t->arena);
}

struct text_row {
    const char *text;
    const char *sql;
    const char *residual;
};

// Each text becomes this SQL, and this is left over.
static inline void assert_texts(const struct text_row *texts, size_t len, enum expr_dialect dialect,
                                unsigned first_param)
{
    unsigned bad = 0;
    for (size_t i = 0; i < len; i++) {
        struct translated t;
        assert_true(translate(texts[i].text, dialect, first_param, &t));
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

static inline const char *pick(const char *const *list, size_t n)
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
    "tags.site",          "tags.x",           "reported.x",    "reported.site",
    "reported.\"it's\"",  "tags.\"a b\"",     "reported.x.k",  "reported.x[0]",
    "reported.x[-1].k",   "reported.site[1]", "reported.gone", "tags.\"x') OR 1=1 --\"",
    "reported.\"?1 $1\"",
};
static const char *const texts_of[] = {"'a'",        "'b'",  "'5'",   "''",          "'it''s'",
                                       "'\xc3\xa4'", "'TH'", "'A%_'", "'{\"k\":1}'", "'a\"b'"};
static const char *const numbers[] = {
    "1", "2", "5", "2.5", "-3", "9007199254740992.0", "9007199254740993", "9223372036854775807", "1 + 1", "0"};
static const char *const comparisons[] = {"=", "<>", "<", "<=", ">", ">="};
static const char *const patterns[] = {"'a%'", "'%a%'", "'_'", "'%*%'", "'a!%_' escape '!'",
                                       "'A%'", "'%b'",  "''",  "'%'",   "'a\\%'"};
static const char *const times[] = {"now()", "now() - interval '1 day'", "'2026-01-05'", "time '2026-01-10'"};

static inline void put_document(struct buf *out)
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

static inline void put_leaf(struct buf *out)
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
static inline void put_expression(struct buf *out)
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

// Makes row number i.
static inline void make_row(struct device_row *row, unsigned i)
{
    struct buf t = buf_fixed(row->tags, sizeof(row->tags) - 1);
    struct buf r = buf_fixed(row->reported, sizeof(row->reported) - 1);
    put_document(&t);
    put_document(&r);
    row->tags[t.len] = '\0';
    row->reported[r.len] = '\0';
    static const char *const models[] = {"\"TH\"", "\"a\"", "\"b\"", "null", "\"A%_\""};
    row->model = PICK(models);
    row->version = (int)(rand_u64() % 6);
    int day = (int)(rand_u64() % 20) + 1;
    row->online = rand_u64() % 2 == 0;
    row->created_us = expr_calendar_us(2026, 1, day);
    snprintf(row->json, sizeof(row->json),
             "{\"now\":\"2026-01-15T00:00:00Z\",\"id\":\"d%u\",\"model\":%s,\"version\":%d,\"online\":%s,\"created\":"
             "\"2026-01-%02dT00:00:00Z\","
             "\"tags\":%s,\"reported\":%s}",
             i, row->model, row->version, row->online ? "true" : "false", day, row->tags, row->reported);
    assert_true(device_init(&row->device, slice_str(row->json)));
}

#endif
