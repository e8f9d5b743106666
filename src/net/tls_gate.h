// How many handshakes run at once on a loop. A handshake costs half a millisecond of CPU and 40 KB until it is over; when
// thousands of devices come back together, those that are let in finish quickly, and the others wait, unread, in order, those
// that resume a session first. Between two turns only a few start, so that open connections are served meanwhile.
//
//   OUT --enter--> SEATED --leave (finished, failed, gone)--> OUT
//     \__enter__> WAITING --turn--> SEATED --too slow--> LATE --leave, or expired--> OUT
//
// A seat is for handshakes that move: one that has taken GATE_SLOW_MS while others wait gives it up (LATE), and when there are
// GATE_LATE_FACTOR times as many of those as seats, the oldest is expired. So a stranger who starts handshakes and ends none
// delays others by moments and costs bounded memory.
//
// Loop thread, except tls_gate_stats.
#ifndef NET_TLS_GATE_H
#define NET_TLS_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define GATE_SLOW_MS     1000
#define GATE_LATE_FACTOR 4
#define GATE_TURN_STARTS 16 // most handshakes that start in one turn

struct tls_queue;
struct tls_seat {
    struct tls_seat *next, *prev;
    struct tls_queue *in; // NULL: OUT
    int64_t since_ms;     // in this queue
    void *arg;
};
struct tls_queue {
    struct tls_seat *first, *last;
    unsigned len;
};
struct tls_gate {
    struct tls_queue resuming, fresh, seated, late;
    unsigned max, starts;
    void (*start)(void *arg);  // of a seat that had to wait
    void (*expire)(void *arg); // must make the seat leave
    _Atomic uint32_t running, waiting;
    _Atomic uint64_t waited, expired;
};

// start: a handshake's turn has come; expire: it must leave.
void tls_gate_init(struct tls_gate *g, void (*start)(void *arg), void (*expire)(void *arg));
// True: go ahead. False: wait for `start`. max: seats, at least 1; the last one given counts.
bool tls_gate_enter(struct tls_gate *g, struct tls_seat *s, unsigned max, bool resumes, int64_t now_ms);
void tls_gate_leave(struct tls_gate *g, struct tls_seat *s); // also when it never entered
// Once a turn. True: somebody waits and could be let in in the next turn.
bool tls_gate_turn(struct tls_gate *g, int64_t now_ms);
// When tls_gate_turn must come at the latest, in ms from now; -1: nobody waits.
int64_t tls_gate_due_ms(const struct tls_gate *g, int64_t now_ms);

struct tls_gate_stats {
    uint32_t running, waiting; // now
    uint64_t waited, expired;  // ever
};
void tls_gate_stats(const struct tls_gate *g, struct tls_gate_stats *out); // any thread; adds to *out

#endif
