// Addresses and networks, IPv4 mapped into IPv6, so that one kind of key serves both. Private to this folder.
#ifndef DOMAIN_NETWORK_H
#define DOMAIN_NETWORK_H

#include "base/buf.h"
#include "base/slice.h"

#define ADDRESS_BITS 128

// Bits behind the prefix are zero.
struct network {
    uint8_t addr[16];
    unsigned bits; // 0..ADDRESS_BITS; of an IPv4 network 96 more than it is written with
};
// "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"; false for anything else.
bool network_parse(struct slice text, struct network *ret);
// An address as connections tell it: with or without port, IPv6 in brackets when with one.
bool network_of_peer(struct slice addr, struct network *ret);
void network_cut(struct network *n);                         // after `bits` was made smaller
void network_text(const struct network *n, struct buf *out); // the one way it is written

#endif
