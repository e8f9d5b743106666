#include "domain/audit/audit.h"

#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#define SQL_AUDIT_DEFINE
#include "domain/audit/sql/audit.sql.h"

// Rows looked at by one call; a filter that matches little then pages on instead of holding a reader.
#define SCAN_MAX 20000

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

static void write_row(struct stmt *s, struct jw *out)
{
    int64_t kind = col_i64(s, 2);
    jw_object(out);
    jw_member_int(out, "seq", col_i64(s, 0));
    jw_member_time(out, "time", col_i64(s, 1));
    jw_member_str(out, "actor_kind", kind >= 0 && kind <= WHO_ANONYMOUS ? kind_texts[kind] : "unknown");
    jw_member_text(out, "actor", col_text(s, 3));
    jw_member_text(out, "address", col_text(s, 4));
    jw_member_text(out, "action", col_text(s, 5));
    jw_member_text(out, "object_kind", col_text(s, 6));
    jw_member_text(out, "object", col_text(s, 7));
    jw_member_json(out, "before", col_text(s, 8));
    jw_member_json(out, "after", col_text(s, 9));
    jw_member_row_id(out, "operation", (uint64_t)col_i64(s, 10));
    jw_object_end(out);
}

// Steps over the driving index and writes what matches.
enum status audit_list(struct tx *tx, const struct audit_filter *f, struct jw *out, struct err *err)
{
    bool by_object = f->object.p != NULL;
    struct page p = {.limit = f->limit,
                     .scan_max = SCAN_MAX,
                     .from = {.kind = by_object ? PAGE_AUDIT_OBJECT : PAGE_AUDIT_TIME, .a = INT64_MAX, .b = INT64_MAX}};
    enum status st = page_begin(&p, f->cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_audit[by_object ? SQL_AUDIT_BY_OBJECT : SQL_AUDIT_BY_TIME]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    if (by_object) {
        stmt_bind_text(s, 2, f->object);
        stmt_bind_i64(s, 3, p.from.b);
    } else {
        stmt_bind_i64(s, 2, f->from_us);
        stmt_bind_i64(s, 3, f->to_us);
        stmt_bind_i64(s, 4, p.from.a);
        stmt_bind_i64(s, 5, p.from.b);
    }
    while (page_next(&p, s, err)) {
        struct cursor key = {.a = col_i64(s, 1), .b = col_i64(s, 0)};
        if (row_matches(s, f)) {
            write_row(s, out);
            page_wrote(&p, key);
        } else {
            page_skipped(&p, key);
        }
    }
    return page_end(&p, err);
}
