#include "base/reader.h"

// The next n bytes, or NULL and failed.
static const uint8_t *rd_take(struct reader *r, size_t n)
{
    if (r->failed || n > (size_t)(r->end - r->p)) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    return p;
}

// Big-endian number of n bytes.
static uint64_t rd_be(struct reader *r, size_t n)
{
    const uint8_t *p = rd_take(r, n);
    uint64_t v = 0;
    if (p != NULL) {
        for (size_t i = 0; i < n; i++) {
            v = v << 8 | p[i];
        }
    }
    return v;
}

uint8_t rd_u8(struct reader *r)
{
    return (uint8_t)rd_be(r, 1);
}

uint16_t rd_u16(struct reader *r)
{
    return (uint16_t)rd_be(r, 2);
}

uint32_t rd_u32(struct reader *r)
{
    return (uint32_t)rd_be(r, 4);
}

uint64_t rd_u64(struct reader *r)
{
    const uint8_t *p = rd_take(r, 8);
    if (p == NULL) {
        return 0;
    }
    // Written out, because compilers make one load of it.
    return (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
           (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | (uint64_t)p[7];
}

uint64_t rd_uvarint_long(struct reader *r)
{
    const uint8_t *p = r->p;
    uint64_t v = 0;
    for (unsigned shift = 0; !r->failed && p < r->end && shift < 64; shift += 7) {
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) {
            break; // more than 64 bits
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift > 0) {
                break; // not the shortest form
            }
            r->p = p;
            return v;
        }
    }
    r->failed = true;
    return 0;
}

int64_t rd_svarint(struct reader *r)
{
    uint64_t v = rd_uvarint(r);
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

struct slice rd_bytes(struct reader *r, size_t n)
{
    const uint8_t *p = rd_take(r, n);
    return p != NULL ? slice_make(p, n) : slice_make(NULL, 0);
}

struct slice rd_rest(struct reader *r)
{
    return rd_bytes(r, r->failed ? 0 : reader_left(r));
}

struct reader rd_sub(struct reader *r, size_t n)
{
    struct slice s = rd_bytes(r, n);
    struct reader sub = reader_make(s);
    sub.failed = r->failed;
    return sub;
}
