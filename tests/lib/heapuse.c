// Preloaded into a server: how much of its heap is in use, told from outside while it runs. tests/soak.py uses it.
//
// HEAPUSE names a file of at least 32 bytes; every 200 ms its numbers are written there: bytes in use, blocks, bytes of
// these that are SQLite's page caches (bounded, and full only after a while), bytes that were leaked on purpose.
// HEAPUSE_LEAK_CONNECTION=64 leaks so many bytes for each connection accepted, HEAPUSE_LEAK_KB=10 for each 1,000 bytes
// received: the control of a test that looks for leaks.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_OVERHEAD = 8, LEAK_BYTES = 64, PAGECACHE_OVERFLOW = 2 };

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

static _Atomic int64_t in_use, blocks, leaked, received;
static int64_t leak_connection, leak_kb;

static void *more(void *p)
{
    if (p != NULL) {
        atomic_fetch_add_explicit(&in_use, (int64_t)malloc_usable_size(p) + BLOCK_OVERHEAD, memory_order_relaxed);
        atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
    }
    return p;
}

static void less(size_t usable)
{
    atomic_fetch_sub_explicit(&in_use, (int64_t)usable + BLOCK_OVERHEAD, memory_order_relaxed);
    atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
}

void *malloc(size_t n)
{
    return more(__libc_malloc(n));
}
void *calloc(size_t n, size_t size)
{
    return more(__libc_calloc(n, size));
}
void *realloc(void *old, size_t n)
{
    size_t usable = old != NULL ? malloc_usable_size(old) : 0;
    void *p = __libc_realloc(old, n);
    if (old != NULL && (p != NULL || n == 0)) {
        less(usable);
    }
    return more(p);
}
void *memalign(size_t align, size_t n)
{
    return more(__libc_memalign(align, n));
}
void *aligned_alloc(size_t align, size_t n)
{
    return more(__libc_memalign(align, n));
}
int posix_memalign(void **ret_p, size_t align, size_t n)
{
    *ret_p = more(__libc_memalign(align, n));
    return *ret_p != NULL ? 0 : ENOMEM;
}
void free(void *p)
{
    if (p != NULL) {
        less(malloc_usable_size(p));
        __libc_free(p);
    }
}

// ---- the control ----

static void leak(int64_t n)
{
    if (n > 0 && malloc((size_t)n) != NULL) {
        atomic_fetch_add(&leaked, n);
    }
}

int accept4(int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags)
{
    static int (*real)(int, struct sockaddr *restrict, socklen_t *restrict, int);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    }
    int got = real(fd, addr, len, flags);
    leak(got >= 0 ? leak_connection : 0);
    return got;
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    static ssize_t (*real)(int, void *, size_t, int);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "recv");
    }
    ssize_t got = real(fd, p, n, flags);
    if (got > 0 && leak_kb > 0) {
        int64_t before = atomic_fetch_add(&received, got), step = LEAK_BYTES * 1000 / leak_kb;
        for (int64_t i = before / step; i < (before + got) / step; i++) {
            leak(LEAK_BYTES);
        }
    }
    return got;
}

// ---- what is told ----

static void *tell(void *page)
{
    _Atomic int64_t *out = page;
    int (*status)(int, int64_t *, int64_t *, int);
    *(void **)&status = dlsym(RTLD_DEFAULT, "sqlite3_status64");
    const struct timespec pause = {.tv_nsec = 200000000};
    for (;;) {
        int64_t now = 0, most = 0;
        nanosleep(&pause, NULL);
        if (status != NULL) {
            status(PAGECACHE_OVERFLOW, &now, &most, 0);
        }
        out[0] = in_use;
        out[1] = blocks;
        out[2] = now;
        out[3] = leaked;
    }
    return NULL;
}

static int64_t number(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("HEAPUSE");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page = fd >= 0 ? mmap(NULL, 4 * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (page == MAP_FAILED) {
        return;
    }
    (void)close(fd);
    leak_connection = number("HEAPUSE_LEAK_CONNECTION");
    leak_kb = number("HEAPUSE_LEAK_KB");
    sigset_t all, old;
    pthread_t thread;
    (void)sigfillset(&all); // signals are the server's
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    (void)pthread_create(&thread, NULL, tell, page);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}
