// One request: collecting its head and body, finding its operation, checking all that can be checked without the store.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "domain/doc/doc.h"
#include "front/http/gzip.h"
#include "front/http/http_priv.h"
#include "front/http/params.h"
#include "net/crypto.h"

#define IDEMPOTENCY_KEY_MAX 128

// --- life --------------------------------------------------------------------------------------------------------

struct http_req *http_req_new(struct http_conn *hc)
{
    struct http_req *req = calloc(1, sizeof(*req));
    if (req == NULL) {
        return NULL;
    }
    req->front = hc->front;
    req->hc = hc;
    req->loop = conn_loop(hc->conn);
    req->index = -1;
    req->start_us = clock_mono_us();
    req->text = buf_heap(HTTP_HEAD_MAX);
    req->out = buf_heap(HTTP_REPLY_MAX);
    req->zip = buf_heap(HTTP_REPLY_MAX);
    arena_init(&req->arena, HTTP_ARENA_MAX);
    snprintf(req->id, sizeof(req->id), "%llx-%llx", (unsigned long long)conn_id(hc->conn),
             (unsigned long long)++hc->requests);
    snprintf(req->peer, sizeof(req->peer), "%s", conn_peer_addr(hc->conn));
    return req;
}

void http_req_free(struct http_req *req)
{
    if (req == NULL) {
        return;
    }
    assert(!req->in_flight);
    if (req->call.state_free != NULL && req->call.state != NULL) {
        req->call.state_free(req->call.state);
    }
    json_decref(req->call.body);
    if (req->body.p != NULL) {
        crypto_wipe(req->body.p, req->body.len); // may hold access tokens
    }
    buf_release(&req->body);
    if (req->out.p != NULL) {
        crypto_wipe(req->out.p, req->out.len); // the same
    }
    buf_release(&req->out);
    buf_release(&req->zip);
    buf_release(&req->text);
    arena_release(&req->arena);
    crypto_wipe(req->auth, sizeof(req->auth));
    free(req);
}

void http_req_refuse(struct http_req *req, int status, const char *code, const char *detail)
{
    req->refusal = (struct http_refusal){.status = status, .code = code};
    snprintf(req->refusal.detail, sizeof(req->refusal.detail), "%s", detail);
}

void http_req_refuse_err(struct http_req *req, const struct err *err)
{
    http_req_refuse(req, status_http(err->code), status_text(err->code), err->text);
    if (strncmp(err->where, "byte ", 5) == 0) { // of a JSON text: neither a pointer nor a parameter
        snprintf(req->refusal.detail, sizeof(req->refusal.detail), "%.30s: %.280s", err->where, err->text);
    } else {
        snprintf(req->refusal.where, sizeof(req->refusal.where), "%s", err->where);
    }
}

// For everybody, whoever asks.
static void refuse_early(struct http_req *req, int status, const char *code, const char *detail)
{
    http_req_refuse(req, status, code, detail);
    req->early = true;
}

// --- the head, piece by piece ------------------------------------------------------------------------------------

static const char *const header_names[] = {
#define X(name, text) text,
    HTTP_HEADER_MAP(X)
#undef X
};

struct slice http_req_header(const struct http_req *req, enum http_header h)
{
    if (!req->heads[h].there) {
        return (struct slice){NULL, 0};
    }
    return slice_head(slice_from(buf_view(&req->text), req->heads[h].off), req->heads[h].len);
}

bool http_req_url(struct http_req *req, struct slice part)
{
    req->url_len += part.len;
    return buf_slice(&req->text, part);
}

// RFC 9110 section 5.6.2. The parser lets spaces in names pass, which other readers of the same bytes may take for an end.
static bool is_token_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

bool http_req_field(struct http_req *req, struct slice part)
{
    if (req->in_value || req->headers == 0) { // the first piece of a new header
        req->in_value = false;
        req->name_len = 0;
        if (++req->headers > HTTP_HEADERS_MAX) {
            return false;
        }
    }
    for (size_t i = 0; i < part.len; i++) {
        uint8_t c = part.p[i];
        if (!is_token_char(c) && req->refusal.status == 0) {
            refuse_early(req, 400, "malformed", "a header name has a character that is not allowed there");
        }
        if (req->name_len < sizeof(req->name)) {
            req->name[req->name_len] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        }
        req->name_len++; // longer than any name we know: no match
    }
    return true;
}

static enum http_header header_of(const struct http_req *req)
{
    for (int h = 0; h < HTTP_H__COUNT; h++) {
        if (strlen(header_names[h]) == req->name_len && memcmp(header_names[h], req->name, req->name_len) == 0) {
            return (enum http_header)h;
        }
    }
    return HTTP_H_OTHER;
}

// A second header of a name: these may come in several lines, of which the first is enough for us; others are an attack.
static bool may_repeat(enum http_header h)
{
    return h == HTTP_H_ACCEPT_ENCODING || h == HTTP_H_IF_NONE_MATCH || h == HTTP_H_CONNECTION || h == HTTP_H_UPGRADE ||
           h == HTTP_H_WS_PROTOCOL;
}

static void value_begins(struct http_req *req)
{
    req->in_value = true;
    req->current = header_of(req);
    if (req->current == HTTP_H_OTHER) {
        return;
    }
    if (req->heads[req->current].there) {
        if (!may_repeat(req->current) && req->refusal.status == 0) {
            char text[80];
            snprintf(text, sizeof(text), "the header %s is there twice", header_names[req->current]);
            refuse_early(req, 400, "malformed", text);
        }
        req->current = HTTP_H_OTHER;
        return;
    }
    req->heads[req->current].there = true;
    req->heads[req->current].off = (uint32_t)req->text.len;
}

bool http_req_value(struct http_req *req, struct slice part)
{
    if (!req->in_value) {
        value_begins(req);
    }
    if (req->current == HTTP_H_OTHER) {
        return true;
    }
    if (req->current == HTTP_H_AUTHORIZATION) {
        for (size_t i = 0; i < part.len; i++) {
            if (req->auth_len < sizeof(req->auth)) {
                req->auth[req->auth_len] = part.p[i];
            }
            req->auth_len++;
        }
        return true;
    }
    req->heads[req->current].len += (uint32_t)part.len;
    return buf_slice(&req->text, part);
}

// --- the head as a whole -----------------------------------------------------------------------------------------

static bool word_is(struct slice s, const char *word)
{
    return s.p != NULL && s.len == strlen(word) && strncasecmp((const char *)s.p, word, s.len) == 0;
}

static void step_version(struct http_req *req, const http_parser *parser)
{
    if (parser->http_major != 1 || parser->http_minor > 1) {
        refuse_early(req, 505, "unsupported", "allowed: HTTP/1.1 and HTTP/1.0");
    } else if (parser->http_minor == 1 && !req->heads[HTTP_H_HOST].there) {
        refuse_early(req, 400, "malformed", "HTTP/1.1 needs a Host header");
    }
}

static enum api_method method_of(const http_parser *parser)
{
    switch (parser->method) {
    case HTTP_GET:
    case HTTP_HEAD:
        return API_GET;
    case HTTP_POST:
        return API_POST;
    case HTTP_PUT:
        return API_PUT;
    case HTTP_PATCH:
        return API_PATCH;
    case HTTP_DELETE:
        return API_DELETE;
    default:
        return API_METHOD__COUNT;
    }
}

static void refuse_route(struct http_req *req)
{
    if (req->route.methods == 0) {
        refuse_early(req, 404, "not_found", "there is nothing at this path");
        return;
    }
    char allow[64];
    api_route_allow(req->route.methods, allow);
    char text[120];
    snprintf(text, sizeof(text), "this path does not know the method; allowed: %s", allow);
    refuse_early(req, 405, "method_not_allowed", text);
    snprintf(req->refusal.header, sizeof(req->refusal.header), "Allow: %s\r\n", allow);
}

static struct slice url_part(const struct http_req *req, const struct http_parser_url *u, enum http_parser_url_fields f)
{
    if ((u->field_set & 1U << f) == 0) {
        return (struct slice){NULL, 0};
    }
    return slice_head(slice_from(buf_view(&req->text), u->field_data[f].off), u->field_data[f].len);
}

static void step_route(struct http_req *req, const http_parser *parser)
{
    struct http_parser_url u;
    http_parser_url_init(&u);
    if (parser->method == HTTP_CONNECT || http_parser_parse_url((const char *)req->text.p, req->url_len, 0, &u) != 0) {
        refuse_early(req, 400, "malformed", "the request target is not a path");
        return;
    }
    if (http_upgrade_is(req->front, url_part(req, &u, UF_PATH))) {
        http_upgrade_check(req, parser);
        return;
    }
    const struct api_table *table = req->front->conf.table;
    api_route_find(table, method_of(parser), url_part(req, &u, UF_PATH), &req->route);
    if (req->route.op >= 0 && parser->method == HTTP_HEAD && table->ops[req->route.op].stream) {
        req->route.methods = 1U << API_GET;
        req->route.op = -1;
    }
    if (req->route.op < 0) {
        refuse_route(req);
        return;
    }
    req->index = req->route.op;
    req->api = &table->ops[req->index];
    struct err err = {.code = ST_OK};
    if (params_read(req->api, &req->route, url_part(req, &u, UF_QUERY), &req->arena, req->call.params, &err) != ST_OK) {
        http_req_refuse_err(req, &err);
    }
}

// RFC 6750 section 2.1.
static void take_token(struct http_req *req)
{
    static const char scheme[] = "bearer ";
    if (req->auth_len <= sizeof(scheme) - 1 || req->auth_len > sizeof(req->auth)) {
        return;
    }
    struct slice v = slice_make(req->auth, req->auth_len);
    if (word_is(slice_head(v, sizeof(scheme) - 1), scheme)) {
        v = slice_from(v, sizeof(scheme) - 1);
        while (v.len > 0 && v.p[0] == ' ') {
            v = slice_from(v, 1);
        }
        req->token = v;
    }
}

// RFC 9110 section 13.1.1, of which one strong tag or "*" is taken.
static void step_if_match(struct http_req *req)
{
    struct slice v = http_req_header(req, HTTP_H_IF_MATCH);
    req->call.if_match = -1;
    if (v.p == NULL || req->refusal.status != 0) {
        return;
    }
    if (!req->api->if_match) {
        http_req_refuse(req, 400, "invalid", "this operation does not take If-Match");
        return;
    }
    if (slice_eq(v, SLICE("*"))) {
        return;
    }
    int64_t n = 0;
    bool good = v.len >= 3 && v.len <= 20 && v.p[0] == '"' && v.p[v.len - 1] == '"';
    for (size_t i = 1; good && i + 1 < v.len; i++) {
        good = v.p[i] >= '0' && v.p[i] <= '9';
        n = n * 10 + (v.p[i] - '0');
    }
    if (!good) {
        http_req_refuse(req, 412, "version_mismatch",
                        "If-Match is not an ETag of this server; allowed: one \"version\" or *");
        return;
    }
    req->call.if_match = n;
}

static void step_idempotency_key(struct http_req *req)
{
    struct slice v = http_req_header(req, HTTP_H_IDEMPOTENCY_KEY);
    if (v.p == NULL || req->refusal.status != 0 || req->api->method != API_POST) {
        return; // the other methods are idempotent by nature
    }
    if (!req->api->idempotent) {
        http_req_refuse(req, 400, "invalid", "this operation does not take Idempotency-Key");
        return;
    }
    bool good = v.len > 0 && v.len <= IDEMPOTENCY_KEY_MAX;
    for (size_t i = 0; good && i < v.len; i++) {
        good = v.p[i] > 0x20 && v.p[i] < 0x7f;
    }
    if (!good) {
        http_req_refuse(req, 400, "invalid", "Idempotency-Key is wrong; allowed: 1 to 128 visible ASCII characters");
    }
}

static bool content_type_fits(const struct api_op *api, struct slice v)
{
    if (v.p == NULL) {
        return false;
    }
    size_t n = 0;
    while (n < v.len && v.p[n] != ';') {
        n++;
    }
    while (n > 0 && (v.p[n - 1] == ' ' || v.p[n - 1] == '\t')) {
        n--;
    }
    struct slice type = slice_head(v, n);
    if (api->content != NULL) {
        return word_is(type, api->content);
    }
    return word_is(type, "application/json") ||
           (api->method == API_PATCH && word_is(type, "application/merge-patch+json"));
}

static void step_content(struct http_req *req, const http_parser *parser)
{
    if (!req->has_body || req->refusal.status != 0) {
        return;
    }
    struct slice encoding = http_req_header(req, HTTP_H_CONTENT_ENCODING);
    char text[120];
    if (req->api->body_max == 0) {
        http_req_refuse(req, 400, "invalid", "this operation takes no request body");
    } else if ((parser->flags & F_CONTENTLENGTH) != 0 && parser->content_length > req->api->body_max) {
        snprintf(text, sizeof(text), "the body has %llu bytes; allowed: at most %u",
                 (unsigned long long)parser->content_length, req->api->body_max);
        refuse_early(req, 413, "too_large", text);
    } else if (encoding.p != NULL && !word_is(encoding, "identity")) {
        http_req_refuse(req, 415, "unsupported", "the body is compressed; allowed: no Content-Encoding");
    } else if (!content_type_fits(req->api, http_req_header(req, HTTP_H_CONTENT_TYPE))) {
        snprintf(text, sizeof(text), "the body's Content-Type is not known here; allowed: %s",
                 req->api->content != NULL ? req->api->content : "application/json");
        http_req_refuse(req, 415, "unsupported", text);
    }
}

static void step_expect(struct http_req *req)
{
    struct slice v = http_req_header(req, HTTP_H_EXPECT);
    if (v.p == NULL) {
        return;
    }
    if (!word_is(v, "100-continue")) {
        refuse_early(req, 417, "unsupported", "allowed: Expect: 100-continue");
        return;
    }
    req->continue_wanted = req->has_body;
}

void http_req_head_done(struct http_req *req, const http_parser *parser)
{
    req->head_only = parser->method == HTTP_HEAD;
    req->keep_alive = http_should_keep_alive(parser) != 0;
    req->has_body =
        (parser->flags & F_CHUNKED) != 0 || ((parser->flags & F_CONTENTLENGTH) != 0 && parser->content_length > 0);
    req->takes_gzip = gzip_accepted(http_req_header(req, HTTP_H_ACCEPT_ENCODING));
    take_token(req);
    if (req->refusal.status == 0) {
        step_version(req, parser);
    }
    if (req->refusal.status == 0) {
        step_route(req, parser);
    }
    if (req->api != NULL) {
        step_if_match(req);
        step_idempotency_key(req);
        step_content(req, parser);
        req->body = buf_heap(req->api->body_max);
    }
    step_expect(req);
}

// --- the body ----------------------------------------------------------------------------------------------------

bool http_req_body(struct http_req *req, struct slice part)
{
    req->body_bytes += part.len;
    if (req->refusal.status == 0 && req->body_bytes > req->api->body_max) {
        char text[80];
        snprintf(text, sizeof(text), "the body is too large; allowed: at most %u bytes", req->api->body_max);
        refuse_early(req, 413, "too_large", text);
    }
    if (req->refusal.status != 0) {
        return req->body_bytes <= HTTP_DISCARD_MAX;
    }
    if (!buf_slice(&req->body, part)) {
        refuse_early(req, 503, "no_memory", "no memory for the body; try again later");
    }
    return true;
}

static void parse_json(struct http_req *req)
{
    struct err err = {.code = ST_OK};
    struct slice text = buf_view(&req->body);
    enum status st = doc_parse(text, JSON_DEPTH_MAX, &req->call.body, &err);
    if (st == ST_OK) {
        st = schema_check(req->api->request, req->call.body, &err);
    }
    if (st != ST_OK) {
        http_req_refuse_err(req, &err);
    }
}

void http_req_body_done(struct http_req *req)
{
    if (req->refusal.status != 0) {
        return;
    }
    req->call.body_raw = buf_view(&req->body);
    if (req->body.len == 0) {
        if (req->api->body_required) {
            http_req_refuse(req, 400, "invalid", "the request needs a body");
        }
        return;
    }
    if (req->api->content == NULL) {
        parse_json(req);
    }
}
