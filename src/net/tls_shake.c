// What OpenSSL asks and tells while a handshake runs: resumption, pre-shared keys, secrets, alerts, certificates.
#include "net/tls_shake.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/reader.h"
#include "net/crypto.h"

struct tls_shake *tls_shake_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

// ---- who it is ----

static bool is_psk_suite(const SSL *ssl)
{
    int kx = SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(ssl));
    return kx == NID_kx_psk || kx == NID_kx_ecdhe_psk || kx == NID_kx_dhe_psk;
}

// Who the client is. What a callback gave out counts only when the handshake used it: OpenSSL says so with "reused" (a ticket,
// or a TLS 1.3 PSK) or with a PSK suite (TLS 1.2); then it was the last one given out. Else the certificate speaks.
bool tls_shake_settle(struct tls_shake *k, bool *ret_resumed)
{
    bool reused = SSL_session_reused(k->ssl) == 1;
    *ret_resumed = reused && k->candidate == TLS_CAND_TICKET;
    if (reused || (k->candidate == TLS_CAND_PSK && is_psk_suite(k->ssl))) {
        return k->candidate != TLS_CAND_NONE;
    }
    X509 *cert = SSL_get0_peer_certificate(k->ssl);
    if (cert == NULL) {
        k->client = (struct tls_client){.has_cert = false};
        return !is_psk_suite(k->ssl);
    }
    return SSL_get_verify_result(k->ssl) == X509_V_OK && tls_cert_read(cert, &k->client);
}

// ---- sessions ----

// The session that has just been given a name (TLS 1.3: a ticket; TLS 1.2: an id). It is kept when the handshake has ended:
// only then OpenSSL tells all of it. 0: OpenSSL keeps no reference for us.
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_shake *k = tls_shake_of(ssl);
    struct tls_session *s = &k->session;
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(session);
    unsigned id_len = 0;
    const unsigned char *id = SSL_SESSION_get_id(session, &id_len);
    struct buf id_out = buf_fixed(s->id, sizeof(s->id));
    size_t len = SSL_SESSION_get_master_key(session, s->secret, sizeof(s->secret));
    k->has_session = cipher != NULL && id_len == TLS_TICKET_LEN && len > 0 && buf_put(&id_out, id, id_len);
    s->secret_len = (uint8_t)len;
    s->suite = cipher != NULL ? SSL_CIPHER_get_protocol_id(cipher) : 0;
    return 0;
}

void tls_shake_keep_session(struct tls_shake *k)
{
    struct tls_session *s = &k->session;
    struct buf context = buf_fixed(s->context, sizeof(s->context));
    if (!k->has_session || !buf_put(&context, k->site->context, sizeof(k->site->context))) {
        return;
    }
    s->version = (uint16_t)SSL_version(k->ssl);
    s->made_us = clock_wall_us();
    s->extended_master = SSL_get_extms_support(k->ssl) == 1;
    s->client = k->client;
    (void)tls_cache_put(k->ctx->cache, s); // without memory there is no resumption, nothing worse
}

// The keys of the exchange: nothing asks for them again, and what is not there cannot be read out. OpenSSL keeps the shells.
static void forget_key(EVP_PKEY *key)
{
    if (key != NULL) {
        (void)EVP_PKEY_set_type(key, EVP_PKEY_EC); // gives up what it held; of which kind it then is does not matter
        EVP_PKEY_free(key);
    }
}

static void forget_exchange(SSL *ssl)
{
    EVP_PKEY *ours = NULL, *theirs = NULL;
    (void)SSL_get_tmp_key(ssl, &ours);
    (void)SSL_get_peer_tmp_key(ssl, &theirs);
    forget_key(ours);
    forget_key(theirs);
    STACK_OF(SSL_CIPHER) *offered = SSL_get_client_ciphers(ssl);
    if (offered != NULL) {
        sk_SSL_CIPHER_zero(offered);
        (void)sk_SSL_CIPHER_reserve(offered, 1); // exactly so many: it shrinks
    }
}

void tls_shake_end(struct tls_shake *k)
{
    SSL_set_msg_callback(k->ssl, NULL);
    SSL_set_app_data(k->ssl, NULL);
    forget_exchange(k->ssl);
    // An open connection needs none of what its session holds, which is up to 5 KB with the client's certificate and chain.
    // All of a version share a blank one.
    int v13 = SSL_version(k->ssl) == TLS1_3_VERSION;
    const struct tls_rest *rest = &k->ctx->rest[v13];
    if (rest->ctx != NULL && SSL_get_ssl_method(k->ssl) == rest->method &&
        SSL_set_SSL_CTX(k->ssl, rest->ctx) == rest->ctx) {
        (void)SSL_set_session(k->ssl, rest->session);
    }
}

// Whether what was proven then still holds.
static bool still_good(const struct tls_shake *k, const struct tls_session *s)
{
    return crypto_equal(slice_make(s->context, sizeof(s->context)),
                        slice_make(k->site->context, sizeof(k->site->context))) &&
           (!s->client.has_cert ||
            (s->client.not_after_us > clock_wall_us() && !tls_revoked(k->ctx, s->client.issuer_serial)));
}

static SSL_SESSION *build_session(SSL *ssl, const struct tls_shake *k, const struct tls_session *s)
{
    struct buf b;
    uint8_t mem[2];
    b = buf_fixed(mem, sizeof(mem));
    buf_u16(&b, s->suite);
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, mem);
    SSL_SESSION *session = SSL_SESSION_dup(k->ctx->blank[s->extended_master ? 1 : 0]);
    if (session != NULL && cipher != NULL && SSL_SESSION_set1_id(session, s->id, sizeof(s->id)) == 1 &&
        SSL_SESSION_set1_id_context(session, s->context, sizeof(s->context)) == 1 &&
        SSL_SESSION_set1_master_key(session, s->secret, s->secret_len) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 && SSL_SESSION_set_protocol_version(session, s->version) == 1) {
        SSL_SESSION_set_time(session, (long)(s->made_us / 1000000));
        SSL_SESSION_set_timeout(session, (long)(tls_cache_lifetime_us(k->ctx->cache) / 1000000));
        return session;
    }
    SSL_SESSION_free(session);
    return NULL;
}

static SSL_SESSION *on_get_session(SSL *ssl, const unsigned char *id, int len, int *copy)
{
    struct tls_shake *k = tls_shake_of(ssl);
    struct tls_session s = {.version = 0};
    SSL_SESSION *session = NULL;
    *copy = 0;
    if (tls_cache_get(k->ctx->cache, slice_make(id, (size_t)len), &s) && still_good(k, &s)) {
        session = build_session(ssl, k, &s);
    }
    if (session != NULL) {
        k->candidate = TLS_CAND_TICKET;
        k->client = s.client;
    }
    crypto_wipe(&s.secret, sizeof(s.secret));
    return session;
}

// ---- pre-shared keys ----

// TLS 1.2 suites with PSK and TLS 1.3 external PSKs alike (OpenSSL asks here for both).
static unsigned on_psk(SSL *ssl, const char *identity, unsigned char *key, unsigned key_max)
{
    struct tls_shake *k = tls_shake_of(ssl);
    uint8_t mem[TLS_PSK_MAX];
    struct slice name = slice_str(identity);
    struct tls_client client = {.has_psk = true};
    struct buf out = buf_fixed(key, key_max);
    if (name.len == 0 || !slice_to_cstr(name, client.name, sizeof(client.name))) {
        return 0;
    }
    size_t len = k->ctx->psk(k->ctx->psk_arg, name, mem);
    bool known = len > 0 && buf_put(&out, mem, len);
    crypto_wipe(mem, sizeof(mem));
    if (known) {
        k->candidate = TLS_CAND_PSK;
        k->client = client;
    }
    return known ? (unsigned)len : 0;
}

// ---- alerts ----

static void on_message(int sent, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    (void)version;
    (void)arg;
    struct tls_shake *k = tls_shake_of(ssl);
    if (k != NULL && type == SSL3_RT_ALERT && len == 2) {
        struct reader r = reader_make(slice_make(data, len));
        (void)rd_u8(&r); // level
        k->alert = rd_u8(&r);
        k->alert_way = sent ? TLS_ALERT_SENT : TLS_ALERT_RECEIVED;
    }
}

// ---- certificates ----

// A CA without a list of its own is not checked against lists; our own CA's revocations are in the state store.
static int on_verify(int ok, X509_STORE_CTX *sc)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(sc, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_shake *k = tls_shake_of(ssl);
    int why = X509_STORE_CTX_get_error(sc);
    if (!ok && why == X509_V_ERR_UNABLE_TO_GET_CRL) {
        X509_STORE_CTX_set_error(sc, X509_V_OK);
        return 1;
    }
    if (!ok) {
        tls_cert_note(X509_STORE_CTX_get0_cert(sc), why, &k->cert);
    }
    return ok;
}

// OpenSSL would keep the verified chain with the connection for as long as that lives.
static int verify_and_forget(X509_STORE_CTX *sc, void *arg)
{
    (void)arg;
    int ok = X509_verify_cert(sc);
    X509_STORE_CTX_set0_verified_chain(sc, NULL);
    return ok;
}

static int on_status(SSL *ssl, void *arg)
{
    (void)arg;
    const struct tls_site *site = tls_shake_of(ssl)->site;
    if (site->ocsp.len == 0 || clock_wall_us() >= site->ocsp_until_us) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    void *copy = OPENSSL_memdup(site->ocsp.p, site->ocsp.len);
    if (copy == NULL) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)site->ocsp.len); // takes it
    return SSL_TLSEXT_ERR_OK;
}

static int choose_alpn(SSL *s, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    (void)arg;
    const struct tls_ctx *ctx = tls_shake_of(s)->ctx;
    unsigned char *chosen = NULL;
    int rc = SSL_select_next_proto(&chosen, out_len, ctx->alpn.p, (unsigned)ctx->alpn.len, in, in_len);
    *out = chosen;
    // Before the server writes anything, so that it can still decide what to ask for.
    if (rc == OPENSSL_NPN_NEGOTIATED && tls_shake_of(s)->site->asks) {
        bool without = ctx->alpn_certless != NULL && slice_eq_str(slice_make(chosen, *out_len), ctx->alpn_certless);
        SSL_set_verify(s, without ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, on_verify);
    }
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

void tls_shake_install(SSL_CTX *ssl, const struct tls_ctx *ctx, bool certless)
{
    SSL_CTX_sess_set_new_cb(ssl, on_new_session);
    SSL_CTX_sess_set_get_cb(ssl, on_get_session);
    SSL_CTX_set_msg_callback(ssl, on_message);
    SSL_CTX_set_tlsext_status_cb(ssl, on_status);
    if (ctx->alpn.len > 0) {
        SSL_CTX_set_alpn_select_cb(ssl, choose_alpn, NULL);
    }
    if (ctx->psk != NULL) {
        SSL_CTX_set_psk_server_callback(ssl, on_psk);
    }
    if (SSL_CTX_get_verify_mode(ssl) != SSL_VERIFY_NONE) {
        SSL_CTX_set_verify(ssl, certless ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, on_verify);
        SSL_CTX_set_cert_verify_callback(ssl, verify_and_forget, NULL);
    }
}
