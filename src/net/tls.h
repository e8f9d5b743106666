// TLS contexts: one factory for all listeners, so that all verify alike (TLS 1.2 and 1.3, OpenSSL behind it), what a finished
// handshake knows of its peer, and what can be said about one that failed.
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/slice.h"
#include "base/status.h"
#include "net/tls_cache.h"

struct tls_ctx; // reference-counted; connections keep the context they were opened with

struct tls_failure;
#define TLS_PSK_MAX 64 // bytes of a pre-shared key

// A name of this server with a certificate of its own, and if wanted its own client CAs: for a tenant.
struct tls_site_conf {
    const char *names; // host names separated by spaces, "*.example.com" for one label; "" for the default site
    const char *cert_file, *key_file; // PEM chain, leaf first; PEM key
    const char *client_ca_file;       // PEM; client certificates must chain to these. NULL: as the default site
    const char *tenant;               // handed on in tls_peer; "" or NULL: none
};
struct tls_server_conf {
    const char *cert_file; // PEM chain, leaf first
    const char *key_file;  // PEM
    // PEM; client certificates are asked for and, when sent, must chain to these or those of more_ca_file; NULL: not asked for
    const char *client_ca_file;
    const char *more_ca_file; // PEM, further CAs of clients; NULL: none
    // PEM, revocation lists. A CA that has one here is checked, with all below it; a list that ran out refuses its CA's
    // certificates. NULL: none
    const char *crl_file;
    // DER, OCSP response about cert_file, sent to clients that ask while it is valid; one that does not fit is left out, see
    // tls_staple_wrong. NULL: none
    const char *ocsp_file;
    const char *alpn[4]; // NULL-terminated, in order of preference; no match and client offers ALPN: handshake fails
    // Who offers this protocol and is to get it is not asked for a certificate (a browser would ask its user). A literal; NULL: all
    // are asked.
    const char *alpn_certless;
    bool certless;            // nor are clients that offer none
    int min_version;          // 0x0303 TLS 1.2 (default when 0), 0x0304 TLS 1.3
    const char *ciphers;      // OpenSSL names of TLS 1.2 suites separated by ':'; NULL or "": the built-in list
    const char *ciphersuites; // the same for TLS 1.3
    struct tls_cache *cache; // sessions, shared by contexts so that a reload ends none needlessly; NULL: one of its own
    // Key of a PSK identity into key[TLS_PSK_MAX]; 0: unknown. On I/O threads, during handshakes. NULL: no PSK
    size_t (*psk)(void *arg, struct slice identity, uint8_t *key);
    void *psk_arg;
    // Handshakes that failed, in a listener with this context. On I/O threads. NULL: only conn_proto.on_tls_failure is told
    void (*failed)(void *arg, const struct tls_failure *f);
    void *failed_arg;
    const struct tls_site_conf *sites; // further names
    size_t sites_len;
};

// Any file that cannot be loaded, does not fit the others or is of a kind that cannot be served is an error that names it.
struct tls_ctx *tls_server_new(const struct tls_server_conf *conf, struct err *err);
struct tls_ctx *tls_ref(struct tls_ctx *ctx);
void tls_unref(struct tls_ctx *ctx);
// Whether a revocation list of this context names the certificate (tls_peer.issuer_serial). Any thread.
bool tls_revoked(const struct tls_ctx *ctx, const uint8_t issuer_serial[16]);
// Wall clock of the end of the stapled response; 0: there is none. Any thread.
int64_t tls_staple_until_us(const struct tls_ctx *ctx);
// Why the response in ocsp_file is not sent (RFC 6960 section 3.2: it must be about this certificate, signed by its CA or a
// responder of it, say "good", and be valid by now); NULL: it is, or there is none. A literal. Any thread.
const char *tls_staple_wrong(const struct tls_ctx *ctx);

// What a finished handshake knows of the peer; valid as long as the connection.
struct tls_peer {
    const char *version; // "TLSv1.3"
    const char *cipher;
    struct slice alpn;
    struct slice sni;
    bool resumed;
    bool has_cert;             // a certificate was sent and verified, now or in the handshake that is resumed
    uint8_t cert_sha256[32];   // of the DER certificate
    uint8_t spki_sha256[32];   // of the DER public key
    uint8_t issuer_serial[16]; // see tls_revoked
    const char *subject_cn;    // display and logs only: identity is the registered fingerprint; "" none
    int64_t not_after_us;
    const char *psk_identity; // the client holds this identity's key; "" none
    const char *tenant;       // of the site the client asked for by name; "" none
};

enum tls_alert_way { TLS_ALERT_NONE, TLS_ALERT_SENT, TLS_ALERT_RECEIVED };
// A handshake that failed. All texts are borrowed for the call, "" when not known, printable ASCII (other bytes are escaped).
struct tls_failure {
    const char *peer_addr; // "192.0.2.1:1234"
    const char *reason;    // one line for people
    enum tls_alert_way alert_way;
    uint8_t alert;                  // RFC 8446 section 6; tls_alert_name
    const char *sni, *alpn;         // what the client asked for
    const char *versions, *ciphers; // what it offered, when nothing of it can be served
    bool has_cert;
    const char *subject, *issuer, *serial; // of the client's certificate (RFC 2253, hexadecimal)
    uint8_t cert_sha256[32];
    const char *verify; // why the certificate was not accepted
};
const char *tls_alert_name(uint8_t alert); // "unknown_ca"; "alert_200" has no name: "unknown"

#endif
