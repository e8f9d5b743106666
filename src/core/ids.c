#include "core/ids.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/rand.h"

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
