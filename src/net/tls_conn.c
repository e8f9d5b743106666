#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/reader.h"
#include "net/tls_priv.h"

struct tls_conn {
    SSL *ssl;
    struct tls_ctx *ctx;
    struct buf *wire;
    struct reader fed;
    struct tls_peer peer;
    bool failed;
    bool close_sent;
    char failure[128];
};

// ---- the BIO: OpenSSL reads from what was fed and writes to `wire` ----

static int bio_read(BIO *b, char *dst, size_t len, size_t *ret_len)
{
    struct tls_conn *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    size_t left = reader_left(&t->fed);
    if (left == 0) {
        BIO_set_retry_read(b);
        return 0;
    }
    struct buf out = buf_fixed(dst, len);
    buf_slice(&out, rd_bytes(&t->fed, left < len ? left : len));
    *ret_len = out.len;
    return 1;
}

static int bio_write(BIO *b, const char *src, size_t len, size_t *ret_len)
{
    struct tls_conn *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (!buf_put(t->wire, src, len)) {
        return 0;
    }
    *ret_len = len;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

BIO_METHOD *tls_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "slice and buffer");
    if (m != NULL && (BIO_meth_set_read_ex(m, bio_read) != 1 || BIO_meth_set_write_ex(m, bio_write) != 1 ||
                      BIO_meth_set_ctrl(m, bio_ctrl) != 1 || BIO_meth_set_create(m, bio_create) != 1)) {
        BIO_meth_free(m);
        return NULL;
    }
    return m;
}

// ---- life ----

struct tls_conn *tls_conn_new(struct tls_ctx *ctx, struct buf *wire)
{
    struct tls_conn *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->ctx = tls_ref(ctx);
    t->wire = wire;
    t->ssl = tls_ctx_session(ctx);
    BIO *bio = BIO_new(tls_ctx_bio(ctx));
    if (t->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        tls_conn_free(t);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio); // takes it
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_conn_free(struct tls_conn *t)
{
    if (t == NULL) {
        return;
    }
    SSL_free(t->ssl);
    tls_unref(t->ctx);
    free(t);
}

void tls_conn_feed(struct tls_conn *t, struct slice cipher)
{
    assert(reader_left(&t->fed) == 0);
    t->fed = reader_make(cipher);
}

struct slice tls_conn_unread(struct tls_conn *t)
{
    struct slice rest = rd_rest(&t->fed);
    t->fed = (struct reader){0};
    return rest;
}

const char *tls_conn_failure(const struct tls_conn *t)
{
    return t->failure;
}

const struct tls_peer *tls_conn_peer(const struct tls_conn *t)
{
    return &t->peer;
}

// ---- failures in words ----

static const struct hint {
    int reason;
    const char *text;
} hints[] = {
    {SSL_R_HTTP_REQUEST, "not TLS: plain HTTP on a TLS port"},
    {SSL_R_WRONG_VERSION_NUMBER, "not TLS: wrong version number"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "unsupported protocol: TLS 1.2 or 1.3 is needed"},
    {SSL_R_NO_SHARED_CIPHER, "no shared cipher"},
    {SSL_R_NO_APPLICATION_PROTOCOL, "no application protocol (ALPN) in common"},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, "the certificate chain is longer than 16 KiB"},
};

// First X.509: why our verification failed. Then alerts: what the peer said. Then the library's own reason.
static void say_failure(struct tls_conn *t)
{
    unsigned long code = ERR_peek_error();
    long verify = SSL_get_verify_result(t->ssl);
    char text[96];
    tls_reason(code, text, sizeof(text));
    if (verify == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY || verify == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
        verify == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT || verify == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE) {
        snprintf(t->failure, sizeof(t->failure), "client certificate refused: unknown CA (%s)",
                 X509_verify_cert_error_string(verify));
    } else if (verify != X509_V_OK) {
        snprintf(t->failure, sizeof(t->failure), "client certificate refused: %s",
                 X509_verify_cert_error_string(verify));
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET) {
        snprintf(t->failure, sizeof(t->failure), "the client refused: %s", text);
    } else {
        snprintf(t->failure, sizeof(t->failure), "%s", text);
        for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
            if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == hints[i].reason) {
                snprintf(t->failure, sizeof(t->failure), "%s", hints[i].text);
            }
        }
    }
}

// What a result of OpenSSL that was no success means.
static enum tls_step step_of(struct tls_conn *t, int rc)
{
    int why = SSL_get_error(t->ssl, rc);
    if (why == SSL_ERROR_WANT_READ) {
        return TLS_MORE;
    }
    if (why == SSL_ERROR_ZERO_RETURN) {
        return TLS_END;
    }
    t->failed = true;
    if (t->wire->failed) {
        snprintf(t->failure, sizeof(t->failure), "no room for the answer");
    } else {
        say_failure(t);
    }
    ERR_clear_error();
    return TLS_FAILED;
}

// ---- the peer ----

static bool digest_spki(const X509 *cert, uint8_t out[32])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool ok = len > 0 && EVP_Digest(der, (size_t)len, out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return ok;
}

static void copy_cn(const X509 *cert, char *dst, size_t dst_size)
{
    X509_NAME *name = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    unsigned char *utf8 = NULL;
    if (at >= 0) {
        int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
        if (len > 0) {
            slice_to_cstr(slice_make(utf8, (size_t)len), dst, dst_size);
        }
        OPENSSL_free(utf8);
    }
}

static bool fill_cert(struct tls_peer *p, const X509 *cert)
{
    struct tm end = {0};
    unsigned len = 0;
    if (X509_digest(cert, EVP_sha256(), p->cert_sha256, &len) != 1 || len != sizeof(p->cert_sha256) ||
        !digest_spki(cert, p->spki_sha256) || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1) {
        return false;
    }
    copy_cn(cert, p->subject_cn, sizeof(p->subject_cn));
    p->not_after_us = (int64_t)timegm(&end) * 1000000;
    p->has_cert = true;
    return true;
}

static bool fill_peer(struct tls_conn *t)
{
    struct tls_peer *p = &t->peer;
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_len);
    p->version = SSL_get_version(t->ssl);
    p->cipher = SSL_get_cipher_name(t->ssl);
    p->alpn = slice_make(alpn, alpn_len);
    p->sni = slice_str(SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name));
    p->resumed = SSL_session_reused(t->ssl) == 1;
    X509 *cert = SSL_get1_peer_certificate(t->ssl);
    bool ok = cert == NULL || (SSL_get_verify_result(t->ssl) == X509_V_OK && fill_cert(p, cert));
    X509_free(cert);
    return ok;
}

// ---- bytes ----

enum tls_step tls_conn_handshake(struct tls_conn *t)
{
    if (t->failed) {
        return TLS_FAILED;
    }
    ERR_clear_error();
    int rc = SSL_do_handshake(t->ssl);
    if (rc != 1) {
        enum tls_step step = step_of(t, rc);
        return step == TLS_END ? TLS_FAILED : step;
    }
    if (!fill_peer(t)) {
        t->failed = true;
        snprintf(t->failure, sizeof(t->failure), "client certificate refused: it cannot be read");
        ERR_clear_error();
        return TLS_FAILED;
    }
    return TLS_OK;
}

enum tls_step tls_conn_read(struct tls_conn *t, struct buf *out, size_t max)
{
    while (max > 0 && !t->failed) {
        uint8_t *dst = buf_reserve(out, max);
        assert(dst != NULL);
        size_t n = 0;
        ERR_clear_error();
        int rc = SSL_read_ex(t->ssl, dst, max, &n);
        if (rc != 1) {
            return step_of(t, rc);
        }
        buf_commit(out, n);
        max -= n;
    }
    return t->failed ? TLS_FAILED : TLS_OK;
}

bool tls_conn_write(struct tls_conn *t, struct slice plain)
{
    size_t n = 0;
    if (t->failed || t->close_sent) {
        return false;
    }
    ERR_clear_error();
    int rc = SSL_write_ex(t->ssl, plain.p, plain.len, &n);
    if (rc != 1) {
        (void)step_of(t, rc);
        t->failed = true;
        return false;
    }
    return n == plain.len;
}

void tls_conn_close(struct tls_conn *t)
{
    if (!t->failed && !t->close_sent) {
        t->close_sent = true;
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); // 0: the peer's close_notify is not waited for
        ERR_clear_error();
    }
}
