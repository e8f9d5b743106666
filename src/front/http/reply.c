#include "front/http/reply.h"

#include <time.h>

#include "base/clock.h"
#include "base/json.h"

//    status  reason phrase (RFC 9110 section 15)
#define HTTP_STATUS_MAP(X)                                                                                             \
    X(200, "OK")                                                                                                       \
    X(201, "Created")                                                                                                  \
    X(202, "Accepted")                                                                                                 \
    X(204, "No Content")                                                                                               \
    X(304, "Not Modified")                                                                                             \
    X(400, "Bad Request")                                                                                              \
    X(401, "Unauthorized")                                                                                             \
    X(403, "Forbidden")                                                                                                \
    X(404, "Not Found")                                                                                                \
    X(405, "Method Not Allowed")                                                                                       \
    X(408, "Request Timeout")                                                                                          \
    X(409, "Conflict")                                                                                                 \
    X(412, "Precondition Failed")                                                                                      \
    X(413, "Content Too Large")                                                                                        \
    X(415, "Unsupported Media Type")                                                                                   \
    X(417, "Expectation Failed")                                                                                       \
    X(422, "Unprocessable Content")                                                                                    \
    X(426, "Upgrade Required")                                                                                         \
    X(429, "Too Many Requests")                                                                                        \
    X(431, "Request Header Fields Too Large")                                                                          \
    X(500, "Internal Server Error")                                                                                    \
    X(501, "Not Implemented")                                                                                          \
    X(503, "Service Unavailable")                                                                                      \
    X(504, "Gateway Timeout")                                                                                          \
    X(505, "HTTP Version Not Supported")                                                                               \
    X(507, "Insufficient Storage")

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } names[] = {
#define X(status, text) {status, text},
        HTTP_STATUS_MAP(X)
#undef X
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].status == status) {
            return names[i].text;
        }
    }
    return "Unknown";
}

// RFC 9110 section 5.6.7: always GMT, English names whatever the locale.
static void put_date(struct buf *b)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)(clock_wall_us() / 1000000);
    struct tm tm;
    if (gmtime_r(&now, &tm) != NULL) {
        buf_printf(b, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
                   tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    }
}

// Header values come from checked ids; this is the last line against a split response.
static bool header_safe(const char *v)
{
    for (; *v != '\0'; v++) {
        if ((unsigned char)*v < 0x20 || *v == 0x7f) {
            return false;
        }
    }
    return true;
}

static void put_body_headers(struct buf *b, const struct http_reply *r)
{
    if (r->content_type != NULL) {
        buf_printf(b, "Content-Type: %s\r\n", r->content_type);
    }
    if (r->gzip) {
        buf_str(b, "Content-Encoding: gzip\r\n");
    }
    if (r->compressible) {
        buf_str(b, "Vary: Accept-Encoding\r\n");
    }
    if (!r->endless && r->status != 204 && r->status != 304) {
        buf_printf(b, "Content-Length: %zu\r\n", r->body.len);
    }
}

bool http_reply_write(struct conn *c, const struct http_reply *r)
{
    uint8_t mem[2048];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_printf(&b, "HTTP/1.1 %d %s\r\n", r->status, http_status_text(r->status));
    put_date(&b);
    put_body_headers(&b, r);
    if (r->etag >= 0) {
        buf_printf(&b, "ETag: \"%lld\"\r\nCache-Control: private, no-cache\r\n", (long long)r->etag);
    } else {
        buf_str(&b, "Cache-Control: no-store\r\n");
    }
    if (r->location != NULL && r->location[0] != '\0' && header_safe(r->location)) {
        buf_printf(&b, "Location: %s\r\n", r->location);
    }
    if (r->header != NULL) {
        buf_str(&b, r->header);
    }
    // Nothing here is a page: no scripts, frames, guessing of types, or addresses leaked to links.
    buf_str(&b, "X-Content-Type-Options: nosniff\r\n"
                "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
                "Referrer-Policy: no-referrer\r\n");
    buf_printf(&b, "X-Request-Id: %s\r\nConnection: %s\r\n\r\n", r->request_id,
               r->status == 426 ? "close, Upgrade"
               : r->close       ? "close"
                                : "keep-alive");
    if (b.failed) {
        return false; // cannot be: all parts are bounded
    }
    bool written = conn_write(c, buf_view(&b));
    if (written && !r->head_only && r->body.len > 0) {
        written = conn_write(c, r->body);
    }
    return written;
}

void problem_write(const struct problem *p, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "type");
    jw_str(&w, "about:blank");
    jw_key(&w, "title");
    jw_str(&w, http_status_text(p->status));
    jw_key(&w, "status");
    jw_int(&w, p->status);
    jw_key(&w, "code");
    jw_str(&w, p->code);
    jw_key(&w, "detail");
    jw_str(&w, p->detail);
    if (p->where[0] != '\0') {
        jw_key(&w, p->where[0] == '/' ? "pointer" : "parameter");
        jw_str(&w, p->where);
    }
    jw_key(&w, "request");
    jw_str(&w, p->request_id);
    jw_object_end(&w);
}
