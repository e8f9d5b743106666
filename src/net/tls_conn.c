#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/reader.h"
#include "net/crypto.h"
#include "net/tls_shake.h"

#define QUIET_RECORDS_MAX    32 // in a row that bring no data: warnings, key updates, empty ones
#define MESSAGE_KEY_UPDATE   24
#define MESSAGE_CLIENT_HELLO 1

struct tls_conn {
    struct tls_ctx *ctx;
    struct buf *wire;
    struct reader fed;
    struct tls_shake *shake;   // until the handshake has succeeded, else NULL
    struct tls_record *record; // from then on
    struct buf part;           // the beginning of a record
    struct buf plain;          // opened but not yet asked for
    struct tls_peer peer;
    char *texts; // what peer points to
    const char *failure;
    uint8_t quiet;
    bool failed;
    bool ended; // close_notify came
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
        if (k->ssl != NULL) {
            SSL_set_shutdown(k->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); // it is not broken, only done with
        }
        SSL_free(k->ssl);
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
    k->ssl = SSL_new(k->site->ssl);
    BIO *bio = BIO_new(t->ctx->bio);
    if (k->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, t);
    SSL_set_bio(k->ssl, bio, bio); // takes it
    SSL_set_accept_state(k->ssl);
    return SSL_set_app_data(k->ssl, k) == 1;
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
    t->part = buf_heap(TLS_RECORD_HEADER + TLS_RECORD_MAX);
    t->plain = buf_heap(TLS_RECORD_HEADER + TLS_RECORD_MAX);
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
    shake_free(t->shake);
    tls_record_free(t->record);
    buf_release(&t->part);
    if (t->plain.p != NULL) {
        crypto_wipe(t->plain.p, t->plain.cap);
    }
    buf_release(&t->plain);
    tls_unref(t->ctx);
    free(t->texts);
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

// The keys go to our own record layer; OpenSSL's object has done its work.
static bool take_keys(struct tls_conn *t)
{
    struct tls_shake *k = t->shake;
    uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], client_random[SSL3_RANDOM_SIZE], server_random[SSL3_RANDOM_SIZE];
    struct tls_keys keys = {.version = (uint16_t)SSL_version(k->ssl),
                            .suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(k->ssl)),
                            .read_secret = slice_make(k->read_secret, k->read_secret_len),
                            .write_secret = slice_make(k->write_secret, k->write_secret_len),
                            .writes = k->writes};
    size_t master_len = SSL_SESSION_get_master_key(SSL_get0_session(k->ssl), master, sizeof(master));
    keys.master = slice_make(master, master_len);
    keys.client_random = slice_make(client_random, SSL_get_client_random(k->ssl, client_random, sizeof(client_random)));
    keys.server_random = slice_make(server_random, SSL_get_server_random(k->ssl, server_random, sizeof(server_random)));
    t->record = SSL_has_pending(k->ssl) == 0 ? tls_record_new(t->ctx->algs, &keys) : NULL;
    crypto_wipe(master, sizeof(master));
    return t->record != NULL;
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
    if (!fill_peer(t, resumed) || !take_keys(t)) {
        return shake_failed(t, "no memory for the connection's keys");
    }
    tls_shake_keep_session(t->shake);
    shake_free(t->shake);
    t->shake = NULL;
    ERR_clear_error();
    return TLS_OK;
}

// ---- records ----

// Only texts without end may fail a connection: they stay where they are.
static enum tls_step fail_with(struct tls_conn *t, uint8_t alert, const char *text)
{
    const uint8_t message[2] = {2, alert}; // fatal
    t->failed = true;
    t->failure = text;
    (void)tls_record_seal(t->record, TLS_ALERT, slice_make(message, sizeof(message)), t->wire);
    return TLS_FAILED;
}

static const char *record_failure(uint8_t alert)
{
    switch (alert) {
    case TLS_BAD_RECORD_MAC:
        return "decryption failed or bad record mac";
    case TLS_RECORD_OVERFLOW:
        return "a record is longer than 16 KiB";
    case TLS_UNEXPECTED_MESSAGE:
        return "unexpected message";
    case TLS_INTERNAL_ERROR:
        return "no memory for a record";
    default:
        return "a record cannot be read";
    }
}

static const struct {
    uint8_t alert;
    const char *name;    // RFC 8446 section 6, RFC 5246 section 7.2
    const char *refused; // from an open connection
} alerts[] = {
#define ALERT(number, name)                                                                                            \
    {                                                                                                                  \
        number, name, "the client sent the alert " name                                                                \
    }
    ALERT(0, "close_notify"),
    ALERT(10, "unexpected_message"),
    ALERT(20, "bad_record_mac"),
    ALERT(21, "decryption_failed"),
    ALERT(22, "record_overflow"),
    ALERT(30, "decompression_failure"),
    ALERT(40, "handshake_failure"),
    ALERT(41, "no_certificate"),
    ALERT(42, "bad_certificate"),
    ALERT(43, "unsupported_certificate"),
    ALERT(44, "certificate_revoked"),
    ALERT(45, "certificate_expired"),
    ALERT(46, "certificate_unknown"),
    ALERT(47, "illegal_parameter"),
    ALERT(48, "unknown_ca"),
    ALERT(49, "access_denied"),
    ALERT(50, "decode_error"),
    ALERT(51, "decrypt_error"),
    ALERT(60, "export_restriction"),
    ALERT(70, "protocol_version"),
    ALERT(71, "insufficient_security"),
    ALERT(80, "internal_error"),
    ALERT(86, "inappropriate_fallback"),
    ALERT(90, "user_canceled"),
    ALERT(100, "no_renegotiation"),
    ALERT(109, "missing_extension"),
    ALERT(110, "unsupported_extension"),
    ALERT(111, "certificate_unobtainable"),
    ALERT(112, "unrecognized_name"),
    ALERT(113, "bad_certificate_status_response"),
    ALERT(114, "bad_certificate_hash_value"),
    ALERT(115, "unknown_psk_identity"),
    ALERT(116, "certificate_required"),
    ALERT(120, "no_application_protocol"),
#undef ALERT
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

static const char *alert_refused(uint8_t alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
        if (alerts[i].alert == alert) {
            return alerts[i].refused;
        }
    }
    return "the client sent an unknown alert";
}

// Warnings of TLS 1.2 and user_canceled do not end a connection (RFC 8446 section 6.1).
static enum tls_step on_alert(struct tls_conn *t, struct slice message)
{
    struct reader r = reader_make(message);
    uint8_t level = rd_u8(&r), alert = rd_u8(&r);
    if (!reader_done(&r)) {
        return fail_with(t, TLS_DECODE_ERROR, "an alert cannot be read");
    }
    if (alert == TLS_CLOSE_NOTIFY) {
        t->ended = true;
        return TLS_END;
    }
    if (alert == TLS_USER_CANCELED || (level == 1 && tls_record_version(t->record) == 0x0303)) {
        return TLS_MORE;
    }
    t->failed = true;
    t->failure = alert_refused(alert);
    return TLS_FAILED;
}

static bool send_key_update(struct tls_conn *t)
{
    static const uint8_t message[] = {MESSAGE_KEY_UPDATE, 0, 0, 1, 0}; // not requested of the other side
    return tls_record_seal(t->record, TLS_HANDSHAKE, slice_make(message, sizeof(message)), t->wire) &&
           tls_record_update_write(t->record);
}

// RFC 8446 section 4.6.3. It ends its record; one cut into pieces is legal, but nobody does so, and it is refused.
static enum tls_step on_key_update(struct tls_conn *t, struct reader *r)
{
    uint16_t len_high = rd_u16(r);
    uint8_t len_low = rd_u8(r), requested = rd_u8(r);
    if (!reader_done(r) || len_high != 0 || len_low != 1 || requested > 1) {
        return fail_with(t, TLS_DECODE_ERROR, "a key update cannot be read");
    }
    if (!tls_record_update_read(t->record) || (requested == 1 && !send_key_update(t))) {
        return fail_with(t, TLS_INTERNAL_ERROR, "the keys cannot be renewed");
    }
    return TLS_MORE;
}

// Renegotiation is declined with a warning, as RFC 5746 section 4.4 has it; TLS 1.3 has only the key update.
static enum tls_step on_handshake(struct tls_conn *t, struct slice message)
{
    struct reader r = reader_make(message);
    uint8_t type = rd_u8(&r);
    bool v13 = tls_record_version(t->record) == 0x0304;
    if (v13 && type == MESSAGE_KEY_UPDATE) {
        return on_key_update(t, &r);
    }
    const uint8_t no[2] = {1, TLS_NO_RENEGOTIATION};
    if (!v13 && type == MESSAGE_CLIENT_HELLO &&
        tls_record_seal(t->record, TLS_ALERT, slice_make(no, sizeof(no)), t->wire)) {
        return TLS_MORE;
    }
    return fail_with(t, TLS_UNEXPECTED_MESSAGE, "unexpected handshake message");
}

// A record that brought no data.
static enum tls_step on_control(struct tls_conn *t, uint8_t type, struct slice message)
{
    if (++t->quiet > QUIET_RECORDS_MAX) {
        return fail_with(t, TLS_UNEXPECTED_MESSAGE, "too many records without data");
    }
    if (type == TLS_ALERT) {
        return on_alert(t, message);
    }
    if (type == TLS_HANDSHAKE) {
        return on_handshake(t, message);
    }
    return type == TLS_DATA ? TLS_MORE : fail_with(t, TLS_UNEXPECTED_MESSAGE, record_failure(TLS_UNEXPECTED_MESSAGE));
}

// How long the record is whose beginning this is, header included; 0: it cannot be told yet.
static size_t record_bytes(struct slice head)
{
    struct reader r = reader_make(head);
    (void)rd_u8(&r);
    (void)rd_u16(&r);
    uint16_t len = rd_u16(&r);
    return r.failed ? 0 : (size_t)len + TLS_RECORD_HEADER;
}

// The next whole record: TLS_OK. Pieces are gathered in `part`; then the caller clears it.
static enum tls_step next_record(struct tls_conn *t, struct slice *ret)
{
    bool in_part = t->part.len > 0;
    for (;;) {
        struct slice head = in_part ? buf_view(&t->part) : slice_make(t->fed.p, reader_left(&t->fed));
        size_t want = record_bytes(head);
        if (want > TLS_RECORD_HEADER + TLS_RECORD_MAX) {
            return fail_with(t, TLS_RECORD_OVERFLOW, record_failure(TLS_RECORD_OVERFLOW));
        }
        if (want > 0 && head.len >= want) {
            *ret = in_part ? head : rd_bytes(&t->fed, want);
            return TLS_OK;
        }
        size_t left = reader_left(&t->fed);
        size_t missing = (want > 0 ? want : TLS_RECORD_HEADER) - (in_part ? head.len : 0);
        if (left == 0) {
            return TLS_MORE;
        }
        in_part = true;
        if (!buf_slice(&t->part, rd_bytes(&t->fed, left < missing ? left : missing))) {
            return fail_with(t, TLS_INTERNAL_ERROR, record_failure(TLS_INTERNAL_ERROR));
        }
    }
}

// Opens a record into `out` when it surely fits, else into `plain`, from where tls_conn_read takes it.
static enum tls_step open_record(struct tls_conn *t, struct slice record, struct buf *out, size_t max, size_t *ret_len)
{
    bool fits = record.len <= max;
    struct buf *to = fits ? out : &t->plain;
    size_t before = to->len;
    uint8_t type = 0, alert = 0;
    *ret_len = 0;
    if (!tls_record_open(t->record, record, to, &type, &alert)) {
        return fail_with(t, alert, record_failure(alert));
    }
    size_t len = to->len - before;
    if (type != TLS_DATA || len == 0) {
        struct slice message = slice_from(buf_view(to), before);
        to->len = before;
        return on_control(t, type, message);
    }
    t->quiet = 0;
    *ret_len = fits ? len : 0;
    return TLS_MORE;
}

static size_t take_plain(struct tls_conn *t, struct buf *out, size_t max)
{
    size_t n = t->plain.len < max ? t->plain.len : max;
    buf_put(out, t->plain.p, n);
    buf_consume(&t->plain, n);
    if (t->plain.len == 0) {
        crypto_wipe(t->plain.p, t->plain.cap);
        buf_release(&t->plain);
    }
    return n;
}

enum tls_step tls_conn_read(struct tls_conn *t, struct buf *out, size_t max)
{
    while (max > 0 && !t->failed) {
        if (t->plain.len > 0) {
            max -= take_plain(t, out, max);
            continue;
        }
        struct slice record = {NULL, 0};
        size_t n = 0;
        enum tls_step step = t->ended ? TLS_END : next_record(t, &record);
        if (step != TLS_OK) {
            return step;
        }
        step = open_record(t, record, out, max, &n);
        buf_release(&t->part);
        if (step != TLS_MORE) {
            return step;
        }
        max -= n;
    }
    return t->failed ? TLS_FAILED : TLS_OK;
}

bool tls_conn_write(struct tls_conn *t, struct slice plain)
{
    if (t->failed || t->close_sent || t->record == NULL) {
        return false;
    }
    for (size_t at = 0; at < plain.len; at += TLS_RECORD_PLAIN) {
        struct slice part = slice_head(slice_from(plain, at), TLS_RECORD_PLAIN);
        if ((tls_record_write_is_old(t->record) && !send_key_update(t)) ||
            !tls_record_seal(t->record, TLS_DATA, part, t->wire)) {
            t->failed = true;
            t->failure = "no room for the answer";
            return false;
        }
    }
    return true;
}

void tls_conn_close(struct tls_conn *t)
{
    static const uint8_t message[2] = {1, TLS_CLOSE_NOTIFY};
    if (!t->failed && !t->close_sent && t->record != NULL) {
        t->close_sent = true;
        (void)tls_record_seal(t->record, TLS_ALERT, slice_make(message, sizeof(message)), t->wire);
    }
}
