// What the network layer costs by itself: posts between threads, memory of an idle connection, CPU of a small answer.
//
//   net_bench            prints one line per figure
//
// The peers run in a child process, so that memory and CPU of the server side are counted alone.
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/pki.h"
#include "base/clock.h"
#include "net/conn.h"

enum { IDLE_CONNS = 1000, BUSY_CONNS = 50, WINDOW = 20, ROUNDS = 400, MSG_BYTES = 100, ACK_BYTES = 4 };

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static double thread_cpu_s(void)
{
    struct timespec ts;
    must(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0, "clock_gettime");
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// ---- the front: every 100 bytes are acknowledged with 4 ----

static enum status bench_open(struct conn *c, void *front)
{
    (void)front;
    conn_authenticated(c);
    return ST_OK;
}

static size_t bench_data(struct conn *c, struct slice in)
{
    size_t n = in.len / MSG_BYTES;
    for (size_t i = 0; i < n; i++) {
        buf_put(conn_out(c), "ack\n", ACK_BYTES);
    }
    conn_flush_later(c);
    return n * MSG_BYTES;
}

static const struct conn_proto bench_proto = {.name = "bench", .on_open = bench_open, .on_data = bench_data};

struct server {
    struct loop *loop;
    struct listener *listener;
};

static struct server serve(struct tls_ctx *tls)
{
    struct err err = {0};
    struct server s = {.loop = loop_new("bench-io", &err)};
    must(s.loop != NULL, err.text);
    const struct listen_conf conf = {.addr = "127.0.0.1:0",
                                     .tls = tls,
                                     .loops = &s.loop,
                                     .loops_len = 1,
                                     .service = {.proto = &bench_proto,
                                                 .in_max = 256 * 1024,
                                                 .in_max_before_auth = 4096,
                                                 .out_max = 1024 * 1024,
                                                 .open_timeout_ms = 10000},
                                     .conns_max = 10000};
    must(listener_open(&conf, &s.listener, &err) == ST_OK, err.text);
    return s;
}

static void serve_end(struct server *s)
{
    loop_stop(s->loop);
    loop_join(s->loop);
    loop_free(s->loop);
    listener_free(s->listener);
}

// What the loop's thread knows of itself.
struct probe {
    struct post post;
    double cpu_s;
    size_t heap_bytes;
    atomic_bool done;
};
static void take_probe(struct post *p)
{
    struct probe *m = (struct probe *)p;
    m->cpu_s = thread_cpu_s();
    m->heap_bytes = mallinfo2().uordblks;
    atomic_store(&m->done, true);
}
static struct probe probe(struct loop *l)
{
    struct probe m = {.post = {.fn = take_probe}};
    loop_post(l, &m.post);
    while (!atomic_load(&m.done)) {
        usleep(100);
    }
    return m;
}

// ---- the peers ----

struct peer {
    int fd;
    SSL *ssl;
};

static struct peer peer_dial(uint16_t port, SSL_CTX *tls)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct peer p = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    must(p.fd >= 0 && connect(p.fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
    if (tls != NULL) {
        p.ssl = SSL_new(tls);
        SSL_set_fd(p.ssl, p.fd);
        must(SSL_connect(p.ssl) == 1, "TLS handshake");
    }
    return p;
}

static void peer_send(struct peer *p, const char *data, size_t len)
{
    size_t n = 0;
    must(p->ssl != NULL ? SSL_write_ex(p->ssl, data, len, &n) == 1 : send(p->fd, data, len, 0) == (ssize_t)len, "send");
}

static void peer_recv(struct peer *p, size_t len)
{
    char sink[4096];
    for (size_t off = 0; off < len;) {
        size_t n = 0;
        if (p->ssl != NULL) {
            must(SSL_read_ex(p->ssl, sink, len - off, &n) == 1, "TLS read");
        } else {
            ssize_t r = recv(p->fd, sink, len - off, 0);
            must(r > 0, "recv");
            n = (size_t)r;
        }
        off += n;
    }
}

static void peers_run(uint16_t port, SSL_CTX *tls, int conns, int rounds, int ready_fd, int go_fd)
{
    static char batch[WINDOW * MSG_BYTES];
    struct peer *p = calloc((size_t)conns, sizeof(*p));
    must(p != NULL, "calloc");
    for (int i = 0; i < conns; i++) {
        p[i] = peer_dial(port, tls);
        if (rounds >= 0) {
            peer_send(&p[i], batch, MSG_BYTES);
            peer_recv(&p[i], ACK_BYTES);
        }
    }
    char c = 'r';
    must(write(ready_fd, &c, 1) == 1 && read(go_fd, &c, 1) == 1, "pipe");
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < conns; i++) {
            peer_send(&p[i], batch, sizeof(batch));
        }
        for (int i = 0; i < conns; i++) {
            peer_recv(&p[i], (size_t)WINDOW * ACK_BYTES);
        }
    }
    must(write(ready_fd, &c, 1) == 1 && read(go_fd, &c, 1) == 1, "pipe");
}

// ---- the figures ----

static void run(const char *name, struct tls_ctx *tls, SSL_CTX *client, int conns, int rounds)
{
    struct server s = serve(tls);
    int ready[2], go[2];
    char c = 'g';
    must(pipe(ready) == 0 && pipe(go) == 0, "pipe");
    fflush(stdout);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        peers_run(listener_port(s.listener), client, conns, rounds, ready[1], go[0]);
        _exit(0);
    }
    must(loop_start(s.loop, NULL) == ST_OK, "thread");
    struct probe before = probe(s.loop);
    must(read(ready[0], &c, 1) == 1, "peers");
    struct probe open = probe(s.loop);
    int64_t start_us = clock_mono_us();
    must(write(go[1], &c, 1) == 1 && read(ready[0], &c, 1) == 1, "peers");
    double wall_s = (double)(clock_mono_us() - start_us) / 1e6;
    struct probe after = probe(s.loop);
    printf("%-22s %5d connections  connect %7.3f ms CPU  heap %7.0f bytes each", name, conns,
           (open.cpu_s - before.cpu_s) * 1e3 / conns, (double)(open.heap_bytes - before.heap_bytes) / conns);
    if (rounds > 0) {
        double msgs = (double)conns * rounds * WINDOW;
        printf("  %8.0f msg/s  %5.2f CPU s per million", msgs / wall_s, (after.cpu_s - open.cpu_s) * 1e6 / msgs);
    }
    printf("\n");
    must(write(go[1], &c, 1) == 1, "pipe");
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    close(go[0]);
    close(go[1]);
    serve_end(&s);
}

struct counter {
    struct post post;
    atomic_uint *left;
};
static void count_down(struct post *p)
{
    struct counter *c = (struct counter *)p;
    atomic_fetch_sub(c->left, 1);
}

static void bench_posts(unsigned burst)
{
    enum { TOTAL = 2000000 };
    struct counter *c = calloc(burst, sizeof(*c));
    struct loop *l = loop_new("bench-io", NULL);
    atomic_uint left = 0;
    must(c != NULL && l != NULL && loop_start(l, NULL) == ST_OK, "loop");
    unsigned bursts = burst == 1 ? TOTAL / 20 : TOTAL / burst;
    double cpu_s = thread_cpu_s(), loop_cpu_s = probe(l).cpu_s;
    for (unsigned b = 0; b < bursts; b++) {
        atomic_store(&left, burst);
        for (unsigned i = 0; i < burst; i++) {
            c[i] = (struct counter){{.fn = count_down}, &left};
            loop_post(l, &c[i].post);
        }
        while (atomic_load_explicit(&left, memory_order_acquire) > 0) {
            usleep(0);
        }
    }
    double n = (double)bursts * burst;
    printf("posts in bursts of %-5u sender %6.0f ns each, loop %6.0f ns each\n", burst,
           (thread_cpu_s() - cpu_s) * 1e9 / n, (probe(l).cpu_s - loop_cpu_s) * 1e9 / n);
    loop_stop(l);
    loop_join(l);
    loop_free(l);
    free(c);
}

int main(void)
{
    mallopt(M_ARENA_MAX, 1); // or the heap figures miss what other threads took
    struct pki pki;
    pki_init(&pki);
    struct pki_cert ca = pki_issue(&pki, NULL, PKI_CA, "Bench CA", 86400);
    struct pki_cert cert = pki_issue(&pki, &ca, PKI_SERVER, "localhost", 86400);
    struct pki_cert device = pki_issue(&pki, &ca, PKI_CLIENT, "device", 86400);
    const struct tls_server_conf conf = {.cert_file = pki_write_cert(&pki, "c.pem", &cert),
                                         .key_file = pki_write_key(&pki, "k.pem", &cert),
                                         .client_ca_file = pki_write_cert(&pki, "ca.pem", &ca)};
    struct tls_ctx *tls = tls_server_new(&conf, NULL);
    SSL_CTX *plain_client = SSL_CTX_new(TLS_client_method()), *cert_client = SSL_CTX_new(TLS_client_method());
    must(tls != NULL && plain_client != NULL && cert_client != NULL, "TLS");
    must(SSL_CTX_use_certificate(cert_client, device.cert) == 1 && SSL_CTX_use_PrivateKey(cert_client, device.key) == 1,
         "client certificate");
    bench_posts(1);
    bench_posts(100);
    bench_posts(1000);
    run("plain, idle", NULL, NULL, IDLE_CONNS, 0);
    run("TLS, silent stranger", tls, NULL, IDLE_CONNS, -1);
    run("TLS, idle", tls, plain_client, IDLE_CONNS, 0);
    run("mTLS, idle", tls, cert_client, IDLE_CONNS, 0);
    run("plain, window 20", NULL, NULL, BUSY_CONNS, ROUNDS);
    run("TLS, window 20", tls, plain_client, BUSY_CONNS, ROUNDS);
    SSL_CTX_free(plain_client);
    SSL_CTX_free(cert_client);
    tls_unref(tls);
    pki_cert_release(&ca);
    pki_cert_release(&cert);
    pki_cert_release(&device);
    pki_release(&pki);
    return 0;
}
