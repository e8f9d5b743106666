#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_BYTES 64

struct buf buf_heap(size_t max)
{
    return (struct buf){.max = max, .heap = true};
}

struct buf buf_fixed(void *mem, size_t cap)
{
    return (struct buf){.p = mem, .cap = cap, .max = cap};
}

void buf_release(struct buf *b)
{
    if (b->heap) {
        free(b->p);
        b->p = NULL;
        b->cap = 0;
    }
    buf_clear(b);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    b->starved = false;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    if (n > 0) {
        memmove(b->p, b->p + n, b->len - n);
        b->len -= n;
    }
}

// Makes room for `need` bytes in all. The caller knows that need <= max.
static bool buf_grow(struct buf *b, size_t need)
{
    if (!b->heap) {
        return false;
    }
    size_t cap = b->cap > 0 ? b->cap : BUF_FIRST_BYTES;
    while (cap < need) {
        cap = cap > b->max / 2 ? b->max : cap * 2;
    }
    if (cap > b->max) {
        cap = b->max;
    }
    uint8_t *p = realloc(b->p, cap);
    if (p == NULL) {
        b->starved = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed) {
        return NULL;
    }
    if (n <= b->cap - b->len && b->p != NULL) {
        return b->p + b->len;
    }
    if (n > b->max - b->len || !buf_grow(b, b->len + (n > 0 ? n : 1))) {
        b->failed = true;
        return NULL;
    }
    return b->p + b->len;
}

bool buf_put(struct buf *b, const void *p, size_t n)
{
    if (n == 0) {
        return !b->failed;
    }
    uint8_t *dst = buf_reserve(b, n);
    if (dst == NULL) {
        return false;
    }
    memcpy(dst, p, n);
    b->len += n;
    return true;
}

bool buf_u8(struct buf *b, uint8_t v)
{
    return buf_put(b, &v, 1);
}

bool buf_u16(struct buf *b, uint16_t v)
{
    const uint8_t be[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    return buf_put(b, be, sizeof(be));
}

bool buf_u32(struct buf *b, uint32_t v)
{
    const uint8_t be[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    return buf_put(b, be, sizeof(be));
}

bool buf_u64(struct buf *b, uint64_t v)
{
    uint8_t be[8];
    for (unsigned i = 0; i < 8; i++) {
        be[i] = (uint8_t)(v >> (56 - 8 * i));
    }
    return buf_put(b, be, sizeof(be));
}

bool buf_uvarint(struct buf *b, uint64_t v)
{
    uint8_t out[10];
    size_t n = 0;
    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return buf_put(b, out, n);
}

bool buf_svarint(struct buf *b, int64_t v)
{
    return buf_uvarint(b, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

bool buf_slice(struct buf *b, struct slice s)
{
    return buf_put(b, s.p, s.len);
}

bool buf_str(struct buf *b, const char *s)
{
    return buf_put(b, s, strlen(s));
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return false;
    }
    if ((size_t)n < sizeof(small)) {
        return buf_put(b, small, (size_t)n);
    }
    char *dst = (char *)buf_reserve(b, (size_t)n + 1);
    if (dst == NULL) {
        return false;
    }
    va_start(ap, fmt);
    vsnprintf(dst, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return true;
}
