// The HTTP front on real sockets and a real loop, over a core that runs operations at once: what goes in, what comes out.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "../../store/tmpdir.h"
#include "lib/fake_http.h"
#include "store/migrations.h"

#define REPLY_BYTES (2u << 20)

struct fixture {
    char dir[200];
    struct core core;
    struct http_front *front;
    struct loop *loop;
    struct listener *listener;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = {.code = ST_OK};
    assert_non_null(f);
    tmpdir_make(f->dir, sizeof(f->dir));
    char path[256];
    snprintf(path, sizeof(path), "%s/state.db", f->dir);
    assert_int_equal(db_open(path, DB_WRITER, &f->core.db, &err), ST_OK);
    assert_int_equal(db_migrate(f->core.db, db_migrations, DB_MIGRATIONS_LEN, &err), ST_OK);
    assert_int_equal(db_prepare_all(f->core.db, http_sql, http_sql_len, &err), ST_OK);
    f->core.events = events_new(1000, 1 << 20);
    struct http_front_conf conf = {
        .core = &f->core, .table = &fake_table, .idle_ms = 300, .streams_max = 1, .auth_failures_max = 5};
    assert_int_equal(http_front_new(&conf, &f->front, &err), ST_OK);
    f->loop = loop_new("http", &err);
    assert_non_null(f->loop);
    struct listen_conf lc = {.addr = "127.0.0.1:0",
                             .service = http_front_service(f->front),
                             .loops = &f->loop,
                             .loops_len = 1,
                             .conns_max = 100};
    assert_int_equal(listener_open(&lc, &f->listener, &err), ST_OK);
    assert_int_equal(loop_start(f->loop, &err), ST_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loop_stop(f->loop);
    loop_join(f->loop);
    listener_free(f->listener);
    loop_free(f->loop);
    http_front_free(f->front);
    events_free(f->core.events);
    db_close(f->core.db);
    assert_int_equal(f->core.states, 0); // every state of a two-step call was freed
    tmpdir_remove(f->dir);
    free(f);
    return 0;
}

// --- a client that sends bytes and takes replies apart -----------------------------------------------------------

static int dial(const struct fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(listener_port(f->listener))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    struct timeval tv = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    return fd;
}

static void put(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        text += n;
        len -= (size_t)n;
    }
}

static void say(int fd, const char *text)
{
    put(fd, text, strlen(text));
}

struct reply {
    int status;
    char head[4096];
    char *body; // NUL-terminated
    size_t body_len;
};

// The value of a header, or NULL.
static const char *header(const struct reply *r, const char *name)
{
    static char value[512];
    char want[64];
    snprintf(want, sizeof(want), "\r\n%s: ", name);
    const char *at = strstr(r->head, want);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(want);
    snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

static void get_head(int fd, struct reply *r)
{
    size_t n = 0;
    memset(r, 0, sizeof(*r));
    while (n < 4 || memcmp(r->head + n - 4, "\r\n\r\n", 4) != 0) {
        assert_true(n + 1 < sizeof(r->head));
        ssize_t got = recv(fd, r->head + n, 1, 0);
        if (got != 1) {
            fail_msg("no reply, got: %s", r->head);
        }
        n++;
    }
    assert_int_equal(sscanf(r->head, "HTTP/1.1 %d ", &r->status), 1);
}

static void get_reply(int fd, bool has_body, struct reply *r)
{
    get_head(fd, r);
    const char *length = header(r, "Content-Length");
    r->body_len = has_body && length != NULL ? strtoul(length, NULL, 10) : 0;
    assert_true(r->body_len < REPLY_BYTES);
    r->body = calloc(1, r->body_len + 1);
    for (size_t n = 0; n < r->body_len;) {
        ssize_t got = recv(fd, r->body + n, r->body_len - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
    }
}

static bool ended(int fd)
{
    char c;
    return recv(fd, &c, 1, 0) == 0;
}

// One request on a connection of its own.
static struct reply ask(const struct fixture *f, const char *text)
{
    struct reply r;
    int fd = dial(f);
    say(fd, text);
    get_reply(fd, strncmp(text, "HEAD", 4) != 0, &r);
    close(fd);
    return r;
}

static struct reply ask_as(const struct fixture *f, const char *token, const char *line, const char *more)
{
    char text[4096];
    snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s%s", line, token, more,
             strstr(more, "\r\n\r\n") != NULL ? "" : "\r\n");
    return ask(f, text);
}

static struct reply post_as(const struct fixture *f, const char *token, const char *line, const char *headers,
                            const char *body)
{
    char more[4096];
    snprintf(more, sizeof(more), "%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", headers,
             strlen(body), body);
    return ask_as(f, token, line, more);
}

static void expect(struct reply r, int status, const char *says)
{
    if (r.status != status || strstr(r.body, says) == NULL) {
        fail_msg("expected %d and \"%s\", got %d: %s", status, says, r.status, r.body);
    }
    free(r.body);
}

// --- ordinary requests -------------------------------------------------------------------------------------------

static void answers(void **state)
{
    struct fixture *f = *state;
    struct reply r = ask_as(f, "owner", "GET /api/v1/things/a%3Ab", "");
    assert_string_equal(header(&r, "Content-Type"), "application/json");
    assert_string_equal(header(&r, "ETag"), "\"7\"");
    assert_string_equal(header(&r, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(header(&r, "Connection"), "keep-alive");
    assert_non_null(header(&r, "X-Request-Id"));
    assert_non_null(header(&r, "Date"));
    assert_null(header(&r, "Server"));
    expect(r, 200, "{\"thing\":\"a:b\",\"who\":\"owner\"}");
    expect(ask_as(f, "viewer", "GET /api/v1/things?limit=5&from=1700000000000.001&all&text=%C3%A4b", ""), 200,
           "{\"limit\":5,\"offset\":-1,\"all\":true,\"from\":1700000000000001,\"every\":300000000,\"color\":null,"
           "\"text\":\"\xc3\xa4"
           "b\"}");
    expect(ask_as(f, "viewer", "GET http://elsewhere/api/v1/text?", ""), 200, "plain words\n");
    expect(ask_as(f, "owner", "DELETE /api/v1/things/a", ""), 204, "");
    expect(ask_as(f, "viewer", "GET /api/v1/steps", ""), 200, "{\"second\":true}");
    expect(ask(f, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"), 200, "{}");
    expect(ask(f, "\r\nGET /ping HTTP/1.0\r\n\r\n"), 200, "{}");
}

static void takes_bodies(void **state)
{
    struct fixture *f = *state;
    struct reply r = post_as(f, "owner", "POST /api/v1/things", "", "{\"id\":\"a\"}");
    assert_string_equal(header(&r, "Location"), "/api/v1/things/a");
    expect(r, 201, "\"id\":\"a\"");
    expect(ask_as(f, "owner", "POST /api/v1/things",
                  "Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "5;ext=1\r\n{\"id\"\r\n6\r\n: \"b\"}\r\n0\r\nTrailer: x\r\n\r\n"),
           201, "\"id\":\"b\"");
    expect(ask_as(f, "owner", "PATCH /api/v1/things/a",
                  "Content-Type: application/merge-patch+json\r\nContent-Length: 2\r\n\r\n{}"),
           200, "{\"if_match\":-1}");
    expect(ask_as(f, "owner", "POST /api/v1/things/import",
                  "Content-Type: application/x-ndjson\r\nContent-Length: 6\r\n\r\n{}\n{}\n"),
           200, "{\"lines\":2}");
    expect(ask(f, "POST /api/v1/join HTTP/1.1\r\nHost: x\r\nAuthorization: bearer  claim\r\n\r\n"), 200,
           "{\"token_bytes\":5,\"body\":false}");
}

static void head_is_get_without_a_body(void **state)
{
    struct fixture *f = *state;
    struct reply r = ask(f, "HEAD /api/v1/things/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n");
    assert_int_equal(strtol(header(&r, "Content-Length"), NULL, 10), strlen("{\"thing\":\"a\",\"who\":\"owner\"}"));
    expect(r, 200, "");
    expect(ask(f, "HEAD /api/v1/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n"), 405, "");
}

static void keeps_alive_and_answers_in_order(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    int fd = dial(f);
    for (int i = 0; i < 20; i++) { // in one go: operations of all three kinds behind each other
        char text[400];
        snprintf(text, sizeof(text),
                 "GET /api/v1/things/t%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n"
                 "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
                 "DELETE /api/v1/things/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n",
                 i);
        say(fd, text);
    }
    for (int i = 0; i < 20; i++) {
        char want[40];
        snprintf(want, sizeof(want), "{\"thing\":\"t%d\",", i);
        get_reply(fd, true, &r);
        expect(r, 200, want);
        get_reply(fd, true, &r);
        expect(r, 200, "{}");
        get_reply(fd, true, &r);
        expect(r, 204, "");
    }
    say(fd, "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    get_reply(fd, true, &r);
    assert_string_equal(header(&r, "Connection"), "close");
    expect(r, 200, "{}");
    assert_true(ended(fd));
    close(fd);
}

static void reads_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n"
                               "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"id\":\"a\"}";
    int fd = dial(f);
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        put(fd, text + i, 1);
    }
    struct reply r;
    get_reply(fd, true, &r);
    expect(r, 201, "\"id\":\"a\"");
    close(fd);
}

static void an_idle_connection_ends(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    int fd = dial(f);
    say(fd, "GET /api/v1/text HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n");
    get_reply(fd, true, &r);
    expect(r, 200, "plain");
    assert_true(ended(fd)); // idle_ms later
    close(fd);
}

// A long reply to a slow reader is not cut by closing, nor by the time an idle connection has.
static void slow_readers_get_it_all(void **state)
{
    struct fixture *f = *state;
    static const char *const ends[] = {"Connection: close\r\n", ""};
    for (int i = 0; i < 2; i++) {
        struct reply r;
        char text[200];
        int fd = dial(f);
        int small = 65536;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        snprintf(text, sizeof(text),
                 "GET /api/v1/large?n=400000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n%s\r\n", ends[i]);
        say(fd, text);
        get_head(fd, &r);
        size_t left = strtoul(header(&r, "Content-Length"), NULL, 10);
        assert_true(left > 7000000);
        static char piece[200000];
        while (left > 0) {
            size_t want = left < sizeof(piece) ? left : sizeof(piece);
            ssize_t got = recv(fd, piece, want, MSG_WAITALL);
            assert_int_equal(got, want);
            left -= want;
            usleep(i == 0 ? 160000 : 20000); // 6 s in all; and more than idle_ms
        }
        close(fd);
    }
}

// Requests sent ahead wait for the replies to be read, however long these are.
static void fast_askers_wait(void **state)
{
    struct fixture *f = *state;
    static const char ask_large[] =
        "GET /api/v1/large?n=400000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n";
    int fd = dial(f);
    for (int i = 0; i < 6; i++) { // together far over HTTP_OUT_MAX
        say(fd, ask_large);
    }
    usleep(100000);
    for (int i = 0; i < 6; i++) {
        struct reply r;
        get_head(fd, &r);
        assert_int_equal(r.status, 200);
        static char piece[200000];
        for (size_t left = strtoul(header(&r, "Content-Length"), NULL, 10); left > 0;) {
            ssize_t got = recv(fd, piece, left < sizeof(piece) ? left : sizeof(piece), 0);
            assert_true(got > 0);
            left -= (size_t)got;
        }
    }
    close(fd);
}

// --- who may -----------------------------------------------------------------------------------------------------

static void strangers_learn_nothing(void **state)
{
    struct fixture *f = *state;
    struct reply r = ask(f, "GET /api/v1/things/a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(header(&r, "WWW-Authenticate"), "Bearer realm=\"muster\"");
    assert_string_equal(header(&r, "Content-Type"), "application/problem+json");
    expect(r, 401, "\"code\":\"unauthenticated\"");
    assert_int_equal(f->core.ran, 0); // not worth a question to the store
    r = ask_as(f, "nobody", "GET /api/v1/things/a", "");
    assert_string_equal(header(&r, "WWW-Authenticate"), "Bearer realm=\"muster\", error=\"invalid_token\"");
    expect(r, 401, "a valid token is needed");
    // what is wrong with a request is told only to those who may make it
    expect(ask_as(f, "nobody", "GET /api/v1/things?limit=0", ""), 401, "a valid token");
    expect(post_as(f, "nobody", "POST /api/v1/things", "", "{"), 401, "a valid token");
    expect(post_as(f, "viewer", "POST /api/v1/things", "", "{"), 403, "device:write");
    expect(ask(f, "GET /api/v1/text HTTP/1.1\r\nHost: x\r\nAuthorization: Basic b3duZXI6\r\n\r\n"), 401, "valid token");
    assert_int_equal(f->core.created, 0);
}

static void other_tenants_see_nothing(void **state)
{
    struct fixture *f = *state;
    struct reply foreign = ask_as(f, "other", "GET /api/v1/things/x", "");
    struct reply unknown = ask_as(f, "owner", "GET /api/v1/things/none", "");
    assert_int_equal(foreign.status, 404);
    assert_int_equal(unknown.status, 404);
    expect(foreign, 404, "there is no thing x");
    expect(unknown, 404, "there is no thing none");
}

static void guessing_is_held_back(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        expect(ask_as(f, "guess", "GET /api/v1/text", ""), 401, "");
    }
    assert_int_equal(f->core.failures, 5);
    unsigned ran = f->core.ran;
    struct reply r = ask_as(f, "guess", "GET /api/v1/text", "");
    assert_true(strtol(header(&r, "Retry-After"), NULL, 10) > 0);
    expect(r, 429, "\"code\":\"limit\"");
    assert_int_equal(f->core.ran, ran);
    expect(ask(f, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"), 200, "{}");
}

// --- errors ------------------------------------------------------------------------------------------------------

static void says_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct reply r = ask_as(f, "owner", "PUT /api/v1/things/a", "");
    assert_string_equal(header(&r, "Allow"), "GET, HEAD, PATCH, DELETE");
    expect(r, 405, "\"code\":\"method_not_allowed\"");
    expect(ask_as(f, "owner", "OPTIONS /api/v1/things", ""), 405, "GET, HEAD, POST");
    expect(ask_as(f, "owner", "GET /nowhere", ""), 404, "\"code\":\"not_found\"");
    expect(ask_as(f, "owner", "GET /api/v1/things?limit=0", ""), 400, "\"parameter\":\"limit\"");
    expect(post_as(f, "owner", "POST /api/v1/things", "", "{\"id\":\"a\",\"parts\":[{\"n\":1},{}]}"), 400,
           "\"pointer\":\"/parts/1/n\"");
    expect(post_as(f, "owner", "POST /api/v1/things", "", "{\"id\":\"taken\"}"), 409, "\"pointer\":\"/id\"");
    expect(post_as(f, "owner", "POST /api/v1/things", "", "{\"id\":"), 400, "\"code\":\"malformed\"");
    expect(post_as(f, "owner", "POST /api/v1/things", "", "{\"id\":\"a\",\"id\":\"b\"}"), 400, "id");
    expect(post_as(f, "owner", "POST /api/v1/things", "", "{\"id\":\"a\\u0000\"}"), 400, "");
    static const char *const odd[] = {"\"\\ud800\"",
                                      "\"\\udc00\\ud800\"",
                                      "1e999",
                                      "-1e999",
                                      "99999999999999999999",
                                      "\"\xff\"",
                                      "{\"\\u0000\":1}",
                                      "01",
                                      "1.",
                                      "'a'",
                                      "nul",
                                      "\"\t\"",
                                      "[1,]"};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        char body[80];
        snprintf(body, sizeof(body), "{\"id\":\"a\",\"any\":%s}", odd[i]);
        expect(post_as(f, "owner", "POST /api/v1/things", "", body), 400, "\"code\":\"");
    }
    expect(post_as(f, "owner", "POST /api/v1/things", "", ""), 400, "needs a body");
    expect(post_as(f, "owner", "PATCH /api/v1/things/a", "", "[]"), 400, "type array");
    expect(post_as(f, "owner", "DELETE /api/v1/things/a", "", "{}"), 400, "no request body");
    expect(ask_as(f, "owner", "POST /api/v1/things", "Content-Length: 2\r\n\r\n{}"), 415, "application/json");
    expect(ask_as(f, "owner", "POST /api/v1/things",
                  "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
           415, "Content-Encoding");
    r = ask_as(f, "owner", "GET /api/v1/fail?code=storage_full", "");
    assert_non_null(header(&r, "Retry-After"));
    expect(r, 507, "\"code\":\"storage_full\"");
    expect(ask_as(f, "owner", "GET /api/v1/fail?code=conflict", ""), 409, "\"detail\":\"as asked: conflict\"");
    expect(ask_as(f, "owner", "GET /api/v1/fail?code=corrupt", ""), 500, "internal error; the log has it");
    atomic_store(&f->core.refuse, ST_BUSY);
    expect(ask_as(f, "owner", "GET /api/v1/text", ""), 503, "\"code\":\"busy\"");
}

static void deep_documents_are_refused(void **state)
{
    struct fixture *f = *state;
    char body[1024] = "{\"id\":\"a\",\"any\":";
    size_t n = strlen(body);
    memset(body + n, '[', 500);
    expect(post_as(f, "owner", "POST /api/v1/things", "", body), 400, "\"code\":");
    assert_int_equal(f->core.created, 0);
}

static void refuses_what_is_not_http(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int status;
    } bad[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET /ping HTTP/1.1\r\n\r\n", 400},                       // no Host
        {"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400}, // two
        {"GET /ping HTTP/1.1\r\nHost: a\r\nBad Header: b\r\n\r\n", 400},
        {"GET /ping HTTP/2.0\r\nHost: a\r\n\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"POST /api/v1/join HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST /api/v1/join HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", 400},
        {"POST /api/v1/join HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST /api/v1/join HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST /api/v1/join HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
        {"GET /ping HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reply r = ask(f, bad[i].text);
        if (r.status != bad[i].status) {
            fail_msg("%s: %d", bad[i].text, r.status);
        }
        free(r.body);
    }
    assert_int_equal(f->core.ran, 0);
    expect(ask(f, "GET /ping HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), 200, "{}");
}

static void heads_are_bounded(void **state)
{
    struct fixture *f = *state;
    char text[20000] = "GET /ping HTTP/1.1\r\nHost: x\r\nLong: ";
    size_t n = strlen(text);
    memset(text + n, 'a', 17000);
    expect(ask(f, text), 431, "16384 bytes");
    n = (size_t)snprintf(text, sizeof(text), "GET /ping HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 64; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "H%d: x\r\n", i);
    }
    expect(ask(f, text), 431, "64 headers");
}

static void bodies_are_bounded(void **state)
{
    struct fixture *f = *state;
    // told at once, without waiting for the body
    expect(
        ask_as(f, "owner", "POST /api/v1/things", "Content-Type: application/json\r\nContent-Length: 2000000\r\n\r\n{"),
        413, "at most 1048576");
    // a little too much is read to its end, and the connection lives on
    struct reply r;
    char head[300];
    static char body[70000];
    memset(body, 'x', sizeof(body));
    int fd = dial(f);
    snprintf(head, sizeof(head),
             "POST /api/v1/things/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n"
             "Content-Type: application/x-ndjson\r\nContent-Length: %zu\r\n\r\n",
             sizeof(body));
    say(fd, head);
    put(fd, body, sizeof(body));
    get_reply(fd, true, &r);
    expect(r, 413, "at most 65536");
    // the same in chunks, which show their size only as they come
    say(fd, "POST /api/v1/things/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n");
    put(fd, body, sizeof(body));
    say(fd, "\r\n0\r\n\r\n");
    get_reply(fd, true, &r);
    expect(r, 413, "at most 65536");
    close(fd);
}

// --- bodies of strangers -----------------------------------------------------------------------------------------

static void a_strangers_body_waits_for_the_token(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    int fd = dial(f);
    say(fd, "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nobody\r\n"
            "Content-Type: application/json\r\nContent-Length: 500000\r\n\r\n");
    get_reply(fd, true, &r); // no byte of the body was sent
    assert_string_equal(header(&r, "Connection"), "close");
    expect(r, 401, "valid token");
    close(fd);
    fd = dial(f);
    say(fd, "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: application/json\r\n\r\n");
    get_reply(fd, true, &r);
    expect(r, 401, "valid token");
    close(fd);
    fd = dial(f);
    say(fd, "POST /api/v1/things/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: 20000\r\n\r\n");
    static char body[20000];
    memset(body, '\n', sizeof(body));
    put(fd, body, sizeof(body));
    get_reply(fd, true, &r);
    expect(r, 200, "{\"lines\":20000}");
    close(fd);
}

static void asks_for_the_body(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    int fd = dial(f);
    say(fd, "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\nExpect: 100-continue\r\n"
            "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n");
    get_head(fd, &r);
    assert_int_equal(r.status, 100);
    say(fd, "{\"id\":\"a\"}");
    get_reply(fd, true, &r);
    expect(r, 201, "\"a\"");
    close(fd);
    // refused without asking: early, by the token, and by the caller's own mistake
    expect(ask(f, "POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"), 404, "");
    expect(ask_as(f, "viewer", "POST /api/v1/things",
                  "Expect: 100-continue\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"),
           403, "");
    expect(ask_as(f, "owner", "POST /api/v1/things",
                  "Expect: 100-continue\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"),
           415, "");
}

// --- conditions, keys, compression -------------------------------------------------------------------------------

static void versions_are_compared(void **state)
{
    struct fixture *f = *state;
    static const char *const same[] = {"\"7\"", "W/\"7\"", "\"1\", \"7\"", "*"};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        char more[80];
        snprintf(more, sizeof(more), "If-None-Match: %s\r\n", same[i]);
        struct reply r = ask_as(f, "owner", "GET /api/v1/things/a", more);
        assert_string_equal(header(&r, "ETag"), "\"7\"");
        expect(r, 304, "");
    }
    expect(ask_as(f, "owner", "GET /api/v1/things/a", "If-None-Match: \"77\"\r\n"), 200, "a");
    expect(post_as(f, "owner", "PATCH /api/v1/things/a", "If-Match: \"7\"\r\n", "{}"), 200, "{\"if_match\":7}");
    expect(post_as(f, "owner", "PATCH /api/v1/things/a", "If-Match: *\r\n", "{}"), 200, "{\"if_match\":-1}");
    expect(post_as(f, "owner", "PATCH /api/v1/things/a", "If-Match: \"8\"\r\n", "{}"), 412, "version_mismatch");
    expect(post_as(f, "owner", "PATCH /api/v1/things/a", "If-Match: W/\"7\"\r\n", "{}"), 412, "one \\\"version\\\"");
    expect(ask_as(f, "owner", "DELETE /api/v1/things/a", "If-Match: \"7\"\r\n"), 400, "does not take If-Match");
}

static void a_keyed_request_happens_once(void **state)
{
    struct fixture *f = *state;
    expect(post_as(f, "owner", "POST /api/v1/things", "Idempotency-Key: k1\r\n", "{\"id\":\"a\"}"), 201, "\"calls\":1");
    struct reply r = post_as(f, "owner", "POST /api/v1/things", "Idempotency-Key: k1\r\n", "{\"id\":\"a\"}");
    assert_string_equal(header(&r, "Idempotency-Replayed"), "true");
    assert_string_equal(header(&r, "Location"), "/api/v1/things/a");
    assert_string_equal(header(&r, "ETag"), "\"1\"");
    expect(r, 201, "\"calls\":1");
    expect(post_as(f, "owner", "POST /api/v1/things", "Idempotency-Key: k1\r\n", "{\"id\":\"b\"}"), 422,
           "\"code\":\"idempotency_key_reused\"");
    assert_int_equal(f->core.created, 1);
    expect(post_as(f, "other", "POST /api/v1/things", "Idempotency-Key: k1\r\n", "{\"id\":\"b\"}"), 201, "\"calls\":2");
    expect(post_as(f, "viewer", "POST /api/v1/things", "Idempotency-Key: k1\r\n", "{\"id\":\"a\"}"), 403, "");
    // a failure is not kept
    expect(post_as(f, "owner", "POST /api/v1/things", "Idempotency-Key: k2\r\n", "{\"id\":\"taken\"}"), 409, "");
    expect(post_as(f, "owner", "POST /api/v1/things", "Idempotency-Key: k2\r\n", "{\"id\":\"c\"}"), 201, "\"calls\":4");
    expect(post_as(f, "owner", "POST /api/v1/things", "Idempotency-Key: \r\n", "{\"id\":\"a\"}"), 400, "1 to 128");
    expect(post_as(f, "owner", "POST /api/v1/join", "Idempotency-Key: k\r\n", "{}"), 400, "does not take");
}

static void large_replies_are_compressed(void **state)
{
    struct fixture *f = *state;
    struct reply plain = ask_as(f, "owner", "GET /api/v1/large?n=1000", "");
    assert_null(header(&plain, "Content-Encoding"));
    assert_string_equal(header(&plain, "Vary"), "Accept-Encoding");
    struct reply zipped = ask_as(f, "owner", "GET /api/v1/large?n=1000", "Accept-Encoding: br, gzip;q=0.5\r\n");
    assert_string_equal(header(&zipped, "Content-Encoding"), "gzip");
    assert_true(zipped.body_len * 10 < plain.body_len);
    char *back = calloc(1, plain.body_len + 1);
    z_stream z = {.next_in = (Bytef *)zipped.body,
                  .avail_in = (uInt)zipped.body_len,
                  .next_out = (Bytef *)back,
                  .avail_out = (uInt)plain.body_len + 1};
    assert_int_equal(inflateInit2(&z, 31), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    inflateEnd(&z);
    assert_string_equal(back, plain.body);
    free(back);
    free(zipped.body);
    free(plain.body);
    struct reply r = ask_as(f, "owner", "GET /api/v1/large?n=2", "Accept-Encoding: gzip\r\n");
    assert_null(header(&r, "Content-Encoding")); // too small to gain
    expect(r, 200, "[");
    r = ask_as(f, "owner", "GET /api/v1/large?n=1000", "Accept-Encoding: gzip;q=0, *\r\n");
    assert_null(header(&r, "Content-Encoding"));
    expect(r, 200, "[");
    expect(ask_as(f, "owner", "GET /api/v1/large?n=1000000", ""), 413, "ask for less");
}

// --- the connection goes while the core works --------------------------------------------------------------------

static void the_peer_leaves_early(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->core.hold, true);
    int fd = dial(f);
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    say(fd, "GET /api/v1/steps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\r\n");
    struct op *held = NULL;
    while (held == NULL) {
        usleep(1000);
        held = atomic_load(&f->core.held);
    }
    close(fd); // reset
    usleep(20000);
    atomic_store(&f->core.hold, false);
    loop_post(f->loop, &held->post);
    expect(ask(f, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"), 200, "{}");
}

// --- event streams -----------------------------------------------------------------------------------------------

static void publish(struct fixture *f, uint32_t tenant, const char *json)
{
    struct event *ev = event_new(EV_TWIN, tenant, 1, "d1", 0, slice_str(json));
    assert_non_null(ev);
    events_publish(f->core.events, ev);
}

static void wait_for(int fd, const char *text)
{
    static char seen[8192];
    size_t n = 0;
    memset(seen, 0, sizeof(seen));
    while (strstr(seen, text) == NULL) {
        assert_true(n + 1 < sizeof(seen));
        ssize_t got = recv(fd, seen + n, 1, 0);
        if (got != 1) {
            fail_msg("the stream ended before \"%s\": %s", text, seen);
        }
        n++;
    }
}

static int watch(const struct fixture *f, const char *token, const char *more)
{
    char text[300];
    snprintf(text, sizeof(text), "GET /api/v1/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", token,
             more);
    int fd = dial(f);
    say(fd, text);
    return fd;
}

static void streams_events(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    int fd = watch(f, "viewer", "");
    get_head(fd, &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "Content-Type"), "text/event-stream");
    assert_null(header(&r, "Content-Length"));
    wait_for(fd, "retry: 2000\n\n");
    publish(f, 2, "{\"foreign\":1}");
    publish(f, 1, "{\"a\":1}");
    char id[EVENT_ID_MAX];
    events_id(f->core.events, 1, id);
    char want[200];
    snprintf(want, sizeof(want), "id: ");
    wait_for(fd, want);
    wait_for(fd, "\nevent: twin\ndata: {\"a\":1}\n\n");
    int second = watch(f, "viewer", ""); // streams_max is 1
    get_reply(second, true, &r);
    expect(r, 503, "too many event streams");
    close(second);
    say(fd, "x"); // nothing is to be sent on a stream
    assert_true(ended(fd));
    close(fd);
}

static void a_stream_resumes(void **state)
{
    struct fixture *f = *state;
    int fd = watch(f, "owner", "");
    wait_for(fd, "retry: 2000\n\n");
    publish(f, 1, "{\"n\":1}");
    wait_for(fd, "id: ");
    char id[64] = "";
    for (size_t n = 0; n + 1 < sizeof(id) && recv(fd, id + n, 1, 0) == 1 && id[n] != '\n'; n++) {
    }
    id[strcspn(id, "\n")] = '\0';
    close(fd);
    publish(f, 1, "{\"n\":2}");
    char more[100];
    snprintf(more, sizeof(more), "Last-Event-ID: %s\r\n", id);
    struct reply r;
    do { // until the first one's end was noticed
        fd = watch(f, "owner", more);
        get_head(fd, &r);
        if (r.status != 200) {
            close(fd);
            usleep(5000);
        }
    } while (r.status == 503);
    wait_for(fd, "data: {\"n\":2}\n\n");
    close(fd);
    do {
        fd = watch(f, "owner", "Last-Event-ID: 00000000-1\r\n");
        get_head(fd, &r);
        if (r.status != 200) {
            close(fd);
            usleep(5000);
        }
    } while (r.status == 503);
    wait_for(fd, "event: gap\ndata: {\"reason\":\"lost\"}\n\n");
    close(fd);
}

static void a_revoked_token_ends_its_stream(void **state)
{
    struct fixture *f = *state;
    int fd = watch(f, "owner", "");
    wait_for(fd, "retry: 2000\n\n");
    atomic_store(&f->core.revoked, true);
    assert_true(ended(fd)); // at the next look, a second later
    close(fd);
}

static void a_slow_reader_is_let_go(void **state)
{
    struct fixture *f = *state;
    static char json[8001];
    memset(json, '1', sizeof(json) - 1);
    int fd = watch(f, "owner", "");
    wait_for(fd, "retry: 2000\n\n");
    for (int i = 0; i < 3000; i++) { // 24 MB: more than the kernel and the front keep
        publish(f, 1, json);
        if (i % 50 == 0) {
            usleep(1000);
        }
    }
    static const char last[] = "event: gap\ndata: {\"reason\":\"slow_reader\"}\n\n";
    static char seen[32u << 20];
    size_t n = 0;
    for (ssize_t got = 1; got > 0; n += got > 0 ? (size_t)got : 0) {
        assert_true(n + 65536 < sizeof(seen));
        got = recv(fd, seen + n, 65536, 0);
        assert_true(got >= 0); // ended in order
    }
    assert_true(n > sizeof(last));
    assert_memory_equal(seen + n - (sizeof(last) - 1), last, sizeof(last) - 1);
    close(fd);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers),
        TEST(takes_bodies),
        TEST(head_is_get_without_a_body),
        TEST(keeps_alive_and_answers_in_order),
        TEST(reads_byte_by_byte),
        TEST(an_idle_connection_ends),
        TEST(slow_readers_get_it_all),
        TEST(fast_askers_wait),
        TEST(strangers_learn_nothing),
        TEST(other_tenants_see_nothing),
        TEST(guessing_is_held_back),
        TEST(says_what_is_wrong),
        TEST(deep_documents_are_refused),
        TEST(refuses_what_is_not_http),
        TEST(heads_are_bounded),
        TEST(bodies_are_bounded),
        TEST(a_strangers_body_waits_for_the_token),
        TEST(asks_for_the_body),
        TEST(versions_are_compared),
        TEST(a_keyed_request_happens_once),
        TEST(large_replies_are_compressed),
        TEST(the_peer_leaves_early),
        TEST(streams_events),
        TEST(a_stream_resumes),
        TEST(a_revoked_token_ends_its_stream),
        TEST(a_slow_reader_is_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
