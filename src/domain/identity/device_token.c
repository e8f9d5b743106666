#include "domain/identity/device_token.h"

#include "base/utf8.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/identity/identity_priv.h"
#define SQL_DEVICE_TOKEN_DEFINE
#include "domain/identity/sql/device_token.sql.h"

static const struct slice none = {NULL, 0};

// The one number a statement about one device gives.
static enum status one_number(struct stmt *s, uint64_t device, int64_t *ret, struct err *err)
{
    stmt_bind_i64(s, 1, (int64_t)device);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        *ret = row ? col_i64(s, 0) : 0;
    }
    return st;
}

enum status device_token_count(struct tx *tx, uint64_t device, int64_t *ret_n, struct err *err)
{
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_COUNT]);
    return one_number(s, device, ret_n, err);
}

enum status device_token_last_event_us(struct tx *tx, uint64_t device, int64_t *ret_us, struct err *err)
{
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_LAST_EVENT]);
    return one_number(s, device, ret_us, err);
}

static enum status check_room(struct tx *tx, uint64_t device, struct err *err)
{
    int64_t n = 0;
    enum status st = device == 0 ? ST_OK : device_token_count(tx, device, &n, err);
    if (st == ST_OK && n >= DEVICE_TOKENS_MAX) {
        st = err_set(err, ST_LIMIT, "a device has at most %d access tokens: revoke one first", DEVICE_TOKENS_MAX);
    }
    return st;
}

enum status device_token_check(struct tx *tx, uint64_t device, struct slice token, bool *ret_present, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    token_hash(identity_of(tx->core), TOKEN_DEVICE, token, hash);
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_HOLDER]);
    stmt_bind_blob(s, 1, slice_make(hash, sizeof(hash)));
    stmt_bind_i64(s, 2, tx->who->tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (row && (uint64_t)col_i64(s, 0) != device) {
        // Not that it is taken, nor by whom: the caller would know another device's secret.
        return err_at(err, ST_INVALID, "/access_token", "this access token cannot be used: choose another one");
    }
    *ret_present = row;
    return row ? ST_OK : check_room(tx, device, err);
}

// A token was made or revoked: in the audit record, and with the device, since a revoked token leaves no row behind.
static enum status record(struct tx *tx, const char *action, const struct device_ref *d, uint64_t row, struct err *err)
{
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_EVENT]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, tx->now_us);
    enum status st = stmt_run(s, err);
    if (st != ST_OK) {
        return st;
    }
    uint8_t mem[64];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_row_id(&w, "token", row);
    jw_object_end(&w);
    return audit_write_for(tx, d->tenant, action, "device", slice_str(d->id), none, buf_view(&text), err);
}

static enum status insert(struct tx *tx, const struct device_ref *d, struct slice token, struct slice label,
                          struct slice replaces, uint64_t *ret_row, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    uint64_t row = id_new();
    uint64_t lineage = 0;
    enum status st = lineage_replacing(tx, d->row, replaces, row, &lineage, err);
    if (st != ST_OK) {
        return st;
    }
    token_hash(identity_of(tx->core), TOKEN_DEVICE, token, hash);
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, (int64_t)d->row);
    stmt_bind_blob(s, 4, slice_make(hash, sizeof(hash)));
    stmt_bind_text(s, 5, label);
    stmt_bind_i64(s, 6, tx->now_us);
    stmt_bind_i64(s, 7, (int64_t)lineage);
    st = stmt_run(s, err);
    if (st == ST_OK) {
        *ret_row = row;
        st = record(tx, "device_token.create", d, row, err);
    }
    return st;
}

enum status device_token_add(struct tx *tx, const struct device_ref *d, struct slice token, struct slice label,
                             struct err *err)
{
    uint64_t row = 0;
    return insert(tx, d, token, label, none, &row, err);
}

enum status device_token_create(struct tx *tx, const struct device_ref *d, struct slice label, struct slice replaces,
                                struct jw *out, struct err *err)
{
    char token[TOKEN_TEXT_MAX];
    uint64_t row = 0;
    if (label.len > TOKEN_LABEL_MAX || !utf8_valid(label)) {
        return err_at(err, ST_INVALID, "/label", "a label is at most %d bytes", TOKEN_LABEL_MAX);
    }
    enum status st = check_room(tx, d->row, err);
    if (st == ST_OK) {
        st = token_make(TOKEN_DEVICE, token, err);
    }
    if (st == ST_OK) {
        st = insert(tx, d, slice_str(token), label, replaces, &row, err);
    }
    if (st == ST_OK) {
        jw_object(out);
        jw_member_row_id(out, "id", row);
        jw_member_str(out, "token", token);
        jw_member_text(out, "label", label);
        jw_member_time(out, "created", tx->now_us);
        jw_object_end(out);
    }
    crypto_wipe(token, sizeof(token));
    return st;
}

static void write_row(struct stmt *s, struct jw *out)
{
    jw_object(out);
    jw_member_row_id(out, "id", (uint64_t)col_i64(s, 0));
    jw_member_text(out, "label", col_text(s, 1));
    jw_member_time(out, "created", col_i64(s, 2));
    jw_object_end(out);
}

enum status device_token_list(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_LIST]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    return page_whole(s, write_row, out, err);
}

enum status device_token_revoke(struct tx *tx, const struct device_ref *d, struct slice id, struct err *err)
{
    uint64_t row = 0;
    if (!row_id_parse(id, &row)) {
        return err_set(err, ST_NOT_FOUND, "device \"%s\" has no such access token", d->id);
    }
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_DELETE]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, (int64_t)d->row);
    enum status st = stmt_run(s, err);
    if (st == ST_OK && stmt_changes(s) == 0) {
        st = err_set(err, ST_NOT_FOUND, "device \"%s\" has no such access token", d->id);
    }
    if (st == ST_OK) {
        st = record(tx, "device_token.revoke", d, row, err);
    }
    return st == ST_OK ? registry_notify(tx, d, DEVICE_CHANGE_REVOKED, err) : st;
}

enum status device_token_forget_device(struct tx *tx, uint64_t device, struct err *err)
{
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_DELETE_ALL]);
    stmt_bind_i64(s, 1, (int64_t)device);
    return stmt_run(s, err);
}
