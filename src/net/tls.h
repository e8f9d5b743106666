// TLS contexts: one factory for all listeners, so that all verify alike (TLS 1.2 and 1.3, OpenSSL behind it).
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/slice.h"
#include "base/status.h"

struct tls_ctx; // reference-counted; connections keep the context they were opened with

struct tls_server_conf {
    const char *cert_file; // PEM chain, leaf first
    const char *key_file;  // PEM
    const char *
        client_ca_file; // PEM; client certificates are asked for and, when sent, must chain to these; NULL: not asked for
    const char *alpn[4]; // NULL-terminated, in order of preference; no match and client offers ALPN: handshake fails
    // Who chose this protocol is not asked for a certificate (a browser would ask its user). A literal; NULL: all are asked.
    const char *alpn_certless;
    bool certless;   // nor are clients that chose none
    int min_version; // 0x0303 TLS 1.2 (default when 0), 0x0304 TLS 1.3
};

struct tls_ctx *tls_server_new(const struct tls_server_conf *conf,
                               struct err *err); // any file that cannot be loaded is an error
struct tls_ctx *tls_ref(struct tls_ctx *ctx);
void tls_unref(struct tls_ctx *ctx);

// What a finished handshake knows of the peer; valid as long as the connection.
struct tls_peer {
    const char *version; // "TLSv1.3"
    const char *cipher;
    struct slice alpn;
    struct slice sni;
    bool resumed;
    bool has_cert;           // a certificate was sent and verified against client_ca_file
    uint8_t cert_sha256[32]; // of the DER certificate
    uint8_t spki_sha256[32]; // of the DER public key
    char subject_cn[129];    // display and logs only: identity is the registered fingerprint
    int64_t not_after_us;
};

#endif
