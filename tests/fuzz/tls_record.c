// Records from a stranger: with the wrong key nothing is ever accepted; what the other end sealed is, unless a byte of it was
// changed. The first bytes choose version, suite and what is done.
#include <assert.h>
#include <stdlib.h>

#include "net/tls_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct tls_algs *algs;

// The two ends of one connection: what one writes the other reads.
static struct tls_record *make_end(uint8_t how, bool turned)
{
    static const uint16_t v13[] = {0x1301, 0x1302, 0x1303}, v12[] = {0xc02b, 0xc030, 0xcca9};
    static const uint8_t a[48] = {1, 2, 3}, b[48] = {4, 5, 6}, random[32] = {7};
    bool is13 = (how & 1) == 0;
    uint16_t suite = is13 ? v13[how / 2 % 3] : v12[how / 2 % 3];
    size_t secret_len = suite == 0x1302 ? 48 : 32;
    const struct tls_keys keys = {.version = is13 ? 0x0304 : 0x0303,
                                  .suite = suite,
                                  .read_secret = slice_make(turned ? b : a, secret_len),
                                  .write_secret = slice_make(turned ? a : b, secret_len),
                                  .master = slice_make(a, 48),
                                  .client_random = slice_make(random, 32),
                                  .server_random = slice_make(random, 32)};
    struct tls_record *r = tls_record_new(algs, &keys);
    assert(r != NULL);
    return r;
}

static void stranger(struct tls_record *end, struct slice bytes)
{
    struct buf plain = buf_heap(TLS_RECORD_MAX + 1024);
    uint8_t type = 0, alert = 0;
    assert(!tls_record_open(end, slice_head(bytes, TLS_RECORD_MAX), &plain, &type, &alert));
    assert(alert != 0 && plain.len == 0);
    buf_release(&plain);
}

// TLS 1.3 has ends that mirror each other; of TLS 1.2 only the server's end exists here.
static void round_trip(uint8_t how, struct slice text, size_t damage)
{
    struct tls_record *one = make_end(how, false), *other = make_end(how, true);
    struct buf wire = buf_heap(TLS_RECORD_MAX + 1024), plain = buf_heap(TLS_RECORD_MAX + 1024);
    uint8_t type = 0, alert = 0;
    text = slice_head(text, TLS_RECORD_PLAIN);
    assert(tls_record_seal(one, TLS_DATA, text, &wire));
    assert(wire.len <= TLS_RECORD_HEADER + text.len + TLS_RECORD_OVERHEAD);
    bool damaged = damage % 4 == 0;
    if (damaged) {
        wire.p[damage / 4 % wire.len] ^= 1;
    }
    bool opened = tls_record_open(other, buf_view(&wire), &plain, &type, &alert);
    assert(opened != damaged || text.len == 0);
    assert(!opened || (type == TLS_DATA && slice_eq(buf_view(&plain), text)));
    buf_release(&wire);
    buf_release(&plain);
    tls_record_free(one);
    tls_record_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (algs == NULL) {
        algs = tls_algs_new();
        assert(algs != NULL);
    }
    if (len < 3) {
        return 0;
    }
    struct tls_record *end = make_end(data[0], false);
    stranger(end, slice_make(data + 3, len - 3));
    tls_record_free(end);
    if ((data[0] & 1) == 0) {
        round_trip(data[0], slice_make(data + 3, len - 3), (size_t)data[1] << 8 | data[2]);
    }
    return 0;
}
