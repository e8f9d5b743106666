// The machine's health as metrics. One source per subject, each a small file that reads /proc and /sys; the table is in health.c.
//
//   cpu.util            % of all cores since the last sample      disk.used .total    bytes of the root file system
//   load.1 .5 .15       run queue averages                        disk.NAME.used .total  bytes, per other mount
//   mem.used .total .available  bytes                             net.rx_bytes .tx_bytes  counters since boot, without lo
//   temp.ZONE           degrees Celsius                           net.rtt_ms          to the server
//   battery.level       %                                         battery.charging    true or false
//   uptime              seconds since boot                        proc.count          processes
//   queue.len .dropped  messages waiting on disk, and lost for lack of room since enrolment
#ifndef AGENT_HEALTH_H
#define AGENT_HEALTH_H

#include "muster/muster.h"

#include <stdbool.h>
#include <stdint.h>

struct settings;

// What the sources keep between samples, and what other parts of the agent know.
struct health {
    const char *root;                // "" on a real machine
    const struct settings *settings; // which metrics are wanted; borrowed
    uint64_t cpu_busy, cpu_all;      // jiffies at the last sample
    int64_t rtt_us;                  // -1: unknown
    uint64_t queue_len, queue_dropped;
    struct muster_telemetry *out; // while sampling
};

// Takes the first CPU reading, so that the first sample has a base.
void health_init(struct health *h, const char *root, const struct settings *settings);
// One sample of every wanted metric into `memory`. time_ms: of the sample. False: nothing was wanted, or it did not fit.
bool health_sample(struct health *h, int64_t time_ms, void *memory, size_t memory_bytes, size_t *ret_len);

// For the sources: adds a value when the metric is wanted.
void health_double(struct health *h, const char *metric, double value); // rounded to 1/1000
void health_u64(struct health *h, const char *metric, uint64_t value);
void health_bool(struct health *h, const char *metric, bool value);

// The sources. Each adds what it can read and is silent about the rest.
void health_cpu(struct health *h);
void health_load(struct health *h);
void health_mem(struct health *h);
void health_disk(struct health *h);
void health_net(struct health *h);
void health_temp(struct health *h);
void health_battery(struct health *h);
void health_uptime(struct health *h);
void health_proc(struct health *h);
void health_agent(struct health *h);

#endif
