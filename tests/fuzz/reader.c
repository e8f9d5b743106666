// A program of reads over the rest of the input: nothing is read twice, past the end or after a failure, and a varint that
// is accepted is written again as the same bytes.
#include <assert.h>

#include "base/buf.h"
#include "base/reader.h"

static void read_varint(struct reader *r)
{
    const uint8_t *before = r->p;
    uint64_t v = rd_uvarint(r);
    if (r->failed) {
        assert(r->p == before);
        return;
    }
    uint8_t mem[10];
    struct buf b = buf_fixed(mem, sizeof(mem));
    assert(buf_uvarint(&b, v));
    assert(slice_eq(buf_view(&b), slice_make(before, (size_t)(r->p - before))));
    struct reader again = reader_make(buf_view(&b));
    int64_t s = rd_svarint(&again);
    assert(reader_done(&again));
    buf_clear(&b);
    buf_svarint(&b, s);
    again = reader_make(buf_view(&b));
    assert(rd_uvarint(&again) == v);
}

static void step(struct reader *r, uint8_t op, size_t n)
{
    size_t left = reader_left(r);
    bool failed = r->failed;
    size_t want = 0;
    switch (op % 8) {
    case 0:
        rd_u8(r);
        want = 1;
        break;
    case 1:
        rd_u16(r);
        want = 2;
        break;
    case 2:
        rd_u32(r);
        want = 4;
        break;
    case 3:
        rd_u64(r);
        want = 8;
        break;
    case 4: {
        struct slice s = rd_bytes(r, n);
        assert(r->failed ? s.p == NULL : s.len == n);
        want = n;
        break;
    }
    case 5: {
        struct reader sub = rd_sub(r, n);
        assert(sub.failed == r->failed && reader_left(&sub) == (r->failed ? 0 : n));
        want = n;
        break;
    }
    case 6:
        read_varint(r);
        assert(reader_left(r) <= left);
        return;
    default:
        assert(rd_peek(r) == (failed || left == 0 ? -1 : *r->p));
        break;
    }
    assert(r->failed == (failed || want > left));
    assert(reader_left(r) == (r->failed ? left : left - want));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t half = size / 2;
    struct reader program = reader_make(slice_make(data, half));
    struct reader r = reader_make(slice_make(data + half, size - half));
    while (reader_left(&program) > 0) {
        uint8_t op = rd_u8(&program);
        step(&r, op, op >> 3);
    }
    return 0;
}
