// What policies are attached to.

#include "core/find.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/policy/policy_priv.h"
#define SQL_ATTACHMENT_DEFINE
#include "domain/policy/sql/attachment.sql.h"

static const struct slice none = {NULL, 0};

static const char *const kind_texts[] = {[TARGET_DEVICE] = "device",
                                         [TARGET_GROUP] = "group",
                                         [TARGET_CLAIM] = "claim",
                                         [TARGET_TOKEN] = "token",
                                         [TARGET_TENANT] = "tenant"};

const char *policy_target_kind_text(enum policy_target_kind k)
{
    return k >= TARGET_DEVICE && k <= TARGET_TENANT ? kind_texts[k] : "unknown";
}

bool policy_target_kind_parse(struct slice text, enum policy_target_kind *ret)
{
    for (unsigned i = TARGET_DEVICE; i <= TARGET_TENANT; i++) {
        if (slice_eq_str(text, kind_texts[i])) {
            *ret = (enum policy_target_kind)i;
            return true;
        }
    }
    return false;
}

// --- targets -----------------------------------------------------------------------------------------------------

static enum status target_missing(enum policy_target_kind kind, struct slice id, struct err *err)
{
    return find_missing(policy_target_kind_text(kind), id, err);
}

// A row by one statement with tenant and key.
static enum status find_target(struct tx *tx, int statement, struct slice id, const int64_t *row_id,
                               struct policy_target *ret, struct err *err)
{
    STMT(s, tx->db, &sql_attachment[statement]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    if (row_id != NULL) {
        stmt_bind_i64(s, 2, *row_id);
    } else {
        stmt_bind_text(s, 2, id);
    }
    enum status st = find_row(s, policy_target_kind_text(ret->kind), id, err);
    if (st == ST_OK) {
        ret->row = (uint64_t)col_i64(s, 0);
    }
    return st;
}

static enum status find_device(struct tx *tx, struct slice id, struct policy_target *ret, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, id, &d, err);
    if (st == ST_OK) {
        ret->row = d.row;
    }
    return st;
}

static enum status find_group(struct tx *tx, struct slice id, struct policy_target *ret, struct err *err)
{
    struct group_ref g;
    enum status st = group_find(tx, id, &g, err);
    if (st == ST_OK) {
        ret->row = g.row;
    }
    return st;
}

static enum status find_claim(struct tx *tx, struct slice id, struct policy_target *ret, struct err *err)
{
    uint64_t row = 0;
    if (!row_id_parse(id, &row)) {
        return target_missing(TARGET_CLAIM, id, err);
    }
    return find_target(tx, SQL_ATTACHMENT_CLAIM, id, &(int64_t){(int64_t)row}, ret, err);
}

static enum status find_token(struct tx *tx, struct slice id, struct policy_target *ret, struct err *err)
{
    return find_target(tx, SQL_ATTACHMENT_TOKEN, id, NULL, ret, err);
}

// Nobody names another tenant than their own.
static enum status find_tenant(struct tx *tx, struct slice id, struct policy_target *ret, struct err *err)
{
    STMT(s, tx->db, &sql_attachment[SQL_ATTACHMENT_TENANT]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (!row || (id.len > 0 && !slice_eq(id, col_text(s, 0)))) {
        return target_missing(TARGET_TENANT, id, err);
    }
    ret->row = tx->who->tenant;
    return find_id(s, 0, "tenant", ret->id, err);
}

enum status policy_target_find(struct tx *tx, enum policy_target_kind kind, struct slice id, struct policy_target *ret,
                               struct err *err)
{
    static enum status (*const by_kind[])(struct tx *, struct slice, struct policy_target *,
                                          struct err *) = {[TARGET_DEVICE] = find_device,
                                                           [TARGET_GROUP] = find_group,
                                                           [TARGET_CLAIM] = find_claim,
                                                           [TARGET_TOKEN] = find_token,
                                                           [TARGET_TENANT] = find_tenant};
    *ret = (struct policy_target){.kind = kind};
    if (!slice_to_cstr(id, ret->id, sizeof(ret->id))) {
        return target_missing(kind, id, err);
    }
    return by_kind[kind](tx, id, ret, err);
}

// --- attaching ---------------------------------------------------------------------------------------------------

static enum status check_room(struct tx *tx, const struct policy_target *t, struct err *err)
{
    STMT(s, tx->db, &sql_attachment[SQL_ATTACHMENT_COUNT]);
    stmt_bind_i64(s, 1, t->kind);
    stmt_bind_i64(s, 2, (int64_t)t->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row && col_i64(s, 0) > POLICY_PER_TARGET_MAX) {
        st = err_set(err, ST_LIMIT, "%s \"%s\" has %d policies, which is the most", policy_target_kind_text(t->kind),
                     t->id, POLICY_PER_TARGET_MAX);
    }
    return st;
}

static enum status record(struct tx *tx, const struct policy_ref *p, const struct policy_target *t, bool attached,
                          struct err *err)
{
    uint8_t mem[ID_MAX * 6 + 64];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "kind", policy_target_kind_text(t->kind));
    jw_member_str(&w, "target", t->id);
    jw_object_end(&w);
    return audit_write(tx, attached ? "policy.attach" : "policy.detach", "policy", slice_str(p->id),
                       attached ? none : buf_view(&text), attached ? buf_view(&text) : none, err);
}

// Whose permits the attachment concerns. A claim's concerns nobody yet.
static enum status tell(struct tx *tx, const struct policy_target *t, struct err *err)
{
    uint32_t tenant = tx->who->tenant;
    switch (t->kind) {
    case TARGET_DEVICE:
        return policy_changed(tx, POLICY_OF_PRINCIPAL, tenant, WHO_DEVICE, t->row, err);
    case TARGET_TOKEN:
        return policy_changed(tx, POLICY_OF_PRINCIPAL, tenant, WHO_OPERATOR, t->row, err);
    case TARGET_GROUP:
    case TARGET_TENANT:
        return policy_changed(tx, POLICY_OF_TENANT, tenant, WHO_DEVICE, 0, err);
    case TARGET_CLAIM:
        break;
    }
    return ST_OK;
}

static enum status change(struct tx *tx, const struct policy_ref *p, const struct policy_target *t, bool attach,
                          bool *ret_changed, struct err *err)
{
    STMT(s, tx->db, &sql_attachment[attach ? SQL_ATTACHMENT_INSERT : SQL_ATTACHMENT_DELETE]);
    stmt_bind_i64(s, 1, t->kind);
    stmt_bind_i64(s, 2, (int64_t)t->row);
    stmt_bind_i64(s, 3, (int64_t)p->row);
    if (attach) {
        stmt_bind_i64(s, 4, tx->who->tenant);
        stmt_bind_i64(s, 5, tx->now_us);
    }
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
    st = attach ? check_room(tx, t, err) : ST_OK;
    if (st == ST_OK) {
        st = record(tx, p, t, attach, err);
    }
    return st == ST_OK ? tell(tx, t, err) : st;
}

enum status policy_attach(struct tx *tx, const struct policy_ref *p, const struct policy_target *t, bool *ret_changed,
                          struct err *err)
{
    return change(tx, p, t, true, ret_changed, err);
}

enum status policy_detach(struct tx *tx, const struct policy_ref *p, const struct policy_target *t, bool *ret_changed,
                          struct err *err)
{
    return change(tx, p, t, false, ret_changed, err);
}

// --- listing -----------------------------------------------------------------------------------------------------

static void write_row(struct stmt *s, const struct policy_target *t, struct jw *out)
{
    jw_object(out);
    jw_member_text(out, "policy", col_text(s, 0));
    jw_member_str(out, "kind", policy_target_kind_text((enum policy_target_kind)col_i64(s, 1)));
    jw_member_text(out, "target", t != NULL ? slice_str(t->id) : col_text(s, 2));
    jw_member_time(out, "created", col_i64(s, 3));
    jw_object_end(out);
}

// A target has few policies, so they come on one page; the places of a policy may be many.
static struct stmt *list_stmt(struct tx *tx, const struct policy_ref *policy, const struct policy_target *t,
                              const struct page *p)
{
    struct stmt *s =
        db_stmt(tx->db, &sql_attachment[policy != NULL ? SQL_ATTACHMENT_OF_POLICY : SQL_ATTACHMENT_OF_TARGET]);
    stmt_bind_i64(s, 1, policy != NULL ? (int64_t)policy->row : (int64_t)t->kind);
    stmt_bind_i64(s, 2, policy != NULL ? p->from.a : (int64_t)t->row);
    if (policy != NULL) {
        stmt_bind_i64(s, 3, p->from.b);
        stmt_bind_i64(s, 4, page_rows(p));
    }
    return s;
}

enum status policy_attachments(struct tx *tx, const struct policy_ref *policy, const struct policy_target *t,
                               struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_ATTACHMENTS}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    struct stmt *s __attribute__((cleanup(stmt_cleanup_))) = list_stmt(tx, policy, t, &p);
    while (page_next(&p, s, err)) {
        write_row(s, t, out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 1), .b = col_i64(s, 4)});
    }
    return page_end(&p, err);
}
