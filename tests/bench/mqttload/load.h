// A load of MQTT clients in one thread: publishers, subscribers, connects, idle connections.
//
// It is used against Muster and against other brokers alike, so it speaks MQTT by hand and knows nothing of a server's code.
//
// One run:
//
//   CONNECTING --all are up--> RUNNING --all sent, all acknowledged--> DRAINING --all deliveries came--> OVER
//        |                       | ^ |                                    \--nothing came for --drain--> OVER
//        |                       | | \--QoS 0: all sent--> BARRIER --every publisher's PINGRESP--> DRAINING
//        |                       | \--reconnect: a run begins at once
//        \--connect-only--> OVER \--time is up, a signal, nobody left--> OVER
//
// Figures count from RUNNING on: processor time of the server (--server-pid), wall time, latencies.
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "histogram.h"

enum {
    WINDOW_MAX = 1024,
    PAYLOAD_MAX = 65536,
    SCRATCH_BYTES = 256 * 1024, // what one client may read or write in one turn
    FLOOD_BYTES = 16 * 1024,    // what a QoS 0 publisher writes at a time
    NAME_MAX_BYTES = 256,       // client id, user name, password, topic
};

struct options {
    const char *host, *port, *topic, *filter;
    const char *prefix, *id, *user, *password, *users; // who the clients are
    const char *ca, *cert, *key, *certs, *tls_version; // TLS
    const char *ledger;
    unsigned clients, subscribers, copies, sources;
    unsigned window, payload, qos, sub_qos, burst;
    unsigned server_pid;
    uint64_t messages, cycles;
    double seconds, rate, drain;
    bool tls, seq, stamp, reconnect, connect_only, resume, hold, mqtt5, persistent;
};

enum client_state {
    CLIENT_IDLE,
    CLIENT_CONNECTING, // TCP
    CLIENT_HANDSHAKE,  // TLS
    CLIENT_CONNACK,    // CONNECT is sent
    CLIENT_SUBACK,     // SUBSCRIBE is sent
    CLIENT_OPEN,
    CLIENT_DEAD, // will not connect again
    CLIENT_STATES
};

// A message that is not acknowledged yet; its packet id is its place in the window plus one.
struct slot {
    uint64_t seq;
    int64_t sent_ns; // 0: free
};

struct bytes {
    uint8_t *p;
    size_t len, size;
};

struct client {
    int fd;
    unsigned index; // among its kind, the %c of patterns
    bool subscriber;
    enum client_state state;
    bool pinged, met; // met: it has been connected before
    uint32_t events;
    SSL *ssl;
    SSL_SESSION *session;
    X509 *cert;
    EVP_PKEY *cert_key;
    struct bytes rest, pending; // input that is not a whole packet yet, output the kernel did not take
    struct slot *slots;
    unsigned in_flight, next_slot;
    uint64_t seq; // of the next message
    int64_t start_ns, retry_ns;
    char *id, *user, *password; // user, password: NULL for none
    uint8_t *packet;            // the PUBLISH, complete but for what changes
    size_t packet_len, id_at, payload_at;
};

enum phase { PHASE_CONNECTING, PHASE_RUNNING, PHASE_BARRIER, PHASE_DRAINING, PHASE_OVER };

struct load {
    struct options opt;
    struct client *clients; // subscribers first
    unsigned total;
    unsigned counts[CLIENT_STATES];
    unsigned subscribers_open;
    bool publishing; // there are publishers and they publish
    enum phase phase;
    int epoll;
    SSL_CTX *tls;
    struct sockaddr_storage address;
    socklen_t address_len;
    FILE *ledger;
    uint8_t *in;            // what was read, of the client being served
    struct bytes out;       // what the client being served is about to send
    unsigned up_next, turn; // whose turn it is to connect, to publish
    double owed;            // messages --rate allows that were not sent yet
    uint64_t sent, acked, received, connects, resumed, refused, lost, pongs;
    uint64_t connects_begin, resumed_begin;
    int64_t start_ns, begin_ns, end_ns, up_ns, last_tick_ns, progress_ns, down_ns;
    double server_cpu_begin, server_cpu_end;
    struct histogram ack, delivery, connect;
};

// options.c: fills in `opt`; ends the process with a message and 2 when something is wrong.
void options_parse(int argc, char **argv, struct options *opt);

// names.c: who each client is and what it publishes. Ends the process when a file or pattern is wrong.
void names_give(struct load *l);
// %c in `pattern` becomes `index`, %5c with leading zeros. False: does not fit.
bool names_expand(const char *pattern, unsigned index, char *dst, size_t size);

// client.c: connections.
int64_t load_now_ns(void);
void client_start(struct load *l, struct client *c);
// What epoll said about it.
void client_serve(struct load *l, struct client *c, uint32_t events);
// Sends what is in l->out, keeps for later what the kernel does not take. False: the connection is gone.
bool client_flush(struct load *l, struct client *c);
// The connection ended without being asked to: counted, and tried again with --reconnect.
void client_drop(struct load *l, struct client *c);
// Ends it in order; it connects again while --cycles asks for it.
void client_cycle(struct load *l, struct client *c);
void client_enter(struct load *l, struct client *c, enum client_state state);

// packets.c: what is said on them. All append to l->out.
void packets_connect(struct load *l, struct client *c);
void packets_ping(struct load *l, struct client *c);
// Handles the whole packets of `in` and returns how many bytes they were.
size_t packets_take(struct load *l, struct client *c, const uint8_t *in, size_t len);
// As many messages as the window, `budget` and the turn allow, and sends them; returns how many.
uint64_t packets_publish(struct load *l, struct client *c, uint64_t budget);

// tls.c. Both end the process when a file is wrong.
void tls_setup(struct load *l);
void tls_certificate(struct load *l, struct client *c);
// The session of a connection that is up. False: no memory.
bool tls_attach(struct load *l, struct client *c);
// The newest session, for --resume.
void tls_keep_session(struct client *c);

// figures.c
// Processor seconds the server has used so far; 0 without --server-pid.
double figures_server_cpu(const struct load *l);
void figures_print(struct load *l);

// Every copy of a message the subscribers have to get has come.
bool load_delivered(const struct load *l);

// bytes.c-like helpers, small enough to stand here. Abort when there is no memory: this is a tool.
void bytes_put(struct bytes *b, const void *p, size_t len);
void bytes_clear(struct bytes *b);

#endif
