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

static bool read_host(struct slice text, struct addr *ret)
{
    char host[INET6_ADDRSTRLEN];
    uint8_t v4[4];
    if (!slice_to_cstr(text, host, sizeof(host))) {
        return false;
    }
    if (inet_pton(AF_INET, host, v4) == 1) {
        *ret = addr_ipv4(v4, 0);
        return true;
    }
    return inet_pton(AF_INET6, host, ret->ip) == 1;
}

// ":1234", or nothing.
static bool read_port(struct slice text, uint16_t *ret)
{
    unsigned n = 0;
    if (text.len == 0) {
        return true;
    }
    if (text.p[0] != ':' || text.len < 2 || text.len > 6) {
        return false;
    }
    for (size_t i = 1; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            return false;
        }
        n = n * 10 + (text.p[i] - 48U);
    }
    *ret = (uint16_t)n;
    return n <= UINT16_MAX;
}

bool addr_parse(struct slice text, struct addr *ret)
{
    bool bracket = text.len > 0 && text.p[0] == '[';
    const uint8_t *end = text.len > 0 ? memchr(text.p, bracket ? ']' : ':', text.len) : NULL;
    if (bracket && end == NULL) {
        return false;
    }
    size_t host = end != NULL ? (size_t)(end - text.p) : text.len;
    if (end != NULL && !bracket && memchr(end + 1, ':', text.len - host - 1) != NULL) {
        host = text.len; // a bare IPv6 address
    }
    size_t from = bracket ? 1 : 0;
    *ret = (struct addr){.port = 0};
    return read_host(slice_from(slice_head(text, host), from), ret) &&
           read_port(slice_from(text, host + from), &ret->port);
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

const char *addr_net_text(const struct addr_net *n, char dst[ADDR_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    struct addr a = {.port = 0};
    for (unsigned i = 0; i < sizeof(a.ip); i++) {
        a.ip[i] = n->ip[i];
    }
    bool v4 = n->bits >= 8 * IPV4_AT && addr_is_ipv4(&a);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &a.ip[IPV4_AT] : a.ip, host, sizeof(host));
    if (n->bits == 128) {
        snprintf(dst, ADDR_TEXT_MAX, "%s", host);
    } else {
        snprintf(dst, ADDR_TEXT_MAX, "%s/%u", host, v4 ? n->bits - 8U * IPV4_AT : n->bits);
    }
    return dst;
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
