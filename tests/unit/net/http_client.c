// The client against a server of a few canned answers, chosen by the path, over our own listener.
#include "net/http_client.h"

#include "lib/net_harness.h"
#include "lib/pki.h"

static struct pki pki;
static struct pki_cert ca, server, device;
static const char *ca_file, *cert_file, *key_file, *device_cert_file, *device_key_file;
static struct harness h;
static char seen[8192]; // the head of the last request
static struct buf body; // and its body

// ---- the server ----

static size_t number_after(const char *text, const char *name)
{
    const char *at = strcasestr(text, name);
    return at != NULL ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static void answer(struct conn *c, const char *status, const char *headers, const char *text)
{
    struct buf *out = conn_out(c);
    buf_printf(out, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status, headers, strlen(text));
    if (strncmp(seen, "HEAD ", 5) != 0) {
        buf_str(out, text);
    }
    conn_flush_later(c);
}

static void serve_hello(struct conn *c)
{
    answer(c, "200 OK", "ETag: \"7\"\r\nX-Two: a\r\n", "hello");
}
static void serve_missing(struct conn *c)
{
    answer(c, "404 Not Found", "Content-Type: application/problem+json\r\n", "{\"code\":\"not_found\"}");
}
static void serve_moved(struct conn *c)
{
    answer(c, "302 Found", "Location: /hello\r\n", "");
}
static void serve_big(struct conn *c)
{
    static char big[100001];
    memset(big, 'x', sizeof(big) - 1);
    answer(c, "200 OK", "", big);
}
static void serve_events(struct conn *c)
{
    conn_write(c, SLICE("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"));
}
static void serve_broken(struct conn *c)
{
    conn_write(c, SLICE("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"));
    conn_close(c, "");
}
static void serve_once(struct conn *c) // keep-alive promised, then closed
{
    answer(c, "200 OK", "", "once");
    conn_close(c, "");
}
static struct timer drip_timer;
static void drip(struct timer *t)
{
    struct conn *c = conn_find(t->loop, h.last_id);
    if (c == NULL) {
        timer_stop(t);
    } else {
        conn_write(c, SLICE("."));
    }
}
static void serve_drip(struct conn *c) // a byte now and then
{
    atomic_store(&h.last_id, conn_id(c));
    conn_write(c, SLICE("HTTP/1.1 200 OK\r\n\r\n"));
    timer_init(&drip_timer, conn_loop(c), drip);
    timer_start(&drip_timer, 400, 400);
}
static void serve_nothing(struct conn *c)
{
    (void)c;
}

static const struct {
    const char *path;
    void (*fn)(struct conn *c);
} routes[] = {{" /hello ", serve_hello}, {" /missing ", serve_missing}, {" /moved ", serve_moved},
              {" /big ", serve_big},     {" /events ", serve_events},   {" /broken ", serve_broken},
              {" /once ", serve_once},   {" /nothing ", serve_nothing}, {" /drip ", serve_drip}};

static size_t http_data(struct conn *c, struct slice in)
{
    const uint8_t *end = memmem(in.p, in.len, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    size_t head = (size_t)(end - in.p) + 4;
    assert_true(head < sizeof(seen));
    assert_true(slice_to_cstr(slice_head(in, head), seen, sizeof(seen)));
    size_t len = number_after(seen, "content-length: ");
    struct slice rest = slice_from(in, head);
    bool chunked = strcasestr(seen, "transfer-encoding: chunked") != NULL;
    const uint8_t *last = chunked && rest.len > 0 ? memmem(rest.p, rest.len, "0\r\n\r\n", 5) : NULL;
    if (chunked) {
        len = last != NULL ? (size_t)(last - rest.p) + 5 : SIZE_MAX;
    }
    if (rest.len < len) {
        return 0;
    }
    buf_clear(&body);
    buf_slice(&body, slice_head(rest, len));
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strstr(seen, routes[i].path) != NULL) {
            routes[i].fn(c);
            return head + len;
        }
    }
    fail_msg("no route: %s", seen);
    return 0;
}

static enum status http_open(struct conn *c, void *front)
{
    (void)front;
    conn_authenticated(c);
    return ST_OK;
}

static const struct conn_proto http_proto = {.name = "http", .on_open = http_open, .on_data = http_data};

static int group_setup(void **state)
{
    (void)state;
    pki_init(&pki);
    ca = pki_issue(&pki, NULL, PKI_CA, "Test CA", 86400);
    server = pki_issue(&pki, &ca, PKI_SERVER, "localhost", 86400);
    device = pki_issue(&pki, &ca, PKI_CLIENT, "device", 86400);
    ca_file = pki_write_cert(&pki, "ca.pem", &ca);
    cert_file = pki_write_cert(&pki, "server.pem", &server);
    key_file = pki_write_key(&pki, "server.key", &server);
    device_cert_file = pki_write_cert(&pki, "device.pem", &device);
    device_key_file = pki_write_key(&pki, "device.key", &device);
    body = buf_heap(1024 * 1024);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    buf_release(&body);
    pki_cert_release(&ca);
    pki_cert_release(&server);
    pki_cert_release(&device);
    pki_release(&pki);
    return 0;
}

static void start(bool tls)
{
    harness_init(&h);
    h.conf.service.proto = &http_proto;
    h.conf.service.in_max = 512 * 1024;
    const struct tls_server_conf conf = {
        .cert_file = cert_file, .key_file = key_file, .client_ca_file = ca_file, .alpn = {"http/1.1"}};
    h.conf.tls = tls ? tls_server_new(&conf, NULL) : NULL;
    assert_true(!tls || h.conf.tls != NULL);
    harness_start(&h);
    tls_unref(h.conf.tls);
}

// ---- calls ----

static struct http_client *new_client(struct http_client_conf conf)
{
    struct err err = {0};
    struct http_client *c = http_client_new(&conf, &err);
    if (c == NULL) {
        fail_msg("%s", err.text);
    }
    return c;
}

static char url_text[128];
static const char *url(const char *scheme, const char *path)
{
    snprintf(url_text, sizeof(url_text), "%s://localhost:%u%s", scheme, listener_port(h.listener), path);
    return url_text;
}

static void get(struct http_client *c, const char *scheme, const char *path, int status, const char *text)
{
    struct http_reply r;
    struct err err = {0};
    const struct http_call call = {.method = "GET", .url = url(scheme, path)};
    if (http_client_do(c, &call, &r, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(r.status, status);
    assert_true(slice_eq_str(buf_view(&r.body), text));
    http_reply_release(&r);
}

static void expect_failure(struct http_client *c, const struct http_call *call, enum status st, const char *text)
{
    struct http_reply r;
    struct err err = {0};
    assert_int_equal(http_client_do(c, call, &r, &err), st);
    if (strstr(err.text, text) == NULL) {
        fail_msg("expected '%s', got '%s'", text, err.text);
    }
    http_reply_release(&r);
}

static void plain_calls(void **state)
{
    (void)state;
    start(false);
    struct http_client *c = new_client((struct http_client_conf){.user_agent = "test/1"});
    get(c, "http", "/hello", 200, "hello");
    assert_string_equal(http_client_header(c, "etag"), "\"7\"");
    assert_string_equal(http_client_header(c, "X-TWO"), "a");
    assert_null(http_client_header(c, "x-three"));
    assert_non_null(strstr(seen, "User-Agent: test/1\r\n"));
    assert_null(strcasestr(seen, "authorization"));
    get(c, "http", "/missing", 404, "{\"code\":\"not_found\"}");
    get(c, "http", "/moved", 302, ""); // not followed
    struct listener_stats st;
    listener_stats(h.listener, &st);
    assert_int_equal(st.accepted, 1); // one connection served them all
    http_client_free(c);
    harness_end(&h);
}

static void bodies_and_methods(void **state)
{
    (void)state;
    start(false);
    struct http_client *c = new_client((struct http_client_conf){.bearer = NULL});
    static const char *const headers[] = {"Content-Type: application/merge-patch+json", "If-Match: \"3\"", NULL};
    struct http_reply r;
    struct http_call call = {
        .method = "PATCH", .url = url("http", "/hello"), .headers = headers, .body = SLICE("{\"a\":1}")};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    http_reply_release(&r);
    assert_memory_equal(seen, "PATCH /hello ", 13);
    assert_non_null(strstr(seen, "Content-Type: application/merge-patch+json\r\n"));
    assert_non_null(strstr(seen, "If-Match: \"3\"\r\n"));
    assert_null(strcasestr(seen, "expect:"));
    assert_true(slice_eq_str(buf_view(&body), "{\"a\":1}"));
    call = (struct http_call){.method = "DELETE", .url = url_text};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    http_reply_release(&r);
    assert_memory_equal(seen, "DELETE /hello ", 14);
    assert_int_equal(body.len, 0);
    call = (struct http_call){.method = "POST", .url = url_text, .body = SLICE("")};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    http_reply_release(&r);
    assert_memory_equal(seen, "POST /hello ", 12);
    assert_non_null(strstr(seen, "Content-Length: 0\r\n"));
    call = (struct http_call){.method = "HEAD", .url = url_text};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    assert_int_equal(r.body.len, 0);
    http_reply_release(&r);
    get(c, "http", "/hello", 200, "hello");
    http_client_free(c);
    harness_end(&h);
}

// A kept connection that the server has closed meanwhile: the call is repeated on a new one.
static void stale_connection_is_replaced(void **state)
{
    (void)state;
    start(false);
    struct http_client *c = new_client((struct http_client_conf){.bearer = NULL});
    for (int i = 0; i < 3; i++) {
        struct http_reply r;
        const struct http_call call = {.method = "POST", .url = url("http", "/once"), .body = SLICE("again")};
        assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
        assert_true(slice_eq_str(buf_view(&r.body), "once"));
        http_reply_release(&r);
        assert_true(slice_eq_str(buf_view(&body), "again"));
    }
    http_client_free(c);
    harness_end(&h);
}

struct feed {
    int left;
    bool fail;
    char got[64];
    int pieces;
    int patience;
};
static int64_t feed_upload(void *arg, uint8_t *dst, size_t max)
{
    struct feed *f = arg;
    if (f->fail) {
        return -1;
    }
    assert_true(max >= 6);
    memcpy(dst, "line\r\n", 6);
    return f->left-- > 0 ? 6 : 0;
}

static void uploads_stream(void **state)
{
    (void)state;
    start(false);
    struct http_client *c = new_client((struct http_client_conf){.bearer = NULL});
    struct feed f = {.left = 3};
    struct http_reply r;
    struct http_call call = {
        .method = "POST", .url = url("http", "/hello"), .upload = feed_upload, .upload_len = -1, .arg = &f};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    http_reply_release(&r);
    assert_non_null(strcasestr(seen, "Transfer-Encoding: chunked"));
    assert_true(slice_eq_str(buf_view(&body), "6\r\nline\r\n\r\n6\r\nline\r\n\r\n6\r\nline\r\n\r\n0\r\n\r\n"));
    f = (struct feed){.left = 2};
    call.upload_len = 12;
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    http_reply_release(&r);
    assert_true(slice_eq_str(buf_view(&body), "line\r\nline\r\n"));
    f.fail = true;
    expect_failure(c, &call, ST_IO, "given up");
    http_client_free(c);
    harness_end(&h);
}

static bool take_piece(void *arg, struct slice piece)
{
    struct feed *f = arg;
    size_t len = strlen(f->got);
    f->pieces++;
    assert_true(len + piece.len < sizeof(f->got));
    assert_true(slice_to_cstr(piece, f->got + len, sizeof(f->got) - len));
    return strstr(f->got, "data: 3") == NULL;
}
static bool not_patient(void *arg)
{
    return ((struct feed *)arg)->patience-- > 0;
}

static void events_arrive_as_they_come(void **state)
{
    (void)state;
    start(false);
    struct http_client *c = new_client((struct http_client_conf){.bearer = NULL});
    struct feed f = {.left = 0};
    struct http_reply r;
    struct http_call call = {.method = "GET", .url = url("http", "/events"), .on_data = take_piece, .arg = &f};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    assert_true(r.stopped);
    assert_int_equal(r.status, 200);
    assert_string_equal(f.got, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    http_reply_release(&r);
    f = (struct feed){.patience = 2};
    call.url = url("http", "/nothing"); // silent for ever: the caller ends it
    call.go_on = not_patient;
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    assert_true(r.stopped);
    assert_int_equal(r.status, 0);
    http_reply_release(&r);
    call = (struct http_call){.method = "GET", .url = url("http", "/missing"), .on_data = take_piece, .arg = &f};
    f = (struct feed){.pieces = 0};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK);
    assert_int_equal(f.pieces, 0); // an error's text is gathered
    assert_true(r.body.len > 0);
    http_reply_release(&r);
    http_client_free(c);
    harness_end(&h);
}

static bool count_drops(void *arg, struct slice piece)
{
    struct feed *f = arg;
    f->pieces += (int)piece.len;
    return f->pieces < 7;
}

static void silence_ends_a_stream(void **state)
{
    (void)state;
    start(false);
    struct http_client *c = new_client((struct http_client_conf){.idle_timeout_ms = 1200});
    struct feed f = {.pieces = 0};
    struct http_reply r;
    struct http_call call = {.method = "GET", .url = url("http", "/drip"), .on_data = count_drops, .arg = &f};
    assert_int_equal(http_client_do(c, &call, &r, NULL), ST_OK); // slow, but alive for 2.8 s
    assert_int_equal(f.pieces, 7);
    http_reply_release(&r);
    call.url = url("http", "/nothing");
    expect_failure(c, &call, ST_TIMEOUT, "no byte for 1200 ms");
    http_client_free(c);
    harness_end(&h);
}

static void failures_are_told_apart(void **state)
{
    (void)state;
    start(false);
    struct http_client *c =
        new_client((struct http_client_conf){.bearer = "s3cret-token", .timeout_ms = 300, .reply_max_bytes = 1000});
    static const char *const two_lines[] = {"X: 1\r\nY: 2", NULL}, *const no_colon[] = {"X", NULL};
    struct http_call call = {.method = "GET", .url = url("http", "/nothing")};
    expect_failure(c, &call, ST_TIMEOUT, "GET http://localhost");
    call.url = url("http", "/big");
    expect_failure(c, &call, ST_TOO_LARGE, "longer than 1000 bytes");
    call.url = url("http", "/broken");
    expect_failure(c, &call, ST_IO, "/broken");
    call.headers = two_lines;
    expect_failure(c, &call, ST_INVALID, "one line");
    call.headers = no_colon;
    expect_failure(c, &call, ST_INVALID, "one line");
    call.headers = NULL;
    static const struct {
        const char *url, *text;
    } bad[] = {{"", "not an address"},
               {"ftp://localhost/", "https://"},
               {"file:///etc/passwd", "https://"},
               {"http://user:pw@localhost/", "user name or password"},
               {"http://192.0.2.1/", "in the clear"},
               {"http://127.example.test/", "in the clear"},
               {"http://localhost:99999/", "not an address"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        call.url = bad[i].url;
        expect_failure(c, &call, ST_INVALID, bad[i].text);
    }
    get(c, "http", "/hello", 200, "hello");
    assert_non_null(strstr(seen, "Authorization: Bearer s3cret-token\r\n"));
    uint16_t port = listener_port(h.listener);
    harness_end(&h);
    char gone[64];
    snprintf(gone, sizeof(gone), "http://127.0.0.1:%u/", port);
    call.url = gone;
    expect_failure(c, &call, ST_IO, "Connection refused");
    http_client_free(c);
    http_client_free(NULL);
    struct err err = {0};
    const struct http_client_conf bad_token = {.bearer = "two words"};
    assert_null(http_client_new(&bad_token, &err));
    assert_int_equal(err.code, ST_INVALID);
    assert_null(strstr(err.text, "two words"));
}

static void tls_is_verified(void **state)
{
    (void)state;
    start(true);
    struct http_client *c = new_client((struct http_client_conf){
        .ca_file = ca_file, .cert_file = device_cert_file, .key_file = device_key_file, .bearer = "t"});
    get(c, "https", "/hello", 200, "hello");
    http_client_free(c);
    struct http_call call = {.method = "GET", .url = url("https", "/hello")};
    c = new_client((struct http_client_conf){.ca_file = device_cert_file}); // not the server's CA
    expect_failure(c, &call, ST_IO, "SSL certificate problem");
    http_client_free(c);
    c = new_client((struct http_client_conf){.ca_file = "/nowhere/ca.pem"});
    expect_failure(c, &call, ST_INVALID, "/nowhere/ca.pem");
    http_client_free(c);
    c = new_client((struct http_client_conf){.bearer = NULL}); // the system's CAs do not know ours
    expect_failure(c, &call, ST_IO, "SSL certificate problem");
    http_client_free(c);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_calls),
        cmocka_unit_test(bodies_and_methods),
        cmocka_unit_test(stale_connection_is_replaced),
        cmocka_unit_test(uploads_stream),
        cmocka_unit_test(events_arrive_as_they_come),
        cmocka_unit_test(silence_ends_a_stream),
        cmocka_unit_test(failures_are_told_apart),
        cmocka_unit_test(tls_is_verified),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
