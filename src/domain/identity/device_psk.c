#include "domain/identity/device_psk.h"

#include <stdlib.h>

#include "base/rand.h"
#include "base/utf8.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/identity/identity_priv.h"
#include "domain/identity/seal.h"
#define SQL_DEVICE_PSK_DEFINE
#include "domain/identity/sql/device_psk.sql.h"

#define KEY_MADE 32 // bytes of a key we make

static const struct slice none = {NULL, 0};

// --- memory follows the store ------------------------------------------------------------------------------------

// What happens to the table when the operation is durable. key_len 0: the identity goes.
struct change {
    char identity[PSK_IDENTITY_MAX + 1];
    uint8_t key[PSK_KEY_MAX];
    size_t key_len;
};

static void change_free(struct core *c, void *arg)
{
    (void)c;
    struct change *ch = arg;
    crypto_wipe(ch, sizeof(*ch));
    free(ch);
}

static void change_apply(struct core *c, void *arg)
{
    struct identity *id = identity_of(c);
    const struct change *ch = arg;
    struct slice name = slice_str(ch->identity);
    if (ch->key_len == 0) {
        psk_table_del(id->psks, name);
        identity_tell_ended(id, NULL, name);
    } else {
        (void)psk_table_set(id->psks, name, slice_make(ch->key, ch->key_len)); // without memory: known after a restart
    }
    change_free(c, arg);
}

static enum status after_commit(struct tx *tx, struct slice identity, struct slice key, struct err *err)
{
    struct change *ch = calloc(1, sizeof(*ch));
    if (ch != NULL) {
        struct buf b = buf_fixed(ch->key, sizeof(ch->key));
        (void)slice_to_cstr(identity, ch->identity, sizeof(ch->identity));
        buf_slice(&b, key);
        ch->key_len = b.len;
        if (tx_after_commit(tx, change_apply, change_free, ch)) {
            return ST_OK;
        }
        change_free(tx->core, ch);
    }
    return err_set(err, ST_NOMEM, "no memory");
}

enum status device_psk_load(struct tx *tx, struct identity *id, struct err *err)
{
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_ALL]);
    for (;;) {
        uint8_t key[PSK_KEY_MAX + 1];
        struct buf plain = buf_fixed(key, sizeof(key));
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        if (!unseal(id, col_text(s, 0), col_blob(s, 1), &plain)) {
            return err_set(err, ST_CORRUPT, "the stored key of PSK identity \"" SLICE_FMT "\" cannot be unsealed",
                           SLICE_ARG(col_text(s, 0)));
        }
        bool ok = psk_table_set(id->psks, col_text(s, 0), buf_view(&plain));
        crypto_wipe(key, sizeof(key));
        if (!ok) {
            return err_set(err, ST_NOMEM, "no memory for the PSK identities");
        }
    }
}

size_t device_psk_find(void *arg, struct slice identity, uint8_t *key)
{
    const struct identity *id = arg;
    return psk_table_get(id->psks, identity, key, PSK_KEY_MAX);
}

// --- making ------------------------------------------------------------------------------------------------------

static enum status check_identity(struct slice identity, struct err *err)
{
    bool ok = identity.len >= 1 && identity.len <= PSK_IDENTITY_MAX;
    for (size_t i = 0; ok && i < identity.len; i++) {
        ok = identity.p[i] > ' ' && identity.p[i] < 0x7f;
    }
    return ok ? ST_OK
              : err_at(err, ST_INVALID, "/identity", "an identity is 1 to %d printable ASCII characters without spaces",
                       PSK_IDENTITY_MAX);
}

// The device's id and the row's, so that nobody can have it already; the row's alone when both are too long.
static enum status choose_identity(const struct device_ref *d, const struct psk_conf *conf, uint64_t row,
                                   char dst[PSK_IDENTITY_MAX + 1], struct err *err)
{
    char id[ROW_ID_LEN + 1];
    if (conf->identity.len > 0) {
        enum status st = check_identity(conf->identity, err);
        (void)slice_to_cstr(conf->identity, dst, PSK_IDENTITY_MAX + 1);
        return st;
    }
    row_id_text(row, id);
    struct buf b = buf_fixed(dst, PSK_IDENTITY_MAX);
    if (strlen(d->id) + 1 + ROW_ID_LEN <= PSK_IDENTITY_MAX) {
        buf_str(&b, d->id);
        buf_u8(&b, '.');
    }
    buf_str(&b, id);
    dst[b.len] = '\0';
    return ST_OK;
}

static enum status choose_key(const struct psk_conf *conf, struct buf *key, struct err *err)
{
    if (conf->key_hex.len > 0) {
        bool ok = hex_decode(conf->key_hex, key) && key->len >= PSK_KEY_MIN;
        return ok ? ST_OK
                  : err_at(err, ST_INVALID, "/key", "a key is %d to %d bytes in hexadecimal", PSK_KEY_MIN, PSK_KEY_MAX);
    }
    rand_secret(buf_reserve(key, KEY_MADE), KEY_MADE);
    buf_commit(key, KEY_MADE);
    return ST_OK;
}

static enum status check_free(struct tx *tx, const struct device_ref *d, struct slice identity, struct err *err)
{
    STMT(count, tx->db, &sql_device_psk[SQL_DEVICE_PSK_COUNT]);
    stmt_bind_i64(count, 1, (int64_t)d->row);
    bool row = false;
    enum status st = stmt_step(count, &row, err);
    if (st == ST_OK && row && col_i64(count, 0) >= DEVICE_PSKS_MAX) {
        return err_set(err, ST_LIMIT, "a device has at most %d pre-shared keys: revoke one first", DEVICE_PSKS_MAX);
    }
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_BY_IDENTITY]);
    stmt_bind_text(s, 1, identity);
    st = stmt_step(s, &row, err);
    // Not that it is taken, nor by whom: identities are unique over all tenants.
    return st == ST_OK && row ? err_at(err, ST_INVALID, "/identity", "this identity cannot be used: choose another one")
                              : st;
}

static enum status record(struct tx *tx, const char *action, const struct device_ref *d, struct slice identity,
                          struct err *err)
{
    uint8_t mem[PSK_IDENTITY_MAX * 2 + 64];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_text(&w, "identity", identity);
    jw_object_end(&w);
    return audit_write_for(tx, d->tenant, action, "device", slice_str(d->id), none, buf_view(&text), err);
}

static enum status insert(struct tx *tx, const struct device_ref *d, uint64_t row, uint64_t lineage,
                          struct slice identity, struct slice key, struct slice label, struct err *err)
{
    uint8_t mem[PSK_KEY_MAX + SEAL_EXTRA];
    struct buf sealed = buf_fixed(mem, sizeof(mem));
    if (!seal(identity_of(tx->core), identity, key, &sealed)) {
        return err_set(err, ST_INTERNAL, "the key cannot be sealed");
    }
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, (int64_t)d->row);
    stmt_bind_text(s, 4, identity);
    stmt_bind_blob(s, 5, buf_view(&sealed));
    stmt_bind_text(s, 6, label);
    stmt_bind_i64(s, 7, tx->now_us);
    stmt_bind_i64(s, 8, (int64_t)lineage);
    enum status st = stmt_run(s, err);
    if (st == ST_OK) {
        st = record(tx, "device_psk.create", d, identity, err);
    }
    return st == ST_OK ? after_commit(tx, identity, key, err) : st;
}

static void write_made(const struct tx *tx, uint64_t row, struct slice identity, struct slice key, struct slice label,
                       struct jw *out)
{
    uint8_t mem[2 * PSK_KEY_MAX];
    struct buf hex = buf_fixed(mem, sizeof(mem));
    (void)hex_encode(key, &hex);
    jw_object(out);
    jw_member_row_id(out, "id", row);
    jw_member_text(out, "identity", identity);
    jw_member_text(out, "key", buf_view(&hex));
    jw_member_text(out, "label", label);
    jw_member_time(out, "created", tx->now_us);
    jw_object_end(out);
    crypto_wipe(mem, sizeof(mem));
}

enum status device_psk_create(struct tx *tx, const struct device_ref *d, const struct psk_conf *conf, struct jw *out,
                              struct err *err)
{
    char identity[PSK_IDENTITY_MAX + 1] = "";
    uint8_t mem[PSK_KEY_MAX];
    struct buf key = buf_fixed(mem, sizeof(mem));
    uint64_t row = id_new();
    uint64_t lineage = 0;
    if (conf->label.len > TOKEN_LABEL_MAX || !utf8_valid(conf->label)) {
        return err_at(err, ST_INVALID, "/label", "a label is at most %d bytes", TOKEN_LABEL_MAX);
    }
    enum status st = lineage_replacing(tx, d->row, conf->replaces, row, &lineage, err);
    if (st == ST_OK) {
        st = choose_identity(d, conf, row, identity, err);
    }
    if (st == ST_OK) {
        st = choose_key(conf, &key, err);
    }
    if (st == ST_OK) {
        st = check_free(tx, d, slice_str(identity), err);
    }
    if (st == ST_OK) {
        st = insert(tx, d, row, lineage, slice_str(identity), buf_view(&key), conf->label, err);
    }
    if (st == ST_OK) {
        write_made(tx, row, slice_str(identity), buf_view(&key), conf->label, out);
    }
    crypto_wipe(mem, sizeof(mem));
    return st;
}

// --- listing, ending ---------------------------------------------------------------------------------------------

static void write_row(struct stmt *s, struct jw *out)
{
    jw_object(out);
    jw_member_row_id(out, "id", (uint64_t)col_i64(s, 0));
    jw_member_text(out, "identity", col_text(s, 1));
    jw_member_text(out, "label", col_text(s, 2));
    jw_member_time(out, "created", col_i64(s, 3));
    jw_object_end(out);
}

enum status device_psk_list(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_LIST]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    return page_whole(s, write_row, out, err);
}

// Runs a DELETE ... RETURNING identity; *ret_n rows went.
static enum status delete_rows(struct tx *tx, struct stmt *s, const struct device_ref *d, unsigned *ret_n,
                               struct err *err)
{
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        (*ret_n)++;
        st = after_commit(tx, col_text(s, 0), none, err);
        if (st == ST_OK && d != NULL) {
            st = record(tx, "device_psk.revoke", d, col_text(s, 0), err);
        }
        if (st != ST_OK) {
            return st;
        }
    }
}

enum status device_psk_revoke(struct tx *tx, const struct device_ref *d, struct slice id, struct err *err)
{
    uint64_t row = 0;
    unsigned n = 0;
    if (!row_id_parse(id, &row)) {
        return err_set(err, ST_NOT_FOUND, "device \"%s\" has no such pre-shared key", d->id);
    }
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_DELETE]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, (int64_t)d->row);
    enum status st = delete_rows(tx, s, d, &n, err);
    if (st == ST_OK && n == 0) {
        st = err_set(err, ST_NOT_FOUND, "device \"%s\" has no such pre-shared key", d->id);
    }
    return st == ST_OK ? registry_notify(tx, d, DEVICE_CHANGE_REVOKED, err) : st;
}

enum status device_psk_forget_device(struct tx *tx, uint64_t device, struct err *err)
{
    unsigned n = 0;
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_DELETE_ALL]);
    stmt_bind_i64(s, 1, (int64_t)device);
    return delete_rows(tx, s, NULL, &n, err);
}

enum status device_psk_device(struct tx *tx, struct slice identity, uint64_t *ret_device, uint64_t *ret_lineage,
                              struct err *err)
{
    STMT(s, tx->db, &sql_device_psk[SQL_DEVICE_PSK_BY_IDENTITY]);
    stmt_bind_text(s, 1, identity);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_UNAUTHENTICATED, "the pre-shared key was revoked");
    }
    if (st == ST_OK) {
        *ret_device = (uint64_t)col_i64(s, 0);
        *ret_lineage = (uint64_t)col_i64(s, 1);
    }
    return st;
}
