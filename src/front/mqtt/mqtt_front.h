// MQTT for devices and applications: one front object for all loops and listeners, plain and TLS.
//
//   mqtt_front_new -> listeners (with mqtt_front_service) -> mqtt_front_stop -> mqtt_front_free
//
// A connection lives on one loop. It turns packets into operations of the domain modules and their outcomes into
// acknowledgements; it owns no durable state.
#ifndef FRONT_MQTT_MQTT_FRONT_H
#define FRONT_MQTT_MQTT_FRONT_H

#include "core/conf.h"
#include "core/core.h"
#include "domain/broker/broker.h"
#include "net/conn.h"

#define MQTT_CONF_LEN 26
extern const struct conf_key mqtt_conf[MQTT_CONF_LEN];

struct mqtt_front;
struct trace_hub;
// What the front works with; all outlive it.
struct mqtt_parts {
    struct core *core;
    struct broker *broker;
    struct trace_hub *traces; // NULL: connections cannot be traced
};

// Before the loops run, after quotas_set. `loops` (copied) are all the loops that connections may live on; `conf` is read here and not kept.
// ST_NOMEM.
enum status mqtt_front_new(const struct mqtt_parts *parts, struct loop *const *loops, unsigned loops_len,
                           const struct conf *conf, struct mqtt_front **ret, struct err *err);
// MQTT as a listener offers it: for struct listen_conf. `f` stays the caller's and outlives the listener.
struct conn_service mqtt_front_service(struct mqtt_front *f);
// Any thread. Every open connection is told that the server shuts down (MQTT 5: DISCONNECT 0x8B) and closed once its
// output has left; new ones are refused. Returns at once: wait for mqtt_front_connections to become 0.
void mqtt_front_stop(struct mqtt_front *f);
size_t mqtt_front_connections(const struct mqtt_front *f); // any thread
// After the loops have ended and core_stop has returned. NULL is allowed.
void mqtt_front_free(struct mqtt_front *f);

#endif
