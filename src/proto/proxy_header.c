#include "proto/proxy_header.h"

#include <arpa/inet.h>

#include "base/reader.h"

#define V2_HEAD_BYTES 16
#define V2_UNIX_BYTES 216
#define TEXT_MAX      40 // longest IPv6 address and its NUL

static enum proxy_step bad(const char **ret_error, const char *error)
{
    *ret_error = error;
    return PROXY_BAD;
}

// ---- version 1: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n" ----

// The next word, which ends at a space or with the line. Empty: there is none.
static struct slice next_word(struct slice *line)
{
    const uint8_t *space = line->len > 0 ? memchr(line->p, ' ', line->len) : NULL;
    struct slice word = slice_head(*line, space != NULL ? (size_t)(space - line->p) : line->len);
    *line = slice_from(*line, word.len + 1);
    return word;
}

static bool read_ip(struct slice word, int family, void *dst)
{
    char text[TEXT_MAX];
    return slice_to_cstr(word, text, sizeof(text)) && inet_pton(family, text, dst) == 1;
}

// Decimal, no sign, no leading zeros, at most 65535.
static bool read_port(struct slice word, uint16_t *ret_port)
{
    struct reader r = reader_make(word);
    uint32_t n = 0;
    if (word.len == 0 || word.len > 5 || (word.len > 1 && rd_peek(&r) == '0')) {
        return false;
    }
    while (reader_left(&r) > 0) {
        uint8_t c = rd_u8(&r);
        if (c < '0' || c > '9') {
            return false;
        }
        n = n * 10 + (c - '0');
    }
    *ret_port = (uint16_t)n;
    return n <= UINT16_MAX;
}

static bool read_line(struct slice line, struct proxy_header *ret)
{
    uint8_t to_ip[16];
    uint16_t to_port = 0;
    struct slice kind = next_word(&line);
    if (slice_eq(kind, SLICE("UNKNOWN"))) {
        return true; // whatever follows on the line
    }
    bool v4 = slice_eq(kind, SLICE("TCP4"));
    if (!v4 && !slice_eq(kind, SLICE("TCP6"))) {
        return false;
    }
    ret->family = v4 ? PROXY_IPV4 : PROXY_IPV6;
    int family = v4 ? AF_INET : AF_INET6;
    return read_ip(next_word(&line), family, ret->ip) && read_ip(next_word(&line), family, to_ip) &&
           read_port(next_word(&line), &ret->port) && read_port(line, &to_port); // the rest of it
}

static enum proxy_step read_v1(struct slice in, struct proxy_header *ret, size_t *ret_used, const char **ret_error)
{
    struct slice head = slice_head(in, PROXY_LINE_MAX);
    const uint8_t *end = memchr(head.p, '\n', head.len);
    if (end == NULL) {
        return head.len < PROXY_LINE_MAX ? PROXY_MORE : bad(ret_error, "a line over 107 bytes");
    }
    struct slice line = slice_head(head, (size_t)(end - head.p));
    *ret_used = line.len + 1;
    if (line.len == 0 || line.p[line.len - 1] != '\r') {
        return bad(ret_error, "a line that does not end with CR LF");
    }
    line = slice_from(slice_head(line, line.len - 1), sizeof("PROXY ") - 1);
    return read_line(line, ret) ? PROXY_DONE : bad(ret_error, "a line that cannot be read");
}

// ---- version 2 ----

// What follows the addresses: type, length, value. Nothing in there is of use here, but it must be whole.
static bool skip_tlvs(struct reader *r)
{
    while (!r->failed && reader_left(r) > 0) {
        (void)rd_u8(r);
        (void)rd_bytes(r, rd_u16(r));
    }
    return reader_done(r);
}

static void copy_ip(struct reader *r, uint8_t *dst, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        dst[i] = rd_u8(r);
    }
}

// Streams over IPv4, IPv6 and Unix sockets; the destination is of no interest.
static bool read_addresses(uint8_t family, struct reader *r, struct proxy_header *ret)
{
    size_t ip = family == 0x11 ? 4 : 16;
    switch (family) {
    case 0x00: // not said: the rest is the proxy's own affair
        (void)rd_rest(r);
        return true;
    case 0x11:
    case 0x21:
        ret->family = family == 0x11 ? PROXY_IPV4 : PROXY_IPV6;
        copy_ip(r, ret->ip, ip);
        (void)rd_bytes(r, ip);
        ret->port = rd_u16(r);
        (void)rd_u16(r);
        break;
    case 0x31:
        (void)rd_bytes(r, V2_UNIX_BYTES);
        break;
    default:
        return false;
    }
    return skip_tlvs(r);
}

static enum proxy_step read_v2(struct slice in, size_t signature_len, struct proxy_header *ret, size_t *ret_used,
                               const char **ret_error)
{
    struct reader r = reader_make(slice_from(in, signature_len));
    uint8_t version_command = rd_u8(&r), family = rd_u8(&r);
    uint16_t len = rd_u16(&r);
    if (r.failed) {
        return PROXY_MORE;
    }
    if (version_command != 0x20 && version_command != 0x21) {
        return bad(ret_error, "a version or command that is not known");
    }
    if (len > PROXY_HEADER_MAX - V2_HEAD_BYTES) {
        return bad(ret_error, "a header over 752 bytes");
    }
    if (reader_left(&r) < len) {
        return PROXY_MORE;
    }
    struct reader body = rd_sub(&r, len);
    *ret_used = V2_HEAD_BYTES + (size_t)len;
    if (version_command == 0x20) {
        return PROXY_DONE; // LOCAL: the proxy itself, a health check; whatever else it says is to be ignored
    }
    return read_addresses(family, &body, ret) ? PROXY_DONE : bad(ret_error, "addresses that cannot be read");
}

enum proxy_step proxy_header_read(struct slice in, struct proxy_header *ret, size_t *ret_used, const char **ret_error)
{
    static const struct slice v1 = {(const uint8_t *)"PROXY ", 6};
    static const struct slice v2 = {(const uint8_t *)"\r\n\r\n\0\r\nQUIT\n", 12};
    *ret = (struct proxy_header){.family = PROXY_NONE};
    if (slice_starts(in, v1)) {
        return read_v1(in, ret, ret_used, ret_error);
    }
    if (slice_starts(in, v2)) {
        return read_v2(in, v2.len, ret, ret_used, ret_error);
    }
    if (slice_starts(v1, in) || slice_starts(v2, in)) {
        return PROXY_MORE;
    }
    return bad(ret_error, "no PROXY header");
}
