// The broker inside a tenant: sessions, subscriptions, retained messages, wills, and the way of a message from its publisher
// to everyone who wants it.
//
//   I/O loop of the publisher                core thread                         I/O loop of a subscriber
//   broker_publish: match (cached) --------------------------------------------> on_deliver: not durable
//        | somebody durable wants it, or it is to be retained
//        +-- batch at the turn's end --> store it in every durable queue,
//                                        retain it; commit; sync  --------------> on_deliver: durable, with its `seq`
//        on_acked (PUBACK / PUBREC) <----------+                                      | PUBACK, PUBREC, PUBCOMP
//                                        take it out of the queue <------------- broker_settle (batch at the turn's end)
//
// A session is durable when it outlives its connection (session expiry > 0, or not a clean session in 3.1.1). For it
// everything with QoS > 0 is durable before anybody is told: messages, subscriptions, QoS 2 states. A session that ends with
// its connection costs the store nothing. Messages of one publisher and topic reach a session in their order, per QoS way.
//
//   session:  (none) --open--> ONLINE --close, expiry 0--> (none)
//                                | ^ close, expiry > 0
//                                v | open (session present, or taken over by the same principal)
//                              OFFLINE --expired, clean start, revoked, deleted--> (none)
//
// Threads: the core thread owns sessions and is the one writer of the index of subscriptions; I/O loops read the index under
// a lock only when their own cache of matches has grown old (one generation counter for all).
#ifndef DOMAIN_BROKER_H
#define DOMAIN_BROKER_H

#include "base/json.h"
#include "core/conf.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/broker/message.h"
#include "domain/policy/permit.h"

struct broker;
struct broker_loop; // what the broker keeps for one I/O loop: cache of matches, batches to the core; that loop's thread
struct broker_session; // reference-counted; fields are the core thread's

// Packet ids of messages to a client: those of the durable queue follow from the message's place in it, so that they are the
// same after a restart (MQTT-4.4.0-1); all others come from the range above.
#define BROKER_ID_DURABLE_MAX 49151
static inline uint16_t broker_packet_id(uint64_t seq)
{
    return (uint16_t)(seq % BROKER_ID_DURABLE_MAX + 1);
}

// --- towards the front ---------------------------------------------------------------------------------------------

enum delivery_state {
    DELIVERY_NEW,
    DELIVERY_AGAIN,    // was sent before on another connection: DUP (3.3.1-1)
    DELIVERY_RELEASED, // QoS 2: PUBREC has come, PUBREL is due; no message (msg NULL)
};
struct delivery {
    struct message *msg; // borrowed; whoever keeps it takes a reference
    uint64_t seq;        // place in the durable queue; 0: not durable, settled by the front alone
    uint8_t qos;         // for this subscriber
    bool retain;         // the flag to send (retain as published, or sent because of a subscription)
    enum delivery_state state;
    const uint32_t *sub_ids; // subscription identifiers (3.3.4-3)
    unsigned sub_ids_len;
    uint64_t share; // it came by this shared subscription: see broker_give_back; 0: by an ordinary one
};
struct broker_ack {
    uint64_t conn;
    uint16_t packet_id;
    enum status status;
    bool matched; // somebody gets it (reason 0x10 otherwise)
};
// All on the loop's own thread.
struct broker_front {
    // For a connection of this loop that was open a moment ago: the front looks whether it still is (link->conn).
    void (*on_deliver)(void *arg, struct link *to, const struct delivery *d, size_t n);
    // Outcomes of broker_publish that came back BROKER_LATER, in the order of publishing.
    void (*on_acked)(void *arg, const struct broker_ack *acks, size_t n);
    // What broker_settle asked for is durable: PUBREL (for SETTLE_RECEIVED) or PUBCOMP (for SETTLE_INBOUND) may leave.
    void (*on_settled)(void *arg, struct link *of, uint64_t seq_or_packet_id, int what);
    // The permit of an open connection has changed; the reference is the front's. Subscriptions that are no longer allowed
    // have been removed already.
    void (*on_permit)(void *arg, struct link *of, struct permit *p);
    // May a retained message for a new subscriber go to this connection now, without waiting there? It is asked before each.
    // After a no the front calls broker_more when there is room. Yes for a connection that has ended. NULL: always.
    bool (*has_room)(void *arg, struct link *to);
    void *arg;
};

#define BROKER_CONF_LEN 9
extern const struct conf_key
    broker_conf[BROKER_CONF_LEN]; // session_expiry_max, queue_max, queue_bytes_max, retained_max, ...

// --- life ----------------------------------------------------------------------------------------------------------

// Before the loops run. `loops` are all loops with MQTT connections. ST_NOMEM.
enum status broker_new(struct core *core, struct loop *const *loops, unsigned loops_len, const struct conf *conf,
                       struct broker **ret, struct err *err);
void broker_release(struct broker *b); // after core_stop: lets go of all sessions, so that loops may be freed
// core_boot, after identity, policy and presence: loads durable sessions, subscriptions and counts; connections of a former
// process have ended, so their wills are due after their delay. arg: struct broker.
enum status broker_start(struct tx *tx, void *arg, struct err *err);
void broker_free(struct broker *b); // after core_stop and the loops; NULL is allowed
// Before the loop runs: the callbacks of this loop.
struct broker_loop *broker_loop(struct broker *b, const struct loop *l);
void broker_loop_serve(struct broker_loop *bl, const struct broker_front *front);

// --- sessions: core thread, inside the operation of CONNECT or of its end --------------------------------------------

struct broker_will {
    struct message *msg; // a reference that broker_open takes, whatever its outcome; NULL: no will
    uint32_t delay_s;    // will delay interval, cut to session expiry and mqtt.will_delay_max
};
struct broker_open {
    struct slice client_id;
    bool clean_start;
    uint32_t
        expiry_s; // session expiry wanted; UINT32_MAX: never (cut to mqtt.session_expiry_max); 0: with the connection
    struct broker_will will;
    struct permit *permit; // borrowed
    uint16_t
        receive_max; // messages with QoS > 0 that the client takes at once: the queue is pushed little further ahead
};
// Opens or resumes the session of this client id for link->who. It belongs to its principal: ST_FORBIDDEN when another one
// owns it, or when the client id is the id of another device of the tenant (S15; counted, audited once an hour per pair). A
// live connection of the same session is taken over: closed with DOWN_CLOSE_TAKEOVER, its will published as the protocol
// says. After the commit the durable queue begins to arrive by on_deliver, first what was sent before, with its old ids (it
// may come before the operation's own done: the front keeps it until CONNACK has left).
// *ret_session: a reference. *ret_present: an old session was resumed. *ret_inbound: packet ids of QoS 2 messages received and not
// yet released, malloc'ed (may be NULL with *ret_inbound_len 0).
enum status broker_open(struct tx *tx, struct link *link, const struct broker_open *in,
                        struct broker_session **ret_session, bool *ret_present, uint32_t *ret_expiry_s,
                        uint16_t **ret_inbound, size_t *ret_inbound_len, struct err *err);
// The connection of `link` has ended. will: publish it (not after DISCONNECT with 0x00; checked against the permit of now);
// expiry_s: as changed by DISCONNECT, or UINT32_MAX - 1 to leave it. No effect when another connection has the session.
#define BROKER_EXPIRY_KEEP (UINT32_MAX - 1)
enum status broker_close(struct tx *tx, struct broker_session *s, struct link *link, bool will, uint32_t expiry_s,
                         struct err *err);
struct broker_session *broker_session_ref(struct broker_session *s);
void broker_session_unref(struct broker_session *s);            // any thread; NULL is allowed
uint64_t broker_session_serial(const struct broker_session *s); // any thread: message.from
bool broker_session_durable(const struct broker_session *s);    // true as long as this connection lasts
// What a front keeps with the session for itself (its subscriptions to the server's own topics): one number without a meaning
// here, 0 for a new session, durable for durable ones. Core thread; set inside an operation, undone with it.
uint32_t broker_session_marks(const struct broker_session *s);
enum status broker_session_mark(struct tx *tx, struct broker_session *s, uint32_t marks, struct err *err);

// --- subscriptions: core thread, inside an operation whose end sends SUBACK -------------------------------------------

struct broker_sub {
    struct slice filter; // $share/... included
    uint8_t qos, retain_handling;
    bool no_local, retain_as_published;
    uint32_t id; // 0: none
};
// One filter. *ret_reason: granted QoS, or why not (MQTT 5.0 table 3.9.3; not authorised, quota, shared not allowed, ...); the
// status is only about the whole operation (ST_NOMEM, ST_FULL). Durable for durable sessions with the operation's commit.
// Retained messages follow by on_deliver after the commit, after the operation's own done (SUBACK first).
enum status broker_subscribe(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, uint8_t *ret_reason,
                             struct err *err);
enum status broker_unsubscribe(struct tx *tx, struct broker_session *s, struct slice filter, bool *ret_was,
                               struct err *err);

// --- messages: I/O thread ---------------------------------------------------------------------------------------------

struct broker_in {
    struct link *link; // the publisher's, borrowed
    struct broker_session *session;
    const struct permit *permit;
    const struct mqtt_publish *publish;
    struct slice topic; // alias resolved
};
enum broker_went {
    BROKER_REFUSED, // status and err say why; nothing was kept
    BROKER_DONE,    // nobody durable: acknowledge now; *ret_matched as in broker_ack
    BROKER_LATER,   // on_acked follows
};
// Checks the permit (cached with the match), sends to everyone connected, hands on what must be stored. QoS 2 of a durable
// session: the packet id is kept with the message (the front has checked that it is new).
enum broker_went broker_publish(struct broker_loop *bl, const struct broker_in *in, bool *ret_matched,
                                enum status *ret_status, struct err *err);
// Back-pressure as of ingest.h: messages of this loop that wait for their commit, and whether too many bytes do.
size_t broker_pending(const struct broker_loop *bl);

enum broker_settle {
    SETTLE_DONE,     // PUBACK or PUBCOMP for `seq`: out of the queue. Nothing follows.
    SETTLE_RECEIVED, // PUBREC for `seq`: on_settled follows when durable
    SETTLE_INBOUND,  // PUBREL for an inbound packet id: on_settled follows when durable
};
void broker_settle(struct broker_loop *bl, struct broker_session *s, struct link *link, enum broker_settle what,
                   uint64_t seq_or_packet_id);
// A connection for which messages are dropped, embedded by the front: an episode of it is told once when it begins and once,
// with the number, when it is over: as an event (EV_QUEUE) and a log line. All zero: none.
struct slow {
    int64_t since_us;
    uint64_t dropped;
};
// One was dropped. s NULL: nobody is told.
void broker_slow_dropped(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl);
// There is room again, or the connection has ended. Cheap when there is no episode. An episode lasts ten seconds at least.
void broker_slow_room(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl, bool ended);
// There is room again after has_room said no, or the connection has ended.
void broker_more(struct broker_loop *bl, struct link *link);
// Hands what was gathered in this turn to the core now: before an operation that must come after it (SUBSCRIBE, the end of the
// connection).
void broker_flush(struct broker_loop *bl);
// A connection has ended while a QoS 1 message of a shared subscription that is not durable (delivery.seq 0, share not 0) was
// not acknowledged, or before it was sent, or the message came when it had ended: another member gets it (4.8.2). So it is with
// any such message that finds no room, after link->full was set. Without a member that has room it is dropped and counted.
// Takes the reference.
void broker_give_back(struct broker_loop *bl, struct message *msg, uint64_t share);
// A message with a durable effect (telemetry, twin, ...) came with QoS 2 on this connection: keeps its packet id in the same
// transaction, before the effect. staged: the effect is in the telemetry store. *ret_new false: the connection has lost the
// session, and the next one brings the message again; it must have no effect. Core thread. Sessions that are not durable keep
// none: their messages are new.
enum status broker_inbound_put(struct tx *tx, const struct broker_session *s, uint64_t conn, uint16_t packet_id,
                               bool staged, bool *ret_new, struct err *err);
// The message was refused after all. In the same operation.
enum status broker_inbound_drop(struct tx *tx, const struct broker_session *s, uint16_t packet_id, struct err *err);
// The telemetry store has failed to commit what was staged with this id; the id may stand. After the commit, core thread.
void broker_inbound_lost(struct core *c, struct broker_session *s, uint16_t packet_id);

// --- what operators see and do: sessions that outlive their connection, retained messages ------------------------------

// {"items": [{"client_id","principal","online","expiry_s","expires","queued","queued_bytes","dropped","subscriptions",
// "created"}],"next"}, by client id. `dropped` is as of the last end of a connection. Any tx.
enum status broker_sessions_write(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err);
// One of them, exactly, with its "filters": [{"filter","qos","no_local","retain_as_published","id"}]. ST_NOT_FOUND. Core.
enum status broker_session_write(struct tx *tx, struct slice client_id, struct jw *out, struct err *err);
// Ends it with all it has: its connection is closed, its will is sent. Audited. ST_NOT_FOUND. Core.
enum status broker_session_delete(struct tx *tx, struct slice client_id, struct err *err);
// {"items": [{"topic","principal","client_id","qos","bytes","stored","expires"}],"next"}, in the order they were first stored.
// Any tx.
enum status broker_retained_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err);
// One of them with "payload": text, or null and "payload_base64". ST_NOT_FOUND. Any tx.
enum status broker_retained_write(struct tx *tx, struct slice topic, struct jw *out, struct err *err);
enum status broker_retained_delete(struct tx *tx, struct slice topic, struct err *err); // audited; ST_NOT_FOUND. Core.

// --- the server's own messages ---------------------------------------------------------------------------------------

// Core thread, inside an operation: a message of the server itself (mirror topics, wills). After the commit.
enum status broker_send(struct tx *tx, struct message *m, struct err *err);

#endif
