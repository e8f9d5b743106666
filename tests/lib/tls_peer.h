// A TLS client for tests of the network layer: what tests/unit/net/tls*.c share. Include once a program, after net_harness.h.
#ifndef TESTS_LIB_TLS_PEER_H
#define TESTS_LIB_TLS_PEER_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "lib/net_harness.h"
#include "lib/pki.h"

struct peer {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    int rc; // of SSL_connect
};

static inline struct peer peer_new(int version)
{
    struct peer p = {.ctx = SSL_CTX_new(TLS_client_method()), .fd = -1};
    assert_non_null(p.ctx);
    SSL_CTX_set_min_proto_version(p.ctx, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(p.ctx, version);
    SSL_CTX_set_session_cache_mode(p.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    p.ssl = SSL_new(p.ctx);
    assert_non_null(p.ssl);
    return p;
}

static inline void peer_cert(struct peer *p, const struct pki_cert *cert)
{
    assert_int_equal(SSL_use_certificate(p->ssl, cert->cert), 1);
    assert_int_equal(SSL_use_PrivateKey(p->ssl, cert->key), 1);
}

static inline void peer_connect(struct peer *p, struct harness *h)
{
    p->fd = dial(h);
    assert_int_equal(SSL_set_fd(p->ssl, p->fd), 1);
    ERR_clear_error();
    p->rc = SSL_connect(p->ssl);
}

static inline void peer_write(struct peer *p, const char *bytes, size_t len)
{
    size_t n = 0;
    assert_int_equal(SSL_write_ex(p->ssl, bytes, len, &n), 1);
    assert_int_equal(n, len);
}

static inline void peer_read(struct peer *p, char *dst, size_t len)
{
    size_t n = 0;
    for (size_t at = 0; at < len; at += n) {
        if (SSL_read_ex(p->ssl, dst + at, len - at, &n) != 1) {
            fail_msg("TLS ended: %s", ERR_reason_error_string(ERR_peek_error()));
        }
    }
}

// Says a line and gets it back.
static inline void peer_echo(struct peer *p)
{
    char got[7] = "";
    peer_write(p, "echo hello\n", 11);
    peer_read(p, got, 6);
    assert_string_equal(got, "hello\n");
}

// Whether the handshake and a first word came through.
static inline bool peer_is_in(struct peer *p)
{
    char got[4] = "";
    size_t n = 0;
    return p->rc == 1 && SSL_write_ex(p->ssl, "echo x\n", 7, &n) == 1 && SSL_read_ex(p->ssl, got, 2, &n) == 1;
}

static inline void peer_free(struct peer *p)
{
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN);
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    close(p->fd);
    ERR_clear_error();
}

#endif
