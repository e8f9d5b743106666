#include "front/mqtt/counters.h"

#include <pthread.h>

#include "core/metrics.h"

#define MESSAGES_HELP "Messages from devices by kind and outcome; stored ones are durable."
#define CONNECTS_HELP "CONNECT packets by outcome."
#define IN_HELP       "Messages from clients for other clients, by QoS and outcome."
#define OUT_HELP      "Messages sent to clients, by QoS."
#define ACKED_HELP    "Messages that clients have acknowledged."
#define DROP_HELP     "Messages to clients that were not sent, by reason."

static struct metric counters[COUNT__LEN] = {
    [COUNT_CONNECTIONS] = {"muster_mqtt_connections", "", "Open MQTT connections.", METRIC_GAUGE, 0, NULL},
    [COUNT_CONNECTS_ACCEPTED] = {"muster_mqtt_connects_total", "outcome=\"accepted\"", CONNECTS_HELP, METRIC_COUNTER, 0,
                                 NULL},
    [COUNT_CONNECTS_REFUSED] = {"muster_mqtt_connects_total", "outcome=\"refused\"", CONNECTS_HELP, METRIC_COUNTER, 0,
                                NULL},
    [COUNT_TLS_FAILURES] = {"muster_mqtt_tls_failures_total", "", "TLS handshakes that failed.", METRIC_COUNTER, 0,
                            NULL},
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

#define QOS(name, help, labels)                                                                                        \
    {                                                                                                                  \
        {name, "qos=\"0\"" labels, help, METRIC_COUNTER, 0, NULL},                                                     \
            {name, "qos=\"1\"" labels, help, METRIC_COUNTER, 0, NULL},                                                 \
            {name, "qos=\"2\"" labels, help, METRIC_COUNTER, 0, NULL},                                                 \
    }
static struct metric relayed[2][3] = {
    [false] = QOS("muster_mqtt_publishes_received_total", IN_HELP, ",outcome=\"refused\""),
    [true] = QOS("muster_mqtt_publishes_received_total", IN_HELP, ",outcome=\"taken\""),
};
static struct metric sent[3] = QOS("muster_mqtt_publishes_sent_total", OUT_HELP, "");
static struct metric acked = {"muster_mqtt_publishes_acknowledged_total", "", ACKED_HELP, METRIC_COUNTER, 0, NULL};
#define DROP(why, name)                                                                                                \
    [why] = {"muster_mqtt_publishes_dropped_total", "reason=\"" name "\"", DROP_HELP, METRIC_COUNTER, 0, NULL}
static struct metric drops[DROP__COUNT] = {
    DROP(DROP_NOT_SUBSCRIBED, "not_subscribed"), DROP(DROP_SLOW, "slow_consumer"), DROP(DROP_QUEUE_FULL, "queue_full"),
    DROP(DROP_TOO_LARGE, "too_large"),           DROP(DROP_EXPIRED, "expired"),
};

static void register_all(void)
{
    for (unsigned i = 0; i < 3; i++) {
        metric_register(&relayed[true][i]);
        metric_register(&relayed[false][i]);
        metric_register(&sent[i]);
    }
    for (unsigned i = 0; i < DROP__COUNT; i++) {
        metric_register(&drops[i]);
    }
    metric_register(&acked);
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

void counter_relay(uint8_t qos, bool taken)
{
    metric_add(&relayed[taken][qos], 1);
}

void counter_sent(uint8_t qos)
{
    metric_add(&sent[qos], 1);
}

void counter_acked(void)
{
    metric_add(&acked, 1);
}

void counter_drop(enum drop why)
{
    metric_add(&drops[why], 1);
}
