#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/loop_priv.h"

// Rounds of "what was posted, then a turn end" in which an ending loop lets the last work settle.
#define END_ROUNDS_MAX 1000
#define EVENTS_MAX     512 // descriptors handled in one turn; the others come in the next

// ---- posts: a stack many threads push to with one compare-and-swap; the loop takes all of it with one exchange ----

static void wake_up(struct loop *l)
{
    // It can only fail when the counter is full, and then the loop is being woken already.
    (void)eventfd_write(l->wake.fd, 1);
}

// A stack that was not empty has been noticed by whoever pushed to it first. A loop that does not sleep looks by itself before it
// does: it says so first and looks then, the sender pushes first and asks then, so one of the two sees the other.
static void push_posts(struct loop *l, struct post *newest, struct post *oldest)
{
    struct post *head = atomic_load_explicit(&l->posts, memory_order_relaxed);
    do {
        oldest->next = head;
    } while (!atomic_compare_exchange_weak(&l->posts, &head, newest));
    if (head == NULL && atomic_load(&l->sleeps)) {
        wake_up(l);
    }
}

void loop_post(struct loop *l, struct post *p)
{
    push_posts(l, p, p);
}

// Turns a list around: returns its last element as the first.
static struct post *reverse(struct post *p)
{
    struct post *out = NULL;
    while (p != NULL) {
        struct post *next = p->next;
        p->next = out;
        out = p;
        p = next;
    }
    return out;
}

void loop_post_chain(struct loop *l, struct post *first, struct post *last)
{
    last->next = NULL;
    reverse(first);
    push_posts(l, last, first);
}

// Runs what had been posted so far, oldest first. True when there was anything.
static bool run_posts(struct loop *l)
{
    struct post *p = reverse(atomic_exchange_explicit(&l->posts, NULL, memory_order_acquire));
    if (p == NULL) {
        return false;
    }
    loop_touch(l);
    while (p != NULL) {
        struct post *next = p->next; // fn may free p
        p->fn(p);
        p = next;
    }
    return true;
}

static void on_wake(struct watch *w, uint32_t events)
{
    (void)w;
    (void)events; // edge-triggered, so the counter need not be read; the turn looks for posts anyway
}

// ---- watching ----

bool loop_watch(struct loop *l, struct watch *w, uint32_t events)
{
    if (w->events == events) {
        return true;
    }
    struct epoll_event ev = {.events = events, .data.ptr = w};
    int op = w->events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (epoll_ctl(l->epoll_fd, op, w->fd, &ev) != 0) {
        return false;
    }
    w->events = events;
    return true;
}

void loop_unwatch(struct loop *l, struct watch *w)
{
    (void)loop_watch(l, w, 0);
    w->events = 0;
}

// ---- turns ----

static void turn_end(struct loop *l)
{
    bool offered = conns_resume(l);
    if (l->dirty || offered) {
        l->dirty = false;
        for (struct turn_hook *h = l->hooks; h != NULL; h = h->next) {
            h->fn(h);
        }
    }
    conns_flush(l);
    conns_reap(l);
}

static void look_at_clock(struct loop *l)
{
    l->now_ms = (int64_t)(uv_hrtime() / 1000000); // not clock_mono_us: tests stop that one
}

// Nothing is posted and nothing left to do: until when may the poll sleep? -1: for ever.
static int may_sleep_ms(struct loop *l)
{
    int wait_ms = l->dirty || conns_left(l) ? 0 : timers_wait_ms(l);
    if (wait_ms != 0) {
        atomic_store(&l->sleeps, true);
        if (atomic_load(&l->posts) != NULL) {
            wait_ms = 0;
        }
    }
    return wait_ms;
}

static void turn(struct loop *l)
{
    struct epoll_event events[EVENTS_MAX];
    int wait_ms = may_sleep_ms(l);
    int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, wait_ms);
    atomic_store_explicit(&l->sleeps, false, memory_order_relaxed);
    look_at_clock(l);
    for (int i = 0; i < n; i++) {
        struct watch *w = events[i].data.ptr;
        w->fn(w, events[i].events);
    }
    run_posts(l);
    timers_run(l);
    turn_end(l);
}

void loop_on_turn_end(struct loop *l, struct turn_hook *h)
{
    h->next = NULL;
    *l->hooks_tail = h;
    l->hooks_tail = &h->next;
}

bool loop_is_current(const struct loop *l)
{
    return atomic_load_explicit(&l->runner, memory_order_relaxed) == (uintptr_t)pthread_self();
}

int64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

// ---- signals ----

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loop_signal *s = handle->data;
    loop_touch(s->loop);
    s->fn(s->arg, signum);
}

static void on_uv(struct watch *w, uint32_t events)
{
    (void)events;
    struct loop *l = (struct loop *)((char *)w - offsetof(struct loop, uv_watch));
    uv_run(l->uv, UV_RUN_NOWAIT);
}

// 0 or a libuv error, and nothing is left behind.
static int need_uv(struct loop *l)
{
    if (l->uv != NULL) {
        return 0;
    }
    uv_loop_t *uv = calloc(1, sizeof(*uv));
    int rc = uv != NULL ? uv_loop_init(uv) : UV_ENOMEM;
    if (rc == 0) {
        l->uv_watch = (struct watch){.fn = on_uv, .fd = uv_backend_fd(uv)};
        rc = loop_watch(l, &l->uv_watch, EPOLLIN) ? 0 : uv_translate_sys_error(errno);
        if (rc != 0) {
            uv_loop_close(uv);
        }
    }
    if (rc != 0) {
        free(uv);
        return rc;
    }
    l->uv = uv;
    return 0;
}

enum status loop_on_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg, struct err *err)
{
    if (l->signals_len == LOOP_SIGNALS_MAX) {
        return err_set(err, ST_LIMIT, "loop %s: more than %d signals", l->name, LOOP_SIGNALS_MAX);
    }
    struct loop_signal *s = &l->signals[l->signals_len];
    *s = (struct loop_signal){.loop = l, .fn = fn, .arg = arg};
    int rc = need_uv(l);
    if (rc == 0) {
        rc = uv_signal_init(l->uv, &s->handle);
    }
    if (rc != 0) {
        return err_set(err, ST_NOMEM, "cannot watch signals: %s", uv_strerror(rc));
    }
    s->handle.data = s;
    l->signals_len++; // initialised, so the end of the loop closes it
    rc = uv_signal_start(&s->handle, on_signal, signum);
    uv_run(l->uv, UV_RUN_NOWAIT); // now its descriptor has what is to be watched
    return rc == 0 ? ST_OK : err_set(err, ST_INVALID, "cannot watch signal %d: %s", signum, uv_strerror(rc));
}

static void end_uv(struct loop *l)
{
    if (l->uv == NULL) {
        return;
    }
    for (unsigned i = 0; i < l->signals_len; i++) {
        uv_close((uv_handle_t *)&l->signals[i].handle, NULL);
    }
    loop_unwatch(l, &l->uv_watch);
    uv_run(l->uv, UV_RUN_DEFAULT); // until the last close callback
    int rc = uv_loop_close(l->uv);
    assert(rc == 0); // a handle was left behind
    (void)rc;
    free(l->uv);
    l->uv = NULL;
}

// ---- life ----

static void close_fds(struct loop *l)
{
    if (l->wake.fd >= 0) {
        close(l->wake.fd);
    }
    if (l->epoll_fd >= 0) {
        close(l->epoll_fd);
    }
}

// The parts of a loop that the kernel may refuse. False: errno.
static bool open_fds(struct loop *l)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->wake = (struct watch){.fn = on_wake, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return l->epoll_fd >= 0 && l->wake.fd >= 0 && loop_watch(l, &l->wake, EPOLLIN | (uint32_t)EPOLLET);
}

struct loop *loop_new(const char *name, struct err *err)
{
    struct loop *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        err_set(err, ST_NOMEM, "no memory for an event loop");
        return NULL;
    }
    snprintf(l->name, sizeof(l->name), "%s", name);
    l->hooks_tail = &l->hooks;
    if (!open_fds(l)) {
        err_set(err, ST_IO, "cannot set up event loop %s: %s", l->name, strerror(errno));
        close_fds(l);
        free(l);
        return NULL;
    }
    look_at_clock(l);
    conns_init(l);
    return l;
}

// Ends everything but `wake`, which stays until loop_free: other threads may still post, to no effect.
static void loop_end(struct loop *l)
{
    l->ending = true;
    run_posts(l);
    acceptors_close(l);
    conns_shutdown(l);
    for (int i = 0; i < END_ROUNDS_MAX; i++) {
        bool ran = run_posts(l);
        if (!ran && !l->dirty && !conns_left(l)) {
            break;
        }
        turn_end(l);
    }
    timers_forget(l);
    end_uv(l);
    run_posts(l);
    l->ended = true;
}

// A write to a connection the peer has reset must fail, not kill: SIGPIPE goes to the thread that writes.
static void block_sigpipe(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void loop_run(struct loop *l)
{
    assert(!l->ended);
    block_sigpipe();
    atomic_store(&l->runner, (uintptr_t)pthread_self());
    look_at_clock(l);
    turn_end(l); // what was begun before
    while (!atomic_load(&l->stop)) {
        turn(l);
    }
    loop_end(l);
    atomic_store(&l->runner, 0);
}

static void *thread_main(void *arg)
{
    struct loop *l = arg;
    pthread_setname_np(pthread_self(), l->name);
    loop_run(l);
    return NULL;
}

enum status loop_start(struct loop *l, struct err *err)
{
    assert(!l->started);
    int rc = pthread_create(&l->thread, NULL, thread_main, l);
    if (rc != 0) {
        return err_set(err, ST_NOMEM, "cannot start thread %s: %s", l->name, strerror(rc));
    }
    l->started = true;
    return ST_OK;
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    wake_up(l);
}

void loop_join(struct loop *l)
{
    if (l->started) {
        pthread_join(l->thread, NULL);
        l->started = false;
    }
}

void loop_free(struct loop *l)
{
    if (l == NULL) {
        return;
    }
    assert(!l->started && atomic_load(&l->runner) == 0);
    if (!l->ended) {
        loop_end(l);
    }
    close_fds(l);
    conns_release(l);
    free(l);
}
