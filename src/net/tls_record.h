// The record layer after the handshake: TLS 1.3 (RFC 8446 section 5) and TLS 1.2 with AEAD (RFC 5246 section 6.2.3.3, RFC
// 5288, RFC 7905), server side. OpenSSL does the handshake; then its connection object, 12 KB and more, is freed and the keys
// move here, 2.5 KB. The ciphers themselves are OpenSSL's.
//
// One thread at a time.
#ifndef NET_TLS_RECORD_H
#define NET_TLS_RECORD_H

#include "base/buf.h"
#include "base/slice.h"

#define TLS_RECORD_HEADER   5
#define TLS_RECORD_PLAIN    16384 // most plaintext of one record
#define TLS_RECORD_OVERHEAD 24    // most bytes sealing adds behind the header: explicit nonce 8 + tag 16
#define TLS_SECRET_MAX      48    // SHA-384
#define TLS_RECORD_MAX      (TLS_RECORD_PLAIN + 256) // most ciphertext of one record (RFC 8446 section 5.2)

enum tls_content { TLS_CCS = 20, TLS_ALERT = 21, TLS_HANDSHAKE = 22, TLS_DATA = 23 };

// Alerts this layer sends (RFC 8446 section 6).
enum tls_alert {
    TLS_CLOSE_NOTIFY = 0,
    TLS_UNEXPECTED_MESSAGE = 10,
    TLS_BAD_RECORD_MAC = 20,
    TLS_RECORD_OVERFLOW = 22,
    TLS_DECODE_ERROR = 50,
    TLS_INTERNAL_ERROR = 80,
    TLS_USER_CANCELED = 90,
    TLS_NO_RENEGOTIATION = 100,
};

// The ciphers and hashes, fetched once for all connections: fetching them for each costs locks and time.
struct tls_algs;
struct tls_algs *tls_algs_new(void); // NULL: no memory, or this OpenSSL lacks one of them
void tls_algs_free(struct tls_algs *a);
// Whether records of this suite (IANA number) can be made here: AES-GCM with 128 and 256 bits, ChaCha20-Poly1305.
bool tls_algs_has(uint16_t suite);

struct tls_record;

// What the handshake leaves. Secrets are copied; the caller wipes its own.
struct tls_keys {
    uint16_t version; // 0x0303 or 0x0304
    uint16_t suite;
    // TLS 1.3: application traffic secrets (client_application_traffic_secret_0 and the server's).
    struct slice read_secret, write_secret;
    uint64_t writes; // TLS 1.3: records OpenSSL has sent under the write secret (tickets)
    // TLS 1.2: master secret and both randoms.
    struct slice master, client_random, server_random;
};
struct tls_record *tls_record_new(const struct tls_algs *a,
                                  const struct tls_keys *keys); // NULL: no memory or no such suite
void tls_record_free(struct tls_record *r);                     // wipes; NULL is allowed

// Opens one whole record, header included, and appends its plaintext to `out`, which must have room for the record's length.
// False: *ret_alert says what to send; the connection is dead then.
bool tls_record_open(struct tls_record *r, struct slice record, struct buf *out, uint8_t *ret_type, uint8_t *ret_alert);
// Appends one record with at most TLS_RECORD_PLAIN bytes to `wire`. False: no room or no memory; nothing was added.
bool tls_record_seal(struct tls_record *r, enum tls_content type, struct slice plain, struct buf *wire);
// TLS 1.3: the next generation of keys (RFC 8446 section 7.2) for one direction. False: the connection is dead.
bool tls_record_update_read(struct tls_record *r);
bool tls_record_update_write(struct tls_record *r);
// Whether the write keys should be renewed before the next record (AES-GCM: 2^24 records, RFC 8446 section 5.5).
bool tls_record_write_is_old(const struct tls_record *r);
uint16_t tls_record_version(const struct tls_record *r);

#endif
