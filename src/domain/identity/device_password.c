#include "domain/identity/device_password.h"

#include "base/clock.h"
#include "base/reader.h"
#include "base/utf8.h"
#include "core/ids.h"
#include "core/member.h"
#include "domain/audit/audit.h"
#include "domain/identity/identity_priv.h"
#define SQL_DEVICE_PASSWORD_DEFINE
#include "domain/identity/sql/device_password.sql.h"

#define PASSWORD_MIN   8  // bytes
#define PASSWORD_BYTES 18 // of one we make: 24 characters
#define NAME_MAX_LEN   (2 * ID_MAX + 2)
#define ASK_US         80 // several times what it takes to look a name up

static const struct slice none = {NULL, 0};

// --- masks -------------------------------------------------------------------------------------------------------

// XORs a key with a keystream of this row's own (rows are never used again): with the store key it is there again, without
// it it is noise.
static void mask(const struct identity *id, uint64_t row, uint8_t which, uint8_t key[SHA256_LEN])
{
    uint8_t mem[64];
    uint8_t stream[SHA256_LEN];
    struct buf in = buf_fixed(mem, sizeof(mem));
    (void)buf_str(&in, "muster device password");
    (void)buf_u8(&in, which);
    (void)buf_u64(&in, row);
    crypto_hmac_sha256(slice_make(id->key, sizeof(id->key)), buf_view(&in), stream);
    for (unsigned i = 0; i < SHA256_LEN; i++) {
        key[i] ^= stream[i];
    }
    crypto_wipe(stream, sizeof(stream));
}

static void mask_both(const struct identity *id, uint64_t row, struct scram_verifier *v)
{
    mask(id, row, 1, v->stored_key);
    mask(id, row, 2, v->server_key);
}

// --- logging in --------------------------------------------------------------------------------------------------

static bool copy_blob(struct stmt *s, int column, uint8_t *dst, size_t len)
{
    struct buf b = buf_fixed(dst, len);
    return buf_slice(&b, col_blob(s, column)) && b.len == len;
}

static enum status read_verifier(const struct identity *id, struct stmt *s, struct device_login *ret, struct err *err)
{
    struct scram_verifier *v = &ret->verifier;
    ret->password = (uint64_t)col_i64(s, 0);
    ret->device = (uint64_t)col_i64(s, 1);
    v->iterations = (uint32_t)col_i64(s, 3);
    if (!copy_blob(s, 2, v->salt, sizeof(v->salt)) || !copy_blob(s, 4, v->stored_key, SHA256_LEN) ||
        !copy_blob(s, 5, v->server_key, SHA256_LEN)) {
        return err_set(err, ST_CORRUPT, "a stored password is damaged");
    }
    mask_both(id, ret->password, v);
    ret->known = true;
    return ST_OK;
}

// "device" is of the tenant "default"; "device@tenant" says which. '@' stands in no id.
static void split_name(struct slice name, struct slice *ret_device, struct slice *ret_tenant)
{
    const uint8_t *at = name.len > 0 ? memchr(name.p, '@', name.len) : NULL;
    *ret_device = at != NULL ? slice_head(name, (size_t)(at - name.p)) : name;
    *ret_tenant = at != NULL ? slice_from(name, ret_device->len + 1) : SLICE("default");
}

static enum status find_verifier(struct tx *tx, struct slice name, struct device_login *ret, struct err *err)
{
    struct slice device;
    struct slice tenant;
    split_name(slice_head(name, NAME_MAX_LEN), &device, &tenant);
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_BY_NAME]);
    stmt_bind_text(s, 1, tenant);
    stmt_bind_text(s, 2, device);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    return st == ST_OK && row ? read_verifier(identity_of(tx->core), s, ret, err) : st;
}

// How far a name was known shows in how much of the store was read, by a microsecond or ten: enough for who asks often. So each
// answer takes as long, by waiting here; identity.password_checks bounds what that can cost.
static void wait_until(int64_t mono_us)
{
    while (clock_mono_us() < mono_us) {
    }
}

enum status device_password_ask(struct tx *tx, struct slice name, struct device_login *ret, struct err *err)
{
    struct identity *id = identity_of(tx->core);
    int64_t now_us = clock_mono_us();
    if (!rate_take(id->passwords, 1, now_us)) {
        return err_set(err, ST_BUSY, "too many passwords are being checked: try again");
    }
    *ret = (struct device_login){.state = LOGIN_ASKED};
    // Made for known names too: who measures time learns nothing.
    scram_verifier_fake(slice_make(id->key, sizeof(id->key)), name, id->password_iterations, &ret->verifier);
    enum status st = find_verifier(tx, name, ret, err);
    wait_until(now_us + ASK_US);
    return st;
}

enum status device_password_any(struct tx *tx, bool *ret, struct err *err)
{
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_ANY]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *ret = st == ST_OK && row && col_i64(s, 0) != 0;
    return st;
}

enum status device_password_has(struct tx *tx, uint64_t device, bool *ret, struct err *err)
{
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_HAS]);
    stmt_bind_i64(s, 1, (int64_t)device);
    return stmt_step(s, ret, err);
}

enum status device_password_proved(struct tx *tx, const struct device_login *login, struct device_ref *ret,
                                   uint64_t *ret_lineage, struct err *err)
{
    if (login->state != LOGIN_PROVED || !login->known) {
        return err_set(err, ST_UNAUTHENTICATED, "unknown device or wrong password");
    }
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_DEVICE]);
    stmt_bind_i64(s, 1, (int64_t)login->password);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && (!row || (uint64_t)col_i64(s, 0) != login->device)) {
        st = err_set(err, ST_UNAUTHENTICATED, "the password was replaced or revoked meanwhile");
    }
    if (st == ST_OK) {
        *ret_lineage = (uint64_t)col_i64(s, 1);
        st = device_find_row(tx, login->device, ret, err);
    }
    return st;
}

void device_password_check(struct device_login *login, struct slice password)
{
    bool fits = scram_verifier_fits(&login->verifier, password);
    login->state = fits && login->known ? LOGIN_PROVED : LOGIN_WRONG;
}

// --- setting -----------------------------------------------------------------------------------------------------

// lineage 0: it begins one.
static enum status insert(struct tx *tx, const struct device_ref *d, uint64_t lineage, struct scram_verifier v,
                          struct err *err)
{
    uint64_t row = id_new();
    mask_both(identity_of(tx->core), row, &v);
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, (int64_t)d->row);
    stmt_bind_blob(s, 3, slice_make(v.salt, sizeof(v.salt)));
    stmt_bind_i64(s, 4, v.iterations);
    stmt_bind_blob(s, 5, slice_make(v.stored_key, SHA256_LEN));
    stmt_bind_blob(s, 6, slice_make(v.server_key, SHA256_LEN));
    stmt_bind_i64(s, 7, tx->now_us);
    stmt_bind_i64(s, 8, (int64_t)(lineage != 0 ? lineage : row));
    return stmt_run(s, err);
}

// *ret_lineage: of the password that was there, 0: there was none.
static enum status remove_old(struct tx *tx, const struct device_ref *d, uint64_t *ret_lineage, struct err *err)
{
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_DELETE]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    bool was = false;
    enum status st = stmt_step(s, &was, err);
    *ret_lineage = st == ST_OK && was ? (uint64_t)col_i64(s, 0) : 0;
    return st;
}

static enum status write_name(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    char name[NAME_MAX_LEN];
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_TENANT]);
    stmt_bind_i64(s, 1, d->tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    struct slice tenant = row ? col_text(s, 0) : none;
    struct buf b = buf_fixed(name, sizeof(name));
    (void)buf_str(&b, d->id);
    if (!slice_eq_str(tenant, "default")) {
        (void)buf_str(&b, "@");
        (void)buf_slice(&b, tenant);
    }
    jw_member_text(out, "username", buf_view(&b));
    return ST_OK;
}

static enum status record(struct tx *tx, const char *action, const struct device_ref *d, struct err *err)
{
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_EVENT]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, tx->now_us);
    enum status st = stmt_run(s, err);
    if (st != ST_OK) {
        return st;
    }
    return audit_write_for(tx, d->tenant, action, "device", slice_str(d->id), none, none, err);
}

static enum status check_length(struct slice password, struct err *err)
{
    if (password.len < PASSWORD_MIN || password.len > SCRAM_PASSWORD_MAX || !utf8_valid(password)) {
        return err_at(err, ST_INVALID, "/password", "a password is %d to %d bytes of text", PASSWORD_MIN,
                      SCRAM_PASSWORD_MAX);
    }
    return ST_OK;
}

static enum status write_made(struct tx *tx, const struct device_ref *d, const struct scram_verifier *v,
                              struct slice shown, struct jw *out, struct err *err)
{
    jw_object(out);
    jw_member_str(out, "device", d->id);
    enum status st = write_name(tx, d, out, err);
    jw_member_text(out, "password", shown);
    jw_member_int(out, "iterations", v->iterations);
    jw_member_time(out, "created", tx->now_us);
    jw_object_end(out);
    return st;
}

static enum status set(struct tx *tx, const struct device_ref *d, struct slice password, struct slice shown,
                       struct jw *out, struct err *err)
{
    struct scram_verifier v;
    uint64_t old = 0;
    enum status st = scram_verifier_make(password, identity_of(tx->core)->password_iterations, &v, err);
    if (st == ST_OK) {
        st = remove_old(tx, d, &old, err);
    }
    if (st == ST_OK) {
        st = insert(tx, d, old, v, err);
    }
    if (st == ST_OK) {
        st = record(tx, "device_password.set", d, err);
    }
    if (st == ST_OK && old != 0) { // who came in with the old one goes
        st = registry_notify(tx, d, DEVICE_CHANGE_REVOKED, err);
    }
    return st == ST_OK ? write_made(tx, d, &v, shown, out, err) : st;
}

enum status device_password_set(struct tx *tx, const struct device_ref *d, struct slice password, struct jw *out,
                                struct err *err)
{
    if (password.p != NULL) {
        enum status st = check_length(password, err);
        return st == ST_OK ? set(tx, d, password, none, out, err) : st;
    }
    char made[PASSWORD_BYTES * 4 / 3 + 4];
    enum status st = crypto_token(PASSWORD_BYTES, made, sizeof(made));
    if (st != ST_OK) {
        return err_set(err, st, "no password could be made");
    }
    st = set(tx, d, slice_str(made), slice_str(made), out, err);
    crypto_wipe(made, sizeof(made));
    return st;
}

enum status device_password_list(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_device_password[SQL_DEVICE_PASSWORD_LIST]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    jw_object(out);
    jw_key(out, "items");
    jw_array(out);
    if (st == ST_OK && row) {
        jw_object(out);
        st = write_name(tx, d, out, err);
        jw_member_int(out, "iterations", col_i64(s, 0));
        jw_member_time(out, "created", col_i64(s, 1));
        jw_object_end(out);
    }
    jw_array_end(out);
    jw_key(out, "next");
    jw_null(out);
    jw_object_end(out);
    return st;
}

enum status device_password_revoke(struct tx *tx, const struct device_ref *d, struct err *err)
{
    uint64_t old = 0;
    enum status st = remove_old(tx, d, &old, err);
    if (st == ST_OK && old == 0) {
        st = err_set(err, ST_NOT_FOUND, "device \"%s\" has no password", d->id);
    }
    if (st == ST_OK) {
        st = record(tx, "device_password.revoke", d, err);
    }
    return st == ST_OK ? registry_notify(tx, d, DEVICE_CHANGE_REVOKED, err) : st;
}
