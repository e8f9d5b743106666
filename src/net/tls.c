#include "net/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/tls_priv.h"

// Intermediates between a client's certificate and a known CA; bytes of the client's Certificate message.
#define CHAIN_DEPTH_MAX 4
#define CHAIN_BYTES_MAX 16384
#define TICKET_LIFE_S   7200

// Forward secrecy and authenticated encryption only. ECDHE on the curves every stack has; no SHA-1 signatures.
#define CIPHERS_TLS12 "ECDHE+AESGCM:ECDHE+CHACHA20"
#define CIPHERS_TLS13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS        "X25519:P-256:P-384"
#define SIGALGS                                                                                                        \
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"      \
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:RSA+SHA256:RSA+SHA384:RSA+SHA512"

struct tls_ctx {
    _Atomic uint32_t refs;
    SSL_CTX *ssl;
    BIO_METHOD *bio;
    uint8_t alpn_mem[512];
    struct buf alpn;           // wire form, RFC 7301 section 3.1
    const char *alpn_certless; // see struct tls_server_conf
    bool asks;                 // for client certificates
};

void tls_reason(unsigned long code, char *dst, size_t dst_size)
{
    if (ERR_SYSTEM_ERROR(code)) {
        snprintf(dst, dst_size, "%s", strerror(ERR_GET_REASON(code)));
        return;
    }
    const char *text = ERR_reason_error_string(code);
    if (text != NULL) {
        snprintf(dst, dst_size, "%s", text);
    } else {
        snprintf(dst, dst_size, "OpenSSL error %lx", code);
    }
}

static enum status load_failure(struct err *err, const char *what, const char *file)
{
    char why[128];
    tls_reason(ERR_peek_error(), why, sizeof(why));
    ERR_clear_error();
    return err_set(err, ST_INVALID, "cannot load the %s from %s: %s", what, file, why);
}

// A key with a passphrase must be an error, not a question on the terminal.
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return 0;
}

static enum status load_identity(SSL_CTX *ssl, const struct tls_server_conf *conf, struct err *err)
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

// A client need not send a certificate; one that is sent must chain to these, for the purpose "client".
static enum status load_client_ca(SSL_CTX *ssl, const struct tls_server_conf *conf, struct err *err)
{
    const char *file = conf->client_ca_file;
    if (file == NULL) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        return ST_OK;
    }
    ERR_clear_error();
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (names == NULL) {
        return load_failure(err, "client CA certificates", file);
    }
    SSL_CTX_set_client_CA_list(ssl, names); // takes it
    if (SSL_CTX_load_verify_file(ssl, file) != 1) {
        return load_failure(err, "client CA certificates", file);
    }
    SSL_CTX_set_verify(ssl, conf->certless ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_verify_depth(ssl, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(ssl, CHAIN_BYTES_MAX);
    return ST_OK;
}

static int choose_alpn(SSL *s, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    const struct tls_ctx *ctx = arg;
    unsigned char *chosen = NULL;
    int rc = SSL_select_next_proto(&chosen, out_len, ctx->alpn.p, (unsigned)ctx->alpn.len, in, in_len);
    *out = chosen;
    // Before the server writes anything, so that it can still decide what to ask for.
    if (rc == OPENSSL_NPN_NEGOTIATED && ctx->asks) {
        bool without = ctx->alpn_certless != NULL && slice_eq_str(slice_make(chosen, *out_len), ctx->alpn_certless);
        SSL_set_verify(s, without ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    }
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static enum status set_alpn(struct tls_ctx *ctx, const struct tls_server_conf *conf, struct err *err)
{
    const size_t max = sizeof(conf->alpn) / sizeof(conf->alpn[0]);
    ctx->alpn_certless = conf->alpn_certless;
    ctx->asks = conf->client_ca_file != NULL;
    ctx->alpn = buf_fixed(ctx->alpn_mem, sizeof(ctx->alpn_mem));
    for (size_t i = 0; i < max && conf->alpn[i] != NULL; i++) {
        size_t len = strlen(conf->alpn[i]);
        if (len == 0 || len > 127) {
            return err_set(err, ST_INVALID, "ALPN name '%s': 1 to 127 bytes are allowed", conf->alpn[i]);
        }
        buf_u8(&ctx->alpn, (uint8_t)len);
        buf_str(&ctx->alpn, conf->alpn[i]);
    }
    if (ctx->alpn.len > 0) {
        SSL_CTX_set_alpn_select_cb(ctx->ssl, choose_alpn, ctx);
    }
    return ST_OK;
}

// A ticket carries the client's certificate of the first handshake. An expired one gets no shortcut: the full handshake that
// follows refuses it with the right alert. (A new CA file makes a new context with new ticket keys, so old tickets end.)
static SSL_TICKET_RETURN check_ticket(SSL *s, SSL_SESSION *session, const unsigned char *name, size_t name_len,
                                      SSL_TICKET_STATUS status, void *arg)
{
    (void)s;
    (void)name;
    (void)name_len;
    (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) {
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    const X509 *cert = SSL_SESSION_get0_peer(session);
    if (cert != NULL && X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

static bool set_rules(SSL_CTX *ssl, int min_version)
{
    static const uint8_t context_id[] = "muster";
    SSL_CTX_set_security_level(ssl, 2);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ssl, TICKET_LIFE_S);
    return SSL_CTX_set_min_proto_version(ssl, min_version) == 1 && SSL_CTX_set_cipher_list(ssl, CIPHERS_TLS12) == 1 &&
           SSL_CTX_set_ciphersuites(ssl, CIPHERS_TLS13) == 1 && SSL_CTX_set1_groups_list(ssl, GROUPS) == 1 &&
           SSL_CTX_set1_sigalgs_list(ssl, SIGALGS) == 1 && SSL_CTX_set_num_tickets(ssl, 1) == 1 &&
           SSL_CTX_set_session_id_context(ssl, context_id, sizeof(context_id) - 1) == 1 &&
           SSL_CTX_set_session_ticket_cb(ssl, NULL, check_ticket, NULL) == 1;
}

static enum status fill_ctx(struct tls_ctx *ctx, const struct tls_server_conf *conf, struct err *err)
{
    int min_version = conf->min_version != 0 ? conf->min_version : TLS1_2_VERSION;
    if (min_version != TLS1_2_VERSION && min_version != TLS1_3_VERSION) {
        return err_set(err, ST_INVALID, "lowest TLS version 0x%04x: 0x0303 (1.2) and 0x0304 (1.3) are allowed",
                       (unsigned)min_version);
    }
    ctx->ssl = SSL_CTX_new(TLS_server_method());
    ctx->bio = tls_bio_method();
    if (ctx->ssl == NULL || ctx->bio == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a TLS context");
    }
    if (!set_rules(ctx->ssl, min_version)) {
        return err_set(err, ST_INTERNAL, "this OpenSSL does not take the TLS settings");
    }
    enum status st = load_identity(ctx->ssl, conf, err);
    if (st == ST_OK) {
        st = load_client_ca(ctx->ssl, conf, err);
    }
    return st == ST_OK ? set_alpn(ctx, conf, err) : st;
}

struct tls_ctx *tls_server_new(const struct tls_server_conf *conf, struct err *err)
{
    struct tls_ctx *ctx = calloc(1, sizeof(*ctx));
    if (ctx == NULL) {
        err_set(err, ST_NOMEM, "no memory for a TLS context");
        return NULL;
    }
    atomic_init(&ctx->refs, 1);
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
    SSL_CTX_free(ctx->ssl);
    BIO_meth_free(ctx->bio);
    free(ctx);
}

SSL *tls_ctx_session(struct tls_ctx *ctx)
{
    return SSL_new(ctx->ssl);
}

const BIO_METHOD *tls_ctx_bio(const struct tls_ctx *ctx)
{
    return ctx->bio;
}
