#include "proto/pcapng.h"

#include <stdlib.h>

#define BLOCK_SECTION   0x0a0d0d0au
#define BLOCK_INTERFACE 1u
#define BLOCK_PACKET    6u
#define ORDER_MAGIC     0x1a2b3c4du
#define LINKTYPE_RAW    101 // IPv4 or IPv6, told apart by the first half byte
#define OPT_COMMENT     1
#define OPT_APPLICATION 4
#define OPT_END         0
#define SEGMENT_MAX     32768
#define SERVER_PORT     1883
#define TCP_HEADER      20
#define TCP_PSH_ACK     0x18
#define TCP_SYN         0x02
#define COMMENT_MAX     400
#define PROTO_TCP       6

struct address {
    bool v6;
    uint8_t bytes[16];
    uint16_t port;
};

// --- little-endian pieces of a block -------------------------------------------------------------------------------

static void le16(struct buf *out, uint16_t v)
{
    buf_u8(out, (uint8_t)v);
    buf_u8(out, (uint8_t)(v >> 8));
}

static void le32(struct buf *out, uint32_t v)
{
    le16(out, (uint16_t)v);
    le16(out, (uint16_t)(v >> 16));
}

static size_t padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

static void pad(struct buf *out, size_t n)
{
    for (size_t i = n; i < padded(n); i++) {
        buf_u8(out, 0);
    }
}

static size_t option_size(struct slice text)
{
    return text.len > 0 ? 4 + padded(text.len) + 4 : 0; // with the end of options
}

static void put_option(struct buf *out, uint16_t code, struct slice text)
{
    if (text.len == 0) {
        return;
    }
    le16(out, code);
    le16(out, (uint16_t)text.len);
    buf_slice(out, text);
    pad(out, text.len);
    le16(out, OPT_END);
    le16(out, 0);
}

bool pcapng_begin(struct pcapng *w, struct buf *out, const char *application)
{
    *w = (struct pcapng){.out = out};
    struct slice name = slice_head(slice_str(application), COMMENT_MAX);
    uint32_t len = (uint32_t)(28 + option_size(name));
    le32(out, BLOCK_SECTION);
    le32(out, len);
    le32(out, ORDER_MAGIC);
    le16(out, 1); // version 1.0
    le16(out, 0);
    le32(out, UINT32_MAX); // section length unknown
    le32(out, UINT32_MAX);
    put_option(out, OPT_APPLICATION, name);
    le32(out, len);
    le32(out, BLOCK_INTERFACE);
    le32(out, 20);
    le16(out, LINKTYPE_RAW);
    le16(out, 0);
    le32(out, 0); // no snap length; times are microseconds without an option that says otherwise
    le32(out, 20);
    return !out->failed;
}

// --- addresses -----------------------------------------------------------------------------------------------------

static bool read_port(const char *text, uint16_t *ret)
{
    char *end = NULL;
    unsigned long v = strtoul(text, &end, 10);
    *ret = (uint16_t)v;
    return end != text && *end == '\0' && v <= UINT16_MAX;
}

static bool read_v4(struct slice text, uint8_t ret[4])
{
    unsigned part = 0;
    unsigned value = 0;
    bool digit = false;
    for (size_t i = 0; i <= text.len; i++) {
        if (i == text.len || text.p[i] == '.') {
            if (!digit || part > 3 || value > 255) {
                return false;
            }
            ret[part++] = (uint8_t)value;
            value = 0;
            digit = false;
        } else if (text.p[i] >= '0' && text.p[i] <= '9' && value <= 255) {
            value = value * 10 + (text.p[i] - (unsigned)'0');
            digit = true;
        } else {
            return false;
        }
    }
    return part == 4;
}

static int hex_digit(uint8_t ch)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = ch != 0 ? strchr(digits, ch | 0x20) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

// RFC 4291 text without an embedded IPv4 part: groups before and behind "::".
static bool read_v6(struct slice text, uint8_t ret[16])
{
    uint16_t groups[8] = {0};
    unsigned n = 0;
    int gap = -1;
    size_t i = 0;
    while (i < text.len && n < 8) {
        if (text.p[i] == ':') {
            bool twice = i + 1 < text.len && text.p[i + 1] == ':';
            if (twice && gap >= 0) {
                return false;
            }
            gap = twice ? (int)n : gap;
            i += twice ? 2 : 1;
            continue;
        }
        unsigned v = 0;
        for (; i < text.len && hex_digit(text.p[i]) >= 0 && v <= 0xfff; i++) {
            v = v * 16 + (unsigned)hex_digit(text.p[i]);
        }
        if (i < text.len && text.p[i] != ':') {
            return false;
        }
        groups[n++] = (uint16_t)v;
    }
    if (i < text.len || (gap < 0 && n != 8)) {
        return false;
    }
    unsigned behind = gap >= 0 ? n - (unsigned)gap : 0;
    for (unsigned g = 0; g < n; g++) {
        size_t at = gap >= 0 && g >= (unsigned)gap ? 8 - behind + (g - (unsigned)gap) : g;
        ret[at * 2] = (uint8_t)(groups[g] >> 8);
        ret[at * 2 + 1] = (uint8_t)groups[g];
    }
    return true;
}

static struct address read_address(const char *peer)
{
    struct address a = {0};
    struct address none = {0};
    const char *colon = strrchr(peer, ':');
    if (colon == NULL || !read_port(colon + 1, &a.port)) {
        return none;
    }
    struct slice host = slice_make(peer, (size_t)(colon - peer));
    if (host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']') {
        a.v6 = true;
        return read_v6(slice_make(host.p + 1, host.len - 2), a.bytes) ? a : none;
    }
    return read_v4(host, a.bytes) ? a : none;
}

// --- packets -------------------------------------------------------------------------------------------------------

// Ones' complement sum (RFC 1071); a piece of odd length may only be the last.
static uint32_t sum16(uint32_t sum, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        sum += i % 2 == 0 ? (uint32_t)s.p[i] << 8 : s.p[i];
    }
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static struct slice server_address(const struct address *a)
{
    static const uint8_t v6[16] = {[15] = 1};
    static const uint8_t v4[4] = {127, 0, 0, 1};
    return a->v6 ? slice_make(v6, 16) : slice_make(v4, 4);
}

static struct slice peer_address(const struct address *a)
{
    return slice_make(a->bytes, a->v6 ? 16 : 4);
}

static void put_ip(struct buf *out, const struct address *a, bool to_peer, size_t tcp_len)
{
    struct slice from = to_peer ? server_address(a) : peer_address(a);
    struct slice to = to_peer ? peer_address(a) : server_address(a);
    if (a->v6) {
        buf_u32(out, 0x60000000u);
        buf_u16(out, (uint16_t)tcp_len);
        buf_u8(out, PROTO_TCP);
        buf_u8(out, 64);
        buf_slice(out, from);
        buf_slice(out, to);
        return;
    }
    uint8_t head[20];
    struct buf h = buf_fixed(head, sizeof(head));
    buf_u16(&h, 0x4500);
    buf_u16(&h, (uint16_t)(20 + tcp_len));
    buf_u32(&h, 0x00004000u); // do not fragment
    buf_u8(&h, 64);
    buf_u8(&h, PROTO_TCP);
    buf_u16(&h, 0);
    buf_slice(&h, from);
    buf_slice(&h, to);
    uint16_t check = fold(sum16(0, buf_view(&h)));
    head[10] = (uint8_t)(check >> 8);
    head[11] = (uint8_t)check;
    buf_put(out, head, sizeof(head));
}

// The checksum is left 0, as a capture on a machine that lets its network card make it would show.
static void put_tcp(struct buf *out, const struct address *a, bool to_peer, uint32_t seq, uint32_t ack, uint8_t flags)
{
    buf_u16(out, to_peer ? SERVER_PORT : a->port);
    buf_u16(out, to_peer ? a->port : SERVER_PORT);
    buf_u32(out, seq);
    buf_u32(out, ack);
    buf_u8(out, (TCP_HEADER / 4) << 4);
    buf_u8(out, flags);
    buf_u16(out, UINT16_MAX);
    buf_u32(out, 0); // checksum, urgent pointer
}

static void put_block(struct buf *out, const struct pcapng_packet *p, const struct address *a,
                      const struct pcapng_stream *s, struct slice data, size_t wire_len, uint8_t flags,
                      struct slice comment)
{
    size_t ip = a->v6 ? 40 : 20;
    size_t kept = ip + TCP_HEADER + data.len;
    uint32_t len = (uint32_t)(32 + padded(kept) + option_size(comment));
    uint64_t us = p->ts_us > 0 ? (uint64_t)p->ts_us : 0;
    le32(out, BLOCK_PACKET);
    le32(out, len);
    le32(out, 0); // interface
    le32(out, (uint32_t)(us >> 32));
    le32(out, (uint32_t)us);
    le32(out, (uint32_t)kept);
    le32(out, (uint32_t)(ip + TCP_HEADER + wire_len));
    put_ip(out, a, p->to_peer, TCP_HEADER + wire_len);
    put_tcp(out, a, p->to_peer, p->to_peer ? s->seq_out : s->seq_in, p->to_peer ? s->seq_in : s->seq_out, flags);
    buf_slice(out, data);
    pad(out, kept);
    put_option(out, OPT_COMMENT, comment);
    le32(out, len);
}

static struct pcapng_stream *find_stream(struct pcapng *w, uint64_t conn)
{
    for (unsigned i = 0; i < w->streams_len; i++) {
        if (w->streams[i].conn == conn) {
            return &w->streams[i];
        }
    }
    unsigned at = w->streams_len < PCAPNG_STREAMS_MAX ? w->streams_len++ : (unsigned)(conn % PCAPNG_STREAMS_MAX);
    w->streams[at] = (struct pcapng_stream){.conn = conn};
    return &w->streams[at];
}

// The hand-shake nobody recorded: with it Wireshark knows where each stream begins.
static void begin_stream(struct pcapng *w, struct pcapng_stream *s, const struct pcapng_packet *p,
                         const struct address *a)
{
    struct pcapng_packet syn = *p;
    s->begun = true;
    syn.to_peer = false;
    put_block(w->out, &syn, a, s, (struct slice){NULL, 0}, 0, TCP_SYN, (struct slice){NULL, 0});
    s->seq_in++;
    syn.to_peer = true;
    put_block(w->out, &syn, a, s, (struct slice){NULL, 0}, 0, TCP_SYN | 0x10, (struct slice){NULL, 0});
    s->seq_out++;
}

bool pcapng_put(struct pcapng *w, const struct pcapng_packet *p)
{
    struct address a = read_address(p->peer);
    struct pcapng_stream *s = find_stream(w, p->conn);
    struct slice comment = slice_head(slice_str(p->note), p->note != NULL ? COMMENT_MAX : 0);
    if (!s->begun) {
        begin_stream(w, s, p, &a);
    }
    size_t done = 0;
    do {
        size_t wire = p->data_len - done < SEGMENT_MAX ? p->data_len - done : SEGMENT_MAX;
        struct slice part = slice_head(slice_from(p->data, done), wire);
        put_block(w->out, p, &a, s, part, wire, TCP_PSH_ACK, done == 0 ? comment : (struct slice){NULL, 0});
        *(p->to_peer ? &s->seq_out : &s->seq_in) += (uint32_t)wire;
        done += wire;
    } while (done < p->data_len && !w->out->failed);
    return !w->out->failed;
}
