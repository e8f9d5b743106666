// Times in buckets whose width grows with the value: 32 to each power of two, so a percentile is exact to 3 %.
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 60 * 32 };

struct histogram {
    uint64_t count[HISTOGRAM_BUCKETS];
    uint64_t total;
    int64_t max_ns;
};

// A time below 0 counts as 0.
void histogram_add(struct histogram *h, int64_t ns);
// The time in milliseconds that the share `q` (0 to 1) of all does not exceed; 0 when there are none.
double histogram_ms(const struct histogram *h, double q);

#endif
