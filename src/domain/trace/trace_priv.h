// What the files of this folder share. Private to it.
#ifndef DOMAIN_TRACE_PRIV_H
#define DOMAIN_TRACE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/core.h"
#include "domain/trace/trace.h"

#define TRACE_VALUE_MAX 256

// One trace that runs. The place in the table is its bit in trace_match; the core thread's.
//
//   FREE --create--> RESERVED --commit--> RUNNING --stopped, full, time is up--> RUNNING, ending --commit--> FREE
//                       |                    ^                                          |
//                       +-- commit failed    +------------- commit failed --------------+
//                       |   --> FREE
//                       +--ended in the same transaction--> RESERVED, ending --commit or commit failed--> FREE
enum slot_state { SLOT_FREE, SLOT_RESERVED, SLOT_RUNNING };
struct trace_slot {
    enum slot_state state;
    uint64_t row;
    uint32_t tenant;
    enum trace_subject subject;
    bool strangers;
    bool ending; // its end is in the present transaction
    char value[TRACE_VALUE_MAX + 1];
    int64_t until_us;
    int64_t seq;                  // last one given out
    int64_t records, bytes, lost; // as stored, and what runs in the present batch
};

// What the loops know of the running traces: made anew at each change, never changed.
struct trace_set {
    _Atomic uint32_t refs;
    uint32_t running; // bit per slot
    struct trace_slot slots[TRACE_RUNNING_MAX];
};

struct trace_loop {
    struct turn_hook hook; // first
    struct trace_hub *hub;
    struct loop *loop;
    struct trace_set *set; // one reference; loop thread
    struct post changed;
    _Atomic bool posted;
    void (*on_change)(void *arg);
    void *arg;
    struct trace_batch *gathering; // NULL: nothing caught
    bool submitted;                // one batch is with the core
};

struct trace_hub {
    struct core *core;
    struct trace_slot slots[TRACE_RUNNING_MAX]; // core thread
    pthread_mutex_t lock;                       // of `set`
    struct trace_set *set;
    unsigned loops_len;
    struct trace_loop loops[];
};

// store.c: writes what a loop has caught. Core thread, inside the batch's operation.
struct trace_entry {
    uint64_t row; // of the trace
    int64_t ts_us;
    uint64_t conn;
    enum trace_what what;
    enum mqtt_version version;
    struct slice peer, note, data;
    uint32_t data_len;
};
enum status trace_store(struct tx *tx, struct trace_hub *h, const struct trace_entry *e, struct err *err);
void trace_lose(struct trace_hub *h, uint64_t row, int64_t n);
// Writes the counters of the traces that got something.
enum status trace_store_counts(struct tx *tx, struct trace_hub *h, struct err *err);
// hub.c: tells the loops; core thread, after a commit.
void trace_publish_set(struct trace_hub *h);
struct trace_hub *trace_hub_get(const struct core *c);

// trace.c
struct trace_row {
    uint64_t row;
    uint32_t tenant;
    enum trace_subject subject;
    bool strangers;
    char value[TRACE_VALUE_MAX + 1];
    char created_by[ID_MAX + 1];
    char reason[64];
    int64_t created_us, until_us, ended_us; // ended_us 0: running
    int64_t records, bytes, lost;
};
const char *trace_subject_text(enum trace_subject s); // "device"
// ST_NOT_FOUND names the id. Any tx.
enum status trace_find(struct tx *tx, struct slice id, struct trace_row *ret, struct err *err);
// Ends a running trace; its place is free after the commit.
enum status trace_finish(struct tx *tx, struct trace_hub *h, struct trace_slot *s, const char *reason, struct err *err);

// Ends traces whose time is up, deletes what has been kept long enough, a bounded piece at a time.
enum status trace_sweep(struct tx *tx, struct err *err);

#endif
