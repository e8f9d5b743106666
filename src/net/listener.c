#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/conn_priv.h"

#define BACKLOG         4096
#define ADDRS_MAX       8   // addresses one host name may stand for
#define ACCEPTS_A_TURN  64  // then the connections that are there get their turn
#define ACCEPT_PAUSE_MS 100 // after a failure for want of descriptors or memory
#define PORT_TRIES      8   // port 0 on several addresses: until one number is free on all
#define KEPT_FDS        64  // descriptors that connections may not take: the stores open files while they work
#define SAY_EVERY_US    10000000
#define FULL_PAUSE_MS   20 // before looking again whether a connection has gone

// One listening socket on one loop.
struct acceptor {
    struct watch watch; // fd -1: closed
    struct post attach, detach;
    struct timer again; // ends a pause
    struct loop *loop;
    struct listener *listener;
    int spare; // given up for a moment to accept and close a connection when descriptors have run out; -1: none
    struct acceptor *next;
};

struct listener {
    struct listen_conf conf; // addr, tls and loops are not kept
    pthread_mutex_t tls_lock;
    struct tls_ctx *tls;
    bool is_tls; // never changes
    uint16_t port;
    int fd_max;                          // a connection's descriptor is below this
    _Atomic int64_t said_us[SAY__COUNT]; // when that was logged last
    atomic_bool stopped;
    _Atomic uint64_t open, accepted, refused, pauses, accept_failures, tls_failures;
    unsigned acceptors_len;
    struct acceptor acceptors[];
};

// ---- for conn.c ----

const struct listen_conf *listener_conf(const struct listener *ln)
{
    return &ln->conf;
}

const struct conn_service *listener_service(const struct listener *ln, struct slice alpn)
{
    for (unsigned i = 0; alpn.len > 0 && i < LISTEN_ALPN_MAX && ln->conf.alpn[i].name != NULL; i++) {
        if (slice_eq_str(alpn, ln->conf.alpn[i].name)) {
            return &ln->conf.alpn[i].service;
        }
    }
    return &ln->conf.service;
}

bool listener_is_tls(const struct listener *ln)
{
    return ln->is_tls;
}

struct tls_ctx *listener_tls(struct listener *ln)
{
    pthread_mutex_lock(&ln->tls_lock);
    struct tls_ctx *ctx = tls_ref(ln->tls);
    pthread_mutex_unlock(&ln->tls_lock);
    return ctx;
}

void listener_conn_gone(struct listener *ln)
{
    atomic_fetch_sub(&ln->open, 1);
}

void listener_conn_refused(struct listener *ln)
{
    atomic_fetch_add(&ln->refused, 1);
}

void listener_tls_failed(struct listener *ln)
{
    atomic_fetch_add(&ln->tls_failures, 1);
}

// ---- accepting ----

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// Without descriptors the waiting peers would hang. The spare one lets us take them off the queue and hang up.
static void hang_up_waiting(struct acceptor *a)
{
    for (int i = 0; i < ACCEPTS_A_TURN && a->spare >= 0; i++) {
        close(a->spare);
        int fd = accept4(a->watch.fd, NULL, NULL, SOCK_CLOEXEC);
        int failure = errno;
        if (fd >= 0) {
            close(fd);
        }
        a->spare = open_spare();
        if (fd < 0 && failure != ECONNABORTED && failure != EINTR) {
            break;
        }
    }
}

static void pause_for(struct acceptor *a, uint32_t ms)
{
    loop_unwatch(a->loop, &a->watch);
    timer_start(&a->again, ms, 0);
}

static void accept_failed(struct acceptor *a)
{
    atomic_fetch_add(&a->listener->accept_failures, 1);
    hang_up_waiting(a);
    pause_for(a, ACCEPT_PAUSE_MS);
}

// The system gives the lowest free number, so a high one says how many are taken.
static int highest_fd(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur >= INT_MAX) {
        return INT_MAX;
    }
    rlim_t kept = lim.rlim_cur / 4 < KEPT_FDS ? lim.rlim_cur / 4 : KEPT_FDS;
    return (int)(lim.rlim_cur - kept);
}

void listener_say(struct listener *ln, enum say what, const char *peer, const char *why)
{
    static const char *const texts[SAY__COUNT] = {[SAY_FULL] = "accepting pauses",
                                                  [SAY_DESCRIPTORS] = "connections are refused",
                                                  [SAY_SOURCE] = "connection refused",
                                                  [SAY_CROWDED] = "connection dropped",
                                                  [SAY_PROXY] = "connection without a valid PROXY header",
                                                  [SAY_BANNED] = "connection refused",
                                                  [SAY_RATE] = "accepting waits",
                                                  [SAY_HANDSHAKES] = "TLS handshakes wait"};
    int64_t now = clock_mono_us();
    int64_t said = atomic_load(&ln->said_us[what]);
    if ((said == 0 || now - said > SAY_EVERY_US) && atomic_compare_exchange_strong(&ln->said_us[what], &said, now)) {
        log_warn("net", texts[what], LOGU("port", ln->port), LOGS("peer", peer), LOGS("why", why));
    }
}

bool listener_bans(struct listener *ln, const struct addr *peer)
{
    char text[ADDR_TEXT_MAX];
    if (ln->conf.banned == NULL || !ln->conf.banned(ln->conf.banned_arg, peer)) {
        return false;
    }
    listener_conn_refused(ln);
    listener_say(ln, SAY_BANNED, addr_text(peer, text), "the address is banned");
    return true;
}

// As many as may be are open. A stranger makes room; else the peers wait in the kernel's queue until somebody leaves.
static void full(struct acceptor *a, enum say what, const char *why)
{
    atomic_fetch_add(&a->listener->pauses, 1);
    listener_say(a->listener, what, "", why);
    (void)conns_drop_stranger(a->loop, what == SAY_FULL ? a->listener : NULL);
    pause_for(a, FULL_PAUSE_MS);
}

static void accepted(struct acceptor *a, int fd, const struct sockaddr_storage *peer)
{
    struct listener *ln = a->listener;
    if (fd >= ln->fd_max) {
        close(fd);
        atomic_fetch_add(&ln->refused, 1);
        full(a, SAY_DESCRIPTORS, "almost all descriptors of this process are in use; raise the limit of open files");
        return;
    }
    atomic_fetch_add(&ln->open, 1);
    atomic_fetch_add(&ln->accepted, 1);
    admission_accepted(ln->conf.admission, clock_mono_us());
    conn_accept(a->loop, ln, fd, peer);
}

// Whether one more may be accepted now; else accepting pauses. `waits`: somebody certainly does, so room is made.
static bool may_accept(struct acceptor *a, bool waits)
{
    const struct listener *ln = a->listener;
    if (atomic_load(&ln->open) >= ln->conf.conns_max) {
        if (waits) {
            full(a, SAY_FULL, "as many connections as this listener may have are open");
        }
        return false;
    }
    int64_t wait_us = admission_wait_us(ln->conf.admission, clock_mono_us());
    if (wait_us > 0) {
        listener_say(a->listener, SAY_RATE, "", "more connections come than listen.accept_rate allows");
        pause_for(a, (uint32_t)(wait_us / 1000) + 1);
    }
    return wait_us == 0;
}

// False: none waits any more, or accepting pauses.
static bool accept_one(struct acceptor *a)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof(peer);
    int fd = accept4(a->watch.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        accepted(a, fd, &peer);
        return true;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        accept_failed(a);
        return false;
    }
    return errno != EAGAIN &&
           errno != EWOULDBLOCK; // anything else concerns one connection that failed while it waited (accept(2))
}

static void on_acceptable(struct watch *w, uint32_t events)
{
    (void)events;
    struct acceptor *a = (struct acceptor *)((char *)w - offsetof(struct acceptor, watch));
    for (int i = 0; i < ACCEPTS_A_TURN && w->events != 0; i++) {
        if (!may_accept(a, i == 0) || !accept_one(a)) {
            return;
        }
    }
}

static void listen_on(struct acceptor *a)
{
    if (!loop_watch(a->loop, &a->watch, EPOLLIN)) {
        log_error("net", "cannot watch a listening socket", LOGS("loop", a->loop->name),
                  LOGS("error", strerror(errno)));
    }
}

static void on_pause_over(struct timer *t)
{
    struct acceptor *a = (struct acceptor *)((char *)t - offsetof(struct acceptor, again));
    if (a->spare < 0) {
        a->spare = open_spare();
    }
    listen_on(a);
}

static void close_fds(struct acceptor *a)
{
    if (a->watch.fd >= 0) {
        close(a->watch.fd);
        a->watch.fd = -1;
    }
    if (a->spare >= 0) {
        close(a->spare);
        a->spare = -1;
    }
}

// On the acceptor's loop.
static void attach(struct post *p)
{
    struct acceptor *a = (struct acceptor *)((char *)p - offsetof(struct acceptor, attach));
    struct loop *l = a->loop;
    if (l->ending) {
        close_fds(a);
        return;
    }
    a->next = l->acceptors;
    l->acceptors = a;
    listen_on(a);
}

static void close_acceptor(struct acceptor *a)
{
    timer_stop(&a->again);
    loop_unwatch(a->loop, &a->watch);
    close_fds(a);
}

static void detach(struct post *p)
{
    struct acceptor *a = (struct acceptor *)((char *)p - offsetof(struct acceptor, detach));
    for (struct acceptor **at = &a->loop->acceptors; *at != NULL; at = &(*at)->next) {
        if (*at == a) {
            *at = a->next;
            close_acceptor(a);
            break;
        }
    }
}

void acceptors_close(struct loop *l)
{
    for (struct acceptor *a = l->acceptors; a != NULL; a = a->next) {
        close_acceptor(a);
    }
    l->acceptors = NULL;
}

// ---- opening ----

// "host:port", "[v6]:port", ":port". On success host is "" for "all addresses".
static bool split_addr(const char *addr, char *host, size_t host_size, char *port, size_t port_size, struct err *err)
{
    const char *colon = strrchr(addr, ':');
    char *end = NULL;
    unsigned long n = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == NULL || colon[1] < '0' || colon[1] > '9' || *end != '\0' || n > 65535) {
        err_at(err, ST_INVALID, addr,
               "cannot listen on '%s': HOST:PORT, [IPV6]:PORT or :PORT with a port of 0 to 65535 is allowed", addr);
        return false;
    }
    struct slice h = slice_make(addr, (size_t)(colon - addr));
    bool bracketed = h.len >= 2 && h.p[0] == '[' && h.p[h.len - 1] == ']';
    if (bracketed) {
        h = slice_make(h.p + 1, h.len - 2);
    }
    bool bare_v6 = !bracketed && h.len > 0 && memchr(h.p, ':', h.len) != NULL;
    if (bare_v6 || (bracketed && h.len == 0) || !slice_to_cstr(h, host, host_size)) {
        err_at(err, ST_INVALID, addr,
               "cannot listen on '%s': an IPv6 address stands in brackets, [::1]:8883, and a host has at most "
               "%zu characters",
               addr, host_size - 1);
        return false;
    }
    snprintf(port, port_size, "%lu", n);
    return true;
}

struct addrs {
    struct sockaddr_storage at[ADDRS_MAX];
    socklen_t len[ADDRS_MAX];
    unsigned n;
    bool any; // ":port": one socket for IPv6 and IPv4, or where there is no IPv6, IPv4
};

static void add_addrs(struct addrs *out, const struct addrinfo *list)
{
    for (const struct addrinfo *ai = list; ai != NULL && out->n < ADDRS_MAX; ai = ai->ai_next) {
        struct buf at = buf_fixed(&out->at[out->n], sizeof(out->at[0]));
        if (buf_put(&at, ai->ai_addr, ai->ai_addrlen)) {
            out->len[out->n++] = ai->ai_addrlen;
        }
    }
}

static enum status resolve(const char *addr, struct addrs *out, struct err *err)
{
    char host[256], port[8];
    if (!split_addr(addr, host, sizeof(host), port, sizeof(port), err)) {
        return ST_INVALID;
    }
    out->any = host[0] == '\0';
    const char *names[] = {out->any ? "::" : host, "0.0.0.0"};
    for (int i = 0; i < (out->any ? 2 : 1); i++) {
        const struct addrinfo hints = {
            .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
        struct addrinfo *list = NULL;
        int rc = getaddrinfo(names[i], port, &hints, &list);
        if (rc != 0) {
            return err_at(err, ST_INVALID, addr, "cannot listen on '%s': %s", addr,
                          rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        }
        add_addrs(out, list);
        freeaddrinfo(list);
    }
    return out->n > 0 ? ST_OK : err_at(err, ST_INVALID, addr, "cannot listen on '%s': no address behind it", addr);
}

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
    if (a->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)a)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)a)->sin_port = htons(port);
    }
}

static uint16_t get_port(const struct sockaddr_storage *a)
{
    const union {
        struct sockaddr_storage any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } u = {.any = *a};
    return ntohs(a->ss_family == AF_INET6 ? u.in6.sin6_port : u.in4.sin_port);
}

// Options of the listening socket are inherited by those it accepts, which saves system calls for each of them.
static bool set_options(int fd, const struct sockaddr_storage *a, bool any, bool shared)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, 1},    {SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 120}, {IPPROTO_TCP, TCP_KEEPINTVL, 30}, {IPPROTO_TCP, TCP_KEEPCNT, 4},
    };
    bool ok = true;
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        ok = ok && setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) == 0;
    }
    const int one = 1, v6only = any ? 0 : 1;
    if (a->ss_family == AF_INET6) {
        ok = ok && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) == 0;
    }
    return ok && (!shared || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0);
}

// A bound socket, or -1 and errno.
static int bind_one(const struct sockaddr_storage *a, socklen_t len, bool any, bool shared)
{
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (!set_options(fd, a, any, shared) || bind(fd, (const struct sockaddr *)a, len) != 0)) {
        int failure = errno;
        close(fd);
        errno = failure;
        return -1;
    }
    return fd;
}

// Sockets for all loops on one address, all on the same port. False: errno; what was opened stays for the caller to close.
// SO_REUSEPORT would let a second server of the same user share the port and take half of our devices: bind once without it.
static bool bind_addr(struct listener *ln, size_t first, unsigned n, struct sockaddr_storage *a, socklen_t len,
                      bool any)
{
    bool shared = n > 1;
    if (shared && get_port(a) != 0) {
        int probe = bind_one(a, len, any, false);
        if (probe < 0) {
            return false;
        }
        close(probe);
    }
    for (unsigned i = 0; i < n; i++) {
        int fd = bind_one(a, len, any, shared);
        if (fd < 0) {
            return false;
        }
        ln->acceptors[first + i].watch.fd = fd;
        struct sockaddr_storage bound = {0};
        socklen_t bound_len = sizeof(bound);
        if (listen(fd, BACKLOG) != 0 || getsockname(fd, (struct sockaddr *)&bound, &bound_len) != 0) {
            return false;
        }
        ln->port = get_port(&bound);
        set_port(a, ln->port);
    }
    return true;
}

static bool no_such_family(int failure)
{
    return failure == EAFNOSUPPORT || failure == EADDRNOTAVAIL;
}

static void forget_sockets(struct acceptor *a, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        close_fds(&a[i]);
    }
}

// Opens every address on every loop. Addresses of a family this machine has not got are passed over if one is left.
static bool bind_all(struct listener *ln, struct addrs *addrs, unsigned loops_len)
{
    unsigned used = 0;
    int failure = 0;
    for (unsigned i = 0; i < addrs->n && !(addrs->any && used > 0); i++) {
        if (ln->port != 0) {
            set_port(&addrs->at[i], ln->port);
        }
        size_t first = (size_t)used * loops_len;
        if (bind_addr(ln, first, loops_len, &addrs->at[i], addrs->len[i], addrs->any)) {
            used++;
        } else {
            failure = errno;
            forget_sockets(&ln->acceptors[first], loops_len);
            if (!no_such_family(failure)) {
                break;
            }
        }
    }
    ln->acceptors_len = used * loops_len;
    errno = failure;
    return used > 0 && (failure == 0 || no_such_family(failure));
}

static enum status open_sockets(struct listener *ln, const struct listen_conf *conf, struct addrs *addrs,
                                struct err *err)
{
    bool any_port = get_port(&addrs->at[0]) == 0;
    int failure = 0;
    for (int i = 0; i < (any_port ? PORT_TRIES : 1); i++) {
        ln->port = 0;
        struct addrs fresh = *addrs;
        if (bind_all(ln, &fresh, conf->loops_len)) {
            return ST_OK;
        }
        failure = errno;
        forget_sockets(ln->acceptors, ln->acceptors_len);
        ln->acceptors_len = 0;
        if (failure != EADDRINUSE) {
            break;
        }
    }
    return err_at(err, failure == EADDRINUSE ? ST_EXISTS : ST_IO, conf->addr, "cannot listen on '%s': %s", conf->addr,
                  strerror(failure));
}

static struct listener *new_listener(const struct listen_conf *conf, unsigned acceptors_max)
{
    struct listener *ln = calloc(1, sizeof(*ln) + acceptors_max * sizeof(ln->acceptors[0]));
    if (ln == NULL) {
        return NULL;
    }
    ln->conf = *conf;
    ln->conf.addr = NULL;
    ln->conf.tls = NULL;
    ln->conf.loops = NULL;
    pthread_mutex_init(&ln->tls_lock, NULL);
    ln->tls = tls_ref(conf->tls);
    ln->is_tls = conf->tls != NULL;
    ln->fd_max = highest_fd();
    for (unsigned i = 0; i < acceptors_max; i++) {
        struct acceptor *a = &ln->acceptors[i];
        a->watch = (struct watch){.fn = on_acceptable, .fd = -1};
        a->spare = -1;
        a->listener = ln;
        a->loop = conf->loops[i % conf->loops_len];
        a->attach.fn = attach;
        a->detach.fn = detach;
        timer_init(&a->again, a->loop, on_pause_over);
    }
    return ln;
}

static bool is_whole(const struct conn_service *s)
{
    return s->proto != NULL && s->in_max >= s->in_max_before_auth && s->in_max_before_auth > 0 && s->out_max > 0;
}

enum status listener_open(const struct listen_conf *conf, struct listener **ret, struct err *err)
{
    assert(conf->loops_len > 0 && is_whole(&conf->service));
    for (unsigned i = 0; i <= LISTEN_ALPN_MAX && conf->alpn[i].name != NULL; i++) {
        assert(i < LISTEN_ALPN_MAX && conf->tls != NULL && is_whole(&conf->alpn[i].service));
    }
    struct addrs addrs = {.n = 0};
    enum status st = resolve(conf->addr, &addrs, err);
    if (st != ST_OK) {
        return st;
    }
    struct listener *ln = new_listener(conf, addrs.n * conf->loops_len);
    if (ln == NULL) {
        return err_set(err, ST_NOMEM, "no memory to listen on '%s'", conf->addr);
    }
    st = open_sockets(ln, conf, &addrs, err);
    if (st != ST_OK) {
        listener_free(ln);
        return st;
    }
    for (unsigned i = 0; i < ln->acceptors_len; i++) {
        ln->acceptors[i].spare = open_spare();
        loop_post(ln->acceptors[i].loop, &ln->acceptors[i].attach);
    }
    *ret = ln;
    return ST_OK;
}

// ---- the rest of its life ----

uint16_t listener_port(const struct listener *ln)
{
    return ln->port;
}

void listener_set_tls(struct listener *ln, struct tls_ctx *tls)
{
    pthread_mutex_lock(&ln->tls_lock);
    struct tls_ctx *old = ln->tls;
    assert(ln->is_tls && tls != NULL); // a listener never changes between plain and TLS
    ln->tls = tls_ref(tls);
    pthread_mutex_unlock(&ln->tls_lock);
    tls_unref(old);
}

void listener_stop(struct listener *ln)
{
    if (!atomic_exchange(&ln->stopped, true)) {
        for (unsigned i = 0; i < ln->acceptors_len; i++) {
            loop_post(ln->acceptors[i].loop, &ln->acceptors[i].detach);
        }
    }
}

void listener_free(struct listener *ln)
{
    if (ln == NULL) {
        return;
    }
    assert(atomic_load(&ln->open) == 0);
    forget_sockets(ln->acceptors, ln->acceptors_len);
    tls_unref(ln->tls);
    pthread_mutex_destroy(&ln->tls_lock);
    free(ln);
}

uint64_t listener_accept_failures(const struct listener *ln)
{
    return atomic_load(&ln->accept_failures);
}

void listener_stats(const struct listener *ln, struct listener_stats *out)
{
    *out = (struct listener_stats){
        .open = atomic_load(&ln->open),
        .accepted = atomic_load(&ln->accepted),
        .refused = atomic_load(&ln->refused),
        .pauses = atomic_load(&ln->pauses),
        .accept_failures = atomic_load(&ln->accept_failures),
        .tls_failures = atomic_load(&ln->tls_failures),
    };
}
