#include "domain/policy/limit.h"

#include <stdlib.h>

#include "core/find.h"
#include "domain/audit/audit.h"
#define SQL_LIMIT_DEFINE
#include "domain/policy/sql/limit.sql.h"

static const struct slice none = {NULL, 0};

enum status limit_start(struct tx *tx, void *arg, struct err *err)
{
    struct quotas *q = quotas_of(tx->core);
    (void)arg;
    STMT(s, tx->db, &sql_limit[SQL_LIMIT_ALL]);
    for (;;) {
        bool row = false;
        enum quota_what w = QUOTA_MESSAGES;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        if (q != NULL && quota_parse(col_text(s, 1), &w)) { // a name of a later version stays where it is
            quota_set(q, (uint32_t)col_i64(s, 0), w, col_i64(s, 2));
        }
    }
}

// --- which tenant ------------------------------------------------------------------------------------------------

struct tenant_ref {
    uint32_t row;
    char id[ID_MAX + 1];
};

static enum status find_tenant(struct tx *tx, struct slice id, struct tenant_ref *ret, struct err *err)
{
    bool own = id.p == NULL;
    STMT(s, tx->db, &sql_limit[own ? SQL_LIMIT_TENANT_ROW : SQL_LIMIT_TENANT]);
    if (own) {
        stmt_bind_i64(s, 1, tx->who->tenant);
    } else {
        stmt_bind_text(s, 1, id);
    }
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (!row || ((uint32_t)col_i64(s, 0) != tx->who->tenant && !principal_may(tx->who, PERM_TENANT_READ))) {
        return find_missing("tenant", id, err);
    }
    ret->row = (uint32_t)col_i64(s, 0);
    return find_id(s, 1, "tenant", ret->id, err);
}

// --- reading -----------------------------------------------------------------------------------------------------

static enum status stored(struct tx *tx, uint32_t tenant, enum quota_what w, int64_t *ret, bool *ret_own,
                          struct err *err)
{
    STMT(s, tx->db, &sql_limit[SQL_LIMIT_GET]);
    stmt_bind_i64(s, 1, tenant);
    stmt_bind_str(s, 2, quota_text(w));
    enum status st = stmt_step(s, ret_own, err);
    *ret = st == ST_OK && *ret_own ? col_i64(s, 0) : QUOTA_DEFAULT;
    return st;
}

static enum status write_one(struct tx *tx, uint32_t tenant, enum quota_what w, struct jw *out, struct err *err)
{
    struct quotas *q = quotas_of(tx->core);
    int64_t value = QUOTA_DEFAULT;
    bool own = false;
    enum status st = stored(tx, tenant, w, &value, &own, err);
    if (st != ST_OK) {
        return st;
    }
    jw_object(out);
    jw_key(out, "name");
    jw_str(out, quota_text(w));
    jw_key(out, "limit");
    jw_int(out, own ? value : q != NULL ? quota_configured(q, w) : 0);
    jw_key(out, "default");
    jw_bool(out, !own);
    jw_key(out, "used");
    if (w < QUOTA_RATES || q == NULL) {
        jw_null(out);
    } else {
        jw_int(out, quota_used(q, tenant, w));
    }
    jw_key(out, "exceeded");
    jw_int(out, q != NULL ? quota_exceeded(q, tenant, w) : 0);
    jw_object_end(out);
    return ST_OK;
}

enum status limit_write(struct tx *tx, struct slice tenant, struct jw *out, struct err *err)
{
    struct tenant_ref t = {.row = 0};
    enum status st = find_tenant(tx, tenant, &t, err);
    if (st != ST_OK) {
        return st;
    }
    jw_object(out);
    jw_key(out, "tenant");
    jw_str(out, t.id);
    jw_key(out, "limits");
    jw_array(out);
    for (unsigned i = 0; st == ST_OK && i < QUOTA__COUNT; i++) {
        st = write_one(tx, t.row, (enum quota_what)i, out, err);
    }
    if (st == ST_OK) {
        jw_array_end(out);
        jw_object_end(out);
    }
    return st;
}

// --- setting -----------------------------------------------------------------------------------------------------

struct pending {
    uint32_t tenant;
    enum quota_what what;
    int64_t value;
};

static void pending_do(struct core *c, void *arg)
{
    struct pending *p = arg;
    if (quotas_of(c) != NULL) {
        quota_set(quotas_of(c), p->tenant, p->what, p->value);
    }
    free(p);
}

static void pending_drop(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

static enum status set_later(struct tx *tx, uint32_t tenant, enum quota_what w, int64_t value, struct err *err)
{
    struct pending *p = malloc(sizeof(*p));
    if (p == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    *p = (struct pending){tenant, w, value};
    if (!tx_after_commit(tx, pending_do, pending_drop, p)) {
        free(p);
        return err_set(err, ST_NOMEM, "no memory");
    }
    return ST_OK;
}

static enum status store(struct tx *tx, uint32_t tenant, enum quota_what w, int64_t value, struct err *err)
{
    STMT(s, tx->db, &sql_limit[value == QUOTA_DEFAULT ? SQL_LIMIT_DELETE : SQL_LIMIT_SET]);
    stmt_bind_i64(s, 1, tenant);
    stmt_bind_str(s, 2, quota_text(w));
    if (value != QUOTA_DEFAULT) {
        stmt_bind_i64(s, 3, value);
    }
    return stmt_run(s, err);
}

static void write_value(struct buf *text, enum quota_what w, int64_t value)
{
    struct jw out;
    jw_init(&out, text);
    jw_object(&out);
    jw_key(&out, quota_text(w));
    if (value == QUOTA_DEFAULT) {
        jw_null(&out);
    } else {
        jw_int(&out, value);
    }
    jw_object_end(&out);
}

enum status limit_set(struct tx *tx, struct slice tenant, enum quota_what w, int64_t value, struct err *err)
{
    uint8_t mem[2][64];
    struct buf before = buf_fixed(mem[0], sizeof(mem[0]));
    struct buf after = buf_fixed(mem[1], sizeof(mem[1]));
    struct tenant_ref t = {.row = 0};
    int64_t old = QUOTA_DEFAULT;
    bool own = false;
    if (value < QUOTA_DEFAULT) {
        return err_at(err, ST_INVALID, "/limit", "a limit is 0 (none) or more");
    }
    enum status st = find_tenant(tx, tenant, &t, err);
    if (st == ST_OK) {
        st = stored(tx, t.row, w, &old, &own, err);
    }
    if (st != ST_OK || old == value) {
        return st;
    }
    write_value(&before, w, old);
    write_value(&after, w, value);
    st = store(tx, t.row, w, value, err);
    if (st == ST_OK) {
        st = audit_write_for(tx, t.row, "quota.set", "tenant", slice_str(t.id), own ? buf_view(&before) : none,
                             buf_view(&after), err);
    }
    return st == ST_OK ? set_later(tx, t.row, w, value, err) : st;
}
