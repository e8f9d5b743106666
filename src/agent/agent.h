// The agent: one thread, one poll loop, one connection.
//
// Each turn of the loop: step the MQTT client (callbacks only note what happened), then do what is due: dial again, ask for a
// certificate, sample, append to the queue, forward from the queue, report, renew.
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "agent/enroll.h"
#include "agent/health.h"
#include "agent/keys.h"
#include "agent/options.h"
#include "agent/queue.h"
#include "agent/settings.h"
#include "agent/statedir.h"
#include "muster/transport_openssl.h"

#define AGENT_CLAIM_MAX   256
#define AGENT_SCRATCH     20480u  // one message or one certificate
#define AGENT_RX_BYTES    196608u // desired and delta of 64 KiB each, and room
#define AGENT_TX_BYTES    20480u
#define AGENT_STORE_BYTES 65536u
#define AGENT_WINDOW      16

struct agent {
    const struct options *options;
    const char *root; // "" or a folder of fixtures
    struct statedir dir;
    struct keys keys;
    struct enroll enroll;
    struct settings defaults, settings;
    struct queue *queue;
    struct health health;
    struct muster_openssl *transport;
    struct muster *client;
    void *client_memory;
    char claim[AGENT_CLAIM_MAX];

    bool stop;          // a signal, or --once is done
    bool redial;        // stop the client, then dial with what enrolment says
    bool online;        // as of the last on_state
    bool asked;         // for a certificate, on this connection
    bool report_due;    // facts and settings must be reported
    bool report_flying; // and are on their way
    bool twin_due;      // the whole twin must be asked for: what was taken back while we were away is in no delta
    bool rewind;        // a message was refused for the time being: send again from the first one
    bool sampled;
    enum muster_state trimmed; // in which state memory was given back last
    unsigned try_refusals;     // of a renewed certificate
    unsigned flying;           // telemetry messages in the client's window
    unsigned enroll_failures;
    uint32_t settings_crc;                // of settings.json
    uint32_t reported_crc, reporting_crc; // of the report the server has, and of the one on its way
    int64_t next_sample_ms, next_renew_ms, forward_after_ms, dial_after_ms, asked_ms, dirty_ms, online_ms;
    uint8_t scratch[AGENT_SCRATCH];
};

// Everything in its place, not yet connected. ST_INVALID, ST_UNAUTHENTICATED: a mistake of the caller (exit 2).
enum status agent_open(struct agent *a, const struct options *o, const char *root, struct err *err);
// Runs until SIGTERM or SIGINT arrives on signal_fd (a signalfd), or --once is done.
enum status agent_run(struct agent *a, int signal_fd, struct err *err);
void agent_close(struct agent *a);

// agent_link.c: the connection and what comes over it.
extern const struct muster_callbacks agent_callbacks;
enum status agent_dial(struct agent *a, struct err *err);
void agent_ask(struct agent *a, int64_t now_ms);   // for a certificate, when one is wanted
void agent_renew(struct agent *a, int64_t now_ms); // begins a renewal when it is due
// agent_send.c: what goes out.
void agent_sample(struct agent *a, int64_t now_ms);
void agent_forward(struct agent *a, int64_t now_ms);
void agent_sync(struct agent *a, int64_t now_ms);
void agent_report(struct agent *a, int64_t now_ms);
void agent_acked(void *agent, const struct muster_ack *ack);
void agent_desired(void *agent, const struct muster_desired *desired);
void agent_command(void *agent, const struct muster_command *command);
// memory.c: gives back what only the start and the TLS handshake needed.
void agent_trim_memory(void);

int64_t agent_now_ms(void); // monotonic
uint32_t agent_jitter(uint32_t bound);

#endif
