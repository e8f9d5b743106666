// Inside of the telemetry store: what its files share. Nobody else includes it. The reasoning is in
// docs/design/telemetry-store.md.
//
//   ts.c          opening, staging, commit, the reserve for a full disk
//   ts_log.c      segments: records to bytes and back, replay
//   ts_series.c   devices, metrics, series and their heads in memory
//   ts_catalog.c  catalog.db: what a restart must know about series, counters, last values
//   ts_part.c     day partitions: writing chunk rows, coverage, quarantine
//   ts_flush.c    heads to chunk rows, then the log is dropped
//   ts_keep.c     retention and erasure
//   ts_read.c     snapshots and range queries (other threads)
#ifndef STORE_TS_PRIV_H
#define STORE_TS_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "store/db_priv.h"
#include "store/ts_chunk.h"
#include "store/ts_points.h"

#define TS_DAY_US        INT64_C(86400000000)
#define TS_TIME_MAX      INT64_C(253402300800000000) // 10000-01-01
#define TS_PATH_MAX      4096
#define TS_STAGED_MAX    (1U << 20)  // points in one commit
#define TS_BLOB_MAX      (48U << 20) // bytes of one commit
#define TS_LATE_MAX      256         // late points of a series before they become a chunk
#define TS_MERGE_MAX     (8U << 20)  // points decoded at once
#define TS_RESERVE_BYTES 1048576
#define TS_USUAL         16 // bytes

static inline int32_t ts_day_of(int64_t t_us)
{
    return (int32_t)(t_us / TS_DAY_US);
}

// --- In memory ------------------------------------------------------------------------------------------------------

struct ts_tenant {
    uint32_t id;
    uint32_t metrics;   // distinct names, when known
    bool metrics_known; // counted in the catalog
    bool dirty;         // counters changed since the last flush
    uint64_t seq;       // the catalog's row holds everything up to this commit
    uint64_t counters[TS_COUNTERS];
};

struct ts_metric {
    struct ts_tenant *tenant;
    uint32_t id;   // row id in the catalog; 0: not known there yet
    uint32_t refs; // series that use it
    uint16_t len;
    uint8_t name[];
};

struct ts_text { // a string that is kept
    uint32_t len;
    uint8_t p[];
};

// Points of a series that are not in the open chunk. Lists are in order of sealing.
struct ts_list {
    struct ts_chunk *first, *last;
};
struct ts_late {
    int64_t t;
    struct ts_value v; // strings are heap memory of their own
};
struct ts_spill {
    struct ts_list flushing; // handed to the flush, still readable; older than all others
    struct ts_list sealed;   // full, or of a former day; in time order and before the open chunk
    struct ts_list disorder; // made of late points; may overlap anything
    struct ts_late *late;    // points that came after a later one
    uint32_t late_len, late_cap;
};

enum { TS_S_LAST = 1, TS_S_NEW = 2, TS_S_DEFINED = 4, TS_S_DIRTY = 8 };
struct ts_series { // one cache line: a commit touches thousands of them
    struct ts_device *dev;
    struct ts_metric *metric;
    struct ts_chunk *open;
    struct ts_spill *spill;
    int64_t last_t; // with TS_S_LAST
    union {
        uint64_t u; // double's bits, integer or bool
        struct ts_text *text;
    } last;
    uint32_t id;
    uint32_t staged;   // 1 + index of the newest staged point, 0: none
    uint32_t def_seg;  // the segment that holds its definition
    uint8_t last_type; // enum ts_type
    uint8_t usual;     // length of the chunk before, in units of TS_USUAL
    uint8_t flags; // LAST: has a last value; NEW: not in the catalog; DEFINED: in the blob being written; DIRTY: its
                   // device is in ts.dirty
};

_Static_assert(sizeof(struct ts_series) <= 64, "a series is one cache line");

struct ts_device {
    uint64_t device;
    struct ts_tenant *tenant;
    struct ts_series **series;
    uint32_t *tags; // low half of the metric's hash, beside series
    uint32_t len, cap;
    uint32_t hint; // devices send their metrics in the same order each time
    uint8_t counters_len;
    bool loaded; // the catalog's row has been read (or there is none)
    bool dirty;  // in ts.dirty
    bool erased;
    uint64_t seq; // of the catalog's row
    uint64_t *counters;
    int64_t assigned_us;
};

// Series by id: blocks of pointers, so that a table of ten million ids costs only what is loaded.
#define TS_BLOCK 256
struct ts_table {
    struct ts_series ***blocks;
    size_t len;
};

// Memory for series: slabs of aligned lines, and those given back.
struct ts_pool {
    void *slabs; // a list through the first line of each
    void *spare; // a list through the lines
};

struct ts_staged {
    struct ts_series *s;
    int64_t t;
    uint64_t v;    // as ts_series.last.u; strings: offset into ts.text
    uint32_t prev; // of the same series
    uint16_t len;  // of the string
    uint8_t type;
    bool created; // the series was made for this point
    bool covered; // replay: a partition holds it already, only the last value may be missing
};
struct ts_tally {
    struct ts_device *d;
    uint64_t n;
    uint8_t counter;
    bool of_device, of_tenant; // replay: the catalog may hold one of them already
};

// --- The log --------------------------------------------------------------------------------------------------------

struct ts_segment {
    uint32_t number;
    bool damaged;  // parts could not be read: kept aside when its time comes, not deleted
    int64_t bytes; // of the sealed ones
};
struct ts_log {
    struct ts_segment *list; // ascending; the last one may be open
    size_t len, cap;
    struct db *db; // of the last one; NULL: the next commit makes a new one
    struct buf blob;
    int64_t began_us; // monotonic: when the first commit since the last flush came; 0: none
};

// --- Flush, retention, erasure --------------------------------------------------------------------------------------

// A chunk on its way into a partition.
struct ts_flush_item {
    struct ts_series *s; // NULL: erased meanwhile, the chunk is gone
    struct ts_chunk *chunk;
    int32_t day;
    uint32_t id;    // of the series
    uint32_t order; // of gathering
};

// IDLE --log or memory large or old--> CHUNKS --every series written--> CATALOG --every device written--> DROP --> IDLE
enum ts_flush_state { TS_FLUSH_IDLE, TS_FLUSH_CHUNKS, TS_FLUSH_CATALOG, TS_FLUSH_DROP };
struct ts_flush {
    enum ts_flush_state state;
    uint32_t segment; // this one and all before will be dropped
    uint32_t number;  // counts flushes of this process
    uint32_t cursor;  // CHUNKS: the next series id
    uint32_t since;   // the batch holds series since..upto,
    uint32_t upto;
    uint64_t seq;       // with everything up to this commit
    uint64_t seq_begin; // the last commit of the sealed segments
    struct ts_flush_item *items;
    size_t items_len, items_cap, items_next;
    struct ts_device **devices; // CATALOG: what was dirty when it began
    size_t devices_len, devices_next;
    int64_t retry_us; // monotonic: after a full disk
};

struct ts_part {
    int32_t day;
    struct db *db;
    uint32_t epoch; // 0: none begun here
    uint32_t flush; // the flush that began it
    uint64_t used;  // for the choice of whom to close
};
#define TS_PARTS_OPEN 4

struct ts_policy {
    uint32_t tenant;
    uint16_t len;
    int64_t keep_us;
    uint8_t metric[TS_METRIC_MAX]; // len 0: all of the tenant
};

struct ts_erase { // an erased device whose rows wait for deletion
    struct ts_erase *next;
    uint64_t device;
    int32_t day; // partitions up to this day are done; -1: none
    bool catalog_done;
    uint32_t len;
    uint32_t ids[];
};

struct ts_day {
    int32_t day;
    bool known;        // the next two have been read
    uint32_t policies; // checksum of the policies it was purged under
    int64_t purged_us; // series with at most this retention have been deleted
};

// What readers tell the owner: chunk rows that could not be read. Shared with snapshots, reference counted.
#define TS_REPORTS_MAX 64
struct ts_shared {
    _Atomic uint32_t refs;
    _Atomic uint64_t corrupt;
    pthread_mutex_t lock;
    struct {
        int32_t day;
        uint64_t id;
    } reports[TS_REPORTS_MAX];
    unsigned reports_len;
};

struct ts {
    char *dir;
    struct ts_conf conf;
    struct map devices, tenants, metrics;
    struct ts_table table;
    struct ts_pool pool;
    uint32_t series_next;
    uint32_t series_len;
    uint64_t seq;         // the last durable commit
    uint64_t counted_seq; // the newest commit any catalog row holds
    uint64_t flushed_seq; // everything up to this commit is in partitions and catalog
    uint64_t fresh;       // points taken since the last flush began
    struct ts_staged *staged;
    uint32_t duplicate_work;                // of this batch: steps spent looking for repeats
    size_t staged_len, staged_cap, applied; // applied < staged_len: durable, but memory ran out while applying
    bool settling;
    struct ts_tally *tally;
    size_t tally_len, tally_cap;
    struct buf text; // bytes of staged strings
    struct ts_log log;
    struct db *catalog;
    struct ts_device **dirty;
    size_t dirty_len, dirty_cap;
    struct ts_day *days; // partitions that exist, ascending
    size_t days_len, days_cap;
    struct ts_part parts[TS_PARTS_OPEN];
    uint64_t parts_clock;
    struct ts_flush flush;
    struct ts_policy *policies;
    size_t policies_len, policies_cap;
    struct {
        int64_t next_us; // monotonic: when to begin the next round
        int32_t day;     // partitions up to this day are done in this round
        uint64_t cursor; // chunk id within the partition being purged
        bool purging;    // the partition after `day` is being purged
    } keep;
    struct ts_erase *erases;
    struct ts_shared *shared;
    struct ts_reader *reader; // the owner's own, for duplicates
    bool full;
    int64_t full_retry_us;
    struct ts_stats stats;
};

// ts.c
enum status ts_settle(struct ts *t); // finishes applying a durable batch; ST_NOMEM: still no memory
bool ts_reserve_take_back(struct ts *t);
bool ts_path(const struct ts *t, char *dst, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool ts_dirty_push(struct ts *t, struct ts_device *d);
// A place for one more staged point, not yet counted in staged_len; NULL: no memory.
struct ts_staged *ts_stage_grow(struct ts *t);
static inline struct ts_staged *ts_stage_slot(struct ts *t)
{
    return t->staged_len < t->staged_cap ? &t->staged[t->staged_len] : ts_stage_grow(t);
}
// Fills type and value of a staged point. ST_BUSY: too much text in this batch.
enum status ts_stage_value(struct ts *t, struct ts_staged *p, const struct ts_value *v);
enum status ts_stage_count(struct ts *t, struct ts_tally tally);

// ts_series.c
struct ts_tenant *ts_tenant_get(struct ts *t, uint32_t id);
struct ts_device *ts_device_get(struct ts *t, uint32_t tenant, uint64_t device); // without the catalog
struct ts_series *ts_series_find(struct ts_device *d, struct slice metric, uint64_t hash);
// With id 0 the next free one is taken and the limits hold; otherwise the series is known from log or catalog.
enum status ts_series_make(struct ts *t, struct ts_device *d, struct slice metric, uint64_t hash, uint32_t id,
                           struct ts_series **ret);
void ts_series_unmake(struct ts *t, struct ts_series *s); // the newest of its device, nothing stored in it
struct ts_series *ts_table_get(const struct ts_table *tab, uint32_t id);
// The first loaded series with an id of at least `id`; NULL: none.
struct ts_series *ts_table_next(const struct ts_table *tab, uint32_t id);
// `covered`: a partition holds the point already; only what the catalog has to know is brought up to date.
// Values go by pointer here: copies of them are what a hot path waits for.
enum status ts_series_apply(struct ts *t, struct ts_series *s, int64_t time, const struct ts_value *v, bool covered);
bool ts_series_set_last(struct ts_series *s, int64_t time, const struct ts_value *v);
struct ts_value ts_series_last(const struct ts_series *s);
// Moves everything in memory into spill->flushing as clean chunks: one after another in time, none across days.
enum status ts_series_detach(struct ts *t, struct ts_series *s, struct ts_list *ret);
void ts_series_detached_free(struct ts *t, struct ts_series *s, struct ts_chunk *chunk);
bool ts_counters_add(struct ts_device *d, unsigned counter, uint64_t n);
void ts_device_forget(struct ts *t, struct ts_device *d); // drops series, heads and counters
void ts_memory_free(struct ts *t);
static inline void ts_list_push(struct ts_list *l, struct ts_chunk *c)
{
    c->next = NULL;
    if (l->last != NULL) {
        l->last->next = c;
    } else {
        l->first = c;
    }
    l->last = c;
}

// ts_log.c
enum status ts_log_open(struct ts *t, struct err *err); // lists and replays
void ts_log_close(struct ts *t);
enum status ts_log_write(struct ts *t, struct err *err); // the staged batch, as one commit
enum status ts_log_erase(struct ts *t, const struct ts_device *d, struct err *err);
enum status ts_log_seal(struct ts *t);         // the next commit begins a new segment
void ts_log_drop(struct ts *t, uint32_t upto); // deletes segments
int64_t ts_log_bytes(const struct ts *t);
// Decodes one blob into the staging arrays without regard to what is flushed already (fuzzing).
enum status ts_log_decode(struct ts *t, struct slice blob, uint64_t seq, struct err *err);

// ts_catalog.c
enum status ts_catalog_open(struct ts *t, struct err *err);
enum status ts_catalog_load(struct ts *t, struct ts_device *d);
// ST_NOT_FOUND: the catalog has no such device; any other error: it could not be read.
enum status ts_catalog_knows(struct ts *t, uint64_t device, uint32_t *ret_tenant, struct err *err);
enum status ts_catalog_metric(struct ts *t, struct ts_metric *m, bool add); // sets m->id when it is there
enum status ts_catalog_metric_count(struct ts *t, uint32_t tenant, uint32_t *ret_n);
enum status ts_catalog_series(struct ts *t, uint32_t id, struct ts_series **ret);
enum status ts_catalog_write(struct ts *t, struct ts_device *const *list, size_t n, struct err *err);
enum status ts_catalog_write_end(struct ts *t, struct err *err); // tenants and notes
enum status ts_catalog_erase(struct ts *t, const struct ts_erase *e, struct err *err);
enum status ts_catalog_quarantine(struct ts *t, uint32_t segment, uint64_t seq, uint32_t crc, const char *reason,
                                  struct slice bytes);
// Decodes a device row's body (fuzzing, and ts_catalog_load).
enum status ts_catalog_decode(struct ts *t, struct ts_device *d, struct slice body);

// ts_part.c
#define TS_ROW_PART_BITS  13
#define TS_ROW_EPOCH_BITS 18
static inline uint64_t ts_row(uint32_t epoch, uint32_t series, uint32_t part)
{
    return (uint64_t)epoch << (32 + TS_ROW_PART_BITS) | (uint64_t)series << TS_ROW_PART_BITS | part;
}
static inline uint32_t ts_row_series(uint64_t row)
{
    return (uint32_t)(row >> TS_ROW_PART_BITS);
}
extern const struct db_kind ts_part_kind;
bool ts_part_name(const char *dir, int32_t day, const char *suffix, char *dst, size_t size);
bool ts_part_parse(const char *name, int32_t *ret_day);
enum status ts_part_list(struct ts *t, struct err *err);
struct ts_day *ts_part_day(const struct ts *t, int32_t day);   // NULL: no partition
struct ts_day *ts_part_after(const struct ts *t, int32_t day); // the first one later than `day`
enum status ts_part_note(struct ts_part *p, const char *key, int64_t *ret_v, struct err *err); // unchanged: not there
enum status ts_part_note_set(struct ts_part *p, const char *key, int64_t v, struct err *err);
enum status ts_part_open(struct ts *t, int32_t day, bool create, struct ts_part **ret, struct err *err);
void ts_part_close_all(struct ts *t);
// Writes items [0, n) of one day in one transaction with the coverage they give.
enum status ts_part_write(struct ts *t, int32_t day, const struct ts_flush_item *items, size_t n, uint32_t since,
                          uint32_t upto, uint64_t seq, struct err *err);
enum status ts_part_drop(struct ts *t, int32_t day);
void ts_part_quarantine(struct ts *t, int32_t day, uint64_t row);
// The first chunk row from `from` on; *ret_row 0: none.
enum status ts_part_scan(struct ts_part *p, uint64_t from, uint64_t *ret_row, struct err *err);
enum status ts_part_delete_range(struct ts_part *p, uint64_t from, uint64_t to, struct err *err);
enum status ts_part_delete_series(struct ts *t, int32_t day, const uint32_t *ids, size_t n, struct err *err);

struct ts_cover;                                           // which points of the log are in partitions already
struct ts_cover *ts_cover_new(struct ts *t, uint64_t seq); // of flushes with commits after `seq`
void ts_cover_free(struct ts_cover *c);
// The newest commit that a partition holds anything of; what came later needs no further question.
enum status ts_cover_newest(struct ts_cover *c, int32_t day, uint64_t *ret_seq, struct err *err);
bool ts_cover_has(struct ts_cover *c, int32_t day, uint32_t series, uint64_t seq); // after ts_cover_newest of this day

// ts_flush.c
bool ts_flush_wanted(const struct ts *t);
enum status ts_flush_begin(struct ts *t);
enum status ts_flush_step(struct ts *t, struct err *err);
void ts_flush_forget(struct ts *t, const struct ts_device *d); // its chunks leave the batch
void ts_flush_free(struct ts *t);

// ts_keep.c
bool ts_keep_step(struct ts *t, int64_t now_us);
int64_t ts_keep_for(const struct ts *t, uint32_t tenant, struct slice metric);
enum status ts_erase_queue(struct ts *t, uint64_t device, const uint32_t *ids, uint32_t n);
enum status ts_erase_step(struct ts *t, struct err *err);

// ts_read.c
struct ts_shared *ts_shared_new(void);
void ts_shared_unref(struct ts_shared *s);
void ts_reports_take(struct ts *t); // moves damaged chunks out of the way

#endif
