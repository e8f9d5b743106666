#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "domain/trace/trace.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/leave.h"
#include "front/mqtt/looking.h"
#include "front/mqtt/mqtt_conn.h"

#define LEAVE_AGAIN_MS   100
#define USER_PROPS_BYTES 8192
#define JSON_FROM_CBOR   4 // a CBOR item's JSON is at most about this many times larger, or it is refused

// --- settings ----------------------------------------------------------------------------------------------------

static uint32_t conf_ms(const struct conf *c, const char *key)
{
    return (uint32_t)(conf_int(c, key) / 1000);
}

static void read_settings(const struct conf *c, struct mqtt_settings *s)
{
    s->limits = (struct mqtt_limits){.packet_max = (uint32_t)conf_int(c, "mqtt.packet_max"),
                                     .topic_max = (uint16_t)conf_int(c, "mqtt.topic_max"),
                                     .levels_max = (uint16_t)conf_int(c, "mqtt.topic_levels_max"),
                                     .user_props_max = (uint16_t)conf_int(c, "mqtt.user_properties_max"),
                                     .filters_max = (uint16_t)conf_int(c, "mqtt.filters_max"),
                                     .user_props_bytes_max = USER_PROPS_BYTES};
    s->limits_before_auth = s->limits;
    s->limits_before_auth.packet_max = (uint32_t)conf_int(c, "mqtt.connect_packet_max");
    s->queue_max = (uint32_t)conf_int(c, "mqtt.queue_max");
    s->queue_bytes_max = (size_t)conf_int(c, "mqtt.queue_bytes_max");
    s->slow_drop = conf_int(c, "mqtt.slow_consumer") == 1;
    s->out_max = (uint32_t)conf_int(c, "mqtt.output_max");
    s->send_max = (uint16_t)conf_int(c, "mqtt.send_max");
    static const uint8_t redirects[] = {0, MQTT_RC_USE_ANOTHER, MQTT_RC_MOVED};
    s->redirect = redirects[conf_int(c, "mqtt.redirect")];
    snprintf(s->redirect_to, sizeof(s->redirect_to), "%s", conf_str(c, "mqtt.redirect_to"));
    snprintf(s->response_information, sizeof(s->response_information), "%s", conf_str(c, "mqtt.response_information"));
    s->connect_timeout_ms = conf_ms(c, "mqtt.connect_timeout");
    s->claim_timeout_ms = conf_ms(c, "mqtt.claim_timeout");
    s->limit_loopback = conf_bool(c, "mqtt.connects_limit_loopback");
    s->keep_alive_max_s = (uint16_t)(conf_int(c, "mqtt.keep_alive_max") / 1000000);
    s->receive_max = (uint16_t)conf_int(c, "mqtt.receive_max");
    s->alias_max = (uint16_t)conf_int(c, "mqtt.topic_alias_max");
    s->pending_max = (size_t)conf_int(c, "mqtt.pending_max");
}

// --- life --------------------------------------------------------------------------------------------------------

static void stop_loop(struct post *p)
{
    struct mqtt_loop *home = (struct mqtt_loop *)((char *)p - offsetof(struct mqtt_loop, stop));
    struct mqtt_conn *next;
    for (struct mqtt_conn *mc = home->conns; mc != NULL; mc = next) {
        next = mc->next;
        mqtt_conn_stop(mc);
    }
}

static struct rate *new_connects(const struct conf *conf)
{
    int64_t per_s = conf_int(conf, "mqtt.connects_per_source");
    return rate_new(per_s > 0 ? 1000000 / per_s : 0, (uint32_t)conf_int(conf, "mqtt.connects_burst"));
}

static void leave_due(struct timer *t);

static bool open_loop(struct mqtt_front *f, struct mqtt_loop *home, struct loop *l, const struct mqtt_parts *parts)
{
    home->front = f;
    home->loop = l;
    home->stop.fn = stop_loop;
    timer_init(&home->throttle, l, mqtt_throttle_due);
    timer_init(&home->leave_again, l, leave_due);
    home->scratch = buf_heap((size_t)f->settings.limits.packet_max * JSON_FROM_CBOR);
    home->ingest = ingest_new(f->core, l, mqtt_on_ingest_acked, home);
    home->broker = broker_loop(parts->broker, l);
    home->traces = trace_loop(parts->traces, l);
    if (home->traces != NULL) {
        trace_on_change(home->traces, looking_changed, home);
    }
    home->quotas = quota_loop(f->quotas, (unsigned)(home - f->loops));
    const struct broker_front serve = {.on_deliver = mqtt_on_broker_deliver,
                                       .on_acked = mqtt_on_broker_acked,
                                       .on_settled = mqtt_on_broker_settled,
                                       .on_permit = mqtt_on_broker_permit,
                                       .has_room = mqtt_on_broker_room,
                                       .arg = home};
    broker_loop_serve(home->broker, &serve);
    return home->ingest != NULL;
}

enum status mqtt_front_new(const struct mqtt_parts *parts, struct loop *const *loops, unsigned loops_len,
                           const struct conf *conf, struct mqtt_front **ret, struct err *err)
{
    struct mqtt_front *f = calloc(1, sizeof(*f) + loops_len * sizeof(f->loops[0]));
    if (f == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the MQTT front");
    }
    f->core = parts->core;
    f->quotas = quotas_of(parts->core);
    read_settings(conf, &f->settings);
    f->connects = new_connects(conf);
    f->loops_len = loops_len;
    bool ok = f->connects != NULL;
    for (unsigned i = 0; i < loops_len; i++) {
        ok = open_loop(f, &f->loops[i], loops[i], parts) && ok;
    }
    if (!ok) {
        mqtt_front_free(f);
        return err_set(err, ST_NOMEM, "no memory for the MQTT front");
    }
    counters_register();
    *ret = f;
    return ST_OK;
}

void mqtt_front_free(struct mqtt_front *f)
{
    if (f == NULL) {
        return;
    }
    for (unsigned i = 0; i < f->loops_len; i++) {
        if (f->loops[i].ingest != NULL) {
            ingest_free(f->loops[i].ingest);
        }
        buf_release(&f->loops[i].scratch);
        while (f->loops[i].leaving != NULL) { // the server has ended: nobody is told any more
            struct mqtt_conn *mc = f->loops[i].leaving;
            f->loops[i].leaving = mc->next;
            mqtt_conn_free(mc);
        }
    }
    rate_free(f->connects);
    free(f);
}

void mqtt_front_stop(struct mqtt_front *f)
{
    if (atomic_exchange(&f->stopping, true)) {
        return;
    }
    for (unsigned i = 0; i < f->loops_len; i++) {
        loop_post(f->loops[i].loop, &f->loops[i].stop);
    }
}

size_t mqtt_front_connections(const struct mqtt_front *f)
{
    return atomic_load_explicit(&f->connections, memory_order_acquire);
}

struct conn_service mqtt_front_service(struct mqtt_front *f)
{
    const struct mqtt_settings *s = &f->settings;
    return (struct conn_service){.proto = &mqtt_conn_proto,
                                 .front = f,
                                 .in_max = s->limits.packet_max,
                                 .in_max_before_auth = s->limits_before_auth.packet_max,
                                 .out_max = s->out_max,
                                 .open_timeout_ms = s->connect_timeout_ms};
}

// --- connections -------------------------------------------------------------------------------------------------

static struct mqtt_loop *loop_of(struct mqtt_front *f, const struct loop *l)
{
    for (unsigned i = 0; i < f->loops_len; i++) {
        if (f->loops[i].loop == l) {
            return &f->loops[i];
        }
    }
    return NULL;
}

static enum status on_open(struct conn *c, void *front)
{
    struct mqtt_front *f = front;
    struct mqtt_loop *home = loop_of(f, conn_loop(c));
    if (home == NULL || atomic_load_explicit(&f->stopping, memory_order_relaxed)) {
        return ST_SHUTDOWN;
    }
    enum status s = mqtt_conn_new(home, c);
    if (s == ST_OK) {
        atomic_fetch_add_explicit(&f->connections, 1, memory_order_release);
        counter_add(COUNT_CONNECTIONS, 1);
    }
    return s;
}

static size_t on_data(struct conn *c, struct slice in)
{
    return mqtt_conn_input(conn_user(c), in);
}

static void on_output(struct conn *c, struct slice out)
{
    looking_out(conn_user(c), out);
}

static void on_drain(struct conn *c)
{
    mqtt_deliver_more(conn_user(c));
}

static void conn_gone(struct mqtt_conn *mc)
{
    struct mqtt_front *f = mc->home->front;
    mqtt_conn_free(mc);
    counter_add(COUNT_CONNECTIONS, -1);
    atomic_fetch_sub_explicit(&f->connections, 1, memory_order_release);
}

// Tells the core. False: no memory, it is to be tried again.
static bool leave(struct mqtt_conn *mc)
{
    struct leave *l = leave_new(mc->home->front->core);
    if (l == NULL) {
        return false;
    }
    const struct leaving of = {.link = mc->link,
                               .session = mc->session,
                               .will = !mc->will_off,
                               .expiry_s = mc->expiry_s,
                               .reason = mc->why,
                               .detail = mc->detail != NULL ? mc->detail : ""};
    ingest_flush(mc->home->ingest); // what it said last comes first
    broker_flush(mc->home->broker);
    leave_submit(l, &of);
    mc->session = NULL;
    return true;
}

static void leave_due(struct timer *t)
{
    struct mqtt_loop *home = (struct mqtt_loop *)((char *)t - offsetof(struct mqtt_loop, leave_again));
    while (home->leaving != NULL && leave(home->leaving)) {
        struct mqtt_conn *mc = home->leaving;
        home->leaving = mc->next;
        conn_gone(mc);
    }
    if (home->leaving != NULL) {
        timer_start(t, LEAVE_AGAIN_MS, 0);
    }
}

static void on_close(struct conn *c, const struct close_reason *cause)
{
    struct mqtt_conn *mc = conn_user(c);
    if (mc->why == NULL) {
        mc->why = close_cause_text(cause->cause);
        mc->detail = cause->text[0] != '\0' ? strdup(cause->text) : NULL;
    }
    log_debug("mqtt", "disconnected", LOGU("conn", conn_id(c)), LOGS("client", mqtt_conn_name(mc)),
              LOGS("reason", mc->why), LOGS("detail", mc->detail != NULL ? mc->detail : ""));
    looking_closed(mc);
    mqtt_conn_detach(mc);
    if (!mc->entered || leave(mc)) {
        conn_gone(mc);
        return;
    }
    mc->next = mc->home->leaving;
    mc->home->leaving = mc;
    timer_start(&mc->home->leave_again, LEAVE_AGAIN_MS, 0);
}

static void on_tls_failure(void *front, struct loop *l, const struct tls_failure *failure)
{
    struct mqtt_loop *home = loop_of(front, l);
    if (home != NULL) {
        looking_tls_failure(home, failure->peer_addr, failure->reason);
    }
    counter_add(COUNT_TLS_FAILURES, 1); // logged and recorded where the listener's TLS was made
}

const struct conn_proto mqtt_conn_proto = {.name = "mqtt",
                                           .on_open = on_open,
                                           .on_data = on_data,
                                           .on_drain = on_drain,
                                           .on_output = on_output,
                                           .on_close = on_close,
                                           .on_tls_failure = on_tls_failure};
