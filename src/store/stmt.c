// Prepared statements: cached per connection by the address of their definition, bound by index, read by column.
#include <stdlib.h>

#include "base/log.h"
#include "store/db_priv.h"

// The statement db_stmt hands out when it has none: every bind is ignored, every step returns why.
static struct stmt *stmt_broken(struct db *db, const struct sql_def *def, enum status why)
{
    db->broken = (struct stmt){.db = db, .def = def, .failed = why};
    return &db->broken;
}

static void stmt_clear(struct stmt *s)
{
    sqlite3_reset(s->s);
    sqlite3_clear_bindings(s->s);
    s->failed = ST_OK;
    s->done = false;
}

static enum status stmt_prepare(struct db *db, const struct sql_def *def, struct stmt **ret, struct err *err)
{
    struct stmt *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ST_NOMEM, "%s: no memory for statement %s", db->path, def->name);
    }
    const char *tail = NULL;
    int rc = sqlite3_prepare_v3(db->h, def->text, -1, SQLITE_PREPARE_PERSISTENT, &s->s, &tail);
    if (rc != SQLITE_OK || s->s == NULL) {
        free(s);
        enum status st =
            rc == SQLITE_OK ? err_set(err, ST_INTERNAL, "empty statement") : db_result(db, rc, "prepare", err);
        err_wrap(err, "statement %s", def->name);
        return st;
    }
    s->db = db;
    s->def = def;
    if (!map_set_u64(&db->stmts, (uint64_t)(uintptr_t)def, s)) {
        sqlite3_finalize(s->s);
        free(s);
        return err_set(err, ST_NOMEM, "%s: no memory for statement %s", db->path, def->name);
    }
    *ret = s;
    return ST_OK;
}

struct stmt *db_stmt(struct db *db, const struct sql_def *def)
{
    struct stmt *s = map_get_u64(&db->stmts, (uint64_t)(uintptr_t)def);
    if (s != NULL) {
        stmt_clear(s);
        return s;
    }
    struct err err = {0};
    enum status st = stmt_prepare(db, def, &s, &err);
    if (st != ST_OK) {
        log_error("store", "statement not prepared", LOGS("statement", def->name), LOGS("error", err.text));
        return stmt_broken(db, def, st);
    }
    return s;
}

enum status db_prepare_all(struct db *db, const struct sql_def *defs, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct stmt *s = NULL;
        if (map_get_u64(&db->stmts, (uint64_t)(uintptr_t)&defs[i]) != NULL) {
            continue;
        }
        enum status st = stmt_prepare(db, &defs[i], &s, err);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

static void stmt_bound(struct stmt *s, int rc)
{
    if (rc == SQLITE_OK || s->failed != ST_OK) {
        return;
    }
    s->failed = rc == SQLITE_NOMEM ? ST_NOMEM : rc == SQLITE_TOOBIG ? ST_TOO_LARGE : ST_INTERNAL;
}

void stmt_bind_i64(struct stmt *s, int i, int64_t v)
{
    if (s->s != NULL) {
        stmt_bound(s, sqlite3_bind_int64(s->s, i, v));
    }
}

void stmt_bind_f64(struct stmt *s, int i, double v)
{
    if (s->s != NULL) {
        stmt_bound(s, sqlite3_bind_double(s->s, i, v));
    }
}

void stmt_bind_text(struct stmt *s, int i, struct slice v)
{
    if (s->s != NULL) {
        stmt_bound(s, sqlite3_bind_text64(s->s, i, (const char *)v.p, v.len, SQLITE_STATIC, SQLITE_UTF8));
    }
}

void stmt_bind_str(struct stmt *s, int i, const char *v)
{
    stmt_bind_text(s, i, slice_str(v));
}

void stmt_bind_blob(struct stmt *s, int i, struct slice v)
{
    if (s->s != NULL) {
        stmt_bound(s, sqlite3_bind_blob64(s->s, i, v.p, v.len, SQLITE_STATIC));
    }
}

void stmt_bind_null(struct stmt *s, int i)
{
    if (s->s != NULL) {
        stmt_bound(s, sqlite3_bind_null(s->s, i));
    }
}

enum status stmt_step(struct stmt *s, bool *ret_row, struct err *err)
{
    if (ret_row != NULL) {
        *ret_row = false;
    }
    if (s->failed != ST_OK) {
        return err_set(err, s->failed, "statement %s: not prepared or not bound", s->def->name);
    }
    if (s->done) { // SQLite would start it again
        return ST_OK;
    }
    enum status st = db_tx_check(s->db, err);
    if (st != ST_OK) {
        return st;
    }
    int rc = sqlite3_step(s->s);
    if (rc == SQLITE_ROW) {
        if (ret_row != NULL) {
            *ret_row = true;
        }
        return ST_OK;
    }
    if (rc == SQLITE_DONE) {
        s->changes = sqlite3_stmt_readonly(s->s) != 0 ? 0 : sqlite3_changes64(s->db->h);
        s->done = true;
        return ST_OK;
    }
    // The full reason is the connection's; taken before the reset, which may clear it.
    st = db_result(s->db, sqlite3_extended_errcode(s->db->h), s->def->name, err);
    sqlite3_reset(s->s);
    return st;
}

enum status stmt_run(struct stmt *s, struct err *err)
{
    bool row = false;
    enum status st = ST_OK;
    do {
        st = stmt_step(s, &row, err);
    } while (st == ST_OK && row);
    stmt_reset(s);
    return st;
}

int64_t stmt_changes(const struct stmt *s)
{
    return s->changes;
}

void stmt_reset(struct stmt *s)
{
    if (s->s != NULL) {
        stmt_clear(s);
    }
}

int64_t col_i64(struct stmt *s, int i)
{
    return sqlite3_column_int64(s->s, i);
}

double col_f64(struct stmt *s, int i)
{
    return sqlite3_column_double(s->s, i);
}

// The value comes first: asking for it may convert, and the length is that of the converted text.
struct slice col_text(struct stmt *s, int i)
{
    const unsigned char *p = sqlite3_column_text(s->s, i);
    return p == NULL ? (struct slice){NULL, 0} : slice_make(p, (size_t)sqlite3_column_bytes(s->s, i));
}

struct slice col_blob(struct stmt *s, int i)
{
    if (sqlite3_column_type(s->s, i) == SQLITE_NULL) {
        return (struct slice){NULL, 0};
    }
    const void *p = sqlite3_column_blob(s->s, i);
    if (p == NULL) { // an empty blob has no address
        return (struct slice){(const uint8_t *)"", 0};
    }
    return slice_make(p, (size_t)sqlite3_column_bytes(s->s, i));
}

bool col_is_null(struct stmt *s, int i)
{
    return sqlite3_column_type(s->s, i) == SQLITE_NULL;
}
