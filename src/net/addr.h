// A peer's address in few bytes, and networks to compare it with.
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include "base/slice.h"
#include "base/status.h"

#define ADDR_TEXT_MAX 56 // "[address]:port" and its NUL

struct addr {
    uint8_t ip[16]; // IPv4 as ::ffff:a.b.c.d
    uint16_t port;
};

struct addr addr_ipv4(const uint8_t ip[4], uint16_t port); // from the four bytes as they stand in a packet
bool addr_is_ipv4(const struct addr *a);                   // in whichever of its two forms it came
bool addr_is_loopback(const struct addr *a);               // 127.0.0.0/8, ::1
// "192.0.2.1:1234", "[2001:db8::1]:1234". Returns dst.
const char *addr_text(const struct addr *a, char dst[ADDR_TEXT_MAX]);
// Back again; the port may be missing, and with it the brackets. False: not such a text.
bool addr_parse(struct slice text, struct addr *ret);

// A network: all addresses that begin with the first `bits` bits of `ip`.
struct addr_net {
    uint8_t ip[16];
    uint8_t bits;
};
// "10.0.0.0/8", "2001:db8::/32", or one address. ST_INVALID: not such a text, or bits are set behind the network's.
enum status addr_net_parse(const char *text, struct addr_net *ret, struct err *err);
// The one way a network is written: without bits when it is one address. Returns dst.
const char *addr_net_text(const struct addr_net *n, char dst[ADDR_TEXT_MAX]);
bool addr_net_has(const struct addr_net *n, const struct addr *a);
// The network of `a` with so many bits of an IPv4 or of an IPv6 address.
struct addr_net addr_net_of(const struct addr *a, uint8_t ipv4_bits, uint8_t ipv6_bits);

#endif
