#include <stdio.h>

#include "core/limit.h"
#include "domain/broker/broker_priv.h"

static struct metric metrics[COUNT__COUNT] = {
    [COUNT_SESSIONS_DURABLE] = {.name = "muster_mqtt_sessions_durable",
                                .labels = "",
                                .help = "Sessions that outlive their connection.",
                                .kind = METRIC_GAUGE},
    [COUNT_QUEUED] = {.name = "muster_mqtt_queue_messages",
                      .labels = "",
                      .help = "Messages in durable queues.",
                      .kind = METRIC_GAUGE},
    [COUNT_QUEUED_BYTES] = {.name = "muster_mqtt_queue_bytes",
                            .labels = "",
                            .help = "Bytes of messages in durable queues.",
                            .kind = METRIC_GAUGE},
    [COUNT_RETAINED] = {.name = "muster_mqtt_retained_messages",
                        .labels = "",
                        .help = "Retained messages.",
                        .kind = METRIC_GAUGE},
    [COUNT_DROPPED_FULL] = {.name = "muster_mqtt_queue_dropped_total",
                            .labels = "reason=\"full\"",
                            .help = "Messages not kept for a session.",
                            .kind = METRIC_COUNTER},
    [COUNT_DROPPED_EXPIRED] = {.name = "muster_mqtt_queue_dropped_total",
                               .labels = "reason=\"expired\"",
                               .help = "Messages not kept for a session.",
                               .kind = METRIC_COUNTER},
    [COUNT_DROPPED_DENIED] = {.name = "muster_mqtt_queue_dropped_total",
                              .labels = "reason=\"denied\"",
                              .help = "Messages not kept for a session.",
                              .kind = METRIC_COUNTER},
    [COUNT_DROPPED_SUPERSEDED] = {.name = "muster_mqtt_queue_dropped_total",
                                  .labels = "reason=\"superseded\"",
                                  .help = "Messages not kept for a session.",
                                  .kind = METRIC_COUNTER},
    [COUNT_WILLS] = {.name = "muster_mqtt_wills_sent_total",
                     .labels = "",
                     .help = "Wills that were published.",
                     .kind = METRIC_COUNTER},
    [COUNT_FOREIGN] = {.name = "muster_mqtt_client_id_refused_total",
                       .labels = "",
                       .help = "Connects with a client id that belongs to another principal.",
                       .kind = METRIC_COUNTER},
    [COUNT_LINEAGE_REFUSED] = {.name = "muster_mqtt_session_refused_total",
                               .labels = "",
                               .help = "Connects with a client id whose session belongs to another credential of the "
                                       "same device.",
                               .kind = METRIC_COUNTER},
    [COUNT_LINEAGE_ENDED] = {.name = "muster_mqtt_session_restarted_total",
                             .labels = "",
                             .help = "Sessions that ended because a new credential came after all those they belonged "
                                     "to had ended.",
                             .kind = METRIC_COUNTER},
    [COUNT_SUBS_REVOKED] = {.name = "muster_mqtt_subscriptions_revoked_total",
                            .labels = "",
                            .help = "Subscriptions that ended because no policy allows them any more.",
                            .kind = METRIC_COUNTER},
    [COUNT_MIRROR_LOST] = {.name = "muster_mqtt_mirror_lost_total",
                           .labels = "",
                           .help = "Events that were not mirrored, or gaps in them: more than could be handed on.",
                           .kind = METRIC_COUNTER},
};

void broker_count(enum broker_count what, int64_t n)
{
    metric_add(&metrics[what], n);
}

// What is reckoned when somebody asks. The figures of other threads are read as they stand.
static void collect(void *arg, struct buf *out)
{
    const struct broker *b = arg;
    uint64_t hits = 0;
    uint64_t misses = 0;
    for (unsigned i = 0; i < b->loops_len; i++) {
        hits += atomic_load_explicit(&b->loops[i].cache.hits, memory_order_relaxed);
        misses += atomic_load_explicit(&b->loops[i].cache.misses, memory_order_relaxed);
    }
    buf_printf(out,
               "# HELP muster_mqtt_subscriptions Subscriptions, stored ones of clients that are away included.\n"
               "# TYPE muster_mqtt_subscriptions gauge\nmuster_mqtt_subscriptions %llu\n",
               (unsigned long long)atomic_load_explicit(&b->index.subs, memory_order_relaxed));
    buf_printf(out,
               "# HELP muster_mqtt_match_total Lookups of a topic's subscribers.\n"
               "# TYPE muster_mqtt_match_total counter\nmuster_mqtt_match_total{cache=\"hit\"} %llu\n"
               "muster_mqtt_match_total{cache=\"miss\"} %llu\n",
               (unsigned long long)hits, (unsigned long long)misses);
}

void broker_metrics(struct broker *b)
{
    for (unsigned i = 0; i < COUNT__COUNT; i++) {
        metric_register(&metrics[i]);
    }
    limits_register();
    (void)metric_collector(collect, b);
}

void broker_metrics_end(struct broker *b)
{
    metric_collector_remove(collect, b);
}
