// Sessions that can be resumed: what a ticket stands for. The ticket itself is a random name of 32 bytes, so it carries neither
// certificate nor secret, and forgetting the entry ends it.
//
// (A ticket that is the encrypted session, OpenSSL's default, is 1 KB with a client certificate and costs the server
// 0.2 ms, since the certificate is encoded, decoded and encoded again.)
//
//   put ---> [entry] --- lifetime over, newer ones of the same client, no room, forget ---> gone
//
// At most `entries_max` entries; those of strangers (no certificate, no key) can only push out each other, so a stranger who
// makes handshakes cannot take the tickets of devices away. A client has at most TLS_CACHE_PER_CLIENT of them, the least
// recently used one goes first: each handshake gives a new ticket, so old ones end by use, not only by time.
//
// One mutex, any thread. Nothing survives the process.
#ifndef NET_TLS_CACHE_H
#define NET_TLS_CACHE_H

#include "base/slice.h"

#define TLS_CACHE_PER_CLIENT 4
#define TLS_TICKET_LEN       32
#define TLS_NAME_MAX         128 // bytes of a PSK identity; a common name is cut to it

// Who the client of a session proved to be in the full handshake.
struct tls_client {
    bool has_cert, has_psk;
    uint8_t cert_sha256[32], spki_sha256[32];
    uint8_t issuer_serial[16]; // first half of SHA-256(issuer name, serial number): what a CRL names
    int64_t not_after_us;
    char name[TLS_NAME_MAX + 1]; // common name (logs only), or PSK identity
};
struct tls_session {
    uint8_t id[TLS_TICKET_LEN];
    uint8_t context[32]; // under which rules it was made: resumed under no others
    uint16_t version, suite;
    bool extended_master; // RFC 7627
    uint8_t secret[48], secret_len;
    int64_t made_us; // wall clock
    struct tls_client client;
};

struct tls_cache;
// lifetime_us: of each entry, from its making. NULL: no memory.
struct tls_cache *tls_cache_new(unsigned entries_max, int64_t lifetime_us);
struct tls_cache *tls_cache_ref(struct tls_cache *c);
void tls_cache_unref(struct tls_cache *c); // NULL is allowed
int64_t tls_cache_lifetime_us(const struct tls_cache *c);

bool tls_cache_put(struct tls_cache *c, const struct tls_session *s);              // copies; false: no memory
bool tls_cache_get(struct tls_cache *c, struct slice id, struct tls_session *ret); // the caller wipes ret->secret
bool tls_cache_knows(struct tls_cache *c, struct slice id);
// All sessions of this certificate, or of this PSK identity, end. Returns how many.
unsigned tls_cache_forget_cert(struct tls_cache *c, const uint8_t cert_sha256[32]);
unsigned tls_cache_forget_psk(struct tls_cache *c, struct slice identity);

struct tls_cache_stats {
    uint64_t entries, bytes, hits, misses, evicted; // entries and bytes now, the others ever
};
void tls_cache_stats(struct tls_cache *c, struct tls_cache_stats *out);

#endif
