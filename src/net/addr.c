#include "net/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define IPV4_AT 12 // where an IPv4 address stands in the 16 bytes

static const uint8_t mapped[IPV4_AT] = {[10] = 0xff, [11] = 0xff};

struct addr addr_ipv4(const uint8_t ip[4], uint16_t port)
{
    struct addr a = {.port = port};
    for (size_t i = 0; i < sizeof(a.ip); i++) {
        a.ip[i] = i < IPV4_AT ? mapped[i] : ip[i - IPV4_AT];
    }
    return a;
}

bool addr_is_ipv4(const struct addr *a)
{
    return memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}

bool addr_is_loopback(const struct addr *a)
{
    static const uint8_t one[16] = {[15] = 1};
    return addr_is_ipv4(a) ? a->ip[IPV4_AT] == 127 : memcmp(a->ip, one, sizeof(one)) == 0;
}

const char *addr_text(const struct addr *a, char dst[ADDR_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (addr_is_ipv4(a)) {
        inet_ntop(AF_INET, &a->ip[IPV4_AT], host, sizeof(host));
        snprintf(dst, ADDR_TEXT_MAX, "%s:%u", host, a->port);
    } else {
        inet_ntop(AF_INET6, a->ip, host, sizeof(host));
        snprintf(dst, ADDR_TEXT_MAX, "[%s]:%u", host, a->port);
    }
    return dst;
}

// ---- networks ----

// The byte's part of a mask of `bits` bits.
static uint8_t mask_byte(unsigned bits, unsigned byte)
{
    unsigned left = bits > byte * 8 ? bits - byte * 8 : 0;
    return left >= 8 ? 0xff : (uint8_t)(0xff00U >> left);
}

// The part behind the slash, decimal, at most `max`; -1: none such.
static int read_bits(const char *text, int max)
{
    char *end = NULL;
    unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    return end != NULL && *end == '\0' && n <= (unsigned long)max ? (int)n : -1;
}

enum status addr_net_parse(const char *text, struct addr_net *ret, struct err *err)
{
    char host[INET6_ADDRSTRLEN];
    size_t len = strcspn(text, "/");
    uint8_t v4[4];
    struct addr a = {.port = 0};
    bool is_host = slice_to_cstr(slice_make(text, len), host, sizeof(host));
    bool is_v4 = is_host && inet_pton(AF_INET, host, v4) == 1;
    if (is_v4) {
        a = addr_ipv4(v4, 0);
    }
    int bits = text[len] == '/' ? read_bits(text + len + 1, is_v4 ? 32 : 128) : is_v4 ? 32 : 128;
    if (!is_host || (!is_v4 && inet_pton(AF_INET6, host, a.ip) != 1) || bits < 0) {
        return err_at(err, ST_INVALID, text, "'%s' is no network; allowed: ADDRESS or ADDRESS/BITS", text);
    }
    struct addr_net n = {.bits = (uint8_t)(is_v4 ? bits + 8 * IPV4_AT : bits)};
    for (unsigned i = 0; i < sizeof(n.ip); i++) {
        n.ip[i] = a.ip[i] & mask_byte(n.bits, i);
    }
    if (memcmp(n.ip, a.ip, sizeof(n.ip)) != 0) {
        return err_at(err, ST_INVALID, text, "'%s' has bits set behind the first %d; write the network's own address",
                      text, bits);
    }
    *ret = n;
    return ST_OK;
}

bool addr_net_has(const struct addr_net *n, const struct addr *a)
{
    for (unsigned i = 0; i < sizeof(n->ip); i++) {
        if ((a->ip[i] & mask_byte(n->bits, i)) != n->ip[i]) {
            return false;
        }
    }
    return true;
}

struct addr_net addr_net_of(const struct addr *a, uint8_t ipv4_bits, uint8_t ipv6_bits)
{
    struct addr_net n = {.bits = addr_is_ipv4(a) ? (uint8_t)(ipv4_bits + 8 * IPV4_AT) : ipv6_bits};
    for (unsigned i = 0; i < sizeof(n.ip); i++) {
        n.ip[i] = a->ip[i] & mask_byte(n.bits, i);
    }
    return n;
}
