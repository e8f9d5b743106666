#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/conn_priv.h"

// ---- states ----

void conn_set_state(struct conn *c, enum conn_state to)
{
    static const bool legal[CONN__COUNT][CONN__COUNT] = {
        [CONN_PROXY] = {[CONN_HANDSHAKE] = true, [CONN_OPEN] = true, [CONN_DEAD] = true},
        [CONN_HANDSHAKE] = {[CONN_OPEN] = true, [CONN_CLOSING] = true, [CONN_DEAD] = true},
        [CONN_OPEN] = {[CONN_CLOSING] = true, [CONN_DEAD] = true},
        [CONN_CLOSING] = {[CONN_LINGER] = true, [CONN_DEAD] = true},
        [CONN_LINGER] = {[CONN_DEAD] = true},
    };
    assert(legal[c->state][to]);
    if (c->state == CONN_HANDSHAKE && c->tls != NULL) {
        tls_gate_leave(&c->loop->conns.gate, &c->tls->seat); // however it ended
    }
    c->state = to;
}

const char *close_cause_text(enum close_cause c)
{
    static const char *const text[] = {
        [CLOSE_LOCAL] = "closed_by_server", [CLOSE_EOF] = "peer_closed", [CLOSE_RESET] = "connection_reset",
        [CLOSE_TIMEOUT] = "timeout",        [CLOSE_TLS] = "tls_failure", [CLOSE_OVERFLOW] = "overflow",
        [CLOSE_FRAMING] = "framing",        [CLOSE_CROWDED] = "crowded", [CLOSE_SHUTDOWN] = "server_stopped"};
    return (size_t)c < sizeof(text) / sizeof(text[0]) ? text[c] : "unknown";
}

// Without memory the words are missing, the cause is not. `text` may be the words that are there already.
static void set_why(struct conn *c, enum close_cause cause, const char *text)
{
    c->cause = cause;
    if (text != c->why) {
        free(c->why);
        c->why = text != NULL && text[0] != '\0' ? strdup(text) : NULL;
    }
}

static struct admission *admission_of(const struct conn *c)
{
    return listener_conf(c->listener)->admission;
}

// Strangers: in order of their coming, so that the oldest can be found.
static void add_stranger(struct conn *c)
{
    struct conns *cs = &c->loop->conns;
    c->stranger = true;
    c->stranger_next = NULL;
    c->stranger_prev = cs->strangers_last;
    *(cs->strangers_last != NULL ? &cs->strangers_last->stranger_next : &cs->strangers) = c;
    cs->strangers_last = c;
    if (c->counted) {
        admission_stranger(admission_of(c), &c->peer);
    }
}

static void remove_stranger(struct conn *c)
{
    if (c->stranger) {
        struct conns *cs = &c->loop->conns;
        *(c->stranger_prev != NULL ? &c->stranger_prev->stranger_next : &cs->strangers) = c->stranger_next;
        *(c->stranger_next != NULL ? &c->stranger_next->stranger_prev : &cs->strangers_last) = c->stranger_prev;
        c->stranger = false;
        if (c->counted) {
            admission_known(admission_of(c), &c->peer);
        }
    }
}

void conn_abort(struct conn *c, enum close_cause cause, const char *text)
{
    if (c->state == CONN_DEAD) {
        return;
    }
    if (c->state != CONN_LINGER) {
        set_why(c, cause, text);
    }
    conn_set_state(c, CONN_DEAD);
    loop_unwatch(c->loop, &c->watch);
    timer_stop(&c->timer);
    remove_stranger(c);
    c->next_dead = c->loop->conns.dead;
    c->loop->conns.dead = c;
    loop_touch(c->loop);
}

void conn_start_closing(struct conn *c, enum close_cause cause, const char *text)
{
    set_why(c, cause, text);
    conn_set_state(c, CONN_CLOSING);
    timer_start(&c->timer, CONN_DRAIN_MS, 0);
    conn_flush_later(c);
}

void conn_close(struct conn *c, const char *text)
{
    if (c->state == CONN_OPEN) {
        conn_start_closing(c, CLOSE_LOCAL, text);
    }
}

void conn_tell_closed(struct conn *c)
{
    if (c->opened && !c->told) {
        c->told = true;
        loop_touch(c->loop);
        if (c->service->proto->on_close != NULL) {
            c->service->proto->on_close(c, &(struct close_reason){c->cause, c->why != NULL ? c->why : ""});
        }
    }
}

static void on_timeout(struct timer *t)
{
    struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, timer));
    char text[96] = "";
    switch (c->state) {
    case CONN_PROXY:
        conn_abort(c, CLOSE_TIMEOUT, "");
        break;
    case CONN_HANDSHAKE:
        snprintf(text, sizeof(text), "no TLS handshake within %u ms", c->service->open_timeout_ms);
        conn_tls_failed(c, text);
        conn_abort(c, CLOSE_TIMEOUT, text);
        break;
    case CONN_OPEN:
        if (c->eof) {
            conn_start_closing(c, CLOSE_EOF, "the answer took too long");
        } else {
            snprintf(text, sizeof(text), "not authenticated within %u ms", c->service->open_timeout_ms);
            conn_abort(c, CLOSE_TIMEOUT, text);
        }
        break;
    case CONN_CLOSING:
        snprintf(text, sizeof(text), "output was not taken within %d ms", CONN_DRAIN_MS);
        conn_abort(c, CLOSE_TIMEOUT, text);
        break;
    default:
        conn_abort(c, c->cause, ""); // LINGER: it has been told already
        break;
    }
}

// ---- the socket ----

static void on_event(struct watch *w, uint32_t events)
{
    struct conn *c = (struct conn *)((char *)w - offsetof(struct conn, watch));
    if (c->state == CONN_DEAD) {
        return; // in this very turn
    }
    loop_touch(c->loop);
    if (c->blocked && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        c->blocked = false;
        conn_flush_later(c);
    }
    if ((c->watch.events & EPOLLIN) == 0) {
        return;
    }
    if (c->paused || c->state == CONN_CLOSING) { // most read on before something comes, at no cost
        c->unheard = true;
        conn_listen(c);
    } else if (!c->in_resume) { // else what is kept comes first
        conn_readable(c);       // an end or an error shows itself in the read
    }
}

void conn_listen(struct conn *c)
{
    bool waits = c->tls != NULL && c->tls->session == NULL && c->tls->seat.in != NULL; // for its turn to shake hands
    bool reads = !c->eof && !c->unheard && !waits;
    uint32_t events = (reads ? (uint32_t)EPOLLIN : 0) | (c->blocked ? (uint32_t)EPOLLOUT : 0);
    if (c->state != CONN_DEAD && !loop_watch(c->loop, &c->watch, events)) {
        conn_abort(c, CLOSE_RESET, strerror(errno));
    }
}

// ---- birth ----

// The handshake may have chosen another protocol than the listener's first.
static void choose_service(struct conn *c)
{
    struct slice name = c->tls != NULL ? tls_conn_peer(c->tls->session)->alpn : (struct slice){NULL, 0};
    const struct conn_service *chosen = listener_service(c->listener, name);
    if (chosen != c->service) {
        c->service = chosen;
        c->in.max = chosen->in_max;
        c->out.buf.max = chosen->out_max;
    }
}

void conn_opened(struct conn *c)
{
    choose_service(c);
    conn_set_state(c, CONN_OPEN);
    c->opened = true;
    if (c->service->proto->on_open(c, c->service->front) != ST_OK) {
        c->told = true; // no further callback
        conn_abort(c, CLOSE_LOCAL, "refused");
    }
}

// Strangers over the mark: the oldest of this loop makes room, which may be the one that has just come.
static void make_room(struct conn *c)
{
    struct conn *oldest = c->loop->conns.strangers;
    if (admission_crowded(admission_of(c)) && oldest != NULL) {
        admission_dropped(admission_of(c));
        listener_say(c->listener, SAY_CROWDED, conn_peer_addr(oldest), "newer connections take the place of strangers");
        conn_abort(oldest, CLOSE_CROWDED, "too many connections are not authenticated");
    }
}

void conn_peer_known(struct conn *c)
{
    static const char *const refusals[] = {
        [REFUSED_SOURCE] = "this address has as many connections as it may",
        [REFUSED_NET] = "this network has as many connections that are not authenticated as it may"};
    enum admission_verdict v = admission_enter(admission_of(c), &c->peer);
    if (v != ADMITTED) {
        listener_say(c->listener, SAY_SOURCE, conn_peer_addr(c), refusals[v]);
        listener_conn_refused(c->listener);
        conn_abort(c, CLOSE_CROWDED, refusals[v]);
        return;
    }
    c->counted = true;
    make_room(c);
    if (c->state == CONN_DEAD) {
        return;
    }
    if (c->tls != NULL) {
        conn_set_state(c, CONN_HANDSHAKE);
    } else {
        conn_opened(c);
    }
}

bool conns_drop_stranger(struct loop *l, const struct listener *of)
{
    struct conn *oldest = l->conns.strangers;
    while (oldest != NULL && of != NULL && oldest->listener != of) {
        oldest = oldest->stranger_next;
    }
    if (oldest != NULL) {
        admission_dropped(admission_of(oldest));
        conn_abort(oldest, CLOSE_CROWDED, "a newer connection needed the place");
    }
    return oldest != NULL;
}

// False: no memory.
static bool add_tls(struct conn *c)
{
    if (!listener_is_tls(c->listener)) {
        return true;
    }
    c->tls = calloc(1, sizeof(*c->tls));
    if (c->tls != NULL) {
        c->tls->wire.buf = buf_heap(WIRE_BYTES_MAX);
        c->tls->kept = buf_heap(READ_BYTES);
    }
    return c->tls != NULL;
}

// The reads of all connections of a loop land in these buffers. False: no memory.
static bool conns_ready(struct loop *l)
{
    struct conns *cs = &l->conns;
    struct buf *const bufs[] = {&cs->raw, &cs->plain, &cs->payload};
    static const size_t sizes[] = {READ_BYTES, RECORD_BYTES, READ_BYTES};
    bool ok = true;
    for (size_t i = 0; !cs->ready && i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        *bufs[i] = buf_heap(JOIN_BYTES + sizes[i]);
        ok = ok && buf_reserve(bufs[i], bufs[i]->max) != NULL;
    }
    for (size_t i = 0; !ok && i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        buf_release(bufs[i]);
    }
    cs->ready = ok;
    return ok;
}

static void free_conn(struct conn *c)
{
    if (c->counted) {
        admission_leave(admission_of(c), &c->peer);
    }
    listener_conn_gone(c->listener);
    if (c->tls != NULL) {
        tls_conn_free(c->tls->session);
        buf_release(&c->tls->wire.buf);
        buf_release(&c->tls->kept);
        free(c->tls);
    }
    if (c->ws != NULL) {
        buf_release(&c->ws->framed.buf);
        buf_release(&c->ws->kept);
        free(c->ws);
    }
    buf_release(&c->in);
    buf_release(&c->out.buf);
    free(c->why);
    free(c);
}

// Everything that can fail for want of memory. NULL then.
static struct conn *new_conn(struct loop *l, struct listener *ln, int fd)
{
    // Ids are the one thing all loops share: a counter, so that people can read them in a log.
    static _Atomic uint64_t last_id;
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        listener_conn_gone(ln);
        return NULL;
    }
    c->watch = (struct watch){.fn = on_event, .fd = fd};
    c->loop = l;
    c->listener = ln;
    c->service = &listener_conf(ln)->service;
    c->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    c->in = buf_heap(c->service->in_max);
    c->out.buf = buf_heap(c->service->out_max);
    timer_init(&c->timer, l, on_timeout);
    if (!conns_ready(l) || !add_tls(c) || !map_set_u64(&l->conns.by_id, c->id, c)) {
        free_conn(c);
        return NULL;
    }
    return c;
}

static struct addr addr_of(const struct sockaddr_storage *from)
{
    const union {
        struct sockaddr_storage any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } u = {.any = *from};
    struct addr a = {.port = ntohs(from->ss_family == AF_INET6 ? u.in6.sin6_port : u.in4.sin_port)};
    if (from->ss_family == AF_INET6) {
        for (size_t i = 0; i < sizeof(a.ip); i++) {
            a.ip[i] = u.in6.sin6_addr.s6_addr[i];
        }
        return a;
    }
    return addr_ipv4((const uint8_t *)&u.in4.sin_addr.s_addr, a.port);
}

void conn_accept(struct loop *l, struct listener *ln, int fd, const struct sockaddr_storage *peer)
{
    const struct addr from = addr_of(peer);
    bool proxied = admission_is_proxy(listener_conf(ln)->admission, &from); // who it speaks for is asked about then
    if (!proxied && listener_bans(ln, &from)) {
        listener_conn_gone(ln);
        close(fd);
        return;
    }
    struct conn *c = new_conn(l, ln, fd);
    if (c == NULL) {
        listener_conn_refused(ln);
        close(fd);
        return;
    }
    loop_touch(l);
    c->peer = from;
    add_stranger(c);
    timer_start(&c->timer, c->service->open_timeout_ms, 0);
    if (!proxied) {
        conn_peer_known(c);
    }
    conn_listen(c);
}

void conn_upgrade(struct conn *c, const struct conn_service *to, struct slice answer)
{
    if (c->state != CONN_OPEN) {
        return;
    }
    assert(c->ws == NULL);
    c->opened = false; // nothing is owed to the front before
    c->user = NULL;
    c->ws = calloc(1, sizeof(*c->ws));
    bool ok = c->ws != NULL && buf_slice(&c->out.buf, answer);
    if (!ok) {
        conn_abort(c, CLOSE_OVERFLOW, "no memory for a WebSocket");
        return;
    }
    c->ws->framed = c->out;
    c->ws->framed.buf.max = WIRE_BYTES_MAX;
    c->ws->kept = buf_heap(READ_BYTES);
    ws_init(&c->ws->in, to->in_max);
    c->service = to;
    c->out = (struct outq){.buf = buf_heap(to->out_max)};
    c->authenticated = c->own_times = c->over_high = false;
    if (!c->stranger) {
        add_stranger(c);
    }
    timer_start(&c->timer, to->open_timeout_ms, 0);
    c->upgrading = true;
    c->paused = true;
    conn_resume(c);
    conn_flush_later(c);
}

// ---- death ----

void conns_reap(struct loop *l)
{
    struct conn *c = l->conns.dead;
    l->conns.dead = NULL;
    while (c != NULL) {
        struct conn *next = c->next_dead;
        if (c->in_flush || c->in_resume) { // still on a list of the next turn: it dies after that
            c->next_dead = l->conns.dead;
            l->conns.dead = c;
        } else {
            conn_tell_closed(c);
            map_del_u64(&l->conns.by_id, c->id);
            close(c->watch.fd);
            free_conn(c);
        }
        c = next;
    }
}

bool conns_left(const struct loop *l)
{
    return l->conns.flush != NULL || l->conns.resume != NULL || l->conns.dead != NULL || l->conns.gate_more;
}

void conns_init(struct loop *l)
{
    map_init(&l->conns.by_id);
    conns_tls_init(l);
    l->conns.sink = buf_fixed(NULL, 0);
}

void conns_shutdown(struct loop *l)
{
    size_t pos = 0;
    for (struct conn *c; (c = map_next(&l->conns.by_id, &pos, NULL, NULL)) != NULL;) {
        if (c->state == CONN_OPEN) {
            conn_start_closing(c, CLOSE_SHUTDOWN, "");
            conn_flush_one(c); // what the kernel takes at once; nothing waits for slow readers here
        }
        if (c->state < CONN_DEAD) {
            conn_abort(c, c->state == CONN_CLOSING ? c->cause : CLOSE_SHUTDOWN, "");
        }
    }
}

void conns_release(struct loop *l)
{
    assert(l->conns.by_id.len == 0);
    map_release(&l->conns.by_id);
    buf_release(&l->conns.raw);
    buf_release(&l->conns.plain);
    buf_release(&l->conns.payload);
}

// ---- what a front may ask and say ----

void conn_set_user(struct conn *c, void *user)
{
    c->user = user;
}

void *conn_user(const struct conn *c)
{
    return c->user;
}

struct loop *conn_loop(const struct conn *c)
{
    return c->loop;
}

uint64_t conn_id(const struct conn *c)
{
    return c->id;
}

struct conn *conn_find(struct loop *l, uint64_t id)
{
    struct conn *c = map_get_u64(&l->conns.by_id, id);
    return c != NULL && c->opened && c->state < CONN_LINGER ? c : NULL;
}

const char *conn_peer_addr(const struct conn *c)
{
    return addr_text(&c->peer, c->loop->conns.peer);
}

bool conn_peer_is_loopback(const struct conn *c)
{
    return addr_is_loopback(&c->peer);
}

const struct tls_peer *conn_tls(const struct conn *c)
{
    return c->tls != NULL ? tls_conn_peer(c->tls->session) : NULL;
}

void conn_own_times(struct conn *c)
{
    c->own_times = true;
    if (c->state == CONN_OPEN && !c->eof) {
        timer_stop(&c->timer);
    }
}

void conn_authenticated(struct conn *c)
{
    c->authenticated = true;
    remove_stranger(c);
    conn_own_times(c);
}
