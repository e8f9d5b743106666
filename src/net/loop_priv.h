// What the files of this folder know of a loop; nobody else includes it.
//
// Descriptors are watched with epoll(7) directly, level-triggered: what a connection costs is 16 bytes (struct watch) and one
// system call when it begins and one when it ends. libuv, whose handle for a connection is 248 bytes, stands beside it for what
// is rare and intricate (signals) and hangs in the same poll with the one descriptor it has for that.
//
//   poll: posts, accepts, reads, room for writes -> timers -> [turn end] -> poll
//
//   turn end: kept input of resumed connections -> hooks in order -> output flushed -> dead connections reaped and freed
//
// A turn end makes one pass, whatever happens in it; work it leaves behind makes the next poll return at once, so that a busy
// connection cannot hold up the others.
#ifndef NET_LOOP_PRIV_H
#define NET_LOOP_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/buf.h"
#include "base/map.h"
#include "net/addr.h"
#include "net/loop.h"
#include "net/tls_gate.h"

struct acceptor;
struct listener;

// A descriptor in the loop's poll; stands in what owns it, which must not be freed before the end of the turn in which it is
// taken out: the poll may have handed it over already. `fn` gets what epoll says, also after loop_unwatch in the same turn.
struct watch {
    void (*fn)(struct watch *w, uint32_t events);
    int fd;
    uint32_t events; // what is waited for (EPOLLIN, EPOLLOUT); 0: not in the poll at all
};

struct loop_signal {
    uv_signal_t handle;
    struct loop *loop;
    void (*fn)(void *arg, int signum);
    void *arg;
};

// The connections of one loop; conn.c owns it.
struct conns {
    struct map by_id;     // id -> struct conn, from accept to the reaper
    struct conn *flush;   // output to be written at the end of this turn
    struct conn *resume;  // kept input to be offered again at the end of this turn
    struct conn *dead;    // to be told (on_close) and closed at the end of this turn
    struct buf raw;       // every read of the loop lands here
    struct buf plain;     // and every decrypted record here
    struct buf payload;   // and what was in WebSocket frames here
    bool ready;           // the three have their memory
    struct buf sink;      // what a closing connection's output goes to: takes nothing
    struct tls_gate gate; // handshakes that run, and those that wait
    struct timer gate_due;
    bool gate_more;                          // handshakes wait that can start in the next turn
    struct conn *strangers, *strangers_last; // not authenticated, oldest first
    char peer[ADDR_TEXT_MAX];                // what conn_peer_addr returned last
};

struct loop {
    int epoll_fd;
    struct watch wake; // of an eventfd: written to make the poll return
    int64_t now_ms;    // monotonic, as of the last poll
    char name[16];
    pthread_t thread;
    bool started;                 // thread is to be joined
    bool ended;                   // nothing is watched any more but `wake`
    bool ending;                  // no new connections, no new listeners
    bool dirty;                   // something ran since the last turn end
    _Atomic uintptr_t runner;     // pthread_self of the thread inside loop_run, 0 outside
    _Atomic bool stop;            // loop_stop was called
    _Atomic bool sleeps;          // or is about to: whoever posts must wake it
    _Atomic(struct post *) posts; // newest first
    struct turn_hook *hooks, **hooks_tail;
    struct timer *timers; // root of the pairing heap
    uint64_t timer_seq;
    uv_loop_t *uv; // NULL until a signal is asked for
    struct watch uv_watch;
    struct loop_signal signals[LOOP_SIGNALS_MAX];
    unsigned signals_len;
    struct conns conns;
    struct acceptor *acceptors;
};

static inline void loop_touch(struct loop *l)
{
    l->dirty = true;
}

// loop.c
// Waits for other events than before; the first call puts the descriptor into the poll. False, with errno: the kernel refused.
bool loop_watch(struct loop *l, struct watch *w, uint32_t events);
void loop_unwatch(struct loop *l, struct watch *w); // no effect when it is not watched

// timer.c
int timers_wait_ms(const struct loop *l); // until the earliest is due; -1: there is none
void timers_run(struct loop *l);          // fires what is due
void timers_forget(struct loop *l);       // disarms all of them without firing

// conn.c
void conns_init(struct loop *l);
bool conns_resume(struct loop *l); // offers kept input again; true when there was any
void conns_flush(struct loop *l);
void conns_reap(struct loop *l);
bool conns_left(const struct loop *l); // work for the next turn
void conns_shutdown(struct loop *l);   // every connection ends with CLOSE_SHUTDOWN
void conns_release(struct loop *l);
// The oldest, of this listener unless that is NULL; false: there is none.
bool conns_drop_stranger(struct loop *l, const struct listener *of);

// listener.c
void acceptors_close(struct loop *l);

#endif
