// Replies: status line, headers, body; problem documents (RFC 9457).
#ifndef FRONT_HTTP_REPLY_H
#define FRONT_HTTP_REPLY_H

#include "base/buf.h"
#include "base/status.h"
#include "net/conn.h"

#define HTTP_REQUEST_ID_MAX 32

struct http_reply {
    int status;
    const char *content_type; // NULL: no body
    struct slice body;
    int64_t etag;         // version, -1: none
    const char *location; // NULL or "": none
    const char *header;   // further complete header lines ("Allow: GET\r\n"), or NULL
    const char *request_id;
    bool gzip;         // body is compressed
    bool compressible; // another request might get it compressed
    bool head_only;    // answer to HEAD: all but the body
    bool close;        // the connection ends after it
    bool endless;      // event stream: no length, the body follows until the end
};
// Writes it to the connection. False: the connection is closing or overflowed.
bool http_reply_write(struct conn *c, const struct http_reply *r);

struct problem {
    int status;
    const char *code;   // stable name
    const char *detail; // one sentence
    const char *where;  // JSON pointer ("/tags"), or name of a parameter; "" unknown
    const char *request_id;
};
void problem_write(const struct problem *p, struct buf *out);

const char *http_status_text(int status); // "Not Found"; never NULL

#endif
