// One MQTT connection: its state machine, what it owes the client, what the client has said. Private to this folder.
//
//            CONNECT               identity, presence and session committed
//   NEW -----------------> CONNECTING -----------------> OPEN ----+---- refusal of a QoS 1, 2 PUBLISH before 5 ---> ENDING
//    | \                     ^ |  refused: CONNACK        |       |                                                 |
//    |  \ CONNECT with a     | |                          |       |                                                 |
//    |   \ method       AUTH | v                          |       |                                                 |
//    |    +--------> AUTHENTICATING -----------+          | DISCONNECT, error, keep-alive, takeover, ...            | its turn
//    | anything else                           v          |       |                                                 |
//    +------------------------------------> CLOSING <-----+-------+-------------------------------------------------+
//                                              |
//                                              v  output has left, or the peer is gone: on_close
//                                           (freed)
//
// What a packet does in a state stands in one table, mqtt_actions. Input is not read (the connection is "held") while the
// CONNECT is with the core, while too much of the client's is unanswered, while it publishes faster than it may, and while
// the loop's batches are congested.
#ifndef FRONT_MQTT_MQTT_CONN_H
#define FRONT_MQTT_MQTT_CONN_H

#include "core/link.h"
#include "core/quota.h"
#include "front/mqtt/acks.h"
#include "front/mqtt/alias.h"
#include "front/mqtt/front.h"
#include "front/mqtt/outbox.h"
#include "front/mqtt/qos.h"
#include "front/mqtt/topics.h"
#include "net/conn.h"
#include "proto/mqtt.h"

#define REQUESTS_MAX   16 // operations of one connection that may be with the core at once
#define NOT_SUBSCRIBED 0xff

enum mqtt_state {
    MS_NEW,            // no CONNECT yet
    MS_AUTHENTICATING, // the client's turn in an exchange of AUTH packets
    MS_CONNECTING,     // CONNECT is with the core; what the client sends already waits
    MS_OPEN,
    MS_ENDING,  // before 5: a refusal waits for the acknowledgements before it; nothing is read any more
    MS_CLOSING, // said and done; output drains
    MS__COUNT
};

struct auth;
struct mqtt_conn {
    struct conn *net;
    struct mqtt_loop *home;
    struct mqtt_conn *next, *prev;
    uint8_t state;                  // enum mqtt_state
    uint8_t version;                // enum mqtt_version
    uint8_t who;                    // enum principal_kind; WHO_NOBODY until OPEN
    uint8_t granted[SUB__COUNT];    // native subscriptions: QoS, or NOT_SUBSCRIBED
    bool held : 1;                  // reading is stopped
    bool problem_info : 1;          // MQTT 5: the client wants reason strings
    bool entered : 1;               // the core knows the connection: its end must be told
    bool durable : 1;               // the session outlives the connection
    bool resumed : 1;               // it is older than the connection
    bool expiry_zero : 1;           // MQTT 5: CONNECT asked for a session that ends with the connection
    bool publish_waits : 1;         // for subscriptions that came before it
    bool too_fast : 1;              // over a rate when that was last looked at
    bool counted : 1;               // as one of its tenant's connections
    bool scram : 1;                 // CONNECT had an authentication method
    bool will_off : 1;              // DISCONNECT 0x00: no will
    bool window_cut : 1;            // it would take more than mqtt.send_max at once
    bool more_waits : 1;            // the broker has retained messages that wait for room here
    uint16_t window;                // the client's receive maximum, or our own limit
    uint16_t alias_out_max;         // the client's topic alias maximum, or our own limit
    uint16_t requests;              // with the core
    uint16_t subscribing;           // of them SUBSCRIBE and UNSUBSCRIBE
    uint32_t traces;                // that look at it, a bit each
    uint32_t packet_max;            // the client's: larger messages are not sent (3.1.2-25); 0: none
    uint32_t silence_ms;            // 1.5 times the keep-alive; 0: never
    uint32_t expiry_s;              // session expiry of DISCONNECT, or BROKER_EXPIRY_KEEP
    struct link *link;              // NULL before CONNECT
    struct broker_session *session; // NULL before OPEN, and for claims
    struct permit *permit;
    struct outbox *out; // made with the first message that must wait or be acknowledged
    struct alias *aliases_in;
    struct alias_out *aliases_out;
    struct acks acks;
    struct ids inbound; // QoS 2 messages not yet released; states: enum inbound_state
    struct auth *auth;  // the exchange under way, or what a new one needs; NULL: none
    struct slow slow;   // messages to it are dropped
    struct quota quota; // how fast it may publish
    struct timer timer; // keep-alive, or the time limit of a claim or an exchange
    int64_t last_in_ms;
    const char *why; // static: presence reason; NULL: the peer's doing
    char *detail;    // malloc'ed, or NULL
};

// A row of the table: what to do with a packet. False: the packet stays where it is and comes again.
typedef bool (*mqtt_action)(struct mqtt_conn *mc, const struct mqtt_packet *p);
extern const mqtt_action mqtt_actions[MS__COUNT][16];

// A connection has been accepted: makes its state and hangs it on the loop and on `net`. ST_NOMEM.
enum status mqtt_conn_new(struct mqtt_loop *home, struct conn *net);
// The network connection is gone: mc->net and mc->link->front are no more; the rest waits for mqtt_conn_free.
void mqtt_conn_detach(struct mqtt_conn *mc);
void mqtt_conn_free(struct mqtt_conn *mc);
// Serves the whole packets at the beginning of `in`, as far as the state of things allows. Returns how many bytes that were.
size_t mqtt_conn_input(struct mqtt_conn *mc, struct slice in);
// The connection of this id, when it still is one.
struct mqtt_conn *mqtt_conn_find(struct mqtt_loop *home, uint64_t id);

// Ends the connection. MQTT 5 clients that are connected get a DISCONNECT with `reason` first. `why` (static) is the presence
// reason, `text` what people and the reason string read.
void mqtt_conn_end(struct mqtt_conn *mc, uint8_t reason, const char *why, const char *text);
// As the server stops: clients are told where else to go when that is known.
void mqtt_conn_stop(struct mqtt_conn *mc);
void mqtt_conn_no_memory(struct mqtt_conn *mc, const char *text);
// One more CONNECT or mistake from this address: is it within its rate? Counts it.
bool mqtt_conn_source_may(const struct mqtt_conn *mc);
// A broken rule of the protocol.
void mqtt_conn_violation(struct mqtt_conn *mc, uint8_t reason, const char *text);
// A PUBLISH of this size has come: it counts for the client's and its tenant's rates.
void mqtt_conn_charge(struct mqtt_conn *mc, size_t bytes);
// Stops reading, or reads on, as the state of things demands. After anything that may have changed it.
void mqtt_conn_hold(struct mqtt_conn *mc);
// Encodes into the connection's output.
void mqtt_conn_send(struct mqtt_conn *mc, const struct mqtt_packet *p);
// PUBACK, PUBREC, PUBREL, PUBCOMP; the reason string (may be NULL) only where the client wants it and has room (3.4.2.2.2).
void mqtt_conn_send_ack(struct mqtt_conn *mc, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                        const char *text);
// What an address names itself, or has been named: for logs.
const char *mqtt_conn_name(const struct mqtt_conn *mc);

// The loop's throttle timer: clients that are within their rates again are read on.
void mqtt_throttle_due(struct timer *t);

// connect.c
bool mqtt_on_connect(struct mqtt_conn *mc, const struct mqtt_packet *p);
// Answers a CONNECT that could not even be decoded, where the protocol has an answer.
void mqtt_connect_malformed(struct mqtt_conn *mc, enum mqtt_version v, const struct mqtt_error *err);

// auth.c
bool mqtt_on_auth(struct mqtt_conn *mc, const struct mqtt_packet *p);   // while the exchange runs
bool mqtt_on_reauth(struct mqtt_conn *mc, const struct mqtt_packet *p); // on an open connection

// publish.c
bool mqtt_on_publish(struct mqtt_conn *mc, const struct mqtt_packet *p);
bool mqtt_on_pubrel(struct mqtt_conn *mc, const struct mqtt_packet *p);
// The outcome of a message is known. Before MQTT 5, with QoS > 0 and not ST_OK: the connection ends when it is its turn.
void mqtt_publish_settle(struct mqtt_conn *mc, uint16_t packet_id, enum status status, const char *text);
// Sends all acknowledgements whose turn it is.
void mqtt_publish_flush(struct mqtt_conn *mc);
// A PUBREL's effect is durable: PUBCOMP.
void mqtt_publish_released(struct mqtt_conn *mc, uint16_t packet_id);
void mqtt_on_ingest_acked(void *arg, const struct ingest_ack *acks, size_t n); // arg: struct mqtt_loop
void mqtt_on_broker_acked(void *arg, const struct broker_ack *acks, size_t n); // the same

// subscribe.c
bool mqtt_on_subscribe(struct mqtt_conn *mc, const struct mqtt_packet *p);
bool mqtt_on_unsubscribe(struct mqtt_conn *mc, const struct mqtt_packet *p);
// Native subscriptions as one number that the session keeps, and back: 4 bits each.
uint32_t mqtt_marks(const uint8_t granted[SUB__COUNT]);
void mqtt_marks_read(uint32_t marks, uint8_t granted[SUB__COUNT]);
// Makes the core send what is pending for native subscriptions.
void mqtt_push_pending(struct mqtt_conn *mc, bool twin, bool commands);

// deliver.c
bool mqtt_on_puback(struct mqtt_conn *mc, const struct mqtt_packet *p);
bool mqtt_on_pubrec(struct mqtt_conn *mc, const struct mqtt_packet *p);
bool mqtt_on_pubcomp(struct mqtt_conn *mc, const struct mqtt_packet *p);
void mqtt_deliver(struct link *l, struct down *d);          // link->deliver
void mqtt_deliver_to(struct mqtt_conn *mc, struct down *d); // takes d
void mqtt_deliver_more(struct mqtt_conn *mc);               // sends what the window and the output allow
void mqtt_on_broker_deliver(void *arg, struct link *to, const struct delivery *d, size_t n);
void mqtt_on_broker_settled(void *arg, struct link *of, uint64_t seq_or_packet_id, int what);
void mqtt_on_broker_permit(void *arg, struct link *of, struct permit *p);
bool mqtt_on_broker_room(void *arg, struct link *to);

#endif
