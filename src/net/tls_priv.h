// The TLS layer of one server connection, between conn.c and OpenSSL. It moves bytes between slices and buffers and knows
// neither sockets nor loops. Nobody outside this folder includes it.
//
//   ciphertext: tls_conn_feed -> [TLS] -> `wire`, sent by conn.c        plaintext: tls_conn_read / tls_conn_write
//
//   SHAKING --finished--> OPEN --close_notify of the peer--> ENDED
//        \_ failed __________|_ bad record, alert, misuse ____|--> FAILED
#ifndef NET_TLS_PRIV_H
#define NET_TLS_PRIV_H

#include "base/buf.h"
#include "net/tls.h"
#include "net/tls_hello.h"

struct tls_conn;

enum tls_step {
    TLS_MORE,   // all that was fed is used up
    TLS_OK,     // handshake: finished; read: `max` bytes were read and there may be more
    TLS_END,    // the peer sent close_notify
    TLS_FAILED, // for good; tls_conn_failure says why, an alert may wait in `wire`
};

// Takes its own reference to ctx. `wire` gets the ciphertext; it must outlive the tls_conn. `hello` is what will be fed
// first, read; it chooses the site. NULL: no memory.
struct tls_conn *tls_conn_new(struct tls_ctx *ctx, const struct tls_hello *hello, struct buf *wire);
void tls_conn_free(struct tls_conn *t); // NULL is allowed

// The next ciphertext. Borrowed until tls_conn_unread took back what is left of it.
void tls_conn_feed(struct tls_conn *t, struct slice cipher);
struct slice tls_conn_unread(struct tls_conn *t); // what was not used; nothing is fed any more

enum tls_step tls_conn_handshake(struct tls_conn *t);
// Appends at most `max` bytes of plaintext to `out`, which must have room for them. Data may come with any result.
enum tls_step tls_conn_read(struct tls_conn *t, struct buf *out, size_t max);
bool tls_conn_write(struct tls_conn *t, struct slice plain); // all of it or, for want of memory, false
void tls_conn_close(struct tls_conn *t);                     // close_notify, once
const char *tls_conn_failure(const struct tls_conn *t);      // text for people; "" before a failure
const struct tls_peer *tls_conn_peer(const struct tls_conn *t);

// Calls fn with the record of a failed handshake. `reason` NULL: tls_conn_failure. t NULL: nothing but address and reason is known.
void tls_conn_report(const struct tls_conn *t, const char *peer_addr, const char *reason,
                     void (*fn)(void *arg, const struct tls_failure *f), void *arg);

// Inside tls*.c.
typedef struct ssl_st SSL;
typedef struct ssl_session_st SSL_SESSION;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct bio_method_st BIO_METHOD;
typedef struct x509_st X509;
typedef struct x509_store_ctx_st X509_STORE_CTX;

// What open connections of a version share in place of what their handshakes left.
struct tls_rest {
    SSL_CTX *ctx; // of the version's own method, see tls_shake_end
    const struct ssl_method_st *method;
    SSL_SESSION *session;
};
struct tls_shake; // what only a handshake needs
struct tls_site {
    SSL_CTX *ssl;
    char *names; // of tls_site_conf
    char *tenant;
    bool asks;           // for client certificates
    uint8_t context[32]; // of everything a resumed session must have been checked against
    struct buf ocsp;     // DER
    int64_t ocsp_until_us;
    const char *ocsp_wrong; // why the response is left out, a literal; NULL: there is none, or it is sent
};
struct tls_ctx {
    _Atomic uint32_t refs;
    BIO_METHOD *bio;
    struct tls_cache *cache;
    uint8_t alpn_mem[512];
    struct buf alpn;           // wire form, RFC 7301 section 3.1
    const char *alpn_certless; // as in tls_server_conf
    size_t (*psk)(void *arg, struct slice identity, uint8_t *key);
    void *psk_arg;
    void (*failed)(void *arg, const struct tls_failure *f);
    void *failed_arg;
    uint8_t (*revoked)[16]; // issuer_serial of all lists, sorted
    size_t revoked_len;
    SSL_SESSION *blank[2];   // without and with extended master secret: sessions are copied from these
    struct tls_rest rest[2]; // TLS 1.2, 1.3
    size_t sites_len;
    struct tls_site sites[]; // the first is the default
};
// Whether the client asks to resume a session that is there.
bool tls_resumes(struct tls_ctx *ctx, const struct tls_hello *hello);
const struct tls_site *tls_ctx_site(const struct tls_ctx *ctx, const char *sni);

// tls_shake.c: callbacks OpenSSL makes during a handshake. certless: as in tls_server_conf.
void tls_shake_install(SSL_CTX *ssl, const struct tls_ctx *ctx, bool certless);
// tls_conn.c
BIO_METHOD *tls_bio_method(void); // NULL: no memory
// tls_rest.c. The connections of `server`; blank: a session with nothing in it. Without success *rest stays empty.
void tls_rest_open(struct tls_rest *rest, SSL_CTX *server, int version, SSL_SESSION *blank);
void tls_rest_release(struct tls_rest *rest);
// tls_crl.c
// After the CAs of all sites. A list of a CA none of them has is an error.
enum status tls_load_crls(struct tls_ctx *ctx, const char *file, struct err *err);
// tls_ocsp.c
enum status tls_load_ocsp(struct tls_site *site, const char *file, struct err *err);
// tls_cert.c
bool tls_cert_read(X509 *cert, struct tls_client *ret); // false: it cannot be read
void tls_issuer_serial(const void *issuer_name, const void *serial, uint8_t out[16]);
void tls_reason(unsigned long code, char *dst, size_t dst_size); // an OpenSSL error as words

#endif
