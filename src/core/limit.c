#include "core/limit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/metrics.h"

#define LOG_US 60000000

static const char *const keys[] = {
#define X(name, text) [LIMIT_##name] = (text),
    LIMIT_MAP(X)
#undef X
};

// Both live as long as the process.
static struct metric counters[LIMIT__COUNT] = {
#define X(suffix, text)                                                                                                \
    [LIMIT_##suffix] = {.name = "muster_limits_met_total",                                                             \
                        .labels = "limit=\"" text "\"",                                                                \
                        .help = "How often clients met a limit, by its configuration key.",                            \
                        .kind = METRIC_COUNTER},
    LIMIT_MAP(X)
#undef X
};
static _Atomic int64_t logged_us[LIMIT__COUNT];

static void register_all(void)
{
    for (unsigned i = 0; i < LIMIT__COUNT; i++) {
        metric_register(&counters[i]);
    }
}

void limits_register(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_all);
}

void limit_met(enum limit l, uint32_t tenant, struct slice client)
{
    int64_t now_us = clock_mono_us();
    int64_t last_us = atomic_load_explicit(&logged_us[l], memory_order_relaxed);
    metric_add(&counters[l], 1);
    if ((last_us == 0 || now_us - last_us >= LOG_US) &&
        atomic_compare_exchange_strong_explicit(&logged_us[l], &last_us, now_us, memory_order_relaxed,
                                                memory_order_relaxed)) {
        log_warn("limit", "a client has met a limit", LOGS("limit", keys[l]), LOGU("tenant", tenant),
                 LOGSL("client", client));
    }
}
