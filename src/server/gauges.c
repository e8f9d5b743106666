#include "server/gauges.h"

#include "core/metrics.h"

enum gauge { POINTS, SERIES, HEAD_BYTES, LOG_BYTES, CHUNK_BYTES, CORRUPT, STATE_BYTES, FULL, GAUGES };

// Metrics live as long as the process, so they are static; their values are atomics.
static struct metric gauges[GAUGES] = {
    [POINTS] = {"muster_telemetry_points_total", "", "Points stored since start", METRIC_COUNTER, 0, NULL},
    [SERIES] = {"muster_telemetry_series", "", "Series with points in memory", METRIC_GAUGE, 0, NULL},
    [HEAD_BYTES] = {"muster_telemetry_head_bytes", "", "Memory of points that are not in chunks yet", METRIC_GAUGE, 0,
                    NULL},
    [LOG_BYTES] = {"muster_store_bytes", "store=\"log\"", "Size of a store on disk", METRIC_GAUGE, 0, NULL},
    [CHUNK_BYTES] = {"muster_store_bytes", "store=\"chunks\"", "Size of a store on disk", METRIC_GAUGE, 0, NULL},
    [STATE_BYTES] = {"muster_store_bytes", "store=\"state\"", "Size of a store on disk", METRIC_GAUGE, 0, NULL},
    [CORRUPT] = {"muster_store_corrupt_records", "", "Records whose checksum did not match", METRIC_GAUGE, 0, NULL},
    [FULL] = {"muster_storage_full", "", "1 while the last commit was refused for want of space", METRIC_GAUGE, 0,
              NULL},
};

static enum status refresh(struct tx *tx, struct err *err)
{
    (void)err;
    struct ts_stats s;
    ts_stats(tx->ts, &s);
    metric_set(&gauges[POINTS], (int64_t)s.points);
    metric_set(&gauges[SERIES], (int64_t)s.series);
    metric_set(&gauges[HEAD_BYTES], (int64_t)s.head_bytes);
    metric_set(&gauges[LOG_BYTES], (int64_t)s.log_bytes);
    metric_set(&gauges[CHUNK_BYTES], (int64_t)s.chunk_bytes);
    metric_set(&gauges[CORRUPT], (int64_t)s.corrupt);
    metric_set(&gauges[STATE_BYTES], db_size_bytes(tx->db));
    metric_set(&gauges[FULL], core_storage_full(tx->core));
    return ST_OK;
}

static void write_core(void *arg, struct buf *out)
{
    struct core_stats s;
    core_stats(arg, &s);
    buf_printf(out,
               "# HELP muster_operations_total Operations run by the core\n# TYPE muster_operations_total counter\n"
               "muster_operations_total %llu\n",
               (unsigned long long)s.ops);
    buf_printf(out,
               "# HELP muster_operations_failed_total Operations that were refused or failed\n"
               "# TYPE muster_operations_failed_total counter\nmuster_operations_failed_total %llu\n",
               (unsigned long long)s.ops_failed);
    buf_printf(out,
               "# HELP muster_queue_length Operations waiting for the core\n# TYPE muster_queue_length gauge\n"
               "muster_queue_length %llu\n",
               (unsigned long long)s.queue_len);
    buf_printf(out,
               "# HELP muster_commit_operations_total Operations per commit: divide by muster_commit_seconds_count\n"
               "# TYPE muster_commit_operations_total counter\nmuster_commit_operations_total %llu\n",
               (unsigned long long)s.ops);
    buf_str(out,
            "# HELP muster_commit_seconds Time of a commit, syncs included\n# TYPE muster_commit_seconds histogram\n");
    uint64_t sum = 0;
    for (unsigned i = 0; i < 16; i++) {
        sum += s.commit_us_hist[i];
        if (i < 15) {
            buf_printf(out, "muster_commit_seconds_bucket{le=\"%.6f\"} %llu\n", (double)(64ULL << i) / 1e6,
                       (unsigned long long)sum);
        }
    }
    buf_printf(out,
               "muster_commit_seconds_bucket{le=\"+Inf\"} %llu\nmuster_commit_seconds_sum "
               "%.6f\nmuster_commit_seconds_count %llu\n",
               (unsigned long long)sum, (double)s.commit_us_total / 1e6, (unsigned long long)sum);
}

void gauges_register(struct core *c)
{
    for (unsigned i = 0; i < GAUGES; i++) {
        metric_register(&gauges[i]);
    }
    metric_collector(write_core, c);
    core_every(c, 1000, refresh);
}

// --- listeners ---------------------------------------------------------------------------------------------------

struct figure {
    const char *name, *type, *help;
    size_t at; // of the number in its struct
};

static uint64_t number_at(const void *stats, size_t at)
{
    return *(const uint64_t *)((const char *)stats + at);
}

static void write_head(const struct figure *f, struct buf *out)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
}

static void write_listeners(const struct gauges_net *g, struct buf *out)
{
#define AT(field) offsetof(struct listener_stats, field)
    static const struct figure figures[] = {
        {"muster_listener_connections", "gauge", "Open connections of a listener", AT(open)},
        {"muster_listener_accepted_total", "counter", "Connections accepted", AT(accepted)},
        {"muster_listener_refused_total", "counter", "Connections not let in: source, network, descriptors, memory",
         AT(refused)},
        {"muster_listener_pauses_total", "counter", "Times accepting paused: connections_max or descriptors",
         AT(pauses)},
        {"muster_listener_accept_failures_total", "counter", "Times accepting failed for want of descriptors or memory",
         AT(accept_failures)},
        {"muster_listener_tls_failures_total", "counter", "TLS handshakes that failed", AT(tls_failures)},
    };
#undef AT
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        write_head(&figures[i], out);
        for (unsigned k = 0; k < g->len; k++) {
            struct listener_stats s;
            if (g->listeners[k] != NULL) {
                listener_stats(g->listeners[k], &s);
                buf_printf(out, "%s{listener=\"%s\"} %llu\n", figures[i].name, g->names[k],
                           (unsigned long long)number_at(&s, figures[i].at));
            }
        }
    }
}

static void write_admission(const struct gauges_net *g, struct buf *out)
{
#define AT(field) offsetof(struct admission_stats, field)
    static const struct figure figures[] = {
        {"muster_strangers", "gauge", "Open connections that are not authenticated", AT(strangers)},
        {"muster_accept_rate_pauses_total", "counter", "Times accepting waited for the accept rate", AT(pauses)},
        {"muster_refused_source_total", "counter", "Connections refused: their address had enough", AT(refused_source)},
        {"muster_refused_network_total", "counter", "Connections refused: their network had enough strangers",
         AT(refused_net)},
        {"muster_strangers_dropped_total", "counter", "Strangers that made room for newer connections", AT(dropped)},
        {"muster_proxy_refused_total", "counter", "Connections of listed proxies without a valid PROXY header",
         AT(proxy_refused)},
    };
#undef AT
    struct admission_stats s;
    admission_stats(g->admission, &s);
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        write_head(&figures[i], out);
        buf_printf(out, "%s %llu\n", figures[i].name, (unsigned long long)number_at(&s, figures[i].at));
    }
}

static void write_net(void *arg, struct buf *out)
{
    write_listeners(arg, out);
    write_admission(arg, out);
}

void gauges_net_begin(struct gauges_net *g)
{
    metric_collector(write_net, g);
}

void gauges_net_end(struct gauges_net *g)
{
    metric_collector_remove(write_net, g);
}
