#include "net/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/reader.h"
#include "net/crypto.h"
#include "net/tls_priv.h"

// Certificates a client may send: its own and those between it and a known CA; bytes of its Certificate message.
#define CHAIN_DEPTH_MAX 3
#define CHAIN_BYTES_MAX 16384
#define FILE_BYTES_MAX  (1u << 20)
// Sessions of a context that was given no cache.
#define OWN_SESSIONS    1024
#define OWN_LIFETIME_US (INT64_C(7200) * 1000000)

// Forward secrecy and authenticated encryption only. ECDHE on the curves every stack has; no SHA-1 signatures. PSK suites are
// added when there are keys: of these only the first has forward secrecy, small devices have none but the others.
#define CIPHERS_TLS12 "ECDHE+AESGCM:ECDHE+CHACHA20"
#define CIPHERS_PSK   ":ECDHE-PSK-CHACHA20-POLY1305:PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384"
#define CIPHERS_TLS13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS        "X25519:P-256:P-384"
#define SIGALGS                                                                                                        \
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"      \
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:RSA+SHA256:RSA+SHA384:RSA+SHA512"

static enum status load_failure(struct err *err, const char *what, const char *file)
{
    char why[128];
    tls_reason(ERR_peek_error(), why, sizeof(why));
    ERR_clear_error();
    return err_set(err, ST_INVALID, "cannot load the %s from %s: %s", what, file, why);
}

// ---- certificate and key ----

// A key with a passphrase must be an error, not a question on the terminal.
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return 0;
}

static enum status load_identity(SSL_CTX *ssl, const struct tls_site_conf *conf, struct err *err)
{
    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ssl, conf->cert_file) != 1) {
        return load_failure(err, "server certificate", conf->cert_file);
    }
    bool loaded = SSL_CTX_use_PrivateKey_file(ssl, conf->key_file, SSL_FILETYPE_PEM) == 1;
    unsigned long why = ERR_peek_error();
    bool foreign = ERR_GET_LIB(why) == ERR_LIB_X509 && (ERR_GET_REASON(why) == X509_R_KEY_VALUES_MISMATCH ||
                                                        ERR_GET_REASON(why) == X509_R_KEY_TYPE_MISMATCH);
    if (!loaded && !foreign) {
        return load_failure(err, "server key", conf->key_file);
    }
    if (foreign || SSL_CTX_check_private_key(ssl) != 1) {
        ERR_clear_error();
        return err_set(err, ST_INVALID, "the key in %s does not belong to the certificate in %s", conf->key_file,
                       conf->cert_file);
    }
    return ST_OK;
}

// ---- client CAs ----

static enum status load_ca(SSL_CTX *ssl, STACK_OF(X509_NAME) * names, const char *file, struct err *err)
{
    if (SSL_add_file_cert_subjects_to_stack(names, file) != 1 || sk_X509_NAME_num(names) == 0 ||
        SSL_CTX_load_verify_file(ssl, file) != 1) {
        return load_failure(err, "client CA certificates", file);
    }
    return ST_OK;
}

// A client need not send a certificate; one that is sent must chain to these, for the purpose "client".
static enum status load_client_cas(SSL_CTX *ssl, const char *const files[2], struct err *err)
{
    SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    if (files[0] == NULL) {
        return ST_OK;
    }
    ERR_clear_error();
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    if (names == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the client CA certificates");
    }
    SSL_CTX_set_client_CA_list(ssl, names); // takes it
    enum status st = ST_OK;
    for (int i = 0; st == ST_OK && i < 2 && files[i] != NULL; i++) {
        st = load_ca(ssl, names, files[i], err);
    }
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_verify_depth(ssl, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(ssl, CHAIN_BYTES_MAX);
    return st;
}

// ---- what a session is bound to ----

static bool add_file(struct buf *digests, const char *file)
{
    uint8_t digest[SHA256_LEN] = {0};
    FILE *f = file != NULL ? fopen(file, "re") : NULL;
    struct buf text = buf_heap(FILE_BYTES_MAX);
    uint8_t chunk[4096];
    for (size_t n = 1; f != NULL && n > 0;) {
        n = fread(chunk, 1, sizeof(chunk), f);
        buf_put(&text, chunk, n);
    }
    bool ok = !text.failed;
    crypto_sha256(buf_view(&text), digest);
    buf_release(&text);
    if (f != NULL) {
        (void)fclose(f);
    }
    return ok && buf_put(digests, digest, sizeof(digest));
}

// A session made under other CAs, lists or for another tenant must not be resumed here; one made under another server
// certificate may.
static bool bind_context(struct tls_site *site, const char *const ca_files[2], const char *crl_file)
{
    uint8_t mem[4 * SHA256_LEN];
    struct buf digests = buf_fixed(mem, sizeof(mem));
    uint8_t tenant[SHA256_LEN];
    crypto_sha256(slice_str(site->tenant), tenant);
    bool ok = add_file(&digests, ca_files[0]) && add_file(&digests, ca_files[1]) && add_file(&digests, crl_file) &&
              buf_put(&digests, tenant, sizeof(tenant));
    crypto_sha256(buf_view(&digests), site->context);
    return ok && SSL_CTX_set_session_id_context(site->ssl, site->context, sizeof(site->context)) == 1;
}

// ---- rules ----

static bool set_rules(SSL_CTX *ssl, int min_version, int64_t lifetime_us)
{
    SSL_CTX_set_security_level(ssl, 2);
    // SSL_OP_NO_TICKET: tickets are names of entries in tls_cache.h, for TLS 1.2 session ids.
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_timeout(ssl, (long)(lifetime_us / 1000000));
    return SSL_CTX_set_min_proto_version(ssl, min_version) == 1 && SSL_CTX_set1_groups_list(ssl, GROUPS) == 1 &&
           SSL_CTX_set1_sigalgs_list(ssl, SIGALGS) == 1 && SSL_CTX_set_num_tickets(ssl, 1) == 1;
}

// A suite the operator names must have authenticated encryption, and forward secrecy unless it is a PSK suite.
static bool is_allowed(const SSL_CIPHER *c)
{
    int kx = SSL_CIPHER_get_kx_nid(c), cipher = SSL_CIPHER_get_cipher_nid(c);
    bool aead = cipher == NID_aes_128_gcm || cipher == NID_aes_256_gcm || cipher == NID_chacha20_poly1305;
    bool signs = SSL_CIPHER_get_auth_nid(c) != NID_auth_null;
    return aead && signs && (kx == NID_kx_any || kx == NID_kx_ecdhe || kx == NID_kx_psk || kx == NID_kx_ecdhe_psk);
}

static enum status check_suites(SSL_CTX *ssl, struct err *err)
{
    const STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ssl);
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
        const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);
        if (!is_allowed(c)) {
            return err_set(err, ST_INVALID,
                           "cipher suite %s cannot be used: ECDHE or PSK with AES-GCM or ChaCha20-Poly1305 is allowed",
                           SSL_CIPHER_get_name(c));
        }
    }
    return ST_OK;
}

static enum status set_suites(SSL_CTX *ssl, const struct tls_server_conf *conf, struct err *err)
{
    const char *v13 = conf->ciphersuites != NULL && conf->ciphersuites[0] != '\0' ? conf->ciphersuites : CIPHERS_TLS13;
    const char *v12 = conf->ciphers != NULL && conf->ciphers[0] != '\0' ? conf->ciphers
                      : conf->psk != NULL                               ? CIPHERS_TLS12 CIPHERS_PSK
                                                                        : CIPHERS_TLS12;
    if (SSL_CTX_set_cipher_list(ssl, v12) != 1) {
        ERR_clear_error();
        return err_set(err, ST_INVALID, "no TLS 1.2 cipher suite in '%s': OpenSSL names separated by ':' are allowed",
                       v12);
    }
    if (SSL_CTX_set_ciphersuites(ssl, v13) != 1) {
        ERR_clear_error();
        return err_set(err, ST_INVALID, "unknown TLS 1.3 cipher suite in '%s': of %s are allowed", v13, CIPHERS_TLS13);
    }
    return check_suites(ssl, err);
}

static enum status set_alpn(struct tls_ctx *ctx, const struct tls_server_conf *conf, struct err *err)
{
    const size_t max = sizeof(conf->alpn) / sizeof(conf->alpn[0]);
    ctx->alpn = buf_fixed(ctx->alpn_mem, sizeof(ctx->alpn_mem));
    for (size_t i = 0; i < max && conf->alpn[i] != NULL; i++) {
        size_t len = strlen(conf->alpn[i]);
        if (len == 0 || len > 127) {
            return err_set(err, ST_INVALID, "ALPN name '%s': 1 to 127 bytes are allowed", conf->alpn[i]);
        }
        buf_u8(&ctx->alpn, (uint8_t)len);
        buf_str(&ctx->alpn, conf->alpn[i]);
    }
    return ST_OK;
}

// ---- sites ----

// "name" or "*.name", among names separated by spaces.
static bool matches(const char *names, const char *sni)
{
    struct slice rest = slice_str(names), host = slice_str(sni);
    const char *dot = strchr(sni, '.');
    struct slice parent = dot != NULL ? slice_str(dot) : (struct slice){NULL, 0};
    while (rest.len > 0) {
        const uint8_t *space = memchr(rest.p, ' ', rest.len);
        struct slice name = slice_head(rest, space != NULL ? (size_t)(space - rest.p) : rest.len);
        rest = slice_from(rest, name.len + 1);
        bool wild = slice_starts(name, SLICE("*."));
        if (slice_eq(name, host) || (wild && parent.len > 1 && slice_eq(slice_from(name, 1), parent))) {
            return true;
        }
    }
    return false;
}

const struct tls_site *tls_ctx_site(const struct tls_ctx *ctx, const char *sni)
{
    for (size_t i = 1; sni[0] != '\0' && i < ctx->sites_len; i++) {
        if (matches(ctx->sites[i].names, sni)) {
            return &ctx->sites[i];
        }
    }
    return &ctx->sites[0];
}

static enum status open_site(struct tls_ctx *ctx, struct tls_site *site, const struct tls_site_conf *sc,
                             const struct tls_server_conf *conf, struct err *err)
{
    int min_version = conf->min_version != 0 ? conf->min_version : TLS1_2_VERSION;
    const bool own_ca = sc->client_ca_file != NULL;
    const char *const cas[2] = {own_ca ? sc->client_ca_file : conf->client_ca_file,
                                own_ca || conf->client_ca_file == NULL ? NULL : conf->more_ca_file};
    site->ssl = SSL_CTX_new(TLS_server_method());
    site->names = strdup(sc->names);
    site->asks = cas[0] != NULL;
    site->tenant = strdup(sc->tenant != NULL ? sc->tenant : "");
    if (site->ssl == NULL || site->names == NULL || site->tenant == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a TLS context");
    }
    if (!set_rules(site->ssl, min_version, tls_cache_lifetime_us(ctx->cache))) {
        return err_set(err, ST_INTERNAL, "this OpenSSL does not take the TLS settings");
    }
    enum status st = set_suites(site->ssl, conf, err);
    if (st == ST_OK) {
        st = load_identity(site->ssl, sc, err);
    }
    if (st == ST_OK) {
        st = load_client_cas(site->ssl, cas, err);
    }
    if (st == ST_OK && !bind_context(site, cas, conf->crl_file)) {
        st = err_set(err, ST_NOMEM, "no memory for a TLS context");
    }
    return st;
}

static void open_rest(struct tls_ctx *ctx)
{
    SSL_CTX *server = ctx->sites[0].ssl;
    for (int i = 0; i < 2; i++) {
        int version = i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        if (version >= SSL_CTX_get_min_proto_version(server)) {
            tls_rest_open(&ctx->rest[i], server, version, ctx->blank[0]);
        }
    }
}

static enum status open_sites(struct tls_ctx *ctx, const struct tls_server_conf *conf, struct err *err)
{
    const struct tls_site_conf first = {
        .names = "", .cert_file = conf->cert_file, .key_file = conf->key_file, .client_ca_file = NULL};
    enum status st = open_site(ctx, &ctx->sites[0], &first, conf, err);
    if (st == ST_OK && conf->ocsp_file != NULL) {
        st = tls_load_ocsp(&ctx->sites[0], conf->ocsp_file, err);
    }
    for (size_t i = 0; st == ST_OK && i < conf->sites_len; i++) {
        st = open_site(ctx, &ctx->sites[i + 1], &conf->sites[i], conf, err);
    }
    if (st == ST_OK && conf->crl_file != NULL) {
        st = tls_load_crls(ctx, conf->crl_file, err);
    }
    if (st == ST_OK) {
        open_rest(ctx);
    }
    for (size_t i = 0; st == ST_OK && i < ctx->sites_len; i++) {
        tls_shake_install(ctx->sites[i].ssl, ctx, conf->certless);
    }
    return st;
}

// ---- doors ----

// DER of SSL_SESSION (OpenSSL's own form) with nothing in it but that the master secret is an extended one: OpenSSL has no
// other way to say so.
static const uint8_t blank_der[2][28] = {
    {0x30, 0x0f, 2, 1, 1, 2, 2, 3, 3, 4, 2, 0xc0, 0x2b, 4, 0, 4, 0},
    {0x30, 0x14, 2, 1, 1, 2, 2, 3, 3, 4, 2, 0xc0, 0x2b, 4, 0, 4, 0, 0xad, 3, 2, 1, 1},
};

static bool make_blanks(struct tls_ctx *ctx)
{
    for (int i = 0; i < 2; i++) {
        const unsigned char *p = blank_der[i];
        ctx->blank[i] = d2i_SSL_SESSION(NULL, &p, blank_der[i][1] + 2);
        if (ctx->blank[i] == NULL) {
            return false;
        }
    }
    return true;
}

static enum status fill_ctx(struct tls_ctx *ctx, const struct tls_server_conf *conf, struct err *err)
{
    if (conf->min_version != 0 && conf->min_version != TLS1_2_VERSION && conf->min_version != TLS1_3_VERSION) {
        return err_set(err, ST_INVALID, "lowest TLS version 0x%04x: 0x0303 (1.2) and 0x0304 (1.3) are allowed",
                       (unsigned)conf->min_version);
    }
    ctx->alpn_certless = conf->alpn_certless;
    ctx->psk = conf->psk;
    ctx->psk_arg = conf->psk_arg;
    ctx->failed = conf->failed;
    ctx->failed_arg = conf->failed_arg;
    ctx->cache = conf->cache != NULL ? tls_cache_ref(conf->cache) : tls_cache_new(OWN_SESSIONS, OWN_LIFETIME_US);
    ctx->bio = tls_bio_method();
    if (ctx->cache == NULL || ctx->bio == NULL || !make_blanks(ctx)) {
        ERR_clear_error();
        return err_set(err, ST_NOMEM, "no memory for a TLS context");
    }
    enum status st = set_alpn(ctx, conf, err);
    return st == ST_OK ? open_sites(ctx, conf, err) : st;
}

struct tls_ctx *tls_server_new(const struct tls_server_conf *conf, struct err *err)
{
    size_t sites = conf->sites_len + 1;
    struct tls_ctx *ctx = calloc(1, sizeof(*ctx) + sites * sizeof(ctx->sites[0]));
    if (ctx == NULL) {
        err_set(err, ST_NOMEM, "no memory for a TLS context");
        return NULL;
    }
    atomic_init(&ctx->refs, 1);
    ctx->sites_len = sites;
    if (fill_ctx(ctx, conf, err) != ST_OK) {
        tls_unref(ctx);
        return NULL;
    }
    return ctx;
}

struct tls_ctx *tls_ref(struct tls_ctx *ctx)
{
    if (ctx != NULL) {
        atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    }
    return ctx;
}

void tls_unref(struct tls_ctx *ctx)
{
    if (ctx == NULL || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    for (size_t i = 0; i < ctx->sites_len; i++) {
        SSL_CTX_free(ctx->sites[i].ssl);
        free(ctx->sites[i].names);
        free(ctx->sites[i].tenant);
        buf_release(&ctx->sites[i].ocsp);
    }
    SSL_SESSION_free(ctx->blank[0]);
    SSL_SESSION_free(ctx->blank[1]);
    BIO_meth_free(ctx->bio);
    for (int i = 0; i < 2; i++) {
        tls_rest_release(&ctx->rest[i]);
    }
    tls_cache_unref(ctx->cache);
    free(ctx->revoked);
    free(ctx);
}

bool tls_resumes(struct tls_ctx *ctx, const struct tls_hello *hello)
{
    return tls_cache_knows(ctx->cache, slice_make(hello->psk_id, hello->psk_id_len)) ||
           tls_cache_knows(ctx->cache, slice_make(hello->session_id, hello->session_id_len));
}

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

bool tls_revoked(const struct tls_ctx *ctx, const uint8_t issuer_serial[16])
{
    return ctx->revoked_len > 0 &&
           bsearch(issuer_serial, ctx->revoked, ctx->revoked_len, sizeof(ctx->revoked[0]), compare_keys) != NULL;
}

int64_t tls_staple_until_us(const struct tls_ctx *ctx)
{
    return ctx->sites[0].ocsp_until_us;
}

const char *tls_staple_wrong(const struct tls_ctx *ctx)
{
    return ctx->sites[0].ocsp_wrong;
}
