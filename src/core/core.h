// The core thread: the one writer of all domain state, and the group commit.
//
// Operations come from any thread, run one after another inside an open transaction, each in its own savepoint, and are
// committed together; what arrives while a commit is being synced is the next batch. No timer delays a lone operation.
// Only after the commit do replies, events and downlinks leave:
//
//   QUEUED -> (core thread) RUN -> in batch -> COMMITTED -> done(ST_OK or run's status)     on op->reply_to
//                             \-> commit failed ------------> done(ST_FULL)                 on op->reply_to
//
// An operation whose run() returns an error is rolled back alone and learns its status after the commit as well.
// In-memory state that mirrors rows is changed only in tx_after_commit hooks, so that a failed commit leaves it true.
// Read operations run on reader threads with a snapshot (core_read) and never delay a device.
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include "base/status.h"
#include "core/events.h"
#include "core/principal.h"
#include "net/loop.h"
#include "store/db.h"
#include "store/ts.h"

struct core;
struct tx;

// An operation. Embed it as the first member; memory is the submitter's until done() returns.
struct op {
    struct post post; // private to core
    enum status (*run)(struct tx *tx, struct op *op, struct err *err);
    void (*done)(struct op *op); // may free op; on reply_to's thread
    struct loop *reply_to;
    const struct principal *who; // borrowed until done; NULL: the system
    enum status status;          // valid in done
    struct err err;              // valid in done when status != ST_OK
    const char *name;            // static, for metrics and logs: "twin.report"
    struct tx_hook *hooks;       // private to core, as the next three
    struct tx_hook *hooks_last;  // meaningless while hooks is NULL
    struct core *core;
    bool staged; // it put something into the telemetry store
};

void core_submit(struct core *c, struct op *op); // any thread
// The same on a reader thread, with tx->db a read snapshot and tx->ro true; op->done follows without any commit.
void core_read(struct core *c, struct op *op);

// What a running operation works with. Borrowed until run() returns.
struct tx {
    struct core *core;
    struct db *db;
    struct ts *ts;               // NULL on reader threads
    struct ts_reader *ts_reader; // NULL on the core thread
    const struct principal *who;
    int64_t now_us; // wall clock at the start of the operation
    bool ro;
    struct op *op;
    uint64_t operation; // names this operation in the audit record; 0 until something is audited
};

// Runs fn(arg) on the core thread after the batch is durable; when the operation or the commit fails, undo(arg) instead
// (either may be NULL). Exactly one of the two is called. False: no memory, the operation should fail.
bool tx_after_commit(struct tx *tx, void (*fn)(struct core *c, void *arg), void (*undo)(struct core *c, void *arg),
                     void *arg);
// Publishes an event after the commit; takes the reference. Dropped when the operation or the commit fails.
bool tx_event(struct tx *tx, struct event *ev);

// State modules keep for themselves between operations (live devices, dirty ledgers), one slot per module. Core thread only,
// but a slot that is set before core_start and never again may be read from any tx.
enum core_slot {
    CORE_SLOT_PRESENCE,
    CORE_SLOT_TELEMETRY,
    CORE_SLOT_REGISTRY,
    CORE_SLOT_IDENTITY,
    CORE_SLOT_COMMAND,
    CORE_SLOT_TWIN,
    CORE_SLOT_BROKER,
    CORE_SLOT_POLICY,
    CORE_SLOT_QUOTA,
    CORE_SLOT_BAN,
    CORE_SLOT_SECURITY,
    CORE_SLOT_TRACE,
    CORE_SLOT_HANDSHAKES, // struct handshakes, set before core_start
    CORE_SLOT__COUNT
};
void *core_slot(const struct core *c, enum core_slot s);
void core_set_slot(struct core *c, enum core_slot s, void *p);
// Repeated work on the core thread inside a transaction (expiry, retention).
void core_every(struct core *c, uint32_t ms, enum status (*fn)(struct tx *tx, struct err *err));

// What the core owns, valid until core_free: the ring of events (listen to it), the loop of the core thread (timers, posts).
struct events *core_events(struct core *c);
struct loop *core_loop(struct core *c);

struct core_conf {
    const char *dir; // data directory; state.db and telemetry/ live in it
    const struct db_migration *migrations;
    size_t migrations_len;
    const struct sql_def *const *sql_tables; // every module's statements, to be checked at start
    const size_t *sql_lens;
    size_t sql_tables_len;
    struct ts_conf ts;
    unsigned readers;      // reader threads, at least 1
    unsigned batch_max;    // operations per commit (default 4,096)
    uint32_t batch_us_max; // or this much work (default 5,000)
    uint32_t queue_max;    // operations waiting; core_submit beyond it completes with ST_BUSY
};
// Opens the stores and migrates; threads start with core_start. At start every open session of a former process is closed
// by the modules' own start operations, given in order.
enum status core_new(const struct core_conf *conf, struct core **ret, struct err *err);
enum status core_start(struct core *c, struct err *err);
// Runs one operation synchronously before core_start (module initialisation, first start) and commits it.
enum status core_boot(struct core *c, enum status (*fn)(struct tx *tx, void *arg, struct err *err), void *arg,
                      struct err *err);
void core_stop(struct core *c); // drains the queue (everything queued is committed), then ends the threads
void core_free(struct core *c);

struct core_stats {
    uint64_t ops, batches, commit_us_total, commit_us_max, ops_failed, full, queue_len;
    uint64_t commit_us_hist[16]; // buckets: < 2^i * 64 us
};
void core_stats(const struct core *c, struct core_stats *out); // any thread
bool core_storage_full(const struct core *c);                  // any thread: the last commit was refused for space

// Should new data be sent here? Flags the core keeps, so that asking costs nothing. Any thread.
enum core_state {
    CORE_STARTING, // until core_set_ready
    CORE_READY,
    CORE_FULL,     // reading goes on, nothing new is accepted
    CORE_STOPPING, // what is queued is still committed
};
enum core_state core_state(const struct core *c);
void core_set_ready(struct core *c); // once: every module has started and every door is open

#endif
