// Listeners and connections: TCP, optionally TLS, behind one small interface.
//
// A front gives a `conn_proto` per listener. Input arrives as one contiguous slice per read; the front consumes what it
// can and says how much, the rest is kept (bounded by in_max) and comes again with more behind it. Output is appended to
// one buffer per connection and leaves at the end of the loop turn in one write. Nothing here blocks, and a connection is
// freed only in the loop's reaper after on_close: a front may call conn_close from any callback.
//
//   (PROXY) -> (TLS) HANDSHAKE -> OPEN -> CLOSING (output drains, bounded by 5 s) -> CLOSED
//
// What stands between the socket and the front is the connection's business: a proxy's header, TLS, WebSocket frames. A front
// sees the bytes of its own protocol, whatever carries them.
//
// A connection that closes in order says so to the peer (TLS close_notify, FIN) and reads on, to nowhere, for at most 1 s
// or 256 KiB until the peer has ended too: a reset would destroy what the peer has not read yet, an alert for instance.
//
// All calls on the connection's own loop thread, unless said otherwise.
#ifndef NET_CONN_H
#define NET_CONN_H

#include "base/slice.h"
#include "base/status.h"
#include "net/loop.h"
#include "net/tls.h"
#include "net/tls_gate.h"

struct conn;
struct listener;
struct addr;
struct admission;

enum close_cause {
    CLOSE_LOCAL,    // conn_close by the front
    CLOSE_EOF,      // the peer ended in order
    CLOSE_RESET,    // ECONNRESET, EPIPE
    CLOSE_TIMEOUT,  // no handshake within open_timeout_ms, or output did not drain
    CLOSE_TLS,      // handshake or record failure: close_reason.text has the decoded alert
    CLOSE_OVERFLOW, // input kept over in_max or output over out_max
    CLOSE_FRAMING,  // the peer broke the rules of what carries the protocol: WebSocket frames, a proxy's header
    CLOSE_CROWDED,  // not authenticated, and newer connections needed the place
    CLOSE_SHUTDOWN, // the server stops
    CLOSE__COUNT,
};
struct close_reason {
    enum close_cause cause;
    const char *text; // for people; "" when the cause says it all
};
const char *close_cause_text(enum close_cause c); // "peer_closed", ...

#define CONN_OUT_HIGH   65536
#define CONN_OUT_LOW    16384
#define CONN_ANSWER_MS  5000
#define CONN_DRAIN_MS   5000
#define CONN_LINGER_MS  1000
#define CONN_HANDSHAKES 256

struct conn_proto {
    const char *name; // "mqtt", "http": in logs and metrics
    // The connection is open (after the TLS handshake). Sets conn_set_user. Not ST_OK: closed at once, no further callback.
    enum status (*on_open)(struct conn *c, void *front);
    // Bytes have arrived. Returns how many of `in` were consumed. With 0 of a full in_max the connection overflows.
    size_t (*on_data)(struct conn *c, struct slice in);
    // The output fell below CONN_OUT_LOW after it had been over CONN_OUT_HIGH (back-pressure released). May be NULL.
    void (*on_drain)(struct conn *c);
    // Of a connection with conn_tap: what the front has written since the last call, before WebSocket frames and TLS. May be NULL.
    void (*on_output)(struct conn *c, struct slice out);
    // The peer has ended its side; everything it sent was offered. True: the front still owes an answer and calls conn_close
    // when it is written (after CONN_ANSWER_MS it is closed anyway). False, or NULL: closed once the output has drained.
    bool (*on_eof)(struct conn *c);
    // Last callback; user data is released here. Never called from inside another call on this connection.
    void (*on_close)(struct conn *c, const struct close_reason *why);
    // A TLS handshake failed: for the connectivity record. Not for peers that left without a byte. May be NULL.
    void (*on_tls_failure)(void *front, struct loop *l, const struct tls_failure *f);
};

// A protocol as a listener offers it: whose it is, and what one connection may cost. Fronts fill it in.
struct conn_service {
    const struct conn_proto *proto;
    void *front;                 // passed to on_open: one object per front, shared by all loops
    uint32_t in_max;             // most bytes kept unconsumed per connection (packet limit)
    uint32_t in_max_before_auth; // the same until conn_authenticated
    uint32_t out_max;            // most bytes waiting for a slow reader; over it the connection overflows
    uint32_t open_timeout_ms;    // handshake plus time until conn_authenticated (limit table: 10 s)
};

#define LISTEN_ALPN_MAX 4
struct listen_conf {
    const char *addr;    // "host:port", "[::1]:8883", ":8883" (all addresses); port 0: any free one
    struct tls_ctx *tls; // NULL: plain; the listener takes its own reference
    struct loop **loops; // connections are spread over these (SO_REUSEPORT: one socket a loop)
    unsigned loops_len;
    uint32_t conns_max;      // open connections on this listener; at it accepting pauses until one is gone
    uint32_t handshakes_max; // TLS handshakes at once on a loop, of all listeners; others wait. 0: CONN_HANDSHAKES
    struct admission
        *admission; // who may connect (net/admission.h), may be shared; outlives the listener; NULL: everybody
    // Whether this address may not connect at all: asked when it is known, before anything is read or made for the connection, or
    // behind a PROXY header. On the loops' threads, for each connection: quick. NULL: nobody is banned.
    bool (*banned)(void *arg, const struct addr *peer);
    void *banned_arg;
    // What is spoken on a plain connection, and on a TLS one whose client chose no protocol (ALPN) or one that is not below.
    // Until the handshake is over its limits hold.
    struct conn_service service;
    // RFC 7301: what is spoken when the handshake chose that name. Ends with name NULL; names are literals. The TLS context must
    // offer the same names.
    struct {
        const char *name;
        struct conn_service service;
    } alpn[LISTEN_ALPN_MAX + 1];
};

// Called before the loops run or from any thread while they do. On success the sockets listen. A port in use is an error, also
// when its owner allows sharing.
enum status listener_open(const struct listen_conf *conf, struct listener **ret, struct err *err);
uint16_t listener_port(const struct listener *ln);
void listener_set_tls(struct listener *ln,
                      struct tls_ctx *tls); // any thread; new connections use it (certificate reload)
void listener_stop(struct listener *ln);    // any thread; stops accepting, open connections live on
void listener_free(struct listener *ln);    // after the loops have ended; NULL is allowed
// Accept failed for want of descriptors or memory: accepting pauses 100 ms (no busy loop) and this counts up. Any thread.
uint64_t listener_accept_failures(const struct listener *ln);
struct listener_stats {
    uint64_t open;     // connections now, in whatever state
    uint64_t accepted; // ever
    uint64_t refused;  // ever: not admitted, no descriptors or no memory
    uint64_t pauses;   // ever: accepting waited, for conns_max or descriptors
    uint64_t accept_failures;
    uint64_t tls_failures; // ever: handshakes that failed
};
void listener_stats(const struct listener *ln, struct listener_stats *out); // any thread
// Handshakes of a loop, added to *out. Any thread.
void loop_handshakes(const struct loop *l, struct tls_gate_stats *out);

// What the front keeps for this connection: set in on_open, given up in on_close.
void conn_set_user(struct conn *c, void *user);
// What conn_set_user set; NULL before.
void *conn_user(const struct conn *c);
struct loop *conn_loop(const struct conn *c); // the one loop all its callbacks run on
uint64_t conn_id(const struct conn *c);       // unique in this process, never 0
struct conn *conn_find(struct loop *l,
                       uint64_t id); // NULL when gone or ended; for messages that come back from other threads
// "192.0.2.1:1234", behind a listed proxy the address it names. Valid until the next call for another connection of this loop.
const char *conn_peer_addr(const struct conn *c);
bool conn_peer_is_loopback(const struct conn *c);
const struct tls_peer *conn_tls(const struct conn *c); // NULL on a plain connection
// The peer has shown who it is: lifts open_timeout_ms and in_max_before_auth, and no newer connection takes its place.
void conn_authenticated(struct conn *c);
void conn_own_times(struct conn *c); // lifts open_timeout_ms only: the front has time limits of its own for strangers

struct buf *conn_out(struct conn *c); // append here, then call conn_flush_later; never NULL, takes nothing once closing
void conn_tap(struct conn *c, bool on);            // from now on on_output sees what is written
void conn_flush_later(struct conn *c);             // written at the end of this turn
bool conn_write(struct conn *c, struct slice s);   // both in one; false when the connection is closing or overflowed
size_t conn_out_len(const struct conn *c);         // not yet taken by the kernel
void conn_pause(struct conn *c);                   // stop reading (back-pressure)
void conn_resume(struct conn *c);                  // read on; kept bytes are offered again in the next turn
void conn_close(struct conn *c, const char *text); // drains output first, then CLOSE_LOCAL with this text
void conn_abort(struct conn *c, enum close_cause cause, const char *text); // at once, output dropped

// Hands an open connection over to another front, behind a WebSocket (RFC 6455): `answer` (the 101) leaves as it is, behind what
// was written before, and from then on both directions are frames. The caller's front gets no further callback, not even
// on_close: it gives up its user data before or right after. on_open of the new one follows in the next turn, and its limits and
// its open_timeout_ms count from now. `to` must outlive the loop. Without memory the connection ends.
void conn_upgrade(struct conn *c, const struct conn_service *to, struct slice answer);

#endif
