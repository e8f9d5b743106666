// Inside of the HTTP front: one connection (http_conn.c), one request on it (http_req.c), its way through the core
// (http_run.c) and what remains of it when it becomes an event stream (http_stream.c).
//
// A connection has at most one request at a time: parsing pauses until it is answered, so pipelined requests are answered in
// order and cost nothing while they wait. A request whose operation is on another thread outlives its connection.
//
//           first byte        head complete       body complete       answered
//     IDLE ------------> HEAD -------------> BODY -------------> RUN -------------> IDLE or CLOSING
//                          |                  ^                   |
//                          +----> GATE -------+                   +----> STREAM ---> CLOSING
//                          a stranger's large body: token first   |
//                                                                 +----> DRAIN ----> CLOSING
//                                                                 the last reply is long: until it is taken
//                          a WebSocket is asked for              +----> UPGRADED: another front has the connection
//     IDLE, HEAD, GATE, BODY, RUN ----> LINGER ----> CLOSING
//     refused with input unread: the reply is sent, input is thrown away until the peer ends or 2 s have passed
#ifndef FRONT_HTTP_HTTP_PRIV_H
#define FRONT_HTTP_HTTP_PRIV_H

#include <http_parser.h>
#include <stdatomic.h>

#include "base/rate.h"
#include "front/http/http_front.h"
#include "front/http/reply.h"
#include "front/http/route.h"

#define HTTP_GATE_BYTES    (8u << 10) // a stranger's body above this waits for the token to be checked
#define HTTP_AUTH_MAX      512        // longest Authorization value that can be right
#define HTTP_ARENA_MAX     (4u << 20) // memory of one request beside body and reply
#define HTTP_DISCARD_MAX   (1u << 20) // body bytes read and thrown away to keep a connection
#define HTTP_BODY_RATE     1024       // bytes a second a body must come with, after HTTP_BODY_GRACE_MS
#define HTTP_BODY_GRACE_MS 10000
#define HTTP_GZIP_IO_MAX   (64u << 10) // compressed on the I/O thread only up to this; readers compress everything

struct http_front {
    struct http_front_conf conf;
    struct rate *wrong_tokens; // of each source address
    _Atomic uint32_t streams;
};

enum http_state {
    HS_IDLE,
    HS_HEAD,
    HS_GATE,
    HS_BODY,
    HS_RUN,
    HS_STREAM,
    HS_DRAIN,
    HS_LINGER,
    HS_UPGRADED,
    HS_CLOSING,
    HS__COUNT
};

// Headers the front looks at; the others are counted and forgotten.
#define HTTP_HEADER_MAP(X)                                                                                             \
    X(HOST, "host")                                                                                                    \
    X(AUTHORIZATION, "authorization")                                                                                  \
    X(CONTENT_TYPE, "content-type")                                                                                    \
    X(CONTENT_ENCODING, "content-encoding")                                                                            \
    X(ACCEPT_ENCODING, "accept-encoding")                                                                              \
    X(IF_MATCH, "if-match")                                                                                            \
    X(IF_NONE_MATCH, "if-none-match")                                                                                  \
    X(IDEMPOTENCY_KEY, "idempotency-key")                                                                              \
    X(EXPECT, "expect")                                                                                                \
    X(LAST_EVENT_ID, "last-event-id")                                                                                  \
    X(ORIGIN, "origin")                                                                                                \
    X(CONNECTION, "connection")                                                                                        \
    X(UPGRADE, "upgrade")                                                                                              \
    X(WS_KEY, "sec-websocket-key")                                                                                     \
    X(WS_VERSION, "sec-websocket-version")                                                                             \
    X(WS_PROTOCOL, "sec-websocket-protocol")

enum http_header {
#define X(name, text) HTTP_H_##name,
    HTTP_HEADER_MAP(X)
#undef X
        HTTP_H__COUNT,
    HTTP_H_OTHER = HTTP_H__COUNT
};

struct http_conn;

// What goes out instead of an answer: HTTP status and stable name (most come from enum status, some only exist in HTTP).
struct http_refusal {
    int status; // 0: none
    const char *code;
    char where[96];
    char detail[320];
    char header[120]; // further header line, "" none
};

struct http_req {
    struct op op; // first: the core gives it back
    struct http_front *front;
    struct http_conn *hc; // NULL: the connection is gone
    struct loop *loop;
    bool in_flight; // op is with the core
    char id[HTTP_REQUEST_ID_MAX];
    char peer[64];
    int64_t start_us; // monotonic
    // the head
    struct buf text; // URL, then the values of known headers
    size_t url_len;
    struct {
        uint32_t off, len;
        bool there;
    } heads[HTTP_H__COUNT];
    enum http_header current; // header being read
    bool in_value;
    char name[24]; // of that header, lower case; known names are shorter
    size_t name_len;
    unsigned headers;
    uint8_t auth[HTTP_AUTH_MAX]; // Authorization: kept apart so that it can be wiped
    size_t auth_len;
    bool head_only; // HEAD
    bool keep_alive;
    bool takes_gzip;
    bool has_body;
    bool continue_wanted; // Expect: 100-continue
    const char *upgrade;  // the protocol of the WebSocket that is asked for and will be given; NULL: none
    // the operation
    int index; // into the table, -1: none
    const struct api_op *api;
    struct api_match route;
    struct arena arena;
    struct buf body;
    uint64_t body_bytes; // came, stored or not
    struct api_call call;
    struct jw jw;
    struct buf out;
    struct buf zip; // out, compressed
    struct principal who;
    struct slice token;          // the bearer token in auth; p == NULL: none
    struct http_refusal refusal; // status != 0: refused; before the caller is known only when `early`
    bool early;                  // refused for everybody: told without a look at the token
    bool auth_failed;            // the token is unknown
    bool replayed;               // the answer is a stored one (Idempotency-Key)
};

struct http_stream {
    struct events_sub *sub;
    int64_t beat_ms; // last time something was written
};

struct http_conn {
    struct conn *conn;
    struct http_front *front;
    http_parser parser;
    struct timer timer;
    enum http_state state;
    struct http_req *req;
    uint64_t requests;
    bool paused;     // reading stopped while a request is with the core
    bool trusted;    // a token was right on this connection before
    int64_t body_ms; // BODY began
    size_t out_seen; // output that waited at the last look, 0: not looked yet
    struct http_stream stream;
};

extern const struct conn_proto http_proto;

// http_conn.c. All on the connection's loop thread.
void http_conn_enter(struct http_conn *hc, enum http_state next); // asserts that the step is allowed
// Sends the reply of hc->req, releases the request and goes on: next request, LINGER (`body_left`: the peer still sends), or
// closing.
void http_conn_answer(struct http_conn *hc, const struct http_reply *reply, bool body_left);
void http_conn_resume(struct http_conn *hc);  // parse on (from GATE to BODY)
void http_conn_pause(struct http_conn *hc);   // read no more until the answer
void http_conn_read_on(struct http_conn *hc); // undoes http_conn_pause

// http_req.c
struct http_req *http_req_new(struct http_conn *hc);                          // NULL: no memory
void http_req_free(struct http_req *req);                                     // NULL is allowed; not while in_flight
struct slice http_req_header(const struct http_req *req, enum http_header h); // p == NULL: absent
// Parser callbacks' work. False: refused, req->refusal says why.
bool http_req_url(struct http_req *req, struct slice part);
bool http_req_field(struct http_req *req, struct slice part);
bool http_req_value(struct http_req *req, struct slice part);
// The head is complete: finds the operation, checks parameters and headers. Refusals are noted in req->refusal.
void http_req_head_done(struct http_req *req, const http_parser *parser);
bool http_req_body(struct http_req *req, struct slice part);
// The body is complete: parses and checks it.
void http_req_body_done(struct http_req *req);
void http_req_refuse(struct http_req *req, int status, const char *code, const char *detail);
void http_req_refuse_err(struct http_req *req, const struct err *err);

// http_run.c
void http_run_gate(struct http_req *req);  // checks the token alone, then http_conn_resume or a refusal
void http_run_start(struct http_req *req); // the whole request is there
void http_run_refuse(struct http_req *req, bool body_left); // answers with req->refusal
enum status http_run_identify(struct http_req *req, struct tx *tx, struct err *err);

// http_upgrade.c
bool http_upgrade_is(const struct http_front *f, struct slice path); // WebSockets begin here
// The head is complete: sets req->upgrade or a refusal.
void http_upgrade_check(struct http_req *req, const http_parser *parser);
void http_upgrade_answer(const struct http_req *req, struct buf *out); // 101

// http_idem.c: stored answers (Idempotency-Key). In the operation's transaction.
enum status http_idem_find(struct http_req *req, struct tx *tx, bool *ret_found, struct err *err);
enum status http_idem_keep(struct http_req *req, struct tx *tx, struct err *err);
enum status http_idem_expire(struct tx *tx, struct err *err);

// http_stream.c
void http_stream_start(struct http_req *req); // answers with an event stream
void http_stream_tick(struct http_conn *hc);
void http_stream_stop(struct http_conn *hc);

// Counters
struct http_metrics;
void http_metrics_register(void);
void http_metric_reply(int status);
void http_metric_conns(int delta);
void http_metric_streams(int delta);
void http_metric_auth_failed(void);

#endif
