// A byte buffer that is born with its maximum.
//
// Two kinds behind one type: buf_heap grows by doubling up to `max`; buf_fixed writes into the caller's memory and never
// allocates (the device SDK uses only this). Failure is sticky: after the first append that did not fit or could not be
// allocated, `failed` is set, later appends do nothing, and what was written before stays readable. Check once at the end.
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

struct buf {
    uint8_t *p;
    size_t len;
    size_t cap;
    size_t max;   // never grows past this
    bool heap;    // p is ours to free
    bool failed;  // sticky
    bool starved; // with failed: for want of memory, not of room below max
};

struct buf buf_heap(size_t max); // allocates nothing until the first append
struct buf buf_fixed(void *mem, size_t cap);
void buf_release(struct buf *b); // frees heap memory; the buf is then like buf_heap(max) again
void buf_clear(struct buf *b);   // len = 0, failed = false; keeps the memory
// Drops the first n bytes (moves the rest down).
void buf_consume(struct buf *b, size_t n);

// Room for n more bytes; NULL and failed when not to be had. The bytes count only after buf_commit.
uint8_t *buf_reserve(struct buf *b, size_t n);
static inline void buf_commit(struct buf *b, size_t n)
{
    b->len += n;
}

// All appends: false when the buf has failed, now or before; then nothing was added.
bool buf_put(struct buf *b, const void *p, size_t n);
bool buf_u8(struct buf *b, uint8_t v);
bool buf_u16(struct buf *b, uint16_t v); // big-endian, as all of these
bool buf_u32(struct buf *b, uint32_t v);
bool buf_u64(struct buf *b, uint64_t v);
bool buf_uvarint(struct buf *b, uint64_t v); // LEB128, at most 10 bytes
bool buf_svarint(struct buf *b, int64_t v);  // zigzag + LEB128
bool buf_slice(struct buf *b, struct slice s);
bool buf_str(struct buf *b, const char *s);
// Texts over 255 bytes need one byte of room behind them.
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline struct slice buf_view(const struct buf *b)
{
    return (struct slice){b->p, b->len};
}

#endif
