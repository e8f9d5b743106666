// What a ClientHello asks for, read before OpenSSL sees a byte of it: to choose the certificate by name, to let those that
// resume go first, and to say afterwards what a client offered that could not be served. Nothing here is trusted: OpenSSL
// reads the same bytes again and decides. RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6066 section 3.
#ifndef NET_TLS_HELLO_H
#define NET_TLS_HELLO_H

#include "base/buf.h"
#include "base/slice.h"

#define TLS_HELLO_BYTES_MAX    16384 // a longer one is not read here
#define TLS_HELLO_VERSIONS_MAX 6     // what is kept of each list; the rest is counted
#define TLS_HELLO_SUITES_MAX   40
#define TLS_SESSION_ID_LEN     32

struct tls_hello {
    uint16_t versions[TLS_HELLO_VERSIONS_MAX]; // as sent, without GREASE (RFC 8701)
    uint16_t suites[TLS_HELLO_SUITES_MAX];
    uint8_t versions_len;
    uint8_t suites_len;
    uint16_t suites_more; // offered but not kept
    char sni[256];        // lower case; "" none or not a host name
    char alpn[64];        // names joined by ',' as far as they fit, for people
    // The session that is to be resumed: TLS 1.2 session id, or the first identity of pre_shared_key. Length 0: none that
    // could be ours. TLS 1.3 clients fill the id with random bytes, so only a lookup tells.
    uint8_t session_id[TLS_SESSION_ID_LEN], psk_id[TLS_SESSION_ID_LEN];
    uint8_t session_id_len, psk_id_len;
};

enum tls_hello_result {
    TLS_HELLO_MORE,  // not all of it is there
    TLS_HELLO_OK,    // read
    TLS_HELLO_OTHER, // no ClientHello, or one that is malformed or too long: *ret holds what was read of it
};
// `cipher`: all bytes of the connection so far. `join`: scratch space (TLS_HELLO_BYTES_MAX) for a message that was cut into
// several records; want of memory counts as OTHER.
enum tls_hello_result tls_hello_read(struct slice cipher, struct buf *join, struct tls_hello *ret);

#endif
