// Connections: sockets, TLS, reading, writing, what happens when one ends.
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum { RETRY_NS = 20000000, RETRY_SPREAD_NS = 80000000 };

int64_t load_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void bytes_put(struct bytes *b, const void *p, size_t len)
{
    if (b->len + len > b->size) {
        size_t size = b->size < 256 ? 256 : b->size;
        while (size < b->len + len) {
            size *= 2;
        }
        uint8_t *grown = realloc(b->p, size);
        if (grown == NULL) {
            abort();
        }
        b->p = grown;
        b->size = size;
    }
    memcpy(b->p + b->len, p, len);
    b->len += len;
}

void bytes_clear(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){0};
}

void client_enter(struct load *l, struct client *c, enum client_state state)
{
    if (c->subscriber) {
        l->subscribers_open += (unsigned)(state == CLIENT_OPEN) - (unsigned)(c->state == CLIENT_OPEN);
    }
    l->counts[c->state]--;
    l->counts[state]++;
    c->state = state;
}

static void want(struct load *l, struct client *c, uint32_t events)
{
    if (c->events != events) {
        struct epoll_event ev = {.events = events, .data.ptr = c};
        epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &ev);
        c->events = events;
    }
}

static void end_connection(struct load *l, struct client *c)
{
    if (c->ssl != NULL) {
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    c->fd = -1;
    c->rest.len = c->pending.len = 0;
    l->out.len = 0;
    c->in_flight = 0;
    c->pinged = false;
}

void client_drop(struct load *l, struct client *c)
{
    int64_t now = load_now_ns();
    if (c->state == CLIENT_OPEN) {
        l->lost++;
        if (l->down_ns == 0) {
            l->down_ns = now;
        }
    } else {
        l->refused++;
    }
    end_connection(l, c);
    client_enter(l, c, l->opt.reconnect ? CLIENT_IDLE : CLIENT_DEAD);
    c->retry_ns = now + RETRY_NS + rand() % RETRY_SPREAD_NS;
}

void client_cycle(struct load *l, struct client *c)
{
    static const uint8_t bye[2] = {0xe0, 0};
    bytes_put(&l->out, bye, sizeof(bye));
    if (!client_flush(l, c)) {
        return;
    }
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
    }
    end_connection(l, c);
    // Those on their way count too: each of them makes one more.
    uint64_t under_way = l->counts[CLIENT_IDLE] + l->counts[CLIENT_CONNECTING] + l->counts[CLIENT_HANDSHAKE] +
                         l->counts[CLIENT_CONNACK] - 1;
    uint64_t wanted = l->opt.cycles + (l->opt.resume ? l->total : 0);
    client_enter(l, c, l->connects + under_way < wanted ? CLIENT_IDLE : CLIENT_DEAD);
    c->retry_ns = 0;
}

// One write: bytes written, 0 when the kernel takes none now, -1 when the connection is gone.
static ssize_t write_some(struct client *c, const uint8_t *p, size_t len)
{
    if (c->ssl == NULL) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);
        return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
    }
    int n = SSL_write(c->ssl, p, (int)len);
    if (n > 0) {
        return n;
    }
    int e = SSL_get_error(c->ssl, n);
    return e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ ? 0 : -1;
}

bool client_flush(struct load *l, struct client *c)
{
    if (c->pending.len > 0) {
        bytes_put(&c->pending, l->out.p, l->out.len);
        l->out.len = 0;
    }
    struct bytes *from = c->pending.len > 0 ? &c->pending : &l->out;
    size_t done = 0;
    while (done < from->len) {
        ssize_t n = write_some(c, from->p + done, from->len - done);
        if (n < 0) {
            client_drop(l, c);
            return false;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    size_t left = from->len - done;
    if (from == &l->out) {
        l->out.len = 0;
        if (left > 0) {
            bytes_put(&c->pending, l->out.p + done, left);
        }
    } else {
        memmove(c->pending.p, c->pending.p + done, left);
        c->pending.len = left;
        if (left == 0) {
            bytes_clear(&c->pending);
        }
    }
    want(l, c, EPOLLIN | (left > 0 ? EPOLLOUT : 0));
    return true;
}

// With --sources the clients come from that many loopback addresses, 127.0.1.1 and up.
static void bind_source(struct load *l, int fd, unsigned index)
{
    if (l->opt.sources == 0) {
        return;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    unsigned i = index % l->opt.sources;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101 + i / 250 * 256 + i % 250)};
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0) {
        fprintf(stderr, "--sources: client %u cannot be given an address\n", index);
    }
}

void client_start(struct load *l, struct client *c)
{
    c->fd = socket(l->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        c->retry_ns = load_now_ns() + RETRY_NS;
        return;
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    bind_source(l, c->fd, c->index);
    client_enter(l, c, CLIENT_CONNECTING);
    c->start_ns = load_now_ns();
    if (connect(c->fd, (struct sockaddr *)&l->address, l->address_len) != 0 && errno != EINPROGRESS) {
        client_drop(l, c);
        return;
    }
    struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
    c->events = EPOLLOUT;
    epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev);
}

static void say_hello(struct load *l, struct client *c)
{
    client_enter(l, c, CLIENT_CONNACK);
    packets_connect(l, c);
    client_flush(l, c);
}

static void handshake(struct load *l, struct client *c)
{
    int r = SSL_connect(c->ssl);
    if (r == 1) {
        l->resumed += (unsigned)SSL_session_reused(c->ssl);
        say_hello(l, c);
        return;
    }
    int e = SSL_get_error(c->ssl, r);
    if (e == SSL_ERROR_WANT_READ) {
        want(l, c, EPOLLIN);
    } else if (e == SSL_ERROR_WANT_WRITE) {
        want(l, c, EPOLLOUT);
    } else {
        client_drop(l, c);
    }
}

static void connected(struct load *l, struct client *c)
{
    int err = 0;
    socklen_t n = sizeof(err);
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n);
    if (err != 0 || (l->opt.tls && !tls_attach(l, c))) {
        client_drop(l, c);
    } else if (l->opt.tls) {
        client_enter(l, c, CLIENT_HANDSHAKE);
        handshake(l, c);
    } else {
        say_hello(l, c);
    }
}

// One read: bytes read, 0 when there are none now, -1 when the connection is gone.
static ssize_t read_some(struct client *c, uint8_t *p, size_t size)
{
    if (c->ssl == NULL) {
        ssize_t n = recv(c->fd, p, size, 0);
        return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
    }
    int n = SSL_read(c->ssl, p, (int)size);
    if (n > 0) {
        return n;
    }
    int e = SSL_get_error(c->ssl, n);
    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void receive(struct load *l, struct client *c)
{
    bool more = true;
    while (more && c->fd >= 0) {
        size_t kept = c->rest.len;
        if (kept >= SCRATCH_BYTES) { // no packet of a load is so large
            client_drop(l, c);
            return;
        }
        memcpy(l->in, c->rest.p != NULL ? c->rest.p : l->in, kept);
        ssize_t n = read_some(c, l->in + kept, SCRATCH_BYTES - kept);
        if (n < 0) {
            client_drop(l, c);
            return;
        }
        if (n == 0) {
            return;
        }
        size_t len = kept + (size_t)n;
        c->rest.len = 0;
        size_t taken = packets_take(l, c, l->in, len);
        if (c->fd < 0) {
            return;
        }
        if (taken < len) {
            bytes_put(&c->rest, l->in + taken, len - taken);
        } else if (c->rest.p != NULL) {
            bytes_clear(&c->rest);
        }
        // TLS may hold a further record; a full buffer means more in the kernel, which epoll says again.
        more = c->ssl != NULL && l->out.len < SCRATCH_BYTES;
    }
}

void client_serve(struct load *l, struct client *c, uint32_t events)
{
    if (c->fd < 0) {
        return;
    }
    if (c->state == CLIENT_CONNECTING) {
        connected(l, c);
        return;
    }
    if (c->state == CLIENT_HANDSHAKE) {
        handshake(l, c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        receive(l, c);
    }
    if (c->fd < 0) {
        return;
    }
    if (l->publishing && l->phase == PHASE_RUNNING && c->state == CLIENT_OPEN && !c->subscriber && l->opt.rate <= 0) {
        packets_publish(l, c, UINT64_MAX);
    } else if (l->out.len > 0 || c->pending.len > 0) {
        client_flush(l, c);
    }
}
