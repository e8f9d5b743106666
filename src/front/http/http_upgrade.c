// The way from HTTP to a WebSocket (RFC 6455 section 4.2): who may have one, and the answer. The frames are net's affair, what is
// spoken in them is the taker's.
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "front/http/http_priv.h"
#include "net/crypto.h"

#define KEY_BYTES  16
#define KEY_MAX    24 // as base64
#define ACCEPT_MAX 32
#define GUID       "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static bool same(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp((const char *)a.p, (const char *)b.p, a.len) == 0);
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) {
        s = slice_head(s, s.len - 1);
    }
    return s;
}

// Whether a comma-separated list has this member; case does not matter.
static bool list_has(struct slice list, const char *member)
{
    while (list.len > 0) {
        const uint8_t *comma = memchr(list.p, ',', list.len);
        struct slice one = slice_head(list, comma != NULL ? (size_t)(comma - list.p) : list.len);
        if (same(trim(one), slice_str(member))) {
            return true;
        }
        list = slice_from(list, one.len + 1);
    }
    return false;
}

bool http_upgrade_is(const struct http_front *f, struct slice path)
{
    return f->conf.websocket.take != NULL && slice_eq_str(path, f->conf.websocket.path);
}

// ---- who may ----

bool http_origin_valid(struct slice text)
{
    const struct {
        struct slice scheme, port; // a browser leaves out the port that is the scheme's own
    } own[] = {{SLICE("http://"), SLICE(":80")}, {SLICE("https://"), SLICE(":443")}};
    if (slice_eq_str(text, "*") || slice_eq_str(text, "null")) {
        return true;
    }
    size_t scheme = 0;
    while (scheme < text.len &&
           (isalnum(text.p[scheme]) || (scheme > 0 && text.p[scheme] != 0 && strchr("+-.", text.p[scheme]) != NULL))) {
        scheme++;
    }
    struct slice host = slice_from(text, scheme);
    if (scheme == 0 || !slice_starts(host, SLICE("://")) || host.len == 3) {
        return false;
    }
    host = slice_from(host, 3);
    for (size_t i = 0; i < host.len; i++) {
        if (host.p[i] <= ' ' || host.p[i] >= 0x7f || strchr("/?#@*", host.p[i]) != NULL) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        size_t port = own[i].port.len;
        if (same(slice_head(text, own[i].scheme.len), own[i].scheme) && host.len >= port &&
            slice_eq(slice_from(host, host.len - port), own[i].port)) {
            return false;
        }
    }
    return true;
}

// Pages of this very host may; others only when they are listed. What sends no Origin is no browser: a page cannot leave it out.
// The scheme counts: anybody on the way can put words into a page that came by http, so it is no page of ours where we speak
// TLS. Without TLS here both may be meant: a proxy in front may have spoken it.
static bool origin_may(const struct http_req *req)
{
    const struct http_websocket *ws = &req->front->conf.websocket;
    struct slice origin = http_req_header(req, HTTP_H_ORIGIN);
    if (origin.p == NULL) {
        return true;
    }
    for (size_t i = 0; i < ws->origins_len; i++) {
        if (strcmp(ws->origins[i], "*") == 0 || same(origin, slice_str(ws->origins[i]))) {
            return true;
        }
    }
    static const struct slice schemes[] = {{(const uint8_t *)"https://", 8}, {(const uint8_t *)"http://", 7}};
    size_t schemes_len = conn_tls(req->hc->conn) != NULL ? 1 : 2;
    for (size_t i = 0; i < schemes_len; i++) {
        if (slice_starts(origin, schemes[i])) {
            return same(slice_from(origin, schemes[i].len), http_req_header(req, HTTP_H_HOST));
        }
    }
    return false;
}

static bool key_good(struct slice key)
{
    uint8_t mem[KEY_BYTES];
    struct buf raw = buf_fixed(mem, sizeof(mem));
    return key.len == KEY_MAX && base64_decode(key, &raw) && raw.len == KEY_BYTES;
}

static const char *choose_protocol(struct slice offered)
{
    static const char *const known[] = {"mqtt", "mqttv3.1"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (list_has(offered, known[i])) {
            return known[i];
        }
    }
    return NULL;
}

static void refuse(struct http_req *req, int status, const char *code, const char *detail, const char *header)
{
    http_req_refuse(req, status, code, detail);
    req->early = true;
    snprintf(req->refusal.header, sizeof(req->refusal.header), "%s", header);
}

void http_upgrade_check(struct http_req *req, const http_parser *parser)
{
    bool asked = list_has(http_req_header(req, HTTP_H_UPGRADE), "websocket") &&
                 list_has(http_req_header(req, HTTP_H_CONNECTION), "upgrade") && parser->http_minor == 1;
    if (parser->method != HTTP_GET) {
        refuse(req, 405, "method_not_allowed", "this path does not know the method; allowed: GET", "Allow: GET\r\n");
    } else if (!asked || !slice_eq(http_req_header(req, HTTP_H_WS_VERSION), SLICE("13"))) {
        refuse(req, 426, "upgrade_required", "MQTT is spoken here in a WebSocket of version 13",
               "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    } else if (req->has_body) {
        refuse(req, 400, "invalid", "the request for a WebSocket takes no body", "");
    } else if (!key_good(http_req_header(req, HTTP_H_WS_KEY))) {
        refuse(req, 400, "invalid", "Sec-WebSocket-Key is missing or wrong; allowed: 16 bytes as base64", "");
    } else if (!origin_may(req)) {
        refuse(req, 403, "forbidden", "pages of this origin may not connect; http.websocket_origins lists who may", "");
    } else {
        req->upgrade = choose_protocol(http_req_header(req, HTTP_H_WS_PROTOCOL));
        if (req->upgrade == NULL) {
            refuse(req, 400, "invalid", "Sec-WebSocket-Protocol offers nothing known here; allowed: mqtt, mqttv3.1",
                   "");
        }
    }
}

// ---- the answer ----

void http_upgrade_answer(const struct http_req *req, struct buf *out)
{
    uint8_t text_mem[KEY_MAX + sizeof(GUID)], accept_mem[ACCEPT_MAX], hash[SHA1_LEN];
    struct buf text = buf_fixed(text_mem, sizeof(text_mem)), accept = buf_fixed(accept_mem, sizeof(accept_mem));
    buf_slice(&text, http_req_header(req, HTTP_H_WS_KEY));
    buf_str(&text, GUID);
    crypto_sha1(buf_view(&text), hash);
    base64_encode(slice_make(hash, sizeof(hash)), &accept);
    buf_printf(out,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: " SLICE_FMT "\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
               SLICE_ARG(buf_view(&accept)), req->upgrade);
}
