// libmuster: the device side of Muster in strict C11, for anything from a Linux box to a microcontroller.
//
// Life of a client:
//   1. fill struct muster_config: who the device is, its transport (muster/transport_openssl.h has one), callbacks;
//   2. muster_init() carves the client out of memory you give; nothing is allocated then or later;
//   3. muster_start(), then call muster_step() whenever the transport is ready or the time it returned has passed;
//   4. send with muster_send_telemetry(), muster_send_event(), muster_report(), ...: each message is kept until the
//      server has stored it and is sent again after a reconnect (MQTT QoS 1); on_acked() tells you so;
//   5. muster_stop(), and muster_step() until the state is MUSTER_IDLE.
//
// Threads: a client belongs to one thread at a time. Callbacks run inside muster_step() on that thread. From a callback
// every function may be called except muster_step() and muster_init().
// Memory: text given to callbacks is borrowed and valid until the callback returns. Strings in the configuration are
// borrowed until the client is no longer used; JSON given to a send function is copied.
// Errors: functions return enum muster_status; nothing is printed, nothing ends the process.
// Since: everything here is since 0.1.
#ifndef MUSTER_MUSTER_H
#define MUSTER_MUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MUSTER_VERSION "0.1.0"

enum muster_status {
    MUSTER_OK = 0,
    MUSTER_E_INVALID = -1,   // an argument is wrong: not JSON, a bad name, a missing transport function
    MUSTER_E_SMALL = -2,     // the memory given is too small: ask muster_memory_bytes()
    MUSTER_E_FULL = -3,      // the window is full: try again after on_acked()
    MUSTER_E_TOO_LARGE = -4, // it can never fit the buffers, or is larger than the server accepts
    MUSTER_E_STATE = -5,     // not possible in this state or role, or from a callback
    MUSTER_E_IO = -6,        // transport: broken
    MUSTER_E_CLOSED = -7,    // transport: the other side closed
    MUSTER_E_NOT_FOUND = -8, // there is no such member, or no value
    MUSTER_E_TYPE = -9       // the member has another type
};
// A few words in English; never NULL. Called from anywhere.
const char *muster_status_text(enum muster_status s);

// Borrowed text, not NUL-terminated. p is NULL when absent.
struct muster_text {
    const char *p;
    size_t len;
};

// ---- The transport: a byte stream to the server, yours to bring -----------------------------------------------------

// Called from muster_step() only. None of them may block.
struct muster_transport {
    void *arg; // given back to each function
    // Begins or goes on to open the stream (resolve, connect, TLS handshake). MUSTER_OK: open. MUSTER_E_STATE: not yet,
    // call again when the transport is ready. Anything else: failed; the client closes, waits and tries again later.
    enum muster_status (*open)(void *arg);
    // Up to `len` bytes. > 0: how many; 0: nothing to read (no room to write) now; MUSTER_E_CLOSED or MUSTER_E_IO: the
    // stream is over.
    ptrdiff_t (*read)(void *arg, void *dst, size_t len);
    ptrdiff_t (*write)(void *arg, const void *src, size_t len);
    // Drops the stream; open() may follow. Harmless when it is not open.
    void (*close)(void *arg);
    // Why the last open, read or write failed: one sentence, valid until the next call of any of these. May be NULL.
    const char *(*error)(void *arg);
    // Milliseconds that never go backwards.
    int64_t (*now_ms)(void *arg);
    // Fills `dst` with random bytes; they spread reconnects and are not used for secrets.
    void (*random)(void *arg, void *dst, size_t len);
};

// ---- States ---------------------------------------------------------------------------------------------------------

//         start            opened              CONNACK ok             SUBACK ok
//   IDLE ---------> OPENING ------> CONNECTING ----------> SUBSCRIBING ----------> ONLINE
//    ^               ^  |               |                       |                   |  |
//    |         retry |  +-------+-------+-----------+-----------+-------------------+  | stop
//    |               |          v failed, refused, timed out, closed                   v
//    |               +------ WAITING                                                CLOSING
//    +------------------------- stop ------------------------------ drained ----------+
//
// muster_stop() leads to IDLE from every state.
enum muster_state {
    MUSTER_IDLE,
    MUSTER_OPENING,
    MUSTER_CONNECTING,
    MUSTER_SUBSCRIBING,
    MUSTER_ONLINE,
    MUSTER_WAITING, // before the next attempt: anything between 0 and a bound that doubles (full jitter)
    MUSTER_CLOSING  // the DISCONNECT is being written
};
#define MUSTER_STATES 7
// "online"; never NULL. Called from anywhere.
const char *muster_state_text(enum muster_state s);

// ---- What the server sends ------------------------------------------------------------------------------------------

struct muster_change {
    enum muster_state from, to;
    uint8_t reason;    // reason code (MQTT 5 numbering) of the server's refusal or goodbye; 0: not the server's doing
    const char *text;  // why, in words; "" when there is nothing to say
    uint32_t retry_ms; // to MUSTER_WAITING: the pause before the next attempt
};

struct muster_desired {
    int64_t version;             // of the desired section; -1 when the server gave none
    struct muster_text desired;  // JSON object: all desired values
    struct muster_text delta;    // JSON object: those that differ from what was reported
    struct muster_text reported; // JSON object; only in the answer to muster_twin_get()
};

struct muster_command {
    struct muster_text name;
    struct muster_text id;      // goes back in muster_command_reply(); the same id again is the same command again
    struct muster_text payload; // JSON
};

// The answer to muster_provision() or muster_renew(): a certificate, or an error. The texts are raw contents of JSON
// strings: muster_json_text() unescapes them.
struct muster_provisioned {
    bool ok;
    struct muster_text device;      // the id this device now has
    struct muster_text certificate; // PEM
    struct muster_text ca;          // PEM
    struct muster_text not_after;   // RFC 3339
    struct muster_text code;        // with ok == false: "unauthenticated", "limit", ...
    struct muster_text detail;
};

// The fate of one message.
struct muster_ack {
    uint64_t cookie;
    bool stored;             // the server has it on disk; false: it refused it
    uint8_t reason;          // MQTT 5 reason code; 0 with MQTT 3.1.1
    struct muster_text text; // the server's reason in words, when it gave one
};

// Every member may be NULL. All are called from muster_step().
struct muster_callbacks {
    void (*on_state)(void *user, const struct muster_change *change);
    // Once for every message with a cookie other than 0.
    void (*on_acked)(void *user, const struct muster_ack *ack);
    // Desired values changed, or differ after a connect. Apply them, then muster_report() what is now true.
    void (*on_desired)(void *user, const struct muster_desired *desired);
    // The answer to muster_twin_get().
    void (*on_twin)(void *user, const struct muster_desired *twin);
    void (*on_command)(void *user, const struct muster_command *command);
    void (*on_provisioned)(void *user, const struct muster_provisioned *answer);
};

// ---- Setting up -----------------------------------------------------------------------------------------------------

enum muster_role {
    MUSTER_DEVICE, // an enrolled device: client certificate in the transport, or username and password
    MUSTER_CLAIM   // not yet: username "$claim", password = claim token; only muster_provision() is possible
};

struct muster_config {
    enum muster_role role;
    unsigned protocol;                 // 5 or 4 (MQTT 3.1.1); 0 means 5
    const char *client_id;             // NULL or "": the server chooses one
    const char *username;              // NULL: none
    const char *password;              // NULL: none
    uint16_t keep_alive_s;             // 0 means 60
    uint16_t window;                   // messages kept until acknowledged, at most 256; 0 means 16
    uint32_t connect_wait_ms;          // from opening until the server has answered everything; 0 means 20,000
    uint32_t retry_min_ms;             // bound of the first pause; 0 means 1,000
    uint32_t retry_max_ms;             // bound of every pause; 0 means 300,000
    size_t rx_bytes;                   // largest packet from the server; 0 means 4,096 (twins of 64 KiB: 140,000)
    size_t tx_bytes;                   // largest packet to the server, at least 256; 0 means 4,096
    size_t store_bytes;                // all messages kept until acknowledged, at least tx_bytes; 0 means 16,384
    struct muster_transport transport; // copied
    struct muster_callbacks callbacks; // copied
    void *user;                        // given back to each callback
};

struct muster;

// Bytes that muster_init() needs for this configuration, wherever the memory lies. Called from anywhere.
size_t muster_memory_bytes(const struct muster_config *config);
// Makes a client in `memory`, which must stay until the client is no longer used; there is nothing to free. Copies
// `config`. Errors: MUSTER_E_SMALL; MUSTER_E_INVALID: a transport function is missing, a size or protocol is out of range.
enum muster_status muster_init(void *memory, size_t memory_bytes, const struct muster_config *config,
                               struct muster **ret_client);
// Other names from the next connection on (after enrolment). Strings are borrowed. Drops messages that were not
// acknowledged. MUSTER_E_STATE unless idle.
enum muster_status muster_set_identity(struct muster *m, enum muster_role role, const char *client_id,
                                       const char *username, const char *password);

// Begins to connect, and keeps at it until muster_stop(). MUSTER_E_STATE unless idle.
enum muster_status muster_start(struct muster *m);
// Says goodbye to the server when connected; the state becomes MUSTER_IDLE within the next calls of muster_step().
// Messages not acknowledged are kept and sent after the next muster_start(). Safe in every state.
void muster_stop(struct muster *m);
// Does all that can be done without waiting: reads, writes, timers, callbacks. Returns the milliseconds after which it
// wants to be called again even if the transport stays silent (0: at once; at most 60,000).
uint32_t muster_step(struct muster *m);
// Bytes wait for the transport to take them: call muster_step() when it can be written to.
bool muster_wants_write(const struct muster *m);
enum muster_state muster_state(const struct muster *m);
// Messages not yet acknowledged, and how many more the window takes.
unsigned muster_pending(const struct muster *m);
unsigned muster_room(const struct muster *m);

// ---- Sending --------------------------------------------------------------------------------------------------------
//
// These copy the message into the window and return; muster_step() sends it. Allowed in every state. Common errors:
// MUSTER_E_FULL, MUSTER_E_TOO_LARGE, MUSTER_E_INVALID (payload is not JSON, name not allowed), MUSTER_E_STATE (not in
// this role). `cookie` comes back in on_acked(); 0 asks for no call.

// One telemetry message, built by hand or with the builder below. `repeat`: an earlier run of the program may have sent it
// already (sets DUP, so that the server drops points it has; such a message needs an explicit time).
enum muster_status muster_send_telemetry(struct muster *m, const char *json, size_t len, bool repeat, uint64_t cookie);
// name: 1 to 64 of [A-Za-z0-9._-].
enum muster_status muster_send_event(struct muster *m, const char *name, const char *json, size_t len, uint64_t cookie);
// A JSON object merged into the reported values (RFC 7396: null deletes).
enum muster_status muster_report(struct muster *m, const char *json, size_t len, uint64_t cookie);
// Asks for the whole twin: on_twin() answers.
enum muster_status muster_twin_get(struct muster *m);
// `id` as it came in struct muster_command. The result as JSON; by convention {"error": {"code", "detail"}} when the
// command failed.
enum muster_status muster_command_reply(struct muster *m, struct muster_text id, const char *json, size_t len,
                                        uint64_t cookie);
// Role MUSTER_CLAIM: asks for a certificate. csr: PEM. device: the id wanted, or NULL. extra: a JSON object whose members
// are added ({"model": ..., "keys": {...}}), or NULL. on_provisioned() answers.
enum muster_status muster_provision(struct muster *m, const char *csr_pem, const char *device, const char *extra_json);
// Role MUSTER_DEVICE: asks for a new certificate for this device. on_provisioned() answers.
enum muster_status muster_renew(struct muster *m, const char *csr_pem);

// ---- Telemetry builder ----------------------------------------------------------------------------------------------

#define MUSTER_NO_TIME INT64_MIN // the server sets the time

// Builds {"ts":...,"values":{...}} in your memory. Failure is sticky: check muster_telemetry_end() only.
struct muster_telemetry {
    char *json; // what was built: `len` bytes, not NUL-terminated
    size_t len;
    size_t cap;
    unsigned values;
    bool failed;
};
// time_ms: milliseconds since 1970, or MUSTER_NO_TIME. `memory` is borrowed until the message was sent.
void muster_telemetry_begin(struct muster_telemetry *t, void *memory, size_t memory_bytes, int64_t time_ms);
// A value that is not finite is left out: JSON has no way to say it.
void muster_telemetry_add_double(struct muster_telemetry *t, const char *metric, double value);
void muster_telemetry_add_int(struct muster_telemetry *t, const char *metric, int64_t value);
void muster_telemetry_add_bool(struct muster_telemetry *t, const char *metric, bool value);
void muster_telemetry_add_str(struct muster_telemetry *t, const char *metric, const char *value);
// Closes the object. MUSTER_E_TOO_LARGE: it did not fit; MUSTER_E_NOT_FOUND: there was no value.
enum muster_status muster_telemetry_end(struct muster_telemetry *t);

// ---- Reading JSON ---------------------------------------------------------------------------------------------------
//
// path: member names with '/' between ("agent/interval_s"); "" is the whole value. Errors: MUSTER_E_NOT_FOUND,
// MUSTER_E_TYPE, and MUSTER_E_INVALID when the text is not JSON as far as it had to be read. Outputs are untouched on
// error. Called from anywhere.

// The text of a value, whatever it is.
enum muster_status muster_json_raw(struct muster_text json, const char *path, struct muster_text *ret_value);
// An integer that fits 64 bits.
enum muster_status muster_json_int(struct muster_text json, const char *path, int64_t *ret_value);
// Any number.
enum muster_status muster_json_double(struct muster_text json, const char *path, double *ret_value);
// true or false.
enum muster_status muster_json_bool(struct muster_text json, const char *path, bool *ret_value);
// Unescaped and NUL-terminated into dst. MUSTER_E_TOO_LARGE: it does not fit; MUSTER_E_INVALID: it contains NUL.
enum muster_status muster_json_str(struct muster_text json, const char *path, char *dst, size_t dst_bytes);
// The same for the raw contents of a string (struct muster_provisioned).
enum muster_status muster_json_text(struct muster_text raw, char *dst, size_t dst_bytes);

#ifdef __cplusplus
}
#endif

#endif
