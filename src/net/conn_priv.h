// A connection from the inside. conn.c: states, birth and death; conn_in.c: from the socket to the front; conn_out.c: back.
//
//            known              TLS                  peer or front                  output sent
//   PROXY ----------> HANDSHAKE ---> OPEN -------------> CLOSING ---------------> LINGER
//     | \_____plain___________/       |                     |  (on_close is told)    |
//     |                |              |  abort              |  abort, or the peer    |  peer ended,
//     | no header      |  failed:     |                     |  has ended             |  1 s, 256 KiB
//     |                |  CLOSING, so |                     |                        |
//     v                v  the alert   v                     v                        v
//   DEAD <-------------   is sent    <----------------------------------------------
//     |  reaper: on_close unless told, freed
//
// PROXY is the state of a connection whose peer is not known yet; without a proxy it is left at once. Who makes the transitions:
// conn_set_state checks them all against one table. Callbacks of the front only ever mark (CLOSING, DEAD); what follows happens
// at the end of the turn.
//
//   in:  socket -> [PROXY header] -> [TLS: kept -> session] -> [WebSocket: kept -> frames] -> in -> on_data
//   out: conn_out -> out -> [WebSocket: framed] -> [TLS: session -> wire] -> socket
#ifndef NET_CONN_PRIV_H
#define NET_CONN_PRIV_H

#include <sys/socket.h>

#include "net/addr.h"
#include "net/admission.h"
#include "net/conn.h"
#include "net/loop_priv.h"
#include "net/tls_priv.h"
#include "proto/ws.h"

#define READ_BYTES     65536 // most bytes of one read; the loop's one buffer for all connections
#define RECORD_BYTES   16384 // most plaintext offered, and encrypted, at once
#define JOIN_BYTES     4096  // kept input up to this is put in front of the next read; more is appended to
#define WIRE_BYTES     65536 // frames and ciphertext made ahead of the kernel's taking them
#define WIRE_BYTES_MAX 163840

enum conn_state { CONN_PROXY, CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSING, CONN_LINGER, CONN_DEAD, CONN__COUNT };

// Bytes on their way out: appended behind, taken in front. What is taken is moved away only when it is half of all, so that a long
// output to a slow reader is not moved again and again.
struct outq {
    struct buf buf;
    size_t taken;
};

// What only a TLS connection needs.
struct conn_tls {
    struct tls_conn
        *session; // NULL until the whole ClientHello is there and it is its turn: a silent stranger costs little
    struct tls_seat seat; // during the handshake
    bool ready;           // the handshake is over: plaintext may be written
    struct outq wire;     // ciphertext to send
    struct buf kept;      // ciphertext read but not decrypted: the first record's beginning, or the front paused
};

// What only a connection behind a WebSocket needs.
struct conn_ws {
    struct ws in;
    struct outq framed; // to send: what was written before the upgrade, then frames
    struct buf kept;    // read but not taken apart: the front paused
    enum ws_event end;  // the end of the frames has come while it did; WS_ALL: it has not
    bool close_sent;
};

struct conn {
    struct watch watch;
    uint32_t lingered_bytes;
    enum conn_state state : 8;
    enum close_cause cause : 8;
    bool paused : 1;
    bool unheard : 1; // paused, and something has come
    bool blocked : 1; // the kernel takes no more output at the moment
    bool authenticated : 1;
    bool own_times : 1; // conn_own_times was called
    bool opened : 1;    // on_open was called with success: on_close is owed
    bool told : 1;      // on_close was called
    bool over_high : 1; // on_drain is owed
    bool eof : 1;       // the peer has ended its side
    bool spoke : 1;     // it has sent something
    bool upgrading : 1; // conn_upgrade was called, the new front does not know yet
    bool in_flush : 1;
    bool in_resume : 1;
    bool stranger : 1;       // in the loop's list of those that are not authenticated
    bool counted : 1;        // by admission
    bool tapped : 1;         // conn_tap
    uint32_t tap_seen_bytes; // of `out`, that on_output has seen
    struct loop *loop;
    struct listener *listener;
    const struct conn_service *service; // what is spoken: of the listener, or of conn_upgrade
    uint64_t id;
    void *user;
    struct timer timer;   // by state: open_timeout, answer, drain or linger time
    struct buf in;        // kept unconsumed; the beginning of a PROXY header
    struct outq out;      // to send, as the front wrote it
    struct conn_tls *tls; // NULL: plain
    struct conn_ws *ws;   // NULL: no WebSocket
    struct conn *next_flush, *next_resume, *next_dead;
    struct conn *stranger_next, *stranger_prev;
    char *why; // close reason in words, malloc'ed; NULL: none
    struct addr peer;
};

// ---- conn.c ----
// Takes the accepted socket, whatever happens; the listener has counted it already.
void conn_accept(struct loop *l, struct listener *ln, int fd, const struct sockaddr_storage *peer);
void conn_set_state(struct conn *c, enum conn_state to);
void conn_start_closing(struct conn *c, enum close_cause cause,
                        const char *text); // output drains until the timer ends it
void conn_tell_closed(struct conn *c);     // on_close, once
void conn_peer_known(struct conn *c);      // from PROXY on; `peer` is true
void conn_opened(struct conn *c);          // on_open of what was chosen
void conn_listen(struct conn *c);          // waits for input and for room to write, as far as the state allows
void outq_take(struct outq *q, size_t n, size_t max); // `max`: what may wait in it
static inline struct slice outq_view(const struct outq *q)
{
    return slice_from(buf_view(&q->buf), q->taken);
}
static inline size_t outq_len(const struct outq *q)
{
    return q->buf.len - q->taken;
}
static inline size_t conn_in_limit(const struct conn *c)
{
    return c->authenticated ? c->service->in_max : c->service->in_max_before_auth;
}

// ---- conn_in.c ----
void conn_readable(struct conn *c);
void conn_resume_one(struct conn *c); // offers what was kept
void conn_pump_kept(struct conn *c);  // decrypts what was kept, as far as it goes

// ---- conn_tls.c ----
void conn_tls_hello(struct conn *c, struct slice cipher); // the first bytes, until the session starts
void conn_tls_failed(struct conn *c, const char *text);   // counts and tells; text NULL: what TLS itself says
void conns_tls_init(struct loop *l);
void conns_tls_turn(struct loop *l); // lets waiting handshakes in

// ---- conn_out.c ----
void conn_flush_one(struct conn *c);

// ---- listener.c ----
const struct listen_conf *listener_conf(const struct listener *ln);
const struct conn_service *listener_service(const struct listener *ln, struct slice alpn); // the one for this name
bool listener_is_tls(const struct listener *ln);
struct tls_ctx *listener_tls(struct listener *ln); // a reference of the caller's, NULL: plain
void listener_conn_gone(struct listener *ln);
void listener_conn_refused(struct listener *ln);
bool listener_bans(struct listener *ln, const struct addr *peer); // counted and said when it does
void listener_tls_failed(struct listener *ln);
// A log line about a connection that is not let in or thrown out, of each kind every ten seconds at most: strangers decide how
// often it happens.
enum say {
    SAY_FULL,
    SAY_DESCRIPTORS,
    SAY_SOURCE,
    SAY_CROWDED,
    SAY_PROXY,
    SAY_BANNED,
    SAY_RATE,
    SAY_HANDSHAKES,
    SAY__COUNT
};
void listener_say(struct listener *ln, enum say what, const char *peer, const char *why);

#endif
