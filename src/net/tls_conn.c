#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/reader.h"
#include "net/crypto.h"
#include "net/tls_shake.h"

struct tls_conn {
    SSL *ssl;
    struct tls_ctx *ctx;
    struct buf *wire;
    struct reader fed;
    struct tls_shake *shake; // until the handshake has succeeded, else NULL
    struct tls_peer peer;
    char *texts; // what peer points to
    char *said;  // failure's own text, or NULL
    const char *failure;
    bool failed;
    bool close_sent;
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

static void shake_free(struct tls_shake *k)
{
    if (k != NULL) {
        crypto_wipe(k, sizeof(*k));
        free(k);
    }
}

static bool shake_new(struct tls_conn *t, const struct tls_hello *hello)
{
    struct tls_shake *k = t->shake = calloc(1, sizeof(*k));
    if (k == NULL) {
        return false;
    }
    k->hello = *hello;
    k->ctx = t->ctx;
    k->site = tls_ctx_site(t->ctx, hello->sni);
    k->ssl = t->ssl = SSL_new(k->site->ssl);
    BIO *bio = BIO_new(t->ctx->bio);
    if (t->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio); // takes it
    SSL_set_accept_state(t->ssl);
    return SSL_set_app_data(t->ssl, k) == 1;
}

struct tls_conn *tls_conn_new(struct tls_ctx *ctx, const struct tls_hello *hello, struct buf *wire)
{
    struct tls_conn *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->ctx = tls_ref(ctx);
    t->wire = wire;
    t->failure = "";
    if (!shake_new(t, hello)) {
        tls_conn_free(t);
        ERR_clear_error();
        return NULL;
    }
    return t;
}

void tls_conn_free(struct tls_conn *t)
{
    if (t == NULL) {
        return;
    }
    if (t->ssl != NULL) {
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); // or it looks for a session to forget
    }
    SSL_free(t->ssl);
    shake_free(t->shake);
    tls_unref(t->ctx);
    free(t->texts);
    free(t->said);
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

// ---- a handshake's failure in words ----

static const struct hint {
    int reason;
    bool no_overlap;
    const char *text;
} hints[] = {
    {SSL_R_HTTP_REQUEST, false, "not TLS: plain HTTP on a TLS port"},
    {SSL_R_WRONG_VERSION_NUMBER, false, "not TLS: wrong version number"},
    {SSL_R_UNSUPPORTED_PROTOCOL, true, "unsupported protocol: TLS 1.2 or 1.3 is needed"},
    {SSL_R_NO_SHARED_CIPHER, true, "no shared cipher"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, true, "no shared group for the key exchange"},
    {SSL_R_NO_APPLICATION_PROTOCOL, false, "no application protocol (ALPN) in common"},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, false, "the certificate chain is longer than 16 KiB"},
};

static bool is_unknown_ca(long verify)
{
    return verify == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY || verify == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
           verify == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT || verify == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
           verify == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT;
}

// First X.509: why our verification failed. Then alerts: what the peer said. Then the library's own reason.
static void say_failure(struct tls_shake *k)
{
    unsigned long code = ERR_peek_error();
    long verify = SSL_get_verify_result(k->ssl);
    char text[96];
    tls_reason(code, text, sizeof(text));
    if (verify != X509_V_OK) {
        (void)snprintf(k->failure, sizeof(k->failure), "client certificate refused: %s%s%s",
                       is_unknown_ca(verify) ? "unknown CA (" : "", X509_verify_cert_error_string(verify),
                       is_unknown_ca(verify) ? ")" : "");
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET) {
        (void)snprintf(k->failure, sizeof(k->failure), "the client refused: %s", text);
    } else {
        (void)snprintf(k->failure, sizeof(k->failure), "%s", text);
        for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
            if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == hints[i].reason) {
                (void)snprintf(k->failure, sizeof(k->failure), "%s", hints[i].text);
                k->no_overlap = hints[i].no_overlap;
            }
        }
    }
}

static enum tls_step shake_failed(struct tls_conn *t, const char *text)
{
    t->failed = true;
    if (text != NULL) {
        t->failure = text;
    } else {
        say_failure(t->shake);
        t->failure = t->shake->failure[0] != '\0' ? t->shake->failure : "the handshake failed";
    }
    ERR_clear_error();
    return TLS_FAILED;
}

// ---- the end of a handshake ----

// A text for the peer, in t->texts.
static const char *keep(struct buf *texts, struct slice s)
{
    const char *at = (const char *)texts->p + texts->len;
    return buf_slice(texts, s) && buf_u8(texts, 0) ? at : "";
}

static bool fill_peer(struct tls_conn *t, bool resumed)
{
    const struct tls_shake *k = t->shake;
    const struct tls_client *c = &k->client;
    struct tls_peer *p = &t->peer;
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    SSL_get0_alpn_selected(k->ssl, &alpn, &alpn_len);
    struct slice sni = slice_str(k->hello.sni);
    size_t max = alpn_len + sni.len + strlen(c->name) + 4;
    t->texts = malloc(max);
    if (t->texts == NULL) {
        return false;
    }
    struct buf texts = buf_fixed(t->texts, max);
    p->version = SSL_get_version(k->ssl);
    p->cipher = SSL_get_cipher_name(k->ssl);
    p->alpn = slice_make(keep(&texts, slice_make(alpn, alpn_len)), alpn_len);
    p->sni = slice_make(keep(&texts, sni), sni.len);
    p->resumed = resumed;
    p->has_cert = c->has_cert;
    const char *name = keep(&texts, slice_str(c->name));
    p->subject_cn = c->has_cert ? name : "";
    p->psk_identity = c->has_psk ? name : "";
    p->tenant = k->site->tenant;
    p->not_after_us = c->not_after_us;
    struct buf cert = buf_fixed(p->cert_sha256, 32), spki = buf_fixed(p->spki_sha256, 32);
    struct buf serial = buf_fixed(p->issuer_serial, 16);
    return buf_put(&cert, c->cert_sha256, 32) && buf_put(&spki, c->spki_sha256, 32) &&
           buf_put(&serial, c->issuer_serial, 16);
}

void tls_conn_report(const struct tls_conn *t, const char *peer_addr, const char *reason,
                     void (*fn)(void *arg, const struct tls_failure *f), void *arg)
{
    tls_report(t != NULL ? t->shake : NULL, peer_addr, reason != NULL || t == NULL ? reason : t->failure, fn, arg);
}

enum tls_step tls_conn_handshake(struct tls_conn *t)
{
    if (t->failed || t->shake == NULL) {
        return t->failed ? TLS_FAILED : TLS_OK;
    }
    ERR_clear_error();
    int rc = SSL_do_handshake(t->shake->ssl);
    if (rc != 1) {
        int why = SSL_get_error(t->shake->ssl, rc);
        if (why == SSL_ERROR_WANT_READ) {
            return TLS_MORE;
        }
        return shake_failed(t, t->wire->failed ? "no room for the answer" : NULL);
    }
    bool resumed = false;
    if (!tls_shake_settle(t->shake, &resumed)) {
        return shake_failed(t, "client certificate refused: it cannot be read");
    }
    if (!fill_peer(t, resumed)) {
        return shake_failed(t, "no memory for what the client has proven");
    }
    tls_shake_keep_session(t->shake);
    tls_shake_end(t->shake);
    shake_free(t->shake);
    t->shake = NULL;
    ERR_clear_error();
    return TLS_OK;
}

// ---- an open connection ----

// What a result of OpenSSL that was no success means. Its words outlive the error queue.
static enum tls_step step_of(struct tls_conn *t, int rc)
{
    char text[96];
    int why = SSL_get_error(t->ssl, rc);
    if (why == SSL_ERROR_WANT_READ) {
        return TLS_MORE;
    }
    if (why == SSL_ERROR_ZERO_RETURN) {
        return TLS_END;
    }
    tls_reason(ERR_peek_error(), text, sizeof(text));
    t->failed = true;
    t->said = t->wire->failed || t->said != NULL ? t->said : strdup(text);
    t->failure = t->wire->failed ? "no room for the answer" : t->said != NULL ? t->said : "a TLS record failed";
    ERR_clear_error();
    return TLS_FAILED;
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
    if (t->failed || t->close_sent || t->shake != NULL) {
        return false;
    }
    ERR_clear_error();
    int rc = SSL_write_ex(t->ssl, plain.p, plain.len, &n);
    if (rc != 1) {
        (void)step_of(t, rc);
        t->failed = true;
        t->failure = t->failure[0] != '\0' ? t->failure : "the answer was not taken";
        return false;
    }
    return n == plain.len;
}

void tls_conn_close(struct tls_conn *t)
{
    if (!t->failed && !t->close_sent && t->shake == NULL) {
        t->close_sent = true;
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); // 0: the peer's close_notify is not waited for
        ERR_clear_error();
    }
}

// ---- alerts ----

static const struct {
    uint8_t alert;
    const char *name; // RFC 8446 section 6, RFC 5246 section 7.2
} alerts[] = {
    {0, "close_notify"},
    {10, "unexpected_message"},
    {20, "bad_record_mac"},
    {21, "decryption_failed"},
    {22, "record_overflow"},
    {30, "decompression_failure"},
    {40, "handshake_failure"},
    {41, "no_certificate"},
    {42, "bad_certificate"},
    {43, "unsupported_certificate"},
    {44, "certificate_revoked"},
    {45, "certificate_expired"},
    {46, "certificate_unknown"},
    {47, "illegal_parameter"},
    {48, "unknown_ca"},
    {49, "access_denied"},
    {50, "decode_error"},
    {51, "decrypt_error"},
    {60, "export_restriction"},
    {70, "protocol_version"},
    {71, "insufficient_security"},
    {80, "internal_error"},
    {86, "inappropriate_fallback"},
    {90, "user_canceled"},
    {100, "no_renegotiation"},
    {109, "missing_extension"},
    {110, "unsupported_extension"},
    {111, "certificate_unobtainable"},
    {112, "unrecognized_name"},
    {113, "bad_certificate_status_response"},
    {114, "bad_certificate_hash_value"},
    {115, "unknown_psk_identity"},
    {116, "certificate_required"},
    {120, "no_application_protocol"},
};

const char *tls_alert_name(uint8_t alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
        if (alerts[i].alert == alert) {
            return alerts[i].name;
        }
    }
    return "unknown";
}
