#include "net/http_client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "net/crypto.h"

#define CONNECT_TIMEOUT_MS 10000
#define REPLY_MAX_BYTES    16777216
#define HEADERS_MAX        64
#define BEARER_MAX_BYTES   4096

struct http_client {
    CURL *curl;
    struct curl_slist *bearer; // one line, "Authorization: Bearer ..."; its text is wiped at the end
    size_t reply_max_bytes;
    uint32_t idle_timeout_ms;
    char curl_error[CURL_ERROR_SIZE];
};

// One running call, for libcurl's callbacks.
struct transfer {
    struct http_client *client;
    const struct http_call *call;
    struct http_reply *reply;
    bool upload_failed;
    struct slice body_left;
    curl_off_t moved_bytes; // both ways, when last looked at
    int64_t moved_us;       // and when that last changed
    bool idled;
};

// ---- callbacks ----

static bool is_success(const struct transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->client->curl, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    struct slice piece = slice_make(p, size * n);
    bool go_on = true;
    if (t->call->on_data != NULL && is_success(t)) {
        go_on = t->call->on_data(t->call->arg, piece) && (t->call->go_on == NULL || t->call->go_on(t->call->arg));
    } else if (!buf_slice(&t->reply->body, piece)) {
        return CURL_WRITEFUNC_ERROR;
    }
    if (!go_on) {
        t->reply->stopped = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return piece.len;
}

static size_t on_upload(char *dst, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    if (t->call->upload == NULL) {
        struct slice part = slice_head(t->body_left, size * n);
        struct buf out = buf_fixed(dst, size * n);
        buf_slice(&out, part);
        t->body_left = slice_from(t->body_left, part.len);
        return part.len;
    }
    int64_t got = t->call->upload(t->call->arg, (uint8_t *)dst, size * n);
    if (got < 0 || (uint64_t)got > size * n) {
        t->upload_failed = true;
        return CURL_READFUNC_ABORT;
    }
    return (size_t)got;
}

// libcurl starts again when a kept connection turns out to be closed; a slice can be sent twice, a stream cannot.
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (t->call->upload != NULL || origin != SEEK_SET || offset < 0) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    t->body_left = slice_from(t->call->body, (size_t)offset);
    return CURL_SEEKFUNC_OK;
}

// libcurl's own check (CURLOPT_LOW_SPEED_TIME) goes by the average speed, and so ends an event stream that sends a few bytes
// now and then.
static bool is_idle(struct transfer *t, curl_off_t moved_bytes)
{
    int64_t now_us = clock_mono_us();
    if (moved_bytes != t->moved_bytes || t->moved_us == 0) {
        t->moved_bytes = moved_bytes;
        t->moved_us = now_us;
    }
    uint32_t limit_ms = t->client->idle_timeout_ms;
    return limit_ms > 0 && now_us - t->moved_us > (int64_t)limit_ms * 1000;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total;
    (void)up_total;
    struct transfer *t = arg;
    if (t->call->go_on != NULL && !t->call->go_on(t->call->arg)) {
        t->reply->stopped = true;
        return 1;
    }
    t->idled = is_idle(t, down + up);
    return t->idled ? 1 : 0;
}

// ---- the address ----

static bool is_this_machine(const char *host)
{
    struct in_addr in4;
    bool loopback4 = inet_pton(AF_INET, host, &in4) == 1 && ntohl(in4.s_addr) >> 24 == 127;
    return loopback4 || strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static enum status check_parts(const struct http_client *c, CURLU *u, struct err *err)
{
    char *scheme = NULL, *host = NULL, *user = NULL, *password = NULL;
    bool ok = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    bool has_user = curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK ||
                    curl_url_get(u, CURLUPART_PASSWORD, &password, 0) == CURLUE_OK;
    enum status st = ST_OK;
    if (!ok || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        st = err_set(err, ST_INVALID, "the address must begin with https:// (or http://) and name a host");
    } else if (has_user) {
        st = err_set(err, ST_INVALID,
                     "the address holds a user name or password: addresses end up in logs, use a token");
    } else if (c->bearer != NULL && strcmp(scheme, "http") == 0 && !is_this_machine(host)) {
        st = err_set(err, ST_INVALID, "the token would cross the network in the clear: use https:// for %s", host);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    curl_free(password);
    return st;
}

static enum status check_url(const struct http_client *c, const char *url, struct err *err)
{
    CURLU *u = curl_url();
    if (u == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the call");
    }
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, 0);
    enum status st = rc == CURLUE_OK ? check_parts(c, u, err)
                                     : err_set(err, ST_INVALID, "not an address: %s", curl_url_strerror(rc));
    curl_url_cleanup(u);
    return st;
}

// ---- options ----

// A list with one more line. NULL: no memory, and `list` is freed.
static struct curl_slist *add_line(struct curl_slist *list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(list, line);
    if (longer == NULL) {
        curl_slist_free_all(list);
    }
    return longer;
}

static enum status set_bearer(struct http_client *c, const char *token, struct err *err)
{
    static const char prefix[] = "Authorization: Bearer ";
    char line[sizeof(prefix) + BEARER_MAX_BYTES];
    if (token == NULL) {
        return ST_OK;
    }
    size_t len = strlen(token);
    if (len == 0 || len > BEARER_MAX_BYTES || strpbrk(token, " \t\r\n") != NULL) {
        return err_set(err, ST_INVALID, "the token is empty, has white space in it or more than %d characters",
                       BEARER_MAX_BYTES);
    }
    snprintf(line, sizeof(line), "%s%s", prefix, token);
    c->bearer = curl_slist_append(NULL, line);
    crypto_wipe(line, sizeof(line));
    return c->bearer != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for a HTTP client");
}

static bool set_fixed_options(CURL *curl, const struct http_client_conf *conf)
{
    long connect_ms = conf->connect_timeout_ms > 0 ? conf->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    bool ok = curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "gzip") == CURLE_OK;
    ok = ok &&
         curl_easy_setopt(curl, CURLOPT_USERAGENT, conf->user_agent != NULL ? conf->user_agent : "muster") == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)conf->timeout_ms) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_upload) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_rewind) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK;
    return ok && curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L) == CURLE_OK;
}

static bool set_files(CURL *curl, const struct http_client_conf *conf)
{
    bool ok = true;
    if (conf->ca_file != NULL) {
        ok = curl_easy_setopt(curl, CURLOPT_CAINFO, conf->ca_file) == CURLE_OK;
        ok = ok && curl_easy_setopt(curl, CURLOPT_CAPATH, NULL) == CURLE_OK;
    }
    if (conf->cert_file != NULL) {
        ok = ok && curl_easy_setopt(curl, CURLOPT_SSLCERT, conf->cert_file) == CURLE_OK;
        ok = ok && curl_easy_setopt(curl, CURLOPT_SSLKEY, conf->key_file) == CURLE_OK;
    }
    return ok;
}

struct http_client *http_client_new(const struct http_client_conf *conf, struct err *err)
{
    assert((conf->cert_file == NULL) == (conf->key_file == NULL));
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err_set(err, ST_NOMEM, "no memory for a HTTP client");
        return NULL;
    }
    struct http_client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        curl_global_cleanup();
        err_set(err, ST_NOMEM, "no memory for a HTTP client");
        return NULL;
    }
    c->reply_max_bytes = conf->reply_max_bytes > 0 ? conf->reply_max_bytes : REPLY_MAX_BYTES;
    c->idle_timeout_ms = conf->idle_timeout_ms;
    c->curl = curl_easy_init();
    if (c->curl == NULL || !set_fixed_options(c->curl, conf) || !set_files(c->curl, conf)) {
        err_set(err, ST_NOMEM, "no memory for a HTTP client");
        http_client_free(c);
        return NULL;
    }
    if (set_bearer(c, conf->bearer, err) != ST_OK) {
        http_client_free(c);
        return NULL;
    }
    return c;
}

void http_client_free(struct http_client *c)
{
    if (c == NULL) {
        return;
    }
    curl_easy_cleanup(c->curl);
    if (c->bearer != NULL) {
        crypto_wipe(c->bearer->data, strlen(c->bearer->data));
    }
    curl_slist_free_all(c->bearer);
    free(c);
    curl_global_cleanup();
}

// ---- a call ----

// The lines to send; NULL: see *ret_status.
static struct curl_slist *build_headers(const struct http_call *call, enum status *ret_status, struct err *err)
{
    // Empty values take away what libcurl would add by itself: a wait for "100 Continue", a form's content type.
    struct curl_slist *list = add_line(NULL, "Expect:");
    bool has_type = false;
    for (size_t i = 0; list != NULL && call->headers != NULL && call->headers[i] != NULL; i++) {
        if (i == HEADERS_MAX || strpbrk(call->headers[i], "\r\n") != NULL || strchr(call->headers[i], ':') == NULL) {
            curl_slist_free_all(list);
            *ret_status =
                err_set(err, ST_INVALID, "a header must be one line of the form 'Name: value', at most %d of them",
                        HEADERS_MAX);
            return NULL;
        }
        has_type = has_type || strncasecmp(call->headers[i], "Content-Type:", 13) == 0;
        list = add_line(list, call->headers[i]);
    }
    if (list != NULL && !has_type) {
        list = add_line(list, "Content-Type:");
    }
    if (list == NULL) {
        *ret_status = err_set(err, ST_NOMEM, "no memory for the call");
    }
    return list;
}

static bool set_body(CURL *curl, const struct transfer *t)
{
    const struct http_call *call = t->call;
    bool has_body = call->upload != NULL || call->body.p != NULL;
    curl_off_t len = call->upload != NULL ? (curl_off_t)call->upload_len : (curl_off_t)call->body.len;
    bool ok = curl_easy_setopt(curl, CURLOPT_NOBODY, strcmp(call->method, "HEAD") == 0 ? 1L : 0L) == CURLE_OK;
    if (!has_body) {
        ok = ok && curl_easy_setopt(curl, CURLOPT_UPLOAD, 0L) == CURLE_OK;
        if (strcmp(call->method, "HEAD") != 0) {
            ok = ok && curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L) == CURLE_OK;
        }
    } else {
        ok = ok && curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L) == CURLE_OK;
        ok = ok && curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, len < 0 ? (curl_off_t)-1 : len) == CURLE_OK;
    }
    return ok && curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method) == CURLE_OK;
}

// The bearer line is chained behind the call's own for the duration of the call, so that there is only one copy of it.
static void chain(struct curl_slist *headers, struct curl_slist *bearer)
{
    while (headers->next != NULL) {
        headers = headers->next;
    }
    headers->next = bearer;
}

static void unchain(struct curl_slist *headers, const struct curl_slist *bearer)
{
    if (bearer == NULL) {
        return;
    }
    while (headers->next != NULL && headers->next != bearer) {
        headers = headers->next;
    }
    headers->next = NULL;
}

static const struct failure {
    CURLcode code;
    enum status status;
} failures[] = {
    {CURLE_OPERATION_TIMEDOUT, ST_TIMEOUT},    {CURLE_OUT_OF_MEMORY, ST_NOMEM},
    {CURLE_URL_MALFORMAT, ST_INVALID},         {CURLE_UNSUPPORTED_PROTOCOL, ST_INVALID},
    {CURLE_SSL_CACERT_BADFILE, ST_INVALID},    {CURLE_SSL_CERTPROBLEM, ST_INVALID},
    {CURLE_BAD_FUNCTION_ARGUMENT, ST_INVALID},
};

static enum status judge(const struct transfer *t, CURLcode rc, struct err *err)
{
    const struct http_client *c = t->client;
    if (rc == CURLE_OK || t->reply->stopped) {
        return ST_OK;
    }
    if (t->reply->body.failed) {
        return err_set(err, ST_TOO_LARGE, "the reply is longer than %zu bytes", c->reply_max_bytes);
    }
    if (t->idled) {
        return err_set(err, ST_TIMEOUT, "%s %s: no byte for %u ms", t->call->method, t->call->url, c->idle_timeout_ms);
    }
    if (t->upload_failed) {
        return err_set(err, ST_IO, "the upload was given up");
    }
    enum status st = ST_IO;
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        st = failures[i].code == rc ? failures[i].status : st;
    }
    const char *why = c->curl_error[0] != '\0' ? c->curl_error : curl_easy_strerror(rc);
    long os_error = 0;
    if (rc == CURLE_COULDNT_CONNECT && curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os_error) == CURLE_OK &&
        os_error != 0) {
        why = strerror((int)os_error); // libcurl's own text keeps the reason to itself
    }
    return err_set(err, st, "%s %s: %s", t->call->method, t->call->url, why);
}

// With NOSIGNAL libcurl leaves SIGPIPE to us: it is held back for this thread, and one of ours is taken away again.
static CURLcode perform_without_sigpipe(CURL *curl)
{
    sigset_t pipe_set, before, pending;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
    CURLcode rc = curl_easy_perform(curl);
    sigpending(&pending);
    if (!sigismember(&before, SIGPIPE) && sigismember(&pending, SIGPIPE)) {
        const struct timespec now = {0, 0};
        sigtimedwait(&pipe_set, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static enum status run(struct transfer *t, struct curl_slist *headers, struct err *err)
{
    struct http_client *c = t->client;
    CURL *curl = c->curl;
    bool ok = set_body(curl, t);
    ok = ok && curl_easy_setopt(curl, CURLOPT_URL, t->call->url) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_WRITEDATA, t) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_READDATA, t) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_SEEKDATA, t) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, c->curl_error) == CURLE_OK;
    if (!ok) {
        return err_set(err, ST_NOMEM, "no memory for the call");
    }
    c->curl_error[0] = '\0';
    CURLcode rc = perform_without_sigpipe(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    t->reply->status = (int)status;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
    return judge(t, rc, err);
}

enum status http_client_do(struct http_client *c, const struct http_call *call, struct http_reply *ret, struct err *err)
{
    *ret = (struct http_reply){.body = buf_heap(c->reply_max_bytes)};
    enum status st = check_url(c, call->url, err);
    if (st != ST_OK) {
        return st;
    }
    struct curl_slist *headers = build_headers(call, &st, err);
    if (headers == NULL) {
        return st;
    }
    struct transfer t = {.client = c, .call = call, .reply = ret, .body_left = call->body};
    chain(headers, c->bearer);
    st = run(&t, headers, err);
    unchain(headers, c->bearer);
    curl_slist_free_all(headers);
    return st;
}

void http_reply_release(struct http_reply *r)
{
    buf_release(&r->body);
}

const char *http_client_header(struct http_client *c, const char *name)
{
    struct curl_header *h = NULL;
    return curl_easy_header(c->curl, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : NULL;
}
