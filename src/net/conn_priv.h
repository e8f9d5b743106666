// A connection from the inside, for conn.c and listener.c.
//
//            TLS                  peer or front                  output sent
//   [accept] ---> HANDSHAKE ---> OPEN -------------> CLOSING ---------------> LINGER
//        \___plain___________/    |                     |  (on_close is told)    |
//              |                  |  abort              |  abort, or the peer    |  peer ended,
//              |  failed: CLOSING,|                     |  has ended             |  1 s, 256 KiB
//              |  so the alert    v                     v                        v
//              |  is sent       DEAD <----------------------------------------------
//              |________________/ |  reaper: on_close unless told, handle closed
//                                 v
//                               GONE: freed in libuv's close callback
//
// Who makes the transitions: conn_set_state checks them all against one table. Callbacks of the front only ever mark (CLOSING,
// DEAD); what follows happens at the end of the turn.
#ifndef NET_CONN_PRIV_H
#define NET_CONN_PRIV_H

#include <sys/socket.h>

#include "net/conn.h"
#include "net/loop_priv.h"
#include "net/tls_priv.h"

enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSING, CONN_LINGER, CONN_DEAD, CONN_GONE, CONN__COUNT };

// A write the kernel did not take at once; owns its bytes until libuv is done with them.
struct conn_write {
    uv_write_t req;
    struct buf data;
};

// What only a TLS connection needs.
struct conn_tls {
    struct tls_conn *session; // NULL until the whole ClientHello is there: a silent stranger costs next to nothing
    struct buf wire;          // ciphertext to send
    struct buf kept;          // ciphertext read but not decrypted: the first record's beginning, or the front paused
};

#define CONN_PEER_MAX 64

struct conn {
    uv_tcp_t tcp;
    struct timer timer; // by state: open_timeout, answer, drain or linger time
    struct loop *loop;
    struct listener *listener;
    const struct conn_service *service; // what is spoken: of the listener, or of conn_upgrade
    uint64_t id;
    void *user;
    enum conn_state state;
    bool paused;
    bool reading;
    bool authenticated;
    bool opened;    // on_open was called with success: on_close is owed
    bool told;      // on_close was called
    bool over_high; // on_drain is owed
    bool eof;       // the peer has ended its side
    bool in_flush;
    bool in_resume;
    uint32_t lingered_bytes;
    uint64_t in_total_bytes;
    struct buf in;              // kept unconsumed, plaintext
    struct buf out;             // to send, plaintext
    struct conn_write *writing; // NULL: none
    struct conn_tls *tls;       // NULL: plain
    struct conn *next_flush, *next_resume, *next_dead;
    enum close_cause cause;
    char *why; // close reason in words, malloc'ed; NULL: none
    char peer[CONN_PEER_MAX];
    bool peer_is_loopback;
};

// Takes the accepted socket, whatever happens; the listener has counted it already.
void conn_accept(struct loop *l, struct listener *ln, int fd, const struct sockaddr_storage *peer);

// listener.c
const struct listen_conf *listener_conf(const struct listener *ln);
const struct conn_service *listener_service(const struct listener *ln, struct slice alpn); // the one for this name
bool listener_is_tls(const struct listener *ln);
struct tls_ctx *listener_tls(struct listener *ln); // a reference of the caller's, NULL: plain
void listener_conn_gone(struct listener *ln);
void listener_conn_refused(struct listener *ln);
void listener_tls_failed(struct listener *ln);

#endif
