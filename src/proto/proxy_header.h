// The header a proxy puts in front of a connection to say who is behind it: the PROXY protocol, versions 1 (text) and 2 (binary),
// as HAProxy's doc/proxy-protocol.txt describes them. A pure codec.
#ifndef PROTO_PROXY_HEADER_H
#define PROTO_PROXY_HEADER_H

#include "base/slice.h"

#define PROXY_HEADER_MAX 752 // all of it: 16 bytes, two socket names of 108, 520 for what a proxy may add (TLVs)
#define PROXY_LINE_MAX   107 // version 1, CR LF included

enum proxy_step {
    PROXY_MORE, // the header is not complete
    PROXY_DONE,
    PROXY_BAD, // this is no such header, or one that is not allowed
};

enum proxy_family {
    PROXY_NONE, // the proxy speaks for itself (LOCAL), or cannot say for whom: the connection's own address counts
    PROXY_IPV4,
    PROXY_IPV6,
};

struct proxy_header {
    enum proxy_family family;
    uint8_t ip[16]; // of the client; the first 4 bytes for IPv4
    uint16_t port;
};

// Reads the header `in` begins with. PROXY_DONE: *ret and *ret_used (its length) are set. PROXY_BAD: *ret_error says why.
enum proxy_step proxy_header_read(struct slice in, struct proxy_header *ret, size_t *ret_used, const char **ret_error);

#endif
