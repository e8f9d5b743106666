#include "core/ids.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/rand.h"
#include "base/reader.h"
#include "net/crypto.h"

#define ID_EPOCH_MS INT64_C(1704067200000) // 2024-01-01T00:00:00Z
#define ID_SEQ_BITS 21
#define ID_MS_MASK  ((UINT64_C(1) << 42) - 1)

// The last id given out. Ids follow one another even when the clock stands or steps back.
static _Atomic uint64_t id_last;

uint64_t id_new(void)
{
    int64_t ms = clock_wall_us() / 1000 - ID_EPOCH_MS;
    uint64_t base = ((uint64_t)(ms > 0 ? ms : 1) & ID_MS_MASK) << ID_SEQ_BITS;
    // A new millisecond starts at a random place in the lower half of its range, so that the rest leaves a million ids.
    uint64_t fresh = base | (rand_u64() & ((UINT64_C(1) << (ID_SEQ_BITS - 1)) - 1));
    uint64_t last = atomic_load_explicit(&id_last, memory_order_relaxed);
    for (;;) {
        uint64_t id = last >= base ? last + 1 : fresh;
        if (atomic_compare_exchange_weak_explicit(&id_last, &last, id, memory_order_relaxed, memory_order_relaxed)) {
            return id;
        }
    }
}

void row_id_text(uint64_t row, char dst[ROW_ID_LEN + 1])
{
    (void)snprintf(dst, ROW_ID_LEN + 1, "%016" PRIx64, row);
}

bool row_id_parse(struct slice text, uint64_t *ret)
{
    uint8_t mem[sizeof(*ret)];
    struct buf b = buf_fixed(mem, sizeof(mem));
    if (text.len != ROW_ID_LEN || !hex_decode(text, &b)) {
        return false;
    }
    struct reader r = reader_make(buf_view(&b));
    uint64_t row = rd_u64(&r);
    if (r.failed || row > INT64_MAX) {
        return false;
    }
    *ret = row;
    return true;
}
