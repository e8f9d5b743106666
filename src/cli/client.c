#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rand.h"
#include "net/crypto.h"
#include "net/http_client.h"

#define TOKEN_MAX      4096
#define URL_MAX        8192
#define WHOLE_URL_MAX  16384 // with the path
#define EVENT_MAX      (1u << 20)
#define CALL_TIMEOUT   60000
#define STREAM_IDLE_MS 45000 // the server sends a comment every 15 s
#define RETRY_MAX_MS   10000

struct client {
    struct http_client *calls;
    struct http_client *streams; // without a time limit
    char base[URL_MAX];
};

// First line of the token file. The caller wipes it.
static enum status read_token(const char *path, char token[TOKEN_MAX], struct err *err)
{
    token[0] = '\0';
    if (path == NULL) {
        return ST_OK;
    }
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return err_set(err, ST_INVALID, "token file %s: %s", path, strerror(errno));
    }
    char *line = fgets(token, TOKEN_MAX, f);
    fclose(f);
    token[strcspn(token, "\r\n")] = '\0';
    return line != NULL && token[0] != '\0' ? ST_OK : err_set(err, ST_INVALID, "token file %s is empty", path);
}

static enum status open_clients(struct client *c, const struct client_conf *conf, const char *token, struct err *err)
{
    if (conf->ca != NULL && conf->ca[0] != '\0' && access(conf->ca, R_OK) != 0) {
        return err_set(err, ST_INVALID, "CA file %s: %s", conf->ca, strerror(errno));
    }
    struct http_client_conf hc = {.ca_file = conf->ca,
                                  .bearer = token[0] != '\0' ? token : NULL,
                                  .user_agent = "muster-cli",
                                  .timeout_ms = CALL_TIMEOUT};
    c->calls = http_client_new(&hc, err);
    hc.timeout_ms = 0;
    hc.idle_timeout_ms = STREAM_IDLE_MS;
    c->streams = c->calls != NULL ? http_client_new(&hc, err) : NULL;
    return c->streams != NULL ? ST_OK : ST_INVALID;
}

enum status client_open(const struct client_conf *conf, struct client **ret, struct err *err)
{
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    snprintf(c->base, sizeof(c->base), "%s", conf->url);
    size_t n = strlen(c->base);
    while (n > 0 && c->base[n - 1] == '/') {
        c->base[--n] = '\0';
    }
    char token[TOKEN_MAX];
    enum status s = read_token(conf->token_file, token, err);
    if (s == ST_OK) {
        s = open_clients(c, conf, token, err);
    }
    crypto_wipe(token, sizeof(token));
    if (s != ST_OK) {
        client_close(c);
        return s;
    }
    *ret = c;
    return ST_OK;
}

void client_close(struct client *c)
{
    if (c != NULL) {
        http_client_free(c->calls);
        http_client_free(c->streams);
        free(c);
    }
}

static bool make_url(const struct client *c, const char *path, char url[WHOLE_URL_MAX])
{
    return snprintf(url, WHOLE_URL_MAX, "%s%s", c->base, path) < WHOLE_URL_MAX;
}

enum status client_call(struct client *c, const struct client_request *req, struct client_reply *ret, struct err *err)
{
    char url[WHOLE_URL_MAX], type[100], match[64];
    const char *headers[4] = {NULL};
    unsigned n = 0;
    if (!make_url(c, req->path, url)) {
        return err_set(err, ST_INVALID, "the address is too long");
    }
    if (req->content_type != NULL) {
        snprintf(type, sizeof(type), "Content-Type: %s", req->content_type);
        headers[n++] = type;
    }
    if (req->if_match >= 0) {
        snprintf(match, sizeof(match), "If-Match: \"%lld\"", (long long)req->if_match);
        headers[n++] = match;
    }
    struct http_call call = {.method = req->method, .url = url, .headers = headers, .body = req->body};
    struct http_reply reply;
    enum status s = http_client_do(c->calls, &call, &reply, err);
    if (s != ST_OK) {
        http_reply_release(&reply);
        return ST_IO;
    }
    ret->status = reply.status;
    ret->body = reply.body;
    return ST_OK;
}

// --- server-sent events (WHATWG HTML, section 9.2) ----------------------------------------------------------------

struct stream {
    client_event_fn fn;
    void *arg;
    struct buf line, data;
    char event[64], id[64], last_id[64];
    bool ended; // by fn
};

static void take_field(struct stream *s, struct slice line)
{
    static const struct {
        const char *name;
        size_t len;
    } fields[] = {{"event:", 6}, {"id:", 3}, {"data:", 5}};
    for (unsigned i = 0; i < 3; i++) {
        if (!slice_starts(line, slice_make(fields[i].name, fields[i].len))) {
            continue;
        }
        struct slice value = slice_from(line, fields[i].len);
        if (value.len > 0 && value.p[0] == ' ') {
            value = slice_from(value, 1);
        }
        if (i == 0) {
            (void)slice_to_cstr(value, s->event, sizeof(s->event));
        } else if (i == 1) {
            (void)slice_to_cstr(value, s->id, sizeof(s->id));
        } else {
            if (s->data.len > 0) {
                buf_u8(&s->data, '\n');
            }
            buf_slice(&s->data, value);
        }
    }
}

static void end_line(struct stream *s)
{
    struct slice line = buf_view(&s->line);
    if (line.len > 0 && line.p[line.len - 1] == '\r') {
        line.len--;
    }
    if (line.len > 0) {
        take_field(s, line);
    } else {
        if (s->event[0] != '\0' || s->data.len > 0) {
            s->ended = !s->fn(s->arg, slice_str(s->event[0] != '\0' ? s->event : "message"), buf_view(&s->data));
        }
        if (s->id[0] != '\0') {
            snprintf(s->last_id, sizeof(s->last_id), "%s", s->id);
        }
        s->event[0] = '\0';
        buf_clear(&s->data);
    }
    buf_clear(&s->line);
}

static bool on_data(void *arg, struct slice piece)
{
    struct stream *s = arg;
    while (piece.len > 0 && !s->ended) {
        const uint8_t *nl = memchr(piece.p, '\n', piece.len);
        size_t n = nl != NULL ? (size_t)(nl - piece.p) : piece.len;
        buf_slice(&s->line, slice_head(piece, n));
        if (nl != NULL) {
            end_line(s);
            n++;
        }
        piece = slice_from(piece, n);
    }
    return !s->ended && !s->line.failed && !s->data.failed;
}

// One connection of the stream. ST_OK: ended by fn; ST_IO: worth another try.
static enum status stream_once(struct client *c, const char *url, struct stream *s, bool *ret_connected,
                               struct err *err)
{
    char resume[100];
    const char *headers[3] = {"Accept: text/event-stream", NULL, NULL};
    if (s->last_id[0] != '\0') {
        snprintf(resume, sizeof(resume), "Last-Event-ID: %s", s->last_id);
        headers[1] = resume;
    }
    struct http_call call = {.method = "GET", .url = url, .headers = headers, .on_data = on_data, .arg = s};
    struct http_reply reply;
    enum status st = http_client_do(c->streams, &call, &reply, err);
    *ret_connected = reply.status >= 200 && reply.status < 300;
    if (s->ended) {
        st = ST_OK;
    } else if (reply.status >= 400 && reply.status < 500) {
        st = err_set(err, ST_INVALID, "the server refused (HTTP %d): " SLICE_FMT, reply.status,
                     SLICE_ARG(buf_view(&reply.body)));
    } else if (s->line.failed || s->data.failed) {
        st = err_set(err, ST_INVALID, "an event is longer than 1 MiB");
    } else if (st == ST_OK) {
        st = err_set(err, ST_IO, "the stream ended");
    }
    http_reply_release(&reply);
    return st;
}

enum status client_events(struct client *c, const char *path, client_event_fn fn, void *arg, struct err *err)
{
    char url[WHOLE_URL_MAX];
    if (!make_url(c, path, url)) {
        return err_set(err, ST_INVALID, "the address is too long");
    }
    struct stream s = {.fn = fn, .arg = arg, .line = buf_heap(EVENT_MAX), .data = buf_heap(EVENT_MAX)};
    unsigned tries = 0;
    bool ever = false;
    enum status st;
    for (;;) {
        bool connected = false;
        buf_clear(&s.line);
        buf_clear(&s.data);
        st = stream_once(c, url, &s, &connected, err);
        ever = ever || connected;
        tries = connected ? 0 : tries + 1;
        // Never connected at all: tell at once. Afterwards the server may be restarting: full jitter up to 10 s.
        if (st == ST_OK || st == ST_INVALID || !ever) {
            break;
        }
        uint64_t most = 200ULL << (tries < 6 ? tries : 6);
        most = most < RETRY_MAX_MS ? most : RETRY_MAX_MS;
        usleep((useconds_t)(rand_u64() % most + 50) * 1000);
    }
    buf_release(&s.line);
    buf_release(&s.data);
    return st;
}
