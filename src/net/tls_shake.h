// What a connection needs only while it shakes hands; freed with OpenSSL's object when it is over. For tls_conn.c and
// tls_shake.c.
#ifndef NET_TLS_SHAKE_H
#define NET_TLS_SHAKE_H

#include "net/tls_priv.h"

#define TLS_DN_MAX 256

// A client's certificate as a failure reports it.
struct tls_cert_note {
    bool there;
    char subject[TLS_DN_MAX], issuer[TLS_DN_MAX], serial[64];
    uint8_t sha256[32];
    int verify; // X509_V_*; 0: nothing was wrong with it
};
// By what a client may turn out to be known. Callbacks of OpenSSL note the last one they gave out; whether it was used shows
// only at the end, in tls_shake_settle.
enum tls_candidate { TLS_CAND_NONE, TLS_CAND_TICKET, TLS_CAND_PSK };

struct tls_shake {
    SSL *ssl;
    struct tls_hello hello;
    const struct tls_site *site;
    const struct tls_ctx *ctx;
    enum tls_candidate candidate;
    struct tls_client client;
    bool has_session; // there is one to be resumed later, waiting for the end of the handshake
    struct tls_session session;
    enum tls_alert_way alert_way;
    uint8_t alert;
    struct tls_cert_note cert;
    bool no_overlap; // nothing the client offered can be served
    char failure[160];
};

// The shake of a connection of ours.
struct tls_shake *tls_shake_of(const SSL *ssl);
// Once all is proven: k->client is who it is. *ret_resumed: by a ticket. False: the certificate cannot be read.
bool tls_shake_settle(struct tls_shake *k, bool *ret_resumed);
// After that: what the client may resume goes to the cache.
void tls_shake_keep_session(struct tls_shake *k);
// Last: OpenSSL's object gives up what only a handshake needs, and knows of the shake no more.
void tls_shake_end(struct tls_shake *k);
void tls_cert_note(X509 *cert, int verify, struct tls_cert_note *ret);
// Calls fn with the record of a failed handshake; k NULL: nothing but address and reason is known.
void tls_report(struct tls_shake *k, const char *peer_addr, const char *reason,
                void (*fn)(void *arg, const struct tls_failure *f), void *arg);

#endif
