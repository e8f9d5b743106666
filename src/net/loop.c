#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/loop_priv.h"

// Rounds of "what was posted, then a turn end" in which an ending loop lets the last work settle.
#define END_ROUNDS_MAX 1000

// ---- posts: a stack many threads push to with one compare-and-swap; the loop takes all of it with one exchange ----

// Not uv_async_send: the woken loop spins there until the sender is back from its write, which costs more than the wake-up when
// the two share a CPU.
static void wake_up(struct loop *l)
{
    // It can only fail when the counter is full, and then the loop is being woken already.
    (void)eventfd_write(l->wake_fd, 1);
}

static void push_posts(struct loop *l, struct post *newest, struct post *oldest)
{
    struct post *head = atomic_load_explicit(&l->posts, memory_order_relaxed);
    do {
        oldest->next = head;
    } while (
        !atomic_compare_exchange_weak_explicit(&l->posts, &head, newest, memory_order_release, memory_order_relaxed));
    if (head == NULL) {
        wake_up(l); // a stack that was not empty has a wake-up under way already
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

static void on_wake(uv_poll_t *wake, int status, int events)
{
    (void)status;
    (void)events;
    struct loop *l = wake->data;
    eventfd_t count;
    (void)eventfd_read(l->wake_fd, &count); // before the posts are taken: a later one wakes again
    run_posts(l);
    if (atomic_load(&l->stop) && !l->ending) {
        uv_stop(&l->uv);
    }
}

// ---- turns ----

static void on_idle(uv_idle_t *idle)
{
    (void)idle; // its being active is all it does: the poll does not wait
}

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
    if (l->dirty || conns_left(l)) {
        uv_idle_start(&l->idle, on_idle);
    } else {
        uv_idle_stop(&l->idle);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct loop *l = prepare->data;
    turn_end(l);
    timers_tick(l);
}

static void on_check(uv_check_t *check)
{
    turn_end(check->data);
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
    return (int64_t)uv_now(&l->uv);
}

// ---- signals ----

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loop_signal *s = handle->data;
    loop_touch(s->loop);
    s->fn(s->arg, signum);
}

enum status loop_on_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg, struct err *err)
{
    if (l->signals_len == LOOP_SIGNALS_MAX) {
        return err_set(err, ST_LIMIT, "loop %s: more than %d signals", l->name, LOOP_SIGNALS_MAX);
    }
    struct loop_signal *s = &l->signals[l->signals_len];
    *s = (struct loop_signal){.loop = l, .fn = fn, .arg = arg};
    int rc = uv_signal_init(&l->uv, &s->handle);
    if (rc != 0) {
        return err_set(err, ST_NOMEM, "cannot watch signals: %s", uv_strerror(rc));
    }
    s->handle.data = s;
    l->signals_len++; // initialised, so the end of the loop closes it
    rc = uv_signal_start(&s->handle, on_signal, signum);
    return rc == 0 ? ST_OK : err_set(err, ST_INVALID, "cannot watch signal %d: %s", signum, uv_strerror(rc));
}

// ---- life ----

static void init_handles(struct loop *l)
{
    uv_prepare_init(&l->uv, &l->prepare);
    uv_check_init(&l->uv, &l->check);
    uv_idle_init(&l->uv, &l->idle);
    uv_timer_init(&l->uv, &l->tick);
    l->wake.data = l->prepare.data = l->check.data = l->idle.data = l->tick.data = l;
    uv_prepare_start(&l->prepare, on_prepare);
    uv_check_start(&l->check, on_check);
}

// The parts of a loop that the kernel may refuse. 0 or a libuv error, and nothing is left behind.
static int init_kernel_parts(struct loop *l)
{
    int rc = uv_loop_init(&l->uv);
    if (rc != 0) {
        return rc;
    }
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = l->wake_fd >= 0 ? uv_poll_init(&l->uv, &l->wake, l->wake_fd) : uv_translate_sys_error(errno);
    if (rc != 0) {
        uv_loop_close(&l->uv);
        if (l->wake_fd >= 0) {
            close(l->wake_fd);
        }
        return rc;
    }
    uv_poll_start(&l->wake, UV_READABLE, on_wake);
    return 0;
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
    l->tick_due_ms = -1;
    int rc = init_kernel_parts(l);
    if (rc != 0) {
        err_set(err, ST_IO, "cannot set up event loop %s: %s", l->name, uv_strerror(rc));
        free(l);
        return NULL;
    }
    init_handles(l);
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
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->check, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->tick, NULL);
    for (unsigned i = 0; i < l->signals_len; i++) {
        uv_close((uv_handle_t *)&l->signals[i].handle, NULL);
    }
    uv_unref((uv_handle_t *)&l->wake);
    uv_run(&l->uv, UV_RUN_DEFAULT); // until the last close callback
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
    while (!atomic_load(&l->stop)) {
        uv_run(&l->uv, UV_RUN_DEFAULT);
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
        return err_set(err, ST_NOMEM, "cannot start thread %s: %s", l->name, uv_strerror(-rc));
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
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    close(l->wake_fd);
    int rc = uv_loop_close(&l->uv);
    assert(rc == 0); // a handle was left behind
    (void)rc;
    conns_release(l);
    free(l);
}
