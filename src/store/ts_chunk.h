// Chunks: runs of points of one series in time order, compressed as they are appended; and the bytes of one on disk.
//
// A chunk is a byte stream of tokens. Times are in units of 1 s, 1 ms or 1 us, whichever divides all of them; a token
// carries the change of the distance between points ("dod", zero for a regular series). Numbers are whole numbers, or
// decimals scaled to whole numbers, as differences; numbers that are neither are XORed with their predecessor.
//
//   first point   value against zero (its time is in the row)
//   0xxxxxxx      dod is 0, and x is: the zigzag difference (INT, DEC, BOOL), or the XOR header (XOR)
//   10xxxxxx      run: x + 1 points, dod 0, the value of the point before
//   11xxxxxx      x = zigzag dod, 63: a varint follows with it; then the value: varint difference (INT, DEC, BOOL), XOR
//                 header and bytes (XOR), length + 1 and bytes or 0 for "as before" (STR)
//
// The XOR header holds in bits 4-6 the zero bytes cut off at the low end, in bits 0-3 the number of bytes that follow.
// The kind, the scale and the unit of a chunk are chosen by its points: a point that does not fit makes the chunk be
// encoded anew in a finer form (at most a dozen times in its life), or ends it.
#ifndef STORE_TS_CHUNK_H
#define STORE_TS_CHUNK_H

#include "base/reader.h"
#include "store/ts.h"

#define TS_STRING_MAX        1024
#define TS_CHUNK_POINTS_MAX  4000
#define TS_CHUNK_BYTES_MAX   16384 // reached only by strings and noise
#define TS_CHUNK_SCALE_MAX   9     // decimals
#define TS_CHUNK_EXACT_INT   (INT64_C(1) << 53)
#define TS_CHUNK_FIRST_BYTES 24

enum ts_kind { TS_KIND_INT, TS_KIND_DEC, TS_KIND_XOR, TS_KIND_BOOL, TS_KIND_STR, TS_KIND__COUNT };

// How the bytes are to be read. Stored as one number: kind | scale << 4 | unit << 8.
struct ts_codec {
    uint8_t kind;  // enum ts_kind
    uint8_t scale; // DEC: the values are multiples of 10^-scale
    uint8_t unit;  // 0: 1 us, 1: 1 ms, 2: 1 s
};
uint32_t ts_codec_pack(struct ts_codec c);
bool ts_codec_unpack(uint32_t v, struct ts_codec *ret); // false: no such codec

// An open or sealed chunk. Invariants: n >= 1, t0 <= t1, strictly increasing times, len <= cap.
struct ts_chunk {
    struct ts_chunk *next; // the owner's list
    int64_t t0, t1;        // first and last time, microseconds
    int64_t step;          // last distance, in units
    uint64_t last;         // last value: number, bits, or where the last string begins
    uint32_t n;
    uint32_t len, cap;
    uint16_t last_len; // STR: length of the last string
    struct ts_codec codec;
    bool run; // the last token is a run that can grow
    uint8_t bytes[];
};

enum ts_append { TS_APPENDED, TS_APPEND_SEAL, TS_APPEND_NOMEM };
// Appends a point to *chunk; NULL starts a new one. `t` must be after t1. The chunk may move. TS_APPEND_SEAL: it does not
// fit into this chunk, which is unchanged; start another. The value of a string is copied. `expected_bytes`: how long a new
// chunk will probably become, 0 when unknown; saves growing it step by step.
enum ts_append ts_chunk_append(struct ts_chunk **chunk, int64_t t, const struct ts_value *v, size_t expected_bytes);
static inline size_t ts_chunk_size(const struct ts_chunk *c) // memory it takes
{
    return sizeof(*c) + c->cap;
}

// What a reader needs to know besides the bytes.
struct ts_chunk_info {
    int64_t t0, t1;
    uint32_t n;
    struct ts_codec codec;
};
static inline struct ts_chunk_info ts_chunk_info(const struct ts_chunk *c)
{
    return (struct ts_chunk_info){c->t0, c->t1, c->n, c->codec};
}
// The checksum stored with a chunk: over its place (row id), its description and its bytes.
uint32_t ts_chunk_crc(uint64_t row, const struct ts_chunk_info *info, struct slice bytes);

// Reads a chunk's points in order. Strings borrow the chunk's bytes.
struct ts_chunk_iter {
    struct reader r;
    struct ts_chunk_info info;
    int64_t t;
    int64_t step;
    uint64_t last;
    struct slice str;
    uint32_t left;
    uint32_t run;
    bool failed; // the bytes contradict themselves
};
void ts_chunk_iter_init(struct ts_chunk_iter *it, const struct ts_chunk_info *info, struct slice bytes);
// False at the end or when the bytes are wrong: then it->failed.
bool ts_chunk_next(struct ts_chunk_iter *it, int64_t *ret_t, struct ts_value *ret_v);

// Numbers and booleans compare by value, whichever type they came as; strings by bytes.
bool ts_value_eq(struct ts_value a, struct ts_value b);

#endif
