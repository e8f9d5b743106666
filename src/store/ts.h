// The telemetry store: durable log of batches in segment files, compressed heads in memory, chunk rows per day partition.
// Design, file formats and crash reasoning: docs/design/telemetry-store.md.
//
// Threads: one owner (the core thread) calls everything here except the ts_reader functions. Points are staged with
// ts_put and become durable and visible together in ts_commit; ts_abandon forgets what was staged. A failed sync ends the
// process; a full disk returns ST_FULL and loses nothing that was committed.
#ifndef STORE_TS_H
#define STORE_TS_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

struct ts;
struct ts_device; // in-memory state of one device: series, counters, last server-assigned time

struct ts_conf {
    int64_t retention_us;        // default; 0 keeps for ever
    uint32_t segment_bytes;      // flush when the log has grown by this much (0: 256 MiB); long chunks need long logs
    uint32_t flush_after_ms;     // or this old (0: 3,600,000)
    uint32_t series_per_device;  // limit: ST_LIMIT (0: 1,000)
    uint32_t metrics_per_tenant; // distinct names: ST_LIMIT (0: 10,000)
    uint64_t head_bytes_max;     // memory of all heads; flushes early over it (0: 1 GiB)
};

enum ts_type { TS_DOUBLE, TS_INT, TS_BOOL, TS_STRING };
struct ts_value {
    enum ts_type type;
    union {
        double f;
        int64_t i;
        bool b;
        struct slice s; // at most 1,024 bytes
    };
};
// Numbers: a series that mixes whole and fractional ones gives all of them back as doubles; minus zero becomes zero.

// Opens or creates `dir`, replays the log. Corrupt records are reported (log, ts_stats.corrupt) and quarantined, never
// skipped in silence.
enum status ts_open(const char *dir, const struct ts_conf *conf, struct ts **ret, struct err *err);
void ts_close(struct ts *t); // no flush needed: the log has everything

// The device's in-memory state, made on first use, valid until ts_close. `device` and `tenant` are row ids of the registry.
// NULL: no memory, or the catalog cannot be read.
struct ts_device *ts_device(struct ts *t, uint32_t tenant, uint64_t device);
// A time for a point that came without one: now, or one microsecond after the last such time of this device, so that two
// messages in one microsecond are two points.
int64_t ts_assign_time(struct ts_device *d, int64_t now_us);

#define TS_METRIC_MAX 128
// Stages one point. `metric`: 1..128 bytes of printable UTF-8. `hash` is hash_bytes(metric) (computed on the I/O thread).
// Strings are copied. *ret_duplicate (may be NULL): an equal point (series, time, value) is already there; nothing is staged.
// ST_INVALID: name, time (1970..9999) or value out of bounds; ST_LIMIT: too many series or metrics; ST_BUSY: the batch is full;
// ST_NOT_FOUND: the device has been erased.
enum status ts_put(struct ts *t, struct ts_device *d, int64_t ts_us, struct slice metric, uint64_t hash,
                   struct ts_value v, bool check_duplicate, bool *ret_duplicate);
// Durable counters per device, committed with the points (the ledger): `counter` is a small number the caller defines.
#define TS_COUNTERS 24
enum status ts_count(struct ts *t, struct ts_device *d, unsigned counter, uint64_t n);
void ts_counters(struct ts *t, uint64_t device,
                 uint64_t out[TS_COUNTERS]); // committed values; zeros when unknown
void ts_tenant_counters(const struct ts *t, uint32_t tenant, uint64_t out[TS_COUNTERS]);

// Numbers ts_commit in order, through all starts. What another store keeps of it before is known to be durable here when this is
// larger; a commit that fails leaves its number to the next.
uint64_t ts_next_commit(const struct ts *t);
bool ts_staged(const struct ts *t); // something waits for ts_commit or ts_abandon
enum status ts_commit(struct ts *t,
                      struct err *err); // sync; ST_FULL: nothing of this batch is stored, stage again later
void ts_abandon(struct ts *t);
// The disk is full, as this store or another on the same disk has found: the reserve is given up, so that deleting can work,
// and telemetry is refused until it could be made again with as much space left beside it (tried every 50 ms by ts_step).
void ts_note_full(struct ts *t);
bool ts_full(const struct ts *t);
// Per-message undo inside a batch: everything staged after ts_mark is forgotten by ts_undo.
struct ts_mark {
    size_t a, b, c;
};
struct ts_mark ts_mark(const struct ts *t);
void ts_undo(struct ts *t, struct ts_mark m);

// Housekeeping between batches: bounded steps of flushing heads to chunk rows, deleting flushed segments, retention.
// Returns true while more is to do.
bool ts_step(struct ts *t, int64_t now_us);
enum status ts_flush(struct ts *t, struct err *err); // everything now (tests, shutdown of a partition)
// Kept in memory only: the caller gives all policies after ts_open (nothing is dropped in the first minute). An empty metric
// stands for all of the tenant without one of their own; keep_us 0: for ever, negative: the policy is removed. Whole days go.
enum status ts_set_retention(struct ts *t, uint32_t tenant, struct slice metric_or_all, int64_t keep_us);
// Durable when it returns: the device, its series, points and counters are gone for every reader, and stay so after a crash;
// rows on disk are deleted by the following steps. Tenant totals stay. Call it when nothing is staged (tx_after_commit), else
// ST_BUSY. The device's row id must not come back.
enum status ts_device_erase(struct ts *t, uint64_t device, struct err *err);

struct ts_stats {
    uint64_t points, messages_bytes, commits, series, head_bytes, log_bytes, chunk_bytes, corrupt, flushes;
};
// `points`, `commits`, `messages_bytes` and `flushes` count since the start (points of the replay included); `series` are those
// in memory; bytes are what stands on disk or in memory now. Owner thread.
void ts_stats(const struct ts *t, struct ts_stats *out);

// Last values: for each metric of the device the newest point by time. Owner thread. Returns the number of metrics.
typedef void (*ts_last_fn)(void *arg, struct slice metric, int64_t ts_us, struct ts_value v);
size_t ts_last(struct ts *t, uint32_t tenant, uint64_t device, ts_last_fn fn, void *arg);

// Ranges. The owner thread takes a snapshot of what is only in memory (cheap: copies one series' head); any reader thread
// then merges it with the chunk rows. Points come in time order; of equal times the one stored last wins.
enum ts_agg { TS_RAW, TS_MIN, TS_MAX, TS_AVG, TS_SUM, TS_COUNT, TS_FIRST, TS_LAST };
struct ts_query {
    uint32_t tenant;
    uint64_t device;
    struct slice metric;
    int64_t from_us, to_us; // [from, to)
    int64_t bucket_us;      // 0 with TS_RAW; buckets start at multiples of it since the epoch
    enum ts_agg agg;
    uint32_t limit; // most points delivered; the caller resumes from the last time + 1
    bool descending;
};
struct ts_snapshot;
enum status ts_snapshot_take(struct ts *t, const struct ts_query *q,
                             struct ts_snapshot **ret); // ST_NOT_FOUND: no such series
void ts_snapshot_free(struct ts_snapshot *s);

struct ts_reader; // one per reader thread
enum status ts_reader_open(const char *dir, struct ts_reader **ret, struct err *err);
void ts_reader_close(struct ts_reader *r);
// fn returns false to stop early. For TS_COUNT etc. v.f or v.i holds the figure, ts the start of the bucket.
typedef bool (*ts_point_fn)(void *arg, int64_t ts_us, struct ts_value v);
enum status ts_read(struct ts_reader *r, const struct ts_snapshot *s, const struct ts_query *q, ts_point_fn fn,
                    void *arg, struct err *err);
enum status ts_read_count(struct ts_reader *r, const struct ts_snapshot *s, const struct ts_query *q, uint64_t *ret_n,
                          struct err *err);

#endif
