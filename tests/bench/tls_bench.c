// What TLS costs the server, beside what OpenSSL alone costs with the same parameters. Both shake hands with the same client in
// this process over memory, in turns, so that the ratio does not depend on what else the machine does.
//
//   tls_bench [rounds]   handshakes: CPU of the server side, ours, bare OpenSSL and the ratio (medians of rounds)
//                        idle connections: bytes of heap each, ours and bare
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../lib/pki.h"
#include "net/tls_priv.h"

enum { HANDSHAKES = 40, IDLE = 10000 };

static struct pki pki;
static struct pki_cert ca, server_cert, device;
static struct tls_ctx *ours;
static SSL_CTX *bare, *client_ctx;

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, ERR_reason_error_string(ERR_peek_error()));
        exit(1);
    }
}

static double cpu_us(void)
{
    struct timespec ts;
    must(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0, "clock");
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

// ---- one side of a connection: ours or OpenSSL's ----

struct side {
    struct tls_conn *t;
    SSL *ssl;
    struct buf wire; // of ours
    BIO *in, *out;   // of OpenSSL's
    bool done;
};

static void side_open(struct side *s, bool is_ours, struct slice hello_bytes)
{
    *s = (struct side){.wire = buf_heap(1u << 20)};
    if (is_ours) {
        struct tls_hello hello;
        struct buf join = buf_heap(TLS_HELLO_BYTES_MAX);
        must(tls_hello_read(hello_bytes, &join, &hello) == TLS_HELLO_OK, "hello");
        (void)tls_resumes(ours, &hello);
        s->t = tls_conn_new(ours, &hello, &s->wire);
        must(s->t != NULL, "connection");
        buf_release(&join);
        return;
    }
    s->ssl = SSL_new(bare);
    s->in = BIO_new(BIO_s_mem());
    s->out = BIO_new(BIO_s_mem());
    must(s->ssl != NULL && s->in != NULL && s->out != NULL, "connection");
    SSL_set_bio(s->ssl, s->in, s->out);
    SSL_set_accept_state(s->ssl);
}

static void side_step(struct side *s, struct slice in)
{
    if (s->t != NULL) {
        tls_conn_feed(s->t, in);
        enum tls_step step = tls_conn_handshake(s->t);
        must(step == TLS_OK || step == TLS_MORE, tls_conn_failure(s->t));
        s->done = step == TLS_OK;
        (void)tls_conn_unread(s->t);
        return;
    }
    (void)BIO_write(s->in, in.p, (int)in.len);
    s->done = SSL_do_handshake(s->ssl) == 1;
    must(s->done || SSL_get_error(s->ssl, 0) != SSL_ERROR_SSL, "handshake");
    if (s->done) { // a server wants to know who came
        X509 *cert = SSL_get1_peer_certificate(s->ssl);
        X509_free(cert);
    }
}

static struct slice side_output(struct side *s, struct buf *mem)
{
    buf_clear(mem);
    if (s->t != NULL) {
        buf_slice(mem, buf_view(&s->wire));
        buf_release(&s->wire);
    } else {
        char *p = NULL;
        long n = BIO_get_mem_data(s->out, &p);
        buf_put(mem, p, (size_t)n);
        (void)BIO_reset(s->out);
    }
    return buf_view(mem);
}

static void side_close(struct side *s)
{
    tls_conn_free(s->t);
    if (s->ssl != NULL) {
        SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(s->ssl);
    buf_release(&s->wire);
}

// ---- the client ----

static SSL_SESSION *ticket;

static int keep_ticket(SSL *s, SSL_SESSION *session)
{
    (void)s;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

static SSL *client_open(BIO **in, BIO **out, SSL_SESSION *resume)
{
    SSL *c = SSL_new(client_ctx);
    *in = BIO_new(BIO_s_mem());
    *out = BIO_new(BIO_s_mem());
    must(c != NULL && *in != NULL && *out != NULL, "client");
    SSL_set_bio(c, *in, *out);
    SSL_set_connect_state(c);
    SSL_SESSION *once = resume != NULL ? SSL_SESSION_dup(resume) : NULL; // OpenSSL's client uses a session once
    must(resume == NULL || SSL_set_session(c, once) == 1, "session");
    SSL_SESSION_free(once);
    return c;
}

// Shakes hands; returns CPU microseconds of the server side. `keep`: the side stays open for the caller.
static double shake(bool is_ours, SSL_SESSION *resume, struct side *keep)
{
    static uint8_t mem[1u << 16];
    struct buf moved = buf_fixed(mem, sizeof(mem));
    struct side s = {.done = false};
    BIO *in = NULL, *out = NULL;
    SSL *c = client_open(&in, &out, resume);
    double spent = 0;
    bool opened = false, client_done = false;
    for (int i = 0; i < 8 && !(s.done && client_done); i++) {
        client_done = SSL_do_handshake(c) == 1;
        char *p = NULL;
        long n = BIO_get_mem_data(out, &p);
        struct slice cipher = slice_make(p, (size_t)n);
        double start = cpu_us();
        if (!opened) {
            side_open(&s, is_ours, cipher);
            opened = true;
        }
        if (cipher.len > 0 && !s.done) {
            side_step(&s, cipher);
        }
        spent += cpu_us() - start;
        (void)BIO_reset(out);
        struct slice back = side_output(&s, &moved);
        (void)BIO_write(in, back.p, (int)back.len);
    }
    must(s.done, "handshake did not end");
    must((SSL_session_reused(c) == 1) == (resume != NULL), "resumption");
    char byte;
    (void)SSL_read(c, &byte, 1); // takes the ticket
    SSL_set_shutdown(c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(c);
    if (keep != NULL) {
        *keep = s;
        return spent;
    }
    double start = cpu_us();
    side_close(&s);
    return spent + cpu_us() - start;
}

// ---- figures ----

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), compare);
    return v[n / 2];
}

static double round_us(bool is_ours, bool resumed)
{
    double sum = 0;
    SSL_SESSION *session = NULL;
    if (resumed) {
        (void)shake(is_ours, NULL, NULL);
        session = SSL_SESSION_dup(ticket);
    }
    for (int i = 0; i < HANDSHAKES; i++) {
        sum += shake(is_ours, session, NULL);
    }
    SSL_SESSION_free(session);
    return sum / HANDSHAKES;
}

static void handshakes(const char *name, int version, bool cert, bool resumed, int rounds)
{
    enum { ROUNDS_MAX = 101 };
    double a[ROUNDS_MAX], b[ROUNDS_MAX], ratio[ROUNDS_MAX];
    SSL_CTX_set_max_proto_version(client_ctx, version);
    must(!cert || (SSL_CTX_use_certificate(client_ctx, device.cert) == 1 &&
                   SSL_CTX_use_PrivateKey(client_ctx, device.key) == 1),
         "client certificate");
    // The anchor is OpenSSL without tickets for a full handshake, with its own tickets for a resumed one.
    SSL_CTX_set_num_tickets(bare, resumed ? 1 : 0);
    rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    for (int i = -1; i < rounds; i++) { // the first warms up
        double x = round_us(true, resumed), y = round_us(false, resumed);
        if (i >= 0) {
            a[i] = x;
            b[i] = y;
            ratio[i] = x / y;
        }
    }
    printf("%-22s ours %6.0f us   OpenSSL %6.0f us   ratio %.2f\n", name, median(a, rounds), median(b, rounds),
           median(ratio, rounds));
}

static void idle(const char *name, bool is_ours)
{
    struct side *all = calloc(IDLE, sizeof(*all));
    must(all != NULL, "memory");
    for (int i = 0; i < 8; i++) {
        (void)shake(is_ours, NULL, NULL); // caches of the libraries fill
    }
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < IDLE; i++) {
        (void)shake(is_ours, NULL, &all[i]);
    }
    printf("%-22s %6.0f bytes of heap each\n", name, (double)(mallinfo2().uordblks - before) / IDLE);
    for (int i = 0; i < IDLE; i++) {
        side_close(&all[i]);
    }
    free(all);
}

static void setup(void)
{
    pki_init(&pki);
    ca = pki_issue(&pki, NULL, PKI_CA, "Bench CA", 86400);
    server_cert = pki_issue(&pki, &ca, PKI_SERVER, "localhost", 86400);
    device = pki_issue(&pki, &ca, PKI_CLIENT, "device", 86400);
    const struct tls_server_conf conf = {.cert_file = pki_write_cert(&pki, "c.pem", &server_cert),
                                         .key_file = pki_write_key(&pki, "k.pem", &server_cert),
                                         .client_ca_file = pki_write_cert(&pki, "ca.pem", &ca)};
    struct err err = {0};
    ours = tls_server_new(&conf, &err);
    must(ours != NULL, err.text);
    bare = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    must(bare != NULL && client_ctx != NULL, "context");
    must(SSL_CTX_use_certificate(bare, server_cert.cert) == 1 && SSL_CTX_use_PrivateKey(bare, server_cert.key) == 1 &&
             SSL_CTX_load_verify_file(bare, conf.client_ca_file) == 1,
         "context");
    SSL_CTX_set_verify(bare, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_id_context(bare, (const unsigned char *)"bench", 5);
    SSL_CTX_set_mode(bare, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client_ctx, keep_ticket);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 9;
    rounds = rounds > 0 ? rounds : 1;
    mallopt(M_ARENA_MAX, 1);
    setup();
    handshakes("TLS 1.3", TLS1_3_VERSION, false, false, rounds);
    handshakes("TLS 1.3 mTLS", TLS1_3_VERSION, true, false, rounds);
    handshakes("TLS 1.3 mTLS, resumed", TLS1_3_VERSION, true, true, rounds);
    handshakes("TLS 1.2 mTLS", TLS1_2_VERSION, true, false, rounds);
    handshakes("TLS 1.2 mTLS, resumed", TLS1_2_VERSION, true, true, rounds);
    SSL_CTX_set_max_proto_version(client_ctx, TLS1_3_VERSION);
    idle("idle mTLS, ours", true);
    idle("idle mTLS, OpenSSL", false);
    SSL_SESSION_free(ticket);
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(bare);
    tls_unref(ours);
    pki_cert_release(&ca);
    pki_cert_release(&server_cert);
    pki_cert_release(&device);
    pki_release(&pki);
    return 0;
}
