// The client's inside, shared by the files of the SDK.
//
//   client.c  states, timers, muster_step      wire.c    packets out and in
//   window.c  messages kept for acknowledgement  send.c    public send functions
//   inbound.c what the server publishes        telemetry.c, json_get.c  builder and reader
#ifndef SDK_CLIENT_H
#define SDK_CLIENT_H

#include "base/buf.h"
#include "muster/muster.h"
#include "proto/mqtt.h"
#include "sdk/window.h"

enum client_event {
    EV_START,
    EV_STOP,
    EV_OPENED,
    EV_CONNACK,
    EV_SUBACKED,
    EV_FAILED, // refused, broken, closed, timed out
    EV_RETRY,
    EV_DRAINED,
    EV__COUNT
};

struct muster {
    struct muster_config config;
    enum mqtt_version version;
    enum muster_state state;
    bool in_step;
    bool stop_wanted;
    bool ever_connected; // this run: later connections resume the session
    bool more;           // input may be waiting: step again at once
    bool blocked;        // packets in rx wait for room in tx
    uint8_t reason;      // of the failure that is being handled
    char text[160];
    int64_t deadline_ms; // OPENING..SUBSCRIBING: all answered; CLOSING: written; WAITING: next attempt
    int64_t online_ms;   // since when
    int64_t last_rx_ms, last_tx_ms;
    int64_t ping_ms; // when the outstanding PINGREQ was written; -1: none
    uint32_t keep_alive_ms;
    uint32_t retry_bound_ms; // of the next pause
    uint32_t retry_ms;       // the pause chosen
    uint32_t server_packet_max;
    uint16_t server_receive_max;
    uint16_t subscribe_id;
    struct buf rx, tx, scratch; // scratch: one payload being composed
    size_t tx_off;              // written so far
    struct mqtt_limits limits;
    struct window window;
};

// One cell of the state table: where an event leads, and what is done on arrival. next == from: nothing happens.
struct client_move {
    enum muster_state next;
    void (*act)(struct muster *m);
};
extern const struct client_move client_moves[MUSTER_STATES][EV__COUNT];

// Feeds an event to the state table; calls on_state when the state changes.
void client_event(struct muster *m, enum client_event ev);
// Notes why (text is copied, made printable) and feeds EV_FAILED.
void client_fail(struct muster *m, uint8_t reason, struct slice text);
int64_t client_now(const struct muster *m);

// wire.c: packets into tx. A packet that does not fit fails the connection.
void wire_connect(struct muster *m);
void wire_subscribe(struct muster *m);
void wire_ping(struct muster *m);
void wire_disconnect(struct muster *m, uint8_t reason);
void wire_pump(struct muster *m);  // kept messages into tx, as far as window and room allow
void wire_flush(struct muster *m); // tx to the transport
void wire_read(struct muster *m);  // transport to rx; complete packets are handled

// inbound.c: one PUBLISH from the server.
void inbound_publish(struct muster *m, const struct mqtt_publish *p);

#endif
