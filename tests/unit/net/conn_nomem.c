// Memory that is not to be had: allocations on the loop's thread fail one after another, ours and OpenSSL's, from the accept to
// the close. The connection may end; the server may not, nothing may leak, and the next client must be served.
#include "lib/net_harness.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "lib/pki.h"
#include "lib/ws_frame.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

// Of the loop's thread: how many allocations go well before one fails; negative: none fails.
static _Thread_local int left = -1;
static _Thread_local bool failed;

static bool fails_now(void)
{
    if (left < 0 || left-- > 0) {
        return false;
    }
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

static void *openssl_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails_now() ? NULL : __real_malloc(size);
}

static void *openssl_realloc(void *p, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails_now() ? NULL : __real_realloc(p, size);
}

static void openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

// ---- arming it ----

struct arm {
    struct post post;
    int left;
    bool failed; // since the last arming
    atomic_uint done;
};
static void arm_now(struct post *p)
{
    struct arm *a = (struct arm *)p;
    a->failed = failed;
    failed = false;
    left = a->left;
    atomic_fetch_add(&a->done, 1);
}

// Returns whether an allocation failed since the last call.
static bool arm(struct loop *l, int n)
{
    struct arm a = {.post = {.fn = arm_now}, .left = n};
    loop_post(l, &a.post);
    assert_true(wait_until(&a.done, 1));
    return a.failed;
}

// ---- conversations ----

static struct harness h;
static struct pki pki;
static SSL_CTX *client_ctx;

static bool talk_plain(int fd)
{
    char got[8192];
    static const char line[] = "echo hi\npause\necho there\nflood 8192\nclose\n";
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) <= 0) {
        return false;
    }
    size_t total = 0;
    for (ssize_t n; (n = recv(fd, got, sizeof(got), 0)) > 0; total += (size_t)n) {
    }
    return total == 3 + 6 + 8192 + 4;
}

// The same behind a WebSocket, with pauses in the middle of what has been read, so that all kinds of rest are kept.
static bool talk_websocket(int fd)
{
    char long_line[300];
    memset(long_line, 'x', sizeof(long_line));
    struct buf b = buf_heap(4096);
    buf_str(&b, "upgrade\n");
    ws_frame_text(&b, 0x82, "echo hi\npause\n");
    ws_frame_text(&b, 0x89, "p");
    ws_frame_text(&b, 0x02, "echo ");
    ws_frame(&b, 0x00, long_line, sizeof(long_line));
    ws_frame_text(&b, 0x80, "\nflood 8192\nclose\n");
    bool sent = !b.failed && send(fd, b.p, b.len, MSG_NOSIGNAL) == (ssize_t)b.len;
    buf_release(&b);
    char got[8192];
    size_t total = 0;
    for (ssize_t n; sent && (n = recv(fd, got, sizeof(got), 0)) > 0; total += (size_t)n) {
    }
    // the answer; hi; the pong; the long line, the flood and bye in one frame; the close
    return total == 10 + 2 + 3 + 3 + 4 + 301 + 8192 + 4 + 4;
}

static bool talk_tls(int fd)
{
    char got[8192];
    static const char line[] = "echo hi\npause\necho there\nflood 8192\nclose\n";
    SSL *ssl = SSL_new(client_ctx);
    assert_non_null(ssl);
    SSL_set_fd(ssl, fd);
    size_t total = 0, n = 0;
    bool ok = SSL_connect(ssl) == 1 && SSL_write(ssl, line, (int)strlen(line)) > 0;
    while (ok && SSL_read_ex(ssl, got, sizeof(got), &n) == 1) {
        total += n;
    }
    SSL_free(ssl);
    ERR_clear_error();
    return total == 3 + 6 + 8192 + 4;
}

static void every_allocation_fails_once(bool (*talk)(int fd))
{
    int rounds = 0;
    bool any = true;
    // All of the accept and what is near it; of the thousands inside OpenSSL every 31st.
    for (int n = 0; any; n += n < 100 ? 1 : 31, rounds++) {
        assert_true(n < 20000);
        arm(h.loops[0], n);
        int fd = dial(&h);
        bool ok = talk(fd);
        close(fd);
        assert_true(wait_none_open(&h));
        any = arm(h.loops[0], -1);
        assert_true(ok || any); // without a failure it must have worked
        fd = dial(&h);
        assert_true(talk(fd)); // and the next one does
        close(fd);
    }
    print_message("%d allocations failed\n", rounds - 1);
    assert_true(rounds > 3);
}

static void plain_connection(void **state)
{
    (void)state;
    harness_init(&h);
    harness_start(&h);
    every_allocation_fails_once(talk_plain);
    harness_end(&h);
}

static void websocket(void **state)
{
    (void)state;
    harness_init(&h);
    harness_start(&h);
    every_allocation_fails_once(talk_websocket);
    harness_end(&h);
}

static void tls_connection(void **state)
{
    (void)state;
    pki_init(&pki);
    struct pki_cert ca = pki_issue(&pki, NULL, PKI_CA, "Test CA", 86400);
    struct pki_cert server = pki_issue(&pki, &ca, PKI_SERVER, "localhost", 86400);
    struct pki_cert device = pki_issue(&pki, &ca, PKI_CLIENT, "device", 86400);
    const struct tls_server_conf conf = {.cert_file = pki_write_cert(&pki, "server.pem", &server),
                                         .key_file = pki_write_key(&pki, "server.key", &server),
                                         .client_ca_file = pki_write_cert(&pki, "ca.pem", &ca)};
    client_ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_use_certificate(client_ctx, device.cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(client_ctx, device.key), 1);
    harness_init(&h);
    h.conf.tls = tls_server_new(&conf, NULL);
    assert_non_null(h.conf.tls);
    harness_start(&h);
    tls_unref(h.conf.tls);
    every_allocation_fails_once(talk_tls);
    harness_end(&h);
    SSL_CTX_free(client_ctx);
    pki_cert_release(&ca);
    pki_cert_release(&server);
    pki_cert_release(&device);
    pki_release(&pki);
}

int main(void)
{
    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1) {
        return 1;
    }
    signal(SIGPIPE, SIG_IGN); // the client's; the loop looks after itself
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_connection),
        cmocka_unit_test(websocket),
        cmocka_unit_test(tls_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
