#include "domain/policy/network.h"

#include <arpa/inet.h>

void network_cut(struct network *n)
{
    for (unsigned i = 0; i < sizeof(n->addr); i++) {
        unsigned left = n->bits > 8 * i ? n->bits - 8 * i : 0;
        uint8_t mask = left >= 8 ? 0xff : (uint8_t)(0xff00U >> left);
        n->addr[i] &= mask;
    }
}

static bool parse_host(struct slice text, struct network *ret)
{
    char host[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    struct buf b = buf_fixed(ret->addr, sizeof(ret->addr));
    ret->bits = ADDRESS_BITS;
    if (!slice_to_cstr(text, host, sizeof(host))) {
        return false;
    }
    if (inet_pton(AF_INET, host, &v4) == 1) {
        (void)buf_u64(&b, 0);
        (void)buf_u32(&b, 0xffff);
        return buf_put(&b, &v4, sizeof(v4));
    }
    return inet_pton(AF_INET6, host, &v6) == 1 && buf_put(&b, v6.s6_addr, sizeof(v6.s6_addr));
}

static bool parse_number(struct slice text, unsigned max, unsigned *ret)
{
    unsigned n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || n > max) {
            return false;
        }
        n = n * 10 + (text.p[i] - 48U);
    }
    *ret = n;
    return text.len > 0 && text.len <= 3 && n <= max;
}

// "192.0.2.1", "192.0.2.0/24", "2001:db8::/32".
bool network_parse(struct slice text, struct network *ret)
{
    const uint8_t *slash = text.len > 0 ? memchr(text.p, '/', text.len) : NULL;
    struct slice host = slash != NULL ? slice_head(text, (size_t)(slash - text.p)) : text;
    bool v6 = host.len > 0 && memchr(host.p, ':', host.len) != NULL;
    unsigned bits = v6 ? 128 : 32;
    if (!parse_host(host, ret) || (slash != NULL && !parse_number(slice_from(text, host.len + 1), bits, &bits))) {
        return false;
    }
    ret->bits = v6 ? bits : bits + 96;
    network_cut(ret);
    return true;
}

static struct slice without_port(struct slice addr)
{
    if (addr.len > 0 && addr.p[0] == '[') {
        const uint8_t *end = memchr(addr.p, ']', addr.len);
        return end != NULL ? slice_make(addr.p + 1, (size_t)(end - addr.p) - 1) : addr;
    }
    const uint8_t *colon = addr.len > 0 ? memchr(addr.p, ':', addr.len) : NULL;
    bool more = colon != NULL && memchr(colon + 1, ':', addr.len - (size_t)(colon + 1 - addr.p)) != NULL;
    return colon == NULL || more ? addr : slice_head(addr, (size_t)(colon - addr.p));
}

bool network_of_peer(struct slice addr, struct network *ret)
{
    return parse_host(without_port(addr), ret);
}

void network_text(const struct network *n, struct buf *out)
{
    char host[INET6_ADDRSTRLEN] = "";
    struct network v4_part = {.bits = 96};
    (void)parse_host(SLICE("0.0.0.0"), &v4_part); // ::ffff:0:0
    bool v4 = n->bits >= 96 && memcmp(n->addr, v4_part.addr, 12) == 0;
    (void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &n->addr[12] : n->addr, host, sizeof(host));
    (void)buf_str(out, host);
    if (n->bits < ADDRESS_BITS) {
        (void)buf_printf(out, "/%u", v4 ? n->bits - 96 : n->bits);
    }
}
