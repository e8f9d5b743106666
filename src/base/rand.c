#include "base/rand.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>

// SplitMix64: one word of state, passes the usual test batteries, and a seed gives the same row for ever.
struct rand_state {
    uint64_t s;
    bool seeded;
};

static _Thread_local struct rand_state rand_thread;

void rand_secret(void *dst, size_t len)
{
    uint8_t *p = dst;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            abort(); // no key, token or nonce may ever be made without randomness
        }
        p += n;
        len -= (size_t)n;
    }
}

void rand_seed(uint64_t seed)
{
    rand_thread = (struct rand_state){seed, true};
}

uint64_t rand_u64(void)
{
    struct rand_state *st = &rand_thread;
    if (!st->seeded) {
        rand_secret(&st->s, sizeof(st->s));
        st->seeded = true;
    }
    st->s += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = st->s;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
