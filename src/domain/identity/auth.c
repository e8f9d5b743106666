// Who is this device? One function per kind of credential, chosen by what was presented.
#include "base/clock.h"
#include "domain/identity/device_password.h"
#include "domain/identity/identity_priv.h"
#include "domain/identity/operator.h"
#include "domain/identity/sql/device_token.sql.h"
#include "domain/identity/sql/operator.sql.h"

#define CLAIM_USERNAME "$claim"

struct principal device_principal(const struct device_ref *d, struct slice peer_addr)
{
    struct principal who = {.kind = WHO_DEVICE, .tenant = d->tenant, .row = d->row};
    (void)slice_to_cstr(slice_str(d->id), who.name, sizeof(who.name));
    (void)slice_to_cstr(slice_head(peer_addr, sizeof(who.addr) - 1), who.addr, sizeof(who.addr));
    return who;
}

static enum status check_device(const struct device_ref *d, struct err *err)
{
    if (d->state == DEVICE_SUSPENDED || d->state == DEVICE_RETIRED) {
        return err_set(err, ST_FORBIDDEN, "device \"%s\" is %s", d->id, device_state_text(d->state));
    }
    return ST_OK;
}

static enum status check_cert(const struct cert_row *c, int64_t now_us, struct err *err)
{
    if (c->state != CERT_ACTIVE) {
        return err_set(err, ST_FORBIDDEN, "the certificate is %s", cert_state_text(c->state));
    }
    if (c->not_after_us <= now_us) {
        return err_set(err, ST_FORBIDDEN, "the certificate has expired");
    }
    return ST_OK;
}

static enum status by_cert(struct tx *tx, const struct credential *cred, struct cert_row *ret_cert,
                           struct device_ref *ret, struct err *err)
{
    enum status st = cert_by_fingerprint(tx, slice_make(cred->cert_sha256, SHA256_LEN), ret_cert, err);
    if (st == ST_NOT_FOUND) {
        return err_set(err, ST_UNAUTHENTICATED, "the certificate is not registered");
    }
    if (st == ST_OK) {
        st = check_cert(ret_cert, tx->now_us, err);
    }
    if (st == ST_OK) {
        st = device_find_row(tx, ret_cert->device, ret, err);
    }
    return st == ST_OK ? check_device(ret, err) : st;
}

static enum status by_psk(struct tx *tx, const struct credential *cred, struct device_ref *ret, uint64_t *ret_lineage,
                          struct err *err)
{
    uint64_t device = 0;
    enum status st = device_psk_device(tx, cred->psk_identity, &device, ret_lineage, err);
    if (st == ST_OK) {
        st = device_find_row(tx, device, ret, err);
    }
    return st == ST_OK ? check_device(ret, err) : st;
}

// Who asked for a tenant's name in TLS can only be of this tenant.
static enum status check_tenant(struct tx *tx, const struct credential *cred, const struct device_ref *d,
                                struct err *err)
{
    if (cred->tenant.len == 0) {
        return ST_OK;
    }
    STMT(s, tx->db, &sql_operator[SQL_OPERATOR_TENANT_FIND]);
    stmt_bind_text(s, 1, cred->tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    return st == ST_OK && (!row || col_i64(s, 0) != d->tenant)
               ? err_set(err, ST_UNAUTHENTICATED, "the server name belongs to another tenant")
               : st;
}

// The device that has this token; with `device` (p != NULL) only the one of that id. Equal tokens in two tenants: with the
// id alike, or without one, nobody can tell who is meant.
static enum status find_token(struct tx *tx, struct slice token, struct slice device, struct device_ref *ret,
                              uint64_t *ret_lineage, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    token_hash(identity_of(tx->core), TOKEN_DEVICE, token, hash);
    STMT(s, tx->db, &sql_device_token[SQL_DEVICE_TOKEN_BY_HASH]);
    stmt_bind_blob(s, 1, slice_make(hash, sizeof(hash)));
    unsigned found = 0;
    for (bool row = true; row && found < 2;) {
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK) {
            return st;
        }
        if (!row || !crypto_equal(col_blob(s, 0), slice_make(hash, sizeof(hash))) ||
            (device.p != NULL && !slice_eq(device, col_text(s, 5)))) {
            continue;
        }
        found++;
        *ret = (struct device_ref){.row = (uint64_t)col_i64(s, 1),
                                   .tenant = (uint32_t)col_i64(s, 2),
                                   .state = (enum device_state)col_i64(s, 3),
                                   .version = col_i64(s, 4)};
        (void)slice_to_cstr(col_text(s, 5), ret->id, sizeof(ret->id));
        *ret_lineage = (uint64_t)col_i64(s, 6);
    }
    if (found == 0) {
        return err_set(err, ST_UNAUTHENTICATED,
                       device.p != NULL ? "unknown device or wrong access token" : "unknown access token");
    }
    return found == 1 ? ST_OK : err_set(err, ST_FORBIDDEN, "the access token is in use in two tenants");
}

static enum status by_token(struct tx *tx, const struct credential *cred, struct device_ref *ret, uint64_t *ret_lineage,
                            struct err *err)
{
    bool pair = cred->password.len > 0; // some clients send an empty one with a token
    return find_token(tx, pair ? cred->password : cred->username, pair ? cred->username : (struct slice){NULL, 0}, ret,
                      ret_lineage, err);
}

// Is there a password to prove before more can be said? Only when no token fits, and when passwords are in use at all.
static enum status ask_password(struct tx *tx, const struct credential *cred, struct err *err)
{
    bool any = false;
    if (cred->login == NULL || cred->password.len == 0 || cred->username.p == NULL) {
        return ST_UNAUTHENTICATED;
    }
    enum status st = device_password_any(tx, &any, err);
    if (st == ST_OK && any) {
        st = device_password_ask(tx, cred->username, cred->login, err);
    }
    return st == ST_OK ? ST_UNAUTHENTICATED : st;
}

static enum status by_token_or_password(struct tx *tx, const struct credential *cred, struct device_ref *ret,
                                        uint64_t *ret_lineage, struct err *err)
{
    enum status st = ST_OK;
    if (cred->login != NULL && cred->login->state != LOGIN_NONE) {
        st = device_password_proved(tx, cred->login, ret, ret_lineage, err);
    } else {
        st = by_token(tx, cred, ret, ret_lineage, err);
        st = st == ST_UNAUTHENTICATED ? ask_password(tx, cred, err) : st;
    }
    return st == ST_OK ? check_device(ret, err) : st;
}

// Whose failures count for this attempt. One device with a wrong token must not shut out its neighbours behind the same
// address: a name that has come in from here lately is counted by itself, everybody else by the address.
static uint64_t counted_as(const struct identity *id, const struct credential *cred, int64_t now_us, bool *ret_familiar)
{
    uint64_t pair = rate_source(cred->peer_addr, cred->username.p != NULL ? cred->username : SLICE(""));
    *ret_familiar = familiar_has(id->familiar, pair, now_us);
    return *ret_familiar ? pair : rate_source(cred->peer_addr, (struct slice){NULL, 0});
}

static enum status check_blocked(const struct identity *id, uint64_t key, int64_t now_us, struct err *err)
{
    int64_t wait_us = 0;
    if (throttle_blocked(id->auth, key, now_us, &wait_us)) {
        return err_set(err, ST_LIMIT, "too many failures from this address: wait %lld s",
                       (long long)(wait_us / 1000000) + 1);
    }
    return ST_OK;
}

static enum status without_cert(struct tx *tx, const struct credential *cred, struct device_ref *ret,
                                uint64_t *ret_lineage, struct err *err)
{
    struct identity *id = identity_of(tx->core);
    int64_t now_us = clock_mono_us();
    bool is_familiar = false;
    uint64_t key = counted_as(id, cred, now_us, &is_familiar);
    enum status st = check_blocked(id, key, now_us, err);
    if (st != ST_OK) {
        return st;
    }
    if (cred->username.p == NULL) {
        return err_set(err, ST_UNAUTHENTICATED, "no credential: a client certificate or an access token is needed");
    }
    st = by_token_or_password(tx, cred, ret, ret_lineage, err);
    bool open = cred->login != NULL && cred->login->state == LOGIN_ASKED;
    if (st == ST_UNAUTHENTICATED && is_familiar && !open) {
        throttle_failed(id->auth, key, now_us); // the caller counts the address
    } else if (st == ST_OK) {
        familiar_add(id->familiar, rate_source(cred->peer_addr, cred->username), now_us);
    }
    return st;
}

enum status identity_login(struct tx *tx, const struct credential *cred, struct device_login *ret, struct err *err)
{
    bool is_familiar = false;
    int64_t now_us = clock_mono_us();
    struct identity *id = identity_of(tx->core);
    enum status st = check_blocked(id, counted_as(id, cred, now_us, &is_familiar), now_us, err);
    return st == ST_OK ? device_password_ask(tx, cred->username, ret, err) : st;
}

// --- applications ------------------------------------------------------------------------------------------------

static struct slice operator_token_of(const struct credential *cred)
{
    struct slice text = cred->password.len > 0 ? cred->password : cred->username;
    bool is_one = cred->mqtt && cred->cert_sha256 == NULL && slice_starts(text, SLICE(TOKEN_OPERATOR_PREFIX));
    return is_one ? text : (struct slice){NULL, 0};
}

static enum status as_application(struct tx *tx, const struct credential *cred, struct slice token,
                                  struct principal *ret, struct err *err)
{
    struct identity *id = identity_of(tx->core);
    struct principal who;
    bool is_familiar = false;
    int64_t now_us = clock_mono_us();
    uint64_t key = counted_as(id, cred, now_us, &is_familiar);
    enum status st = check_blocked(id, key, now_us, err);
    if (st == ST_OK) {
        st = identity_bearer(tx, token, &who, err);
    }
    if (st == ST_UNAUTHENTICATED && is_familiar) {
        throttle_failed(id->auth, key, now_us);
    }
    if (st == ST_OK && !principal_may(&who, PERM_MQTT_CONNECT)) {
        st = err_set(err, ST_FORBIDDEN, "the token \"%s\" has a role without mqtt:connect", who.name);
    }
    if (st != ST_OK) {
        return st;
    }
    (void)slice_to_cstr(slice_head(cred->peer_addr, sizeof(who.addr) - 1), who.addr, sizeof(who.addr));
    *ret = who;
    familiar_add(id->familiar, rate_source(cred->peer_addr, cred->username.p != NULL ? cred->username : SLICE("")),
                 now_us);
    return ST_OK;
}

static bool is_anonymous(const struct tx *tx, const struct credential *cred)
{
    return cred->anonymous && identity_of(tx->core)->anonymous && cred->cert_sha256 == NULL &&
           cred->username.p == NULL && cred->password.p == NULL &&
           (cred->login == NULL || cred->login->state == LOGIN_NONE);
}

static struct principal anonymous_principal(const struct credential *cred)
{
    struct principal who = {
        .kind = WHO_ANONYMOUS, .tenant = 1, .perms = UINT64_C(1) << PERM_MQTT_CONNECT, .name = "anonymous"};
    (void)slice_to_cstr(slice_head(cred->peer_addr, sizeof(who.addr) - 1), who.addr, sizeof(who.addr));
    return who;
}

static bool is_claim(const struct credential *cred)
{
    return cred->cert_sha256 == NULL && cred->psk_identity.len == 0 && cred->password.len > 0 &&
           slice_eq_str(cred->username, CLAIM_USERNAME);
}

// What coming in changes is the device's own doing, from its address: `who` acts. `c`: the certificate, or NULL.
static enum status come_in(struct tx *tx, const struct principal *who, const struct cert_row *c, struct device_ref *d,
                           struct err *err)
{
    const struct principal *before = tx->who;
    tx->who = who;
    enum status st = c != NULL && !c->used ? cert_first_use(tx, c, d, err) : ST_OK;
    if (st == ST_OK) {
        st = device_activate(tx, d, err);
    }
    tx->who = before;
    return st;
}

enum status identity_authenticate(struct tx *tx, const struct credential *cred, struct principal *ret,
                                  struct device_ref *ret_device, struct err *err)
{
    struct device_ref d = {.row = 0};
    struct cert_row c = {.lineage = 0};
    uint64_t lineage = 0;
    bool has_cert = cred->cert_sha256 != NULL;
    if (is_claim(cred)) {
        return identity_claim(tx, cred->password, cred->peer_addr, ret, err);
    }
    struct slice operator_token = operator_token_of(cred);
    if (operator_token.p != NULL) {
        return as_application(tx, cred, operator_token, ret, err);
    }
    if (is_anonymous(tx, cred)) {
        *ret = anonymous_principal(cred);
        return ST_OK;
    }
    enum status st = has_cert                     ? by_cert(tx, cred, &c, &d, err)
                     : cred->psk_identity.len > 0 ? by_psk(tx, cred, &d, &lineage, err)
                                                  : without_cert(tx, cred, &d, &lineage, err);
    if (st == ST_OK) {
        st = check_tenant(tx, cred, &d, err);
    }
    struct principal who = device_principal(&d, cred->peer_addr);
    who.lineage = has_cert ? c.lineage : lineage;
    if (st == ST_OK) {
        st = come_in(tx, &who, has_cert ? &c : NULL, &d, err);
    }
    if (st == ST_OK) {
        *ret = who;
        *ret_device = d;
    }
    return st;
}

void identity_auth_failed(struct core *c, struct slice peer_addr)
{
    struct identity *id = identity_of(c);
    if (id != NULL) {
        throttle_failed(id->auth, rate_source(peer_addr, (struct slice){NULL, 0}), clock_mono_us());
    }
}
