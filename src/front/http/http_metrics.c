// Counters of the HTTP front. They live as long as the process, as the registry in core/metrics keeps them.
#include <stdatomic.h>

#include "core/metrics.h"
#include "front/http/http_priv.h"

enum { REPLY_2XX, REPLY_3XX, REPLY_4XX, REPLY_5XX, REPLY__COUNT };

static struct metric replies[] = {
    [REPLY_2XX] = {.name = "muster_http_requests_total", .labels = "code=\"2xx\"", .help = "HTTP requests by outcome."},
    [REPLY_3XX] = {.name = "muster_http_requests_total", .labels = "code=\"3xx\"", .help = "HTTP requests by outcome."},
    [REPLY_4XX] = {.name = "muster_http_requests_total", .labels = "code=\"4xx\"", .help = "HTTP requests by outcome."},
    [REPLY_5XX] = {.name = "muster_http_requests_total", .labels = "code=\"5xx\"", .help = "HTTP requests by outcome."},
};
static struct metric conns = {
    .name = "muster_http_connections", .labels = "", .help = "Open HTTP connections.", .kind = METRIC_GAUGE};
static struct metric streams = {
    .name = "muster_http_streams", .labels = "", .help = "Open event streams.", .kind = METRIC_GAUGE};
static struct metric failures = {
    .name = "muster_http_auth_failures_total", .labels = "", .help = "Requests with an unknown token."};

void http_metrics_register(void)
{
    static atomic_flag once = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&once)) {
        return;
    }
    for (int i = 0; i < REPLY__COUNT; i++) {
        metric_register(&replies[i]);
    }
    metric_register(&conns);
    metric_register(&streams);
    metric_register(&failures);
}

void http_metric_reply(int status)
{
    int i = status / 100 - 2;
    if (i >= 0 && i < REPLY__COUNT) {
        metric_add(&replies[i], 1);
    }
}

void http_metric_conns(int delta)
{
    metric_add(&conns, delta);
}

void http_metric_streams(int delta)
{
    metric_add(&streams, delta);
}

void http_metric_auth_failed(void)
{
    metric_add(&failures, 1);
}
