// The command line's connection to a server: where it is, whom to trust, which token; calls and event streams.
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/buf.h"
#include "base/status.h"

struct client;

struct client_conf {
    const char *url;        // --url, MUSTER_URL, https://localhost:8443
    const char *ca;         // --ca, MUSTER_CA: PEM file; NULL: the system's
    const char *token_file; // --token-file, MUSTER_TOKEN_FILE; NULL: no token
};
enum status client_open(const struct client_conf *conf, struct client **ret, struct err *err);
void client_close(struct client *c); // NULL is allowed

struct client_request {
    const char *method; // "GET"
    const char *path;   // "/api/v1/devices?limit=10"
    const char *content_type;
    struct slice body;
    int64_t if_match; // -1: none
};
struct client_reply {
    int status;
    struct buf body;
};
// ST_OK: there is a reply, whatever its status; ST_IO: the server cannot be reached (err says why). Release the body.
enum status client_call(struct client *c, const struct client_request *req, struct client_reply *ret, struct err *err);

// Server-sent events until `fn` returns false or the stream ends. Reconnects by itself and resumes after the last event.
typedef bool (*client_event_fn)(void *arg, struct slice event, struct slice data);
enum status client_events(struct client *c, const char *path, client_event_fn fn, void *arg, struct err *err);

#endif
