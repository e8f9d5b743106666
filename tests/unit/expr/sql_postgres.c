// Expressions as SQL for PostgreSQL: the text of some; and on a server of its own, that it keeps the rows the evaluator keeps.
// Without PostgreSQL on this machine the second is skipped.
#include "unit/expr/sql_random.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPRESSIONS  3000
#define SCRIPT_BYTES (64 << 20)

static struct device_row *rows;
static struct expr_frame frame;

static const struct text_row texts[] = {
    {"model = 'x'", "(model COLLATE \"C\" = $1::text)", ""},
    {"not version > 3", "((version <= $1::numeric))", ""},
    {"tags.site = 'x'",
     "(((tags -> 'site') #>> '{}') COLLATE \"C\" = $1::text AND jsonb_typeof(tags -> 'site') = 'string')", ""},
    {"reported.a.b > 5",
     "((reported -> 'a' -> 'b') > to_jsonb($1::numeric) AND jsonb_typeof(reported -> 'a' -> 'b') = 'number')", ""},
    {"reported.a[0] > 5", "", "reported.a[0] > 5"},
    {"tags.\"it's\\\" is null", "(coalesce(jsonb_typeof(tags -> 'it''s\\'), 'null') = 'null')", ""},
    {"online or not reported.x", "((online = true) OR (((reported -> 'x') = 'false'::jsonb)))", ""},
    {"model not in ('a', null)", "false", ""},
    {"created > now()", "(created_us > $1::bigint)", ""},
    {"model like 'a%_*' and model ilike 'A\\%'",
     "(model COLLATE \"C\" LIKE $1::text ESCAPE '\\') AND (lower(model COLLATE \"C\") LIKE $2::text ESCAPE '\\')", ""},
    {"model glob '[a]'", "", "model glob '[a]'"},
};

static void sql_text(void **state)
{
    (void)state;
    assert_texts(texts, sizeof(texts) / sizeof(texts[0]), EXPR_POSTGRES, 1);
}

// ---- The script ----------------------------------------------------------------------------------------------------------------

static void put_quoted(struct buf *out, struct slice s)
{
    buf_u8(out, '\'');
    for (size_t i = 0; i < s.len; i++) {
        buf_printf(out, s.p[i] == '\'' ? "''" : "%c", s.p[i]);
    }
    buf_u8(out, '\'');
}

static void put_rows(struct buf *out)
{
    buf_str(out, "CREATE TABLE d (row int PRIMARY KEY, id text, model text, version bigint, online boolean, created_us "
                 "bigint, tags jsonb, "
                 "reported jsonb);\n");
    for (unsigned i = 0; i < ROWS; i++) {
        const struct device_row *r = &rows[i];
        buf_printf(out, "INSERT INTO d SELECT %u, 'd%u', ", i, i);
        put_quoted(out, slice_str(r->model));
        buf_printf(out, "::jsonb #>> '{}', %d, %s, %lld, ", r->version, r->online ? "true" : "false",
                   (long long)r->created_us);
        put_quoted(out, slice_str(r->tags));
        buf_str(out, "::jsonb, ");
        put_quoted(out, slice_str(r->reported));
        buf_str(out, "::jsonb;\n");
    }
}

// '{1,5,7}'::int[] of the rows for which the program is true; NULL: all.
static unsigned put_set(struct buf *out, const struct expr_program *p)
{
    unsigned found = 0;
    buf_str(out, "'{");
    for (unsigned i = 0; i < ROWS; i++) {
        struct expr_value v = expr_bool(true);
        if (p != NULL) {
            assert_int_equal(expr_eval(p, &rows[i].device.view, &frame, &v), ST_OK);
        }
        if (expr_is_true(&v)) {
            buf_printf(out, "%s%u", found > 0 ? "," : "", i);
            found++;
        }
    }
    buf_str(out, "}'::int[]");
    return found;
}

static void put_params(struct buf *out, const struct translated *t)
{
    for (unsigned i = 0; i < t->where.param_count; i++) {
        struct expr_value v = expr_sql_param(&t->where, i, rows[0].device.view.now_us, &frame);
        struct buf scratch = buf_heap(4096);
        buf_str(out, i == 0 ? "(" : ", ");
        if (v.type == EXPR_TIME) {
            buf_printf(out, "%lld", (long long)v.i);
        } else if (v.type == EXPR_NULL) {
            buf_str(out, "NULL");
        } else {
            struct expr_value text = expr_to_text(&v, &scratch);
            put_quoted(out, expr_value_slice(&text));
        }
        buf_release(&scratch);
    }
    buf_str(out, t->where.param_count > 0 ? ")" : "");
}

// A statement that prints the expression when the rows differ from those the evaluator keeps. Returns how many these are.
static unsigned put_query(struct buf *out, const char *text, const struct translated *t, bool lie)
{
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    struct expr_program *p;
    assert_int_equal(expr_program_make(slice_str(text), &o, &p, NULL), ST_OK);
    buf_str(out, "PREPARE p AS SELECT ");
    put_quoted(out, slice_str(text));
    buf_str(out, " WHERE (SELECT coalesce(array_agg(row ORDER BY row), '{}') FROM d WHERE ");
    buf_slice(out, t->where.sql.len > 0 ? buf_view(&t->where.sql) : SLICE("true"));
    buf_str(out, " AND row = ANY (");
    put_set(out, t->where.residual);
    buf_str(out, lie ? ")) IS NOT DISTINCT FROM " : ")) IS DISTINCT FROM ");
    unsigned found = put_set(out, p);
    buf_str(out, ";\nEXECUTE p");
    put_params(out, t);
    buf_str(out, ";\nDEALLOCATE p;\n");
    expr_program_free(p);
    return found;
}

static void put_queries(struct buf *out)
{
    unsigned compared = 0;
    unsigned exact = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < EXPRESSIONS; i++) {
        char text[4096];
        struct buf b = buf_fixed(text, sizeof(text) - 1);
        struct translated t;
        put_expression(&b);
        text[b.len] = '\0';
        if (!translate(text, EXPR_POSTGRES, 1, &t)) {
            continue; // a time beside a number, and the like
        }
        found += put_query(out, text, &t, false);
        compared++;
        exact += t.where.residual == NULL ? 1 : 0;
        translated_end(&t);
    }
    assert_true(compared > EXPRESSIONS / 2 && exact > compared / 3 && exact < compared && found > compared * ROWS / 20);
    // One that must be printed: or nothing would be looked at.
    struct translated t;
    assert_true(translate("version > 2", EXPR_POSTGRES, 1, &t));
    put_query(out, "version > 2", &t, true);
    translated_end(&t);
}

// ---- The server ------------------------------------------------------------------------------------------------------------------

static char folder[] = "/tmp/expr_postgres.XXXXXX";

// Runs a command of PostgreSQL's, as its user when we are root, which it refuses to be.
static int run(const char *bin, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof(command), "cd %s && %s%s/%s", folder, geteuid() == 0 ? "runuser -u postgres -- " : "", bin,
             arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_script(const char *path)
{
    struct buf script = buf_heap(SCRIPT_BYTES);
    put_rows(&script);
    put_queries(&script);
    assert_false(script.failed);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(script.p, 1, script.len, f), script.len);
    assert_int_equal(fclose(f), 0);
    buf_release(&script);
}

static void compare(const char *bin)
{
    char path[256];
    char line[4096];
    snprintf(path, sizeof(path), "%s/script.sql", folder);
    write_script(path);
    int status = run(bin, "psql -h $PWD -U muster -d postgres -qtA -v ON_ERROR_STOP=1 -f script.sql >out 2>&1");
    snprintf(path, sizeof(path), "%s/out", folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    unsigned lines = 0;
    bool control = false;
    while (fgets(line, sizeof(line), f) != NULL) {
        control = strcmp(line, "version > 2\n") == 0;
        lines++;
        if (!control && lines < 10) {
            print_message("%s", line);
        }
    }
    fclose(f);
    assert_int_equal(status, 0);
    assert_true(control);
    assert_int_equal(lines, 1);
}

static void same_rows(void **state)
{
    (void)state;
    glob_t found;
    char bin[256] = "";
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0) {
        snprintf(bin, sizeof(bin), "%.*s", (int)(strlen(found.gl_pathv[0]) - strlen("/initdb")), found.gl_pathv[0]);
    }
    globfree(&found);
    if (bin[0] == '\0' || mkdtemp(folder) == NULL) {
        skip();
    }
    char command[256];
    snprintf(command, sizeof(command), "chmod 755 %s && { test $(id -u) -ne 0 || chown postgres %s; }", folder, folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(run(bin, "initdb -D data -A trust -E UTF8 --locale=C.UTF-8 --no-sync -U muster >init.log 2>&1"),
                     0);
    assert_int_equal(
        run(bin,
            "pg_ctl -D data -w -l server.log -o \"-c listen_addresses='' -c fsync=off -k $PWD\" start >start.log 2>&1"),
        0);
    compare(bin);
}

static int stop(void **state)
{
    (void)state;
    char command[512];
    if (strchr(folder, 'X') != NULL && access(folder, F_OK) != 0) {
        return 0; // it was never started
    }
    snprintf(command, sizeof(command),
             "%s/usr/lib/postgresql/*/bin/pg_ctl -D %s/data -m immediate stop >/dev/null 2>&1; rm -rf %s",
             geteuid() == 0 ? "runuser -u postgres -- " : "", folder, folder);
    return system(command) < 0 ? 1 : 0;
}

static int setup(void **state)
{
    (void)state;
    find_roots();
    rows = calloc(ROWS, sizeof(*rows));
    for (unsigned i = 0; rows != NULL && i < ROWS; i++) {
        make_row(&rows[i], i);
    }
    return rows != NULL ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    free(rows);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sql_text),
        cmocka_unit_test_teardown(same_rows, stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
