// The front's own view of itself: what is shared by all loops, and what one loop has. Private to this folder.
#ifndef FRONT_MQTT_FRONT_H
#define FRONT_MQTT_FRONT_H

#include <stdatomic.h>

#include "base/map.h"
#include "base/rate.h"
#include "core/core.h"
#include "core/quota.h"
#include "domain/broker/broker.h"
#include "domain/telemetry/ingest.h"
#include "front/mqtt/mqtt_front.h"
#include "proto/mqtt.h"

struct mqtt_conn;
struct subscribe_op;
struct trace_loop;

// Values of mqtt_conf[], read once.
struct mqtt_settings {
    struct mqtt_limits limits; // after authentication
    struct mqtt_limits limits_before_auth;
    uint32_t queue_max; // messages that wait for one client
    size_t queue_bytes_max;
    uint32_t out_max; // bytes that wait for one slow reader
    bool slow_drop;   // what finds no room in the queue is dropped, else the connection ends
    uint32_t connect_timeout_ms, claim_timeout_ms;
    bool limit_loopback;
    uint16_t keep_alive_max_s;
    uint16_t receive_max; // of messages from a client
    uint16_t send_max;    // of messages to a client
    uint8_t redirect;     // reason code that sends clients elsewhere; 0: none
    char redirect_to[256];
    char response_information[256];
    uint16_t alias_max;
    size_t pending_max;
};

// Everything that belongs to one loop; touched by its thread only, except `stop`.
struct mqtt_loop {
    struct mqtt_front *front;
    struct loop *loop;
    struct ingest *ingest;
    struct broker_loop *broker;
    struct trace_loop *traces; // NULL: none are made here
    bool looking;              // somebody traces something
    struct quota_loop *quotas;
    struct mqtt_conn *leaving; // ended, but there was no memory yet to tell the core; through next
    struct timer leave_again;
    struct slice packet;         // the bytes of the packet at hand
    struct mqtt_conn *conns;     // all open ones, through next/prev
    bool congested;              // too much telemetry waits for its commit: nothing is read
    struct subscribe_op *parked; // SUBSCRIBEs that wait for room; subscribe.c
    struct timer parked_due;
    struct timer throttle; // runs while clients are held for publishing too fast
    struct post stop;      // "the server stops", from another thread
    struct buf scratch;    // JSON made of a CBOR payload
    struct err err;        // of the packet at hand: too large to be cleared on the stack for every message
};

struct mqtt_front {
    struct core *core;
    struct mqtt_settings settings;
    struct quotas *quotas; // borrowed
    struct rate *connects; // of each source address
    _Atomic size_t connections;
    _Atomic bool stopping;
    unsigned loops_len;
    struct mqtt_loop loops[];
};

extern const struct conn_proto mqtt_conn_proto;

#endif
