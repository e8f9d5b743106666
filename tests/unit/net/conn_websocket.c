// Connections that something stands in front of: WebSocket frames, a proxy's header, and both under TLS.
#include "lib/net_harness.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "lib/pki.h"
#include "lib/ws_frame.h"
#include "net/admission.h"

static struct harness h;

static int setup(void **state)
{
    (void)state;
    harness_init(&h);
    return 0;
}

static void send_buf(int fd, struct buf *b)
{
    assert_false(b->failed);
    send_all_bytes(fd, b->p, b->len);
    buf_release(b);
}

static int dial_websocket(void)
{
    int fd = dial(&h);
    say(fd, "upgrade\n");
    expect_reply(fd, "switching\n");
    return fd;
}

static void say_frame(int fd, uint8_t first, const char *text)
{
    struct buf b = buf_heap(1 << 20);
    ws_frame_text(&b, first, text);
    send_buf(fd, &b);
}

static void expect_bytes(int fd, const char *want, size_t len)
{
    char got[512];
    assert_true(len <= sizeof(got));
    for (size_t off = 0; off < len;) {
        ssize_t n = recv(fd, got + off, len - off, 0);
        assert_true(n > 0);
        off += (size_t)n;
    }
    assert_memory_equal(got, want, len);
}
#define EXPECT(fd, lit) expect_bytes(fd, lit, sizeof(lit) - 1)

static void frames_both_ways(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial_websocket();
    say_frame(fd, 0x82, "echo hi\n");
    EXPECT(fd, "\x82\x03hi\n");
    say_frame(fd, 0x02, "ec");
    say_frame(fd, 0x89, "?");
    say_frame(fd, 0x80, "ho there\necho again\n");
    EXPECT(fd, "\x8a\x01?\x82\x0cthere\nagain\n");
    say_frame(fd, 0x88, "\x03\xe9gone");
    EXPECT(fd, "\x88\x02\x03\xe9");
    expect_end(fd);
    assert_true(wait_until(&h.closed, 2));
    assert_int_equal(h.causes[CLOSE_EOF], 1);
    close(fd);
    harness_end(&h);
}

// All that was sent with the request to change, before the answer to it.
static void what_follows_the_upgrade_is_frames(void **state)
{
    (void)state;
    harness_start(&h);
    for (size_t piece = 1; piece <= 64; piece = piece * 3 + 1) {
        int fd = dial(&h);
        struct buf b = buf_heap(4096);
        buf_str(&b, "echo plain\nupgrade\n");
        ws_frame_text(&b, 0x82, "echo framed\n");
        for (size_t at = 0; at < b.len; at += piece) {
            struct slice part = slice_head(slice_from(buf_view(&b), at), piece);
            send_all_bytes(fd, part.p, part.len);
            usleep(100);
        }
        buf_release(&b);
        EXPECT(fd, "plain\nswitching\n\x82\x07"
                   "framed\n");
        close(fd);
    }
    harness_end(&h);
}

// A front that pauses in the middle of what has come gets the rest later, in order, and a close after all of it.
static void pauses_keep_the_order(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial_websocket();
    struct buf b = buf_heap(1 << 20);
    for (int i = 0; i < 50; i++) {
        ws_frame_text(&b, 0x82, i % 2 == 0 ? "pause\necho a\n" : "echo b\nyield\n");
        ws_frame_text(&b, 0x89, "p");
    }
    ws_frame_text(&b, 0x88, "\x03\xe8");
    send_buf(fd, &b);
    char got[4096];
    size_t n = 0, letters = 0, pongs = 0;
    for (ssize_t r; (r = recv(fd, got + n, sizeof(got) - n, 0)) > 0; n += (size_t)r) {
    }
    for (size_t i = 0; i + 1 < n; i++) {
        if (got[i + 1] == '\n') {
            assert_int_equal(got[i], letters++ % 2 == 0 ? 'a' : 'b');
        }
        pongs += got[i] == '\x8a';
    }
    assert_int_equal(letters, 50);
    assert_int_equal(pongs, 50);
    assert_memory_equal(got + n - 4, "\x88\x02\x03\xe8", 4);
    close(fd);
    harness_end(&h);
}

// The same when all of it, the end included, comes in one piece; and when the end is a broken frame.
static void an_end_waits_for_the_front(void **state)
{
    (void)state;
    harness_start(&h);
    for (int broken = 0; broken < 2; broken++) {
        int fd = dial_websocket();
        struct buf b = buf_heap(4096);
        ws_frame_text(&b, 0x82, "pause\necho first\npause\necho second\n");
        ws_frame_text(&b, broken ? 0x81 : 0x88, "");
        send_buf(fd, &b);
        EXPECT(fd, "\x82\x06"
                   "first\n\x82\x07second\n");
        size_t n = 0;
        read_to_end(fd, &n);
        assert_int_equal(n, broken ? 4 + strlen("a text message; allowed: binary") : 2);
        close(fd);
    }
    assert_true(wait_until(&h.causes[CLOSE_FRAMING], 1));
    assert_int_equal(h.causes[CLOSE_EOF], 1);
    harness_end(&h);
}

static void broken_frames_end_it(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial_websocket();
    say(fd, "\x82\x04nope");
    EXPECT(fd, "\x88\x1c\x03\xea"
               "a frame that is not masked");
    expect_end(fd);
    assert_true(wait_until(&h.closed, 2));
    assert_int_equal(h.causes[CLOSE_FRAMING], 1);
    assert_string_equal(h.why, "a frame that is not masked");
    close(fd);
    harness_end(&h);
}

static void limits_start_anew(void **state)
{
    (void)state;
    h.authenticate = false;
    h.conf.service.open_timeout_ms = 300;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "auth\nupgrade\n"); // whoever that was
    expect_reply(fd, "switching\n");
    struct buf b = buf_heap(1 << 20);
    char text[5000];
    memset(text, 'x', sizeof(text));
    ws_frame(&b, 0x82, text, sizeof(text)); // over in_max_before_auth
    send_buf(fd, &b);
    assert_true(wait_until(&h.causes[CLOSE_OVERFLOW], 1));
    close(fd);
    fd = dial(&h);
    say(fd, "auth\nupgrade\n");
    expect_reply(fd, "switching\n");
    expect_end(fd); // after open_timeout_ms
    assert_int_equal(h.causes[CLOSE_TIMEOUT], 1);
    close(fd);
    harness_end(&h);
}

static void large_output_is_cut_into_frames(void **state)
{
    (void)state;
    h.conf.service.out_max = 16 * 1024 * 1024;
    harness_start(&h);
    int fd = dial_websocket();
    say_frame(fd, 0x82, "stream 3000000\n");
    size_t payload = 0, frames = 0;
    for (;;) {
        uint8_t head[4];
        if (recv(fd, head, 2, MSG_WAITALL) != 2 || head[0] == 0x88) {
            break;
        }
        size_t len = head[1];
        if (len == 126) {
            assert_int_equal(recv(fd, head + 2, 2, MSG_WAITALL), 2);
            len = (size_t)head[2] << 8 | head[3];
        }
        static char sink[65536];
        assert_int_equal(head[0], 0x82);
        assert_int_equal(recv(fd, sink, len, MSG_WAITALL), len);
        payload += len;
        frames++;
    }
    assert_int_equal(payload, 3000000);
    assert_true(frames >= 3000000 / 16384);
    close(fd);
    harness_end(&h);
}

// Pings whose answers nobody reads.
static void pongs_are_bounded(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial_websocket();
    const int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    struct buf b = buf_heap(1 << 20);
    char text[125] = {0};
    for (int i = 0; i < 500; i++) {
        ws_frame(&b, 0x89, text, sizeof(text));
    }
    bool ended = false;
    for (int i = 0; i < 1000 && !ended; i++) {
        ended = send(fd, b.p, b.len, MSG_NOSIGNAL) < 0;
    }
    buf_release(&b);
    assert_true(ended);
    assert_int_equal(h.causes[CLOSE_OVERFLOW], 1);
    close(fd);
    harness_end(&h);
}

static void the_stop_is_said(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial_websocket();
    say_frame(fd, 0x82, "echo hi\n");
    EXPECT(fd, "\x82\x03hi\n");
    loop_stop(h.loops[0]);
    EXPECT(fd, "\x88\x02\x03\xe9");
    expect_end(fd);
    close(fd);
    harness_end(&h);
}

// ---- under TLS ----

static struct pki pki;
static SSL_CTX *client_ctx;

static void with_tls(void (*test)(void))
{
    pki_init(&pki);
    struct pki_cert ca = pki_issue(&pki, NULL, PKI_CA, "Test CA", 86400);
    struct pki_cert server = pki_issue(&pki, &ca, PKI_SERVER, "localhost", 86400);
    const struct tls_server_conf conf = {.cert_file = pki_write_cert(&pki, "server.pem", &server),
                                         .key_file = pki_write_key(&pki, "server.key", &server)};
    client_ctx = SSL_CTX_new(TLS_client_method());
    h.conf.tls = tls_server_new(&conf, NULL);
    assert_non_null(h.conf.tls);
    harness_start(&h);
    tls_unref(h.conf.tls);
    test();
    harness_end(&h);
    SSL_CTX_free(client_ctx);
    pki_cert_release(&ca);
    pki_cert_release(&server);
    pki_release(&pki);
}

static SSL *secure(int fd)
{
    SSL *ssl = SSL_new(client_ctx);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static void secure_talk(SSL *ssl, const struct buf *b, const char *want, size_t want_len)
{
    char got[512];
    size_t n = 0, off = 0;
    assert_int_equal(SSL_write(ssl, b->p, (int)b->len), (int)b->len);
    while (off < want_len && SSL_read_ex(ssl, got + off, want_len - off, &n) == 1) {
        off += n;
    }
    assert_int_equal(off, want_len);
    assert_memory_equal(got, want, want_len);
}

static void tls_frames(void)
{
    static const char want[] = "switching\n\x8a\x01p\x82\x03hi\n\x82\x06there\n\x88\x02\x03\xe8";
    int fd = dial(&h);
    SSL *ssl = secure(fd);
    struct buf b = buf_heap(4096);
    buf_str(&b, "upgrade\n");
    ws_frame_text(&b, 0x82, "echo hi\npause\n");
    ws_frame_text(&b, 0x89, "p");
    ws_frame_text(&b, 0x82, "echo there\n");
    ws_frame_text(&b, 0x88, "\x03\xe8");
    secure_talk(ssl, &b, want, sizeof(want) - 1);
    buf_release(&b);
    SSL_free(ssl);
    ERR_clear_error();
    close(fd);
}

static void frames_under_tls(void **state)
{
    (void)state;
    with_tls(tls_frames);
}

// ---- behind a proxy ----

static struct admission *trusting(const char *net)
{
    struct addr_net n;
    assert_int_equal(addr_net_parse(net, &n, NULL), ST_OK);
    struct admission *a = admission_new(&(struct admission_conf){.proxy_from = &n, .proxy_from_len = 1});
    assert_non_null(a);
    return a;
}

static void proxy_header_names_the_peer(void **state)
{
    (void)state;
    struct admission *a = trusting("127.0.0.0/8");
    h.conf.admission = a;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "PROXY TCP4 203.0.113.7 198.51.100.1 5632");
    usleep(5000);
    say(fd, "4 443\r\necho hi\nech");
    expect_reply(fd, "hi\n");
    assert_string_equal(h.peer_addr, "203.0.113.7:56324");
    say(fd, "o on\n");
    expect_reply(fd, "on\n");
    close(fd);
    fd = dial(&h);
    say(fd, "echo hi\n"); // no header where one is due
    size_t n = 0;
    read_to_end(fd, &n);
    assert_int_equal(n, 0);
    struct admission_stats s;
    admission_stats(a, &s);
    assert_int_equal(s.proxy_refused, 1);
    assert_int_equal(h.opened, 1);
    close(fd);
    harness_end(&h);
    admission_free(a);
}

static void tls_behind_proxy(void)
{
    int fd = dial(&h);
    say(fd, "PROXY TCP6 2001:db8::7 ::1 77 443\r\n");
    SSL *ssl = secure(fd);
    struct buf b = buf_heap(64);
    buf_str(&b, "echo hi\n");
    secure_talk(ssl, &b, "hi\n", 3);
    assert_string_equal(h.peer_addr, "[2001:db8::7]:77");
    buf_release(&b);
    SSL_free(ssl);
    close(fd);
}

static void proxy_header_before_tls(void **state)
{
    (void)state;
    struct admission *a = trusting("127.0.0.1");
    h.conf.admission = a;
    with_tls(tls_behind_proxy);
    admission_free(a);
}

static void others_are_no_proxies(void **state)
{
    (void)state;
    struct admission *a = trusting("192.0.2.0/24");
    h.conf.admission = a;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "echo hi\n");
    expect_reply(fd, "hi\n");
    assert_memory_equal(h.peer_addr, "127.0.0.1:", 10);
    close(fd);
    harness_end(&h);
    admission_free(a);
}

static bool bans_one(void *arg, const struct addr *peer)
{
    char text[ADDR_TEXT_MAX];
    const char *banned = arg;
    return strncmp(addr_text(peer, text), banned, strlen(banned)) == 0;
}

// Nothing is said to it, and it is no connection for the front.
static void expect_hung_up(const char *first)
{
    int fd = dial(&h);
    say(fd, first);
    size_t n = 0;
    read_to_end(fd, &n);
    assert_int_equal(n, 0);
    close(fd);
}

static void who_is_banned_is_not_let_in(void **state)
{
    (void)state;
    struct admission *a = trusting("127.0.0.1");
    struct listener_stats s;
    h.conf.admission = a;
    h.conf.banned = bans_one;
    h.conf.banned_arg = (void *)(uintptr_t) "203.0.113.7:";
    harness_start(&h);
    expect_hung_up("PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\necho hi\n");
    int fd = dial(&h);
    say(fd, "PROXY TCP4 203.0.113.8 198.51.100.1 56324 443\r\necho hi\n");
    expect_reply(fd, "hi\n");
    close(fd);
    listener_stats(h.listener, &s);
    assert_int_equal(s.refused, 1);
    assert_int_equal(h.opened, 1);
    harness_end(&h);
    admission_free(a);

    harness_init(&h);
    h.conf.banned = bans_one;
    h.conf.banned_arg = (void *)(uintptr_t) "127.0.0.1:";
    harness_start(&h);
    for (int i = 0; i < 3; i++) {
        expect_hung_up("");
    }
    listener_stats(h.listener, &s);
    assert_int_equal(s.refused, 3);
    assert_int_equal(s.accepted, 3);
    assert_int_equal(s.open, 0);
    assert_int_equal(h.opened, 0);
    harness_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(frames_both_ways, setup),
        cmocka_unit_test_setup(what_follows_the_upgrade_is_frames, setup),
        cmocka_unit_test_setup(pauses_keep_the_order, setup),
        cmocka_unit_test_setup(an_end_waits_for_the_front, setup),
        cmocka_unit_test_setup(broken_frames_end_it, setup),
        cmocka_unit_test_setup(limits_start_anew, setup),
        cmocka_unit_test_setup(large_output_is_cut_into_frames, setup),
        cmocka_unit_test_setup(pongs_are_bounded, setup),
        cmocka_unit_test_setup(the_stop_is_said, setup),
        cmocka_unit_test_setup(frames_under_tls, setup),
        cmocka_unit_test_setup(proxy_header_names_the_peer, setup),
        cmocka_unit_test_setup(proxy_header_before_tls, setup),
        cmocka_unit_test_setup(others_are_no_proxies, setup),
        cmocka_unit_test_setup(who_is_banned_is_not_let_in, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
