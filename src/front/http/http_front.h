// The HTTP front: HTTP/1.1 on net/conn.h, the operator API from the generated table, server-sent events.
//
// One http_front serves all listeners and loops: http_front_service says what a listener needs to know.
#ifndef FRONT_HTTP_HTTP_FRONT_H
#define FRONT_HTTP_HTTP_FRONT_H

#include "core/conf.h"
#include "core/core.h"
#include "net/conn.h"

#define HTTP_HEAD_MAX       (16u << 10) // request line and headers
#define HTTP_HEADERS_MAX    64          // number of headers
#define HTTP_REPLY_MAX      (8u << 20)  // body of one reply
#define HTTP_IN_MAX         (64u << 10) // bytes kept while a request is being answered
#define HTTP_OUT_MAX        (HTTP_REPLY_MAX + (1u << 20))
#define HTTP_STREAM_OUT_MAX (1u << 20) // an event stream with more waiting output is too slow and ends

struct api_table;
struct http_front;

// What the front does with a request for a WebSocket at `path`.
struct http_websocket {
    const char *path; // "/mqtt"; a literal
    // Takes the connection with the answer that is to be sent, see conn_upgrade; the front forgets it. NULL: there are none.
    void (*take)(void *arg, struct conn *c, struct slice answer);
    void *arg;
    const char *const *origins; // pages of these may connect beside those of this host; "*": all. Outlives the front.
    size_t origins_len;
};

struct http_front_conf {
    struct core *core;
    const struct api_table *table; // the generated api_table
    uint32_t idle_ms;              // a kept-alive connection without a request
    uint32_t streams_max;          // event streams at one time
    uint32_t auth_failures_max;    // wrong tokens per source address and minute
    struct http_websocket websocket;
};
extern const struct conf_module http_conf_module; // keys http.*
// Whether a browser may send this as Origin (RFC 6454 section 6.1): "scheme://host[:port]" without a path and without the port that
// is the scheme's own, or "null"; or it is "*". Anything else in http.websocket_origins would never match.
bool http_origin_valid(struct slice text);
void http_front_conf_read(const struct conf *c, struct http_front_conf *ret); // what keys say; `c` outlives the front

// Before core_start (it registers repeated work). The front must outlive the core and the loops.
enum status http_front_new(const struct http_front_conf *conf, struct http_front **ret, struct err *err);
void http_front_free(struct http_front *f); // NULL is allowed; after the loops have ended

// HTTP as a listener offers it: for struct listen_conf. `f` stays the caller's and outlives the listener.
struct conn_service http_front_service(struct http_front *f);

// Statements of this front, for core_conf.
extern const struct sql_def *const http_sql;
extern const size_t http_sql_len;

#endif
