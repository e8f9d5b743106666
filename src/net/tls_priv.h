// The TLS layer of one server connection, between conn.c and OpenSSL. It moves bytes between slices and buffers and knows
// neither sockets nor loops. Nobody outside this folder includes it.
//
//   ciphertext: tls_conn_feed -> [OpenSSL] -> `wire`, sent by conn.c        plaintext: tls_conn_read / tls_conn_write
#ifndef NET_TLS_PRIV_H
#define NET_TLS_PRIV_H

#include "base/buf.h"
#include "net/tls.h"

struct tls_conn;

enum tls_step {
    TLS_MORE,   // all that was fed is used up
    TLS_OK,     // handshake: finished; read: `max` bytes were read and there may be more
    TLS_END,    // the peer sent close_notify
    TLS_FAILED, // for good; tls_conn_failure says why, an alert may wait in `wire`
};

// Takes its own reference to ctx. `wire` gets the ciphertext; it must outlive the tls_conn. NULL: no memory.
struct tls_conn *tls_conn_new(struct tls_ctx *ctx, struct buf *wire);
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

// Inside tls.c and tls_conn.c.
typedef struct ssl_st SSL;
typedef struct bio_method_st BIO_METHOD;
SSL *tls_ctx_session(struct tls_ctx *ctx); // NULL: no memory
const BIO_METHOD *tls_ctx_bio(const struct tls_ctx *ctx);
BIO_METHOD *tls_bio_method(void);                                // NULL: no memory
void tls_reason(unsigned long code, char *dst, size_t dst_size); // an OpenSSL error as words

#endif
