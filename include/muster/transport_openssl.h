// A ready-made transport for libmuster: POSIX sockets and OpenSSL 3.
//
// TLS 1.2 or 1.3; the server's certificate must chain to the given CA file and carry the given name (or address).
// Allocates, as OpenSSL does; resolving a host name blocks for as long as the system's resolver does. One thread at a
// time. Since 0.1.
#ifndef MUSTER_TRANSPORT_OPENSSL_H
#define MUSTER_TRANSPORT_OPENSSL_H

#include "muster/muster.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ssl_ctx_st; // SSL_CTX of <openssl/ssl.h>

struct muster_openssl_config {
    const char *host;      // name or address; checked against the server's certificate
    uint16_t port;         // 8883 is usual
    const char *ca_file;   // PEM; the only CAs trusted
    const char *cert_file; // client certificate (PEM), or NULL
    const char *key_file;  // its private key (PEM), or NULL
    // Instead of key_file: installs the key that belongs to cert_file (TPM, PKCS#11). False fails the connect.
    bool (*use_key)(void *arg, struct ssl_ctx_st *ctx);
    void *use_key_arg;
};

struct muster_openssl;

// Copies the strings; reads no file yet: files are read at each connect, so that a renewed certificate is simply used.
// NULL: no memory, or host, port or ca_file is missing.
struct muster_openssl *muster_openssl_new(const struct muster_openssl_config *config);
void muster_openssl_free(struct muster_openssl *t); // closes; NULL is fine
// Another client certificate from the next connect on (NULL: none). False without memory; then nothing has changed.
bool muster_openssl_set_cert(struct muster_openssl *t, const char *cert_file, const char *key_file);
// The functions for struct muster_config; `t` must outlive the client. With NULL there are none, which muster_init() refuses.
struct muster_transport muster_openssl_transport(struct muster_openssl *t);

// For a poll loop: the socket (-1: there is none) and the poll(2) events that let it go on. wants_write: what
// muster_wants_write() says.
int muster_openssl_fd(const struct muster_openssl *t);
short muster_openssl_events(const struct muster_openssl *t, bool wants_write);
// Waits for those events, at most wait_ms milliseconds. False when a signal interrupted it.
bool muster_openssl_wait(const struct muster_openssl *t, bool wants_write, uint32_t wait_ms);
// Round trip of the connection as the kernel has measured it, in microseconds; -1 when unknown.
int64_t muster_openssl_rtt_us(const struct muster_openssl *t);
// True when the last connection failed in the TLS handshake or by a TLS alert (certificates), not in the network.
bool muster_openssl_refused(const struct muster_openssl *t);

#ifdef __cplusplus
}
#endif

#endif
