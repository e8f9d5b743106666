#include "muster/transport_openssl.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>

#define ADDRESSES_MAX 8
#define RECORD_BYTES  4096 // largest TLS record we send: small buffers, early delivery

// CLOSED -> (resolve) -> DIALLING -> SHAKING -> OPEN; each failure of an address goes on to the next one, then to CLOSED.
enum phase { PHASE_CLOSED, PHASE_DIALLING, PHASE_SHAKING, PHASE_OPEN };

struct address {
    struct sockaddr_storage sa;
    socklen_t len;
};
struct muster_openssl {
    char *host, *ca_file, *cert_file, *key_file;
    bool (*use_key)(void *arg, struct ssl_ctx_st *ctx);
    void *use_key_arg;
    uint16_t port;
    enum phase phase;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    short ssl_wants; // POLLIN or POLLOUT: what the TLS layer waits for
    bool refused;
    unsigned addresses_len, address_next;
    struct address addresses[ADDRESSES_MAX];
    char error[160];
};

static bool copy_text(char **dst, const char *src)
{
    *dst = src != NULL ? strdup(src) : NULL;
    return src == NULL || *dst != NULL;
}

struct muster_openssl *muster_openssl_new(const struct muster_openssl_config *config)
{
    if (config->host == NULL || config->port == 0 || config->ca_file == NULL) {
        return NULL;
    }
    struct muster_openssl *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->fd = -1;
    t->port = config->port;
    t->use_key = config->use_key;
    t->use_key_arg = config->use_key_arg;
    if (!copy_text(&t->host, config->host) || !copy_text(&t->ca_file, config->ca_file) ||
        !muster_openssl_set_cert(t, config->cert_file, config->key_file)) {
        muster_openssl_free(t);
        return NULL;
    }
    return t;
}

bool muster_openssl_set_cert(struct muster_openssl *t, const char *cert_file, const char *key_file)
{
    char *cert = NULL;
    char *key = NULL;
    if (!copy_text(&cert, cert_file) || !copy_text(&key, key_file)) {
        free(cert);
        return false;
    }
    free(t->cert_file);
    free(t->key_file);
    t->cert_file = cert;
    t->key_file = key;
    return true;
}

// ---- Errors ---------------------------------------------------------------------------------------------------------

static enum muster_status fail_errno(struct muster_openssl *t, const char *what, int error)
{
    snprintf(t->error, sizeof(t->error), "%s %s port %u: %s", what, t->host, t->port, strerror(error));
    return MUSTER_E_IO;
}

// The first entry of OpenSSL's queue tells the cause; the queue is emptied.
static enum muster_status fail_ssl(struct muster_openssl *t, const char *what)
{
    unsigned long e = ERR_get_error();
    const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;
    long verify = t->ssl != NULL ? SSL_get_verify_result(t->ssl) : X509_V_OK;
    if (verify != X509_V_OK) {
        reason = X509_verify_cert_error_string(verify);
    }
    if (reason != NULL) {
        snprintf(t->error, sizeof(t->error), "%s: %s", what, reason);
    } else {
        snprintf(t->error, sizeof(t->error), "%s: TLS error %lx", what, e);
    }
    ERR_clear_error();
    return MUSTER_E_IO;
}

// ---- Closing --------------------------------------------------------------------------------------------------------

static void drop_socket(struct muster_openssl *t)
{
    SSL_free(t->ssl);
    t->ssl = NULL;
    if (t->fd >= 0) {
        close(t->fd);
        t->fd = -1;
    }
}

static void transport_close(void *arg)
{
    struct muster_openssl *t = arg;
    if (t->phase == PHASE_OPEN) {
        ERR_clear_error();
        SSL_shutdown(t->ssl); // best effort: nobody waits for the answer
        ERR_clear_error();
    }
    drop_socket(t);
    SSL_CTX_free(t->ctx);
    t->ctx = NULL;
    t->phase = PHASE_CLOSED;
}

void muster_openssl_free(struct muster_openssl *t)
{
    if (t == NULL) {
        return;
    }
    transport_close(t);
    free(t->host);
    free(t->ca_file);
    free(t->cert_file);
    free(t->key_file);
    free(t);
}

// ---- Opening --------------------------------------------------------------------------------------------------------

static enum muster_status make_context(struct muster_openssl *t)
{
    // No configuration file, no error texts that nobody reads: the agent's memory is small.
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    t->ctx = SSL_CTX_new(TLS_client_method());
    if (t->ctx == NULL) {
        return fail_ssl(t, "cannot set up TLS");
    }
    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(t->ctx,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_send_fragment(t->ctx, RECORD_BYTES);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_file(t->ctx, t->ca_file) != 1) {
        return fail_ssl(t, t->ca_file);
    }
    if (t->cert_file == NULL) {
        return MUSTER_OK;
    }
    if (SSL_CTX_use_certificate_chain_file(t->ctx, t->cert_file) != 1) {
        return fail_ssl(t, t->cert_file);
    }
    bool key_ok = t->use_key != NULL
                      ? t->use_key(t->use_key_arg, t->ctx)
                      : t->key_file != NULL && SSL_CTX_use_PrivateKey_file(t->ctx, t->key_file, SSL_FILETYPE_PEM) == 1;
    if (!key_ok || SSL_CTX_check_private_key(t->ctx) != 1) {
        return fail_ssl(t, t->key_file != NULL ? t->key_file : "private key");
    }
    return MUSTER_OK;
}

static enum muster_status resolve(struct muster_openssl *t)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", t->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int r = getaddrinfo(t->host, port, &hints, &list);
    if (r != 0) {
        snprintf(t->error, sizeof(t->error), "cannot find the address of %s: %s", t->host, gai_strerror(r));
        return MUSTER_E_IO;
    }
    t->addresses_len = 0;
    t->address_next = 0;
    for (const struct addrinfo *a = list; a != NULL && t->addresses_len < ADDRESSES_MAX; a = a->ai_next) {
        struct address *to = &t->addresses[t->addresses_len];
        if (a->ai_addrlen <= sizeof(to->sa)) {
            memcpy(&to->sa, a->ai_addr, a->ai_addrlen);
            to->len = a->ai_addrlen;
            t->addresses_len++;
        }
    }
    freeaddrinfo(list);
    return MUSTER_OK;
}

// A non-blocking connect to the next address. MUSTER_E_STATE: on its way; MUSTER_E_IO: no address is left.
static enum muster_status dial_next(struct muster_openssl *t)
{
    enum muster_status s = MUSTER_E_IO;
    while (t->address_next < t->addresses_len) {
        const struct address *a = &t->addresses[t->address_next++];
        drop_socket(t);
        t->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (t->fd < 0) {
            s = fail_errno(t, "cannot make a socket for", errno);
            continue;
        }
        int one = 1;
        setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (connect(t->fd, (const struct sockaddr *)&a->sa, a->len) == 0 || errno == EINPROGRESS) {
            t->phase = PHASE_DIALLING;
            return MUSTER_E_STATE;
        }
        s = fail_errno(t, "cannot connect to", errno);
    }
    return s;
}

static bool is_address(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static enum muster_status begin_handshake(struct muster_openssl *t)
{
    static const unsigned char alpn[] = {4, 'm', 'q', 't', 't'};
    t->ssl = SSL_new(t->ctx);
    if (t->ssl == NULL || SSL_set_fd(t->ssl, t->fd) != 1 || SSL_set_alpn_protos(t->ssl, alpn, sizeof(alpn)) != 0) {
        return fail_ssl(t, "cannot set up TLS");
    }
    bool ok;
    if (is_address(t->host)) {
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), t->host) == 1;
    } else {
        SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = SSL_set1_host(t->ssl, t->host) == 1 && SSL_set_tlsext_host_name(t->ssl, t->host) == 1;
    }
    t->phase = PHASE_SHAKING;
    return ok ? MUSTER_OK : fail_ssl(t, "cannot set the server's name");
}

static enum muster_status finish_dial(struct muster_openssl *t)
{
    struct pollfd p = {.fd = t->fd, .events = POLLOUT};
    if (poll(&p, 1, 0) <= 0) {
        return MUSTER_E_STATE;
    }
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    if (error != 0) {
        fail_errno(t, "cannot connect to", error);
        return dial_next(t);
    }
    return begin_handshake(t);
}

static enum muster_status shake(struct muster_openssl *t)
{
    ERR_clear_error();
    int r = SSL_connect(t->ssl);
    if (r == 1) {
        t->phase = PHASE_OPEN;
        t->error[0] = '\0';
        return MUSTER_OK;
    }
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        t->ssl_wants = POLLIN;
        return MUSTER_E_STATE;
    case SSL_ERROR_WANT_WRITE:
        t->ssl_wants = POLLOUT;
        return MUSTER_E_STATE;
    case SSL_ERROR_SSL:
        t->refused = true;
        return fail_ssl(t, "TLS handshake");
    default:
        snprintf(t->error, sizeof(t->error), "TLS handshake: the server closed the connection");
        return MUSTER_E_CLOSED;
    }
}

static enum muster_status transport_open(void *arg)
{
    struct muster_openssl *t = arg;
    enum muster_status s = MUSTER_OK;
    if (t->phase == PHASE_CLOSED) {
        t->error[0] = '\0';
        t->refused = false;
        s = make_context(t);
        s = s == MUSTER_OK ? resolve(t) : s;
        s = s == MUSTER_OK ? dial_next(t) : s;
        if (s != MUSTER_E_STATE) {
            return s == MUSTER_OK ? MUSTER_E_IO : s;
        }
    }
    if (t->phase == PHASE_DIALLING) {
        s = finish_dial(t);
        if (s != MUSTER_OK) {
            return s;
        }
    }
    return t->phase == PHASE_SHAKING ? shake(t) : s;
}

// ---- Bytes ----------------------------------------------------------------------------------------------------------

static ptrdiff_t result_of(struct muster_openssl *t, int r)
{
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        t->ssl_wants = POLLIN;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        t->ssl_wants = POLLOUT;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        snprintf(t->error, sizeof(t->error), "the server closed the connection");
        return MUSTER_E_CLOSED;
    case SSL_ERROR_SSL:
        // With TLS 1.3 the server judges our certificate after our handshake is done: its alert arrives here.
        t->refused = true;
        return fail_ssl(t, "TLS");
    default:
        snprintf(t->error, sizeof(t->error), "the connection broke: %s",
                 errno != 0 ? strerror(errno) : "end of stream");
        return MUSTER_E_IO;
    }
}

static ptrdiff_t transport_read(void *arg, void *dst, size_t len)
{
    struct muster_openssl *t = arg;
    if (t->phase != PHASE_OPEN) {
        return MUSTER_E_CLOSED;
    }
    ERR_clear_error();
    errno = 0;
    size_t n = 0;
    int r = SSL_read_ex(t->ssl, dst, len, &n);
    return r == 1 ? (ptrdiff_t)n : result_of(t, r);
}

static ptrdiff_t transport_write(void *arg, const void *src, size_t len)
{
    struct muster_openssl *t = arg;
    if (t->phase != PHASE_OPEN) {
        return MUSTER_E_CLOSED;
    }
    ERR_clear_error();
    errno = 0;
    size_t n = 0;
    int r = SSL_write_ex(t->ssl, src, len, &n);
    return r == 1 ? (ptrdiff_t)n : result_of(t, r);
}

static const char *transport_error(void *arg)
{
    const struct muster_openssl *t = arg;
    return t->error;
}

static int64_t transport_now_ms(void *arg)
{
    (void)arg;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void transport_random(void *arg, void *dst, size_t len)
{
    (void)arg;
    if (getrandom(dst, len, 0) != (ssize_t)len) {
        memset(dst, 0x80, len); // the middle: no spread, but no storm of zero pauses either
    }
}

struct muster_transport muster_openssl_transport(struct muster_openssl *t)
{
    if (t == NULL) {
        return (struct muster_transport){0};
    }
    return (struct muster_transport){.arg = t,
                                     .open = transport_open,
                                     .read = transport_read,
                                     .write = transport_write,
                                     .close = transport_close,
                                     .error = transport_error,
                                     .now_ms = transport_now_ms,
                                     .random = transport_random};
}

// ---- For poll loops -------------------------------------------------------------------------------------------------

int muster_openssl_fd(const struct muster_openssl *t)
{
    return t->fd;
}

short muster_openssl_events(const struct muster_openssl *t, bool wants_write)
{
    switch (t->phase) {
    case PHASE_DIALLING:
        return POLLOUT;
    case PHASE_SHAKING:
        return t->ssl_wants;
    case PHASE_OPEN:
        return (short)(POLLIN | (wants_write ? POLLOUT : 0));
    default:
        return 0;
    }
}

bool muster_openssl_wait(const struct muster_openssl *t, bool wants_write, uint32_t wait_ms)
{
    struct pollfd p = {.fd = t->fd, .events = muster_openssl_events(t, wants_write)};
    int r = poll(&p, 1, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms);
    return !(r < 0 && errno == EINTR);
}

int64_t muster_openssl_rtt_us(const struct muster_openssl *t)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    if (t->phase != PHASE_OPEN || getsockopt(t->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_rtt == 0) {
        return -1;
    }
    return info.tcpi_rtt;
}

bool muster_openssl_refused(const struct muster_openssl *t)
{
    return t->refused;
}
