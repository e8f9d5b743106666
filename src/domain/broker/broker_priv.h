// Inside of the broker. Private to this folder.
#ifndef DOMAIN_BROKER_PRIV_H
#define DOMAIN_BROKER_PRIV_H

#include "core/metrics.h"
#include "domain/broker/match.h"
#include "domain/broker/session.h"

#define BROKER_CLIENT_ID_MAX 256
#define BROKER_SHARE_MAX     1200 // bytes of $share/NAME/FILTER

// Values of broker_conf[], read once.
struct broker_settings {
    uint32_t session_expiry_max_s;
    uint32_t will_delay_max_s;
    uint32_t queue_max;
    uint64_t queue_bytes_max;
    uint32_t subscriptions_max; // of one session
    uint32_t retained_max;      // of one tenant
    uint32_t sessions_max;      // durable ones of one tenant
    uint32_t window;            // messages of a durable queue that are with one connection
    uint32_t match_cache;       // slots per thread
};

void banned_start(struct broker *b);                         // banned.c: bans end connections
enum status inbound_restart(struct tx *tx, struct err *err); // inbound.c: ids whose points never came

// --- messages that need no storing: fan.c ----------------------------------------------------------------------------

// A message for all connections of a match on one loop (`only` == FAN_ALL), or for one of its targets.
#define FAN_ALL     UINT32_MAX
#define FAN_RUN_MAX 64 // messages handed to one connection at once
struct fan_job {
    struct message *msg; // a reference
    struct match *match; // a reference
    uint32_t only;
};
// What one thread has for one loop at the end of a turn.
struct fan {
    struct post post;
    struct broker_loop *to;
    _Atomic uint64_t *waiting; // bytes of the sender that have not arrived: less by `bytes` when they have
    uint64_t bytes;
    size_t len, cap;
    struct fan_job *jobs;
};

struct batch;
#define BEHIND_SLOTS 1024 // topics may share one
struct broker_loop {
    struct turn_hook hook; // first
    struct broker *broker;
    struct loop *loop; // NULL: the core's side
    unsigned at;       // index of the loop
    struct broker_front front;
    struct match_cache cache;
    struct delivery run[FAN_RUN_MAX];
    struct fan **fans;        // for each loop: what goes there at the end of this turn; NULL: nothing
    _Atomic uint64_t waiting; // bytes on their way to other loops
    struct batch *gathering;  // for the core; NULL: nothing
    struct batch *free_list;
    unsigned free_len;
    unsigned submitted; // batches
    size_t pending;     // messages in them
    size_t pending_bytes;
    bool hold; // what the core had no room for waits for the timer
    // Messages on their way to the core that nobody gets before their commit, by topic: those behind them go the same way.
    uint32_t behind[BEHIND_SLOTS];
    struct timer retry;
    struct hold *holds; // connections with retained messages on their way
    struct timer replay_retry;
};

// What the broker keeps of a tenant. Core thread.
struct tenant_state {
    struct broker *broker;
    uint32_t tenant;
    struct events_sub *listening; // mirror.c; NULL: nobody wants its mirror topics
    uint32_t durable;             // sessions
    int32_t durable_pending;      // what the batch under way will add to them
    uint32_t retained;            // messages
    int32_t retained_ahead;       // more of them by operations that are not committed
    struct tree retained_names;   // value: struct retained_name
};

struct feed;
struct broker {
    struct core *core;
    struct broker_settings settings;
    struct index index;
    // The rest is the core thread's, but for the loops' own.
    struct session_table sessions;
    struct broker_session *fresh; // durable ones made in this batch, through `next`
    struct map tenants;           // struct tenant_state by row id
    struct match_cache cache;
    struct broker_loop out;                  // the core's side of messages to connections
    struct parcels **parcels;                // for each loop: messages of queues for its connections
    struct broker_session *feed, *feed_last; // whose queue is to be read on, through queue->feed_next; references
    struct feed *feeding;                    // the operation that does it
    struct departure *late;                  // ends of connections that the store had no room for
    struct review *review;
    struct map permits; // of owners of retained messages, by owner; emptied when policies change
    int64_t next_session_row, next_message_row, next_retained_row;
    uint64_t retained_changes; // so far
    uint64_t next_serial;
    int64_t expiry_at_us, expiry_at_session, expiry_at_seq; // how far the sweep of expired messages is
    struct mirror *mirror;
    unsigned loops_len;
    struct broker_loop loops[];
};

static inline struct broker *broker_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_BROKER);
}
struct broker_loop *broker_loop_of(struct broker *b, const struct loop *l); // NULL: none of ours
void broker_send_live(struct broker_loop *bl, struct message *msg);         // to those who are connected
bool broker_topic_reserved(struct slice topic);                             // nobody but the server publishes there
struct tenant_state *broker_tenant(struct broker *b, uint32_t tenant);      // made when missing; NULL: no memory

// `from`'s thread. False: no memory.
bool fan_put(struct broker_loop *from, unsigned to, struct message *m, struct match *match, uint32_t only);
// To every loop that has targets. False: no memory.
bool fan_put_all(struct broker_loop *from, struct message *m, struct match *match);
// Hands out what has gathered: to its own loop at once, to others by post.
void fan_flush(struct broker_loop *bl);
void fan_flush_others(struct broker_loop *bl); // only what goes to other loops
void fan_free(struct fan *f);

// --- metrics ---------------------------------------------------------------------------------------------------------

enum broker_count {
    COUNT_SESSIONS_DURABLE, // gauges
    COUNT_QUEUED,
    COUNT_QUEUED_BYTES,
    COUNT_RETAINED,
    COUNT_DROPPED_FULL, // counters
    COUNT_DROPPED_EXPIRED,
    COUNT_DROPPED_DENIED,
    COUNT_DROPPED_SUPERSEDED,
    COUNT_WILLS,
    COUNT_FOREIGN,
    COUNT_LINEAGE_REFUSED,
    COUNT_LINEAGE_ENDED,
    COUNT_SUBS_REVOKED,
    COUNT_MIRROR_LOST,
    COUNT__COUNT
};
void broker_count(enum broker_count what, int64_t n); // any thread
void broker_metrics(struct broker *b);                // once, at start
void broker_metrics_end(struct broker *b);

// --- what an operation does to others: work.c. Core thread. ----------------------------------------------------------

// A message of a queue on its way to a connection.
struct parcel {
    struct broker_session *session; // a reference
    struct link *link;              // a reference; NULL until it is pushed
    struct message *msg;            // a reference; NULL: DELIVERY_RELEASED
    uint64_t seq;                   // 0: not of the queue
    uint32_t bytes;
    uint8_t qos;
    bool retain;
    bool shared; // its message stands in several queues
    enum delivery_state state;
    uint32_t *ids; // malloc'ed
    uint32_t ids_len;
};
void parcel_release(struct parcel *p);

// What one operation has to tell connections once it is durable.
struct work {
    struct post post; // first
    struct broker *b;
    bool later; // after the operation's own answer
    struct parcel *parcels;
    size_t parcels_len, parcels_cap;
    struct fan_job *fans;
    size_t fans_len, fans_cap;
};
// Lives until the outcome of the operation. NULL: no memory (err says so).
struct work *work_new(struct tx *tx, struct err *err);
// Takes what `p` holds, whatever the outcome. False: no memory.
bool work_parcel(struct work *w, struct parcel *p);
// All that the message has to reach: queues, and connections as well when `live` (else a loop has seen to them). DUP for
// those it goes to when `again`. ST_NOMEM, ST_FULL, ...
enum status work_publish(struct tx *tx, struct work *w, struct message *msg, bool live, struct err *err);
// The same for one member of a group, after another one could not keep it.
enum status work_publish_group(struct tx *tx, struct work *w, struct message *msg, struct group *g,
                               const struct broker_session *not_to, struct err *err);

// --- queues: queue.c, feed.c. Core thread. ---------------------------------------------------------------------------

struct queue_out {
    uint64_t seq;
    uint32_t bytes;
    bool shared; // its message stands in several queues
};
//   CAUGHT UP --a message does not fit the window--> BEHIND --read to the end--> CAUGHT UP
// Caught up: everything stored is with the connection, and what is stored next follows at once. Behind: the next page is read
// when acknowledgements have made room.
struct queue {
    uint32_t tenant;
    uint64_t next_seq;
    uint64_t pushed; // up to here messages are with the connection
    uint64_t sent;   // up to here a former connection may have got them
    uint64_t bytes;
    uint32_t len;
    uint32_t window;
    struct slow slow; // it is full
    bool behind;
    bool feeding; // on the list of those to be read on
    struct broker_session *feed_next;
    struct queue_out *out; // with the connection, not settled, in order
    uint32_t out_first, out_len, out_cap;
    uint64_t out_bytes;
};
void queue_free(struct queue *q); // NULL is allowed
// What the store says of one.
struct queue_sum {
    uint32_t len;
    uint64_t bytes, last, sent; // last: the highest seq, 0: none; sent: as of struct queue
};
struct queue *queue_make(struct broker *b, struct broker_session *s, const struct queue_sum *sum); // NULL: no memory
// The session's, loaded from the store when it is not in memory: those that hold something are from the start on.
enum status queue_need(struct tx *tx, struct broker_session *s, struct queue **ret, struct err *err);
// How a message stands in a queue.
struct queue_put {
    uint8_t qos;
    bool retain;
    const uint32_t *ids;
    uint32_t ids_len;
    struct group *group; // NULL: not by a shared subscription
};
bool queue_full(const struct broker *b, const struct queue *q, size_t bytes);
// Stores it and adds the parcel. msg_row: of mqtt_message; 0: inline. A full queue: nothing is stored, counted as dropped.
enum status queue_store(struct tx *tx, struct work *w, struct broker_session *s, struct message *m, int64_t msg_row,
                        const struct queue_put *how, struct err *err);
enum status queue_message_add(struct tx *tx, struct broker *b, const struct message *m, uint32_t refs, int64_t *ret_row,
                              struct err *err);
enum status queue_message_less(struct tx *tx, int64_t row, struct err *err);
// Deletes one row. *ret_there: it was there.
enum status queue_delete(struct tx *tx, const struct broker_session *s, uint64_t seq, bool *ret_there, struct err *err);
// Those from first to last, all of them queue_is_alone.
enum status queue_delete_run(struct tx *tx, const struct broker_session *s, uint64_t first, uint64_t last,
                             struct err *err);
enum status queue_received(struct tx *tx, const struct broker_session *s, uint64_t seq, struct err *err);
// Deletes all of it, and all else the store has of the session; messages of shared subscriptions go to other members.
enum status queue_erase(struct tx *tx, struct work *w, uint32_t tenant, int64_t session,
                        const struct broker_session *not_to, struct err *err);
// After commits:
void queue_stored(struct broker *b, struct parcel *p); // pushes it when it may; takes what p holds
void queue_settled(struct broker *b, struct broker_session *s, uint64_t seq);
void queue_less(struct broker *b, struct broker_session *s, uint32_t bytes); // one message less in it
void queue_attach(struct broker *b, struct broker_session *s, uint16_t receive_max);
void queue_detach(struct broker *b, struct broker_session *s);
bool queue_push(struct broker *b, struct broker_session *s,
                struct parcel *p);                        // false: no room or memory; p is untouched
bool queue_is_out(const struct queue *q, uint64_t seq);   // with the connection
bool queue_is_alone(const struct queue *q, uint64_t seq); // the same, and its message stands in no other queue
bool queue_has_room(const struct queue *q, uint64_t seq);
void feed_list(struct broker *b, struct broker_session *s);
void feed_kick(struct broker *b);
bool feed_init(struct broker *b);
void feed_release(struct broker *b);
// What has gathered for the loops: room for one more, then put, then all handed out.
bool parcels_room(struct broker *b, unsigned loop);                  // false: no memory
void parcels_put(struct broker *b, unsigned loop, struct parcel *p); // takes what p holds
void parcels_flush(struct broker *b);

// --- queues that are full: slow.c -----------------------------------------------------------------------------------

enum slow_where { SLOW_SESSION, SLOW_CONNECTION };
void slow_queue_full(struct tx *tx, struct broker_session *s); // a message was not kept; the queue is in memory
void slow_queue_room(struct broker *b, struct broker_session *s, bool ended); // after commits: it has become shorter

// --- sessions: session.c. Core thread. -------------------------------------------------------------------------------

// Ends a session whose rows are gone: it leaves the table and the index.
void session_end(struct broker *b, struct broker_session *s);
// Its connection is closed after the commit, when it has one. s may be NULL.
enum status session_close(struct tx *tx, const struct broker_session *s, enum down_close why, struct err *err);
struct broker_session *session_new(struct broker *b, uint32_t tenant, uint8_t owner_kind, uint64_t owner,
                                   struct slice client_id);
// Deletes what the store has of a session, and ends it with the commit.
enum status session_erase(struct tx *tx, uint32_t tenant, int64_t row, struct slice client_id, struct err *err);
void session_list(struct broker *b, struct broker_session *s); // into the table
enum status session_expire(struct tx *tx, struct err *err);    // some of those whose time has come
enum status session_retry_late(struct tx *tx, struct err *err);
void session_late_free(struct broker *b);
enum status subscribe_drop_denied(struct tx *tx, struct broker_session *s, const struct permit *p, struct err *err);
// A stored subscription at the start. False: no memory.
bool subscribe_load(struct broker *b, struct broker_session *s, struct slice filter, unsigned options, uint32_t id);

// --- retained messages: retained.c -----------------------------------------------------------------------------------

struct retained_by {
    uint8_t kind;
    uint64_t row;
    struct slice client_id;
};
// Stores, replaces or (without payload) deletes. ST_LIMIT: the tenant has too many.
enum status retained_set(struct tx *tx, const struct message *m, const struct retained_by *by, struct err *err);
enum status retained_drop(struct tx *tx, uint32_t tenant, struct slice topic, struct err *err);
// For a new subscription, before it is active: what the store must keep for a durable session goes into its queue, a page per
// run of sub->fetch; then the rest follows. sub->fetch->state says whether that is all.
enum status retained_send(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, struct err *err);
// One of them, when it is still there and may be sent to the session now; else *ret NULL. The reference is the caller's.
enum status retained_read(struct tx *tx, const struct broker_session *s, int64_t row, struct message **ret,
                          struct err *err);
enum status retained_expire(struct tx *tx, struct err *err);
enum status retained_forget(struct tx *tx, uint8_t kind, uint64_t row, struct err *err); // of one owner
enum status retained_load(struct tx *tx, struct err *err);
void retained_free(struct tenant_state *t);
void retained_forget_permits(struct broker *b);

// --- retained messages on their way to a new subscriber: replay.c ----------------------------------------------------

struct replay_row {
    uint64_t hash; // of the topic
    int64_t row;
};
// Core thread, in the operation of a SUBSCRIBE and before its change of the index: these follow after its commit and SUBACK.
enum status replay_start(struct tx *tx, struct broker_session *s, const struct broker_sub *sub,
                         const struct replay_row *rows, size_t len, struct err *err);
// The connection's loop: live messages of one topic for a connection with link->retaining > 0.
void replay_deliver(struct broker_loop *bl, struct link *to, struct slice topic, const struct delivery *d, size_t n);
void replay_init(struct broker_loop *bl);
void replay_release(struct broker_loop *bl); // when neither loop nor core runs any more

// --- wills: will.c ---------------------------------------------------------------------------------------------------

struct will_key {
    uint32_t tenant;
    struct slice client_id;
};
enum status will_put(struct tx *tx, const struct link *link, struct slice client_id, const struct broker_will *w,
                     struct err *err);
// A new connection of the client id comes. resumed: the session goes on.
enum status will_on_open(struct tx *tx, const struct will_key *k, bool resumed, struct err *err);
// The connection ends. send: as the protocol says; expiry_s: of the session.
enum status will_on_close(struct tx *tx, const struct will_key *k, uint64_t conn, bool send, uint32_t expiry_s,
                          struct err *err);
// The session ends: what waits for its delay is sent now.
enum status will_on_end(struct tx *tx, const struct will_key *k, struct err *err);
enum status will_del(struct tx *tx, const struct will_key *k, struct err *err); // unsent
enum status will_fire_due(struct tx *tx, struct err *err);
// Those of one owner; *ret_n: how many there were.
enum status will_forget(struct tx *tx, uint8_t kind, uint64_t row, int64_t *ret_n, struct err *err);
enum status will_restart(struct tx *tx, struct err *err);

// --- the rest --------------------------------------------------------------------------------------------------------

// batch.c: loop thread.
struct broker_item {
    struct message *msg;            // a reference that is taken
    struct broker_session *session; // borrowed
    uint64_t conn;
    uint16_t packet_id;
    bool matched;
    bool later;     // nobody has got it: the core sends it after its commit
    uint16_t slot;  // of broker_loop.behind, when later
    uint64_t share; // given back by a member of this group; 0: published
};
bool batch_has_room(const struct broker_loop *bl);
bool batch_put(struct broker_loop *bl, const struct broker_item *item); // false: no memory
void batch_turn_end(struct broker_loop *bl);
void batch_release(struct broker_loop *bl);
void batch_init(struct broker_loop *bl);

// tick.c: repeated work.
void tick_start(struct broker *b);

// mirror.c: after the subscriptions of a tenant have changed.
void mirror_look(struct broker *b, uint32_t tenant);
bool mirror_init(struct broker *b);
void mirror_release(struct broker *b);

// change.c: policies and devices change.
enum status change_start(struct tx *tx, struct err *err);
void change_kick(struct broker *b); // what is left from an operation that failed
void change_release(struct broker *b);

#endif
