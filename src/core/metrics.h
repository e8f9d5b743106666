// Counters and gauges, exported in the Prometheus text format. Counters are atomics anybody may bump.
#ifndef CORE_METRICS_H
#define CORE_METRICS_H

#include <stdatomic.h>

#include "base/buf.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };
struct metric {
    const char *name;   // "muster_messages_total"
    const char *labels; // "kind=\"telemetry\",outcome=\"stored\"" or ""
    const char *help;
    enum metric_kind kind;
    _Atomic int64_t value;
    struct metric *next; // private
};
void metric_register(struct metric *m); // once, at start; lives for ever
static inline void metric_add(struct metric *m, int64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void metric_set(struct metric *m, int64_t n)
{
    atomic_store_explicit(&m->value, n, memory_order_relaxed);
}
// Called before each export to refresh gauges or to write metrics of other shapes (histograms) itself.
void metric_collector(void (*fn)(void *arg, struct buf *out), void *arg);
void metrics_write(struct buf *out); // any thread

#endif
