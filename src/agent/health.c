#include "agent/health.h"

#include "agent/settings.h"

static void (*const sources[])(struct health *h) = {
    health_cpu,  health_load,    health_mem,    health_disk, health_net,
    health_temp, health_battery, health_uptime, health_proc, health_agent,
};

void health_init(struct health *h, const char *root, const struct settings *settings)
{
    *h = (struct health){.root = root, .settings = settings, .rtt_us = -1};
    health_cpu(h);
}

bool health_sample(struct health *h, int64_t time_ms, void *memory, size_t memory_bytes, size_t *ret_len)
{
    struct muster_telemetry t;
    muster_telemetry_begin(&t, memory, memory_bytes, time_ms);
    h->out = &t;
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        sources[i](h);
    }
    h->out = NULL;
    *ret_len = t.len;
    if (muster_telemetry_end(&t) != MUSTER_OK) {
        return false;
    }
    *ret_len = t.len;
    return true;
}

static bool wanted(const struct health *h, const char *metric)
{
    return h->out != NULL && settings_wants(h->settings, metric);
}

void health_double(struct health *h, const char *metric, double value)
{
    if (wanted(h, metric)) {
        double scaled = value * 1000;
        double rounded = (double)(int64_t)(scaled + (scaled < 0 ? -0.5 : 0.5)) / 1000;
        muster_telemetry_add_double(h->out, metric, rounded);
    }
}

void health_u64(struct health *h, const char *metric, uint64_t value)
{
    if (wanted(h, metric)) {
        muster_telemetry_add_int(h->out, metric, value > INT64_MAX ? INT64_MAX : (int64_t)value);
    }
}

void health_bool(struct health *h, const char *metric, bool value)
{
    if (wanted(h, metric)) {
        muster_telemetry_add_bool(h->out, metric, value);
    }
}

void health_agent(struct health *h)
{
    health_u64(h, "queue.len", h->queue_len);
    health_u64(h, "queue.dropped", h->queue_dropped);
    if (h->rtt_us >= 0) {
        health_double(h, "net.rtt_ms", (double)h->rtt_us / 1000);
    }
}
