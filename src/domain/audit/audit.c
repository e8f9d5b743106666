#include "domain/audit/audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "core/cursor.h"
#include "core/ids.h"
#define SQL_AUDIT_DEFINE
#include "domain/audit/sql/audit.sql.h"

// Rows looked at by one call; a filter that matches little then pages on instead of holding a reader.
#define SCAN_MAX 20000

enum { CURSOR_TIME = 1, CURSOR_OBJECT = 2 };

static const char *const kind_texts[] = {
    [WHO_NOBODY] = "nobody", [WHO_OPERATOR] = "operator", [WHO_DEVICE] = "device",
    [WHO_CLAIM] = "claim",   [WHO_SYSTEM] = "system",     [WHO_ANONYMOUS] = "anonymous"};

enum status audit_write_for(struct tx *tx, uint32_t tenant, const char *action, const char *object_kind,
                            struct slice object, struct slice before, struct slice after, struct err *err)
{
    const struct principal system = principal_system();
    const struct principal *who = tx->who != NULL ? tx->who : &system;
    if (tx->operation == 0) {
        tx->operation = id_new();
    }
    STMT(s, tx->db, &sql_audit[SQL_AUDIT_WRITE]);
    stmt_bind_i64(s, 1, tx->now_us);
    stmt_bind_i64(s, 2, tenant);
    stmt_bind_i64(s, 3, who->kind);
    stmt_bind_str(s, 4, who->name);
    stmt_bind_str(s, 5, who->addr);
    stmt_bind_str(s, 6, action);
    stmt_bind_str(s, 7, object_kind);
    stmt_bind_text(s, 8, object.p != NULL ? object : SLICE(""));
    stmt_bind_text(s, 9, before);
    stmt_bind_text(s, 10, after);
    stmt_bind_i64(s, 11, (int64_t)tx->operation);
    return stmt_run(s, err);
}

enum status audit_write(struct tx *tx, const char *action, const char *object_kind, struct slice object,
                        struct slice before, struct slice after, struct err *err)
{
    uint32_t tenant = tx->who != NULL ? tx->who->tenant : principal_system().tenant;
    return audit_write_for(tx, tenant, action, object_kind, object, before, after, err);
}

static bool row_matches(struct stmt *s, const struct audit_filter *f)
{
    int64_t ts_us = col_i64(s, 1);
    return ts_us >= f->from_us && ts_us < f->to_us && (f->actor.p == NULL || slice_eq(f->actor, col_text(s, 3))) &&
           (f->action.p == NULL || slice_eq(f->action, col_text(s, 5))) &&
           (f->object_kind.p == NULL || slice_eq(f->object_kind, col_text(s, 6))) &&
           (f->object.p == NULL || slice_eq(f->object, col_text(s, 7)));
}

static void write_json_or_null(struct jw *out, const char *key, struct slice json)
{
    jw_key(out, key);
    if (json.p == NULL) {
        jw_null(out);
    } else {
        jw_raw(out, json);
    }
}

static void write_row(struct stmt *s, struct jw *out)
{
    char time[CLOCK_RFC3339_MAX];
    clock_rfc3339(col_i64(s, 1), time);
    int64_t kind = col_i64(s, 2);
    char operation[17];
    (void)snprintf(operation, sizeof(operation), "%016" PRIx64, (uint64_t)col_i64(s, 10));
    jw_object(out);
    jw_key(out, "seq");
    jw_int(out, col_i64(s, 0));
    jw_key(out, "time");
    jw_str(out, time);
    jw_key(out, "actor_kind");
    jw_str(out, kind >= 0 && kind <= WHO_ANONYMOUS ? kind_texts[kind] : "unknown");
    jw_key(out, "actor");
    jw_slice(out, col_text(s, 3));
    jw_key(out, "address");
    jw_slice(out, col_text(s, 4));
    jw_key(out, "action");
    jw_slice(out, col_text(s, 5));
    jw_key(out, "object_kind");
    jw_slice(out, col_text(s, 6));
    jw_key(out, "object");
    jw_slice(out, col_text(s, 7));
    write_json_or_null(out, "before", col_text(s, 8));
    write_json_or_null(out, "after", col_text(s, 9));
    jw_key(out, "operation");
    jw_str(out, operation);
    jw_object_end(out);
}

// Steps over the driving index, writes what matches, and says where it stopped.
static enum status write_page(struct stmt *s, const struct audit_filter *f, uint8_t kind, struct jw *out,
                              struct err *err)
{
    int64_t written = 0;
    int64_t scanned = 0;
    bool row = true;
    struct cursor at = {.kind = kind};
    jw_key(out, "items");
    jw_array(out);
    while (written < f->limit && scanned < SCAN_MAX) {
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK) {
            return st;
        }
        if (!row) {
            break;
        }
        scanned++;
        at.a = col_i64(s, 1);
        at.b = col_i64(s, 0);
        if (row_matches(s, f)) {
            write_row(s, out);
            written++;
        }
    }
    jw_array_end(out);
    jw_key(out, "next");
    return cursor_write(row ? &at : NULL, out, err);
}

enum status audit_list(struct tx *tx, const struct audit_filter *f, struct jw *out, struct err *err)
{
    uint8_t kind = f->object.p != NULL ? CURSOR_OBJECT : CURSOR_TIME;
    uint8_t mem[CURSOR_MAX];
    struct cursor from = {.kind = kind, .a = INT64_MAX, .b = INT64_MAX};
    enum status st = cursor_read(f->cursor, kind, mem, &from, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_audit[kind == CURSOR_OBJECT ? SQL_AUDIT_BY_OBJECT : SQL_AUDIT_BY_TIME]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    if (kind == CURSOR_OBJECT) {
        stmt_bind_text(s, 2, f->object);
        stmt_bind_i64(s, 3, from.b);
    } else {
        stmt_bind_i64(s, 2, f->from_us);
        stmt_bind_i64(s, 3, f->to_us);
        stmt_bind_i64(s, 4, from.a);
        stmt_bind_i64(s, 5, from.b);
    }
    jw_object(out);
    st = write_page(s, f, kind, out, err);
    if (st == ST_OK) {
        jw_object_end(out);
    }
    return st;
}
