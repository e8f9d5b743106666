// What the files of this folder know of a loop; nobody else includes it.
//
// One turn of a loop, and why there are two hooks: libuv runs timers before it polls and everything else while it polls,
// so the end of a turn is reached both right before a poll (uv_prepare) and right after it (uv_check). Each end makes one
// pass, whatever happens in it; work it leaves behind makes the next poll return at once (uv_idle), so that a busy
// connection cannot hold up the others.
//
//   timers -> [turn end] -> poll: posts, accepts, reads, writes done -> [turn end] -> closed handles are freed
//
//   turn end: kept input of resumed connections -> hooks in order -> output flushed -> dead connections reaped
#ifndef NET_LOOP_PRIV_H
#define NET_LOOP_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/buf.h"
#include "base/map.h"
#include "net/loop.h"
#include "net/tls_gate.h"

struct acceptor;

struct loop_signal {
    uv_signal_t handle;
    struct loop *loop;
    void (*fn)(void *arg, int signum);
    void *arg;
};

// The connections of one loop; conn.c owns it.
struct conns {
    struct map by_id;     // id -> struct conn, from accept to the uv close callback
    struct conn *flush;   // output to be written at the end of this turn
    struct conn *resume;  // kept input to be offered again at the end of this turn
    struct conn *dead;    // to be told (on_close) and closed at the end of this turn
    struct buf raw;       // every read of the loop lands here
    struct buf plain;     // and every decrypted record here
    bool ready;           // raw and plain have their memory
    struct tls_gate gate; // handshakes that run, and those that wait
    struct timer gate_due;
    bool gate_more;  // handshakes wait that can start in the next turn
    struct buf sink; // what a closing connection's output goes to: takes nothing
};

struct loop {
    uv_loop_t uv;
    uv_poll_t wake; // of wake_fd
    int wake_fd;    // eventfd: written to make the poll return
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;  // active while a turn left work behind
    uv_timer_t tick; // the one timer libuv sees: due at the top of the heap
    char name[16];
    pthread_t thread;
    bool started;                 // thread is to be joined
    bool ended;                   // all handles but `wake` are closed
    bool ending;                  // no new connections, no new listeners
    bool dirty;                   // something ran since the last turn end
    _Atomic uintptr_t runner;     // pthread_self of the thread inside loop_run, 0 outside
    _Atomic bool stop;            // loop_stop was called
    _Atomic(struct post *) posts; // newest first
    struct turn_hook *hooks, **hooks_tail;
    struct timer *timers; // root of the pairing heap
    uint64_t timer_seq;
    int64_t tick_due_ms; // what `tick` is armed for, -1: not armed
    struct loop_signal signals[LOOP_SIGNALS_MAX];
    unsigned signals_len;
    struct conns conns;
    struct acceptor *acceptors;
};

static inline void loop_touch(struct loop *l)
{
    l->dirty = true;
}

// timer.c
void timers_tick(struct loop *l);   // arms `tick` for the earliest timer
void timers_run(uv_timer_t *tick);  // fires what is due
void timers_forget(struct loop *l); // disarms all of them without firing

// conn.c
void conns_init(struct loop *l);
bool conns_resume(struct loop *l); // offers kept input again; true when there was any
void conns_flush(struct loop *l);
void conns_reap(struct loop *l);
bool conns_left(const struct loop *l); // work for the next turn
void conns_shutdown(struct loop *l);   // every connection ends with CLOSE_SHUTDOWN
void conns_release(struct loop *l);

// listener.c
void acceptors_close(struct loop *l);

#endif
