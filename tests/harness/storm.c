// A storm: thousands of devices with certificates of their own, each holding one TLS connection and one subscription, and
// all coming back at once whenever the server has gone away.
//
//   storm --http PORT --mqtts PORT --ca FILE --claim FILE --clients N [--resume] [--host ADDRESS]
//
// First every device makes a key and enrols with the claim token in FILE over plain HTTP. Then all connect. Each time the
// last one is in, one JSON line tells how long it took since the first connection of this round was made (the time nobody
// was listening does not count), how many attempts, and the CPU time of this process. It goes on until SIGTERM.
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
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
#include <time.h>
#include <unistd.h>

#define ENROLLERS 8
#define REPLY_MAX 16384

// AWAY -> CONNECTING (TCP) -> HANDSHAKE (TLS) -> GREETING (CONNECT is out) -> SUBSCRIBING -> IN; anything else -> AWAY
enum state { AWAY, CONNECTING, HANDSHAKE, GREETING, SUBSCRIBING, IN };
struct device {
    int fd;
    enum state state;
    uint32_t events;
    SSL *ssl;
    SSL_SESSION *session;
    EVP_PKEY *key;
    X509 *cert;
    int64_t retry_us, since_us;
    uint8_t in[256];
    size_t in_len;
    char id[32];
};

static struct {
    const char *host, *http, *mqtts, *ca, *claim;
    unsigned clients;
    bool resume;
} opt = {.host = "127.0.0.1", .clients = 100};

static struct device *devices;
static SSL_CTX *ctx;
static int ep;
static volatile sig_atomic_t stop;
static char claim[200];
static unsigned in_now;
static uint64_t attempts, resumed;
static int64_t round_us; // first TCP connection of this round, 0: none yet

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_stop(int s)
{
    (void)s;
    stop = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "storm: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static struct sockaddr_in address(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, opt.host, &a.sin_addr) != 1) {
        die(opt.host);
    }
    return a;
}

// --- enrolment ---

// The request of a new key, PEM with its line ends escaped for JSON.
static void make_request(struct device *d, char *dst, size_t size)
{
    d->key = EVP_EC_gen("P-256");
    X509_REQ *req = X509_REQ_new();
    BIO *mem = BIO_new(BIO_s_mem());
    char pem[4096];
    if (d->key == NULL || req == NULL || mem == NULL) {
        die("key");
    }
    X509_NAME *name = X509_REQ_get_subject_name(req);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)d->id, -1, -1, 0);
    if (X509_REQ_set_pubkey(req, d->key) != 1 || X509_REQ_sign(req, d->key, EVP_sha256()) == 0 ||
        PEM_write_bio_X509_REQ(mem, req) != 1) {
        die("request");
    }
    int n = BIO_read(mem, pem, sizeof(pem));
    size_t at = 0;
    for (int i = 0; i < n && at + 3 < size; i++) {
        if (pem[i] == '\n') {
            dst[at++] = '\\';
            dst[at++] = 'n';
        } else {
            dst[at++] = pem[i];
        }
    }
    dst[at] = '\0';
    BIO_free(mem);
    X509_REQ_free(req);
}

// Takes the certificate out of the reply.
static void take_certificate(struct device *d, char *reply)
{
    static const char label[] = "\"certificate\":";
    char *p = strstr(reply, label), pem[4096];
    p = p != NULL ? strchr(p + sizeof(label) - 1, '"') : NULL;
    if (p == NULL) {
        fprintf(stderr, "storm: %s was not enrolled: %.300s\n", d->id, reply);
        exit(1);
    }
    size_t n = 0;
    for (p++; *p != '"' && *p != '\0' && n < sizeof(pem); p++) {
        bool line_end = p[0] == '\\' && p[1] == 'n';
        pem[n++] = line_end ? '\n' : *p;
        p += line_end;
    }
    BIO *mem = BIO_new_mem_buf(pem, (int)n);
    d->cert = PEM_read_bio_X509(mem, NULL, NULL, NULL);
    BIO_free(mem);
    if (d->cert == NULL) {
        die("certificate");
    }
}

// One whole HTTP reply with Content-Length.
static void read_reply(int fd, char *dst)
{
    size_t have = 0;
    for (;;) {
        ssize_t n = recv(fd, dst + have, REPLY_MAX - 1 - have, 0);
        if (n <= 0) {
            die("enrolment's reply");
        }
        have += (size_t)n;
        dst[have] = '\0';
        const char *head = strstr(dst, "\r\n\r\n"), *length = strcasestr(dst, "\r\ncontent-length:");
        if (head != NULL && length != NULL &&
            have >= (size_t)(head + 4 - dst) + strtoul(length + sizeof("\r\ncontent-length:") - 1, NULL, 10)) {
            return;
        }
    }
}

static void *enrol_some(void *arg)
{
    unsigned first = *(unsigned *)arg;
    struct sockaddr_in to = address(opt.http);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    char *csr = malloc(8192), *reply = malloc(REPLY_MAX), *out = malloc(16384);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        die("enrolment");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (unsigned i = first; i < opt.clients; i += ENROLLERS) {
        make_request(&devices[i], csr, 8192);
        int n = snprintf(out, 16384,
                         "POST /api/v1/enroll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                         "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n{\"csr\":\"%s\"}",
                         claim, strlen(csr) + 10, csr);
        if (send(fd, out, (size_t)n, MSG_NOSIGNAL) != n) {
            die("enrolment");
        }
        read_reply(fd, reply);
        take_certificate(&devices[i], reply);
    }
    close(fd);
    free(csr);
    free(reply);
    free(out);
    return NULL;
}

static void enrol_all(void)
{
    pthread_t threads[ENROLLERS];
    unsigned firsts[ENROLLERS];
    int64_t begin = now_us();
    for (unsigned i = 0; i < ENROLLERS; i++) {
        firsts[i] = i;
        if (pthread_create(&threads[i], NULL, enrol_some, &firsts[i]) != 0) {
            die("thread");
        }
    }
    for (unsigned i = 0; i < ENROLLERS; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("{\"enrolled\":%u,\"seconds\":%.3f}\n", opt.clients, (double)(now_us() - begin) / 1e6);
    fflush(stdout);
}

// --- connections ---

static void watch(struct device *d, uint32_t events)
{
    if (d->events != events) {
        struct epoll_event ev = {.events = events, .data.ptr = d};
        epoll_ctl(ep, EPOLL_CTL_MOD, d->fd, &ev);
        d->events = events;
    }
}

static void drop(struct device *d)
{
    in_now -= d->state == IN;
    SSL_free(d->ssl);
    d->ssl = NULL;
    close(d->fd);
    d->fd = -1;
    d->in_len = 0;
    d->state = AWAY;
    d->retry_us = now_us() + 50000 + rand() % 100000;
}

// Whole or not at all: these packets fit the socket's empty buffer.
static void say(struct device *d, const uint8_t *bytes, size_t n)
{
    if (SSL_write(d->ssl, bytes, (int)n) != (int)n) {
        drop(d);
    }
}

static void say_connect(struct device *d)
{
    uint8_t out[64] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0};
    size_t n = strlen(d->id);
    out[1] = (uint8_t)(12 + n);
    out[12] = 0;
    out[13] = (uint8_t)n;
    memcpy(out + 14, d->id, n);
    d->state = GREETING;
    say(d, out, 14 + n);
}

static void say_subscribe(struct device *d)
{
    static const char filter[] = "$muster/twin/desired";
    uint8_t out[64] = {0x82, 2 + 2 + sizeof(filter) - 1 + 1, 0, 1, 0, sizeof(filter) - 1};
    memcpy(out + 6, filter, sizeof(filter) - 1);
    out[6 + sizeof(filter) - 1] = 1;
    d->state = SUBSCRIBING;
    say(d, out, 6 + sizeof(filter));
}

static void say_hello(struct device *d)
{
    int r = SSL_connect(d->ssl);
    int e = r == 1 ? 0 : SSL_get_error(d->ssl, r);
    if (r == 1) {
        resumed += SSL_session_reused(d->ssl) == 1;
        watch(d, EPOLLIN);
        say_connect(d);
    } else if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
        watch(d, e == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
    } else {
        ERR_clear_error();
        drop(d);
    }
}

static void start(struct device *d, const struct sockaddr_in *to)
{
    d->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0) {
        die("socket");
    }
    int one = 1;
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    attempts++;
    d->state = CONNECTING;
    d->since_us = now_us();
    if (connect(d->fd, (const struct sockaddr *)to, sizeof(*to)) != 0 && errno != EINPROGRESS) {
        drop(d);
        return;
    }
    struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = d};
    d->events = EPOLLOUT;
    epoll_ctl(ep, EPOLL_CTL_ADD, d->fd, &ev);
}

static void on_tcp(struct device *d)
{
    int err = 0;
    socklen_t n = sizeof(err);
    getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &n);
    if (err != 0) {
        drop(d);
        return;
    }
    if (round_us == 0) {
        round_us = now_us();
    }
    d->ssl = SSL_new(ctx);
    if (d->ssl == NULL || SSL_use_certificate(d->ssl, d->cert) != 1 || SSL_use_PrivateKey(d->ssl, d->key) != 1) {
        die("TLS");
    }
    SSL_set_fd(d->ssl, d->fd);
    SSL_set_tlsext_host_name(d->ssl, "localhost");
    if (d->session != NULL) {
        SSL_set_session(d->ssl, d->session);
    }
    d->state = HANDSHAKE;
    say_hello(d);
}

static void on_packet(struct device *d, uint8_t first, const uint8_t *p, size_t n)
{
    if (first == 0x20 && d->state == GREETING && n >= 2 && p[1] == 0) {
        say_subscribe(d);
    } else if (first == 0x90 && d->state == SUBSCRIBING && n >= 3 && p[2] <= 2) {
        d->state = IN;
        in_now++;
        if (opt.resume) {
            SSL_SESSION_free(d->session);
            d->session = SSL_get1_session(d->ssl);
        }
    } else if (first >> 4 != 3) {
        drop(d);
    }
}

// Packets here are short: the remaining length is one byte.
static void take_packets(struct device *d)
{
    size_t at = 0;
    while (d->fd >= 0 && d->in_len - at >= 2 && d->in_len - at >= 2u + d->in[at + 1]) {
        size_t n = d->in[at + 1];
        on_packet(d, d->in[at], d->in + at + 2, n);
        at += 2 + n;
    }
    if (d->fd >= 0) {
        memmove(d->in, d->in + at, d->in_len - at);
        d->in_len -= at;
    }
}

static void on_readable(struct device *d)
{
    while (d->fd >= 0 && d->in_len < sizeof(d->in)) {
        int n = SSL_read(d->ssl, d->in + d->in_len, (int)(sizeof(d->in) - d->in_len));
        if (n <= 0) {
            if (SSL_get_error(d->ssl, n) != SSL_ERROR_WANT_READ) {
                ERR_clear_error();
                drop(d);
            }
            return;
        }
        d->in_len += (size_t)n;
        take_packets(d);
    }
}

static void on_event(struct device *d)
{
    if (d->fd < 0) {
        return;
    }
    if (d->state == CONNECTING) {
        on_tcp(d);
    } else if (d->state == HANDSHAKE) {
        say_hello(d);
    } else {
        on_readable(d);
    }
}

// --- rounds ---

static double cpu_s(void)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
           (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void start_due(const struct sockaddr_in *to, int64_t now)
{
    for (unsigned i = 0; i < opt.clients; i++) {
        struct device *d = &devices[i];
        if (d->state == AWAY && now >= d->retry_us) {
            start(d, to);
        } else if (d->state != AWAY && d->state != IN && now - d->since_us > 30000000) {
            drop(d);
        }
    }
}

static void work(void)
{
    struct sockaddr_in to = address(opt.mqtts);
    bool all_in = false;
    double cpu = cpu_s();
    while (!stop) {
        struct epoll_event evs[512];
        int n = epoll_wait(ep, evs, 512, 10);
        for (int i = 0; i < n; i++) {
            on_event(evs[i].data.ptr);
        }
        start_due(&to, now_us());
        if (!all_in && in_now == opt.clients) {
            all_in = true;
            printf("{\"in\":%u,\"seconds\":%.3f,\"attempts\":%llu,\"resumed\":%llu,\"generator_cpu_s\":%.2f}\n", in_now,
                   (double)(now_us() - round_us) / 1e6, (unsigned long long)attempts, (unsigned long long)resumed,
                   cpu_s() - cpu);
            fflush(stdout);
        } else if (all_in && in_now < opt.clients / 2) { // the server has gone
            all_in = false;
            attempts = resumed = 0;
            round_us = 0;
            cpu = cpu_s();
        }
    }
}

static void parse_options(int argc, char **argv)
{
    static const struct option longs[] = {{"host", 1, NULL, 'h'},   {"http", 1, NULL, 'p'},  {"mqtts", 1, NULL, 'm'},
                                          {"ca", 1, NULL, 'a'},     {"claim", 1, NULL, 'c'}, {"clients", 1, NULL, 'n'},
                                          {"resume", 0, NULL, 'r'}, {NULL, 0, NULL, 0}};
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (o) {
        case 'h':
            opt.host = optarg;
            break;
        case 'p':
            opt.http = optarg;
            break;
        case 'm':
            opt.mqtts = optarg;
            break;
        case 'a':
            opt.ca = optarg;
            break;
        case 'c':
            opt.claim = optarg;
            break;
        case 'n':
            opt.clients = (unsigned)atoi(optarg);
            break;
        case 'r':
            opt.resume = true;
            break;
        default:
            exit(2);
        }
    }
    if (opt.http == NULL || opt.mqtts == NULL || opt.ca == NULL || opt.claim == NULL || opt.clients < 1) {
        fprintf(stderr,
                "storm --http PORT --mqtts PORT --ca FILE --claim FILE --clients N [--resume] [--host ADDRESS]\n");
        exit(2);
    }
}

static void setup(void)
{
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_stop);
    FILE *f = fopen(opt.claim, "r");
    if (f == NULL || fscanf(f, "%199s", claim) != 1) {
        die(opt.claim);
    }
    fclose(f);
    ctx = SSL_CTX_new(TLS_client_method());
    ep = epoll_create1(EPOLL_CLOEXEC);
    devices = calloc(opt.clients, sizeof(*devices));
    if (ctx == NULL || devices == NULL || ep < 0 || SSL_CTX_load_verify_locations(ctx, opt.ca, NULL) != 1) {
        die(opt.ca);
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    for (unsigned i = 0; i < opt.clients; i++) {
        devices[i].fd = -1;
        snprintf(devices[i].id, sizeof(devices[i].id), "storm-%u", i);
    }
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    setup();
    enrol_all();
    work();
    return 0;
}
