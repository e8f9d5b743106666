// Looking into connections: the decoded packets of one device, one client id, one address, also of clients that fail to
// connect. A person starts a trace for a time; what it caught is kept, bounded, and can be read as text or opened in
// Wireshark.
//
//   trace:  RUNNING --time is up, full, or stopped by hand--> ENDED --deleted, or 7 days later--> (gone)
//
// I/O threads ask once per connection which traces it belongs to (trace_match) and again when the set of traces changes; a
// connection nobody looks at pays one comparison per packet. What is caught is copied, without passwords, and goes to the core
// in one operation per loop and turn. It is not waited for: a trace never holds up a device, and what does not fit is
// counted as lost.
#ifndef DOMAIN_TRACE_H
#define DOMAIN_TRACE_H

#include "base/json.h"
#include "core/core.h"
#include "proto/mqtt.h"

// Limits.
#define TRACE_RUNNING_MAX    32 // at once, of all tenants
#define TRACE_TENANT_RUNNING 8  // of these, of one tenant; the system owner's principals may have all that are free
#define TRACE_TENANTS_ALL                                                                                              \
    24 // of these, of all that are not the system owner's: one who looks for a fault finds a place
#define TRACE_PER_TENANT_MAX 100   // kept; making another one deletes the oldest that has ended
#define TRACE_RECORDS_MAX    10000 // of one trace: it ends when it is full
#define TRACE_BYTES_MAX      (4u << 20)
#define TRACE_PIECE_MAX      4096 // bytes kept of one packet
#define TRACE_KEEP_US        (7LL * 86400 * 1000000)
#define TRACE_TIME_MIN_US    1000000LL
#define TRACE_TIME_MAX_US    (86400LL * 1000000)
#define TRACE_BATCH_BYTES    (1u << 20) // of one loop, waiting for the core; beyond it records are lost

enum trace_subject {
    TRACE_DEVICE,  // a device id
    TRACE_CLIENT,  // a client id as CONNECT says it, whoever says it
    TRACE_ADDRESS, // "192.0.2.7", any port; kept in the one way addr_text writes it
    TRACE_SUBJECT__COUNT
};
enum trace_what {
    TRACE_IN,   // a packet from the peer
    TRACE_OUT,  // packets to the peer
    TRACE_NOTE, // something happened: connected, refused, closed and why, a failed TLS handshake
};

// --- I/O threads ---------------------------------------------------------------------------------------------------

struct trace_hub;
struct trace_loop; // one per loop with connections
// NULL: no memory. Before the loops run.
struct trace_hub *trace_hub_new(struct core *core, struct loop *const *loops, unsigned loops_len);
void trace_hub_free(struct trace_hub *h); // after core_stop and the loops; NULL is allowed
struct trace_loop *trace_loop(struct trace_hub *h, const struct loop *l);
// The set of traces has changed: each open connection asks again. On the loop's thread.
void trace_on_change(struct trace_loop *tl, void (*fn)(void *arg), void *arg);

// What is known of a connection so far; absent: p == NULL, tenant 0.
struct trace_who {
    uint32_t tenant;
    struct slice device, client;
    const char *peer; // "192.0.2.1:1234"
};
// The traces it belongs to, a bit each; 0: none. Strangers (tenant 0) are seen by traces of the system owner only.
uint32_t trace_match(const struct trace_loop *tl, const struct trace_who *who);
// Whether any trace runs, as this loop knows.
bool trace_running(const struct trace_loop *tl);
struct trace_piece {
    enum trace_what what;
    uint64_t conn;
    const char *peer;
    enum mqtt_version version; // of the connection, for decoding
    struct slice data;         // TRACE_IN and TRACE_OUT: whole packets. A CONNECT's password is blanked in the copy.
    const char *note;          // TRACE_NOTE
};
void trace_record(struct trace_loop *tl, uint32_t traces, const struct trace_piece *p);

// --- operations: core thread, or any tx where it says so -------------------------------------------------------------

// core_boot, arg: struct trace_hub. Traces of a former process that still have time left go on.
enum status trace_start(struct tx *tx, void *arg, struct err *err);
struct trace_conf {
    enum trace_subject subject;
    struct slice value;
    int64_t time_us;
};
// Each writes the trace: {"id","device"|"client"|"address","state","created","created_by","until","ended","reason","records",
// "bytes","lost"}. ST_LIMIT: as many run as may. ST_INVALID: no such subject, a time below 1 s or above TRACE_TIME_MAX_US. A device
// must exist.
enum status trace_create(struct tx *tx, const struct trace_conf *conf, struct jw *out, struct err *err);
enum status trace_stop(struct tx *tx, struct slice id, struct jw *out, struct err *err);
enum status trace_delete(struct tx *tx, struct slice id, struct err *err);
enum status trace_write(struct tx *tx, struct slice id, struct jw *out, struct err *err);                   // any tx
enum status trace_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err); // any tx
// {"state": "running|ended", "items": [{"seq","time","ts","conn","peer","direction":"in|out|note","text","bytes"}], "last", "more"}:
// records after number `after`, oldest first; `last` is the number to go on after, `more`: there are more now. Any tx.
enum status trace_records(struct tx *tx, struct slice id, int64_t after, int64_t limit, struct jw *out,
                          struct err *err);
// The whole trace as lines of text, or as a pcapng file. Any tx. ST_TOO_LARGE cannot happen within the limits above.
enum status trace_text(struct tx *tx, struct slice id, struct buf *out, struct err *err);
enum status trace_pcapng(struct tx *tx, struct slice id, struct buf *out, struct err *err);

#endif
