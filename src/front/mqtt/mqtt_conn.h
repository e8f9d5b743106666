// One MQTT connection: its state machine, what it owes the client, what the client has said. Private to this folder.
//
//            CONNECT               identity and presence committed
//   NEW -----------------> CONNECTING -----------------> OPEN ----+---- refusal of a QoS 1 PUBLISH of 3.1.1 ---> ENDING
//    |                          | refused: CONNACK         |      |                                               |
//    | anything else            v                          | DISCONNECT, error, keep-alive, takeover, ...         | its turn
//    +-------------------> CLOSING <-----------------------+------------------------------------------------------+
//                             |
//                             v  output has left, or the peer is gone: on_close
//                          (freed)
//
// What a packet does in a state stands in one table, mqtt_actions. Input is not read (the connection is "held") while the
// CONNECT is with the core, while too much of the client's is unanswered, while it publishes faster than it may, and while
// the loop's telemetry is congested.
#ifndef FRONT_MQTT_MQTT_CONN_H
#define FRONT_MQTT_MQTT_CONN_H

#include "core/link.h"
#include "front/mqtt/acks.h"
#include "front/mqtt/front.h"
#include "front/mqtt/leave.h"
#include "front/mqtt/session.h"
#include "net/conn.h"
#include "proto/mqtt.h"

#define REQUESTS_MAX 16 // operations of one connection that may be with the core at once

enum mqtt_state {
    MS_NEW,        // no CONNECT yet
    MS_CONNECTING, // CONNECT is with the core; what the client sends already waits
    MS_OPEN,
    MS_ENDING,  // 3.1.1: a refusal waits for the acknowledgements before it; nothing is read any more
    MS_CLOSING, // said and done; output drains
    MS__COUNT
};

struct alias {
    uint8_t *topic; // malloc'ed, NULL: not set
    uint16_t len;
};

struct mqtt_conn {
    struct conn *net;
    struct mqtt_loop *home;
    struct mqtt_conn *next, *prev;
    enum mqtt_state state;
    enum mqtt_version version;
    enum principal_kind who; // WHO_NOBODY until OPEN
    bool held;               // reading is stopped
    bool problem_info;       // MQTT 5: the client wants reason strings
    bool session_expiry;     // MQTT 5: CONNECT asked for a session that outlives the connection
    struct link *link;       // NULL before OPEN
    struct leave *leave;     // NULL for claims
    struct session session;
    struct acks acks;
    struct alias *aliases; // alias_max of them, made with the first one
    uint32_t packet_max;   // the client's: larger messages are not sent (3.1.2-25); 0: none
    unsigned requests;     // with the core
    int64_t credit;        // PUBLISH packets it may send now, in thousandths
    int64_t credit_ms;     // when that was reckoned
    struct timer timer;    // keep-alive, or the claim's time limit
    uint32_t silence_ms;   // 1.5 times the keep-alive; 0: never
    int64_t last_in_ms;
    const char *why; // static: presence reason; NULL: the peer's doing
    char detail[128];
};

// A row of the table: what to do with a packet. False: the packet stays where it is and comes again.
typedef bool (*mqtt_action)(struct mqtt_conn *mc, const struct mqtt_packet *p);
extern const mqtt_action mqtt_actions[MS__COUNT][16];

// A connection has been accepted: makes its state and hangs it on the loop and on `net`. ST_NOMEM.
enum status mqtt_conn_new(struct mqtt_loop *home, struct conn *net);
// It is gone; whoever ends its presence has done so.
void mqtt_conn_free(struct mqtt_conn *mc);
// Serves the whole packets at the beginning of `in`, as far as the state of things allows. Returns how many bytes that were.
size_t mqtt_conn_input(struct mqtt_conn *mc, struct slice in);
// The connection of this id, when it still is one.
struct mqtt_conn *mqtt_conn_find(struct mqtt_loop *home, uint64_t id);

// Ends the connection. MQTT 5 clients that are connected get a DISCONNECT with `reason` first. `why` (static) is the presence
// reason, `text` what people and the reason string read.
void mqtt_conn_end(struct mqtt_conn *mc, uint8_t reason, const char *why, const char *text);
// One more CONNECT or mistake from this address: is it within its rate? Counts it.
bool mqtt_conn_source_may(const struct mqtt_conn *mc);
// A broken rule of the protocol.
void mqtt_conn_violation(struct mqtt_conn *mc, uint8_t reason, const char *text);
// A PUBLISH has come: it costs one from the client's credit.
void mqtt_conn_charge(struct mqtt_conn *mc);
// Stops reading, or reads on, as the state of things demands. After anything that may have changed it.
void mqtt_conn_hold(struct mqtt_conn *mc);
// Encodes into the connection's output.
void mqtt_conn_send(struct mqtt_conn *mc, const struct mqtt_packet *p);

// The loop's throttle timer: clients that have credit again are read on.
void mqtt_throttle_due(struct timer *t);

// connect.c
bool mqtt_on_connect(struct mqtt_conn *mc, const struct mqtt_packet *p);
// Answers a CONNECT that could not even be decoded, where the protocol has an answer.
void mqtt_connect_malformed(struct mqtt_conn *mc, enum mqtt_version v, const struct mqtt_error *err);

// publish.c
bool mqtt_on_publish(struct mqtt_conn *mc, const struct mqtt_packet *p);
// The outcome of a message is known. 3.1.1 with QoS 1 and not ST_OK: the connection ends when it is that message's turn.
void mqtt_publish_settle(struct mqtt_conn *mc, uint16_t packet_id, enum status status, const char *text);
// Sends all acknowledgements whose turn it is.
void mqtt_publish_flush(struct mqtt_conn *mc);
void mqtt_on_ingest_acked(void *arg, const struct ingest_ack *acks, size_t n); // arg: struct mqtt_loop

// subscribe.c
bool mqtt_on_subscribe(struct mqtt_conn *mc, const struct mqtt_packet *p);
bool mqtt_on_unsubscribe(struct mqtt_conn *mc, const struct mqtt_packet *p);

// deliver.c
bool mqtt_on_puback(struct mqtt_conn *mc, const struct mqtt_packet *p);
void mqtt_deliver(struct link *l, struct down *d);          // link->deliver
void mqtt_deliver_to(struct mqtt_conn *mc, struct down *d); // takes d
void mqtt_deliver_more(struct mqtt_conn *mc);               // sends what the window and the output allow

#endif
