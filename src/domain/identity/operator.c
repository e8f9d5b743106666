#include "domain/identity/operator.h"

#include "core/find.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/identity/identity_priv.h"
#define SQL_OPERATOR_DEFINE
#include "domain/identity/sql/operator.sql.h"

#define SWEEP_MS     1000
#define LOOK_BACK_US 60000000LL

static const struct slice none = {NULL, 0};

// --- coming in ---------------------------------------------------------------------------------------------------

static enum status read_principal(struct stmt *s, struct principal *ret, struct err *err)
{
    struct principal who = {.kind = WHO_OPERATOR, .tenant = (uint32_t)col_i64(s, 2), .row = (uint64_t)col_i64(s, 0)};
    enum role role = ROLE_VIEWER;
    if (!role_parse(col_text(s, 4), &role) || !slice_to_cstr(col_text(s, 3), who.name, sizeof(who.name))) {
        return err_set(err, ST_CORRUPT, "a stored operator token has no valid role or name");
    }
    who.perms = col_i64(s, 5) != 0 ? perms_all() : role_perms(role);
    *ret = who;
    return ST_OK;
}

enum status identity_bearer(struct tx *tx, struct slice token, struct principal *ret, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    token_hash(identity_of(tx->core), TOKEN_OPERATOR, token, hash);
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_BY_HASH]);
    stmt_bind_blob(s, 1, slice_make(hash, sizeof(hash)));
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (!row || !crypto_equal(col_blob(s, 1), slice_make(hash, sizeof(hash))) ||
        (!col_is_null(s, 6) && col_i64(s, 6) <= tx->now_us)) {
        return err_set(err, ST_UNAUTHENTICATED, "the token is unknown, expired or revoked");
    }
    return read_principal(s, ret, err);
}

enum status operator_principal(struct tx *tx, uint64_t row, struct principal *ret, struct err *err)
{
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_BY_ROW]);
    stmt_bind_i64(s, 1, (int64_t)row);
    bool found = false;
    enum status st = stmt_step(s, &found, err);
    if (st != ST_OK) {
        return st;
    }
    if (!found || (!col_is_null(s, 6) && col_i64(s, 6) <= tx->now_us)) {
        return err_set(err, ST_NOT_FOUND, "the token is expired or revoked");
    }
    return read_principal(s, ret, err);
}

// --- making ------------------------------------------------------------------------------------------------------

static enum status insert(struct tx *tx, uint32_t tenant, const struct operator_conf *conf, bool system,
                          const char *created_by, struct slice token, uint64_t row, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    token_hash(identity_of(tx->core), TOKEN_OPERATOR, token, hash);
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, tenant);
    stmt_bind_text(s, 3, conf->name);
    stmt_bind_str(s, 4, role_text(conf->role));
    stmt_bind_i64(s, 5, system ? 1 : 0);
    stmt_bind_blob(s, 6, slice_make(hash, sizeof(hash)));
    stmt_bind_str(s, 7, created_by);
    stmt_bind_i64(s, 8, tx->now_us);
    if (conf->ttl_us > 0) {
        stmt_bind_i64(s, 9, tx->now_us + conf->ttl_us);
    } else {
        stmt_bind_null(s, 9);
    }
    return stmt_run(s, err);
}

static enum status record(struct tx *tx, uint32_t tenant, const char *action, struct slice name, enum role role,
                          bool made, struct err *err)
{
    uint8_t mem[64];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "role", role_text(role));
    jw_object_end(&w);
    return audit_write_for(tx, tenant, action, "token", name, made ? none : buf_view(&text),
                           made ? buf_view(&text) : none, err);
}

enum status operator_make(struct tx *tx, uint32_t tenant, const struct operator_conf *conf, bool system,
                          const char *created_by, char token[TOKEN_TEXT_MAX], uint64_t *ret_row, struct err *err)
{
    uint64_t row = id_new();
    enum status st = token_make(TOKEN_OPERATOR, token, err);
    if (st == ST_OK) {
        st = insert(tx, tenant, conf, system, created_by, slice_str(token), row, err);
    }
    if (st == ST_EXISTS) {
        st = err_at(err, ST_EXISTS, "/name", "token \"" SLICE_FMT "\" is already there", SLICE_ARG(conf->name));
    }
    if (st == ST_OK) {
        *ret_row = row;
        st = record(tx, tenant, "token.create", conf->name, conf->role, true, err);
    }
    return st;
}

static enum status check_conf(const struct principal *who, const struct operator_conf *conf, struct err *err)
{
    if (!id_valid(conf->name)) {
        return err_at(err, ST_INVALID, "/name", "a token's name is 1 to %d characters of A-Z a-z 0-9 . _ : -", ID_MAX);
    }
    if (conf->ttl_us != 0 && (conf->ttl_us < 1000000 || conf->ttl_us > OPERATOR_TTL_MAX_US)) {
        return err_at(err, ST_INVALID, "/ttl", "a token lives between 1s and 3660d");
    }
    if ((role_perms(conf->role) & ~who->perms) != 0) {
        return err_at(err, ST_FORBIDDEN, "/role", "the role %s may do more than you may", role_text(conf->role));
    }
    return ST_OK;
}

enum status operator_create(struct tx *tx, const struct operator_conf *conf, struct jw *out, struct err *err)
{
    char token[TOKEN_TEXT_MAX] = "";
    uint64_t row = 0;
    enum status st = check_conf(tx->who, conf, err);
    if (st == ST_OK) {
        st = operator_make(tx, tx->who->tenant, conf, false, tx->who->name, token, &row, err);
    }
    if (st == ST_OK) {
        jw_object(out);
        jw_member_str(out, "token", token);
        jw_member_row_id(out, "id", row);
        jw_member_text(out, "name", conf->name);
        jw_member_str(out, "role", role_text(conf->role));
        jw_member_time(out, "created", tx->now_us);
        jw_member_time_or_null(out, "expires", conf->ttl_us > 0, tx->now_us + conf->ttl_us);
        jw_object_end(out);
    }
    crypto_wipe(token, sizeof(token));
    return st;
}

// --- listing -----------------------------------------------------------------------------------------------------

static void write_token(struct stmt *s, struct jw *out)
{
    jw_object(out);
    jw_member_row_id(out, "id", (uint64_t)col_i64(s, 0));
    jw_member_text(out, "name", col_text(s, 1));
    jw_member_text(out, "role", col_text(s, 2));
    jw_key(out, "system");
    jw_bool(out, col_i64(s, 3) != 0);
    jw_member_time(out, "created", col_i64(s, 4));
    jw_member_text(out, "created_by", col_text(s, 5));
    jw_member_time_col(out, "expires", s, 6);
    jw_object_end(out);
}

static void write_tenant(struct stmt *s, struct jw *out)
{
    jw_object(out);
    jw_member_text(out, "id", col_text(s, 1));
    jw_member_time(out, "created", col_i64(s, 2));
    jw_object_end(out);
}

enum status operator_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_OPERATORS}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, p.from.text);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_token(s, out);
        page_wrote(&p, (struct cursor){.text = col_text(s, 1)});
    }
    return page_end(&p, err);
}

// --- revoking ----------------------------------------------------------------------------------------------------

static enum status check_not_last(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_SYSTEM_COUNT]);
    stmt_bind_i64(s, 1, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && (!row || col_i64(s, 0) <= 1)) {
        st = err_set(err, ST_CONFLICT, "this is the last token of the system owner; without it nobody manages tenants");
    }
    return st;
}

static enum status tell_gone(struct tx *tx, uint32_t tenant, uint64_t row, struct err *err)
{
    const struct identity *id = identity_of(tx->core);
    return id->operator_gone != NULL ? id->operator_gone(tx, tenant, row, err) : ST_OK;
}

// Tokens that ran out within the last minute: told of again and again, since nobody knows whether the last time was committed.
static enum status sweep(struct tx *tx, struct err *err)
{
    enum status st = ST_OK;
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_EXPIRED]);
    stmt_bind_i64(s, 1, tx->now_us - LOOK_BACK_US);
    stmt_bind_i64(s, 2, tx->now_us);
    for (bool row = true; st == ST_OK && row;) {
        st = stmt_step(s, &row, err);
        if (st == ST_OK && row) {
            st = tell_gone(tx, (uint32_t)col_i64(s, 0), (uint64_t)col_i64(s, 1), err);
        }
    }
    return st;
}

void operator_on_gone(struct core *c, operator_gone_fn fn)
{
    identity_of(c)->operator_gone = fn;
    core_every(c, SWEEP_MS, sweep);
}

enum status operator_revoke(struct tx *tx, struct slice name, struct err *err)
{
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_FIND]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, name);
    enum status st = find_row(s, "token", name, err);
    enum role role = ROLE_OWNER;
    if (st == ST_OK && !role_parse(col_text(s, 1), &role)) {
        st = err_set(err, ST_CORRUPT, "a stored operator token has no valid role");
    }
    if (st != ST_OK) {
        return st;
    }
    bool system = col_i64(s, 2) != 0;
    uint64_t perms = system ? perms_all() : role_perms(role);
    if ((perms & ~tx->who->perms) != 0) {
        return err_set(err, ST_FORBIDDEN, "that token may do more than you may");
    }
    st = system ? check_not_last(tx, err) : ST_OK;
    if (st != ST_OK) {
        return st;
    }
    uint64_t token = (uint64_t)col_i64(s, 0);
    STMT(del, tx->db, &sql_operator[SQL_OPERATOR_DELETE]);
    stmt_bind_i64(del, 1, (int64_t)token);
    st = stmt_run(del, err);
    if (st == ST_OK) {
        st = record(tx, tx->who->tenant, "token.revoke", name, role, false, err);
    }
    return st == ST_OK ? tell_gone(tx, tx->who->tenant, token, err) : st;
}

// --- tenants -----------------------------------------------------------------------------------------------------

static enum status insert_tenant(struct tx *tx, struct slice id, uint32_t *ret_row, struct err *err)
{
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_TENANT_INSERT]);
    stmt_bind_text(s, 1, id);
    stmt_bind_i64(s, 2, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_EXISTS) {
        return err_at(err, ST_EXISTS, "/id", "tenant \"" SLICE_FMT "\" is already there", SLICE_ARG(id));
    }
    if (st == ST_OK && (!row || col_i64(s, 0) > UINT32_MAX)) {
        return err_set(err, ST_LIMIT, "there are too many tenants");
    }
    if (st == ST_OK) {
        *ret_row = (uint32_t)col_i64(s, 0);
    }
    return st;
}

enum status tenant_create(struct tx *tx, struct slice id, struct jw *out, struct err *err)
{
    char token[TOKEN_TEXT_MAX] = "";
    uint32_t tenant = 0;
    uint64_t row = 0;
    if (!id_valid(id)) {
        return err_at(err, ST_INVALID, "/id", "a tenant's id is 1 to %d characters of A-Z a-z 0-9 . _ : -", ID_MAX);
    }
    enum status st = insert_tenant(tx, id, &tenant, err);
    if (st == ST_OK) {
        st = audit_write(tx, "tenant.create", "tenant", id, none, none, err);
    }
    if (st == ST_OK) {
        struct operator_conf owner = {.name = SLICE("owner"), .role = ROLE_OWNER};
        st = operator_make(tx, tenant, &owner, false, tx->who->name, token, &row, err);
    }
    if (st == ST_OK) {
        jw_object(out);
        jw_member_text(out, "id", id);
        jw_member_time(out, "created", tx->now_us);
        jw_member_str(out, "token", token);
        jw_object_end(out);
    }
    crypto_wipe(token, sizeof(token));
    return st;
}

enum status tenant_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_TENANTS}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_TENANT_LIST]);
    stmt_bind_i64(s, 1, p.from.a);
    stmt_bind_i64(s, 2, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_tenant(s, out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}
