// A listener with its loops on threads of their own, a small line front behind it, and a blocking client, for tests of net.
//
// The front takes lines. "echo X" answers X; other words make it do what a test wants to see, see line_verbs.
#ifndef TESTS_LIB_NET_HARNESS_H
#define TESTS_LIB_NET_HARNESS_H

// cmocka wants these first
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/conn.h"

#define HARNESS_LOOPS_MAX 4

struct harness {
    struct loop *loops[HARNESS_LOOPS_MAX];
    unsigned loops_len;
    struct listener *listener;
    struct listen_conf conf;
    struct conn_service upgraded; // what "upgrade" leads to: set by harness_start
    atomic_uint opened, closed, drained, offered;
    atomic_uint causes[CLOSE__COUNT];
    pthread_mutex_t lock;
    char why[128];         // of the last on_close
    char tls_failure[128]; // of the last on_tls_failure
    struct tls_peer peer;  // of the last on_open; its texts are in peer_texts
    char peer_texts[5][129];
    char peer_addr[64];
    atomic_ullong last_id;
    enum status open_status; // what on_open returns
    bool authenticate;       // on_open calls conn_authenticated
};

struct session {
    struct harness *h;
    struct conn *conn;
    struct timer timer;
    size_t to_stream; // bytes that on_drain still has to send
};

// ---- the front ----

static inline void session_stream(struct session *s)
{
    static const char block[8192];
    while (s->to_stream > 0 && conn_out_len(s->conn) <= CONN_OUT_HIGH) {
        size_t n = s->to_stream < sizeof(block) ? s->to_stream : sizeof(block);
        if (!conn_write(s->conn, slice_make(block, n))) {
            return;
        }
        s->to_stream -= n;
    }
    if (s->to_stream == 0) {
        conn_close(s->conn, "streamed");
    }
}

static inline void session_resume(struct timer *t)
{
    struct session *s = (struct session *)((char *)t - offsetof(struct session, timer));
    conn_resume(s->conn);
}

static inline void verb_echo(struct session *s, struct slice arg)
{
    buf_slice(conn_out(s->conn), arg);
    buf_u8(conn_out(s->conn), '\n');
    conn_flush_later(s->conn);
}
static inline void verb_auth(struct session *s, struct slice arg)
{
    (void)arg;
    conn_authenticated(s->conn);
}
static inline void verb_close(struct session *s, struct slice arg)
{
    (void)arg;
    conn_write(s->conn, SLICE("bye\n"));
    conn_close(s->conn, "asked to");
    assert_false(conn_write(s->conn, SLICE("too late\n")));
    buf_str(conn_out(s->conn), "too late\n");
    conn_flush_later(s->conn);
}
static inline void verb_abort(struct session *s, struct slice arg)
{
    (void)arg;
    conn_write(s->conn, SLICE("never sent\n"));
    conn_abort(s->conn, CLOSE_LOCAL, "aborted");
    conn_abort(s->conn, CLOSE_RESET, "only the first counts");
}
static inline void verb_pause(struct session *s, struct slice arg)
{
    (void)arg;
    conn_pause(s->conn);
    timer_start(&s->timer, 5, 0);
}
static inline void verb_yield(struct session *s, struct slice arg)
{
    (void)arg;
    conn_pause(s->conn);
    conn_resume(s->conn);
}
static inline size_t slice_number(struct slice arg)
{
    char text[32];
    return slice_to_cstr(arg, text, sizeof(text)) ? strtoul(text, NULL, 10) : 0;
}
// Writes n bytes in one go, whatever the reader does.
static inline void verb_flood(struct session *s, struct slice arg)
{
    static const char block[4096];
    for (size_t n = slice_number(arg); n >= sizeof(block); n -= sizeof(block)) {
        if (!conn_write(s->conn, slice_make(block, sizeof(block)))) {
            return;
        }
    }
}
static inline void verb_stream(struct session *s, struct slice arg)
{
    s->to_stream = slice_number(arg);
    session_stream(s);
}

// The connection becomes a WebSocket of the same front; this session of it ends.
static inline void verb_upgrade(struct session *s, struct slice arg)
{
    (void)arg;
    struct conn *c = s->conn;
    struct harness *h = s->h;
    timer_stop(&s->timer);
    free(s);
    atomic_fetch_add(&h->closed, 1);
    conn_upgrade(c, &h->upgraded, SLICE("switching\n"));
}

static const struct line_verb {
    const char *name;
    void (*fn)(struct session *s, struct slice arg);
} line_verbs[] = {
    {"echo", verb_echo},   {"auth", verb_auth},     {"close", verb_close},
    {"abort", verb_abort}, {"pause", verb_pause},   {"yield", verb_yield},
    {"flood", verb_flood}, {"stream", verb_stream}, {"upgrade", verb_upgrade},
};

static inline void front_line(struct session *s, struct slice line)
{
    const uint8_t *space = memchr(line.p, ' ', line.len);
    struct slice word = slice_head(line, space != NULL ? (size_t)(space - line.p) : line.len);
    for (size_t i = 0; i < sizeof(line_verbs) / sizeof(line_verbs[0]); i++) {
        if (slice_eq_str(word, line_verbs[i].name)) {
            line_verbs[i].fn(s, slice_from(line, word.len + 1));
            return;
        }
    }
    fail_msg("unknown line: " SLICE_FMT, SLICE_ARG(line));
}

static inline size_t front_data(struct conn *c, struct slice in)
{
    struct session *s = conn_user(c);
    size_t used = 0;
    atomic_fetch_add(&s->h->offered, 1);
    bool was_paused = false;
    while (!was_paused) {
        struct slice rest = slice_from(in, used);
        const uint8_t *end = rest.len > 0 ? memchr(rest.p, '\n', rest.len) : NULL;
        if (end == NULL) {
            break;
        }
        struct slice line = slice_head(rest, (size_t)(end - rest.p));
        used += line.len + 1;
        was_paused = slice_eq_str(line, "pause") || slice_eq_str(line, "yield") || slice_eq_str(line, "upgrade");
        front_line(s, line);
    }
    return used;
}

// The connection may be gone when a test looks.
static inline void keep_peer(struct harness *h, const struct tls_peer *p)
{
    const char **const texts[] = {&h->peer.subject_cn, &h->peer.psk_identity, &h->peer.tenant};
    struct slice *const slices[] = {&h->peer.alpn, &h->peer.sni};
    h->peer = *p;
    for (int i = 0; i < 3; i++) {
        snprintf(h->peer_texts[i], sizeof(h->peer_texts[i]), "%s", *texts[i]);
        *texts[i] = h->peer_texts[i];
    }
    for (int i = 0; i < 2; i++) {
        snprintf(h->peer_texts[3 + i], sizeof(h->peer_texts[0]), SLICE_FMT, SLICE_ARG(*slices[i]));
        *slices[i] = slice_str(h->peer_texts[3 + i]);
    }
}

static inline enum status front_open(struct conn *c, void *front)
{
    struct harness *h = front;
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ST_NOMEM;
    }
    assert_true(loop_is_current(conn_loop(c)));
    assert_true(conn_find(conn_loop(c), conn_id(c)) == c);
    s->h = h;
    s->conn = c;
    timer_init(&s->timer, conn_loop(c), session_resume);
    pthread_mutex_lock(&h->lock);
    if (conn_tls(c) != NULL) {
        keep_peer(h, conn_tls(c));
    }
    snprintf(h->peer_addr, sizeof(h->peer_addr), "%s", conn_peer_addr(c));
    pthread_mutex_unlock(&h->lock);
    assert_true(conn_peer_is_loopback(c) || h->conf.admission != NULL);
    atomic_store(&h->last_id, conn_id(c));
    atomic_fetch_add(&h->opened, 1);
    if (h->open_status != ST_OK) {
        free(s);
        return h->open_status;
    }
    conn_set_user(c, s);
    if (h->authenticate) {
        conn_authenticated(c);
    }
    return ST_OK;
}

static inline void front_drain(struct conn *c)
{
    struct session *s = conn_user(c);
    atomic_fetch_add(&s->h->drained, 1);
    if (s->to_stream > 0) {
        session_stream(s);
    }
}

static inline bool front_eof(struct conn *c)
{
    struct session *s = conn_user(c);
    return s->to_stream > 0;
}

static inline void front_close(struct conn *c, const struct close_reason *why)
{
    struct session *s = conn_user(c);
    struct harness *h = s->h;
    timer_stop(&s->timer);
    pthread_mutex_lock(&h->lock);
    snprintf(h->why, sizeof(h->why), "%s", why->text);
    pthread_mutex_unlock(&h->lock);
    atomic_fetch_add(&h->causes[why->cause], 1);
    atomic_fetch_add(&h->closed, 1);
    free(s);
}

static inline void front_tls_failure(void *front, struct loop *l, const struct tls_failure *f)
{
    struct harness *h = front;
    assert_true(loop_is_current(l));
    assert_true(strlen(f->peer_addr) > 0);
    pthread_mutex_lock(&h->lock);
    snprintf(h->tls_failure, sizeof(h->tls_failure), "%s", f->reason);
    pthread_mutex_unlock(&h->lock);
}

static const struct conn_proto line_proto = {
    .name = "line",
    .on_open = front_open,
    .on_data = front_data,
    .on_drain = front_drain,
    .on_eof = front_eof,
    .on_close = front_close,
    .on_tls_failure = front_tls_failure,
};

// ---- the harness ----

// Fill in h->conf and the flags before, as far as the defaults do not do.
static inline void harness_init(struct harness *h)
{
    *h = (struct harness){.authenticate = true, .loops_len = 1};
    pthread_mutex_init(&h->lock, NULL);
    h->conf = (struct listen_conf){.addr = "127.0.0.1:0",
                                   .service = {.proto = &line_proto,
                                               .front = h,
                                               .in_max = 64 * 1024,
                                               .in_max_before_auth = 4096,
                                               .out_max = 1024 * 1024,
                                               .open_timeout_ms = 5000},
                                   .conns_max = 2000};
}

static inline void harness_start(struct harness *h)
{
    struct err err = {0};
    for (unsigned i = 0; i < h->loops_len; i++) {
        h->loops[i] = loop_new("test-io", &err);
        assert_non_null(h->loops[i]);
    }
    h->upgraded = h->conf.service;
    h->conf.loops = h->loops;
    h->conf.loops_len = h->loops_len;
    if (listener_open(&h->conf, &h->listener, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    for (unsigned i = 0; i < h->loops_len; i++) {
        assert_int_equal(loop_start(h->loops[i], &err), ST_OK);
    }
}

// Every connection that was opened is closed, and counted so.
static inline void harness_end(struct harness *h)
{
    for (unsigned i = 0; i < h->loops_len; i++) {
        loop_stop(h->loops[i]);
    }
    for (unsigned i = 0; i < h->loops_len; i++) {
        loop_join(h->loops[i]);
        loop_free(h->loops[i]);
    }
    struct listener_stats st;
    listener_stats(h->listener, &st);
    assert_int_equal(st.open, 0);
    if (h->open_status == ST_OK) {
        assert_int_equal(h->opened, h->closed);
    }
    listener_free(h->listener);
    pthread_mutex_destroy(&h->lock);
}

static inline bool wait_until(atomic_uint *counter, unsigned value)
{
    for (int i = 0; i < 5000 && atomic_load(counter) < value; i++) {
        usleep(1000);
    }
    return atomic_load(counter) >= value;
}

// Waits until every slot is given back.
static inline bool wait_none_open(const struct harness *h)
{
    struct listener_stats st = {.open = 1};
    for (int i = 0; i < 5000 && st.open > 0; i++) {
        usleep(1000);
        listener_stats(h->listener, &st);
    }
    return st.open == 0;
}

// ---- the client ----

static inline int dial(const struct harness *h)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(listener_port(h->listener))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    const struct timeval patience = {.tv_sec = 10};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static inline void send_all_bytes(int fd, const void *p, size_t len)
{
    for (size_t off = 0; off < len;) {
        ssize_t n = send(fd, (const char *)p + off, len - off, MSG_NOSIGNAL);
        assert_true(n > 0);
        off += (size_t)n;
    }
}

static inline void say(int fd, const char *text)
{
    send_all_bytes(fd, text, strlen(text));
}

static inline void expect_reply(int fd, const char *want)
{
    char got[4096];
    size_t len = strlen(want), off = 0;
    assert_true(len < sizeof(got));
    while (off < len) {
        ssize_t n = recv(fd, got + off, len - off, 0);
        if (n <= 0) {
            fail_msg("connection ended after %zu of %zu bytes: %s", off, len, n < 0 ? strerror(errno) : "end");
        }
        off += (size_t)n;
    }
    got[off] = '\0';
    assert_string_equal(got, want);
}

// Reads to the end; 0: in order, else the errno. *ret_bytes counts what came before.
static inline int read_to_end(int fd, size_t *ret_bytes)
{
    static _Thread_local char sink[65536];
    *ret_bytes = 0;
    for (;;) {
        ssize_t n = recv(fd, sink, sizeof(sink), 0);
        if (n <= 0) {
            return n == 0 ? 0 : errno;
        }
        *ret_bytes += (size_t)n;
    }
}

static inline void expect_end(int fd)
{
    size_t n = 0;
    int failure = read_to_end(fd, &n);
    assert_int_equal(failure, 0);
    assert_int_equal(n, 0);
}

#endif
