#include "front/mqtt/counters.h"

#include <pthread.h>

#include "core/metrics.h"

#define MESSAGES_HELP "Messages from devices by kind and outcome; stored ones are durable."
#define CONNECTS_HELP "CONNECT packets by outcome."
#define DOWN_HELP     "Messages to devices by what became of them."

static struct metric counters[COUNT__LEN] = {
    [COUNT_CONNECTIONS] = {"muster_mqtt_connections", "", "Open MQTT connections.", METRIC_GAUGE, 0, NULL},
    [COUNT_CONNECTS_ACCEPTED] = {"muster_mqtt_connects_total", "outcome=\"accepted\"", CONNECTS_HELP, METRIC_COUNTER, 0,
                                 NULL},
    [COUNT_CONNECTS_REFUSED] = {"muster_mqtt_connects_total", "outcome=\"refused\"", CONNECTS_HELP, METRIC_COUNTER, 0,
                                NULL},
    [COUNT_TLS_FAILURES] = {"muster_mqtt_tls_failures_total", "", "TLS handshakes that failed.", METRIC_COUNTER, 0,
                            NULL},
    [COUNT_DOWN_SENT] = {"muster_mqtt_downlinks_total", "outcome=\"sent\"", DOWN_HELP, METRIC_COUNTER, 0, NULL},
    [COUNT_DOWN_ACKED] = {"muster_mqtt_downlinks_total", "outcome=\"acknowledged\"", DOWN_HELP, METRIC_COUNTER, 0,
                          NULL},
    [COUNT_DOWN_DROPPED] = {"muster_mqtt_downlinks_total", "outcome=\"dropped\"", DOWN_HELP, METRIC_COUNTER, 0, NULL},
};

#define KIND(route, name)                                                                                              \
    [route] = {                                                                                                        \
        {"muster_messages_total", "kind=\"" name "\",outcome=\"refused\"", MESSAGES_HELP, METRIC_COUNTER, 0, NULL},    \
        {"muster_messages_total", "kind=\"" name "\",outcome=\"stored\"", MESSAGES_HELP, METRIC_COUNTER, 0, NULL}}
static struct metric messages[ROUTE__COUNT][2] = {
    KIND(ROUTE_TELEMETRY, "telemetry"),
    KIND(ROUTE_EVENT, "event"),
    KIND(ROUTE_TWIN_GET, "twin_get"),
    KIND(ROUTE_TWIN_REPORT, "twin_report"),
    KIND(ROUTE_COMMAND_REPLY, "command_reply"),
    KIND(ROUTE_ENROLL, "enroll"),
    KIND(ROUTE_RENEW, "renew"),
};
static struct metric lost = {
    "muster_messages_total", "kind=\"unknown\",outcome=\"refused\"", MESSAGES_HELP, METRIC_COUNTER, 0, NULL};

static void register_all(void)
{
    for (unsigned i = 0; i < COUNT__LEN; i++) {
        metric_register(&counters[i]);
    }
    for (unsigned i = 0; i < ROUTE__COUNT; i++) {
        metric_register(&messages[i][true]);
        metric_register(&messages[i][false]);
    }
    metric_register(&lost);
}

void counters_register(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_all);
}

void counter_add(enum counter c, int64_t n)
{
    metric_add(&counters[c], n);
}

void counter_message(enum route r, bool stored, int64_t n)
{
    metric_add(&messages[r][stored], n);
}

void counter_message_lost_route(void)
{
    metric_add(&lost, 1);
}
