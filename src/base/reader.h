// The one bounds-checked cursor: every decoder of foreign bytes reads through it and nowhere else touches a raw pointer.
//
// Failure is sticky: a read past the end sets `failed`, returns 0 or an empty slice and moves nothing; decoders may read on
// and check once per packet. Lengths are checked against the remaining input before anything is allocated for them.
#ifndef BASE_READER_H
#define BASE_READER_H

#include "base/slice.h"

struct reader {
    const uint8_t *p;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_make(struct slice s)
{
    return (struct reader){s.p, s.len > 0 ? s.p + s.len : s.p, false};
}
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}
// True when nothing failed and everything was read: a message must be used up.
static inline bool reader_done(const struct reader *r)
{
    return !r->failed && r->p == r->end;
}

// The next byte without moving; -1 at the end or after a failure. Never fails.
static inline int rd_peek(const struct reader *r)
{
    return r->failed || r->p == r->end ? -1 : *r->p;
}
uint8_t rd_u8(struct reader *r);
uint16_t rd_u16(struct reader *r); // big-endian, as all of these
uint32_t rd_u32(struct reader *r);
uint64_t rd_u64(struct reader *r);
uint64_t rd_uvarint_long(struct reader *r); // of rd_uvarint, when it is not one byte
// LEB128; overlong (non-minimal) or > 64 bit fails. Most are one byte long: that is worth a short way.
static inline uint64_t rd_uvarint(struct reader *r)
{
    if (!r->failed && r->p < r->end && *r->p < 0x80) {
        return *r->p++;
    }
    return rd_uvarint_long(r);
}
int64_t rd_svarint(struct reader *r);
struct slice rd_bytes(struct reader *r, size_t n);
struct slice rd_rest(struct reader *r);
// A sub-reader over the next n bytes; on failure an empty failed reader.
struct reader rd_sub(struct reader *r, size_t n);

#endif
