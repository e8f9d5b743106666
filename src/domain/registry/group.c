// Groups: named sets of devices of one tenant.

#include "base/utf8.h"
#include "core/find.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/registry/registry_priv.h"
#define SQL_DEVICE_GROUP_DEFINE
#include "domain/registry/sql/device_group.sql.h"

static const struct slice none = {NULL, 0};

enum status group_find(struct tx *tx, struct slice id, struct group_ref *ret, struct err *err)
{
    STMT(s, tx->db, &sql_device_group[SQL_DEVICE_GROUP_FIND]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, id);
    enum status st = find_row(s, "group", id, err);
    if (st != ST_OK) {
        return st;
    }
    ret->row = (uint64_t)col_i64(s, 0);
    return find_id(s, 1, "group", ret->id, err);
}

static enum status check_group(struct tx *tx, struct slice id, struct slice description, struct err *err)
{
    if (!id_valid(id)) {
        return err_at(err, ST_INVALID, "/id", "a group's id is 1 to %d characters of A-Z a-z 0-9 . _ : -", ID_MAX);
    }
    if (description.len > GROUP_DESCRIPTION_MAX || !utf8_valid(description)) {
        return err_at(err, ST_INVALID, "/description", "a description is at most %d bytes", GROUP_DESCRIPTION_MAX);
    }
    struct group_ref other;
    enum status st = group_find(tx, id, &other, NULL);
    if (st == ST_OK) {
        return err_at(err, ST_EXISTS, "/id", "group \"" SLICE_FMT "\" is already there", SLICE_ARG(id));
    }
    return st == ST_NOT_FOUND ? ST_OK : err_set(err, st, "the group's id could not be looked up");
}

enum status group_create(struct tx *tx, struct slice id, struct slice description, struct group_ref *ret,
                         struct err *err)
{
    enum status st = check_group(tx, id, description, err);
    if (st != ST_OK) {
        return st;
    }
    struct group_ref g = {.row = id_new()};
    (void)slice_to_cstr(id, g.id, sizeof(g.id)); // id_valid has bounded it
    STMT(s, tx->db, &sql_device_group[SQL_DEVICE_GROUP_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)g.row);
    stmt_bind_i64(s, 2, tx->who->tenant);
    stmt_bind_text(s, 3, id);
    stmt_bind_text(s, 4, description);
    stmt_bind_i64(s, 5, tx->now_us);
    st = stmt_run(s, err);
    if (st == ST_OK) {
        st = audit_write(tx, "group.create", "group", id, none, none, err);
    }
    if (st == ST_OK) {
        *ret = g;
    }
    return st;
}

static enum status run_for_group(struct tx *tx, int statement, uint64_t group, struct err *err)
{
    STMT(s, tx->db, &sql_device_group[statement]);
    stmt_bind_i64(s, 1, (int64_t)group);
    return stmt_run(s, err);
}

enum status group_delete(struct tx *tx, const struct group_ref *g, struct err *err)
{
    uint8_t mem[GROUP_DESCRIPTION_MAX * 6 + 2 * ID_MAX + 128];
    struct buf before = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &before);
    enum status st = group_write(tx, g, &w, err);
    if (st == ST_OK) {
        st = run_for_group(tx, SQL_DEVICE_GROUP_EMPTY, g->row, err);
    }
    if (st == ST_OK) {
        st = run_for_group(tx, SQL_DEVICE_GROUP_DELETE, g->row, err);
    }
    if (st == ST_OK) {
        st = registry_notify_data(
            tx, &(struct device_changed){.tenant = tx->who->tenant, .roots = EXPR_DEVICE_BIT(GROUPS)}, err);
    }
    if (st != ST_OK) {
        return st;
    }
    return audit_write(tx, "group.delete", "group", slice_str(g->id), buf_view(&before), none, err);
}

// --- members -----------------------------------------------------------------------------------------------------

static enum status record_member(struct tx *tx, const struct group_ref *g, const struct device_ref *d, bool added,
                                 struct err *err)
{
    uint8_t mem[ID_MAX + 32];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "device", d->id);
    jw_object_end(&w);
    return audit_write(tx, added ? "group.add" : "group.remove", "group", slice_str(g->id),
                       added ? none : buf_view(&text), added ? buf_view(&text) : none, err);
}

static enum status change_member(struct tx *tx, const struct group_ref *g, const struct device_ref *d, bool add,
                                 bool *ret_changed, struct err *err)
{
    STMT(s, tx->db, &sql_device_group[add ? SQL_DEVICE_GROUP_ADD : SQL_DEVICE_GROUP_REMOVE]);
    stmt_bind_i64(s, 1, (int64_t)g->row);
    stmt_bind_i64(s, 2, (int64_t)d->row);
    enum status st = stmt_run(s, err);
    if (st != ST_OK) {
        return st;
    }
    bool changed = stmt_changes(s) > 0;
    if (ret_changed != NULL) {
        *ret_changed = changed;
    }
    if (!changed) {
        return ST_OK;
    }
    STMT(count, tx->db, &sql_device_group[SQL_DEVICE_GROUP_COUNT]);
    stmt_bind_i64(count, 1, (int64_t)g->row);
    stmt_bind_i64(count, 2, add ? 1 : -1);
    st = stmt_run(count, err);
    if (st == ST_OK) {
        st = record_member(tx, g, d, add, err);
    }
    const struct device_changed what = {.tenant = d->tenant, .device = d->row, .roots = EXPR_DEVICE_BIT(GROUPS)};
    return st == ST_OK ? registry_notify_data(tx, &what, err) : st;
}

enum status group_add(struct tx *tx, const struct group_ref *g, const struct device_ref *d, bool *ret_changed,
                      struct err *err)
{
    return change_member(tx, g, d, true, ret_changed, err);
}

enum status group_remove(struct tx *tx, const struct group_ref *g, const struct device_ref *d, bool *ret_changed,
                         struct err *err)
{
    return change_member(tx, g, d, false, ret_changed, err);
}

enum status group_has(struct tx *tx, uint64_t group, uint64_t device, bool *ret_has, struct err *err)
{
    STMT(s, tx->db, &sql_device_group[SQL_DEVICE_GROUP_HAS]);
    stmt_bind_i64(s, 1, (int64_t)group);
    stmt_bind_i64(s, 2, (int64_t)device);
    return stmt_step(s, ret_has, err);
}

enum status group_forget_device(struct tx *tx, uint64_t device, struct err *err)
{
    enum status st = run_for_group(tx, SQL_DEVICE_GROUP_COUNT_LEAVING, device, err);
    return st == ST_OK ? run_for_group(tx, SQL_DEVICE_GROUP_LEAVE_ALL, device, err) : st;
}

// --- writing -----------------------------------------------------------------------------------------------------

static void write_row(struct stmt *s, struct jw *out)
{
    jw_object(out);
    jw_member_text(out, "id", col_text(s, 0));
    jw_member_text(out, "description", col_text(s, 1));
    jw_member_int(out, "members", col_i64(s, 2));
    jw_member_time(out, "created", col_i64(s, 3));
    jw_object_end(out);
}

enum status group_write(struct tx *tx, const struct group_ref *g, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_device_group[SQL_DEVICE_GROUP_GET]);
    stmt_bind_i64(s, 1, (int64_t)g->row);
    enum status st = find_row(s, "group", slice_str(g->id), err);
    if (st == ST_OK) {
        write_row(s, out);
    }
    return st;
}

enum status group_write_of_device(struct tx *tx, uint64_t device, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_device_group[SQL_DEVICE_GROUP_OF_DEVICE]);
    stmt_bind_i64(s, 1, (int64_t)device);
    jw_array(out);
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK) {
            return st;
        }
        if (!row) {
            break;
        }
        jw_slice(out, col_text(s, 1));
    }
    jw_array_end(out);
    return ST_OK;
}

enum status group_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_GROUPS}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_device_group[SQL_DEVICE_GROUP_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, p.from.text);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_row(s, out);
        page_wrote(&p, (struct cursor){.text = col_text(s, 0)});
    }
    return page_end(&p, err);
}
