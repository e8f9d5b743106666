// The floor: what any MQTT server must pay. It accepts, reads, parses and acknowledges, and does nothing else: no
// authentication, no topics, no delivery, no storage.
//
//   floor [--threads N] [--cert FILE --key FILE [--ca FILE] [--tickets N]]
//
// Prints "floor ready mqtt=PORT mqtts=PORT" and runs until it is killed. With --ca clients must show a certificate.
// TLS is OpenSSL's own with N session tickets (default 1): each costs time, because it carries the client's certificate.
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536, EVENTS = 256, THREADS_MAX = 64, PACKET_MAX = 4096 };

struct conn {
    int fd;
    bool listener, tls_listener, greeted;
    SSL *ssl;
    size_t kept_len;
    uint8_t kept[PACKET_MAX]; // the begin of a packet whose end has not come
};

struct floor {
    pthread_t thread;
    int epoll;
    SSL_CTX *tls;
    struct conn listeners[2];
    uint8_t in[BUFFER_BYTES + PACKET_MAX], out[2 * BUFFER_BYTES];
    size_t out_len;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

// ---- MQTT ----

static void put(struct floor *f, uint8_t first, const uint8_t *body, uint8_t len)
{
    uint8_t *o = f->out + f->out_len;
    o[0] = first;
    o[1] = len;
    memcpy(o + 2, body, len);
    f->out_len += 2U + len;
}

static void on_publish(struct floor *f, uint8_t first, const uint8_t *p, size_t n)
{
    unsigned qos = first >> 1 & 3;
    size_t id_at = n < 2 ? n : 2 + (size_t)(p[0] << 8 | p[1]);
    if (qos > 0 && id_at + 2 <= n) {
        put(f, qos == 1 ? 0x40 : 0x50, p + id_at, 2);
    }
}

// False: the client says goodbye, or nothing sensible.
static bool on_packet(struct floor *f, uint8_t first, const uint8_t *p, size_t n)
{
    static const uint8_t accepted[2] = {0, 0};
    uint8_t granted[3] = {0, 0, 1};
    switch (first >> 4) {
    case 1:
        put(f, 0x20, accepted, 2);
        return true;
    case 3:
        on_publish(f, first, p, n);
        return true;
    case 6:
        put(f, 0x70, p, n < 2 ? 0 : 2);
        return true;
    case 8:
        memcpy(granted, p, n < 2 ? 0 : 2);
        put(f, 0x90, granted, 3);
        return true;
    case 12:
        put(f, 0xd0, p, 0);
        return true;
    default:
        return first >> 4 == 4;
    }
}

// How many bytes were whole packets; SIZE_MAX: hang up.
static size_t take(struct floor *f, const uint8_t *in, size_t len)
{
    size_t at = 0;
    while (len - at >= 2) {
        size_t rest = 0, head = 1;
        unsigned shift = 0;
        bool whole = false;
        while (!whole && at + head < len && head <= 4) {
            uint8_t b = in[at + head++];
            rest |= (size_t)(b & 127) << shift;
            shift += 7;
            whole = b < 128;
        }
        if (!whole || len - at - head < rest) {
            break;
        }
        if (!on_packet(f, in[at], in + at + head, rest)) {
            return SIZE_MAX;
        }
        at += head + rest;
    }
    return len - at > PACKET_MAX ? SIZE_MAX : at;
}

// ---- connections ----

static void hang_up(struct conn *c)
{
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    close(c->fd);
    free(c);
}

// Acknowledgements are small and their reader waits for them: what does not fit now is waited for.
static bool send_all(struct floor *f, struct conn *c)
{
    size_t done = 0;
    while (done < f->out_len) {
        ssize_t n = c->ssl != NULL ? SSL_write(c->ssl, f->out + done, (int)(f->out_len - done))
                                   : send(c->fd, f->out + done, f->out_len - done, MSG_NOSIGNAL);
        if (n <= 0 && !(c->ssl != NULL && SSL_get_error(c->ssl, (int)n) == SSL_ERROR_WANT_WRITE) && errno != EAGAIN) {
            return false;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    f->out_len = 0;
    return true;
}

static bool handshake_done(struct conn *c)
{
    if (c->ssl == NULL || c->greeted) {
        return true;
    }
    int r = SSL_accept(c->ssl);
    c->greeted = r == 1;
    return c->greeted;
}

static bool alive_after(struct conn *c, ssize_t n)
{
    if (c->ssl == NULL) {
        return n < 0 && errno == EAGAIN;
    }
    int e = SSL_get_error(c->ssl, (int)n);
    ERR_clear_error();
    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static bool serve(struct floor *f, struct conn *c)
{
    f->out_len = 0;
    if (!handshake_done(c)) {
        return alive_after(c, -1);
    }
    for (bool more = true; more;) {
        memcpy(f->in, c->kept, c->kept_len);
        ssize_t n = c->ssl != NULL ? SSL_read(c->ssl, f->in + c->kept_len, BUFFER_BYTES)
                                   : recv(c->fd, f->in + c->kept_len, BUFFER_BYTES, 0);
        if (n <= 0) {
            return alive_after(c, n) && send_all(f, c);
        }
        size_t len = c->kept_len + (size_t)n, taken = take(f, f->in, len);
        if (taken == SIZE_MAX) {
            return false;
        }
        c->kept_len = len - taken;
        memcpy(c->kept, f->in + taken, c->kept_len);
        more = c->ssl != NULL && f->out_len < BUFFER_BYTES;
    }
    return send_all(f, c);
}

static void accept_one(struct floor *f, struct conn *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct conn *c = fd < 0 ? NULL : calloc(1, sizeof(*c));
    if (c == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    c->fd = fd;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (listener->tls_listener) {
        c->ssl = SSL_new(f->tls);
        SSL_set_fd(c->ssl, fd);
        SSL_set_accept_state(c->ssl);
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        hang_up(c);
    }
} // epoll keeps it: NOLINT(clang-analyzer-unix.Malloc)

static void *run(void *arg)
{
    struct floor *f = arg;
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(f->epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->listener) {
                accept_one(f, c);
            } else if (!serve(f, c)) {
                hang_up(c);
            }
        }
    }
    return NULL;
}

// ---- set-up ----

// Every thread listens for itself; the first one chooses the port.
static unsigned listen_on(struct floor *f, unsigned which, unsigned port)
{
    struct conn *l = &f->listeners[which];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int one = 1;
    *l = (struct conn){.listener = true,
                       .tls_listener = which == 1,
                       .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (bind(l->fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(l->fd, 4096) != 0 ||
        getsockname(l->fd, (struct sockaddr *)&a, &n) != 0) {
        die("listen");
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};
    epoll_ctl(f->epoll, EPOLL_CTL_ADD, l->fd, &ev);
    return ntohs(a.sin_port);
}

static SSL_CTX *make_tls(const char *cert, const char *key, const char *ca, size_t tickets)
{
    SSL_CTX *t = SSL_CTX_new(TLS_server_method());
    if (t == NULL || SSL_CTX_use_certificate_chain_file(t, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(t, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    static const unsigned char context[] = "floor";
    SSL_CTX_set_session_id_context(t, context, sizeof(context) - 1);
    SSL_CTX_set_num_tickets(t, tickets);
    SSL_CTX_set_mode(t, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (ca != NULL) {
        if (SSL_CTX_load_verify_locations(t, ca, NULL) != 1) {
            ERR_print_errors_fp(stderr);
            exit(1);
        }
        SSL_CTX_set_verify(t, SSL_VERIFY_PEER, NULL);
    }
    return t;
}

static void raise_files(void)
{
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"threads", 1, NULL, 't'}, {"cert", 1, NULL, 'c'},    {"key", 1, NULL, 'k'},
                                          {"ca", 1, NULL, 'a'},      {"tickets", 1, NULL, 'n'}, {0}};
    const char *cert = NULL, *key = NULL, *ca = NULL;
    long threads = 1, tickets = 1;
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (o) {
        case 't':
            threads = strtol(optarg, NULL, 10);
            break;
        case 'c':
            cert = optarg;
            break;
        case 'k':
            key = optarg;
            break;
        case 'a':
            ca = optarg;
            break;
        case 'n':
            tickets = strtol(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    if (threads < 1 || threads > THREADS_MAX || tickets < 0 || tickets > 2 || (cert == NULL) != (key == NULL)) {
        fprintf(stderr, "--threads: 1 to %d; --tickets: 0 to 2; --cert and --key go together\n", THREADS_MAX);
        return 2;
    }
    raise_files();
    SSL_CTX *tls = cert != NULL ? make_tls(cert, key, ca, (size_t)tickets) : NULL;
    struct floor *floors = calloc((size_t)threads, sizeof(*floors));
    unsigned ports[2] = {0, 0};
    for (long i = 0; i < threads; i++) {
        if (floors == NULL || (floors[i].epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) {
            die("epoll");
        }
        floors[i].tls = tls;
        ports[0] = listen_on(&floors[i], 0, ports[0]);
        ports[1] = tls != NULL ? listen_on(&floors[i], 1, ports[1]) : 0;
    }
    printf("floor ready mqtt=%u mqtts=%u\n", ports[0], ports[1]);
    fflush(stdout);
    for (long i = 1; i < threads; i++) {
        if (pthread_create(&floors[i].thread, NULL, run, &floors[i]) != 0) {
            die("thread");
        }
    }
    run(&floors[0]);
    return 0;
}
