// Opening: the key files of the data directory, and that they belong to this store.
#include "domain/identity/identity.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "domain/identity/identity_priv.h"
#include "domain/identity/scram.h"
#include "store/file.h"
#define SQL_IDENTITY_FILE_DEFINE
#include "domain/identity/sql/identity_file.sql.h"
#include "domain/identity/sql/operator.sql.h"

#define DAY_US       ((int64_t)24 * 3600 * 1000000)
#define KEY_FILE_MAX 128
#define ADMIN_NAME   "admin"

static const struct conf_key conf_keys[] = {
    {.name = "identity.cert_validity",
     .type = CONF_DURATION,
     .dflt = "90d",
     .min = 60 * (int64_t)1000000,
     .max = 3660 * DAY_US,
     .help = "How long a device's certificate is valid; devices renew at two thirds of it."},
    {.name = "identity.auth_failures",
     .type = CONF_INT,
     .dflt = "10",
     .min = 0,
     .max = 1000000,
     .help = "Wrong credentials a minute from one address before it has to wait, longer each time; 0 never makes it "
             "wait. Client certificates are not held up."},
    {.name = "identity.claim_failures",
     .type = CONF_INT,
     .dflt = "5",
     .min = 0,
     .max = 1000000,
     .help = "The same for wrong claim tokens."},
    {.name = "identity.password_iterations",
     .type = CONF_INT,
     .dflt = "4096",
     .min = SCRAM_ITERATIONS_MIN,
     .max = SCRAM_ITERATIONS_MAX,
     .help = "How often a device's password is hashed when it is set; a check takes as long: 2 ms for 4,096."},
    {.name = "identity.password_checks",
     .type = CONF_INT,
     .dflt = "200",
     .min = 0,
     .max = 1000000,
     .help = "Passwords that may be checked a second, by all clients together; 0 checks any number."},
};
const struct conf_module identity_conf_module = {"Identity", conf_keys, sizeof(conf_keys) / sizeof(conf_keys[0])};

// --- which files belong to this store ----------------------------------------------------------------------------

// The digest the store remembers for a file; *ret_known false when it has never seen one.
static enum status remembered(struct tx *tx, const char *name, uint8_t ret[SHA256_LEN], bool *ret_known,
                              struct err *err)
{
    STMT(s, tx->db, &sql_identity_file[SQL_IDENTITY_FILE_GET]);
    stmt_bind_str(s, 1, name);
    enum status st = stmt_step(s, ret_known, err);
    if (st != ST_OK || !*ret_known) {
        return st;
    }
    struct buf b = buf_fixed(ret, SHA256_LEN);
    return buf_slice(&b, col_blob(s, 0)) && b.len == SHA256_LEN
               ? ST_OK
               : err_set(err, ST_CORRUPT, "the store's note about %s is damaged", name);
}

// Remembers the file at first sight; later it must be the same one.
static enum status check_belongs(struct tx *tx, const char *name, const uint8_t digest[SHA256_LEN], struct err *err)
{
    uint8_t known[SHA256_LEN];
    bool is_known = false;
    enum status st = remembered(tx, name, known, &is_known, err);
    if (st != ST_OK) {
        return st;
    }
    if (is_known) {
        return crypto_equal(slice_make(known, sizeof(known)), slice_make(digest, SHA256_LEN))
                   ? ST_OK
                   : err_set(err, ST_CONFLICT, "%s is not the one this store was made with: restore it from a backup",
                             name);
    }
    STMT(s, tx->db, &sql_identity_file[SQL_IDENTITY_FILE_SET]);
    stmt_bind_str(s, 1, name);
    stmt_bind_blob(s, 2, slice_make(digest, SHA256_LEN));
    return stmt_run(s, err);
}

// Before a missing file is made anew: had this store one already, everything it protects would be lost without a word.
static enum status check_may_make(struct tx *tx, const char *dir, const char *name, struct err *err)
{
    char path[PATH_MAX];
    uint8_t known[SHA256_LEN];
    bool is_known = false;
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (n < 0 || n >= PATH_MAX) {
        return err_set(err, ST_INVALID, "%s: too long", dir);
    }
    enum status st = remembered(tx, name, known, &is_known, err);
    if (st != ST_OK || !is_known) {
        return st;
    }
    BUF content = buf_heap(65536);
    struct err why = {.code = ST_OK};
    st = file_read(path, false, &content, &why);
    if (content.p != NULL) {
        crypto_wipe(content.p, content.cap);
    }
    return st != ST_NOT_FOUND
               ? ST_OK
               : err_set(err, ST_CONFLICT, "%s is missing and this store needs it: restore it from a backup", path);
}

// --- the store key -----------------------------------------------------------------------------------------------

static enum status key_decode(struct identity *id, const char *path, struct slice text, struct err *err)
{
    struct buf key = buf_fixed(id->key, sizeof(id->key));
    while (text.len > 0 && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r')) {
        text.len--;
    }
    if (!hex_decode(text, &key) || key.len != sizeof(id->key)) {
        return err_set(err, ST_CORRUPT, "%s: must hold %zu hex digits", path, 2 * sizeof(id->key));
    }
    return ST_OK;
}

static enum status key_make(struct identity *id, const char *path, struct err *err)
{
    uint8_t mem[KEY_FILE_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    rand_secret(id->key, sizeof(id->key));
    (void)hex_encode(slice_make(id->key, sizeof(id->key)), &text);
    (void)buf_str(&text, "\n");
    enum status st = file_write(path, 0600, buf_view(&text), err);
    crypto_wipe(mem, sizeof(mem));
    return st;
}

static enum status open_key(struct tx *tx, struct identity *id, struct err *err)
{
    char path[PATH_MAX + 16];
    uint8_t mem[KEY_FILE_MAX];
    uint8_t check[SHA256_LEN];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct err why = {.code = ST_OK};
    (void)snprintf(path, sizeof(path), "%s/secret.key", id->dir);
    enum status st = check_may_make(tx, id->dir, "secret.key", err);
    if (st != ST_OK) {
        return st;
    }
    st = file_read(path, true, &text, &why);
    if (st == ST_NOT_FOUND) {
        st = key_make(id, path, err);
    } else {
        st = st == ST_OK ? key_decode(id, path, buf_view(&text), err) : err_set(err, why.code, "%s", why.text);
    }
    crypto_wipe(mem, sizeof(mem));
    if (st != ST_OK) {
        return st;
    }
    // Not a hash of the key itself: the store holds nothing that is made of the bare key.
    crypto_hmac_sha256(slice_make(id->key, sizeof(id->key)), SLICE("muster store key"), check);
    return check_belongs(tx, "secret.key", check, err);
}

static enum status open_ca(struct tx *tx, struct identity *id, struct err *err)
{
    uint8_t digest[SHA256_LEN];
    enum status st = check_may_make(tx, id->dir, "ca.pem", err);
    if (st == ST_OK) {
        st = ca_open(id->dir, tx->now_us, &id->ca, err);
    }
    if (st != ST_OK) {
        return st;
    }
    ca_digest(id->ca, digest);
    return check_belongs(tx, "ca.pem", digest, err);
}

// --- the first token ---------------------------------------------------------------------------------------------

static enum status write_admin_file(const struct identity *id, const char *token, struct err *err)
{
    char path[PATH_MAX + 16];
    uint8_t mem[TOKEN_TEXT_MAX + 1];
    struct buf text = buf_fixed(mem, sizeof(mem));
    (void)snprintf(path, sizeof(path), "%s/admin.token", id->dir);
    (void)buf_printf(&text, "%s\n", token);
    enum status st = file_write(path, 0600, buf_view(&text), err);
    crypto_wipe(mem, sizeof(mem));
    return st;
}

static enum status system_token_exists(struct tx *tx, bool *ret, struct err *err)
{
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_SYSTEM_COUNT]);
    stmt_bind_i64(s, 1, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *ret = st == ST_OK && row && col_i64(s, 0) > 0;
    return st;
}

// The file is written before the row is committed: a crash in between leaves a file that the next start replaces, and never
// a token nobody knows.
static enum status open_admin(struct tx *tx, const struct identity *id, struct err *err)
{
    bool exists = false;
    enum status st = system_token_exists(tx, &exists, err);
    if (st != ST_OK || exists) {
        return st;
    }
    char token[TOKEN_TEXT_MAX] = "";
    uint64_t row = 0;
    const struct operator_conf owner = {.name = SLICE(ADMIN_NAME), .role = ROLE_OWNER};
    st = operator_make(tx, 1, &owner, true, "system", token, &row, err);
    if (st == ST_OK) {
        st = write_admin_file(id, token, err);
    }
    crypto_wipe(token, sizeof(token));
    return st;
}

// --- open, free --------------------------------------------------------------------------------------------------

static enum status forget_device(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    if (what != DEVICE_CHANGE_REMOVED) {
        return ST_OK;
    }
    enum status st = device_token_forget_device(tx, d->row, err);
    if (st == ST_OK) {
        st = device_psk_forget_device(tx, d->row, err);
    }
    return st == ST_OK ? cert_forget_device(tx, d->row, err) : st;
}

static enum status open_files(struct tx *tx, void *arg, struct err *err)
{
    struct identity *id = arg;
    bool changed = false;
    enum status st = open_key(tx, id, err);
    if (st == ST_OK) {
        st = open_ca(tx, id, err);
    }
    if (st == ST_OK) {
        st = ca_server(id->ca, id->dir, (const char *const *)id->names, id->names_len, tx->now_us, &changed, err);
    }
    if (st == ST_OK) {
        st = device_psk_load(tx, id, err);
    }
    return st == ST_OK ? open_admin(tx, id, err) : st;
}

static bool copy_names(struct identity *id, const struct identity_conf *conf)
{
    id->names = calloc(conf->names_len + 1, sizeof(*id->names));
    for (size_t i = 0; id->names != NULL && i < conf->names_len; i++) {
        id->names[i] = strdup(conf->names[i]);
        if (id->names[i] == NULL) {
            return false;
        }
        id->names_len++;
    }
    return id->names != NULL;
}

static bool make_paths(struct identity *id, const char *dir)
{
    const struct {
        char *dst;
        const char *name;
    } paths[] = {{id->ca_path, "ca.pem"}, {id->cert_path, "server.pem"}, {id->key_path, "server.key"}};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        int n = snprintf(paths[i].dst, PATH_MAX, "%s/%s", dir, paths[i].name);
        if (n < 0 || n >= PATH_MAX) {
            return false;
        }
    }
    return slice_to_cstr(slice_str(dir), id->dir, sizeof(id->dir));
}

enum status identity_open(struct core *c, const struct identity_conf *conf, struct identity **ret, struct err *err)
{
    struct identity *id = calloc(1, sizeof(*id));
    if (id == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    id->core = c;
    id->cert_validity_us = conf->cert_validity_us;
    id->auth = throttle_new(conf->auth_failures_per_min);
    id->claims = throttle_new(conf->claim_failures_per_min);
    enum status st = ST_OK;
    id->familiar = familiar_new();
    id->psks = psk_table_new();
    id->passwords = rate_new(conf->password_checks > 0 ? 1000000 / conf->password_checks : 0, conf->password_checks);
    id->password_iterations = conf->password_iterations > 0 ? conf->password_iterations : SCRAM_ITERATIONS_MIN;
    id->anonymous = conf->anonymous;
    if (!make_paths(id, conf->dir)) {
        st = err_set(err, ST_INVALID, "%s: the path is too long", conf->dir);
    } else if (id->auth == NULL || id->claims == NULL || id->familiar == NULL || id->passwords == NULL ||
               id->psks == NULL || !copy_names(id, conf)) {
        st = err_set(err, ST_NOMEM, "no memory");
    }
    if (st == ST_OK) {
        core_set_slot(c, CORE_SLOT_IDENTITY, id);
        st = core_boot(c, open_files, id, err);
    }
    if (st == ST_OK) {
        st = registry_watch(c, forget_device, err);
    }
    if (st != ST_OK) {
        identity_free(id);
        return st;
    }
    *ret = id;
    return ST_OK;
}

void identity_free(struct identity *id)
{
    if (id == NULL) {
        return;
    }
    if (identity_of(id->core) == id) {
        core_set_slot(id->core, CORE_SLOT_IDENTITY, NULL);
    }
    for (size_t i = 0; i < id->names_len; i++) {
        free(id->names[i]);
    }
    free(id->names);
    throttle_free(id->auth);
    throttle_free(id->claims);
    familiar_free(id->familiar);
    psk_table_free(id->psks);
    rate_free(id->passwords);
    ca_free(id->ca);
    crypto_wipe(id->key, sizeof(id->key));
    free(id);
}

void identity_watch_ended(struct identity *id,
                          void (*fn)(void *arg, const uint8_t *cert_sha256, struct slice psk_identity), void *arg)
{
    id->ended = fn;
    id->ended_arg = arg;
}

void identity_tell_ended(const struct identity *id, const uint8_t *cert_sha256, struct slice psk_identity)
{
    if (id->ended != NULL) {
        id->ended(id->ended_arg, cert_sha256, psk_identity);
    }
}

struct identity_files identity_files(const struct identity *id)
{
    return (struct identity_files){.ca = id->ca_path, .server_cert = id->cert_path, .server_key = id->key_path};
}

struct slice identity_ca_pem(const struct identity *id)
{
    return ca_pem(id->ca);
}

enum status identity_refresh_server(struct identity *id, bool *ret_changed, struct err *err)
{
    return ca_server(id->ca, id->dir, (const char *const *)id->names, id->names_len, clock_wall_us(), ret_changed, err);
}

const struct identity *identity_get(const struct core *c)
{
    return identity_of(c);
}
