// Outgoing HTTP, one call at a time, blocking: for the command line, the agent's enrolment and tests. libcurl behind it.
//
// HTTP/1.1 over http and https only; no redirects (a reply of 3xx is the caller's to read), compressed replies are unpacked,
// and the environment's proxy settings apply. One thread uses a client at a time; connections are reused between calls.
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

struct http_client;

// Everything is copied.
struct http_client_conf {
    const char *ca_file;   // PEM: the only CAs a server may chain to; NULL: the system's
    const char *cert_file; // PEM client certificate, with key_file; NULL: none
    const char *key_file;  // PEM
    const char *bearer; // token for "Authorization: Bearer ..."; NULL: none. Wiped by http_client_free, never logged;
                        // not sent in the clear: http:// is refused then unless the host is this machine
    const char *user_agent;      // NULL: "muster"
    uint32_t connect_timeout_ms; // 0: 10 s
    uint32_t timeout_ms;         // of a whole call; 0: none (streams)
    uint32_t idle_timeout_ms;    // no byte of a body for this long ends the call (within a second); 0: never
    size_t reply_max_bytes;      // most bytes of a gathered reply, unpacked; 0: 16 MiB
};

struct http_call {
    const char *method;         // "GET", "PATCH", ...
    const char *url;            // without user information; secrets do not belong in URLs
    const char *const *headers; // "Name: value", NULL-terminated; NULL: none
    // The body: a slice (p == NULL: no body), or, when `upload` is set, what it writes to dst (at most max bytes; 0 ends
    // the body; negative: give up, the call fails with ST_IO).
    struct slice body;
    int64_t (*upload)(void *arg, uint8_t *dst, size_t max);
    int64_t upload_len; // bytes `upload` will give; negative: unknown (chunked)
    // The reply of a success (2xx) in pieces as it arrives; false stops the call in order (reply.stopped). NULL, and for
    // every other status: gathered in reply.body.
    bool (*on_data)(void *arg, struct slice piece);
    // Asked about once a second and after every piece; false stops the call in order. May be NULL.
    bool (*go_on)(void *arg);
    void *arg;
};

struct http_reply {
    int status; // 200; 0 when none came
    struct buf body;
    bool stopped; // by on_data or go_on
};

// NULL: no memory, or a token that cannot be sent (ST_INVALID). Files are looked at when a call needs them.
struct http_client *http_client_new(const struct http_client_conf *conf, struct err *err);
void http_client_free(struct http_client *c); // NULL is allowed

// ST_OK: a reply came, whatever its status (or the caller stopped the call). ST_INVALID: bad URL, file or option. ST_IO: could
// not connect, TLS failure, broken connection. ST_TIMEOUT. ST_TOO_LARGE: the reply is over reply_max_bytes. The reply is
// initialised in every case; release it.
enum status http_client_do(struct http_client *c, const struct http_call *call, struct http_reply *ret,
                           struct err *err);
void http_reply_release(struct http_reply *r);

// A header of the last reply, any case; NULL when it was not there. Valid until the next call.
const char *http_client_header(struct http_client *c, const char *name);

#endif
