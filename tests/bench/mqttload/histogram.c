#include "histogram.h"

enum { SUB_BITS = 5, SUB = 1 << SUB_BITS };

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB) {
        return (unsigned)ns;
    }
    unsigned top = 63 - (unsigned)__builtin_clzll(ns);
    unsigned shift = top - SUB_BITS;
    return (shift + 1) * SUB + (unsigned)(ns >> shift) - SUB;
}

// The middle of a bucket.
static double value_of(unsigned bucket)
{
    if (bucket < SUB) {
        return bucket;
    }
    unsigned shift = bucket / SUB - 1;
    return ((double)(bucket % SUB + SUB) + 0.5) * (double)(1ULL << shift);
}

void histogram_add(struct histogram *h, int64_t ns)
{
    if (ns < 0) {
        ns = 0;
    }
    h->count[bucket_of((uint64_t)ns)]++;
    h->total++;
    if (ns > h->max_ns) {
        h->max_ns = ns;
    }
}

double histogram_ms(const struct histogram *h, double q)
{
    double sum = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        sum += (double)h->count[i];
        if (h->total > 0 && h->count[i] > 0 && sum >= q * (double)h->total) {
            return value_of(i) / 1e6;
        }
    }
    return 0;
}
