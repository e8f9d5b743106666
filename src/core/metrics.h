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
// Once, at start; the metric lives for ever. A second registration of the same metric changes nothing.
void metric_register(struct metric *m);
static inline void metric_add(struct metric *m, int64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void metric_set(struct metric *m, int64_t n)
{
    atomic_store_explicit(&m->value, n, memory_order_relaxed);
}
// Called before each export, on the exporting thread, to refresh gauges or to write metrics of other shapes (histograms)
// itself; must not register anything. At most 32 collectors; false when there is no room.
bool metric_collector(void (*fn)(void *arg, struct buf *out), void *arg);
// After it returns, fn is not called any more: before arg is freed.
void metric_collector_remove(void (*fn)(void *arg, struct buf *out), void *arg);
// Appends the Prometheus text format: collectors first, then all metrics by name and labels. Any thread.
void metrics_write(struct buf *out);

#endif
