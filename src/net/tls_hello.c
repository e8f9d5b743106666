#include "net/tls_hello.h"

#include "base/reader.h"

enum { RECORD_HANDSHAKE = 22, MESSAGE_CLIENT_HELLO = 1, MESSAGE_HEADER = 4, VERSION_TLS12 = 0x0303 };
enum { EXT_SERVER_NAME = 0, EXT_ALPN = 16, EXT_PRE_SHARED_KEY = 41, EXT_SUPPORTED_VERSIONS = 43 };
#define EXTENSIONS_MAX 128 // looked at; no client sends as many

static bool is_grease(uint16_t v) // RFC 8701
{
    return (v & 0x0f0f) == 0x0a0a && v >> 8 == (v & 0xff);
}

static uint32_t rd_u24(struct reader *r)
{
    uint32_t high = rd_u8(r);
    return high << 16 | rd_u16(r);
}

// ---- extensions ----

static void read_server_name(struct reader *r, struct tls_hello *h)
{
    struct reader list = rd_sub(r, rd_u16(r));
    uint8_t type = rd_u8(&list);
    struct slice name = rd_bytes(&list, rd_u16(&list));
    if (list.failed || type != 0 || !slice_to_cstr(name, h->sni, sizeof(h->sni))) {
        h->sni[0] = '\0';
        return;
    }
    for (char *c = h->sni; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c > ' ' && *c < 0x7f ? *c : '?';
    }
}

static void read_alpn(struct reader *r, struct tls_hello *h)
{
    struct reader list = rd_sub(r, rd_u16(r));
    struct buf text = buf_fixed(h->alpn, sizeof(h->alpn) - 1);
    while (!list.failed && reader_left(&list) > 0) {
        struct slice name = rd_bytes(&list, rd_u8(&list));
        if (text.len + name.len + 1 >= text.max) {
            break;
        }
        buf_str(&text, text.len > 0 ? "," : "");
        for (size_t i = 0; i < name.len; i++) {
            buf_u8(&text, name.p[i] > ' ' && name.p[i] < 0x7f ? name.p[i] : '?');
        }
    }
    h->alpn[text.len] = '\0';
}

static void read_versions(struct reader *r, struct tls_hello *h)
{
    struct reader list = rd_sub(r, rd_u8(r));
    h->versions_len = 0;
    while (!list.failed && reader_left(&list) > 1) {
        uint16_t v = rd_u16(&list);
        if (!is_grease(v) && h->versions_len < TLS_HELLO_VERSIONS_MAX) {
            h->versions[h->versions_len++] = v;
        }
    }
}

static void read_psk(struct reader *r, struct tls_hello *h)
{
    struct reader list = rd_sub(r, rd_u16(r));
    struct slice id = rd_bytes(&list, rd_u16(&list));
    struct buf out = buf_fixed(h->psk_id, sizeof(h->psk_id));
    if (buf_slice(&out, id)) {
        h->psk_id_len = (uint8_t)out.len;
    }
}

static const struct {
    uint16_t type;
    void (*read)(struct reader *r, struct tls_hello *h);
} extensions[] = {{EXT_SERVER_NAME, read_server_name},
                  {EXT_ALPN, read_alpn},
                  {EXT_PRE_SHARED_KEY, read_psk},
                  {EXT_SUPPORTED_VERSIONS, read_versions}};

static void read_extensions(struct reader *r, struct tls_hello *h)
{
    for (int i = 0; i < EXTENSIONS_MAX && !r->failed && reader_left(r) > 0; i++) {
        uint16_t type = rd_u16(r);
        struct reader body = rd_sub(r, rd_u16(r));
        for (size_t k = 0; k < sizeof(extensions) / sizeof(extensions[0]); k++) {
            if (extensions[k].type == type) {
                extensions[k].read(&body, h);
            }
        }
    }
}

// ---- the message ----

static void read_suites(struct reader *r, struct tls_hello *h)
{
    struct reader list = rd_sub(r, rd_u16(r));
    while (!list.failed && reader_left(&list) > 1) {
        uint16_t suite = rd_u16(&list);
        if (is_grease(suite)) {
            continue;
        }
        if (h->suites_len < TLS_HELLO_SUITES_MAX) {
            h->suites[h->suites_len++] = suite;
        } else {
            h->suites_more++;
        }
    }
}

// The body of the ClientHello.
static bool read_message(struct slice body, struct tls_hello *h)
{
    struct reader r = reader_make(body);
    h->versions[0] = rd_u16(&r);
    h->versions_len = 1;
    (void)rd_bytes(&r, 32); // random
    struct slice id = rd_bytes(&r, rd_u8(&r));
    struct buf out = buf_fixed(h->session_id, sizeof(h->session_id));
    if (buf_slice(&out, id)) {
        h->session_id_len = (uint8_t)out.len;
    }
    read_suites(&r, h);
    (void)rd_bytes(&r, rd_u8(&r)); // compression
    if (!r.failed && reader_left(&r) > 0) {
        struct reader list = rd_sub(&r, rd_u16(&r));
        read_extensions(&list, h);
        return reader_done(&r) && !list.failed;
    }
    return reader_done(&r);
}

// ---- records ----

// The handshake bytes of the next record; .p == NULL: not all of it is there.
static struct slice next_record(struct reader *r, bool *ret_other)
{
    uint8_t type = rd_u8(r);
    uint8_t major = rd_u8(r);
    (void)rd_u8(r); // minor
    uint16_t len = rd_u16(r);
    *ret_other = !r->failed &&
                 (type != RECORD_HANDSHAKE || major != VERSION_TLS12 >> 8 || len == 0 || len > TLS_HELLO_BYTES_MAX);
    struct slice part = rd_bytes(r, len);
    return r->failed ? (struct slice){NULL, 0} : part;
}

// Length of the whole message, header included; 0: too little to tell, or no ClientHello (*ret_other).
static size_t message_bytes(struct slice part, bool *ret_other)
{
    struct reader r = reader_make(part);
    uint8_t type = rd_u8(&r);
    uint32_t len = rd_u24(&r);
    *ret_other = part.len > 0 && (type != MESSAGE_CLIENT_HELLO || (!r.failed && len > TLS_HELLO_BYTES_MAX));
    return r.failed ? 0 : (size_t)len + MESSAGE_HEADER;
}

enum tls_hello_result tls_hello_read(struct slice cipher, struct buf *join, struct tls_hello *ret)
{
    *ret = (struct tls_hello){.versions_len = 0};
    struct reader r = reader_make(cipher);
    bool other = rd_peek(&r) >= 0 && rd_peek(&r) != RECORD_HANDSHAKE;
    struct slice got = {NULL, 0};
    while (!other) {
        struct slice part = next_record(&r, &other);
        if (other || part.p == NULL) {
            break;
        }
        if (got.len == 0) {
            got = part;
        } else {
            other = (join->len == 0 && !buf_slice(join, got)) || !buf_slice(join, part);
            got = buf_view(join);
        }
        bool not_hello = false;
        size_t want = message_bytes(got, &not_hello);
        other = other || not_hello;
        if (!other && want > 0 && got.len >= want) {
            bool ok = read_message(slice_from(slice_head(got, want), MESSAGE_HEADER), ret);
            return ok ? TLS_HELLO_OK : TLS_HELLO_OTHER;
        }
    }
    return other ? TLS_HELLO_OTHER : TLS_HELLO_MORE;
}
